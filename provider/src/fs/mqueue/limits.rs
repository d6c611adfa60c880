//! How many queues there may be and how large: the settings in /proc/sys/fs/mqueue, and what each user holds (RLIMIT_MSGQUEUE).

use crate::errno::Errno;
use crate::net::Budget;
use crate::sync::{Mutex, Rank};
use std::collections::HashMap;
use std::sync::Arc;

/// The most messages of a queue, privileged or not (HARD_MSGMAX).
pub(crate) const MESSAGES_HARD: i64 = 65_536;
/// The most bytes of a message, privileged or not (HARD_MSGSIZEMAX).
pub(crate) const MESSAGE_SIZE_HARD: i64 = 16 << 20;
/// What a setting of the most bytes of a message is at least (MIN_MSGSIZEMAX).
pub(crate) const MESSAGE_SIZE_LEAST: i64 = 128;

/// Bytes that Linux counts for a message besides its text: `struct msg_msg`.
const MESSAGE: u64 = 48;
/// Bytes that it counts for a priority in use: `struct posix_msg_tree_node`.
const PRIORITY: u64 = 48;
/// How many priorities there are (MQ_PRIO_MAX).
pub(crate) const PRIORITIES: u32 = 32_768;
/// Bytes that a queue takes of the monitor's memory.
const QUEUE: usize = 1024;

/// The settings in /proc/sys/fs/mqueue, see mq_overview(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) msg_max: i64,
    pub(crate) msgsize_max: i64,
    pub(crate) queues_max: u32,
    pub(crate) msg_default: i64,
    pub(crate) msgsize_default: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { msg_max: 10, msgsize_max: 8192, queues_max: 256, msg_default: 10, msgsize_default: 8192 }
    }
}

/// How large a queue is: the two attributes that mq_open sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The most messages (mq_maxmsg).
    pub(crate) messages: i64,
    /// The most bytes of one (mq_msgsize).
    pub(crate) message_size: i64,
}

impl Shape {
    /// Checks it, and tells how many bytes count for it; `EINVAL`, `EOVERFLOW` (mqueue_get_inode).
    fn bytes(self, settings: &Settings, privileged: bool) -> Result<u64, Errno> {
        let (messages_max, size_max) =
            if privileged { (MESSAGES_HARD, MESSAGE_SIZE_HARD) } else { (settings.msg_max, settings.msgsize_max) };
        if !(1..=messages_max).contains(&self.messages) || !(1..=size_max).contains(&self.message_size) {
            return Err(Errno::EINVAL);
        }
        let (messages, size) = (self.messages.unsigned_abs(), self.message_size.unsigned_abs());
        let texts = messages.checked_mul(size).ok_or(Errno::EOVERFLOW)?;
        let tree = messages * MESSAGE + messages.min(PRIORITIES.into()) * PRIORITY;
        texts.checked_add(tree).ok_or(Errno::EOVERFLOW)
    }
}

/// Who asks for a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    /// The real user id: queues count for it.
    pub(crate) uid: u32,
    /// Whether it has CAP_SYS_RESOURCE.
    pub(crate) privileged: bool,
    /// Its RLIMIT_MSGQUEUE in bytes.
    pub(crate) limit: u64,
}

#[derive(Debug, Default)]
struct Held {
    settings: Settings,
    queues: u32,
    by_user: HashMap<u32, u64>,
}

/// The limits, and what is held of them.
#[derive(Debug)]
pub(crate) struct Limits {
    held: Mutex<Held>,
    budget: Arc<Budget>,
}

/// What one queue holds, until it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    limits: Arc<Limits>,
    uid: u32,
    bytes: u64,
}

