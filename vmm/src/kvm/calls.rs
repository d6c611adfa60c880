//! How a thread's system calls are made, number by number: by trap, by post, with an answer that lies ready, or by a change of
//! the thread's mask.
//!
//! The table belongs to the thread. While a virtual CPU of its own runs it, a copy lies in that virtual CPU's answers
//! page, where the guest's fast path reads it and cannot write; whoever changes the table changes the copy too. What a
//! fast path does is never relied upon: a program can make any of its calls by trap, and post any call at all.

use super::supervisor::Page;
#[cfg(doc)]
use crate::memory::Waiters;
use guest::layout;
use std::fmt;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

/// How a thread's calls of one number are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// By a trap to the thread's provider.
    #[default]
    Trap,
    /// By a post, if somebody is there to take it: the thread spins in user mode while a host thread of System's has the
    /// provider serve the call.
    Post,
    /// Without anybody: the guest itself returns this value, which must be less than 2^63.
    Answer(u64),
    /// By the guest itself, which changes the thread's mask ([`Calls::mask`]) and stores what it was: as rt_sigprocmask(2)
    /// of Linux does. If the call's way is another one when that is done, the thread's provider is called next as if the
    /// thread had been kicked. So whoever has something for the thread that the mask may hold back changes the way first,
    /// and then looks at the mask: either they see what the mask is now, or the provider sees what they have.
    Mask,
    /// By the guest itself, if it is FUTEX_WAKE of Linux's futex(2) with FUTEX_PRIVATE_FLAG for which nobody is [counted](Waiters): it returns
    /// 0. Any other call, by a post or a trap.
    Wake {
        /// Whether those are posted.
        posts: bool,
        /// What the words of the thread's space are counted with. A thread's calls of all numbers have one.
        salt: u32,
    },
}

impl Way {
    /// The word that the fast path reads.
    fn word(self) -> u64 {
        match self {
            Self::Trap => layout::CALL_TRAPS,
            Self::Post => layout::CALL_IS_POSTED,
            Self::Mask => layout::CALL_IS_MASK,
            Self::Wake { posts: true, .. } => layout::CALL_IS_WAKE,
            Self::Wake { posts: false, .. } => layout::CALL_IS_WAKE_OR_TRAPS,
            Self::Answer(value) if value >> 63 == 0 => value,
            // It would read as one of the above.
            Self::Answer(_) => layout::CALL_TRAPS,
        }
    }
}

/// A system call that a thread has posted: it waits in user mode for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostedCall {
    /// `rax`: what call it is.
    pub number: u64,
    /// `rdi, rsi, rdx, r10, r8, r9`.
    pub arguments: [u64; 6],
    /// Where the thread goes on when it has the answer. As the program says: it may be any number.
    pub return_address: u64,
}

/// Who serves the calls that a thread posts.
pub(crate) trait ServeCalls: Send + Sync {
    /// Serves a call on the calling host thread. `None`: it has to be made by trap, and nothing was done.
    fn serve(&self, call: &PostedCall) -> Option<Served>;
}

/// What came of a posted call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    /// What it returns.
    pub(crate) result: u64,
    /// The thread is being taken out of user mode, perhaps for something that the call has done.
    pub(crate) is_wanted: bool,
}

/// Whoever serves a thread that there is none of.
struct Nobody;

impl ServeCalls for Nobody {
    fn serve(&self, _call: &PostedCall) -> Option<Served> {
        None
    }
}

/// The table of a thread's calls.
pub struct Calls {
    table: Mutex<Table>,
    server: Weak<dyn ServeCalls>,
}

struct Table {
    ways: [Way; layout::CALLS],
    /// Every call is made by trap, whatever the table says.
    trap_all: bool,
    /// The pages of the virtual CPU that runs the thread.
    pages: Option<Pages>,
    /// The mask, while there are no pages.
    mask: u64,
}

/// What a virtual CPU has for the calls of the thread that it runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages {
    /// [`layout::ANSWERS_PAGE`].
    pub(super) answers: Page,
    /// [`layout::CALL_PAGE`].
    pub(super) call: Page,
}

