//! The caller's terminal: its modes, and what connects it to a terminal inside (`run -t`).

mod keeper;

use provider::OutsideEnd;
use provider::config::TerminalSize;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{Stdin, stdin};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use vmm::threads::{HostThreads, Owner};

use crate::failure::{Failure, plain};
pub(crate) use keeper::{Keeper, keep_if_asked};

/// The stack of the threads that carry bytes: they make a few calls.
const STACK: usize = 128 << 10;
/// Bytes carried at once.
const PIECE: usize = 4096;
/// What a terminal that tells no size is taken for.
const USUAL: TerminalSize = TerminalSize { rows: 24, columns: 80 };

/// The modes that the terminal is to have again if the monitor ends by a panic. Not set while it has them anyway.
static TO_RESTORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The modes of the terminal on standard input at start.
#[derive(Debug)]
pub(crate) struct TerminalModes {
    saved: Option<(Stdin, Termios)>,
}

impl TerminalModes {
    /// Remembers the modes, if standard input is a terminal.
    pub(crate) fn save() -> Self {
        let stdin = stdin();
        let saved = tcgetattr(&stdin).ok().map(|modes| (stdin, modes));
        Self { saved }
    }

    /// Those of no terminal: standard input is none.
    pub(crate) fn none() -> Self {
        Self { saved: None }
    }

    /// Whether standard input is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.saved.is_some()
    }

    /// The window's size.
    pub(crate) fn size(&self) -> TerminalSize {
        match self.saved.as_ref().and_then(|(stdin, _)| tcgetwinsize(stdin).ok()) {
            Some(size) if size.ws_row != 0 && size.ws_col != 0 => {
                TerminalSize { rows: size.ws_row, columns: size.ws_col }
            }
            _ => USUAL,
        }
    }

    /// Puts the modes back. Meant for a program that was ended by a signal or a limit: what a program changed and left
    /// changed when it exited by itself, as `stty` does, is what the user asked for.
    pub(crate) fn restore(&self) {
        if let Some((stdin, modes)) = &self.saved {
            // A background job that changed nothing must not be stopped by SIGTTOU for it, and a terminal that hung up
            // has no modes to restore: only a difference is written, and failure has no one to go to.
            if tcgetattr(stdin).is_ok_and(|now| !same(&now, modes)) {
                let _ = retry_on_intr(|| tcsetattr(stdin, OptionalActions::Drain, modes));
            }
        }
        *TO_RESTORE.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Lets every byte through until the guard is dropped.
    pub(crate) fn raw(self: &Arc<Self>) -> Result<OtherModes, Failure> {
        self.make_raw()?;
        Ok(OtherModes(self.clone()))
    }

    /// Hands every key over at once and shows none, until the guard is dropped. Keys that make signals still do.
    pub(crate) fn keys(self: &Arc<Self>) -> Result<OtherModes, Failure> {
        if let Some((stdin, modes)) = &self.saved {
            let mut keys = modes.clone();
            keys.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            self.change(stdin, modes, &keys)?;
        }
        Ok(OtherModes(self.clone()))
    }

    /// Gives the terminal other modes, from which a panic restores it.
    fn change(&self, stdin: &Stdin, old: &Termios, new: &Termios) -> Result<(), Failure> {
        *TO_RESTORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(old.clone());
        // It waits until all is printed, and a signal may end the wait.
        let changed = retry_on_intr(|| tcsetattr(stdin, OptionalActions::Drain, new));
        changed.map_err(|error| Failure::ours(format_args!("the terminal: {}", plain(&error.into()))))
    }

    /// Lets every byte through: the terminal inside edits, echoes and makes signals.
    fn make_raw(&self) -> Result<(), Failure> {
        let Some((stdin, modes)) = &self.saved else { return Ok(()) };
        let mut raw = modes.clone();
        raw.make_raw();
        self.change(stdin, modes, &raw)
    }
}

/// A terminal that has other modes, until this is dropped.
#[derive(Debug)]
pub(crate) struct OtherModes(Arc<TerminalModes>);

impl Drop for OtherModes {
    fn drop(&mut self) {
        self.0.restore();
    }
}

/// Puts the terminal's modes back on the way out of a panic.
pub(crate) fn restore_after_panic() {
    if let Ok(Some(modes)) = TO_RESTORE.try_lock().map(|mut modes| modes.take()) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &modes);
    }
}

fn same(a: &Termios, b: &Termios) -> bool {
    (a.input_modes, a.output_modes, a.control_modes, a.local_modes)
        == (b.input_modes, b.output_modes, b.control_modes, b.local_modes)
        && format!("{:?}", a.special_codes) == format!("{:?}", b.special_codes)
}

