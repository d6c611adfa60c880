//! The processor state of a stopped thread, as others read and change it (NT: `GetContextThreadInternal`,
//! `SetContextThreadInternal`).
//!
//! [`ThreadContext`] crosses interfaces as bytes with the size of its fixed part in front, so that whoever has an older
//! or a newer version understands the part that both know. What comes from outside is untrusted: flags that a program may
//! not set are dropped, and addresses that the processor would refuse are refused.

use super::frame::reset_area;
use super::stop::NotStopped;
use super::thread::{State, Thread};
use crate::addr::USER_END;
use crate::trap::{DebugRegisters, FIXED_RFLAGS, Registers, USER_RFLAGS};
use thiserror::Error;

bitflags::bitflags! {
    /// The parts of a [`ThreadContext`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ContextParts: u32 {
        /// RIP, RSP and RFLAGS.
        const CONTROL = 1;
        /// The other general registers.
        const INTEGER = 2;
        /// The bases of FS and GS.
        const BASES = 4;
        /// x87, SSE, AVX and what else XSAVE covers.
        const EXTENDED = 8;
        /// The debug registers.
        const DEBUG = 16;
    }
}

/// Bytes of the first version's fixed part.
const FIXED: usize = 224;
/// Bytes of an XSAVE area at the least: the legacy region and the header.
const LEAST_XSAVE: usize = 576;
/// Bytes of an XSAVE area at the most.
const MOST_XSAVE: usize = 4096;

/// Why a context is none that a thread could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ContextError {
    /// The thread runs.
    #[error(transparent)]
    NotStopped(#[from] NotStopped),
    /// An instruction pointer or a base is not canonical, or a debug address not a program's.
    #[error("an address that no program can use")]
    Address,
    /// The XSAVE area is there without its part, or the other way round, or has a size that it cannot have.
    #[error("an XSAVE area of impossible size")]
    Xsave,
    /// The bytes end before what their size field says, or the size is less than that of the first version.
    #[error("a context that is cut short")]
    Short,
    /// A newer version's fields or parts are used.
    #[error("a context with parts of a newer version")]
    Unknown,
}

/// A thread's processor state, or parts of it; the others are zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadContext {
    /// Which parts count.
    pub parts: ContextParts,
    /// The general registers.
    pub registers: Registers,
    /// The base of FS.
    pub fs_base: u64,
    /// The base of GS.
    pub gs_base: u64,
    /// Where the thread traps.
    pub debug: DebugRegisters,
    /// What DR6 has gathered; is read only.
    pub debug_status: u64,
    /// Extended state in the standard XSAVE format.
    pub xsave: Box<[u8]>,
}

