//! The guard of a host: the check of its protected ranges, on request and by a thread of System's, and what a mismatch ends in.
//!
//! The thread is not there before somebody asks for it ([`Guardian::start`]), and looks at a slice each time it wakes.

use super::host::{Host, Shared};
use super::protected::ProtectedRange;
use crate::bugcheck::{self, Code, Report};
use crate::protect::{Corruption, Failure, Guarded, Integrity, Sealing, Verified, seal_image};
use crate::threads::Owner;
use crate::trap::Registers;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The stack of the thread that checks: it copies to the heap and calls little.
const STACK: usize = 256 << 10;
/// How long a bug check waits for virtual CPUs to leave user mode.
const PATIENCE: Duration = Duration::from_millis(200);

/// The check of a host, and the thread that comes by.
#[derive(Debug, Default)]
pub(super) struct Guard {
    integrity: Integrity,
    /// Whether the thread is to end.
    over: Mutex<bool>,
    ending: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How well a host's constant memory is protected from change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// The callback table; `None` before there is one.
    pub callbacks: Option<Sealing>,
    /// Trap code and descriptor tables, in the monitor's view; `None` without a processor.
    pub trap_code: Option<Sealing>,
    /// The monitor's own code and constants.
    pub image: Sealing,
}

impl Guarded for Shared {
    fn ranges(&self) -> Vec<ProtectedRange> {
        let mut ranges = self.registry().protected_ranges();
        if let Some(workers) = &self.workers {
            ranges.extend(workers.protected_ranges());
        }
        ranges
    }

    fn check(&self) -> Result<(), Corruption> {
        self.memory().check_constants()?;
        self.workers.as_ref().map_or(Ok(()), |workers| workers.check_tables())
    }
}

impl Host {
    /// Checks everything that is protected, now. The digests that it compares with are taken by the first check of all.
    ///
    /// # Errors
    /// What has changed, or that the host has no memory for the digests.
    pub fn verify(&self) -> Result<Verified, Failure> {
        self.shared().guard().integrity.verify(&**self.shared())
    }

    /// What is protected of the monitor's memory, by its name in reports. Constant objects in guest memory are not in the list.
    ///
    /// # Errors
    /// The host has no memory for the digests.
    pub fn protected_ranges(&self) -> io::Result<Vec<ProtectedRange>> {
        let mut ranges = self.shared().guard().integrity.ranges(&**self.shared())?;
        if let Some(workers) = &self.shared().workers {
            ranges.extend(workers.table_ranges());
        }
        Ok(ranges)
    }

    /// Whoever holds this may start the thread that checks integrity, and need not hold the host.
    pub fn guardian(&self) -> Guardian {
        Guardian(self.shared().clone())
    }

    /// How well constant memory is protected from change. Seals the image, if that was not done.
    pub fn protection(&self) -> Protection {
        let trap_code = self.shared().workers.as_ref().and_then(|workers| workers.sealing());
        Protection { callbacks: self.shared().registry().sealing(), trap_code, image: seal_image() }
    }
}

/// Starts the thread that checks a host's integrity.
#[derive(Debug)]
pub struct Guardian(Arc<Shared>);

impl Guardian {
    /// Starts a thread that takes the digests now, if that was not done, and checks a slice of what is protected each `period`. A
    /// mismatch stops the sandbox ([`crate::bugcheck`]). Only the first call counts, and none once the host is gone.
    ///
    /// # Errors
    /// The host gave no thread.
    pub fn start(&self, period: Duration) -> io::Result<()> {
        let mut thread = self.0.guard().thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = self.0.clone();
            let body = move || keep_watch(&shared, period);
            *thread = Some(self.0.threads().spawn("integrity", STACK, Owner::System, body)?);
        }
        Ok(())
    }
}

impl Guard {
    /// Ends the thread, and waits for it.
    pub(super) fn end(&self) {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ending.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It does not panic: a mismatch ends the process.
        let _ = thread.map(JoinHandle::join);
    }

