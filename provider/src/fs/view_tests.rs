//! Views over a temporary host tree: walks, binds, what is hidden, and what an upper directory keeps.

use super::*;
use crate::config::{Bind, Config};
use crate::errno::Errno;
use crate::fs::{At, BufferSink, BufferSource, FileKind, LastLink, Location, OpenFlags, RENAME_EXCHANGE, Resolve};
use crate::task::CurrentTask;
use crate::testing::{Fixture, config, fixture_with};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use tempfile::TempDir;

/// A root for the sandbox, and its configuration.
fn tree() -> (TempDir, Config) {
    let host = TempDir::new().unwrap();
    let root = host.path().join("root");
    fs::create_dir_all(root.join("dir/sub")).unwrap();
    fs::create_dir_all(root.join("mnt")).unwrap();
    fs::write(root.join("file"), b"host").unwrap();
    fs::write(root.join("dir/file"), b"in dir").unwrap();
    let mut config = config();
    (config.user.uid, config.user.gid, config.user.groups) = (0, 0, vec![0]);
    config.view.root = Some(root);
    (host, config)
}

fn root(config: &Config) -> PathBuf {
    config.view.root.clone().unwrap()
}

fn walk(task: &CurrentTask<'_>, path: &str) -> Result<Location, Errno> {
    task.kernel().namespace().walk(task, None, path.as_bytes(), LastLink::Follow)
}

fn open(task: &CurrentTask<'_>, path: &str, flags: OpenFlags) -> Result<Arc<crate::fs::OpenFile>, Errno> {
    task.kernel().namespace().open(task, None, path.as_bytes(), flags, 0o644)
}

fn read(task: &CurrentTask<'_>, path: &str) -> Result<Vec<u8>, Errno> {
    let file = open(task, path, OpenFlags::empty())?;
    let mut bytes = [0; 4096];
    let mut sink = BufferSink::new(&mut bytes);
    file.read(task, &mut sink)?;
    let filled = sink.filled();
    Ok(bytes[..filled].to_vec())
}

fn write(task: &CurrentTask<'_>, path: &str, bytes: &[u8]) -> Result<(), Errno> {
    let file = open(task, path, OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC)?;
    file.write(task, &mut BufferSource::new(bytes)).map(|_| ())
}

fn at(path: &str) -> At<'_> {
    At { base: None, path: path.as_bytes() }
}

fn resolve(task: &CurrentTask<'_>, base: &str, path: &str, how: Resolve) -> Result<Vec<u8>, Errno> {
    let base = walk(task, base)?;
    let namespace = task.kernel().namespace();
    let file = namespace.open_how(task, Some(&base), path.as_bytes(), OpenFlags::PATH, 0, how)?;
    Ok(file.location().path())
}

fn bind(source: PathBuf, target: &str, writable: bool) -> Bind {
    Bind { source, target: target.into(), writable }
}

#[test]
fn forty_links_are_followed_and_no_more() {
    let (_host, config) = tree();
    let root = root(&config);
    symlink("file", root.join("l1")).unwrap();
    for at in 2..=41 {
        symlink(format!("l{}", at - 1), root.join(format!("l{at}"))).unwrap();
    }
    symlink("loop", root.join("loop")).unwrap();
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    assert_eq!(walk(&task, "/l40").unwrap().path(), b"/file");
    assert_eq!(walk(&task, "/l41").err(), Some(Errno::ELOOP));
    assert_eq!(walk(&task, "/loop/x").err(), Some(Errno::ELOOP));
}

#[test]
fn a_changed_root_is_not_left() {
    let (_host, config) = tree();
    symlink("/file", root(&config).join("dir/absolute")).unwrap();
    symlink("../../file", root(&config).join("dir/climbing")).unwrap();
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    let inside = walk(&task, "/dir").unwrap();
    task.fs().change_root(inside.clone());
    task.fs().change_cwd(inside);
    for path in ["/../../file", "absolute", "climbing", "sub/../../file"] {
        assert_eq!(read(&task, path), Ok(b"in dir".to_vec()), "{path}");
    }
}

