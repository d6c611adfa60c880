//! splice(2), tee(2), vmsplice(2): moving what is in pipes.

use super::io_copy::{advance, cap, offset_at, write_chunk};
use super::pipe::pipe_of;
use crate::errno::Errno;
use crate::fs::io::grow;
use crate::fs::pipe::{Pipe, Taken};
use crate::fs::{BufferSink, Fd, File, FileKind, OpenFile, OpenFlags, Ready};
use crate::mm::UserBuffers;
use crate::signal::Signal;
use crate::task::{CurrentTask, Deadline};
use crate::user::UserInOut;
use std::sync::Arc;
use vmm::addr::UserAddr;

bitflags::bitflags! {
    /// splice(2)'s flags. MOVE, MORE and GIFT are hints.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SpliceFlags: u32 {
        /// Move pages.
        const MOVE = 1;
        /// Do not wait for a pipe.
        const NONBLOCK = 2;
        /// More will follow.
        const MORE = 4;
        /// The program will not touch the pages again.
        const GIFT = 8;
    }
}

crate::syscall::args::flags_arg! {
    SpliceFlags => "SPLICE_F_";
}

/// The most bytes between a pipe and a file at once.
const STEP: usize = 256 << 10;
/// Bytes of a page.
const PAGE: usize = 4096;

/// Whether a call waits for pipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Yes,
    No,
}

fn waits(flags: SpliceFlags, files: &[&OpenFile]) -> Waits {
    let open = files.iter().any(|file| file.flags().contains(OpenFlags::NONBLOCK));
    if open || flags.contains(SpliceFlags::NONBLOCK) { Waits::No } else { Waits::Yes }
}

/// Tries until a pipe has what is missing. `EAGAIN` at once for a call that does not wait; a broken pipe raises SIGPIPE.
fn until<T>(
    task: &CurrentTask<'_>,
    waits: Waits,
    pipes: &[&OpenFile],
    mut attempt: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    let result = match attempt() {
        Err(Errno::EAGAIN) if waits == Waits::Yes => task
            .block_until(Deadline::Never, |waiter| {
                for pipe in pipes {
                    let file: &dyn File = pipe.file().as_ref();
                    waiter.on_source(file.wait_source(), Ready::all());
                }
                match attempt() {
                    Err(Errno::EAGAIN) => Ok(None),
                    other => other.map(Some),
                }
            })?
            .or_restart(),
        other => other,
    };
    if matches!(result, Err(Errno::EPIPE)) {
        task.raise(Signal::SIGPIPE);
    }
    result
}

/// splice(2), in the order of `do_splice` in fs/splice.c.
pub(super) fn splice(
    task: &CurrentTask<'_>,
    from: Fd,
    from_at: UserInOut<i64>,
    to: Fd,
    to_at: UserInOut<i64>,
    len: u64,
    flags: SpliceFlags,
) -> Result<usize, Errno> {
    if len == 0 {
        return Ok(0);
    }
    if !SpliceFlags::all().contains(flags) {
        return Err(Errno::EINVAL);
    }
    let (source, target) = (task.files().get(from)?, task.files().get(to)?);
    let (from_pipe, to_pipe) = (pipe_of(&source), pipe_of(&target));
    if (from_pipe.is_some() && !from_at.is_null()) || (to_pipe.is_some() && !to_at.is_null()) {
        return Err(Errno::ESPIPE);
    }
    let (to_offset, from_offset) = (offset_at(task, to_at)?, offset_at(task, from_at)?);
    if !source.flags().reads() || !target.flags().writes() {
        return Err(Errno::EBADF);
    }
    let len = cap(len);
    match (from_pipe, to_pipe) {
        (Some(from), Some(to)) => {
            if Arc::ptr_eq(from, to) {
                return Err(Errno::EINVAL);
            }
            let waits = waits(flags, &[&source, &target]);
            until(task, waits, &[&source, &target], || {
                from.expect_bytes()?;
                from.move_to(to.reserve(len)?, len)
            })
        }
        (Some(pipe), None) => {
            check_file(&target, to_offset)?;
            if target.flags().contains(OpenFlags::APPEND) {
                return Err(Errno::EINVAL);
            }
            let moved = out_of_pipe(task, (&source, pipe), (&target, to_offset), len, waits(flags, &[&source]))?;
            if let Some(offset) = to_offset {
                advance(task, to_at, &target, offset, moved)?;
            }
            Ok(moved)
        }
        (None, Some(pipe)) => {
            check_file(&source, from_offset)?;
            let waits = waits(flags, &[&target]);
            let moved = into_pipe(task, (&source, from_offset), (&target, pipe), len, waits)?;
            if let Some(offset) = from_offset {
                advance(task, from_at, &source, offset, moved)?;
            }
            Ok(moved)
        }
        (None, None) => Err(Errno::EINVAL),
    }
}

