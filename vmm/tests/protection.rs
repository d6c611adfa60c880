//! Protection: each protected thing is changed for real, and seen. The changes go through /proc/self/mem, which takes no notice of
//! read-only mappings, sealed or not: the one way that is left to somebody who has the monitor's rights.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

#[path = "personality/mod.rs"]
mod personality;

use personality::{CODE, Event, Rig, run};
use std::fs::{File, OpenOptions};
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vmm::pico::{Host, ProtectedRange};
use vmm::protect::{Corruption, Failure, Sealing};

payload!(one_note, "mov eax, 7", "mov edi, 42", "syscall", "xor eax, eax", "syscall");
payload!(spin, "mov r15, 0x5eed", "mov eax, 7", "mov edi, 1", "syscall", "2: jmp 2b");

/// This process's memory, whatever its protection; `None` where the host's policy forbids it.
fn memory() -> Option<File> {
    static PROBE: u64 = 0x1234;
    let file = OpenOptions::new().read(true).write(true).open("/proc/self/mem").unwrap();
    let written = file.write_all_at(&PROBE.to_ne_bytes(), (&raw const PROBE).addr() as u64);
    if written.is_err() {
        println!("skipped: this host's policy keeps /proc/self/mem from writing to read-only memory");
    }
    written.is_ok().then_some(file)
}

/// Changes a bit of a byte, calls `look`, and changes it back.
fn tampered<T>(memory: &File, address: usize, look: impl FnOnce() -> T) -> T {
    let mut byte = [0];
    memory.read_exact_at(&mut byte, address as u64).unwrap();
    memory.write_all_at(&[byte[0] ^ 2], address as u64).unwrap();
    let result = look();
    memory.write_all_at(&byte, address as u64).unwrap();
    result
}

fn corruption(host: &Host) -> Corruption {
    match host.verify() {
        Err(Failure::Corrupt(corruption)) => *corruption,
        other => panic!("not noticed: {other:?}"),
    }
}

/// Changes a byte in each of some ranges, and expects the check to name that range and no other.
#[track_caller]
fn assert_each_is_caught(rig: &Rig, memory: &File, ranges: &[ProtectedRange]) {
    assert!(!ranges.is_empty());
    for range in ranges {
        for offset in [0, range.len() / 2, range.len() - 1] {
            let found = tampered(memory, range.address() + offset, || corruption(&rig.host));
            assert!(found.name.starts_with(range.name()), "{} found in place of {}", found.name, range.name());
            assert_ne!(Some(found.expected), found.actual);
            let verified = rig.host.verify().unwrap_or_else(|error| panic!("{error}, after {}", range.name()));
            assert!(verified.ranges > 0);
        }
    }
}

fn named(ranges: &[ProtectedRange], part: &str) -> Vec<ProtectedRange> {
    ranges.iter().filter(|range| range.name().contains(part)).cloned().collect()
}

/// A host on which a process has run.
struct Used {
    rig: Rig,
    /// The image is everybody's: one test at a time.
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Used {
    type Target = Rig;

    fn deref(&self) -> &Rig {
        &self.rig
    }
}

fn used_rig() -> Option<Used> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let rig = Rig::open(None)?;
    rig.run(one_note());
    assert_eq!(rig.script.notes(), [42]);
    Some(Used { rig, _turn: turn })
}

#[test]
fn a_changed_callback_table_is_caught() {
    let (Some(rig), Some(memory)) = (used_rig(), memory()) else { return };
    let ranges = named(&rig.host.protected_ranges().unwrap(), "callback table");
    assert_eq!(ranges.len(), 2, "the table, and the place that says where it is");
    // Once the place is changed the table it names is not to be used: only looked at from outside.
    assert_each_is_caught(&rig, &memory, &ranges[..1]);
    let place = &ranges[1];
    let found = tampered(&memory, place.address() + place.len() - 1, || rig.host.verify());
    assert!(found.is_err_and(|error| error.to_string().contains("the place of the callback table")));
}

