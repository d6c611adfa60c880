//! Memory calls: arguments in, [`MemoryMap`] operations out. Validation is in Linux's order (`mm/mmap.c`, `mm/mprotect.c`,
//! `mm/madvise.c`, …).

use super::args::flags_arg;
use crate::errno::Errno;
use crate::fs::{Fd, Mapping, MountFlags, OpenFile, Seals};
use crate::mm::{
    Advice, Backing, Content, Extend, Label, LockMode, MapRequest, MemoryMap, Placement, RemapRequest, Sharing, Source,
    VmaFlags, advised_range,
};
use crate::task::CurrentTask;
use std::sync::Arc;
use vmm::addr::{PAGE_SIZE, USER_END, UserAddr, UserRange};
use vmm::memory::Access;

bitflags::bitflags! {
    /// What may be done with memory, in Linux's numbering.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Prot: u32 {
        const READ = 0x1;
        const WRITE = 0x2;
        const EXEC = 0x4;
        const SEM = 0x8;
        const GROWSDOWN = 0x0100_0000;
        const GROWSUP = 0x0200_0000;
    }

    /// mmap's flags, in Linux's numbering; both of the lowest bits are MAP_SHARED_VALIDATE.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct MapFlags: u32 {
        const SHARED = 0x1;
        const PRIVATE = 0x2;
        const DROPPABLE = 0x8;
        const FIXED = 0x10;
        const ANONYMOUS = 0x20;
        const LOW_32BIT = 0x40;
        const GROWSDOWN = 0x100;
        const DENYWRITE = 0x800;
        const EXECUTABLE = 0x1000;
        const LOCKED = 0x2000;
        const NORESERVE = 0x4000;
        const POPULATE = 0x8000;
        const NONBLOCK = 0x1_0000;
        const STACK = 0x2_0000;
        const HUGETLB = 0x4_0000;
        const SYNC = 0x8_0000;
        const FIXED_NOREPLACE = 0x10_0000;
    }

    /// mremap's flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct RemapFlags: u32 {
        const MAYMOVE = 1;
        const FIXED = 2;
        const DONTUNMAP = 4;
    }

    /// msync's flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct SyncFlags: u32 {
        const ASYNC = 1;
        const INVALIDATE = 2;
        const SYNC = 4;
    }

    /// mlockall's flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct LockAllFlags: u32 {
        const CURRENT = 1;
        const FUTURE = 2;
        const ONFAULT = 4;
    }
}

flags_arg! {
    Prot => "PROT_";
    MapFlags => "MAP_";
    RemapFlags => "MREMAP_";
    SyncFlags => "MS_";
    LockAllFlags => "MCL_";
}

/// The type of a mapping: the low four bits of the flags.
const TYPE_MASK: u32 = 0xf;
const TYPE_SHARED: u32 = 1;
const TYPE_PRIVATE: u32 = 2;
const TYPE_SHARED_VALIDATE: u32 = 3;
const TYPE_DROPPABLE: u32 = 8;
/// Where MAP_HUGETLB's flags have the logarithm of the page size.
const HUGE_SHIFT: u32 = 26;
/// The huge page sizes of x86-64: 0 (the default), 2 MiB, 1 GiB.
const HUGE_SIZES: [u32; 3] = [0, 21, 30];

const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_RAWIO: u32 = 17;

fn has(task: &CurrentTask<'_>, capability: u32) -> bool {
    task.credentials().has(capability)
}

impl Prot {
    fn access(self) -> Access {
        let mut access = Access::empty();
        access.set(Access::READ, self.contains(Self::READ));
        access.set(Access::WRITE, self.contains(Self::WRITE));
        access.set(Access::EXEC, self.contains(Self::EXEC));
        access
    }
}

