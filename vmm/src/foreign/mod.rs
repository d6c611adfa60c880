//! Providers that come as shared objects: who may be loaded, and the contract in the C ABI.
//!
//! | module | what it knows |
//! |---|---|
//! | `text` | the text form of keys and signatures |
//! | `keys` | Ed25519 keys, their usages, the ring of trusted ones |
//! | `signature` | what a signature says, and whether it is good |
//! | `object` | a shared object in sealed memory, verified before anything else looks at it |
//! | `elf`, `library` | what the object needs; the dynamic linker |
//! | `abi` | the structures of `include/pico.h` |
//! | `tables` | reading structures whatever their size; a provider's callbacks |
//! | `context`, `frame`, `visit` | what crosses the C ABI: a provider's contexts, references, trap frames, stack frames |
//! | `contexts` | routines that read and change processor state |
//! | `routines` | the host's table |
//! | `provider` | a provider's table as a [`Provider`](crate::pico::Provider) |
//! | `load` | all of it in its order |
//!
//! A foreign provider is part of the monitor once it runs: it can do whatever the monitor can, and a wrong pointer of its
//! takes the monitor down. That is what the signature is for; nothing here defends against code that was let in. No code
//! of an object runs before its signature was verified, and none of a library that was not in the process already.

mod abi;
mod context;
mod contexts;
mod elf;
mod frame;
mod keys;
mod library;
mod load;
mod object;
mod provider;
mod routines;
mod signature;
mod tables;
#[cfg(test)]
mod tests;
mod text;
mod visit;

pub use abi::VERSION;
pub use keys::{KeyError, Keyring, PROVIDER_USAGE, PublicKey, SecretKey, Usage, read_secret_key};
pub use load::{ENTRY, ForeignProvider, LoadError, StartError, load};
pub use object::{OBJECT_MAX, VerifiedObject, VerifyError, read_object, signature_path};
pub use signature::{Signature, SignatureError, Statement};
pub use tables::TableError;
pub use text::TextError;
