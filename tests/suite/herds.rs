//! Many processes and descriptors: a sandbox is bounded, and gives everything back.

use crate::harness::{Command, Link, Place, compare, need_kvm, program, scratch};
use rustix::process::{Pid, Signal, kill_process, test_kill_process_group};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

fn herd(args: &[&str]) -> Command {
    Command::new(program("herd.c", Link::Static)).args(args)
}

#[test]
fn a_thousand_processes_live_at_once() {
    need_kvm!();
    assert_eq!(compare(&herd(&["crowd", "1000"]), Place::Memory).text(), "1000 of 1000\n");
}

#[test]
fn a_fork_bomb_ends_at_the_limit_and_with_the_first_process() {
    need_kvm!();
    let outcome = herd(&["bomb"]).sandboxed(&["--pids".as_ref(), "100".as_ref()]).run();
    assert_eq!((outcome.status, outcome.text().as_str()), (5, "EAGAIN\n"), "{outcome:?}");
}

#[test]
fn children_that_copy_more_than_there_is_are_killed_and_the_parent_keeps_its_memory() {
    need_kvm!();
    let outcome = herd(&["hog"]).sandboxed(&["--memory".as_ref(), "100M".as_ref()]).run();
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(!outcome.text().contains(": no"), "{outcome:?}");
}

/// What the monitor holds: threads, descriptors and mappings of the host's.
fn held(monitor: u32) -> [usize; 3] {
    let list = |name: &str| std::fs::read_dir(format!("/proc/{monitor}/{name}")).unwrap().count();
    let maps = std::fs::read_to_string(format!("/proc/{monitor}/maps")).unwrap().lines().count();
    [list("task"), list("fd"), maps]
}

#[test]
fn short_lives_leave_nothing_behind() {
    need_kvm!();
    let mut child = herd(&["lives"]).sandboxed(&[]).std().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut go_on = child.stdin.take().unwrap();
    let mut rounds = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        assert_eq!(line.unwrap(), "round");
        rounds.push(held(child.id()));
        go_on.write_all(b"x").unwrap();
    }
    assert!(child.wait().unwrap().success());
    // A few virtual CPUs more may be hired when the host is busy; 800 lives would show.
    let grown = |at: usize| rounds[2][at].saturating_sub(rounds[0][at]);
    assert!((0..3).all(|at| grown(at) < 64), "threads, descriptors, mappings: {rounds:?}");
}

#[test]
fn a_hundred_thousand_descriptors_are_open_at_once() {
    need_kvm!();
    let options = ["--files", "100100", "--workdir", "/tmp"].map(AsRef::as_ref);
    let outcome = herd(&["descriptors", "100000"]).sandboxed(&options).run();
    let expected = "listed == sets * KINDS + 6: yes\n100000 of 100000\nstatus = 0\nsyscall(SYS_close_range, 3, ~0u, 0) = 0\neventfd(0, 0) = 3\n";
    assert_eq!((outcome.status, outcome.text().as_str()), (0, expected), "{outcome:?}");
}

#[test]
fn host_files_end_at_the_hosts_limit_and_nothing_else_does() {
    need_kvm!();
    let folder = scratch();
    // Inside a process may have more than the host gives.
    let options = ["--files".as_ref(), "65536".as_ref(), "--rw".as_ref(), folder.path().as_os_str()];
    let inside = herd(&["host-files"]).folder(folder.path()).sandboxed(&options).std();
    let script = "ulimit -n 1500; exec \"$0\" \"$@\"";
    let outcome = Command::new("/bin/sh")
        .args(["-c", script])
        .arg(inside.get_program())
        .args(inside.get_args())
        .folder(folder.path())
        .run();
    let expected = [
        "opened until ENFILE",
        "opened > 500: yes",
        "open(\"other\", O_RDWR | O_CREAT, 0600) = -1 ENFILE",
        "access(\"file0\", R_OK) = 0",
        "write(last, \"x\", 1) = 1",
        "pipe(ends): ok",
        "eventfd(0, 0): ok",
        "50 of 50",
        "status = 0",
        "open(\"file0\", O_RDONLY) == last = 1",
    ];
    assert_eq!(outcome.text().lines().collect::<Vec<_>>(), expected, "{outcome:?}");
}

#[test]
fn a_monitor_may_be_killed_at_any_moment() {
    need_kvm!();
    // From before the first process runs to when all are there; a quick herd may be through before.
    for threads in [0, 4, 8, 16, 32, 64, 128] {
        let mut child = herd(&["crowd", "150"]).sandboxed(&[]).std().spawn().unwrap();
        let pid = Pid::from_child(&child);
        let tasks = format!("/proc/{}/task", child.id());
        while child.try_wait().unwrap().is_none() && std::fs::read_dir(&tasks).is_ok_and(|all| all.count() < threads) {
            std::thread::yield_now();
        }
        // Not reaped yet, or gone: never another process.
        if child.try_wait().unwrap().is_none() {
            kill_process(pid, Signal::KILL).unwrap();
        }
        // Ends when nobody holds the other end any more.
        child.stdout.take().unwrap().read_to_string(&mut String::new()).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() || status.signal() == Some(9), "{threads} threads: {status:?}");
        assert_eq!(test_kill_process_group(pid), Err(rustix::io::Errno::SRCH), "a process is left");
    }
}