pub(super) fn mmap(
    task: &CurrentTask<'_>,
    hint: UserAddr,
    len: u64,
    prot: Prot,
    flags: MapFlags,
    fd: Fd,
    offset: u64,
) -> Result<UserAddr, Errno> {
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let file = if flags.contains(MapFlags::ANONYMOUS) { None } else { Some(task.files().get(fd)?) };
    if flags.contains(MapFlags::HUGETLB) {
        let size = flags.bits() >> HUGE_SHIFT & 0x3f;
        // There are no huge pages to reserve, as on a Linux with vm.nr_hugepages = 0.
        let error = if file.is_some() || !HUGE_SIZES.contains(&size) { Errno::EINVAL } else { Errno::ENOMEM };
        return Err(task.unsupported("mmap: MAP_HUGETLB", error));
    }
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let pages = UserAddr(len).page_up().ok_or(Errno::ENOMEM)?.0 / PAGE_SIZE;
    if (offset / PAGE_SIZE).checked_add(pages).is_none_or(|end| end > u64::MAX / PAGE_SIZE) {
        return Err(Errno::EOVERFLOW);
    }
    // No file reaches beyond the largest signed offset (file_mmap_ok).
    if file.is_some() && i64::try_from(offset.saturating_add(pages * PAGE_SIZE)).is_err() {
        return Err(Errno::EOVERFLOW);
    }
    let may_lock = has(task, CAP_IPC_LOCK);
    if flags.contains(MapFlags::LOCKED) && !may_lock && task.mm().limits().locked() == 0 {
        return Err(Errno::EPERM);
    }
    let content = match &file {
        Some(file) => file_content(task, file, flags, prot, offset, len),
        None => anonymous_content(task, flags, len),
    };
    let writable_file = match (&file, &content) {
        (Some(file), Ok(content)) if may_write_shared(content) => Some(file.clone()),
        _ => None,
    };
    let mut request = MapRequest {
        hint,
        len,
        access: prot.access(),
        placement: placement(flags),
        content,
        flags: vma_flags(flags),
        may_map_low: has(task, CAP_SYS_RAWIO),
        may_lock,
    };
    let mm = task.mm();
    if request.placement == Placement::Fixed {
        may_take_away(task, &mm, hint, len)?;
    }
    let at = match writable_file {
        None => mm.map(request)?,
        Some(file) => file.file().map_writable(&mut |seals| {
            let mut request = std::mem::replace(&mut request, MapRequest::anonymous(len, Access::empty()));
            request.content = request.content.and_then(|content| sealed(content, seals, prot));
            mm.map(request)
        })?,
    };
    let populate = flags.contains(MapFlags::POPULATE) && !flags.contains(MapFlags::NONBLOCK);
    if populate || flags.contains(MapFlags::LOCKED) {
        mm.make_present(UserRange { start: at, end: UserAddr(at.0 + pages * PAGE_SIZE) });
    }
    Ok(at)
}

pub(super) fn may_write_shared(content: &Content) -> bool {
    content.sharing == Sharing::Shared && content.max_access.contains(Access::WRITE)
}

/// What seals leave of a shared mapping (check_write_seal in mm/memfd.c): it can be read, and never becomes writable.
fn sealed(mut content: Content, seals: Seals, prot: Prot) -> Result<Content, Errno> {
    if seals.intersects(Seals::UNWRITABLE) {
        if prot.contains(Prot::WRITE) {
            return Err(Errno::EPERM);
        }
        content.max_access.remove(Access::WRITE);
    }
    Ok(content)
}

fn placement(flags: MapFlags) -> Placement {
    if flags.contains(MapFlags::FIXED_NOREPLACE) {
        Placement::FixedNoReplace
    } else if flags.contains(MapFlags::FIXED) {
        Placement::Fixed
    } else if flags.contains(MapFlags::LOW_32BIT) {
        Placement::Low
    } else {
        Placement::Anywhere
    }
}

fn vma_flags(flags: MapFlags) -> VmaFlags {
    let mut vma = VmaFlags::empty();
    vma.set(VmaFlags::GROWSDOWN, flags.contains(MapFlags::GROWSDOWN));
    vma.set(VmaFlags::LOCKED, flags.contains(MapFlags::LOCKED));
    vma.set(VmaFlags::NORESERVE, flags.contains(MapFlags::NORESERVE));
    // Stacks are touched here and there: large pages would waste memory (Linux does the same since 6.7).
    vma.set(VmaFlags::NOHUGEPAGE, flags.contains(MapFlags::STACK));
    // Memory that may be dropped at any time is never dropped here, but neither is it kept over fork.
    let droppable = flags.bits() & TYPE_MASK == TYPE_DROPPABLE;
    vma.set(VmaFlags::WIPEONFORK | VmaFlags::DONTDUMP, droppable);
    vma
}

fn anonymous_content(task: &CurrentTask<'_>, flags: MapFlags, len: u64) -> Result<Content, Errno> {
    match flags.bits() & TYPE_MASK {
        TYPE_PRIVATE | TYPE_DROPPABLE => Ok(Content::anonymous()),
        TYPE_SHARED if flags.contains(MapFlags::GROWSDOWN) => Err(Errno::EINVAL),
        TYPE_SHARED => Ok(shared_anonymous(task, len)),
        _ => Err(Errno::EINVAL),
    }
}

