//! Path walks.
//!
//! One component at a time, links expanded by us on an explicit stack: nothing a program passes makes it recurse or loop.
//! Order of errors as in fs/namei.c: not a directory, no search permission, name too long, no such entry.

use super::access::{self, Want};
use super::namespace::Namespace;
use super::{FileKind, Link, LinkTarget, Location, MountFlags, Recall, Stat};
use crate::errno::Errno;
use crate::task::{Credentials, CurrentTask};
use std::sync::Arc;

/// Symbolic links in one walk (MAXSYMLINKS).
const LINKS_MAX: u32 = 40;
/// Names that are confirmed together rather than each for itself: for a host directory that takes three system calls, not one a name,
/// but one of them only has a path.
const LEAP_MIN: u32 = 3;

bitflags::bitflags! {
    /// How a walk is confined: the RESOLVE_* flags of openat2(2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Resolve: u64 {
        /// Stay on the mount.
        const NO_XDEV = 0x1;
        /// Follow no magic link.
        const NO_MAGICLINKS = 0x2;
        /// Follow no symbolic link.
        const NO_SYMLINKS = 0x4;
        /// Never leave the start: `EXDEV`.
        const BENEATH = 0x8;
        /// The start is the root.
        const IN_ROOT = 0x10;
        /// Only what is cached.
        const CACHED = 0x20;
    }
}

/// What becomes of a symbolic link in the last place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// It is followed.
    Follow,
    /// It is the result (but for a path that ends in a slash).
    Keep,
}

/// Where a walk to the last directory ends.
#[derive(Debug)]
pub(super) enum Tail {
    /// At a name, which may exist or not, in a directory.
    Name {
        directory: Location,
        name: Vec<u8>,
        /// The path ended in a slash.
        slash: bool,
    },
    /// At `.`, `..`, `/` or what a magic link leads to.
    Place(Location, Special),
}

/// Last components that are no names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    Dot,
    DotDot,
    /// `/`, or the target of a magic link.
    Root,
}

/// A walk in progress.
pub(super) struct Walker<'a, 't> {
    namespace: &'a Namespace,
    /// `None` while the view is built: no permission is checked.
    task: Option<(&'a CurrentTask<'t>, Arc<Credentials>)>,
    root: Location,
    start: Location,
    resolve: Resolve,
    links: u32,
    /// The walk ended with a lookup, and not at a place that it knew or that something is mounted on.
    looked_up: bool,
}

impl<'a, 't> Walker<'a, 't> {
    /// Starts at `base` for relative paths. With RESOLVE_IN_ROOT and RESOLVE_BENEATH nothing above it is reached.
    pub(super) fn new(
        namespace: &'a Namespace,
        task: Option<&'a CurrentTask<'t>>,
        root: Location,
        base: Location,
        resolve: Resolve,
    ) -> Self {
        let root = if resolve.contains(Resolve::IN_ROOT) { base.clone() } else { root };
        let task = task.map(|task| (task, task.credentials()));
        Self { namespace, task, root, start: base, resolve, links: 0, looked_up: false }
    }

    /// Walks the whole path.
    pub(super) fn walk(&mut self, path: &[u8], last: LastLink) -> Result<Location, Errno> {
        let mut tail = self.walk_to_last(self.start.clone(), path)?;
        loop {
            let (directory, name, slash) = match tail {
                Tail::Place(place, _) => return Ok(place),
                Tail::Name { directory, name, slash } => (directory, name, slash),
            };
            let place = self.step(&directory, &name)?;
            if place.kind() == FileKind::Symlink && (slash || last == LastLink::Follow) {
                tail = self.follow(&directory, &place, slash)?;
                continue;
            }
            if slash && place.kind() != FileKind::Directory {
                return Err(Errno::ENOTDIR);
            }
            self.looked_up = !place.entry().is_covered() && !place.is_mount_root();
            return Ok(place);
        }
    }

    /// The attributes of the place where [`Self::walk`] has just ended.
    pub(super) fn stat(&self, place: &Location) -> Result<Stat, Errno> {
        if self.looked_up { place.inode().stat_found() } else { place.inode().stat() }
    }

    /// Walks all but the last component, from the walk's start.
    pub(super) fn walk_to_tail(&mut self, path: &[u8]) -> Result<Tail, Errno> {
        self.walk_to_last(self.start.clone(), path)
    }

    /// Goes on where the symbolic link `link`, found in `directory`, leads; a slash behind it stays behind its target.
    pub(super) fn follow(&mut self, directory: &Location, link: &Location, slash: bool) -> Result<Tail, Errno> {
        match self.target(link)? {
            LinkTarget::Path(mut text) => {
                if slash {
                    text.push(b'/');
                }
                self.walk_to_last(directory.clone(), &text)
            }
            LinkTarget::Object(place) => {
                if slash && place.kind() != FileKind::Directory {
                    return Err(Errno::ENOTDIR);
                }
                Ok(Tail::Place(place, Special::Root))
            }
        }
    }

