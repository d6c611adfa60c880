//! How a task's calls are made: which by post, and which are answered without anybody, with what.
//!
//! The answers are copies of what the handlers of `crate::syscall::identity` return. Whoever changes what one of them shows changes the
//! copy while the state is locked that both come from, so that it is right when the changing call returns, whoever made it:
//! credentials under the task's, the parent and the process group under the process's. A thread's number is only its own to
//! change. The copies lie in the host's [`Calls`], whose lock is innermost. So does the mask of blocked signals, which a thread
//! changes by itself while nothing is pending for it.

use super::posting::Change;
use super::{Credentials, Pid, Task};
use crate::syscall::posted;
use linux_raw_sys::general as raw;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use vmm::pico::{Calls, Way};

/// A task's calls.
#[derive(Debug, Default)]
pub(super) struct CallWays {
    /// None before it has a thread, and in most tests.
    calls: OnceLock<Arc<Calls>>,
    /// Held while it is decided whether somebody has to see all of them, so that the last decision stays.
    watch: Mutex<()>,
}

/// What a process answers for all its threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupAnswers {
    pub(super) pid: Pid,
    pub(super) parent: Pid,
    pub(super) process_group: Pid,
}

fn answer(calls: &Calls, number: u32, value: impl Into<i64>) {
    // No number of a process or a user is negative.
    let way = u64::try_from(value.into()).map_or(Way::Trap, Way::Answer);
    calls.set(number.into(), way);
}

impl Task {
    /// Has calls made as fast as they can be from now on, before the task first runs.
    pub(super) fn set_calls(&self, calls: &Arc<Calls>) {
        calls.set_all(posted::numbers().map(|number| (number, Way::Post)));
        if self.call_ways.calls.set(calls.clone()).is_err() {
            return;
        }
        self.signals().keep_mask_in(calls);
        self.answer_number();
        self.answer_wakes();
        {
            let shared = self.shared.lock();
            self.answer_ids(&shared.credentials);
        }
        self.group().tell_answers(self);
        self.look_who_watches();
    }

    /// Answers with its number, which it has just got.
    pub(super) fn answer_number(&self) {
        if let Some(calls) = self.call_ways.calls.get() {
            answer(calls, raw::__NR_gettid, self.tid().0);
        }
    }

    /// Answers with these credentials, which are the task's and locked.
    pub(super) fn answer_ids(&self, ids: &Credentials) {
        let Some(calls) = self.call_ways.calls.get() else { return };
        for (number, id) in [
            (raw::__NR_getuid, ids.uid),
            (raw::__NR_geteuid, ids.euid),
            (raw::__NR_getgid, ids.gid),
            (raw::__NR_getegid, ids.egid),
        ] {
            answer(calls, number, id);
        }
    }

    /// Has its thread look by itself whether anybody waits for a futex of its memory, before it first runs with that memory.
    pub(super) fn answer_wakes(&self) {
        self.change_way(raw::__NR_futex.into(), Change::Post);
    }

    /// Answers for its process, whose state is locked.
    pub(super) fn answer_for_group(&self, group: GroupAnswers) {
        let Some(calls) = self.call_ways.calls.get() else { return };
        for (number, pid) in
            [(raw::__NR_getpid, group.pid), (raw::__NR_getppid, group.parent), (raw::__NR_getpgrp, group.process_group)]
        {
            answer(calls, number, pid.0);
        }
    }

    /// Makes all calls by trap while somebody has to see each. Called after every change of whether somebody does.
    pub(crate) fn look_who_watches(&self) {
        let Some(calls) = self.call_ways.calls.get() else { return };
        let _decision = self.call_ways.watch.lock().unwrap_or_else(PoisonError::into_inner);
        calls.trap_all(self.is_watched() || self.kernel().tracer().is_some());
    }

    /// Lets the thread change its mask by itself, while nothing is pending that the mask may hold back. The task is one
    /// of its process's threads, so that senders find it.
    pub(crate) fn give_mask(&self) {
        let Some(calls) = self.call_ways.calls.get() else { return };
        let number = raw::__NR_rt_sigprocmask.into();
        let is_pending = || !(self.signals().pending() | self.group().signals().pending()).is_empty();
        if calls.way(number) == Way::Mask || is_pending() {
            return;
        }
        calls.set(number, Way::Mask);
        // Whoever queues one from here on takes it back; one that was queued earlier may be missed by both but for this.
        if is_pending() {
            calls.set(number, Way::Post);
        }
    }

    /// Has the thread change its mask by calls, and call if it does so just now: a signal was queued for it. What its
    /// mask is may be looked at from here on.
    pub(crate) fn take_mask_back(&self) {
        if let Some(calls) = self.call_ways.calls.get() {
            calls.set(raw::__NR_rt_sigprocmask.into(), Way::Post);
        }
    }