    /// Waits for `period`; tells whether the thread is to go on.
    fn pause(&self, period: Duration) -> bool {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ending.wait_timeout_while(over, period, |over| !*over);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The life of the thread.
fn keep_watch(shared: &Arc<Shared>, period: Duration) {
    seal_image();
    let guard = shared.guard();
    if let Err(error) = guard.integrity.arm(&**shared) {
        tracing::warn!(%error, "the integrity of protected memory is not checked");
        return;
    }
    while guard.pause(period) {
        match guard.integrity.verify_slice(&**shared) {
            Ok(_) => {}
            Err(Failure::Corrupt(corruption)) => stop(shared, &corruption),
            Err(Failure::Host(error)) => tracing::warn!(%error, "a check of protected memory was left out"),
        }
    }
}

/// Stops the sandbox: nothing of it enters user mode any more, and the monitor ends with a report.
fn stop(shared: &Shared, corruption: &Corruption) -> ! {
    let cpus = shared.workers.as_ref().map(|workers| workers.halt(PATIENCE)).unwrap_or_default();
    let mut report = Report::new(Code::CriticalStructureCorruption, corruption.to_string());
    let actual = corruption.actual.map_or_else(|| "cannot be read".to_owned(), |digest| digest.to_string());
    report.parameters = vec![
        ("range", corruption.name.clone()),
        ("address", format!("{:#x}", corruption.address)),
        ("expected", corruption.expected.to_string()),
        ("actual", actual),
    ];
    let mut text = String::new();
    for (number, cpu) in cpus.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = match &cpu.registers {
            Some(registers) => writeln!(text, "{number} (host thread {}):\n{}", cpu.thread, show(registers)),
            None => writeln!(text, "{number} (host thread {}): not in user mode", cpu.thread),
        };
    }
    report.sections.push(("Virtual CPUs", text));
    report.sections.extend(describe(shared));
    bugcheck::stop(&report)
}

/// Processes, threads, and the host. The provider is not asked for names: its table may be what has changed.
fn describe(shared: &Shared) -> Vec<(&'static str, String)> {
    let (mut processes, mut threads) = (String::new(), String::new());
    for process in shared.processes() {
        let (id, kind) = (process.id(), process.kind());
        let _ = write!(processes, "{id} {kind:?}");
        let _ = process.parent().map_or(Ok(()), |parent| write!(processes, ", child of {parent}"));
        let live: Vec<_> = process.threads().iter().map(|thread| thread.id().to_string()).collect();
        let _ = if live.is_empty() {
            writeln!(processes, ", no thread")
        } else {
            writeln!(processes, ", threads {}", live.join(" "))
        };
    }
    for thread in shared.threads().list() {
        let state = if thread.lent { ", on a pico thread" } else { "" };
        let _ = writeln!(threads, "{} of {:?}, {:?} of CPU time{state}", thread.name, thread.owner, thread.used);
    }
    let report = shared.workers.as_ref().map(|workers| workers.report());
    let host = report.map_or_else(|| "no processor".to_owned(), |report| format!("{report}\n{report:?}"));
    vec![("Processes", processes), ("Host threads", threads), ("Host", host)]
}

fn show(registers: &Registers) -> String {
    let r = registers;
    let rows = [
        [("rip", r.rip), ("rsp", r.rsp), ("rbp", r.rbp), ("rflags", r.rflags)],
        [("rax", r.rax), ("rbx", r.rbx), ("rcx", r.rcx), ("rdx", r.rdx)],
        [("rsi", r.rsi), ("rdi", r.rdi), ("r8", r.r8), ("r9", r.r9)],
        [("r10", r.r10), ("r11", r.r11), ("r12", r.r12), ("r13", r.r13)],
        [("r14", r.r14), ("r15", r.r15), ("", 0), ("", 0)],
    ];
    let word = |(name, value): &(&str, u64)| format!("{name:>6} {value:#018x}");
    let line = |row: &[(&str, u64); 4]| {
        let words: Vec<_> = row.iter().filter(|(name, _)| !name.is_empty()).map(word).collect();
        format!("{}\n", words.join(" "))
    };
    rows.iter().map(line).collect::<String>().trim_end().to_owned()
}
