//! From a loaded program to a task that runs it: what the first process and execve have in common.

use super::file::TaskFiles;
use super::{Environment, LoadError, Loaded, Machine, Request, Vdso, find_program, load};
use crate::fs::OpenFile;
use crate::futex;
use crate::mm::{MemoryLimits, Randomize};
use crate::task::CurrentTask;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use vmm::trap::{FIXED_RFLAGS, Registers};

/// The bit of personality(2) that makes addresses the same in each run.
const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;

/// Loads the sandbox's first program, looking `program` up in the PATH of `env` if it has no slash. `args` are without its name.
/// Afterwards the task has the program's memory, and its registers are those to start with.
pub fn start(
    task: &mut CurrentTask<'_>,
    program: &OsStr,
    args: &[OsString],
    env: &[OsString],
) -> Result<(), LoadError> {
    let bytes = |string: &OsString| string.as_bytes().to_vec();
    let env: Vec<_> = env.iter().map(bytes).collect();
    let path = env.iter().find_map(|variable| variable.strip_prefix(b"PATH="));
    let (file, name) = find_program(task, program.as_bytes(), path)?;
    let args = std::iter::once(program.as_bytes().to_vec()).chain(args.iter().map(bytes)).collect();
    execute(task, file, name, args, env)
}

/// Replaces the task's program. Until loading has succeeded nothing of the task changes, so the caller may return the error;
/// after that nothing fails.
pub fn execute(
    task: &mut CurrentTask<'_>,
    file: Arc<OpenFile>,
    name: Vec<u8>,
    args: Vec<Vec<u8>>,
    env: Vec<Vec<u8>>,
) -> Result<(), LoadError> {
    let comm = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
    let before = task.credentials();
    let credentials = before.after_exec(task.attributes().no_new_privileges);
    let loaded = {
        let task = &*task;
        let files = TaskFiles::new(task);
        let image = files.image(file).map_err(LoadError::Open)?;
        let environment = Environment {
            memory: task.kernel().memory(),
            limits: MemoryLimits::of(task.group().limits()),
            randomize: randomize(task),
            machine: Machine::of_host(),
            credentials: &credentials,
            vdso: task.kernel().vdso(),
        };
        load(Request { file: &image, files: &files, name, args, env }, environment)?
    };
    task.become_only_thread().map_err(LoadError::Open)?;
    task.unshare_files().map_err(LoadError::Open)?;
    loaded.map.set_dumpable(credentials.dumpable_after_exec(&before));
    if credentials.is_secure_exec() {
        task.with_attributes(|attributes| attributes.parent_death_signal = 0);
    }
    task.set_credentials_for_exec(credentials);
    enter(task, &loaded, &comm);
    Ok(())
}

/// Whether the new program's addresses are random: personality(2) may say no.
fn randomize(task: &CurrentTask<'_>) -> Randomize {
    match task.attributes().personality & ADDR_NO_RANDOMIZE {
        0 => Randomize::Yes,
        _ => Randomize::No,
    }
}

/// The point of no return: the task gets the program's memory and registers, and loses what exec takes away (begin_new_exec).
fn enter(task: &mut CurrentTask<'_>, loaded: &Loaded, comm: &[u8]) {
    futex::leave_memory(task);
    let old = task.replace_mm(loaded.map.clone());
    task.return_memory();
    task.group().note_exec();
    task.kernel().families().reset_exit_signal(task.group().pid());
    for file in task.files().close_on_exec() {
        task.kernel().namespace().descriptor_closed(task, &file);
    }
    task.group().signals().reset_for_exec();
    task.signals().reset_for_exec();
    task.group().posix_timers().clear();
    task.reset_for_exec();
    task.set_name(comm);
    task.frame.registers =
        Registers { rip: loaded.entry.0, rsp: loaded.stack.0, rflags: FIXED_RFLAGS, ..Registers::default() };
    task.frame.cpu.set_segment_bases(0, 0);
    task.frame.cpu.reset_xsave();
    task.reset_debug_registers();
    drop(old);
}

impl Machine {
    /// What this machine's own kernel tells its programs.
    pub fn of_host() -> Self {
        let (hwcap, hwcap2) = rustix::param::linux_hwcap();
        let frame = rustix::param::linux_minsigstksz();
        Self {
            hwcap: u64::try_from(hwcap).unwrap_or_default(),
            // Ring 3 MONITOR/MWAIT (bit 0) is nothing that a guest has.
            hwcap2: u64::try_from(hwcap2).unwrap_or_default() & !1,
            xsave_size: u64::try_from(frame).unwrap_or_default().saturating_sub(super::auxv::SIGNAL_FRAME_REST),
            // A vCPU may be preempted without our knowledge, so critical sections could not be aborted.
            rseq: false,
        }
    }
}

/// The vDSO of a sandbox, made once.
impl Vdso {
    /// Makes it for `kernel`'s clock; a sandbox whose memory has no room for it runs without.
    pub(crate) fn for_kernel(kernel: &crate::kernel::Kernel) -> Option<Self> {
        Self::new(kernel.memory(), kernel.clock()?.object()).ok()
    }
}
