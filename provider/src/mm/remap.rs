//! Resizing and moving mappings (mremap, `mm/mremap.c`).

use super::account::Growth;
use super::layout::MAX_MAP_COUNT;
use super::map::user_range;
use super::vma::{Backing, Sharing, Vma, VmaFlags};
use super::{MemoryMap, State};
use crate::errno::Errno;
use vmm::addr::{BLOCK_SIZE, PAGE_SIZE, USER_END, UserAddr, UserRange};
use vmm::memory::MemoryError;

/// A request to resize or move a mapping. Lengths are in bytes, rounded up to whole pages.
#[derive(Clone, Copy, Debug)]
pub struct RemapRequest {
    /// Where the mapping, or the part of it, starts.
    pub from: UserAddr,
    /// Its present length; 0 makes another mapping of the same shared contents.
    pub old_len: u64,
    /// The length it is to have.
    pub new_len: u64,
    /// MREMAP_MAYMOVE.
    pub may_move: bool,
    /// MREMAP_FIXED: where it must go.
    pub fixed: Option<UserAddr>,
    /// MREMAP_DONTUNMAP: the old range stays mapped, empty.
    pub keep_old: bool,
    /// The caller has CAP_IPC_LOCK.
    pub may_lock: bool,
}

impl MemoryMap {
    /// Resizes or moves a mapping and returns where it is then.
    ///
    /// # Errors
    /// `EINVAL`, `EFAULT` (not one mapping), `ENOMEM` (no room, limits), `EAGAIN` (locked), as mremap(2) says.
    pub fn remap(&self, request: RemapRequest) -> Result<UserAddr, Errno> {
        let request = request.checked()?;
        let mut removed = Vec::new();
        let result = self.remap_locked(&mut self.state.write(), request, &mut removed);
        // A mapped file's last reference may go here: the lock is released.
        drop(removed);
        result
    }

    fn remap_locked(
        &self,
        state: &mut State,
        request: RemapRequest,
        removed: &mut Vec<Vma>,
    ) -> Result<UserAddr, Errno> {
        let RemapRequest { from, old_len, new_len, .. } = request;
        if request.moves() && state.tree.len() + 2 >= MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        let vma = state.tree.find(from).ok_or(Errno::EFAULT)?.clone();
        let shrinks_in_place = !request.moves() && old_len >= new_len;
        if shrinks_in_place && old_len > 0 {
            if old_len > new_len {
                let tail = UserRange { start: UserAddr(from.0 + new_len), end: UserAddr(from.0 + old_len) };
                if tail.end.0 > USER_END {
                    return Err(Errno::EINVAL);
                }
                state.check_split(tail)?;
                *removed = self.remove(state, tail);
            }
            return Ok(from);
        }
        self.check_remap(state, &vma, &request)?;
        if !request.moves() && from.0 + old_len == vma.range.end.0 && old_len > 0 {
            let extension = UserRange { start: vma.range.end, end: UserAddr(from.0 + new_len) };
            let room = extension.end.0 <= USER_END
                && state.tree.find_from(extension.start).is_none_or(|next| extension.end.0 <= next.guarded_start());
            if room {
                self.extend(state, &vma, extension)?;
                return Ok(from);
            }
        }
        if !request.may_move {
            return Err(Errno::ENOMEM);
        }
        let to = match request.fixed {
            Some(to) => {
                let target = user_range(to, new_len).ok_or(Errno::EINVAL)?;
                *removed = self.remove(state, target);
                to
            }
            None => state.find_address_like(&vma, from, new_len).ok_or(Errno::ENOMEM)?,
        };
        // A fixed move that shrinks gives up the tail first.
        if request.fixed.is_some() && old_len > new_len {
            let tail = UserRange { start: UserAddr(from.0 + new_len), end: UserAddr(from.0 + old_len) };
            removed.extend(self.remove(state, tail));
        }
        self.move_mapping(state, &vma, &request, to)
    }

    /// Checks what may be done with `vma` (`check_prep_vma`).
    fn check_remap(&self, state: &State, vma: &Vma, request: &RemapRequest) -> Result<(), Errno> {
        let special = vma.flags.contains(VmaFlags::SPECIAL);
        if request.old_len == 0 && vma.sharing == Sharing::Private {
            return Err(Errno::EINVAL);
        }
        if request.keep_old && special {
            return Err(Errno::EINVAL);
        }
        if request.old_len > vma.range.end.0 - request.from.0 {
            return Err(Errno::EFAULT);
        }
        if request.new_len <= request.old_len {
            return if request.keep_old { self.check_added(state, vma, request.new_len) } else { Ok(()) };
        }
        if matches!(vma.backing, Backing::Source { .. })
            && vma.offset_at(request.from).checked_add(request.new_len).is_none()
        {
            return Err(Errno::EINVAL);
        }
        if special {
            return Err(Errno::EFAULT);
        }
        let added = request.new_len - request.old_len;
        if vma.flags.contains(VmaFlags::LOCKED) {
            self.check_locked(state, added, request.may_lock)?;
        }
        self.check_added(state, vma, added)
    }

