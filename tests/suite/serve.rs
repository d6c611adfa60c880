//! `picovisor serve`: the same results by a monitor that was ready, one sandbox each, and nothing that is not the caller's own to do.
//!
//! Each test has a daemon of its own, for a copy of the executable: the others' runs are of another build, and find none.

use crate::harness::{Command, Link, Outcome, need_kvm, picovisor, program, scratch, tool};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr};

/// What a run with -v says of its start.
const SERVED: &str = "picovisor: started by picovisor serve\n";
const DIRECT: &str = "picovisor: started without picovisor serve: ";

/// A daemon, and the executable whose runs it serves.
struct Daemon {
    executable: PathBuf,
    child: Child,
    errors: BufReader<ChildStderr>,
    _folder: tempfile::TempDir,
}

impl Daemon {
    /// Starts one, and waits until its spares are ready.
    fn start(spares: u32) -> Self {
        let folder = scratch();
        let executable = folder.path().join("picovisor");
        copy_to(&executable);
        let mut command = Command::new(&executable).args(["serve", "--spares", &spares.to_string()]).std();
        let mut child = command.spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "{line}");
        Self { executable, child, errors, _folder: folder }
    }

    /// `picovisor run -v` of a command, with more options.
    fn run(&self, command: &Command, options: &[&str]) -> Command {
        let options: Vec<_> = ["-v"].iter().chain(options).map(AsRef::as_ref).collect();
        command.sandboxed_by(&self.executable, &options)
    }

    /// Runs a command until a spare has done it, which takes another try where none is ready yet. Without what -v says.
    #[track_caller]
    fn serve(&self, command: &Command, options: &[&str]) -> Outcome {
        loop {
            let mut outcome = self.run(command, options).run();
            let errors = outcome.errors();
            if errors.contains(SERVED) {
                let own = errors.split_inclusive('\n').filter(|line| !line.starts_with("picovisor: "));
                outcome.err = own.collect::<String>().into();
                return outcome;
            }
            let busy = errors.contains("picovisor: ran for") && !errors.contains(DIRECT);
            assert!(busy, "{command} is not served: {errors}");
        }
    }

    /// Runs a command that no spare may do; why not.
    #[track_caller]
    fn direct(&self, command: &Command, options: &[&str]) -> String {
        self.why_direct(&self.run(command, options))
    }

    /// As [`Self::direct`], of a whole command line.
    #[track_caller]
    fn why_direct(&self, command: &Command) -> String {
        loop {
            let outcome = command.run();
            let errors = outcome.errors();
            assert!(!errors.contains(SERVED), "{command} is served: {errors}");
            if let Some(why) = errors.lines().find_map(|line| line.strip_prefix(DIRECT.trim_end_matches('\n'))) {
                return why.to_owned();
            }
            assert!(errors.contains("picovisor: ran for"), "{errors}");
        }
    }

    /// The name of its socket, or of a spare's.
    fn address(&self, spare: Option<u32>) -> String {
        let file = std::fs::metadata(&self.executable).unwrap();
        let (device, inode, size) = (file.dev(), file.ino(), file.size());
        let uid = rustix::process::geteuid().as_raw();
        let name =
            format!("picovisor/{uid}/serve/{device:x}-{inode:x}-{size:x}-{:x}.{:x}", file.mtime(), file.mtime_nsec());
        spare.map_or(name.clone(), |spare| format!("{name}/{spare}"))
    }

    /// Ends it with a signal, and waits for it; what it still said, and its status.
    fn end(mut self, signal: Signal) -> (String, Option<i32>) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let status = self.child.wait().unwrap();
        let mut rest = String::new();
        self.errors.read_to_string(&mut rest).unwrap();
        (rest, status.code())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended; its number is not another's before it is waited for.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Copies the command under test. Another process does, since what is open for writing here is so in children that other tests are about
