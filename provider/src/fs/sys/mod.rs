//! sysfs, see sysfs(5): what run-time systems read about processors, memory nodes and huge pages.
//!
//! The sandbox has `--cpus` processors, each a core of one package, one memory node, and a loopback interface. Control groups are
//! not shown.

mod cpu;
mod kernel;
mod net;
mod node;
#[cfg(test)]
mod tests;

use super::pseudo::{DirInode, Flavour, Lazy, Leaf, Look, Owner, PseudoFs, Seeks, Super, grow};
use super::{FileSystem, Timestamp};
use crate::cpus::Cpus;
use std::sync::Arc;

/// SYSFS_MAGIC.
const MAGIC: u64 = 0x6265_6572;
/// The root's inode number.
const ROOT_INODE: u64 = 1;
/// Every attribute shows a page as its size.
const ATTRIBUTE_SIZE: u64 = 4096;

/// Makes the file system to be mounted on /sys, for a sandbox with this many processors.
pub(crate) fn file_system(device: u64, made: Timestamp, cpus: u32) -> Arc<dyn FileSystem> {
    let home = Super::new(device, made, Flavour::SYS);
    let node = home.node_numbered(ROOT_INODE, 0o555, Owner::ROOT);
    let look = Look { seeks: Seeks::Sized(ATTRIBUTE_SIZE), directory_mode: 0o755 };
    // Asked now: a sealed monitor asks no more.
    let count = Cpus::of_host(cpus).count();
    let entries = Lazy::new(move || grow(&home, look, &leaves(count)));
    PseudoFs::new(DirInode::new(node, entries), "sysfs", MAGIC)
}

/// All attributes.
fn leaves(cpus: usize) -> Vec<Leaf> {
    let empty = ["block", "bus/cpu", "bus/node", "dev/block", "dev/char", "firmware", "fs/cgroup", "module", "power"];
    let mut leaves: Vec<Leaf> = empty.into_iter().map(Leaf::directory).collect();
    leaves.extend(net::leaves());
    leaves.extend(kernel::leaves());
    leaves.extend(cpu::leaves(cpus));
    leaves.extend(node::leaves(cpus));
    leaves
}
