//! Commands, what they did, and how two outcomes differ.

use super::picovisor;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

/// No run takes this long; one that does is ended and its test fails.
const LIMIT: Duration = Duration::from_secs(120);

/// A command in a clean environment.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    input: Option<Vec<u8>>,
    folder: Option<PathBuf>,
}

/// What a command did.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The exit status, or 128 + N after signal N.
    pub(crate) status: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
}

impl Command {
    /// Makes a command. Its environment holds PATH and a few variables that programs expect.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let env = [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8"), ("HOME", "/root"), ("TERM", "dumb")];
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            input: None,
            folder: None,
        }
    }

    /// The command under test itself.
    pub(crate) fn picovisor() -> Self {
        Self::new(picovisor())
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// What it reads from standard input, through a pipe. Without it, standard input is /dev/null.
    pub(crate) fn input(mut self, input: impl AsRef<[u8]>) -> Self {
        self.input = Some(input.as_ref().to_owned());
        self
    }

    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// The same command under `picovisor run`, with options. The program's own folder is shown wherever it lies.
    pub(crate) fn sandboxed(&self, options: &[&OsStr]) -> Self {
        self.sandboxed_by(picovisor(), options)
    }

    /// As [`Self::sandboxed`], by another copy of the command under test.
    pub(crate) fn sandboxed_by(&self, picovisor: &Path, options: &[&OsStr]) -> Self {
        let mut command = Self { program: picovisor.into(), args: vec!["run".into()], ..self.clone() };
        let folder = Path::new(&self.program).parent().filter(|folder| folder.is_absolute());
        if let Some(folder) = folder.filter(|folder| !folder.starts_with("/usr") && !folder.starts_with("/bin")) {
            let mut bind = folder.as_os_str().to_owned();
            bind.push(":");
            bind.push(folder);
            bind.push(":ro");
            command.args.extend(["--bind".into(), bind]);
        }
        command.args.extend(options.iter().map(Into::into));
        command.args.extend(["--".into(), self.program.clone()]);
        command.args.extend(self.args.iter().cloned());
        command
    }

    /// The command for the standard library, for tests that need more than [`run`](Self::run).
    pub(crate) fn std(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        // A process group of its own, which is not orphaned even where the harness's is: stops by SIGTSTP work in it.
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(&self) -> Outcome {
        let mut child = self.std().spawn().unwrap_or_else(|error| panic!("{self}: {error}"));
        let pid = rustix::process::Pid::from_child(&child);
        let stdin = child.stdin.take();
        let input = self.input.clone().unwrap_or_default();
        // A program may end before it has read everything.
        let feeder = std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
        let (done, watch) = mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            let late = watch.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                // The child is not reaped before `done` is dropped, so the number is still its own; what it has started goes,
                // too, and lets go of its output.
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            }
            late
        });
        let output = child.wait_with_output().expect("the child is ours to wait for");
        drop(done);
        let late = watchdog.join().expect("the watchdog does not panic");
        let _ = feeder.join().expect("the feeder does not panic");
        assert!(!late, "{self} did not end within {LIMIT:?}; it printed:\n{}", String::from_utf8_lossy(&output.stdout));
        let status = output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal));
        let status = status.expect("a process that was waited for has exited or was killed");
        Outcome { status, out: output.stdout, err: output.stderr }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program.to_string_lossy())?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", arg.to_string_lossy()))
    }
}

impl Outcome {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Standard error as text.
    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.err).into_owned()
    }

    /// The lines in which two outcomes differ, at most a screenful.
    pub(crate) fn difference(&self, other: &Self) -> String {
        let mut text = String::new();
        if self.status != other.status {
            text += &format!("status: - {} + {}\n", self.status, other.status);
        }
        for (name, mine, theirs) in [("output", &self.out, &other.out), ("errors", &self.err, &other.err)] {
            if mine != theirs {
                text += &format!("{name}:\n{}", lines_that_differ(mine, theirs));
            }
        }
        text
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}\noutput:\n{}errors:\n{}", self.status, self.text(), self.errors())
    }
}

/// Pairs lines off; where they fall out of step, the next common line puts them back.
fn lines_that_differ(mine: &[u8], theirs: &[u8]) -> String {
    const SHOWN: usize = 40;
    let split = |bytes| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect::<Vec<_>>();
    let (mine, theirs) = (split(mine), split(theirs));
    let (mut a, mut b, mut shown) = (0, 0, Vec::new());
    while (a < mine.len() || b < theirs.len()) && shown.len() < SHOWN {
        match (mine.get(a), theirs.get(b)) {
            (Some(x), Some(y)) if x == y => (a, b) = (a + 1, b + 1),
            (Some(x), y) => {
                let ahead = theirs[b..].iter().take(20).position(|line| line == x);
                match (ahead, y) {
                    (Some(steps), _) => {
                        shown.extend(theirs[b..b + steps].iter().map(|line| format!("  + {line}")));
                        b += steps;
                    }
                    (None, y) => {
                        shown.push(format!("  - {x}"));
                        a += 1;
                        if let Some(y) = y.filter(|y| !mine[a..].iter().take(20).any(|line| line == *y)) {
                            shown.push(format!("  + {y}"));
                            b += 1;
                        }
                    }
                }
            }
            (None, Some(y)) => {
                shown.push(format!("  + {y}"));
                b += 1;
            }
            (None, None) => break,
        }
    }
    if shown.is_empty() { "  line ends or unprintable bytes\n".into() } else { shown.join("\n") + "\n" }
}
