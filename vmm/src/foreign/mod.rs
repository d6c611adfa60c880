//! Providers that come as shared objects: who may be loaded, and the contract in the C ABI.
//!
//! | module | what it knows |
//! |---|---|
//! | `text` | the text form of keys and signatures |
//! | `keys` | Ed25519 keys, their usages, the ring of trusted ones |
//! | `signature` | what a signature says, and whether it is good |
//! | `object` | a shared object in sealed memory, verified before anything else looks at it |

mod keys;
mod object;
mod signature;
mod text;

pub use keys::{KeyError, Keyring, PROVIDER_USAGE, PublicKey, SecretKey, Usage, read_secret_key};
pub use object::{OBJECT_MAX, VerifiedObject, VerifyError, read_object, signature_path};
pub use signature::{Signature, SignatureError, Statement};
pub use text::TextError;
