//! Pseudo-terminals, see pty(7).
//!
//! A [`Pty`] is what both sides share: the line discipline, the window size, and who is there. Programs open its inside
//! (`SlaveFile`, /dev/pts/N), a terminal emulator its outside ([`MasterFile`], /dev/ptmx); for the first process of
//! `run -t` the monitor holds the outside ([`OutsideEnd`]).

mod ioctl;
mod master;
mod outside;
mod slave;

pub(super) use master::MasterFile;
pub use outside::OutsideEnd;
pub(super) use slave::open;

use super::ldisc::{Effects, LineDiscipline, PacketStatus, Settings};
use super::{Terminal, control};
use crate::abi::termios::WindowSize;
use crate::fs::Ready;
use crate::kernel::Kernel;
use crate::signal::Signal;
use crate::sync::{Mutex, Rank};
use crate::task::WaitQueue;
use std::collections::VecDeque;
use std::convert::Infallible;

/// Bytes that wait outside while the discipline takes none (tty_buffer_set_limit in pty.c).
const ARRIVING_LIMIT: usize = 8192;
/// Bytes that one read or write moves at once.
const PIECE: usize = 4096;

const READABLE: Ready = Ready::IN.union(Ready::RDNORM);
const WRITABLE: Ready = Ready::OUT.union(Ready::WRNORM);

/// What the two sides of a pseudo-terminal share.
#[derive(Debug)]
pub(super) struct Pty {
    number: u32,
    state: Mutex<State>,
    /// Woken when the inside may be ready for more.
    inside: WaitQueue,
    /// Woken when the outside may be.
    outside: WaitQueue,
}

#[derive(Debug)]
struct State {
    line: LineDiscipline,
    /// Typed, and not taken by the discipline yet.
    arriving: VecDeque<u8>,
    window: WindowSize,
    presence: Presence,
    /// The inside cannot be opened yet (unlockpt).
    locked: bool,
    /// The inside is in exclusive use (TIOCEXCL).
    exclusive: bool,
    /// Packet mode (TIOCPKT): what the outside is to be told.
    packet: Option<PacketStatus>,
}

/// Who is there.
#[derive(Clone, Copy, Debug, Default)]
struct Presence {
    /// Open file descriptions of the inside, dead ones too.
    insiders: usize,
    /// The inside was open and is not any more.
    deserted: bool,
    /// The outside is gone.
    outside_gone: bool,
    /// How often the inside was hung up: an open file from before is dead.
    hang_ups: u64,
}

impl Pty {
    pub(super) fn new(number: u32) -> Self {
        let state = State {
            line: LineDiscipline::default(),
            arriving: VecDeque::new(),
            window: WindowSize::default(),
            presence: Presence::default(),
            locked: true,
            exclusive: false,
            packet: None,
        };
        let state = Mutex::new(Rank::Leaf, state);
        Self { number, state, inside: WaitQueue::default(), outside: WaitQueue::default() }
    }

    fn settings(&self) -> Settings {
        *self.state.lock().line.settings()
    }

    fn window(&self) -> WindowSize {
        self.state.lock().window
    }
}

impl State {
    /// Gives the discipline what has arrived, as far as it takes it.
    fn pump(&mut self) -> Effects {
        let arrived = self.arriving.make_contiguous();
        let (taken, effects) = self.line.receive(arrived);
        self.arriving.drain(..taken);
        effects
    }

    /// Takes typed bytes; returns how many there was room for.
    fn type_in(&mut self, bytes: &[u8]) -> (usize, Effects) {
        let count = bytes.len().min(ARRIVING_LIMIT - self.arriving.len());
        self.arriving.extend(&bytes[..count]);
        (count, self.pump())
    }

    /// Notes what packet mode reports.
    fn report(&mut self, status: PacketStatus) {
        if let Some(packet) = &mut self.packet {
            *packet = packet.then(status);
        }
    }

    /// Bytes that the outside can type now.
    fn typing_room(&self) -> usize {
        ARRIVING_LIMIT - self.arriving.len()
    }

    fn packet_status(&self) -> PacketStatus {
        self.packet.unwrap_or_default()
    }
}

impl Terminal {
    /// Changes a pseudo-terminal's state; then sends the signals and wakes both sides.
    fn with_pty<T>(&self, kernel: &Kernel, pty: &Pty, change: impl FnOnce(&mut State) -> (T, Effects)) -> T {
        match self.try_with_pty(kernel, pty, |state| Ok::<_, Infallible>(change(state))) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// As [`Self::with_pty`], for a change that may be impossible. One that fails has changed nothing and wakes nobody: whoever
    /// tries again when it is woken would wake itself.
    fn try_with_pty<T, E>(
        &self,
        kernel: &Kernel,
        pty: &Pty,
        change: impl FnOnce(&mut State) -> Result<(T, Effects), E>,
    ) -> Result<T, E> {
        let (value, signals) = {
            let mut state = pty.state.lock();
            let (value, effects) = change(&mut state)?;
            state.report(effects.packet);
            (value, effects.signals)
        };
        control::signal_foreground(kernel, self, &signals);
        pty.inside.wake(READABLE | WRITABLE);
        pty.outside.wake(READABLE | WRITABLE | Ready::PRI);
        Ok(value)
    }

    /// Types bytes; returns how many were taken.
    fn type_in(&self, kernel: &Kernel, pty: &Pty, bytes: &[u8]) -> usize {
        let typed = self.try_with_pty(kernel, pty, |state| match state.type_in(bytes) {
            // Nothing that waited has moved on either, or there would be room.
            (0, _) if state.typing_room() == 0 => Err(()),
            typed => Ok(typed),
        });
        typed.unwrap_or(0)
    }

    /// Changes the window's size; whoever is in the foreground is told if it is another (pty_resize).
    fn resize(&self, kernel: &Kernel, pty: &Pty, size: WindowSize) {
        let old = std::mem::replace(&mut pty.state.lock().window, size);
        if old != size {
            control::signal_foreground(kernel, self, &[Signal::SIGWINCH]);
        }
    }

    /// Hangs the inside up: its open files are dead, and its session's leader is told.
    fn hang_up(&self, kernel: &Kernel, pty: &Pty) {
        pty.state.lock().presence.hang_ups += 1;
        control::hang_up(kernel, self);
        pty.inside.wake_all();
        pty.outside.wake_all();
    }
}
