//! Queues against a plain model, and what outlives a name.

use super::{How, Shape, queue_of};
use crate::errno::Errno;
use crate::fs::{OpenFile, OpenFlags, Ready};
use crate::signal::Signal;
use crate::task::Deadline;
use crate::testing::{Fixture, config, fixture_with};
use proptest::prelude::*;
use std::sync::Arc;

const CREATE: OpenFlags = OpenFlags::CREAT.union(OpenFlags::RDWR);

fn open(fixture: &mut Fixture, name: &[u8], flags: OpenFlags, shape: Option<Shape>) -> Result<Arc<OpenFile>, Errno> {
    let task = fixture.current();
    task.kernel().ipc().posix.open(&task, name, flags, 0o600, shape)
}

fn send(fixture: &mut Fixture, file: &OpenFile, priority: u32, text: &[u8]) -> Result<(), Errno> {
    let queue = queue_of(file)?;
    queue.send(&fixture.current(), queue.message(priority, text.to_vec())?, None)
}

fn receive(fixture: &mut Fixture, file: &OpenFile) -> Result<(u32, Vec<u8>), Errno> {
    let message = queue_of(file)?.receive(&fixture.current(), None)?;
    Ok((message.priority, message.payload.bytes().to_vec()))
}

#[test]
fn a_queue_lives_on_without_its_name() {
    let mut fixture = fixture_with(config());
    let first = open(&mut fixture, b"one", CREATE, None).unwrap();
    assert_eq!(first.location().path(), b"/one");
    assert_eq!(open(&mut fixture, b"one", CREATE | OpenFlags::EXCL, None).err(), Some(Errno::EEXIST));
    send(&mut fixture, &first, 3, b"text").unwrap();
    let kernel = fixture.kernel.clone();
    kernel.ipc().posix.unlink(&fixture.current(), b"one").unwrap();
    assert_eq!(first.location().path(), b"/one (deleted)");
    assert_eq!(open(&mut fixture, b"one", OpenFlags::RDWR, None).err(), Some(Errno::ENOENT));
    let second = open(&mut fixture, b"one", CREATE, None).unwrap();
    assert_eq!(receive(&mut fixture, &second), Err(Errno::EAGAIN));
    assert_eq!(receive(&mut fixture, &first), Ok((3, b"text".to_vec())));
}

#[test]
fn one_process_is_told_once_of_the_first_message() {
    let mut fixture = fixture_with(config());
    let file = open(&mut fixture, b"one", CREATE, None).unwrap();
    let queue = queue_of(&file).unwrap().clone();
    let kernel = fixture.kernel.clone();
    let posix = &kernel.ipc().posix;
    let by_signal = || How::Signal(Some(Signal::SIGUSR1), 7);
    posix.register(&fixture.current(), &queue, by_signal()).unwrap();
    assert_eq!(posix.register(&fixture.current(), &queue, How::Nothing), Err(Errno::EBUSY));
    assert_eq!(queue.describe(), "QSIZE:0          NOTIFY:0     SIGNO:10    NOTIFY_PID:1     \n");
    // A signal that kills its process by default is queued.
    send(&mut fixture, &file, 0, b"a").unwrap();
    assert!(!queue.is_registered());
    assert_eq!(fixture.task.group().signals().queued(), 1);
    posix.register(&fixture.current(), &queue, by_signal()).unwrap();
    send(&mut fixture, &file, 0, b"b").unwrap();
    assert!(queue.is_registered(), "the queue was not empty");
    posix.process_ended(fixture.task.group().pid());
    assert!(!queue.is_registered());
}

#[test]
fn a_sender_that_waited_in_vain_takes_its_message_back() {
    let mut fixture = fixture_with(config());
    let file = open(&mut fixture, b"one", CREATE, Some(Shape { messages: 1, message_size: 8 })).unwrap();
    let queue = queue_of(&file).unwrap().clone();
    send(&mut fixture, &file, 0, b"first").unwrap();
    let used = fixture.kernel.network().budget().used();
    let late = queue.message(9, b"late".to_vec()).unwrap();
    assert_eq!(queue.send(&fixture.current(), late, Some(Deadline::Wall(1))), Err(Errno::ETIMEDOUT));
    assert_eq!(fixture.kernel.network().budget().used(), used);
    assert_eq!(receive(&mut fixture, &file), Ok((0, b"first".to_vec())));
    assert_eq!(queue.receive(&fixture.current(), Some(Deadline::Wall(1))).err(), Some(Errno::ETIMEDOUT));
    // Nobody is left in the lines: a message stays in the queue.
    send(&mut fixture, &file, 0, b"second").unwrap();
    assert_eq!(receive(&mut fixture, &file), Ok((0, b"second".to_vec())));
}

proptest! {
    #[test]
    fn messages_come_by_priority_then_age(steps in proptest::collection::vec(proptest::option::of(0..4u32), 1..60)) {
        let mut fixture = fixture_with(config());
        let file = open(&mut fixture, b"one", CREATE, Some(Shape { messages: 5, message_size: 8 })).unwrap();
        let mut model: Vec<(u32, u64)> = Vec::new();
        for (step, priority) in (0u64..).zip(steps) {
            if let Some(priority) = priority {
                let sent = send(&mut fixture, &file, priority, &step.to_ne_bytes());
                prop_assert_eq!(sent, if model.len() == 5 { Err(Errno::EAGAIN) } else { Ok(()) });
                if sent.is_ok() {
                    model.push((priority, step));
                }
            } else {
                let expected = model.iter().copied().max_by_key(|(priority, step)| (*priority, u64::MAX - step));
                model.retain(|message| Some(*message) != expected);
                let received = receive(&mut fixture, &file);
                let expected = expected.map(|(priority, step)| (priority, step.to_ne_bytes().to_vec()));
                prop_assert_eq!(received, expected.ok_or(Errno::EAGAIN));
            }
            let ready = file.file().ready();
            prop_assert_eq!(ready.contains(Ready::IN), !model.is_empty());
            prop_assert_eq!(ready.contains(Ready::OUT), model.len() < 5);
        }
    }
}
