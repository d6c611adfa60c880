//! What unit tests stand on: a task over detached memory, with no KVM beneath.

use crate::config::{CallSites, Config, Limits, Network, User, View};
use crate::errno::Errno;
use crate::fs::FdTable;
use crate::kernel::Kernel;
use crate::mm::MemoryMap;
use crate::syscall::{self, Outcome, RawArgs};
use crate::task::exit;
use crate::task::{Credentials, CurrentTask, ExitStatus, Pid, ResourceLimits, Resources, Task, ThreadGroup};
use crate::user::UserIn;
use std::sync::Arc;
use vmm::addr::UserAddr;
use vmm::memory::GuestMemory;
use vmm::pico::{DetachedCpu, PostedCall, TrapFrame};
use vmm::trap::Registers;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A configuration that shows nothing of the host and limits generously.
pub fn config() -> Config {
    Config {
        program: "/bin/program".into(),
        args: Vec::new(),
        env: Vec::new(),
        view: View::default(),
        user: User { uid: 1000, gid: 1000, groups: vec![1000] },
        workdir: None,
        hostname: "picovisor".into(),
        limits: Limits { memory: 256 << 20, pids: 64, files: 1024, cpus: 2, timeout: None },
        network: Network::Loopback,
        terminal: None,
        trace: None,
        call_sites: CallSites::LeaveAlone,
        name: None,
    }
}

/// A task and all that it stands on.
#[derive(Debug)]
pub struct Fixture {
    /// The sandbox's kernel.
    pub kernel: Arc<Kernel>,
    /// The task.
    pub task: Arc<Task>,
    /// The registers that [`Self::current`] starts with.
    pub registers: Registers,
    /// The state behind them.
    pub cpu: DetachedCpu,
}

/// A task with memory and descriptors; no view is mounted, so no path can be walked.
pub fn fixture() -> Fixture {
    let kernel = bare_kernel(config());
    let mm = MemoryMap::new(kernel.memory()).unwrap();
    Fixture::over(kernel, Resources { mm: Some(mm), files: Some(Arc::new(FdTable::default())), fs: None })
}

/// A task with memory, descriptors and the view that `config` describes.
pub fn fixture_with(config: Config) -> Fixture {
    fixture_over(bare_kernel(config))
}

/// A task with memory, descriptors and the view that the kernel's configuration describes.
pub fn fixture_over(kernel: Arc<Kernel>) -> Fixture {
    kernel.mount().unwrap();
    let mm = MemoryMap::new(kernel.memory()).unwrap();
    let fs = Arc::new(kernel.namespace().root_context());
    Fixture::over(kernel, Resources { mm: Some(mm), files: Some(Arc::new(FdTable::default())), fs: Some(fs) })
}

/// A kernel with no view and no task.
pub fn bare_kernel(config: Config) -> Arc<Kernel> {
    let memory = GuestMemory::detached(config.limits.memory).unwrap();
    Kernel::new(config, memory)
}

impl Fixture {
    /// Makes a task with these resources: for tests that want less than the usual ones.
    pub fn over(kernel: Arc<Kernel>, resources: Resources) -> Self {
        let config = kernel.config();
        let credentials = Credentials::new(config.user.uid, config.user.gid, config.user.groups.clone());
        let limits = ResourceLimits::initial(config.limits.files, config.limits.pids.into());
        let make = |tid: Pid| Task::new(&kernel, &ThreadGroup::new(tid, limits), tid, resources, credentials);
        let task = kernel.tasks().insert(make).unwrap();
        task.group().add_thread(&task);
        kernel.families().add_first(task.group());
        Self { kernel, task, registers: Registers::default(), cpu: DetachedCpu::default() }
    }

