//! Host objects that a sandbox does not see.

use rustix::fs::{AtFlags, CWD, FileType, statat};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// (device, inode).
type Identity = (u64, u64);

/// A host path that is to be hidden, as it was found.
#[derive(Clone, Debug)]
pub(in crate::fs) struct Secret {
    directory: Identity,
    name: Box<[u8]>,
    /// The object, and what it leads to if it is a symbolic link.
    objects: Vec<Identity>,
    /// The directories and links that lead to it, by the path as it is written and by the one without links.
    way: Vec<(Identity, FileType)>,
}

impl Secret {
    /// Looks a path up; `None` if not even its directory exists.
    pub(in crate::fs) fn find(path: &Path) -> Option<Self> {
        let (parent, name) = (path.parent()?, path.file_name()?);
        let (directory, _) = identity(parent, AtFlags::empty())?;
        let mut objects = Vec::new();
        if let Some((object, kind)) = identity(path, AtFlags::SYMLINK_NOFOLLOW) {
            objects.push(object);
            if kind == FileType::Symlink
                && let Some((target, kind)) = identity(path, AtFlags::empty())
                // A link to /dev/null says "nothing here": hiding the device would hide it everywhere.
                && !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice)
            {
                objects.push(target);
            }
        }
        let real = std::fs::canonicalize(parent).unwrap_or_else(|_| parent.to_owned());
        let steps = parent.ancestors().chain(real.ancestors());
        let way = steps.filter_map(|path| identity(path, AtFlags::SYMLINK_NOFOLLOW)).collect();
        Some(Self { directory, name: name.as_bytes().into(), objects, way })
    }

    /// Tells whether one of these objects is it.
    pub(in crate::fs) fn is_any_of(&self, objects: &HashSet<Identity>) -> bool {
        self.objects.iter().any(|object| objects.contains(object))
    }
}

/// What is hidden in a host tree: names in their directories, and the objects they stand for.
///
/// By both: a secret that is replaced while we run (an editor's rename over /etc/shadow) keeps its name, and one that can be
/// reached by another way (a hard link, a bind mount, a symbolic link from elsewhere) keeps its identity.
#[derive(Clone, Debug, Default)]
pub(in crate::fs) struct Hidden {
    objects: HashSet<Identity>,
    /// By the directory.
    names: HashMap<Identity, HashSet<Box<[u8]>>>,
    /// What leads to something hidden.
    ways: HashSet<Identity>,
    /// Some of `ways` are symbolic links.
    links_lead: bool,
}

impl Hidden {
    /// Hides a path.
    pub(in crate::fs) fn add(&mut self, secret: &Secret) {
        self.names.entry(secret.directory).or_default().insert(secret.name.clone());
        self.objects.extend(&secret.objects);
        self.ways.extend(secret.way.iter().map(|(step, _)| step));
        self.links_lead |= secret.way.iter().any(|(_, kind)| *kind == FileType::Symlink);
    }

    /// Tells whether an object with that identity is hidden when it is found under `name` in `directory`.
    pub(super) fn hides(&self, directory: Identity, name: &[u8], object: Identity) -> bool {
        self.objects.contains(&object) || self.hides_name(directory, name)
    }

    /// Tells whether symbolic links are on the way to something hidden: a directory there is not removed while it has entries.
    pub(super) fn needs_links(&self) -> bool {
        self.links_lead
    }

    /// Tells whether the object is on the way to something hidden. Its name must stay: a later run knows secrets by their paths, and
    /// would show what lies elsewhere by then.
    pub(super) fn needs(&self, object: Identity) -> bool {
        self.ways.contains(&object)
    }

    /// Tells whether the name is hidden, whatever it stands for.
    pub(in crate::fs) fn hides_name(&self, directory: Identity, name: &[u8]) -> bool {
        self.names.get(&directory).is_some_and(|names| names.contains(name))
    }
}

fn identity(path: &Path, flags: AtFlags) -> Option<(Identity, FileType)> {
    let path: &OsStr = if path.as_os_str().is_empty() { OsStr::new(".") } else { path.as_os_str() };
    let stat = statat(CWD, path, flags).ok()?;
    Some(((stat.st_dev, stat.st_ino), FileType::from_raw_mode(stat.st_mode)))
}
