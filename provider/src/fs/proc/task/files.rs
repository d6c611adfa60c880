//! The smaller files of a task.

use super::{Scope, Shown};
use crate::errno::Errno;
use crate::task::{INFINITY, NAME_MAX, Resource, TransferCounts};
use std::sync::Arc;

/// The highest value of `oom_score_adj`.
const OOM_ADJUSTMENT_MAX: i32 = 1000;
/// CAP_SYS_NICE
const CAP_SYS_NICE: u32 = 23;
/// CAP_SYS_RESOURCE
const CAP_SYS_RESOURCE: u32 = 24;
/// What user and group id maps show where no user namespace was made.
const IDENTITY: &[u8] = b"         0          0 4294967295\n";
/// The badness that Linux's out-of-memory killer gives a small process without adjustment: two thirds.
const SMALL_BADNESS: i32 = 666;

/// `environ`
pub(super) fn environment(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(shown.task.mm().map(|mm| mm.environment()).unwrap_or_default())
}

/// `auxv`
pub(super) fn auxiliary_vector(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let program = shown.task.mm().and_then(|mm| mm.program());
    Ok(program.map(|program| program.auxv.clone()).unwrap_or_default())
}

/// `cmdline`
pub(super) fn command_line(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(shown.task.mm().map(|mm| mm.command_line()).unwrap_or_default())
}

/// `comm`
pub(super) fn name(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let mut name = shown.task.name();
    name.push(b'\n');
    Ok(name)
}

/// A write to `comm`: as many bytes as fit, a newline among them; only from the same process.
pub(super) fn set_name(shown: &Shown<'_, '_>, bytes: &[u8]) -> Result<(), Errno> {
    if !Arc::ptr_eq(shown.task.group(), shown.reader.group()) {
        return Err(Errno::EINVAL);
    }
    let bytes = &bytes[..bytes.len().min(NAME_MAX)];
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    shown.task.set_name(&bytes[..end]);
    Ok(())
}

/// `personality`
pub(super) fn personality(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(format!("{:08x}\n", shown.task.attributes().personality).into_bytes())
}

/// The lines of `limits`: name, unit, resource.
const LIMITS: &[(&str, &str, Resource)] = &[
    ("Max cpu time", "seconds", Resource::Cpu),
    ("Max file size", "bytes", Resource::FileSize),
    ("Max data size", "bytes", Resource::Data),
    ("Max stack size", "bytes", Resource::Stack),
    ("Max core file size", "bytes", Resource::Core),
    ("Max resident set", "bytes", Resource::ResidentSet),
    ("Max processes", "processes", Resource::Processes),
    ("Max open files", "files", Resource::Files),
    ("Max locked memory", "bytes", Resource::LockedMemory),
    ("Max address space", "bytes", Resource::AddressSpace),
    ("Max file locks", "locks", Resource::Locks),
    ("Max pending signals", "signals", Resource::PendingSignals),
    ("Max msgqueue size", "bytes", Resource::MessageQueues),
    ("Max nice priority", "", Resource::Nice),
    ("Max realtime priority", "", Resource::RealTimePriority),
    ("Max realtime timeout", "us", Resource::RealTimeTime),
];

/// `limits`
pub(super) fn limits(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let value = |limit: u64| if limit == INFINITY { "unlimited".to_owned() } else { limit.to_string() };
    let mut out = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (name, unit, resource) in LIMITS {
        let limit = shown.task.group().limits().get(*resource);
        let unit = if unit.is_empty() { String::new() } else { format!("{unit:<10}") };
        out += &format!("{name:<25} {:<20} {:<20} {unit}\n", value(limit.soft), value(limit.hard));
    }
    Ok(out.into_bytes())
}

/// `cgroup`: the root of the unified hierarchy, which is not mounted.
pub(super) fn control_groups(_shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(b"0::/\n".to_vec())
}

/// `oom_score`
pub(super) fn oom_score(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let adjusted = SMALL_BADNESS + shown.task.group().oom_adjustment() * SMALL_BADNESS / 1000;
    Ok(format!("{}\n", adjusted.max(0)).into_bytes())
}

/// The text of a write without the space around it. A string ends at its NUL, whatever else was written.
fn stored_text(bytes: &[u8]) -> Result<&str, Errno> {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?.trim())
}

/// `oom_score_adj`
pub(super) fn oom_adjustment(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(format!("{}\n", shown.task.group().oom_adjustment()).into_bytes())
}

/// A write to `oom_score_adj`: −1000 to 1000; less than before needs CAP_SYS_RESOURCE.
pub(super) fn set_oom_adjustment(shown: &Shown<'_, '_>, bytes: &[u8]) -> Result<(), Errno> {
    let text = stored_text(bytes)?;
    let adjustment: i32 = text.parse().map_err(|_| Errno::EINVAL)?;
    if !(-1000..=1000).contains(&adjustment) {
        return Err(Errno::EINVAL);
    }
    let group = shown.task.group();
    if adjustment < group.oom_adjustment() && !shown.reader.credentials().has(CAP_SYS_RESOURCE) {
        return Err(Errno::EACCES);
    }
    group.set_oom_adjustment(adjustment);
    Ok(())
}

/// `loginuid`: not set, as for a process that no login has started.
pub(super) fn login_user(_shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(u32::MAX.to_string().into_bytes())
}

/// `sessionid`: likewise.
pub(super) fn login_session(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    login_user(shown)
}

