//! The door between a virtual CPU and the guest: who is inside, how it is called out, and how it is kept out.
//!
//! A virtual CPU stores that it is inside, then looks whether somebody wants it outside, then enters. Whoever wants it
//! outside says so first and looks whether it is inside then. Both are sequentially consistent, so one of them sees the
//! other. The call is a real-time signal whose handler, on the virtual CPU's own thread, sets `immediate_exit`: that
//! holds for a thread that has not reached KVM_RUN yet. (A handler that does nothing loses such calls.)

use crate::trap::Registers;
use std::cell::Cell;
use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

thread_local! {
    /// The `immediate_exit` byte of the thread's virtual CPU, for the signal handler.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(null_mut()) };
}

/// Makes `immediate_exit` the byte that a kick of the calling thread sets.
///
/// # Safety
/// The byte must stay valid until the thread ends or calls this again (null: none).
pub(super) unsafe fn set_exit_byte(immediate_exit: *mut u8) {
    IMMEDIATE_EXIT.set(immediate_exit);
}

extern "C" fn on_kick(_: libc::c_int) {
    let byte = IMMEDIATE_EXIT.get();
    if !byte.is_null() {
        // SAFETY: the thread's own virtual CPU put it there and is still mapped.
        unsafe { byte.write_volatile(1) };
    }
}

fn kick_signal() -> libc::c_int {
    libc::SIGRTMIN() + 1
}

/// Installs the signal handler, once.
pub(super) fn install_handler() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let result = INSTALLED.get_or_init(|| {
        // SAFETY: all-zero is a valid sigaction.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_kick as extern "C" fn(libc::c_int) as usize;
        // KVM_RUN returns EINTR all the same; other host calls that a late signal hits go on.
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        // SAFETY: the handler only stores a byte: async-signal-safe.
        let failed = unsafe { libc::sigaction(kick_signal(), &raw const action, null_mut()) } != 0;
        if failed { Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(()) }
    });
    result.map_err(io::Error::from_raw_os_error)
}

/// After how long a virtual CPU that must leave for good is called once more.
const CALL_AGAIN: Duration = Duration::from_millis(1);

/// The door of one virtual CPU.
#[derive(Debug)]
pub(crate) struct Door {
    tid: libc::pid_t,
    inside: AtomicBool,
    /// How often it was entered.
    entries: AtomicU64,
    /// The address of the `SpaceSync` it runs with: an identity, never followed.
    space: AtomicUsize,
    waiters: AtomicU32,
    lock: Mutex<()>,
    left: Condvar,
    /// Where the thread stood when the machine was halted.
    stood: OnceLock<Registers>,
}

impl Door {
    /// Makes the door of the calling thread's virtual CPU.
    pub(super) fn new() -> Self {
        Self {
            // SAFETY: gettid has no arguments and no effect.
            tid: unsafe { libc::gettid() },
            inside: AtomicBool::new(false),
            entries: AtomicU64::new(0),
            space: AtomicUsize::new(0),
            waiters: AtomicU32::new(0),
            lock: Mutex::new(()),
            left: Condvar::new(),
            stood: OnceLock::new(),
        }
    }

    /// Says that the virtual CPU is inside from now on, in `space`. What might forbid it is to be looked at afterwards.
    pub(super) fn enter(&self, space: usize) {
        self.space.store(space, Ordering::Relaxed);
        // Only its own thread writes it.
        self.entries.store(self.entries.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.inside.store(true, Ordering::SeqCst);
    }

    /// Says that it is outside.
    pub(super) fn leave(&self) {
        self.inside.store(false, Ordering::SeqCst);
        if self.waiters.load(Ordering::SeqCst) != 0 {
            let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.left.notify_all();
        }
    }

    /// Calls the virtual CPU out if it is inside; tells whether it was.
    pub(crate) fn kick(&self) -> bool {
        let inside = self.inside.load(Ordering::SeqCst);
        if inside {
            let process = std::process::id();
            // SAFETY: sends a signal that has a handler to a thread of this process; it touches no memory.
            unsafe { libc::syscall(libc::SYS_tgkill, process, self.tid, kick_signal()) };
        }
        inside
    }

    /// How often it was entered, and whether the virtual CPU is inside now.
    pub(super) fn activity(&self) -> (u64, bool) {
        (self.entries.load(Ordering::Relaxed), self.inside.load(Ordering::SeqCst))
    }

    /// Tells whether the virtual CPU is inside, in `space`.
    pub(super) fn is_inside(&self, space: usize) -> bool {
        self.inside.load(Ordering::SeqCst) && self.space.load(Ordering::Relaxed) == space
    }

    /// Calls the virtual CPU out, wherever it is inside, until it is or `deadline` has passed.
    pub(super) fn clear(&self, deadline: Instant) {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.inside.load(Ordering::SeqCst) && Instant::now() < deadline {
            self.kick();
            (lock, _) = self.left.wait_timeout(lock, CALL_AGAIN).unwrap_or_else(PoisonError::into_inner);
        }
        drop(lock);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }

    /// The host thread that runs the virtual CPU.
    pub(super) fn thread(&self) -> libc::pid_t {
        self.tid
    }

    /// Says where the thread stands, on a machine that is halted.
    pub(super) fn halted_at(&self, registers: Registers) {
        let _ = self.stood.set(registers);
    }

    /// Where the thread stood when the machine was halted, if it has come by since.
    pub(super) fn stood_at(&self) -> Option<Registers> {
        self.stood.get().copied()
    }

    /// Waits until the virtual CPU is no longer inside in `space`.
    pub(super) fn wait_outside(&self, space: usize) {
        if !self.is_inside(space) {
            return;
        }
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.is_inside(space) {
            lock = self.left.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
        drop(lock);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}
