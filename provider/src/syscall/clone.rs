//! clone, clone3, fork, vfork: what they ask for, in one form.

use super::args::{Arg, ShownCall};
use crate::errno::Errno;
use crate::signal::Signal;
use crate::task::{CloneFlags, CloneRequest, CurrentTask, Pid};
use crate::user::UserIn;
use std::fmt::Write;
use vmm::addr::{USER_END, UserAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The part of clone's flags that is the signal for the child's end (CSIGNAL).
const SIGNAL_MASK: u64 = 0xff;

/// Flags of clone, with the signal in the low byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawCloneFlags(u64);

impl Arg for RawCloneFlags {
    fn decode(raw: u64) -> Self {
        // The legacy call has 32 bits.
        Self(raw & u64::from(u32::MAX))
    }
    fn show(call: &ShownCall<'_>, index: usize, out: &mut String) {
        let raw = Self::decode(call.args[index]).0;
        let flags = CloneFlags::from_bits_retain(raw & !SIGNAL_MASK);
        let mut names: Vec<String> = flags.iter_names().map(|(name, _)| format!("CLONE_{name}")).collect();
        let rest = flags.difference(CloneFlags::all()).bits();
        if rest != 0 {
            names.push(format!("{rest:#x}"));
        }
        let signal = raw & SIGNAL_MASK;
        match i32::try_from(signal).ok().and_then(Signal::from_raw) {
            Some(signal) => names.push(signal.to_string()),
            None if signal != 0 => names.push(signal.to_string()),
            None => {}
        }
        out.push_str(if names.is_empty() { "0" } else { "" });
        let _ = write!(out, "{}", names.join("|"));
    }
}

fn request(flags: CloneFlags, exit_signal: i32) -> CloneRequest {
    let none = UserAddr(0);
    CloneRequest {
        flags,
        exit_signal,
        stack: None,
        tls: 0,
        parent_tid: none,
        child_tid: none,
        pidfd: none,
        wanted: None,
    }
}

pub(super) fn clone(
    task: &mut CurrentTask<'_>,
    raw: RawCloneFlags,
    stack: UserAddr,
    parent_tid: UserAddr,
    child_tid: UserAddr,
    tls: u64,
) -> Result<Pid, Errno> {
    let flags = CloneFlags::from_bits_retain(raw.0 & !SIGNAL_MASK);
    // The low byte: at most 255.
    let exit_signal = i32::try_from(raw.0 & SIGNAL_MASK).unwrap_or_default();
    let stack = Some(stack).filter(|stack| stack.0 != 0);
    // The descriptor's place is the same argument as the child's number's.
    let request = CloneRequest { stack, tls, parent_tid, child_tid, pidfd: parent_tid, ..request(flags, exit_signal) };
    task.spawn(&request)
}

pub(super) fn fork(task: &mut CurrentTask<'_>) -> Result<Pid, Errno> {
    task.spawn(&request(CloneFlags::empty(), Signal::SIGCHLD.raw()))
}

pub(super) fn vfork(task: &mut CurrentTask<'_>) -> Result<Pid, Errno> {
    task.spawn(&request(CloneFlags::VFORK | CloneFlags::VM, Signal::SIGCHLD.raw()))
}

/// `struct clone_args`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Bytes of the first version of the structure (CLONE_ARGS_SIZE_VER0), and of the one with `cgroup`.
const FIRST_SIZE: usize = 64;
const CGROUP_SIZE: usize = 88;
/// Levels of process-number namespaces (MAX_PID_NS_LEVEL); we have one.
const LEVELS: u64 = 32;

pub(super) fn clone3(task: &mut CurrentTask<'_>, at: UserAddr, size: usize) -> Result<Pid, Errno> {
    let args = read_args(task, at, size)?;
    if args.set_tid_size > LEVELS || (args.set_tid == 0) != (args.set_tid_size == 0) {
        return Err(Errno::EINVAL);
    }
    let exit_signal = i32::try_from(args.exit_signal).map_err(|_| Errno::EINVAL)?;
    if exit_signal != 0 && Signal::from_raw(exit_signal).is_none() {
        return Err(Errno::EINVAL);
    }
    let flags = CloneFlags::from_bits(args.flags).ok_or(Errno::EINVAL)?;
    if flags.contains(CloneFlags::INTO_CGROUP) && (i32::try_from(args.cgroup).is_err() || size < CGROUP_SIZE) {
        return Err(Errno::EINVAL);
    }
    let mut wanted = Vec::new();
    for level in 0..args.set_tid_size {
        let mut number = [0; 4];
        let at = args.set_tid.checked_add(level * 4).ok_or(Errno::EFAULT)?;
        task.mm().read(UserAddr(at), &mut number)?;
        wanted.push(Pid(i32::from_le_bytes(number)));
    }
    check_args(flags, &args)?;
    if wanted.len() > 1 {
        // More levels than we have.
        return Err(Errno::EINVAL);
    }
    let stack = (args.stack != 0).then(|| UserAddr(args.stack.wrapping_add(args.stack_size)));
    let request = CloneRequest {
        stack,
        tls: args.tls,
        parent_tid: UserAddr(args.parent_tid),
        child_tid: UserAddr(args.child_tid),
        pidfd: UserAddr(args.pidfd),
        wanted: wanted.first().copied(),
        ..request(flags, exit_signal)
    };
    task.spawn(&request)
}

/// Reads the structure in the size that the program has (copy_clone_args_from_user).
fn read_args(task: &CurrentTask<'_>, at: UserAddr, size: usize) -> Result<CloneArgs, Errno> {
    UserIn::new(at).read_sized(task, size, FIRST_SIZE)
}

/// What clone3 forbids besides clone (clone3_args_valid).
fn check_args(flags: CloneFlags, args: &CloneArgs) -> Result<(), Errno> {
    let both = CloneFlags::SIGHAND | CloneFlags::CLEAR_SIGHAND;
    let of_parent = flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT);
    let stack = match args.stack {
        0 => args.stack_size == 0,
        start => args.stack_size != 0 && start.checked_add(args.stack_size).is_some_and(|end| end <= USER_END),
    };
    let wrong =
        flags.contains(CloneFlags::DETACHED) || flags.contains(both) || of_parent && args.exit_signal != 0 || !stack;
    if wrong { Err(Errno::EINVAL) } else { Ok(()) }
}
