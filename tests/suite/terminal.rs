//! `run -t`: programs in a terminal of the sandbox's own, compared with the same programs in the caller's.
//!
//! The test holds the other side of a pseudo-terminal, types when it sees that the program waits, and keeps what is printed.
//! Whatever ends the monitor, the caller's terminal has its modes again when nobody has it open any more.

use crate::harness::{need_kvm, picovisor, tool};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{
    InputModes, OptionalActions, SpecialCodeIndex, Termios, Winsize, tcgetattr, tcsetattr, tcsetwinsize,
};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};

/// How long a program may take to print what is waited for: longer than any machine needs.
const PATIENCE: Timespec = Timespec { tv_sec: 120, tv_nsec: 0 };

/// A terminal with a program in it.
pub(crate) struct Screen {
    outside: OwnedFd,
    modes: Termios,
    program: Child,
    printed: Vec<u8>,
    /// What of it has been waited for.
    seen: usize,
}

impl Screen {
    /// Starts `argv` in a session of its own in a new terminal, in a sandbox or not.
    pub(crate) fn start(sandbox: bool, argv: &[&str]) -> Self {
        Self::start_with(sandbox, argv, OFlags::empty())
    }

    /// As [`Self::start`], with the terminal opened in such a way.
    fn start_with(sandbox: bool, argv: &[&str], opened: OFlags) -> Self {
        let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&outside).unwrap();
        unlockpt(&outside).unwrap();
        let name = ptsname(&outside, Vec::new()).unwrap();
        let inside: OwnedFd =
            std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap().into();
        let mut modes = tcgetattr(&inside).unwrap();
        modes.input_modes |= InputModes::IUTF8;
        modes.special_codes[SpecialCodeIndex::VERASE] = 8;
        tcsetattr(&inside, OptionalActions::Now, &modes).unwrap();
        tcsetwinsize(&inside, Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        fcntl_setfl(&inside, opened).unwrap();
        let mut command = Command::new(tool("setsid"));
        command.args(["--ctty", "--wait"]);
        if sandbox {
            command.arg(picovisor()).args(["run", "-t", "--"]);
        }
        command.args(argv).env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "dumb").env("PS1", "> ");
        let side = || inside.try_clone().unwrap();
        let program = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        Self { outside, modes, program, printed: Vec::new(), seen: 0 }
    }

    /// Gives the terminal another size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.outside, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    /// Everything that was printed.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.printed).into_owned()
    }

    /// Waits until `text` is printed behind what was waited for before.
    pub(crate) fn wait_for(&mut self, text: &str) {
        loop {
            let new = &self.printed[self.seen..];
            if let Some(at) = new.windows(text.len()).position(|part| part == text.as_bytes()) {
                self.seen += at + text.len();
                return;
            }
            let ready = poll(&mut [PollFd::new(&self.outside, PollFlags::IN)], Some(&PATIENCE)).unwrap();
            assert!(ready > 0, "{text:?} does not come after {:?}", self.text());
            let mut bytes = [0; 4096];
            let count = rustix::io::read(&self.outside, &mut bytes).unwrap();
            self.printed.extend_from_slice(&bytes[..count]);
        }
    }

    pub(crate) fn type_in(&self, text: &str) {
        assert_eq!(rustix::io::write(&self.outside, text.as_bytes()), Ok(text.len()));
    }

    /// Whether the terminal has the modes that it had at the start.
    pub(crate) fn is_as_before(&self) -> bool {
        // The outside answers with the modes of the inside.
        format!("{:?}", tcgetattr(&self.outside).unwrap()) == format!("{:?}", self.modes)
    }

    pub(crate) fn send(&self, signal: Signal) {
        // setsid(1) has become the program: it was not the leader of a process group.
        kill_process(Pid::from_child(&self.program), signal).unwrap();
    }

    /// Waits for the end; answers what was printed and the exit code. The terminal has the modes again that it had.
    pub(crate) fn finish(mut self) -> (String, Option<i32>) {
        let status = self.program.wait().unwrap();
        let mut terminal = [PollFd::new(&self.outside, PollFlags::empty())];
        assert_eq!(poll(&mut terminal, Some(&PATIENCE)), Ok(1), "somebody still has the terminal");
        assert_eq!(terminal[0].revents(), PollFlags::HUP);
        assert!(self.is_as_before(), "the terminal's modes: {:?}", tcgetattr(&self.outside));
        (self.text(), status.code().or_else(|| status.signal().map(|signal| 128 + signal)))
    }
}

fn compare(drive: impl Fn(bool) -> (String, Option<i32>)) -> String {
    let native = drive(false);
    assert_eq!(drive(true), native, "in a sandbox, and natively");
    native.0
}

