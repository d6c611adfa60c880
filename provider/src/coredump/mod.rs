//! Core dumps, see core(5): what a process leaves behind whose signal asks for it (fs/coredump.c, fs/binfmt_elf.c).
//!
//! The file is `core` in the working directory, as /proc/sys/kernel/core_pattern says, and an ELF image that debuggers read:
//! [`notes`] tells about the process and its threads, [`image`] holds the memory that /proc/PID/coredump_filter selects.
//! [`LastWords`] are what each of the other threads leaves as it ends for the dump.

mod image;
mod notes;

use crate::fs::{At, FileKind, OpenFile, OpenFlags};
use crate::mm::Dumpable;
use crate::ptrace::Snapshot;
use crate::signal::{SigInfo, SignalSet};
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, ExitStatus, Pid, Resource, Task};
use std::sync::Arc;
use vmm::addr::PAGE_SIZE;
use vmm::usage::Usage;

/// The file's name, in the working directory.
const NAME: &[u8] = b"core";

/// A thread as it stood when its process died.
#[derive(Debug)]
pub(crate) struct LastWords {
    tid: Pid,
    registers: Snapshot,
    pending: SignalSet,
    blocked: SignalSet,
    usage: Usage,
}

impl LastWords {
    fn of(task: &mut CurrentTask<'_>) -> Self {
        let registers = Snapshot::take(task, false);
        let signals = task.signals();
        let (pending, blocked) = (signals.pending(), signals.blocked());
        let usage = if task.tid() == task.group().pid() { task.process_cpu_usage() } else { task.cpu_usage() };
        Self { tid: task.tid(), registers, pending, blocked, usage }
    }
}

/// Collects the last words of a process's threads while one of them dumps core.
#[derive(Debug)]
pub(crate) struct Witnesses(Mutex<Option<Vec<LastWords>>>);

impl Default for Witnesses {
    fn default() -> Self {
        Self(Mutex::new(Rank::Leaf, None))
    }
}

impl Witnesses {
    /// Tells whether a dump waits for the threads' last words.
    pub(crate) fn are_asked(&self) -> bool {
        self.0.lock().is_some()
    }
}

impl CurrentTask<'_> {
    /// Writes a core for a signal that ends the process, if its limit and its memory allow. Answers how it ends.
    pub(crate) fn dump_core(&mut self, info: &SigInfo) -> ExitStatus {
        let limit = self.group().limits().soft(Resource::Core);
        let wanted = limit >= PAGE_SIZE && self.mm().dumpable() == Dumpable::Yes;
        if wanted && self.try_dump(info, limit).is_some() {
            ExitStatus::Dumped(info.signal)
        } else {
            ExitStatus::Signaled(info.signal)
        }
    }

    /// `None` if nothing was written.
    fn try_dump(&mut self, info: &SigInfo, limit: u64) -> Option<()> {
        let group = self.group().clone();
        *group.witnesses().0.lock() = Some(Vec::new());
        let alone = self.end_other_threads();
        let others = group.witnesses().0.lock().take();
        if !alone {
            return None;
        }
        let own = LastWords::of(self);
        let file = self.create_core()?;
        let notes = notes::render(self, info, &own, &others.unwrap_or_default());
        image::write(self, &file, &notes, limit);
        Some(())
    }

    /// Leaves what a dump wants to know of this thread, which ends for it.
    pub(crate) fn leave_last_words(&mut self) {
        let group = self.group().clone();
        if group.witnesses().are_asked() {
            let words = LastWords::of(self);
            if let Some(all) = group.witnesses().0.lock().as_mut() {
                all.push(words);
            }
        }
    }

    /// Makes the file anew, so that nobody else has it open. It must be an ordinary one that only its owner may read.
    fn create_core(&self) -> Option<Arc<OpenFile>> {
        let namespace = self.kernel().namespace();
        // There need not be an old one.
        let _ = namespace.unlink(self, At { base: None, path: NAME });
        let flags = OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::WRONLY | OpenFlags::NOFOLLOW;
        let file = namespace.open(self, None, NAME, flags, 0o600).ok()?;
        (file.location().kind() == FileKind::Regular).then_some(file)
    }
}

impl Task {
    /// Tells whether it ends for a core, which is to show its memory as it was.
    pub(crate) fn ends_for_a_core(&self) -> bool {
        self.group().witnesses().are_asked()
    }
}
