//! The requests about registers.

use super::Call;
use crate::errno::Errno;
use crate::ptrace::registers::{FXSAVE_BYTES, Snapshot, USER_REGISTERS_BYTES};
use crate::user::{UserInOut, UserOut};
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of `struct user` (arch/x86/include/asm/user_64.h).
const USER_BYTES: u64 = 928;
/// Where it has the debug registers.
const DEBUG_REGISTERS: std::ops::Range<u64> = 848..912;
/// The register sets that there are: NT_PRSTATUS, NT_PRFPREG, NT_X86_XSTATE.
const GENERAL: u64 = 1;
const LEGACY: u64 = 2;
const EXTENDED: u64 = 0x202;
/// Registers are exchanged in words.
const WORD: usize = 8;
/// Where `user_regs_struct` has the segment bases.
const FS_BASE: usize = 21 * WORD;
const GS_BASE: usize = 22 * WORD;

/// Codes of arch_prctl(2).
const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;
const ARCH_GET_GS: u64 = 0x1004;

/// `struct iovec`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct IoVec {
    base: u64,
    len: u64,
}

/// The number of the debug register at an offset in `struct user`.
fn debug_register(offset: u64) -> Option<usize> {
    let at = offset.checked_sub(DEBUG_REGISTERS.start).filter(|_| offset < DEBUG_REGISTERS.end)?;
    usize::try_from(at / WORD as u64).ok()
}

impl Call<'_, '_> {
    fn snapshot<T>(&self, look: impl FnOnce(&mut Snapshot) -> Result<T, Errno>) -> Result<T, Errno> {
        self.stopped(|stop| look(&mut stop.snapshot))
    }

    /// The offset in `struct user` that a PEEKUSER or POKEUSER is about.
    fn user_offset(&self) -> Result<u64, Errno> {
        let offset = self.address.0;
        if offset.is_multiple_of(8) && offset < USER_BYTES { Ok(offset) } else { Err(Errno::EIO) }
    }

    pub(super) fn peek_user(&self) -> Result<u64, Errno> {
        let offset = self.user_offset()?;
        if let Some(number) = debug_register(offset) {
            self.stopped(|_| Ok(()))?;
            return self.put(&self.state(|state| state.debug.get(number)).to_le_bytes());
        }
        let word = self.snapshot(|snapshot| {
            let at = usize::try_from(offset).unwrap_or(usize::MAX);
            let word = snapshot.user.as_bytes().get(at..at + WORD);
            // What lies beyond the registers is always 0.
            Ok(word.map_or([0; WORD], |word| word.try_into().unwrap_or_default()))
        })?;
        self.put(&word)
    }

    pub(super) fn poke_user(&self) -> Result<u64, Errno> {
        let offset = self.user_offset()?;
        if let Some(number) = debug_register(offset) {
            let traps = self.snapshot(|snapshot| Ok(snapshot.traps_at_addresses))?;
            let mut debug = self.state(|state| state.debug);
            debug.set(number, self.data)?;
            if debug.needs_processor() && !traps {
                return Err(self.task.unsupported("ptrace: watching what is read", Errno::EINVAL));
            }
            self.state(|state| state.debug = debug);
            return Ok(0);
        }
        let at = usize::try_from(offset).map_err(|_| Errno::EIO)?;
        self.snapshot(|snapshot| snapshot.set_general(at, &self.data.to_le_bytes()))?;
        Ok(0)
    }

    pub(super) fn general_registers(&self) -> Result<u64, Errno> {
        let user = self.snapshot(|snapshot| Ok(snapshot.user))?;
        self.put(user.as_bytes())
    }

    pub(super) fn set_general_registers(&self) -> Result<u64, Errno> {
        let bytes = self.get::<USER_REGISTERS_BYTES>()?;
        self.snapshot(|snapshot| snapshot.set_general(0, &bytes))?;
        Ok(0)
    }

    pub(super) fn legacy_registers(&self) -> Result<u64, Errno> {
        let image = self.snapshot(|snapshot| Ok(snapshot.xsave[..FXSAVE_BYTES].to_vec()))?;
        self.put(&image)
    }

    pub(super) fn set_legacy_registers(&self) -> Result<u64, Errno> {
        let image = self.get::<FXSAVE_BYTES>()?;
        self.snapshot(|snapshot| {
            snapshot.set_legacy(&image);
            Ok(0)
        })
    }

    /// PTRACE_GETREGSET: as much of a set as the caller has room for; it learns how much (ptrace_regset).
    pub(super) fn register_set(&self) -> Result<u64, Errno> {
        let (vector, bytes) = self.set_and_vector()?;
        let len = usize::try_from(vector.len).unwrap_or(usize::MAX).min(bytes.len());
        self.task.mm().write(UserAddr(vector.base), &bytes[..len])?;
        self.tell_length(vector, len)
    }

    pub(super) fn set_register_set(&self) -> Result<u64, Errno> {
        let (vector, bytes) = self.set_and_vector()?;
        let len = usize::try_from(vector.len).unwrap_or(usize::MAX).min(bytes.len());
        let mut new = vec![0; len];
        self.task.mm().read(UserAddr(vector.base), &mut new)?;
        self.snapshot(|snapshot| match self.address.0 {
            GENERAL => snapshot.set_general(0, &new),
            LEGACY => {
                snapshot.set_legacy(&new);
                Ok(())
            }
            _ => snapshot.set_extended(&new),
        })?;
        self.tell_length(vector, len)
    }

    /// The caller's iovec, and the set that it names; `EINVAL` for one that there is not, and for lengths that are not words.
    fn set_and_vector(&self) -> Result<(IoVec, Vec<u8>), Errno> {
        let vector = UserInOut::<IoVec>::new(UserAddr(self.data)).read(self.task)?;
        let bytes = self.snapshot(|snapshot| {
            Ok(match self.address.0 {
                GENERAL => snapshot.user.as_bytes().to_vec(),
                LEGACY => snapshot.xsave[..FXSAVE_BYTES].to_vec(),
                EXTENDED => snapshot.extended(),
                _ => return Err(Errno::EINVAL),
            })
        })?;
        if !vector.len.is_multiple_of(WORD as u64) {
            return Err(Errno::EINVAL);
        }
        Ok((vector, bytes))
    }

    fn tell_length(&self, vector: IoVec, len: usize) -> Result<u64, Errno> {
        UserOut::new(UserAddr(self.data)).write(self.task, &IoVec { len: len as u64, ..vector })?;
        Ok(0)
    }

    /// PTRACE_ARCH_PRCTL: as arch_prctl(2) would do in the tracee; the code is in `data`, the rest in `addr`.
    pub(super) fn segment_base(&self) -> Result<u64, Errno> {
        let set = |at: usize| self.snapshot(|snapshot| snapshot.set_general(at, &self.address.0.to_le_bytes()));
        let user = self.snapshot(|snapshot| Ok(snapshot.user))?;
        let get = |value: u64| UserOut::new(self.address).write(self.task, &value);
        match self.data {
            ARCH_GET_FS => get(user.fs_base)?,
            ARCH_GET_GS => get(user.gs_base)?,
            ARCH_SET_FS => set(FS_BASE).map_err(|_| Errno::EPERM)?,
            ARCH_SET_GS => set(GS_BASE).map_err(|_| Errno::EPERM)?,
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    }
}
