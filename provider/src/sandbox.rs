//! A sandbox from outside: what the command line starts, waits for, and signals.

mod exec;
mod view;

pub use exec::{Executed, Execution, ProgramStdio};
pub use view::{NoProcess, ProcessState, ProcessView};

use crate::config::Config;
use crate::errno::Errno;
use crate::exec::{self as program, LoadError};
use crate::fs::tty::{self, OutsideEnd};
use crate::fs::{FdTable, Grant, LastLink, ViewError, stdio};
use crate::kernel::{Change, Kernel, Outcome};
use crate::mm::MemoryMap;
use crate::provider::LinuxProvider;
use crate::signal::send::{send_to_group, send_to_process_group};
use crate::signal::{Detail, SigAction, SigInfo, Signal, SignalCode};
use crate::syscall::trace::Tracer;
use crate::task::{Credentials, CurrentTask, ExitStatus, Pid, Resources, Task, ThreadGroup, exit};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use vmm::clock::Clock;
use vmm::events::HostEvents;
use vmm::pico::{
    CreateError, DetachedCpu, Host, OpenError, ProcessAttributes, RegisterError, ThreadAttributes, TrapFrame,
};
use vmm::trap::Registers;

/// Why a sandbox could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The file-system view could not be built.
    #[error("{0}")]
    View(#[from] ViewError),
    /// The trace's file could not be made.
    #[error("{path}: {reason}")]
    Trace {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The working directory does not exist inside, or is none.
    #[error("working directory {path}: {reason}")]
    WorkingDirectory {
        /// The path inside.
        path: PathBuf,
        /// Why.
        reason: Errno,
    },
    /// The standard descriptors could not be taken over.
    #[error("standard input or output: {0}")]
    Stdio(Errno),
    /// The program could not be loaded.
    #[error("{0}")]
    Load(#[from] LoadError),
    /// No memory for the first process.
    #[error("not enough memory to start: {0}")]
    Memory(Errno),
    /// The host turned out to be unable to run threads.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The host could not make the process or its thread.
    #[error("{0}")]
    Create(#[from] CreateError),
    /// The sandbox has ended.
    #[error("the sandbox has ended")]
    Over,
    /// The host serves another sandbox already.
    #[error("{0}")]
    Register(#[from] RegisterError),
}

impl StartError {
    /// The exit status that a launcher reports, as env(1) does: 127 for a program that is not found, 126 for one that cannot be
    /// executed, 125 for everything of our own.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Load(error) => error.exit_status(),
            _ => 125,
        }
    }
}

/// How a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxEnd {
    /// The first process exited with this status.
    Exited(u8),
    /// A signal, by its number, killed the first process.
    Signaled(i32),
    /// The host could not run it any longer; the reason was logged.
    Failed,
}

impl From<ExitStatus> for SandboxEnd {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Exited(code) => Self::Exited(code),
            ExitStatus::Signaled(signal) | ExitStatus::Dumped(signal) => Self::Signaled(signal.raw()),
        }
    }
}

/// A signal as from outside that world (si_pid 0).
fn from_outside(signal: Signal) -> SigInfo {
    let detail = Detail::Sender { pid: Pid(0), uid: 0 };
    SigInfo { signal, errno: 0, code: SignalCode::SI_USER, detail }
}

/// Sends a process a signal as from outside that world.
fn send_from_outside(group: &Arc<ThreadGroup>, signal: Signal) {
    // SI_USER signals are never refused.
    let _: Result<(), Errno> = send_to_group(group, from_outside(signal));
}

/// What the caller ignores, the program ignores, as after any exec.
fn inherit_ignored_signals(task: &Task) {
    let ignored = vmm::inherited::ignored_signals();
    let numbers = (1..=64).filter(|number| ignored >> (number - 1) & 1 != 0);
    for signal in numbers.filter_map(Signal::from_raw) {
        task.group().signals().handlers().set(signal, SigAction { handler: SigAction::IGNORE, ..SigAction::default() });
    }
}

/// A running sandbox.
#[derive(Debug)]
pub struct Sandbox {
    kernel: Arc<Kernel>,
    init: Arc<ThreadGroup>,
    terminal: Option<Arc<OutsideEnd>>,
}

/// A sandbox that has everything but a program.
#[derive(Debug)]
pub struct Prepared {
    kernel: Arc<Kernel>,
    task: Arc<Task>,
    grants: Vec<Grant>,
}

impl Prepared {
    /// The configuration.
    pub fn config(&self) -> &Config {
        self.kernel.config()
    }

