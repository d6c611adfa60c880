//! A second personality, small and real, written against the public contract alone: nine calls, a handler for
//! exceptions, threads. The tests run assembly payloads under it.
//!
//! | rax | call | returns |
//! |---|---|---|
//! | 0 | exit(code): ends the thread | |
//! | 1 | log(address, length) | bytes taken, or -1 for a bad address |
//! | 2 | map(address, length, access) | 0 |
//! | 3 | unmap(address, length) | 0 |
//! | 4 | handle(address): where exceptions go from now on | 0 |
//! | 5 | spawn(rip, rsp, rdi): a thread | 0, or -1 |
//! | 6 | bases(fs, gs) | 0 |
//! | 7 | note(value) | 0 |
//! | 8 | back(skip): resumes where the last exception hit, `skip` bytes further | |
//! | 9 | registers(address): stores the frame's registers at an address | 0 |
//! | 10 | fork(rip): a copy of the process, whose thread will start at rip | 0 |
//! | 11 | go(): starts the last copy | 0 |
//! | 12 | wait(count): waits until so many processes have ended | 0 |
//! | 20–25 | see [`calls`] | |
//!
//! Faults in [`FORKED`] that a fork has caused are settled, and not recorded.
//! A handler finds the vector in rdi, the error code in rsi, the fault's address in rdx and its RIP in rcx.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "it is part of the tests")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use vmm::addr::{UserAddr, UserRange};
use vmm::memory::{Access, AddressSpace, Fault, PageState};
use vmm::pico::walk::{self, Visit};
use vmm::pico::{
    Activity, Chance, Context, Disposition, ExceptionRecord, ExitReason, Host, HostConfig, PostedCall, Posting,
    Process, ProcessAccess, ProcessAttributes, ProcessDetails, ProcessFlags, ProtectedRange, Provider, SubsystemType,
    Thread, ThreadAccess, ThreadAttributes, TrapFrame, Way,
};
use vmm::trap::Registers;

/// Where payloads are loaded, where their data and stacks are.
pub const CODE: u64 = 0x40_0000;
pub const DATA: u64 = 0x50_0000;
pub const STACK: u64 = 0x7f_0000_0000;
const AREA: u64 = 0x1_0000;

/// Defines a payload: position-independent assembly, as bytes.
#[macro_export]
macro_rules! payload {
    ($name:ident, $($line:expr),+ $(,)?) => {
        std::arch::global_asm!(
            ".pushsection .rodata.payload, \"a\"",
            concat!(".global payload_", stringify!($name), "_start"),
            concat!("payload_", stringify!($name), "_start:"),
            $($line),+,
            concat!(".global payload_", stringify!($name), "_end"),
            concat!("payload_", stringify!($name), "_end:"),
            ".popsection",
        );
        fn $name() -> &'static [u8] {
            unsafe extern "C" {
                #[link_name = concat!("payload_", stringify!($name), "_start")]
                static START: u8;
                #[link_name = concat!("payload_", stringify!($name), "_end")]
                static END: u8;
            }
            let (start, end) = (&raw const START, &raw const END);
            // SAFETY: the two symbols enclose the payload's bytes, which are constant.
            unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
        }
    };
}

/// What the personality asks the host to protect.
pub static TABLE: [u64; 4] = [3, 1, 4, 1];

/// Exceptions at this address are not handled, at neither chance.
pub const UNHANDLED: u64 = 0x6f_0000_0000;

/// What happened, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Note(u64),
    Exception { vector: u8, error: u32, address: u64, rip: u64 },
    Unhandled(Chance),
    IoFault(u64),
    Terminate,
    Kick,
    Exit(u64),
    ThreadEnd(ExitReason),
    ProcessEnd(ExitReason),
}

#[derive(Debug, Default)]
struct Record {
    events: Vec<Event>,
    log: Vec<u8>,
    ended: usize,
}

