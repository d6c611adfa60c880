//! The tracer: starts a program stopped at every call that can go wrong, and does something to one of them.
//!
//! All of it happens on the calling thread, which is the tracer of the program's threads and processes; several may trace at once.

use crate::calls::{Call, Effect, Extent, numbers};
use crate::{Fault, Injected, Plan};
use libc::{c_int, c_uint, c_void, pid_t, user_regs_struct};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// How a traced program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit status, or 128 + N after signal N.
    pub status: i32,
    /// It took longer than it was given, and was killed.
    pub late: bool,
    /// Calls that the fault could have been done to, up to the end.
    pub counted: u64,
    /// What was done, if the program came that far.
    pub injected: Option<Injected>,
    /// Descriptors that the first process had when it ended itself, with what they were.
    pub descriptors: Vec<String>,
    /// Threads that it had then.
    pub threads: usize,
    /// Processes of its that were still there when it was over.
    pub left_behind: bool,
}

/// A signal that nobody handles or sends here. It interrupts a traced thread all the same, and goes no further.
const UNHANDLED: c_int = libc::SIGURG;

const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_EXITKILL;

/// Runs `command` to its end under `plan`, for at most `limit`. It becomes the leader of a process group of its own.
///
/// # Errors
/// It cannot be started or traced.
pub fn trace(command: &mut Command, plan: Plan, limit: Duration) -> io::Result<(Child, Ended)> {
    let filter = filter();
    command.process_group(0);
    // SAFETY: between fork and exec only system calls are made; the filter was made before.
    unsafe {
        command.pre_exec(move || {
            request(libc::PTRACE_TRACEME, 0, 0, 0)?;
            // The last thing before the program, which stops as it begins: until then nobody attends.
            seccompiler::apply_filter(&filter).map_err(|_| io::ErrorKind::Unsupported.into())
        });
    }
    let child = command.spawn()?;
    let leader = pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let (done, watch) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let late = watch.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if late {
            end_group(leader);
        }
        late
    });
    let mut session = Session::new(leader, plan);
    let outcome = session.attend();
    drop(done);
    session.ended.late = watchdog.join().unwrap_or_default();
    session.ended.left_behind = end_group(leader);
    outcome.map(|()| (child, session.ended))
}

/// Kills what is left of a process group; tells whether there was anything.
fn end_group(leader: pid_t) -> bool {
    // SAFETY: the call touches no memory of ours. The group's number is not another's: its leader was not waited for when there is
    // anything left, or the group still exists.
    unsafe { libc::kill(-leader, libc::SIGKILL) == 0 }
}

/// The filter that stops the program at the calls of the table.
fn filter() -> BpfProgram {
    let rules: BTreeMap<_, _> =
        numbers().chain([libc::SYS_sigaltstack, libc::SYS_exit_group]).map(|number| (number, vec![])).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trace(0), TargetArch::x86_64);
    filter.and_then(BpfProgram::try_from).expect("a filter of whole calls has no conditions that could be wrong")
}

