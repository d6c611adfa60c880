//! Open files on inherited objects.

use super::{HostRegular, HostStream};
use crate::errno::Errno;
use crate::fs::{File, Mapping, OffsetKeeper, OwnOffset, Ready, Sink, Source, WaitSource};
use crate::task::CurrentTask;
use crate::user::UserOut;
use linux_raw_sys::general::{SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_SET};
use linux_raw_sys::ioctl::FIONREAD;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, fsync};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use vmm::addr::UserAddr;

/// An open pipe, socket or character device.
#[derive(Debug)]
pub(super) struct StreamFile(pub(super) Arc<HostStream>);

impl File for StreamFile {
    fn read_at(&self, task: &CurrentTask<'_>, _offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        // The host may make its thread wait, and a kick must end that.
        task.needs_thread()?;
        self.0.read(to)
    }

    fn write_at(&self, task: &CurrentTask<'_>, _offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        if !self.0.writes_without_waiting() {
            task.needs_thread()?;
        }
        self.0.write(from)
    }

    fn seekable(&self) -> bool {
        false
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        if request != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let waiting = i32::try_from(rustix::io::ioctl_fionread(self.0.fd())?).unwrap_or(i32::MAX);
        UserOut::new(UserAddr(arg)).write(task, &waiting)?;
        Ok(0)
    }

    fn ready(&self) -> Ready {
        self.0.ready()
    }

    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Host(self.0.fd())
    }
}

/// Whose position an open file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// The one in the caller's open file description.
    Shared,
    /// Its own.
    Own,
}

/// An open regular file.
#[derive(Debug)]
pub(super) struct RegularFile {
    host: Arc<HostRegular>,
    position: Position,
}

impl RegularFile {
    /// Makes an open file.
    pub(super) fn new(host: Arc<HostRegular>, position: Position) -> Self {
        Self { host, position }
    }
}

impl File for RegularFile {
    fn read_at(&self, _task: &CurrentTask<'_>, offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        self.host.read(Some(offset), to)
    }

    fn write_at(&self, _task: &CurrentTask<'_>, offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        self.host.write(Some(offset), from)
    }

    fn offset_keeper(&self) -> OffsetKeeper<'_> {
        match self.position {
            Position::Shared => OffsetKeeper::File(self),
            Position::Own => OffsetKeeper::OpenFile,
        }
    }

    fn size(&self) -> Result<u64, Errno> {
        self.host.size()
    }

    fn mapping(&self) -> Result<Mapping, Errno> {
        self.host.mapping()
    }

    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        // fdatasync(2) would do for less, and be one host call more that every monitor may make.
        Ok(fsync(self.host.fd())?)
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        self.host.set_size(size)
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        Ok(fallocate(self.host.fd(), FallocateFlags::from_bits_retain(mode), offset, len)?)
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.host.fd())
    }
}

impl OwnOffset for RegularFile {
    fn read(&self, to: &mut dyn Sink) -> Result<usize, Errno> {
        self.host.read(None, to)
    }

    fn write(&self, from: &mut dyn Source) -> Result<usize, Errno> {
        self.host.write(None, from)
    }

    fn seek(&self, offset: i64, whence: u32) -> Result<u64, Errno> {
        let unsigned =
            || u64::try_from(offset).map_err(|_| if whence == SEEK_SET { Errno::EINVAL } else { Errno::ENXIO });
        self.host.seek(match whence {
            SEEK_SET => SeekFrom::Start(unsigned()?),
            SEEK_CUR => SeekFrom::Current(offset),
            SEEK_END => SeekFrom::End(offset),
            SEEK_DATA => SeekFrom::Data(unsigned()?),
            _ => SeekFrom::Hole(unsigned()?),
        })
    }
}
