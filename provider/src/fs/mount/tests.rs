//! Binds, moves, unmounting, propagation and namespaces, in a view of memory alone.

use super::{Depth, Layer, MountFlags, Propagation, UnmountFlags};
use crate::errno::Errno;
use crate::fs::{At, FileKind, LastLink, Location, MountRequest, OpenFile, OpenFlags};
use crate::task::CurrentTask;
use crate::testing::{Fixture, config, fixture_with};
use std::sync::Arc;
use tempfile::TempDir;

/// A task that may mount, in an empty root.
fn scene() -> (TempDir, Fixture) {
    let host = TempDir::new().unwrap();
    let mut config = config();
    (config.user.uid, config.user.gid, config.user.groups) = (0, 0, vec![0]);
    config.view.root = Some(host.path().to_path_buf());
    (host, fixture_with(config))
}

fn place(task: &CurrentTask<'_>, path: &str) -> Location {
    task.kernel().namespace().walk(task, None, path.as_bytes(), LastLink::Follow).unwrap()
}

fn exists(task: &CurrentTask<'_>, path: &str) -> bool {
    task.kernel().namespace().walk(task, None, path.as_bytes(), LastLink::Keep).is_ok()
}

fn make(task: &CurrentTask<'_>, paths: &[&str]) {
    for path in paths {
        let at = At { base: None, path: path.as_bytes() };
        task.kernel().namespace().create(task, at, FileKind::Directory, 0o755, b"").unwrap();
    }
}

fn open(task: &CurrentTask<'_>, path: &str, flags: OpenFlags) -> Result<Arc<OpenFile>, Errno> {
    task.kernel().namespace().open(task, None, path.as_bytes(), flags, 0o644)
}

fn tmpfs(task: &CurrentTask<'_>, path: &str) -> Result<(), Errno> {
    let request = MountRequest::new(b"tmpfs").unwrap();
    task.kernel().namespace().mount_file_system(task, &request, &place(task, path), MountFlags::RELATIME)
}

fn bind(task: &CurrentTask<'_>, from: &str, to: &str, depth: Depth) -> Result<(), Errno> {
    task.kernel().namespace().bind(task, &place(task, from), &place(task, to), depth)
}

fn unmount(task: &CurrentTask<'_>, path: &str, flags: UnmountFlags) -> Result<(), Errno> {
    task.kernel().namespace().unmount(task, place(task, path), flags)
}

fn share(task: &CurrentTask<'_>, path: &str, how: Propagation) -> Result<(), Errno> {
    task.kernel().namespace().change_propagation(task, &place(task, path), how, Depth::One)
}

fn mounts_below(task: &CurrentTask<'_>, path: &str) -> usize {
    let context = task.fs();
    let root = context.root();
    let all = context.mounts().list();
    all.iter().filter(|(mount, _)| mount.path_from(&root).is_some_and(|at| at.starts_with(path.as_bytes()))).count()
}

const NONE: UnmountFlags = UnmountFlags::empty();

#[test]
fn what_is_mounted_covers_and_comes_off() {
    let (_host, mut fixture) = scene();
    let task = fixture.current();
    make(&task, &["/a", "/a/below"]);
    assert_eq!(unmount(&task, "/a", NONE), Err(Errno::EINVAL));
    tmpfs(&task, "/a").unwrap();
    assert!(!exists(&task, "/a/below"));
    make(&task, &["/a/in"]);
    assert_eq!(place(&task, "/a/in").path(), b"/a/in");
    assert_eq!(place(&task, "/a/in/../..").path(), b"/");
    // A working directory, an open file and a mount below are uses.
    task.fs().change_cwd(place(&task, "/a"));
    assert_eq!(unmount(&task, "/a", NONE), Err(Errno::EBUSY));
    task.fs().change_cwd(place(&task, "/"));
    tmpfs(&task, "/a/in").unwrap();
    assert_eq!(unmount(&task, "/a", NONE), Err(Errno::EBUSY));
    unmount(&task, "/a/in", NONE).unwrap();
    let file = open(&task, "/a/in", OpenFlags::empty()).unwrap();
    assert_eq!(unmount(&task, "/a", NONE), Err(Errno::EBUSY));
    unmount(&task, "/a", UnmountFlags::DETACH).unwrap();
    assert!(exists(&task, "/a/below"));
    drop(file);
}

