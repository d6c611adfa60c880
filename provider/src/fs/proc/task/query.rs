//! PROCMAP_QUERY, the ioctl(2) of /proc/PID/maps that tells of one mapping without text (fs/proc/task_mmu.c).

use super::{Shown, maps};
use crate::errno::Errno;
use crate::mm::{MappingInfo, MappingName, Sharing};
use crate::user::{PATH_MAX, UserIn};
use rustix::fs::{major, minor};
use vmm::addr::{PAGE_SIZE, UserAddr};
use vmm::memory::Access;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `_IOWR('f', 17, struct procmap_query)`
const PROCMAP_QUERY: u32 = 0xc068_6611;

bitflags::bitflags! {
    /// What a program asks for, and the first four of them how a mapping is (`enum procmap_query_flags`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct QueryFlags: u64 {
        /// It can be read.
        const READABLE = 1;
        /// It can be written.
        const WRITABLE = 2;
        /// It can be executed.
        const EXECUTABLE = 4;
        /// Stores reach what is mapped.
        const SHARED = 8;
        /// The next one will do where none covers the address.
        const COVERING_OR_NEXT = 0x10;
        /// Only those of files.
        const FILE_BACKED = 0x20;
    }
}

impl QueryFlags {
    /// Those that say how a mapping is.
    const PROPERTIES: Self = Self::READABLE.union(Self::WRITABLE).union(Self::EXECUTABLE).union(Self::SHARED);

    /// How a mapping is.
    fn of(mapping: &MappingInfo) -> Self {
        let all = [
            (Self::READABLE, mapping.access.contains(Access::READ)),
            (Self::WRITABLE, mapping.access.contains(Access::WRITE)),
            (Self::EXECUTABLE, mapping.access.contains(Access::EXEC)),
            (Self::SHARED, mapping.sharing == Sharing::Shared),
        ];
        all.into_iter().filter(|(_, has)| *has).map(|(flag, _)| flag).fold(Self::empty(), Self::union)
    }
}

/// `struct procmap_query` (include/uapi/linux/fs.h).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Query {
    size: u64,
    flags: u64,
    address: u64,
    start: u64,
    end: u64,
    properties: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    device_major: u32,
    device_minor: u32,
    name_size: u32,
    build_id_size: u32,
    name_at: u64,
    build_id_at: u64,
}
const _: () = assert!(size_of::<Query>() == 104);

/// Bytes that a program must give at least: up to the address.
const SHORTEST: usize = 24;

/// Reads the structure, whose size the program says.
fn read(shown: &Shown<'_, '_>, at: UserAddr) -> Result<Query, Errno> {
    let size: u64 = UserIn::new(at).read(shown.reader)?;
    let mut query: Query =
        UserIn::new(at).read_sized(shown.reader, usize::try_from(size).unwrap_or(usize::MAX), SHORTEST)?;
    // It may have changed between the two reads.
    query.size = size;
    Ok(query)
}

/// Finds the mapping that is asked for (query_matching_vma).
fn find(mappings: &[MappingInfo], address: u64, wanted: QueryFlags) -> Option<&MappingInfo> {
    let properties = wanted & QueryFlags::PROPERTIES;
    let any_file = !wanted.contains(QueryFlags::FILE_BACKED);
    let suits =
        |mapping: &MappingInfo| QueryFlags::of(mapping).contains(properties) && (any_file || has_file(&mapping.name));
    let behind = mappings.iter().skip_while(|mapping| mapping.range.end.0 <= address);
    if wanted.contains(QueryFlags::COVERING_OR_NEXT) {
        behind.into_iter().find(|mapping| suits(mapping))
    } else {
        behind.into_iter().next().filter(|mapping| mapping.range.start.0 <= address && suits(mapping))
    }
}

/// Whether there is a file behind it; shared anonymous memory has a hidden one.
fn has_file(name: &MappingName) -> bool {
    match name {
        MappingName::File(_) | MappingName::SharedAnonymous | MappingName::Segment(_) => true,
        MappingName::Anonymous | MappingName::Heap | MappingName::Stack | MappingName::Special(_) => false,
    }
}

