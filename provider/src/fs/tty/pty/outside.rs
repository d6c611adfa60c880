//! The outside of the first process's terminal, held by the monitor: what is typed comes from the caller's terminal, what is
//! printed goes there.

use super::super::Terminal;
use super::super::ldisc::{Effects, Settings};
use super::{PIECE, Pty};
use crate::abi::termios::{Termios2, WindowSize};
use crate::config::TerminalSize;
use crate::fs::Ready;
use crate::kernel::Kernel;
use crate::task::{Observation, Observer, Share};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

/// The monitor's end of a terminal. Its calls block the calling host thread, so tasks never make them.
#[derive(Debug)]
pub struct OutsideEnd {
    kernel: Arc<Kernel>,
    terminal: Arc<Terminal>,
    bell: Arc<Bell>,
    /// Nobody prints any more.
    over: AtomicBool,
    /// What was taken has been printed, too: its taker has come back for more.
    idle: AtomicBool,
    /// How often its taker has come.
    rounds: AtomicU64,
    _watch: Option<Observation>,
}

/// Wakes host threads that wait for the terminal.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<u64>,
    changed: Condvar,
}

impl Bell {
    fn count(&self) -> u64 {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Waits until it has rung more often than `before`.
    fn wait(&self, before: u64) {
        let guard = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let _guard = self.changed.wait_while(guard, |rung| *rung == before).unwrap_or_else(PoisonError::into_inner);
    }
}

impl Observer for Bell {
    fn notify(&self, _ready: Ready) -> bool {
        self.ring();
        true
    }
}

impl OutsideEnd {
    pub(in super::super) fn new(kernel: &Arc<Kernel>, terminal: Arc<Terminal>) -> Self {
        let bell = Arc::new(Bell::default());
        let watch = terminal.pty().map(|pty| {
            pty.state.lock().locked = false;
            let observer: Weak<dyn Observer> = Arc::downgrade(&(Arc::clone(&bell) as Arc<dyn Observer>));
            pty.outside.observe(observer, Ready::IN | Ready::OUT, Share::Common)
        });
        Self {
            kernel: Arc::clone(kernel),
            terminal,
            bell,
            over: AtomicBool::new(false),
            idle: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
            _watch: watch,
        }
    }

    /// Takes the settings over that the caller's terminal has: its characters, its encoding, what it echoes.
    pub(in super::super) fn adopt(&self, modes: &Termios2) {
        let Some(pty) = self.pty() else { return };
        let new = Settings::from_abi(modes.termios, Some((modes.c_ispeed, modes.c_ospeed)));
        self.terminal.with_pty(&self.kernel, pty, |state| ((), state.line.change_settings(new)));
    }

    fn pty(&self) -> Option<&Pty> {
        self.terminal.pty()
    }

    /// Types all of `bytes`, waiting for room. Returns early when it is over.
    pub fn type_in(&self, mut bytes: &[u8]) {
        let Some(pty) = self.pty() else { return };
        while !bytes.is_empty() && !self.over.load(Ordering::SeqCst) {
            let before = self.bell.count();
            let count = self.terminal.type_in(&self.kernel, pty, bytes);
            bytes = &bytes[count..];
            if count == 0 {
                self.bell.wait(before);
            }
        }
    }

    /// Waits for what programs print; `None` once everything is taken and [`Self::finish`] was called.
    pub fn take_printed(&self) -> Option<Vec<u8>> {
        let pty = self.pty()?;
        self.rounds.fetch_add(1, Ordering::SeqCst);
        self.bell.ring();
        loop {
            let before = self.bell.count();
            let over = self.over.load(Ordering::SeqCst);
            let bytes = self.terminal.try_with_pty(&self.kernel, pty, |state| {
                if state.line.output_len() == 0 {
                    return Err(());
                }
                self.idle.store(false, Ordering::SeqCst);
                Ok((state.line.take_output(PIECE), Effects::default()))
            });
            if let Ok(bytes) = bytes {
                return Some(bytes);
            }
            if !self.idle.swap(true, Ordering::SeqCst) {
                self.bell.ring();
            }
            if over {
                return None;
            }
            self.bell.wait(before);
        }
    }

    /// Waits until what programs have printed so far is not only taken but printed: until its taker asks for more and there is
    /// none, or has come so often that the rest is newer.
    pub fn wait_until_printed(&self) {
        let Some(pty) = self.pty() else { return };
        let start = self.rounds.load(Ordering::SeqCst);
        // The piece that is being printed, a piece for all that is queued, and one to come back from the last.
        let pieces = pty.state.lock().line.output_len().div_ceil(PIECE) + 2;
        loop {
            let before = self.bell.count();
            let drained = {
                let state = pty.state.lock();
                state.line.output_len() == 0 && self.idle.load(Ordering::SeqCst)
            };
            let rounds = self.rounds.load(Ordering::SeqCst).wrapping_sub(start);
            let printed = drained || usize::try_from(rounds).is_ok_and(|rounds| rounds >= pieces);
            if printed || self.over.load(Ordering::SeqCst) {
                return;
            }
            self.bell.wait(before);
        }
    }

    /// Changes the window's size; whoever is in the foreground gets SIGWINCH.
    pub fn resize(&self, TerminalSize { rows, columns }: TerminalSize) {
        if let Some(pty) = self.pty() {
            self.terminal.resize(&self.kernel, pty, WindowSize { rows, columns, ..WindowSize::default() });
        }
    }

    /// The caller's terminal is gone: hangs the terminal inside up.
    pub fn hang_up(&self) {
        if let Some(pty) = self.pty() {
            self.terminal.hang_up(&self.kernel, pty);
        }
    }

    /// Says that the sandbox has ended: what was printed can still be taken.
    pub fn finish(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.bell.ring();
    }
}
