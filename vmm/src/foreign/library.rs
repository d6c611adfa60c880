//! A shared object in this process: the dynamic linker's four calls, and nothing of what they load.

use std::ffi::{CStr, CString, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::ptr::NonNull;

/// A shared object that the dynamic linker has loaded. Dropping it unloads it.
#[derive(Debug)]
pub(super) struct Library {
    handle: NonNull<c_void>,
}

impl Library {
    /// Loads the object that a file holds, with all its symbols bound, and seen by nobody else. Its constructors run.
    ///
    /// The file stays open for good: the linker knows objects by the names of their files, and would take whatever had this
    /// descriptor later for this object, without looking.
    ///
    /// # Errors
    /// The dynamic linker's own words.
    ///
    /// # Safety
    /// The object's code is trusted: it runs with all the rights of this process.
    pub(super) unsafe fn load(file: OwnedFd) -> Result<Self, String> {
        let path = CString::new(format!("/proc/self/fd/{}", file.into_raw_fd())).map_err(|error| error.to_string())?;
        // SAFETY: a string that ends with a zero byte; what the object's constructors do, the caller answers for.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        NonNull::new(handle).map(|handle| Self { handle }).ok_or_else(last_error)
    }

    /// Finds a symbol.
    pub(super) fn symbol(&self, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: a handle of `dlopen`'s that is not closed, and a string that ends with a zero byte.
        NonNull::new(unsafe { libc::dlsym(self.handle.as_ptr(), name.as_ptr()) })
    }

    /// Where the object that a symbol is in begins.
    pub(super) fn base_of(symbol: NonNull<c_void>) -> Option<usize> {
        let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: it looks the address up, whatever it is, and fills the structure in.
        let found = unsafe { libc::dladdr(symbol.as_ptr(), info.as_mut_ptr()) };
        // SAFETY: pointers, which may be zero.
        let info = unsafe { info.assume_init() };
        (found != 0 && !info.dli_fbase.is_null()).then(|| info.dli_fbase.addr())
    }

    /// Keeps the object in the process for good.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: a handle of `dlopen`'s, closed once. Nobody has kept anything of the object: else `keep` was called.
        unsafe { libc::dlclose(self.handle.as_ptr()) };
    }
}

/// Tells whether this process has a library of that name loaded already.
pub(super) fn is_loaded(name: &CStr) -> bool {
    // SAFETY: a string that ends with a zero byte; RTLD_NOLOAD never loads, so no code runs.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if handle.is_null() {
        return false;
    }
    // SAFETY: the reference that was just taken; the library stays, because somebody else has one.
    unsafe { libc::dlclose(handle) };
    true
}

/// What the dynamic linker says about its last failure on this thread.
fn last_error() -> String {
    // SAFETY: returns null or a string that is valid until this thread's next call of the linker.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the dynamic linker gives no reason".to_owned();
    }
    // SAFETY: not null, so a string that ends with a zero byte.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
