//! Objects by key and by number (ipc/util.c).

use super::Permissions;
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name by which programs that share an object find it. [`Key::PRIVATE`] is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub i32);

impl Key {
    /// IPC_PRIVATE: a new object each time.
    pub const PRIVATE: Self = Self(0);
}

/// Bits of a number that are its slot (ipcmni_seq_shift).
const SLOT_BITS: u32 = 15;
/// Slots that are gone through before one is used again, even if there are few objects.
const LEAST_CYCLE: usize = 64;

/// IPC_CREAT and IPC_EXCL.
const CREATE: u32 = 0o1000;
const EXCLUSIVE: u32 = 0o2000;

/// An object that a registry holds.
pub trait Object {
    /// Who may use it.
    fn permissions(&self) -> Permissions;
    /// Whether it is gone, although nobody has taken it out.
    fn is_gone(&self) -> bool {
        false
    }
}

/// An object and its number.
#[derive(Debug)]
pub struct Found<T> {
    /// The number.
    pub id: i32,
    /// The object.
    pub object: Arc<T>,
}

/// The objects of one kind.
#[derive(Debug)]
pub struct Registry<T> {
    most: usize,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    /// By slot, with the sequence number that makes the rest of their number.
    objects: BTreeMap<u16, (u16, Arc<T>)>,
    next: u16,
    sequence: u16,
}

fn number(slot: u16, sequence: u16) -> i32 {
    i32::from(slot) | i32::from(sequence) << SLOT_BITS
}

impl<T: Object> Registry<T> {
    /// Makes an empty registry for at most `most` objects, which is at most 2¹⁵.
    pub fn new(most: usize) -> Self {
        let state = State { objects: BTreeMap::new(), next: 0, sequence: 0 };
        Self { most, state: Mutex::new(Rank::Ipc, state) }
    }

    /// Finds the object of a key, or makes one (ipcget): `ENOENT`, `EEXIST`, what `fits` says of one that exists, `EACCES`,
    /// `ENOSPC`, and what `make` says. `make` gets the permissions for the new object.
    pub fn get(
        &self,
        task: &CurrentTask<'_>,
        key: Key,
        flags: u32,
        fits: impl FnOnce(&T) -> Result<(), Errno>,
        make: impl FnOnce(Permissions) -> Result<Arc<T>, Errno>,
    ) -> Result<i32, Errno> {
        let mut state = self.state.lock();
        state.objects.retain(|_, (_, object)| !object.is_gone());
        let found = state.objects.iter().find(|(_, (_, object))| object.permissions().key == key);
        if let (Some((slot, (sequence, object))), true) = (found, key != Key::PRIVATE) {
            if flags & CREATE != 0 && flags & EXCLUSIVE != 0 {
                return Err(Errno::EEXIST);
            }
            fits(object)?;
            object.permissions().check(task, flags)?;
            return Ok(number(*slot, *sequence));
        }
        if key != Key::PRIVATE && flags & CREATE == 0 {
            return Err(Errno::ENOENT);
        }
        let (slot, sequence) = state.reserve(self.most);
        let permissions = Permissions { sequence, ..Permissions::new(task, key, flags) };
        let object = make(permissions)?;
        let (slot, sequence) = slot.map(|slot| (slot, sequence)).ok_or(Errno::ENOSPC)?;
        state.objects.insert(slot, (sequence, object));
        // The search goes on behind it, and each round has another sequence number.
        state.next = slot + 1;
        Ok(number(slot, sequence))
    }

    /// Finds an object by its number; `EINVAL`.
    pub fn find(&self, id: i32) -> Result<Arc<T>, Errno> {
        let found = self.slot(id & ((1 << SLOT_BITS) - 1))?;
        if found.id == id { Ok(found.object) } else { Err(Errno::EINVAL) }
    }

    /// Finds an object by its slot alone, as SEM_STAT and its like do; `EINVAL`.
    pub fn slot(&self, slot: i32) -> Result<Found<T>, Errno> {
        let slot = u16::try_from(slot).map_err(|_| Errno::EINVAL)?;
        let state = self.state.lock();
        let (sequence, object) = state.objects.get(&slot).ok_or(Errno::EINVAL)?;
        if object.is_gone() {
            return Err(Errno::EINVAL);
        }
        Ok(Found { id: number(slot, *sequence), object: object.clone() })
    }

    /// Takes an object out.
    pub fn remove(&self, id: i32) -> Option<Arc<T>> {
        let slot = u16::try_from(id & ((1 << SLOT_BITS) - 1)).ok()?;
        self.state.lock().objects.remove(&slot).map(|(_, object)| object)
    }

    /// All objects, by slot.
    pub fn all(&self) -> Vec<Found<T>> {
        let mut state = self.state.lock();
        state.objects.retain(|_, (_, object)| !object.is_gone());
        let found = |(slot, (sequence, object)): (&u16, &(u16, Arc<T>))| Found {
            id: number(*slot, *sequence),
            object: object.clone(),
        };
        state.objects.iter().map(found).collect()
    }

    /// The highest slot in use; 0 if none is.
    pub fn highest_slot(&self) -> i32 {
        self.state.lock().objects.last_key_value().map_or(0, |(slot, _)| i32::from(*slot))
    }
}

impl<T> State<T> {
    /// The next free slot, going round, and its sequence number.
    fn reserve(&mut self, most: usize) -> (Option<u16>, u16) {
        if self.objects.len() >= most {
            return (None, self.sequence);
        }
        let cycle = (self.objects.len() * 3 / 2).clamp(LEAST_CYCLE, 1 << SLOT_BITS);
        let cycle = u16::try_from(cycle).unwrap_or(1 << SLOT_BITS);
        let free = |slot: &u16| !self.objects.contains_key(slot);
        let ahead = (self.next..cycle).find(free);
        if ahead.is_none() {
            // 2¹⁶ − 1 rounds at the most: the number stays positive.
            self.sequence = (self.sequence + 1) & 0x7fff;
        }
        (ahead.or_else(|| (0..cycle).find(free)), self.sequence)
    }
}
