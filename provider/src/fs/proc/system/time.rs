//! Time and processor use: /proc/stat, uptime, loadavg, interrupts.

use crate::errno::Errno;
use crate::task::{CurrentTask, Task};
use rustix::time::{ClockId, clock_gettime};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// Clock ticks a second in what procfs shows (USER_HZ).
const TICKS: u64 = 100;

/// What a clock shows.
fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// A span in clock ticks, rounded down.
pub(in crate::fs::proc) fn ticks(span: Duration) -> u64 {
    span.as_secs() * TICKS + u64::from(span.subsec_nanos()) / (1_000_000_000 / TICKS)
}

/// Time since the machine started, with sleep.
fn since_boot() -> Duration {
    clock(ClockId::Boottime)
}

/// Processor time that the sandbox has used: all of the monitor's.
fn used() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// Time that `cpus` processors had since the start and that the sandbox did not use.
fn idle(cpus: usize) -> Duration {
    since_boot().saturating_mul(u32::try_from(cpus).unwrap_or(u32::MAX)).saturating_sub(used())
}

/// Renders /proc/uptime.
pub(super) fn uptime(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    let (up, idle) = (since_boot(), idle(reader.kernel().cpus().count()));
    let hundredths = |span: Duration| span.subsec_millis() / 10;
    let line = format!("{}.{:02} {}.{:02}\n", up.as_secs(), hundredths(up), idle.as_secs(), hundredths(idle));
    Ok(line.into_bytes())
}

/// Renders /proc/loadavg: the host's load, since the sandbox shares its processors; and the sandbox's tasks.
pub(super) fn load_average(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    let loads = rustix::system::sysinfo().loads;
    let [one, five, fifteen] = loads.map(fixed_point);
    let tasks = reader.kernel().tasks().all();
    let last = tasks.iter().map(|task| task.tid().0).max().unwrap_or_default();
    let line = format!("{one} {five} {fifteen} {}/{} {last}\n", running(reader, &tasks), tasks.len());
    Ok(line.into_bytes())
}

/// How many tasks run: the reader, and those that are not in a call.
fn running(reader: &CurrentTask<'_>, tasks: &[Arc<Task>]) -> usize {
    let runs = |task: &&Arc<Task>| Arc::ptr_eq(task, reader.task()) || task.signals().is_in_user_mode();
    tasks.iter().filter(runs).count()
}

/// A load of sysinfo(2), which has 16 bits behind the point, with two decimals.
fn fixed_point(load: u64) -> String {
    // LOAD_INT and LOAD_FRAC of fs/proc/loadavg.c, with the half of a hundredth that it adds.
    let rounded = load + (1 << 16) / 200;
    format!("{}.{:02}", rounded >> 16, ((rounded & 0xffff) * 100) >> 16)
}

/// Renders /proc/stat. The sandbox's use is spread evenly over its processors: which of the host's ran a thread is not recorded.
pub(super) fn statistics(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    let cpus = reader.kernel().cpus().count();
    let (busy, idle) = (ticks(used()), ticks(idle(cpus)));
    let mut out = format!("cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n");
    let count = u64::try_from(cpus).unwrap_or(u64::MAX);
    for cpu in 0..count {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "cpu{cpu} {} 0 0 {} 0 0 0 0 0 0", busy / count, idle / count);
    }
    let started = clock(ClockId::Realtime).saturating_sub(since_boot()).as_secs();
    let tasks = reader.kernel().tasks().all();
    let made = tasks.iter().map(|task| task.tid().0).max().unwrap_or_default();
    let _ = write!(out, "intr 0\nctxt 0\nbtime {started}\nprocesses {made}\n");
    let _ = write!(out, "procs_running {}\nprocs_blocked 0\n", running(reader, &tasks));
    out.push_str("softirq 0 0 0 0 0 0 0 0 0 0 0\n");
    Ok(out.into_bytes())
}

/// Renders /proc/interrupts: its heading; the sandbox has none.
pub(super) fn interrupts(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    let cpus = reader.kernel().cpus().count();
    let mut out = " ".repeat(11);
    for cpu in 0..cpus {
        // Writing to a String cannot fail.
        let _ = write!(out, "{:<11}", format!("CPU{cpu}"));
    }
    out.push('\n');
    Ok(out.into_bytes())
}

/// What soft interrupts there are on Linux.
const SOFT_INTERRUPTS: [&str; 10] =
    ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"];

/// Renders /proc/softirqs: the sandbox has none.
pub(super) fn soft_interrupts(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    let cpus = reader.kernel().cpus().count();
    let heading: String = (0..cpus).map(|cpu| format!("{:<11}", format!("CPU{cpu}"))).collect();
    let mut out = format!("{:20}{heading}\n", "");
    for name in SOFT_INTERRUPTS {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:>12}:{}", format!(" {:10}", 0).repeat(cpus));
    }
    Ok(out.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_have_two_decimals_rounded() {
        assert_eq!(fixed_point(0), "0.00");
        assert_eq!(fixed_point(1 << 16), "1.00");
        assert_eq!(fixed_point((1 << 16) + (1 << 15)), "1.50");
    }

    #[test]
    fn ticks_are_hundredths() {
        assert_eq!(ticks(Duration::from_millis(12_345)), 1_234);
    }
}
