//! A terminal of the caller's as a device inside: reads, writes and settings are the host terminal's.
//!
//! Only who uses it from the background is decided here, since the host knows one process group where the sandbox has many.

mod ioctl;
pub(super) mod settings;
#[cfg(test)]
mod tests;

use super::control::{self, Side};
use super::{Terminal, pty_number};
use crate::errno::Errno;
use crate::fs::stdio::{HostStream, StreamKind};
use crate::fs::{File, OpenFlags, Ready, Sink, Source, WaitSource};
use crate::signal::Signal;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, Deadline, Wake};
use rustix::termios::{LocalModes, SpecialCodeIndex, tcgetattr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use vmm::inherited::{self, Job};

/// The host descriptors of a terminal.
#[derive(Debug)]
pub(super) struct HostTerminal {
    handles: Mutex<Vec<Arc<Handle>>>,
    job: Job,
}

#[derive(Debug)]
struct Handle {
    stream: HostStream,
    /// What it was opened for.
    access: OpenFlags,
}

impl HostTerminal {
    pub(super) fn new(fd: OwnedFd, access: OpenFlags, job: Job) -> Self {
        let handle = Arc::new(Handle { stream: HostStream::new(fd, StreamKind::Device), access });
        Self { handles: Mutex::new(Rank::Leaf, vec![handle]), job }
    }

    /// Adds another descriptor.
    pub(super) fn add(&self, fd: OwnedFd, access: OpenFlags) {
        let handle = Arc::new(Handle { stream: HostStream::new(fd, StreamKind::Device), access });
        self.handles.lock().push(handle);
    }

    /// Tells whether another job of the caller's shell has the host's terminal now.
    pub(super) fn is_lent(&self) -> bool {
        let handle = self.handles.lock().first().cloned();
        let now = handle.and_then(|handle| inherited::job_of(handle.stream.fd().as_fd()));
        // One of a process namespace outside has no number here.
        now.is_some_and(|now| now.group != 0 && now.group != self.job.group)
    }
}

/// Tells whether a terminal controls the session of a job.
pub(super) fn is_controlling(fd: &OwnedFd, job: Job) -> bool {
    inherited::job_of(fd.as_fd()).is_some_and(|now| now.session == job.session)
}

/// The terminal's name below /dev: by number for pseudo-terminals, whose path on the host may lie in another mount.
pub(super) fn name(fd: &OwnedFd, rdev: u64) -> Vec<u8> {
    if let Some(number) = pty_number(rdev) {
        return format!("pts/{number}").into_bytes();
    }
    let path = crate::fs::stdio::host_name(fd);
    match path.strip_prefix(b"/dev/") {
        Some(name) if !name.contains(&b'/') && !name.is_empty() => name.to_vec(),
        _ => b"console".to_vec(),
    }
}

/// Opens it; `EACCES` if the caller handed over no descriptor with this access.
pub(super) fn open(terminal: &Arc<Terminal>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
    let permits = |handle: &&Arc<Handle>| {
        (handle.access.reads() || !flags.reads()) && (handle.access.writes() || !flags.writes())
    };
    let host = terminal.host().ok_or(Errno::ENXIO)?;
    let handle = host.handles.lock().iter().find(permits).cloned().ok_or(Errno::EACCES)?;
    Ok(Arc::new(HostTerminalFile { terminal: Arc::clone(terminal), handle, flags }))
}

/// An open terminal of the caller's.
#[derive(Debug)]
struct HostTerminalFile {
    terminal: Arc<Terminal>,
    handle: Arc<Handle>,
    flags: OpenFlags,
}

impl HostTerminalFile {
    /// How long a read waits for its first byte: outside canonical mode VMIN = 0 makes VTIME the limit.
    fn patience(&self) -> Option<Duration> {
        let modes = tcgetattr(self.handle.stream.fd()).ok()?;
        let limited =
            !modes.local_modes.contains(LocalModes::ICANON) && modes.special_codes[SpecialCodeIndex::VMIN] == 0;
        limited.then(|| Duration::from_millis(u64::from(modes.special_codes[SpecialCodeIndex::VTIME]) * 100))
    }
}

impl File for HostTerminalFile {
    fn read_at(&self, task: &CurrentTask<'_>, _offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        // The host may make its thread wait, here and below, and a kick must end that.
        task.needs_thread()?;
        control::check_foreground(task, &self.terminal, Signal::SIGTTIN)?;
        self.handle.stream.read(to)
    }

    fn read_blocking(&self, task: &CurrentTask<'_>, to: &mut dyn Sink) -> Option<Result<usize, Errno>> {
        let deadline = Deadline::after(self.patience()?);
        let woken = task.block_until(deadline, |waiter| {
            waiter.on_host(self.handle.stream.fd(), Ready::IN);
            match self.read_at(task, 0, to) {
                Err(Errno::EAGAIN) => Ok(None),
                other => other.map(Some),
            }
        });
        Some(woken.and_then(|woken| if woken == Wake::TimedOut { Ok(0) } else { woken.or_restart() }))
    }

    fn write_at(&self, task: &CurrentTask<'_>, _offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        task.needs_thread()?;
        let stops =
            || tcgetattr(self.handle.stream.fd()).is_ok_and(|modes| modes.local_modes.contains(LocalModes::TOSTOP));
        // Only a process that is in the background needs the host's answer.
        if task.group().process_group() != self.terminal.control().foreground.unwrap_or(task.group().process_group())
            && stops()
        {
            control::check_foreground(task, &self.terminal, Signal::SIGTTOU)?;
        }
        self.handle.stream.write(from)
    }

    fn seekable(&self) -> bool {
        false
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        let jobs = control::ioctl(task, &self.terminal, Side::Terminal, self.flags, request, arg);
        jobs.unwrap_or_else(|| ioctl::control(task, &self.terminal, self.handle.stream.fd(), request, arg))
    }

    fn ready(&self) -> Ready {
        self.handle.stream.ready()
    }

    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Host(self.handle.stream.fd())
    }
}
