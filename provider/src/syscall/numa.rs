//! Memory policy calls, as on a machine with one node.
//!
//! A policy can only say "node 0", so calls are checked as Linux checks them (`mm/mempolicy.c`) and none is kept.

use crate::errno::Errno;
use crate::mm::advised_range;
use crate::task::CurrentTask;
use crate::user::UserOut;
use vmm::addr::UserAddr;

const MPOL_DEFAULT: u32 = 0;
const MPOL_PREFERRED: u32 = 1;
const MPOL_LOCAL: u32 = 4;
/// One past the highest mode (MPOL_WEIGHTED_INTERLEAVE is the last).
const MPOL_MAX: u32 = 7;
/// Mode flags: static nodes, relative nodes, balancing.
const MODE_FLAGS: u32 = 0x8000 | 0x4000 | 0x2000;
const MPOL_F_NODE: u64 = 1;
const MPOL_F_ADDR: u64 = 2;
const MPOL_F_MEMS_ALLOWED: u64 = 4;
/// Bits of the longest node mask that is read: a page of them.
const MAX_MASK_BITS: u64 = 4096 * 8;
/// Bits of a node mask that programs see (MAX_NUMNODES).
const NODE_BITS: u64 = 1024;

/// Reads a node mask; tells whether it names node 0, and refuses any other.
fn read_nodes(task: &CurrentTask<'_>, at: UserAddr, bits: u64) -> Result<bool, Errno> {
    let bits = bits.wrapping_sub(1);
    // A mask of no bits at all is one of too many: the kernel subtracts first, too.
    if bits == 0 || at.0 == 0 {
        return Ok(false);
    }
    if bits > MAX_MASK_BITS {
        return Err(Errno::EINVAL);
    }
    let mut words = vec![0; usize::try_from(bits.div_ceil(64) * 8).unwrap_or(0)];
    task.mm().read(at, &mut words)?;
    let set = |bit: usize| words[bit / 8] >> (bit % 8) & 1 == 1;
    let count = usize::try_from(bits).unwrap_or(0);
    if (1..count).any(set) { Err(Errno::EINVAL) } else { Ok(set(0)) }
}

fn check_policy(task: &CurrentTask<'_>, mode: u32, nodes: UserAddr, bits: u64) -> Result<(), Errno> {
    let (mode, flags) = (mode & !MODE_FLAGS, mode & MODE_FLAGS);
    if mode >= MPOL_MAX || flags & 0xc000 == 0xc000 {
        return Err(Errno::EINVAL);
    }
    let named = read_nodes(task, nodes, bits)?;
    match mode {
        MPOL_DEFAULT if named => Err(Errno::EINVAL),
        MPOL_LOCAL if named || flags != 0 => Err(Errno::EINVAL),
        MPOL_DEFAULT | MPOL_LOCAL | MPOL_PREFERRED => Ok(()),
        _ if !named => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

pub(super) fn set_mempolicy(task: &CurrentTask<'_>, mode: u32, nodes: UserAddr, bits: u64) -> Result<(), Errno> {
    check_policy(task, mode, nodes, bits)
}

pub(super) fn mbind(
    task: &CurrentTask<'_>,
    start: UserAddr,
    len: u64,
    mode: u32,
    nodes: UserAddr,
    bits: u64,
    flags: u32,
) -> Result<(), Errno> {
    check_policy(task, mode, nodes, bits)?;
    if flags & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    let range = advised_range(start, len)?;
    let mapped = range.is_empty() || task.mm().is_mapped(range);
    // Where the default policy is set, holes are no error.
    if mapped || mode & !MODE_FLAGS == MPOL_DEFAULT { Ok(()) } else { Err(Errno::EFAULT) }
}

pub(super) fn get_mempolicy(
    task: &CurrentTask<'_>,
    mode: UserOut<i32>,
    nodes: UserAddr,
    bits: u64,
    at: UserAddr,
    flags: u64,
) -> Result<(), Errno> {
    let known = MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED;
    if nodes.0 != 0 && bits < 1 || flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let allowed = flags & MPOL_F_MEMS_ALLOWED != 0;
    if allowed && flags & (MPOL_F_NODE | MPOL_F_ADDR) != 0 {
        return Err(Errno::EINVAL);
    }
    if !allowed {
        if flags & MPOL_F_ADDR != 0 {
            let page = advised_range(at.page(), 1).map_err(|_| Errno::EFAULT)?;
            if !task.mm().is_mapped(page) {
                return Err(Errno::EFAULT);
            }
        } else if at.0 != 0 || flags & MPOL_F_NODE != 0 {
            return Err(Errno::EINVAL);
        }
    }
    // The default policy; or the node of an address, which is 0, too.
    mode.write_opt(task, &0)?;
    if nodes.0 != 0 {
        let mut mask = vec![0; usize::try_from(bits.min(NODE_BITS).div_ceil(64) * 8).unwrap_or(0)];
        mask[0] = u8::from(allowed);
        task.mm().write(nodes, &mask)?;
    }
    Ok(())
}
