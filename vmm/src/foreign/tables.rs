//! Structures from the other side: how a size-first one is read whatever its size, and what a provider's table must hold.

use super::abi::{self, ProviderRoutines, SizeFirst};
use crate::pico::{ProtectedRange, SubsystemType};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use thiserror::Error;

/// Why a structure of a provider's was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TableError {
    /// There is none, or it is not where one can be.
    #[error("it is at no address, or at one that is out of line")]
    Nowhere,
    /// It is smaller than the contract's minimum.
    #[error("it has {size} bytes; the least is {minimum}")]
    TooSmall {
        /// What it says.
        size: u64,
        /// What it would have to say.
        minimum: usize,
    },
    /// It is of another version of the contract.
    #[error("it is of version {found} of the contract; this host has version {}", abi::VERSION)]
    Version {
        /// What it says.
        found: u32,
    },
    /// A callback that every provider has is missing.
    #[error("the callback {0} is missing")]
    Missing(&'static str),
    /// The number of its personality is that of none.
    #[error("its personality has the number 0")]
    Subsystem,
    /// A protected range is none: no name, no address, no bytes, or behind the end of memory.
    #[error("its protected range {0} is malformed")]
    Range(usize),
}

/// Copies a structure whose maker may know more or fewer fields: what this side lacks is ignored, what that side lacks is
/// zero. The copy's `size` says how much was there.
///
/// # Safety
/// `from` is null, or points to a `u64` that can be read, and that tells how many bytes can be read from there on.
pub(super) unsafe fn read<T: SizeFirst>(from: *const T) -> Result<T, TableError> {
    if from.is_null() || !from.is_aligned() {
        return Err(TableError::Nowhere);
    }
    // SAFETY: the caller says that the size can be read.
    let size = unsafe { from.cast::<u64>().read() };
    if size < T::MINIMUM as u64 {
        return Err(TableError::TooSmall { size, minimum: T::MINIMUM });
    }
    let known = usize::try_from(size).unwrap_or(usize::MAX).min(size_of::<T>());
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: the source has `size` bytes, as the caller says, and the copy has room for a `T`; they don't overlap.
    unsafe { copy.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(from.cast(), known) };
    // SAFETY: `SizeFirst`: zeros are a value of each field, and what was copied are that type's own bytes.
    Ok(unsafe { copy.assume_init() })
}

/// A provider's callbacks: those of the minimum are there.
#[derive(Debug)]
pub(super) struct Callbacks {
    pub(super) subsystem: SubsystemType,
    pub(super) dispatch_system_call: abi::Dispatch,
    pub(super) dispatch_exception: abi::DispatchException,
    pub(super) exit_thread: abi::Exit,
    pub(super) exit_process: abi::Exit,
    pub(super) terminate_process: abi::About,
    pub(super) walk_user_stack: abi::Walk,
    pub(super) process_image_name: abi::WriteBytes,
    pub(super) open_process_allowed_access: abi::AllowedAccess,
    pub(super) open_thread_allowed_access: abi::AllowedAccess,
    pub(super) dispatch_kick: Option<abi::Dispatch>,
    pub(super) dispatch_io_fault: Option<abi::DispatchIoFault>,
    pub(super) process_details: Option<abi::GetDetails>,
    pub(super) process_command: Option<abi::WriteBytes>,
    pub(super) thread_name: Option<abi::WriteBytes>,
    pub(super) thread_number: Option<abi::GetNumber>,
    pub(super) release_process_context: Option<abi::About>,
    pub(super) release_thread_context: Option<abi::About>,
    pub(super) start: Option<abi::Start>,
}

impl Callbacks {
    /// Takes a provider's table, and what it wants protected.
    ///
    /// # Safety
    /// As for [`read`]; and the table's pointers are what the contract says.
    pub(super) unsafe fn take(from: *const ProviderRoutines) -> Result<(Self, Vec<ProtectedRange>), TableError> {
        // SAFETY: passed on to the caller.
        let table = unsafe { read(from) }?;
        if table.version != abi::VERSION {
            return Err(TableError::Version { found: table.version });
        }
        let missing = TableError::Missing;
        let callbacks = Self {
            subsystem: match table.subsystem {
                0 => return Err(TableError::Subsystem),
                abi::SUBSYSTEM_LINUX => SubsystemType::Linux,
                other => SubsystemType::Other(other),
            },
            dispatch_system_call: table.dispatch_system_call.ok_or(missing("DispatchSystemCall"))?,
            dispatch_exception: table.dispatch_exception.ok_or(missing("DispatchException"))?,
            exit_thread: table.exit_thread.ok_or(missing("ExitThread"))?,
            exit_process: table.exit_process.ok_or(missing("ExitProcess"))?,
            terminate_process: table.terminate_process.ok_or(missing("TerminateProcess"))?,
            walk_user_stack: table.walk_user_stack.ok_or(missing("WalkUserStack"))?,
            process_image_name: table.process_image_name.ok_or(missing("GetAllocatedProcessImageName"))?,
            open_process_allowed_access: table
                .open_process_allowed_access
                .ok_or(missing("OpenProcessAllowedAccess"))?,
            open_thread_allowed_access: table.open_thread_allowed_access.ok_or(missing("OpenThreadAllowedAccess"))?,
            dispatch_kick: table.dispatch_kick,
            dispatch_io_fault: table.dispatch_io_fault,
            process_details: table.process_details,
            process_command: table.process_command,
            thread_name: table.thread_name,
            thread_number: table.thread_number,
            release_process_context: table.release_process_context,
            release_thread_context: table.release_thread_context,
            start: table.start,
        };
        // SAFETY: the table's pointer and count, of which the caller answers for.
        let ranges = unsafe { protected_ranges(table.protected_ranges, table.protected_range_count) }?;
        Ok((callbacks, ranges))
    }
}

/// Bytes of a protected range's name at the most.
const RANGE_NAME_MAX: usize = 64;
/// Protected ranges at the most.
const RANGES_MAX: u64 = 64;

/// Takes a provider's protected ranges.
///
/// # Safety
/// `from` is null, or points to `count` ranges; their names are null or end with a zero byte; the ranges can be read for as
/// long as the monitor runs.
unsafe fn protected_ranges(from: *const abi::CProtectedRange, count: u64) -> Result<Vec<ProtectedRange>, TableError> {
    if count > RANGES_MAX {
        return Err(TableError::Range(usize::try_from(RANGES_MAX).unwrap_or(usize::MAX)));
    }
    let count = usize::try_from(count).unwrap_or_default();
    if count > 0 && (from.is_null() || !from.is_aligned()) {
        return Err(TableError::Range(0));
    }
    let range = |index| {
        // SAFETY: within the `count` that the caller answers for.
        let range = unsafe { from.wrapping_add(index).read() };
        let (address, len) = (range.address.addr(), usize::try_from(range.length).unwrap_or(usize::MAX));
        let bad = range.name.is_null() || address == 0 || len == 0 || address.checked_add(len).is_none();
        if bad {
            return Err(TableError::Range(index));
        }
        // SAFETY: it is not null, so it ends with a zero byte, as the caller says.
        let name = unsafe { CStr::from_ptr(range.name) }.to_string_lossy();
        if name.is_empty() || name.len() > RANGE_NAME_MAX {
            return Err(TableError::Range(index));
        }
        // SAFETY: the caller says that it can be read for as long as the monitor runs.
        Ok(unsafe { ProtectedRange::from_raw(name.into_owned(), address, len) })
    };
    (0..count).map(range).collect()
}