    /// The host trees that its programs see, and what they may do there.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Starts its program, as process 1, on the host that it was prepared with.
    ///
    /// # Errors
    /// What is wrong with the program or its standard descriptors, or what the host lacks.
    pub fn start(self, host: &Host) -> Result<Sandbox, StartError> {
        let Self { kernel, task, grants: _ } = self;
        let mut cpu = DetachedCpu::default();
        let frame = TrapFrame { registers: Registers::default(), cpu: &mut cpu };
        let mut current = CurrentTask::new(task.clone(), frame);
        let terminal = connect(&current).map_err(StartError::Stdio)?;
        host.check()?;
        let clock = Clock::new(host.memory(), host.counter()).map_err(|error| StartError::Memory(error.into()))?;
        kernel.set_clock(clock);
        let config = kernel.config();
        program::start(&mut current, &config.program, &config.args, &config.env)?;
        run(host, &mut current)?;
        Ok(Sandbox { kernel, init: task.group().clone(), terminal })
    }
}

/// Where a signal comes from that the monitor got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Another process has sent it: it is for the first process.
    Process,
    /// The caller's terminal has: it is for whoever is in the foreground inside.
    Terminal,
}

impl Sandbox {
    /// As [`Self::prepare`] and [`Prepared::start`] at once.
    pub fn start(host: &Host, config: Config) -> Result<Self, StartError> {
        Self::prepare(host, config)?.start(host)
    }

    /// Makes what `config` describes but its program: everything is opened by then that the monitor reaches by the caller's rights.
    ///
    /// It needs nothing but memory and starts no thread: the host may still be probing, on another one.
    pub fn prepare(host: &Host, config: Config) -> Result<Prepared, StartError> {
        let tracer = match &config.trace {
            None => None,
            Some(trace) => Some(Tracer::open(trace).map_err(|reason| {
                let path = trace.output.clone().unwrap_or_default();
                StartError::Trace { path, reason }
            })?),
        };
        let kernel = Kernel::with_threads(config, host.memory().clone(), host.threads().clone(), tracer);
        let grants = kernel.mount()?;
        host.register(Arc::new(LinuxProvider::new(kernel.clone())))?;
        let task = first_task(&kernel)?;
        let mut cpu = DetachedCpu::default();
        let frame = TrapFrame { registers: Registers::default(), cpu: &mut cpu };
        let current = CurrentTask::new(task.clone(), frame);
        inherit_ignored_signals(&task);
        enter_directory(&current, kernel.config().workdir.clone())?;
        drop(current);
        Ok(Prepared { kernel, task, grants })
    }

    /// Goes through the start of a sandbox up to where its program would run, and forgets it: for a monitor that is started ahead of its
    /// sandbox. The real start finds code, host files and memory in the caches that this has filled. What fails here does so there,
    /// where there is somebody to tell. The host may register a provider still.
    pub fn rehearse(host: &Host, config: Config) {
        let kernel = Kernel::with_threads(config, host.memory().clone(), host.threads().clone(), None);
        if kernel.mount().is_err() {
            return;
        }
        let Ok(task) = first_task(&kernel) else { return };
        let mut cpu = DetachedCpu::default();
        let frame = TrapFrame { registers: Registers::default(), cpu: &mut cpu };
        let mut current = CurrentTask::new(task.clone(), frame);
        let config = kernel.config();
        if enter_directory(&current, config.workdir.clone()).is_ok() {
            let _: Result<(), LoadError> = program::start(&mut current, &config.program, &config.args, &config.env);
        }
        // The task, its process and the kernel hold on to each other until the end.
        exit::end(&task, ExitStatus::Exited(0));
    }

    /// Waits until the first process has ended, which ends the sandbox. Calls `stopped` each time a signal has stopped it.
    pub fn wait(&self, mut stopped: impl FnMut()) -> SandboxEnd {
        loop {
            match self.kernel.wait() {
                Change::Stopped if self.init.is_stopped() => stopped(),
                Change::Stopped => {}
                Change::Ended(Outcome::Program(status)) => return status.into(),
                Change::Ended(Outcome::Failed) => return SandboxEnd::Failed,
            }
        }
    }

    /// Waits until the sandbox has ended or the first process has stopped, but no longer than `patience`; whether it has ended.
    pub fn is_over_within(&self, patience: Duration) -> bool {
        self.kernel.is_over_within(patience)
    }

    /// The other side of the first process's terminal, if it has one of the sandbox's own.
    pub fn terminal(&self) -> Option<&Arc<OutsideEnd>> {
        self.terminal.as_ref()
    }