/// What cannot be spliced: directories, and descriptors of no file system; offsets need a file that has them.
fn check_file(file: &OpenFile, offset: Option<u64>) -> Result<(), Errno> {
    let unsuited = matches!(file.location().kind(), FileKind::Directory | FileKind::Anonymous);
    if unsuited || (offset.is_some() && !file.file().seekable()) { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Moves from a pipe to a file until the pipe is empty, `len` bytes are moved or the file takes no more.
fn out_of_pipe(
    task: &CurrentTask<'_>,
    (source, pipe): (&OpenFile, &Pipe),
    (target, offset): (&OpenFile, Option<u64>),
    len: usize,
    waits: Waits,
) -> Result<usize, Errno> {
    let mut moved = 0;
    while moved < len {
        // Once something is moved, an empty pipe ends the call.
        let waits = if moved == 0 { waits } else { Waits::No };
        let step = until(task, waits, &[source], || pipe.take((len - moved).min(STEP))).and_then(|taken| {
            let Some(mut taken) = taken else { return Ok((0, 0)) };
            write_taken(task, &mut taken, target, offset.map(|offset| offset + bytes(moved)))
        });
        match step {
            Ok((written, offered)) => {
                moved += written;
                if written < offered || offered == 0 {
                    break;
                }
            }
            Err(error) if moved == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(moved)
}

/// Writes what was taken out of a pipe; returns how much was written and how much there was.
fn write_taken(
    task: &CurrentTask<'_>,
    taken: &mut Taken<'_>,
    target: &OpenFile,
    offset: Option<u64>,
) -> Result<(usize, usize), Errno> {
    let pieces = taken.pieces();
    let offered = pieces.iter().map(Vec::len).sum();
    let mut done = 0;
    for piece in pieces {
        let at = offset.map(|offset| offset + bytes(done));
        match write_chunk(task, target, at, &piece) {
            Ok(written) => {
                taken.used(written);
                done += written;
                if written < piece.len() {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok((done, offered))
}

/// Moves from a file what fits into a pipe, once there is room.
fn into_pipe(
    task: &CurrentTask<'_>,
    (source, offset): (&OpenFile, Option<u64>),
    (target, pipe): (&OpenFile, &Pipe),
    len: usize,
    waits: Waits,
) -> Result<usize, Errno> {
    // A regular file's pages keep their places in the pipe's buffers.
    let position = match source.location().kind() {
        FileKind::Regular => offset.unwrap_or_else(|| source.offset()),
        _ => 0,
    };
    let skew = usize::try_from(position).unwrap_or_default() % PAGE;
    let mut chunk = Vec::new();
    loop {
        let room = until(task, waits, &[target], || pipe.reserve(len.min(STEP) + skew))?;
        let most = (room.bytes() - skew).min(len).min(STEP);
        grow(&mut chunk, most)?;
        chunk.truncate(most);
        let mut sink = BufferSink::new(&mut chunk);
        let read = match offset {
            Some(offset) => source.read_at(task, offset, &mut sink),
            None => source.read(task, &mut sink),
        };
        match read {
            Ok(0) => return Ok(0),
            Ok(read) => return room.fill_with(&chunk[..read], PAGE - skew),
            Err(Errno::EAGAIN) if waits == Waits::Yes && !source.flags().contains(OpenFlags::NONBLOCK) => {}
            Err(error) => return Err(error),
        }
        // The slots are free while this waits for the file.
        drop(room);
        let file = source.file();
        task.block_on_file(file.as_ref(), Ready::IN, || match file.ready_for(task) & READABLE {
            ready if ready.is_empty() => Err(Errno::EAGAIN),
            _ => Ok(()),
        })?;
    }
}

/// What ends the wait for a file that is to be read.
const READABLE: Ready = Ready::IN.union(Ready::RDNORM).union(Ready::HUP).union(Ready::ERR);

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// tee(2): copies from pipe to pipe.
pub(super) fn tee(task: &CurrentTask<'_>, from: Fd, to: Fd, len: u64, flags: SpliceFlags) -> Result<usize, Errno> {
    if !SpliceFlags::all().contains(flags) {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (source, target) = (task.files().get(from)?, task.files().get(to)?);
    if !source.flags().reads() || !target.flags().writes() {
        return Err(Errno::EBADF);
    }
    match (pipe_of(&source), pipe_of(&target)) {
        (Some(from), Some(to)) if !Arc::ptr_eq(from, to) => {
            let (len, waits) = (cap(len), waits(flags, &[&source, &target]));
            until(task, waits, &[&source, &target], || {
                from.expect_bytes()?;
                from.copy_to(to.reserve(len)?, len)
            })
        }
        _ => Err(Errno::EINVAL),
    }
}

/// vmsplice(2): what a pipe takes of user memory, or user memory of a pipe; copied either way.
pub(super) fn vmsplice(
    task: &CurrentTask<'_>,
    fd: Fd,
    buffers: UserAddr,
    count: u64,
    flags: SpliceFlags,
) -> Result<usize, Errno> {
    if !SpliceFlags::all().contains(flags) {
        return Err(Errno::EINVAL);
    }
    let file = task.files().get(fd)?;
    pipe_of(&file).ok_or(Errno::EBADF)?;
    let mm = task.mm();
    let mut buffers = UserBuffers::import(&mm, buffers, count)?;
    let waits = waits(flags, &[]);
    if file.flags().writes() {
        until(task, waits, &[&file], || file.write(task, &mut buffers))
    } else {
        until(task, waits, &[&file], || file.read(task, &mut buffers))
    }
}
