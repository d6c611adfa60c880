//! Memory at its ends: huge reservations, much of it touched, deep stacks, limits.

use crate::harness::{Command, Link, Place, compare, need_kvm, program};
use std::io::{BufRead, BufReader};

fn memory(args: &[&str]) -> Command {
    Command::new(program("memory.c", Link::Static)).args(args)
}

#[test]
fn reserving_terabytes_costs_nothing() {
    need_kvm!();
    compare(&memory(&["reserve"]), Place::Memory);
}

#[test]
fn two_gibibytes_can_be_touched_and_given_back() {
    need_kvm!();
    // Half of a small machine's memory may be less: then half a gibibyte must do.
    let total = rustix::system::sysinfo();
    let size = if total.totalram * u64::from(total.mem_unit) >= 6 << 30 { "2048" } else { "512" };
    compare(&memory(&["touch", size]), Place::Memory);
}

#[test]
fn stacks_grow_to_their_limit() {
    need_kvm!();
    compare(&memory(&["stack"]), Place::Memory);
}

#[test]
fn the_limit_holds() {
    need_kvm!();
    let command = memory(&["grow", "300"]);
    assert_eq!(compare(&command, Place::Memory).text(), "grown\n");
    let outcome = command.sandboxed(&["--memory".as_ref(), "64M".as_ref()]).run();
    // As with Linux's OOM killer.
    assert_eq!(outcome.status, 137, "{outcome:?}");
    let enough = command.sandboxed(&["--memory".as_ref(), "400M".as_ref()]).run();
    assert_eq!(enough.status, 0, "{enough:?}");
}

#[test]
fn mapping_more_than_the_limit_is_not_using_it() {
    need_kvm!();
    let outcome = memory(&["reserve"]).sandboxed(&["--memory".as_ref(), "64M".as_ref()]).run();
    assert_eq!(outcome.status, 0, "{outcome:?}");
}

#[test]
fn the_monitor_itself_is_small() {
    need_kvm!();
    let command = Command::new(program("waiter.c", Link::Static)).arg("pause").arg("1").sandboxed(&[]);
    let mut child = command.std().spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // Pages of the executable belong to the page cache and differ between profiles; what counts is what is written.
    let kilobytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:")?.strip_suffix("kB")?.trim().parse().ok())
        .expect("the status file of a process has RssAnon");
    assert!(kilobytes <= 8 << 10, "the monitor of a small program holds {kilobytes} KiB");
}

#[test]
fn a_program_may_use_more_than_the_limit_if_its_pages_compress() {
    need_kvm!();
    let command = Command::new(program("cold.c", Link::Static)).args(["96"]);
    let native = compare(&command, Place::Memory).text();
    let outcome = command.sandboxed(&["--memory".as_ref(), "48M".as_ref()]).run();
    assert_eq!((outcome.status, outcome.text()), (0, native), "{outcome:?}");
}