impl ThreadContext {
    /// The context as bytes: the size of the fixed part (32 bits), the parts (32 bits), RAX, RBX, RCX, RDX, RSI, RDI, RBP,
    /// RSP, R8 to R15, RIP, RFLAGS, the bases of FS and GS, DR0 to DR3, DR7, DR6 (64 bits each), the size of the XSAVE area
    /// (64 bits), and behind the fixed part that area. All little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let r = &self.registers;
        let general = [
            r.rax,
            r.rbx,
            r.rcx,
            r.rdx,
            r.rsi,
            r.rdi,
            r.rbp,
            r.rsp,
            r.r8,
            r.r9,
            r.r10,
            r.r11,
            r.r12,
            r.r13,
            r.r14,
            r.r15,
            r.rip,
            r.rflags,
            self.fs_base,
            self.gs_base,
        ];
        let debug = [self.debug.control, self.debug_status, self.xsave.len() as u64];
        let head = FIXED as u64 | u64::from(self.parts.bits()) << 32;
        let words = [head].into_iter().chain(general).chain(self.debug.addresses).chain(debug);
        words.flat_map(u64::to_le_bytes).chain(self.xsave.iter().copied()).collect()
    }

    /// Reads a context from bytes, which may be of an older or newer version, and anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ContextError> {
        let size = bytes.first_chunk().map(|size| u32::from_le_bytes(*size)).ok_or(ContextError::Short)?;
        let size = usize::try_from(size).map_err(|_| ContextError::Short)?;
        let (fixed, xsave) = bytes.split_at_checked(size).ok_or(ContextError::Short)?;
        let (known, newer) = fixed.split_at_checked(FIXED).ok_or(ContextError::Short)?;
        if newer.iter().any(|byte| *byte != 0) {
            return Err(ContextError::Unknown);
        }
        let mut words = known.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
        let mut next = || words.next().unwrap_or_default();
        let parts = u32::try_from(next() >> 32).unwrap_or_default();
        let parts = ContextParts::from_bits(parts).ok_or(ContextError::Unknown)?;
        let registers = Registers {
            rax: next(),
            rbx: next(),
            rcx: next(),
            rdx: next(),
            rsi: next(),
            rdi: next(),
            rbp: next(),
            rsp: next(),
            r8: next(),
            r9: next(),
            r10: next(),
            r11: next(),
            r12: next(),
            r13: next(),
            r14: next(),
            r15: next(),
            rip: next(),
            rflags: next(),
        };
        let (fs_base, gs_base) = (next(), next());
        let debug = DebugRegisters { addresses: [next(), next(), next(), next()], control: next() };
        let debug_status = next();
        if next() != xsave.len() as u64 {
            return Err(ContextError::Xsave);
        }
        let context = Self { parts, registers, fs_base, gs_base, debug, debug_status, xsave: xsave.into() };
        context.check().map(|()| context)
    }

    /// Refuses what no thread could have.
    fn check(&self) -> Result<(), ContextError> {
        let canonical = |address: u64| ((address << 16).cast_signed() >> 16).cast_unsigned() == address;
        let has = |part| self.parts.contains(part);
        let addresses = !has(ContextParts::CONTROL) || canonical(self.registers.rip);
        let bases = !has(ContextParts::BASES) || canonical(self.fs_base) && canonical(self.gs_base);
        let debug = !has(ContextParts::DEBUG) || self.debug.addresses.iter().all(|address| *address < USER_END);
        if !(addresses && bases && debug) {
            return Err(ContextError::Address);
        }
        let sizes = if has(ContextParts::EXTENDED) { LEAST_XSAVE..=MOST_XSAVE } else { 0..=0 };
        if sizes.contains(&self.xsave.len()) { Ok(()) } else { Err(ContextError::Xsave) }
    }
}

/// Takes RIP, RSP and RFLAGS from one and all the rest from another.
fn with_control(control: &Registers, rest: &Registers) -> Registers {
    Registers { rip: control.rip, rsp: control.rsp, rflags: control.rflags, ..*rest }
}

/// The parts of `registers` that are asked for; the others are zero.
fn selected(registers: &Registers, parts: ContextParts) -> Registers {
    let zero = Registers::default();
    let control = if parts.contains(ContextParts::CONTROL) { registers } else { &zero };
    let rest = if parts.contains(ContextParts::INTEGER) { registers } else { &zero };
    with_control(control, rest)
}

impl Thread {
    /// Reads parts of the context of a thread that is stopped. Of one that its provider serves the registers that it
    /// trapped with are there, and no other part: [`ThreadContext::parts`] tells.
    pub fn get_context(&self, parts: ContextParts) -> Result<ThreadContext, NotStopped> {
        let Ok(state) = self.stopped() else {
            let registers = self.trapped_registers()?;
            let parts = parts & (ContextParts::CONTROL | ContextParts::INTEGER);
            let registers = selected(&registers, parts);
            return if self.is_suspended() {
                Ok(ThreadContext { parts, registers, ..ThreadContext::default() })
            } else {
                Err(NotStopped)
            };
        };
        let saved = &state.saved;
        let mut context =
            ThreadContext { parts, registers: selected(&saved.registers, parts), ..ThreadContext::default() };
        if parts.contains(ContextParts::BASES) {
            (context.fs_base, context.gs_base) = (saved.fs_base, saved.gs_base);
        }
        if parts.contains(ContextParts::EXTENDED) {
            context.xsave = saved.xsave.clone().unwrap_or_else(|| reset_area(LEAST_XSAVE).into());
        }
        if parts.contains(ContextParts::DEBUG) {
            (context.debug, context.debug_status) = (saved.debug, saved.debug_status);
        }
        Ok(context)
    }

