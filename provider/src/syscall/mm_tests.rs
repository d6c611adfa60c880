//! Memory calls as a program makes them: the errors and their order were tried on Linux.

use crate::testing::{Fixture, fixture};
use expect_test::{Expect, expect};
use linux_raw_sys::general::{
    __NR_brk, __NR_get_mempolicy, __NR_madvise, __NR_mbind, __NR_mincore, __NR_mlock, __NR_mlock2, __NR_mlockall,
    __NR_mmap, __NR_mprotect, __NR_mremap, __NR_msync, __NR_munlock, __NR_munmap, __NR_pkey_alloc, __NR_pkey_free,
    __NR_pkey_mprotect, __NR_set_mempolicy,
};

const NONE: u64 = u64::MAX;
const RW: u64 = 3;
const SHARED: u64 = 1;
const PRIVATE: u64 = 2;
const FIXED: u64 = 0x10;
const ANON: u64 = 0x20;
const GROWSDOWN: u64 = 0x100;
const HUGETLB: u64 = 0x4_0000;
const NOREPLACE: u64 = 0x10_0000;
/// Nothing is mapped there.
const HOLE: u64 = 0x1000_0000;

struct Program(Fixture, u64);

impl Program {
    /// A program with eight pages.
    fn new() -> Self {
        let mut fixture = fixture();
        let at = fixture.allocate(8 * 4096).0;
        Self(fixture, at)
    }

    fn check(&mut self, number: u32, args: &[u64], expected: Expect) {
        self.0.check(number, args, &expected);
    }
}

#[test]
fn mmap_refuses_in_linuxs_order() {
    let mut program = Program::new();
    let at = program.1;
    let mut check = |args: [u64; 6], expected: Expect| program.check(__NR_mmap, &args, expected);
    check([0, 4096, RW, PRIVATE, 99, 1], expect!["EINVAL"]);
    check([0, 4096, RW, PRIVATE, 99, 0], expect!["EBADF"]);
    check([0, 0, RW, PRIVATE | ANON, NONE, 0], expect!["EINVAL"]);
    check([0, NONE, RW, PRIVATE | ANON, NONE, 0], expect!["ENOMEM"]);
    check([0, 1 << 47, RW, PRIVATE | ANON, NONE, 0], expect!["ENOMEM"]);
    check([0, 1 << 46, RW, PRIVATE | ANON, NONE, 0], expect!["ENOMEM"]);
    check([0, 1 << 46, RW, SHARED | ANON, NONE, 0], expect!["ENOMEM"]);
    check([0, 4096, RW, ANON, NONE, 0], expect!["EINVAL"]);
    check([0, 4096, RW, SHARED | PRIVATE | ANON, NONE, 0], expect!["EINVAL"]);
    check([0, 4096, RW, SHARED | ANON | GROWSDOWN, NONE, 0], expect!["EINVAL"]);
    check([0, 4096, RW, PRIVATE | ANON | HUGETLB, NONE, 0], expect!["ENOMEM"]);
    check([0, 4096, RW, PRIVATE | ANON | HUGETLB | 16 << 26, NONE, 0], expect!["EINVAL"]);
    check([at + 1, 4096, RW, PRIVATE | ANON | FIXED, NONE, 0], expect!["EINVAL"]);
    check([0x1000, 4096, RW, PRIVATE | ANON | FIXED, NONE, 0], expect!["EPERM"]);
    check([0x7fff_ffff_f000, 4096, RW, PRIVATE | ANON | FIXED, NONE, 0], expect!["ENOMEM"]);
    check([at, 4096, RW, PRIVATE | ANON | NOREPLACE, NONE, 0], expect!["EEXIST"]);
    check([HOLE, 4096, RW, PRIVATE | ANON | NOREPLACE, NONE, 0], expect!["0x10000000"]);
    program.check(__NR_munmap, &[at + 1, 4096], expect!["EINVAL"]);
    program.check(__NR_munmap, &[at, 0], expect!["EINVAL"]);
    program.check(__NR_munmap, &[1 << 47, 4096], expect!["EINVAL"]);
    program.check(__NR_munmap, &[HOLE, 4096], expect!["0x0"]);
    program.check(__NR_brk, &[0], expect!["0x0"]);
}

#[test]
fn mprotect_and_keys() {
    let mut program = Program::new();
    let at = program.1;
    program.check(__NR_mprotect, &[at + 1, 4096, RW], expect!["EINVAL"]);
    program.check(__NR_mprotect, &[at, 0, 0x100], expect!["0x0"]);
    program.check(__NR_mprotect, &[at, 4096, 0x100], expect!["EINVAL"]);
    program.check(__NR_mprotect, &[at, NONE, RW], expect!["ENOMEM"]);
    program.check(__NR_mprotect, &[HOLE, 4096, RW], expect!["ENOMEM"]);
    program.check(__NR_mprotect, &[at, 4096, 0x0100_0001], expect!["EINVAL"]);
    program.check(__NR_mprotect, &[at, 4096, 0x0300_0001], expect!["EINVAL"]);
    program.check(__NR_mprotect, &[at, 4096, 1], expect!["0x0"]);
    program.check(__NR_pkey_alloc, &[0, 0], expect!["EINVAL"]);
    program.check(__NR_pkey_free, &[0], expect!["EINVAL"]);
    program.check(__NR_pkey_mprotect, &[at, 4096, RW, NONE], expect!["0x0"]);
    program.check(__NR_pkey_mprotect, &[at, 4096, RW, 0], expect!["EINVAL"]);
}

