//! The namespaces that tasks may have of their own besides their mounts, see namespaces(7): host and domain name.
//!
//! A sandbox has one namespace of each other kind. That of the mounts lies with root and working directory ([`crate::fs::FsContext`]),
//! which only make sense in it.

use super::Task;
use crate::fs::new_number;
use crate::sync::{Mutex, Rank};
use std::sync::Arc;

/// The inode number of the first UTS namespace (include/linux/proc_ns.h).
const FIRST_UTS: u64 = 0xEFFF_FFFE;

/// The system's changeable names.
#[derive(Clone, Debug)]
pub struct Names {
    /// The host's, at most 64 bytes.
    pub host: Vec<u8>,
    /// The NIS domain's, at most 64 bytes.
    pub domain: Vec<u8>,
}

/// Host and domain name for some tasks.
#[derive(Debug)]
pub struct UtsNamespace {
    number: u64,
    names: Mutex<Names>,
}

impl UtsNamespace {
    /// Makes the first one.
    pub(crate) fn first(names: Names) -> Arc<Self> {
        Self::numbered(FIRST_UTS, names)
    }

    fn numbered(number: u64, names: Names) -> Arc<Self> {
        Arc::new(Self { number, names: Mutex::new(Rank::Leaf, names) })
    }

    /// A copy with a number of its own.
    pub fn copy(&self) -> Arc<Self> {
        Self::numbered(new_number(), self.names())
    }

    /// The number in /proc/PID/ns.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The names, as uname(2) has them.
    pub fn names(&self) -> Names {
        self.names.lock().clone()
    }

    /// Changes the host name.
    pub fn set_host_name(&self, name: Vec<u8>) {
        self.names.lock().host = name;
    }

    /// Changes the domain name.
    pub fn set_domain_name(&self, name: Vec<u8>) {
        self.names.lock().domain = name;
    }
}

/// The namespaces of a task.
#[derive(Clone, Debug)]
pub struct Namespaces {
    /// Host and domain name.
    pub uts: Arc<UtsNamespace>,
}

impl Task {
    /// Its namespaces.
    pub fn namespaces(&self) -> Namespaces {
        self.namespaces.lock().clone()
    }

    /// Changes its namespaces.
    pub fn set_namespaces(&self, to: Namespaces) {
        // Dropped after the lock: it may be the last of what is in it.
        let _old = std::mem::replace(&mut *self.namespaces.lock(), to);
    }
}