#[test]
fn a_changed_table_of_the_provider_is_caught() {
    let (Some(rig), Some(memory)) = (used_rig(), memory()) else { return };
    let ranges = named(&rig.host.protected_ranges().unwrap(), "the script's table");
    assert_eq!(ranges.len(), 1);
    assert_each_is_caught(&rig, &memory, &ranges);
}

#[test]
fn changed_trap_code_and_descriptor_tables_are_caught() {
    let (Some(rig), Some(memory)) = (used_rig(), memory()) else { return };
    let all = rig.host.protected_ranges().unwrap();
    for name in [
        "the system-call entry",
        "the trap code",
        "the probe's code",
        "the interrupt descriptor table",
        "the global descriptor table",
        "the task-state segment",
    ] {
        assert_each_is_caught(&rig, &memory, &named(&all, name));
    }
    rig.run(one_note());
}

#[test]
fn changed_page_tables_of_the_supervisor_half_are_caught() {
    let (Some(rig), Some(memory)) = (used_rig(), memory()) else { return };
    let tables = named(&rig.host.protected_ranges().unwrap(), "of the supervisor half");
    assert!(tables.len() >= 3 && tables.len().is_multiple_of(3), "three tables for each virtual CPU");
    // Bit 1 of an entry is the right to write; the loop below tries entries that are empty, too.
    let lowest = &tables[2];
    let index = |address: u64| usize::try_from(address >> 12 & 511).unwrap() * 8;
    for page in [guest::layout::TRAP_PAGE, guest::layout::IDT, guest::layout::GDT, guest::layout::TSS] {
        let found = tampered(&memory, lowest.address() + index(page), || corruption(&rig.host));
        assert_eq!(found.name, lowest.name());
    }
    assert_each_is_caught(&rig, &memory, &tables);
}

#[test]
fn changed_code_and_constants_of_the_monitor_are_caught() {
    let (Some(rig), Some(memory)) = (used_rig(), memory()) else { return };
    static SOME: [u8; 64] = [7; 64];
    let some = std::hint::black_box(&SOME).as_ptr().addr();
    let found = tampered(&memory, some, || corruption(&rig.host));
    assert!(found.name.contains("constants of the monitor"), "{}", found.name);
    let code = std::hint::black_box(never_called as extern "C" fn() as *const ()).addr();
    let found = tampered(&memory, code, || corruption(&rig.host));
    assert!(found.name.contains("text of the monitor"), "{}", found.name);
    // A page that is a copy by now, and holds what the file holds, is no damage.
    rig.host.verify().unwrap();
    let relocated = named(&rig.host.protected_ranges().unwrap(), "relocated constants of the monitor");
    assert_eq!(relocated.len(), 1);
    let found = tampered(&memory, relocated[0].address() + relocated[0].len() - 1, || corruption(&rig.host));
    assert_eq!(found.name, relocated[0].name());
}

/// Code to tamper with.
#[inline(never)]
extern "C" fn never_called() {
    std::hint::black_box(0x5eed);
}

#[test]
fn changed_digests_are_caught() {
    let (Some(rig), Some(memory)) = (used_rig(), memory()) else { return };
    let digests = named(&rig.host.protected_ranges().unwrap(), "the digests");
    assert_eq!(digests.len(), 1);
    let last = digests[0].address() + digests[0].len() - 1;
    assert!(tampered(&memory, last, || rig.host.verify()).is_err());
    rig.host.verify().unwrap();
}

