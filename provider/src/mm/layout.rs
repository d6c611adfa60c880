//! Where things lie in a 47-bit address space, with Linux's amounts of randomness (`arch/x86/mm/mmap.c`, `fs/binfmt_elf.c`).

use vmm::addr::{PAGE_SIZE, USER_END, UserAddr};

/// The lowest address a program without CAP_SYS_RAWIO may map (`vm.mmap_min_addr`).
pub const MMAP_MIN_ADDR: u64 = 65536;
/// The most mappings an address space may have (`vm.max_map_count`).
pub(super) const MAX_MAP_COUNT: usize = 65530;
/// Where position-independent programs with an interpreter are loaded, before randomization (`ELF_ET_DYN_BASE`).
const PIE_BASE: u64 = ((1 << 47) - PAGE_SIZE) / 3 * 2;
/// Pages by which the mapping area and position-independent programs are moved: 28 bits.
const MMAP_RANDOM_PAGES: u64 = 1 << 28;
/// Pages by which the stack is moved: 22 bits (`STACK_RND_MASK`).
const STACK_RANDOM_PAGES: u64 = 1 << 22;
/// Bytes by which the heap of a program is moved.
const BRK_RANDOM: u64 = 1 << 30;
/// The mapping area starts at least this far below the top.
const MIN_STACK_GAP: u64 = 128 << 20;
/// The mapping area starts at most this far below the top.
const MAX_STACK_GAP: u64 = USER_END / 6 * 5;

/// Whether addresses are random (ADDR_NO_RANDOMIZE of personality(2) turns it off).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Randomize {
    /// As Linux does by default.
    Yes,
    /// The same addresses in each run.
    No,
}

/// An address space's landmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// One past the highest byte of the stack.
    pub stack_top: UserAddr,
    /// One past the highest address that mmap chooses; it goes down from here.
    pub mmap_base: UserAddr,
    /// The load bias of a position-independent program that has an interpreter; page-aligned.
    pub pie_base: UserAddr,
    /// Bytes from the end of the program to its heap; whole pages.
    pub brk_offset: u64,
    /// The heap's start for a position-independent program without an interpreter, which lies in the mapping area.
    pub detached_brk: UserAddr,
}

impl Layout {
    /// Chooses the landmarks for a stack limit (RLIMIT_STACK; it keeps the room below the stack free).
    pub fn new(stack_limit: u64, randomize: Randomize) -> Self {
        let random = Random::new(randomize);
        let stack_top = USER_END - random.below(STACK_RANDOM_PAGES) * PAGE_SIZE;
        let spread = if randomize == Randomize::Yes { STACK_RANDOM_PAGES * PAGE_SIZE } else { 0 };
        let gap = stack_limit.saturating_add(super::vma::STACK_GUARD + spread).clamp(MIN_STACK_GAP, MAX_STACK_GAP);
        let mmap_base = page_down(USER_END - gap - random.below(MMAP_RANDOM_PAGES) * PAGE_SIZE);
        let brk_offset = random.below(BRK_RANDOM / PAGE_SIZE) * PAGE_SIZE;
        Self {
            stack_top: UserAddr(stack_top),
            mmap_base: UserAddr(mmap_base),
            pie_base: UserAddr(page_down(PIE_BASE) + random.below(MMAP_RANDOM_PAGES) * PAGE_SIZE),
            brk_offset,
            detached_brk: UserAddr(page_down(PIE_BASE) + brk_offset),
        }
    }
}

fn page_down(addr: u64) -> u64 {
    addr & !(PAGE_SIZE - 1)
}

/// Random numbers for addresses, or zeros.
struct Random(Randomize);

impl Random {
    fn new(randomize: Randomize) -> Self {
        Self(randomize)
    }

    fn below(&self, bound: u64) -> u64 {
        match self.0 {
            Randomize::No => 0,
            Randomize::Yes => random_u64() % bound,
        }
    }
}

/// A random number from the host. Should the host have none, which happens only in early boot, the answer is 0: addresses are then not random.
pub(crate) fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_layout_is_linux_without_randomization() {
        let layout = Layout::new(8 << 20, Randomize::No);
        assert_eq!(layout.stack_top, UserAddr(0x7fff_ffff_f000));
        assert_eq!(layout.pie_base, UserAddr(0x5555_5555_4000));
        assert_eq!(layout.mmap_base, UserAddr(0x7fff_f7ff_f000));
        assert_eq!(layout.brk_offset, 0);
    }

    #[test]
    fn random_layouts_differ_and_keep_their_order() {
        let layouts: Vec<_> = (0..64).map(|_| Layout::new(8 << 20, Randomize::Yes)).collect();
        for layout in &layouts {
            assert!(layout.pie_base < layout.mmap_base && layout.mmap_base < layout.stack_top);
            assert!(layout.stack_top.0 - layout.mmap_base.0 > (8 << 20) + super::super::vma::STACK_GUARD);
            assert!(layout.stack_top.0 <= USER_END);
            assert!(layout.mmap_base.is_page_aligned() && layout.pie_base.is_page_aligned());
        }
        assert!(layouts.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn an_unlimited_stack_leaves_a_sixth_of_the_space_for_mappings() {
        let layout = Layout::new(u64::MAX, Randomize::No);
        assert!(layout.mmap_base.0 >= USER_END / 6 - PAGE_SIZE);
    }
}
