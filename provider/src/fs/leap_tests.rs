//! Walks through directories that are known, while the host or the program changes them: over a host tree that is bound and over
//! the same tree under an overlay.

use super::*;
use crate::config::{Bind, Config};
use crate::fs::{At, OpenFlags};
use crate::testing::{config, fixture_with};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where the program sees the tree: through an overlay, and bound.
const VIEWS: [&str; 2] = ["", "/bound"];

/// A tree that is deep enough, and a configuration that shows it in both ways.
fn tree() -> (TempDir, PathBuf, Config) {
    let host = TempDir::new().unwrap();
    let root = host.path().join("root");
    fs::create_dir_all(root.join("a/b/c/d")).unwrap();
    fs::create_dir(root.join("bound")).unwrap();
    fs::write(root.join("a/b/c/d/file"), b"here").unwrap();
    fs::write(root.join("a/b/file"), b"above").unwrap();
    let mut config = config();
    (config.user.uid, config.user.gid, config.user.groups) = (0, 0, vec![0]);
    config.view.root = Some(root.clone());
    config.view.binds = vec![Bind { source: root.clone(), target: "/bound".into(), writable: true }];
    (host, root, config)
}

fn walk(task: &CurrentTask<'_>, path: &str) -> Result<Location, Errno> {
    task.kernel().namespace().walk(task, None, path.as_bytes(), LastLink::Follow)
}

/// The inode number of what is at a path, and the path as the walk has found it.
fn found(task: &CurrentTask<'_>, path: &str) -> Result<(u64, String), Errno> {
    let (place, stat) = task.kernel().namespace().walk_and_stat(task, None, path.as_bytes(), LastLink::Follow)?;
    Ok((stat.inode, String::from_utf8(place.path()).unwrap()))
}