    /// Sends a signal inside, as from outside that world (si_pid 0). Numbers that no signal has are ignored.
    ///
    /// The sandbox is one job of the caller's shell, so SIGCONT is for all of the first process's group, as natively.
    pub fn deliver_signal(&self, signal: i32, origin: Origin) {
        let Some(signal) = Signal::from_raw(signal) else { return };
        let info = from_outside(signal);
        let own = self.init.process_group();
        if origin == Origin::Terminal {
            let control = self.kernel.terminals().controlling(self.init.session()).map(|terminal| terminal.control());
            let foreground = control.and_then(|control| control.foreground).unwrap_or(own);
            return send_to_process_group(&self.kernel, foreground, &SigInfo { code: SignalCode::SI_KERNEL, ..info });
        }
        if signal == Signal::SIGCONT {
            return send_to_process_group(&self.kernel, own, &info);
        }
        send_from_outside(&self.init, signal);
    }

    /// Ends the sandbox: the first process is killed.
    pub fn terminate(&self) {
        self.deliver_signal(Signal::SIGKILL.raw(), Origin::Process);
    }

    /// What programs asked for and did not get, and how often.
    pub fn counters(&self) -> Vec<(String, u64)> {
        self.kernel.counters().list()
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        self.kernel.config()
    }

    /// The event loop, which tells when host descriptors become ready.
    pub fn host_events(&self) -> &HostEvents {
        self.kernel.host_events()
    }

    /// The sandbox's kernel state, for reports.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }
}

/// Gives the first process its standard descriptors: the caller's, or a terminal of its own.
fn connect(task: &CurrentTask<'_>) -> Result<Option<Arc<OutsideEnd>>, Errno> {
    let Some(size) = task.kernel().config().terminal else {
        stdio::inherit(task)?;
        return Ok(None);
    };
    let (terminal, outside) = tty::open_for_caller(task.kernel(), task.credentials().uid)?;
    outside.resize(size);
    stdio::attach(task, &terminal)?;
    Ok(Some(Arc::new(outside)))
}

/// Makes task 1 with empty memory and descriptors.
fn first_task(kernel: &Arc<Kernel>) -> Result<Arc<Task>, StartError> {
    let config = kernel.config();
    let context = kernel.namespace().root_context();
    context.change_umask(vmm::inherited::umask());
    let resources = Resources {
        mm: Some(MemoryMap::new(kernel.memory()).map_err(StartError::Memory)?),
        files: Some(Arc::new(FdTable::default())),
        fs: Some(Arc::new(context)),
    };
    let user = &config.user;
    let credentials = Credentials::new(user.uid, user.gid, user.groups.clone());
    let make = |tid: Pid| Task::new(kernel, &ThreadGroup::new(tid, kernel.limits()), tid, resources, credentials);
    let task = kernel.tasks().insert(make).map_err(StartError::Memory)?;
    task.group().add_thread(&task);
    kernel.families().add_first(task.group());
    Ok(task)
}

/// Goes to the wanted directory, or to the monitor's if the view has it.
fn enter_directory(task: &CurrentTask<'_>, wanted: Option<PathBuf>) -> Result<(), StartError> {
    let path = wanted.clone().or_else(|| std::env::current_dir().ok());
    let Some(path) = path else { return Ok(()) };
    let walked = task.kernel().namespace().walk(task, None, path.as_os_str().as_bytes(), LastLink::Follow);
    match walked.and_then(|place| if place.inode().as_dir().is_some() { Ok(place) } else { Err(Errno::ENOTDIR) }) {
        Ok(place) => task.fs().change_cwd(place),
        Err(reason) if wanted.is_some() => return Err(StartError::WorkingDirectory { path, reason }),
        Err(_) => {}
    }
    Ok(())
}

/// Gives the loaded task a process and a thread of the host's, and lets it go.
fn run(host: &Host, current: &mut CurrentTask<'_>) -> Result<(), StartError> {
    let task = current.task().clone();
    let process = host.create_process(ProcessAttributes {
        space: Some(current.mm().space().clone()),
        context: Some(task.group().clone()),
        ..ProcessAttributes::default()
    })?;
    task.group().set_process(process.clone());
    task.group().watch_cpu_limit(task.kernel().timers());
    let (fs_base, gs_base) = current.frame.cpu.segment_bases();
    let thread = process.create_thread(ThreadAttributes {
        registers: current.frame.registers,
        fs_base,
        gs_base,
        xsave: None,
        context: task.clone(),
    })?;
    task.set_thread(thread.clone());
    task.give_mask();
    // From here on a signal kicks the thread; one that came before kicks it now.
    if !task.signals().leaving_provider() {
        task.kick();
    }
    thread.start()?;
    Ok(())
}
