//! Who is told when a message comes to an empty queue: mq_notify(2).

use crate::net::Socket;
use crate::net::netlink::NetlinkSocket;
use crate::signal::send::send_to_group;
use crate::signal::{Detail, SigInfo, Signal, SignalCode};
use crate::task::{CurrentTask, Pid, ThreadGroup};
use std::sync::{Arc, Weak};

/// Bytes of the cookie by which the C library knows its registration (NOTIFY_COOKIE_LEN); the last one says what has happened.
pub(crate) const COOKIE: usize = 32;
/// A message has come (NOTIFY_WOKENUP).
const WOKEN: u8 = 1;
/// The registration is gone (NOTIFY_REMOVED).
const REMOVED: u8 = 2;

/// How it is told.
#[derive(Debug)]
pub(crate) enum How {
    /// Not at all (SIGEV_NONE): the registration only keeps others out.
    Nothing,
    /// By a signal with a value (SIGEV_SIGNAL). `None`: signal 0, which Linux accepts and never sends.
    Signal(Option<Signal>, u64),
    /// By a cookie through a netlink socket, at which a thread of the C library's waits (SIGEV_THREAD).
    Socket(Arc<dyn Socket>, Box<[u8; COOKIE]>),
}

/// A process that wants to be told.
#[derive(Debug)]
pub(super) struct Registration {
    owner: Pid,
    group: Weak<ThreadGroup>,
    pub(super) how: How,
}

impl Registration {
    /// Registers the caller's process.
    pub(super) fn new(task: &CurrentTask<'_>, how: How) -> Self {
        Self { owner: task.group().pid(), group: Arc::downgrade(task.group()), how }
    }

    /// Which process.
    pub(super) fn owner(&self) -> Pid {
        self.owner
    }

    /// (sigev_notify, the signal's number), as a read of the queue shows them.
    pub(super) fn numbers(&self) -> (i32, i32) {
        match &self.how {
            How::Signal(signal, _) => (0, signal.map_or(0, Signal::raw)),
            How::Nothing => (1, 0),
            How::Socket(..) => (2, 0),
        }
    }

    /// Tells the process that `sender` has sent a message, which ends the registration. No lock is held.
    pub(super) fn tell(self, sender: &CurrentTask<'_>) {
        match self.how {
            How::Nothing | How::Signal(None, _) => {}
            How::Signal(Some(signal), value) => {
                let Some(group) = self.group.upgrade() else { return };
                let detail = Detail::Queued { pid: sender.group().pid(), uid: sender.credentials().uid, value };
                // As on Linux nobody is told if the queue of signals is full.
                let _ = send_to_group(&group, SigInfo { signal, errno: 0, code: SignalCode::SI_MESGQ, detail });
            }
            How::Socket(socket, cookie) => send_cookie(socket.as_ref(), *cookie, WOKEN),
        }
    }

    /// The registration ends without a message. No lock is held.
    pub(super) fn remove(self) {
        if let How::Socket(socket, cookie) = self.how {
            send_cookie(socket.as_ref(), *cookie, REMOVED);
        }
    }
}

fn send_cookie(socket: &dyn Socket, mut cookie: [u8; COOKIE], what: u8) {
    cookie[COOKIE - 1] = what;
    if let Some(socket) = socket.as_any().downcast_ref::<NetlinkSocket>() {
        // Without memory for it the thread is not told, as on Linux.
        let _ = socket.deliver(cookie.to_vec());
    }
}
