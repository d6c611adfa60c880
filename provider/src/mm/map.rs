//! Making and removing mappings (`do_mmap`, `do_munmap`).

use super::account::Growth;
use super::layout::{MAX_MAP_COUNT, MMAP_MIN_ADDR};
use super::tree::Gap;
use super::vma::{Backing, Label, Sharing, Vma, VmaFlags};
use super::{MemoryMap, State};
use crate::errno::Errno;
use vmm::addr::{BLOCK_SIZE, PAGE_SIZE, USER_END, UserAddr, UserRange};
use vmm::memory::Access;

/// Where MAP_32BIT puts mappings: one gibibyte below 2³¹.
const LOW_WINDOW: (u64, u64) = (0x4000_0000, 0x8000_0000);

/// How the address of a mapping is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// At the hint if it is free, otherwise anywhere.
    Anywhere,
    /// As `Anywhere`, below 2 GiB (MAP_32BIT).
    Low,
    /// Exactly there, in place of what is mapped (MAP_FIXED).
    Fixed,
    /// Exactly there; `EEXIST` if something is mapped (MAP_FIXED_NOREPLACE).
    FixedNoReplace,
}

/// What a mapping shows and how.
#[derive(Clone, Debug)]
pub struct Content {
    /// The bytes.
    pub backing: Backing,
    /// Whether stores reach them.
    pub sharing: Sharing,
    /// What mprotect may grant later.
    pub max_access: Access,
    /// The name in /proc/PID/maps.
    pub label: Label,
}

impl Content {
    /// Private zeros.
    pub fn anonymous() -> Self {
        Self { backing: Backing::Anonymous, sharing: Sharing::Private, max_access: Access::all(), label: Label::None }
    }
}

/// A request for a mapping.
#[derive(Clone, Debug)]
pub struct MapRequest {
    /// Where the program wants it.
    pub hint: UserAddr,
    /// Bytes; rounded up to whole pages.
    pub len: u64,
    /// What the program may do with it.
    pub access: Access,
    /// How the address is chosen.
    pub placement: Placement,
    /// What it shows. An error found while looking at the file is reported where Linux does: after the address is judged.
    pub content: Result<Content, Errno>,
    /// Other properties.
    pub flags: VmaFlags,
    /// The caller has CAP_SYS_RAWIO: it may map below [`MMAP_MIN_ADDR`].
    pub may_map_low: bool,
    /// The caller has CAP_IPC_LOCK: RLIMIT_MEMLOCK does not bind it.
    pub may_lock: bool,
}

impl MapRequest {
    /// Asks for private anonymous memory anywhere.
    pub fn anonymous(len: u64, access: Access) -> Self {
        Self {
            hint: UserAddr(0),
            len,
            access,
            placement: Placement::Anywhere,
            content: Ok(Content::anonymous()),
            flags: VmaFlags::empty(),
            may_map_low: false,
            may_lock: false,
        }
    }

    /// Asks for the mapping to lie exactly at `at`.
    #[must_use]
    pub fn fixed(mut self, at: UserAddr) -> Self {
        (self.hint, self.placement) = (at, Placement::Fixed);
        self
    }
}

impl MemoryMap {
    /// Makes a mapping and returns its address.
    ///
    /// # Errors
    /// In Linux's order: `EINVAL` (no bytes, unaligned fixed address), `ENOMEM` (too long, too many mappings, no room),
    /// `EPERM` (too low), `EEXIST`, `EAGAIN` (too much locked), what `content` says, `ENOMEM` (limits, memory).
    pub fn map(&self, request: MapRequest) -> Result<UserAddr, Errno> {
        if request.len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = UserAddr(request.len).page_up().ok_or(Errno::ENOMEM)?.0;
        let mut state = self.state.write();
        if state.tree.len() > MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        let start = state.choose_address(&request, len)?;
        let range = UserRange { start, end: UserAddr(start.0 + len) };
        if request.placement == Placement::FixedNoReplace && !state.tree.is_free(range) {
            return Err(Errno::EEXIST);
        }
        let flags = request.flags | state.future_flags;
        if flags.contains(VmaFlags::LOCKED) {
            self.check_locked(&state, len, request.may_lock)?;
        }
        let content = request.content?;
        let vma = Vma {
            range,
            access: request.access,
            max_access: content.max_access,
            sharing: content.sharing,
            backing: content.backing,
            flags,
            label: content.label,
        };
        self.check_growth(&state, growth_over(&state, &vma))?;
        let replaced = self.remove(&mut state, range);
        let assigned = self.assign_eagerly(&vma, range);
        if assigned.is_ok() {
            state.tree.insert(vma);
        } else {
            self.space.unmap(range);
        }
        // A mapped file's last reference may go here: not under the lock.
        drop(state);
        drop(replaced);
        assigned?;
        Ok(start)
    }

    /// Removes all mappings in a range (munmap). Nothing there is no error.
    ///
    /// # Errors
    /// `EINVAL` (unaligned, empty, beyond the user half), `ENOMEM` (a split would make too many mappings).
    pub fn unmap(&self, start: UserAddr, len: u64) -> Result<(), Errno> {
        let range = user_range(start, len).ok_or(Errno::EINVAL)?;
        if range.is_empty() {
            return Err(Errno::EINVAL);
        }
        let removed = {
            let mut state = self.state.write();
            state.check_split(range)?;
            self.remove(&mut state, range)
        };
        drop(removed);
        Ok(())
    }

