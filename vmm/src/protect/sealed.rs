//! Memory that is written once: a mapping of its own, read-only from then on, and sealed where the host can (mseal(2)).
//!
//! `mprotect(PROT_READ)` stops a stray store. `mseal`, since Linux 6.10, also stops a later `mprotect`, `munmap` or `mremap`
//! that would undo it, whoever asks. Sealed memory is never given back, so only small and long-lived things belong here.

use crate::addr::PAGE_SIZE;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

/// How well the host lets us protect memory of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// Read-only, and nobody can change that: the host has mseal(2).
    Sealed,
    /// Read-only only: the host is older than Linux 6.10, or its policy forbids the call.
    ReadOnly,
}

impl fmt::Display for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sealed => "mseal",
            Self::ReadOnly => "read-only only (no mseal)",
        })
    }
}

impl Sealing {
    /// Asks the host: sealing nothing succeeds where the call exists.
    pub fn probe() -> Self {
        match mseal(0, 0) {
            Ok(()) => Self::Sealed,
            Err(_) => Self::ReadOnly,
        }
    }
}

/// Makes whole pages of the monitor read-only, and seals them where the host can.
///
/// # Errors
/// The host refused to make them read-only; what mseal says is in the result.
///
/// # Safety
/// The range is page-aligned, mapped, and nobody writes to it or unmaps it from now on.
pub(crate) unsafe fn make_read_only(start: NonNull<u8>, bytes: usize) -> io::Result<Sealing> {
    // SAFETY: the caller vouches for the range; taking a right away from memory nobody writes to changes nothing.
    if unsafe { libc::mprotect(start.as_ptr().cast(), bytes, libc::PROT_READ) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller vouches that nobody unmaps it.
    Ok(unsafe { seal(start.addr().get(), bytes) })
}

/// Forbids any change of the mapping of a range, where the host can.
///
/// # Safety
/// Nobody unmaps the range or changes its access from now on.
pub(super) unsafe fn seal(start: usize, bytes: usize) -> Sealing {
    match mseal(start, bytes) {
        Ok(()) => Sealing::Sealed,
        Err(_) => Sealing::ReadOnly,
    }
}

fn mseal(start: usize, bytes: usize) -> io::Result<()> {
    // SAFETY: the call reads and writes no memory; `seal`'s caller vouches for what it means to the mapping.
    if unsafe { libc::syscall(libc::SYS_mseal, start, bytes, 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A value in sealed memory of its own.
///
/// The value must have no interior mutability that somebody uses: a store to it is a fault. What it points to (an `Arc`'s
/// counts and contents) lies elsewhere and is as it was.
pub struct Sealed<T> {
    value: NonNull<T>,
    sealing: Sealing,
    _owns: PhantomData<T>,
}

// SAFETY: it owns its value as a box does.
unsafe impl<T: Send> Send for Sealed<T> {}
// SAFETY: a shared reference gives shared references to the value only.
unsafe impl<T: Sync> Sync for Sealed<T> {}

impl<T> Sealed<T> {
    /// Moves a value to sealed memory.
    ///
    /// # Errors
    /// The host has no memory, or refuses to make it read-only.
    ///
    /// # Panics
    /// For a type whose alignment is more than a page's.
    pub fn new(value: T) -> io::Result<Self> {
        assert!(align_of::<T>() <= page(), "a page is aligned enough");
        let start = map(size_of::<T>())?;
        let place = start.cast::<T>();
        // SAFETY: the mapping is new, large enough and aligned.
        unsafe { place.write(value) };
        // SAFETY: whole pages of a mapping that is this value's alone.
        match unsafe { make_read_only(start, rounded(size_of::<T>())) } {
            Ok(sealing) => Ok(Self { value: place, sealing, _owns: PhantomData }),
            Err(error) => {
                // SAFETY: the value was written above and is used by nobody.
                unsafe { place.drop_in_place() };
                unmap(start, size_of::<T>());
                Err(error)
            }
        }
    }

    /// How well it is protected.
    pub fn sealing(&self) -> Sealing {
        self.sealing
    }

    /// Where the value lies.
    pub fn address(&self) -> usize {
        self.value.addr().get()
    }
}

impl<T> Deref for Sealed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value was written before the memory became read-only and stays until the drop.
        unsafe { self.value.as_ref() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("value", &**self).field("sealing", &self.sealing).finish()
    }
}

impl<T> Drop for Sealed<T> {
    fn drop(&mut self) {
        // A drop in place may write to the value, which its memory forbids.
        // SAFETY: the value is valid, and nobody reads it here after this.
        drop(unsafe { self.value.read() });
        if self.sealing == Sealing::ReadOnly {
            unmap(self.value.cast(), size_of::<T>());
        }
    }
}

/// Plain values in sealed memory of their own, which is never given back.
pub(super) struct SealedSlice<T: Copy + 'static> {
    values: &'static [T],
}

impl<T: Copy> SealedSlice<T> {
    /// Copies values to sealed memory.
    ///
    /// # Errors
    /// As those of [`Sealed::new`].
    pub(super) fn of(values: &[T]) -> io::Result<Self> {
        assert!(align_of::<T>() <= page(), "a page is aligned enough");
        let start = map(size_of_val(values))?;
        // SAFETY: the mapping is new, aligned, and large enough; the two do not overlap.
        unsafe { start.cast::<T>().as_ptr().copy_from_nonoverlapping(values.as_ptr(), values.len()) };
        // SAFETY: whole pages of a mapping that nobody else knows.
        unsafe { make_read_only(start, rounded(size_of_val(values)))? };
        // SAFETY: so many values were just copied there, and stay for as long as the process lives.
        let values = unsafe { std::slice::from_raw_parts(start.cast().as_ptr(), values.len()) };
        Ok(Self { values })
    }
}

impl<T: Copy> Deref for SealedSlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.values
    }
}

