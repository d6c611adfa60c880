//! A provider's contexts and the host's references, as they cross the C ABI: who owns what, and who gives it back when.

use super::abi::About;
use crate::pico::Context;
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A provider's pointer behind a process or a thread.
///
/// It is the provider's until the process or thread is made, then the host's, which gives it back when it is dropped.
#[derive(Debug)]
pub(super) struct ForeignContext {
    pointer: *mut c_void,
    release: Option<About>,
    taken: AtomicBool,
}

// SAFETY: the contract says that a provider takes its contexts on any thread of the host.
unsafe impl Send for ForeignContext {}
// SAFETY: as above, on several at once.
unsafe impl Sync for ForeignContext {}

impl ForeignContext {
    /// Makes a context of a pointer that is still the provider's.
    pub(super) fn new(pointer: *mut c_void, release: Option<About>) -> Arc<Self> {
        Arc::new(Self { pointer, release, taken: AtomicBool::new(false) })
    }

    /// The pointer is the host's from now on.
    pub(super) fn take(&self) {
        self.taken.store(true, Ordering::Release);
    }
}

impl Drop for ForeignContext {
    fn drop(&mut self) {
        if let (true, Some(release)) = (self.taken.load(Ordering::Acquire), self.release) {
            // SAFETY: the pointer is one that the provider gave with a process or a thread, this is the last holder, and
            // nothing is dropped twice.
            unsafe { release(self.pointer) };
        }
    }
}

/// The pointer of a context. Null for one that no foreign provider made, which none is ever given: a host has one provider.
pub(super) fn pointer(context: &Context) -> *mut c_void {
    context.downcast_ref::<ForeignContext>().map_or(std::ptr::null_mut(), |context| context.pointer)
}

/// Makes a reference of the provider's out of one of the host's.
pub(super) fn lend<T>(object: Arc<T>) -> *const c_void {
    Arc::into_raw(object).cast()
}

/// Looks at what a reference of the provider's refers to, which stays the provider's.
///
/// # Safety
/// `reference` is null, or came from [`lend`] for a `T` and has not been given back.
pub(super) unsafe fn borrow<T>(reference: *const c_void) -> Option<ManuallyDrop<Arc<T>>> {
    // SAFETY: it came from `Arc::into_raw` as the caller says; it is not dropped here.
    (!reference.is_null()).then(|| ManuallyDrop::new(unsafe { Arc::from_raw(reference.cast()) }))
}