fn number(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// Does something to the tree once every directory is known to the program, in each view, and calls `then`.
fn after(change: impl Fn(&Path), then: impl Fn(&CurrentTask<'_>, &Path, &str)) {
    for view in VIEWS {
        let (_host, root, config) = tree();
        let mut fixture = fixture_with(config);
        let task = fixture.current();
        for _ in 0..2 {
            let here = format!("{view}/a/b/c/d/file");
            assert_eq!(found(&task, &here), Ok((number(&root.join("a/b/c/d/file")), here)));
        }
        change(&root);
        then(&task, &root, view);
    }
}

#[test]
fn a_way_is_confirmed_as_one_while_it_leads_to_the_directory() {
    let (_host, root, config) = tree();
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    for view in VIEWS {
        let start = walk(&task, &format!("{view}/a")).unwrap();
        let end = walk(&task, &format!("{view}/a/b/c/d")).unwrap();
        let confirmed = |way: &str| start.inode().as_dir().unwrap().confirm_way(way.as_bytes(), end.inode());
        for way in ["b/c/d", "b/c/d/.", "b//c/./d", "b/c/../../b/c/d"] {
            assert!(confirmed(way), "{way}");
        }
        for way in ["b/c", "b/c/d/file", "b/x/d", "../a/b/c/d", "b/../../a/b/c/d", "/a/b/c/d"] {
            assert!(!confirmed(way), "{way}");
        }
        fs::rename(root.join("a/b"), root.join("a/moved")).unwrap();
        symlink("moved", root.join("a/b")).unwrap();
        assert!(!confirmed("b/c/d"));
        fs::remove_file(root.join("a/b")).unwrap();
        fs::rename(root.join("a/moved"), root.join("a/b")).unwrap();
        assert!(confirmed("b/c/d"));
    }
}

#[test]
fn what_lies_on_the_way_is_remembered_only_while_it_is_known() {
    let (_host, _root, config) = tree();
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    let who = task.credentials();
    let _end = walk(&task, "/bound/a/b/c/d").unwrap();
    let bound = walk(&task, "/bound").unwrap();
    let recalled = |name: &[u8]| task.kernel().namespace().recall(&who, &bound, name).map(|(_, recall)| recall);
    assert_eq!(recalled(b"a"), Some(Recall::Likely));
    assert_eq!(recalled(b"bound"), None);
    let stranger = Credentials::new(12345, 12345, vec![]);
    assert!(task.kernel().namespace().recall(&stranger, &bound, b"a").is_none());
}

#[test]
fn a_directory_that_became_a_link_is_followed() {
    after(
        |root| {
            fs::rename(root.join("a/b"), root.join("moved")).unwrap();
            symlink("../moved", root.join("a/b")).unwrap();
        },
        |task, root, view| {
            let there = (number(&root.join("moved/c/d/file")), format!("{view}/moved/c/d/file"));
            assert_eq!(found(task, &format!("{view}/a/b/c/d/file")), Ok(there));
            let open = |resolve| {
                let path = format!("{view}/a/b/c/d/file");
                task.kernel().namespace().open_how(task, None, path.as_bytes(), OpenFlags::empty(), 0, resolve)
            };
            assert_eq!(open(Resolve::NO_SYMLINKS).err(), Some(Errno::ELOOP));
            assert!(open(Resolve::empty()).is_ok());
        },
    );
}

#[test]
fn a_link_that_leads_outside_is_not_followed_out() {
    for view in VIEWS {
        let (host, root, config) = tree();
        let mut fixture = fixture_with(config);
        let task = fixture.current();
        let file = format!("{view}/a/b/c/d/file");
        walk(&task, &file).unwrap();
        fs::rename(root.join("a/b"), host.path().join("outside")).unwrap();
        symlink(host.path().join("outside"), root.join("a/b")).unwrap();
        assert_eq!(walk(&task, &file).err(), Some(Errno::ENOENT));
    }
}

#[test]
fn another_directory_in_the_place_of_a_known_one_is_seen() {
    after(
        |root| {
            fs::create_dir_all(root.join("new/c/d")).unwrap();
            fs::write(root.join("new/c/d/file"), b"new").unwrap();
            fs::rename(root.join("a/b"), root.join("old")).unwrap();
            fs::rename(root.join("new"), root.join("a/b")).unwrap();
        },
        |task, root, view| {
            let here = format!("{view}/a/b/c/d/file");
            assert_eq!(found(task, &here), Ok((number(&root.join("a/b/c/d/file")), here.clone())));
            let above = found(task, &format!("{view}/a/b/c/d/../../../b")).unwrap();
            assert_eq!(above, (number(&root.join("a/b")), format!("{view}/a/b")));
        },
    );
}

#[test]
fn what_was_removed_is_gone() {
    after(
        |root| fs::rename(root.join("a/b/c"), root.join("gone")).unwrap(),
        |task, _, view| {
            assert_eq!(found(task, &format!("{view}/a/b/c/d/file")), Err(Errno::ENOENT));
            assert_eq!(found(task, &format!("{view}/a/b/c/../file")), Err(Errno::ENOENT));
            assert_eq!(found(task, &format!("{view}/a/b/file")).map(|(_, path)| path), Ok(format!("{view}/a/b/file")));
        },
    );
    after(
        |root| {
            fs::remove_dir_all(root.join("a/b")).unwrap();
            fs::write(root.join("a/b"), b"").unwrap();
        },
        |task, _, view| assert_eq!(found(task, &format!("{view}/a/b/c/d/file")), Err(Errno::ENOTDIR)),
    );
}

#[test]
fn dots_go_through_what_exists_and_stop_at_a_changed_root() {
    let nothing = |_: &Path| {};
    after(nothing, |task, root, view| {
        let above = (number(&root.join("a/b/file")), format!("{view}/a/b/file"));
        assert_eq!(found(task, &format!("{view}/a/b/c/d/../../file")), Ok(above.clone()));
        assert_eq!(found(task, &format!("{view}/./a/b/../b/c/d/./../../file")), Ok(above));
        assert_eq!(found(task, &format!("{view}/a/b/c/nowhere/../d/file")), Err(Errno::ENOENT));
        // From above the root of the task, `..` leads over it, but not at it.
        let namespace = task.kernel().namespace();
        let (base, new_root) =
            (walk(task, &format!("{view}/a")).unwrap(), walk(task, &format!("{view}/a/b/c")).unwrap());
        let mut walker = Walker::new(namespace, Some(task), new_root.clone(), base, Resolve::empty());
        let end = walker.walk(b"b/c/d/../../d/../d/file", LastLink::Follow).unwrap();
        assert_eq!(end.path(), format!("{view}/a/b/c/d/file").into_bytes());
    });
}

#[test]
fn a_directory_that_may_not_be_searched_any_more_stops_a_walk() {
    let close = |root: &Path| fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o700)).unwrap();
    after(close, |task, root, view| {
        let owner = fs::metadata(root).unwrap();
        let file = format!("{view}/a/b/c/d/file");
        assert!(found(task, &file).is_ok());
        let before = task.credentials();
        task.set_credentials(Credentials::new(owner.uid() + 1, owner.gid() + 1, vec![]));
        assert_eq!(found(task, &file), Err(Errno::EACCES));
        task.set_credentials((*before).clone());
        assert!(found(task, &file).is_ok());
    });
}

