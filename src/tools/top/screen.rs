//! The terminal as a page that is drawn again and again, and that is as it was before on every way out.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};
use std::io::{PipeReader, PipeWriter, Read, Write, stdin, stdout};
use std::sync::Arc;
use std::time::Duration;
use vmm::signals::HostSignals;

use crate::failure::{Failure, plain};
use crate::terminal::{OtherModes, TerminalModes};

/// Switches to the alternate screen, and hides the cursor (xterm's control sequences, which all terminals of today know).
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
/// Shows the cursor, and switches back.
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";
/// The signals that end, stop and resize.
const SIGNALS: [Signal; 7] =
    [Signal::WINCH, Signal::INT, Signal::QUIT, Signal::TERM, Signal::HUP, Signal::TSTP, Signal::CONT];

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The user has had enough, or the terminal is gone.
    Quit,
    /// A signal ends the command, with this status.
    Ended(u8),
    /// A key was pressed.
    Key(u8),
    /// The window has another size, or shows something else.
    Resized,
    /// Time has passed.
    Nothing,
}

/// The terminal, while it is a page.
#[derive(Debug)]
pub(super) struct Screen {
    modes: Arc<TerminalModes>,
    keys: Option<OtherModes>,
    /// The numbers of signals, as a thread of its own takes them.
    signals: PipeReader,
}

impl Screen {
    /// Takes the terminal over. Standard input and output must be one.
    pub(super) fn open() -> Result<Self, Failure> {
        let modes = Arc::new(TerminalModes::save());
        if !modes.is_terminal() || !rustix::termios::isatty(stdout()) {
            return Err(Failure::ours("top needs a terminal; --once prints one page without"));
        }
        // Before the first other thread.
        let taken = HostSignals::block(&SIGNALS.map(Signal::as_raw)).map_err(|error| Failure::ours(plain(&error)))?;
        let (signals, told) = std::io::pipe().map_err(|error| Failure::ours(plain(&error)))?;
        std::thread::spawn(move || tell(&taken, told));
        let mut screen = Self { modes, keys: None, signals };
        screen.enter()?;
        Ok(screen)
    }

    fn enter(&mut self) -> Result<(), Failure> {
        self.keys = Some(self.modes.keys()?);
        write(ENTER)
    }

    fn leave(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = write(LEAVE);
        self.keys = None;
    }

    /// Rows and columns.
    pub(super) fn size(&self) -> (usize, usize) {
        let size = self.modes.size();
        (size.rows.into(), size.columns.into())
    }

    /// Draws a page over the last one, without a moment in which there is none.
    pub(super) fn show(&self, text: &str) -> Result<(), Failure> {
        let lines = text.lines().collect::<Vec<_>>().join("\x1b[K\r\n");
        write(format!("\x1b[H{lines}\x1b[K\x1b[J").as_bytes())
    }

    /// Waits for something to do.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<Event, Failure> {
        let timeout = Timespec::try_from(timeout).ok();
        let input = stdin();
        let mut ready = [PollFd::new(&input, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        match poll(&mut ready, timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(Event::Nothing),
            Ok(_) => {}
            Err(error) => return Err(Failure::ours(format_args!("poll: {error}"))),
        }
        let (key, signal) = (!ready[0].revents().is_empty(), !ready[1].revents().is_empty());
        let mut byte = [0];
        if signal && matches!(self.signals.read(&mut byte), Ok(1)) {
            return self.signalled(i32::from(byte[0]));
        }
        if !key {
            return Ok(Event::Nothing);
        }
        match rustix::io::read(&input, &mut byte) {
            Ok(1) if byte[0] == b'q' || byte[0] == b'Q' => Ok(Event::Quit),
            Ok(1) => Ok(Event::Key(byte[0])),
            Err(Errno::INTR | Errno::AGAIN) => Ok(Event::Nothing),
            Ok(_) | Err(_) => Ok(Event::Quit),
        }
    }

    fn signalled(&mut self, number: i32) -> Result<Event, Failure> {
        if number == Signal::TSTP.as_raw() {
            self.leave();
            // Cannot fail; if it did, the command would merely go on.
            let _ = kill_process(getpid(), Signal::STOP);
            self.enter()?;
            Ok(Event::Resized)
        } else if number == Signal::WINCH.as_raw() || number == Signal::CONT.as_raw() {
            Ok(Event::Resized)
        } else {
            Ok(Event::Ended(u8::try_from(128 + number).unwrap_or(u8::MAX)))
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Tells of each signal as it comes.
fn tell(signals: &HostSignals, mut to: PipeWriter) {
    while let Ok(signal) = signals.wait(None) {
        let Some(number) = signal.and_then(|signal| u8::try_from(signal.number).ok()) else { continue };
        if to.write_all(&[number]).is_err() {
            return;
        }
    }
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::ours(plain(&error)))
}
