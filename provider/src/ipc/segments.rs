//! Shared memory segments (ipc/shm.c).
//!
//! A segment's bytes are a memory object, as those of any shared memory. Once a segment is removed the registry holds on to
//! it weakly, so that its memory goes with its last mapping, and its number with it.

use super::registry::Object;
use super::{Changes, Permissions, Registry, now};
use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::sync::{Mutex, Rank};
use crate::task::Pid;
use std::sync::{Arc, Weak};
use vmm::memory::MemoryObject;

/// Segments at the most (SHMMNI).
const SEGMENTS_MAX: usize = 4096;

/// The segments of a sandbox.
pub type Segments = Registry<Segment>;

impl Default for Segments {
    fn default() -> Self {
        Self::new(SEGMENTS_MAX)
    }
}

/// A shared memory segment.
#[derive(Debug)]
pub struct Segment {
    /// Bytes, as they were asked for.
    size: u64,
    creator: Pid,
    object: Weak<MemoryObject>,
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
struct State {
    permissions: Permissions,
    /// Its memory, until it is removed.
    held: Option<Arc<MemoryObject>>,
    locked: bool,
    attached: i64,
    detached: i64,
    changed: i64,
    last: Pid,
}

/// What IPC_STAT tells about a segment.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "shmctl(2) describes them")]
pub struct SegmentStatus {
    pub permissions: Permissions,
    pub size: u64,
    pub attached: i64,
    pub detached: i64,
    pub changed: i64,
    pub creator: Pid,
    pub last: Pid,
    pub removed: bool,
    pub locked: bool,
}

impl Object for Segment {
    fn permissions(&self) -> Permissions {
        self.state.lock().permissions
    }

    fn is_gone(&self) -> bool {
        self.object.strong_count() == 0
    }
}

impl Segment {
    /// Makes a segment of zeros.
    pub fn new(kernel: &Kernel, creator: Pid, permissions: Permissions, size: u64) -> Arc<Self> {
        let object = kernel.memory().new_object();
        object.set_size(size.next_multiple_of(vmm::addr::PAGE_SIZE));
        let state = State {
            permissions,
            held: Some(object.clone()),
            locked: false,
            attached: 0,
            detached: 0,
            changed: now(),
            last: Pid(0),
        };
        Arc::new(Self { size, creator, object: Arc::downgrade(&object), state: Mutex::new(Rank::IpcObject, state) })
    }

    /// Bytes, as they were asked for.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its memory; `EIDRM` if that has gone.
    pub fn object(&self) -> Result<Arc<MemoryObject>, Errno> {
        self.object.upgrade().ok_or(Errno::EIDRM)
    }

    /// Everything about it.
    pub fn status(&self) -> SegmentStatus {
        let state = self.state.lock();
        SegmentStatus {
            permissions: state.permissions,
            size: self.size,
            attached: state.attached,
            detached: state.detached,
            changed: state.changed,
            creator: self.creator,
            last: state.last,
            removed: state.held.is_none(),
            locked: state.locked,
        }
    }

    /// How many mappings of it there are, in all processes.
    pub fn attachments(&self, kernel: &Kernel) -> usize {
        let Some(object) = self.object.upgrade() else { return 0 };
        let groups = kernel.tasks().groups();
        let mut maps: Vec<_> =
            groups.iter().filter_map(|group| group.threads().first().and_then(|task| task.mm())).collect();
        // Processes may share memory (vfork).
        maps.sort_by_key(|map| Arc::as_ptr(map).addr());
        maps.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let mappings = maps.iter().flat_map(|map| map.segment_mappings());
        mappings.filter(|(other, ..)| Arc::ptr_eq(other, &object)).count()
    }

    /// A process has mapped it.
    pub fn note_attach(&self, by: Pid) {
        let mut state = self.state.lock();
        (state.attached, state.last) = (now(), by);
    }

    /// A process has unmapped it.
    pub fn note_detach(&self, by: Pid) {
        let mut state = self.state.lock();
        (state.detached, state.last) = (now(), by);
    }

    /// Changes owner and mode.
    pub fn change(&self, changes: Changes) -> Result<(), Errno> {
        let mut state = self.state.lock();
        state.permissions.change(changes)?;
        state.changed = now();
        Ok(())
    }

    /// Notes whether it is to stay in memory: it does anyway.
    pub fn set_locked(&self, locked: bool) {
        self.state.lock().locked = locked;
    }

    /// Removes it: nobody finds it by its key any longer, and it goes with its last mapping.
    pub fn remove(&self) {
        let held = {
            let mut state = self.state.lock();
            state.permissions.key = super::Key::PRIVATE;
            state.held.take()
        };
        drop(held);
    }
}

impl Segments {
    /// The segment whose memory an object is.
    pub fn of_object(&self, object: &Arc<MemoryObject>) -> Option<Arc<Segment>> {
        self.all()
            .into_iter()
            .map(|found| found.object)
            .find(|segment| std::ptr::eq(segment.object.as_ptr(), Arc::as_ptr(object)))
    }
}
