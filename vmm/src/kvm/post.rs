//! A virtual CPU's post: where the calls that its thread posts are taken, served and answered.
//!
//! What the guest writes lies in the call page and is only ever an offer. Whether somebody may act for the thread is said by
//! the *gate*, which the guest does not see: it is open while the thread is in user mode, and who serves a call holds it
//! claimed. A thread that has left user mode shuts its gate first, and waits if it is claimed; so nobody else acts for it
//! while it does anything itself. The thread must not hold anything then that a server might want.

use super::calls::{Calls, Pages, PostedCall, Served};
use super::supervisor::{CpuPages, Page};
use crate::threads::processor;
use guest::layout::{answers, call};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

/// The thread is not in user mode, or does not post.
const SHUT: u32 = 0;
/// It is in user mode.
const OPEN: u32 = 1;
/// It is in user mode, or has left it and is about to shut the gate; somebody serves a call of its.
const CLAIMED: u32 = 2;
/// Somebody serves a call of its, and the thread sleeps until that is over.
const AWAITED: u32 = 3;

/// How often a thread that wants to shut its gate looks before it sleeps: for some microseconds, in which most calls end.
const LOOKS: u32 = 400;

/// The post of a virtual CPU.
#[derive(Debug)]
pub(super) struct Post {
    page: Page,
    answers: Page,
    gate: AtomicU32,
    /// The host thread that runs the virtual CPU.
    owner: Thread,
    /// The calls of the thread that runs there.
    calls: Mutex<Option<Arc<Calls>>>,
}

/// What became of a look at a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// There was nothing to take.
    Nothing,
    /// A call was served.
    Served,
    /// A call has to be made by trap.
    Refused,
}

impl Post {
    /// Makes the post of the calling host thread's virtual CPU.
    pub(super) fn new(pages: &CpuPages) -> Arc<Self> {
        Arc::new(Self {
            page: pages.call,
            answers: pages.answers,
            gate: AtomicU32::new(SHUT),
            owner: std::thread::current(),
            calls: Mutex::default(),
        })
    }

    /// Makes a post over pages that no machine sees.
    #[cfg(any(test, fuzzing))]
    pub(super) fn over(pages: Pages) -> Self {
        let gate = AtomicU32::new(SHUT);
        let owner = std::thread::current();
        Self { page: pages.call, answers: pages.answers, gate, owner, calls: Mutex::default() }
    }

    /// As [`Self::detach`], where there is no virtual CPU.
    #[cfg(any(test, fuzzing))]
    pub(super) fn detach_from(&self, calls: &Arc<Calls>) {
        *self.calls() = None;
        calls.detach();
    }

    /// A thread with these calls runs from now on. Its gate is shut.
    pub(super) fn attach(&self, calls: &Arc<Calls>) {
        calls.attach(Pages { answers: self.answers, call: self.page });
        *self.calls() = Some(calls.clone());
    }

    /// No thread runs any longer; it has left user mode.
    pub(super) fn detach(&self, pages: &CpuPages) {
        let Some(calls) = self.calls().take() else { return };
        calls.detach();
        pages.reset_answers();
    }

    /// Whether a thread runs that may post.
    pub(super) fn is_used(&self) -> bool {
        self.calls().is_some()
    }

    /// The thread is about to enter user mode, on this processor of the host's.
    pub(super) fn open(&self) {
        self.answers.store(answers::PROCESSOR, processor() as u64);
        self.gate.store(OPEN, Ordering::SeqCst);
    }

    /// The thread has left user mode: waits until nobody else acts for it, and sees to it that nobody will.
    pub(super) fn shut(&self) {
        for _ in 0..LOOKS {
            match self.gate.compare_exchange(OPEN, SHUT, Ordering::SeqCst, Ordering::SeqCst) {
                Err(CLAIMED) => spin_loop(),
                _ => return,
            }
        }
        if self.gate.compare_exchange(CLAIMED, AWAITED, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            while self.gate.load(Ordering::SeqCst) == AWAITED {
                std::thread::park();
            }
        } else {
            // It was released this moment.
            self.gate.store(SHUT, Ordering::SeqCst);
        }
    }

    /// Says whether somebody looks for calls here; threads wait for as many `spins`.
    pub(super) fn attend(&self, spins: Option<u64>) {
        if let Some(spins) = spins {
            self.answers.store(answers::SPINS, spins);
        }
        self.answers.publish(answers::ATTENDED, u64::from(spins.is_some()));
    }

    /// Whether the thread is not in user mode.
    pub(super) fn is_shut(&self) -> bool {
        self.gate.load(Ordering::Relaxed) == SHUT
    }

    /// Takes a call if there is one, and serves it.
    pub(super) fn look(&self) -> Look {
        if !self.is_posted() || !self.claim() {
            return Look::Nothing;
        }
        // It may have been withdrawn before the claim.
        let look = if self.is_posted() { self.serve() } else { Look::Nothing };
        self.release();
        look
    }

    fn is_posted(&self) -> bool {
        self.page.observe(call::STATE) & u64::from(u32::MAX) == u64::from(call::POSTED)
    }

    fn claim(&self) -> bool {
        self.gate.compare_exchange(OPEN, CLAIMED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn release(&self) {
        if self.gate.compare_exchange(CLAIMED, OPEN, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            self.gate.store(SHUT, Ordering::SeqCst);
            self.owner.unpark();
        }
    }

    /// Serves the call that is posted. Each word is read once: the program may change them at any time.
    fn serve(&self) -> Look {
        self.page.store(call::STATE, call::CLAIMED.into());
        let argument = |index: u64| self.page.load(call::ARGUMENTS + 8 * index);
        let call = PostedCall {
            number: self.page.load(call::NUMBER),
            arguments: [0, 1, 2, 3, 4, 5].map(argument),
            return_address: self.page.load(call::RETURN),
        };
        let calls = self.calls().clone();
        match calls.and_then(|calls| calls.serve(&call)) {
            Some(Served { result, is_wanted }) => {
                self.page.store(call::RESULT, result);
                if is_wanted {
                    // It must not see the result of what it is wanted for before that.
                    self.await_owner();
                }
                self.page.publish(call::STATE, call::DONE.into());
                Look::Served
            }
            None => {
                self.page.publish(call::STATE, call::REFUSED.into());
                Look::Refused
            }
        }
    }

    /// Waits until a thread whose call is served, and that is being taken out of user mode, has left it.
    fn await_owner(&self) {
        while self.gate.load(Ordering::SeqCst) == CLAIMED {
            spin_loop();
        }
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Option<Arc<Calls>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
