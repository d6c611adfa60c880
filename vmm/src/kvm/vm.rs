//! The virtual machine: its memory slots, and the doors of its virtual CPUs.

use super::attendant::Attendant;
use super::door::Door;
use crate::addr::{GuestPhys, PAGE_SIZE};
use crate::bugcheck;
use crate::machine::{Activity, EntryGuard, Machine, Paging, SpaceSync};
use crate::memory::MemoryError;
use crate::trap::Registers;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{VcpuFd, VmFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use vmm_sys_util::ioctl::ioctl_with_val;
use vmm_sys_util::ioctl_io_nr;

/// Guest-physical address of the dummy slot that is added and deleted to drop shadow pages: between the supervisor's pages
/// and the pool. With nested paging KVM takes no slot beyond the processor's physical addresses, which may have 39 bits.
const DUMMY_SLOT: GuestPhys = GuestPhys(1 << 30);
const DUMMY_BYTES: u64 = 1 << 20;

ioctl_io_nr!(KVM_SET_NR_MMU_PAGES, kvm_bindings::KVMIO, 0x44);

/// Shadow pages that KVM may keep at the least, if they are ever needed: a dozen for each of a thousand virtual CPUs, and as
/// many for some thousand processes.
const LEAST_SHADOWS: u64 = 1 << 16;
/// Pages of guest memory for each shadow page beyond: KVM's own rule, two in a hundred.
const PAGES_A_SHADOW: u64 = 50;

/// A virtual machine.
#[derive(Debug)]
pub(super) struct Vm {
    fd: VmFd,
    paging: OnceLock<Paging>,
    /// The next slot number. Slot 0 is the dummy.
    next_slot: AtomicU32,
    /// Guest memory's slots that wait until the probe is over; `None`: it is.
    waiting: Mutex<Option<Vec<Slot>>>,
    next_vcpu: AtomicU64,
    doors: Mutex<Vec<Arc<Door>>>,
    /// Where virtual CPUs wait while their space is held.
    gate: Mutex<()>,
    opened: Condvar,
    /// Serializes the use of the dummy slot.
    dummy: Mutex<Option<NonNull<u8>>>,
    /// No virtual CPU enters the guest any more.
    halted: AtomicBool,
    attendant: OnceLock<Arc<Attendant>>,
}

/// A memory slot: so many bytes of the monitor's at a guest-physical address.
#[derive(Clone, Copy, Debug)]
struct Slot {
    guest: GuestPhys,
    host: NonNull<u8>,
    len: u64,
}

/// A virtual CPU of a machine that was halted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HaltedCpu {
    /// Its host thread.
    pub(crate) thread: libc::pid_t,
    /// Where the program stood, if the virtual CPU was in user mode or about to be; else its provider has the thread.
    pub(crate) registers: Option<Registers>,
}

// SAFETY: the pages of the dummy and of slots that wait are never accessed, only named to KVM, under their locks.
unsafe impl Send for Vm {}
// SAFETY: as above.
unsafe impl Sync for Vm {}

impl Vm {
    pub(super) fn new(fd: VmFd) -> Self {
        Self {
            fd,
            paging: OnceLock::new(),
            next_slot: AtomicU32::new(1),
            waiting: Mutex::new(Some(Vec::new())),
            next_vcpu: AtomicU64::new(0),
            doors: Mutex::default(),
            gate: Mutex::default(),
            opened: Condvar::new(),
            dummy: Mutex::new(None),
            halted: AtomicBool::new(false),
            attendant: OnceLock::new(),
        }
    }

    /// Makes a virtual CPU. Its number is never used again: KVM refuses a second one even after the first is closed.
    pub(super) fn create_vcpu(&self) -> Result<VcpuFd, kvm_ioctls::Error> {
        self.fd.create_vcpu(self.next_vcpu.fetch_add(1, Ordering::Relaxed))
    }

    /// Lets KVM keep shadows enough for `memory` bytes of guest memory.
    ///
    /// By itself it reckons with the slots there are, which grow only as memory is used, and at 150 pages throws the oldest
    /// away: those of the programs that run longest. With address spaces that come and go (a shell's children) that
    /// took three times as long as all the rest of a fork.
    pub(super) fn keep_shadows(&self, memory: u64) {
        let pages = (memory / PAGE_SIZE / PAGES_A_SHADOW).max(LEAST_SHADOWS);
        let Ok(pages) = libc::c_ulong::try_from(pages);
        // SAFETY: the call takes a number and touches no memory of ours.
        if unsafe { ioctl_with_val(&self.fd, KVM_SET_NR_MMU_PAGES(), pages) } != 0 {
            let error = std::io::Error::last_os_error();
            tracing::debug!(%error, "KVM keeps its own number of shadow pages");
        }
    }

    /// Sets who takes posted calls.
    pub(super) fn set_attendant(&self, attendant: Arc<Attendant>) {
        self.attendant.get_or_init(|| attendant);
    }

    /// Who takes posted calls.
    pub(super) fn attendant(&self) -> &Arc<Attendant> {
        self.attendant.get().expect("workers set it before they give their first order")
    }

    /// Has whoever takes posted calls get ready, if it is known already.
    pub(super) fn prepare_attendant(&self) {
        if let Some(attendant) = self.attendant.get() {
            attendant.prepare();
        }
    }

