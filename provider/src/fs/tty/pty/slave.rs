//! The inside of a pseudo-terminal: what programs take for their terminal.

use super::super::control::{self, CAP_SYS_ADMIN, Side};
use super::super::ldisc::Effects;
use super::{PIECE, Pty, READABLE, State, Terminal, WRITABLE, ioctl};
use crate::errno::Errno;
use crate::fs::{File, OpenFlags, Ready, Sink, Source, WaitSource};
use crate::signal::Signal;
use crate::task::{CurrentTask, Deadline, Wake};
use linux_raw_sys::ioctl::TIOCSPGRP;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Opens the inside; `EIO` while it is locked or when the outside is gone, `EBUSY` if another has it for itself.
pub(in super::super) fn open(
    terminal: &Arc<Terminal>,
    flags: OpenFlags,
    privileged: bool,
) -> Result<Arc<dyn File>, Errno> {
    let pty = terminal.pty().ok_or(Errno::EIO)?;
    let mut state = pty.state.lock();
    if state.presence.outside_gone || state.locked {
        return Err(Errno::EIO);
    }
    if state.exclusive && !privileged {
        return Err(Errno::EBUSY);
    }
    state.presence.insiders += 1;
    state.presence.deserted = false;
    let hang_ups = state.presence.hang_ups;
    drop(state);
    let never_waits = AtomicBool::new(flags.contains(OpenFlags::NONBLOCK));
    Ok(Arc::new(SlaveFile { terminal: Arc::clone(terminal), flags, hang_ups, never_waits }))
}

/// An open inside.
#[derive(Debug)]
struct SlaveFile {
    terminal: Arc<Terminal>,
    flags: OpenFlags,
    /// The terminal's hang-ups when it was opened.
    hang_ups: u64,
    /// O_NONBLOCK: a read takes what is there, however little.
    never_waits: AtomicBool,
}

/// How a wait for typed bytes went.
enum Typed {
    /// The read is over.
    Read(usize),
    /// This many bytes are there, more than before.
    More(usize),
}

impl SlaveFile {
    fn pty(&self) -> Result<&Pty, Errno> {
        self.terminal.pty().ok_or(Errno::EIO)
    }

    fn is_hung_up(&self, state: &State) -> bool {
        state.presence.hang_ups != self.hang_ups
    }

    /// Takes at least `minimum` typed bytes; `EAGAIN` if fewer are there. Nothing is there after a hang-up.
    fn take(&self, task: &CurrentTask<'_>, minimum: usize, to: &mut dyn Sink) -> Result<usize, Errno> {
        let limit = to.remaining().min(PIECE);
        let pty = self.pty()?;
        let bytes = self.terminal.try_with_pty(task.kernel(), pty, |state| {
            if self.is_hung_up(state) || limit == 0 {
                return Ok((Vec::new(), Effects::default()));
            }
            if !state.line.is_readable(minimum.min(limit)) {
                return Err(Errno::EAGAIN);
            }
            let bytes = state.line.read(limit);
            Ok((bytes, state.pump()))
        })?;
        if bytes.is_empty() { Ok(0) } else { to.put(&bytes) }
    }

    /// Bytes that are there.
    fn available(&self) -> usize {
        self.pty().map_or(0, |pty| pty.state.lock().line.readable_bytes())
    }

    /// Waits for VMIN bytes, with VTIME between one and the next if it is not 0. What is there at a signal or at the end of the
    /// time counts.
    fn wait_for_minimum(
        &self,
        task: &CurrentTask<'_>,
        minimum: usize,
        time: Duration,
        to: &mut dyn Sink,
    ) -> Result<usize, Errno> {
        let mut seen = 0;
        loop {
            let deadline = if seen == 0 || time.is_zero() { Deadline::Never } else { Deadline::after(time) };
            let woken = task.block_until(deadline, |waiter| {
                waiter.on_source(self.wait_source(), Ready::IN);
                match self.take(task, minimum, to) {
                    Err(Errno::EAGAIN) => Ok(Some(self.available()).filter(|now| *now > seen).map(Typed::More)),
                    other => other.map(|count| Some(Typed::Read(count))),
                }
            })?;
            match woken {
                Wake::Done(Typed::Read(count)) => return Ok(count),
                Wake::Done(Typed::More(count)) => seen = count,
                Wake::TimedOut | Wake::Interrupted => {
                    return match self.take(task, 1, to) {
                        Err(Errno::EAGAIN) if woken_by_time(&woken) => Ok(0),
                        Err(Errno::EAGAIN) => Err(Errno::ERESTARTSYS),
                        other => other,
                    };
                }
            }
        }
    }

