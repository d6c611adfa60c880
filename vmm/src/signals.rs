//! Host signals that the monitor's process gets and passes on: blocked in every thread, waited for in one.
//!
//! They are blocked before the first other thread exists, so every thread inherits that and none is interrupted by them; the
//! signal that kicks virtual CPUs is another one. What they mean inside is the provider's business.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A signal that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSignal {
    /// Its number.
    pub number: i32,
    /// The kernel has sent it, as it does when a terminal's key is pressed, and no process.
    pub from_kernel: bool,
}

/// A set of host signals, blocked in the calling thread and in those it starts, and the descriptor that they are taken from.
///
/// sigtimedwait(2) would take them without one, and be a call more that a jailed monitor may make.
#[derive(Debug)]
pub struct HostSignals {
    descriptor: OwnedFd,
}

/// Stops this process, as SIGSTOP does: until it is told to go on. A thread that sends itself the signal stops all of them (signal(7)).
pub fn stop_this_process() {
    // SAFETY: no memory is involved; SIGSTOP has no handler.
    unsafe { libc::raise(libc::SIGSTOP) };
}

impl HostSignals {
    /// Blocks `signals` (host signal numbers). A blocked signal arrives even if the process ignores it: the program inside
    /// may have a handler for what its caller ignores.
    pub fn block(signals: &[i32]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the pointer is to a sigset_t that the call initializes.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: sigemptyset has initialized it; it cannot fail on a valid pointer.
        let mut set = unsafe { set.assume_init() };
        for &signal in signals {
            // SAFETY: `set` is an initialized set; a number that is no signal is refused with EINVAL.
            cvt(unsafe { libc::sigaddset(&raw mut set, signal) })?;
        }
        // SAFETY: `set` is initialized, and a null pointer asks for no copy of the old mask.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
            0 => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        // SAFETY: the set is initialized; -1 asks for a new descriptor.
        let fd = cvt(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
        // SAFETY: a new descriptor that nobody else knows.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// A descriptor that is ready while one of the signals waits, for [`take`] (signalfd(2)). It does not block, and is closed when
    /// a program is executed.
    pub fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }

    /// Waits until one of the signals arrives, and takes it. `None` if `timeout` passed first.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Option<HostSignal>> {
        // One that no clock can show is never.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], timeout.as_ref())?;
        take(&self.descriptor)
    }
}

/// Takes a signal from a [descriptor](HostSignals::into_descriptor); `None` if there is none.
pub fn take(descriptor: &OwnedFd) -> io::Result<Option<HostSignal>> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: `info` has room for `size` bytes.
    let got = unsafe { libc::read(descriptor.as_raw_fd(), info.as_mut_ptr().cast(), size) };
    // SAFETY: all zeroes are a valid value, and so is what the kernel wrote over them.
    let info = unsafe { info.assume_init() };
    match usize::try_from(got) {
        Ok(got) if got == size => {
            Ok(Some(HostSignal { number: info.ssi_signo.cast_signed(), from_kernel: info.ssi_code == libc::SI_KERNEL }))
        }
        Ok(_) => Ok(None),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error => Err(error),
        },
    }
}

fn cvt(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_taken_and_a_missing_one_times_out() {
        // A thread of its own, so that the mask of the test runner's threads stays as it is.
        let thread = std::thread::spawn(|| {
            let signals = HostSignals::block(&[libc::SIGUSR2, libc::SIGWINCH]).unwrap();
            assert_eq!(signals.wait(Some(Duration::ZERO)).unwrap(), None);
            // SAFETY: sends a signal to the calling thread, which has blocked it.
            assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
            assert_eq!(signals.wait(None).unwrap(), Some(HostSignal { number: libc::SIGUSR2, from_kernel: false }));
            assert_eq!(signals.wait(Some(Duration::ZERO)).unwrap(), None);
        });
        thread.join().unwrap();
    }

    #[test]
    fn a_descriptor_gives_the_same_signals() {
        let thread = std::thread::spawn(|| {
            let descriptor = HostSignals::block(&[libc::SIGUSR1]).unwrap().into_descriptor();
            assert_eq!(take(&descriptor).unwrap(), None);
            // SAFETY: sends a signal to the calling thread, which has blocked it.
            assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
            assert_eq!(take(&descriptor).unwrap(), Some(HostSignal { number: libc::SIGUSR1, from_kernel: false }));
            assert_eq!(take(&descriptor).unwrap(), None);
        });
        thread.join().unwrap();
    }

    #[test]
    fn wrong_numbers_are_refused() {
        assert!(HostSignals::block(&[1000]).is_err());
    }
}
