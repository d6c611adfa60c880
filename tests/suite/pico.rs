//! `docs/pico.md`: every row of the pico-process contract is there, what implements it exists, and so does the test that proves it.

use crate::harness::repository;
use std::collections::BTreeMap;

const DOCUMENT: &str = "docs/pico.md";

/// The rows, by the names that the contract gives them.
const ROWS: [&str; 38] = [
    // Minimal processes.
    "No image, no content, no thread",
    "Minimal thread",
    "System",
    "Memory Compression",
    "Secure System",
    // Pico processes.
    "Pico process",
    "Every transition goes to the provider",
    "The host schedules threads",
    "The host commits memory",
    // Downcalls.
    "Routines: Size",
    "CreateProcess",
    "CreateThread",
    "GetProcessContext, GetThreadContext",
    "GetContextThreadInternal, SetContextThreadInternal",
    "SuspendThread, ResumeThread, TerminateThread",
    "SetThreadDescriptorBase",
    "TerminateProcess",
    // Upcalls.
    "Provider routines: Size",
    "DispatchSystemCall",
    "DispatchException",
    "DispatchException during I/O",
    "ExitThread, ExitProcess",
    "TerminateProcess (upcall)",
    "WalkUserStack",
    "ProtectedRanges",
    "GetAllocatedProcessImageName",
    "OpenProcessAllowedAccess, OpenThreadAllowedAccess",
    "SubsystemInformationType",
    // Registration.
    "One provider a host",
    "Registration closes with the first process",
    "One hand-over",
    "Only a signed provider",
    "Tables are size-first",
    // Protection.
    "Callback tables are sealed",
    "Trap code and descriptor tables are read-only",
    "Integrity is checked while the system runs",
    "Bug check 0x109",
    // Lessons.
    "Visible from day one",
];

/// A row's cells behind its name: what implements it, and what proves it, as `path::name` each.
struct Row {
    implemented: Vec<String>,
    proved: Vec<String>,
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn rows() -> BTreeMap<String, Row> {
    let text = std::fs::read_to_string(repository().join(DOCUMENT)).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, implemented, proved] = cells[..] else { panic!("{DOCUMENT}: not four cells: {line}") };
        if name == "contract" || name.starts_with("---") {
            continue;
        }
        let row = Row { implemented: quoted(implemented), proved: quoted(proved) };
        assert!(rows.insert(name.to_owned(), row).is_none(), "{DOCUMENT}: {name} is there twice");
    }
    rows
}

/// Whether `text` defines an item, a variant or a field of that name.
fn defines(text: &str, name: &str) -> bool {
    const KEYWORDS: [&str; 9] = ["fn", "struct", "enum", "trait", "const", "static", "type", "mod", "macro_rules!"];
    let whole = |line: &str, at: usize, end: usize| {
        let part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let bytes = line.as_bytes();
        !part(at.checked_sub(1).and_then(|before| bytes.get(before))) && !part(bytes.get(end))
    };
    text.lines().any(|line| {
        let line = line.trim_start();
        let found = |at: usize| {
            let before = line[..at].trim_end();
            let keyword = before.split([' ', '(', ')']).next_back().unwrap_or_default();
            // A variant or a constant of bitflags begins its line.
            whole(line, at, at + name.len()) && (KEYWORDS.contains(&keyword) || before.is_empty() || before == "pub")
        };
        line.match_indices(name).any(|(at, _)| found(at))
    })
}

/// Checks that `reference`, a `path::name`, names something in that file, and hands the file's text on.
fn resolve(row: &str, reference: &str) -> (String, String) {
    let (path, name) =
        reference.split_once("::").unwrap_or_else(|| panic!("{DOCUMENT}: {row}: not path::name: {reference}"));
    let text = std::fs::read_to_string(repository().join(path))
        .unwrap_or_else(|error| panic!("{DOCUMENT}: {row}: {path}: {error}"));
    assert!(defines(&text, name), "{DOCUMENT}: {row}: {path} defines no {name}");
    (text, name.to_owned())
}

#[test]
fn every_row_of_the_contract_is_implemented_and_proved() {
    let rows = rows();
    let missing: Vec<_> = ROWS.iter().filter(|name| !rows.contains_key(**name)).collect();
    assert!(missing.is_empty(), "{DOCUMENT} lacks {missing:?}");
    let unknown: Vec<_> = rows.keys().filter(|name| !ROWS.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "{DOCUMENT} has rows that no contract knows: {unknown:?}");
    for (name, row) in &rows {
        assert!(!row.implemented.is_empty() && !row.proved.is_empty(), "{DOCUMENT}: {name} has an empty cell");
        for reference in &row.implemented {
            resolve(name, reference);
        }
        for reference in &row.proved {
            let (text, test) = resolve(name, reference);
            let marked = text.split("#[test]").skip(1).any(|rest| {
                let line = rest.lines().find(|line| line.trim_start().starts_with("fn "));
                line.is_some_and(|line| {
                    line.trim_start().strip_prefix("fn ").is_some_and(|rest| rest.starts_with(&format!("{test}(")))
                })
            });
            assert!(marked, "{DOCUMENT}: {name}: {reference} is no test");
        }
    }
}

#[test]
fn a_reference_needs_a_definition_of_that_very_name() {
    let text = "pub(crate) fn alpha() {}\n    const BETA = 1;\n    /// gamma\n    Delta,\n    let alphabet = 3;";
    for (name, is) in [("alpha", true), ("BETA", true), ("gamma", false), ("Delta", true), ("alphabet", false)] {
        assert_eq!(defines(text, name), is, "{name}");
    }
}
