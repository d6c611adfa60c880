//! The table of the monitor's own jail: that it has what the executable needs.

use crate::harness::{Command, picovisor, repository};
use std::collections::{BTreeMap, BTreeSet};

/// Calls that are in the executable and have no place in the jail, and what they belong to.
const BEFORE: &[(&str, &str)] = &[
    ("getcpu", "the C library, where there is no vDSO"),
    ("mremap", "answered with ENOSYS"),
    ("pread64", "loading signed providers, before the jail"),
    ("pwrite64", "unused part of the standard library"),
    ("rt_sigaction", "start of the standard library, and of a machine"),
    ("rt_sigtimedwait", "unused part of the C library"),
    ("set_robust_list", "answered with ENOSYS"),
    ("unlink", "the tool that signs providers"),
    ("clock_nanosleep", "unused part of the C library"),
    ("clock_getres", "the C library, where there is no vDSO"),
    ("dup", "unused part of the C library"),
    ("faccessat2", "unused part of the C library"),
    ("getgid", "unused part of the C library"),
    ("getuid", "reports of crashes, asked before the jail"),
    ("kill", "tools"),
    ("open", "rustix, where the C library's auxiliary vector is missing"),
    ("pipe2", "std::process"),
    ("poll", "start of the standard library"),
    ("preadv", "the C library's preadv2, where the host has none"),
    ("pwritev", "the C library's pwritev2, where the host has none"),
    ("readv", "the C library's preadv2, where the host has none"),
    ("socketpair", "the keeper, and the daemon"),
    ("sendmmsg", "name lookups of the C library, of which the monitor makes none"),
    ("waitid", "unused part of the C library"),
    ("writev", "the C library's pwritev2, where the host has none; its last words"),
    ("access", "start of the C library"),
    ("arch_prctl", "start of the C library"),
    ("chdir", "the keeper, which is another process"),
    ("chroot", "std::process, for programs to be started"),
    ("clone3", "answered with ENOSYS"),
    ("close_range", "start of the keeper"),
    ("execve", "std::process"),
    ("faccessat", "unused part of the C library"),
    ("fchdir", "std::process"),
    ("getpgid", "std::process"),
    ("mkdir", "unused part of the standard library"),
    ("pause", "unused part of the C library"),
    ("sched_get_priority_max", "threads with a priority, which none has"),
    ("sched_get_priority_min", "threads with a priority, which none has"),
    ("sched_getparam", "threads with a priority, which none has"),
    ("sched_getscheduler", "threads with a priority, which none has"),
    ("sched_setparam", "threads with a priority, which none has"),
    ("sched_setscheduler", "threads with a priority, which none has"),
    ("set_tid_address", "start of the C library"),
    ("setgid", "std::process"),
    ("setgroups", "std::process"),
    ("setitimer", "unused part of the C library"),
    ("setpgid", "std::process"),
    ("setresgid", "std::process"),
    ("setresuid", "std::process"),
    ("setsid", "the keeper"),
    ("setuid", "std::process"),
    ("pidfd_open", "std::process"),
    ("pidfd_send_signal", "std::process"),
    ("memfd_create", "loading signed providers, before the jail"),
    ("splice", "loading signed providers, before the jail"),
    ("rename", "the tool that signs providers"),
    ("signalfd4", "monitors that are started ahead, before they have a caller, and callers"),
];

/// Numbers of this architecture's calls by name, from the C library's header.
fn numbers() -> BTreeMap<u64, String> {
    let header = std::fs::read_to_string("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").unwrap();
    let line = |line: &str| {
        let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
        Some((number.parse().ok()?, name.to_owned()))
    };
    header.lines().filter_map(line).collect()
}

/// The number that an instruction puts into `register`, if it does.
fn constant(instruction: &str, register: &str) -> Option<u64> {
    let (operation, operands) = instruction.split_once(' ')?;
    let operands = operands.trim();
    let (from, to) = operands.rsplit_once(',')?;
    let is_register = to.strip_prefix("%e").or_else(|| to.strip_prefix("%r")) == Some(register);
    match operation {
        "mov" if is_register => u64::from_str_radix(from.strip_prefix("$0x")?, 16).ok(),
        "xor" if is_register && from == to => Some(0),
        _ => None,
    }
}

/// The host calls that an executable can make, as far as their numbers are constants near the instruction.
fn calls_in(executable: &str) -> BTreeSet<u64> {
    let listing =
        std::process::Command::new("objdump").args(["-d", "--no-show-raw-insn", executable]).output().unwrap();
    assert!(listing.status.success(), "objdump fails");
    let text = String::from_utf8_lossy(&listing.stdout);
    let (mut calls, mut before) = (BTreeSet::new(), Vec::new());
    for line in text.lines() {
        if line.ends_with(">:") {
            before.clear();
        }
        let Some(instruction) = line.split('\t').next_back().map(str::trim) else { continue };
        let register = if instruction.starts_with("syscall") {
            Some("ax")
        } else if instruction.starts_with("call") && instruction.ends_with("<syscall>") {
            Some("di")
        } else {
            None
        };
        let nearest = |register| before.iter().rev().take(40).find_map(|earlier: &&str| constant(earlier, register));
        calls.extend(register.and_then(nearest));
        before.push(instruction);
    }
    calls
}

#[test]
fn every_host_call_of_the_executable_has_its_line() {
    let numbers = numbers();
    let check = Command::picovisor().args(["check", "--json"]).run();
    let report: serde_json::Value = serde_json::from_slice(&check.out).unwrap();
    let table = report["host_calls"].as_array().unwrap();
    let allowed: BTreeSet<_> = table.iter().map(|line| line["name"].as_str().unwrap().to_owned()).collect();
    assert!(table.iter().all(|line| !line["reason"].as_str().unwrap().is_empty()));
    let calls = calls_in(picovisor().to_str().unwrap());
    let names: BTreeSet<_> = calls.iter().filter_map(|call| numbers.get(call).cloned()).collect();
    assert!(names.len() > 80, "objdump shows too few calls: {names:?}");
    let before: BTreeSet<_> = BEFORE.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missing: Vec<_> = names.iter().filter(|name| !allowed.contains(*name) && !before.contains(*name)).collect();
    let table = repository().join("src/jail/rules.rs");
    assert!(missing.is_empty(), "{missing:?} need a line in {} or here", table.display());
}
