//! getrandom(2).

use crate::errno::Errno;
use crate::task::CurrentTask;
use rustix::rand::{GetRandomFlags, getrandom as host_random};
use vmm::addr::UserAddr;

const NONBLOCK: u32 = 1;
const RANDOM: u32 = 2;
const INSECURE: u32 = 4;
/// The most bytes one call gives (MAX_RW_COUNT).
const MOST: usize = 0x7fff_f000;
/// Bytes fetched from the host at a time.
const CHUNK: usize = 4096;
/// Bytes after which the call looks for signals.
const SIGNAL_CHECK: usize = 64 << 10;

pub(super) fn getrandom(task: &CurrentTask<'_>, to: UserAddr, len: usize, flags: u32) -> Result<usize, Errno> {
    if flags & !(NONBLOCK | RANDOM | INSECURE) != 0 || flags & (RANDOM | INSECURE) == RANDOM | INSECURE {
        return Err(Errno::EINVAL);
    }
    let len = len.min(MOST);
    let mm = task.mm();
    let mut buffer = [0; CHUNK];
    let mut done = 0;
    while done < len {
        let chunk = &mut buffer[..CHUNK.min(len - done)];
        let filled = host_random(&mut *chunk, GetRandomFlags::empty())?;
        let at = to.checked_add(u64::try_from(done).unwrap_or(u64::MAX)).ok_or(Errno::EFAULT);
        match at.and_then(|at| mm.write_partial(at, &chunk[..filled])) {
            Ok(written) => {
                done += written;
                if written < filled {
                    return Ok(done);
                }
            }
            Err(_) if done > 0 => return Ok(done),
            Err(error) => return Err(error),
        }
        if done.is_multiple_of(SIGNAL_CHECK) && done < len && task.has_interrupting_signal() {
            return Ok(done);
        }
    }
    Ok(done)
}