#[test]
fn the_programs_own_changes_count_at_once() {
    let nothing = |_: &Path| {};
    after(nothing, |task, root, view| {
        let namespace = task.kernel().namespace();
        let at = |path: &str| -> Vec<u8> { format!("{view}{path}").into_bytes() };
        let (from, to) = (at("/a/b/c"), at("/a/b/moved"));
        namespace.rename(task, At { base: None, path: &from }, At { base: None, path: &to }, 0).unwrap();
        assert_eq!(found(task, &format!("{view}/a/b/c/d/file")), Err(Errno::ENOENT));
        let moved = format!("{view}/a/b/moved/d/file");
        for _ in 0..2 {
            assert_eq!(found(task, &moved).map(|(_, path)| path), Ok(moved.clone()));
        }
        // Below a directory that only the sandbox has, and below one that lies where another one was.
        for made in ["/a/b/c", "/a/b/c/d", "/a/b/c/d/e", "/a/b/c/d/e/f"] {
            namespace.create(task, At { base: None, path: &at(made) }, FileKind::Directory, 0o755, b"").unwrap();
        }
        for _ in 0..2 {
            assert_eq!(found(task, &format!("{view}/a/b/c/d/file")), Err(Errno::ENOENT));
            let deep = format!("{view}/a/b/c/d/e/f/.");
            assert_eq!(found(task, &deep).map(|(_, path)| path), Ok(format!("{view}/a/b/c/d/e/f")));
        }
        namespace.rmdir(task, At { base: None, path: &at("/a/b/c/d/e/f") }).unwrap();
        assert_eq!(found(task, &format!("{view}/a/b/c/d/e/f/x")), Err(Errno::ENOENT));
        assert!(!view.is_empty() || root.join("a/b/c/d/file").exists(), "an overlay changes nothing below");
    });
}

#[test]
fn a_mount_in_the_middle_covers_what_was_known() {
    let (host, root, mut config) = tree();
    fs::create_dir_all(host.path().join("other/d/e/f/g")).unwrap();
    fs::write(host.path().join("other/d/e/f/g/file"), b"other").unwrap();
    config.view.binds.push(Bind { source: host.path().join("other"), target: "/a/b/c".into(), writable: false });
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    for _ in 0..2 {
        let file = "/a/b/c/d/e/f/g/file".to_string();
        assert_eq!(found(&task, &file), Ok((number(&host.path().join("other/d/e/f/g/file")), file)));
        let over = "/a/b/c/d/e/f/../../../../file";
        assert_eq!(found(&task, over), Ok((number(&root.join("a/b/file")), "/a/b/file".into())));
        assert_eq!(found(&task, "/a/b/c/d/file"), Err(Errno::ENOENT));
    }
}

#[test]
fn a_name_that_is_hidden_somewhere_is_no_part_of_a_way() {
    let (_host, root, mut config) = tree();
    fs::create_dir_all(root.join("secret/c/d")).unwrap();
    fs::create_dir_all(root.join("a/secret/c/d")).unwrap();
    config.view.hide = vec!["/secret".into()];
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    let place = walk(&task, "/a").unwrap();
    for _ in 0..2 {
        assert_eq!(walk(&task, "/secret/c/d").err(), Some(Errno::ENOENT));
        assert!(walk(&task, "/a/secret/c/d").is_ok());
    }
    assert!(task.kernel().namespace().recall(&task.credentials(), &place, b"secret").is_none());
    // The host puts what is hidden where something known was.
    assert!(walk(&task, "/a/b/c/d").is_ok());
    fs::rename(root.join("a/b"), root.join("a/old")).unwrap();
    fs::rename(root.join("secret"), root.join("a/b")).unwrap();
    assert_eq!(walk(&task, "/a/b/c/d").err(), Some(Errno::ENOENT));
}

#[test]
fn a_known_place_is_kept_by_who_uses_it() {
    after(
        |root| fs::rename(root.join("a/b/c/d"), root.join("a/d")).unwrap(),
        |task, root, view| {
            let moved = found(task, &format!("{view}/a/d/file")).unwrap();
            assert_eq!(moved, (number(&root.join("a/d/file")), format!("{view}/a/d/file")));
            assert_eq!(found(task, &format!("{view}/a/b/c/d/file")), Err(Errno::ENOENT));
            assert_eq!(walk(task, &format!("{view}/a/d")).unwrap().kind(), FileKind::Directory);
        },
    );
}
