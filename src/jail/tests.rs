use super::kinds::{EVERY, KINDS};
use super::rules::{ABSENT, Arguments, REQUESTS, RULES, Rule, When, Whose};
use super::{AJAR, REFUSAL, compile, only_ajar};
use libc::{SECCOMP_RET_ALLOW as ALLOW, SECCOMP_RET_ERRNO};
use seccompiler::sock_filter;
use vmm::KVM_REQUESTS;

const OWN: u32 = 4711;
/// What a call ends in that there is not.
const MISSING: u32 = SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// What becomes of a call that no line allows.
fn refusal(call: i64) -> u32 {
    if ABSENT.iter().any(|absent| absent.call == call) { MISSING } else { REFUSAL }
}

#[test]
fn no_call_has_two_lines() {
    let mut calls: Vec<_> = RULES.iter().map(|rule| rule.call).collect();
    calls.sort_unstable();
    let count = calls.len();
    calls.dedup();
    assert_eq!(calls.len(), count);
    assert!(RULES.iter().all(|rule| !rule.reason.is_empty()));
    let always = |call| RULES.iter().any(|rule| rule.call == call && rule.counts(&[]));
    assert!(ABSENT.iter().all(|absent| !absent.instead.is_empty() && !always(absent.call)));
}

/// Runs a program as the host would; panics on what it would refuse.
fn verdict(program: &[sock_filter], architecture: u32, call: u32, arguments: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        0 => call,
        4 => architecture,
        _ => {
            let index = usize::try_from((offset - 16) / 8).unwrap();
            let shift = if offset.is_multiple_of(8) { 0 } else { 32 };
            u32::try_from(arguments[index] >> shift & 0xffff_ffff).unwrap()
        }
    };
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let mut branch = |taken: bool| at += usize::from(if taken { jt } else { jf });
        match code {
            0x20 => accumulator = word(k),
            0x54 => accumulator &= k,
            0x05 => at += usize::try_from(k).unwrap(),
            0x15 => branch(accumulator == k),
            0x35 => branch(accumulator >= k),
            0x06 => return k,
            _ => panic!("instruction {code:#x}"),
        }
    }
}

fn native(program: &[sock_filter], call: i64, arguments: [u64; 6]) -> u32 {
    verdict(program, 0xc000_003e, u32::try_from(call).unwrap(), arguments)
}

/// Arguments that a rule allows, and some that it does not.
fn examples(rule: &Rule) -> (Vec<[u64; 6]>, Vec<[u64; 6]>) {
    let with = |at: u8, value: u64| {
        let mut arguments = [0xdead_beef; 6];
        arguments[usize::from(at)] = value;
        arguments
    };
    match rule.arguments {
        Arguments::Any => (vec![[0; 6], [u64::MAX; 6]], vec![]),
        Arguments::Requests(at) => {
            let good = KVM_REQUESTS.iter().chain(REQUESTS).map(|(_, number)| with(at, (*number).into()));
            // TIOCSTI types for the user; KVM_CREATE_VM.
            (good.collect(), [0x5412, 0xae01, 0, u64::MAX].map(|bad| with(at, bad)).into())
        }
        Arguments::OneOf(at, values) => {
            (values.iter().map(|value| with(at, (*value).into())).collect(), vec![with(at, 0x7777)])
        }
        Arguments::Bits(at, mask, value) => {
            let others = !u64::from(mask);
            let good = vec![with(at, value.into()), with(at, others | u64::from(value))];
            let flipped = (0..32).filter(|bit| mask >> bit & 1 != 0).map(|bit| with(at, (value ^ 1 << bit).into()));
            (good, flipped.collect())
        }
        Arguments::Process(at, Whose::Own) => {
            (vec![with(at, OWN.into())], [0, 1, u64::MAX].map(|bad| with(at, bad)).into())
        }
        Arguments::Process(at, Whose::Zero) => (vec![with(at, 0)], vec![with(at, OWN.into())]),
    }
}