#[test]
fn confined_walks_stay_where_they_are() {
    let (host, mut config) = tree();
    fs::create_dir(host.path().join("bound")).unwrap();
    symlink("/file", root(&config).join("dir/absolute")).unwrap();
    symlink("../file", root(&config).join("dir/climbing")).unwrap();
    config.view.binds = vec![bind(host.path().join("bound"), "/mnt", true)];
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    let beneath = |path| resolve(&task, "/dir", path, Resolve::BENEATH);
    assert_eq!(beneath("sub/../file"), Ok(b"/dir/file".to_vec()));
    assert_eq!(beneath(".."), Err(Errno::EXDEV));
    assert_eq!(beneath("climbing"), Err(Errno::EXDEV));
    assert_eq!(beneath("/file"), Err(Errno::EXDEV));
    let in_root = |path| resolve(&task, "/dir", path, Resolve::IN_ROOT);
    assert_eq!(in_root("../../file"), Ok(b"/dir/file".to_vec()));
    assert_eq!(in_root("absolute"), Ok(b"/dir/file".to_vec()));
    assert_eq!(resolve(&task, "/", "mnt", Resolve::NO_XDEV), Err(Errno::EXDEV));
    assert_eq!(resolve(&task, "/mnt", "..", Resolve::NO_XDEV), Err(Errno::EXDEV));
    assert_eq!(resolve(&task, "/dir", "climbing", Resolve::NO_SYMLINKS), Err(Errno::ELOOP));
    assert_eq!(resolve(&task, "/proc/self", "root", Resolve::NO_MAGICLINKS), Err(Errno::ELOOP));
}

