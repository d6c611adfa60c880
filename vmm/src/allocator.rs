//! The monitor's own allocator: the system's, with an end of its own for memory that runs out.
//!
//! What a guest chooses the size of is guest memory, or asked for with [`try_filled`] and [`try_grow`], which can fail. For all else nobody could do
//! anything but give up: a thread that unwinds, and a message that is put together, would need more of what there is none of. So
//! the process ends on the spot, with a line that lies ready.

use crate::crash;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::TryReserveError;

thread_local! {
    /// This thread can do without what it asks for.
    static MAY_FAIL: Cell<bool> = const { Cell::new(false) };
}

/// Makes `len` elements, of their default; `None` if the host has no memory for them.
pub fn try_filled<T: Clone + Default>(len: usize) -> Option<Vec<T>> {
    let mut elements = Vec::new();
    may_fail(|| elements.try_reserve_exact(len))?;
    elements.resize(len, T::default());
    Some(elements)
}

/// Makes elements `len` in number, those that are missing of their default; `None`, and nothing changed, if the host has no memory
/// for them. To grow a little often costs no more than to grow at once.
pub fn try_grow<T: Clone + Default>(elements: &mut Vec<T>, len: usize) -> Option<()> {
    let missing = len.saturating_sub(elements.len());
    may_fail(|| elements.try_reserve(missing))?;
    elements.resize(len.max(elements.len()), T::default());
    Some(())
}

fn may_fail(reserve: impl FnOnce() -> Result<(), TryReserveError>) -> Option<()> {
    MAY_FAIL.set(true);
    let room = reserve();
    MAY_FAIL.set(false);
    room.ok()
}

/// The allocator.
#[derive(Debug)]
pub struct Allocator {
    last_words: &'static str,
    status: i32,
}

impl Allocator {
    /// Makes one that writes `last_words` to standard error and ends the process with `status` when there is no memory.
    pub const fn new(last_words: &'static str, status: i32) -> Self {
        Self { last_words, status }
    }

    /// Passes on what the system has given; ends the process if that is nothing, and nothing will not do.
    fn check(&self, piece: *mut u8) -> *mut u8 {
        if piece.is_null() && !MAY_FAIL.get() {
            self.give_up();
        }
        piece
    }

    #[cold]
    fn give_up(&self) -> ! {
        crash::say(self.last_words.as_bytes());
        crash::exit(self.status)
    }
}

// SAFETY: all calls go to the system's allocator unchanged; results are passed on unchanged or not at all.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the same contract.
        self.check(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the same contract.
        self.check(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps to the same contract.
        self.check(unsafe { System.realloc(piece, layout, size) })
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.dealloc(piece, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_do_without_gets_nothing() {
        assert_eq!(try_filled::<u64>(3), Some(vec![0; 3]));
        assert_eq!(try_filled::<u8>(1 << 62), None, "more than there are addresses");
        let mut elements = vec![7_u8];
        assert_eq!((try_grow(&mut elements, 3), try_grow(&mut elements, 2)), (Some(()), Some(())));
        assert_eq!(try_grow(&mut elements, 1 << 62), None);
        assert_eq!(elements, [7, 0, 0]);
        assert!(!MAY_FAIL.get());
        let allocator = Allocator::new("", 1);
        MAY_FAIL.set(true);
        // A compiler may take an allocation that nobody uses for one that works.
        let layout = Layout::from_size_align(1 << 62, 8).unwrap();
        // SAFETY: the layout has a size.
        assert!(std::hint::black_box(unsafe { allocator.alloc(layout) }).is_null());
        MAY_FAIL.set(false);
        let small = Layout::from_size_align(100, 8).unwrap();
        // SAFETY: as above.
        let piece = unsafe { allocator.alloc_zeroed(small) };
        // SAFETY: the piece is of this allocator and has this layout.
        let piece = unsafe { allocator.realloc(piece, small, 200) };
        assert!(!piece.is_null());
        // SAFETY: as above, and the new size.
        unsafe { allocator.dealloc(piece, Layout::from_size_align(200, 8).unwrap()) };
    }
}