    /// Waits for the first byte as long as VTIME says.
    fn wait_for_first(&self, task: &CurrentTask<'_>, time: Duration, to: &mut dyn Sink) -> Result<usize, Errno> {
        let woken = task.block_until(Deadline::after(time), |waiter| {
            waiter.on_source(self.wait_source(), Ready::IN);
            match self.take(task, 1, to) {
                Err(Errno::EAGAIN) => Ok(None),
                other => other.map(Some),
            }
        })?;
        if woken == Wake::TimedOut { Ok(0) } else { woken.or_restart() }
    }
}

fn woken_by_time<T>(woken: &Wake<T>) -> bool {
    matches!(woken, Wake::TimedOut)
}

impl File for SlaveFile {
    fn read_at(&self, task: &CurrentTask<'_>, _offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        let settings = {
            let state = self.pty()?.state.lock();
            if self.is_hung_up(&state) {
                return Ok(0);
            }
            *state.line.settings()
        };
        control::check_foreground(task, &self.terminal, Signal::SIGTTIN)?;
        let polls = !settings.edits_lines() && settings.minimum() == 0 && settings.time() == 0;
        let minimum = if self.never_waits.load(Ordering::Relaxed) { 1 } else { settings.minimum().max(1) };
        match self.take(task, minimum, to) {
            Err(Errno::EAGAIN) if polls => Ok(0),
            other => other,
        }
    }

    fn read_blocking(&self, task: &CurrentTask<'_>, to: &mut dyn Sink) -> Option<Result<usize, Errno>> {
        let settings = self.pty().ok()?.settings();
        let time = Duration::from_millis(u64::from(settings.time()) * 100);
        match settings.minimum() {
            _ if settings.edits_lines() => None,
            0 => Some(self.wait_for_first(task, time, to)),
            minimum => Some(self.wait_for_minimum(task, minimum, time, to)),
        }
    }

    fn write_at(&self, task: &CurrentTask<'_>, _offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let pty = self.pty()?;
        if self.is_hung_up(&pty.state.lock()) {
            return Err(Errno::EIO);
        }
        if pty.settings().stops_writers() {
            control::check_foreground(task, &self.terminal, Signal::SIGTTOU)?;
        }
        let mut bytes = [0; PIECE];
        let wanted = from.remaining().min(PIECE);
        let got = from.peek(&mut bytes[..wanted])?;
        let printed = self.terminal.try_with_pty(task.kernel(), pty, |state| {
            if self.is_hung_up(state) {
                return Err(Errno::EIO);
            }
            match state.line.write(&bytes[..got]) {
                0 if got > 0 => Err(Errno::EAGAIN),
                printed => Ok((printed, Effects::default())),
            }
        })?;
        from.skip(printed);
        Ok(printed)
    }

    fn set_flags(&self, flags: OpenFlags) -> Result<(), Errno> {
        self.never_waits.store(flags.contains(OpenFlags::NONBLOCK), Ordering::Relaxed);
        Ok(())
    }

    fn seekable(&self) -> bool {
        false
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        let pty = self.pty()?;
        if self.is_hung_up(&pty.state.lock()) {
            return Err(if request == TIOCSPGRP { Errno::ENOTTY } else { Errno::EIO });
        }
        let jobs = control::ioctl(task, &self.terminal, Side::Terminal, self.flags, request, arg);
        jobs.unwrap_or_else(|| ioctl::inside(task, &self.terminal, pty, request, arg))
    }

    fn ready(&self) -> Ready {
        let Ok(pty) = self.pty() else { return Ready::ERR };
        let state = pty.state.lock();
        if self.is_hung_up(&state) {
            return READABLE | WRITABLE | Ready::ERR | Ready::HUP;
        }
        let settings = state.line.settings();
        // With a timer one byte is worth a look; without, poll(2) waits for as many as a read does.
        let minimum = if settings.time() == 0 { settings.minimum().max(1) } else { 1 };
        let mut ready = Ready::empty();
        if state.line.is_readable(minimum) {
            ready |= READABLE;
        }
        if state.line.output_room() > 0 {
            ready |= WRITABLE;
        }
        ready
    }

    fn wait_source(&self) -> WaitSource<'_> {
        self.terminal.pty().map_or(WaitSource::Always, |pty| WaitSource::Queue(&pty.inside))
    }

    fn released(&self) {
        let Ok(pty) = self.pty() else { return };
        {
            let mut state = pty.state.lock();
            state.presence.insiders -= 1;
            if state.presence.insiders > 0 {
                return;
            }
            state.presence.deserted = true;
        }
        pty.outside.wake_all();
    }
}

/// Tells whether a task may use a terminal that another has for itself.
pub(super) fn is_privileged(task: &CurrentTask<'_>) -> bool {
    task.credentials().has(CAP_SYS_ADMIN)
}
