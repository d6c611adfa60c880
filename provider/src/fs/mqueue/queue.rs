//! One queue: its messages by priority, who waits at it, and who is told.
//!
//! A message goes to the receiver that waits longest, past the queue, and a sender that waits puts its message in as soon as there
//! is room, before anybody else can: as pipelined_send and pipelined_receive in ipc/mqueue.c. Of those that wait the most important
//! thread comes first. The state's lock is of rank `Pipe`; who is woken or told is so after it.

use super::limits::{Charge, Shape};
use super::notice::{How, Registration};
use crate::errno::Errno;
use crate::fs::{Ready, Timestamp};
use crate::net::messages::Payload;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, Deadline, Parker, Pid, Policy, WaitQueue, Wake};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Message {
    /// Its priority: higher ones are received first.
    pub(crate) priority: u32,
    /// Its bytes.
    pub(crate) payload: Payload,
}

impl Message {
    fn len(&self) -> u64 {
        u64::try_from(self.payload.bytes().len()).unwrap_or(u64::MAX)
    }
}

/// A task that waits to receive (`Empty` until a message was handed to it) or to send (`Full` until its message was taken).
#[derive(Debug)]
struct Waiting {
    /// Lower is more important.
    rank: i64,
    parker: Arc<Parker>,
    hand: Mutex<Option<Message>>,
}

impl Waiting {
    fn new(task: &CurrentTask<'_>, message: Option<Message>) -> Arc<Self> {
        let hand = Mutex::new(Rank::Leaf, message);
        Arc::new(Self { rank: rank(task), parker: task.parker().clone(), hand })
    }
}

/// How important a thread is, as `task_struct::prio` says.
fn rank(task: &CurrentTask<'_>) -> i64 {
    let scheduling = task.scheduling();
    match scheduling.policy {
        Policy::Deadline => -1,
        policy if policy.is_real_time() => 99 - i64::from(scheduling.priority),
        _ => 120 + i64::from(scheduling.nice),
    }
}

/// Those that wait for one thing, the next one first.
#[derive(Debug, Default)]
struct Line(VecDeque<Arc<Waiting>>);

impl Line {
    fn enter(&mut self, waiting: &Arc<Waiting>) {
        let at = self.0.partition_point(|other| other.rank <= waiting.rank);
        self.0.insert(at, waiting.clone());
    }

    fn leave(&mut self, waiting: &Arc<Waiting>) {
        self.0.retain(|other| !Arc::ptr_eq(other, waiting));
    }
}

#[derive(Debug)]
struct State {
    messages: BTreeMap<Reverse<u32>, VecDeque<Message>>,
    count: i64,
    bytes: u64,
    senders: Line,
    receivers: Line,
    registration: Option<Registration>,
    times: Times,
}

/// When a queue was last used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) accessed: Timestamp,
    pub(super) modified: Timestamp,
    pub(super) changed: Timestamp,
}

impl Times {
    /// All the same.
    pub(super) fn all(at: Timestamp) -> Self {
        Self { accessed: at, modified: at, changed: at }
    }
}

impl State {
    fn insert(&mut self, message: Message) {
        self.count += 1;
        self.bytes += message.len();
        self.messages.entry(Reverse(message.priority)).or_default().push_back(message);
    }

    /// Takes the oldest of the highest priority.
    fn take(&mut self) -> Option<Message> {
        let mut first = self.messages.first_entry()?;
        let message = first.get_mut().pop_front();
        if first.get().is_empty() {
            first.remove();
        }
        let message = message?;
        self.count -= 1;
        self.bytes -= message.len();
        Some(message)
    }

    fn touch(&mut self) {
        self.times = Times::all(Timestamp::now());
    }
}

/// A message queue.
#[derive(Debug)]
pub(crate) struct Queue {
    shape: Shape,
    state: Mutex<State>,
    /// For poll: a message has come, or there is room.
    changed: WaitQueue,
    charge: Charge,
}

/// What became of a message that was sent, for after the lock.
enum Sent {
    /// A receiver has it.
    Handed(Arc<Parker>),
    /// It is in the queue; the registration, if it was the first message there.
    Queued(Option<Registration>),
    /// There is no room: the sender waits, if it does.
    Full(Message),
}

impl Queue {
    /// Makes an empty queue.
    pub(super) fn new(shape: Shape, charge: Charge) -> Arc<Self> {
        let state = State {
            messages: BTreeMap::new(),
            count: 0,
            bytes: 0,
            senders: Line::default(),
            receivers: Line::default(),
            registration: None,
            times: Times::all(Timestamp::now()),
        };
        Arc::new(Self { shape, state: Mutex::new(Rank::Pipe, state), changed: WaitQueue::default(), charge })
    }

    /// How large it is.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// How many messages are in it.
    pub(crate) fn count(&self) -> i64 {
        self.state.lock().count
    }

    pub(super) fn times(&self) -> Times {
        self.state.lock().times
    }

    pub(super) fn change_times(&self, change: impl FnOnce(&mut Times)) {
        change(&mut self.state.lock().times);
    }

    pub(super) fn changed(&self) -> &WaitQueue {
        &self.changed
    }

    pub(super) fn ready(&self) -> Ready {
        let count = self.count();
        let mut ready = Ready::empty();
        ready.set(Ready::IN | Ready::RDNORM, count > 0);
        ready.set(Ready::OUT | Ready::WRNORM, count < self.shape.messages);
        ready
    }

