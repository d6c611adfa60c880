//! Open ends of pipes.

use super::state::{Pipe, Sides};
use crate::errno::Errno;
use crate::fs::{File, OpenFlags, Ready, Sink, Source, WaitSource};
use crate::task::{CurrentTask, Deadline, Wake};
use crate::user::UserOut;
use linux_raw_sys::ioctl::FIONREAD;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vmm::addr::UserAddr;

/// An open end, or both.
#[derive(Debug)]
pub(crate) struct PipeFile {
    pipe: Arc<Pipe>,
    sides: Sides,
    /// Each write is a packet (O_DIRECT).
    packets: AtomicBool,
    /// How often the writing side had been opened when this reader came without waiting for it: as long as that is so, nobody has
    /// hung up. `None`: somebody was there.
    unseen_writers: Option<u32>,
}

impl PipeFile {
    /// Makes an open file of the sides that the access mode names, and counts it.
    pub(super) fn attach(pipe: &Arc<Pipe>, flags: OpenFlags) -> Arc<dyn File> {
        let sides = Sides { reads: flags.reads(), writes: flags.writes() };
        pipe.open(sides);
        Arc::new(Self::new(pipe, sides, flags, None))
    }

    fn new(pipe: &Arc<Pipe>, sides: Sides, flags: OpenFlags, unseen_writers: Option<u32>) -> Self {
        let packets = AtomicBool::new(flags.contains(OpenFlags::DIRECT));
        Self { pipe: pipe.clone(), sides, packets, unseen_writers }
    }

    /// The pipe.
    pub(crate) fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }
}

/// Opens a FIFO (`fifo_open` in fs/pipe.c): waits for the other side, unless both are opened at once or O_NONBLOCK is given, with
/// which a writer without a reader is `ENXIO`.
pub(super) fn open_named(task: &CurrentTask<'_>, pipe: &Arc<Pipe>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
    let sides = Sides { reads: flags.reads(), writes: flags.writes() };
    let waits = !flags.contains(OpenFlags::NONBLOCK);
    // Access mode 3, which opens devices for ioctl(2) only.
    if flags.bits() & 3 == 3 {
        return Err(Errno::EINVAL);
    }
    if !sides.reads && !waits && pipe.lock().readers.open == 0 {
        return Err(Errno::ENXIO);
    }
    if waits && sides.reads != sides.writes {
        // Whoever waits for this side would not know that it comes later.
        task.needs_thread()?;
    }
    let (readers, writers) = pipe.open(sides);
    // Whoever waits for this side, or polls the other one.
    pipe.changed().wake_all();
    let file = |unseen| -> Arc<dyn File> { Arc::new(PipeFile::new(pipe, sides, flags, unseen)) };
    let (partner, unseen) = match (sides.reads, sides.writes) {
        (true, false) => (writers, Some(writers.ever)),
        (false, true) => (readers, None),
        _ => return Ok(file(None)),
    };
    if partner.open > 0 {
        return Ok(file(None));
    }
    if !waits {
        return Ok(file(unseen));
    }
    let woken = task.block_until(Deadline::Never, |waiter| {
        waiter.on_queue(pipe.changed());
        let state = pipe.lock();
        let now = if sides.reads { state.writers } else { state.readers };
        Ok((now.ever != partner.ever).then_some(()))
    });
    match woken {
        Ok(Wake::Done(())) => Ok(file(None)),
        other => {
            pipe.close(sides);
            other.and(Err(Errno::ERESTARTSYS))
        }
    }
}

impl File for PipeFile {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        self.pipe.read(to)
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        self.pipe.write(from, self.packets.load(Ordering::Relaxed))
    }

    fn set_flags(&self, flags: OpenFlags) -> Result<(), Errno> {
        self.packets.store(flags.contains(OpenFlags::DIRECT), Ordering::Relaxed);
        Ok(())
    }

    fn seekable(&self) -> bool {
        false
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        if request != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let waiting = i32::try_from(self.pipe.bytes()).unwrap_or(i32::MAX);
        UserOut::new(UserAddr(arg)).write(task, &waiting)?;
        Ok(0)
    }

    /// As `pipe_poll`.
    fn ready(&self) -> Ready {
        let state = self.pipe.lock();
        let mut ready = Ready::empty();
        if self.sides.reads {
            let hung_up = state.writers.open == 0 && self.unseen_writers != Some(state.writers.ever);
            ready.set(Ready::IN | Ready::RDNORM, !state.ring.is_empty());
            ready.set(Ready::HUP, hung_up);
        }
        if self.sides.writes {
            ready.set(Ready::OUT | Ready::WRNORM, !state.ring.is_full());
            ready.set(Ready::ERR, state.readers.open == 0);
        }
        ready
    }

    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Queue(self.pipe.changed())
    }

    fn takes_turns(&self) -> bool {
        true
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn released(&self) {
        self.pipe.close(self.sides);
    }
}