    /// The place that `name` stands for in `directory`; what is mounted there, if anything is.
    pub(super) fn step(&self, directory: &Location, name: &[u8]) -> Result<Location, Errno> {
        let task = self.task.as_ref().map(|(task, _)| *task);
        let place = self.namespace.child(task, directory, name)?;
        self.check_mount(directory, &place)?;
        Ok(place)
    }

    /// Checks that `directory` is one and may be searched.
    fn check_search(&self, directory: &Location) -> Result<(), Errno> {
        if directory.kind() != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        match &self.task {
            Some((_, who)) => access::check_inode(who, directory.inode().as_ref(), Want::EXECUTE),
            None => Ok(()),
        }
    }

    fn check_mount(&self, from: &Location, to: &Location) -> Result<(), Errno> {
        let same = match (from.mount(), to.mount()) {
            (Some(from), Some(to)) => Arc::ptr_eq(from, to),
            _ => false,
        };
        if self.resolve.contains(Resolve::NO_XDEV) && !same { Err(Errno::EXDEV) } else { Ok(()) }
    }

    fn walk_to_last(&mut self, from: Location, path: &[u8]) -> Result<Tail, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let mut at = from;
        let mut special = Special::Root;
        // Paths that are being walked, innermost last; each with how far it got.
        let mut pending: Vec<(Vec<u8>, usize)> = Vec::new();
        self.enter(path.to_vec(), &mut at, &mut pending)?;
        loop {
            let Some((name, slash, last)) = next_component(&mut pending) else {
                return Ok(Tail::Place(at, special));
            };
            self.check_search(&at)?;
            match &name[..] {
                b"." => special = Special::Dot,
                b".." => {
                    at = self.parent(at)?;
                    special = Special::DotDot;
                }
                _ if last => return Ok(Tail::Name { directory: at, name, slash }),
                _ => {
                    let place = self.step(&at, &name)?;
                    if place.kind() != FileKind::Symlink {
                        at = place;
                        continue;
                    }
                    match self.target(&place)? {
                        LinkTarget::Path(text) => self.enter(text, &mut at, &mut pending)?,
                        LinkTarget::Object(target) => at = target,
                    }
                }
            }
        }
    }

    /// Starts on a path: an absolute one from the root.
    fn enter(&self, path: Vec<u8>, at: &mut Location, pending: &mut Vec<(Vec<u8>, usize)>) -> Result<(), Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path[0] == b'/' {
            if self.resolve.contains(Resolve::BENEATH) {
                return Err(Errno::EXDEV);
            }
            self.check_mount(at, &self.root)?;
            *at = self.root.clone();
        }
        let walked = self.leap(at, &path);
        pending.push((path, walked));
        Ok(())
    }

    /// Goes down `path` from `at` as far as the directories are known, but for the last name, and has the file system confirm that at
    /// once. Returns how much of the path is behind `at` then: nothing where ordinary steps have to be taken.
    fn leap(&self, at: &mut Location, path: &[u8]) -> usize {
        let Some((_, who)) = &self.task else { return 0 };
        if !self.resolve.is_empty() {
            return 0;
        }
        // Where the way starts that is to be confirmed, and how many directories below that the walk is.
        let (mut start, mut start_offset, mut depth) = (at.clone(), 0, 0);
        let (mut place, mut offset, mut names) = (at.clone(), 0, 0);
        for (name, behind) in components(all_but_last(path)) {
            if self.check_search(&place).is_err() {
                break;
            }
            match name {
                b"." => {}
                b".." => {
                    let parent = if depth > 0 && !place.is_same(&self.root) { place.parent() } else { None };
                    let Some(parent) = parent else { break };
                    place = parent;
                    depth -= 1;
                }
                _ => match self.namespace.recall(who, &place, name) {
                    Some((known, Recall::Likely)) => {
                        place = known;
                        depth += 1;
                        names += 1;
                    }
                    Some((known, Recall::Certain)) if names == 0 => {
                        place = known;
                        start = place.clone();
                        start_offset = behind;
                    }
                    _ => break,
                },
            }
            offset = behind;
        }
        *at = start;
        if names < LEAP_MIN {
            return start_offset;
        }
        let slashes = path[start_offset..offset].iter().take_while(|byte| **byte == b'/').count();
        let way = &path[start_offset + slashes..offset];
        match at.inode().as_dir() {
            Some(operations) if operations.confirm_way(way, place.inode()) => {
                *at = place;
                offset
            }
            _ => start_offset,
        }
    }

    fn parent(&self, at: Location) -> Result<Location, Errno> {
        if self.resolve.contains(Resolve::BENEATH) && at.is_same(&self.start) {
            return Err(Errno::EXDEV);
        }
        if at.is_same(&self.root) {
            return Ok(at);
        }
        let Some(parent) = at.parent() else { return Ok(at) };
        self.check_mount(&at, &parent)?;
        Ok(self.namespace.top(parent))
    }

    fn target(&mut self, place: &Location) -> Result<LinkTarget, Errno> {
        self.links += 1;
        let forbidden =
            self.resolve.contains(Resolve::NO_SYMLINKS) || place.mount_flags().contains(MountFlags::NOSYMFOLLOW);
        if self.links > LINKS_MAX || forbidden {
            return Err(Errno::ELOOP);
        }
        let link: &dyn Link = place.inode().as_link().ok_or(Errno::EINVAL)?;
        let target = match &self.task {
            Some((task, _)) => link.follow(task)?,
            None => LinkTarget::Path(link.fixed_text()?),
        };
        if let LinkTarget::Object(target) = &target {
            if self.resolve.contains(Resolve::NO_MAGICLINKS) {
                return Err(Errno::ELOOP);
            }
            if self.resolve.intersects(Resolve::BENEATH | Resolve::IN_ROOT) {
                return Err(Errno::EXDEV);
            }
            self.check_mount(place, target)?;
        }
        Ok(target)
    }
}

