//! Calls that belong to no subject: the system's name and figures, and what only an administrator may do.

use crate::errno::Errno;
use crate::kernel::release;
use crate::task::CurrentTask;
use crate::user::UserOut;
use vmm::addr::UserAddr;
use vmm::clock::ClockKind;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// CAP_SYS_ADMIN
const CAP_SYS_ADMIN: u32 = 21;
/// Bytes in a field of `struct new_utsname`, with its NUL.
const FIELD: usize = 65;

/// `struct new_utsname`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct SystemName {
    fields: [[u8; FIELD]; 6],
}

pub(super) fn uname(task: &CurrentTask<'_>, to: UserOut<SystemName>) -> Result<(), Errno> {
    let names = task.namespaces().uts.names();
    let machine = if task.attributes().personality & PER_LINUX32 == PER_LINUX32 { "i686" } else { "x86_64" };
    let texts: [&[u8]; 6] = [
        release::SYSTEM.as_bytes(),
        &names.host,
        release::RELEASE.as_bytes(),
        release::VERSION.as_bytes(),
        machine.as_bytes(),
        &names.domain,
    ];
    let mut fields = [[0; FIELD]; 6];
    for (field, text) in fields.iter_mut().zip(texts) {
        let len = text.len().min(FIELD - 1);
        field[..len].copy_from_slice(&text[..len]);
    }
    to.write(task, &SystemName { fields })
}

/// Reads a name that the caller may set; `EPERM` unless it is an administrator.
fn read_system_name(task: &CurrentTask<'_>, name: UserAddr, len: i32) -> Result<Vec<u8>, Errno> {
    if !task.credentials().has(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let len = usize::try_from(len).ok().filter(|len| *len < FIELD).ok_or(Errno::EINVAL)?;
    let mut bytes = vec![0; len];
    task.mm().read(name, &mut bytes)?;
    Ok(bytes)
}

pub(super) fn sethostname(task: &CurrentTask<'_>, name: UserAddr, len: i32) -> Result<(), Errno> {
    let name = read_system_name(task, name, len)?;
    task.namespaces().uts.set_host_name(name);
    Ok(())
}

pub(super) fn setdomainname(task: &CurrentTask<'_>, name: UserAddr, len: i32) -> Result<(), Errno> {
    let name = read_system_name(task, name, len)?;
    task.namespaces().uts.set_domain_name(name);
    Ok(())
}

/// `struct sysinfo`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct SystemInfo {
    uptime: i64,
    loads: [u64; 3],
    total_ram: u64,
    free_ram: u64,
    shared_ram: u64,
    buffer_ram: u64,
    total_swap: u64,
    free_swap: u64,
    processes: u16,
    padding: [u16; 3],
    total_high: u64,
    free_high: u64,
    unit: u32,
    padding2: u32,
}

const _: () = assert!(size_of::<SystemInfo>() == 112);

pub(super) fn sysinfo(task: &CurrentTask<'_>, to: UserOut<SystemInfo>) -> Result<(), Errno> {
    let kernel = task.kernel();
    let (total, held) = (kernel.memory().limit(), kernel.memory().held());
    let uptime = kernel.now(ClockKind::Boot) / 1_000_000_000;
    let info = SystemInfo {
        uptime: uptime.cast_signed(),
        // The host's, as /proc/loadavg shows them: the sandbox shares its processors.
        loads: rustix::system::sysinfo().loads,
        total_ram: total,
        free_ram: total.saturating_sub(held),
        processes: u16::try_from(kernel.tasks().all().len()).unwrap_or(u16::MAX),
        unit: 1,
        ..SystemInfo::default()
    };
    to.write(task, &info)
}

/// Looks like a 32-bit machine to uname(2).
const PER_LINUX32: u32 = 8;
/// ADDR_NO_RANDOMIZE, STICKY_TIMEOUTS and the like are kept and read back.
const QUERY: u32 = 0xffff_ffff;
/// READ_IMPLIES_EXEC, and the execution domains of other systems, would need other behaviour.
const READ_IMPLIES_EXEC: u32 = 0x40_0000;

pub(super) fn personality(task: &CurrentTask<'_>, new: u32) -> Result<u32, Errno> {
    let old = task.attributes().personality;
    if new != QUERY {
        if new & READ_IMPLIES_EXEC != 0 {
            task.kernel().counters().unsupported("personality: READ_IMPLIES_EXEC");
        }
        task.with_attributes(|attributes| attributes.personality = new);
    }
    Ok(old)
}

/// What a sandbox has nobody for: the machine belongs to the host.
pub(super) fn not_permitted(_task: &CurrentTask<'_>) -> Result<(), Errno> {
    Err(Errno::EPERM)
}

/// reboot(2). The machine is the host's, and the sandbox ends with its first process.
pub(super) fn reboot(task: &CurrentTask<'_>, magic: u32, magic2: u32, command: u32) -> Result<(), Errno> {
    /// CAP_SYS_BOOT
    const CAP_SYS_BOOT: u32 = 22;
    /// LINUX_REBOOT_MAGIC1
    const MAGIC: u32 = 0xfee1_dead;
    /// LINUX_REBOOT_MAGIC2, and its variants A, B and C.
    const MAGICS: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
    /// LINUX_REBOOT_CMD_RESTART, HALT, POWER_OFF and RESTART2: what init of a PID namespace dies of (reboot_pid_ns).
    const COMMANDS: [u32; 4] = [0x0123_4567, 0xcdef_0123, 0x4321_fedc, 0xa1b2_c3d4];
    if !task.credentials().has(CAP_SYS_BOOT) {
        return Err(Errno::EPERM);
    }
    if magic != MAGIC || !MAGICS.contains(&magic2) || !COMMANDS.contains(&command) {
        return Err(Errno::EINVAL);
    }
    Err(task.unsupported("reboot", Errno::EPERM))
}

pub(super) fn syslog(_task: &CurrentTask<'_>, operation: i32, _buffer: UserAddr, len: i32) -> Result<i32, Errno> {
    const READ_ALL: i32 = 3;
    const SIZE_BUFFER: i32 = 10;
    match operation {
        // There is a log, and it is empty.
        READ_ALL if len >= 0 => Ok(0),
        READ_ALL => Err(Errno::EINVAL),
        SIZE_BUFFER => Ok(0),
        _ => Err(Errno::EPERM),
    }
}
