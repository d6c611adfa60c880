//! The list of what is built into the command, and under which licences: `docs/licenses.md` is made from Cargo's own word.
//! `deny.toml` says which licences there may be.

use crate::harness::repository;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const HEAD: &str = "# Licences\n\n\
    Picovisor is licensed under Apache-2.0 or MIT, at your choice. The command contains these crates of others, under the licences that \
    they name. `UPDATE_DOCS=1 cargo test --test suite licenses` makes this list; `cargo deny check licenses bans sources` checks it against \
    [deny.toml](../deny.toml).\n\n\
    | crate | version | licence |\n|---|---|---|\n";

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"];
    let output = std::process::Command::new(cargo).args(arguments).current_dir(repository()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The packages that the command is made of: what it depends on, and what that does, less what only builds and tests need.
fn contained(metadata: &Value) -> BTreeSet<String> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: BTreeMap<_, _> = nodes.iter().map(|node| (node["id"].as_str().unwrap(), node)).collect();
    let mut found = BTreeSet::new();
    let mut waiting = vec![metadata["resolve"]["root"].as_str().unwrap()];
    while let Some(id) = waiting.pop() {
        if !found.insert(id.to_owned()) {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                waiting.push(dependency["pkg"].as_str().unwrap());
            }
        }
    }
    found
}

#[test]
fn the_list_of_licences_is_up_to_date() {
    let metadata = metadata();
    let contained = contained(&metadata);
    let mut text = HEAD.to_owned();
    for package in metadata["packages"].as_array().unwrap() {
        let word = |key: &str| package[key].as_str().unwrap_or_default();
        if package["source"].is_null() || !contained.contains(word("id")) {
            continue;
        }
        assert!(!word("license").is_empty(), "{} names no licence", word("name"));
        writeln!(
            text,
            "| [{name}](https://crates.io/crates/{name}) | {} | {} |",
            word("version"),
            word("license"),
            name = word("name")
        )
        .unwrap();
    }
    let path = repository().join("docs/licenses.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/licenses.md is out of date: UPDATE_DOCS=1 cargo test --test suite licenses");
}
