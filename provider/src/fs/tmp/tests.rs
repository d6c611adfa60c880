//! In-memory directories and their budget.

use super::*;
use crate::fs::Directory;
use std::sync::Arc;

fn instance(budget: u64) -> (Arc<TmpFs>, Arc<Budget>) {
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let budget = Arc::new(Budget::new(budget));
    (TmpFs::new(&memory, &budget, 0o1777).unwrap(), budget)
}

fn node(kind: FileKind) -> NewNode<'static> {
    NewNode { kind, mode: 0o755, uid: 1, gid: 2, rdev: 0, target: b"target" }
}

#[test]
fn a_directory_counts_its_subdirectories_as_links() {
    let (fs, _) = instance(1 << 20);
    let root = fs.tmp_root();
    root.make(b"d", &node(FileKind::Directory)).unwrap();
    root.make(b"l", &node(FileKind::Symlink)).unwrap();
    let stat = root.stat().unwrap();
    assert_eq!((stat.links, stat.size, stat.mode), (3, 80, 0o1777));
    root.remove(b"d", true).unwrap();
    assert_eq!(root.stat().unwrap().links, 2);
}

#[test]
fn nothing_is_made_in_a_removed_directory() {
    let (fs, _) = instance(1 << 20);
    let directory = fs.tmp_root().make(b"d", &node(FileKind::Directory)).unwrap();
    fs.tmp_root().remove(b"d", true).unwrap();
    assert_eq!(directory.make(b"x", &node(FileKind::Fifo)).err(), Some(Errno::ENOENT));
    assert_eq!(directory.stat().unwrap().links, 0);
}

#[test]
fn a_rename_replaces_an_empty_directory_only() {
    let (fs, _) = instance(1 << 20);
    let root = fs.tmp_root();
    root.make(b"a", &node(FileKind::Directory)).unwrap();
    let full = root.make(b"b", &node(FileKind::Directory)).unwrap();
    full.make(b"x", &node(FileKind::Fifo)).unwrap();
    let to: &dyn Directory = root.as_ref();
    assert_eq!(root.rename(b"a", to, b"b", 0), Err(Errno::ENOTEMPTY));
    assert_eq!(root.rename(b"b", to, b"a", 0), Ok(()));
    assert!(Arc::ptr_eq(&root.child(b"a").unwrap(), &full));
    assert_eq!(root.stat().unwrap().links, 3);
}

#[test]
fn an_exchange_keeps_both_and_moves_link_counts() {
    let (fs, _) = instance(1 << 20);
    let root = fs.tmp_root();
    let sub = root.make(b"sub", &node(FileKind::Directory)).unwrap();
    sub.make(b"inner", &node(FileKind::Directory)).unwrap();
    root.make(b"fifo", &node(FileKind::Fifo)).unwrap();
    assert_eq!(root.rename(b"fifo", sub.as_ref(), b"inner", crate::fs::RENAME_EXCHANGE), Ok(()));
    assert_eq!(root.child(b"fifo").unwrap().kind(), FileKind::Directory);
    assert_eq!((root.stat().unwrap().links, sub.stat().unwrap().links), (4, 2));
}

#[test]
fn names_are_bounded_and_given_back() {
    let (fs, budget) = instance(100_000);
    let before = budget.used();
    let made = (0..).take_while(|at: &u32| fs.tmp_root().make(&at.to_ne_bytes(), &node(FileKind::Fifo)).is_ok());
    let made = made.count();
    assert!((100..200).contains(&made), "{made} inodes in 100 kB");
    for at in 0..u32::try_from(made).unwrap() {
        fs.tmp_root().remove(&at.to_ne_bytes(), false).unwrap();
    }
    assert_eq!(budget.used(), before);
}

#[test]
fn a_deep_tree_is_dropped_without_recursion() {
    let (fs, budget) = instance(1 << 30);
    let mut at = fs.tmp_root().clone();
    for _ in 0..200_000 {
        at = at.make(b"d", &node(FileKind::Directory)).unwrap();
    }
    drop(at);
    drop(fs);
    assert_eq!(budget.used(), 0);
}

#[test]
fn extended_attributes_are_created_or_replaced_as_asked() {
    let (fs, _) = instance(1 << 20);
    let root = fs.tmp_root();
    assert_eq!(root.set_xattr(b"user.a", b"1", 2), Err(Errno::ENODATA));
    assert_eq!(root.set_xattr(b"user.a", b"1", 1), Ok(()));
    assert_eq!(root.set_xattr(b"user.a", b"2", 1), Err(Errno::EEXIST));
    assert_eq!(root.get_xattr(b"user.a"), Ok(b"1".to_vec()));
    assert_eq!(root.list_xattr(), Ok(vec![b"user.a".to_vec()]));
    assert_eq!(root.remove_xattr(b"user.a"), Ok(()));
    assert_eq!(root.get_xattr(b"user.a"), Err(Errno::ENODATA));
}
