//! What a task does on the processors: sched, schedstat, autogroup, wchan, syscall, stack.

use super::stat::thread_usage;
use super::{Scope, Shown};
use crate::errno::Errno;
use crate::ptrace::registers::UserRegisters;
use crate::task::NO_CALL;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// The weight of an ordinary task with nice value 0, as the scheduler scales it.
const WEIGHT: u64 = 1 << 20;
/// Where ordinary priorities begin, behind the real-time ones (MAX_RT_PRIO).
const FIRST_ORDINARY: i32 = 100;
/// The width of names in `sched`.
const NAME_WIDTH: usize = 45;
/// And that of values.
const VALUE_WIDTH: usize = 21;
/// CAP_SYS_ADMIN
const CAP_SYS_ADMIN: u32 = 21;

/// `schedstat`: time on a processor, time spent waiting for one (not known), turns: each ended by a switch, but for the present one.
pub(super) fn statistics(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let usage = thread_usage(shown);
    let turns = usage.voluntary_switches + usage.involuntary_switches + 1;
    Ok(format!("{} 0 {turns}\n", usage.total().as_nanos()).into_bytes())
}

/// `sched`: the scheduler's own figures, of which those are shown that exist here.
pub(super) fn details(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let task = &shown.task;
    let threads = if shown.scope == Scope::Process { task.group().threads().len().max(1) } else { 1 };
    let mut out = shown.task.name();
    let mut text = format!(" ({}, #threads: {threads})\n{}\n", task.tid().0, "-".repeat(NAME_WIDTH + VALUE_WIDTH + 1));
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<NAME_WIDTH$}:{value:>VALUE_WIDTH$}");
    };
    let milliseconds = |span: Duration| format!("{}.{:06}", span.as_millis(), span.subsec_nanos() % 1_000_000);
    line("se.exec_start", milliseconds(task.started()));
    let usage = thread_usage(shown);
    let (voluntary, involuntary) = (usage.voluntary_switches, usage.involuntary_switches);
    line("se.vruntime", milliseconds(usage.total()));
    line("se.sum_exec_runtime", milliseconds(usage.total()));
    line("se.nr_migrations", "0".into());
    line("nr_switches", (voluntary + involuntary).to_string());
    line("nr_voluntary_switches", voluntary.to_string());
    line("nr_involuntary_switches", involuntary.to_string());
    line("se.load.weight", WEIGHT.to_string());
    let scheduling = task.scheduling();
    line("policy", scheduling.policy.raw().to_string());
    line("prio", (FIRST_ORDINARY + super::stat::priority(&scheduling)).to_string());
    out.extend(text.into_bytes());
    Ok(out)
}

/// A write to `sched` resets its figures: none of them is kept.
pub(super) fn reset_details(_shown: &Shown<'_, '_>, _bytes: &[u8]) -> Result<(), Errno> {
    Ok(())
}

/// `autogroup`: one for each session.
pub(super) fn autogroup(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(format!("/autogroup-{} nice 0\n", shown.task.group().session().0).into_bytes())
}

/// A write to `autogroup`: a nice value for the session. It is checked, and changes nothing: sessions are not weighed.
pub(super) fn set_autogroup(_shown: &Shown<'_, '_>, bytes: &[u8]) -> Result<(), Errno> {
    let nice: i32 = std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok()).ok_or(Errno::EINVAL)?;
    if (-20..=19).contains(&nice) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// `wchan`: where in the kernel a task sleeps is not shown.
pub(super) fn wait_channel(_shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    Ok(b"0".to_vec())
}

/// `syscall`: number, arguments, stack and instruction pointer of the call that a task is in. Of another task they are known while
/// it stands still for a tracer; else it counts as running.
pub(super) fn call(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    if Arc::ptr_eq(&shown.task, shown.reader.task()) {
        shown.reader.needs_thread()?;
        let registers = &shown.reader.frame.registers;
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        return Ok(call_line(shown.reader.original, arguments, registers.rsp, registers.rip));
    }
    let stopped: Option<UserRegisters> = shown.task.tracee().lock().stop.as_ref().map(|stop| stop.snapshot.user);
    Ok(match stopped {
        Some(user) => {
            let arguments = [user.rdi, user.rsi, user.rdx, user.r10, user.r8, user.r9];
            call_line(user.orig_rax, arguments, user.rsp, user.rip)
        }
        None => b"running\n".to_vec(),
    })
}

fn call_line(number: u64, arguments: [u64; 6], stack: u64, instruction: u64) -> Vec<u8> {
    if number == NO_CALL {
        return format!("-1 {stack:#x} {instruction:#x}\n").into_bytes();
    }
    let arguments = arguments.map(|argument| format!("{argument:#x}")).join(" ");
    format!("{number} {arguments} {stack:#x} {instruction:#x}\n").into_bytes()
}

/// `stack`: there is no kernel stack to show, and only the privileged learn that.
pub(super) fn kernel_stack(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    if shown.reader.credentials().has(CAP_SYS_ADMIN) { Ok(b"[<0>] 0\n".to_vec()) } else { Err(Errno::EACCES) }
}