/// Shared anonymous memory is an object of its own, with no name in any file system.
fn shared_anonymous(task: &CurrentTask<'_>, len: u64) -> Content {
    let object = task.kernel().memory().new_object();
    object.set_size(UserAddr(len).page_up().unwrap_or(UserAddr(len)).0);
    Content {
        backing: Backing::Source { source: Source::Object(object), offset: 0 },
        sharing: Sharing::Shared,
        max_access: Access::all(),
        label: Label::SharedAnonymous,
    }
}

fn file_content(
    task: &CurrentTask<'_>,
    file: &Arc<OpenFile>,
    flags: MapFlags,
    prot: Prot,
    offset: u64,
    len: u64,
) -> Result<Content, Errno> {
    let kind = flags.bits() & TYPE_MASK;
    let mut max_access = Access::all();
    let sharing = match kind {
        TYPE_SHARED | TYPE_SHARED_VALIDATE => {
            let known = MapFlags::all().bits() | 0x3f << HUGE_SHIFT;
            let unknown = flags.bits() & !known != 0 || flags.contains(MapFlags::FIXED_NOREPLACE);
            if kind == TYPE_SHARED_VALIDATE && unknown || flags.contains(MapFlags::SYNC) {
                return Err(Errno::EOPNOTSUPP);
            }
            if !file.flags().writes() {
                if prot.contains(Prot::WRITE) {
                    return Err(Errno::EACCES);
                }
                max_access.remove(Access::WRITE);
            }
            Sharing::Shared
        }
        TYPE_PRIVATE => Sharing::Private,
        _ => return Err(Errno::EINVAL),
    };
    if !file.flags().reads() {
        return Err(Errno::EACCES);
    }
    if file.location().mount_flags().contains(MountFlags::NOEXEC) {
        if prot.contains(Prot::EXEC) {
            return Err(Errno::EPERM);
        }
        max_access.remove(Access::EXEC);
    }
    let mapping = file.file().mapping()?;
    if flags.contains(MapFlags::GROWSDOWN) {
        return Err(Errno::EINVAL);
    }
    let source = match mapping {
        Mapping::Host(host) => Source::Host(host),
        Mapping::Object(object) => Source::Object(object),
        Mapping::Zero if sharing == Sharing::Shared => return Ok(shared_anonymous(task, len)),
        Mapping::Zero => return Ok(Content::anonymous()),
    };
    Ok(Content {
        backing: Backing::Source { source, offset },
        sharing,
        max_access,
        label: Label::File(Arc::clone(file)),
    })
}

/// For a call that takes pages or rights away in a range: gives up where somebody other than the task's own thread acts and would
/// have to make it leave user mode, or keep all others waiting for long; or where it would take away what the thread is to return to.
fn may_take_away(task: &CurrentTask<'_>, mm: &MemoryMap, start: UserAddr, len: u64) -> Result<(), Errno> {
    /// Bytes that are taken away in a millisecond at the most, all of them touched. A stack of a thread that ends is less.
    const MOST: u64 = 16 << 20;
    if !task.is_posted() {
        return Ok(());
    }
    let is_short = len <= MOST && !task.kernel().memory().interrupts_to_take_away();
    if is_short && !mm.has_trampolines_in(start, len) { Ok(()) } else { Err(Errno::NEEDS_THREAD) }
}

pub(super) fn munmap(task: &CurrentTask<'_>, start: UserAddr, len: u64) -> Result<(), Errno> {
    let mm = task.mm();
    may_take_away(task, &mm, start, len)?;
    mm.unmap(start, len)
}

pub(super) fn brk(task: &CurrentTask<'_>, to: UserAddr) -> Result<UserAddr, Errno> {
    let mm = task.mm();
    let end = mm.heap().end;
    if to < end && to.0 != 0 {
        may_take_away(task, &mm, to, end.0 - to.0)?;
    }
    Ok(mm.brk(to))
}

