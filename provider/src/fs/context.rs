//! What clone's CLONE_FS shares: root, working directory, umask.

use super::{Location, MountNamespace};
use crate::sync::{Mutex, Rank};
use std::sync::Arc;

/// A task's root, working directory and umask.
#[derive(Debug)]
pub struct FsContext {
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
struct State {
    root: Location,
    cwd: Location,
    umask: u32,
    /// Not shared with who does not share the rest: a thread in another namespace has another root.
    mounts: Arc<MountNamespace>,
}

impl FsContext {
    /// Makes a context whose working directory is the namespace's root; umask 022.
    pub fn new(mounts: Arc<MountNamespace>) -> Self {
        let root = mounts.root();
        let state = State { cwd: root.clone(), root, umask: 0o022, mounts };
        Self { state: Mutex::new(Rank::FsContext, state) }
    }

    /// A copy of its own (fork).
    pub fn copy(&self) -> Self {
        Self { state: Mutex::new(Rank::FsContext, self.state.lock().clone()) }
    }

    /// The directory that `/` means.
    pub fn root(&self) -> Location {
        self.state.lock().root.clone()
    }

    /// The working directory.
    pub fn cwd(&self) -> Location {
        self.state.lock().cwd.clone()
    }

    /// The mounts it sees.
    pub fn mounts(&self) -> Arc<MountNamespace> {
        self.state.lock().mounts.clone()
    }

    /// Changes the mounts it sees; root and working directory are changed by the caller, too.
    pub(super) fn change_mounts(&self, to: Arc<MountNamespace>) {
        let _old = std::mem::replace(&mut self.state.lock().mounts, to);
    }

    /// The permission bits that new files do not get.
    pub fn umask(&self) -> u32 {
        self.state.lock().umask
    }

    /// Changes the working directory.
    pub fn change_cwd(&self, to: Location) {
        let _old = std::mem::replace(&mut self.state.lock().cwd, to);
    }

    /// Changes the root.
    pub fn change_root(&self, to: Location) {
        let _old = std::mem::replace(&mut self.state.lock().root, to);
    }

    /// Changes the umask; returns the old one.
    pub fn change_umask(&self, to: u32) -> u32 {
        std::mem::replace(&mut self.state.lock().umask, to & 0o777)
    }
}
