use crate::abi::poll::{PollFd, SigsetArgument};
use crate::errno::Errno;
use crate::fs::{Fd, stdio};
use crate::signal::{SigInfo, Signal, SignalSet};
use crate::testing::{Fixture, config, fixture_with};
use crate::time::{Timespec, Timeval};
use linux_raw_sys::general::{__NR_poll, __NR_ppoll, __NR_pselect6, __NR_select};
use std::os::fd::OwnedFd;
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, IntoBytes};

const IN: u16 = 1;
const OUT: u16 = 4;
const ERR: u16 = 8;
const HUP: u16 = 16;
const NVAL: u16 = 32;

/// A sandbox with /dev/null at descriptor 3, the reading end of a pipe at 4 and the writing end of another at 5.
struct Scene {
    fixture: Fixture,
    at: UserAddr,
    /// The other end of descriptor 4.
    writer: Option<OwnedFd>,
    /// The other end of descriptor 5.
    reader: Option<OwnedFd>,
}

impl Scene {
    fn new() -> Self {
        let mut fixture = fixture_with(config());
        let at = fixture.allocate(4096);
        let (ours, writer) = rustix::pipe::pipe().unwrap();
        let (reader, theirs) = rustix::pipe::pipe().unwrap();
        let task = fixture.current();
        let null = task.kernel().namespace().open(&task, None, b"/dev/null", crate::fs::OpenFlags::RDWR, 0).unwrap();
        task.files().replace(null, false, Fd(3), 10).unwrap();
        task.files().replace(stdio::adopt(&task, ours).unwrap(), false, Fd(4), 10).unwrap();
        task.files().replace(stdio::adopt(&task, theirs).unwrap(), false, Fd(5), 10).unwrap();
        Self { fixture, at, writer: Some(writer), reader: Some(reader) }
    }

    fn put<T: IntoBytes + zerocopy::Immutable>(&self, offset: u64, value: &T) -> u64 {
        let at = UserAddr(self.at.0 + offset);
        self.fixture.task.mm().unwrap().write(at, value.as_bytes()).unwrap();
        at.0
    }

    fn get<T: FromBytes + IntoBytes>(&self, offset: u64) -> T {
        let mut value = T::new_zeroed();
        self.fixture.task.mm().unwrap().read(UserAddr(self.at.0 + offset), value.as_mut_bytes()).unwrap();
        value
    }

    /// Polls (descriptor, events) pairs; returns the call's result and what was found.
    fn poll<const N: usize>(&mut self, asked: [(i32, u16); N], timeout_ms: i64) -> (Result<u64, Errno>, [u16; N]) {
        for (index, (fd, events)) in (0u64..).zip(asked) {
            self.put(index * 8, &PollFd { fd, events, revents: 0xffff });
        }
        let result = self.fixture.returned(__NR_poll, &[self.at.0, N as u64, timeout_ms.cast_unsigned()]);
        let found = std::array::from_fn(|index| self.get::<PollFd>(index as u64 * 8).revents);
        (result, found)
    }

    fn raise(&mut self, signal: Signal) {
        crate::signal::send::send(&self.fixture.task, crate::signal::send::Target::Thread, SigInfo::kernel(signal))
            .unwrap();
    }
}

#[test]
fn poll_tells_what_each_file_is_ready_for() {
    let mut scene = Scene::new();
    let all = [(3, IN | OUT), (4, IN), (5, OUT), (-1, IN), (7, IN)];
    assert_eq!(scene.poll(all, -1), (Ok(3), [IN | OUT, 0, OUT, 0, NVAL]));
    rustix::io::write(scene.writer.as_ref().unwrap(), b"x").unwrap();
    assert_eq!(scene.poll([(4, IN)], -1), (Ok(1), [IN]));
    scene.writer = None;
    assert_eq!(scene.poll([(4, IN)], -1), (Ok(1), [IN | HUP]));
    scene.reader = None;
    assert_eq!(scene.poll([(5, 0)], -1), (Ok(1), [ERR]));
}

