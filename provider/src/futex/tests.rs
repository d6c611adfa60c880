//! Words of detached memory, with one task: values, names, and what a dying task leaves behind.

use super::{ANY, Expected, FutexKey, Requeue, Scope, WordChange};
use crate::errno::Errno;
use crate::task::Deadline;
use crate::testing::{Fixture, fixture};
use std::time::Instant;
use vmm::addr::UserAddr;
use vmm::memory::Access;

const PRIVATE_SHARED: [Scope; 2] = [Scope::Private, Scope::Shared];

fn key(fixture: &mut Fixture, at: UserAddr, scope: Scope) -> Result<FutexKey, Errno> {
    FutexKey::of(&fixture.current().mm(), at, scope, Access::READ)
}

/// Waits until the past: either the value differs, or the time is up.
fn wait_a_moment(fixture: &mut Fixture, at: UserAddr, value: u32) -> Result<String, Errno> {
    let key = key(fixture, at, Scope::Private)?;
    let deadline = Deadline::Monotonic(Instant::now());
    let task = fixture.current();
    let expected = Expected { key, at, value, mask: ANY };
    task.kernel().futexes().wait(&task, &expected, deadline).map(|wake| format!("{wake:?}"))
}

#[test]
fn a_wait_compares_first_and_leaves_nothing_behind() {
    let mut fixture = fixture();
    let at = fixture.put(&7u32);
    assert_eq!(wait_a_moment(&mut fixture, at, 8), Err(Errno::EAGAIN));
    assert_eq!(wait_a_moment(&mut fixture, at, 7).unwrap(), "TimedOut");
    for scope in PRIVATE_SHARED {
        let key = key(&mut fixture, at, scope).unwrap();
        assert_eq!(fixture.kernel.futexes().wake(key, 1, ANY), Ok(0));
    }
}

#[test]
fn each_scope_has_its_own_name() {
    let mut fixture = fixture();
    let at = fixture.put(&0u32);
    let [private, shared] = PRIVATE_SHARED.map(|scope| key(&mut fixture, at, scope).unwrap());
    assert_ne!(private, shared);
    assert_eq!(key(&mut fixture, UserAddr(at.0 + 2), Scope::Private), Err(Errno::EINVAL));
    // Nothing is mapped there: only what may be shared is looked at.
    assert!(key(&mut fixture, UserAddr(0x1000), Scope::Private).is_ok());
    assert_eq!(key(&mut fixture, UserAddr(0x1000), Scope::Shared), Err(Errno::EFAULT));
    assert_eq!(key(&mut fixture, UserAddr(1 << 47), Scope::Private), Err(Errno::EFAULT));
}

#[test]
fn word_changes_follow_the_encoding() {
    // FUTEX_OP(ADD, 5, EQ, 3) on 3, and FUTEX_OP(OR | SHIFT, 4, LT, -1) on 1.
    let cases = [(1 << 28 | 5 << 12 | 3, 3, 8, true), (10 << 28 | 2 << 24 | 4 << 12 | 0xfff, 1, 17, false)];
    for (raw, old, new, wakes) in cases {
        let mut fixture = fixture();
        let (first, second) = (fixture.put(&0u32), fixture.put::<u32>(&old));
        let keys = [first, second].map(|at| key(&mut fixture, at, Scope::Private).unwrap());
        let change = WordChange::decode(raw);
        let task = fixture.current();
        let woken = task.kernel().futexes().wake_and_change(&task, (keys[0], 1), (keys[1], second, 1), change);
        assert_eq!(woken, Ok(0));
        assert_eq!(change.holds(old), Ok(wakes));
        assert_eq!(fixture.get::<u32>(second), new);
    }
    assert_eq!(WordChange::decode(5 << 28).apply(0), Err(Errno::ENOSYS));
    assert_eq!(WordChange::decode(6 << 24).holds(0), Err(Errno::ENOSYS));
}

#[test]
fn a_requeue_compares_the_first_word() {
    let mut fixture = fixture();
    let (first, second) = (fixture.put(&1u32), fixture.put(&2u32));
    let keys = [first, second].map(|at| key(&mut fixture, at, Scope::Private).unwrap());
    let task = fixture.current();
    for (expected, result) in [(None, Ok(0)), (Some(1), Ok(0)), (Some(2), Err(Errno::EAGAIN))] {
        let counts = Requeue { wake: 1, moved: 1, expected };
        assert_eq!(task.kernel().futexes().requeue(&task, (keys[0], first), keys[1], counts), result);
    }
}