    /// Tells whether calls of a number are made by the guest alone.
    pub(super) fn is_answered(&self, number: u64) -> bool {
        self.call_ways.calls.get().is_some_and(|calls| matches!(calls.way(number), Way::Answer(_) | Way::Mask))
    }

    /// Posts a call, or does not.
    pub(crate) fn change_way(&self, number: u64, change: Change) {
        let Some(calls) = self.call_ways.calls.get() else { return };
        let posts = change == Change::Post;
        let way = match self.mm() {
            Some(mm) if number == u64::from(raw::__NR_futex) => {
                Way::Wake { posts, salt: self.kernel().futexes().salt(&mm) }
            }
            _ if posts => Way::Post,
            _ => Way::Trap,
        };
        calls.set(number, way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Kernel;
    use crate::mm::MemoryMap;
    use crate::signal::send::{Target, send};
    use crate::signal::{SigInfo, Signal, SignalSet};
    use crate::syscall::{Outcome, names};
    use crate::task::{ResourceLimits, Resources, ThreadGroup, Work};
    use crate::testing::{Fixture, config, fixture};
    use proptest::prelude::*;
    use vmm::memory::GuestMemory;

    const ANSWERED: [u32; 8] = [
        raw::__NR_getpid,
        raw::__NR_gettid,
        raw::__NR_getppid,
        raw::__NR_getpgrp,
        raw::__NR_getuid,
        raw::__NR_geteuid,
        raw::__NR_getgid,
        raw::__NR_getegid,
    ];

    fn scene() -> (Fixture, Arc<Calls>) {
        let memory = GuestMemory::detached(1 << 20).unwrap();
        let fixture = Fixture::over(Kernel::new(config(), memory), Resources::default());
        let calls = Arc::<Calls>::default();
        fixture.task.set_calls(&calls);
        (fixture, calls)
    }

    /// What changes what the calls answer.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Users([u32; 3]),
        Groups([u32; 3]),
        Effective(u32),
        FileUser(u32),
        Parent(i32),
        ProcessGroup(i32),
        Session,
        Watch(bool),
        Thread,
    }

    fn step() -> impl Strategy<Value = Step> {
        let id = || prop_oneof![Just(u32::MAX), 0..5u32, Just(u32::MAX - 1)];
        prop_oneof![
            [id(), id(), id()].prop_map(Step::Users),
            [id(), id(), id()].prop_map(Step::Groups),
            id().prop_map(Step::Effective),
            id().prop_map(Step::FileUser),
            (0..100i32).prop_map(Step::Parent),
            (1..100i32).prop_map(Step::ProcessGroup),
            Just(Step::Session),
            any::<bool>().prop_map(Step::Watch),
            Just(Step::Thread),
        ]
    }

    /// Compares what the guest would answer with what the handlers do.
    fn check(fixture: &mut Fixture, calls: &Calls) {
        for number in ANSWERED {
            let name = names::name(number.into());
            let way = calls.way(number.into());
            match fixture.task.is_watched() {
                true => assert_eq!(way, Way::Trap, "{name:?}"),
                false => assert_eq!(way, Way::Answer(fixture.returned(number, &[]).unwrap()), "{name:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn answers_are_what_the_handlers_return(steps in prop::collection::vec(step(), 1..40)) {
            let (mut fixture, calls) = scene();
            check(&mut fixture, &calls);
            let group = fixture.task.group().clone();
            let mut next = 500;
            for step in steps {
                // Calls may be refused: then nothing changes.
                let _ = match step {
                    Step::Users(ids) => fixture.returned(raw::__NR_setresuid, &ids.map(u64::from)),
                    Step::Groups(ids) => fixture.returned(raw::__NR_setresgid, &ids.map(u64::from)),
                    Step::Effective(id) => fixture.returned(raw::__NR_setreuid, &[u64::from(u32::MAX), id.into()]),
                    Step::FileUser(id) => fixture.returned(raw::__NR_setfsuid, &[id.into()]),
                    Step::Parent(pid) => { group.set_parent(Pid(pid)); Ok(0) }
                    Step::ProcessGroup(pid) => { group.set_process_group(Pid(pid)); Ok(0) }
                    Step::Session => fixture.returned(raw::__NR_setsid, &[]),
                    Step::Watch(true) => { fixture.task.add_work(Work::SECCOMP); Ok(0) }
                    Step::Watch(false) => { fixture.task.replace_work(Work::SECCOMP, Work::empty()); Ok(0) }
                    Step::Thread => {
                        fixture.kernel.tasks().renumber(&fixture.task, Pid(next));
                        next += 1;
                        Ok(0)
                    }
                };
                check(&mut fixture, &calls);
            }
        }
    }

    #[test]
    fn a_thread_that_joins_answers_for_its_process_as_it_is_then() {
        let (fixture, _) = scene();
        let group = ThreadGroup::new(Pid(7), ResourceLimits::initial(16, 16));
        let credentials = Credentials::new(3, 4, Vec::new());
        let make = |tid| Task::new(&fixture.kernel, &group, tid, Resources::default(), credentials);
        let task = fixture.kernel.tasks().insert(make).unwrap();
        let calls = Arc::<Calls>::default();
        task.set_calls(&calls);
        assert_eq!(calls.way(raw::__NR_getppid.into()), Way::Answer(0));
        // Not told: it is none of its threads yet.
        group.set_parent(Pid(5));
        assert_eq!(calls.way(raw::__NR_getppid.into()), Way::Answer(0));
        assert!(group.add_thread(&task));
        assert_eq!(calls.way(raw::__NR_getppid.into()), Way::Answer(5));
        assert_eq!(calls.way(raw::__NR_getpid.into()), Way::Answer(7));
        assert_eq!(
            (calls.way(raw::__NR_getuid.into()), calls.way(raw::__NR_getgid.into())),
            (Way::Answer(3), Way::Answer(4))
        );
        fixture.kernel.tasks().remove(task.tid());
        group.remove_thread(task.tid());
    }

    #[test]
    fn the_mask_is_the_guests_while_nothing_is_pending() {
        let (mut fixture, calls) = (fixture(), Arc::<Calls>::default());
        fixture.task.set_calls(&calls);
        let way = || calls.way(raw::__NR_rt_sigprocmask.into());
        assert_eq!(way(), Way::Post, "it has not joined its process yet");
        fixture.task.give_mask();
        assert_eq!(way(), Way::Mask);
        // What the guest writes is its own affair, but two bits are nobody's.
        calls.set_mask(u64::MAX);
        assert_eq!(fixture.task.signals().blocked(), !SignalSet::UNBLOCKABLE);
        for target in [Target::Thread, Target::Process] {
            let sent = SigInfo::kernel(Signal::SIGUSR1);
            send(&fixture.task, target, sent).unwrap();
            assert_eq!(way(), Way::Post);
            let set = fixture.put(&!SignalSet::of(Signal::SIGUSR1));
            assert_eq!(fixture.returned(raw::__NR_rt_sigprocmask, &[2, set.0, 0, 8]), Ok(0));
            assert_eq!(way(), Way::Post, "it is pending still, and now nothing holds it back");
            assert!(fixture.task.signals().needs_attention());
            assert!(fixture.current().take_signal(SignalSet::of(Signal::SIGUSR1)).is_some());
            assert_eq!(fixture.returned(raw::__NR_rt_sigprocmask, &[0, set.0, set.0, 8]), Ok(0));
            assert_eq!(way(), Way::Mask);
            calls.set_mask(u64::MAX);
        }
        fixture.task.add_work(Work::SECCOMP);
        assert_eq!(way(), Way::Trap);
    }

    #[test]
    fn wakes_are_looked_up_as_the_memory_has_it() {
        let mut fixture = fixture();
        let calls = Arc::<Calls>::default();
        fixture.task.set_calls(&calls);
        let expected = |fixture: &mut Fixture, posts| {
            let mm = fixture.current().mm();
            Way::Wake { posts, salt: fixture.kernel.futexes().salt(&mm) }
        };
        let way = || calls.way(raw::__NR_futex.into());
        assert_eq!(way(), expected(&mut fixture, true));
        fixture.task.change_way(raw::__NR_futex.into(), Change::Rest);
        assert_eq!(way(), expected(&mut fixture, false));
        let (before, other) = (way(), MemoryMap::new(fixture.kernel.memory()).unwrap());
        fixture.current().replace_mm(other);
        assert_eq!(way(), expected(&mut fixture, true));
        assert_ne!(way(), before);
    }

    #[test]
    fn calls_that_always_sleep_are_not_posted() {
        let mut fixture = fixture();
        let calls = Arc::<Calls>::default();
        fixture.task.set_calls(&calls);
        assert_eq!(calls.way(raw::__NR_execve.into()), Way::Trap);
        let at = fixture.allocate(4096);
        assert_eq!(fixture.posted(raw::__NR_pipe2, &[at.0, 0]), Some(0));
        let read = || calls.way(raw::__NR_read.into());
        let [reader, writer] = fixture.get::<[i32; 2]>(at).map(|fd| u64::try_from(fd).unwrap());
        let mut refused = 0;
        while read() == Way::Post {
            assert_eq!(fixture.posted(raw::__NR_read, &[reader, at.0, 1]), None);
            refused += 1;
        }
        assert!((2..100).contains(&refused));
        while read() == Way::Trap {
            assert_eq!(fixture.posted(raw::__NR_write, &[writer, at.0, 1]), Some(1));
            assert_eq!(fixture.trapped(raw::__NR_read, &[reader, at.0, 1]), Ok(Outcome::Return(1)));
            refused -= 1;
            assert!(refused >= 0);
        }
        assert_eq!(calls.way(raw::__NR_write.into()), Way::Post);
    }
}
