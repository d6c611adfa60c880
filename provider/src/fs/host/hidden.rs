//! Host objects that a sandbox does not see.

use rustix::fs::{AtFlags, CWD, FileType, statat};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What is hidden in a host tree: names in their directories, and the objects they stand for.
///
/// By both: a secret that is replaced while we run (an editor's rename over /etc/shadow) keeps its name, and one that can be
/// reached by another way (a hard link, a bind mount, a symbolic link from elsewhere) keeps its identity.
#[derive(Clone, Debug, Default)]
pub(in crate::fs) struct Hidden {
    /// (device, inode).
    objects: HashSet<(u64, u64)>,
    /// By the directory's (device, inode).
    names: HashMap<(u64, u64), HashSet<Box<[u8]>>>,
}

impl Hidden {
    /// Hides a host path, if it or at least its directory exists. A symbolic link is hidden with what it leads to.
    pub(in crate::fs) fn add(&mut self, path: &Path) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        let Some((directory, _)) = identity(parent, AtFlags::empty()) else { return };
        self.names.entry(directory).or_default().insert(name.as_bytes().into());
        for flags in [AtFlags::SYMLINK_NOFOLLOW, AtFlags::empty()] {
            if let Some((object, kind)) = identity(path, flags)
                // /dev/null and the like stand for "nothing here": hiding the device would hide it everywhere.
                && !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice)
            {
                self.objects.insert(object);
            }
        }
    }

    /// Tells whether an object with that identity is hidden when it is found under `name` in `directory`.
    pub(super) fn hides(&self, directory: (u64, u64), name: &[u8], object: (u64, u64)) -> bool {
        self.objects.contains(&object) || self.hides_name(directory, name)
    }

    /// Tells whether the name is hidden, whatever it stands for.
    pub(super) fn hides_name(&self, directory: (u64, u64), name: &[u8]) -> bool {
        self.names.get(&directory).is_some_and(|names| names.contains(name))
    }
}

fn identity(path: &Path, flags: AtFlags) -> Option<((u64, u64), FileType)> {
    let path: &OsStr = if path.as_os_str().is_empty() { OsStr::new(".") } else { path.as_os_str() };
    let stat = statat(CWD, path, flags).ok()?;
    Some(((stat.st_dev, stat.st_ino), FileType::from_raw_mode(stat.st_mode)))
}
