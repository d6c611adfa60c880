//! Queues of signals that wait for delivery.

use super::{SigInfo, Signal, SignalSet};
use std::collections::VecDeque;

/// Signals sent to a thread or to a process and not yet taken.
///
/// A standard signal is pending at most once; real-time signals queue. The set and the queue agree, but for signals whose
/// information found no room: these are in the set alone (kill(2) never fails for want of memory).
#[derive(Debug, Default)]
pub struct Pending {
    set: SignalSet,
    queue: VecDeque<SigInfo>,
}

impl Pending {
    /// The signals that are pending.
    pub fn set(&self) -> SignalSet {
        self.set
    }

    /// How many have information queued; what RLIMIT_SIGPENDING counts.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// What is queued, oldest first.
    pub fn list(&self) -> Vec<SigInfo> {
        self.queue.iter().cloned().collect()
    }

    /// Queues a signal. A standard signal that is pending already stays as it is.
    pub fn push(&mut self, info: SigInfo) {
        if !info.signal.is_real_time() && self.set.contains(info.signal) {
            return;
        }
        self.set = self.set.with(info.signal);
        self.queue.push_back(info);
    }

    /// Queues a signal even if one of its number is pending: each timer has its own (send_sigqueue).
    pub fn push_again(&mut self, info: SigInfo) {
        self.set = self.set.with(info.signal);
        self.queue.push_back(info);
    }

    /// Notes a signal without its information.
    pub fn push_bare(&mut self, signal: Signal) {
        self.set = self.set.with(signal);
    }

    /// Takes the next signal of `wanted`: synchronous ones first, then by number, then by age.
    pub fn take(&mut self, wanted: SignalSet) -> Option<SigInfo> {
        let ready = self.set & wanted;
        let signal = (ready & SignalSet::SYNCHRONOUS).first().or_else(|| ready.first())?;
        let found = self.queue.iter().position(|info| info.signal == signal).and_then(|at| self.queue.remove(at));
        if !self.queue.iter().any(|info| info.signal == signal) {
            self.set = self.set.without(signal);
        }
        // One without information reads as sent by the kernel with all zeros (collect_signal in kernel/signal.c).
        Some(found.unwrap_or_else(|| SigInfo { code: super::SignalCode::SI_USER, ..SigInfo::kernel(signal) }))
    }

    /// Drops every pending signal of `set`.
    pub fn discard(&mut self, set: SignalSet) {
        self.set = self.set & !set;
        self.queue.retain(|info| !set.contains(info.signal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{Detail, SignalCode};
    use crate::task::Pid;
    use proptest::prelude::*;

    fn info(signal: i32, value: u64) -> SigInfo {
        let detail = Detail::Queued { pid: Pid(1), uid: 0, value };
        SigInfo { signal: Signal::from_raw(signal).unwrap(), errno: 0, code: SignalCode::SI_QUEUE, detail }
    }

    #[test]
    fn synchronous_signals_come_first() {
        let mut pending = Pending::default();
        pending.push(info(1, 0));
        pending.push(info(11, 0));
        assert_eq!(pending.take(!SignalSet::EMPTY).unwrap().signal, Signal::SIGSEGV);
        assert_eq!(pending.take(!SignalSet::EMPTY).unwrap().signal, Signal::SIGHUP);
        assert_eq!(pending.take(!SignalSet::EMPTY), None);
    }

    #[test]
    fn a_bare_signal_is_taken_once() {
        let mut pending = Pending::default();
        pending.push_bare(Signal::SIGTERM);
        assert_eq!(pending.take(!SignalSet::EMPTY).unwrap().code, SignalCode::SI_USER);
        assert_eq!(pending.take(!SignalSet::EMPTY), None);
    }

    proptest! {
        /// The queue against a plain list of everything sent.
        #[test]
        fn agrees_with_a_list(steps in prop::collection::vec((1i32..=64, any::<u64>(), any::<bool>()), 0..200)) {
            let mut pending = Pending::default();
            let mut model: Vec<(i32, u64)> = Vec::new();
            for (signal, value, take) in steps {
                if take {
                    let wanted = SignalSet(value | 1 << (signal - 1));
                    let synchronous = |s: i32| SignalSet::SYNCHRONOUS.contains(Signal::from_raw(s).unwrap());
                    let best = model.iter().enumerate()
                        .filter(|(_, (s, _))| wanted.contains(Signal::from_raw(*s).unwrap()))
                        .min_by_key(|(at, (s, _))| (!synchronous(*s), *s, *at)).map(|(at, _)| at);
                    let expected = best.map(|at| model.remove(at)).map(|(s, v)| info(s, v));
                    prop_assert_eq!(pending.take(wanted), expected);
                } else {
                    pending.push(info(signal, value));
                    if signal >= 32 || !model.iter().any(|(s, _)| *s == signal) {
                        model.push((signal, value));
                    }
                }
                let set = model.iter().fold(SignalSet::EMPTY, |set, (s, _)| set.with(Signal::from_raw(*s).unwrap()));
                prop_assert_eq!(pending.set(), set);
            }
        }
    }
}