    fn check_added(&self, state: &State, vma: &Vma, added: u64) -> Result<(), Errno> {
        self.check_growth(
            state,
            Growth {
                mapped: added,
                data: if vma.is_data() { added } else { 0 },
                accountable: if vma.is_accountable() { added } else { 0 },
            },
        )
    }

    fn extend(&self, state: &mut State, vma: &Vma, extension: UserRange) -> Result<(), Errno> {
        let mut added = vma.clone();
        if let Backing::Source { offset, .. } = &mut added.backing {
            *offset = vma.offset_at(extension.start);
        }
        added.range = extension;
        self.withdraw_trampolines(extension);
        if let Err(error) = self.assign_eagerly(&added, extension) {
            self.space.unmap(extension);
            return Err(error.into());
        }
        state.tree.insert(added);
        Ok(())
    }

    /// Moves `[from, from + old_len)` of `vma` to the free range at `to` and gives it `new_len` bytes.
    fn move_mapping(
        &self,
        state: &mut State,
        vma: &Vma,
        request: &RemapRequest,
        to: UserAddr,
    ) -> Result<UserAddr, Errno> {
        let kept = request.old_len.min(request.new_len);
        let source = UserRange { start: request.from, end: UserAddr(request.from.0 + kept) };
        let target = UserRange { start: to, end: UserAddr(to.0 + request.new_len) };
        let mut moved = Vma { range: target, ..vma.clone() };
        if let Backing::Source { offset, .. } = &mut moved.backing {
            *offset = vma.offset_at(request.from);
        }
        self.withdraw_trampolines(target);
        if !source.is_empty() {
            // Jumps to trampolines lead elsewhere from another place.
            self.restore_code(source);
            self.move_contents(vma, source, to)?;
            let old = state.tree.carve(source);
            if request.keep_old {
                for mut part in old {
                    part.flags.remove(VmaFlags::LOCKED);
                    state.tree.insert(part);
                }
            }
        }
        let assigned = self.assign_eagerly(&moved, target);
        state.tree.insert(moved);
        // The move itself has succeeded; pages that could not be had now are had at a fault or reported there.
        match assigned {
            Ok(()) | Err(MemoryError::LimitReached | MemoryError::HostExhausted | MemoryError::Io(_)) => Ok(to),
        }
    }

    fn move_contents(&self, vma: &Vma, source: UserRange, to: UserAddr) -> Result<(), Errno> {
        debug_assert!(vma.range.start <= source.start && source.end <= vma.range.end);
        self.space.move_pages(source, to).map_err(Errno::from)
    }
}

impl RemapRequest {
    /// Rounds the lengths and refuses what is wrong in itself (`check_mremap_params`).
    fn checked(mut self) -> Result<Self, Errno> {
        if !self.from.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        // A length that wraps when rounded becomes 0, as Linux's PAGE_ALIGN has it.
        self.old_len = UserAddr(self.old_len).page_up().map_or(0, |len| len.0);
        self.new_len = UserAddr(self.new_len).page_up().map_or(0, |len| len.0);
        if self.new_len == 0 || self.new_len > USER_END || self.old_len > USER_END {
            return Err(Errno::EINVAL);
        }
        if self.fixed.is_some() && !self.may_move {
            return Err(Errno::EINVAL);
        }
        if self.keep_old && (!self.may_move || self.old_len != self.new_len) {
            return Err(Errno::EINVAL);
        }
        if let Some(to) = self.fixed {
            let target = user_range(to, self.new_len).ok_or(Errno::EINVAL)?;
            let source = UserRange::new(self.from, self.old_len).ok_or(Errno::EINVAL)?;
            if target.overlaps(source) {
                return Err(Errno::EINVAL);
            }
        }
        Ok(self)
    }

    /// Tells whether the address changes in any case.
    fn moves(&self) -> bool {
        self.fixed.is_some() || self.keep_old
    }
}

impl State {
    /// Finds free addresses for a moved mapping, at the same offset in a large page when it is large, so that frames keep their place.
    fn find_address_like(&mut self, vma: &Vma, from: UserAddr, len: u64) -> Option<UserAddr> {
        if vma.is_anonymous() && len >= BLOCK_SIZE {
            let offset = from.0 % BLOCK_SIZE;
            if let Some(start) = self.find_address(len + offset, BLOCK_SIZE, false) {
                return Some(UserAddr(start.0 + offset));
            }
        }
        self.find_address(len, PAGE_SIZE, false)
    }
}
