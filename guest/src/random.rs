//! The vDSO's `getrandom`: random bytes from a state in the program's own memory, which a system call seeds.
//!
//! The interface is that of Linux 6.11 and later, and so is the state machine (`lib/vdso/getrandom.c` there). Each thread
//! has a [`State`] of its own, in memory that fork wipes. In it are a key, and a *batch* of bytes that were made ahead. A call hands out of the
//! batch, and zeroes there what it handed out. When the batch is empty, ChaCha20 makes two blocks with the key: a new
//! batch, and the key for the next time, which takes the old one's place. So nothing in the state tells what was handed
//! out before.
//!
//! A call within a call (of a signal handler) finds the state in use, and makes the system call. A fork within a call (by
//! a signal handler, too) wipes the state under the child's call, which then begins anew.
//!
//! Linux seeds a state again when the kernel's own generator was seeded again: once a minute, or when a virtual machine
//! finds that it was restored or cloned. The host's programs cannot see that, so a seed is good for a second or two here
//! ([`Seeds::generation`]), by the time-stamp counter.

use crate::chacha;
use crate::vdso::system_call_long;
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{Ordering, compiler_fence};

/// What lies in memory of the program's. It may be at any address that does not cross a page's end.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed)]
pub struct State {
    /// Bytes to be handed out, and zeroes where they have been.
    pub batch: [u8; BATCH],
    /// What the next batch is made with.
    pub key: [u8; chacha::KEY],
    /// When the key was seeded; 0: never, or the state was wiped.
    pub generation: u64,
    /// How many bytes of the batch have been handed out.
    pub position: u8,
    /// 1 while a call works with the state.
    pub in_use: u8,
    /// As in Linux's state, which is aligned.
    pub padding: [u8; 6],
}

/// Bytes in a batch: what two blocks have besides a key.
pub const BATCH: usize = 2 * chacha::BLOCK - chacha::KEY;
#[expect(clippy::cast_possible_truncation, reason = "96")]
const BATCH_END: u8 = BATCH as u8;
const STATE: usize = size_of::<State>();
const _: () = assert!(STATE == 144);

/// What the function says about states: Linux's `struct vgetrandom_opaque_params`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Parameters {
    /// Bytes in a state.
    pub state_size: u32,
    /// How states are to be mapped.
    pub protection: u32,
    /// Likewise.
    pub flags: u32,
    /// Zeroes.
    pub reserved: [u32; 13],
}

/// PROT_READ | PROT_WRITE.
const PROTECTION: u32 = 1 | 2;
/// MAP_DROPPABLE | MAP_ANONYMOUS.
const MAPPING: u32 = 0x8 | 0x20;
/// GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE. None makes a difference once the kernel has random bytes at all.
const KNOWN_FLAGS: u32 = 1 | 2 | 4;
/// MAX_RW_COUNT.
const MOST: usize = 0x7fff_f000;
const PAGE: usize = 4096;
const EFAULT: i64 = 14;
const SYSTEM_CALL: u64 = 318;

/// Where seeds come from, and how long they last.
pub trait Seeds {
    /// Does what `getrandom(2)` does.
    ///
    /// # Safety
    /// As the system call.
    unsafe fn fetch(&self, to: *mut u8, len: usize, flags: u32) -> i64;

    /// Returns a number that is not 0, and another whenever states are to be seeded again.
    fn generation(&self) -> u64;
}

/// The system call, and the time-stamp counter.
#[derive(Clone, Copy, Debug)]
pub struct Kernel;

impl Seeds for Kernel {
    #[inline]
    unsafe fn fetch(&self, to: *mut u8, len: usize, flags: u32) -> i64 {
        // SAFETY: the call writes to its buffer only, which the kernel checks.
        unsafe { system_call_long(SYSTEM_CALL, to as u64, len as u64, u64::from(flags)) }
    }

    #[inline]
    fn generation(&self) -> u64 {
        // A second or two, by which a seed's system call costs nothing that could be measured. The order with what is
        // around it does not matter.
        // SAFETY: RDTSC is permitted at every privilege level: neither Linux by default nor our guest sets CR4.TSD.
        (unsafe { _rdtsc() } >> 32) + 1
    }
}

