//! More programs in a sandbox that runs already, for callers outside.

use super::{Sandbox, SandboxEnd, StartError, enter_directory, run, send_from_outside};
use crate::config::{TerminalSize, User};
use crate::errno::Errno;
use crate::exec;
use crate::fs::tty::{self, OutsideEnd};
use crate::fs::{Fd, FdTable, Ready, stdio};
use crate::mm::MemoryMap;
use crate::signal::Signal;
use crate::task::{
    Credentials, CurrentTask, ExitStatus, Observation, Observer, Pid, Resources, Share, Task, ThreadGroup, exit,
};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use vmm::pico::{DetachedCpu, Host, TrapFrame};
use vmm::trap::Registers;

/// A program that is to run in a sandbox beside the first.
#[derive(Debug)]
pub struct Execution {
    /// The program: a path, or a name to look up in the PATH of `env`.
    pub program: OsString,
    /// The arguments, without the program's name.
    pub args: Vec<OsString>,
    /// `NAME=value` strings, complete.
    pub env: Vec<OsString>,
    /// The user that it believes to be; `None`: the sandbox's.
    pub user: Option<User>,
    /// The working directory; `None`: the one that the first program began in.
    pub workdir: Option<PathBuf>,
    /// Standard input, output and error.
    pub stdio: ProgramStdio,
}

/// Where a program's standard descriptors lead.
#[derive(Debug)]
pub enum ProgramStdio {
    /// To descriptors of the host's, in their order; at most three.
    Descriptors(Vec<OwnedFd>),
    /// To a terminal of its own.
    Terminal(TerminalSize),
}

/// A program that runs in a sandbox beside the first.
#[derive(Debug)]
pub struct Executed {
    group: Arc<ThreadGroup>,
    terminal: Option<Arc<OutsideEnd>>,
    bell: Arc<Bell>,
    _watch: Observation,
}

/// Wakes whoever waits for the end.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<u64>,
    changed: Condvar,
}

impl Observer for Bell {
    fn notify(&self, _ready: Ready) -> bool {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
        true
    }
}

impl Sandbox {
    /// Starts a program as a process of its own session, whose parent is outside.
    ///
    /// # Errors
    /// As for the first program; `Memory(EAGAIN)` if there are as many processes as there may be.
    pub fn execute(&self, host: &Host, execution: Execution) -> Result<Executed, StartError> {
        let task = self.new_task(execution.user.as_ref())?;
        let mut cpu = DetachedCpu::default();
        let frame = TrapFrame { registers: Registers::default(), cpu: &mut cpu };
        let mut current = CurrentTask::new(task.clone(), frame);
        let bell = Arc::new(Bell::default());
        let observer: Weak<dyn Observer> = Arc::downgrade(&(Arc::clone(&bell) as Arc<dyn Observer>));
        let watch = task.group().end_events().observe(observer, Ready::all(), Share::Common);
        match self.start_in(host, &mut current, execution) {
            Ok(terminal) => Ok(Executed { group: task.group().clone(), terminal, bell, _watch: watch }),
            Err(error) => {
                give_up(&task);
                Err(error)
            }
        }
    }

    /// Makes the task, with empty memory and no descriptors. It has no place in a family yet.
    fn new_task(&self, user: Option<&User>) -> Result<Arc<Task>, StartError> {
        let config = self.kernel.config();
        let context = self.kernel.namespace().root_context();
        context.change_umask(vmm::inherited::umask());
        let resources = Resources {
            mm: Some(MemoryMap::new(self.kernel.memory()).map_err(StartError::Memory)?),
            files: Some(Arc::new(FdTable::default())),
            fs: Some(Arc::new(context)),
        };
        let user = user.unwrap_or(&config.user);
        let credentials = Credentials::new(user.uid, user.gid, user.groups.clone());
        let make = |tid: Pid| {
            Task::new(&self.kernel, &ThreadGroup::new(tid, self.kernel.limits()), tid, resources, credentials)
        };
        let task = self.kernel.tasks().insert(make).map_err(StartError::Memory)?;
        task.group().add_thread(&task);
        Ok(task)
    }

    fn start_in(
        &self,
        host: &Host,
        current: &mut CurrentTask<'_>,
        execution: Execution,
    ) -> Result<Option<Arc<OutsideEnd>>, StartError> {
        let terminal = connect(current, execution.stdio).map_err(StartError::Stdio)?;
        let workdir = execution.workdir.or_else(|| self.kernel.config().workdir.clone());
        enter_directory(current, workdir)?;
        exec::start(current, &execution.program, &execution.args, &execution.env)?;
        self.kernel.families().add_first(current.group());
        if self.init.exit_status().is_some() {
            // Who kills everybody at the sandbox's end may not have seen it.
            return Err(StartError::Over);
        }
        run(host, current)?;
        Ok(terminal)
    }
}

/// Gives the program its standard descriptors.
fn connect(task: &CurrentTask<'_>, stdio: ProgramStdio) -> Result<Option<Arc<OutsideEnd>>, Errno> {
    match stdio {
        ProgramStdio::Descriptors(fds) => {
            for (number, fd) in (0..).zip(fds) {
                task.files().replace(stdio::adopt(task, fd)?, false, Fd(number), u64::MAX)?;
            }
            Ok(None)
        }
        ProgramStdio::Terminal(size) => {
            let (terminal, outside) = tty::open_for_leader(task.kernel(), task.credentials().uid, task.group().pid())?;
            outside.resize(size);
            stdio::attach(task, &terminal)?;
            Ok(Some(Arc::new(outside)))
        }
    }
}

/// Ends a task that could not be started, whatever it had by then.
fn give_up(task: &Arc<Task>) {
    let group = task.group();
    if let Some(process) = group.process() {
        process.terminate();
    }
    if group.has_thread(task.tid()) {
        exit::end(task, ExitStatus::Signaled(Signal::SIGKILL));
    }
}

impl Executed {
    /// Its number inside.
    pub fn pid(&self) -> i32 {
        self.group.pid().0
    }

    /// The other side of its terminal, if it has one of its own.
    pub fn terminal(&self) -> Option<&Arc<OutsideEnd>> {
        self.terminal.as_ref()
    }

    /// Sends it a signal, as from outside that world (si_pid 0). Numbers that no signal has are ignored.
    pub fn signal(&self, signal: i32) {
        if let Some(signal) = Signal::from_raw(signal) {
            send_from_outside(&self.group, signal);
        }
    }

    /// Waits until it has ended.
    pub fn wait(&self) -> SandboxEnd {
        loop {
            let before = *self.bell.rung.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(status) = self.group.exit_status() {
                return status.into();
            }
            let rung = self.bell.rung.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.bell.changed.wait_while(rung, |rung| *rung == before));
        }
    }
}
