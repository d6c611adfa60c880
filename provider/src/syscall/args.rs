//! Argument decoding: total, and truncating as Linux's entry code does (an `int` ignores the upper half of its register).
//!
//! A handler names the type it wants; validation is the handler's own first lines, so that the order of errors is Linux's.

use super::handler::RawArgs;
use crate::errno::Errno;
use crate::fs::{Fd, OpenFlags};
use crate::mm::MemoryMap;
use crate::task::Pid;
use crate::user::{UserCStr, UserIn, UserInOut, UserOut};
use std::fmt::Write;
use vmm::addr::UserAddr;

/// A call as the trace sees it.
#[derive(Debug)]
pub struct ShownCall<'a> {
    /// The raw arguments.
    pub args: RawArgs,
    /// What the call returned; `None` while it has not, or when it does not return.
    pub result: Option<Result<u64, Errno>>,
    /// The caller's memory; `None` once it is gone.
    pub memory: Option<&'a MemoryMap>,
}

/// Appends the argument at an index to a trace line.
pub type ShowArg = fn(&ShownCall<'_>, usize, &mut String);

/// A type that a handler may take as an argument.
pub trait Arg: Sized {
    /// Makes the value from the register.
    fn decode(raw: u64) -> Self;
    /// Shows it in a trace line, as strace would.
    fn show(call: &ShownCall<'_>, index: usize, out: &mut String) {
        show_hex(call.args[index], out);
    }
}

/// Appends a number in hexadecimal; 0 as `0`.
pub fn show_hex(value: u64, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = if value == 0 { write!(out, "0") } else { write!(out, "{value:#x}") };
}

/// Appends an address; 0 as `NULL`.
pub fn show_address(value: u64, out: &mut String) {
    if value == 0 {
        out.push_str("NULL");
    } else {
        show_hex(value, out);
    }
}

/// The low half of a register.
#[expect(clippy::cast_possible_truncation, reason = "the entry code of Linux truncates here, too")]
const fn low(raw: u64) -> u32 {
    raw as u32
}

macro_rules! decimal {
    ($($type:ty: $raw:ident => $decode:expr;)*) => {
        $(impl Arg for $type {
            fn decode($raw: u64) -> Self {
                $decode
            }
            fn show(call: &ShownCall<'_>, index: usize, out: &mut String) {
                let _ = write!(out, "{}", Self::decode(call.args[index]));
            }
        })*
    };
}

decimal! {
    i32: raw => low(raw).cast_signed();
    u32: raw => low(raw);
    i64: raw => raw.cast_signed();
    u64: raw => raw;
    usize: raw => usize::try_from(raw).unwrap_or(usize::MAX);
}

impl Arg for Pid {
    fn decode(raw: u64) -> Self {
        Self(i32::decode(raw))
    }
    fn show(call: &ShownCall<'_>, index: usize, out: &mut String) {
        i32::show(call, index, out);
    }
}

impl Arg for Fd {
    fn decode(raw: u64) -> Self {
        Self(i32::decode(raw))
    }
    fn show(call: &ShownCall<'_>, index: usize, out: &mut String) {
        match i32::decode(call.args[index]) {
            linux_raw_sys::general::AT_FDCWD => out.push_str("AT_FDCWD"),
            _ => i32::show(call, index, out),
        }
    }
}

impl Arg for UserAddr {
    fn decode(raw: u64) -> Self {
        Self(raw)
    }
    fn show(call: &ShownCall<'_>, index: usize, out: &mut String) {
        show_address(call.args[index], out);
    }
}

macro_rules! pointer {
    ($($type:ident)*) => {
        $(impl<T> Arg for $type<T> {
            fn decode(raw: u64) -> Self {
                Self::new(UserAddr(raw))
            }
            fn show(call: &ShownCall<'_>, index: usize, out: &mut String) {
                show_address(call.args[index], out);
            }
        })*
    };
}
pointer!(UserIn UserOut UserInOut);

impl Arg for UserCStr {
    fn decode(raw: u64) -> Self {
        Self(UserAddr(raw))
    }
    fn show(call: &ShownCall<'_>, index: usize, out: &mut String) {
        show_string(call, UserAddr(call.args[index]), out);
    }
}

/// A buffer that the call reads; the next argument is its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytesIn(pub UserAddr);

impl Arg for BytesIn {
    fn decode(raw: u64) -> Self {
        Self(UserAddr(raw))
    }
    fn show(call: &ShownCall<'_>, index: usize, out: &mut String) {
        let len = call.args.get(index + 1).copied().unwrap_or(0);
        show_bytes(call, UserAddr(call.args[index]), len, out);
    }
}

/// A buffer that the call fills; its return value is the length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytesOut(pub UserAddr);

impl Arg for BytesOut {
    fn decode(raw: u64) -> Self {
        Self(UserAddr(raw))
    }
    fn show(call: &ShownCall<'_>, index: usize, out: &mut String) {
        match call.result {
            Some(Ok(len)) => show_bytes(call, UserAddr(call.args[index]), len, out),
            _ => show_address(call.args[index], out),
        }
    }
}

/// Permission bits of a file; shown in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Arg for FileMode {
    fn decode(raw: u64) -> Self {
        Self(low(raw))
    }
    fn show(call: &ShownCall<'_>, index: usize, out: &mut String) {
        match low(call.args[index]) {
            0 => out.push('0'),
            mode => {
                let _ = write!(out, "0{mode:03o}");
            }
        }
    }
}

