//! Public test suites from outside the repository, where their folder is given, held against the list of known failures.
//!
//! `PICOVISOR_CONFORMANCE=DIR` names a folder with `cpython.sh`, `go-std.sh` and `stress-ng.sh`. Each runs its cases natively
//! and behind a prefix, prints a line `pass NAME …`, `FAIL NAME …` or `broken NAME …` for each, and exits with 0 or 1.
//! `PICOVISOR_CONFORMANCE_SUITES` names those to run, if not all; `PICOVISOR_CONFORMANCE_ARGS` holds more arguments for them.

use crate::harness::{need_kvm, picovisor, repository};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// The list in the repository: a line `SUITE NAME REASON…` for each case that fails, and why.
const LIST: &str = "tests/conformance/known-failures.txt";

const SUITES: [&str; 3] = ["cpython", "go-std", "stress-ng"];

/// The known failures of one suite, with their reasons.
fn known(suite: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(repository().join(LIST)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let mut list = BTreeMap::new();
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let (of, name) = (words.next().unwrap(), words.next().unwrap_or_default());
        let reason = words.next().unwrap_or_default().trim();
        assert!(
            SUITES.contains(&of) && !name.is_empty() && !reason.is_empty(),
            "{LIST}: not SUITE NAME REASON: {line}"
        );
        if of == suite {
            assert!(list.insert(name.to_owned(), reason.to_owned()).is_none(), "{LIST}: {suite} {name} is there twice");
        }
    }
    list
}

/// Runs one suite; answers what became of each case.
fn verdicts(folder: &Path, suite: &str) -> BTreeMap<String, String> {
    let prefix = format!("{} run --rw {{cwd}} --", picovisor().display());
    let more = std::env::var("PICOVISOR_CONFORMANCE_ARGS").unwrap_or_default();
    let mut command = Command::new(folder.join(format!("{suite}.sh")));
    command.args(["--prefix", &prefix]).args(more.split_whitespace()).stderr(Stdio::inherit());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    eprintln!("{text}");
    assert!(output.status.code().is_some_and(|code| code < 2), "{suite}.sh could not run: {}", output.status);
    let mut cases = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(verdict @ ("pass" | "FAIL" | "broken")), Some(name)) = (words.next(), words.next())
            && !name.starts_with("natively")
        {
            cases.insert(name.to_owned(), verdict.to_owned());
        }
    }
    assert!(!cases.is_empty(), "{suite}.sh named no case");
    cases
}

#[test]
fn external_suites_fail_only_where_the_list_says_so() {
    let Some(folder) = std::env::var_os("PICOVISOR_CONFORMANCE") else {
        eprintln!("skipped external_suites_fail_only_where_the_list_says_so: PICOVISOR_CONFORMANCE is not set");
        return;
    };
    need_kvm!();
    let chosen = std::env::var("PICOVISOR_CONFORMANCE_SUITES").unwrap_or_else(|_| SUITES.join(" "));
    let mut surprises = Vec::new();
    for suite in chosen.split_whitespace() {
        let known = known(suite);
        for (name, verdict) in verdicts(Path::new(&folder), suite) {
            match (verdict.as_str(), known.get(&name)) {
                ("FAIL", None) => surprises.push(format!("{suite} {name} fails, and the list does not say why")),
                ("pass", Some(reason)) => surprises.push(format!("{suite} {name} passes; the list says: {reason}")),
                _ => {}
            }
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

#[test]
fn the_list_of_known_failures_is_well_formed() {
    for suite in SUITES {
        known(suite);
    }
}
