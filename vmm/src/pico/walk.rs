//! Walks of user stacks: what a frame is, and how chains of frame pointers are followed. Knows no personality.
//!
//! A stack is the program's to fill, so everything read from it is an allegation: a step must lead up the stack, the
//! number of steps is limited, and a frame proves nothing but that its bytes lay there.

use crate::addr::{USER_END, UserAddr};
use crate::trap::Registers;
use std::ops::ControlFlow;

/// Frames of one stack at the most.
pub const MOST_FRAMES: usize = 256;

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is the innermost: the thread's registers.
    Registers,
    /// By the unwind table of the code in the frame before it.
    UnwindTable,
    /// By the chain of frame pointers.
    FramePointer,
}

/// A name and how far behind its beginning an address lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name, as the personality or the program has it: bytes.
    pub name: Vec<u8>,
    /// Bytes behind its beginning.
    pub offset: u64,
}

/// A frame of a user stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackFrame {
    /// Where the code of this frame goes on.
    pub address: UserAddr,
    /// How it was found.
    pub found: Found,
    /// The file or other object whose code it is, if any is known; the offset is in that object.
    pub module: Option<Place>,
    /// The function, if its name is known.
    pub symbol: Option<Place>,
}

impl StackFrame {
    /// A frame of which nothing but its address is known.
    pub fn bare(address: UserAddr, found: Found) -> Self {
        Self { address, found, module: None, symbol: None }
    }
}

/// Takes the frames of a walk, innermost first, and says when it has seen enough.
pub type Visit<'a> = dyn FnMut(StackFrame) -> ControlFlow<()> + 'a;

/// Reads user memory for a walk; `false` where it cannot.
pub type ReadMemory<'a> = dyn Fn(UserAddr, &mut [u8]) -> bool + 'a;

/// Reads a word of user memory.
pub fn read_word(read: &ReadMemory<'_>, at: UserAddr) -> Option<u64> {
    let mut bytes = [0; 8];
    let fits = at.0.checked_add(8).is_some_and(|end| end <= USER_END);
    (fits && read(at, &mut bytes)).then(|| u64::from_le_bytes(bytes))
}

/// Steps from a frame to its caller by the frame pointer: RBP points to the caller's RBP, and the return address lies
/// behind it. `None` at the chain's end, and where it leads down the stack or anywhere that cannot be read.
///
/// Of the registers it returns, only `rip`, `rsp` and `rbp` are the caller's.
pub fn step_by_frame_pointer(registers: &Registers, read: &ReadMemory<'_>) -> Option<Registers> {
    let frame = registers.rbp;
    if !frame.is_multiple_of(8) || frame < registers.rsp {
        return None;
    }
    let rbp = read_word(read, UserAddr(frame))?;
    let rip = read_word(read, UserAddr(frame.checked_add(8)?))?;
    let is_code = rip != 0 && rip < USER_END;
    is_code.then(|| Registers { rip, rbp, rsp: frame + 16, ..*registers })
}

/// Visits a stack's frames by their frame pointers, of which code that keeps none has none.
pub fn by_frame_pointers(registers: &Registers, read: &ReadMemory<'_>, visit: &mut Visit<'_>) {
    let mut frame = *registers;
    let mut found = Found::Registers;
    for _ in 0..MOST_FRAMES {
        if visit(StackFrame::bare(UserAddr(frame.rip), found)).is_break() {
            return;
        }
        let Some(caller) = step_by_frame_pointer(&frame, read) else { return };
        (frame, found) = (caller, Found::FramePointer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A stack of words at an address.
    struct Stack {
        start: u64,
        words: Vec<u64>,
    }

    impl Stack {
        fn read(&self, at: UserAddr, to: &mut [u8]) -> bool {
            let bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let Some(from) = at.0.checked_sub(self.start).and_then(|from| usize::try_from(from).ok()) else {
                return false;
            };
            let Some(part) = bytes.get(from..from.saturating_add(to.len())) else { return false };
            to.copy_from_slice(part);
            true
        }

        fn walk(&self, rip: u64, rsp: u64, rbp: u64) -> Vec<u64> {
            let mut seen = Vec::new();
            let registers = Registers { rip, rsp, rbp, ..Registers::default() };
            by_frame_pointers(&registers, &|at, to| self.read(at, to), &mut |frame| {
                seen.push(frame.address.0);
                ControlFlow::Continue(())
            });
            seen
        }
    }

    const AT: u64 = 0x7000;

    #[test]
    fn a_chain_is_followed_to_its_end() {
        let stack = Stack { start: AT, words: vec![0, AT + 0x18, 0x2000, AT + 0x28, 0x3000, 0, 0x4000] };
        assert_eq!(stack.walk(0x1000, AT, AT + 8), [0x1000, 0x2000, 0x3000, 0x4000]);
        let stack = Stack { start: AT, words: vec![AT + 0x10, 0x2000, 0, 0x3000] };
        assert_eq!(stack.walk(0x1000, AT, AT), [0x1000, 0x2000, 0x3000]);
    }

    #[test]
    fn a_visitor_may_have_seen_enough() {
        let stack = Stack { start: AT, words: vec![AT + 0x10, 0x2000, 0, 0x3000] };
        let mut seen = 0;
        let registers = Registers { rip: 1, rsp: AT, rbp: AT, ..Registers::default() };
        by_frame_pointers(&registers, &|at, to| stack.read(at, to), &mut |_| {
            seen += 1;
            ControlFlow::Break(())
        });
        assert_eq!(seen, 1);
    }

    #[test]
    fn a_chain_that_lies_ends_the_walk() {
        for (words, rbp) in [
            // A loop, a step down, a pointer out of line, one to nowhere, one behind the end of memory, no return address.
            (vec![AT, 0x2000], AT),
            (vec![0, 0, AT, 0x2000], AT + 0x10),
            (vec![0, 0, 0, 0], AT + 1),
            (vec![0], 0x10_0000),
            (vec![0], USER_END - 8),
            (vec![0, 0], AT),
            (vec![0], u64::MAX - 7),
        ] {
            assert!(Stack { start: AT, words }.walk(0x1000, AT, rbp).len() <= 2);
        }
        assert_eq!(Stack { start: AT, words: vec![0; 8] }.walk(0x1000, AT + 0x10, AT), [0x1000]);
    }

    #[test]
    fn a_walk_has_an_end_even_on_an_endless_stack() {
        // Each frame says that the next lies right behind it.
        let mut seen = 0;
        let registers = Registers { rip: 1, rsp: AT, rbp: AT, ..Registers::default() };
        let read = |at: UserAddr, to: &mut [u8]| {
            to.copy_from_slice(&(at.0 + 16).to_le_bytes());
            true
        };
        by_frame_pointers(&registers, &read, &mut |_| {
            seen += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(seen, MOST_FRAMES);
    }

    proptest! {
        #[test]
        fn any_stack_is_walked_within_bounds(words in prop::collection::vec(any::<u64>(), 0..64), rsp: u64, rbp: u64) {
            let anywhere = Stack { start: AT, words: words.clone() }.walk(1, rsp, rbp);
            let near: Vec<u64> = words.iter().map(|word| AT + word % 600).collect();
            let near = Stack { start: AT, words: near }.walk(1, AT, AT + rbp % 512);
            // A frame takes two words of the stack, and none is taken twice.
            prop_assert!(anywhere.len() <= 1 + words.len() / 2 && near.len() <= 1 + words.len() / 2);
        }
    }
}
