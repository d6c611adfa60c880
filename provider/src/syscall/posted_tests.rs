use crate::errno::Errno;
use crate::fs::{BufferSink, Fd, OpenFile};
use crate::signal::send::{Target, send};
use crate::signal::{SigInfo, Signal, SignalSet};
use crate::syscall::{Outcome, posted};
use crate::task::Work;
use crate::testing::{Fixture, config, fixture, fixture_with};
use linux_raw_sys::general::*;
use vmm::addr::{UserAddr, UserRange};

/// Bytes that a pipe takes.
const CAPACITY: u64 = 64 << 10;

/// What the program sees of an error.
fn failed(error: Errno) -> Option<u64> {
    Some(error.to_return())
}

fn path(fixture: &mut Fixture, text: &str) -> u64 {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    fixture.put(bytes.as_slice()).0
}

/// Both ends of a new pipe, the reading one first.
fn pipe(fixture: &mut Fixture) -> (u64, u64) {
    let at = fixture.allocate(4096);
    assert_eq!(fixture.posted(__NR_pipe2, &[at.0, 0]), Some(0));
    let [reader, writer] = fixture.get::<[i32; 2]>(at);
    (u64::try_from(reader).unwrap(), u64::try_from(writer).unwrap())
}

/// Bytes that differ from place to place.
fn pattern(len: u64) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

fn bytes(fixture: &mut Fixture, at: UserAddr, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    fixture.current().mm().read(at, &mut bytes).unwrap();
    bytes
}

fn count(fixture: &Fixture, name: &str) -> u64 {
    let calls = fixture.kernel.statistics().calls();
    calls.iter().find(|(called, _)| called == name).map_or(0, |(_, count)| *count)
}

#[test]
fn calls_that_end_or_change_a_thread_are_never_posted() {
    let numbers: Vec<u64> = posted::numbers().collect();
    let never = [
        __NR_clone,
        __NR_clone3,
        __NR_fork,
        __NR_vfork,
        __NR_execve,
        __NR_execveat,
        __NR_exit,
        __NR_exit_group,
        __NR_rt_sigreturn,
        __NR_arch_prctl,
        __NR_sigaltstack,
        __NR_rt_sigsuspend,
        __NR_pause,
        __NR_ptrace,
        __NR_kill,
        __NR_tkill,
        __NR_tgkill,
        __NR_sched_yield,
        __NR_sched_setaffinity,
        __NR_getcpu,
        __NR_getrusage,
        __NR_times,
        __NR_wait4,
        __NR_seccomp,
        __NR_prctl,
        __NR_restart_syscall,
        __NR_rt_sigtimedwait,
    ];
    for number in never {
        assert!(!numbers.contains(&number.into()), "{number}");
    }
    let mut fixture = fixture();
    assert_eq!(fixture.posted(__NR_exit_group, &[0]), None);
    assert_eq!(fixture.task.group().exit_requested(), None);
    assert_eq!(fixture.posted(0xffff, &[]), None);
}

#[test]
fn another_host_thread_may_serve_a_call() {
    let mut fixture = fixture();
    let (reader, writer) = pipe(&mut fixture);
    let at = fixture.put(b"x");
    let served = std::thread::scope(|scope| scope.spawn(|| fixture.posted(__NR_write, &[writer, at.0, 1])).join());
    assert_eq!(served.unwrap(), Some(1));
    assert_eq!(fixture.posted(__NR_read, &[reader, at.0, 8]), Some(1));
    assert_eq!((count(&fixture, "write"), count(&fixture, "read")), (1, 1));
    assert_eq!(fixture.posted(__NR_read, &[99, at.0, 8]), failed(Errno::EBADF));
    assert_eq!(fixture.posted(__NR_write, &[writer, 1 << 46, 1]), failed(Errno::EFAULT));
}

