//! `run -t`: programs in a terminal of the sandbox's own, compared with the same programs in the caller's.
//!
//! The test holds the other side of a pseudo-terminal, types when it sees that the program waits, and keeps what is printed.

use crate::harness::{need_kvm, picovisor, tool};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{
    InputModes, OptionalActions, SpecialCodeIndex, Termios, Winsize, tcgetattr, tcsetattr, tcsetwinsize,
};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};

/// How long a program may take to print what is waited for: longer than any machine needs.
const PATIENCE: Timespec = Timespec { tv_sec: 120, tv_nsec: 0 };

/// A terminal with a program in it.
struct Screen {
    outside: OwnedFd,
    inside: OwnedFd,
    modes: Termios,
    program: Child,
    printed: Vec<u8>,
    /// What of it has been waited for.
    seen: usize,
}

impl Screen {
    /// Starts `argv` in a session of its own in a new terminal, in a sandbox or not.
    fn start(sandbox: bool, argv: &[&str]) -> Self {
        let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
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
        let mut command = Command::new(tool("setsid"));
        command.args(["--ctty", "--wait"]);
        if sandbox {
            command.arg(picovisor()).args(["run", "-t", "--"]);
        }
        command.args(argv).env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "dumb").env("PS1", "> ");
        let side = || inside.try_clone().unwrap();
        let program = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        Self { outside, inside, modes, program, printed: Vec::new(), seen: 0 }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.printed).into_owned()
    }

    /// Waits until `text` is printed behind what was waited for before.
    fn wait_for(&mut self, text: &str) {
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

    fn type_in(&self, text: &str) {
        assert_eq!(rustix::io::write(&self.outside, text.as_bytes()), Ok(text.len()));
    }

    /// Waits for the end; answers the exit code. The terminal has the modes again that it had.
    fn finish(mut self) -> (String, Option<i32>) {
        let status = self.program.wait().unwrap();
        let now = tcgetattr(&self.inside).unwrap();
        assert_eq!(format!("{now:?}"), format!("{:?}", self.modes), "the terminal's modes");
        (self.text(), status.code())
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
