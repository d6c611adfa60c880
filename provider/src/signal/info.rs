//! What a signal carries: siginfo_t.

use super::{Signal, SignalCode};
use crate::task::Pid;
use vmm::addr::UserAddr;

/// Bytes in a `siginfo_t`.
pub const SIGINFO_SIZE: usize = 128;

/// A signal with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigInfo {
    /// Which signal.
    pub signal: Signal,
    /// si_errno: nearly always 0.
    pub errno: i32,
    /// Why.
    pub code: SignalCode,
    /// What else is known; it decides which union member the program finds.
    pub detail: Detail,
}

/// The union of `siginfo_t`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of siginfo_t, see sigaction(2)")]
pub enum Detail {
    /// Nothing: as `Sender` with zeros.
    None,
    /// kill, tgkill.
    Sender { pid: Pid, uid: u32 },
    /// sigqueue.
    Queued { pid: Pid, uid: u32, value: u64 },
    /// A POSIX timer.
    Timer { id: i32, overrun: i32, value: u64 },
    /// A fault at an address.
    Fault { address: UserAddr },
    /// A call that seccomp has refused.
    Call { address: UserAddr, number: i32, architecture: u32 },
    /// A file became ready (SIGIO).
    Poll { band: i64, fd: i32 },
    /// A child changed its state.
    Child { pid: Pid, uid: u32, status: i32, user_time: i64, system_time: i64 },
    /// rt_sigqueueinfo with a code of the program's own: the union as it gave it.
    Raw(Box<[u8; SIGINFO_SIZE - 16]>),
}

impl SigInfo {
    /// A signal from the kernel itself.
    pub fn kernel(signal: Signal) -> Self {
        Self { signal, errno: 0, code: SignalCode::SI_KERNEL, detail: Detail::None }
    }

    /// A signal for a fault at an address.
    pub fn fault(signal: Signal, code: SignalCode, address: UserAddr) -> Self {
        Self { signal, errno: 0, code, detail: Detail::Fault { address } }
    }

    /// A signal that somebody sent with kill (`SI_USER`) or tgkill (`SI_TKILL`).
    pub fn sent(signal: Signal, code: SignalCode, pid: Pid, uid: u32) -> Self {
        Self { signal, errno: 0, code, detail: Detail::Sender { pid, uid } }
    }

    /// The bytes that a program finds.
    pub fn to_bytes(&self) -> [u8; SIGINFO_SIZE] {
        let mut writer = Writer { bytes: [0; SIGINFO_SIZE], at: 0 };
        writer.i32(self.signal.raw());
        writer.i32(self.errno);
        writer.i32(self.code.0);
        writer.i32(0);
        match &self.detail {
            Detail::None => {}
            Detail::Sender { pid, uid } => {
                writer.i32(pid.0);
                writer.u32(*uid);
            }
            Detail::Queued { pid, uid, value } => {
                writer.i32(pid.0);
                writer.u32(*uid);
                writer.u64(*value);
            }
            Detail::Timer { id, overrun, value } => {
                writer.i32(*id);
                writer.i32(*overrun);
                writer.u64(*value);
            }
            Detail::Fault { address } => writer.u64(address.0),
            Detail::Call { address, number, architecture } => {
                writer.u64(address.0);
                writer.i32(*number);
                writer.u32(*architecture);
            }
            Detail::Poll { band, fd } => {
                writer.u64(band.cast_unsigned());
                writer.i32(*fd);
            }
            Detail::Child { pid, uid, status, user_time, system_time } => {
                writer.i32(pid.0);
                writer.u32(*uid);
                writer.i32(*status);
                writer.i32(0);
                writer.u64(user_time.cast_unsigned());
                writer.u64(system_time.cast_unsigned());
            }
            Detail::Raw(union) => writer.put(&union[..]),
        }
        writer.bytes
    }

    /// Takes what a program passes to rt_sigqueueinfo for `signal`.
    pub fn from_bytes(signal: Signal, bytes: &[u8; SIGINFO_SIZE]) -> Self {
        let int = |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut union = Box::new([0; SIGINFO_SIZE - 16]);
        union.copy_from_slice(&bytes[16..]);
        Self { signal, errno: int(4), code: SignalCode(int(8)), detail: Detail::Raw(union) }
    }
}

struct Writer {
    bytes: [u8; SIGINFO_SIZE],
    at: usize,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
    fn i32(&mut self, value: i32) {
        self.put(&value.to_le_bytes());
    }
    fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_has_its_address_at_16() {
        let info = SigInfo::fault(Signal::SIGSEGV, SignalCode::SEGV_ACCERR, UserAddr(0x1234));
        let bytes = info.to_bytes();
        assert_eq!(bytes[..12], [11, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(bytes[16..24], 0x1234u64.to_le_bytes());
    }

    #[test]
    fn a_child_has_status_at_24_and_times_at_32() {
        let detail = Detail::Child { pid: Pid(7), uid: 8, status: 9, user_time: 10, system_time: 11 };
        let bytes = SigInfo { signal: Signal::SIGCHLD, errno: 0, code: SignalCode::CLD_EXITED, detail }.to_bytes();
        assert_eq!(bytes[16..28], [7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!((bytes[32], bytes[40]), (10, 11));
    }

    #[test]
    fn raw_information_comes_back_unchanged() {
        let mut bytes = [0x5a; SIGINFO_SIZE];
        bytes[..4].copy_from_slice(&10i32.to_le_bytes());
        bytes[12..16].fill(0);
        assert_eq!(SigInfo::from_bytes(Signal::SIGUSR1, &bytes).to_bytes(), bytes);
    }
}
