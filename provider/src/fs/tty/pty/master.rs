//! The outside of a pseudo-terminal: what a terminal emulator holds.

use super::super::control::{self, Side};
use super::super::ldisc::Effects;
use super::{PIECE, Pty, READABLE, Terminal, WRITABLE, ioctl};
use crate::errno::Errno;
use crate::fs::{File, OpenFlags, Ready, Sink, Source, WaitSource};
use crate::kernel::Kernel;
use crate::task::CurrentTask;
use std::sync::{Arc, Weak};

/// An open outside: there is one for each pseudo-terminal.
#[derive(Debug)]
pub(in super::super) struct MasterFile {
    kernel: Weak<Kernel>,
    terminal: Arc<Terminal>,
    flags: OpenFlags,
}

impl MasterFile {
    pub(in super::super) fn new(kernel: &Arc<Kernel>, terminal: Arc<Terminal>, flags: OpenFlags) -> Self {
        Self { kernel: Arc::downgrade(kernel), terminal, flags }
    }

    fn pty(&self) -> Result<&Pty, Errno> {
        self.terminal.pty().ok_or(Errno::EIO)
    }
}

impl File for MasterFile {
    fn read_at(&self, task: &CurrentTask<'_>, _offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        let limit = to.remaining().min(PIECE);
        if limit == 0 {
            return Ok(0);
        }
        let pty = self.pty()?;
        let bytes = self.terminal.try_with_pty(task.kernel(), pty, |state| {
            let taken = match state.packet {
                Some(status) if !status.is_empty() => {
                    state.packet = Some(Default::default());
                    vec![status.bits()]
                }
                // Anything readable has an announcement of 0 (TIOCPKT_DATA) before it in packet mode.
                _ if state.line.output_len() > 0 => {
                    let announcement = state.packet.map(|_| 0);
                    let room = limit - usize::from(announcement.is_some());
                    announcement.into_iter().chain(state.line.take_output(room)).collect()
                }
                _ if state.presence.deserted => return Err(Errno::EIO),
                _ => return Err(Errno::EAGAIN),
            };
            Ok((taken, Effects::default()))
        })?;
        to.put(&bytes)
    }

    fn write_at(&self, task: &CurrentTask<'_>, _offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let mut bytes = [0; PIECE];
        let wanted = from.remaining().min(PIECE);
        let got = from.peek(&mut bytes[..wanted])?;
        let typed = self.terminal.type_in(task.kernel(), self.pty()?, &bytes[..got]);
        if typed == 0 && got > 0 {
            return Err(Errno::EAGAIN);
        }
        from.skip(typed);
        Ok(typed)
    }

    fn seekable(&self) -> bool {
        false
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        let jobs = control::ioctl(task, &self.terminal, Side::Outside, self.flags, request, arg);
        jobs.unwrap_or_else(|| ioctl::outside(task, &self.terminal, self.pty()?, request, arg))
    }

    fn ready(&self) -> Ready {
        let Ok(pty) = self.pty() else { return Ready::ERR };
        let state = pty.state.lock();
        let mut ready = Ready::empty();
        if !state.packet_status().is_empty() {
            ready |= READABLE | Ready::PRI;
        }
        if state.line.output_len() > 0 {
            ready |= READABLE;
        }
        if state.typing_room() > 0 {
            ready |= WRITABLE;
        }
        if state.presence.deserted {
            ready |= Ready::HUP;
        }
        ready
    }

    fn wait_source(&self) -> WaitSource<'_> {
        self.terminal.pty().map_or(WaitSource::Always, |pty| WaitSource::Queue(&pty.outside))
    }

    fn released(&self) {
        // The number is free again before anybody hears of the hang-up.
        if let (Some(kernel), Ok(pty)) = (self.kernel.upgrade(), self.pty()) {
            kernel.terminals().remove(&self.terminal);
            pty.state.lock().presence.outside_gone = true;
            self.terminal.hang_up(&kernel, pty);
        }
    }
}
