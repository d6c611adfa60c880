//! Operations on semaphores against a plain model, selection of messages, and numbers that are not soon used again.

use super::{Key, Message, MessageQueue, Operation, OperationFlags, Selection, SemaphoreSet};
use crate::errno::Errno;
use crate::task::Deadline;
use crate::testing::{Fixture, fixture};
use proptest::prelude::*;
use std::sync::Arc;
use vmm::addr::UserAddr;

const CREATE: u32 = 0o1600;

fn queue(fixture: &mut Fixture) -> i32 {
    let task = fixture.current();
    let make = |permissions| Ok(MessageQueue::new(permissions, 16_384));
    task.kernel().ipc().messages.get(&task, Key(7), CREATE, |_| Ok(()), make).unwrap()
}

#[test]
fn a_number_is_not_used_again_soon() {
    let mut fixture = fixture();
    let mut seen = Vec::new();
    for _ in 0..200 {
        let id = queue(&mut fixture);
        assert!(!seen.contains(&id), "{id} was used before");
        seen.push(id);
        fixture.kernel.ipc().messages.remove(id);
        assert_eq!(fixture.kernel.ipc().messages.find(id).err(), Some(Errno::EINVAL));
    }
}

#[test]
fn messages_are_selected_by_type() {
    let mut fixture = fixture();
    let id = queue(&mut fixture);
    let queue = fixture.kernel.ipc().messages.find(id).unwrap();
    let task = fixture.current();
    for kind in [5, 2, 9, 2] {
        queue.send(&task, Message::new(task.kernel(), kind, vec![0; 3]).unwrap(), false).unwrap();
    }
    let receive = |selection, room| queue.receive(&task, selection, (room, false), false).map(|message| message.kind);
    assert_eq!(receive(Selection::Is(4), 9), Err(Errno::ENOMSG));
    assert_eq!(receive(Selection::AtMost(4), 2), Err(Errno::E2BIG));
    assert_eq!(receive(Selection::Copy(2), 9), Ok(9));
    assert_eq!(queue.receive(&task, Selection::Copy(2), (2, true), false).err(), Some(Errno::EINVAL));
    assert_eq!(receive(Selection::AtMost(6), 9), Ok(2));
    assert_eq!(receive(Selection::Not(5), 9), Ok(9));
    assert_eq!(receive(Selection::Any, 9), Ok(5));
    assert_eq!(queue.status().bytes, 3);
    queue.remove();
    assert_eq!(receive(Selection::Any, 9), Err(Errno::EIDRM));
}

#[test]
fn a_number_that_was_asked_for_is_given_once() {
    let mut fixture = fixture();
    let kernel = fixture.kernel.clone();
    let queues = &kernel.ipc().messages;
    let wanted = 5 << 15 | 77;
    queues.want_number(wanted);
    assert_eq!(queue(&mut fixture), wanted);
    assert_eq!(queues.wanted_number(), None);
    queues.want_number(wanted);
    queues.forget_key(Key(7));
    // The slot is taken: the next one is as good.
    assert_eq!(queue(&mut fixture), wanted + 1);
    queues.set_most(2);
    queues.forget_key(Key(7));
    let task = fixture.current();
    let make = |permissions| Ok(MessageQueue::new(permissions, 1));
    assert_eq!(queues.get(&task, Key(7), CREATE, |_| Ok(()), make), Err(Errno::ENOSPC));
}

#[test]
fn semaphores_and_messages_count_while_they_exist() {
    let mut fixture = fixture();
    let kernel = fixture.kernel.clone();
    let (ipc, used) = (kernel.ipc(), || kernel.network().budget().used());
    let before = used();
    let task = fixture.current();
    let make = |permissions| SemaphoreSet::new(permissions, 10, &ipc.semaphore_count, 15);
    let id = ipc.semaphores.get(&task, Key::PRIVATE, CREATE, |_| Ok(()), make).unwrap();
    assert_eq!(ipc.semaphores.get(&task, Key::PRIVATE, CREATE, |_| Ok(()), make), Err(Errno::ENOSPC));
    assert_eq!(ipc.semaphore_count.get(), 10);
    let message = Message::new(&kernel, 1, vec![0; 100]).unwrap();
    assert!(used() >= before + 180);
    drop((message, ipc.semaphores.remove(id)));
    assert_eq!((used(), ipc.semaphore_count.get()), (before, 0));
}