/// The requests of `maps`.
pub(super) fn control(shown: &Shown<'_, '_>, request: u32, arg: u64) -> Result<u64, Errno> {
    match request {
        PROCMAP_QUERY => tell(shown, UserAddr(arg)),
        _ => Err(Errno::ENOTTY),
    }
}

/// PROCMAP_QUERY (do_procmap_query).
fn tell(shown: &Shown<'_, '_>, at: UserAddr) -> Result<u64, Errno> {
    let mut query = read(shown, at)?;
    let wanted = QueryFlags::from_bits(query.flags).ok_or(Errno::EINVAL)?;
    if (query.name_size == 0) != (query.name_at == 0) || (query.build_id_size == 0) != (query.build_id_at == 0) {
        return Err(Errno::EINVAL);
    }
    let mappings = shown.task.mm().ok_or(Errno::ESRCH)?.mappings();
    let mapping = find(&mappings, query.address, wanted).ok_or(Errno::ENOENT)?;
    (query.start, query.end) = (mapping.range.start.0, mapping.range.end.0);
    query.properties = QueryFlags::of(mapping).bits();
    query.page_size = PAGE_SIZE;
    let (device, inode) = maps::identity(&mapping.name);
    query.offset = if has_file(&mapping.name) { mapping.offset } else { 0 };
    (query.device_major, query.device_minor, query.inode) = (major(device), minor(device), inode);
    if query.build_id_size != 0 {
        // As for a file that has none; the program then reads the file.
        let _counted = shown.reader.unsupported("PROCMAP_QUERY: build ids", Errno::EOPNOTSUPP);
        query.build_id_size = 0;
    }
    if query.name_size != 0 {
        let mut name = maps::plain_name(&mapping.name);
        if !name.is_empty() {
            name.push(0);
        }
        let room = usize::try_from(query.name_size).unwrap_or(usize::MAX).min(PATH_MAX);
        if name.len() > room {
            return Err(Errno::ENAMETOOLONG);
        }
        query.name_size = u32::try_from(name.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        shown.reader.mm().write(UserAddr(query.name_at), &name)?;
    }
    let known = usize::try_from(query.size).map_or(size_of::<Query>(), |size| size.min(size_of::<Query>()));
    shown.reader.mm().write(at, &query.as_bytes()[..known])?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Fd, OpenFlags};
    use crate::mm::{Extend, MapRequest};
    use crate::testing::{Fixture, config, fixture_with};
    use linux_raw_sys::general::__NR_ioctl;
    use vmm::addr::UserRange;
    use zerocopy::FromZeros;

    /// A sandbox whose memory is three pages to write to and, one page behind, one to read; with /proc/self/maps at descriptor 3.
    fn scene() -> (Fixture, u64, u64) {
        let mut fixture = fixture_with(config());
        let mm = fixture.task.mm().unwrap();
        let first = mm.map(MapRequest::anonymous(5 * PAGE_SIZE, Access::READ | Access::WRITE)).unwrap();
        mm.unmap(UserAddr(first.0 + 3 * PAGE_SIZE), PAGE_SIZE).unwrap();
        let second = UserAddr(first.0 + 4 * PAGE_SIZE);
        let range = UserRange { start: second, end: UserAddr(second.0 + PAGE_SIZE) };
        mm.protect(range, Access::READ, Extend::No).unwrap();
        let task = fixture.current();
        let file = task.kernel().namespace().open(&task, None, b"/proc/self/maps", OpenFlags::empty(), 0).unwrap();
        task.files().replace(file, false, Fd(3), 10).unwrap();
        (fixture, first.0, second.0)
    }

    fn query(address: u64, flags: QueryFlags) -> Query {
        Query { size: 104, address, flags: flags.bits(), ..Query::new_zeroed() }
    }

    /// Puts a query at `at`, asks, and reads what came of it.
    fn ask(fixture: &mut Fixture, at: u64, query: &Query) -> Result<Query, Errno> {
        let mm = fixture.task.mm().unwrap();
        mm.write(UserAddr(at), query.as_bytes()).unwrap();
        fixture.returned(__NR_ioctl, &[3, PROCMAP_QUERY.into(), at])?;
        let mut bytes = [0; size_of::<Query>()];
        mm.read(UserAddr(at), &mut bytes).unwrap();
        Ok(Query::read_from_bytes(&bytes).unwrap())
    }

    #[test]
    fn the_mapping_that_covers_an_address() {
        let (mut fixture, first, second) = scene();
        let told = ask(&mut fixture, first, &query(first + PAGE_SIZE, QueryFlags::empty())).unwrap();
        assert_eq!((told.start, told.end), (first, first + 3 * PAGE_SIZE));
        assert_eq!((told.properties, told.page_size), (3, PAGE_SIZE));
        assert_eq!((told.offset, told.inode, told.device_major, told.device_minor), (0, 0, 0, 0));
        let mut ask = |address, flags| ask(&mut fixture, first, &query(address, flags)).map(|told| told.start);
        assert_eq!(ask(second - 1, QueryFlags::empty()), Err(Errno::ENOENT));
        assert_eq!(ask(second - 1, QueryFlags::COVERING_OR_NEXT), Ok(second));
        assert_eq!(ask(second, QueryFlags::READABLE), Ok(second));
        assert_eq!(ask(second, QueryFlags::WRITABLE), Err(Errno::ENOENT));
        assert_eq!(ask(0, QueryFlags::WRITABLE | QueryFlags::COVERING_OR_NEXT), Ok(first));
        assert_eq!(ask(0, QueryFlags::FILE_BACKED | QueryFlags::COVERING_OR_NEXT), Err(Errno::ENOENT));
    }

    #[test]
    fn the_size_says_what_the_program_knows() {
        let (mut fixture, first, _) = scene();
        let asked = query(first, QueryFlags::empty());
        let mut ask = |size| ask(&mut fixture, first, &Query { size, ..asked }).map(|told| (told.start, told.end));
        assert_eq!(ask(PAGE_SIZE + 1), Err(Errno::E2BIG));
        assert_eq!(ask(23), Err(Errno::EINVAL));
        assert_eq!(ask(24), Ok((0, 0)), "there is no room for the answer");
        assert_eq!(ask(32), Ok((first, 0)));
        assert_eq!(ask(112), Ok((first, first + 3 * PAGE_SIZE)), "what is behind is zero");
        fixture.task.mm().unwrap().write(UserAddr(first + 104), &[1]).unwrap();
        assert_eq!(
            self::ask(&mut fixture, first, &Query { size: 112, ..asked }).map(|told| told.start),
            Err(Errno::E2BIG)
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let (mut fixture, first, _) = scene();
        let asked = query(first, QueryFlags::empty());
        let mut error = |query: Query| ask(&mut fixture, first, &query).map(|told| told.start);
        assert_eq!(error(Query { flags: 0x40, ..asked }), Err(Errno::EINVAL));
        assert_eq!(error(Query { name_size: 1, ..asked }), Err(Errno::EINVAL));
        assert_eq!(error(Query { build_id_at: first, ..asked }), Err(Errno::EINVAL));
        assert_eq!(fixture.returned(__NR_ioctl, &[3, PROCMAP_QUERY.into(), 8]), Err(Errno::EFAULT));
        assert_eq!(fixture.returned(__NR_ioctl, &[3, 0x5401, first]), Err(Errno::ENOTTY));
    }

    #[test]
    fn anonymous_memory_has_no_name() {
        let (mut fixture, first, _) = scene();
        let room = first + 2 * PAGE_SIZE;
        let asked = Query { name_size: 9, name_at: room, ..query(first, QueryFlags::empty()) };
        assert_eq!(ask(&mut fixture, first, &asked).map(|told| told.name_size), Ok(0));
    }
}
