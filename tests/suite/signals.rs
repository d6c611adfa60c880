//! Deaths by signal with the right status, and signals that come from outside.

use crate::harness::{Command, Link, Place, compare, need_kvm, program, scratch};
use rustix::process::{Pid, Signal, kill_process, test_kill_process_group};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};

#[test]
fn deaths_have_their_status() {
    need_kvm!();
    let ways = [
        ("segv", 139),
        ("fpe", 136),
        ("ill", 132),
        ("trap", 133),
        ("bus", 135),
        ("text", 139),
        ("stack", 139),
        ("abort", 134),
        ("handler-without-stack", 139),
        ("blocked-fault", 139),
        ("ignored-fault", 139),
        ("bad-return", 139),
        ("exit-big", 0x34),
        ("exit-negative", 255),
        ("thread-exit", 7),
        ("file-size", 153),
        ("", 0),
    ];
    for (way, status) in ways {
        let native = compare(&Command::new(program("death.c", Link::Static)).arg(way), Place::Memory);
        assert_eq!(native.status, status, "{way} is broken natively");
    }
}

#[test]
fn every_signal_has_its_default_action() {
    need_kvm!();
    // SIGSTOP, SIGTSTP, SIGTTIN and SIGTTOU stop; 32 and 33 belong to the C library.
    for signal in (1..=64).filter(|signal| ![19, 20, 21, 22, 32, 33].contains(signal)) {
        let native =
            compare(&Command::new(program("death.c", Link::Static)).arg(format!("signal{signal}")), Place::Memory);
        let ignored = [17, 18, 23, 28].contains(&signal);
        assert_eq!(native.status, if ignored { 0 } else { 128 + signal }, "signal {signal} is broken natively");
    }
}

/// Starts a waiter, sends it a signal each time it is ready, and returns what else it prints and how it ends.
fn signalled(command: &Command, signals: &[Signal]) -> (String, i32) {
    let mut child = command.std().spawn().unwrap();
    let pid = Pid::from_child(&child);
    let mut signals = signals.iter();
    let mut rest = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "ready" {
            kill_process(pid, *signals.next().expect("it is ready once for each signal")).unwrap();
        } else {
            rest += &line;
            rest += " ";
        }
    }
    let status = child.wait().unwrap();
    (rest, status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap())
}

#[test]
fn signals_from_outside_reach_the_program() {
    need_kvm!();
    let program = Command::new(program("waiter.c", Link::Static));
    let all = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::WINCH, Signal::TERM];
    for way in ["pause", "compute", "poll"] {
        let command = program.clone().arg(way).arg(all.len().to_string());
        // A pipe that stays open, so that a read waits.
        let command = command.input("");
        let native = signalled(&command, &all);
        let ours = signalled(&command.sandboxed(&[]), &all);
        assert_eq!(ours, native, "{way}");
        assert_eq!(native.1, 7, "{way} is broken natively: {}", native.0);
    }
}

#[test]
fn a_signal_from_outside_kills_by_default() {
    need_kvm!();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1] {
        for way in ["pause", "compute"] {
            let command = Command::new(program("waiter.c", Link::Static)).arg(way).arg("0");
            assert_eq!(signalled(&command.sandboxed(&[]), &[signal]), (String::new(), 128 + signal.as_raw()), "{way}");
        }
    }
}

/// Runs a command whose caller ignores SIGHUP, sends it signals once it is ready, and returns what it prints then and its end.
fn under_nohup(command: &Command, signals: &[Signal]) -> (String, Option<i32>) {
    let command = command.std();
    let args: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(ToOwned::to_owned).collect();
    let script = "trap '' HUP; exec \"$0\" \"$@\"";
    let mut child = Command::new("/bin/sh").arg("-c").arg(script).args(args).std().spawn().unwrap();
    let pid = Pid::from_child(&child);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    signals.iter().for_each(|signal| kill_process(pid, *signal).unwrap());
    line.clear();
    lines.read_to_string(&mut line).unwrap();
    let status = child.wait().unwrap();
    (line, status.code().or_else(|| status.signal().map(|signal| 128 + signal)))
}

#[test]
fn what_the_caller_ignores_is_ignored_until_the_program_handles_it() {
    need_kvm!();
    let waiter = Command::new(program("waiter.c", Link::Static)).arg("pause");
    // It handles no signal; and it handles all.
    for (handled, signals) in [("0", &[Signal::HUP, Signal::TERM][..]), ("1", &[Signal::HUP])] {
        let waiter = waiter.clone().arg(handled);
        let native = under_nohup(&waiter, signals);
        assert_eq!(under_nohup(&waiter.sandboxed(&[]), signals), native);
        let expected = if handled == "0" { (String::new(), Some(143)) } else { ("signal 1\n".to_owned(), Some(7)) };
        assert_eq!(native, expected, "it is broken natively");
    }
}

#[test]
fn a_time_limit_ends_the_sandbox() {
    need_kvm!();
    for way in ["pause", "compute", "ignore"] {
        let command = Command::new(program("waiter.c", Link::Static)).arg(way).arg("1");
        let outcome = command.sandboxed(&["--timeout".as_ref(), "300ms".as_ref()]).run();
        assert_eq!((outcome.status, outcome.text().as_str()), (124, "ready\n"), "{way}: {}", outcome.errors());
        assert_eq!(outcome.errors(), "picovisor: ended after 300ms (--timeout)\n");
    }
    let quick =
        Command::new("/bin/busybox").args(["echo", "hi"]).sandboxed(&["--timeout".as_ref(), "1m".as_ref()]).run();
    assert_eq!((quick.status, quick.text().as_str()), (0, "hi\n"));
}

#[test]
fn a_stop_stops_the_launcher_until_it_continues() {
    need_kvm!();
    let command = Command::new(program("waiter.c", Link::Static)).arg("stop").arg("0").sandboxed(&[]);
    let mut child = command.std().spawn().unwrap();
    let pid = Pid::from_child(&child);
    let wait = rustix::process::WaitOptions::UNTRACED;
    let (_, status) = rustix::process::waitpid(Some(pid), wait).unwrap().unwrap();
    assert!(status.stopped(), "{status:?}");
    kill_process(pid, Signal::CONT).unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "stopping\ncontinued\n");
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn nothing_outlives_the_monitor() {
    need_kvm!();
    // Processes that run and that sleep, deaf to what can be ignored.
    let crowd = "trap '' HUP INT TERM; for i in 1 2; do (while :; do :; done) & sleep 1000 & done; touch file; echo ready; wait";
    let command = Command::new("/bin/busybox").args(["sh", "-c", crowd]);
    for limit in [None, Some("2s")] {
        let folder = scratch();
        let options: Vec<_> = limit.iter().flat_map(|limit| ["--timeout".as_ref(), limit.as_ref()]).collect();
        let mut child =
            command.clone().folder(folder.path()).sandboxed(&options).std().process_group(0).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        if limit.is_none() {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            kill_process(pid, Signal::KILL).unwrap();
        }
        // Ends when nobody holds the other end any more.
        lines.read_to_string(&mut String::new()).unwrap();
        let status = child.wait().unwrap();
        let expected = if limit.is_none() { (None, Some(9)) } else { (Some(124), None) };
        assert_eq!((status.code(), status.signal()), expected);
        assert_eq!(test_kill_process_group(pid), Err(rustix::io::Errno::SRCH), "a process is left");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a file is left");
    }
}
