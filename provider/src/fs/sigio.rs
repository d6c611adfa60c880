//! Signals when a file becomes ready: F_SETOWN, F_SETSIG and O_ASYNC of fcntl(2).
//!
//! A [`Notice`] belongs to an open file once a program has asked for any of them. It observes the file while O_ASYNC is set. Changes
//! come with locks held, so they are only noted. What a system call has changed is signalled before it returns or sleeps
//! ([`send_noted`]), as on Linux: who writes to its own pipe finds the signal pending. For what other threads of the monitor
//! change, the timers' thread sends the signals at once.

use super::link::Link;
use super::{OpenFile, Ready};
use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::signal::send::{Target, may_signal, send, send_to_group};
use crate::signal::{Detail, SigInfo, Signal, SignalCode};
use crate::sync::{Mutex, Rank};
use crate::task::{Credentials, CurrentTask, Observer, Pid, Share, Task};
use crate::time::{Expiry, TimerKey};
use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// The most changes that wait to be signalled; a program that gets so many behind gets SIGIO for all.
const MAX_PENDING: usize = 256;

thread_local! {
    /// Who has noted something since this thread last sent; `None`: it serves no trap, and would not send.
    static NOTED: RefCell<Option<Vec<Weak<Notice>>>> = const { RefCell::new(None) };
}

/// This thread serves a trap: what it notes from now on it sends, at the latest in [`end_trap`].
pub(crate) fn begin_trap() {
    NOTED.set(Some(Vec::new()));
}

/// The trap is served; no lock is held. What sending changes in turn is left to the timers' thread.
pub(crate) fn end_trap(kernel: &Kernel) {
    deliver_all(kernel, &NOTED.take().unwrap_or_default());
}

/// Sends what this thread's trap has noted so far; no lock is held.
pub(crate) fn send_noted(kernel: &Kernel) {
    deliver_all(kernel, &NOTED.with_borrow_mut(|noted| noted.as_mut().map(std::mem::take)).unwrap_or_default());
}

fn deliver_all(kernel: &Kernel, noted: &[Weak<Notice>]) {
    for notice in noted.iter().filter_map(Weak::upgrade) {
        notice.deliver(kernel);
    }
}

/// Whom the signals are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// One thread.
    Thread(Pid),
    /// A process.
    Process(Pid),
    /// A process group.
    Group(Pid),
}

impl Owner {
    /// The number, 0: nobody.
    pub(crate) fn pid(self) -> Pid {
        match self {
            Self::Thread(pid) | Self::Process(pid) | Self::Group(pid) => pid,
        }
    }
}

/// What an open file signals, and to whom.
#[derive(Debug)]
pub(crate) struct Notice {
    me: Weak<Notice>,
    kernel: Weak<Kernel>,
    key: TimerKey,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    owner: Owner,
    /// Who named the owner: that is who sends.
    sender: Arc<Credentials>,
    /// What F_SETSIG set; `None`: SIGIO, with nothing about the file.
    signal: Option<Signal>,
    /// While O_ASYNC is set: the descriptor it was set by, what counts, and the link.
    watch: Option<(i32, Ready, Link)>,
    pending: Vec<Reason>,
}

/// What has happened to a file (si_code).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// POLL_IN.
    In = 1,
    /// POLL_OUT.
    Out = 2,
    /// POLL_MSG: a lease is to be given up, or something happened in a directory.
    Message = 3,
    /// POLL_PRI.
    Urgent = 5,
}

impl Reason {
    /// What si_band tells (band_table in fs/fcntl.c).
    fn band(self) -> u32 {
        /// EPOLLMSG.
        const MESSAGE: u32 = 0x400;
        match self {
            Self::In => (Ready::IN | Ready::RDNORM).bits(),
            Self::Out => (Ready::OUT | Ready::WRNORM | Ready::WRBAND).bits(),
            Self::Message => (Ready::IN | Ready::RDNORM).bits() | MESSAGE,
            Self::Urgent => (Ready::PRI | Ready::RDBAND).bits(),
        }
    }
}