/// The personality.
#[derive(Debug, Default)]
pub struct Script {
    record: Mutex<Record>,
    changed: Condvar,
    forked: Mutex<Option<Arc<Thread>>>,
    /// How often [`calls::POSTED`] and [`calls::REFUSED`] were served, by post and by trap.
    pub posted: AtomicU64,
    pub trapped: AtomicU64,
    /// How often a thread has kicked itself by [`calls::KICKED`], and threads were looked after for kicks.
    pub owed: AtomicU64,
    pub kicked: AtomicU64,
    /// What is held for a thread whose mask has bit 0; 0: nothing is.
    pub held: AtomicU64,
    /// What was held last and has been handed over, to the word at [`HANDED`].
    pub handed: AtomicU64,
}

/// Where threads find what was held for them.
pub const HANDED: u64 = DATA + 0x100;

/// System calls that need not trap.
pub mod calls {
    /// Answered in the guest.
    pub const ANSWERED: u64 = 20;
    /// What [`ANSWERED`] returns.
    pub const ANSWER: u64 = 0x7bcd_ef01_2345_6789;
    /// Posted; returns [`result`].
    pub const POSTED: u64 = 21;
    /// Posted, and refused; returns [`result`].
    pub const REFUSED: u64 = 22;
    /// Posted; kicks its own thread and returns [`result`].
    pub const KICKED: u64 = 23;
    /// Trapped; returns how many of those kicks are still owed.
    pub const SETTLED: u64 = 24;
    /// Changes the mask, without anybody if that can be: adds (`rdi` 0), takes away (1) or sets (2) what is at `rsi`, and
    /// stores what was at `rdx`; `r10` is 8. Returns 0, or -1 for an address.
    pub const MASK: u64 = 25;
    /// Wakes who waits for the word at `rdi` (`rsi`: how, as futex(2) has it); answered in the guest where nobody is counted. Returns 1.
    pub const WAKE: u64 = 26;
    /// What words are counted with.
    pub const SALT: u32 = 0x1234_5678;

    /// What becomes of a call's first two arguments.
    pub fn result(first: u64, second: u64) -> u64 {
        first.wrapping_mul(3).wrapping_add(second)
    }
}

#[derive(Debug)]
struct ProcessState {
    process: Mutex<Option<Arc<Process>>>,
}

#[derive(Debug)]
pub struct ThreadState {
    process: Arc<ProcessState>,
    handler: Mutex<u64>,
    trapped: Mutex<Registers>,
    number: u64,
}

impl ThreadState {
    fn new(process: &Arc<ProcessState>) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Self { process: process.clone(), handler: Mutex::default(), trapped: Mutex::default(), number }
    }
}

fn thread_of(context: &Context) -> &ThreadState {
    context.downcast_ref().expect("this personality made the context")
}

fn state_of(context: &Context) -> &ProcessState {
    context.downcast_ref().expect("this personality made the context")
}

pub fn range(start: u64, len: u64) -> UserRange {
    UserRange::new(UserAddr(start), len).expect("a range of a test")
}

pub fn access(bits: u64) -> Access {
    Access::from_bits_truncate(u8::try_from(bits & 7).expect("three bits"))
}

impl Script {
    /// Kicks the only thread of a thread's process: itself.
    fn kick_own(&self, thread: &ThreadState) {
        self.owed.fetch_add(1, Ordering::Relaxed);
        let process = thread.process.process.lock().unwrap().clone().expect("the process runs");
        process.threads().iter().for_each(|thread| thread.kick());
    }

    pub fn push(&self, event: Event) {
        self.record.lock().unwrap().events.push(event);
        self.changed.notify_all();
    }

    pub fn push_log(&self, bytes: &[u8]) {
        self.record.lock().unwrap().log.extend_from_slice(bytes);
    }

    /// Waits until `done` holds of the events.
    pub fn wait_for(&self, done: impl Fn(&[Event]) -> bool) {
        let mut record = self.record.lock().unwrap();
        while !done(&record.events) {
            record = self.changed.wait(record).unwrap();
        }
    }

    pub fn events(&self) -> Vec<Event> {
        self.record.lock().unwrap().events.clone()
    }

    pub fn log(&self) -> Vec<u8> {
        self.record.lock().unwrap().log.clone()
    }

    pub fn notes(&self) -> Vec<u64> {
        let notes = |event| if let Event::Note(value) = event { Some(value) } else { None };
        self.events().into_iter().filter_map(notes).collect()
    }

