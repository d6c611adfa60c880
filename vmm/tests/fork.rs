//! Forks under a running guest: what processors see of shared frames, on both sides, whoever stores first.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is the test's failure")]

#[path = "personality/mod.rs"]
mod personality;

use personality::{Event, Rig};
use vmm::addr::{UserAddr, UserRange};
use vmm::memory::{Access, AddressSpace};

/// Where the pages under test lie, and how many: more than a fork copies at once.
const AREA: u64 = 0x6000_0000;
const PAGES: u64 = 256;

fn small_pages(space: &AddressSpace) {
    let area = UserRange::new(UserAddr(AREA), PAGES * 4096).unwrap();
    space.map_anonymous(area, Access::READ | Access::WRITE, false).unwrap();
}

fn large_pages(space: &AddressSpace) {
    let area = UserRange::new(UserAddr(AREA), 2 << 20).unwrap();
    space.map_anonymous(area, Access::READ | Access::WRITE, true).unwrap();
}

// Stores r14 to the first word of each page; then notes the sum of all. r15 is where to go on.
payload!(
    stores_on_both_sides,
    "jmp 9f",
    "5:", // store
    "mov rbx, 0x60000000",
    "6:",
    "mov [rbx], r14",
    "add rbx, 4096",
    "cmp rbx, 0x60100000",
    "jb 6b",
    "jmp r15",
    "7:", // sum
    "mov rbx, 0x60000000",
    "xor edi, edi",
    "8:",
    "add rdi, [rbx]",
    "add rbx, 4096",
    "cmp rbx, 0x60100000",
    "jb 8b",
    "mov eax, 7",
    "syscall",
    "jmp r15",
    "9:",
    "mov r14d, 1",
    "lea r15, [rip + 2f]",
    "jmp 5b",
    "2:",
    // Round after round: the parent stores first, then the child.
    "mov r13d, 1",
    "3:",
    "lea rdi, [rip + 4f]",
    "mov eax, 10",
    "syscall",
    "lea r14, [r13 + 100]",
    "lea r15, [rip + 20f]",
    "jmp 5b",
    "20:",
    "mov eax, 11",
    "syscall",
    "mov rdi, r13",
    "mov eax, 12",
    "syscall",
    "lea r15, [rip + 21f]",
    "jmp 7b",
    "21:",
    "inc r13",
    "cmp r13, 5",
    "jb 3b",
    "mov eax, 0",
    "syscall",
    // The child: what it was given, its own, and the end.
    "4:",
    "lea r15, [rip + 22f]",
    "jmp 7b",
    "22:",
    "lea r14, [r13 + 1000]",
    "lea r15, [rip + 23f]",
    "jmp 5b",
    "23:",
    "lea r15, [rip + 24f]",
    "jmp 7b",
    "24:",
    "mov eax, 0",
    "syscall",
);

/// What the payload notes: in each round the child's view before and after its stores, then the parent's.
fn expected() -> Vec<u64> {
    let rounds = (1..5).flat_map(|round: u64| {
        let before = if round == 1 { 1 } else { round - 1 + 100 };
        [before, round + 1000, round + 100]
    });
    rounds.map(|value| value * PAGES).collect()
}

fn both_sides_see_their_own(prepare: fn(&AddressSpace)) {
    let Some(rig) = Rig::open(None) else { return };
    rig.start_prepared(stores_on_both_sides(), prepare);
    rig.script.wait_for(|events| events.iter().filter(|event| matches!(event, Event::ProcessEnd(_))).count() == 5);
    assert_eq!(rig.script.notes(), expected());
    assert!(rig.script.exceptions().is_empty(), "{:?}", rig.script.exceptions());
}

#[test]
fn stores_to_shared_small_pages_are_seen_by_their_side_alone() {
    both_sides_see_their_own(small_pages);
}

#[test]
fn stores_to_shared_large_pages_are_seen_by_their_side_alone() {
    both_sides_see_their_own(large_pages);
}

// A second thread stores a growing number to two far pages, one after the other, while the first forks; each child notes both.
payload!(
    forks_beside_a_storing_thread,
    "lea rdi, [rip + 5f]",
    "mov rsi, 0x508000",
    "mov eax, 5",
    "syscall",
    "mov r13d, 1",
    "3:",
    "lea rdi, [rip + 4f]",
    "mov eax, 10",
    "syscall",
    "mov eax, 11",
    "syscall",
    "mov rdi, r13",
    "mov eax, 12",
    "syscall",
    "inc r13",
    "cmp r13, 60",
    "jb 3b",
    "mov byte ptr [0x60080000], 1",
    "mov eax, 0",
    "syscall",
    "4:",
    "mov rdi, [0x60000000]",
    "mov rbx, [0x600ff000]",
    "mov eax, 7",
    "syscall",
    "mov rdi, rbx",
    "mov eax, 7",
    "syscall",
    "mov eax, 0",
    "syscall",
    "5:",
    "xor ecx, ecx",
    "6:",
    "inc rcx",
    "mov [0x60000000], rcx",
    "mov [0x600ff000], rcx",
    "cmp byte ptr [0x60080000], 0",
    "je 6b",
    "mov eax, 0",
    "syscall",
);

#[test]
fn a_copy_shows_one_moment_of_other_threads_stores() {
    let Some(rig) = Rig::open(None) else { return };
    rig.start_prepared(forks_beside_a_storing_thread(), |space| {
        small_pages(space);
        // All pages are touched, so that the fork shares.
        (0..PAGES).for_each(|page| space.write(UserAddr(AREA + page * 4096 + 8), &[1; 8]).unwrap());
    });
    rig.script.wait_for(|events| events.iter().filter(|event| matches!(event, Event::ProcessEnd(_))).count() == 60);
    for pair in rig.script.notes().chunks(2) {
        assert!(pair[0] == pair[1] || pair[0] == pair[1] + 1, "{pair:?} are of different moments");
    }
}
