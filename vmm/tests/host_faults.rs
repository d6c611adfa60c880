//! A file that shrinks under its mapping: KVM fails without an address, and the program gets a page fault all the same.

#[path = "personality/mod.rs"]
mod personality;

use personality::{Event, Rig};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use vmm::addr::{UserAddr, UserRange};
use vmm::memory::{Access, HostFile, PageState};

const MAPPING: u64 = 0x1000_0000;

payload!(
    reads_when_told,
    "lea rdi, [rip + 9f]",
    "mov eax, 4",
    "syscall",
    "mov rdi, [0x10001000]", // there
    "mov eax, 7",
    "syscall",
    "2:",
    "pause",
    "cmp dword ptr [0x500000], 0",
    "je 2b",
    "mov rdi, [0x10000000]", // there still
    "mov eax, 7",
    "syscall",
    "mov rdi, [0x10001000]", // gone
    "mov eax, 7",
    "syscall",
    "ud2",
    "9:",
    "mov rdi, rdx",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
);

#[test]
fn a_page_that_the_host_cannot_supply_is_a_fault_with_its_address() {
    let Some(rig) = Rig::open(None) else { return };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[1; 8192]).unwrap();
    let metadata = file.metadata().unwrap();
    let shrinking = file.try_clone().unwrap();
    let host = Arc::new(HostFile::new(file.into(), metadata.dev(), metadata.ino(), true));
    let (process, _thread) = rig.start_prepared(reads_when_told(), |space| {
        let range = UserRange::new(UserAddr(MAPPING), 8192).unwrap();
        space.map_file(range, &host, 0, Access::READ | Access::WRITE, false).unwrap();
    });
    let ones = 0x0101_0101_0101_0101;
    rig.script.wait_for(|events| events.contains(&Event::Note(ones)));
    shrinking.set_len(4096).unwrap();
    let space = process.space();
    space.write(UserAddr(personality::DATA), &1_u32.to_le_bytes()).unwrap();
    rig.script.wait_for(|events| events.iter().any(|event| matches!(event, Event::ProcessEnd(_))));
    assert_eq!(rig.script.notes(), [ones, ones, MAPPING + 4096], "{:x?}", rig.script.events());
    assert!(matches!(space.page_state(UserAddr(MAPPING + 4096)), PageState::Bus | PageState::Absent));
}