#[test]
fn the_program_does_what_the_table_says() {
    for holds in [&[][..], &[When::HostNetwork], &[When::Writable, When::Terminal], AJAR] {
        let program = compile::program(|rule| rule.counts(holds), None, OWN, REFUSAL);
        assert!(program.len() < 400, "{} instructions: the host takes long for so many", program.len());
        for call in (0..1200).chain([0x4000_0000, 0x4000_0010, 0xffff_ffff]) {
            let rule = RULES.iter().find(|rule| rule.call == call && rule.counts(holds));
            let (good, bad) = rule.map_or((vec![], vec![[0; 6]]), examples);
            for arguments in good {
                assert_eq!(native(&program, call, arguments), ALLOW, "{call} {arguments:x?}");
            }
            for arguments in bad {
                assert_eq!(native(&program, call, arguments), refusal(call), "{call} {arguments:x?}");
            }
        }
        for call in [0, 11, 59] {
            // i386's numbers mean other calls.
            assert_eq!(verdict(&program, 0x4000_0003, call, [0; 6]), REFUSAL);
        }
    }
}

#[test]
fn a_jail_that_was_ajar_is_as_close_as_another() {
    for holds in [&[When::Spare][..], &[When::Spare, When::Writable], &[When::Spare, When::Output]] {
        let program = compile::program(|rule| rule.counts(holds), None, OWN, REFUSAL);
        let ajar = compile::program(|rule| rule.counts(AJAR), None, OWN, REFUSAL);
        let rest = compile::refuse(&only_ajar(holds), REFUSAL);
        let mut differ = Vec::new();
        for call in (0..1200).chain([0xffff_ffff]) {
            let rule = RULES.iter().find(|rule| rule.call == call);
            let (good, bad) = rule.map_or((vec![], vec![[0; 6]]), examples);
            for arguments in good.into_iter().chain(bad) {
                let (whole, first) = (native(&program, call, arguments), native(&ajar, call, arguments));
                // Of two filters the one that refuses counts.
                let second = native(&rest, call, arguments);
                let both = if second == ALLOW { first } else { second };
                assert_eq!(both, whole, "{call} {arguments:x?}");
                if first != whole {
                    differ.push(call);
                }
            }
        }
        differ.sort_unstable();
        differ.dedup();
        let mut expected = only_ajar(holds);
        expected.sort_unstable();
        assert_eq!(differ, expected);
        assert!(differ.contains(&libc::SYS_getpgrp) && differ.contains(&libc::SYS_socket));
        assert_eq!(differ.contains(&libc::SYS_unlinkat), !holds.contains(&When::Writable));
    }
}

#[test]
fn a_thread_that_does_one_thing_may_do_less() {
    let always: Vec<_> = RULES.iter().filter(|rule| rule.counts(&[])).map(|rule| rule.call).collect();
    for kind in KINDS {
        let program = compile::only(&[EVERY, kind.calls].concat(), REFUSAL);
        let allowed = |call: &i64| native(&program, *call, [0; 6]) == ALLOW;
        let count = (0..1200).filter(allowed).count();
        assert_eq!(count, EVERY.len() + kind.calls.len(), "{kind:?}: a call twice");
        assert!(count < always.len() * 2 / 3, "{kind:?}");
        assert!(EVERY.iter().chain(kind.calls).all(|call| always.contains(call)), "{kind:?}: what the monitor may not");
        assert!(!allowed(&libc::SYS_clone), "{kind:?}: another thread would inherit it");
        assert!(ABSENT.iter().all(|absent| native(&program, absent.call, [0; 6]) == MISSING), "{kind:?}");
    }
}

#[test]
fn what_a_monitor_never_needs_is_not_in_the_table() {
    let never = [
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_clone3,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_bpf,
        libc::SYS_kexec_load,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_userfaultfd,
        libc::SYS_perf_event_open,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_setuid,
        libc::SYS_setgid,
        libc::SYS_setresuid,
        libc::SYS_personality,
        libc::SYS_reboot,
        libc::SYS_open_by_handle_at,
        libc::SYS_memfd_create,
    ];
    let all = [When::HostNetwork, When::Writable, When::Output, When::Terminal];
    let program = compile::program(|rule| rule.counts(&all), None, OWN, REFUSAL);
    // What only those make that have no caller yet.
    for call in [libc::SYS_getpgrp, libc::SYS_capset, libc::SYS_landlock_restrict_self] {
        assert_ne!(native(&program, call, [0; 6]), ALLOW, "{call}");
    }
    for call in never {
        assert_ne!(native(&program, call, [0; 6]), ALLOW, "{call}");
        assert!(RULES.iter().all(|rule| rule.call != call), "{call}");
    }
}
