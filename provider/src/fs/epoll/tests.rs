//! What epolls do between tasks and with each other. What one process sees is tests/programs/epoll.c.

use super::*;
use crate::fs::eventfd::{EventFd, Takes};
use crate::fs::{BufferSource, OpenFlags, open_anonymous};
use crate::testing::{Fixture, fixture};

const IN: u32 = 1;
const EDGE: u32 = 1 << 31;
const EXCLUSIVE: u32 = 1 << 28;

fn eventfd(count: u32) -> Arc<OpenFile> {
    open_anonymous(Arc::new(EventFd::new(count, Takes::All)), "[eventfd]", OpenFlags::RDWR)
}

fn epoll_file() -> Arc<OpenFile> {
    open_anonymous(Epoll::new(), "[eventpoll]", OpenFlags::RDWR)
}

fn epoll(file: &OpenFile) -> &Epoll {
    Epoll::of(file).unwrap()
}

fn add(fixture: &mut Fixture, outer: &OpenFile, file: &Arc<OpenFile>, events: u32, data: u64) -> Result<(), Errno> {
    let fd = Fd(i32::try_from(data).unwrap());
    epoll(outer).add(&fixture.current(), fd, file, Interest { events, data })
}

/// What a wait of at most `max` is told.
fn wait(fixture: &mut Fixture, outer: &OpenFile, max: usize) -> Vec<u64> {
    let found = epoll(outer).take(&fixture.current(), max);
    let data = found.iter().map(|found| found.data).collect();
    epoll(outer).told(found);
    data
}

fn write(fixture: &mut Fixture, file: &OpenFile) {
    file.write(&fixture.current(), &mut BufferSource::new(&1u64.to_ne_bytes())).unwrap();
}

#[test]
fn level_triggered_items_take_turns() {
    let (mut fixture, outer) = (fixture(), epoll_file());
    let files: Vec<_> = (0..3).map(|_| eventfd(1)).collect();
    for (data, file) in (0..).zip(&files) {
        add(&mut fixture, &outer, file, IN, data).unwrap();
    }
    assert_eq!(wait(&mut fixture, &outer, 2), [0, 1]);
    assert_eq!(wait(&mut fixture, &outer, 2), [2, 0]);
    assert_eq!(wait(&mut fixture, &outer, 9), [1, 2, 0]);
}

#[test]
fn an_edge_is_told_once() {
    let (mut fixture, outer, file) = (fixture(), epoll_file(), eventfd(1));
    add(&mut fixture, &outer, &file, IN | EDGE, 5).unwrap();
    assert_eq!(wait(&mut fixture, &outer, 9), [5]);
    assert!(wait(&mut fixture, &outer, 9).is_empty());
    write(&mut fixture, &file);
    assert_eq!(wait(&mut fixture, &outer, 9), [5]);
}

#[test]
fn an_item_goes_with_the_last_descriptor_of_its_open_file() {
    let (mut fixture, outer, file) = (fixture(), epoll_file(), eventfd(1));
    add(&mut fixture, &outer, &file, IN, 5).unwrap();
    let shared = file.clone();
    drop(file);
    assert_eq!(wait(&mut fixture, &outer, 9), [5]);
    drop(shared);
    assert!(wait(&mut fixture, &outer, 9).is_empty());
    assert!(epoll(&outer).items.lock().is_empty());
    assert_eq!(epoll(&outer).ready.len(), 0);
}

#[test]
fn closing_an_epoll_leaves_nothing_behind() {
    let (mut fixture, outer, inner, file) = (fixture(), epoll_file(), epoll_file(), eventfd(0));
    add(&mut fixture, &outer, &file, IN, 1).unwrap();
    add(&mut fixture, &outer, &inner, IN, 2).unwrap();
    drop(outer);
    let WaitSource::Queue(queue) = file.file().wait_source() else { panic!("an eventfd waits by a queue") };
    assert!(!queue.has_waiters());
    assert!(!epoll(&inner).changed().has_waiters());
}

#[test]
fn epolls_that_watch_epolls_pass_on_what_is_ready() {
    let (mut fixture, outer, inner, file) = (fixture(), epoll_file(), epoll_file(), eventfd(0));
    add(&mut fixture, &outer, &inner, IN, 1).unwrap();
    add(&mut fixture, &inner, &file, IN, 2).unwrap();
    assert!(wait(&mut fixture, &outer, 9).is_empty());
    write(&mut fixture, &file);
    assert_eq!(outer.file().ready(), Ready::IN | Ready::RDNORM);
    assert_eq!(wait(&mut fixture, &outer, 9), [1]);
    assert_eq!(wait(&mut fixture, &inner, 9), [2]);
}

#[test]
fn circles_and_long_chains_are_refused() {
    let mut fixture = fixture();
    let chain: Vec<_> = (0..6).map(|_| epoll_file()).collect();
    for (links, pair) in chain.windows(2).enumerate() {
        let expected = if links < 4 { Ok(()) } else { Err(Errno::ELOOP) };
        assert_eq!(add(&mut fixture, &pair[0], &pair[1], IN, 1), expected);
    }
    assert_eq!(add(&mut fixture, &chain[4], &chain[0], IN, 1), Err(Errno::ELOOP));
    assert_eq!(add(&mut fixture, &chain[5], &chain[0], IN, 1), Err(Errno::ELOOP));
    epoll(&chain[0]).remove(Fd(1), &chain[1]).unwrap();
    assert_eq!(add(&mut fixture, &chain[4], &chain[0], IN, 1), Ok(()));
}

#[test]
fn an_exclusive_change_is_for_an_epoll_that_somebody_waits_for() {
    let (mut fixture, file) = (fixture(), eventfd(0));
    let outers = [epoll_file(), epoll_file(), epoll_file()];
    for outer in &outers {
        add(&mut fixture, outer, &file, IN | EXCLUSIVE, 1).unwrap();
    }
    // Nobody waits for the first; the third is not told, since somebody takes it from the second.
    #[derive(Debug)]
    struct Sleeper;
    impl crate::task::Observer for Sleeper {
        fn notify(&self, _ready: Ready) -> bool {
            true
        }
    }
    let sleeper: Arc<dyn crate::task::Observer> = Arc::new(Sleeper);
    let _place = epoll(&outers[1]).changed().observe(Arc::downgrade(&sleeper), Ready::IN, crate::task::Share::Common);
    write(&mut fixture, &file);
    assert_eq!(outers.each_ref().map(|outer| epoll(outer).ready.len()), [1, 1, 0]);
}

#[test]
fn a_host_descriptor_tells_through_the_events_thread() {
    use crate::fs::stdio::adopt;
    let mut fixture = fixture();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let outer = epoll_file();
    let file = adopt(&fixture.current(), reader).unwrap();
    add(&mut fixture, &outer, &file, IN, 1).unwrap();
    assert!(wait(&mut fixture, &outer, 9).is_empty());
    rustix::io::write(&writer, b"x").unwrap();
    // The thread tells it, sooner or later.
    while epoll(&outer).ready.len() == 0 {
        std::thread::yield_now();
    }
    assert_eq!(wait(&mut fixture, &outer, 9), [1]);
}
