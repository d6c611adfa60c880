//! Random system calls by a guest program, against the whole monitor: whatever becomes of the program, the monitor does not fall over.
//!
//! `PICOVISOR_SEED` tries one seed, `PICOVISOR_ROUNDS` so many in a row after the usual ones.

use crate::harness::{Command, Link, need_kvm, program};
use std::ffi::OsStr;

/// Seeds that every run tries: two, and those that have found something.
const SEEDS: [u64; 4] = [1, 2, 121, 122];
/// Processes of a run, and what each calls.
const PROCESSES: &str = "24";
const CALLS: &str = "400";

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

fn check(seed: u64, patching: &str) {
    let chaos = Command::new(program("chaos.c", Link::Static)).arg(seed.to_string()).args([PROCESSES, CALLS]);
    let options = ["--no-serve", "--memory", "256M", "--pids", "64", "--timeout", "100s", patching];
    let outcome = chaos.sandboxed(&options.map(OsStr::new).as_slice()[..if patching.is_empty() { 7 } else { 8 }]).run();
    // The program may have lost its first process; 124 and 125 are the monitor's.
    assert!(!matches!(outcome.status, 124 | 125), "seed {seed}: {outcome:?}");
    assert!(!outcome.errors().contains("picovisor: "), "seed {seed}: {outcome:?}");
}

#[test]
fn random_calls_do_not_bring_the_monitor_down() {
    need_kvm!();
    if let Some(seed) = number("PICOVISOR_SEED") {
        return check(seed, "");
    }
    let rounds = number("PICOVISOR_ROUNDS").unwrap_or(0);
    for seed in SEEDS.into_iter().chain(1000..1000 + rounds) {
        check(seed, if seed % 3 == 0 { "--no-patch" } else { "" });
    }
}
