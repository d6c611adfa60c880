//! The ways in which a system call can be made give the same results: by trap, posted, answered in the guest, from a site
//! that was rewritten or not. `mixture.c` makes calls in random order, with signals arriving at any moment, checks what a
//! call may not change, and prints digests of what calls return: the same natively and in every way.

use crate::harness::{Command, Link, Place, assert_same, in_sandbox_with, need_kvm, program, scratch};

/// Numbers that decide what is called, and in which build.
const MIXTURES: &[(&str, Link)] = &[("1", Link::Static), ("2", Link::Dynamic), ("3", Link::Musl)];
/// What each actor does in a run.
const MANY: &str = "200";
/// The same where threads wait for the host thread that serves them whatever it costs: with few CPUs, a time slice each.
const FEW: &str = "10";

/// Runs all mixtures with posts taken at such times, with sites rewritten and without.
#[track_caller]
fn mix(posting: &str, operations: &str, place: Place) {
    for (seed, link) in MIXTURES {
        let command = Command::new(program("mixture.c", *link)).args([seed, operations]);
        let folder = scratch();
        let native = command.clone().folder(folder.path()).run();
        let sound = native.status == 0 && !native.text().contains("wrong:") && native.text().contains("status 0");
        assert!(sound, "{command} is broken natively:\n{native:?}");
        for patching in [&[][..], &["--no-patch"]] {
            let options = [&["--posting", posting], patching].concat();
            assert_same(&command, &native, &in_sandbox_with(&command, place, &options));
        }
    }
}

#[test]
fn calls_by_trap_are_the_measure() {
    need_kvm!();
    mix("never", MANY, Place::Memory);
}

#[test]
fn posted_calls_return_the_same() {
    need_kvm!();
    mix("always", FEW, Place::Memory);
}

#[test]
fn calls_posted_now_and_then_return_the_same() {
    need_kvm!();
    mix("flapping", MANY, Place::HostFolder);
}

#[test]
fn calls_posted_when_it_pays_return_the_same() {
    need_kvm!();
    mix("auto", MANY, Place::Overlay);
}
