//! /proc/meminfo and /proc/vmstat: the sandbox's memory, not the host's.

use crate::errno::Errno;
use crate::task::CurrentTask;
use std::fmt::Write;
use vmm::addr::PAGE_SIZE;

/// The sandbox's memory in bytes.
#[derive(Clone, Copy, Debug)]
struct Figures {
    total: u64,
    used: u64,
}

impl Figures {
    fn of(reader: &CurrentTask<'_>) -> Self {
        let memory = reader.kernel().memory();
        Self { total: memory.limit(), used: memory.held().min(memory.limit()) }
    }

    fn free(self) -> u64 {
        self.total - self.used
    }
}

/// The lines of /proc/meminfo in Linux's order, with what each shows.
#[derive(Clone, Copy, Debug)]
enum Line {
    Total,
    Free,
    Used,
    /// Half of the memory: what overcommit_ratio gives.
    CommitLimit,
    /// All user-mode addresses of the kernel's half, a constant.
    Vmalloc,
    Zero,
    /// A count, not an amount.
    Count,
    HugePage,
}

const LINES: &[(&str, Line)] = &[
    ("MemTotal", Line::Total),
    ("MemFree", Line::Free),
    ("MemAvailable", Line::Free),
    ("Buffers", Line::Zero),
    ("Cached", Line::Zero),
    ("SwapCached", Line::Zero),
    ("Active", Line::Used),
    ("Inactive", Line::Zero),
    ("Active(anon)", Line::Used),
    ("Inactive(anon)", Line::Zero),
    ("Active(file)", Line::Zero),
    ("Inactive(file)", Line::Zero),
    ("Unevictable", Line::Zero),
    ("Mlocked", Line::Zero),
    ("SwapTotal", Line::Zero),
    ("SwapFree", Line::Zero),
    ("Zswap", Line::Zero),
    ("Zswapped", Line::Zero),
    ("Dirty", Line::Zero),
    ("Writeback", Line::Zero),
    ("AnonPages", Line::Used),
    ("Mapped", Line::Zero),
    ("Shmem", Line::Zero),
    ("KReclaimable", Line::Zero),
    ("Slab", Line::Zero),
    ("SReclaimable", Line::Zero),
    ("SUnreclaim", Line::Zero),
    ("KernelStack", Line::Zero),
    ("PageTables", Line::Zero),
    ("SecPageTables", Line::Zero),
    ("NFS_Unstable", Line::Zero),
    ("Bounce", Line::Zero),
    ("WritebackTmp", Line::Zero),
    ("CommitLimit", Line::CommitLimit),
    ("Committed_AS", Line::Used),
    ("VmallocTotal", Line::Vmalloc),
    ("VmallocUsed", Line::Zero),
    ("VmallocChunk", Line::Zero),
    ("Percpu", Line::Zero),
    ("AnonHugePages", Line::Zero),
    ("ShmemHugePages", Line::Zero),
    ("ShmemPmdMapped", Line::Zero),
    ("FileHugePages", Line::Zero),
    ("FilePmdMapped", Line::Zero),
    ("HugePages_Total", Line::Count),
    ("HugePages_Free", Line::Count),
    ("HugePages_Rsvd", Line::Count),
    ("HugePages_Surp", Line::Count),
    ("Hugepagesize", Line::HugePage),
    ("Hugetlb", Line::Zero),
];

/// VmallocTotal on x86-64 with four levels, in KiB.
const VMALLOC_KIB: u64 = 34_359_738_367;
/// The size of a large page, in KiB.
const HUGE_PAGE_KIB: u64 = 2048;

/// Renders /proc/meminfo.
pub(super) fn information(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    Ok(show(Figures::of(reader)).into_bytes())
}

fn show(figures: Figures) -> String {
    let mut out = String::new();
    for (name, line) in LINES {
        let kib = match line {
            Line::Total => figures.total / 1024,
            Line::Free => figures.free() / 1024,
            Line::Used => figures.used / 1024,
            Line::CommitLimit => figures.total / 2048,
            Line::Vmalloc => VMALLOC_KIB,
            Line::Zero | Line::Count => 0,
            Line::HugePage => HUGE_PAGE_KIB,
        };
        let unit = if matches!(line, Line::Count) { "" } else { " kB" };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:<16}{kib:>8}{unit}", format_args!("{name}:").to_string());
    }
    out
}