#[test]
fn memory_that_was_never_touched_is_there_for_a_posted_call() {
    let mut fixture = fixture();
    let (reader, writer) = pipe(&mut fixture);
    let data = fixture.put(pattern(3000).as_slice());
    // Beyond what is assigned as it is mapped.
    let large = fixture.posted(__NR_mmap, &[0, 1 << 30, 3, 0x22, u64::MAX, 0]).unwrap();
    let to = UserAddr(large + (512 << 20) - 100);
    assert_eq!(fixture.posted(__NR_write, &[writer, data.0, 3000]), Some(3000));
    assert_eq!(fixture.posted(__NR_read, &[reader, to.0, 4000]), Some(3000));
    assert_eq!(bytes(&mut fixture, to, 3000), pattern(3000));
}

#[test]
fn a_call_that_would_sleep_leaves_no_trace() {
    let mut fixture = fixture();
    let (reader, writer) = pipe(&mut fixture);
    let at = fixture.allocate(4096);
    assert_eq!(fixture.posted(__NR_read, &[reader, at.0, 8]), None);
    assert_eq!(fixture.task.transfers().counts().reads, 0);
    assert_eq!(count(&fixture, "read"), 0);
    // Nobody is left in the queue: a wake of one is for those that sleep.
    assert_eq!(fixture.posted(__NR_write, &[writer, at.0, 1]), Some(1));
    assert_eq!(fixture.posted(__NR_read, &[reader, at.0, 8]), Some(1));
    assert_eq!(fixture.task.transfers().counts().reads, 1);
}

#[test]
fn a_write_that_gets_halfway_goes_on_by_trap() {
    let mut fixture = fixture();
    let (reader, writer) = pipe(&mut fixture);
    let data = fixture.put(pattern(CAPACITY + 4464).as_slice());
    let to = fixture.allocate(CAPACITY * 2);
    let arguments = [writer, data.0, CAPACITY + 4464];
    assert_eq!(fixture.posted(__NR_write, &arguments), None);
    assert_eq!(fixture.posted(__NR_read, &[reader, to.0, CAPACITY * 2]), Some(CAPACITY));
    // The rest, and the count of all.
    let all = Outcome::Return(CAPACITY + 4464);
    assert_eq!(fixture.trapped(__NR_write, &arguments), Ok(all));
    let rest = UserAddr(to.0 + CAPACITY);
    assert_eq!(fixture.posted(__NR_read, &[reader, rest.0, CAPACITY]), Some(4464));
    assert_eq!(bytes(&mut fixture, to, CAPACITY + 4464), pattern(CAPACITY + 4464));
    assert_eq!(fixture.task.transfers().counts().writes, 1);
}

#[test]
fn progress_is_not_for_a_later_call() {
    let mut fixture = fixture();
    let (reader, writer) = pipe(&mut fixture);
    let data = fixture.put(pattern(CAPACITY + 100).as_slice());
    assert_eq!(fixture.posted(__NR_write, &[writer, data.0, CAPACITY + 100]), None);
    let to = fixture.allocate(CAPACITY);
    let whole = Outcome::Return(CAPACITY);
    assert_eq!(fixture.trapped(__NR_read, &[reader, to.0, CAPACITY]), Ok(whole));
    let five = Outcome::Return(5);
    assert_eq!(fixture.trapped(__NR_write, &[writer, data.0, 5]), Ok(five));
    assert_eq!(fixture.posted(__NR_read, &[reader, to.0, 100]), Some(5));
    assert_eq!(bytes(&mut fixture, to, 5), pattern(5));
}

/// Takes what a socket has received.
fn take_all(fixture: &mut Fixture, socket: &OpenFile, received: &mut Vec<u8>) {
    let mut piece = vec![0; 256 << 10];
    while let Ok(taken @ 1..) = socket.read(&fixture.current(), &mut BufferSink::new(&mut piece)) {
        received.extend_from_slice(&piece[..taken]);
    }
}