/// Does what Linux's `__vdso_getrandom` does: fills `to` with `len` random bytes and returns their number, or an error's
/// number, negative. If `state_len` is [`usize::MAX`] and all arguments before `state` are 0, `state` is filled with
/// [`Parameters`] instead.
///
/// # Safety
/// As the system call, but a bad `to` or `state` faults in the caller. `state` must be zeroes or left by this function,
/// `state_len` its size, and only one thread may use it.
#[inline]
pub unsafe fn getrandom(
    seeds: &impl Seeds,
    to: *mut u8,
    len: usize,
    flags: u32,
    state: *mut State,
    state_len: usize,
) -> i64 {
    if state_len == usize::MAX && to.is_null() && len == 0 && flags == 0 {
        // SAFETY: the caller passes room for this in a state's place.
        unsafe { describe(state.cast()) };
        return 0;
    }
    // Pages may be wiped one at a time.
    if state.addr() % PAGE > PAGE - STATE {
        return -EFAULT;
    }
    if flags & !KNOWN_FLAGS == 0 && state_len == STATE {
        if len == 0 {
            return 0;
        }
        // SAFETY: as the caller vouches.
        if let Some(done) = unsafe { draw(seeds, to, len.min(MOST), state) } {
            return done;
        }
    }
    // SAFETY: the caller's duty.
    unsafe { seeds.fetch(to, len, flags) }
}

/// # Safety
/// `to` must be good for writes.
#[inline]
unsafe fn describe(to: *mut Parameters) {
    // The size is 144.
    #[expect(clippy::cast_possible_truncation, reason = "a small number")]
    let state_size = STATE as u32;
    let parameters = Parameters { state_size, protection: PROTECTION, flags: MAPPING, reserved: [0; 13] };
    // SAFETY: the caller's duty.
    unsafe { to.write_unaligned(parameters) };
}

/// Fills `to` by way of the state, or returns `None` where that cannot be done: the state is in use, it is wiped again and
/// again, there is no seed.
///
/// # Safety
/// As [`getrandom`]; `len` must not be 0.
#[inline]
unsafe fn draw(seeds: &impl Seeds, to: *mut u8, len: usize, state: *mut State) -> Option<i64> {
    // SAFETY: a field of the state.
    let in_use = unsafe { &raw mut (*state).in_use };
    // A signal's handler runs to its end between two instructions of this function, so whatever comes between the look and
    // the change has left the state free again.
    // SAFETY: the caller passes a state.
    if unsafe { in_use.read_volatile() } != 0 {
        return None;
    }
    for _ in 0..2 {
        // SAFETY: the caller passes a state.
        unsafe { in_use.write_volatile(1) };
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the state is this call's.
        let seeded = unsafe { seed(seeds, state) };
        if seeded {
            // SAFETY: as above, and the caller passes the room.
            unsafe { fill(to, len, state) };
        }
        compiler_fence(Ordering::SeqCst);
        // If it is 0, the state was wiped meanwhile, and there may be zeroes among the bytes, or its parent's bytes in a
        // child. The generation would not tell: a handler in the child may have used the state since.
        // SAFETY: the caller passes a state.
        let still = unsafe { in_use.read_volatile() } != 0;
        if !still {
            // Position, batch and key need not belong together any more.
            // SAFETY: the caller passes a state.
            unsafe { (*state).generation = 0 };
        }
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { in_use.write_volatile(0) };
        if !seeded {
            return None;
        }
        if still {
            #[expect(clippy::cast_possible_wrap, reason = "at most MOST")]
            let len = len as i64;
            return Some(len);
        }
    }
    None
}

