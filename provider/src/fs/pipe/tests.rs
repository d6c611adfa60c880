//! Pipes between tasks: who is woken when, and what ends a wait. What one process sees is tests/programs/pipes.c.

use super::*;
use crate::fs::{BufferSink, BufferSource, Fd, Ready};
use crate::signal::send::send_to_group;
use crate::signal::{SigInfo, Signal};
use crate::testing::{Fixture, config, fixture, fixture_with};
use linux_raw_sys::general::{__NR_mknod, __NR_open, __NR_pipe2, __NR_read, __NR_write};

const FIFO: u64 = 0o1_0600;

/// A fixture with a pipe, and its two descriptors.
fn scene(flags: OpenFlags) -> (Fixture, u64, u64) {
    let mut fixture = fixture();
    let ends = fixture.allocate(8);
    assert_eq!(fixture.returned(__NR_pipe2, &[ends.0, flags.bits().into()]), Ok(0));
    let [reading, writing] = fixture.get::<[u32; 2]>(ends).map(u64::from);
    (fixture, reading, writing)
}

fn file(fixture: &Fixture, fd: u64) -> Arc<OpenFile> {
    fixture.task.files().unwrap().get(Fd(i32::try_from(fd).unwrap())).unwrap()
}

#[test]
fn a_blocked_reader_gets_what_another_thread_writes() {
    let (mut fixture, reading, writing) = scene(OpenFlags::empty());
    let writer = file(&fixture, writing);
    let buffer = fixture.allocate(4096);
    let queue_of = file(&fixture, reading);
    let pipe = queue_of.file().as_any().unwrap().downcast_ref::<PipeFile>().unwrap().pipe().clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !pipe.changed().has_waiters() {
                std::thread::yield_now();
            }
            let mut other = crate::testing::fixture();
            let task = other.current();
            assert_eq!(writer.write(&task, &mut BufferSource::new(b"woken")), Ok(5));
        });
        assert_eq!(fixture.returned(__NR_read, &[reading, buffer.0, 4096]), Ok(5));
    });
    assert!(!pipe.changed().has_waiters());
}

#[test]
fn a_signal_ends_a_blocked_write_with_what_was_written() {
    let (mut fixture, _reading, writing) = scene(OpenFlags::empty());
    let buffer = fixture.allocate(70_000);
    let task = fixture.task.clone();
    let end = file(&fixture, writing);
    let pipe = end.file().as_any().unwrap().downcast_ref::<PipeFile>().unwrap().pipe().clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !pipe.changed().has_waiters() {
                std::thread::yield_now();
            }
            send_to_group(task.group(), SigInfo::kernel(Signal::SIGUSR1)).unwrap();
        });
        assert_eq!(fixture.returned(__NR_write, &[writing, buffer.0, 70_000]), Ok(65536));
    });
    assert_eq!(fixture.returned(__NR_write, &[writing, buffer.0, 1]), Err(Errno::ERESTARTSYS));
}

#[test]
fn a_pipe_that_a_writer_leaves_tells_whoever_polls() {
    let (fixture, reading, writing) = scene(OpenFlags::empty());
    let reader = file(&fixture, reading);
    assert_eq!(reader.file().ready(), Ready::empty());
    let closed = fixture.task.files().unwrap().close(Fd(i32::try_from(writing).unwrap())).unwrap();
    drop(closed);
    assert_eq!(reader.file().ready(), Ready::HUP);
}

#[test]
fn a_fifo_is_one_pipe_for_all_who_open_its_inode() {
    let mut fixture = fixture_with(config());
    let path = fixture.put(b"/tmp/fifo\0");
    assert_eq!(fixture.returned(__NR_mknod, &[path.0, FIFO, 0]), Ok(0));
    let open = |fixture: &mut Fixture, flags: OpenFlags| fixture.returned(__NR_open, &[path.0, flags.bits().into(), 0]);
    assert_eq!(open(&mut fixture, OpenFlags::WRONLY | OpenFlags::NONBLOCK), Err(Errno::ENXIO));
    let reading = open(&mut fixture, OpenFlags::NONBLOCK).unwrap();
    let reader = file(&fixture, reading);
    // No writer has been there yet, so none has hung up.
    assert_eq!(reader.file().ready(), Ready::empty());
    let writing = open(&mut fixture, OpenFlags::WRONLY).unwrap();
    let writer = file(&fixture, writing);
    let mut space = [0; 8];
    let task = fixture.current();
    assert_eq!(writer.write(&task, &mut BufferSource::new(b"named")), Ok(5));
    assert_eq!(reader.read(&task, &mut BufferSink::new(&mut space)), Ok(5));
    drop((writer, task.files().close(Fd(i32::try_from(writing).unwrap()))));
    assert_eq!(reader.file().ready(), Ready::HUP);
}

#[test]
fn an_open_that_waits_for_the_other_side_is_interrupted() {
    let mut fixture = fixture_with(config());
    let path = fixture.put(b"/tmp/fifo\0");
    assert_eq!(fixture.returned(__NR_mknod, &[path.0, FIFO, 0]), Ok(0));
    send_to_group(fixture.task.group(), SigInfo::kernel(Signal::SIGUSR1)).unwrap();
    assert_eq!(fixture.returned(__NR_open, &[path.0, 0, 0]), Err(Errno::ERESTARTSYS));
    // Nobody reads any more.
    let writes = OpenFlags::WRONLY | OpenFlags::NONBLOCK;
    assert_eq!(fixture.returned(__NR_open, &[path.0, writes.bits().into(), 0]), Err(Errno::ENXIO));
}
