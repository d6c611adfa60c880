//! Character devices: the nodes of /dev and what opening a device node gives.
//!
//! As on Linux a device node is only a name and a number, whatever file system it lies in: [`open`] finds the driver by number.
//! [`populate`] makes the usual nodes in a fresh tmpfs, so that a program may add, move and remove names in /dev as it likes.

mod memory;
mod random;
#[cfg(test)]
mod tests;

pub(crate) mod pts;

pub(crate) use random::POOL_BITS;

use super::{Directory, File, FileKind, NewNode, OpenFlags};
use crate::errno::Errno;
use crate::task::CurrentTask;
use rustix::fs::{major, makedev, minor};
use std::sync::Arc;

/// Major number of the memory devices (null, zero, full, random, urandom).
const MEMORY_MAJOR: u32 = 1;
/// Major number of /dev/tty and /dev/console.
pub(crate) const TTY_AUX_MAJOR: u32 = 5;

/// The minor number of /dev/tty.
const CONTROLLING: u32 = 0;
/// The minor number of /dev/ptmx.
pub(crate) const MULTIPLEXER: u32 = 2;

/// A device node that every sandbox has.
struct Node {
    name: &'static str,
    mode: u32,
    major: u32,
    minor: u32,
}

const NODES: &[Node] = &[
    Node { name: "null", mode: 0o666, major: MEMORY_MAJOR, minor: memory::NULL },
    Node { name: "zero", mode: 0o666, major: MEMORY_MAJOR, minor: memory::ZERO },
    Node { name: "full", mode: 0o666, major: MEMORY_MAJOR, minor: memory::FULL },
    Node { name: "random", mode: 0o666, major: MEMORY_MAJOR, minor: random::RANDOM },
    Node { name: "urandom", mode: 0o666, major: MEMORY_MAJOR, minor: random::URANDOM },
    Node { name: "tty", mode: 0o666, major: TTY_AUX_MAJOR, minor: CONTROLLING },
    Node { name: "ptmx", mode: 0o666, major: TTY_AUX_MAJOR, minor: MULTIPLEXER },
];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// The directories in /dev on which other file systems are mounted.
const MOUNT_POINTS: &[(&str, u32)] = &[("mqueue", 0o755), ("pts", 0o755), ("shm", 0o1777)];

/// Makes the usual nodes, links and mount points in the root directory of /dev.
pub(crate) fn populate(dev: &dyn Directory) -> Result<(), Errno> {
    let new = |kind, mode, rdev| NewNode { kind, mode, uid: 0, gid: 0, rdev, target: b"" };
    for node in NODES {
        dev.create(node.name.as_bytes(), &new(FileKind::CharDevice, node.mode, makedev(node.major, node.minor)))?;
    }
    for (name, target) in LINKS {
        let link = NewNode { target: target.as_bytes(), ..new(FileKind::Symlink, 0o777, 0) };
        dev.create(name.as_bytes(), &link)?;
    }
    for (name, mode) in MOUNT_POINTS {
        dev.create(name.as_bytes(), &new(FileKind::Directory, *mode, 0))?;
    }
    Ok(())
}

/// The path of a device of the sandbox's own.
pub(crate) fn path(rdev: u64) -> Option<Vec<u8>> {
    let node = NODES.iter().find(|node| makedev(node.major, node.minor) == rdev)?;
    Some(format!("/dev/{}", node.name).into_bytes())
}

/// Opens the device with this number; `ENXIO` if there is none.
pub(crate) fn open(
    task: &CurrentTask<'_>,
    kind: FileKind,
    rdev: u64,
    flags: OpenFlags,
) -> Result<Arc<dyn File>, Errno> {
    let device = (major(rdev), minor(rdev));
    match (kind, device) {
        (FileKind::CharDevice, (MEMORY_MAJOR, minor)) => {
            memory::open(minor).or_else(|| random::open(minor)).ok_or(Errno::ENXIO)
        }
        (FileKind::CharDevice, (TTY_AUX_MAJOR, CONTROLLING)) => crate::fs::tty::open_controlling(task, flags),
        (FileKind::CharDevice, (TTY_AUX_MAJOR, MULTIPLEXER)) => crate::fs::tty::open_multiplexer(task, flags),
        (FileKind::CharDevice, _) => crate::fs::tty::open(task, rdev, flags),
        _ => Err(Errno::ENXIO),
    }
}