#[test]
fn a_stream_that_is_full_goes_on_by_trap() {
    let mut fixture = fixture();
    let at = fixture.allocate(4096);
    assert_eq!(fixture.posted(__NR_socketpair, &[1, 1, 0, at.0]), Some(0));
    let [one, other] = fixture.get::<[i32; 2]>(at).map(|fd| u64::try_from(fd).unwrap());
    let len = 4 << 20;
    let data = fixture.put(pattern(len).as_slice());
    let to = fixture.allocate(len);
    let arguments = [one, data.0, len, 0, 0, 0];
    assert_eq!(fixture.posted(__NR_sendto, &[one, data.0, 10]), Some(10));
    assert_eq!(fixture.posted(__NR_recvfrom, &[other, to.0, 20, 0x100]), None, "MSG_WAITALL may wait halfway");
    assert_eq!(fixture.posted(__NR_recvfrom, &[other, to.0, 20]), Some(10));
    assert_eq!(fixture.posted(__NR_recvfrom, &[other, to.0, 20]), None);
    assert_eq!(fixture.posted(__NR_sendto, &arguments), None);
    let files = fixture.task.files().unwrap();
    let peer = files.get(Fd(i32::try_from(other).unwrap())).unwrap();
    let mut received = Vec::new();
    take_all(&mut fixture, &peer, &mut received);
    let first = received.len();
    assert!(first > 0 && (first as u64) < len);
    // Without waiting, so that one thread can be at both ends.
    let mut again = arguments;
    again[3] = 0x40;
    let Ok(Outcome::Return(sent)) = fixture.trapped(__NR_sendto, &again) else { panic!("not sent") };
    take_all(&mut fixture, &peer, &mut received);
    assert_eq!(sent, received.len() as u64);
    assert!(received.len() > first && received == pattern(sent));
}

#[test]
fn signals_to_the_task_itself_come_with_the_trap() {
    let mut fixture = fixture_with(config());
    let (reader, writer) = pipe(&mut fixture);
    let at = fixture.put(b"x");
    assert_eq!(fixture.posted(__NR_close, &[reader]), Some(0));
    assert_eq!(fixture.posted(__NR_write, &[writer, at.0, 1]), None);
    assert!(!fixture.task.signals().needs_attention());
    assert_eq!(fixture.trapped(__NR_write, &[writer, at.0, 1]), Err(Errno::EPIPE));
    assert_eq!(fixture.task.signals().pending(), SignalSet::of(Signal::SIGPIPE));
    // Nothing is posted before that is taken.
    assert_eq!(fixture.posted(__NR_getpid, &[]), None);
}

#[test]
fn a_mask_is_changed_by_post_unless_that_lets_a_signal_in() {
    let mut fixture = fixture();
    let set = fixture.put(&(1u64 << 9));
    let old = fixture.allocate(4096);
    assert_eq!(fixture.posted(__NR_rt_sigprocmask, &[0, set.0, old.0, 8]), Some(0));
    assert_eq!(fixture.get::<u64>(old), 0);
    assert_eq!(fixture.task.signals().blocked(), SignalSet::of(Signal::SIGUSR1));
    assert_eq!(fixture.posted(__NR_rt_sigprocmask, &[1, set.0, old.0, 8]), Some(0));
    assert_eq!(fixture.posted(__NR_rt_sigprocmask, &[0, set.0, old.0, 8]), Some(0));
    send(&fixture.task, Target::Thread, SigInfo::kernel(Signal::SIGUSR1)).unwrap();
    let _ = fixture.current().deliver_signals(None);
    assert_eq!(fixture.posted(__NR_rt_sigpending, &[old.0, 8]), Some(0));
    assert_eq!(fixture.get::<u64>(old), 1 << 9);
    assert_eq!(fixture.posted(__NR_rt_sigprocmask, &[1, set.0, old.0, 8]), None);
    assert_eq!(fixture.task.signals().blocked(), SignalSet::of(Signal::SIGUSR1));
}

#[test]
fn a_watched_task_makes_its_calls_by_trap() {
    let mut fixture = fixture();
    assert_eq!(fixture.posted(__NR_getuid, &[]), Some(1000));
    fixture.task.add_work(Work::SECCOMP);
    assert_eq!(fixture.posted(__NR_getuid, &[]), None);
    fixture.task.replace_work(Work::SECCOMP, Work::empty());
    assert_eq!(fixture.posted(__NR_getuid, &[]), Some(1000));
}

