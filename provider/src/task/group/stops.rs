//! Stopping all threads of a process, and letting them go on.
//!
//! A process counts as stopped, and its parent hears of it, once each of its threads stands still (do_signal_stop,
//! task_participate_group_stop). Tracees are not waited for: they stop for their tracers.

use super::{State, StopReport, ThreadGroup};
use crate::signal::{Signal, send};
use crate::task::Pid;

impl ThreadGroup {
    /// Tells whether a signal has stopped it, or is about to.
    pub fn is_stopped(&self) -> bool {
        self.state.lock().stopped.is_some()
    }

    /// The signal that has stopped it.
    pub(crate) fn stop_signal(&self) -> Option<Signal> {
        self.state.lock().stopped
    }

    /// Stops it: tells all threads to, on behalf of the one that took the signal, which does not run any more. Answers whether
    /// there is no other to wait for.
    pub(crate) fn stop_all(&self, signal: Signal, taker: Pid) -> bool {
        let (threads, complete) = {
            let mut state = self.state.lock();
            if state.exit_requested.is_some() {
                return false;
            }
            state.stopped = Some(signal);
            let others = state.threads.iter().filter(|thread| thread.tid() != taker && !thread.tracee().is_traced());
            state.stopping = others.map(|thread| thread.tid()).collect();
            (state.threads.clone(), state.stop_complete().is_some())
        };
        for thread in threads {
            thread.group_stop_changed(true);
            if thread.tid() != taker {
                send::notify(&thread);
            }
        }
        complete
    }

    /// Notes that a thread stands still, or has ended; answers the signal if it was the last that a stop waited for.
    pub(crate) fn note_stopped(&self, tid: Pid) -> Option<Signal> {
        let mut state = self.state.lock();
        let at = state.stopping.iter().position(|stopping| *stopping == tid)?;
        state.stopping.swap_remove(at);
        state.stop_complete()
    }

    /// Lets waiting parents know of a stop, if it still lasts.
    pub(crate) fn report_stop(&self) {
        let mut state = self.state.lock();
        if let Some(signal) = state.stop_complete() {
            state.report = Some(StopReport::Stopped(signal));
        }
    }

    /// Tells whether a thread is one of those that a stop waits for.
    pub(crate) fn waits_to_stop(&self, tid: Pid) -> bool {
        self.state.lock().stopping.contains(&tid)
    }

    /// Lets it go on after a stop, to run (SIGCONT), of which its parent hears, or to die; answers whether it was stopped.
    pub(crate) fn continue_all(&self, signal: Signal) -> bool {
        let threads = {
            let mut state = self.state.lock();
            if state.stopped.take().is_none() {
                return false;
            }
            state.stopping.clear();
            state.continued = signal == Signal::SIGCONT;
            state.report = state.continued.then_some(StopReport::Continued);
            state.threads.clone()
        };
        for thread in &threads {
            thread.group_stop_changed(false);
            thread.parker().wake();
        }
        true
    }

    /// Tells, once after each stop, that it goes on.
    pub(crate) fn take_continued(&self) -> bool {
        std::mem::take(&mut self.state.lock().continued)
    }
}

impl State {
    /// The signal of a stop that no thread is missing from any more.
    fn stop_complete(&self) -> Option<Signal> {
        self.stopped.filter(|_| self.stopping.is_empty())
    }
}
