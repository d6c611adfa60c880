//! How a parked worker is told what to do.

use super::calls::Calls;
use super::vcpu::Vcpu;
use crate::trap::{Attention, UserMode};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// What a worker does for a pico thread: run it to its end.
pub(crate) type Job = Box<dyn FnOnce(&mut dyn UserMode) + Send>;

/// What a worker is told.
pub(super) enum Order {
    /// Run a pico thread to its end.
    Live(Job, Arc<Attention>, Arc<Calls>),
    /// Run a pico thread until it leaves user mode once.
    Burst(Box<dyn FnOnce(&mut Vcpu) + Send>),
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live(..) => "Live",
            Self::Burst(_) => "Burst",
        })
    }
}

#[derive(Debug)]
enum Slot {
    Empty,
    Full(Order),
    Closed,
}

/// A place for one order.
#[derive(Debug)]
pub(super) struct Mailbox {
    slot: Mutex<Slot>,
    changed: Condvar,
}

impl Mailbox {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { slot: Mutex::new(Slot::Empty), changed: Condvar::new() })
    }

    /// Leaves an order with a worker that is parked.
    pub(super) fn send(&self, order: Order) {
        self.replace(Slot::Full(order));
    }

    /// Tells the worker to end.
    pub(super) fn close(&self) {
        self.replace(Slot::Closed);
    }

    /// Waits for an order; `None`: the worker is to end.
    pub(super) fn receive(&self) -> Option<Order> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match std::mem::replace(&mut *slot, Slot::Empty) {
                Slot::Full(order) => return Some(order),
                Slot::Closed => return None,
                Slot::Empty => slot = self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn replace(&self, with: Slot) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = with;
        self.changed.notify_one();
    }
}