impl<T: Copy + fmt::Debug> fmt::Debug for SealedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.values).finish()
    }
}

fn page() -> usize {
    usize::try_from(PAGE_SIZE).expect("a page's size is a number of this machine's")
}

/// Whole pages for so many bytes, one at the least.
fn rounded(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(page())
}

fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), rounded(bytes), access, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
}

fn unmap(start: NonNull<u8>, bytes: usize) {
    // SAFETY: `map` made it, and nobody uses it any more. A failure leaves it mapped, which does no harm.
    unsafe { libc::munmap(start.as_ptr().cast(), rounded(bytes)) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::raw;
    use std::sync::Arc;

    fn sealed() -> Sealed<[u64; 4]> {
        Sealed::new([1, 2, 3, 4]).unwrap()
    }

    fn start(of: &Sealed<[u64; 4]>) -> *mut libc::c_void {
        of.value.as_ptr().cast()
    }

    #[test]
    fn the_value_is_there_and_is_dropped() {
        let value = Arc::new(7);
        let kept = Sealed::new(value.clone()).unwrap();
        assert_eq!((**kept, Arc::strong_count(&value)), (7, 2));
        assert_eq!(kept.sealing(), Sealing::probe());
        drop(kept);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_store_to_it_is_a_fault() {
        raw::install_recovery();
        let value = sealed();
        let bytes = [9u8; 8];
        // SAFETY: a live buffer on one side; the other is read-only, which the copy reports.
        let stored = unsafe { raw::copy(value.value.as_ptr().cast(), bytes.as_ptr(), 8) };
        assert!(stored.is_err());
        assert_eq!(*value, [1, 2, 3, 4]);
    }

    #[test]
    fn its_protection_cannot_be_lifted() {
        if Sealing::probe() == Sealing::ReadOnly {
            println!("skipped: this host has no mseal");
            return;
        }
        let value = sealed();
        // SAFETY: refused, as is asserted; if it were not, nothing would be written.
        let result = unsafe { libc::mprotect(start(&value), page(), libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!((result, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EPERM)));
        // SAFETY: refused, as is asserted.
        let result = unsafe { libc::munmap(start(&value), page()) };
        assert_eq!((result, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EPERM)));
        // SAFETY: refused, as is asserted.
        let result = unsafe { libc::madvise(start(&value), page(), libc::MADV_DONTNEED) };
        assert_eq!((result, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EPERM)));
        assert_eq!(*value, [1, 2, 3, 4]);
    }
}