#[test]
fn an_owned_futex_follows_the_protocol_of_its_word() {
    let mut fixture = fixture();
    let at = fixture.put(&0u32);
    let key = key(&mut fixture, at, Scope::Private).unwrap();
    let past = Deadline::Monotonic(Instant::now());
    let tid = fixture.task.tid().0.cast_unsigned();
    let task = fixture.current();
    let futexes = task.kernel().futexes();
    assert_eq!(futexes.unlock_owned(&task, key, at), Err(Errno::EPERM));
    assert!(futexes.lock_owned(&task, key, at, past).is_ok());
    assert_eq!(task.mm().load_u32(at), Ok(tid));
    assert_eq!(futexes.lock_owned(&task, key, at, past), Err(Errno::EDEADLK));
    assert_eq!(futexes.try_lock_owned(&task, key, at), Err(Errno::EDEADLK));
    assert_eq!(futexes.unlock_owned(&task, key, at), Ok(()));
    assert_eq!(task.mm().load_u32(at), Ok(0));
    // No thread has this id: the waiters bit stays, as on Linux.
    task.mm().write(at, &77u32.to_le_bytes()).unwrap();
    assert_eq!(futexes.lock_owned(&task, key, at, past), Err(Errno::ESRCH));
    assert_eq!(task.mm().load_u32(at), Ok(77 | super::WAITERS));
    // Its owner died with it.
    task.mm().write(at, &super::OWNER_DIED.to_le_bytes()).unwrap();
    assert_eq!(futexes.try_lock_owned(&task, key, at), Ok(()));
    assert_eq!(task.mm().load_u32(at), Ok(super::OWNER_DIED | tid));
}

#[test]
fn deadlocks_are_found_through_others() {
    use crate::task::Pid;
    let fixture = fixture();
    let futexes = fixture.kernel.futexes();
    assert_eq!(futexes.wait_for_owner(Pid(1), Pid(2)), Ok(()));
    assert_eq!(futexes.wait_for_owner(Pid(2), Pid(3)), Ok(()));
    assert_eq!(futexes.wait_for_owner(Pid(3), Pid(1)), Err(Errno::EDEADLK));
    assert_eq!(futexes.wait_for_owner(Pid(4), Pid(1)), Ok(()));
}

#[test]
fn a_robust_list_is_marked_as_its_owner_leaves() {
    let mut fixture = fixture();
    let tid = fixture.task.tid().0.cast_unsigned();
    // A head, one entry whose word lies 16 bytes behind its link, and a pending one that somebody else owns.
    let base = fixture.allocate(4096);
    let (entry, pending) = (base.0 + 64, base.0 + 128);
    for (at, value) in [(base.0, entry), (base.0 + 8, 16), (base.0 + 16, pending), (entry, base.0), (pending, 0)] {
        fixture.current().mm().write(UserAddr(at), &value.to_le_bytes()).unwrap();
    }
    for (at, value) in [(entry + 16, tid | super::WAITERS), (pending + 16, tid + 1)] {
        fixture.current().mm().write(UserAddr(at), &value.to_le_bytes()).unwrap();
    }
    fixture.task.set_robust_list(base);
    super::leave_memory(&fixture.task);
    assert_eq!(fixture.get::<u32>(UserAddr(entry + 16)), super::WAITERS | super::OWNER_DIED);
    assert_eq!(fixture.get::<u32>(UserAddr(pending + 16)), tid + 1);
    assert_eq!(fixture.task.robust_list(), UserAddr(0));
}

#[test]
fn a_robust_list_that_is_a_circle_ends() {
    let mut fixture = fixture();
    let base = fixture.allocate(4096);
    // The entry leads to itself, never back to the head.
    for (at, value) in [(base.0, base.0 + 64), (base.0 + 8, 16), (base.0 + 64, base.0 + 64)] {
        fixture.current().mm().write(UserAddr(at), &value.to_le_bytes()).unwrap();
    }
    fixture.task.set_robust_list(base);
    super::leave_memory(&fixture.task);
    assert_eq!(fixture.get::<u32>(UserAddr(base.0 + 80)), 0);
}
