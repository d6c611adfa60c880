//! remap_file_pages(2): other pages of a shared mapping's file at an address. As Linux has done since 4.0, it makes a mapping of its own.

use super::mm::may_write_shared;
use crate::errno::Errno;
use crate::mm::{Backing, Content, Label, MapRequest, Placement, VmaFlags};
use crate::task::CurrentTask;
use vmm::addr::{PAGE_SIZE, UserAddr, UserRange};

/// MAP_NONBLOCK: the only flag that is not ignored.
const NONBLOCK: u64 = 0x1_0000;

const CAP_IPC_LOCK: u32 = 14;

/// `prot` must be 0; `first` is the file's page, counted from its start, that appears at `start`.
pub(super) fn remap_file_pages(
    task: &CurrentTask<'_>,
    start: UserAddr,
    size: u64,
    prot: u64,
    first: u64,
    flags: u64,
) -> Result<(), Errno> {
    let (start, size) = (start.page(), size & !(PAGE_SIZE - 1));
    let end = start.0.checked_add(size).filter(|end| prot == 0 && *end > start.0).ok_or(Errno::EINVAL)?;
    let last = first.checked_add(size / PAGE_SIZE).ok_or(Errno::EINVAL)?;
    let range = UserRange { start, end: UserAddr(end) };
    let mm = task.mm();
    let vma = mm.shared_over(range).ok_or(Errno::EINVAL)?;
    let Backing::Source { source, .. } = vma.backing else { return Err(Errno::EINVAL) };
    // No file reaches beyond the largest signed offset (file_mmap_ok).
    let fits = last.checked_mul(PAGE_SIZE).is_some_and(|end| i64::try_from(end).is_ok());
    let offset = first.checked_mul(PAGE_SIZE).filter(|_| fits).ok_or(Errno::EOVERFLOW)?;
    let content = Content {
        backing: Backing::Source { source, offset },
        sharing: vma.sharing,
        max_access: vma.max_access,
        label: vma.label.clone(),
    };
    let request = MapRequest {
        hint: start,
        len: size,
        access: vma.access,
        placement: Placement::Fixed,
        content: Ok(content),
        flags: vma.flags & VmaFlags::LOCKED,
        may_map_low: false,
        may_lock: task.credentials().has(CAP_IPC_LOCK),
    };
    match (&vma.label, &request.content) {
        // The file is told, so that it is not sealed against writes meanwhile.
        (Label::File(file), Ok(content)) if may_write_shared(content) => {
            let mut request = Some(request);
            file.file().map_writable(&mut |_seals| mm.map(request.take().ok_or(Errno::EINVAL)?))?
        }
        _ => mm.map(request)?,
    };
    if flags & NONBLOCK == 0 {
        mm.make_present(range);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::errno::Errno;
    use crate::testing::{config, fixture_with};
    use linux_raw_sys::general::{__NR_mmap, __NR_munmap, __NR_remap_file_pages};
    use vmm::addr::{PAGE_SIZE, UserAddr};

    const PAGES: u64 = 4;
    const SHARED: u64 = 1;
    const PRIVATE: u64 = 2;
    const ANONYMOUS: u64 = 0x20;

    #[test]
    fn pages_of_a_shared_mapping_change_places() {
        let mut fixture = fixture_with(config());
        let mut mapped = |kind| fixture.returned(__NR_mmap, &[0, PAGES * PAGE_SIZE, 3, kind | ANONYMOUS, u64::MAX, 0]);
        let (shared, private) = (mapped(SHARED).unwrap(), mapped(PRIVATE).unwrap());
        let mm = fixture.task.mm().unwrap();
        for page in 0..PAGES {
            mm.write(UserAddr(shared + page * PAGE_SIZE), &[b'a' + u8::try_from(page).unwrap()]).unwrap();
        }
        let letter = |page: u64| {
            let mut byte = [0];
            mm.read(UserAddr(shared + page * PAGE_SIZE), &mut byte).map(|()| char::from(byte[0]))
        };
        let mut remap = |start, pages, prot, first| {
            fixture.returned(__NR_remap_file_pages, &[start, pages * PAGE_SIZE, prot, first, 0])
        };
        // Bits below the page are ignored; the size is rounded down.
        assert_eq!(remap(shared + 5, 1, 0, 3), Ok(0));
        assert_eq!(remap(shared + 3 * PAGE_SIZE, 1, 0, 0), Ok(0));
        assert_eq!([letter(0), letter(1), letter(2), letter(3)].map(Result::unwrap), ['d', 'b', 'c', 'a']);
        mm.write(UserAddr(shared), b"z").unwrap();
        assert_eq!(remap(shared, PAGES, 0, 0), Ok(0));
        assert_eq!(letter(3), Ok('z'));
        assert_eq!(remap(shared, 1, 1, 0), Err(Errno::EINVAL));
        assert_eq!(remap(shared, 0, 0, 0), Err(Errno::EINVAL));
        assert_eq!(remap(shared, 1, 0, u64::MAX), Err(Errno::EINVAL));
        assert_eq!(remap(shared, 1, 0, 1 << 51), Err(Errno::EOVERFLOW));
        assert_eq!(remap(private, 1, 0, 0), Err(Errno::EINVAL));
        assert_eq!(fixture.returned(__NR_munmap, &[shared + PAGE_SIZE, PAGE_SIZE]), Ok(0));
        let mut remap = |pages| fixture.returned(__NR_remap_file_pages, &[shared, pages * PAGE_SIZE, 0, 0, 0]);
        // Not over a hole.
        assert_eq!(remap(3), Err(Errno::EINVAL));
        assert_eq!(remap(1), Ok(0));
    }
}