#[test]
fn a_removed_segment_goes_with_its_last_mapping() {
    use linux_raw_sys::general::{__NR_munmap, __NR_shmat, __NR_shmctl, __NR_shmdt, __NR_shmget};
    const PAGES: u64 = 3 * 4096;
    let mut fixture = fixture();
    let memory = fixture.kernel.memory().clone();
    let id = fixture.returned(__NR_shmget, &[0, PAGES, 0o1600]).unwrap();
    let attach = |fixture: &mut Fixture| fixture.returned(__NR_shmat, &[id, 0, 0]).unwrap();
    let (first, second) = (attach(&mut fixture), attach(&mut fixture));
    fixture.current().mm().write(UserAddr(first), &[7; 5000]).unwrap();
    let touched = memory.held();
    let number = i32::try_from(id).unwrap();
    let object = Arc::downgrade(&fixture.kernel.ipc().segments.find(number).unwrap().object().unwrap());
    fixture.returned(__NR_shmctl, &[id, 0, 0]).unwrap();
    fixture.returned(__NR_shmdt, &[first]).unwrap();
    assert!(object.strong_count() > 0);
    assert_eq!(fixture.get::<u8>(UserAddr(second + 4999)), 7);
    // In two parts, the middle page first.
    fixture.returned(__NR_munmap, &[second + 4096, 4096]).unwrap();
    assert!(object.strong_count() > 0);
    fixture.returned(__NR_shmdt, &[second]).unwrap();
    assert_eq!(object.strong_count(), 0, "somebody holds on to the segment");
    assert!(memory.held() + 2 * 4096 <= touched, "the pages that were written are held");
    assert_eq!(fixture.kernel.ipc().segments.find(number).err(), Some(Errno::EINVAL));
}

fn operation() -> impl Strategy<Value = (u16, i16, bool)> {
    (0..3u16, -3..4i16, any::<bool>())
}

proptest! {
    #[test]
    fn operations_are_all_done_or_none(calls in proptest::collection::vec(proptest::collection::vec(operation(), 1..4), 1..20)) {
        let mut fixture = fixture();
        let fixture_kernel = fixture.kernel.clone();
        let task = fixture.current();
        let all = &fixture_kernel.ipc().semaphore_count;
        let make = |permissions| SemaphoreSet::new(permissions, 3, all, 1000);
        let sets = &task.kernel().ipc().semaphores;
        let id = sets.get(&task, Key::PRIVATE, CREATE, |_| Ok(()), make).unwrap();
        let set = sets.find(id).unwrap();
        let (mut model, mut undo) = ([0i32; 3], [0i32; 3]);
        for call in calls {
            let operations = call.iter().map(|(number, change, undone)| {
                let undone = if *undone { OperationFlags::UNDO } else { OperationFlags::empty() };
                Operation { number: *number, change: *change, flags: OperationFlags::NO_WAIT | undone }
            });
            let done = set.operate(&task, operations.collect(), Deadline::Never);
            let mut after = model;
            let possible = call.iter().all(|(number, change, _)| {
                let value = &mut after[usize::from(*number)];
                let fits = if *change == 0 { *value == 0 } else { *value + i32::from(*change) >= 0 };
                *value += i32::from(*change);
                fits
            });
            prop_assert_eq!(done.is_ok(), possible);
            if possible {
                model = after;
                for (number, change, undone) in &call {
                    undo[usize::from(*number)] -= if *undone { i32::from(*change) } else { 0 };
                }
            }
            let values: Vec<i32> = set.semaphores().iter().map(|semaphore| semaphore.value).collect();
            prop_assert_eq!(&values[..], &model[..]);
        }
        task.kernel().ipc().process_ended(task.group().pid());
        for (semaphore, (value, undo)) in set.semaphores().iter().zip(model.iter().zip(undo)) {
            prop_assert_eq!(semaphore.value, (value + undo).max(0));
        }
    }
}
