//! Stopping and continuing a process.

use super::{Detail, SigInfo, Signal, SignalSet};
use crate::task::{CurrentTask, Task};

impl CurrentTask<'_> {
    /// Stops the process until SIGCONT or SIGKILL (do_signal_stop). Returns in the thread that goes on.
    pub(super) fn stop(&mut self, signal: Signal) {
        if self.group().stop_all(signal, self.tid()) {
            self.task().tell_stop(signal);
        }
        self.wait_while_stopped();
    }

    /// Tells whether the process belongs to a group that nobody would continue: then the terminal's signals do not stop it.
    pub(super) fn is_orphan(&self) -> bool {
        self.kernel().families().is_orphaned(self.group().process_group())
    }

    /// Waits as long as the process is stopped. A tracee waits for its tracer instead, be it stopped or only interrupted.
    pub(super) fn wait_while_stopped(&mut self) {
        loop {
            self.task().note_stopped();
            if self.tracee().is_traced() {
                self.stop_with_group();
                if self.tracee().has_trap() && !self.is_killed() {
                    // News came meanwhile, which goes before signals.
                    continue;
                }
            }
            // It may have been set free in its stop, and may become a tracee while it waits.
            if self.tracee().is_traced() || self.is_killed() || !self.group().is_stopped() {
                break;
            }
            // Stopped anew before it came to go on, it is waited for once more.
            let (group, tid) = (self.group(), self.tid());
            self.sleep_through_signals(|| !group.is_stopped() || group.waits_to_stop(tid) || self.tracee().is_traced());
        }
        if self.group().take_continued() {
            self.kernel().families().notify_stop(self.kernel(), self.group(), None);
        }
    }

    /// Tells whether the thread is to end, which ends every wait: by SIGKILL, or with its process.
    pub(crate) fn is_killed(&self) -> bool {
        self.pending_for_us(SignalSet::of(Signal::SIGKILL))
            || self.group().exit_requested().is_some()
            || self.is_dismissed()
    }

    /// Tells whether a signal of `set` is pending for this thread.
    pub(crate) fn pending_for_us(&self, set: SignalSet) -> bool {
        !((self.signals().pending() | self.group().signals().pending()) & set).is_empty()
    }

    /// Takes the next pending signal of `wanted`, its own first.
    pub(crate) fn take_signal(&self, wanted: SignalSet) -> Option<SigInfo> {
        let own = self.signals().state().pending.take(wanted);
        let mut info = own.or_else(|| self.group().signals().take(wanted))?;
        if let Detail::Timer { id, overrun, .. } = &mut info.detail {
            *overrun = self.group().posix_timers().signal_taken(*id).unwrap_or_default();
        }
        Some(info)
    }
}

impl Task {
    /// Notes that the thread stands still or has ended, should its process wait for that to count as stopped.
    pub(crate) fn note_stopped(&self) {
        if let Some(signal) = self.group().note_stopped(self.tid()) {
            self.tell_stop(signal);
        }
    }

    /// Tells everybody concerned that the process has stopped.
    fn tell_stop(&self, signal: Signal) {
        self.kernel().process_stopped(self.group());
        self.kernel().families().notify_stop(self.kernel(), self.group(), Some(signal));
    }
}
