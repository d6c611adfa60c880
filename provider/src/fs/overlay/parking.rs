//! Second names for copies of hard-linked files, where the upper layer is a host directory.
//!
//! A file that the lower layer has under several names is copied once, and its copy has only those names in the upper layer that it
//! was found or changed by. When the last of them goes, the others must still lead to the copy, which the host would have let
//! go. So such a copy is made in a directory of our own in the upper layer's root and linked from there; that name lasts as long
//! as the object. (Linux' overlayfs keeps an index in its work directory for this.)

use super::upper::Upper;
use crate::errno::Errno;
use crate::fs::host::HostInode;
use crate::fs::{Directory, NewNode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The name of the directory. The view of the upper layer hides it; it is gone when the sandbox has ended.
pub(in crate::fs) const PARKING: &str = ".picovisor-links";

/// The directory, made when it is first needed.
#[derive(Debug)]
pub(super) struct Parking {
    root: Arc<HostInode>,
    directory: OnceLock<Arc<HostInode>>,
    next: AtomicU64,
}

impl Parking {
    /// Prepares to park in a host directory; what an earlier run that was killed has left there is removed.
    pub(super) fn new(root: &Arc<HostInode>) -> Result<Self, Errno> {
        let parking = Self { root: root.clone(), directory: OnceLock::new(), next: AtomicU64::new(0) };
        if root.has_private_directory(PARKING.as_bytes()) {
            let directory = parking.directory()?;
            for name in directory.names()? {
                directory.remove(&name, false)?;
            }
        }
        Ok(parking)
    }

    fn directory(&self) -> Result<&Arc<HostInode>, Errno> {
        if let Some(directory) = self.directory.get() {
            return Ok(directory);
        }
        let made = self.root.private_directory(PARKING.as_bytes())?;
        Ok(self.directory.get_or_init(|| made))
    }

    /// Makes an object that is reached through its name here.
    pub(super) fn make(
        &self,
        node: &NewNode<'_>,
        prepare: impl FnOnce(&Upper) -> Result<(), Errno>,
    ) -> Result<Upper, Errno> {
        let directory = self.directory()?;
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let made = directory.make(name.as_bytes(), node)?;
        made.settle_at(directory, name.as_bytes())?;
        let made = Upper::Host(made);
        match prepare(&made) {
            Ok(()) => Ok(made),
            Err(error) => {
                self.remove(&made);
                Err(error)
            }
        }
    }

    /// Takes the name here from an object that is let go.
    pub(super) fn remove(&self, object: &Upper) {
        if let Upper::Host(object) = object
            && let Some((directory, name)) = object.home()
        {
            // Nothing depends on it any more, and there is nobody to tell.
            let _ = directory.remove(name, false);
        }
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        if self.directory.get().is_some() {
            // What is not empty is emptied by the next run.
            let _ = self.root.remove_private_directory(PARKING.as_bytes());
        }
    }
}
