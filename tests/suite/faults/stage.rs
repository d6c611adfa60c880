//! Where a run takes place: its folders, its pipes, and who reads them.

use super::{Left, Run};
use faults::{Ended, Plan, Traced};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A run takes some tenths of a second; on a loaded machine more.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// What a run's last processes may take to let go of what they have.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// How much the program of the files reads and writes.
const SIZE: usize = 50_000;

/// The folders of one run.
pub(super) struct Stage {
    folder: TempDir,
    crashes: TempDir,
    /// The program finds a file, and leaves another.
    has_files: bool,
}

impl Stage {
    /// One for a program that leaves nothing.
    pub(super) fn new() -> Self {
        let folder = || tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self { folder: folder(), crashes: folder(), has_files: false }
    }

    /// One for a program that reads a file and writes it anew.
    pub(super) fn with_files() -> Self {
        let stage = Self { has_files: true, ..Self::new() };
        std::fs::write(stage.folder.path().join("input"), data()).unwrap();
        stage
    }

    /// The command under test, or a copy of it, with arguments.
    pub(super) fn command(&self, executable: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(executable);
        command.args(arguments).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("PICOVISOR_CRASH_DIR", self.crashes.path());
        command
    }

    /// `picovisor run` of a program that works in the folder.
    pub(super) fn run_in_folder(&self, executable: &Path, options: &[&str], program: &Path) -> Command {
        let mut command = self.command(executable, &["run"]);
        command.args(options).arg("--rw").arg(self.folder.path()).arg("--workdir").arg(self.folder.path());
        command.arg("--").arg(program);
        command
    }

    /// Runs a command to its end, with pipes for its output.
    pub(super) fn trace(&self, mut command: Command, plan: Option<Plan>) -> Run {
        let (out_reader, out) = std::io::pipe().unwrap();
        let (err_reader, err) = std::io::pipe().unwrap();
        command.stdout(out).stderr(err);
        std::thread::scope(|scope| {
            let out = scope.spawn(|| listen(&out_reader, |_| {}));
            let errors = scope.spawn(|| listen(&err_reader, |_| {}));
            let traced = Traced::start(&mut command, plan).expect("the monitor can be started and traced");
            // It holds the writing ends.
            drop(command);
            let ended = traced.attend(LIMIT).expect("the monitor can be traced");
            self.end(ended, out.join().unwrap(), errors.join().unwrap())
        })
    }

    /// What a run came to.
    pub(super) fn end(&self, mut ended: Ended, out: Heard, errors: Heard) -> Run {
        ended.late |= out.is_late || errors.is_late;
        // Their names are this run's own.
        for descriptor in &mut ended.descriptors {
            *descriptor = descriptor.replace(&*self.folder.path().to_string_lossy(), "FOLDER");
            if descriptor.starts_with("/dev/pts/") {
                *descriptor = "TERMINAL".to_owned();
            }
        }
        Run { ended, out: out.text, errors: errors.text, left: self.left() }
    }

    fn left(&self) -> Left {
        let mut names = list(self.folder.path());
        names.extend(list(self.crashes.path()));
        let (all, known): (&[&str], &[&str]) =
            if self.has_files { (&["input", "output"], &["input", "output", "output.new"]) } else { (&[], &[]) };
        if names.iter().any(|name| !known.contains(&name.as_str())) {
            return Left::Wrong(format!("it left a file behind: {names:?}"));
        }
        match std::fs::read(self.folder.path().join("output")) {
            Ok(written) if written != data() => Left::Wrong("a wrong file".to_owned()),
            _ if names == all => Left::All,
            _ => Left::Part,
        }
    }
}

fn data() -> Vec<u8> {
    (0..SIZE).map(|i| u8::try_from((i * 7 + (i >> 8)) & 0xff).unwrap()).collect()
}

fn list(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What came out of a pipe or a terminal.
pub(super) struct Heard {
    pub(super) text: String,
    /// Somebody had the other end for too long.
    pub(super) is_late: bool,
}

/// Listens until nobody has the other end, and shows `each` whatever has come so far.
pub(super) fn listen(from: impl AsFd, mut each: impl FnMut(&[u8])) -> Heard {
    let deadline = Instant::now() + LIMIT + GRACE;
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    let is_late = loop {
        if !is_ready(&from, deadline) {
            break true;
        }
        match rustix::io::read(&from, &mut piece) {
            // A terminal that nobody has any more has no end of file.
            Ok(0) | Err(Errno::IO) => break false,
            Ok(count) => {
                bytes.extend_from_slice(&piece[..count]);
                each(&bytes);
            }
            Err(Errno::INTR) => {}
            Err(error) => panic!("the other end of a pipe: {error}"),
        }
    };
    Heard { text: String::from_utf8_lossy(&bytes).into_owned(), is_late }
}

/// Waits until there is something to read, or the end of it; false if there is not until `deadline`.
pub(super) fn is_ready(from: impl AsFd, deadline: Instant) -> bool {
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).unwrap();
        match poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&left)) {
            Ok(count) => return count > 0,
            Err(Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}
