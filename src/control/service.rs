//! What a sandbox does when a tool asks for it.

mod execution;
mod handles;
mod inspection;
mod processes;
mod stacks;
mod statistics;

use provider::{NoProcess, Origin, Sandbox};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};
use vmm::pico::{Host, Process};

use super::address::Address;
use super::channel::{Channel, ChannelError};
use super::messages::{Reply, Request};
use processes::milliseconds;

/// A running sandbox and the host that runs it. Dropping the last reference ends both.
#[derive(Debug)]
pub(crate) struct Monitor {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) host: Host,
    address: Address,
    started: Instant,
    /// The processes that a tool has suspended, by the host's numbers.
    suspended: Mutex<BTreeSet<u64>>,
}

impl Monitor {
    /// Puts together what was started at `started` and listens at `address`.
    pub(crate) fn new(host: Host, sandbox: Arc<Sandbox>, address: Address, started: Instant) -> Arc<Self> {
        Arc::new(Self { sandbox, host, address, started, suspended: Mutex::default() })
    }

    /// When the sandbox was started, as near as the clock that may be set can tell.
    fn started(&self) -> SystemTime {
        let now = SystemTime::now();
        now.checked_sub(self.started.elapsed()).unwrap_or(now)
    }

    /// Does what is asked, and says so.
    pub(super) fn answer(&self, request: &Request, fds: Vec<OwnedFd>, channel: &Channel) -> Result<(), ChannelError> {
        // No request that is answered here comes with any.
        drop(fds);
        let reply = match request {
            Request::Processes => Ok(Reply::Sandbox(Box::new(self.report()))),
            Request::Inspect { handles } => self.inspect(*handles).map(Reply::Inspection),
            Request::Signal { pid, signal } => self.signal(*pid, *signal).map(|()| Reply::Done),
            Request::Suspend { pid } => self.suspend(*pid).map(|()| Reply::Done),
            Request::Resume { pid } => self.resume(*pid).map(|()| Reply::Done),
            Request::Statistics => Ok(Reply::Statistics(Box::new(self.statistics()))),
            Request::Compress => Ok(self.compress()),
            Request::Stacks { pid } => self.stacks(*pid).map(Reply::Stacks),
            Request::Wait | Request::Execute(_) => Err("that takes a connection of its own".to_owned()),
            Request::Forward { .. } | Request::Resize(_) => {
                Err("no program was executed on this connection".to_owned())
            }
        };
        channel.send(&reply.unwrap_or_else(Reply::Refused))
    }

    fn signal(&self, pid: Option<i32>, signal: i32) -> Result<(), String> {
        match pid {
            None => self.sandbox.deliver_signal(signal, Origin::Process),
            Some(pid) => self.sandbox.signal_process(pid, signal).map_err(|NoProcess| no_process(pid))?,
        }
        if signal == Signal::KILL.as_raw() {
            // Nobody who is suspended can die.
            let targets = pid.map_or_else(|| self.all(), |pid| self.sandbox.process(pid).into_iter().collect());
            self.let_go(&targets);
        }
        Ok(())
    }

    /// Stops every process until [`Self::resume_all`].
    pub(crate) fn suspend_all(&self) {
        let mut suspended = self.suspended();
        // Again, until nobody who was running meanwhile has made another.
        loop {
            let new: Vec<_> = self.all().into_iter().filter(|process| suspended.insert(process.id())).collect();
            if new.is_empty() {
                return;
            }
            new.iter().for_each(|process| process.suspend());
        }
    }

    /// Lets every process go on that was suspended.
    pub(crate) fn resume_all(&self) {
        self.let_go(&self.all());
    }

    fn suspend(&self, pid: Option<i32>) -> Result<(), String> {
        match pid {
            None => self.suspend_all(),
            Some(pid) => {
                let process = self.sandbox.process(pid).map_err(|NoProcess| no_process(pid))?;
                if self.suspended().insert(process.id()) {
                    process.suspend();
                }
            }
        }
        Ok(())
    }

    fn resume(&self, pid: Option<i32>) -> Result<(), String> {
        match pid {
            None => self.resume_all(),
            Some(pid) => self.let_go(&[self.sandbox.process(pid).map_err(|NoProcess| no_process(pid))?]),
        }
        Ok(())
    }

    fn compress(&self) -> Reply {
        let report = self.host.compress();
        let (before, after) = report.held;
        Reply::Compressed {
            pages: report.pages,
            incompressible: report.incompressible,
            before,
            after,
            took_ms: milliseconds(report.time),
        }
    }

    /// Lets those of the processes go on that are suspended.
    fn let_go(&self, processes: &[Arc<Process>]) {
        let mut suspended = self.suspended();
        processes.iter().filter(|process| suspended.remove(&process.id())).for_each(|process| process.resume());
    }

    /// The host's processes behind those of the sandbox.
    fn all(&self) -> Vec<Arc<Process>> {
        self.sandbox.processes().into_iter().filter_map(|view| view.process).collect()
    }

    fn suspended(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.suspended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_process(pid: i32) -> String {
    format!("it has no process {pid}")
}
