//! What runs inside the virtual machine, and the constants both sides share.
//!
//! The images are programs of their own, built by this crate's build script with the ordinary compiler and embedded
//! here. Nothing else ever runs in the guest but the sandboxed program itself.
#![no_std]

pub mod chacha;
pub mod clock;
pub mod layout;
pub mod random;
pub mod vdso;

/// The trap image: an ELF file for [`layout::IMAGE_BASE`].
pub static TRAP_IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/trap"));

/// The vDSO: an ELF shared object of one segment at address 0, smaller than two pages. Its pages are to be readable and
/// executable, and the page before them is to be the [`clock::ClockPage`], readable.
pub static VDSO_IMAGE: &[u8] = {
    static IMAGE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/vdso")));
    &IMAGE.0
};
const _: () = assert!(VDSO_IMAGE.len() <= 2 * 4096);

/// Bytes at an address where ELF headers may be looked at in place.
#[repr(align(8))]
struct Aligned<T: ?Sized>(T);
