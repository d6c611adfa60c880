//! A thread's futexes as it ends, or leaves its memory by exec: robust ones are marked, owned ones handed on, and whoever
//! joins the thread is told (futex_exit_release and mm_release in the kernel).

use super::{ANY, FutexKey, Futexes, OWNER_DIED, Scope, TID, WAITERS};
use crate::mm::MemoryMap;
use crate::task::Task;
use std::sync::Arc;
use vmm::addr::UserAddr;
use vmm::memory::Access;

/// The most entries of a robust list that are looked at (ROBUST_LIST_LIMIT): a list may be a circle.
const LIST_LIMIT: u32 = 2048;
/// Tries at one word that others keep changing.
const TRIES: u32 = 1000;

/// A pointer of a robust list: its lowest bit says that the futex has an owner in the sense of [`super::pi`].
#[derive(Clone, Copy, PartialEq, Eq)]
struct Link {
    at: UserAddr,
    owned: bool,
}

/// Whether the thread was about to lock or unlock the futex as it ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Held,
    Pending,
}

impl Link {
    fn read(mm: &MemoryMap, at: UserAddr) -> Option<Self> {
        let raw = read_u64(mm, at)?;
        Some(Self { at: UserAddr(raw & !1), owned: raw & 1 != 0 })
    }
}

fn read_u64(mm: &MemoryMap, at: UserAddr) -> Option<u64> {
    let mut bytes = [0; 8];
    mm.read(at, &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Lets go of everything that a thread holds in its memory, before that is given back: the thread is about to end.
pub(crate) fn leave(task: &Task) {
    task.leave_futexes();
    leave_memory(task);
}

/// As [`leave`], for a thread that goes on with other memory: exec.
pub(crate) fn leave_memory(task: &Task) {
    let Some(mm) = task.mm() else { return };
    let head = task.robust_list();
    task.set_robust_list(UserAddr(0));
    if head.0 != 0 {
        // Whatever cannot be read ends the walk.
        let _: Option<()> = walk(task, &mm, head);
    }
    task.kernel().futexes().bequeath(task);
    announce(task, &mm);
}

/// Walks the robust list (exit_robust_list). `struct robust_list_head` is the first link, the offset of words from links, and the link of the pending operation.
fn walk(task: &Task, mm: &Arc<MemoryMap>, head: UserAddr) -> Option<()> {
    let field = |offset| UserAddr(head.0.wrapping_add(offset));
    let mut link = Link::read(mm, head)?;
    let offset = read_u64(mm, field(8))?;
    let pending = Link::read(mm, field(16))?;
    let word = |link: Link| UserAddr(link.at.0.wrapping_add(offset));
    for _ in 0..LIST_LIMIT {
        if link.at == head {
            break;
        }
        // Read on first: the woken thread may free this one.
        let next = Link::read(mm, link.at);
        if link.at != pending.at {
            mark(task, mm, word(link), link.owned, Stage::Held)?;
        }
        link = next?;
    }
    if pending.at.0 != 0 {
        mark(task, mm, word(pending), pending.owned, Stage::Pending)?;
    }
    Some(())
}

/// Says in a word that its owner died, if that is this task, and wakes one waiter (handle_futex_death).
fn mark(task: &Task, mm: &Arc<MemoryMap>, at: UserAddr, owned: bool, stage: Stage) -> Option<()> {
    if !at.0.is_multiple_of(4) {
        return None;
    }
    let mut word = mm.load_u32(at).ok()?;
    for _ in 0..TRIES {
        let owner = word & TID;
        if stage == Stage::Pending && !owned && owner == 0 {
            // It had unlocked the word and was to wake the next.
            wake_one(task.kernel().futexes(), mm, at);
            return Some(());
        }
        if owner != task.tid().0.cast_unsigned() {
            return Some(());
        }
        let found = mm.compare_exchange_u32(at, word, word & WAITERS | OWNER_DIED).ok()?;
        if found == word {
            if !owned && word & WAITERS != 0 {
                wake_one(task.kernel().futexes(), mm, at);
            }
            return Some(());
        }
        word = found;
    }
    None
}

/// Clears the word that the thread library waits on to join the thread, and wakes who does: nobody, if nobody else uses the
/// memory.
fn announce(task: &Task, mm: &Arc<MemoryMap>) {
    let at = task.clear_child_tid();
    task.set_clear_child_tid(UserAddr(0));
    // A word that cannot be written is the program's loss. A core is to show that the thread was there.
    if at.0 != 0 && !task.ends_for_a_core() && mm.users() > 1 && mm.write(at, &[0; 4]).is_ok() {
        wake_one(task.kernel().futexes(), mm, at);
    }
}

fn wake_one(futexes: &Futexes, mm: &Arc<MemoryMap>, at: UserAddr) {
    if let Ok(key) = FutexKey::of(mm, at, Scope::Shared, Access::READ) {
        // Only a futex used in two ways is refused.
        let _ = futexes.wake(key, 1, ANY);
    }
}
