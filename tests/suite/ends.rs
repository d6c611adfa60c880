//! Ends: a monitor that is killed or that crashes takes its own sandbox with it, and leaves nothing.

use crate::harness::{Command, Link, need_kvm, picovisor, program, scratch};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

/// An executable of a test's own, so that its processes can be told from others', with folders for all that it may leave.
struct Place {
    folder: tempfile::TempDir,
    executable: PathBuf,
}

/// What a run has left on the host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    processes: Vec<String>,
    sockets: Vec<String>,
    files: Vec<PathBuf>,
    mounts: Vec<String>,
}

impl Place {
    fn new() -> Self {
        let folder = scratch();
        let executable = folder.path().join("picovisor");
        // By another process: a program that a test beside this one starts meanwhile would hold a file that this process writes, which
        // then cannot be executed (ETXTBSY).
        let copied = std::process::Command::new("cp").arg(picovisor()).arg(&executable).status().unwrap();
        assert!(copied.success(), "cp: {copied}");
        for name in ["temporary", "work", "upper", "crashes"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, executable }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The name by which the sandbox and its sockets are found.
    fn name(&self) -> String {
        self.folder.path().file_name().unwrap().to_string_lossy().replace('.', "-")
    }

    /// A command in a sandbox that has all that a monitor could leave: a name, a folder to write to, one for the overlay.
    fn run(&self, command: &Command) -> Command {
        let (work, upper, name) = (self.at("work"), self.at("upper"), self.name());
        let options = ["--name".as_ref(), name.as_ref(), "--rw".as_ref(), work.as_os_str(), "--upper".as_ref()];
        let options = [&options[..], &[upper.as_os_str()]].concat();
        let (temporary, crashes) = (self.at("temporary"), self.at("crashes"));
        let command = command.sandboxed_by(&self.executable, &options).folder(&work);
        command.env("TMPDIR", temporary.to_str().unwrap()).env("PICOVISOR_CRASH_DIR", crashes.to_str().unwrap())
    }

    /// Looks for what is left of runs.
    fn left(&self) -> Left {
        let executable = self.executable.to_str().unwrap();
        let folder = self.folder.path().to_str().unwrap();
        let processes = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let link = std::fs::read_link(entry.path().join("exe")).ok()?;
            link.to_str()?.starts_with(executable).then(|| entry.file_name().to_string_lossy().into_owned())
        });
        let lines = |path: &str, word: &str| {
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
        };
        let folders = ["temporary", "work", "crashes"].map(|name| self.at(name));
        let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap().flatten());
        Left {
            processes: processes.collect(),
            sockets: lines("/proc/net/unix", &self.name()),
            files: files.map(|entry| entry.path()).collect(),
            mounts: lines("/proc/self/mountinfo", folder),
        }
    }
}

/// Processes, threads, files in memory and in the overlay, sockets and timers, and a line whenever something was done.
const BUSY: &str = "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); echo $i > /tmp/f$((i % 50)); (echo $i | cat) ; \
                    mkdir -p /var/tmp/picovisor-busy/$((i % 9)); rm -rf /var/tmp/picovisor-busy; done";

fn next_number(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Waits until a monitor's processor time has gone so far, or a program has written so many lines, whatever comes first.
fn wait_for_moment(child: &mut Child, out: &mut impl BufRead, state: &mut u64) {
    let number = next_number(state);
    if number.is_multiple_of(2) {
        // In its start: so many looks at it.
        for _ in 0..next_number(state) % 3000 {
            if child.try_wait().unwrap().is_some() {
                return;
            }
        }
    } else {
        let mut line = String::new();
        for _ in 0..next_number(state) % 40 {
            line.clear();
            out.read_line(&mut line).unwrap();
        }
    }
}

#[test]
fn a_monitor_that_is_killed_leaves_nothing() {
    need_kvm!();
    let place = Place::new();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for round in 0..25 {
        let command = place.run(&Command::new("/bin/sh").args(["-c", BUSY]));
        let mut child = command.std().spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        wait_for_moment(&mut child, &mut out, &mut state);
        kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        // Ends when nobody holds the other end any more.
        out.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "round {round}");
        assert_eq!(place.left(), Left::default(), "round {round}");
    }
    // And the next one finds the name free, and its own overlay usable.
    let outcome = place.run(&Command::new("/bin/sh").args(["-c", "echo fine > /var/tmp/x; cat /var/tmp/x"])).run();
    assert_eq!((outcome.status, outcome.text().as_str()), (0, "fine\n"), "{outcome:?}");
}