impl Notice {
    /// Makes one that names nobody.
    pub(super) fn new(task: &CurrentTask<'_>) -> Arc<Self> {
        let state = State {
            owner: Owner::Process(Pid(0)),
            sender: task.credentials(),
            signal: None,
            watch: None,
            pending: Vec::new(),
        };
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            kernel: Arc::downgrade(task.kernel()),
            key: task.kernel().timers().new_key(),
            state: Mutex::new(Rank::EpollItem, state),
        })
    }

    /// Whom the signals are for.
    pub(crate) fn owner(&self) -> Owner {
        self.state.lock().owner
    }

    /// Says whom they are for; the caller is who sends them.
    pub(crate) fn set_owner(&self, task: &CurrentTask<'_>, owner: Owner) {
        let sender = task.credentials();
        let mut state = self.state.lock();
        (state.owner, state.sender) = (owner, sender);
    }

    /// Which signal; `None`: the usual one.
    pub(crate) fn signal(&self) -> Option<Signal> {
        self.state.lock().signal
    }

    /// Says which signal.
    pub(crate) fn set_signal(&self, signal: Option<Signal>) {
        self.state.lock().signal = signal;
    }

    /// Starts to signal; the program will be told of `fd`.
    pub(crate) fn start(&self, kernel: &Kernel, file: &OpenFile, fd: i32) -> Result<(), Errno> {
        let mut interest = Ready::PRI;
        interest.set(Ready::IN | Ready::RDNORM, file.flags().reads());
        interest.set(Ready::OUT | Ready::WRNORM, file.flags().writes());
        let link = Link::new(kernel, file, self.me.clone(), Share::Common)?;
        let old = self.state.lock().watch.replace((fd, interest, link));
        drop(old);
        Ok(())
    }

    /// Stops signalling.
    pub(crate) fn stop(&self) {
        let old = self.state.lock().watch.take();
        drop(old);
    }

    /// Makes the caller's process the owner, if there is none (f_setown without force).
    pub(super) fn own(&self, task: &CurrentTask<'_>) {
        if self.owner().pid().0 == 0 {
            self.set_owner(task, Owner::Process(task.group().pid()));
        }
    }

    /// Tells whether the trap that this thread serves will send what was noted.
    fn is_sent_later(&self) -> bool {
        NOTED.with_borrow_mut(|noted| {
            let Some(noted) = noted else { return false };
            if !noted.iter().any(|other| other.ptr_eq(&self.me)) {
                noted.push(self.me.clone());
            }
            true
        })
    }

    /// Sends what was noted.
    fn deliver(&self, kernel: &Kernel) {
        let (fd, pending) = {
            let mut state = self.state.lock();
            let pending = std::mem::take(&mut state.pending);
            let Some((fd, ..)) = &state.watch else { return };
            (*fd, pending)
        };
        self.send(kernel, fd, &pending);
    }

    fn send(&self, kernel: &Kernel, fd: i32, reasons: &[Reason]) {
        let (owner, sender, signal) = {
            let state = self.state.lock();
            (state.owner, state.sender.clone(), state.signal)
        };
        let targets: Vec<Arc<Task>> = match owner {
            Owner::Thread(pid) | Owner::Process(pid) => kernel.tasks().get(pid).into_iter().collect(),
            Owner::Group(group) => {
                let members = kernel.tasks().groups().into_iter().filter(|member| member.process_group() == group);
                members.filter_map(|member| member.threads().first().cloned()).collect()
            }
        };
        for task in targets.iter().filter(|task| may_signal(&sender, &task.credentials())) {
            for reason in reasons {
                let send = |info| match owner {
                    Owner::Thread(_) => send(task, Target::Thread, info),
                    _ => send_to_group(task.group(), info),
                };
                let plain = SigInfo::kernel(Signal::SIGIO);
                let sent = signal.map_or(Err(Errno::EAGAIN), |signal| {
                    let detail = Detail::Poll { band: reason.band().into(), fd };
                    send(SigInfo { signal, errno: 0, code: SignalCode(*reason as i32), detail })
                });
                if sent.is_err() {
                    // No signal was chosen, or its queue is full. A standard signal is never refused.
                    let _ = send(plain);
                }
            }
        }
    }
}

/// Whoever an open file signals, for what is not its readiness: leases and what happens in a directory.
pub(super) trait Signalled: Send + Sync + Debug {
    /// Signals at once; no lock is held that ranks above those of tasks.
    fn signal_now(&self, kernel: &Kernel, fd: i32, reason: Reason);
    /// There is no owner any more, and no chosen signal (lease_modify).
    fn disown(&self);
}

impl Signalled for Notice {
    fn signal_now(&self, kernel: &Kernel, fd: i32, reason: Reason) {
        self.send(kernel, fd, &[reason]);
    }

    fn disown(&self) {
        let mut state = self.state.lock();
        (state.owner, state.signal) = (Owner::Process(Pid(0)), None);
    }
}

impl Observer for Notice {
    fn notify(&self, ready: Ready) -> bool {
        let Some(kernel) = self.kernel.upgrade() else { return false };
        let mut state = self.state.lock();
        let Some((_, interest, _)) = &state.watch else { return false };
        let ready = ready & *interest;
        let reasons = [(Ready::IN, Reason::In), (Ready::OUT, Reason::Out), (Ready::PRI, Reason::Urgent)];
        let Some((_, reason)) = reasons.into_iter().find(|(bit, _)| ready.contains(*bit)) else { return false };
        if state.pending.len() < MAX_PENDING {
            state.pending.push(reason);
        }
        drop(state);
        if !self.is_sent_later() {
            let target: Weak<Self> = self.me.clone();
            kernel.timers().set(self.key, Some(Instant::now()), target);
        }
        true
    }
}

impl Expiry for Notice {
    fn expired(&self, _now: Instant) -> Option<Instant> {
        if let Some(kernel) = self.kernel.upgrade() {
            self.deliver(&kernel);
        }
        None
    }
}
