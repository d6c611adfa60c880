//! status: a task's figures for people.

use super::Shown;
use super::stat::{dispositions, state, thread_usage};
use crate::errno::Errno;
use crate::fs::Fd;
use crate::fs::pseudo::bits::{first, in_words, mask, ranges};
use crate::mm::MemoryUsage;
use crate::task::{Resource, Task};
use std::io::Write;
use vmm::usage::Usage;

/// Descriptor tables grow by doubling from here (NR_OPEN_DEFAULT, as BITS_PER_LONG).
const FIRST_FD_TABLE: usize = 64;
/// Nodes that a mask of memory nodes has bits for (MAX_NUMNODES).
const MEMORY_NODES: usize = 1024;

/// `status`
pub(super) fn render(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    identity(shown, &mut out);
    if let Some(mm) = shown.task.mm() {
        memory(&mm.usage(), &mut out);
        let huge_pages = u32::from(!mm.refuses_huge_pages());
        // Writing to a Vec cannot fail.
        let _ = write!(out, "CoreDumping:\t0\nTHP_enabled:\t{huge_pages}\nuntag_mask:\t0xffffffffffffffff\n");
    }
    signals(&shown.task, &mut out);
    capabilities(&shown.task, &mut out);
    processors(&shown.task, &mut out);
    let Usage { voluntary_switches: voluntary, involuntary_switches: involuntary, .. } = thread_usage(shown);
    let _ = write!(out, "voluntary_ctxt_switches:\t{voluntary}\nnonvoluntary_ctxt_switches:\t{involuntary}\n");
    Ok(out)
}

/// Appends a line of numbers separated by tabs.
fn tabbed(name: &str, numbers: [u32; 4], out: &mut Vec<u8>) {
    let [a, b, c, d] = numbers;
    // Writing to a Vec cannot fail.
    let _ = writeln!(out, "{name}:\t{a}\t{b}\t{c}\t{d}");
}

fn identity(shown: &Shown<'_, '_>, out: &mut Vec<u8>) {
    let task = &shown.task;
    let (group, credentials) = (task.group(), task.credentials());
    let (letter, word) = state(task, shown.reader);
    out.extend(b"Name:\t");
    escape(&task.name(), out);
    out.push(b'\n');
    // Writing to a Vec cannot fail.
    if let Some(context) = task.fs() {
        let _ = writeln!(out, "Umask:\t{:04o}", context.umask());
    }
    let (pid, tid, parent) = (group.pid().0, task.tid().0, group.parent().0);
    let tracer = task.tracee().tracer().map_or(0, |tracer| tracer.process.0);
    let _ = write!(
        out,
        "State:\t{letter} ({word})\nTgid:\t{pid}\nNgid:\t0\nPid:\t{tid}\nPPid:\t{parent}\nTracerPid:\t{tracer}\n"
    );
    tabbed("Uid", [credentials.uid, credentials.euid, credentials.suid, credentials.fsuid], out);
    tabbed("Gid", [credentials.gid, credentials.egid, credentials.sgid, credentials.fsgid], out);
    let highest = task.files().and_then(|files| files.numbers().last().copied()).unwrap_or(Fd(0));
    let size = usize::try_from(highest.0 + 1).unwrap_or_default().next_power_of_two().max(FIRST_FD_TABLE);
    let _ = write!(out, "FDSize:\t{size}\nGroups:\t");
    for group in &credentials.groups {
        let _ = write!(out, "{group} ");
    }
    let (own_group, session) = (group.process_group().0, group.session().0);
    let _ = write!(out, " \nNStgid:\t{pid}\nNSpid:\t{tid}\nNSpgid:\t{own_group}\nNSsid:\t{session}\nKthread:\t0\n");
}

fn memory(usage: &MemoryUsage, out: &mut Vec<u8>) {
    let own = usage.resident - usage.resident_shared.min(usage.resident);
    let lines = [
        ("VmPeak", usage.mapped),
        ("VmSize", usage.mapped),
        ("VmLck", usage.locked),
        ("VmPin", 0),
        ("VmHWM", usage.resident),
        ("VmRSS", usage.resident),
        ("RssAnon", own),
        ("RssFile", usage.resident_shared),
        ("RssShmem", 0),
        ("VmData", usage.data),
        ("VmStk", usage.stack),
        ("VmExe", usage.code),
        ("VmLib", usage.libraries),
        ("VmPTE", 0),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ];
    for (name, bytes) in lines {
        // Writing to a Vec cannot fail.
        let _ = writeln!(out, "{name}:\t{:>8} kB", bytes / 1024);
    }
}

fn signals(task: &Task, out: &mut Vec<u8>) {
    let group = task.group();
    let queued = task.signals().queued() + group.signals().queued();
    let limit = group.limits().soft(Resource::PendingSignals);
    let (ignored, caught) = dispositions(task);
    // Writing to a Vec cannot fail.
    let _ = write!(out, "Threads:\t{}\nSigQ:\t{queued}/{limit}\n", group.threads().len().max(1));
    let sets = [
        ("SigPnd", task.signals().pending()),
        ("ShdPnd", group.signals().pending()),
        ("SigBlk", task.signals().blocked()),
        ("SigIgn", ignored),
        ("SigCgt", caught),
    ];
    for (name, set) in sets {
        let _ = writeln!(out, "{name}:\t{:016x}", set.0);
    }
}

fn capabilities(task: &Task, out: &mut Vec<u8>) {
    let credentials = task.credentials();
    let sets = [
        ("CapInh", credentials.inheritable),
        ("CapPrm", credentials.permitted),
        ("CapEff", credentials.effective),
        ("CapBnd", credentials.bounding),
        ("CapAmb", credentials.ambient),
    ];
    for (name, set) in sets {
        // Writing to a Vec cannot fail.
        let _ = writeln!(out, "{name}:\t{set:016x}");
    }
    let no_new_privileges = u32::from(task.attributes().no_new_privileges);
    let seccomp = task.seccomp();
    let (mode, filters) = (seccomp.mode(), seccomp.filter().map_or(0, |filter| filter.count()));
    let _ = write!(out, "NoNewPrivs:\t{no_new_privileges}\nSeccomp:\t{mode}\nSeccomp_filters:\t{filters}\n");
    out.extend(b"Speculation_Store_Bypass:\tvulnerable\nSpeculationIndirectBranch:\talways enabled\n");
}

fn processors(task: &Task, out: &mut Vec<u8>) {
    let cpus = task.kernel().cpus();
    let words = task.affinity().unwrap_or_else(|| cpus.all());
    let allowed = |cpu: usize| in_words(&words, cpu);
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "Cpus_allowed:\t{}\nCpus_allowed_list:\t{}\n",
        mask(cpus.count(), allowed),
        ranges(cpus.count(), allowed)
    );
    let _ = write!(out, "Mems_allowed:\t{}\nMems_allowed_list:\t0\n", first(1, MEMORY_NODES));
}

/// Appends a name with newlines and backslashes escaped, so that it cannot forge a line.
fn escape(name: &[u8], out: &mut Vec<u8>) {
    for byte in name {
        match byte {
            b'\n' => out.extend(b"\\n"),
            b'\\' => out.extend(b"\\\\"),
            _ => out.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_a_line() {
        let mut out = Vec::new();
        escape(b"a\nUid:\t0\\", &mut out);
        assert_eq!(out, b"a\\nUid:\t0\\\\");
    }
}