#[test]
fn binds_show_the_same_names() {
    let (_host, mut fixture) = scene();
    let task = fixture.current();
    make(&task, &["/a", "/b", "/a/x"]);
    bind(&task, "/a", "/b", Depth::One).unwrap();
    make(&task, &["/b/y"]);
    assert!(exists(&task, "/a/y") && exists(&task, "/b/x"));
    let at = |path: &'static str| At { base: None, path: path.as_bytes() };
    task.kernel().namespace().rename(&task, at("/a/x"), at("/a/z"), 0).unwrap();
    assert!(exists(&task, "/b/z") && !exists(&task, "/b/x"));
    assert_eq!(task.kernel().namespace().rename(&task, at("/a/z"), at("/b/q"), 0), Err(Errno::EXDEV));
    // A mount of one is not seen through the other, and a name that is covered elsewhere may go, with the mount.
    tmpfs(&task, "/b/z").unwrap();
    assert_eq!(task.kernel().namespace().rmdir(&task, at("/b/z")), Err(Errno::EBUSY));
    task.kernel().namespace().rmdir(&task, at("/a/z")).unwrap();
    assert!(!exists(&task, "/b/z"));
    assert_eq!(mounts_below(&task, "/b"), 1);
}

#[test]
fn a_mount_may_be_read_only_by_itself() {
    let (_host, mut fixture) = scene();
    let task = fixture.current();
    make(&task, &["/a", "/b"]);
    bind(&task, "/a", "/b", Depth::One).unwrap();
    let namespace = task.kernel().namespace();
    let create = OpenFlags::CREAT | OpenFlags::WRONLY;
    let writer = open(&task, "/b/file", create).unwrap();
    let read_only = |flags: MountFlags| flags | MountFlags::READ_ONLY;
    let change = || namespace.change_mount_flags(&task, &place(&task, "/b"), Depth::One, read_only);
    assert_eq!(change(), Err(Errno::EBUSY));
    drop(writer);
    change().unwrap();
    assert_eq!(open(&task, "/b/file", OpenFlags::WRONLY).err(), Some(Errno::EROFS));
    assert!(open(&task, "/a/file", OpenFlags::WRONLY).is_ok());
}

#[test]
fn peers_and_slaves_take_over_what_is_mounted() {
    let (_host, mut fixture) = scene();
    let task = fixture.current();
    make(&task, &["/a", "/peer", "/slave", "/private"]);
    tmpfs(&task, "/a").unwrap();
    make(&task, &["/a/x", "/a/y"]);
    share(&task, "/a", Propagation::Shared).unwrap();
    for to in ["/peer", "/slave", "/private"] {
        bind(&task, "/a", to, Depth::One).unwrap();
    }
    share(&task, "/slave", Propagation::Slave).unwrap();
    share(&task, "/private", Propagation::Private).unwrap();
    tmpfs(&task, "/peer/x").unwrap();
    make(&task, &["/peer/x/new"]);
    assert!(exists(&task, "/a/x/new") && exists(&task, "/slave/x/new") && !exists(&task, "/private/x/new"));
    // A slave gives nothing.
    tmpfs(&task, "/slave/y").unwrap();
    assert_eq!((mounts_below(&task, "/slave/y"), mounts_below(&task, "/a/y")), (1, 0));
    unmount(&task, "/a/x", NONE).unwrap();
    assert!(!exists(&task, "/peer/x/new") && !exists(&task, "/slave/x/new"));
}

