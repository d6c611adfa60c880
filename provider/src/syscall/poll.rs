//! poll(2) and select(2): waiting for several files at once.

use crate::abi::poll::{PollFd, SigsetArgument};
use crate::errno::Errno;
use crate::fs::io::buffer;
use crate::fs::{Fd, FdTable, File, OpenFile, Ready, WaitSource};
use crate::signal::SignalSet;
use crate::syscall::Outcome;
use crate::task::{CurrentTask, Deadline, Resource, Waiter, Wake};
use crate::time::{Timespec, Timeval};
use crate::user::{UserIn, UserInOut};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmm::addr::UserAddr;
use zerocopy::IntoBytes;

/// What every poll looks for, asked or not.
const ALWAYS: Ready = Ready::ERR.union(Ready::HUP);
/// What makes a descriptor readable, writable and exceptional for select (fs/select.c).
const READABLE: Ready =
    Ready::RDNORM.union(Ready::RDBAND).union(Ready::IN).union(Ready::HUP).union(Ready::ERR).union(Ready::NVAL);
const WRITABLE: Ready = Ready::WRBAND.union(Ready::WRNORM).union(Ready::OUT).union(Ready::ERR).union(Ready::NVAL);
const EXCEPTIONAL: Ready = Ready::PRI.union(Ready::NVAL);

/// The bit of personality(2) that keeps timeouts as they were passed, as other systems do.
const STICKY_TIMEOUTS: u32 = 0x400_0000;
/// Bits in a word of an fd_set.
const WORD_BITS: usize = 64;
/// The size of the descriptor table that every process starts with (NR_OPEN_DEFAULT): select ignores bits beyond the table's end.
const SMALLEST_TABLE: usize = 64;

/// A file with what is asked of it.
struct Asked {
    file: Arc<OpenFile>,
    interest: Ready,
}

/// Registers with the waiter, if there is one, and asks a file what it is ready for.
fn look<'w>(task: &CurrentTask<'_>, waiter: Option<&mut Waiter<'w>>, asked: &'w Asked) -> Ready {
    let file: &'w dyn File = asked.file.file().as_ref();
    if let Some(waiter) = waiter {
        match file.wait_source() {
            // Never changes: waiting for it would be busy waiting.
            WaitSource::Always => {}
            source => waiter.on_source(source, asked.interest),
        }
    }
    file.ready_for(task) & asked.interest
}

/// Looks at all files until something is found or the deadline passes; returns how much was found, 0 at the deadline,
/// `ERESTARTNOHAND` if a signal came. The first look registers nowhere: with many files that is most of the work, and often something
/// is ready, or the caller does not want to wait. Once something is found no further file is registered with.
fn look_until<'w>(
    task: &CurrentTask<'_>,
    deadline: Deadline,
    mut look: impl FnMut(Option<&mut Waiter<'w>>) -> usize,
) -> Result<usize, Errno> {
    match look(None) {
        0 if deadline.remaining() != Some(Duration::ZERO) => {}
        // A signal counts even for a caller that does not wait (do_poll, core_sys_select).
        0 if task.has_interrupting_signal() => return Err(Errno::ERESTARTNOHAND),
        found => return Ok(found),
    }
    let woken = task.block_until(deadline, |waiter| {
        let found = look(Some(waiter));
        Ok((found > 0).then_some(found))
    })?;
    match woken {
        Wake::Done(found) => Ok(found),
        Wake::TimedOut => Ok(0),
        Wake::Interrupted => Err(Errno::ERESTARTNOHAND),
    }
}

/// How long a call waits at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timeout {
    Never,
    After(Duration),
}

impl Timeout {
    fn deadline(self) -> Deadline {
        match self {
            Self::Never => Deadline::Never,
            Self::After(span) => Deadline::after(span),
        }
    }
}

/// Waits until a file is ready; returns how many are, 0 at the deadline, `ERESTARTNOHAND` if a signal came.
fn wait_for_files(task: &CurrentTask<'_>, fds: &mut [PollFd], deadline: Deadline) -> Result<usize, Errno> {
    let table = task.files();
    let asked: Vec<Option<Result<Asked, Errno>>> = fds
        .iter()
        .map(|entry| {
            let interest = Ready::from_bits_truncate(entry.events.into()) | ALWAYS;
            (entry.fd >= 0).then(|| table.get(Fd(entry.fd)).map(|file| Asked { file, interest }))
        })
        .collect();
    look_until(task, deadline, |mut waiter| {
        let mut count = 0;
        for (entry, asked) in fds.iter_mut().zip(&asked) {
            let waiter = waiter.as_deref_mut().filter(|_| count == 0);
            let ready = match asked {
                None => Ready::empty(),
                Some(Err(_)) => Ready::NVAL,
                Some(Ok(asked)) => look(task, waiter, asked),
            };
            entry.revents = u16::try_from(ready.bits()).unwrap_or_default();
            count += usize::from(!ready.is_empty());
        }
        count
    })
}