#[test]
fn a_terminal_inside_starts_as_the_callers() {
    need_kvm!();
    let text = compare(|sandbox| {
        let mut screen = Screen::start(sandbox, &["sh", "-c", "stty -a; echo over"]);
        screen.wait_for("over\r\n");
        screen.finish()
    });
    let has = |word: &str| text.split([' ', '\r', '\n']).any(|found| found == word);
    assert!(text.contains("rows 33; columns 101") && text.contains("erase = ^H") && has("iutf8"), "{text}");
}

#[test]
fn bash_controls_jobs_in_a_terminal_inside() {
    need_kvm!();
    /// A job that says by itself that it has the terminal, in a form that its echo has not.
    const SLEEP: &str = "sh -c 'echo re\"\"ady; exec sleep 1000'\r";
    const CAT: &str = "sh -c 'echo re\"\"ady; exec cat'\r";
    const PROMPT: &str = "\n> ";
    // What is waited for, and what is typed then.
    let steps = [
        ("> ", SLEEP),
        ("ready\r\n", "\u{1a}"),
        ("Stopped", ""),
        (PROMPT, "echo stopped $?\r"),
        ("\nstopped 148\r", ""),
        (PROMPT, "kill -CONT %1; kill %1; wait %1; echo killed $?\r"),
        ("\nkilled 143\r", ""),
        (PROMPT, SLEEP),
        ("ready\r\n", "\u{3}"),
        (PROMPT, "echo interrupted $?\r"),
        ("\ninterrupted 130\r", ""),
        (PROMPT, CAT),
        ("ready\r\n", "a line\r"),
        ("a line\r\na line\r\n", "wrong\u{15}right\r"),
        ("right\r\nright\r", "\u{4}"),
        (PROMPT, "echo ended $?\r"),
        ("\nended 0\r", ""),
        (PROMPT, "exit 7\r"),
        ("exit\r\n", ""),
    ];
    compare(|sandbox| {
        let mut screen = Screen::start(sandbox, &["bash", "--norc", "--noprofile", "-i"]);
        for (awaited, typed) in steps {
            screen.wait_for(awaited);
            screen.type_in(typed);
        }
        // Bash says when jobs end at times of its own: only the end is compared.
        (String::new(), screen.finish().1)
    });
}

#[test]
fn a_terminal_that_somebody_has_made_non_blocking_is_waited_for() {
    need_kvm!();
    let argv = &["sh", "-c", "echo ready; read line; seq 1 20000; echo \"after $line\""];
    let mut screen = Screen::start_with(true, argv, OFlags::NONBLOCK);
    screen.wait_for("ready\r\n");
    screen.type_in("a line\r");
    screen.wait_for("after a line\r\n");
    let (text, status) = screen.finish();
    let numbers: Vec<u32> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    assert!(numbers.into_iter().eq(1..=20000), "some of it is lost");
    assert_eq!(status, Some(0), "{text}");
}

#[test]
fn the_callers_terminal_is_restored_whatever_ends_the_monitor() {
    need_kvm!();
    for (signal, status) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::KILL, 137), (Signal::ABORT, 134)] {
        let mut screen = Screen::start(true, &["sh", "-c", "echo ready; exec sleep 1000"]);
        screen.wait_for("ready\r\n");
        assert!(!screen.is_as_before(), "it is raw meanwhile");
        screen.send(signal);
        assert_eq!(screen.finish().1, Some(status));
    }
}

#[test]
fn the_callers_terminal_is_the_callers_while_the_job_is_stopped() {
    need_kvm!();
    let shell = &["bash", "--norc", "--noprofile", "-i"];
    let job = "sh -c 'echo re\"\"ady; kill -STOP $$; echo resu\"\"med; read line; echo \"got $line\"; kill -STOP $$'";
    const PROMPT: &str = "\n> ";
    let mut screen = Screen::start(false, shell);
    let start = format!("{} run -t -- {job}\r", picovisor().display());
    let steps = [
        ("> ", &start[..]),
        ("ready\r\n", ""),
        ("Stopped", ""),
        (PROMPT, "stty -a; echo over\r"),
        (" icanon ", ""),
        (" echo ", ""),
        ("\nover\r", ""),
        (PROMPT, "fg\r"),
        ("resumed\r\n", "a line\r"),
        ("got a line\r\n", ""),
        ("Stopped", ""),
        // Killed in the stop: the terminal is the shell's, and stays as the shell has it.
        (PROMPT, "kill -KILL %1; while kill -0 %1 2> /dev/null; do :; done; echo gone\r"),
        ("\ngone\r", ""),
        (PROMPT, "stty -a; echo over\r"),
        (" icanon ", ""),
        ("\nover\r", ""),
        (PROMPT, "exit 7\r"),
    ];
    for (awaited, typed) in steps {
        screen.wait_for(awaited);
        screen.type_in(typed);
    }
    assert_eq!(screen.finish().1, Some(7));
}