/// Starts a program that says that it is ready and waits for a line.
fn waiter(place: &Place) -> (Child, BufReader<std::process::ChildStdout>) {
    let command = Command::new(program("waiter.c", Link::Static)).args(["pause", "1"]);
    let mut child = place.run(&command).std().spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (child, out)
}

#[test]
fn a_monitor_that_crashes_ends_its_own_sandbox_with_a_line() {
    need_kvm!();
    for (signal, number) in [(Signal::SEGV, 11), (Signal::BUS, 7)] {
        let (first, second) = (Place::new(), Place::new());
        let (mut crashing, _out) = waiter(&first);
        let (mut other, _other_out) = waiter(&second);
        kill_process(Pid::from_child(&crashing), signal).unwrap();
        let mut errors = String::new();
        crashing.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!(crashing.wait().unwrap().code(), Some(125), "{errors}");
        let line = format!(
            "picovisor: the monitor itself crashed: signal {number}, sent by another process; the sandbox was stopped\n"
        );
        assert_eq!(errors, line);
        assert_eq!(first.left(), Left::default());
        // The neighbour has noticed nothing.
        kill_process(Pid::from_child(&other), Signal::TERM).unwrap();
        let status = other.wait().unwrap();
        assert!(status.code() == Some(7), "{status:?}");
    }
}

/// Numbers of a process: descriptors, threads, and KiB of memory of its own.
fn numbers(pid: u32) -> [u64; 3] {
    let count = |name: &str| std::fs::read_dir(format!("/proc/{pid}/{name}")).unwrap().count() as u64;
    // Not RssAnon of its status, which before Linux 6.17 is off by up to 32 pages a processor.
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let own = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")?.strip_suffix("kB")?.trim().parse().ok());
    [count("fd"), count("task"), own.unwrap()]
}

/// Looks until it is as expected, or that has not come for long: what it is then.
fn after_a_while<T>(look: impl Fn() -> T, expected: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let found = look();
        if expected(&found) || start.elapsed() > Duration::from_secs(100) {
            return found;
        }
        std::thread::yield_now();
    }
}

/// Runs a command so often.
#[track_caller]
fn run_often(place: &Place, times: u32) {
    for round in 0..times {
        let outcome = Command::new("/bin/true").sandboxed_by(&place.executable, &[]).run();
        assert_eq!((outcome.status, outcome.errors().as_str()), (0, ""), "round {round}");
    }
}

#[test]
fn two_hundred_runs_leave_nothing() {
    need_kvm!();
    let place = Place::new();
    run_often(&place, 200);
    assert_eq!(place.left(), Left::default());
}

#[test]
fn a_daemon_does_not_grow_with_the_runs_that_it_serves() {
    need_kvm!();
    let place = Place::new();
    let mut daemon = Command::new(&place.executable).args(["serve", "--spares", "2"]).std().spawn().unwrap();
    let mut line = String::new();
    let mut errors = BufReader::new(daemon.stderr.take().unwrap());
    errors.read_line(&mut line).unwrap();
    assert!(line.contains("ready"), "{line}");
    run_often(&place, 50);
    let before = numbers(daemon.id());
    run_often(&place, 150);
    // A spare more or less is on its way at any moment, and one that has served is gone a little later than its caller.
    let has_grown =
        |after: &[u64; 3]| after.iter().zip(before).zip([2, 0, 256]).any(|((after, before), by)| *after > before + by);
    let after = after_a_while(|| numbers(daemon.id()), |after| !has_grown(after));
    assert!(!has_grown(&after), "descriptors, threads, KiB: {before:?}, {after:?}");
    kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
    errors.read_to_string(&mut line).unwrap();
    daemon.wait().unwrap();
    // Monitors that have served end without anybody who waits for them, and lose their sockets last.
    let left = after_a_while(|| place.left(), |left| *left == Left::default());
    assert_eq!(left, Left::default());
}
