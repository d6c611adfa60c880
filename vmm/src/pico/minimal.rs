//! Minimal threads: threads of minimal processes, which are host threads. They have no user mode, no user stack and no
//! provider; the host's components run in them, and their CPU time is the process's.

use super::attributes::ProcessKind;
use super::host::CreateError;
use super::process::Process;
use crate::threads::Owner;
use crate::usage::Meter;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A thread of a minimal process. Dropping this lets it run on by itself.
#[derive(Debug)]
pub struct MinimalThread {
    id: u64,
    host: JoinHandle<()>,
}

impl MinimalThread {
    /// The host's number for this thread; no other process or thread of the host ever has it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Waits until it has ended; `false` if it panicked, which it has reported itself.
    pub fn join(self) -> bool {
        self.host.join().is_ok()
    }
}

/// The thread's place in its process, given back however it ends, or if it never begins.
struct Member(Arc<Process>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.minimal_thread_ended();
    }
}

/// The calling host thread works for a minimal process that owns no host threads: its CPU time goes there.
struct Lent<'a> {
    process: &'a Process,
    meter: Arc<Meter>,
}

impl<'a> Lent<'a> {
    fn to(process: &'a Process) -> Self {
        let meter = Arc::<Meter>::default();
        meter.begin();
        process.time_begins(&meter);
        Self { process, meter }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.meter.end();
        self.process.time_ends(&self.meter);
    }
}

impl Process {
    /// Starts a thread in a minimal process: a host thread with so many bytes of stack. A minimal process does not end with
    /// its last thread, and nobody but the thread itself ends it.
    ///
    /// # Errors
    /// [`CreateError::Unsupported`] in a pico process, [`CreateError::Over`] in one that has ended,
    /// [`CreateError::HostExhausted`].
    pub fn create_minimal_thread(
        self: &Arc<Self>,
        name: &'static str,
        stack: usize,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<MinimalThread, CreateError> {
        if self.kind() == ProcessKind::Pico {
            return Err(CreateError::Unsupported);
        }
        self.minimal_thread_begins()?;
        let (member, id) = (Member(self.clone()), self.host.new_id());
        let owner = self.kind().owner();
        let host = self.host.threads().spawn(name, stack, owner.unwrap_or(Owner::System), move || {
            let _lent = owner.is_none().then(|| Lent::to(&member.0));
            body();
        });
        host.map(|host| MinimalThread { id, host }).map_err(|_| CreateError::HostExhausted)
    }
}
