//! System V shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2).

use super::ipc::{self, INFO, REMOVE, SET, STATUS};
use crate::errno::Errno;
use crate::ipc::{Key, RawPermissions, Segment};
use crate::mm::{Backing, Content, Label, MapRequest, MemoryMap, Placement, Sharing, Source, VmaFlags};
use crate::task::{CurrentTask, Resource};
use crate::user::{UserIn, UserOut};
use std::sync::Arc;
use vmm::addr::{PAGE_SIZE, UserAddr, UserRange};
use vmm::memory::{Access, MemoryObject};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// CAP_IPC_LOCK
const CAP_IPC_LOCK: u32 = 14;
/// SHM_HUGETLB
const HUGE: u32 = 0o4000;

const READ_ONLY: u32 = 0o10000;
const ROUND: u32 = 0o20000;
const REMAP: u32 = 0o40000;
const EXECUTE: u32 = 0o100_000;

pub(super) fn shmget(task: &CurrentTask<'_>, key: i32, size: u64, flags: u32) -> Result<i32, Errno> {
    let fits = |segment: &Segment| if segment.size() < size { Err(Errno::EINVAL) } else { Ok(()) };
    let ipc = task.kernel().ipc();
    let pages = |segment: &Segment| segment.size().div_ceil(PAGE_SIZE);
    // Asked before the registry is locked: a page more or less does not matter.
    let others: u64 = ipc.segments.all().iter().map(|found| pages(&found.object)).fold(0, u64::saturating_add);
    ipc.segments.get(task, Key(key), flags, fits, |permissions| {
        if size == 0 || size > ipc.limits.segment_size.get() {
            return Err(Errno::EINVAL);
        }
        if others.saturating_add(size.div_ceil(PAGE_SIZE)) > ipc.limits.segment_pages.get() {
            return Err(Errno::ENOSPC);
        }
        if flags & HUGE != 0 {
            return Err(task.unsupported("shmget: SHM_HUGETLB", Errno::ENOMEM));
        }
        if size.checked_next_multiple_of(PAGE_SIZE).is_none_or(|bytes| i64::try_from(bytes).is_err()) {
            return Err(Errno::ENOSPC);
        }
        Ok(Segment::new(task.kernel(), task.group().pid(), permissions, size))
    })
}

/// Finds a segment; `EINVAL`. A removed one is gone once nobody maps it.
fn find(task: &CurrentTask<'_>, id: i32) -> Result<Arc<Segment>, Errno> {
    let segment = task.kernel().ipc().segments.find(id)?;
    if segment.status().removed && segment.attachments(task.kernel()) == 0 {
        task.kernel().ipc().segments.remove(id);
        return Err(Errno::EINVAL);
    }
    Ok(segment)
}

pub(super) fn shmat(task: &CurrentTask<'_>, id: i32, at: UserAddr, flags: u32) -> Result<UserAddr, Errno> {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let mut hint = at;
    if at.0 == 0 {
        if flags & REMAP != 0 {
            return Err(Errno::EINVAL);
        }
    } else if !at.is_page_aligned() {
        if flags & ROUND == 0 {
            return Err(Errno::EINVAL);
        }
        hint = at.page();
        if hint.0 == 0 && flags & REMAP != 0 {
            return Err(Errno::EINVAL);
        }
    }
    let (mut access, mut wanted) = (Access::READ, 0o444);
    if flags & READ_ONLY == 0 {
        (access, wanted) = (access | Access::WRITE, wanted | 0o222);
    }
    if flags & EXECUTE != 0 {
        (access, wanted) = (access | Access::EXEC, wanted | 0o111);
    }
    let segment = find(task, id)?;
    let permissions = segment.status().permissions;
    permissions.check(task, wanted)?;
    let object = segment.object()?;
    let max_access = if flags & READ_ONLY == 0 { Access::all() } else { Access::READ | Access::EXEC };
    let placement = match (hint.0, flags & REMAP) {
        (0, _) => Placement::Anywhere,
        (_, 0) => Placement::FixedNoReplace,
        _ => Placement::Fixed,
    };
    let content = Content {
        backing: Backing::Source { source: Source::Object(object), offset: 0 },
        sharing: Sharing::Shared,
        max_access,
        label: Label::Segment(permissions.key.0),
    };
    let request = MapRequest {
        hint,
        len: segment.size(),
        access,
        placement,
        content: Ok(content),
        flags: VmaFlags::empty(),
        may_map_low: false,
        may_lock: task.credentials().has(CAP_IPC_LOCK),
    };
    // What is in the way is EINVAL here.
    let mapped = task.mm().map(request).map_err(|error| if error == Errno::EEXIST { Errno::EINVAL } else { error })?;
    segment.note_attach(task.group().pid());
    Ok(mapped)
}

pub(super) fn shmdt(task: &CurrentTask<'_>, at: UserAddr) -> Result<(), Errno> {
    if !at.is_page_aligned() {
        return Err(Errno::EINVAL);
    }
    let mm = task.mm();
    let (object, ranges) = mm.attachment(at).ok_or(Errno::EINVAL)?;
    for range in ranges {
        mm.unmap(range.start, range.len())?;
    }
    if let Some(segment) = task.kernel().ipc().segments.of_object(&object) {
        segment.note_detach(task.group().pid());
    }
    Ok(())
}

