//! Advice on memory (madvise), and questions about it (mincore, msync's walk).

use super::map::user_range;
use super::vma::{Backing, Sharing, Source, Vma, VmaFlags};
use super::{Label, MemoryMap, State};
use crate::errno::Errno;
use crate::fs::OpenFile;
use std::sync::Arc;
use vmm::addr::{UserAddr, UserRange};
use vmm::memory::{Access, PageState};

/// Bytes from one page to the next.
const PAGE_STEP: usize = 4096;

/// What a program says about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Change flags: the first set is added, the second removed.
    Flags(VmaFlags, VmaFlags),
    /// As [`Advice::Flags`], for private anonymous memory only (MADV_WIPEONFORK).
    AnonymousFlags(VmaFlags, VmaFlags),
    /// Contents are not needed: private memory is as when it was mapped (MADV_DONTNEED).
    Discard,
    /// As [`Advice::Discard`], for locked memory, too (MADV_DONTNEED_LOCKED).
    DiscardLocked,
    /// Contents of private anonymous memory may vanish (MADV_FREE).
    Free,
    /// The range of the file behind a shared mapping becomes a hole (MADV_REMOVE).
    Remove,
    /// Pages will be used (MADV_WILLNEED), or not soon (MADV_COLD, MADV_PAGEOUT): checked, nothing done.
    Hint,
    /// Makes pages present now, with or without breaking their sharing (MADV_POPULATE_READ, MADV_POPULATE_WRITE).
    Populate(Access),
}

