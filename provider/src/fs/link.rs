//! How somebody learns of a file's changes, whatever it waits by.

use super::{OpenFile, Ready, WaitSource};
use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::task::{Observation, Observer, Share};
use std::sync::Weak;
use vmm::events::{Watch, WatchError};

/// Tells an observer of a file's changes until it is dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what dropping them does")]
pub(crate) enum Link {
    /// By a queue of the provider's.
    Queue(Observation),
    /// By a host descriptor.
    Host(Watch),
}

impl Link {
    /// Starts telling; `EPERM` for a file that never changes, `ENOMEM` if the host cannot watch another descriptor.
    pub(crate) fn new<O: Observer + 'static>(
        kernel: &Kernel,
        file: &OpenFile,
        observer: Weak<O>,
        share: Share,
    ) -> Result<Self, Errno> {
        match file.file().wait_source() {
            WaitSource::Always => Err(Errno::EPERM),
            WaitSource::Queue(queue) => Ok(Self::Queue(queue.observe(observer, Ready::all(), share))),
            WaitSource::Host(fd) => {
                let tell = move |bits| {
                    if let Some(observer) = observer.upgrade() {
                        observer.notify(Ready::from_bits_truncate(bits));
                    }
                };
                let watched = kernel.host_events().watch(fd, Box::new(tell));
                watched.map(Self::Host).map_err(|error| match error {
                    WatchError::NotPollable => Errno::EPERM,
                    WatchError::Host(_) => Errno::ENOMEM,
                })
            }
        }
    }
}