/// Carries bytes between the caller's terminal, which is raw meanwhile, and the one inside.
#[derive(Debug)]
pub(crate) struct Console {
    outside: Arc<OutsideEnd>,
    modes: Arc<TerminalModes>,
    printer: JoinHandle<()>,
    /// Held while something is printed, and while the terminal is not in our modes.
    printing: Arc<Mutex<()>>,
    /// Why not everything could be printed.
    lost: Arc<OnceLock<Errno>>,
    /// Until the modes are back. None where it could not be started.
    _keeper: Option<Keeper>,
}

impl Console {
    /// Makes the terminal raw, once `keeper` can undo it, and starts to carry.
    pub(crate) fn start(
        threads: &Arc<HostThreads>,
        outside: &Arc<OutsideEnd>,
        modes: &Arc<TerminalModes>,
        keeper: std::io::Result<Keeper>,
    ) -> Result<Self, Failure> {
        let ready = keeper.and_then(|keeper| keeper.ready().map(|()| keeper));
        // What it does matters after a violent end only: no reason not to run.
        let keeper = ready.inspect_err(|error| tracing::warn!(%error, "nobody keeps the terminal's modes")).ok();
        let failed = |error| Failure::ours(format_args!("cannot start a thread: {}", plain(&error)));
        modes.make_raw()?;
        let typist = Arc::clone(outside);
        threads.spawn("keyboard", STACK, Owner::System, move || type_all(&typist)).map_err(failed)?;
        let source = Arc::clone(outside);
        let printing = Arc::new(Mutex::new(()));
        let turns = Arc::clone(&printing);
        let lost = Arc::new(OnceLock::new());
        let losing = Arc::clone(&lost);
        let print = move || print_all(&source, &turns, &losing);
        let printer = threads.spawn("screen", STACK, Owner::System, print).map_err(failed)?;
        Ok(Self { outside: Arc::clone(outside), modes: Arc::clone(modes), printer, printing, lost, _keeper: keeper })
    }

    /// Steps aside while the job is stopped, and comes back after `stop` returns. What was printed before comes before: an editor
    /// leaves the screen as it should be and stops then.
    pub(crate) fn while_stopped(&self, stop: impl FnOnce()) {
        self.outside.wait_until_printed();
        let pause = self.printing.lock();
        self.modes.restore();
        stop();
        // In the background this stops the job again, as for every program that uses the terminal.
        let _ = self.modes.make_raw();
        drop(pause);
        self.outside.resize(self.modes.size());
    }

    /// Prints what is left, and puts the modes back. Fails if something could not be printed.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        self.outside.finish();
        // It cannot panic: the process would have ended.
        let _ = self.printer.join();
        self.modes.restore();
        let lost = |error: &Errno| Failure::ours(format_args!("standard output: {}", plain(&(*error).into())));
        self.lost.get().map_or(Ok(()), |error| Err(lost(error)))
    }
}

/// Types what comes from standard input, until that ends: then the caller's terminal is gone.
fn type_all(outside: &OutsideEnd) {
    let mut bytes = [0; PIECE];
    loop {
        match rustix::io::read(stdin(), &mut bytes) {
            Ok(0) => break,
            Ok(count) => outside.type_in(&bytes[..count]),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(&stdin(), PollFlags::IN),
            Err(_) => break,
        }
    }
    outside.hang_up();
}

/// Waits for a descriptor that somebody who shares it has made non-blocking.
fn wait(descriptor: &impl AsFd, interest: PollFlags) {
    // Whatever ends it, the transfer is tried again.
    let _ = poll(&mut [PollFd::new(descriptor, interest)], None);
}

/// Prints what comes from inside, until the sandbox has ended. A reader that left early is no failure; where nothing can be printed for
/// another reason the terminal is as good as gone, and programs are told so.
fn print_all(outside: &OutsideEnd, printing: &Mutex<()>, lost: &OnceLock<Errno>) {
    let out = std::io::stdout();
    while let Some(bytes) = outside.take_printed() {
        let _turn = printing.lock();
        // What was printed is a beginning, with nothing missing in between.
        let mut rest = if lost.get().is_none() { &bytes[..] } else { &[] };
        while !rest.is_empty() {
            match rustix::io::write(&out, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait(&out, PollFlags::OUT),
                // Goes on taking, so that nobody inside waits for room.
                Err(error) => {
                    if error != Errno::PIPE && lost.set(error).is_ok() {
                        outside.hang_up();
                    }
                    break;
                }
            }
        }
    }
}