#[test]
fn names_are_bytes_and_have_limits() {
    let (_host, config) = tree();
    let odd = std::ffi::OsString::from_vec(b"\xff\xfe\n".to_vec());
    fs::write(root(&config).join(&odd), b"odd").unwrap();
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    let namespace = task.kernel().namespace();
    assert!(namespace.walk(&task, None, b"/\xff\xfe\n", LastLink::Follow).is_ok());
    assert_eq!(walk(&task, &format!("/{}", "n".repeat(255))).err(), Some(Errno::ENOENT));
    assert_eq!(walk(&task, &format!("/{}", "n".repeat(256))).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(walk(&task, "").err(), Some(Errno::ENOENT));
    assert_eq!(walk(&task, &"/.".repeat(2000)).unwrap().path(), b"/");
}

#[test]
fn a_moved_directory_takes_its_paths_along() {
    let (_host, config) = tree();
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    let sub = walk(&task, "/dir/sub").unwrap();
    let namespace = task.kernel().namespace();
    namespace.rename(&task, at("/dir"), at("/mnt/moved"), 0).unwrap();
    assert_eq!(sub.path(), b"/mnt/moved/sub");
    namespace.rename(&task, at("/mnt/moved"), at("/file"), RENAME_EXCHANGE).unwrap();
    assert_eq!(sub.path(), b"/file/sub");
    assert_eq!(read(&task, "/file/file"), Ok(b"in dir".to_vec()));
    namespace.rmdir(&task, at("/file/sub")).unwrap();
    assert_eq!(sub.path(), b"/file/sub (deleted)");
}

#[test]
fn mount_points_stay_where_they_are() {
    let (host, mut config) = tree();
    fs::create_dir(host.path().join("bound")).unwrap();
    config.view.binds = vec![bind(host.path().join("bound"), "/mnt", true)];
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    let namespace = task.kernel().namespace();
    assert_eq!(namespace.rmdir(&task, at("/mnt")), Err(Errno::EBUSY));
    assert_eq!(namespace.rename(&task, at("/mnt"), at("/other"), 0), Err(Errno::EBUSY));
    assert_eq!(namespace.rename(&task, at("/file"), at("/mnt/file"), 0), Err(Errno::EXDEV));
    assert_eq!(walk(&task, "/mnt/..").unwrap().path(), b"/");
}

#[test]
fn writes_reach_the_host_through_writable_binds_only() {
    let (host, mut config) = tree();
    for name in ["rw", "ro"] {
        fs::create_dir(host.path().join(name)).unwrap();
        fs::write(host.path().join(name).join("file"), b"before").unwrap();
    }
    let single = host.path().join("rw/file");
    config.view.binds = vec![
        bind(host.path().join("rw"), "/mnt", true),
        bind(host.path().join("ro"), "/new/point", false),
        bind(single.clone(), "/dir/single", true),
    ];
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    assert_eq!(write(&task, "/new/point/file", b"x"), Err(Errno::EROFS));
    assert_eq!(write(&task, "/dir/single", b"through"), Ok(()));
    assert_eq!(read(&task, "/mnt/file"), Ok(b"through".to_vec()));
    assert_eq!(fs::read(single).unwrap(), b"through");
    assert_eq!(write(&task, "/file", b"in memory"), Ok(()));
    assert_eq!(fs::read(host.path().join("root/file")).unwrap(), b"host");
    assert!(!host.path().join("root/new").exists());
}

#[test]
fn what_is_missing_is_named() {
    let (host, mut config) = tree();
    config.view.binds = vec![bind(host.path().join("absent"), "/mnt", true)];
    let kernel = crate::testing::bare_kernel(config);
    let error = kernel.mount().unwrap_err();
    assert_eq!(error.path, host.path().join("absent").display().to_string());
    assert_eq!(error.reason.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_hidden_path_is_not_there_by_any_name() {
    let (host, mut config) = tree();
    let root = root(&config);
    fs::create_dir(root.join("secret")).unwrap();
    fs::write(root.join("secret/key"), b"key").unwrap();
    fs::write(root.join("token"), b"token").unwrap();
    fs::hard_link(root.join("token"), root.join("dir/other-name")).unwrap();
    symlink("secret", root.join("way")).unwrap();
    config.view.hide = vec!["/secret".into(), "/token".into()];
    config.view.binds = vec![bind(root.clone(), "/mnt", true)];
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    for path in ["/secret", "/secret/key", "/way/key", "/token", "/dir/other-name"] {
        assert_eq!(walk(&task, path).err(), Some(Errno::ENOENT), "{path}");
    }
    // A file that replaces the secret under its name is one, too.
    fs::write(host.path().join("new"), b"new token").unwrap();
    fs::rename(host.path().join("new"), root.join("token")).unwrap();
    assert_eq!(walk(&task, "/token").err(), Some(Errno::ENOENT));
    // The program may make its own, which is not the host's.
    task.kernel().namespace().create(&task, at("/secret"), FileKind::Directory, 0o700, b"").unwrap();
    assert_eq!(walk(&task, "/secret/key").err(), Some(Errno::ENOENT));
    assert_eq!(write(&task, "/secret/key", b"mine"), Ok(()));
    assert_eq!(fs::read(root.join("secret/key")).unwrap(), b"key");
}

#[test]
fn nothing_but_files_and_directories_is_opened() {
    let (_host, config) = tree();
    let fifo = root(&config).join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o666), 0)
        .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root(&config).join("socket")).unwrap();
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    // A pipe of the sandbox's own has the host's name: nobody outside can be at the other end.
    let pipe = open(&task, "/fifo", OpenFlags::RDWR | OpenFlags::NONBLOCK).unwrap();
    assert!(pipe.file().host_fd().is_none());
    assert_eq!(open(&task, "/socket", OpenFlags::empty()).err(), Some(Errno::ENXIO));
    assert_eq!(walk(&task, "/fifo").unwrap().kind(), FileKind::Fifo);
}

#[test]
fn another_object_under_the_name_is_not_taken_for_the_first() {
    let (_host, config) = tree();
    let root = root(&config);
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    let place = walk(&task, "/file").unwrap();
    fs::write(root.join("other"), b"another").unwrap();
    fs::rename(root.join("other"), root.join("file")).unwrap();
    let namespace = task.kernel().namespace();
    assert_eq!(namespace.open_at(&task, place, OpenFlags::empty()).err(), Some(Errno::ENOENT));
    assert_eq!(read(&task, "/file"), Ok(b"another".to_vec()));
    // A directory that becomes a link leads where the sandbox's root has it, not the host's.
    assert_eq!(read(&task, "/dir/file"), Ok(b"in dir".to_vec()));
    fs::rename(root.join("dir"), root.join("old")).unwrap();
    symlink("/etc", root.join("dir")).unwrap();
    assert_eq!(read(&task, "/dir/passwd"), Err(Errno::ENOENT));
}

