//! What stops a sandbox whose monitor is tampered with: the bug check, its line and its report.

use crate::harness::{Command, need_kvm, scratch};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Child;

/// Starts a sandbox that says when it runs, and then sleeps.
fn sleeper(options: &[&str], crashes: &str) -> Child {
    let command = Command::new("sh").args(["-c", "echo ready; exec sleep 1000"]);
    let options: Vec<_> = options.iter().map(AsRef::as_ref).collect();
    let mut child = command.sandboxed(&options).env("PICOVISOR_CRASH_DIR", crashes).std().spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// Changes a byte among the constants of another process's program: one of the ELF header's that mean nothing. `false`: the
/// host's policy forbids it.
pub(crate) fn tamper(child: &Child) -> bool {
    const PADDING: u64 = 12;
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
    let first = maps.lines().find(|line| line.contains(" r--p ") && line.contains("picovisor")).unwrap();
    let start = u64::from_str_radix(first.split('-').next().unwrap(), 16).unwrap();
    let memory = OpenOptions::new().write(true).open(format!("/proc/{}/mem", child.id()));
    let changed = memory.and_then(|memory| memory.write_all_at(&[0xa5], start + PADDING));
    if let Err(error) = &changed {
        eprintln!("skipped: this host's policy keeps the monitor's memory from being changed: {error}");
    }
    changed.is_ok()
}

#[test]
fn a_monitor_that_was_changed_stops_its_sandbox() {
    need_kvm!();
    let folder = scratch();
    let crashes = folder.path().join("new/crashes");
    let mut child = sleeper(&["--integrity", "10ms"], crashes.to_str().unwrap());
    if !tamper(&child) {
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    }
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(125), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(
        errors.starts_with("picovisor: bug check 0x109 CRITICAL_STRUCTURE_CORRUPTION: constants of the"),
        "{errors}"
    );
    let (_, path) = errors.trim_end().split_once("; the report is in ").unwrap();
    let report = std::fs::read_to_string(path).unwrap();
    for part in ["constants of the monitor (page 0)", "expected", "actual", "Virtual CPUs", "Processes", "1 System"] {
        assert!(report.contains(part), "{report}");
    }
    let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(path), mode(crashes.to_str().unwrap())), (0o600, 0o700));
}