/// `oom_adj`: the older name and scale (−17 to 15) of `oom_score_adj`.
pub(super) fn old_oom_adjustment(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let adjustment = shown.task.group().oom_adjustment();
    let old = if adjustment == OOM_ADJUSTMENT_MAX { 15 } else { adjustment * 17 / OOM_ADJUSTMENT_MAX };
    Ok(format!("{old}\n").into_bytes())
}

/// A write to `oom_adj`.
pub(super) fn set_old_oom_adjustment(shown: &Shown<'_, '_>, bytes: &[u8]) -> Result<(), Errno> {
    let text = stored_text(bytes)?;
    let old: i32 = text.parse().map_err(|_| Errno::EINVAL)?;
    if !(-17..=15).contains(&old) {
        return Err(Errno::EINVAL);
    }
    let adjustment = if old == 15 { OOM_ADJUSTMENT_MAX } else { old * OOM_ADJUSTMENT_MAX / 17 };
    set_oom_adjustment(shown, adjustment.to_string().as_bytes())
}

/// `coredump_filter`: which mappings a core would have, as a mask in hexadecimal; nothing for a task without memory.
pub(super) fn core_filter(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(shown.task.mm().map(|mm| format!("{:08x}\n", mm.core_filter()).into_bytes()).unwrap_or_default())
}

/// A write to `coredump_filter`: a number as C writes them.
pub(super) fn set_core_filter(shown: &Shown<'_, '_>, bytes: &[u8]) -> Result<(), Errno> {
    let text = stored_text(bytes)?;
    let parsed = match (text.strip_prefix("0x"), text.strip_prefix('0')) {
        (Some(digits), _) => u32::from_str_radix(digits, 16),
        (None, Some(digits)) if !digits.is_empty() => u32::from_str_radix(digits, 8),
        _ => text.parse(),
    };
    shown.task.mm().ok_or(Errno::ESRCH)?.set_core_filter(parsed.map_err(|_| Errno::EINVAL)?);
    Ok(())
}

/// `clear_refs`: resets of what accounting there is. Neither referenced nor dirty pages are told apart.
pub(super) fn nothing(_shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Err(Errno::EINVAL)
}

/// A write to `clear_refs`: 1 to 5.
pub(super) fn clear_references(_shown: &Shown<'_, '_>, bytes: &[u8]) -> Result<(), Errno> {
    match bytes.trim_ascii() {
        b"1" | b"2" | b"3" | b"4" | b"5" => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// `timens_offsets`: the clocks are the machine's.
pub(super) fn clock_offsets(_shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(b"monotonic           0         0\nboottime            0         0\n".to_vec())
}

/// `cpuset`: the root.
pub(super) fn cpu_set(_shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(b"/\n".to_vec())
}

/// `arch_status`: when AVX-512 was last used is not known.
pub(super) fn architecture(_shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(b"AVX512_elapsed_ms:\t-1\n".to_vec())
}

/// Another task's timer slack is for those with CAP_SYS_NICE.
fn check_timer_slack(shown: &Shown<'_, '_>) -> Result<(), Errno> {
    let own = Arc::ptr_eq(&shown.task, shown.reader.task());
    if own || shown.reader.credentials().has(CAP_SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
}

/// A write to `timerslack_ns`: of one's own threads, or with CAP_SYS_NICE; 0 is the default.
pub(super) fn set_timer_slack(shown: &Shown<'_, '_>, bytes: &[u8]) -> Result<(), Errno> {
    let text = std::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?.trim();
    let slack: u64 = text.parse().map_err(|_| Errno::EINVAL)?;
    check_timer_slack(shown)?;
    shown.task.with_attributes(|attributes| {
        attributes.timer_slack_ns = if slack == 0 { attributes.default_timer_slack_ns } else { slack };
    });
    Ok(())
}

/// A write to what was decided before the program started.
pub(super) fn refused(_shown: &Shown<'_, '_>, _bytes: &[u8]) -> Result<(), Errno> {
    Err(Errno::EPERM)
}

/// `timers`: the POSIX timers.
pub(super) fn timers(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(shown.task.group().posix_timers().describe().into_bytes())
}

/// `children`: those of the thread.
pub(super) fn children(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let task = &shown.task;
    let children = task.kernel().families().children_of(task.group().pid(), task.tid());
    Ok(children.iter().map(|child| format!("{} ", child.0)).collect::<String>().into_bytes())
}

/// `io`: what calls have moved.
pub(super) fn transfers(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let counts = match shown.scope {
        Scope::Process => shown.task.group().transfers(),
        Scope::Thread => shown.task.transfers().counts(),
    };
    let TransferCounts { bytes_read, bytes_written, reads, writes } = counts;
    // What storage does is the host's to know.
    let storage = "read_bytes: 0
write_bytes: 0
cancelled_write_bytes: 0
";
    Ok(format!(
        "rchar: {bytes_read}
wchar: {bytes_written}
syscr: {reads}
syscw: {writes}
{storage}"
    )
    .into_bytes())
}

/// `uid_map`, `gid_map`, `projid_map`
pub(super) fn identity_map(_shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(IDENTITY.to_vec())
}

/// `setgroups`
pub(super) fn setgroups(_shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(b"allow\n".to_vec())
}

/// `timerslack_ns`
pub(super) fn timer_slack(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    check_timer_slack(shown)?;
    Ok(format!("{}\n", shown.task.attributes().timer_slack_ns).into_bytes())
}
