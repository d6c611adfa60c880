//! Host objects that a sandbox does not see.

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, makedev, statx};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// (device, inode).
type Identity = (u64, u64);

/// A host path that is to be hidden, as it was found.
#[derive(Clone, Debug)]
pub(in crate::fs) struct Secret {
    directory: Arc<Directory>,
    name: Box<[u8]>,
    /// The object, and what it leads to if it is a symbolic link.
    objects: Vec<Identity>,
}

/// A directory that secrets lie in.
#[derive(Debug)]
struct Directory {
    identity: Identity,
    /// The directories and links that lead to it and itself, by the path as it is written and by the one without links.
    way: Vec<(Identity, FileType)>,
}

/// Looks secrets up. Many lie in the same few directories (or would, if those existed), so what was found out about a
/// directory is kept: a start looks some fifty paths up, and has a hundred microseconds for it.
#[derive(Debug, Default)]
pub(in crate::fs) struct Finder {
    /// What is at a path, links not followed.
    steps: HashMap<PathBuf, Option<(Identity, FileType)>>,
    directories: HashMap<PathBuf, Option<Arc<Directory>>>,
}

impl Finder {
    /// Looks a path up; `None` if not even its directory exists.
    pub(in crate::fs) fn find(&mut self, path: &Path) -> Option<Secret> {
        let (parent, name) = (path.parent()?, path.file_name()?);
        let directory = self.directory(parent)?;
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
        Some(Secret { directory, name: name.as_bytes().into(), objects })
    }

    fn directory(&mut self, path: &Path) -> Option<Arc<Directory>> {
        if let Some(known) = self.directories.get(path) {
            return known.clone();
        }
        let found = self.look(path).map(Arc::new);
        self.directories.insert(path.to_owned(), found.clone());
        found
    }

    fn look(&mut self, path: &Path) -> Option<Directory> {
        if path.is_absolute() {
            // From the root down: below what is missing there is nothing to look at.
            let mut ancestors: Vec<&Path> = path.ancestors().collect();
            ancestors.reverse();
            let way: Vec<_> = ancestors.into_iter().map(|step| self.step(step)).collect::<Option<_>>()?;
            if let Some((identity, _)) = way.last()
                && way.iter().all(|(_, kind)| *kind == FileType::Directory)
            {
                return Some(Directory { identity: *identity, way });
            }
        }
        let (identity, _) = identity(path, AtFlags::empty())?;
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let way = path.ancestors().chain(real.ancestors()).filter_map(|step| self.step(step)).collect();
        Some(Directory { identity, way })
    }

    fn step(&mut self, path: &Path) -> Option<(Identity, FileType)> {
        if let Some(known) = self.steps.get(path) {
            return *known;
        }
        let found = identity(path, AtFlags::SYMLINK_NOFOLLOW);
        self.steps.insert(path.to_owned(), found);
        found
    }
}

impl Secret {
    /// Looks one path up; `None` if not even its directory exists.
    pub(in crate::fs) fn find(path: &Path) -> Option<Self> {
        Finder::default().find(path)
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
    /// Those of all directories.
    names_anywhere: HashSet<Box<[u8]>>,
    /// What leads to something hidden.
    ways: HashSet<Identity>,
    /// Some of `ways` are symbolic links.
    links_lead: bool,
}

impl Hidden {
    /// Hides a path.
    pub(in crate::fs) fn add(&mut self, secret: &Secret) {
        let directory = &secret.directory;
        self.names.entry(directory.identity).or_default().insert(secret.name.clone());
        self.names_anywhere.insert(secret.name.clone());
        self.objects.extend(&secret.objects);
        self.ways.extend(directory.way.iter().map(|(step, _)| step));
        self.links_lead |= directory.way.iter().any(|(_, kind)| *kind == FileType::Symlink);
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

    /// Tells whether the name is hidden in any directory.
    pub(super) fn hides_somewhere(&self, name: &[u8]) -> bool {
        self.names_anywhere.contains(name)
    }

    /// Tells whether the name is hidden, whatever it stands for.
    pub(in crate::fs) fn hides_name(&self, directory: Identity, name: &[u8]) -> bool {
        self.names.get(&directory).is_some_and(|names| names.contains(name))
    }
}

fn identity(path: &Path, flags: AtFlags) -> Option<(Identity, FileType)> {
    let path: &OsStr = if path.as_os_str().is_empty() { OsStr::new(".") } else { path.as_os_str() };
    let found = statx(CWD, path, flags | AtFlags::NO_AUTOMOUNT, StatxFlags::TYPE | StatxFlags::INO).ok()?;
    let device = makedev(found.stx_dev_major, found.stx_dev_minor);
    Some(((device, found.stx_ino), FileType::from_raw_mode(found.stx_mode.into())))
}
