//! Objects by key and by number (ipc/util.c).

use super::Permissions;
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use std::collections::{BTreeMap, HashMap};
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
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    /// By slot, with the sequence number that makes the rest of their number.
    objects: BTreeMap<u16, (u16, Arc<T>)>,
    /// Slots by key. An object that lost its key may still be here.
    keys: HashMap<i32, u16>,
    most: usize,
    next: u16,
    sequence: u16,
    /// The number that the next object is to have (msg_next_id and its like).
    wanted: Option<i32>,
}

fn number(slot: u16, sequence: u16) -> i32 {
    i32::from(slot) | i32::from(sequence) << SLOT_BITS
}

/// The slot and the sequence number that a number is made of; `None` for a negative one.
fn parts(id: i32) -> Option<(u16, u16)> {
    let slot = u16::try_from(id & ((1 << SLOT_BITS) - 1)).ok()?;
    Some((slot, u16::try_from(id >> SLOT_BITS).ok()?))
}

impl<T: Object> Registry<T> {
    /// The most objects that there can be, whatever the limit.
    pub const MOST: usize = 1 << SLOT_BITS;

    /// Makes an empty registry for at most `most` objects.
    pub fn new(most: usize) -> Self {
        let state = State { objects: BTreeMap::new(), keys: HashMap::new(), most, next: 0, sequence: 0, wanted: None };
        Self { state: Mutex::new(Rank::Ipc, state) }
    }

    /// How many objects there may be.
    pub fn most(&self) -> usize {
        self.state.lock().most
    }

    /// Changes that; what is there stays.
    pub fn set_most(&self, most: usize) {
        self.state.lock().most = most.min(Self::MOST);
    }

    /// The number that the next object is to have, if one was asked for.
    pub fn wanted_number(&self) -> Option<i32> {
        self.state.lock().wanted
    }

    /// Asks for a number for the next object; it gets the next free slot's if that is taken.
    pub fn want_number(&self, id: i32) {
        self.state.lock().wanted = Some(id);
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
        if let Some(found) = state.of_key(key) {
            if flags & CREATE != 0 && flags & EXCLUSIVE != 0 {
                return Err(Errno::EEXIST);
            }
            fits(&found.object)?;
            found.object.permissions().check(task, flags)?;
            return Ok(found.id);
        }
        if key != Key::PRIVATE && flags & CREATE == 0 {
            return Err(Errno::ENOENT);
        }
        let place = state.reserve();
        let sequence = place.map_or(state.sequence, |(_, sequence)| sequence);
        let permissions = Permissions { sequence, ..Permissions::new(task, key, flags) };
        let object = make(permissions)?;
        let (slot, sequence) = place.ok_or(Errno::ENOSPC)?;
        state.objects.insert(slot, (sequence, object));
        if key != Key::PRIVATE {
            state.keys.insert(key.0, slot);
        }
        // The search goes on behind it, and each round has another sequence number.
        state.next = slot + 1;
        Ok(number(slot, sequence))
    }

    /// Finds an object by its number; `EINVAL`.
    pub fn find(&self, id: i32) -> Result<Arc<T>, Errno> {
        let (slot, _) = parts(id).ok_or(Errno::EINVAL)?;
        let found = self.slot(slot.into())?;
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
        let (slot, _) = parts(id)?;
        let mut state = self.state.lock();
        let (_, object) = state.objects.remove(&slot)?;
        state.keys.remove(&object.permissions().key.0);
        Some(object)
    }

    /// Lets nobody find an object by its key any longer.
    pub fn forget_key(&self, key: Key) {
        self.state.lock().keys.remove(&key.0);
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

impl<T: Object> State<T> {
    /// The object of a key.
    fn of_key(&self, key: Key) -> Option<Found<T>> {
        let slot = self.keys.get(&key.0).copied()?;
        let (sequence, object) = self.objects.get(&slot)?;
        let id = number(slot, *sequence);
        (!object.is_gone() && object.permissions().key == key).then(|| Found { id, object: object.clone() })
    }

    /// The next free slot, going round, and the sequence number that goes with it.
    fn reserve(&mut self) -> Option<(u16, u16)> {
        if self.objects.len() >= self.most {
            self.objects.retain(|_, (_, object)| !object.is_gone());
        }
        if self.objects.len() >= self.most {
            return None;
        }
        let free = |slot: &u16| !self.objects.contains_key(slot);
        if let Some((slot, sequence)) = self.wanted.take().and_then(parts) {
            return (slot..1 << SLOT_BITS).find(free).map(|slot| (slot, sequence));
        }
        let cycle = (self.objects.len() * 3 / 2).clamp(LEAST_CYCLE, 1 << SLOT_BITS);
        let cycle = u16::try_from(cycle).unwrap_or(1 << SLOT_BITS);
        let ahead = (self.next..cycle).find(free);
        if ahead.is_none() {
            // 2¹⁵ rounds, then the numbers come again: they stay positive.
            self.sequence = (self.sequence + 1) & 0x7fff;
        }
        let slot = ahead.or_else(|| (0..cycle).find(free))?;
        Some((slot, self.sequence))
    }
}