    /// Adds a slot for the machine's own pages, at once.
    ///
    /// # Safety
    /// As [`Machine::add_slot`].
    pub(super) unsafe fn add_own_slot(&self, guest: GuestPhys, host: NonNull<u8>, len: u64) -> Result<(), MemoryError> {
        self.set_slot(self.next_slot.fetch_add(1, Ordering::Relaxed), Slot { guest, host, len })
    }

    /// Adds the slots of guest memory that have waited for the end of the probe, which does not touch it.
    ///
    /// KVM waits until every virtual CPU that may be looking at the old table of slots has let go of it. While one is being
    /// made and probed that took 0.5 to 2.5 ms, of whoever prepared the first program meanwhile.
    pub(super) fn end_of_probe(&self) -> Result<(), MemoryError> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        waiting
            .into_iter()
            .flatten()
            .try_for_each(|slot| self.set_slot(self.next_slot.fetch_add(1, Ordering::Relaxed), slot))
    }

    /// Sets what the probe found out.
    pub(super) fn set_paging(&self, paging: Paging) {
        self.paging.get_or_init(|| paging);
    }

    /// Adds the door of a new virtual CPU. Doors stay: a virtual CPU is parked, never destroyed.
    pub(super) fn add_door(&self, door: Arc<Door>) {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).push(door);
    }

    /// Whether no virtual CPU is to enter the guest any more.
    pub(super) fn is_halted(&self) -> bool {
        self.halted.load(Ordering::SeqCst)
    }

    /// Stops all virtual CPUs for good: the monitor is about to end. Waits for those in user mode, but no longer than `patience`:
    /// who knows what state the monitor is in.
    pub(super) fn halt(&self, patience: Duration) -> Vec<HaltedCpu> {
        self.halted.store(true, Ordering::SeqCst);
        let Ok(doors) = self.doors.try_lock().map(|doors| doors.clone()) else { return Vec::new() };
        let deadline = Instant::now() + patience;
        doors.iter().for_each(|door| _ = door.kick());
        doors.iter().for_each(|door| door.clear(deadline));
        doors.iter().map(|door| HaltedCpu { thread: door.thread(), registers: door.stood_at() }).collect()
    }

    /// Waits until nothing keeps virtual CPUs out of `space`.
    pub(super) fn wait_open(&self, space: &SpaceSync) {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        while space.held.load(Ordering::SeqCst) != 0 {
            gate = self.opened.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn set_slot(&self, number: u32, Slot { guest, host, len }: Slot) -> Result<(), MemoryError> {
        let region = kvm_userspace_memory_region {
            slot: number,
            flags: 0,
            guest_phys_addr: guest.0,
            memory_size: len,
            userspace_addr: host.as_ptr().expose_provenance() as u64,
        };
        // SAFETY: whoever adds a slot vouches for the host range; the dummy's page is mapped and used by nothing else.
        unsafe { self.fd.set_user_memory_region(region) }.map_err(|_| MemoryError::HostExhausted)
    }
}

impl Machine for Vm {
    fn paging(&self) -> Paging {
        // Before the probe is over nothing runs that could hold a stale translation.
        self.paging.get().copied().unwrap_or(Paging::None)
    }

    unsafe fn add_slot(&self, guest: GuestPhys, host: NonNull<u8>, len: u64) -> Result<(), MemoryError> {
        let slot = Slot { guest, host, len };
        if let Some(waiting) = &mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) {
            waiting.push(slot);
            return Ok(());
        }
        self.set_slot(self.next_slot.fetch_add(1, Ordering::Relaxed), slot)
    }

    fn hold_out<'a>(&'a self, space: &'a SpaceSync) -> Box<dyn EntryGuard + 'a> {
        space.held.fetch_add(1, Ordering::SeqCst);
        let identity = identity(space);
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let inside: Vec<_> = doors.iter().filter(|door| door.is_inside(identity)).cloned().collect();
        drop(doors);
        inside.iter().for_each(|door| _ = door.kick());
        inside.iter().for_each(|door| door.wait_outside(identity));
        Box::new(Held { vm: self, space })
    }

    fn activity(&self) -> Activity {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let add = |sum: Activity, door: &Arc<Door>| {
            let (entries, inside) = door.activity();
            Activity { entries: sum.entries + entries, inside: sum.inside || inside }
        };
        doors.iter().fold(Activity::default(), add)
    }

    fn drop_shadows(&self) {
        let mut dummy = self.dummy.lock().unwrap_or_else(PoisonError::into_inner);
        let host = *dummy.get_or_insert_with(|| {
            super::supervisor::map_anonymous(DUMMY_BYTES)
                .unwrap_or_else(|_| bugcheck::out_of_memory("an address for the dummy slot"))
        });
        // KVM keeps no part of a slot that was just deleted, and refuses the addition only when it is out of memory. To go on would
        // leave translations that are stale.
        for len in [DUMMY_BYTES, 0] {
            if self.set_slot(0, Slot { guest: DUMMY_SLOT, host, len }).is_err() {
                bugcheck::out_of_memory("KVM refused the dummy slot");
            }
        }
    }
}

/// What identifies a space's synchronization block.
pub(super) fn identity(space: &SpaceSync) -> usize {
    std::ptr::from_ref(space).addr()
}

/// Keeps virtual CPUs out of a space.
struct Held<'a> {
    vm: &'a Vm,
    space: &'a SpaceSync,
}

impl EntryGuard for Held<'_> {}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let _gate = self.vm.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if self.space.held.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.vm.opened.notify_all();
        }
    }
}
