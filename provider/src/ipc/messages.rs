//! Message queues (ipc/msg.c).

use super::registry::Object;
use super::{Changes, Permissions, Registry, now};
use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::net::messages::Payload;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, Deadline, Pid, WaitQueue, Wake};
use std::collections::VecDeque;
use std::sync::Arc;

/// A message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its type: at least 1.
    pub kind: i64,
    /// Its bytes, which count as the monitor's memory.
    text: Arc<Payload>,
}

impl Message {
    /// Makes a message; `ENOMEM` if those in the sandbox take too much memory.
    pub fn new(kernel: &Kernel, kind: i64, text: Vec<u8>) -> Result<Self, Errno> {
        let text = Payload::new(text, kernel.network().budget()).map_err(|_| Errno::ENOMEM)?;
        Ok(Self { kind, text: Arc::new(text) })
    }

    /// Its bytes.
    pub fn text(&self) -> &[u8] {
        self.text.bytes()
    }
}

/// Which message is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The first.
    Any,
    /// The first of this type.
    Is(i64),
    /// The first of any other type (MSG_EXCEPT).
    Not(i64),
    /// The first of the lowest type, which is at most this.
    AtMost(i64),
    /// The one at this place, which stays in the queue (MSG_COPY).
    Copy(usize),
}

/// A queue of messages.
#[derive(Debug)]
pub struct MessageQueue {
    state: Mutex<State>,
    /// Woken when a message comes.
    readers: WaitQueue,
    /// Woken when there is room.
    writers: WaitQueue,
}

#[derive(Debug)]
struct State {
    messages: VecDeque<Message>,
    status: QueueStatus,
    removed: bool,
}

/// What IPC_STAT tells about a queue.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "msgctl(2) describes them")]
pub struct QueueStatus {
    pub permissions: Permissions,
    pub sent: i64,
    pub received: i64,
    pub changed: i64,
    pub bytes: u64,
    pub count: u64,
    pub bytes_max: u64,
    pub last_sender: Pid,
    pub last_receiver: Pid,
}

impl State {
    /// The place of the message that is meant.
    fn position(&self, selection: Selection) -> Option<usize> {
        let kinds = || self.messages.iter().map(|message| message.kind);
        match selection {
            Selection::Any => (!self.messages.is_empty()).then_some(0),
            Selection::Is(kind) => kinds().position(|other| other == kind),
            Selection::Not(kind) => kinds().position(|other| other != kind),
            Selection::AtMost(most) => {
                let lowest = kinds().filter(|kind| *kind <= most).min()?;
                kinds().position(|kind| kind == lowest)
            }
            Selection::Copy(at) => (at < self.messages.len()).then_some(at),
        }
    }

    fn has_room(&self, bytes: u64) -> bool {
        // The number of messages is bounded, too: empty ones cost memory all the same.
        self.status.bytes + bytes <= self.status.bytes_max && self.status.count < self.status.bytes_max
    }
}

fn len(message: &Message) -> u64 {
    u64::try_from(message.text().len()).unwrap_or(u64::MAX)
}

impl Object for MessageQueue {
    fn permissions(&self) -> Permissions {
        self.state.lock().status.permissions
    }
}

impl MessageQueue {
    /// Makes an empty queue for at most so many bytes.
    pub fn new(permissions: Permissions, bytes_max: u64) -> Arc<Self> {
        let status = QueueStatus {
            permissions,
            sent: 0,
            received: 0,
            changed: now(),
            bytes: 0,
            count: 0,
            bytes_max,
            last_sender: Pid(0),
            last_receiver: Pid(0),
        };
        let state = State { messages: VecDeque::new(), status, removed: false };
        Arc::new(Self {
            state: Mutex::new(Rank::IpcObject, state),
            readers: WaitQueue::default(),
            writers: WaitQueue::default(),
        })
    }

    /// What IPC_STAT tells.
    pub fn status(&self) -> QueueStatus {
        self.state.lock().status
    }

    /// Puts a message at the end. Without room it waits, or fails with `EAGAIN`; `EIDRM`, `ERESTARTNOHAND`.
    pub fn send(&self, task: &CurrentTask<'_>, message: Message, wait: bool) -> Result<(), Errno> {
        let mut message = Some(message);
        let sent = task.block_until(Deadline::Never, |waiter| {
            waiter.on_queue(&self.writers);
            let mut state = self.state.lock();
            if state.removed {
                return Err(Errno::EIDRM);
            }
            if message.as_ref().is_some_and(|message| !state.has_room(len(message))) {
                return if wait { Ok(None) } else { Err(Errno::EAGAIN) };
            }
            if let Some(message) = message.take() {
                state.status.bytes += len(&message);
                state.status.count += 1;
                (state.status.sent, state.status.last_sender) = (now(), task.group().pid());
                state.messages.push_back(message);
            }
            Ok(Some(()))
        })?;
        interrupted(sent)?;
        self.readers.wake_all();
        Ok(())
    }

    /// Takes a message out. One that is longer than `room`, which the caller cuts, is `E2BIG` unless `cut`. Without any it waits, or
    /// fails with `ENOMSG`; `EIDRM`, `ERESTARTNOHAND`. A copy is never cut (`EINVAL`).
    pub fn receive(
        &self,
        task: &CurrentTask<'_>,
        selection: Selection,
        (room, cut): (usize, bool),
        wait: bool,
    ) -> Result<Message, Errno> {
        let copies = matches!(selection, Selection::Copy(_));
        let received = task.block_until(Deadline::Never, |waiter| {
            waiter.on_queue(&self.readers);
            let mut state = self.state.lock();
            if state.removed {
                return Err(Errno::EIDRM);
            }
            let Some(at) = state.position(selection) else {
                return if wait { Ok(None) } else { Err(Errno::ENOMSG) };
            };
            let is_longer = state.messages[at].text().len() > room;
            if is_longer && !cut {
                return Err(Errno::E2BIG);
            }
            if copies {
                if is_longer {
                    return Err(Errno::EINVAL);
                }
                return Ok(state.messages.get(at).cloned());
            }
            let message = state.messages.remove(at);
            if let Some(message) = &message {
                state.status.bytes -= len(message);
                state.status.count -= 1;
                (state.status.received, state.status.last_receiver) = (now(), task.group().pid());
            }
            Ok(message)
        })?;
        let message = interrupted(received)?;
        if !copies {
            self.writers.wake_all();
        }
        Ok(message)
    }

    /// Changes owner, mode and the most bytes.
    pub fn change(&self, changes: Changes, bytes_max: u64) -> Result<(), Errno> {
        {
            let mut state = self.state.lock();
            state.status.permissions.change(changes)?;
            (state.status.bytes_max, state.status.changed) = (bytes_max, now());
        }
        self.readers.wake_all();
        self.writers.wake_all();
        Ok(())
    }

    /// Removes it with its messages: whoever waits gets `EIDRM`.
    pub fn remove(&self) {
        {
            let mut state = self.state.lock();
            state.removed = true;
            state.messages.clear();
        }
        self.readers.wake_all();
        self.writers.wake_all();
    }
}

fn interrupted<T>(wake: Wake<T>) -> Result<T, Errno> {
    match wake {
        Wake::Done(value) => Ok(value),
        // There is no time limit.
        Wake::TimedOut | Wake::Interrupted => Err(Errno::ERESTARTNOHAND),
    }
}

/// The queues of a sandbox.
pub type MessageQueues = Registry<MessageQueue>;