/// A path without its last name and what follows that.
fn all_but_last(path: &[u8]) -> &[u8] {
    let last = path.iter().rposition(|byte| *byte != b'/').unwrap_or(0);
    let slash = path[..last].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    &path[..slash]
}

/// The names of a path, each with the offset behind it.
fn components(path: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + path[at..].iter().take_while(|byte| **byte == b'/').count();
        at = start + path[start..].iter().take_while(|byte| **byte != b'/').count();
        (at > start).then(|| (&path[start..at], at))
    })
}

/// Takes the next component: its name, whether slashes follow it, and whether it is the last of all.
fn next_component(pending: &mut Vec<(Vec<u8>, usize)>) -> Option<(Vec<u8>, bool, bool)> {
    loop {
        let (path, at) = pending.last_mut()?;
        let start = *at + path[*at..].iter().take_while(|byte| **byte == b'/').count();
        let len = path[start..].iter().take_while(|byte| **byte != b'/').count();
        if len == 0 {
            pending.pop();
            continue;
        }
        let name = path[start..start + len].to_vec();
        *at = start + len;
        let slash = *at < path.len();
        let rest_is_empty = |(path, at): &(Vec<u8>, usize)| path[*at..].iter().all(|byte| *byte == b'/');
        let last = pending.iter().all(rest_is_empty);
        // A slash behind a link that was expanded belongs to its target.
        let slash = slash || (last && pending.iter().any(|(path, at)| *at < path.len()));
        return Some((name, slash, last));
    }
}

#[cfg(test)]
#[path = "leap_tests.rs"]
mod leap_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(path: &[u8]) -> Vec<(String, bool, bool)> {
        let mut pending = vec![(path.to_vec(), 0)];
        std::iter::from_fn(|| next_component(&mut pending))
            .map(|(name, slash, last)| (String::from_utf8(name).unwrap(), slash, last))
            .collect()
    }

    #[test]
    fn slashes_between_components_do_not_count() {
        assert_eq!(taken(b"//a///b"), [("a".into(), true, false), ("b".into(), false, true)]);
        assert_eq!(taken(b"a//"), [("a".into(), true, true)]);
        assert_eq!(taken(b"///"), []);
    }

    #[test]
    fn all_names_but_the_last_are_leapt_over() {
        let names = |path: &'static [u8]| -> Vec<_> { components(all_but_last(path)).collect() };
        assert_eq!(names(b"/a//bc/d//"), [(&b"a"[..], 2), (&b"bc"[..], 6)]);
        assert_eq!(names(b"a/./.."), [(&b"a"[..], 1), (&b"."[..], 3)]);
        for path in [&b"a"[..], b"/a", b"//a/", b"/", b"//", b""] {
            assert_eq!(names(path), []);
        }
    }

    #[test]
    fn a_links_last_component_is_the_last_only_if_nothing_follows_the_link() {
        let mut pending = vec![(b"link/x".to_vec(), 4), (b"target".to_vec(), 0)];
        assert_eq!(next_component(&mut pending), Some((b"target".to_vec(), false, false)));
        let mut pending = vec![(b"link//".to_vec(), 4), (b"target".to_vec(), 0)];
        assert_eq!(next_component(&mut pending), Some((b"target".to_vec(), true, true)));
    }
}
