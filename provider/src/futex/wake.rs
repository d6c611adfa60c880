//! Waking, moving sleepers to another futex, and changing a second word on the way.

use super::queue::Wakes;
use super::{ANY, FutexKey, Futexes};
use crate::errno::Errno;
use crate::task::CurrentTask;
use vmm::addr::UserAddr;

/// How many sleepers a requeue wakes and moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requeue {
    /// Woken at the most.
    pub wake: usize,
    /// Moved at the most, of those that are not woken.
    pub moved: usize,
    /// The word is compared with this first; `None`: it is not looked at.
    pub expected: Option<u32>,
}

/// What FUTEX_WAKE_OP does to the second word, and when it wakes who waits there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordChange {
    operation: u32,
    comparison: u32,
    operand: i32,
    compared: i32,
}

impl WordChange {
    /// Decodes the call's last argument (futex_atomic_op_inuser).
    pub fn decode(raw: u32) -> Self {
        // Both operands are signed and have twelve bits.
        let field = |shift: u32| (raw >> shift << 20).cast_signed() >> 20;
        let mut operand = field(12);
        if raw >> 31 != 0 {
            // FUTEX_OP_OPARG_SHIFT: a bit's number. Linux takes what is out of range modulo 32.
            operand = 1_i32.wrapping_shl(operand.cast_unsigned());
        }
        Self { operation: raw >> 28 & 7, comparison: raw >> 24 & 15, operand, compared: field(0) }
    }

    /// The word's new value; `ENOSYS` for no such operation.
    pub(super) fn apply(self, old: u32) -> Result<u32, Errno> {
        let operand = self.operand.cast_unsigned();
        Ok(match self.operation {
            0 => operand,
            1 => old.wrapping_add(operand),
            2 => old | operand,
            3 => old & !operand,
            4 => old ^ operand,
            _ => return Err(Errno::ENOSYS),
        })
    }

    /// Whether the old value is such that the second futex is woken; `ENOSYS` for no such comparison.
    pub(super) fn holds(self, old: u32) -> Result<bool, Errno> {
        let old = old.cast_signed();
        Ok(match self.comparison {
            0 => old == self.compared,
            1 => old != self.compared,
            2 => old < self.compared,
            3 => old <= self.compared,
            4 => old > self.compared,
            5 => old >= self.compared,
            _ => return Err(Errno::ENOSYS),
        })
    }
}

impl Futexes {
    /// Wakes at most `count` (but one) that share a bit with `mask`, the oldest first; returns how many. `EINVAL` if it
    /// comes to one that waits to own a futex.
    pub fn wake(&self, key: FutexKey, count: usize, mask: u32) -> Result<usize, Errno> {
        let mut wakes = Wakes::default();
        let mut bucket = self.lock(&key);
        let Some(queue) = bucket.queue(&key) else { return Ok(0) };
        let result = queue.take(count, mask, &mut wakes);
        bucket.tidy();
        drop(bucket);
        let woken = wakes.count();
        wakes.deliver();
        result.map(|()| woken)
    }

    /// Changes the word at `second`, wakes at most `count` on the first futex and, if the old value of the word says so, at
    /// most `second_count` on the second (FUTEX_WAKE_OP). Returns how many it woke.
    pub fn wake_and_change(
        &self,
        task: &CurrentTask<'_>,
        (first, count): (FutexKey, usize),
        (second, at, second_count): (FutexKey, UserAddr, usize),
        change: WordChange,
    ) -> Result<usize, Errno> {
        let mm = task.mm();
        let mut wakes = Wakes::default();
        let mut pair = self.lock_both(&first, &second);
        let mut old = mm.load_u32(at)?;
        loop {
            let found = mm.compare_exchange_u32(at, old, change.apply(old)?)?;
            if found == old {
                break;
            }
            old = found;
        }
        let both = change.holds(old)?;
        let mut result = Ok(());
        if let Some(queue) = pair.first().queue(&first) {
            result = queue.take(count, ANY, &mut wakes);
        }
        if both
            && result.is_ok()
            && let Some(queue) = pair.second().queue(&second)
        {
            result = queue.take(second_count, ANY, &mut wakes);
        }
        pair.first().tidy();
        pair.second().tidy();
        drop(pair);
        let woken = wakes.count();
        wakes.deliver();
        result.map(|()| woken)
    }

    /// Wakes some of those that wait on a futex and moves others to a second one; returns how many of both. `EAGAIN` if
    /// the word at `at` is not what was expected, `EINVAL` if it comes to one that waits to own a futex.
    pub fn requeue(
        &self,
        task: &CurrentTask<'_>,
        (from, at): (FutexKey, UserAddr),
        to: FutexKey,
        counts: Requeue,
    ) -> Result<usize, Errno> {
        let mm = task.mm();
        let mut wakes = Wakes::default();
        let mut pair = self.lock_both(&from, &to);
        if let Some(expected) = counts.expected
            && mm.load_u32(at)? != expected
        {
            return Err(Errno::EAGAIN);
        }
        let mut moved = 0;
        let mut result = Ok(());
        if let Some(queue) = pair.first().queue(&from) {
            if counts.wake > 0 {
                result = queue.take(counts.wake, ANY, &mut wakes);
            }
            let wanted = queue.waiters.len().min(counts.moved);
            let plain = queue.waiters.iter().take(wanted).take_while(|entry| entry.candidate.is_none()).count();
            if plain < wanted {
                result = result.and(Err(Errno::EINVAL));
            }
            moved = plain;
            // To itself: nothing changes, not even the order.
            if from != to {
                let entries: Vec<_> = queue.waiters.drain(..plain).collect();
                for entry in entries {
                    entry.move_to(to);
                    pair.second().push(entry, self);
                }
            }
        }
        pair.first().tidy();
        drop(pair);
        let woken = wakes.count();
        wakes.deliver();
        result.map(|()| woken + moved)
    }
}
