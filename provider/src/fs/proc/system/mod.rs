//! Files about the whole sandbox.

mod cpuinfo;
mod ipc;
mod memory;
mod network;
mod time;

pub(super) use time::ticks;

use crate::errno::Errno;
use crate::fs::pseudo::Leaf;
use crate::kernel::release::{RELEASE, SYSTEM, VERSION};
use crate::task::CurrentTask;

/// The files of /proc but for processes and /proc/sys.
pub(super) fn leaves() -> Vec<Leaf> {
    let mut leaves = vec![
        Leaf::rendered("buddyinfo", memory::free_blocks),
        Leaf::fixed("cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"),
        Leaf::fixed("cmdline", "picovisor\n"),
        Leaf::fixed("consoles", ""),
        Leaf::rendered("cpuinfo", cpuinfo::render),
        Leaf::fixed("crypto", ""),
        Leaf::fixed("devices", DEVICES),
        Leaf::fixed("diskstats", ""),
        Leaf::fixed("dma", " 4: cascade\n"),
        Leaf::fixed("execdomains", "0-0\tLinux           \t[kernel]\n"),
        Leaf::fixed("filesystems", FILE_SYSTEMS),
        Leaf::rendered("interrupts", time::interrupts),
        Leaf::fixed("iomem", ""),
        Leaf::fixed("ioports", ""),
        Leaf::fixed("kallsyms", ""),
        Leaf::rendered("key-users", key_users),
        Leaf::fixed("keys", ""),
        Leaf::rendered("loadavg", time::load_average),
        Leaf::fixed("locks", ""),
        Leaf::rendered("meminfo", memory::information),
        Leaf::fixed("misc", ""),
        Leaf::fixed("modules", ""),
        Leaf::link("mounts", "self/mounts"),
        Leaf::link("net", "self/net"),
        Leaf::fixed("mtrr", ""),
        Leaf::fixed("pagetypeinfo", "Page block order: 9\nPages per block:  512\n\n").mode(0o400),
        Leaf::fixed("pressure/cpu", PRESSURE).mode(0o666),
        Leaf::fixed("pressure/io", PRESSURE).mode(0o666),
        Leaf::fixed("pressure/memory", PRESSURE).mode(0o666),
        Leaf::fixed("partitions", "major minor  #blocks  name\n\n"),
        Leaf::fixed("slabinfo", SLABS).mode(0o400),
        Leaf::rendered("softirqs", time::soft_interrupts),
        Leaf::rendered("stat", time::statistics),
        Leaf::fixed("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"),
        Leaf::rendered("sysvipc/msg", ipc::queues),
        Leaf::rendered("sysvipc/sem", ipc::sets),
        Leaf::rendered("sysvipc/shm", ipc::segments),
        Leaf::fixed("tty/drivers", TERMINAL_DRIVERS),
        Leaf::rendered("uptime", time::uptime),
        Leaf::rendered("version", version),
        Leaf::rendered("vmstat", memory::statistics),
        Leaf::rendered("zoneinfo", memory::zones),
    ];
    leaves.sort_by(|a, b| a.path.cmp(&b.path));
    leaves
}

/// The files of /proc/PID/net.
pub(super) fn network_leaves() -> Vec<Leaf> {
    network::leaves()
}

fn version(_reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    Ok(format!("{SYSTEM} version {RELEASE} (picovisor@picovisor) (rustc) {VERSION}\n").into_bytes())
}

/// The keys of each user: keyrings are not there.
fn key_users(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    Ok(format!("{:5}: {:5} 0/0 0/200 0/20000\n", reader.credentials().uid, 0).into_bytes())
}

/// Nobody is ever counted as waiting for the machine.
const PRESSURE: &str =
    "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";

/// The heading of a list that is empty: the sandbox's kernel has no slabs.
const SLABS: &str = "slabinfo - version: 2.1\n# name            <active_objs> <num_objs> <objsize> <objperslab> \
                     <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> \
                     <sharedavail>\n";

/// What mount(8) and file managers look at: the types that a view is made of.
const FILE_SYSTEMS: &str =
    "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevtmpfs\nnodev\tdevpts\nnodev\tmqueue\nnodev\toverlay\n\text4\n";

const DEVICES: &str =
    "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n";

/// ps(1) finds terminals' names by it.
const TERMINAL_DRIVERS: &str = "\
/dev/tty             /dev/tty        5       0 system:/dev/tty
/dev/console         /dev/console    5       1 system:console
/dev/ptmx            /dev/ptmx       5       2 system
pty_slave            /dev/pts      136 0-1048575 pty:slave
pty_master           /dev/ptm      128 0-1048575 pty:master
";
