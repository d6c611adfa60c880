//! `picovisor exec`: programs in a sandbox that runs already.

use crate::control::{Running, fail, succeed};
use crate::harness::{Command, Link, need_kvm, picovisor, program, scratch, tool};
use crate::terminal::Screen;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

/// A command that runs `argv` in the sandbox.
fn exec(sandbox: &Running, options: &[&str], argv: &[&str]) -> Command {
    Command::picovisor().arg("exec").args(options).arg(&sandbox.name).args(argv)
}

#[test]
fn a_program_runs_beside_the_first_with_the_callers_descriptors() {
    need_kvm!();
    let mut sandbox = Running::start("pause", 2);
    let script = "echo out; echo err >&2; cat; exit 3";
    let outcome = exec(&sandbox, &[], &["/bin/busybox", "sh", "-c", script]).input("in\n").run();
    assert_eq!((outcome.status, outcome.text(), outcome.errors()), (3, "out\nin\n".into(), "err\n".into()));
    // It sees the first program, and the first program's files are its own.
    let outcome = exec(&sandbox, &["-i"], &["busybox", "kill", "-USR1", "1"]).run();
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!((sandbox.line(), sandbox.line()), ("signal 10".to_owned(), "ready".to_owned()));
    assert_eq!(exec(&sandbox, &[], &["--", "busybox", "touch", "/tmp/mine"]).run().status, 0);
    let outcome = exec(&sandbox, &[], &["busybox", "ls", "/tmp"]).run();
    assert_eq!(outcome.text(), "mine\n");
    succeed(&["kill", &sandbox.name]);
    assert_eq!(sandbox.end().1, 137);
}

#[test]
fn a_file_can_be_handed_over_to_a_sandbox_that_had_none() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let folder = scratch();
    let target = folder.path().join("target");
    let script = r"
import os
os.write(1, b'0123456789'); os.fsync(1); os.fdatasync(1); os.ftruncate(1, 5); os.posix_fallocate(1, 0, 7)
print(os.lseek(1, 0, os.SEEK_SET), os.fstat(1).st_size, flush=True)
";
    let mut command = exec(&sandbox, &[], &[tool("python3").to_str().unwrap(), "-I", "-c", script]).std();
    let status = command.stdin(Stdio::null()).stdout(File::create(&target).unwrap()).status().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(std::fs::read(&target).unwrap(), b"0 7\n4\0\0");
}

#[test]
fn environment_folder_and_user_are_what_the_options_say() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let script = "echo $A $TERM $PWD $(busybox id -u) $(busybox id -g)";
    let shown = |options: &[&str]| {
        let outcome = exec(&sandbox, options, &["busybox", "sh", "-c", script]).env("A", "caller").run();
        assert_eq!(outcome.status, 0, "{outcome:?}");
        outcome.text()
    };
    assert_eq!(shown(&["-w", "/etc", "-u", "1234:99", "-e", "A=b"]), "b dumb /etc 1234 99\n");
    assert!(shown(&["-e", "A"]).starts_with("caller dumb /"));
    assert!(shown(&["-w", "/", "-u", "root", "-e", "TERM=x"]).starts_with("x / 0 0"));
    let refused = |options: &[&str]| {
        let outcome = exec(&sandbox, options, &["busybox", "true"]).run();
        assert_eq!(outcome.status, 125, "{outcome:?}");
        outcome.errors()
    };
    assert!(refused(&["-u", "nobody-knows"]).contains("has no user"));
    assert!(refused(&["-w", "/no/such"]).contains("/no/such"));
}

#[test]
fn what_cannot_run_is_refused_as_by_run() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    for (argv, status) in [(&["no-such-program"][..], 127), (&["/etc/passwd"], 126), (&["/etc"], 126)] {
        let outcome = exec(&sandbox, &[], argv).run();
        let native = Command::picovisor().args(["run", "--"]).args(argv).run();
        assert_eq!((outcome.status, outcome.errors()), (status, native.errors()), "{argv:?}");
    }
    assert!(fail(&["exec", "-t", &sandbox.name, "true"]).contains("not a terminal"));
    assert!(fail(&["exec", "no-such-sandbox", "true"]).contains("there is no sandbox"));
    // Nothing of them is left.
    let report = sandbox.report();
    let inside = report["processes"].as_array().unwrap().iter().filter(|process| process["kind"] == "pico").count();
    assert_eq!(inside, 1, "{report:#}");
}

#[test]
fn signals_are_passed_on_and_ps_shows_the_program() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let waiter = program("waiter.c", Link::Static);
    let mut child = exec(&sandbox, &[], &[waiter.to_str().unwrap(), "pause", "1"]).std().spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let report = sandbox.report();
    let inside: Vec<_> =
        report["processes"].as_array().unwrap().iter().filter(|process| process["kind"] == "pico").collect();
    assert_eq!(inside.len(), 2);
    assert!(inside[1]["pid"].as_u64() > Some(1) && inside[1]["parent"] == 0, "{report:#}");
    kill_process(Pid::from_child(&child), Signal::USR1).unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("signal 10\n", Some(7)));
}

#[test]
fn a_program_ends_with_its_sandbox() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let waiter = program("waiter.c", Link::Static);
    let mut child = exec(&sandbox, &[], &[waiter.to_str().unwrap(), "compute", "0"]).std().spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    succeed(&["kill", &sandbox.name]);
    assert_eq!(child.wait().unwrap().code(), Some(137));
    assert_eq!(sandbox.end().1, 137);
}

#[test]
fn a_program_hears_when_its_caller_is_gone() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let waiter = program("waiter.c", Link::Static);
    let mut child = exec(&sandbox, &[], &[waiter.to_str().unwrap(), "compute", "0"]).std().spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // SIGHUP ends it, and closes its output.
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!((line.as_str(), rest.as_str()), ("ready\n", ""));
}

#[test]
fn a_program_has_a_terminal_of_its_own_if_it_is_asked_for() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let picovisor = picovisor().to_str().unwrap();
    let script = "tty; stty size; echo $TERM; read line; echo got $line; exec bash --norc -i";
    let mut screen = Screen::start(false, &[picovisor, "exec", "-it", &sandbox.name, "bash", "-c", script]);
    screen.wait_for("/dev/pts/0\r\n33 101\r\ndumb\r\n");
    assert!(!screen.is_as_before(), "it is raw meanwhile");
    screen.type_in("hello\r");
    screen.wait_for("got hello\r\n");
    // Control-C is for the program, not for the command.
    screen.type_in("sh -c 'echo rea\"\"dy; exec sleep 1000'\r");
    screen.wait_for("ready\r\n");
    screen.type_in("\x03");
    screen.wait_for("^C\r\n");
    screen.type_in("exit 9\r");
    assert_eq!(screen.finish().1, Some(9));
}