/// Reads the array, waits, and writes what was found back.
fn poll_array(task: &CurrentTask<'_>, at: UserAddr, count: u32, deadline: Deadline) -> Result<usize, Errno> {
    if u64::from(count) > task.group().limits().soft(Resource::Files) {
        return Err(Errno::EINVAL);
    }
    // The limit on descriptors bounds the allocation.
    let mut fds: Vec<PollFd> = buffer(usize::try_from(count).map_err(|_| Errno::EINVAL)?)?;
    task.mm().read(at, fds.as_mut_bytes())?;
    let ready = wait_for_files(task, &mut fds, deadline)?;
    let stride = size_of::<PollFd>() as u64;
    let revents = std::mem::offset_of!(PollFd, revents) as u64;
    for (index, entry) in (0u64..).zip(&fds) {
        // As Linux: only revents is written, so that a read-only fd and events stay what they are.
        task.mm().write(UserAddr(at.0 + index * stride + revents), entry.revents.as_bytes())?;
    }
    Ok(ready)
}

/// poll(2).
pub(super) fn poll(task: &CurrentTask<'_>, fds: UserAddr, count: u32, timeout_ms: i32) -> Result<Outcome, Errno> {
    let timeout = u64::try_from(timeout_ms).map_or(Timeout::Never, |ms| Timeout::After(Duration::from_millis(ms)));
    poll_until(task, fds, count, timeout.deadline())
}

/// Polls; after a signal without a handler the call goes on with the time that is left.
fn poll_until(task: &CurrentTask<'_>, fds: UserAddr, count: u32, deadline: Deadline) -> Result<Outcome, Errno> {
    match poll_array(task, fds, count, deadline) {
        Ok(ready) => Ok(Outcome::Return(ready as u64)),
        Err(Errno::ERESTARTNOHAND) => Err(task.restart_with(move |task| poll_until(task, fds, count, deadline))),
        Err(error) => Err(error),
    }
}

/// ppoll(2).
pub(super) fn ppoll(
    task: &CurrentTask<'_>,
    fds: UserAddr,
    count: u32,
    timeout: UserInOut<Timespec>,
    mask: UserIn<SignalSet>,
    mask_size: usize,
) -> Result<usize, Errno> {
    let given = if timeout.is_null() { None } else { Some(timeout.read(task)?.to_duration()?) };
    let mask = read_mask(task, mask, mask_size)?;
    let deadline = given.map_or(Timeout::Never, Timeout::After).deadline();
    let result = task.with_temporary_mask(mask, || poll_array(task, fds, count, deadline));
    give_back(task, result, deadline, |left| timeout.write(task, &to_timespec(left)))
}

pub(super) fn read_mask(
    task: &CurrentTask<'_>,
    mask: UserIn<SignalSet>,
    size: usize,
) -> Result<Option<SignalSet>, Errno> {
    if mask.is_null() {
        return Ok(None);
    }
    if size != size_of::<SignalSet>() {
        return Err(Errno::EINVAL);
    }
    mask.read(task).map(Some)
}