    pub fn exceptions(&self) -> Vec<(u8, u32, u64, u64)> {
        let exceptions = |event| match event {
            Event::Exception { vector, error, address, rip } => Some((vector, error, address, rip)),
            _ => None,
        };
        self.events().into_iter().filter_map(exceptions).collect()
    }

    /// Hands over what is held for the only thread of a thread's process, if its mask lets it.
    fn hand_over(&self, thread: &ThreadState) {
        let process = thread.process.process.lock().unwrap().clone().expect("the process runs");
        let own = process.threads()[0].clone();
        let held = self.held.load(Ordering::SeqCst);
        if held != 0 && own.calls().mask() & 1 == 0 {
            self.held.store(0, Ordering::SeqCst);
            own.calls().set(calls::MASK, Way::Mask);
            process.space().write(UserAddr(HANDED), &held.to_le_bytes()).unwrap();
            self.handed.store(held, Ordering::SeqCst);
        }
    }

    /// Serves [`calls::MASK`].
    fn change_mask(&self, thread: &ThreadState, how: u64, new: u64, old: u64) -> u64 {
        self.trapped.fetch_add(1, Ordering::Relaxed);
        let process = thread.process.process.lock().unwrap().clone().expect("the process runs");
        let (space, calls) = (process.space(), process.threads()[0].calls().clone());
        let was = calls.mask();
        let mut bytes = [0; 8];
        if new != 0 {
            if space.read(UserAddr(new), &mut bytes).is_err() {
                return u64::MAX;
            }
            let set = u64::from_le_bytes(bytes);
            let mask = [was | set, was & !set, set][usize::try_from(how).unwrap()];
            calls.set_mask(mask & guest::layout::MASKABLE);
        }
        if old != 0 && space.write(UserAddr(old), &was.to_le_bytes()).is_err() {
            return u64::MAX;
        }
        self.hand_over(thread);
        0
    }

    fn space(thread: &ThreadState) -> Arc<AddressSpace> {
        thread.process.process.lock().unwrap().as_ref().expect("the process runs").space()
    }
}

impl Provider for Script {
    fn dispatch_system_call(&self, context: &Context, frame: &mut TrapFrame<'_>) -> Disposition {
        let thread = thread_of(context);
        let Registers { rax: number, rdi, rsi, rdx, .. } = frame.registers;
        frame.registers.rax = match number {
            0 => {
                self.push(Event::Exit(rdi));
                return Disposition::Exit;
            }
            1 => {
                let mut bytes = vec![0; usize::try_from(rsi.min(4096)).unwrap()];
                match Self::space(thread).read(UserAddr(rdi), &mut bytes) {
                    Ok(()) => {
                        self.push_log(&bytes);
                        rsi.min(4096)
                    }
                    Err(_) => u64::MAX,
                }
            }
            2 => {
                Self::space(thread).map_anonymous(range(rdi, rsi), access(rdx), false).unwrap();
                0
            }
            3 => {
                Self::space(thread).unmap(range(rdi, rsi));
                0
            }
            4 => {
                *thread.handler.lock().unwrap() = rdi;
                0
            }
            5 => {
                let process = thread.process.process.lock().unwrap().clone().expect("the process runs");
                let registers = Registers { rip: rdi, rsp: rsi, rdi: rdx, ..Registers::default() };
                match spawn(&process, &thread.process, registers) {
                    Some(_) => 0,
                    None => u64::MAX,
                }
            }
            6 => {
                frame.cpu.set_segment_bases(rdi, rsi);
                0
            }
            7 => {
                self.push(Event::Note(rdi));
                0
            }
            8 => {
                frame.registers = *thread.trapped.lock().unwrap();
                frame.registers.rip += rdi;
                return Disposition::Resume;
            }
            9 => {
                let r = &frame.registers;
                let words = [r.rip, r.rsp, r.rflags, r.rcx, r.r11, r.rax];
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                Self::space(thread).write(UserAddr(rdi), &bytes).map_or(u64::MAX, |()| 0)
            }
            10 => {
                let child = fork(thread, Registers { rip: rdi, ..frame.registers });
                *self.forked.lock().unwrap() = Some(child);
                0
            }
            11 => {
                let child = self.forked.lock().unwrap().take().expect("something was forked");
                child.start().expect("a virtual CPU");
                0
            }
            12 => {
                let mut record = self.record.lock().unwrap();
                while (record.ended as u64) < rdi {
                    record = self.changed.wait(record).unwrap();
                }
                0
            }
            calls::ANSWERED => calls::ANSWER,
            calls::MASK => self.change_mask(thread, rdi, rsi, rdx),
            calls::KICKED => {
                self.kick_own(thread);
                calls::result(rdi, rsi)
            }
            calls::SETTLED => self.owed.load(Ordering::Relaxed).saturating_sub(self.kicked.load(Ordering::Relaxed)),
            calls::WAKE => 1,
            calls::POSTED | calls::REFUSED => {
                self.trapped.fetch_add(1, Ordering::Relaxed);
                calls::result(rdi, rsi)
            }
            _ => u64::MAX,
        };
        Disposition::Return
    }