#[test]
fn a_futex_is_woken_and_compared_by_post_and_slept_on_by_trap() {
    const WAIT: u64 = 128;
    const WAKE: u64 = 129;
    let mut fixture = fixture();
    let word = fixture.put(&7u32);
    assert_eq!(fixture.posted(__NR_futex, &[word.0, WAKE, 1]), Some(0));
    assert_eq!(fixture.posted(__NR_futex, &[word.0, WAIT, 8, 0]), failed(Errno::EAGAIN));
    assert_eq!(fixture.posted(__NR_futex, &[word.0, WAIT, 7, 0]), None);
    assert_eq!(fixture.posted(__NR_futex, &[word.0, WAKE, 1]), Some(0), "nobody was left behind");
}

#[test]
fn what_is_ready_is_found_by_post_and_waited_for_by_trap() {
    let mut fixture = fixture();
    let (reader, writer) = pipe(&mut fixture);
    let epoll = fixture.posted(__NR_epoll_create1, &[0]).unwrap();
    let event = fixture.put(&[1u32, 7, 0]);
    assert_eq!(fixture.posted(__NR_epoll_ctl, &[epoll, 1, reader, event.0]), Some(0));
    let events = fixture.allocate(4096);
    let polled = fixture.put(&[u32::try_from(reader).unwrap(), 1]);
    let empty = fixture.put(&0u64);
    let none = u64::MAX;
    assert_eq!(fixture.posted(__NR_epoll_wait, &[epoll, events.0, 4, 0]), Some(0));
    assert_eq!(fixture.posted(__NR_epoll_wait, &[epoll, events.0, 4, none]), None);
    assert_eq!(fixture.posted(__NR_poll, &[polled.0, 1, 0]), Some(0));
    assert_eq!(fixture.posted(__NR_poll, &[polled.0, 1, none]), None);
    assert_eq!(fixture.posted(__NR_write, &[writer, events.0, 1]), Some(1));
    assert_eq!(fixture.posted(__NR_epoll_wait, &[epoll, events.0, 4, none]), Some(1));
    assert_eq!(fixture.get::<[u32; 3]>(events), [1, 7, 0]);
    assert_eq!(fixture.posted(__NR_poll, &[polled.0, 1, none]), Some(1));
    assert_eq!(fixture.posted(__NR_ppoll, &[polled.0, 1, 0, empty.0, 8]), None, "a mask for a while needs the thread");
}

#[test]
fn memory_is_mapped_and_taken_away_by_post() {
    const HUGE: u64 = 64 << 20;
    let mut fixture = fixture();
    let heap = UserAddr(0x10_0000_0000);
    fixture.task.mm().unwrap().set_heap(heap);
    assert_eq!(fixture.posted(__NR_brk, &[0]), Some(heap.0));
    assert_eq!(fixture.posted(__NR_brk, &[heap.0 + 8192]), Some(heap.0 + 8192));
    assert_eq!(fixture.posted(__NR_brk, &[heap.0 + 4096]), Some(heap.0 + 4096));
    assert_eq!(fixture.task.mm().unwrap().heap().end, UserAddr(heap.0 + 4096));
    let at = fixture.posted(__NR_mmap, &[0, 8192, 3, 0x22, u64::MAX, 0]).unwrap();
    let value = 7u64.to_ne_bytes();
    fixture.task.mm().unwrap().write(UserAddr(at), &value).unwrap();
    assert_eq!(fixture.posted(__NR_mmap, &[at, 4096, 3, 0x32, u64::MAX, 0]), Some(at));
    assert_eq!(fixture.get::<u64>(UserAddr(at)), 0);
    fixture.task.mm().unwrap().write(UserAddr(at), &value).unwrap();
    assert_eq!(fixture.posted(__NR_madvise, &[at, 4096, 4]), Some(0));
    assert_eq!(fixture.get::<u64>(UserAddr(at)), 0);
    assert_eq!(fixture.posted(__NR_mprotect, &[at, 4096, 1]), Some(0));
    assert!(fixture.task.mm().unwrap().write(UserAddr(at), &value).is_err());
    assert_eq!(fixture.posted(__NR_munmap, &[at, 4096]), Some(0));
    assert!(!fixture.task.mm().unwrap().is_mapped(UserRange::new(UserAddr(at), 4096).unwrap()));
    // What takes long keeps nobody else waiting.
    let huge = fixture.posted(__NR_mmap, &[0, HUGE, 3, 0x22, u64::MAX, 0]).unwrap();
    assert_eq!(fixture.posted(__NR_munmap, &[huge, HUGE]), None);
    assert_eq!(fixture.trapped(__NR_munmap, &[huge, HUGE]), Ok(Outcome::Return(0)));
}