/// Seeds the state unless it has been in this generation, and tells whether it has a key.
///
/// # Safety
/// `state` must be good for reads and writes, and in use by this call.
#[inline]
unsafe fn seed(seeds: &impl Seeds, state: *mut State) -> bool {
    let generation = seeds.generation();
    // SAFETY: a field of the state.
    let of_state = unsafe { &raw mut (*state).generation };
    // SAFETY: the caller's duty.
    if unsafe { of_state.read_unaligned() } == generation {
        return true;
    }
    // Written before the key is: after a fork in between, the child's state is wiped and has no generation, while with the
    // key written first it could have its parent's key and be taken for seeded.
    // SAFETY: the caller's duty.
    unsafe { of_state.write_unaligned(generation) };
    compiler_fence(Ordering::SeqCst);
    // SAFETY: a field of the state.
    let key = unsafe { &raw mut (*state).key };
    // SAFETY: the call writes to the key only.
    let fetched = unsafe { seeds.fetch(key.cast(), chacha::KEY, 0) };
    #[expect(clippy::cast_possible_wrap, reason = "32")]
    let seeded = fetched == chacha::KEY as i64;
    if !seeded {
        // SAFETY: the caller's duty.
        unsafe { of_state.write_unaligned(0) };
    }
    // What is left of the batch belongs to the old key.
    // SAFETY: the caller's duty.
    unsafe { (*state).position = BATCH_END };
    seeded
}

/// Hands out of the batch, makes whole blocks in `to` itself, and renews the batch, until `len` bytes are there.
///
/// # Safety
/// `to` must be good for writes of `len` bytes, `state` for reads and writes, and in use by this call.
#[inline]
unsafe fn fill(mut to: *mut u8, mut len: usize, state: *mut State) {
    // SAFETY: a field of the state.
    let position = unsafe { &raw mut (*state).position };
    // SAFETY: the batch is the state's first field.
    let batch = state.cast::<u8>();
    // SAFETY: a field of the state.
    let key = unsafe { (&raw const (*state).key).cast::<u8>() };
    let mut number = 0;
    loop {
        // SAFETY: the caller's duty. A program that wrote to its state gets what it made of it, but stays in its batch.
        let used = usize::from(unsafe { position.read() }).min(BATCH);
        let some = len.min(BATCH - used);
        // SAFETY: `used` is at most the batch's length.
        let from = unsafe { batch.add(used) };
        // SAFETY: `some` bytes are left in both.
        to = unsafe { hand_out(to, from, some) };
        // Below 97.
        #[expect(clippy::cast_possible_truncation, reason = "at most the batch's length")]
        let used = (used + some) as u8;
        // SAFETY: the caller's duty.
        unsafe { position.write(used) };
        len -= some;
        if len == 0 {
            return;
        }
        let whole = len / chacha::BLOCK;
        if whole > 0 {
            // SAFETY: the caller vouches for the room, and the key has its length.
            number = unsafe { chacha::blocks(to, whole, key, number, 0) };
            // SAFETY: so many bytes have just been written.
            to = unsafe { to.add(whole * chacha::BLOCK) };
            len %= chacha::BLOCK;
        }
        // The key goes with the old batch, even if nothing more of the new one is asked for.
        // SAFETY: batch and key are two blocks, and adjacent.
        unsafe { chacha::blocks(batch, 2, key, number, 0) };
        // SAFETY: the caller's duty.
        unsafe { position.write(0) };
        number = 0;
    }
}

/// Moves bytes and leaves zeroes behind. Returns the end of where they are now.
///
/// # Safety
/// `to` must be good for writes of `len` bytes, `from` for reads and writes.
#[inline]
unsafe fn hand_out(mut to: *mut u8, mut from: *mut u8, mut len: usize) -> *mut u8 {
    macro_rules! by {
        ($word:ty) => {
            while len >= size_of::<$word>() {
                // SAFETY: so many bytes are left.
                let word = unsafe { from.cast::<$word>().read_unaligned() };
                // SAFETY: likewise.
                unsafe { from.cast::<$word>().write_unaligned(0) };
                // SAFETY: likewise.
                unsafe { to.cast::<$word>().write_unaligned(word) };
                // SAFETY: likewise.
                from = unsafe { from.add(size_of::<$word>()) };
                // SAFETY: likewise.
                to = unsafe { to.add(size_of::<$word>()) };
                len -= size_of::<$word>();
                // Else the compiler makes calls of memcpy and memset of the loop, and there are none.
                compiler_fence(Ordering::SeqCst);
            }
        };
    }
    by!(u64);
    by!(u32);
    by!(u16);
    by!(u8);
    to
}

#[cfg(test)]
mod tests;