    fn dispatch_exception(
        &self,
        context: &Context,
        record: &ExceptionRecord,
        frame: &mut TrapFrame<'_>,
    ) -> Option<Disposition> {
        let thread = thread_of(context);
        let exception = record.exception;
        let rip = frame.registers.rip;
        let (vector, error, address) = (exception.vector.0, exception.error, exception.address.0);
        if vector == 14 && resolve(&Self::space(thread), exception.address) {
            return Some(Disposition::Resume);
        }
        if rip == UNHANDLED {
            self.push(Event::Unhandled(record.chance));
            return None;
        }
        self.push(Event::Exception { vector, error, address, rip });
        let handler = *thread.handler.lock().unwrap();
        if handler == 0 {
            return Some(Disposition::Exit);
        }
        *thread.trapped.lock().unwrap() = frame.registers;
        let r = &mut frame.registers;
        // A handler that is stepped would be its own handler's.
        r.rflags &= !0x100;
        (r.rdi, r.rsi, r.rdx, r.rcx, r.rip) = (vector.into(), error.into(), address, rip, handler);
        Some(Disposition::Resume)
    }

    fn dispatch_posted_call(&self, context: &Context, call: &PostedCall) -> Option<u64> {
        match call.number {
            calls::POSTED => {}
            calls::KICKED => self.kick_own(thread_of(context)),
            _ => return None,
        }
        self.posted.fetch_add(1, Ordering::Relaxed);
        Some(calls::result(call.arguments[0], call.arguments[1]))
    }

    fn dispatch_io_fault(&self, process: &Context, fault: &Fault) -> bool {
        let process = state_of(process).process.lock().unwrap().clone();
        self.push(Event::IoFault(fault.address.0));
        process.is_some_and(|process| resolve(&process.space(), fault.address))
    }

    fn dispatch_kick(&self, context: &Context, _: &mut TrapFrame<'_>) -> Disposition {
        self.hand_over(thread_of(context));
        self.kicked.fetch_add(1, Ordering::Relaxed);
        self.push(Event::Kick);
        Disposition::Resume
    }

    fn exit_thread(&self, _: &Context, reason: ExitReason) {
        self.push(Event::ThreadEnd(reason));
    }

    fn exit_process(&self, process: &Context, reason: ExitReason) {
        let state = state_of(process);
        *state.process.lock().unwrap() = None;
        self.record.lock().unwrap().ended += 1;
        self.push(Event::ProcessEnd(reason));
    }

    fn terminate_process(&self, process: &Context) {
        self.push(Event::Terminate);
        let state = state_of(process);
        let process = state.process.lock().unwrap().clone();
        if let Some(process) = process {
            process.terminate();
        }
    }

    fn walk_user_stack(&self, thread: &Context, registers: &Registers, visit: &mut Visit<'_>) {
        let space = Self::space(thread_of(thread));
        walk::by_frame_pointers(registers, &|at, to: &mut [u8]| space.read(at, to).is_ok(), visit);
    }

    fn protected_ranges(&self) -> Vec<ProtectedRange> {
        vec![ProtectedRange::of("the script's table", &TABLE)]
    }

    fn process_name(&self, _: &Context) -> Vec<u8> {
        b"script".to_vec()
    }