    /// The mapping at the start of `range`, if it is shared, might be written to, and mappings of the same file and kind follow
    /// it without a hole to the end (remap_file_pages).
    pub fn shared_over(&self, range: UserRange) -> Option<Vma> {
        let state = self.state.read();
        let first = state.tree.find(range.start).filter(|vma| vma.is_written_through())?;
        let mut at = first.range.start;
        for vma in state.tree.overlapping(range) {
            if vma.range.start != at || vma.flags != first.flags || !vma.has_source_of(first) {
                return None;
            }
            at = vma.range.end;
        }
        (at >= range.end).then(|| first.clone())
    }

    /// Takes the mappings and pages of `range` away, trampolines included; the caller drops what it gets after it has released the lock.
    pub(super) fn remove(&self, state: &mut State, range: UserRange) -> Vec<Vma> {
        let removed = state.tree.carve(range);
        if removed.iter().any(|vma| vma.access.contains(Access::EXEC)) {
            self.forget_code(range);
        }
        self.withdraw_trampolines(range);
        if let (Some(first), Some(last)) = (removed.first(), removed.last()) {
            self.space.unmap(UserRange { start: first.range.start, end: last.range.end });
        }
        removed
    }
}

impl State {
    /// Chooses the address (`__get_unmapped_area`). `len` is a multiple of the page size.
    fn choose_address(&mut self, request: &MapRequest, len: u64) -> Result<UserAddr, Errno> {
        if len > USER_END {
            return Err(Errno::ENOMEM);
        }
        let floor = if request.may_map_low { 0 } else { MMAP_MIN_ADDR };
        match request.placement {
            Placement::Fixed | Placement::FixedNoReplace => {
                if request.hint.0 > USER_END - len {
                    return Err(Errno::ENOMEM);
                }
                if !request.hint.is_page_aligned() {
                    return Err(Errno::EINVAL);
                }
                if request.hint.0 < floor {
                    return Err(Errno::EPERM);
                }
                Ok(request.hint)
            }
            Placement::Anywhere | Placement::Low => {
                let low = request.placement == Placement::Low;
                let hint = request.hint.page();
                // A hint that is too low is raised (`round_hint_to_min`); MAP_32BIT obeys only hints below 4 GiB.
                let hint = if hint.0 != 0 && hint.0 < MMAP_MIN_ADDR { UserAddr(MMAP_MIN_ADDR) } else { hint };
                if hint.0 != 0 && (!low || hint.0 <= u64::from(u32::MAX)) && self.hint_is_free(hint, len) {
                    return Ok(hint);
                }
                self.find_address(len, alignment(request, len), low).ok_or(Errno::ENOMEM)
            }
        }
    }

    fn hint_is_free(&self, hint: UserAddr, len: u64) -> bool {
        let Some(range) = user_range(hint, len) else { return false };
        self.tree.find(hint).is_none()
            && self.tree.find_from(hint).is_none_or(|next| range.end.0 <= next.guarded_start())
    }

    /// Finds free addresses from the top of the mapping area down; if there are none, anywhere.
    pub(super) fn find_address(&mut self, len: u64, align: u64, low: bool) -> Option<UserAddr> {
        if low {
            return self.tree.find_gap(Gap { len, align: PAGE_SIZE, low: LOW_WINDOW.0, high: LOW_WINDOW.1 });
        }
        let below = Gap { len, align, low: MMAP_MIN_ADDR, high: self.layout.mmap_base.0 };
        self.tree
            .find_gap(below)
            .or_else(|| self.tree.find_gap(Gap { align: PAGE_SIZE, ..below }))
            .or_else(|| self.tree.find_gap(Gap { align: PAGE_SIZE, high: USER_END, ..below }))
    }

    /// Refuses a change that would split a mapping when there are too many already.
    pub(super) fn check_split(&self, range: UserRange) -> Result<(), Errno> {
        let splits =
            self.tree.find(range.start).is_some_and(|vma| vma.range.start < range.start && range.end < vma.range.end);
        if splits && self.tree.len() >= MAX_MAP_COUNT { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}

/// Whole large pages of anonymous memory start at a large page, so that they get large entries (`thp_get_unmapped_area`).
fn alignment(request: &MapRequest, len: u64) -> u64 {
    let anonymous = matches!(&request.content, Ok(content) if matches!(content.backing, Backing::Anonymous));
    if anonymous && request.hint.0 == 0 && len.is_multiple_of(BLOCK_SIZE) { BLOCK_SIZE } else { PAGE_SIZE }
}

/// What `vma` adds to the totals, less what it replaces.
fn growth_over(state: &State, vma: &Vma) -> Growth {
    let len = vma.range.len();
    let replaced = |counts: fn(&Vma) -> bool| -> u64 {
        let inside = state.tree.overlapping(vma.range).filter(|old| counts(old));
        inside.filter_map(|old| old.range.intersect(vma.range)).map(UserRange::len).sum()
    };
    let judged =
        vma.is_accountable() || (vma.label == Label::SharedAnonymous && !vma.flags.contains(VmaFlags::NORESERVE));
    Growth {
        mapped: len - replaced(|_| true),
        data: if vma.is_data() { len - replaced(Vma::is_data) } else { 0 },
        accountable: if judged { len } else { 0 },
    }
}

/// The whole pages of `len` bytes at a page-aligned `start`, if they lie in the user half.
pub(super) fn user_range(start: UserAddr, len: u64) -> Option<UserRange> {
    if !start.is_page_aligned() || start.0 > USER_END || len > USER_END - start.0 {
        return None;
    }
    Some(UserRange { start, end: UserAddr(start.0 + len).page_up()? })
}
