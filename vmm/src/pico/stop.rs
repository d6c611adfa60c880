//! How a thread is stopped from outside, and what is known of one that is.
//!
//! A thread in user mode is kicked out, and parks before it enters again. One that its provider is serving, perhaps for
//! ever, is stopped as it is: it parks before it next enters user mode. The registers it left user mode with are published
//! at each trap, for stack walks, in words that cost a trap some nanoseconds and no lock.

use crate::trap::Registers;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use thiserror::Error;

/// The thread is not stopped outside user mode, so its registers are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the thread is running")]
pub struct NotStopped;

/// How a suspended thread stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Outside user mode and outside its provider: all its registers may be read and changed.
    Parked,
    /// Its provider is serving it, and it cannot enter user mode before it is resumed. The registers that it left user mode
    /// with may be read.
    InProvider,
    /// It has ended.
    Ended,
}

/// What a thread does, as the host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadStatus {
    /// It has not started.
    Created,
    /// It is in user mode, or on its way there.
    Running,
    /// Its provider is serving it: it works, or waits for something.
    InProvider,
    /// It is suspended, and parked.
    Suspended,
    /// It has ended.
    Ended,
}

/// Words in [`Registers`].
const WORDS: usize = 18;

/// The registers that a thread left user mode with, while its provider serves it.
///
/// The thread's host thread is the only writer. The count is odd while the words are valid; a reader takes them for whole
/// if the count was odd and has not changed.
#[derive(Debug, Default)]
pub(super) struct Trapped {
    count: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl Trapped {
    /// The thread has left user mode for its provider.
    pub(super) fn enter(&self, registers: &Registers) {
        for (word, value) in self.words.iter().zip(words(registers)) {
            word.store(value, Ordering::Relaxed);
        }
        // Before the thread looks whether somebody waits for this: they ask for it, and then look here.
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// The provider has served the thread.
    pub(super) fn leave(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        // The words of the next trap come after.
        fence(Ordering::Release);
    }

    /// Tells whether the provider is serving the thread.
    pub(super) fn is_inside(&self) -> bool {
        self.count.load(Ordering::SeqCst) % 2 == 1
    }

    /// The registers, if the provider is serving the thread.
    pub(super) fn registers(&self) -> Option<Registers> {
        let before = self.count.load(Ordering::Acquire);
        let words = self.words.each_ref().map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let whole = before % 2 == 1 && self.count.load(Ordering::Relaxed) == before;
        whole.then(|| from_words(words))
    }
}

fn words(registers: &Registers) -> [u64; WORDS] {
    let r = registers;
    [
        r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15,
        r.rip, r.rflags,
    ]
}

fn from_words(words: [u64; WORDS]) -> Registers {
    let [rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags] = words;
    Registers { rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(first: u64) -> Registers {
        from_words(std::array::from_fn(|index| first + index as u64))
    }

    #[test]
    fn registers_are_there_while_the_provider_serves() {
        let trapped = Trapped::default();
        assert_eq!(trapped.registers(), None);
        trapped.enter(&numbered(100));
        assert!(trapped.is_inside());
        assert_eq!(trapped.registers(), Some(numbered(100)));
        trapped.leave();
        assert!(!trapped.is_inside());
        assert_eq!(trapped.registers(), None);
    }

    #[test]
    fn a_reader_never_sees_the_registers_of_two_traps() {
        let trapped = Trapped::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for trap in 1..20_000 {
                    trapped.enter(&numbered(trap * 1000));
                    trapped.leave();
                }
                trapped.enter(&numbered(0));
            });
            loop {
                let Some(seen) = trapped.registers() else { continue };
                assert_eq!(seen, numbered(seen.rax));
                if seen.rax == 0 {
                    return;
                }
            }
        });
    }
}
