//! /sys/devices/system/node: one node with all memory and all processors.

use crate::errno::Errno;
use crate::fs::pseudo::Leaf;
use crate::fs::pseudo::bits::{first, list};
use crate::task::CurrentTask;

/// The attributes.
pub(super) fn leaves(cpus: usize) -> Vec<Leaf> {
    let root = "devices/system/node";
    let masks = ["has_cpu", "has_memory", "has_normal_memory", "online", "possible"];
    let mut leaves: Vec<Leaf> = masks.into_iter().map(|name| Leaf::fixed(format!("{root}/{name}"), "0\n")).collect();
    leaves.extend([
        Leaf::fixed(format!("{root}/node0/cpulist"), format!("{}\n", list(cpus))),
        Leaf::fixed(format!("{root}/node0/cpumap"), format!("{}\n", first(cpus, cpus))),
        Leaf::fixed(format!("{root}/node0/distance"), "10\n"),
        Leaf::rendered(format!("{root}/node0/meminfo"), memory),
        Leaf::fixed(format!("{root}/node0/numastat"), COUNTERS),
    ]);
    leaves.extend((0..cpus).map(|cpu| Leaf::link(format!("{root}/node0/cpu{cpu}"), format!("../../cpu/cpu{cpu}"))));
    leaves
}

/// Accesses are not counted.
const COUNTERS: &str = "numa_hit 0\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node 0\nother_node 0\n";

fn memory(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    let memory = reader.kernel().memory();
    let total = memory.limit();
    let used = memory.held().min(total);
    let line = |name: &str, bytes: u64| format!("Node 0 {:<16}{:>8} kB\n", format!("{name}:"), bytes / 1024);
    Ok([line("MemTotal", total), line("MemFree", total - used), line("MemUsed", used)].concat().into_bytes())
}
