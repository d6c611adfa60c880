//! The options of prctl(2) about capabilities (cap_task_prctl in security/commoncap.c).

use crate::errno::Errno;
use crate::task::{Credentials, CurrentTask, SecureBits};
use linux_raw_sys::prctl as pr;

/// CAP_SETPCAP
const CAP_SETPCAP: u32 = 8;
/// Capabilities that there are.
const CAPABILITIES: u64 = 41;

/// Serves an option that is about capabilities; `None` for others. These are asked before all others, so that what
/// they leave unread of the arguments does not matter.
pub(super) fn option(task: &CurrentTask<'_>, option: u32, args: [u64; 4]) -> Option<Result<u64, Errno>> {
    let [arg2, arg3, arg4, arg5] = args;
    Some(match option {
        pr::PR_CAPBSET_READ => match arg2 {
            0..CAPABILITIES => Ok(task.credentials().bounding >> arg2 & 1),
            _ => Err(Errno::EINVAL),
        },
        pr::PR_CAPBSET_DROP => drop_from_bounding_set(task, arg2),
        pr::PR_CAP_AMBIENT => ambient(task, arg2, arg3, (arg4, arg5) == (0, 0)),
        pr::PR_GET_SECUREBITS => Ok(u64::from(task.credentials().secure_bits.bits())),
        pr::PR_SET_SECUREBITS => set_secure_bits(task, arg2),
        pr::PR_GET_KEEPCAPS => Ok(u64::from(task.credentials().secure_bits.contains(SecureBits::KEEP_CAPS))),
        pr::PR_SET_KEEPCAPS => keep_capabilities(task, arg2),
        _ => return None,
    })
}

/// Changes a copy of the task's credentials.
fn change(task: &CurrentTask<'_>, change: impl FnOnce(&mut Credentials)) -> Result<u64, Errno> {
    let mut new = Credentials::clone(&task.credentials());
    change(&mut new);
    task.set_credentials(new);
    Ok(0)
}

fn drop_from_bounding_set(task: &CurrentTask<'_>, capability: u64) -> Result<u64, Errno> {
    if !task.credentials().has(CAP_SETPCAP) {
        return Err(Errno::EPERM);
    }
    if capability >= CAPABILITIES {
        return Err(Errno::EINVAL);
    }
    change(task, |new| new.bounding &= !(1 << capability))
}

fn set_secure_bits(task: &CurrentTask<'_>, wanted: u64) -> Result<u64, Errno> {
    let old = task.credentials();
    let wanted = u32::try_from(wanted).ok().and_then(SecureBits::from_bits).ok_or(Errno::EPERM)?;
    let locks = old.secure_bits & SecureBits::LOCKS;
    let locked = SecureBits::from_bits_retain(locks.bits() >> 1);
    let changes_locked = !(locked & (old.secure_bits ^ wanted)).is_empty();
    if changes_locked || !wanted.contains(locks) || !old.has(CAP_SETPCAP) {
        return Err(Errno::EPERM);
    }
    change(task, |new| new.secure_bits = wanted)
}

fn keep_capabilities(task: &CurrentTask<'_>, wanted: u64) -> Result<u64, Errno> {
    if wanted > 1 {
        return Err(Errno::EINVAL);
    }
    if task.credentials().secure_bits.contains(SecureBits::KEEP_CAPS_LOCKED) {
        return Err(Errno::EPERM);
    }
    change(task, |new| new.secure_bits.set(SecureBits::KEEP_CAPS, wanted == 1))
}

/// PR_CAP_AMBIENT: a capability may be raised that is both permitted and inheritable.
fn ambient(task: &CurrentTask<'_>, operation: u64, capability: u64, rest_is_zero: bool) -> Result<u64, Errno> {
    let operation = u32::try_from(operation).ok();
    if operation == Some(pr::PR_CAP_AMBIENT_CLEAR_ALL) {
        if capability != 0 || !rest_is_zero {
            return Err(Errno::EINVAL);
        }
        return change(task, |new| new.ambient = 0);
    }
    if capability >= CAPABILITIES || !rest_is_zero {
        return Err(Errno::EINVAL);
    }
    let old = task.credentials();
    let bit = 1 << capability;
    match operation {
        Some(pr::PR_CAP_AMBIENT_IS_SET) => Ok(u64::from(old.ambient & bit != 0)),
        Some(pr::PR_CAP_AMBIENT_RAISE) => {
            let refused = old.secure_bits.contains(SecureBits::NO_CAP_AMBIENT_RAISE);
            if refused || old.permitted & old.inheritable & bit == 0 {
                return Err(Errno::EPERM);
            }
            change(task, |new| new.ambient |= bit)
        }
        Some(pr::PR_CAP_AMBIENT_LOWER) => change(task, |new| new.ambient &= !bit),
        _ => Err(Errno::EINVAL),
    }
}