    fn process_number(&self, process: &Context) -> u64 {
        1000 + state_of(process).process.lock().unwrap().as_ref().map_or(0, |process| process.id())
    }

    fn process_details(&self, process: &Context) -> ProcessDetails {
        let alive = state_of(process).process.lock().unwrap().is_some();
        let activity = if alive { Activity::Running } else { Activity::Ended };
        ProcessDetails { parent: None, activity, command: b"script\0--test\0".to_vec(), handles: 0 }
    }

    fn thread_name(&self, _: &Context) -> Vec<u8> {
        b"actor".to_vec()
    }

    fn thread_number(&self, thread: &Context) -> u64 {
        thread_of(thread).number
    }

    fn open_process_allowed_access(
        &self,
        _: &Context,
        opener: Option<&Context>,
        wanted: ProcessAccess,
    ) -> ProcessAccess {
        // A process of this personality may look at others; the host may do everything but write.
        if opener.is_some() { wanted & ProcessAccess::QUERY } else { wanted - ProcessAccess::VM_WRITE }
    }

    fn open_thread_allowed_access(&self, _: &Context, opener: Option<&Context>, wanted: ThreadAccess) -> ThreadAccess {
        if opener.is_some() { wanted & ThreadAccess::QUERY } else { wanted }
    }

    fn subsystem(&self) -> SubsystemType {
        SubsystemType::Other(1)
    }
}

/// Attributes of a process of this personality, for tests that run no thread in it.
pub fn attributes() -> ProcessAttributes {
    let state = ProcessState { process: Mutex::default() };
    ProcessAttributes { context: Some(Arc::new(state)), ..ProcessAttributes::default() }
}

/// Tells the personality which process one of its own is; the rig's are told.
pub fn known(process: Arc<Process>) -> Arc<Process> {
    let context = process.context().expect("a pico process").clone();
    *state_of(&context).process.lock().unwrap() = Some(process.clone());
    process
}

/// The context of a new thread.
pub fn thread_context(process: &Process) -> Context {
    let context = process.context().expect("a pico process").clone();
    Arc::new(ThreadState::new(&context.downcast().expect("this personality made the context")))
}

/// Where stores after a fork are settled: pages that are shared are copied, and pages that were left behind are mapped.
pub const FORKED: std::ops::Range<u64> = 0x6000_0000..0x8000_0000;

/// Settles what a fork has left to faults.
fn resolve(space: &AddressSpace, at: UserAddr) -> bool {
    if !FORKED.contains(&at.0) {
        return false;
    }
    match space.page_state(at) {
        PageState::CopyOnWrite(access) if access.contains(Access::WRITE) => space.break_copy(at).is_ok(),
        PageState::Absent => {
            let page = range(at.page().0, 4096);
            space.map_anonymous(page, Access::READ | Access::WRITE, false).is_ok()
        }
        // Another thread was faster.
        PageState::Mapped(access) => access.contains(Access::WRITE),
        _ => false,
    }
}

/// Makes a copy of a thread's process with one thread, which has not started.
fn fork(thread: &ThreadState, registers: Registers) -> Arc<Thread> {
    let parent = thread.process.process.lock().unwrap().clone().expect("the process runs");
    let state = Arc::new(ProcessState { process: Mutex::default() });
    let flags = ProcessFlags::CLONE_PARENT;
    let context: Option<Context> = Some(state.clone());
    let attributes = ProcessAttributes { flags, context, ..ProcessAttributes::default() };
    let child = parent.create_child(attributes).expect("a copy of the process");
    *state.process.lock().unwrap() = Some(child.clone());
    let context = ThreadState::new(&state);
    let attributes = ThreadAttributes { registers, fs_base: 0, gs_base: 0, xsave: None, context: Arc::new(context) };
    child.create_thread(attributes).expect("a thread")
}

fn spawn(process: &Arc<Process>, state: &Arc<ProcessState>, registers: Registers) -> Option<Arc<Thread>> {
    let context = ThreadState::new(state);
    let attributes = ThreadAttributes { registers, fs_base: 0, gs_base: 0, xsave: None, context: Arc::new(context) };
    let thread = process.create_thread(attributes).ok()?;
    thread.calls().set(calls::ANSWERED, Way::Answer(calls::ANSWER));
    thread.calls().set(calls::POSTED, Way::Post);
    thread.calls().set(calls::REFUSED, Way::Post);
    thread.calls().set(calls::KICKED, Way::Post);
    thread.calls().set(calls::MASK, Way::Mask);
    thread.calls().set(calls::WAKE, Way::Wake { posts: false, salt: calls::SALT });
    thread.start().ok()?;
    Some(thread)
}

