//! Loading a provider: from a file that a trusted key vouches for to the one provider of a host.

use super::abi::{self, Register, Registration, status};
use super::elf::{self, Constant};
use super::keys::{Keyring, Usage};
use super::library::{self, Library};
use super::object::{VerifiedObject, VerifyError};
use super::provider::Adapter;
use super::routines::{ForeignHost, ROUTINES};
use super::signature::Statement;
use super::tables::{Callbacks, TableError};
use crate::pico::{Claim, Host, ProtectedRange, RegisterError, SubsystemType};
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

/// Why a provider was not loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The host takes no provider any more.
    #[error("{0}")]
    Register(#[from] RegisterError),
    /// No trusted key vouches for the object.
    #[error("{0}")]
    Verify(#[from] VerifyError),
    /// It is signed, but it is not a shared object for this processor.
    #[error("it is not a shared object for x86-64")]
    NotAnObject,
    /// It needs a library that is not in the process yet: the signature says nothing about that library.
    #[error("it needs {0}, which is not part of what was signed; link it in")]
    NeedsLibrary(String),
    /// The dynamic linker refused it.
    #[error("it cannot be loaded: {0}")]
    Link(String),
    /// It does not export [`ENTRY`].
    #[error("it has no entry: it does not export {}", ENTRY.to_string_lossy())]
    NoEntry,
    /// It refused to register.
    #[error("it refused to register, with status {0}")]
    Refused(i32),
    /// Its table of callbacks is not acceptable.
    #[error("its table of callbacks is not acceptable: {0}")]
    Table(#[from] TableError),
    /// The host gave no memory to seal the table in.
    #[error("memory for the table of callbacks: {0}")]
    Memory(std::io::Error),
}

/// The symbol that every provider's object exports: a `pico_provider_register` as `include/pico.h` has it.
pub const ENTRY: &std::ffi::CStr = c"pico_provider_register";

/// The provider did not do what it was asked to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    /// It has no `Start`.
    #[error("the provider has nothing to start")]
    Absent,
    /// It tried, and gave this status.
    #[error("the provider could not start, with status {0}")]
    Failed(i32),
}

/// A provider that was loaded and is in charge of its host.
///
/// Its code stays in the process for good, whatever happens to this or to the host: nobody can tell when the last thread
/// has left it, or what it has left behind.
#[derive(Debug)]
pub struct ForeignProvider {
    pub(super) host: &'static ForeignHost,
    pub(super) statement: Option<Statement>,
}

/// Loads a provider for `host` from a file that a key of `ring` vouches for, and registers it. `parameters` are between
/// the provider and whoever configures it.
///
/// # Errors
/// See [`LoadError`]. If any of the object's code has run by then, the host takes no other provider.
pub fn load(host: &Host, path: &Path, ring: &Keyring, parameters: &[u8]) -> Result<ForeignProvider, LoadError> {
    let claim = host.claim()?;
    let object = VerifiedObject::open(path, ring, &Usage::provider())?;
    let needed = elf::needed(object.bytes()).ok_or(LoadError::NotAnObject)?;
    if let Some(name) = needed.into_iter().find(|name| !library::is_loaded(name)) {
        return Err(LoadError::NeedsLibrary(name.to_string_lossy().into_owned()));
    }
    let constants = elf::constants(object.bytes()).ok_or(LoadError::NotAnObject)?;
    let (memory, statement) = object.into_parts();
    claim.code_runs()?;
    // SAFETY: somebody who is trusted to say so has signed exactly these bytes, which nobody can change, for exactly this.
    let library = unsafe { Library::load(memory) }.map_err(LoadError::Link)?;
    let entry = library.symbol(ENTRY).ok_or(LoadError::NoEntry)?;
    // SAFETY: the signer says that the object is a provider: its symbol of this name is a function of this type.
    let register = unsafe { std::mem::transmute::<*mut std::ffi::c_void, Register>(entry.as_ptr()) };
    // From here on the object may have given pointers away.
    library.keep();
    let image = Library::base_of(entry).map(|base| image(base, &constants)).unwrap_or_default();
    // SAFETY: as above.
    let host = unsafe { register_with(host, claim, register, parameters, image) }?;
    Ok(ForeignProvider { host, statement: Some(statement) })
}

/// The constant parts of an object that lies at `base`, and stays there.
fn image(base: usize, constants: &[Constant]) -> Vec<ProtectedRange> {
    let range = |constant: &Constant| {
        let (offset, len) = (usize::try_from(constant.offset).ok()?, usize::try_from(constant.len).ok()?);
        let name = if constant.code { "the code of the foreign provider" } else { "constants of the foreign provider" };
        // SAFETY: the linker has mapped the segment there, readable, and the object is never unloaded.
        Some(unsafe { ProtectedRange::from_raw(name, base.checked_add(offset)?, len) })
    };
    constants.iter().filter_map(range).collect()
}

/// Calls a provider's entry and registers what comes of it.
///
/// `image` is what of the object's own memory is protected.
///
/// # Safety
/// `register` is a provider's entry, as the contract has it.
pub(super) unsafe fn register_with(
    host: &Host,
    claim: Claim<'_>,
    register: Register,
    parameters: &[u8],
    image: Vec<ProtectedRange>,
) -> Result<&'static ForeignHost, LoadError> {
    let foreign: &'static ForeignHost = Box::leak(Box::new(ForeignHost::new(host.link(), image)));
    let mut registration = Registration {
        size: abi::size_of_u64::<Registration>(),
        host: std::ptr::from_ref(foreign).cast(),
        parameters: parameters.as_ptr(),
        parameters_length: parameters.len() as u64,
        routines: std::ptr::null(),
    };
    // SAFETY: the entry, with our table, which is constant, and a registration that lives until it returns.
    let answer = unsafe { register(&raw const ROUTINES, &raw mut registration) };
    if answer != status::OK {
        return Err(LoadError::Refused(answer));
    }
    // SAFETY: the provider's table, as it says.
    let (callbacks, ranges) = unsafe { Callbacks::take(registration.routines) }?;
    let adapter = Adapter::new(callbacks, [ranges, foreign.image().to_vec()].concat()).map_err(LoadError::Memory)?;
    foreign.registers(adapter.callbacks());
    claim.register(Arc::new(adapter))?;
    Ok(foreign)
}

impl ForeignProvider {
    /// What was signed: the personality's name among other things. `None` for one that was linked into the program.
    pub fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }

    /// Which personality it is.
    pub fn subsystem(&self) -> Option<SubsystemType> {
        self.host.callbacks().map(|callbacks| callbacks.subsystem)
    }

    /// Lets the provider begin what it is for. What the request means is between it and the caller.
    pub fn start(&self, request: &[u8]) -> Result<(), StartError> {
        let start = self.host.callbacks().and_then(|callbacks| callbacks.start).ok_or(StartError::Absent)?;
        // SAFETY: the provider's callback, with bytes that live until it returns.
        match unsafe { start(request.as_ptr(), request.len() as u64) } {
            status::OK => Ok(()),
            status => Err(StartError::Failed(status)),
        }
    }
}