/// A ptrace request with plain numbers.
fn request(what: c_uint, pid: pid_t, address: u64, data: u64) -> io::Result<i64> {
    // SAFETY: the requests that are made by this function write nothing to memory of this process.
    let result = unsafe { libc::ptrace(what, pid, address, data) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn registers(pid: pid_t) -> io::Result<user_regs_struct> {
    // SAFETY: all bits zero is a value of a struct of numbers.
    let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
    let to: *mut user_regs_struct = &raw mut registers;
    // SAFETY: the kernel writes one struct to where `to` points.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, 0, to.cast::<c_void>()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(registers) }
}

fn set_registers(pid: pid_t, registers: &user_regs_struct) -> io::Result<()> {
    let from: *const user_regs_struct = registers;
    // SAFETY: the kernel reads one struct from where `from` points.
    let result = unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, 0, from.cast::<c_void>()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn peek(pid: pid_t, address: u64) -> io::Result<u64> {
    // SAFETY: the call touches no memory of ours; the C library returns the word.
    let word = unsafe { libc::ptrace(libc::PTRACE_PEEKDATA, pid, address, 0) };
    // -1 may be the word; then it is no length of a piece.
    if word == -1 { Err(io::Error::last_os_error()) } else { Ok(word.cast_unsigned()) }
}

/// A call that was changed and is under way: what to put back when it returns.
#[derive(Debug)]
struct UnderWay {
    thread: pid_t,
    arguments: user_regs_struct,
    /// An address and the word that stood there.
    word: Option<(u64, u64)>,
    /// The error that it returns, whatever it did.
    answer: Option<i32>,
}

struct Session {
    leader: pid_t,
    plan: Plan,
    /// The program has begun: what was before is the dynamic loader's, and the language's runtime's.
    begun: bool,
    /// Threads that have stopped before.
    known: HashSet<pid_t>,
    under_way: Option<UnderWay>,
    ended: Ended,
}

impl Session {
    fn new(leader: pid_t, plan: Plan) -> Self {
        let ended = Ended {
            status: -1,
            late: false,
            counted: 0,
            injected: None,
            descriptors: Vec::new(),
            threads: 0,
            left_behind: false,
        };
        Self { leader, plan, begun: false, known: HashSet::new(), under_way: None, ended }
    }

    /// Attends to the program until nothing of it is left.
    fn attend(&mut self) -> io::Result<()> {
        loop {
            let mut status = 0;
            // SAFETY: `status` is a valid place for the status.
            let pid = unsafe { libc::waitpid(-self.leader, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
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
            } else if pid == self.leader {
                let by_signal = libc::WIFSIGNALED(status);
                self.ended.status = if by_signal { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
            }
        }
    }

    fn stopped(&mut self, pid: pid_t, status: c_int) -> io::Result<()> {
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let is_new = self.known.insert(pid);
        if pid == self.leader && is_new {
            request(libc::PTRACE_SETOPTIONS, pid, 0, u64::from(OPTIONS.cast_unsigned()))?;
            return resume(pid, libc::PTRACE_CONT, 0);
        }
        if event == libc::PTRACE_EVENT_SECCOMP {
            return self.calls(pid);
        }
        if signal == libc::SIGTRAP | 0x80 {
            return self.returns(pid);
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
        if call.number == libc::SYS_sigaltstack {
            // The last thing that Rust's runtime does before `main`.
            self.begun |= arguments[0] != 0;
            return resume(pid, libc::PTRACE_CONT, 0);
        }
        if !self.begun {
            return resume(pid, libc::PTRACE_CONT, 0);
        }
        let is_stream = |fd| is_stream(pid, fd);
        let effect = call.effect(self.plan.fault, is_stream).filter(|_| self.is_chosen());
        let Some(effect) = effect else { return resume(pid, libc::PTRACE_CONT, 0) };
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
            signal(self.leader, pid, UNHANDLED)?;
            return resume(pid, libc::PTRACE_CONT, 0);
        }
        let mut call = UnderWay { thread: pid, arguments: regs, word: None, answer: None };
        match effect {
            Effect::Cut(extent) => call.word = cut(pid, &mut regs, extent)?,
            Effect::Answers(errno) => call.answer = Some(errno),
            Effect::AsksOnly | Effect::Returns(_) | Effect::Signalled => regs.rdi = 0,
        }
        set_registers(pid, &regs)?;
        self.under_way = Some(call);
        resume(pid, libc::PTRACE_SYSCALL, 0)
    }

    /// Counts a call that something can be done to; tells whether it is to be.
    fn is_chosen(&mut self) -> bool {
        self.ended.counted += 1;
        let Plan { fault, nth } = self.plan;
        if fault == Fault::Exhausted { nth != 0 && self.ended.counted >= nth } else { self.ended.counted == nth }
    }

    /// A call that was changed has returned: its arguments are put back, as the kernel leaves them.
    fn returns(&mut self, pid: pid_t) -> io::Result<()> {
        if let Some(call) = self.under_way.take_if(|call| call.thread == pid) {
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

/// Sends a signal to one thread of a process.
fn signal(process: pid_t, thread: pid_t, number: c_int) -> io::Result<()> {
    // SAFETY: the call touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, number) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn resume(pid: pid_t, how: c_uint, signal: c_int) -> io::Result<()> {
    request(how, pid, 0, u64::from(signal.cast_unsigned())).map(drop)
}

/// Halves what a call is to transfer; returns the word of the program's memory that was changed for that.
fn cut(pid: pid_t, regs: &mut user_regs_struct, extent: Extent) -> io::Result<Option<(u64, u64)>> {
    match extent {
        Extent::Bytes => {
            regs.rdx = regs.rdx.div_ceil(2);
            Ok(None)
        }
        Extent::Pieces if regs.rdx > 1 => {
            regs.rdx = 1;
            Ok(None)
        }
        Extent::Pieces => {
            // struct iovec: address, length.
            let at = regs.rsi + 8;
            let length = peek(pid, at)?;
            request(libc::PTRACE_POKEDATA, pid, at, length.div_ceil(2))?;
            Ok(Some((at, length)))
        }
    }
}

/// Whether a descriptor of the thread's is a file, a pipe or a socket.
fn is_stream(pid: pid_t, fd: u64) -> bool {
    let fd = fd & 0xffff_ffff;
    std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|target| {
        let target = target.to_string_lossy();
        target.starts_with('/') || target.starts_with("pipe:") || target.starts_with("socket:")
    })
}

fn process_of(thread: pid_t) -> Option<pid_t> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// The descriptors of a process, sorted, without the numbers that differ from run to run.
fn descriptors(pid: pid_t) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let own = format!("/proc/{pid}/");
    let numbered = [":[", "-vcpu:"];
    let plain = |target: String| {
        let end = numbered.iter().filter_map(|mark| target.find(mark)).min().unwrap_or(target.len());
        target[..end].replace(&own, "/proc/self/")
    };
    let mut found: Vec<_> = targets.map(|target| plain(target.to_string_lossy().into_owned())).collect();
    found.sort();
    found
}

fn threads(pid: pid_t) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}