fn to_timespec(span: Duration) -> Timespec {
    Timespec::from_nanoseconds(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

/// Writes the time that is left back (`poll_select_finish`). If that fails nothing else changes, but an interrupted call is not
/// restarted, since it would start with the whole time again.
fn give_back(
    task: &CurrentTask<'_>,
    result: Result<usize, Errno>,
    deadline: Deadline,
    write: impl FnOnce(Duration) -> Result<(), Errno>,
) -> Result<usize, Errno> {
    let Deadline::Monotonic(at) = deadline else { return result };
    if result == Err(Errno::NEEDS_THREAD) {
        return result;
    }
    let left = at.saturating_duration_since(Instant::now());
    let sticky = task.attributes().personality & STICKY_TIMEOUTS != 0;
    match (if sticky { Err(Errno::EINTR) } else { write(left) }, result) {
        (Err(_), Err(Errno::ERESTARTNOHAND)) => Err(Errno::EINTR),
        (_, result) => result,
    }
}

/// The three sets of a select.
struct Sets {
    addresses: [UserAddr; 3],
    words: [Vec<u64>; 3],
}

/// What each of the three sets looks for.
const MEANINGS: [Ready; 3] = [READABLE, WRITABLE, EXCEPTIONAL];

impl Sets {
    /// Room for three of `bits`, all zero.
    fn empty(bits: usize) -> Result<[Vec<u64>; 3], Errno> {
        let words = || buffer(bits.div_ceil(WORD_BITS));
        Ok([words()?, words()?, words()?])
    }

    /// Reads those that are given; the others are empty.
    fn read(task: &CurrentTask<'_>, bits: usize, addresses: [UserAddr; 3]) -> Result<Self, Errno> {
        let mut words = Self::empty(bits)?;
        for (set, at) in words.iter_mut().zip(addresses).filter(|(_, at)| at.0 != 0) {
            task.mm().read(at, set.as_mut_bytes())?;
        }
        Ok(Self { addresses, words })
    }

    fn contains(&self, set: usize, bit: usize) -> bool {
        self.words[set][bit / WORD_BITS] >> (bit % WORD_BITS) & 1 == 1
    }

    /// Writes results where sets were given.
    fn write(&self, task: &CurrentTask<'_>) -> Result<(), Errno> {
        for (set, at) in self.words.iter().zip(self.addresses).filter(|(_, at)| at.0 != 0) {
            task.mm().write(at, set.as_bytes())?;
        }
        Ok(())
    }
}

/// Descriptors that select looks at: those the table has room for. Tables grow to the next power of two (alloc_fdtable in fs/file.c)
/// and never shrink but in a copy.
fn table_size(table: &FdTable) -> usize {
    table.size().next_power_of_two().max(SMALLEST_TABLE)
}

/// Reads the sets, waits, and writes the results; the bits that are set in the results are counted.
fn select_sets(
    task: &CurrentTask<'_>,
    count: i32,
    addresses: [UserAddr; 3],
    deadline: Deadline,
) -> Result<usize, Errno> {
    let table = task.files();
    let bits = usize::try_from(count).map_err(|_| Errno::EINVAL)?.min(table_size(&table));
    let given = Sets::read(task, bits, addresses)?;
    let mut asked = Vec::new();
    for bit in 0..bits {
        let meanings = (0..3).filter(|set| given.contains(*set, bit)).map(|set| MEANINGS[set]);
        let interest = meanings.fold(Ready::empty(), Ready::union);
        if !interest.is_empty() {
            let fd = Fd(i32::try_from(bit).map_err(|_| Errno::EBADF)?);
            asked.push((bit, Asked { file: table.get(fd)?, interest }));
        }
    }
    let mut found = Sets { addresses, words: Sets::empty(bits)? };
    let count = look_until(task, deadline, |mut waiter| {
        let mut count = 0;
        for (bit, asked) in &asked {
            let ready = look(task, waiter.as_deref_mut().filter(|_| count == 0), asked);
            for (set, meaning) in MEANINGS.into_iter().enumerate() {
                if given.contains(set, *bit) && ready.intersects(meaning) {
                    found.words[set][bit / WORD_BITS] |= 1 << (bit % WORD_BITS);
                    count += 1;
                }
            }
        }
        count
    })?;
    found.write(task)?;
    Ok(count)
}

/// select(2). The time that is left is written back, as Linux does.
pub(super) fn select(
    task: &CurrentTask<'_>,
    count: i32,
    readable: UserAddr,
    writable: UserAddr,
    exceptional: UserAddr,
    timeout: UserInOut<Timeval>,
) -> Result<usize, Errno> {
    let given = if timeout.is_null() { None } else { Some(normalized(timeout.read(task)?).to_duration()?) };
    let deadline = given.map_or(Timeout::Never, Timeout::After).deadline();
    let result = select_sets(task, count, [readable, writable, exceptional], deadline);
    give_back(task, result, deadline, |left| {
        timeout.write(task, &Timeval::from_nanoseconds(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)))
    })
}

/// A timeval whose microseconds may be a million and more, which select takes.
fn normalized(time: Timeval) -> Timespec {
    Timespec {
        seconds: time.seconds.saturating_add(time.microseconds / 1_000_000),
        nanoseconds: time.microseconds % 1_000_000 * 1000,
    }
}

/// pselect6(2): the sixth argument points to the mask's address and size.
pub(super) fn pselect6(
    task: &CurrentTask<'_>,
    count: i32,
    readable: UserAddr,
    writable: UserAddr,
    exceptional: UserAddr,
    timeout: UserInOut<Timespec>,
    mask: UserIn<SigsetArgument>,
) -> Result<usize, Errno> {
    let mask = mask.read_opt(task)?.unwrap_or_default();
    let given = if timeout.is_null() { None } else { Some(timeout.read(task)?.to_duration()?) };
    let size = usize::try_from(mask.size).unwrap_or(usize::MAX);
    let mask = read_mask(task, UserIn::new(UserAddr(mask.mask)), size)?;
    let deadline = given.map_or(Timeout::Never, Timeout::After).deadline();
    let sets = [readable, writable, exceptional];
    let result = task.with_temporary_mask(mask, || select_sets(task, count, sets, deadline));
    give_back(task, result, deadline, |left| timeout.write(task, &to_timespec(left)))
}

#[cfg(test)]
#[path = "poll_tests.rs"]
mod tests;
