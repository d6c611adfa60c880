//! The memory devices, see null(4) and full(4).

use crate::errno::Errno;
use crate::fs::{File, Mapping, OffsetKeeper, Sink, Source};
use crate::task::CurrentTask;
use std::sync::Arc;

pub(super) const NULL: u32 = 3;
pub(super) const ZERO: u32 = 5;
pub(super) const FULL: u32 = 7;

/// Zeros are delivered in pieces of this many bytes.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Opens a memory device by its minor number.
pub(super) fn open(minor: u32) -> Option<Arc<dyn File>> {
    let kind = match minor {
        NULL => Kind::Null,
        ZERO => Kind::Zero,
        FULL => Kind::Full,
        _ => return None,
    };
    Some(Arc::new(MemoryDevice(kind)))
}

/// /dev/null, /dev/zero or /dev/full.
#[derive(Debug)]
struct MemoryDevice(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Zero,
    Full,
}

impl File for MemoryDevice {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        if self.0 == Kind::Null { Ok(0) } else { put_zeros(to) }
    }

    /// Never looks at the bytes: a write from an unmapped address succeeds, as on Linux.
    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        if self.0 == Kind::Full { Err(Errno::ENOSPC) } else { Ok(from.remaining()) }
    }

    fn append(&self, task: &CurrentTask<'_>, from: &mut dyn Source) -> Result<(usize, u64), Errno> {
        self.write_at(task, 0, from).map(|written| (written, 0))
    }

    fn offset_keeper(&self) -> OffsetKeeper<'_> {
        OffsetKeeper::Zero
    }

    fn seek_sparse(&self, _offset: u64, _hole: bool) -> Result<u64, Errno> {
        Ok(0)
    }

    fn mapping(&self) -> Result<Mapping, Errno> {
        if self.0 == Kind::Zero { Ok(Mapping::Zero) } else { Err(Errno::ENODEV) }
    }
}

fn put_zeros(to: &mut dyn Sink) -> Result<usize, Errno> {
    let mut done = 0;
    while to.remaining() > 0 {
        let piece = &ZEROS[..ZEROS.len().min(to.remaining())];
        match to.put(piece) {
            Ok(put) => {
                done += put;
                if put < piece.len() {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}
