//! The ioctl(2) request `FS_IOC_FIEMAP`: which parts of a file are stored (ioctl_fiemap in fs/ioctl.c).
//!
//! The host tells where data and holes are, and not where on its disks: extents say so (`FIEMAP_EXTENT_UNKNOWN`). Files in
//! memory have no extents, as on Linux's tmpfs.

use crate::errno::Errno;
use crate::fs::{File, FileKind, OpenFile};
use crate::task::CurrentTask;
use crate::user::{UserIn, UserOut};
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The request's number.
pub(super) const REQUEST: u32 = 0xc020_660b;

/// `struct fiemap` without its extents.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    start: u64,
    len: u64,
    flags: u32,
    mapped: u32,
    room: u32,
    reserved: u32,
}

/// `struct fiemap_extent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Extent {
    logical: u64,
    physical: u64,
    len: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_words: [u32; 3],
}

const _: () = assert!(size_of::<Header>() == 32 && size_of::<Extent>() == 56);

/// FIEMAP_FLAG_SYNC.
const SYNC: u32 = 1;
/// FIEMAP_EXTENT_LAST.
const LAST: u32 = 1;
/// FIEMAP_EXTENT_UNKNOWN.
const UNKNOWN: u32 = 2;
/// The most extents that a program may make room for (FIEMAP_MAX_EXTENTS): so many fit into 4 GiB.
const MOST: u32 = (u32::MAX - 32) / 56;
/// What extents are counted in.
const BLOCK: u64 = 4096;

/// Serves the request.
pub(super) fn extents(task: &CurrentTask<'_>, file: &OpenFile, at: UserAddr) -> Result<(), Errno> {
    if file.location().kind() != FileKind::Regular || file.file().host_fd().is_none() {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut header = UserIn::<Header>::new(at).read(task)?;
    if header.room > MOST {
        return Err(Errno::EINVAL);
    }
    header.mapped = 0;
    let found = find(task, file, &mut header, at);
    UserOut::new(at).write(task, &header)?;
    found
}

/// Stores the extents behind the header and counts them there; without room it only counts.
fn find(task: &CurrentTask<'_>, file: &OpenFile, header: &mut Header, at: UserAddr) -> Result<(), Errno> {
    if header.len == 0 {
        return Err(Errno::EINVAL);
    }
    if i64::try_from(header.start).is_err() {
        return Err(Errno::EFBIG);
    }
    if header.flags & !SYNC != 0 {
        header.flags &= !SYNC;
        return Err(Errno::EBADR);
    }
    if header.flags & SYNC != 0 {
        file.file().sync(false)?;
    }
    let end = header.start.saturating_add(header.len);
    let mut from = header.start;
    while header.room == 0 || header.mapped < header.room {
        // A file may have millions.
        if task.is_killed() {
            return Err(Errno::EINTR);
        }
        let Some((extent, next)) = extent_from(file.file().as_ref(), from)?.filter(|(extent, _)| extent.logical < end)
        else {
            break;
        };
        if header.room > 0 {
            let index = u64::from(header.mapped) * 56;
            let place = at.0.saturating_add(32).saturating_add(index);
            UserOut::new(UserAddr(place)).write(task, &extent)?;
        }
        header.mapped += 1;
        if extent.flags & LAST != 0 {
            break;
        }
        from = next;
    }
    Ok(())
}

/// The first extent at or behind an offset, in whole blocks, and where the search goes on.
fn extent_from(file: &dyn File, from: u64) -> Result<Option<(Extent, u64)>, Errno> {
    let Some(start) = found(file.seek_sparse(from, false))? else { return Ok(None) };
    let Some(end) = found(file.seek_sparse(start, true))? else { return Ok(None) };
    let last = found(file.seek_sparse(end, false))?.is_none();
    let logical = start - start % BLOCK;
    let extent = Extent {
        logical,
        physical: 0,
        len: end.next_multiple_of(BLOCK) - logical,
        reserved: [0; 2],
        flags: UNKNOWN | if last { LAST } else { 0 },
        reserved_words: [0; 3],
    };
    Ok(Some((extent, end)))
}

/// Tells the end of the file from other errors.
fn found(offset: Result<u64, Errno>) -> Result<Option<u64>, Errno> {
    match offset {
        Err(Errno::ENXIO) => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Sink, Source};

    /// A file with data in two places.
    #[derive(Debug)]
    struct Sparse;

    const DATA: [(u64, u64); 2] = [(4096, 8192), (1 << 20, (1 << 20) + 100)];

    impl File for Sparse {
        fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, _to: &mut dyn Sink) -> Result<usize, Errno> {
            Err(Errno::EIO)
        }
        fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
            Err(Errno::EIO)
        }
        fn seek_sparse(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
            let (start, end) = DATA.into_iter().find(|(_, end)| offset < *end).ok_or(Errno::ENXIO)?;
            Ok(if !hole {
                offset.max(start)
            } else if offset < start {
                offset
            } else {
                end
            })
        }
    }

    #[test]
    fn extents_are_whole_blocks_and_the_last_one_says_so() {
        let at =
            |from| extent_from(&Sparse, from).unwrap().map(|(extent, _)| (extent.logical, extent.len, extent.flags));
        assert_eq!(at(0), Some((4096, 4096, UNKNOWN)));
        assert_eq!(at(5000), Some((4096, 4096, UNKNOWN)));
        assert_eq!(at(8192), Some((1 << 20, 4096, UNKNOWN | LAST)));
        assert_eq!(at((1 << 20) + 100), None);
    }
}
