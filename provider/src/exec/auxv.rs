//! The auxiliary vector: what a kernel tells a program's start-up code (getauxval(3)).

use super::load::Placed;
use crate::task::Credentials;
use linux_raw_sys::auxvec::{
    AT_BASE, AT_CLKTCK, AT_EGID, AT_ENTRY, AT_EUID, AT_EXECFN, AT_FLAGS, AT_GID, AT_HWCAP, AT_HWCAP2, AT_MINSIGSTKSZ,
    AT_NULL, AT_PAGESZ, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PLATFORM, AT_RANDOM, AT_RSEQ_ALIGN, AT_RSEQ_FEATURE_SIZE,
    AT_SECURE, AT_SYSINFO_EHDR, AT_UID,
};
use vmm::addr::{PAGE_SIZE, UserAddr};

/// Bytes of a program header.
const PROGRAM_HEADER_BYTES: u64 = 56;
/// Clock ticks a second that times(2) counts in (USER_HZ).
const CLOCK_TICKS: u64 = 100;
/// Bytes of a signal frame besides the extended state: 440 of `struct rt_sigframe`, the magic number behind the state, and alignment. What Linux
/// adds for 32-bit frames is kept, so that the sum is what programs see on Linux.
pub(super) const SIGNAL_FRAME_REST: u64 = 680;
/// Bytes and alignment of `struct rseq` with all the fields that are kept right: up to and including `mm_cid`.
const RSEQ_FEATURE_SIZE: u64 = 28;
const RSEQ_ALIGN: u64 = 32;

/// Facts about the machine and the sandbox that the vector tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// CPUID leaf 1 EDX, as AT_HWCAP has it.
    pub hwcap: u64,
    /// AT_HWCAP2: bit 1 says that FSGSBASE instructions work.
    pub hwcap2: u64,
    /// Bytes of a thread's XSAVE area, from which AT_MINSIGSTKSZ follows.
    pub xsave_size: u64,
    /// Whether rseq(2) is there.
    pub rseq: bool,
}

/// The vector without the addresses that only the stack knows.
#[derive(Clone, Debug)]
pub(super) struct AuxVector {
    entries: Vec<(u32, u64)>,
    rseq: bool,
    hwcap2: u64,
}

impl AuxVector {
    /// Collects what is known once everything is mapped.
    pub(super) fn new(
        machine: &Machine,
        program: &Placed,
        headers_count: u16,
        interpreter_base: UserAddr,
        credentials: &Credentials,
        vdso: Option<UserAddr>,
    ) -> Self {
        let mut entries = Vec::with_capacity(24);
        entries.extend(vdso.map(|at| (AT_SYSINFO_EHDR, at.0)));
        let frame = (machine.xsave_size + SIGNAL_FRAME_REST).next_multiple_of(16);
        entries.extend([
            (AT_MINSIGSTKSZ, frame),
            (AT_HWCAP, machine.hwcap),
            (AT_PAGESZ, PAGE_SIZE),
            (AT_CLKTCK, CLOCK_TICKS),
            (AT_PHDR, program.headers.0),
            (AT_PHENT, PROGRAM_HEADER_BYTES),
            (AT_PHNUM, u64::from(headers_count)),
            (AT_BASE, interpreter_base.0),
            (AT_FLAGS, 0),
            (AT_ENTRY, program.entry.0),
            (AT_UID, u64::from(credentials.uid)),
            (AT_EUID, u64::from(credentials.euid)),
            (AT_GID, u64::from(credentials.gid)),
            (AT_EGID, u64::from(credentials.egid)),
            (AT_SECURE, u64::from(credentials.is_secure_exec())),
        ]);
        Self { entries, rseq: machine.rseq, hwcap2: machine.hwcap2 }
    }

    /// Adds what the stack knows, and the end, in Linux's order; returns the bytes.
    pub(super) fn finish(mut self, random: u64, name: u64, platform: u64) -> Vec<u8> {
        self.entries.extend([
            (AT_RANDOM, random),
            (AT_HWCAP2, self.hwcap2),
            (AT_EXECFN, name),
            (AT_PLATFORM, platform),
        ]);
        if self.rseq {
            self.entries.extend([(AT_RSEQ_FEATURE_SIZE, RSEQ_FEATURE_SIZE), (AT_RSEQ_ALIGN, RSEQ_ALIGN)]);
        }
        self.entries.push((AT_NULL, 0));
        self.entries.iter().flat_map(|(key, value)| [u64::from(*key), *value]).flat_map(u64::to_ne_bytes).collect()
    }
}