    /// Makes a message of these bytes; `ENOMEM` if the monitor holds too many.
    pub(crate) fn message(&self, priority: u32, bytes: Vec<u8>) -> Result<Message, Errno> {
        let payload = Payload::new(bytes, self.charge.budget()).map_err(|_| Errno::ENOMEM)?;
        Ok(Message { priority, payload })
    }

    fn put(&self, message: Message) -> (Sent, crate::sync::MutexGuard<'_, State>) {
        let mut state = self.state.lock();
        if state.count >= self.shape.messages {
            return (Sent::Full(message), state);
        }
        state.touch();
        if let Some(receiver) = state.receivers.0.pop_front() {
            *receiver.hand.lock() = Some(message);
            return (Sent::Handed(receiver.parker.clone()), state);
        }
        state.insert(message);
        let told = if state.count == 1 { state.registration.take() } else { None };
        (Sent::Queued(told), state)
    }

    /// Sends a message. Without room it waits, or fails with `EAGAIN` if there is no deadline; `ETIMEDOUT`, `ERESTARTSYS`.
    pub(crate) fn send(
        &self,
        task: &CurrentTask<'_>,
        message: Message,
        deadline: Option<Deadline>,
    ) -> Result<(), Errno> {
        let (sent, mut state) = self.put(message);
        match sent {
            Sent::Handed(parker) => {
                drop(state);
                parker.wake();
                Ok(())
            }
            Sent::Queued(registration) => {
                drop(state);
                if let Some(registration) = registration {
                    registration.tell(task);
                }
                self.changed.wake(Ready::IN | Ready::RDNORM);
                Ok(())
            }
            Sent::Full(message) => {
                let deadline = deadline.ok_or(Errno::EAGAIN)?;
                let waiting = Waiting::new(task, Some(message));
                state.senders.enter(&waiting);
                drop(state);
                let was_taken = || waiting.hand.lock().is_none();
                let slept = task.block_until(deadline, |_| Ok(was_taken().then_some(())));
                self.state.lock().senders.leave(&waiting);
                // What was taken together with the deadline or a signal is sent.
                if was_taken() { Ok(()) } else { outcome(slept).and(Err(Errno::EAGAIN)) }
            }
        }
    }

    /// Receives the oldest message of the highest priority. Without one it waits, or fails with `EAGAIN` if there is no deadline;
    /// `ETIMEDOUT`, `ERESTARTSYS`.
    pub(crate) fn receive(&self, task: &CurrentTask<'_>, deadline: Option<Deadline>) -> Result<Message, Errno> {
        let mut state = self.state.lock();
        if let Some(message) = state.take() {
            state.touch();
            let sender = state.senders.0.pop_front();
            if let Some(sender) = &sender
                && let Some(message) = sender.hand.lock().take()
            {
                state.insert(message);
            }
            drop(state);
            match sender {
                Some(sender) => sender.parker.wake(),
                None => self.changed.wake(Ready::OUT | Ready::WRNORM),
            }
            return Ok(message);
        }
        let deadline = deadline.ok_or(Errno::EAGAIN)?;
        let waiting = Waiting::new(task, None);
        state.receivers.enter(&waiting);
        drop(state);
        let slept = task.block_until(deadline, |_| Ok(waiting.hand.lock().is_some().then_some(())));
        self.state.lock().receivers.leave(&waiting);
        // What was handed over together with the deadline or a signal is received.
        let received = waiting.hand.lock().take();
        received.map_or_else(|| outcome(slept).and(Err(Errno::EAGAIN)), Ok)
    }

    /// Registers the caller's process; `EBUSY` if another is, or the caller itself.
    pub(crate) fn register(&self, task: &CurrentTask<'_>, how: How) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.registration.is_some() {
            return Err(Errno::EBUSY);
        }
        state.registration = Some(Registration::new(task, how));
        let now = Timestamp::now();
        (state.times.accessed, state.times.changed) = (now, now);
        Ok(())
    }

    /// Takes a process's registration back, if it has one.
    pub(crate) fn unregister(&self, process: Pid) {
        let removed = {
            let mut state = self.state.lock();
            if state.registration.as_ref().is_none_or(|registration| registration.owner() != process) {
                return;
            }
            let now = Timestamp::now();
            (state.times.accessed, state.times.changed) = (now, now);
            state.registration.take()
        };
        if let Some(registration) = removed {
            registration.remove();
        }
    }

    pub(super) fn is_registered(&self) -> bool {
        self.state.lock().registration.is_some()
    }

    /// What a read of the descriptor shows (mqueue_read_file).
    pub(super) fn describe(&self) -> String {
        let mut state = self.state.lock();
        let ((notify, signal), pid) = match &state.registration {
            Some(registration) => (registration.numbers(), registration.owner().0),
            None => ((0, 0), 0),
        };
        let bytes = state.bytes;
        let now = Timestamp::now();
        (state.times.accessed, state.times.changed) = (now, now);
        format!("QSIZE:{bytes:<10} NOTIFY:{notify:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}\n")
    }
}

/// Why a sleep brought nothing.
fn outcome(slept: Result<Wake<()>, Errno>) -> Result<(), Errno> {
    match slept? {
        Wake::Done(()) => Ok(()),
        Wake::TimedOut => Err(Errno::ETIMEDOUT),
        Wake::Interrupted => Err(Errno::ERESTARTSYS),
    }
}
