//! Protection of what an attacker would want to change: tables that traps are dispatched through, and the code behind them.
//!
//! Windows guards its pico providers' callback tables with Kernel Patch Protection: they are checked while the system runs, and
//! a mismatch stops the machine with bug check 0x109. Here:
//!
//! | what | kept from being changed by | found changed by |
//! |---|---|---|
//! | callback table of the host | read-only memory of its own, sealed | digest |
//! | tables that a provider names ([`ProtectedRange`](crate::pico::ProtectedRange)) | lying in the monitor's image | digest |
//! | text, constants and relocated constants of the monitor's image | read-only mappings, sealed | pages that are no longer the file's; digest |
//! | trap code, descriptor tables, task-state segments | read-only in the guest, for ring 0 too; read-only and sealed in the monitor | digest |
//! | the tables that map them | being mapped nowhere in the guest | comparison with what they were made as |
//! | constant objects in guest memory (a vDSO) | copy-on-write mappings | comparison with what they were made from |
//! | the digests | read-only memory of their own, sealed | – |
//!
//! - [`Sealed`]: a value in such memory.
//! - `image`: what the loader mapped.
//! - `Integrity`: the check, all at once or a slice at a time; a [`Corruption`] is what it finds.
//!
//! What a check finds ends in [`crate::bugcheck`]. Locks here are leaves.

mod corruption;
mod image;
mod integrity;
mod sealed;

pub use corruption::Corruption;
pub use image::{load_image, seal_image};
pub use integrity::{Failure, Verified};
pub use sealed::{Sealed, Sealing};

pub(crate) use integrity::{Guarded, Integrity};
pub(crate) use sealed::make_read_only;