impl MemoryMap {
    /// Follows advice on whole pages.
    ///
    /// # Errors
    /// `EINVAL` (a mapping that this advice is not for), `ENOMEM` (a hole; what is mapped is advised all the same), for
    /// populating also `EFAULT` and `ENOMEM`.
    pub fn advise(&self, range: UserRange, advice: Advice) -> Result<(), Errno> {
        if let Advice::Populate(access) = advice {
            return self.populate_range(range, access);
        }
        let mut state = self.state.write();
        let mut at = range.start;
        let mut hole = false;
        while at < range.end {
            let Some(next) = state.tree.find_from(at).filter(|next| next.range.start < range.end) else {
                hole = true;
                break;
            };
            hole |= next.range.start > at;
            let part = next.clipped(range);
            at = part.range.end;
            self.advise_part(&mut state, part, advice)?;
        }
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    fn advise_part(&self, state: &mut State, part: Vma, advice: Advice) -> Result<(), Errno> {
        let range = part.range;
        match advice {
            Advice::Flags(add, remove) | Advice::AnonymousFlags(add, remove) => {
                let only_anonymous = matches!(advice, Advice::AnonymousFlags(..));
                if only_anonymous && !(part.is_anonymous() && part.sharing == Sharing::Private) {
                    return Err(Errno::EINVAL);
                }
                if part.flags.contains(VmaFlags::SPECIAL) && remove.contains(VmaFlags::DONTFORK) {
                    return Err(Errno::EINVAL);
                }
                let flags = part.flags.union(add).difference(remove);
                if flags != part.flags {
                    drop(state.tree.carve(range));
                    state.tree.insert(Vma { flags, ..part });
                }
                Ok(())
            }
            Advice::Discard | Advice::DiscardLocked => {
                let locked = part.flags.contains(VmaFlags::LOCKED) && advice == Advice::Discard;
                if locked || part.flags.contains(VmaFlags::SPECIAL) {
                    return Err(Errno::EINVAL);
                }
                self.discard(&part)
            }
            Advice::Free => {
                if !part.is_anonymous() || part.flags.contains(VmaFlags::LOCKED) {
                    return Err(Errno::EINVAL);
                }
                // The program may write again at once and keep its pages; so memory is taken only where it is worth the faults.
                if self.is_memory_short() { self.discard(&part) } else { Ok(()) }
            }
            Advice::Remove => remove_from_file(&part),
            Advice::Hint | Advice::Populate(_) => {
                if part.flags.intersects(VmaFlags::SPECIAL) {
                    Err(Errno::EINVAL)
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Private pages go back to what they were when they were mapped; shared ones keep their contents, which are elsewhere.
    fn discard(&self, part: &Vma) -> Result<(), Errno> {
        if part.sharing == Sharing::Shared {
            return Ok(());
        }
        self.space.unmap(part.range);
        self.forget_code(part.range);
        self.assign_eagerly(part, part.range).map_err(Errno::from)
    }

    /// Makes pages present (MADV_POPULATE_READ and MADV_POPULATE_WRITE, MAP_POPULATE, mlock).
    pub(super) fn populate_range(&self, range: UserRange, access: Access) -> Result<(), Errno> {
        let mut at = range.start;
        while at < range.end {
            let end = {
                let state = self.state.read();
                let vma = state.tree.find(at).ok_or(Errno::ENOMEM)?;
                if vma.flags.contains(VmaFlags::SPECIAL) {
                    return Err(Errno::EINVAL);
                }
                if !super::fault::permits(vma.access, access) {
                    return Err(Errno::EINVAL);
                }
                let part = vma.range.intersect(range).unwrap_or(range);
                self.assign(vma, part)?;
                part.end
            };
            self.populate_pages(UserRange { start: at, end }, access)?;
            at = end;
        }
        Ok(())
    }

    /// Visits pages that [`Self::assign`] may have left absent, or shared where a store is wanted.
    fn populate_pages(&self, range: UserRange, access: Access) -> Result<(), Errno> {
        let anonymous = self.state.read().tree.find(range.start).is_some_and(Vma::is_anonymous);
        if anonymous {
            return Ok(());
        }
        for page in (range.start.0..range.end.0).step_by(PAGE_STEP).map(UserAddr) {
            let ready = match self.space.page_state(page) {
                PageState::Mapped(_) => true,
                PageState::CopyOnWrite(_) => !access.contains(Access::WRITE),
                PageState::Absent | PageState::Bus => false,
            };
            if !ready {
                self.resolve_fault(page, access).map_err(|_| Errno::EFAULT)?;
            }
        }
        Ok(())
    }

    /// Tells for each page of `range` whether it is present (mincore).
    ///
    /// # Errors
    /// `ENOMEM` at a hole.
    pub fn residency(&self, range: UserRange) -> Result<Vec<u8>, Errno> {
        let state = self.state.read();
        if state.tree.covered(range) != range.len() {
            return Err(Errno::ENOMEM);
        }
        let pages = (range.start.0..range.end.0).step_by(PAGE_STEP);
        Ok(pages
            .map(|page| match self.space.page_state(UserAddr(page)) {
                PageState::Mapped(_) | PageState::CopyOnWrite(_) => 1,
                PageState::Absent | PageState::Bus => 0,
            })
            .collect())
    }

    /// Tells whether there is no hole in `range`.
    pub fn is_mapped(&self, range: UserRange) -> bool {
        self.state.read().tree.covered(range) == range.len()
    }

    /// The files behind shared mappings in `range`, for msync; the second value tells whether there is a hole.
    ///
    /// # Errors
    /// `EBUSY`: `invalidate` is asked for, and part of the range is locked.
    pub fn shared_files(&self, range: UserRange, invalidate: bool) -> Result<(Vec<Arc<OpenFile>>, bool), Errno> {
        let state = self.state.read();
        let mut files: Vec<Arc<OpenFile>> = Vec::new();
        for vma in state.tree.overlapping(range) {
            if invalidate && vma.flags.contains(VmaFlags::LOCKED) {
                return Err(Errno::EBUSY);
            }
            if let (Sharing::Shared, Label::File(file)) = (vma.sharing, &vma.label)
                && !files.iter().any(|known| Arc::ptr_eq(known, file))
            {
                files.push(Arc::clone(file));
            }
        }
        let mut at = range.start;
        let mut hole = false;
        for vma in state.tree.overlapping(range) {
            hole |= vma.range.start > at;
            at = vma.range.end;
        }
        Ok((files, hole || at < range.end))
    }
}

/// Punches a hole into the object behind a shared writable mapping.
fn remove_from_file(part: &Vma) -> Result<(), Errno> {
    if part.flags.contains(VmaFlags::LOCKED) {
        return Err(Errno::EINVAL);
    }
    let Backing::Source { source, offset } = &part.backing else { return Err(Errno::EINVAL) };
    if part.sharing != Sharing::Shared || !part.max_access.contains(Access::WRITE) {
        return Err(Errno::EACCES);
    }
    match source {
        Source::Object(object) => {
            object.punch_hole(*offset, part.range.len());
            Ok(())
        }
        // A host file is not changed behind the file system's back.
        Source::Host(_) => Err(Errno::EOPNOTSUPP),
    }
}

/// The whole pages that madvise and its kin work on: `EINVAL` for an unaligned start or a length that wraps.
pub fn advised_range(start: UserAddr, len: u64) -> Result<UserRange, Errno> {
    if !start.is_page_aligned() {
        return Err(Errno::EINVAL);
    }
    let pages = UserAddr(len).page_up().ok_or(Errno::EINVAL)?.0;
    UserRange::new(start, pages).ok_or(Errno::EINVAL)?;
    // What reaches beyond the user half is a hole; the walk needs an end that the tree can have.
    Ok(user_range(start, pages).unwrap_or(UserRange { start, end: UserAddr(start.0 + pages) }))
}
