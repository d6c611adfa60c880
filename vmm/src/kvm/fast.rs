//! The fast path, looked at from outside: what a thread that was stopped in it was about to do.
//!
//! Its code is in the trap image. A call that has no answer yet becomes a trap, wherever the thread stands; one that has
//! becomes a return. A change of the mask has its answer from where it stores what the mask was, which may be what it has
//! read: it cannot be begun again then, so it is completed here. So nobody but this module ever sees a RIP in the fast
//! path. All that is read from the call page is the program's own word for its own registers.

use super::supervisor::Page;
use crate::trap::Registers;
use guest::layout::{self, call};

/// What became of the call that a thread was making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is still to be made.
    Unanswered(Unanswered),
    /// Its result is in RAX.
    Answered,
    /// So it is, and its mask has changed; nobody has looked yet what that lets through.
    Changed,
}

/// Why a call has to be made by trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// It was not posted: it may not be, or nobody attended.
    NotPosted,
    /// It was posted, and nobody took it in time.
    Missed,
    /// It was posted, and needs its thread.
    Refused,
}

/// Tells whether an address is in the fast path.
pub(super) fn is_inside(rip: u64) -> bool {
    (layout::FAST_PAGE..layout::FAST_PAGE + layout::PAGE).contains(&rip)
}

/// Takes a thread out of the fast path: its registers become those behind its call. Its post must be closed.
pub(super) fn leave(page: Page, registers: &mut Registers) -> Outcome {
    let rip = registers.rip;
    let answered = (layout::FAST_ANSWERED..layout::FAST_ANSWERED_END).contains(&rip);
    let own_stack = registers.rsp.wrapping_sub(layout::CALL_PAGE) >= layout::PAGE;
    if registers.rsp == layout::CALL_PAGE + call::RFLAGS {
        registers.rflags = page.load(call::RFLAGS);
    } else if (layout::FAST_SYSCALL..layout::FAST_SYSCALL_END).contains(&rip) {
        registers.rflags = registers.r11;
    }
    if !own_stack {
        registers.rsp = page.load(call::RSP);
    }
    let masks = (layout::FAST_MASK..layout::FAST_MASK_END).contains(&rip);
    if rip == layout::FAST_MASK_SET {
        page.store(call::MASK, registers.r11 & layout::MASKABLE);
    }
    // SYSCALL has put its own address into RCX, and a change of the mask what the mask was.
    let is_kept = masks || rip == layout::FAST_AFTER_SYSCALL;
    registers.rip = if is_kept { page.load(call::RETURN) } else { registers.rcx };
    (registers.rcx, registers.r11) = (registers.rip, registers.rflags);
    let state = page.observe(call::STATE) & u64::from(u32::MAX);
    page.store(call::STATE, call::FREE.into());
    if answered {
        return Outcome::Answered;
    }
    if masks && rip >= layout::FAST_MASK_SET {
        registers.rax = 0;
        return Outcome::Changed;
    }
    match u32::try_from(state) {
        Ok(call::CHANGED) => {
            registers.rax = 0;
            Outcome::Changed
        }
        Ok(call::DONE) => {
            registers.rax = page.load(call::RESULT);
            Outcome::Answered
        }
        Ok(call::POSTED) => Outcome::Unanswered(Unanswered::Missed),
        Ok(call::REFUSED) => Outcome::Unanswered(Unanswered::Refused),
        _ => Outcome::Unanswered(Unanswered::NotPosted),
    }
}
