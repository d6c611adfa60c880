//! epoll(7).

use super::fs::install;
use super::poll::read_mask;
use crate::abi::epoll::EpollEvent;
use crate::errno::Errno;
use crate::fs::epoll::{Epoll, Interest};
use crate::fs::{Fd, OpenFlags, Ready, WaitSource, open_anonymous};
use crate::mm::checked_range;
use crate::signal::SignalSet;
use crate::task::{CurrentTask, Deadline, Wake};
use crate::time::Timespec;
use crate::user::UserIn;
use std::sync::Arc;
use std::time::Duration;
use vmm::addr::UserAddr;
use zerocopy::IntoBytes;

/// EPOLL_CTL_ADD.
const ADD: i32 = 1;
/// EPOLL_CTL_DEL.
const DELETE: i32 = 2;
/// EPOLL_CTL_MOD.
const CHANGE: i32 = 3;

/// EPOLLEXCLUSIVE.
const EXCLUSIVE: u32 = 1 << 28;
/// EPOLLWAKEUP, which needs CAP_BLOCK_SUSPEND and is dropped without: nothing suspends here.
const WAKEUP: u32 = 1 << 29;
/// What may be asked for together with EPOLLEXCLUSIVE (EPOLLEXCLUSIVE_OK_BITS): EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLET.
const WITH_EXCLUSIVE: u32 = 0x1 | 0x4 | 0x8 | 0x10 | WAKEUP | 1 << 31 | EXCLUSIVE;
/// What is always told.
const ALWAYS: u32 = Ready::ERR.union(Ready::HUP).bits();

/// The most events that a wait takes (EP_MAX_EVENTS).
const MAX_EVENTS: i32 = i32::MAX / 12;
/// Events that are taken and written at once.
const BATCH: usize = 256;

/// epoll_create(2): the size is a hint of old that must be positive.
pub(super) fn epoll_create(task: &CurrentTask<'_>, size: i32) -> Result<Fd, Errno> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    epoll_create1(task, OpenFlags::empty())
}

/// epoll_create1(2).
pub(super) fn epoll_create1(task: &CurrentTask<'_>, flags: OpenFlags) -> Result<Fd, Errno> {
    if !OpenFlags::CLOEXEC.contains(flags) {
        return Err(Errno::EINVAL);
    }
    let file = open_anonymous(Epoll::new(), "[eventpoll]", OpenFlags::RDWR);
    install(task, file, flags.contains(OpenFlags::CLOEXEC))
}

/// epoll_ctl(2), in the order of `do_epoll_ctl` in fs/eventpoll.c.
pub(super) fn epoll_ctl(
    task: &CurrentTask<'_>,
    epoll: Fd,
    operation: i32,
    fd: Fd,
    event: UserIn<EpollEvent>,
) -> Result<(), Errno> {
    let mut event = if operation == DELETE { EpollEvent::default() } else { event.read(task)? };
    let files = task.files();
    let (outer, file) = (files.get(epoll)?, files.get(fd)?);
    if matches!(file.file().wait_source(), WaitSource::Always) {
        return Err(Errno::EPERM);
    }
    event.events &= !WAKEUP;
    if Arc::ptr_eq(&outer, &file) {
        return Err(Errno::EINVAL);
    }
    let epoll = Epoll::of(&outer).ok_or(Errno::EINVAL)?;
    if event.events & EXCLUSIVE != 0 {
        let fits = operation != ADD || (event.events & !WITH_EXCLUSIVE == 0 && Epoll::of(&file).is_none());
        if operation == CHANGE || !fits {
            return Err(Errno::EINVAL);
        }
    }
    let interest = Interest { events: event.events | ALWAYS, data: event.data };
    match operation {
        ADD => epoll.add(task, fd, &file, interest),
        DELETE => epoll.remove(fd, &file),
        CHANGE => epoll.change(task, fd, &file, interest),
        _ => Err(Errno::EINVAL),
    }
}

/// A timeout in milliseconds; a negative one is none.
fn after_milliseconds(timeout: i32) -> Deadline {
    u64::try_from(timeout).map_or(Deadline::Never, |ms| Deadline::after(Duration::from_millis(ms)))
}

/// epoll_wait(2).
pub(super) fn epoll_wait(
    task: &CurrentTask<'_>,
    epoll: Fd,
    events: UserAddr,
    max: i32,
    timeout: i32,
) -> Result<usize, Errno> {
    wait(task, epoll, events, max, after_milliseconds(timeout))
}

/// epoll_pwait(2).
pub(super) fn epoll_pwait(
    task: &CurrentTask<'_>,
    epoll: Fd,
    events: UserAddr,
    max: i32,
    timeout: i32,
    mask: UserIn<SignalSet>,
    mask_size: usize,
) -> Result<usize, Errno> {
    let mask = read_mask(task, mask, mask_size)?;
    task.with_temporary_mask(mask, || wait(task, epoll, events, max, after_milliseconds(timeout)))
}

/// epoll_pwait2(2).
pub(super) fn epoll_pwait2(
    task: &CurrentTask<'_>,
    epoll: Fd,
    events: UserAddr,
    max: i32,
    timeout: UserIn<Timespec>,
    mask: UserIn<SignalSet>,
    mask_size: usize,
) -> Result<usize, Errno> {
    let timeout = timeout.read_opt(task)?.map(Timespec::to_duration).transpose()?;
    let mask = read_mask(task, mask, mask_size)?;
    let deadline = timeout.map_or(Deadline::Never, Deadline::after);
    task.with_temporary_mask(mask, || wait(task, epoll, events, max, deadline))
}

