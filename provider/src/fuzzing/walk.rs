//! Path walks, over a small tree with links of every kind, against a naive resolver.

use super::input::Input;
use crate::errno::Errno;
use crate::fs::{At, FileKind, LastLink};
use crate::testing::{Fixture, config, fixture_with};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;

/// What is in the tree; a link's target behind an arrow.
const TREE: [&str; 24] = [
    "a/",
    "a/b/",
    "a/b/c/",
    "d/",
    "f",
    "a/f",
    "a/b/c/f",
    "self>.",
    "l>a",
    "a/up>..",
    "abs>/a/b",
    "far>a/b/../b/./c/",
    "slash>f/",
    "gone>nowhere",
    "loop>loop",
    "one>other",
    "other>one/x",
    "a/b/climb>../../../../d",
    "a/b/chain>../../l/up/abs",
    "a/b/c/top>/",
    "d/file>../a/b/c/f",
    "d/long>../self/self/self/a/up/self/l",
    "many0>self/self/self/self/self/self/self/self",
    "many>many0/many0/many0/many0/many0",
];

/// Names that paths are made of, besides those of the tree.
const NAMES: [&str; 28] = [
    "a", "b", "c", "d", "f", "l", "self", "up", "abs", "far", "slash", "gone", "loop", "one", "other", "climb",
    "chain", "top", "file", "long", "many0", "many", ".", "..", "", "x", "ff", "...",
];

/// Symbolic links in one walk at the most (MAXSYMLINKS).
const LINKS: u32 = 40;

thread_local! {
    // At the end of the thread it is left as it is: what it would need to end is gone by then.
    static FIXTURE: RefCell<ManuallyDrop<Fixture>> = RefCell::new(ManuallyDrop::new(tree()));
}

/// Walks a path.
pub fn walk(data: &[u8]) {
    let mut input = Input::new(data);
    let last = if input.byte().is_multiple_of(2) { LastLink::Follow } else { LastLink::Keep };
    let path = path(&mut input);
    FIXTURE.with_borrow_mut(|fixture| {
        let task = fixture.current();
        let found = task.kernel().namespace().walk(&task, None, &path, last).map(|place| place.path());
        let expected = resolve(&path, last == LastLink::Follow);
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(&path));
    });
}

fn path(input: &mut Input<'_>) -> Vec<u8> {
    let mut path = Vec::new();
    while !input.is_empty() && path.len() < 2000 {
        match input.byte() {
            byte @ 0..224 => {
                path.extend_from_slice(NAMES[usize::from(byte) % NAMES.len()].as_bytes());
                path.push(b'/');
            }
            224..232 => path.extend_from_slice(&[b'n'; 256][..usize::from(input.byte()) + 1]),
            // Without the slash behind the last name, most of the time; bytes that no name here has.
            232..248 => _ = path.pop(),
            byte => path.push(byte),
        }
    }
    path
}

/// An empty folder of the host's with the tree over it, in memory.
fn tree() -> Fixture {
    let mut config = config();
    (config.user.uid, config.user.gid, config.user.groups) = (0, 0, vec![0]);
    config.view.root = Some(super::empty_folder());
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    for entry in TREE {
        let (path, kind, mode, target) = match (entry.split_once('>'), entry.strip_suffix('/')) {
            (Some((path, target)), _) => (path, FileKind::Symlink, 0o777, target),
            (None, Some(path)) => (path, FileKind::Directory, 0o755, ""),
            (None, None) => (entry, FileKind::Regular, 0o644, ""),
        };
        let at = At { base: None, path: path.as_bytes() };
        task.kernel().namespace().create(&task, at, kind, mode, target.as_bytes()).expect("a name that is free");
    }
    drop(task);
    fixture
}

/// What a path leads to, by the rules of path_resolution(7).
fn resolve(path: &[u8], follow: bool) -> Result<Vec<u8>, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut place: Vec<Vec<u8>> = Vec::new();
    let mut rest = names(path);
    // The name that comes last has to be a directory.
    let mut slash = path.ends_with(b"/");
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        match &name[..] {
            b"." => continue,
            b".." => {
                place.pop();
                continue;
            }
            _ if name.len() > 255 => return Err(Errno::ENAMETOOLONG),
            _ => {}
        }
        let is_last = rest.is_empty();
        place.push(name);
        match look_up(&place.join(&b'/')) {
            None => return Err(Errno::ENOENT),
            Some(Node::Directory) => {}
            Some(Node::File) if is_last && !slash => {}
            Some(Node::File) => return Err(Errno::ENOTDIR),
            Some(Node::Link(_)) if is_last && !slash && !follow => {}
            Some(Node::Link(target)) => {
                links += 1;
                if links > LINKS {
                    return Err(Errno::ELOOP);
                }
                place.pop();
                if target.starts_with('/') {
                    place.clear();
                }
                slash |= is_last && target.ends_with('/');
                for name in names(target.as_bytes()).into_iter().rev() {
                    rest.push_front(name);
                }
            }
        }
    }
    Ok([b"/", &place.join(&b'/')[..]].concat())
}

enum Node {
    Directory,
    File,
    Link(&'static str),
}

fn look_up(path: &[u8]) -> Option<Node> {
    TREE.iter().find_map(|entry| {
        let (name, node) = match (entry.split_once('>'), entry.strip_suffix('/')) {
            (Some((name, target)), _) => (name, Node::Link(target)),
            (None, Some(name)) => (name, Node::Directory),
            (None, None) => (*entry, Node::File),
        };
        (name.as_bytes() == path).then_some(node)
    })
}

fn names(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}