/// `struct shmid64_ds`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawStatus {
    permissions: RawPermissions,
    size: u64,
    attached: i64,
    detached: i64,
    changed: i64,
    creator: i32,
    last: i32,
    attachments: u64,
    unused: [u64; 2],
}

/// `struct shminfo64`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Limits {
    size_max: u64,
    size_min: u64,
    segments_max: u64,
    segments_of_process_max: u64,
    pages_max: u64,
    unused: [u64; 4],
}

/// `struct shm_info`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Totals {
    segments: u64,
    pages: u64,
    resident: u64,
    swapped: u64,
    swap_attempts: u64,
    swap_successes: u64,
}

const LOCK: i32 = 11;
const UNLOCK: i32 = 12;
const STATUS_OF_SLOT: i32 = 13;
const TOTALS: i32 = 14;
const STATUS_OF_ANY: i32 = 15;
/// SHM_DEST, SHM_LOCKED
const DESTROYED: u32 = 0o1000;
const LOCKED: u32 = 0o2000;

fn raw(task: &CurrentTask<'_>, segment: &Segment) -> RawStatus {
    let status = segment.status();
    let flags = if status.removed { DESTROYED } else { 0 } | if status.locked { LOCKED } else { 0 };
    RawStatus {
        permissions: status.permissions.raw(flags),
        size: status.size,
        attached: status.attached,
        detached: status.detached,
        changed: status.changed,
        creator: status.creator.0,
        last: status.last.0,
        attachments: u64::try_from(segment.attachments(task.kernel())).unwrap_or_default(),
        unused: [0; 2],
    }
}

pub(super) fn shmctl(task: &CurrentTask<'_>, id: i32, command: i32, at: UserAddr) -> Result<i32, Errno> {
    if command < 0 || id < 0 {
        return Err(Errno::EINVAL);
    }
    let (segments, limits) = (&task.kernel().ipc().segments, &task.kernel().ipc().limits);
    let most = u64::try_from(segments.most()).unwrap_or_default();
    match command {
        INFO => {
            let limits = Limits {
                size_max: limits.segment_size.get(),
                size_min: 1,
                segments_max: most,
                segments_of_process_max: most,
                pages_max: limits.segment_pages.get(),
                ..Limits::default()
            };
            UserOut::new(at).write(task, &limits)?;
            Ok(segments.highest_slot())
        }
        TOTALS => {
            let all = segments.all();
            let held = |segment: &Segment| segment.object().map_or(0, |object| object.held() / PAGE_SIZE);
            let totals = Totals {
                segments: u64::try_from(all.len()).unwrap_or_default(),
                pages: all.iter().map(|found| found.object.size().div_ceil(PAGE_SIZE)).sum(),
                resident: all.iter().map(|found| held(&found.object)).sum(),
                ..Totals::default()
            };
            UserOut::new(at).write(task, &totals)?;
            Ok(segments.highest_slot())
        }
        STATUS | STATUS_OF_SLOT | STATUS_OF_ANY => {
            let found = ipc::select(segments, id, command == STATUS)?;
            find(task, found.id)?;
            if command != STATUS_OF_ANY {
                found.object.status().permissions.check(task, 0o444)?;
            }
            UserOut::new(at).write(task, &raw(task, &found.object))?;
            Ok(if command == STATUS { 0 } else { found.id })
        }
        SET => {
            let new = UserIn::<RawStatus>::new(at).read(task)?;
            let segment = find(task, id)?;
            segment.status().permissions.check_owner(task)?;
            segment.change(new.permissions.changes()).map(|()| 0)
        }
        REMOVE => {
            let segment = find(task, id)?;
            segment.status().permissions.check_owner(task)?;
            segments.forget_key(segment.status().permissions.key);
            segment.remove();
            Ok(0)
        }
        LOCK | UNLOCK => {
            let segment = find(task, id)?;
            let permissions = segment.status().permissions;
            let credentials = task.credentials();
            if !credentials.has(CAP_IPC_LOCK) {
                let owns = [permissions.uid, permissions.creator_uid].contains(&credentials.euid);
                let may_lock = task.group().limits().soft(Resource::LockedMemory) != 0;
                if !owns || command == LOCK && !may_lock {
                    return Err(Errno::EPERM);
                }
            }
            segment.set_locked(command == LOCK);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

impl MemoryMap {
    /// The segment that is attached at `at`, and where the parts of that attachment lie that are left.
    fn attachment(&self, at: UserAddr) -> Option<(Arc<MemoryObject>, Vec<UserRange>)> {
        let all = self.segment_mappings();
        let start = |(_, range, offset): &(Arc<MemoryObject>, UserRange, u64)| range.start.0.checked_sub(*offset);
        let object = all.iter().find(|mapping| mapping.1.start >= at && start(mapping) == Some(at.0))?.0.clone();
        let ours = all
            .iter()
            .filter(|mapping| Arc::ptr_eq(&mapping.0, &object) && start(mapping) == Some(at.0))
            .map(|mapping| mapping.1);
        Some((object.clone(), ours.collect()))
    }
}