#[test]
fn groups_have_the_lowest_free_numbers() {
    let (_host, mut fixture) = scene();
    let task = fixture.current();
    make(&task, &["/a", "/b"]);
    tmpfs(&task, "/a").unwrap();
    tmpfs(&task, "/b").unwrap();
    let group = |path: &str| {
        let id = place(&task, path).mount().unwrap().id;
        task.fs().mounts().sharing(id).unwrap().group
    };
    share(&task, "/a", Propagation::Shared).unwrap();
    share(&task, "/b", Propagation::Shared).unwrap();
    assert_eq!((group("/a"), group("/b")), (1, 2));
    share(&task, "/a", Propagation::Private).unwrap();
    share(&task, "/a", Propagation::Shared).unwrap();
    assert_eq!((group("/a"), group("/b")), (1, 2));
}

#[test]
fn moves_keep_trees_together() {
    let (_host, mut fixture) = scene();
    let task = fixture.current();
    make(&task, &["/a", "/b"]);
    tmpfs(&task, "/a").unwrap();
    make(&task, &["/a/in"]);
    tmpfs(&task, "/a/in").unwrap();
    make(&task, &["/a/in/deep"]);
    let namespace = task.kernel().namespace();
    let moved =
        |from: &str, to: &str| namespace.move_mount(&task, &place(&task, from), &place(&task, to), Layer::OnTop);
    assert_eq!(moved("/a", "/a/in"), Err(Errno::ELOOP));
    assert_eq!(moved("/b", "/a"), Err(Errno::EINVAL));
    moved("/a", "/b").unwrap();
    assert!(exists(&task, "/b/in/deep") && !exists(&task, "/a/in"));
}

#[test]
fn a_copied_namespace_is_apart() {
    let (_host, mut fixture) = scene();
    let task = fixture.current();
    make(&task, &["/a"]);
    let first = task.fs().mounts();
    let copy = first.copy(&task.fs()).unwrap();
    assert_ne!(first.id(), copy.id());
    tmpfs(&task, "/a").unwrap();
    make(&task, &["/a/new"]);
    first.enter(&task.fs());
    assert!(!exists(&task, "/a/new"));
    copy.enter(&task.fs());
    assert!(exists(&task, "/a/new"));
    first.enter(&task.fs());
    drop(copy);
    assert_eq!(mounts_below(&task, "/a"), 0);
}

#[test]
fn the_root_can_be_changed_for_another_mount() {
    let (_host, mut fixture) = scene();
    let task = fixture.current();
    make(&task, &["/new"]);
    tmpfs(&task, "/new").unwrap();
    make(&task, &["/new/old"]);
    let namespace = task.kernel().namespace();
    let (new, old) = (place(&task, "/new"), place(&task, "/new/old"));
    assert_eq!(namespace.pivot_root(&task, &place(&task, "/"), &place(&task, "/")), Err(Errno::EBUSY));
    namespace.pivot_root(&task, &new, &old).unwrap();
    assert!(exists(&task, "/old/new") && !exists(&task, "/new"));
    assert_eq!(place(&task, "/old/proc").path(), b"/old/proc");
}

#[test]
fn a_detached_copy_lives_as_long_as_its_descriptor() {
    let (_host, mut fixture) = scene();
    let task = fixture.current();
    make(&task, &["/a", "/a/x", "/b"]);
    let namespace = task.kernel().namespace();
    let before = place(&task, "/a");
    let copy = namespace.open_copy(&task, &before, Depth::Tree).unwrap();
    let inside = namespace.walk(&task, Some(copy.location()), b"x", LastLink::Follow).unwrap();
    assert_eq!(inside.kind(), FileKind::Directory);
    drop(inside);
    namespace.move_mount(&task, copy.location(), &place(&task, "/b"), Layer::OnTop).unwrap();
    drop(copy);
    assert!(exists(&task, "/b/x"));
    drop(namespace.open_copy(&task, &before, Depth::Tree).unwrap());
    assert_eq!(unmount(&task, "/b", NONE), Ok(()));
}