#[test]
fn poll_gives_up_at_its_deadline() {
    let mut scene = Scene::new();
    assert_eq!(scene.poll([(4, IN)], 0), (Ok(0), [0]));
    assert_eq!(scene.poll([(4, IN), (-5, IN)], 3), (Ok(0), [0, 0]));
    // A file that never changes is not waited for, and does not spin.
    assert_eq!(scene.poll([(3, 2)], 3), (Ok(0), [0]));
}

#[test]
fn poll_checks_its_arguments_as_linux_does() {
    let mut scene = Scene::new();
    let mut call = |args: [u64; 3]| scene.fixture.returned(__NR_poll, &args);
    assert_eq!(call([0, 1025, 0]), Err(Errno::EINVAL));
    assert_eq!(call([0, 1, 0]), Err(Errno::EFAULT));
    assert_eq!(call([0, 0, 0]), Ok(0));
}

#[test]
fn poll_is_woken_by_another_thread() {
    let mut scene = Scene::new();
    let writer = scene.writer.take().unwrap();
    let thread = std::thread::spawn(move || {
        rustix::io::write(&writer, b"x").unwrap();
        writer
    });
    assert_eq!(scene.poll([(4, IN)], -1), (Ok(1), [IN]));
    drop(thread.join().unwrap());
}

#[test]
fn a_signal_ends_the_wait() {
    let mut scene = Scene::new();
    scene.raise(Signal::SIGTERM);
    let (result, _) = scene.poll([(4, IN)], -1);
    assert_eq!(result, Err(Errno::ERESTART_RESTARTBLOCK));
    // What is ready counts more.
    assert_eq!(scene.poll([(3, IN)], -1), (Ok(1), [IN]));
}

#[test]
fn ppoll_swaps_the_mask_and_gives_time_back() {
    let mut scene = Scene::new();
    scene.raise(Signal::SIGTERM);
    let blocked = scene.put(256, &SignalSet::of(Signal::SIGTERM));
    let time = scene.put(512, &Timespec { seconds: 0, nanoseconds: 2_000_000 });
    let fds = scene.put(0, &PollFd { fd: 4, events: IN, revents: 0 });
    assert_eq!(scene.fixture.returned(__NR_ppoll, &[fds, 1, time, blocked, 8]), Ok(0));
    assert_eq!(scene.get::<Timespec>(512), Timespec::default());
    assert!(scene.fixture.task.signals().blocked().is_empty());
    // With the signal let through the wait ends, and the old mask waits for the handler's frame.
    scene.put(512, &Timespec { seconds: 100, nanoseconds: 0 });
    let result = scene.fixture.returned(__NR_ppoll, &[fds, 1, time, 0, 0]);
    assert_eq!(result, Err(Errno::ERESTARTNOHAND));
    assert_eq!(scene.get::<Timespec>(512).seconds, 99);
    let mut call = |args: [u64; 5]| scene.fixture.returned(__NR_ppoll, &args);
    assert_eq!(call([fds, 1, time, blocked, 4]), Err(Errno::EINVAL));
    assert_eq!(call([fds, 1, 8, 0, 0]), Err(Errno::EFAULT));
    scene.put(512, &Timespec { seconds: -1, nanoseconds: 0 });
    assert_eq!(scene.fixture.returned(__NR_ppoll, &[fds, 1, time, 0, 0]), Err(Errno::EINVAL));
}

#[test]
fn a_personality_may_keep_timeouts_as_they_are() {
    let mut scene = Scene::new();
    scene.fixture.task.with_attributes(|attributes| attributes.personality = 0x400_0000);
    let time = scene.put(512, &Timespec { seconds: 0, nanoseconds: 1_000_000 });
    let fds = scene.put(0, &PollFd { fd: 4, events: IN, revents: 0 });
    assert_eq!(scene.fixture.returned(__NR_ppoll, &[fds, 1, time, 0, 0]), Ok(0));
    assert_eq!(scene.get::<Timespec>(512).nanoseconds, 1_000_000);
    scene.raise(Signal::SIGTERM);
    assert_eq!(scene.fixture.returned(__NR_ppoll, &[fds, 1, time, 0, 0]), Err(Errno::EINTR));
}