/// Makes a bitflags type of 32 bits an [`Arg`]; bits without a name are kept and shown as a number.
macro_rules! flags_arg {
    ($($type:ty => $prefix:literal;)*) => {
        $(impl $crate::syscall::args::Arg for $type {
            fn decode(raw: u64) -> Self {
                Self::from_bits_retain($crate::syscall::args::Arg::decode(raw))
            }
            fn show(call: &$crate::syscall::args::ShownCall<'_>, index: usize, out: &mut String) {
                let flags = <Self as $crate::syscall::args::Arg>::decode(call.args[index]);
                let names = flags.iter_names().map(|(name, _)| name);
                let rest = flags.difference(Self::all()).bits();
                $crate::syscall::args::show_flags($prefix, names, u64::from(rest), out);
            }
        })*
    };
}
pub(crate) use flags_arg;

/// Appends flags as `PREFIX_A|PREFIX_B|0x100`.
pub fn show_flags<'a>(prefix: &str, names: impl Iterator<Item = &'a str>, rest: u64, out: &mut String) {
    let before = out.len();
    for name in names {
        if out.len() > before {
            out.push('|');
        }
        out.push_str(prefix);
        out.push_str(name);
    }
    if rest != 0 || out.len() == before {
        if out.len() > before {
            out.push('|');
        }
        show_hex(rest, out);
    }
}

impl Arg for OpenFlags {
    fn decode(raw: u64) -> Self {
        Self::from_bits_retain(low(raw))
    }
    fn show(call: &ShownCall<'_>, index: usize, out: &mut String) {
        let flags = Self::decode(call.args[index]);
        out.push_str(match flags.bits() & 3 {
            0 => "O_RDONLY",
            1 => "O_WRONLY",
            2 => "O_RDWR",
            _ => "O_ACCMODE",
        });
        let others = flags.difference(Self::WRONLY | Self::RDWR);
        if !others.is_empty() {
            out.push('|');
            let rest = others.difference(Self::all()).bits();
            show_flags("O_", others.iter_names().map(|(name, _)| name), u64::from(rest), out);
        }
    }
}

/// Bytes of a string or buffer that a trace line shows, as strace's default.
const SHOWN_BYTES: usize = 32;

fn show_string(call: &ShownCall<'_>, at: UserAddr, out: &mut String) {
    let mut bytes = [0; SHOWN_BYTES + 1];
    let Some(got) = call.memory.and_then(|memory| memory.read_partial(at, &mut bytes).ok()) else {
        return show_address(at.0, out);
    };
    let bytes = bytes.get(..got).unwrap_or_default();
    let end = bytes.iter().position(|byte| *byte == 0);
    match end {
        Some(end) => show_quoted(&bytes[..end], false, out),
        None if got > SHOWN_BYTES => show_quoted(&bytes[..SHOWN_BYTES], true, out),
        None => show_address(at.0, out),
    }
}

fn show_bytes(call: &ShownCall<'_>, at: UserAddr, len: u64, out: &mut String) {
    let shown = usize::try_from(len).map_or(SHOWN_BYTES, |len| len.min(SHOWN_BYTES));
    let mut bytes = [0; SHOWN_BYTES];
    match call.memory.map(|memory| memory.read_partial(at, &mut bytes[..shown])) {
        Some(Ok(got)) if got == shown => show_quoted(&bytes[..shown], len > shown as u64, out),
        _ => show_address(at.0, out),
    }
}

/// Appends bytes in C's quoting, with `...` if there are more.
pub fn show_quoted(bytes: &[u8], more: bool, out: &mut String) {
    out.push('"');
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x0b => out.push_str("\\v"),
            0x0c => out.push_str("\\f"),
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => {
                // As short as the next character permits, as strace does.
                let digit_follows = bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
                let _ = if digit_follows { write!(out, "\\{byte:03o}") } else { write!(out, "\\{byte:o}") };
            }
        }
    }
    out.push('"');
    if more {
        out.push_str("...");
    }
}