#[test]
fn advice_and_questions() {
    let mut program = Program::new();
    let at = program.1;
    program.check(__NR_madvise, &[at, 4096, 999], expect!["EINVAL"]);
    program.check(__NR_madvise, &[at, 0, 999], expect!["EINVAL"]);
    program.check(__NR_madvise, &[at + 1, 4096, 4], expect!["EINVAL"]);
    program.check(__NR_madvise, &[at, NONE, 4], expect!["EINVAL"]);
    program.check(__NR_madvise, &[at, 0, 4], expect!["0x0"]);
    program.check(__NR_madvise, &[at, 4096, 12], expect!["0x0"]);
    program.check(__NR_madvise, &[at, 4096, 9], expect!["EINVAL"]);
    program.check(__NR_madvise, &[HOLE, 4096, 4], expect!["ENOMEM"]);
    program.check(__NR_madvise, &[HOLE, 4096, 22], expect!["ENOMEM"]);
    program.check(__NR_msync, &[at, 4096, 8], expect!["EINVAL"]);
    program.check(__NR_msync, &[at, 4096, 5], expect!["EINVAL"]);
    program.check(__NR_msync, &[at + 1, 4096, 4], expect!["EINVAL"]);
    program.check(__NR_msync, &[at, NONE, 4], expect!["0x0"]);
    program.check(__NR_msync, &[HOLE, 4096, 4], expect!["ENOMEM"]);
    program.check(__NR_mincore, &[at + 1, 4096, at], expect!["EINVAL"]);
    program.check(__NR_mincore, &[at, 8 * 4096, at], expect!["0x0"]);
    program.check(__NR_mincore, &[at, 4096, 0], expect!["EFAULT"]);
    program.check(__NR_mincore, &[HOLE, 4096, at], expect!["ENOMEM"]);
    program.check(__NR_mincore, &[1 << 47, 4096, at], expect!["ENOMEM"]);
    program.check(__NR_mincore, &[at, 0, 0], expect!["0x0"]);
}

#[test]
fn locking() {
    let mut program = Program::new();
    let at = program.1;
    program.check(__NR_mlock, &[at, 4096], expect!["0x0"]);
    program.check(__NR_madvise, &[at, 4096, 4], expect!["EINVAL"]);
    program.check(__NR_madvise, &[at, 4096, 24], expect!["0x0"]);
    program.check(__NR_mlock, &[HOLE, 4096], expect!["ENOMEM"]);
    program.check(__NR_mlock, &[at, NONE], expect!["0x0"]);
    program.check(__NR_mlock2, &[at, 4096, 2], expect!["EINVAL"]);
    program.check(__NR_mlock2, &[at, 4096, 1], expect!["0x0"]);
    program.check(__NR_mlockall, &[0], expect!["EINVAL"]);
    program.check(__NR_mlockall, &[8], expect!["EINVAL"]);
    program.check(__NR_mlockall, &[4], expect!["EINVAL"]);
    program.check(__NR_munlock, &[HOLE, 4096], expect!["ENOMEM"]);
}

#[test]
fn moving() {
    let mut program = Program::new();
    let at = program.1;
    program.check(__NR_mremap, &[at + 1, 4096, 8192, 1], expect!["EINVAL"]);
    program.check(__NR_mremap, &[at, 4096, 0, 1], expect!["EINVAL"]);
    program.check(__NR_mremap, &[at, 4096, 8192, 8], expect!["EINVAL"]);
    program.check(__NR_mremap, &[at, 4096, 8192, 2, HOLE], expect!["EINVAL"]);
    program.check(__NR_mremap, &[at, 4096, 8192, 5], expect!["EINVAL"]);
    program.check(__NR_mremap, &[at, 4096, 8192, 0], expect!["ENOMEM"]);
    program.check(__NR_mremap, &[HOLE, 4096, 8192, 1], expect!["EFAULT"]);
    program.check(__NR_mremap, &[at, 8192, 8192, 3, HOLE], expect!["0x10000000"]);
}

#[test]
fn one_node_is_all_there_is() {
    let mut program = Program::new();
    let at = program.1;
    let mask = program.0.put(&1_u64).0;
    let other = program.0.put(&2_u64).0;
    program.check(__NR_set_mempolicy, &[0, 0, 0], expect!["0x0"]);
    program.check(__NR_set_mempolicy, &[2, mask, 2], expect!["0x0"]);
    program.check(__NR_set_mempolicy, &[2, other, 3], expect!["EINVAL"]);
    program.check(__NR_set_mempolicy, &[9, mask, 3], expect!["EINVAL"]);
    program.check(__NR_set_mempolicy, &[2, HOLE, 64], expect!["EFAULT"]);
    program.check(__NR_mbind, &[at, 4096, 2, mask, 2, 0], expect!["0x0"]);
    program.check(__NR_mbind, &[HOLE, 4096, 2, mask, 2, 0], expect!["EFAULT"]);
    program.check(__NR_get_mempolicy, &[at, mask, 64, 0, 0], expect!["0x0"]);
    assert_eq!(program.0.get::<u64>(vmm::addr::UserAddr(mask)), 0);
    program.check(__NR_get_mempolicy, &[0, mask, 64, 0, 4], expect!["0x0"]);
    assert_eq!(program.0.get::<u64>(vmm::addr::UserAddr(mask)), 1);
    program.check(__NR_get_mempolicy, &[0, 0, 0, 0, 99], expect!["EINVAL"]);
}