#[test]
fn set_id_bits_do_not_reach_the_host() {
    let (host, mut config) = tree();
    let shared = host.path().join("rw");
    fs::create_dir(&shared).unwrap();
    config.view.binds = vec![bind(shared.clone(), "/mnt", true)];
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    task.fs().change_umask(0);
    let namespace = task.kernel().namespace();
    namespace.open(&task, None, b"/mnt/tool", OpenFlags::CREAT | OpenFlags::RDWR, 0o6755).unwrap();
    assert_eq!(fs::metadata(shared.join("tool")).unwrap().permissions().mode() & 0o7777, 0o755);
    let change = crate::fs::AttributeChange { mode: Some(0o4711), ..Default::default() };
    walk(&task, "/mnt/tool").unwrap().inode().change(&change).unwrap();
    assert_eq!(fs::metadata(shared.join("tool")).unwrap().permissions().mode() & 0o7777, 0o711);
}

#[test]
fn numbers_stay_when_an_object_is_copied_up() {
    let (_host, config) = tree();
    let meta = fs::metadata(root(&config).join("dir/file")).unwrap();
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    let number = |path: &str| walk(&task, path).unwrap().inode().stat().map(|stat| (stat.device, stat.inode));
    assert_eq!(number("/dir/file"), Ok((meta.dev(), meta.ino())));
    write(&task, "/dir/file", b"changed").unwrap();
    assert_eq!(number("/dir/file"), Ok((meta.dev(), meta.ino())));
    task.kernel().namespace().rename(&task, at("/dir/file"), at("/moved"), 0).unwrap();
    assert_eq!(number("/moved"), Ok((meta.dev(), meta.ino())));
}

#[test]
fn an_open_file_sees_the_copy_that_a_writer_makes() {
    let (_host, config) = tree();
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    let reader = open(&task, "/file", OpenFlags::empty()).unwrap();
    let writer = open(&task, "/file", OpenFlags::RDWR).unwrap();
    writer.write_at(&task, 0, &mut BufferSource::new(b"HO")).unwrap();
    let mut bytes = [0; 4];
    reader.read(&task, &mut BufferSink::new(&mut bytes)).unwrap();
    assert_eq!(&bytes, b"HOst");
}

/// Runs `first` in a sandbox and `second` in the next one over the same upper directory.
fn twice(config: &Config, upper: &Path, first: impl FnOnce(&CurrentTask<'_>), second: impl FnOnce(&CurrentTask<'_>)) {
    let mut config = config.clone();
    config.view.upper = Some(upper.to_owned());
    let mut fixture: Fixture = fixture_with(config.clone());
    first(&fixture.current());
    drop(fixture);
    let mut fixture = fixture_with(config);
    second(&fixture.current());
}

#[test]
fn an_upper_directory_keeps_the_changes() {
    let (_host, config) = tree();
    let upper = TempDir::new().unwrap();
    twice(
        &config,
        upper.path(),
        |task| {
            let namespace = task.kernel().namespace();
            write(task, "/file", b"changed").unwrap();
            write(task, "/dir/new", b"new").unwrap();
            namespace.unlink(task, at("/dir/file")).unwrap();
            namespace.rename(task, at("/dir"), at("/renamed"), 0).unwrap();
            namespace.create(task, at("/dir"), FileKind::Directory, 0o755, b"").unwrap();
        },
        |task| {
            assert_eq!(read(task, "/file"), Ok(b"changed".to_vec()));
            assert_eq!(read(task, "/renamed/new"), Ok(b"new".to_vec()));
            assert_eq!(read(task, "/renamed/file"), Err(Errno::ENOENT));
            assert_eq!(walk(task, "/renamed/sub").unwrap().kind(), FileKind::Directory);
            assert_eq!(walk(task, "/dir/sub").err(), Some(Errno::ENOENT));
        },
    );
    assert_eq!(fs::read(root(&config).join("file")).unwrap(), b"host");
}

