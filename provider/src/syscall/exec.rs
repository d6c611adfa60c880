//! execve and execveat.

use super::Outcome;
use crate::errno::Errno;
use crate::exec::file::open_executable;
use crate::exec::{self, LoadError};
use crate::fs::{Fd, LastLink, OpenFile};
use crate::mm::MemoryMap;
use crate::task::CurrentTask;
use crate::user::UserCStr;
use linux_raw_sys::general::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW};
use std::sync::Arc;
use vmm::addr::UserAddr;

/// The longest argument or environment string, with its NUL (MAX_ARG_STRLEN).
const MAX_STRING: usize = 32 * 4096;
/// The most bytes that strings and their pointers may take, whatever the stack limit: what is collected before it is judged.
const MAX_STRINGS: usize = 6 << 20;

pub(super) fn execve(
    task: &mut CurrentTask<'_>,
    path: UserCStr,
    args: UserAddr,
    env: UserAddr,
) -> Result<Outcome, Errno> {
    let path = path.read_path(task)?;
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let location = task.kernel().namespace().walk(task, None, &path, LastLink::Follow)?;
    let file = open_executable(task, location)?;
    run(task, file, path, args, env)
}

pub(super) fn execveat(
    task: &mut CurrentTask<'_>,
    at: Fd,
    path: UserCStr,
    args: UserAddr,
    env: UserAddr,
    flags: u32,
) -> Result<Outcome, Errno> {
    if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = path.read_path(task)?;
    if path.is_empty() && flags & AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    let from_cwd = at.0 == AT_FDCWD || path.starts_with(b"/");
    let base = if from_cwd { None } else { Some(task.files().get_any(at)?.location().clone()) };
    let location = match (&base, path.is_empty()) {
        (Some(base), true) => base.clone(),
        (None, true) => task.fs().cwd(),
        _ => {
            let follow = flags & AT_SYMLINK_NOFOLLOW == 0;
            let last = if follow { LastLink::Follow } else { LastLink::Keep };
            let location = task.kernel().namespace().walk(task, base.as_ref(), &path, last)?;
            if !follow && location.inode().as_link().is_some() {
                return Err(Errno::ELOOP);
            }
            location
        }
    };
    let file = open_executable(task, location)?;
    // The name that the program sees leads through /proc, as on Linux.
    let name = match (from_cwd, path.is_empty()) {
        (true, false) => path,
        (_, true) => format!("/dev/fd/{}", at.0).into_bytes(),
        (false, false) => [format!("/dev/fd/{}/", at.0).as_bytes(), &path].concat(),
    };
    run(task, file, name, args, env)
}

fn run(
    task: &mut CurrentTask<'_>,
    file: Arc<OpenFile>,
    name: Vec<u8>,
    args: UserAddr,
    env: UserAddr,
) -> Result<Outcome, Errno> {
    let mm = task.mm();
    let mut room = MAX_STRINGS;
    let args = read_strings(&mm, args, &mut room)?;
    let env = read_strings(&mm, env, &mut room)?;
    drop(mm);
    let old_tid = task.tid();
    exec::execute(task, file, name, args, env).map_err(|error| {
        if !matches!(error, LoadError::Open(_)) {
            tracing::debug!(%error, "execve failed");
        }
        error.errno()
    })?;
    task.tell_exec(old_tid);
    Ok(Outcome::Resume)
}

/// Reads a NULL-terminated vector of strings; a NULL vector is an empty one.
fn read_strings(mm: &MemoryMap, at: UserAddr, room: &mut usize) -> Result<Vec<Vec<u8>>, Errno> {
    let mut strings = Vec::new();
    if at.0 == 0 {
        return Ok(strings);
    }
    let mut at = at;
    loop {
        let mut pointer = [0; 8];
        mm.read(at, &mut pointer)?;
        let pointer = u64::from_ne_bytes(pointer);
        if pointer == 0 {
            return Ok(strings);
        }
        let string = mm.read_cstr(UserAddr(pointer), MAX_STRING)?.ok_or(Errno::E2BIG)?;
        *room = room.checked_sub(string.len() + 1 + 8).ok_or(Errno::E2BIG)?;
        strings.push(string);
        at = at.checked_add(8).ok_or(Errno::EFAULT)?;
    }
}
