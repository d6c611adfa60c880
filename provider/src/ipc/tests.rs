//! Operations on semaphores against a plain model, selection of messages, and numbers that are not soon used again.

use super::{Key, Message, MessageQueue, Operation, OperationFlags, Selection, SemaphoreSet};
use crate::errno::Errno;
use crate::task::Deadline;
use crate::testing::{Fixture, fixture};
use proptest::prelude::*;

const CREATE: u32 = 0o1600;

fn queue(fixture: &mut Fixture) -> i32 {
    let task = fixture.current();
    let make = |permissions| Ok(MessageQueue::new(permissions));
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
        queue.send(&task, Message { kind, text: vec![0; 3] }, false).unwrap();
    }
    let receive =
        |selection, room| queue.receive(&task, selection, (room, false), false).map(|received| received.0.kind);
    assert_eq!(receive(Selection::Is(4), 9), Err(Errno::ENOMSG));
    assert_eq!(receive(Selection::AtMost(4), 2), Err(Errno::E2BIG));
    assert_eq!(receive(Selection::Copy(2), 9), Ok(9));
    assert_eq!(receive(Selection::AtMost(6), 9), Ok(2));
    assert_eq!(receive(Selection::Not(5), 9), Ok(9));
    assert_eq!(receive(Selection::Any, 9), Ok(5));
    assert_eq!(queue.status().bytes, 3);
    queue.remove();
    assert_eq!(receive(Selection::Any, 9), Err(Errno::EIDRM));
}

fn operation() -> impl Strategy<Value = (u16, i16, bool)> {
    (0..3u16, -3..4i16, any::<bool>())
}

proptest! {
    #[test]
    fn operations_are_all_done_or_none(calls in proptest::collection::vec(proptest::collection::vec(operation(), 1..4), 1..20)) {
        let mut fixture = fixture();
        let task = fixture.current();
        let make = |permissions| Ok(SemaphoreSet::new(permissions, 3));
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