impl Limits {
    /// Makes the usual limits; `budget` bounds what messages and queues take of the monitor's memory.
    pub(super) fn new(budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { held: Mutex::new(Rank::Leaf, Held::default()), budget: budget.clone() })
    }

    /// The settings.
    pub(crate) fn settings(&self) -> Settings {
        self.held.lock().settings
    }

    /// Changes the settings; the caller has checked the values.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.held.lock().settings);
    }

    /// Counts a queue of this shape (`None`: the default one): `ENOSPC` if there are too many, `EINVAL`, `EOVERFLOW`, and `EMFILE`
    /// beyond the asker's RLIMIT_MSGQUEUE.
    pub(super) fn charge(self: &Arc<Self>, asker: Asker, shape: Option<Shape>) -> Result<(Shape, Charge), Errno> {
        let mut held = self.held.lock();
        let settings = held.settings;
        if held.queues >= settings.queues_max && !asker.privileged {
            return Err(Errno::ENOSPC);
        }
        let usual = Shape {
            messages: settings.msg_max.min(settings.msg_default),
            message_size: settings.msgsize_max.min(settings.msgsize_default),
        };
        let shape = shape.unwrap_or(usual);
        let bytes = shape.bytes(&settings, asker.privileged)?;
        let of_user = held.by_user.get(&asker.uid).copied().unwrap_or_default();
        let sum = of_user.checked_add(bytes).filter(|sum| *sum <= asker.limit).ok_or(Errno::EMFILE)?;
        if !self.budget.take(QUEUE) {
            return Err(Errno::ENOMEM);
        }
        held.by_user.insert(asker.uid, sum);
        held.queues += 1;
        Ok((shape, Charge { limits: self.clone(), uid: asker.uid, bytes }))
    }
}

impl Charge {
    /// The bound on what messages take of the monitor's memory.
    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.limits.budget
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.limits.budget.give(QUEUE);
        let mut held = self.limits.held.lock();
        held.queues -= 1;
        let left = held.by_user.get(&self.uid).map_or(0, |bytes| bytes - self.bytes);
        if left == 0 {
            held.by_user.remove(&self.uid);
        } else {
            held.by_user.insert(self.uid, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Arc<Limits> {
        Limits::new(&Arc::new(Budget::new(1 << 20)))
    }

    fn asker(privileged: bool, limit: u64) -> Asker {
        Asker { uid: 5, privileged, limit }
    }

    #[test]
    fn a_user_holds_as_many_bytes_as_linux_counts() {
        let limits = limits();
        // Ten messages of 8192 bytes with their headers, and as many priorities.
        let bytes = 10 * (8192 + 48 + 48);
        assert_eq!(limits.charge(asker(false, bytes - 1), None).err(), Some(Errno::EMFILE));
        let (shape, first) = limits.charge(asker(false, bytes), None).unwrap();
        assert_eq!(shape, Shape { messages: 10, message_size: 8192 });
        assert_eq!(limits.charge(asker(false, bytes), None).err(), Some(Errno::EMFILE));
        drop(first);
        assert!(limits.charge(asker(false, bytes), None).is_ok());
        assert!(limits.held.lock().by_user.is_empty());
        assert_eq!(limits.budget.used(), 0);
    }

    #[test]
    fn the_privileged_pass_settings_but_not_the_hard_limits() {
        let limits = limits();
        let large = Some(Shape { messages: 11, message_size: 8193 });
        assert_eq!(limits.charge(asker(false, u64::MAX), large).err(), Some(Errno::EINVAL));
        assert!(limits.charge(asker(true, u64::MAX), large).is_ok());
        let beyond = Some(Shape { messages: 1, message_size: MESSAGE_SIZE_HARD + 1 });
        assert_eq!(limits.charge(asker(true, u64::MAX), beyond).err(), Some(Errno::EINVAL));
        for (messages, message_size) in [(0, 1), (1, 0), (-1, 1), (i64::MIN, i64::MAX)] {
            let shape = Some(Shape { messages, message_size });
            assert_eq!(limits.charge(asker(true, u64::MAX), shape).err(), Some(Errno::EINVAL));
        }
    }

    #[test]
    fn the_number_of_queues_is_limited_for_the_others() {
        let limits = limits();
        limits.change(|settings| settings.queues_max = 1);
        let first = limits.charge(asker(false, u64::MAX), None).unwrap();
        assert_eq!(limits.charge(asker(false, u64::MAX), None).err(), Some(Errno::ENOSPC));
        assert!(limits.charge(asker(true, u64::MAX), None).is_ok());
        drop(first);
        assert!(limits.charge(asker(false, u64::MAX), None).is_ok());
    }

    #[test]
    fn the_monitors_memory_is_bounded_whoever_asks() {
        let limits = Limits::new(&Arc::new(Budget::new(QUEUE)));
        let _first = limits.charge(asker(true, u64::MAX), None).unwrap();
        assert_eq!(limits.charge(asker(true, u64::MAX), None).err(), Some(Errno::ENOMEM));
    }
}