impl Pages {
    /// Writes how the calls are made whose word is at `offset`.
    fn show(&self, offset: u64, way: Way) {
        if let Way::Wake { salt, .. } = way {
            self.answers.store(layout::answers::SALT, salt.into());
        }
        self.answers.store(offset, way.word());
    }
}

impl Calls {
    /// Makes the table of a new thread, all of whose calls are made by trap.
    pub(crate) fn new(server: Weak<dyn ServeCalls>) -> Self {
        let table = Table { ways: [Way::Trap; layout::CALLS], trap_all: false, pages: None, mask: 0 };
        Self { table: Mutex::new(table), server }
    }

    /// Says how calls of `number` are made from now on. Numbers from [`guest::layout::CALLS`] on are always made by trap.
    /// A call that the thread is in the middle of is made as before.
    pub fn set(&self, number: u64, way: Way) {
        let mut table = self.lock();
        if !table.set(number, way) {
            return;
        }
        if let (Some(pages), false) = (table.pages, table.trap_all) {
            pages.show(number * 8, way);
        }
        // Before the mask is looked at (see `Way::Mask`).
        fence(Ordering::SeqCst);
    }

    /// The thread's mask. While a virtual CPU runs the thread, the program can make it any number.
    pub fn mask(&self) -> u64 {
        let table = self.lock();
        table.pages.map_or(table.mask, |pages| pages.call.load(layout::call::MASK))
    }

    /// Changes the mask of a thread that is not in user mode, or waits there for a posted call.
    pub fn set_mask(&self, mask: u64) {
        let mut table = self.lock();
        match table.pages {
            Some(pages) => pages.call.store(layout::call::MASK, mask),
            None => table.mask = mask,
        }
    }

    /// As [`Self::set`] for many numbers at once.
    pub fn set_all(&self, ways: impl IntoIterator<Item = (u64, Way)>) {
        let mut table = self.lock();
        for (number, way) in ways {
            table.set(number, way);
        }
        table.show();
    }

    /// Tells how calls of `number` are made.
    pub fn way(&self, number: u64) -> Way {
        let table = self.lock();
        let way = usize::try_from(number).ok().and_then(|index| table.ways.get(index).copied());
        way.filter(|_| !table.trap_all).unwrap_or_default()
    }

    /// Makes all calls by trap, or takes that back; the table is kept.
    pub fn trap_all(&self, on: bool) {
        let mut table = self.lock();
        if std::mem::replace(&mut table.trap_all, on) != on {
            table.show();
        }
        fence(Ordering::SeqCst);
    }

    /// A virtual CPU with these pages runs the thread from now on.
    pub(super) fn attach(&self, pages: Pages) {
        let mut table = self.lock();
        pages.call.store(layout::call::MASK, table.mask);
        table.pages = Some(pages);
        table.show();
    }

    /// No virtual CPU of the thread's own runs it any longer.
    pub(super) fn detach(&self) {
        let mut table = self.lock();
        if let Some(pages) = table.pages.take() {
            table.mask = pages.call.load(layout::call::MASK);
        }
    }

    /// Serves a call that the thread has posted; `None`: it has to be made by trap.
    pub(super) fn serve(&self, call: &PostedCall) -> Option<Served> {
        self.server.upgrade()?.serve(call)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Calls {
    /// A table that belongs to no thread, for a provider's tests.
    fn default() -> Self {
        Self::new(Weak::<Nobody>::new())
    }
}

impl Table {
    /// Changes the table alone; `false`: it has no such number.
    fn set(&mut self, number: u64, way: Way) -> bool {
        let place = usize::try_from(number).ok().and_then(|index| self.ways.get_mut(index));
        place.map(|place| *place = way).is_some()
    }

    /// Writes the whole table to the answers page.
    fn show(&self) {
        let Some(pages) = self.pages else { return };
        for (way, at) in self.ways.iter().zip((0..).step_by(8)) {
            pages.show(at, if self.trap_all { Way::Trap } else { *way });
        }
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.lock();
        let other = table.ways.iter().filter(|&&way| way != Way::Trap).count();
        f.debug_struct("Calls").field("not_trapped", &other).field("trap_all", &table.trap_all).finish_non_exhaustive()
    }
}