#[test]
fn opening_one_end_of_a_fifo_shows_to_nobody_until_it_can_wait() {
    const FIFO: u64 = 0o010_600;
    let mut fixture = fixture_with(config());
    let name = path(&mut fixture, "/tmp/fifo");
    assert_eq!(fixture.returned(__NR_mknod, &[name, FIFO, 0]), Ok(0));
    assert_eq!(fixture.posted(__NR_open, &[name, 0, 0]), None);
    let nonblocking = u64::from(O_NONBLOCK);
    assert_eq!(fixture.posted(__NR_open, &[name, 1 | nonblocking, 0]), failed(Errno::ENXIO));
    assert_eq!(fixture.posted(__NR_open, &[name, nonblocking, 0]), Some(0));
}

#[test]
fn files_are_opened_looked_at_and_read_by_post() {
    let mut fixture = fixture_with(config());
    let name = path(&mut fixture, "/tmp/file");
    let data = fixture.put(pattern(5000).as_slice());
    let to = fixture.allocate(8192);
    let create = u64::from(O_CREAT | O_RDWR);
    let fd = fixture.posted(__NR_open, &[name, create, 0o600]).unwrap();
    assert_eq!(fixture.posted(__NR_pwrite64, &[fd, data.0, 5000, 100]), Some(5000));
    assert_eq!(fixture.posted(__NR_lseek, &[fd, 100, 0]), Some(100));
    assert_eq!(fixture.posted(__NR_read, &[fd, to.0, 8192]), Some(5000));
    assert_eq!(bytes(&mut fixture, to, 5000), pattern(5000));
    for (number, arguments) in [
        (__NR_fstat, [fd, to.0, 0, 0]),
        (__NR_stat, [name, to.0, 0, 0]),
        (__NR_newfstatat, [u64::MAX - 99, name, to.0, 0]),
    ] {
        assert_eq!(fixture.posted(number, &arguments), Some(0));
        let by_post = bytes(&mut fixture, to, 144);
        assert_eq!(fixture.returned(number, &arguments), Ok(0));
        assert_eq!(bytes(&mut fixture, to, 144), by_post);
    }
    assert_eq!(fixture.posted(__NR_close, &[fd]), Some(0));
    assert_eq!(fixture.posted(__NR_close, &[fd]), failed(Errno::EBADF));
    assert_eq!(fixture.posted(__NR_unlink, &[name]), Some(0));
    assert_eq!(fixture.posted(__NR_access, &[name, 0]), failed(Errno::ENOENT));
}

#[test]
fn what_depends_on_the_stack_pointer_is_read_by_the_thread_itself() {
    let mut fixture = fixture_with(config());
    let name = path(&mut fixture, "/proc/self/syscall");
    let to = fixture.allocate(4096);
    let fd = fixture.posted(__NR_open, &[name, 0, 0]).unwrap();
    assert_eq!(fixture.posted(__NR_read, &[fd, to.0, 100]), None);
    assert!(matches!(fixture.trapped(__NR_read, &[fd, to.0, 100]), Ok(Outcome::Return(1..))));
}
