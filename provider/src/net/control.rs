//! Control messages (cmsg(3)): read from a program's buffer, and written into one.

use super::socket::{Control, RawControl};
use crate::abi::socket::ControlHeader;
use crate::errno::Errno;
use crate::fs::{Fd, OpenFile};
use crate::mm::MemoryMap;
use crate::task::{CurrentTask, Resource};
use linux_raw_sys::net::{MSG_CTRUNC, SCM_RIGHTS, SOL_SOCKET};
use std::sync::Arc;
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, IntoBytes};

/// The most control data that one message carries (net.core.optmem_max).
const LONGEST: u64 = 131_072;
const HEADER: usize = size_of::<ControlHeader>();

/// Rounds up as CMSG_ALIGN.
fn align(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// Reads the control messages of `len` bytes at `at`; `ENOBUFS` if there are too many, `EINVAL` if one is malformed.
pub fn read(memory: &MemoryMap, at: UserAddr, len: u64) -> Result<Vec<RawControl>, Errno> {
    if len > LONGEST {
        return Err(Errno::ENOBUFS);
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| Errno::ENOBUFS)?];
    memory.read(at, &mut bytes)?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Vec<RawControl>, Errno> {
    let mut messages = Vec::new();
    let mut rest = bytes;
    while let Ok((header, _)) = ControlHeader::read_from_prefix(rest) {
        let len = usize::try_from(header.len).map_err(|_| Errno::EINVAL)?;
        let data = rest.get(HEADER..len).ok_or(Errno::EINVAL)?;
        messages.push(RawControl { level: header.level, kind: header.kind, data: data.to_vec() });
        rest = rest.get(align(len)..).unwrap_or_default();
    }
    Ok(messages)
}

/// Whether received descriptors are closed on exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExec {
    /// They stay open.
    Keep,
    /// They are closed.
    Close,
}

/// A program's buffer for control messages, as it fills (put_cmsg).
#[derive(Debug)]
pub struct Writer {
    at: UserAddr,
    room: usize,
    used: usize,
    /// MSG_CTRUNC once something did not fit.
    pub flags: u32,
}

impl Writer {
    /// Starts at the front of a buffer of `room` bytes.
    pub fn new(at: UserAddr, room: u64) -> Self {
        Self { at, room: usize::try_from(room).unwrap_or(usize::MAX), used: 0, flags: 0 }
    }

    /// Bytes written.
    pub fn used(&self) -> usize {
        self.used
    }

    fn left(&self) -> usize {
        self.room - self.used
    }

    /// Writes a message; descriptors are made of open files here, where it is known that they fit.
    pub fn put(&mut self, task: &CurrentTask<'_>, control: Control, on_exec: OnExec) -> Result<(), Errno> {
        match control {
            Control::Data(raw) => self.put_data(task, &raw),
            Control::Files(files) => self.put_files(task, files, on_exec),
        }
    }

    fn put_data(&mut self, task: &CurrentTask<'_>, raw: &RawControl) -> Result<(), Errno> {
        if self.left() < HEADER {
            self.flags |= MSG_CTRUNC;
            return Ok(());
        }
        let whole = HEADER + raw.data.len();
        let len = whole.min(self.left());
        if len < whole {
            self.flags |= MSG_CTRUNC;
        }
        let header = ControlHeader { len: len as u64, level: raw.level, kind: raw.kind };
        let bytes = [header.as_bytes(), &raw.data[..len - HEADER]].concat();
        task.mm().write(UserAddr(self.at.0.wrapping_add(self.used as u64)), &bytes)?;
        self.used += align(whole).min(self.left());
        Ok(())
    }

    /// Installs as many descriptors as fit (scm_detach_fds); the others are closed.
    fn put_files(&mut self, task: &CurrentTask<'_>, files: Vec<Arc<OpenFile>>, on_exec: OnExec) -> Result<(), Errno> {
        let fitting = self.left().saturating_sub(HEADER) / size_of::<i32>();
        let limit = task.group().limits().soft(Resource::Files);
        let total = files.len();
        let mut numbers = Vec::new();
        for file in files.into_iter().take(fitting) {
            match task.files().insert(file, on_exec == OnExec::Close, 0, limit) {
                Ok(Fd(number)) => numbers.push(number),
                Err(_) => break,
            }
        }
        if numbers.len() < total {
            self.flags |= MSG_CTRUNC;
        }
        if numbers.is_empty() {
            return Ok(());
        }
        let level = i32::try_from(SOL_SOCKET).unwrap_or_default();
        let kind = i32::try_from(SCM_RIGHTS).unwrap_or_default();
        self.put_data(task, &RawControl { level, kind, data: numbers.as_bytes().to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: u64, kind: i32, data: &[u8]) -> Vec<u8> {
        [ControlHeader { len, level: 1, kind }.as_bytes(), data].concat()
    }

    #[test]
    fn messages_follow_each_other_aligned() {
        let bytes = [message(20, 1, &[1, 0, 0, 0]), vec![0; 4], message(17, 2, &[9])].concat();
        let parsed = parse(&bytes).unwrap();
        assert_eq!(parsed.iter().map(|raw| (raw.kind, raw.data.len())).collect::<Vec<_>>(), [(1, 4), (2, 1)]);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        assert_eq!(parse(&message(15, 1, &[])), Err(Errno::EINVAL));
        assert_eq!(parse(&message(17, 1, &[])), Err(Errno::EINVAL));
        assert_eq!(parse(&message(u64::MAX, 1, &[])), Err(Errno::EINVAL));
        assert_eq!(parse(&[0; 15]), Ok(Vec::new()));
    }
}