#[test]
fn what_leads_to_a_hidden_path_keeps_its_name() {
    let (host, mut config) = tree();
    let bound = host.path().join("bound");
    fs::create_dir_all(bound.join("homes/user/.secret")).unwrap();
    fs::create_dir(bound.join("free")).unwrap();
    symlink("homes", bound.join("people")).unwrap();
    let target = PathBuf::from("/data");
    config.view.binds = vec![Bind { source: bound.clone(), target, writable: true }];
    config.view.hide = vec!["/data/people/user/.secret".into()];
    let mut fixture = fixture_with(config);
    let task = fixture.current();
    let namespace = task.kernel().namespace();
    let rename = |from: &str, to: &str, flags| {
        namespace.rename(&task, at(&format!("/data/{from}")), at(&format!("/data/{to}")), flags)
    };
    for name in ["homes/user", "homes", "people"] {
        assert_eq!(rename(name, "moved", 0), Err(Errno::EBUSY), "{name}");
        assert_eq!(rename("free", name, RENAME_EXCHANGE), Err(Errno::EBUSY), "{name}");
    }
    assert_eq!(namespace.unlink(&task, at("/data/people")), Err(Errno::EBUSY));
    assert_eq!(rename("free", "moved", 0), Ok(()));
    assert!(bound.join("homes/user/.secret").is_dir());
}

/// A writable bind at /data, where the file `name` has these contents.
fn bound(name: &str, contents: &[u8]) -> (TempDir, Fixture, PathBuf) {
    let (host, mut config) = tree();
    let bound = host.path().join("bound");
    fs::create_dir(&bound).unwrap();
    fs::write(bound.join(name), contents).unwrap();
    config.view.binds = vec![Bind { source: bound.clone(), target: PathBuf::from("/data"), writable: true }];
    (host, fixture_with(config), bound)
}

#[test]
fn open_files_of_one_object_share_a_descriptor_until_their_flags_differ() {
    let (_host, mut fixture, bound) = bound("file", b"0123");
    let task = fixture.current();
    let [first, second] = [(); 2].map(|()| open(&task, "/data/file", OpenFlags::RDWR).unwrap());
    let fd = |file: &crate::fs::OpenFile| std::os::fd::AsRawFd::as_raw_fd(&file.file().host_fd().unwrap());
    assert_eq!(fd(&first), fd(&second));
    assert_ne!(fd(&first), fd(&open(&task, "/data/file", OpenFlags::empty()).unwrap()));
    first.set_flags(OpenFlags::APPEND).unwrap();
    assert_ne!(fd(&first), fd(&second));
    first.write(&task, &mut BufferSource::new(b"end")).unwrap();
    second.write(&task, &mut BufferSource::new(b"ab")).unwrap();
    assert_eq!(fs::read(bound.join("file")).unwrap(), b"ab23end");
    drop(first);
    second.set_flags(OpenFlags::APPEND).unwrap();
    let third = open(&task, "/data/file", OpenFlags::RDWR).unwrap();
    assert_ne!(fd(&third), fd(&second));
    third.write(&task, &mut BufferSource::new(b"AB")).unwrap();
    assert_eq!(fs::read(bound.join("file")).unwrap(), b"AB23end");
}

#[test]
fn set_id_bits_are_seen_inside_only() {
    let (_host, mut fixture, bound) = bound("file", b"");
    let task = fixture.current();
    let mode = |path: &str| walk(&task, path).unwrap().inode().stat().unwrap().mode;
    let change = |mode: u32| {
        let change = crate::fs::AttributeChange { mode: Some(mode), ..Default::default() };
        walk(&task, "/data/file").unwrap().inode().change(&change).unwrap();
    };
    change(0o6755);
    assert_eq!(mode("/data/file"), 0o6755);
    assert_eq!(fs::metadata(bound.join("file")).unwrap().permissions().mode() & 0o7777, 0o755);
    namespace_rename(&task, "/data/file", "/data/moved");
    assert_eq!(mode("/data/moved"), 0o6755);
    namespace_rename(&task, "/data/moved", "/data/file");
    change(0o700);
    assert_eq!(mode("/data/file"), 0o700);
}

fn namespace_rename(task: &CurrentTask<'_>, from: &str, to: &str) {
    task.kernel().namespace().rename(task, at(from), at(to), 0).unwrap();
}