    /// The capability to act as the task.
    pub fn current(&mut self) -> CurrentTask<'_> {
        CurrentTask::new(self.task.clone(), TrapFrame { registers: self.registers, cpu: &mut self.cpu })
    }

    /// Maps fresh memory of `bytes`, readable and writable.
    pub fn allocate(&mut self, bytes: u64) -> UserAddr {
        const READ_WRITE: u64 = 3;
        const PRIVATE_ANONYMOUS: u64 = 0x22;
        let args = [0, bytes, READ_WRITE, PRIVATE_ANONYMOUS, u64::MAX, 0];
        UserAddr(self.returned(linux_raw_sys::general::__NR_mmap, &args).unwrap())
    }

    /// Puts a value into fresh memory.
    pub fn put<T: IntoBytes + Immutable + ?Sized>(&mut self, value: &T) -> UserAddr {
        let at = self.allocate(u64::try_from(value.as_bytes().len()).unwrap().max(1));
        self.current().mm().write(at, value.as_bytes()).unwrap();
        at
    }

    /// Reads a value back.
    pub fn get<T: FromBytes + IntoBytes>(&mut self, at: UserAddr) -> T {
        UserIn::new(at).read(&self.current()).unwrap()
    }

    /// Makes a system call as the program would.
    pub fn call(&mut self, number: u32, args: &[u64]) -> Result<Outcome, Errno> {
        let mut raw: RawArgs = [0; 6];
        raw[..args.len()].copy_from_slice(args);
        let mut task = self.current();
        let result = syscall::dispatch(&mut task, number.into(), &raw);
        self.registers = task.frame.registers;
        result
    }

    /// Makes a system call as a posted one; `None`: it needs the task's own thread.
    pub fn posted(&mut self, number: u32, args: &[u64]) -> Option<u64> {
        let mut raw: RawArgs = [0; 6];
        raw[..args.len()].copy_from_slice(args);
        let call = PostedCall { number: number.into(), arguments: raw, return_address: 0x1000 };
        syscall::posted::serve(self.task.clone(), &call)
    }

    /// Makes a system call the whole way that a trap takes.
    pub fn trapped(&mut self, number: u32, args: &[u64]) -> Result<Outcome, Errno> {
        let mut raw: RawArgs = [0; 6];
        raw[..args.len()].copy_from_slice(args);
        let [rdi, rsi, rdx, r10, r8, r9] = raw;
        self.registers = Registers { rax: number.into(), rdi, rsi, rdx, r10, r8, r9, ..self.registers };
        let mut task = self.current();
        syscall::entry::serve(&mut task)
    }

    /// Makes a system call that must return, and gives what it returned.
    pub fn returned(&mut self, number: u32, args: &[u64]) -> Result<u64, Errno> {
        match self.call(number, args)? {
            Outcome::Return(value) => Ok(value),
            other => panic!("the call did not return: {other:?}"),
        }
    }

    /// Makes a system call and compares its outcome: `0x2a`, `EBADF`, `Resume` or `Exit`.
    #[cfg(test)]
    pub fn check(&mut self, number: u32, args: &[u64], expected: &expect_test::Expect) {
        let outcome = match self.call(number, args) {
            Ok(Outcome::Return(value)) => format!("{value:#x}"),
            Ok(other) => format!("{other:?}"),
            Err(error) => format!("{error}"),
        };
        expected.assert_eq(&outcome);
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Tasks, their process and the kernel hold on to each other until the end.
        exit::end(&self.task, ExitStatus::Exited(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use linux_raw_sys::general::{__NR_exit_group, __NR_getpid};

    fn bare() -> Fixture {
        Fixture::over(Kernel::new(config(), GuestMemory::detached(1 << 20).unwrap()), Resources::default())
    }

    #[test]
    fn the_first_task_is_number_one() {
        bare().check(__NR_getpid, &[], &expect![["0x1"]]);
    }

    #[test]
    fn an_unknown_number_is_counted() {
        let mut fixture = bare();
        fixture.check(9999, &[], &expect![["ENOSYS"]]);
        assert_eq!(fixture.kernel.counters().list(), [("system call 9999".to_owned(), 1)]);
    }

    #[test]
    fn exit_group_keeps_the_low_byte() {
        let mut fixture = bare();
        fixture.check(__NR_exit_group, &[0x1_0000_0102], &expect![["Exit"]]);
        assert_eq!(fixture.task.group().exit_status(), Some(ExitStatus::Exited(2)));
    }
}
