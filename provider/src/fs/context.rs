//! What clone's CLONE_FS shares: root, working directory, umask.

use super::Location;
use crate::sync::{Mutex, Rank};

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
}

impl FsContext {
    /// Makes a context whose working directory is the root; umask 022.
    pub fn new(root: Location) -> Self {
        let state = State { cwd: root.clone(), root, umask: 0o022 };
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