/// Waits until something is ready; a signal is `EINTR` whether it has a handler or not (signal(7)).
fn wait(task: &CurrentTask<'_>, epoll: Fd, at: UserAddr, max: i32, deadline: Deadline) -> Result<usize, Errno> {
    if !(1..=MAX_EVENTS).contains(&max) {
        return Err(Errno::EINVAL);
    }
    let max = usize::try_from(max).map_err(|_| Errno::EINVAL)?;
    checked_range(at, max * size_of::<EpollEvent>())?;
    let file = task.files().get(epoll)?;
    let epoll = Epoll::of(&file).ok_or(Errno::EINVAL)?;
    if deadline.remaining() == Some(Duration::ZERO) {
        // Unlike for poll(2), a signal does not count for a caller that does not wait (ep_poll).
        return deliver(task, epoll, at, max);
    }
    if task.is_posted() {
        return match deliver(task, epoll, at, max)? {
            0 => Err(Errno::NEEDS_THREAD),
            told => Ok(told),
        };
    }
    let woken = task.block_until(deadline, |waiter| {
        waiter.on_queue_exclusive(epoll.changed(), Ready::IN);
        let told = deliver(task, epoll, at, max)?;
        Ok((told > 0).then_some(told))
    })?;
    match woken {
        Wake::Done(told) => Ok(told),
        Wake::TimedOut => Ok(0),
        Wake::Interrupted => Err(Errno::EINTR),
    }
}

/// Tells the program what is ready now; events that it could not be told stay for the next wait.
fn deliver(task: &CurrentTask<'_>, epoll: &Epoll, at: UserAddr, max: usize) -> Result<usize, Errno> {
    let mut found = epoll.take(task, max);
    let mut told = 0;
    let mut failed = None;
    for batch in found.chunks(BATCH) {
        let events: Vec<EpollEvent> =
            batch.iter().map(|found| EpollEvent { events: found.ready.bits(), data: found.data }).collect();
        let offset = u64::try_from(told * size_of::<EpollEvent>()).unwrap_or(u64::MAX);
        match task.mm().write_partial(UserAddr(at.0.saturating_add(offset)), events.as_bytes()) {
            Ok(written) => {
                let whole = written / size_of::<EpollEvent>();
                told += whole;
                if whole < batch.len() {
                    failed = Some(Errno::EFAULT);
                }
            }
            Err(error) => failed = Some(error),
        }
        if failed.is_some() {
            break;
        }
    }
    let rest = found.split_off(told);
    epoll.told(found);
    epoll.put_back(rest);
    match failed {
        Some(error) if told == 0 => Err(error),
        _ => Ok(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fixture, fixture};
    use linux_raw_sys::general::{__NR_epoll_create1, __NR_epoll_ctl, __NR_epoll_wait, __NR_eventfd2};

    fn scene() -> (Fixture, u64, u64) {
        let mut fixture = fixture();
        let epoll = fixture.returned(__NR_epoll_create1, &[0]).unwrap();
        let event = fixture.returned(__NR_eventfd2, &[1, 0]).unwrap();
        (fixture, epoll, event)
    }

    fn control(fixture: &mut Fixture, epoll: u64, operation: i32, fd: u64, events: u32) -> Result<u64, Errno> {
        let event = fixture.put(&EpollEvent { events, data: 7 });
        let operation = u64::from(operation.cast_unsigned());
        fixture.returned(__NR_epoll_ctl, &[epoll, operation, fd, event.0])
    }

    #[test]
    fn an_event_that_the_program_could_not_be_told_is_not_lost() {
        const ONE_SHOT_AND_EDGE: u32 = 1 << 31 | 1 << 30 | 1;
        let (mut fixture, epoll, event) = scene();
        assert_eq!(control(&mut fixture, epoll, ADD, event, ONE_SHOT_AND_EDGE), Ok(0));
        assert_eq!(fixture.returned(__NR_epoll_wait, &[epoll, 16, 1, 0]), Err(Errno::EFAULT));
        let events = fixture.allocate(4096);
        assert_eq!(fixture.returned(__NR_epoll_wait, &[epoll, events.0, 1, 0]), Ok(1));
        assert_eq!(fixture.get::<EpollEvent>(events), EpollEvent { events: 1, data: 7 });
        assert_eq!(fixture.returned(__NR_epoll_wait, &[epoll, events.0, 1, 0]), Ok(0));
    }

    #[test]
    fn the_buffer_is_judged_before_the_descriptor() {
        let (mut fixture, epoll, event) = scene();
        assert_eq!(fixture.returned(__NR_epoll_wait, &[99, u64::MAX, 1, 0]), Err(Errno::EFAULT));
        assert_eq!(fixture.returned(__NR_epoll_wait, &[99, 4096, 1, 0]), Err(Errno::EBADF));
        assert_eq!(fixture.returned(__NR_epoll_wait, &[event, 4096, 1, 0]), Err(Errno::EINVAL));
        assert_eq!(fixture.returned(__NR_epoll_wait, &[epoll, 4096, 0, 0]), Err(Errno::EINVAL));
    }
}
