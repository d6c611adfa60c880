//! `picovisor serve`: the same results by a monitor that was ready, one sandbox each, and nothing that is not the caller's own to do.
//!
//! Each test has a daemon of its own. That a monitor of a daemon's is confined as any other is in `confined.rs`.

use crate::harness::serve::{DIRECT, Daemon, SERVED, connect, control_address, copy_to};
use crate::harness::{Command, Link, need_kvm, program, scratch, tool};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;

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
