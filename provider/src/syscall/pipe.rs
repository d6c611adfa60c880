//! pipe(2), and the capacity of pipes.

use super::fs::install;
use crate::errno::Errno;
use crate::fs::pipe::{Pipe, PipeFile};
use crate::fs::{OpenFile, OpenFlags};
use crate::task::CurrentTask;
use crate::user::UserOut;
use std::sync::Arc;

/// What pipe2(2) takes. O_NOTIFICATION_PIPE is O_EXCL's bit; like a kernel without watch queues, we do not know it.
const FLAGS: OpenFlags = OpenFlags::CLOEXEC.union(OpenFlags::NONBLOCK).union(OpenFlags::DIRECT);

/// pipe(2).
pub(super) fn pipe(task: &CurrentTask<'_>, ends: UserOut<[i32; 2]>) -> Result<(), Errno> {
    pipe2(task, ends, OpenFlags::empty())
}

/// pipe2(2).
pub(super) fn pipe2(task: &CurrentTask<'_>, ends: UserOut<[i32; 2]>, flags: OpenFlags) -> Result<(), Errno> {
    if !FLAGS.contains(flags) {
        return Err(Errno::EINVAL);
    }
    let close_on_exec = flags.contains(OpenFlags::CLOEXEC);
    let [reading, writing] = task.kernel().pipes().create(task, flags);
    let reading = install(task, reading, close_on_exec)?;
    let written = install(task, writing, close_on_exec)
        .and_then(|writing| ends.write(task, &[reading.0, writing.0]).map_err(|error| undo(task, writing, error)));
    written.map_err(|error| undo(task, reading, error))
}

/// Takes back a descriptor that the program was not told of.
fn undo(task: &CurrentTask<'_>, fd: crate::fs::Fd, error: Errno) -> Errno {
    // Another thread may have closed it.
    let _closed = task.files().close(fd);
    error
}

/// F_GETPIPE_SZ; `EBADF` for what is no pipe.
pub(super) fn size(file: &OpenFile) -> Result<u64, Errno> {
    Ok(bytes(pipe_of(file).ok_or(Errno::EBADF)?.size()))
}

/// F_SETPIPE_SZ: returns the new capacity.
pub(super) fn resize(task: &CurrentTask<'_>, file: &OpenFile, size: u32) -> Result<u64, Errno> {
    pipe_of(file).ok_or(Errno::EBADF)?.resize(size, &task.credentials()).map(bytes)
}

/// The pipe behind an open file, if it is one.
pub(super) fn pipe_of(file: &OpenFile) -> Option<&Arc<Pipe>> {
    file.file().as_any().and_then(|file| file.downcast_ref()).map(PipeFile::pipe)
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