pub(super) fn mprotect(task: &CurrentTask<'_>, start: UserAddr, len: u64, prot: Prot) -> Result<(), Errno> {
    if prot.contains(Prot::GROWSDOWN | Prot::GROWSUP) || !start.is_page_aligned() {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(());
    }
    let len = UserAddr(len).page_up().ok_or(Errno::ENOMEM)?.0;
    let range = UserRange::new(start, len).filter(|range| !range.is_empty()).ok_or(Errno::ENOMEM)?;
    // Nothing grows upwards on x86-64; beyond the user half there is nothing.
    if !Prot::all().contains(prot) || prot.contains(Prot::GROWSUP) {
        return Err(Errno::EINVAL);
    }
    let extend = if prot.contains(Prot::GROWSDOWN) { Extend::Down } else { Extend::No };
    let mm = task.mm();
    may_take_away(task, &mm, start, len)?;
    mm.protect(range, prot.access(), extend)
}

pub(super) fn mremap(
    task: &CurrentTask<'_>,
    from: UserAddr,
    old_len: u64,
    new_len: u64,
    flags: RemapFlags,
    to: UserAddr,
) -> Result<UserAddr, Errno> {
    if !RemapFlags::all().contains(flags) {
        return Err(Errno::EINVAL);
    }
    task.mm().remap(RemapRequest {
        from,
        old_len,
        new_len,
        may_move: flags.contains(RemapFlags::MAYMOVE),
        fixed: flags.contains(RemapFlags::FIXED).then_some(to),
        keep_old: flags.contains(RemapFlags::DONTUNMAP),
        may_lock: has(task, CAP_IPC_LOCK),
    })
}

pub(super) fn madvise(task: &CurrentTask<'_>, start: UserAddr, len: u64, advice: i32) -> Result<(), Errno> {
    let advice = decode_advice(advice).ok_or_else(|| task.unsupported("madvise: this advice", Errno::EINVAL))?;
    let range = advised_range(start, len)?;
    if range.is_empty() {
        return Ok(());
    }
    let mm = task.mm();
    may_take_away(task, &mm, start, range.len())?;
    // Linux reports holes only once it has walked the range; the flags of a mapping it names here are none.
    mm.advise(range, advice.unwrap_or(Advice::Hint))
}

/// What a number of madvise(2) means; the inner `None` is advice that changes nothing, the outer is not known.
fn decode_advice(advice: i32) -> Option<Option<Advice>> {
    use VmaFlags as F;
    let none = F::empty();
    let access_pattern = F::SEQUENTIAL.union(F::RANDOM);
    Some(Some(match advice {
        0 => Advice::Flags(none, access_pattern),
        1 => Advice::Flags(F::RANDOM, F::SEQUENTIAL),
        2 => Advice::Flags(F::SEQUENTIAL, F::RANDOM),
        4 => Advice::Discard,
        8 => Advice::Free,
        9 => Advice::Remove,
        10 => Advice::Flags(F::DONTFORK, none),
        11 => Advice::Flags(none, F::DONTFORK),
        14 => Advice::Flags(F::HUGEPAGE, F::NOHUGEPAGE),
        15 => Advice::Flags(F::NOHUGEPAGE, F::HUGEPAGE),
        16 => Advice::Flags(F::DONTDUMP, none),
        17 => Advice::Flags(none, F::DONTDUMP),
        18 => Advice::AnonymousFlags(F::WIPEONFORK, none),
        19 => Advice::Flags(none, F::WIPEONFORK),
        22 => Advice::Populate(Access::READ),
        23 => Advice::Populate(Access::WRITE),
        24 => Advice::DiscardLocked,
        // WILLNEED, MERGEABLE and UNMERGEABLE, COLD, PAGEOUT
        3 | 12 | 13 | 20 | 21 => return Some(None),
        _ => return None,
    }))
}

pub(super) fn msync(task: &CurrentTask<'_>, start: UserAddr, len: u64, flags: SyncFlags) -> Result<(), Errno> {
    let both = SyncFlags::ASYNC | SyncFlags::SYNC;
    if !SyncFlags::all().contains(flags) || !start.is_page_aligned() || flags.contains(both) {
        return Err(Errno::EINVAL);
    }
    // A length that wraps when rounded up is no length (PAGE_ALIGN).
    let len = UserAddr(len).page_up().map_or(0, |len| len.0);
    let range = UserRange::new(start, len).ok_or(Errno::ENOMEM)?;
    if range.is_empty() {
        return Ok(());
    }
    let (files, hole) = task.mm().shared_files(range, flags.contains(SyncFlags::INVALIDATE))?;
    if flags.contains(SyncFlags::SYNC) {
        for file in files {
            file.file().sync(true)?;
        }
    }
    if hole { Err(Errno::ENOMEM) } else { Ok(()) }
}