    /// Replaces parts of the context of a thread that is parked or has not started. The context is untrusted.
    pub fn set_context(&self, context: &ThreadContext) -> Result<(), ContextError> {
        context.check()?;
        let mut state = self.stopped()?;
        let State { saved, .. } = &mut *state;
        let has = |part| context.parts.contains(part);
        if has(ContextParts::INTEGER) {
            saved.registers = with_control(&saved.registers, &context.registers);
        }
        if has(ContextParts::CONTROL) {
            saved.registers = with_control(&context.registers, &saved.registers);
            saved.registers.rflags = saved.registers.rflags & USER_RFLAGS | FIXED_RFLAGS;
        }
        if has(ContextParts::BASES) {
            (saved.fs_base, saved.gs_base) = (context.fs_base, context.gs_base);
        }
        if has(ContextParts::EXTENDED) {
            saved.xsave = Some(context.xsave.clone());
        }
        if has(ContextParts::DEBUG) {
            saved.debug = context.debug;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full() -> ThreadContext {
        ThreadContext {
            parts: ContextParts::all(),
            registers: Registers { rax: 1, rbp: 2, r15: 3, rip: 0x1000, rflags: 0x246, rsp: 5, ..Registers::default() },
            fs_base: 0x7000,
            gs_base: 0xffff_8000_0000_0000,
            debug: DebugRegisters { addresses: [1, 2, 3, 4], control: 0x55 },
            debug_status: 9,
            xsave: reset_area(832).into(),
        }
    }

    #[test]
    fn a_context_survives_the_way_over_bytes() {
        let bytes = full().to_bytes();
        assert_eq!(bytes.len(), FIXED + 832);
        assert_eq!(ThreadContext::from_bytes(&bytes), Ok(full()));
        let empty = ThreadContext::default();
        assert_eq!(ThreadContext::from_bytes(&empty.to_bytes()), Ok(empty));
    }

    /// The bytes of a context whose fixed part is `size` bytes, `extra` of them behind ours.
    fn of_newer_version(extra: &[u8]) -> Vec<u8> {
        let mut bytes = full().to_bytes();
        let size = u32::try_from(FIXED + extra.len()).unwrap();
        bytes[..4].copy_from_slice(&size.to_le_bytes());
        bytes.splice(FIXED..FIXED, extra.iter().copied());
        bytes
    }

    #[test]
    fn a_newer_version_is_understood_as_long_as_its_news_is_not_used() {
        assert_eq!(ThreadContext::from_bytes(&of_newer_version(&[0; 24])), Ok(full()));
        assert_eq!(ThreadContext::from_bytes(&of_newer_version(&[0, 1, 0])), Err(ContextError::Unknown));
        let mut parts = full().to_bytes();
        parts[4] |= 0x80;
        assert_eq!(ThreadContext::from_bytes(&parts), Err(ContextError::Unknown));
    }

    #[test]
    fn what_is_no_context_is_refused() {
        let bytes = full().to_bytes();
        for len in [0, 3, 4, FIXED - 1] {
            assert_eq!(ThreadContext::from_bytes(&bytes[..len]), Err(ContextError::Short));
        }
        assert_eq!(ThreadContext::from_bytes(&bytes[..FIXED]), Err(ContextError::Xsave));
        assert_eq!(ThreadContext::from_bytes(&bytes[..bytes.len() - 1]), Err(ContextError::Xsave));
        let mut small = bytes.clone();
        small[..4].copy_from_slice(&8_u32.to_le_bytes());
        assert_eq!(ThreadContext::from_bytes(&small), Err(ContextError::Short));
        let refused = |change: &dyn Fn(&mut ThreadContext)| {
            let mut context = full();
            change(&mut context);
            ThreadContext::from_bytes(&context.to_bytes()).unwrap_err()
        };
        assert_eq!(refused(&|context| context.registers.rip = 1 << 47), ContextError::Address);
        assert_eq!(refused(&|context| context.fs_base = 1 << 63), ContextError::Address);
        assert_eq!(refused(&|context| context.debug.addresses[2] = USER_END), ContextError::Address);
        assert_eq!(refused(&|context| context.xsave = Box::default()), ContextError::Xsave);
        assert_eq!(refused(&|context| context.xsave = vec![0; MOST_XSAVE + 1].into()), ContextError::Xsave);
        assert_eq!(refused(&|context| context.parts -= ContextParts::EXTENDED), ContextError::Xsave);
    }

    proptest! {
        #[test]
        fn bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..1000), size in 0_u32..300) {
            if let Some(head) = bytes.first_chunk_mut() {
                *head = size.to_le_bytes();
            }
            if let Ok(context) = ThreadContext::from_bytes(&bytes) {
                prop_assert_eq!(ThreadContext::from_bytes(&context.to_bytes()), Ok(context));
            }
        }
    }
}