/// to start as well, and then it cannot be executed.
fn copy_to(executable: &Path) {
    let copied = std::process::Command::new(tool("cp")).arg(picovisor()).arg(executable).status().unwrap();
    assert!(copied.success());
}

fn connect(name: &str) -> std::io::Result<UnixStream> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
}

/// A served sandbox that runs the waiter, which has said that it is ready.
struct Served {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    /// Its control socket.
    control: UnixStream,
    monitor: Pid,
}

impl Served {
    fn start(daemon: &Daemon, name: &str, way: &str, signals: u32) -> Self {
        let waiter = Command::new(program("waiter.c", Link::Static)).arg(way).arg(signals.to_string()).input("");
        loop {
            let mut child = daemon.run(&waiter, &["--name", name]).std().spawn().unwrap();
            let mut output = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            let control = connect(&control_address(name)).unwrap();
            let monitor = socket_peercred(&control).unwrap().pid;
            if monitor != Pid::from_child(&child) {
                return Self { child, output, control, monitor };
            }
            // None was ready.
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Waits until the monitor's process is gone.
    fn wait_for_monitor(&self, monitor: &OwnedFd) {
        let mut end = [rustix::event::PollFd::new(monitor, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut end, None), Ok(1));
    }

    fn process(&self) -> OwnedFd {
        pidfd_open(self.monitor, PidfdFlags::empty()).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the sandbox of that name listens.
fn control_address(name: &str) -> String {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    let end = format!("/{name}");
    let mut names = table.lines().filter_map(|line| line.split_ascii_whitespace().nth(7)?.strip_prefix('@'));
    let is_its =
        |address: &&str| address.starts_with("picovisor/") && address.ends_with(&end) && !address.contains("/name/");
    names.find(is_its).expect("it listens").to_owned()
}

fn shell(script: &str) -> Command {
    Command::new("/bin/sh").args(["-c", script])
}

/// A command under a shell that changes what it inherits.
fn after(script: &str, command: &Command) -> Command {
    let command = command.std();
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let mut outer = Command::new("/bin/sh").args(["-c", &format!("{script}; exec \"$0\" \"$@\"")]).args(words);
    if let Some(folder) = command.get_current_dir() {
        outer = outer.folder(folder);
    }
    outer
}

#[test]
fn a_spare_does_what_a_run_does() {
    need_kvm!();
    let daemon = Daemon::start(2);
    let folder = scratch();
    let big = "i=0; while [ $i -lt 3000 ]; do echo line $i of a long text; i=$((i + 1)); done";
    let commands = [
        shell("echo out; echo err >&2; exit 7"),
        shell("kill -SEGV $$"),
        shell("cat; echo done").input("typed\n".repeat(20_000)),
        shell(big),
        shell("pwd; echo \"$VARIABLE\"; env | grep -c .").env("VARIABLE", "a b\n=c").folder(folder.path()),
        shell("umask; ulimit -a | grep -v -e 'open files' -e nofiles -e process"),
        shell("for fd in 0 1 2; do readlink /proc/self/fd/$fd >/dev/null && echo $fd; done"),
        shell("id -u; id -g; id -G; nproc"),
        Command::new("/bin/busybox").args(["echo", "", "x y", "--no-such-option"]),
    ];
    for command in commands {
        let (native, served) = (command.run(), daemon.serve(&command, &[]));
        assert_eq!(served, native, "{command}: {}", native.difference(&served));
    }
    // What its caller changes before.
    let command = shell("umask; ulimit -c; ulimit -f; ulimit -s; nproc; echo | cat");
    for before in
        ["umask 027", "ulimit -c 7; ulimit -f 1000; ulimit -s 4096", "trap '' HUP USR1", "exec <&-", "exec 2>&-"]
    {
        let native = after(before, &command).run();
        let mut outcome = after(before, &daemon.run(&command, &[])).run();
        while !before.contains("2>&-") && !outcome.errors().contains(SERVED) {
            assert!(!outcome.errors().contains(DIRECT), "{before}: {outcome:?}");
            outcome = after(before, &daemon.run(&command, &[])).run();
        }
        assert_eq!((outcome.status, outcome.text()), (native.status, native.text()), "{before}");
    }
    // A program that is not there, and one that is none.
    for program in ["/usr/no-such", "/etc/passwd"] {
        let command = Command::new(program);
        let (here, there) = (daemon.run(&command, &["--no-serve"]).run(), daemon.run(&command, &[]).run());
        assert_eq!((there.status, there.errors()), (here.status, here.errors()));
        assert!([126, 127].contains(&here.status), "{here:?}");
    }
}

#[test]
fn a_spare_serves_one_sandbox() {
    need_kvm!();
    let daemon = Daemon::start(2);
    let mut monitors: Vec<_> = (0..6)
        .map(|number| {
            let name = format!("serve-one-{}-{number}", std::process::id());
            let served = Served::start(&daemon, &name, "pause", 1);
            let listed = Command::picovisor().args(["ps", &name]).run();
            assert!(listed.text().contains("waiter"), "{listed:?}");
            let process = served.process();
            assert_eq!(Command::picovisor().args(["kill", &name]).run().status, 0);
            served.wait_for_monitor(&process);
            served.monitor.as_raw_nonzero()
        })
        .collect();
    monitors.sort_unstable();
    monitors.dedup();
    assert_eq!(monitors.len(), 6);
}

#[test]
fn signals_and_stops_go_through() {
    need_kvm!();
    let daemon = Daemon::start(1);
    let name = format!("serve-signals-{}", std::process::id());
    let mut served = Served::start(&daemon, &name, "pause", 3);
    let client = Pid::from_child(&served.child);
    for signal in [Signal::USR1, Signal::WINCH, Signal::TERM] {
        kill_process(client, signal).unwrap();
        let mut line = String::new();
        served.output.read_line(&mut line).unwrap();
        assert_eq!(line, format!("signal {}\n", signal.as_raw()));
        if signal != Signal::TERM {
            line.clear();
            served.output.read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
        }
    }
    assert_eq!(served.child.wait().unwrap().code(), Some(7));
    drop(served);

    let stopping = Command::new(program("waiter.c", Link::Static)).arg("stop").arg("0");
    loop {
        let child = daemon.run(&stopping, &[]).std().spawn().unwrap();
        let pid = Pid::from_child(&child);
        let wait = rustix::process::WaitOptions::UNTRACED;
        let (_, status) = rustix::process::waitpid(Some(pid), wait).unwrap().unwrap();
        assert!(status.stopped(), "{status:?}");
        kill_process(pid, Signal::CONT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "stopping\ncontinued\n");
        assert_eq!(output.status.code(), Some(7));
        if String::from_utf8_lossy(&output.stderr).contains(SERVED) {
            return;
        }
    }
}

#[test]
fn a_sandbox_ends_with_its_caller_and_its_caller_with_the_monitor() {
    need_kvm!();
    let daemon = Daemon::start(1);
    let name = |which: &str| format!("serve-{which}-{}", std::process::id());
    let mut served = Served::start(&daemon, &name("caller"), "compute", 1);
    let monitor = served.process();
    served.child.kill().unwrap();
    served.wait_for_monitor(&monitor);
    // Its socket is closed, and nobody holds its output.
    let mut rest = Vec::new();
    // A reset is an end as well: what was sent may not have been accepted yet.
    if let Err(error) = served.control.read_to_end(&mut rest) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    served.output.read_to_string(&mut String::new()).unwrap();

    let mut served = Served::start(&daemon, &name("monitor"), "compute", 1);
    kill_process(served.monitor, Signal::KILL).unwrap();
    let mut errors = String::new();
    served.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(errors, "picovisor: the monitor that ran the program has ended unexpectedly\n");
    assert_eq!(served.child.wait().unwrap().code(), Some(125));
}

#[test]
fn the_daemons_end_leaves_sandboxes_alone_and_nothing_else() {
    need_kvm!();
    for signal in [Signal::TERM, Signal::KILL] {
        let daemon = Daemon::start(2);
        let name = format!("serve-end-{}-{}", std::process::id(), signal.as_raw());
        let mut served = Served::start(&daemon, &name, "pause", 1);
        let (own, spares) = (daemon.address(None), [0, 1].map(|spare| daemon.address(Some(spare))));
        let ended = daemon.end(signal);
        assert_eq!(ended, (String::new(), (signal == Signal::TERM).then_some(0)));
        assert!(connect(&own).is_err());
        // Those who were asked to end were waited for; others end when they find it gone.
        while signal == Signal::KILL && spares.iter().any(|spare| connect(spare).is_ok()) {}
        assert!(spares.iter().all(|spare| connect(spare).is_err()));
        kill_process(Pid::from_child(&served.child), Signal::USR1).unwrap();
        let mut line = String::new();
        served.output.read_line(&mut line).unwrap();
        assert_eq!(line, "signal 10\n");
        assert_eq!(served.child.wait().unwrap().code(), Some(7));
    }
}

#[test]
fn what_cannot_be_handed_over_is_not() {
    need_kvm!();
    let daemon = Daemon::start(1);
    let hello = shell("echo hello");
    let folder = scratch();
    for options in [&["--net", "host"][..], &["--no-jail"], &["--upper", folder.path().to_str().unwrap()]] {
        assert_eq!(daemon.direct(&hello, options), "a spare cannot do what the options ask for", "{options:?}");
    }
    assert_eq!(daemon.direct(&hello, &["--no-serve"]), "it was told so");
    assert_eq!(daemon.direct(&hello.clone().env("PICOVISOR_SERVE", "off"), &[]), "it was told so");
    // Fewer rights than the daemon's.
    let confined = Command::new(tool("setpriv")).arg("--no-new-privs");
    let command = daemon.run(&hello, &[]).std();
    let confined = confined.arg(command.get_program()).args(command.get_args());
    assert_eq!(daemon.why_direct(&confined), "the spare's rights or namespaces are not the caller's");
    // A wrong command line is explained as ever.
    let (with, without) = (["run", "--memroy", "1G", "ls"], ["run", "--no-serve", "--memroy", "1G", "ls"]);
    let run = |args: &[&str]| Command::new(&daemon.executable).args(args).run();
    assert_eq!(run(&with), run(&without));
    // None of this has used the spare up.
    daemon.serve(&hello, &["--memory", "64M"]);
}

#[test]
fn without_a_daemon_a_run_does_it_itself() {
    need_kvm!();
    let folder = scratch();
    let executable = folder.path().join("picovisor");
    copy_to(&executable);
    let outcome = shell("echo hello").sandboxed_by(&executable, &["-v".as_ref()]).run();
    assert_eq!((outcome.status, outcome.text().as_str()), (0, "hello\n"));
    assert!(!outcome.errors().contains("picovisor serve"), "{outcome:?}");
}

#[test]
fn there_is_one_daemon() {
    need_kvm!();
    let daemon = Daemon::start(1);
    let second = Command::new(&daemon.executable).arg("serve").run();
    assert_eq!(second.status, 125);
    assert!(second.errors().contains("running already"), "{second:?}");
}

#[test]
fn strangers_get_nothing_and_break_nothing() {
    need_kvm!();
    let daemon = Daemon::start(1);
    let spare = daemon.address(Some(0));
    for bytes in
        [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"picorun1", &[b"picorun1", &[0xff; 24][..]].concat(), &[0; 4096]]
    {
        let mut stranger = connect(&spare).unwrap();
        // It may have hung up before everything is written.
        let _ = stranger.write_all(bytes);
        let _ = stranger.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stranger.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
    daemon.serve(&shell("true"), &[]);
}
