//! The tracer: starts a program stopped at every call that can go wrong, and does something to one of them.
//!
//! All of it happens on the calling thread, which is the tracer of the program's threads and processes; several may trace at once.

use crate::calls::{Call, Effect, numbers};
use crate::look::{descriptors, kind, process_of, threads};
use crate::memory::{cut, registers, request, set_registers};
use crate::{Ended, Fault, Injected, Plan};
use libc::{c_int, c_uint, pid_t, user_regs_struct};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::marker::PhantomData;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A signal that nobody handles or sends here. It interrupts a traced thread all the same, and goes no further.
const UNHANDLED: c_int = libc::SIGURG;

const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_EXITKILL;

/// A program that was started, and stopped as it began.
#[derive(Debug)]
pub struct Traced {
    child: Child,
    plan: Option<Plan>,
    /// Only the thread that has started it can trace it.
    here: PhantomData<*const ()>,
}

impl Traced {
    /// Starts `command`, which is to run under `plan`, or with nothing done to it. It becomes the leader of a process group of its own.
    ///
    /// # Errors
    /// It cannot be started or traced.
    pub fn start(command: &mut Command, plan: Option<Plan>) -> io::Result<Self> {
        let filter = compile(filter());
        command.process_group(0);
        // SAFETY: between fork and exec only system calls are made; the filter was made before.
        unsafe {
            command.pre_exec(move || {
                request(libc::PTRACE_TRACEME, 0, 0, 0)?;
                // The last thing before the program, which stops as it begins: until then nobody attends.
                seccompiler::apply_filter(&filter).map_err(|_| io::ErrorKind::Unsupported.into())
            });
        }
        Ok(Self { child: command.spawn()?, plan, here: PhantomData })
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets it run to its end and that of every process that it has started, for at most `limit`. The calling thread has no other
    /// children meanwhile.
    ///
    /// # Errors
    /// It cannot be traced.
    pub fn attend(self, limit: Duration) -> io::Result<Ended> {
        let leader = pid_t::try_from(self.child.id()).map_err(io::Error::other)?;
        let (done, watch) = mpsc::channel::<()>();
        let alive = Arc::new(Mutex::new(HashSet::new()));
        let all = alive.clone();
        let watchdog = std::thread::spawn(move || {
            let late = watch.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if late {
                lock(&all).iter().for_each(|thread| end(*thread));
            }
            late
        });
        let mut session = Session::new(leader, self.plan, alive);
        let outcome = session.attend();
        drop(done);
        session.ended.late = watchdog.join().unwrap_or_default();
        // SAFETY: the call touches no memory of ours. The group's number is not another's if there is anything left of the group.
        session.ended.left_behind = unsafe { libc::kill(-leader, libc::SIGKILL) == 0 };
        outcome.map(|()| session.ended)
    }
}

/// Lets `command` have the same standing as a program that is traced, with nobody to trace it: as many filters, and privileges that are
/// gone for good.
pub fn stand_alike(command: &mut Command) {
    // No call is another than the others.
    let (all, none) = (SeccompAction::Allow, SeccompAction::KillProcess);
    let filter = compile(SeccompFilter::new(BTreeMap::new(), all, none, TargetArch::x86_64));
    // SAFETY: between fork and exec only system calls are made; the filter was made before.
    unsafe {
        command.pre_exec(move || seccompiler::apply_filter(&filter).map_err(|_| io::ErrorKind::Unsupported.into()));
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills the process of a thread.
fn end(thread: pid_t) {
    // SAFETY: the call touches no memory of ours. The thread was not waited for, so the number is its own.
    unsafe { libc::kill(thread, libc::SIGKILL) };
}

/// The filter that stops the program at the calls of the table.
fn filter() -> Result<SeccompFilter, seccompiler::BackendError> {
    let rules: BTreeMap<_, _> =
        numbers().chain([libc::SYS_sigaltstack, libc::SYS_exit_group]).map(|number| (number, vec![])).collect();
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trace(0), TargetArch::x86_64)
}

fn compile(filter: Result<SeccompFilter, seccompiler::BackendError>) -> BpfProgram {
    filter.and_then(BpfProgram::try_from).expect("a filter of whole calls has no conditions that could be wrong")
}

/// A call that was changed and is under way: what to put back when it returns.
#[derive(Debug)]
struct UnderWay {
    arguments: user_regs_struct,
    /// An address and the word that stood there.
    word: Option<(u64, u64)>,
    /// The error that it returns, whatever it did.
    answer: Option<i32>,
}

struct Session {
    leader: pid_t,
    plan: Option<Plan>,
    /// Processes that execute a program which has not begun: what is before is the dynamic loader's, and the language's runtime's.
    loading: HashSet<pid_t>,
    /// Threads that have stopped before, and have not been waited for.
    alive: Arc<Mutex<HashSet<pid_t>>>,
    /// By thread.
    under_way: HashMap<pid_t, UnderWay>,
    ended: Ended,
}

impl Session {
    fn new(leader: pid_t, plan: Option<Plan>, alive: Arc<Mutex<HashSet<pid_t>>>) -> Self {
        Self { leader, plan, loading: HashSet::new(), alive, under_way: HashMap::new(), ended: Ended::new() }
    }

    /// Attends to the program until nothing of it is left.
    fn attend(&mut self) -> io::Result<()> {
        loop {
            let mut status = 0;
            // All children, and not the group: a process may leave that.
            // SAFETY: `status` is a valid place for the status.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
            if pid == -1 {
                match io::Error::last_os_error() {
                    error if error.raw_os_error() == Some(libc::ECHILD) => return Ok(()),
                    error if error.kind() == io::ErrorKind::Interrupted => continue,
                    error => return Err(error),
                }
            }
            if libc::WIFSTOPPED(status) {
                match self.stopped(pid, status) {
                    // It was killed meanwhile.
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    result => result?,
                }
                continue;
            }
            lock(&self.alive).remove(&pid);
            self.loading.remove(&pid);
            self.under_way.remove(&pid);
            if pid == self.leader {
                let by_signal = libc::WIFSIGNALED(status);
                self.ended.status = if by_signal { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
            }
        }
    }

    fn stopped(&mut self, pid: pid_t, status: c_int) -> io::Result<()> {
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let is_new = lock(&self.alive).insert(pid);
        if pid == self.leader && is_new {
            request(libc::PTRACE_SETOPTIONS, pid, 0, u64::from(OPTIONS.cast_unsigned()))?;
            self.loading.insert(pid);
            return resume(pid, libc::PTRACE_CONT, 0);
        }
        if event == libc::PTRACE_EVENT_SECCOMP {
            return self.calls(pid);
        }
        if signal == libc::SIGTRAP | 0x80 {
            return self.returns(pid);
        }
        if event == libc::PTRACE_EVENT_EXEC {
            self.loading.insert(pid);
        }
        // The stop with which tracing of a new thread begins.
        let is_begin = is_new && signal == libc::SIGSTOP;
        let passed_on = if event != 0 || is_begin || signal == UNHANDLED { 0 } else { signal };
        resume(pid, libc::PTRACE_CONT, passed_on)
    }

    /// A thread is about to make a call.
    fn calls(&mut self, pid: pid_t) -> io::Result<()> {
        let mut regs = registers(pid)?;
        let arguments = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
        let call = Call { number: regs.orig_rax.cast_signed(), arguments };
        if call.number == libc::SYS_exit_group {
            if process_of(pid) == Some(self.leader) {
                (self.ended.descriptors, self.ended.threads) = (descriptors(self.leader), threads(self.leader));
            }
            return resume(pid, libc::PTRACE_CONT, 0);
        }
        if self.is_loading(pid, &call) {
            return resume(pid, libc::PTRACE_CONT, 0);
        }
        let Some(effect) = self.chosen(pid, &call) else { return resume(pid, libc::PTRACE_CONT, 0) };
        let errno = match effect {
            Effect::Returns(value) => i32::try_from(-value).unwrap_or(0),
            Effect::Answers(errno) => errno,
            Effect::Signalled => libc::EINTR,
            Effect::Cut(_) | Effect::AsksOnly => 0,
        };
        if self.ended.injected.is_none() {
            let [first, second, third, ..] = arguments;
            self.ended.injected = Some(Injected { call: call.name(), arguments: [first, second, third], errno });
        }
        if let Effect::Returns(value) = effect {
            // Number -1 is no call: the kernel skips it and every filter, and leaves the result alone.
            (regs.orig_rax, regs.rax) = (u64::MAX, value.cast_unsigned());
            set_registers(pid, &regs)?;
            return resume(pid, libc::PTRACE_CONT, 0);
        }
        if effect == Effect::Signalled {
            signal(pid, UNHANDLED)?;
            return resume(pid, libc::PTRACE_CONT, 0);
        }
        let mut call = UnderWay { arguments: regs, word: None, answer: None };
        match effect {
            Effect::Cut(extent) => call.word = cut(pid, &mut regs, extent)?,
            Effect::Answers(errno) => call.answer = Some(errno),
            Effect::AsksOnly | Effect::Returns(_) | Effect::Signalled => regs.rdi = 0,
        }
        set_registers(pid, &regs)?;
        self.under_way.insert(pid, call);
        resume(pid, libc::PTRACE_SYSCALL, 0)
    }

    /// Whether the call is still part of a program's start; the last call of that is.
    fn is_loading(&mut self, pid: pid_t, call: &Call) -> bool {
        if self.loading.is_empty() && call.number != libc::SYS_sigaltstack {
            return false;
        }
        let Some(process) = process_of(pid) else { return true };
        // The last thing that Rust's runtime does before `main`.
        if call.number == libc::SYS_sigaltstack && call.arguments[0] != 0 {
            self.loading.remove(&process);
            return true;
        }
        call.number == libc::SYS_sigaltstack || self.loading.contains(&process)
    }

    /// Counts a call that something can be done to; answers what is to be done to it.
    fn chosen(&mut self, pid: pid_t, call: &Call) -> Option<Effect> {
        let kind = |fd| kind(pid, fd);
        let Some(Plan { fault, nth }) = self.plan else {
            for fault in Fault::ALL {
                self.ended.places[fault as usize] += u64::from(call.effect(fault, kind).is_some());
            }
            return None;
        };
        let effect = call.effect(fault, kind)?;
        let counted = &mut self.ended.places[fault as usize];
        *counted += 1;
        let is_due = if fault == Fault::Exhausted { *counted >= nth } else { *counted == nth };
        is_due.then_some(effect)
    }

    /// A call that was changed has returned: its arguments are put back, as the kernel leaves them.
    fn returns(&mut self, pid: pid_t) -> io::Result<()> {
        if let Some(call) = self.under_way.remove(&pid) {
            let mut regs = registers(pid)?;
            (regs.rdi, regs.rsi, regs.rdx) = (call.arguments.rdi, call.arguments.rsi, call.arguments.rdx);
            if let Some(errno) = call.answer {
                regs.rax = (-i64::from(errno)).cast_unsigned();
            }
            if let Some((address, word)) = call.word {
                request(libc::PTRACE_POKEDATA, pid, address, word)?;
            }
            set_registers(pid, &regs)?;
        }
        resume(pid, libc::PTRACE_CONT, 0)
    }
}

/// Sends a signal to one thread.
fn signal(thread: pid_t, number: c_int) -> io::Result<()> {
    // SAFETY: the call touches no memory of ours. The thread is stopped, so the number is its own.
    let result = unsafe { libc::syscall(libc::SYS_tkill, thread, number) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn resume(pid: pid_t, how: c_uint, signal: c_int) -> io::Result<()> {
    request(how, pid, 0, u64::from(signal.cast_unsigned())).map(drop)
}
