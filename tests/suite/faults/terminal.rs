//! `-t`: a terminal of the sandbox's own, in one of the test's, which types a line and a key.

use super::stage::{LIMIT, Stage, listen};
use super::{Left, Run, Scene};
use crate::harness::{Link, picovisor, program};
use faults::{Plan, Traced};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use std::fmt::Write;
use std::os::fd::OwnedFd;

pub(super) struct Terminal;

/// What is waited for, and what is typed then.
const STEPS: [(&str, &str); 2] = [("name? ", "Ada Lovelace\r"), ("key? ", "k")];

impl Scene for Terminal {
    fn name(&self) -> &'static str {
        "a terminal"
    }

    fn output(&self) -> String {
        let mut text = "name? hello Ada Lovelace\nkey? \n".to_owned();
        for number in 0..300 {
            let _ = writeln!(text, "line {number} of a text that is longer than a piece");
        }
        text + "done\n"
    }

    fn run(&self, plan: Option<Plan>) -> Run {
        let stage = Stage::new();
        let (outside, inside) = terminal();
        let before = modes(&outside);
        let mut command = stage.command(picovisor(), &["run", "--no-serve", "-t", "--"]);
        let guest = program("injected_terminal.c", Link::Static);
        command.arg(&guest);
        let (err_reader, err) = std::io::pipe().unwrap();
        command.stdin(inside.try_clone().unwrap()).stdout(inside).stderr(err);
        let mut steps = STEPS.iter();
        let mut step = steps.next();
        let answer = |printed: &[u8]| {
            if let Some((awaited, typed)) = step
                && printed.ends_with(awaited.as_bytes())
            {
                step = steps.next();
                // A terminal that is gone takes nothing.
                let _ = rustix::io::write(&outside, typed.as_bytes());
            }
        };
        let mut run = std::thread::scope(|scope| {
            let screen = scope.spawn(|| listen(&outside, answer));
            let errors = scope.spawn(|| listen(&err_reader, |_| {}));
            let traced = Traced::start(&mut command, plan).expect("the monitor can be started and traced");
            // It has the terminal open.
            drop(command);
            let ended = traced.attend(LIMIT).expect("the monitor can be traced");
            stage.end(ended, screen.join().unwrap(), errors.join().unwrap())
        });
        // The program's errors go to its terminal as well.
        // When the monitor has given up while it printed, the caller's terminal adds line ends of its own.
        run.out.retain(|letter| letter != '\r');
        let begins = [format!("{}: error while", guest.display()), "injected: ".to_owned()];
        if let Some(at) = begins.iter().find_map(|begin| run.out.find(begin)) {
            run.errors += &run.out.split_off(at);
        }
        if modes(&outside) != before {
            run.left = Left::Wrong(format!("it left the terminal's modes as they were inside: {}", modes(&outside)));
        }
        run
    }

    /// The terminal hung up.
    fn signals(&self) -> &'static [i32] {
        &[129]
    }
}

/// Both ends of a terminal.
fn terminal() -> (OwnedFd, OwnedFd) {
    let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&outside).unwrap();
    unlockpt(&outside).unwrap();
    let name = ptsname(&outside, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let inside = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
    // If the monitor has given up when the line is typed, the echo would be this terminal's, and no output.
    let mut modes = tcgetattr(&inside).unwrap();
    modes.local_modes -= LocalModes::ECHO;
    tcsetattr(&inside, OptionalActions::Now, &modes).unwrap();
    tcsetwinsize(&inside, Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    (outside, inside)
}

/// The modes of a terminal, which its outside tells, too.
fn modes(outside: &OwnedFd) -> String {
    format!("{:?}", tcgetattr(outside).unwrap())
}
