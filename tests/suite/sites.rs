//! Call sites: that they are rewritten where they may be, and by whom that is not seen.

use crate::harness::{Command, Link, Place, in_sandbox, need_kvm, program};
use std::ffi::OsStr;

/// What the program says its code looks like to itself once it is hot.
fn looks(options: &[&OsStr]) -> String {
    let command = Command::new(program("sites.c", Link::Static)).arg("look").sandboxed(options);
    let outcome = command.run();
    assert_eq!(outcome.status, 0, "{command}: {outcome:?}");
    outcome.text().trim().to_owned()
}

#[test]
fn hot_sites_are_rewritten_unless_that_is_unwanted() {
    need_kvm!();
    assert_eq!(looks(&[]), "other bytes");
    assert_eq!(looks(&[OsStr::new("--no-patch")]), "the same");
}

#[test]
fn what_is_traced_is_left_alone() {
    need_kvm!();
    let scratch = crate::harness::scratch();
    let trace = scratch.path().join("trace");
    assert_eq!(looks(&["--strace".as_ref(), "-o".as_ref(), trace.as_ref()]), "the same");
}

#[test]
fn a_program_without_patches_does_the_same() {
    need_kvm!();
    let command = Command::new(program("sites.c", Link::Dynamic));
    let patched = in_sandbox(&command, Place::Memory);
    let plain = command.sandboxed(&[OsStr::new("--no-patch")]).run();
    assert_eq!(patched, plain);
}