/// The counters of /proc/vmstat that tools read. What is not counted is 0.
const COUNTERS: &[&str] = &[
    "nr_zone_inactive_anon",
    "nr_zone_active_anon",
    "nr_zone_inactive_file",
    "nr_zone_active_file",
    "nr_mlock",
    "nr_anon_pages",
    "nr_mapped",
    "nr_file_pages",
    "nr_dirty",
    "nr_writeback",
    "nr_slab_reclaimable",
    "nr_slab_unreclaimable",
    "nr_shmem",
    "pgpgin",
    "pgpgout",
    "pswpin",
    "pswpout",
    "pgalloc_normal",
    "pgfree",
    "pgactivate",
    "pgdeactivate",
    "pgfault",
    "pgmajfault",
    "pgsteal_kswapd",
    "pgsteal_direct",
    "pgscan_kswapd",
    "pgscan_direct",
    "oom_kill",
    "thp_fault_alloc",
    "thp_collapse_alloc",
];

/// Renders /proc/vmstat.
pub(super) fn statistics(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    let figures = Figures::of(reader);
    let mut out = format!("nr_free_pages {}\n", figures.free() / PAGE_SIZE);
    for name in COUNTERS {
        let pages = if matches!(*name, "nr_zone_active_anon" | "nr_anon_pages") { figures.used / PAGE_SIZE } else { 0 };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name} {pages}");
    }
    Ok(out.into_bytes())
}

/// Pages in the largest block that Linux hands out, as a power of two.
const LARGEST_ORDER: u32 = 10;

/// Renders /proc/buddyinfo: one zone, whose free memory is in the largest blocks.
pub(super) fn free_blocks(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    let free = Figures::of(reader).free() / PAGE_SIZE;
    let blocks = free >> LARGEST_ORDER;
    let small = format!("{:6} ", 0).repeat(usize::try_from(LARGEST_ORDER).unwrap_or_default());
    Ok(format!("Node 0, zone {:>8} {small}{blocks:6} \n", "Normal").into_bytes())
}

/// Renders /proc/zoneinfo: the one zone, as far as programs read it.
pub(super) fn zones(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    let figures = Figures::of(reader);
    let (free, total) = (figures.free() / PAGE_SIZE, figures.total / PAGE_SIZE);
    let mut out = String::from("Node 0, zone   Normal\n");
    let _ = write!(out, "  pages free     {free}\n        boost    0\n        min      0\n        low      0\n");
    let _ = write!(out, "        high     0\n        spanned  {total}\n        present  {total}\n");
    let _ = write!(out, "        managed  {total}\n        cma      0\n        protection: (0, 0, 0, 0, 0)\n");
    let _ = write!(out, "      nr_free_pages {free}\n  pagesets\n  node_unreclaimable:  0\n  start_pfn:           0\n");
    Ok(out.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_are_the_limit_and_what_is_left() {
        let shown = show(Figures { total: 1 << 30, used: 1 << 20 });
        let mut lines = shown.lines();
        assert_eq!(lines.next(), Some("MemTotal:        1048576 kB"));
        assert_eq!(lines.next(), Some("MemFree:         1047552 kB"));
        assert!(shown.contains("\nHugePages_Total:       0\n"));
    }

    #[test]
    fn names_come_in_the_hosts_order() {
        let host = std::fs::read_to_string("/proc/meminfo").unwrap();
        let hosts: Vec<&str> = host.lines().filter_map(|line| line.split(':').next()).collect();
        // A host of another version has more or fewer lines; those that both have must come in the same order.
        let ours: Vec<&str> = LINES.iter().map(|(name, _)| *name).filter(|name| hosts.contains(name)).collect();
        let theirs: Vec<&str> = hosts.into_iter().filter(|name| ours.contains(name)).collect();
        assert_eq!(ours, theirs);
        assert!(ours.len() > 40, "{ours:?}");
    }
}