#[test]
fn protected_memory_cannot_be_made_writable() {
    let Some(rig) = used_rig() else { return };
    let protection = rig.host.protection();
    let best = Sealing::probe();
    assert_eq!(protection.callbacks, Some(best));
    assert_eq!(protection.trap_code, Some(best));
    assert_eq!(protection.image, best);
    if best == Sealing::ReadOnly {
        println!("skipped: this host has no mseal");
        return;
    }
    for range in rig.host.protected_ranges().unwrap() {
        // These two must stay writable: the processor's walks count as writes, and the place is among other things.
        if range.name().contains("supervisor half") || range.name().starts_with("the place") {
            continue;
        }
        let start = range.address() / 4096 * 4096;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: refused, as is asserted; if it were not, nothing would be written.
        let result = unsafe { libc::mprotect(std::ptr::with_exposed_provenance_mut(start), 4096, access) };
        let error = std::io::Error::last_os_error();
        assert_eq!((result, error.raw_os_error()), (-1, Some(libc::EPERM)), "{}", range.name());
    }
}

payload!(
    stores_to_the_supervisor_half,
    "lea rdi, [rip + 9f]",
    "mov eax, 4",
    "syscall",
    // Seven pages from the system-call entry on: see `guest::layout`. A store is four bytes long.
    "mov r15, -0x62a3d000",
    "mov r13d, 7",
    "mov r14d, 4",
    "2: mov qword ptr [r15 + 8], rax",
    "nop",
    "add r15, 0x1000",
    "dec r13d",
    "jnz 2b",
    "xor eax, eax",
    "syscall",
    "9:",
    "mov edi, r14d",
    "mov eax, 8",
    "syscall",
);

#[test]
fn ring_3_cannot_store_to_trap_code_or_descriptor_tables() {
    use guest::layout::{GDT, IDT, SYSCALL_PAGE, TRAP_PAGE, TSS};
    let Some(script) = run(stores_to_the_supervisor_half()) else { return };
    let faults: Vec<_> = script.exceptions().iter().map(|&(vector, _, address, _)| (vector, address)).collect();
    let expected: Vec<_> = (0..7).map(|page| (14, SYSCALL_PAGE + page * 4096 + 8)).collect();
    assert_eq!(faults, expected);
    for page in [SYSCALL_PAGE, TRAP_PAGE, IDT, GDT, TSS] {
        assert!(faults.contains(&(14, page + 8)), "{page:#x}");
    }
}

/// Set for a copy of this test program that is to be stopped.
const VICTIM: &str = "PICOVISOR_TEST_VICTIM";

#[test]
fn a_mismatch_stops_the_sandbox_with_bug_check_0x109() {
    if std::env::var_os(VICTIM).is_some() {
        return be_stopped();
    }
    let (Some(_used), Some(_)) = (used_rig(), memory()) else { return };
    let program = std::env::current_exe().unwrap();
    let name = "a_mismatch_stops_the_sandbox_with_bug_check_0x109";
    let victim = Command::new(program).args(["--exact", name, "--nocapture"]).env(VICTIM, "1").output().unwrap();
    let text = String::from_utf8_lossy(&victim.stderr);
    assert_eq!(victim.status.code(), Some(70), "{text}");
    assert!(text.contains("bug check 0x109 CRITICAL_STRUCTURE_CORRUPTION"), "{text}");
    assert!(text.contains("the interrupt descriptor table at 0x"), "{text}");
    // The thread that spins was stopped in user mode, and the report says where.
    assert!(text.contains(&format!("rip {CODE:#018x}")[..19]), "{text}");
    assert!(text.contains("r15 0x0000000000005eed"), "{text}");
    assert!(text.contains("System") && text.contains("integrity of System"), "{text}");
}

/// Lets a thread spin, changes a table while a guard comes by, and waits for the end.
fn be_stopped() {
    let rig = Rig::open(None).unwrap();
    rig.start(spin());
    rig.script.wait_for(|events| events.contains(&Event::Note(1)));
    let ranges = named(&rig.host.protected_ranges().unwrap(), "the interrupt descriptor table");
    rig.host.guardian().start(Duration::from_millis(1)).unwrap();
    // Nobody answers: this process is to be ended meanwhile.
    let (_keep, never) = channel::<()>();
    let _ = tampered(&memory().unwrap(), ranges[0].address() + 4095, || never.recv_timeout(Duration::from_secs(60)));
    std::process::exit(1);
}
