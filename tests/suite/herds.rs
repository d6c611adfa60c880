//! Many processes: a sandbox is bounded, and gives everything back.

use crate::harness::{Command, Link, Place, compare, need_kvm, program};
use std::io::{BufRead, BufReader, Write};
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
