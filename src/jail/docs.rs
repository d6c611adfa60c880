//! The published list of host calls, a section of `docs/security.md`, generated from the table.

use super::kinds::{EVERY, KINDS};
use super::rules::{ABSENT, Arguments, RULES, Rule};
use libc::c_long;
use std::fmt::Write;
use std::path::Path;

const HEADING: &str = "## Host calls\n";

/// The section's text.
fn section() -> String {
    let always = RULES.iter().filter(|rule| rule.counts(&[])).count();
    let mut text = format!(
        "{HEADING}\n\
         <!-- Generated from the table of the jail; `UPDATE_DOCS=1 cargo test --bin picovisor docs` rewrites it. -->\n\n\
         A running monitor may make {always} host calls, and {} more where an option says so. Any other fails with `EPERM`, and ends a \
         monitor that was built with debug assertions. What lies in memory, as paths and the flags of `openat2` do, no filter sees.\n\n\
         | call | only with | arguments | what for |\n|---|---|---|---|\n",
        RULES.len() - always,
    );
    for rule in RULES {
        let name = rule.name.trim_start_matches("SYS_");
        let when: Vec<_> = rule.when.iter().map(|when| when.describe()).collect();
        let _ = writeln!(text, "| `{name}` | {} | {} | {} |", when.join(", "), arguments(rule), rule.reason);
    }
    text.push_str("\nThese fail with `ENOSYS` where no line above allows them:\n\n| call | instead |\n|---|---|\n");
    for absent in ABSENT {
        let _ = writeln!(text, "| `{}` | {} |", absent.name.trim_start_matches("SYS_"), absent.instead);
    }
    text.push_str("\nThreads that do one thing may make fewer calls:\n\n| threads | calls |\n|---|---|\n");
    for kind in KINDS {
        let name = |call: &c_long| RULES.iter().find(|rule| rule.call == *call).map_or("", |rule| &rule.name[4..]);
        let calls: Vec<_> = EVERY.iter().chain(kind.calls).map(|call| format!("`{}`", name(call))).collect();
        let _ = writeln!(text, "| {} | {} |", kind.threads.join(", "), calls.join(", "));
    }
    text
}

/// What is checked of a call's arguments, which are counted from 1.
fn arguments(rule: &Rule) -> String {
    match rule.arguments {
        Arguments::Any => String::new(),
        Arguments::Requests(at) => format!("{}: a request that the monitor uses", at + 1),
        Arguments::OneOf(at, values) => {
            let values: Vec<_> = values.iter().map(|value| format!("{value:#x}")).collect();
            format!("{}: {}", at + 1, values.join(", "))
        }
        Arguments::Bits(at, mask, value) => format!("{}: of the bits {mask:#x}, {value:#x}", at + 1),
        Arguments::Process(at, _) => format!("{}: the monitor's own process", at + 1),
    }
}

/// Puts the section into a page, in the place of the one that is there, or else at its end.
fn put(page: &str) -> String {
    let (before, rest) = page.split_once(HEADING).unwrap_or((page, ""));
    let after = rest.find("\n## ").map_or("", |at| &rest[at..]);
    format!("{before}{}{after}", section())
}

#[test]
fn the_published_list_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let page = std::fs::read_to_string(&path).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, put(&page)).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap();
    let why = "docs/security.md is out of date: UPDATE_DOCS=1 cargo test --bin picovisor docs";
    assert!(published.contains(HEADING) && published == put(&published), "{why}");
}

#[test]
fn the_section_alone_is_replaced() {
    let page = format!("# A\n\nb\n\n{HEADING}\nold\n\n## C\n\nd\n");
    assert_eq!(put(&page), format!("# A\n\nb\n\n{}\n## C\n\nd\n", section()));
    assert_eq!(put("# A\n\n"), format!("# A\n\n{}", section()));
}
