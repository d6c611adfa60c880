//! Terminals: those the caller handed over, as device nodes inside.
//!
//! A [`Terminal`] is known by its device number; [`open`] gives an open file on it, [`open_controlling`] is /dev/tty. Reads, writes and
//! settings are the host terminal's. Who its foreground process group and its session are is a matter of the sandbox's own
//! process ids, kept here. Lock rank: leaf.

mod ioctl;
mod settings;
#[cfg(test)]
mod tests;

use super::stdio::{HostStream, StreamKind};
use super::{File, OpenFlags, Ready, Sink, Source, WaitSource};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, Pid};
use rustix::fs::{major, minor};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Major numbers of Unix98 pseudo-terminals: 256 terminals each.
const PTS_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;

/// The session of the sandbox's first process, which inherits the caller's controlling terminal.
const FIRST_SESSION: Pid = Pid(1);

/// All terminals of a sandbox.
#[derive(Debug)]
pub(crate) struct Terminals {
    known: Mutex<Vec<Arc<Terminal>>>,
}

impl Default for Terminals {
    fn default() -> Self {
        Self { known: Mutex::new(Rank::Leaf, Vec::new()) }
    }
}

impl Terminals {
    /// Adds a host descriptor of a terminal: a new terminal, or another way to open a known one.
    pub(crate) fn add(&self, fd: OwnedFd, access: OpenFlags) -> Result<Arc<Terminal>, Errno> {
        let stat = rustix::fs::fstat(&fd)?;
        let controlling =
            rustix::termios::tcgetsid(&fd).is_ok_and(|session| Ok(session) == rustix::process::getsid(None));
        let name = name(&fd, stat.st_rdev);
        let handle = Arc::new(Handle { stream: HostStream::new(fd, StreamKind::Device), access });
        let mut known = self.known.lock();
        if let Some(terminal) = known.iter().find(|terminal| terminal.rdev == stat.st_rdev) {
            let terminal = Arc::clone(terminal);
            drop(known);
            terminal.state.lock().handles.push(handle);
            return Ok(terminal);
        }
        let state =
            State { handles: vec![handle], session: controlling.then_some(FIRST_SESSION), foreground: FIRST_SESSION };
        let terminal = Arc::new(Terminal {
            rdev: stat.st_rdev,
            name,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            state: Mutex::new(Rank::Leaf, state),
        });
        known.push(Arc::clone(&terminal));
        Ok(terminal)
    }

    /// All terminals.
    pub(crate) fn all(&self) -> Vec<Arc<Terminal>> {
        self.known.lock().clone()
    }

    /// Finds a terminal by its device number.
    fn find(&self, rdev: u64) -> Option<Arc<Terminal>> {
        self.known.lock().iter().find(|terminal| terminal.rdev == rdev).cloned()
    }

    /// Finds a session's controlling terminal.
    pub(crate) fn controlling(&self, session: Pid) -> Option<Arc<Terminal>> {
        self.all().into_iter().find(|terminal| terminal.session() == Some(session))
    }
}

/// A terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    rdev: u64,
    name: Vec<u8>,
    mode: u32,
    uid: u32,
    gid: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The host descriptors, each with the access it was opened for.
    handles: Vec<Arc<Handle>>,
    /// The session whose controlling terminal it is.
    session: Option<Pid>,
    /// The foreground process group.
    foreground: Pid,
}

#[derive(Debug)]
struct Handle {
    stream: HostStream,
    access: OpenFlags,
}

impl Terminal {
    /// The device number.
    pub(crate) fn rdev(&self) -> u64 {
        self.rdev
    }

    /// The path below /dev: `pts/3`.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Permission bits, owner and group of the host's node.
    pub(crate) fn attributes(&self) -> (u32, u32, u32) {
        (self.mode, self.uid, self.gid)
    }

    /// The session whose controlling terminal it is.
    pub(crate) fn session(&self) -> Option<Pid> {
        self.state.lock().session
    }

    /// The foreground process group, as the sandbox counts.
    pub(crate) fn foreground(&self) -> Pid {
        self.state.lock().foreground
    }

    /// An open file with this access; `EACCES` if the caller handed over no descriptor that permits it.
    pub(crate) fn open(self: &Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        let permits = |handle: &&Arc<Handle>| {
            (handle.access.reads() || !flags.reads()) && (handle.access.writes() || !flags.writes())
        };
        let handle = self.state.lock().handles.iter().find(permits).cloned().ok_or(Errno::EACCES)?;
        Ok(Arc::new(TerminalFile { terminal: Arc::clone(self), handle }))
    }
}

/// Opens the terminal with this device number; `ENXIO` if the sandbox has no such device. A session leader without a controlling
/// terminal gets it as one, unless O_NOCTTY is given.
pub(crate) fn open(task: &CurrentTask<'_>, rdev: u64, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
    let terminals = task.kernel().terminals();
    let terminal = terminals.find(rdev).ok_or(Errno::ENXIO)?;
    let file = terminal.open(flags)?;
    let own = session(task);
    if !flags.contains(OpenFlags::NOCTTY) && leads_session(task) && terminals.controlling(own).is_none() {
        terminal.state.lock().session.get_or_insert(own);
    }
    Ok(file)
}

/// Opens /dev/tty: the controlling terminal, or `ENXIO`.
pub(crate) fn open_controlling(task: &CurrentTask<'_>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
    task.kernel().terminals().controlling(session(task)).ok_or(Errno::ENXIO)?.open(flags)
}

/// The task's session.
fn session(task: &CurrentTask<'_>) -> Pid {
    task.group().session()
}

/// Tells whether the task's process leads its session.
fn leads_session(task: &CurrentTask<'_>) -> bool {
    task.group().pid() == session(task)
}

/// The terminal's name below /dev: by number for pseudo-terminals, whose path on the host may lie in another mount.
fn name(fd: &OwnedFd, rdev: u64) -> Vec<u8> {
    let (major, minor) = (major(rdev), minor(rdev));
    if PTS_MAJORS.contains(&major) {
        return format!("pts/{}", (major - PTS_MAJORS.start()) * 256 + minor).into_bytes();
    }
    let path = rustix::termios::ttyname(fd, Vec::new()).map(|name| name.into_bytes()).unwrap_or_default();
    match path.strip_prefix(b"/dev/") {
        Some(name) if !name.contains(&b'/') && !name.is_empty() => name.to_vec(),
        _ => b"console".to_vec(),
    }
}

/// An open terminal.
#[derive(Debug)]
struct TerminalFile {
    terminal: Arc<Terminal>,
    handle: Arc<Handle>,
}

impl File for TerminalFile {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        self.handle.stream.read(to)
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        self.handle.stream.write(from)
    }

    fn seekable(&self) -> bool {
        false
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        ioctl::control(task, &self.terminal, self.handle.stream.fd(), request, arg)
    }

    fn ready(&self) -> Ready {
        self.handle.stream.ready()
    }

    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Host(self.handle.stream.fd())
    }
}
