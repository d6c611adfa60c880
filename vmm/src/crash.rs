//! Faults of the monitor itself: an end with one line, and with a status that is a failure's, in place of a bare death by signal.
//!
//! Runs in a signal handler, on whatever thread, with whatever state the fault has left: nothing here allocates, locks or opens a
//! file. What is known is said on standard error. A sandbox is one process, so no other suffers.

use std::ffi::c_int;
use std::fmt::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a process does that ends by a fault of its own.
#[derive(Clone, Copy, Debug)]
pub struct LastWords {
    /// What the line begins with.
    pub program: &'static str,
    /// The exit status.
    pub status: i32,
    /// Puts things of the user's back. It may not allocate, nor wait for a lock.
    pub restore: fn(),
}

static LAST_WORDS: OnceLock<LastWords> = OnceLock::new();

/// Lets faults of this process end it like this, once it has guest memory. Only the first who says so is heard.
pub fn set_last_words(words: LastWords) {
    let _ = LAST_WORDS.set(words);
}

/// A line, cut where it is too long.
struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let taken = text.len().min(room.len());
        room[..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken;
        Ok(())
    }
}

/// Where a fault was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) signal: c_int,
    /// siginfo's code: not positive if somebody sent the signal.
    pub(crate) code: c_int,
    /// The address, or who sent it.
    pub(crate) address: u64,
    pub(crate) rip: u64,
}

/// Ends the process if somebody has said how; returns otherwise.
pub(crate) fn end(fault: Fault) {
    static ENDING: AtomicBool = AtomicBool::new(false);
    let Some(words) = LAST_WORDS.get() else { return };
    if !ENDING.swap(true, Ordering::SeqCst) {
        (words.restore)();
        let mut line = Line { bytes: [0; 256], len: 0 };
        // A line that is too long is cut, which is no error.
        let _ = describe(&mut line, words, fault);
        say(&line.bytes[..line.len]);
    }
    exit(words.status)
}

/// Says something on standard error, without a lock or memory for it. Nobody is left whom an error could be told.
pub(crate) fn say(text: &[u8]) {
    // SAFETY: the text is as long as is said.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

/// Ends the process on the spot: nothing is unwound, no destructor runs.
pub(crate) fn exit(status: c_int) -> ! {
    // SAFETY: ends the process; nothing follows that could miss anything.
    unsafe { libc::_exit(status) }
}

fn describe(line: &mut Line, words: &LastWords, fault: Fault) -> fmt::Result {
    unsafe extern "C" {
        /// Where the linker put the start of the executable.
        static __ehdr_start: u8;
    }
    let Fault { signal, code, address, rip } = fault;
    write!(line, "{}: the monitor itself crashed: signal {signal}", words.program)?;
    if code > 0 {
        let base = (&raw const __ehdr_start).addr() as u64;
        write!(line, " at {address:#x}, by the instruction at {:#x} of the executable", rip.wrapping_sub(base))?;
    } else {
        write!(line, ", sent by another process")?;
    }
    writeln!(line, "; the sandbox was stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_and_where_and_is_cut() {
        let words = LastWords { program: "it", status: 1, restore: || {} };
        let mut line = Line { bytes: [0; 256], len: 0 };
        describe(&mut line, &words, Fault { signal: 11, code: 0, address: 7, rip: 0 }).unwrap();
        let text = |line: &Line| String::from_utf8_lossy(&line.bytes[..line.len]).into_owned();
        assert_eq!(
            text(&line),
            "it: the monitor itself crashed: signal 11, sent by another process; the sandbox was stopped\n"
        );
        let mut line = Line { bytes: [0; 256], len: 0 };
        describe(&mut line, &words, Fault { signal: 7, code: 1, address: 0x10, rip: 5 }).unwrap();
        assert!(text(&line).starts_with("it: the monitor itself crashed: signal 7 at 0x10, by the instruction at 0x"));
        let mut short = Line { bytes: [0; 256], len: 250 };
        short.write_str("too long for it").unwrap();
        assert_eq!(short.len, 256);
    }
}