/// A host with the personality on it.
#[derive(Debug)]
pub struct Rig {
    pub script: Arc<Script>,
    pub host: Host,
}

impl Rig {
    /// Opens KVM. `None` where the environment says that there is none; a host without /dev/kvm fails the test.
    pub fn open(vcpus: Option<usize>) -> Option<Self> {
        Self::open_posting(vcpus, Posting::default())
    }

    /// As [`Self::open`], with posted calls taken as said.
    pub fn open_posting(vcpus: Option<usize>, posting: Posting) -> Option<Self> {
        if std::env::var_os("PICOVISOR_NO_KVM").is_some() {
            println!("skipped: PICOVISOR_NO_KVM is set");
            return None;
        }
        let host = match Host::open(&HostConfig { memory: 1 << 30, vcpus, posting }) {
            Ok(host) => host,
            Err(error) => panic!("this test needs KVM: {error}"),
        };
        let script = Arc::new(Script::default());
        host.register(script.clone()).expect("the first provider");
        Some(Self { script, host })
    }

    /// Makes a process with a payload, data and a stack, and a thread at the payload's start (or `offset` behind it).
    pub fn start(&self, payload: &[u8]) -> (Arc<Process>, Arc<Thread>) {
        self.start_with(payload, |registers| registers)
    }

    /// As [`Self::start`], with other start registers.
    pub fn start_with(&self, payload: &[u8], edit: impl Fn(Registers) -> Registers) -> (Arc<Process>, Arc<Thread>) {
        self.start_in(payload, edit, |_| ())
    }

    /// As [`Self::start`], after `prepare` has mapped more.
    pub fn start_prepared(&self, payload: &[u8], prepare: impl Fn(&AddressSpace)) -> (Arc<Process>, Arc<Thread>) {
        self.start_in(payload, |registers| registers, prepare)
    }

    fn start_in(
        &self,
        payload: &[u8],
        edit: impl Fn(Registers) -> Registers,
        prepare: impl Fn(&AddressSpace),
    ) -> (Arc<Process>, Arc<Thread>) {
        let attributes = attributes();
        let context = attributes.context.clone().expect("a pico process");
        let state = context.downcast::<ProcessState>().expect("this personality made the context");
        let process = self.host.create_process(attributes).expect("a process");
        *state.process.lock().unwrap() = Some(process.clone());
        let space = process.space();
        let len = (payload.len() as u64).next_multiple_of(4096);
        space.map_anonymous(range(CODE, len), Access::READ | Access::EXEC, false).unwrap();
        space.poke(UserAddr(CODE), payload).unwrap();
        for start in [DATA, STACK - AREA] {
            space.map_anonymous(range(start, AREA), Access::READ | Access::WRITE, false).unwrap();
        }
        prepare(&space);
        let registers = edit(Registers { rip: CODE, rsp: STACK - 256, ..Registers::default() });
        let thread = spawn(&process, &state, registers).expect("a thread");
        (process, thread)
    }

    /// Starts another thread of a process.
    pub fn spawn(&self, process: &Arc<Process>, registers: Registers) -> Option<Arc<Thread>> {
        let context = process.context().expect("a pico process").clone();
        spawn(process, &context.downcast().expect("this personality made the context"), registers)
    }

    /// Runs a payload to its process's end.
    pub fn run(&self, payload: &[u8]) {
        let ended = self.script.record.lock().unwrap().ended;
        self.start(payload);
        let mut record = self.script.record.lock().unwrap();
        while record.ended == ended {
            record = self.script.changed.wait(record).unwrap();
        }
    }
}

/// Runs a payload on a host of its own; `None` without KVM.
pub fn run(payload: &[u8]) -> Option<Arc<Script>> {
    let rig = Rig::open(None)?;
    rig.run(payload);
    Some(rig.script.clone())
}
