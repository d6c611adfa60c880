//! What runs inside the virtual machine, and the constants both sides share.
//!
//! The images are programs of their own, built by this crate's build script with the ordinary compiler and embedded
//! here. Nothing else ever runs in the guest but the sandboxed program itself.
#![no_std]

pub mod layout;

/// The trap image: an ELF file for [`layout::IMAGE_BASE`].
pub static TRAP_IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/trap"));
