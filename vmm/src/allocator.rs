//! The monitor's own allocator: the system's, with an end of its own for memory that runs out.
//!
//! What a guest chooses the size of is asked for in ways that can fail, or is guest memory. What is left are small pieces, for which
//! nobody could do anything but give up: a thread that unwinds, and a message that is put together, would need more of what there is
//! none of. So the process ends on the spot, with a line that lies ready.

use crate::crash;
use std::alloc::{GlobalAlloc, Layout, System};

/// Pieces up to here are not worth asking for a second time, and their lack is the end. Larger ones fail as they would otherwise.
const SMALL: usize = 64 << 10;

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

    /// Passes on what the system has given; ends the process if that is nothing, and less than that will not do.
    fn check(&self, piece: *mut u8, size: usize) -> *mut u8 {
        if piece.is_null() && size <= SMALL {
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
        self.check(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the same contract.
        self.check(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps to the same contract.
        self.check(unsafe { System.realloc(piece, layout, size) }, size)
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
    fn what_is_too_large_is_refused_and_not_the_end() {
        let allocator = Allocator::new("", 1);
        // More than there are addresses. A compiler may take an allocation that nobody uses for one that works.
        let layout = Layout::from_size_align(1 << 62, 8).unwrap();
        // SAFETY: the layout has a size.
        assert!(std::hint::black_box(unsafe { allocator.alloc(layout) }).is_null());
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