#[test]
fn select_counts_bits_and_clears_the_rest() {
    let mut scene = Scene::new();
    let readable = scene.put(0, &0b11_1000u64);
    let writable = scene.put(8, &0b10_1000u64);
    let exceptional = scene.put(16, &0b1000u64);
    let result = scene.fixture.returned(__NR_select, &[6, readable, writable, exceptional, 0]);
    assert_eq!(result, Ok(3));
    assert_eq!((scene.get::<u64>(0), scene.get::<u64>(8), scene.get::<u64>(16)), (0b1000, 0b10_1000, 0));
}

#[test]
fn select_waits_until_its_timeout_and_writes_it_back() {
    let mut scene = Scene::new();
    let readable = scene.put(0, &0b1_0000u64);
    let time = scene.put(64, &Timeval { seconds: 0, microseconds: 2000 });
    assert_eq!(scene.fixture.returned(__NR_select, &[5, readable, 0, 0, time]), Ok(0));
    assert_eq!((scene.get::<u64>(0), scene.get::<Timeval>(64)), (0, Timeval::default()));
    // Microseconds of a million and more are taken; negative ones are not.
    scene.put(0, &0b1000u64);
    scene.put(64, &Timeval { seconds: 1, microseconds: 5_000_000 });
    assert_eq!(scene.fixture.returned(__NR_select, &[5, readable, 0, 0, time]), Ok(1));
    assert_eq!(scene.get::<Timeval>(64).seconds, 5);
    scene.put(64, &Timeval { seconds: 0, microseconds: -1 });
    assert_eq!(scene.fixture.returned(__NR_select, &[5, readable, 0, 0, time]), Err(Errno::EINVAL));
}

#[test]
fn select_checks_descriptors() {
    let mut scene = Scene::new();
    let set = scene.put(0, &0b100u64);
    assert_eq!(scene.fixture.returned(__NR_select, &[3, set, 0, 0, 0]), Err(Errno::EBADF));
    assert_eq!(scene.get::<u64>(0), 0b100);
    let mut call = |args: [u64; 5]| scene.fixture.returned(__NR_select, &args);
    assert_eq!(call([u64::MAX, 0, 0, 0, 0]), Err(Errno::EINVAL));
    assert_eq!(call([5, 8, 0, 0, 0]), Err(Errno::EFAULT));
    // Bits at and beyond the first argument are not looked at.
    scene.put(0, &0b1100u64);
    let time = scene.put(64, &Timeval::default());
    assert_eq!(scene.fixture.returned(__NR_select, &[2, set, 0, 0, time]), Ok(0));
}

#[test]
fn pselect_takes_its_mask_by_reference() {
    let mut scene = Scene::new();
    scene.raise(Signal::SIGTERM);
    let mask = scene.put(0, &SignalSet::of(Signal::SIGTERM));
    let argument = scene.put(8, &SigsetArgument { mask, size: 8 });
    let time = scene.put(64, &Timespec::default());
    let set = scene.put(128, &0b1_0000u64);
    assert_eq!(scene.fixture.returned(__NR_pselect6, &[5, set, 0, 0, time, argument]), Ok(0));
    scene.put(128, &0b1_0000u64);
    assert_eq!(scene.fixture.returned(__NR_pselect6, &[5, set, 0, 0, time, 0]), Err(Errno::ERESTARTNOHAND));
    scene.put(8, &SigsetArgument { mask, size: 4 });
    assert_eq!(scene.fixture.returned(__NR_pselect6, &[5, set, 0, 0, time, argument]), Err(Errno::EINVAL));
}