pub(super) fn mincore(task: &CurrentTask<'_>, start: UserAddr, len: u64, to: UserAddr) -> Result<(), Errno> {
    /// Pages answered at a time: a page of answers.
    const CHUNK: u64 = 4096;
    if !start.is_page_aligned() {
        return Err(Errno::EINVAL);
    }
    let end = start.checked_add(len).filter(|end| end.0 <= USER_END).ok_or(Errno::ENOMEM)?;
    let end = end.page_up().ok_or(Errno::ENOMEM)?;
    let mm = task.mm();
    let mut at = start;
    let mut to = to;
    while at < end {
        let part = UserRange { start: at, end: UserAddr((at.0 + CHUNK * PAGE_SIZE).min(end.0)) };
        let answers = mm.residency(part)?;
        mm.write(to, &answers)?;
        to = to.checked_add(answers.len() as u64).ok_or(Errno::EFAULT)?;
        at = part.end;
    }
    Ok(())
}

/// The whole pages that locking calls mean: the start is rounded down, and a length that wraps is none.
fn locked_range(start: UserAddr, len: u64) -> Result<UserRange, Errno> {
    let len = UserAddr(len.wrapping_add(start.0 % PAGE_SIZE)).page_up().map_or(0, |len| len.0);
    UserRange::new(start.page(), len).ok_or(Errno::EINVAL)
}

pub(super) fn mlock(task: &CurrentTask<'_>, start: UserAddr, len: u64) -> Result<(), Errno> {
    lock(task, start, len, LockMode::Now)
}

pub(super) fn mlock2(task: &CurrentTask<'_>, start: UserAddr, len: u64, flags: i32) -> Result<(), Errno> {
    match flags {
        0 => lock(task, start, len, LockMode::Now),
        1 => lock(task, start, len, LockMode::OnFault),
        _ => Err(Errno::EINVAL),
    }
}

fn lock(task: &CurrentTask<'_>, start: UserAddr, len: u64, mode: LockMode) -> Result<(), Errno> {
    let mm = task.mm();
    let may_lock = has(task, CAP_IPC_LOCK);
    if !may_lock && mm.limits().locked() == 0 {
        return Err(Errno::EPERM);
    }
    let range = locked_range(start, len)?;
    if range.is_empty() { Ok(()) } else { mm.lock(range, mode, may_lock) }
}

pub(super) fn munlock(task: &CurrentTask<'_>, start: UserAddr, len: u64) -> Result<(), Errno> {
    let range = locked_range(start, len)?;
    if range.is_empty() { Ok(()) } else { task.mm().unlock(range) }
}

pub(super) fn mlockall(task: &CurrentTask<'_>, flags: LockAllFlags) -> Result<(), Errno> {
    if flags.is_empty() || flags == LockAllFlags::ONFAULT || !LockAllFlags::all().contains(flags) {
        return Err(Errno::EINVAL);
    }
    let mm = task.mm();
    let may_lock = has(task, CAP_IPC_LOCK);
    if !may_lock && mm.limits().locked() == 0 {
        return Err(Errno::EPERM);
    }
    let mode = if flags.contains(LockAllFlags::ONFAULT) { LockMode::OnFault } else { LockMode::Now };
    let (current, future) = (flags.contains(LockAllFlags::CURRENT), flags.contains(LockAllFlags::FUTURE));
    mm.lock_all(current, future, mode, may_lock)
}

pub(super) fn munlockall(task: &CurrentTask<'_>) -> Result<(), Errno> {
    task.mm().unlock_all();
    Ok(())
}

/// Programs see no protection keys (the processor's are hidden), so there is none to allocate.
pub(super) fn pkey_alloc(_: &CurrentTask<'_>, _flags: u64, _rights: u64) -> Result<i32, Errno> {
    Err(Errno::EINVAL)
}

pub(super) fn pkey_free(_: &CurrentTask<'_>, _key: i32) -> Result<(), Errno> {
    Err(Errno::EINVAL)
}

pub(super) fn pkey_mprotect(
    task: &CurrentTask<'_>,
    start: UserAddr,
    len: u64,
    prot: Prot,
    key: i32,
) -> Result<(), Errno> {
    if key == -1 {
        return mprotect(task, start, len, prot);
    }
    if len == 0 && start.is_page_aligned() { Ok(()) } else { Err(Errno::EINVAL) }
}
