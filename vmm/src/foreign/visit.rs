//! Visitors of stack frames in both directions: ours for foreign code to call, and theirs for us.

use super::abi::{self, Visitor, found};
use super::tables;
use crate::addr::UserAddr;
use crate::pico::walk::{Found, Place, StackFrame, Visit};
use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;

/// Bytes of a name at the most.
const NAME_MAX: u64 = 4096;

/// A visitor of the host's, as foreign code sees it.
#[repr(C)]
struct Ours<'a, 'b> {
    visitor: Visitor,
    visit: &'a mut Visit<'b>,
    /// Foreign code need not stop where it was told to.
    enough: bool,
}

/// Calls `body` with a visitor that passes frames on to `visit`.
pub(super) fn ours(visit: &mut Visit<'_>, body: impl FnOnce(*mut Visitor)) {
    let visitor = Visitor { size: abi::size_of_u64::<Visitor>(), visit: Some(take) };
    let mut ours = Ours { visitor, visit, enough: false };
    body((&raw mut ours).cast());
}

unsafe extern "C" fn take(visitor: *mut Visitor, frame: *const abi::StackFrame) -> i32 {
    // SAFETY: the contract says that it is the visitor that the callback was given, which is the beginning of an `Ours`.
    let Some(ours) = (unsafe { visitor.cast::<Ours<'_, '_>>().as_mut() }) else { return 1 };
    // SAFETY: the contract.
    let frame = unsafe { tables::read(frame) };
    if let (Ok(frame), false) = (frame, ours.enough) {
        let found = match frame.found {
            found::UNWIND_TABLE => Found::UnwindTable,
            found::FRAME_POINTER => Found::FramePointer,
            _ => Found::Registers,
        };
        // SAFETY: the contract: null, or so many bytes.
        let module = unsafe { place(frame.module, frame.module_size, frame.module_offset) };
        // SAFETY: as above.
        let symbol = unsafe { place(frame.symbol, frame.symbol_size, frame.symbol_offset) };
        let frame = StackFrame { address: UserAddr(frame.address), found, module, symbol };
        ours.enough = (ours.visit)(frame).is_break();
    }
    i32::from(ours.enough)
}

/// A name and an offset.
///
/// # Safety
/// `name` is null or points to `size` bytes.
unsafe fn place(name: *const c_char, size: u64, offset: u64) -> Option<Place> {
    let size = usize::try_from(size.min(NAME_MAX)).ok()?;
    // SAFETY: not null; the caller says that so many bytes are there.
    (!name.is_null())
        .then(|| unsafe { std::slice::from_raw_parts(name.cast::<u8>(), size) }.to_vec())
        .map(|name| Place { name, offset })
}

/// Makes a visitor of foreign code's one that passes frames on to it.
///
/// # Safety
/// `visitor` is null or a visitor as the contract has it, for as long as the result lives.
pub(super) unsafe fn foreign(visitor: *mut Visitor) -> Option<impl FnMut(StackFrame) -> ControlFlow<()>> {
    // SAFETY: passed on to the caller.
    let visit = unsafe { tables::read(visitor) }.ok()?.visit?;
    Some(move |frame: StackFrame| {
        let shown = show(&frame);
        // SAFETY: the provider's function, with its visitor and a frame that lives until it returns.
        let answer = unsafe { visit(visitor, &raw const shown) };
        if answer == 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
}

/// A frame as foreign code sees it. It points into `frame`.
fn show(frame: &StackFrame) -> abi::StackFrame {
    let parts = |place: &Option<Place>| match place {
        Some(place) => (place.name.as_ptr().cast::<c_char>(), place.name.len() as u64, place.offset),
        None => (std::ptr::null::<c_void>().cast(), 0, 0),
    };
    let (module, module_size, module_offset) = parts(&frame.module);
    let (symbol, symbol_size, symbol_offset) = parts(&frame.symbol);
    let found = match frame.found {
        Found::Registers => found::REGISTERS,
        Found::UnwindTable => found::UNWIND_TABLE,
        Found::FramePointer => found::FRAME_POINTER,
    };
    let (size, address) = (abi::size_of_u64::<abi::StackFrame>(), frame.address.0);
    abi::StackFrame {
        size,
        address,
        found,
        reserved: 0,
        module,
        module_size,
        module_offset,
        symbol,
        symbol_size,
        symbol_offset,
    }
}
