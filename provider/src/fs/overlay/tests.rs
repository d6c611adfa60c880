//! The overlay against a real directory: the same operations on both, the same answers and the same tree.

use crate::errno::Errno;
use crate::fs::{
    At, AttributeChange, BufferSink, BufferSource, DirEntry, DirSink, FileKind, LastLink, OpenFile, OpenFlags,
    RENAME_EXCHANGE, RENAME_NOREPLACE,
};
use crate::task::CurrentTask;
use crate::testing::{Fixture, config, fixture_with};
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Where in the sandbox's root the compared tree lies: the root itself has /proc and /dev.
const TREE: &str = "w";

#[derive(Clone, Debug)]
enum Action {
    Write {
        path: String,
        offset: u64,
        data: Vec<u8>,
        flags: u32,
    },
    Truncate {
        path: String,
        size: u64,
    },
    Mkdir(String),
    Rmdir(String),
    Unlink(String),
    Rename {
        from: String,
        to: String,
        flags: u32,
    },
    Link {
        from: String,
        to: String,
    },
    Symlink {
        target: String,
        path: String,
    },
    Chmod {
        path: String,
        mode: u32,
    },
    /// Opens a file for reading and keeps it open to the end.
    Keep(String),
}

fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just("file"), Just("dir"), Just("link")];
    proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

fn action() -> impl Strategy<Value = Action> {
    let flags = prop_oneof![
        Just(OpenFlags::CREAT),
        Just(OpenFlags::CREAT | OpenFlags::EXCL),
        Just(OpenFlags::CREAT | OpenFlags::TRUNC),
        Just(OpenFlags::empty()),
        Just(OpenFlags::APPEND),
    ];
    let rename_flags = prop_oneof![3 => Just(0), 1 => Just(RENAME_EXCHANGE), 1 => Just(RENAME_NOREPLACE)];
    prop_oneof![
        4 => (path(), 0..9000u64, proptest::collection::vec(any::<u8>(), 1..9), flags)
            .prop_map(|(path, offset, data, flags)| Action::Write { path, offset, data, flags: flags.bits() }),
        1 => (path(), 0..9000u64).prop_map(|(path, size)| Action::Truncate { path, size }),
        3 => path().prop_map(Action::Mkdir),
        2 => path().prop_map(Action::Rmdir),
        3 => path().prop_map(Action::Unlink),
        5 => (path(), path(), rename_flags).prop_map(|(from, to, flags)| Action::Rename { from, to, flags }),
        2 => (path(), path()).prop_map(|(from, to)| Action::Link { from, to }),
        1 => (path(), path()).prop_map(|(target, path)| Action::Symlink { target, path }),
        1 => (path(), 0..0o1000u32).prop_map(|(path, mode)| Action::Chmod { path, mode }),
        1 => path().prop_map(Action::Keep),
    ]
}

/// Fills the lower layer, and the directory that is compared with, alike.
fn populate(root: &Path) {
    let at = |name: &str| root.join(TREE).join(name);
    fs::create_dir_all(at("dir/dir/a")).unwrap();
    fs::create_dir_all(at("dir/b")).unwrap();
    fs::create_dir_all(at("b")).unwrap();
    fs::write(at("file"), b"lower file").unwrap();
    fs::write(at("dir/file"), vec![7; 9000]).unwrap();
    fs::write(at("dir/dir/file"), b"deep").unwrap();
    fs::write(at("dir/dir/a/c"), b"deeper").unwrap();
    fs::hard_link(at("file"), at("dir/c")).unwrap();
    fs::hard_link(at("file"), at("b/a")).unwrap();
    std::os::unix::fs::symlink("dir", at("link")).unwrap();
    std::os::unix::fs::symlink("../file", at("dir/link")).unwrap();
}

/// One object of a tree: type and mode, links, and contents or target.
type Node = (u32, u64, Vec<u8>);

/// The native side.
struct Native {
    root: PathBuf,
    kept: Vec<fs::File>,
}

impl Native {
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(TREE).join(path)
    }

    fn apply(&mut self, action: &Action) -> Result<(), Errno> {
        match action {
            Action::Write { path, offset, data, flags } => {
                let flags = OFlags::from_bits_retain(*flags) | OFlags::RDWR;
                let file = rustix::fs::open(self.at(path), flags, Mode::from_raw_mode(0o644))?;
                rustix::io::pwrite(&file, data, *offset)?;
            }
            Action::Truncate { path, size } => {
                let file = rustix::fs::open(self.at(path), OFlags::WRONLY, Mode::empty())?;
                rustix::fs::ftruncate(&file, *size)?;
            }
            Action::Mkdir(path) => rustix::fs::mkdir(self.at(path), Mode::from_raw_mode(0o755))?,
            Action::Rmdir(path) => rustix::fs::rmdir(self.at(path))?,
            Action::Unlink(path) => rustix::fs::unlink(self.at(path))?,
            Action::Rename { from, to, flags } => {
                let flags = RenameFlags::from_bits_retain(*flags);
                rustix::fs::renameat_with(CWD, self.at(from), CWD, self.at(to), flags)?;
            }
            Action::Link { from, to } => {
                rustix::fs::linkat(CWD, self.at(from), CWD, self.at(to), AtFlags::empty())?;
            }
            Action::Symlink { target, path } => rustix::fs::symlink(target, self.at(path))?,
            Action::Chmod { path, mode } => rustix::fs::chmod(self.at(path), Mode::from_raw_mode(*mode))?,
            Action::Keep(path) => {
                let file = rustix::fs::open(self.at(path), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
                self.kept.push(file.into());
            }
        }
        Ok(())
    }

    fn tree(&self, path: &Path, into: &mut BTreeMap<String, Node>) {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(self.root.join(TREE)).unwrap().to_str().unwrap().to_owned();
            let contents = if meta.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if meta.is_file() {
                fs::read(&path).unwrap()
            } else {
                self.tree(&path, into);
                Vec::new()
            };
            into.insert(name, (meta.permissions().mode(), meta.nlink(), contents));
        }
    }
}

/// The overlay's side.
struct Sandbox<'a, 't> {
    task: &'a CurrentTask<'t>,
    kept: Vec<Arc<OpenFile>>,
}

/// Collects names.
struct Names(Vec<Vec<u8>>);

impl DirSink for Names {
    fn entry(&mut self, entry: &DirEntry<'_>) -> bool {
        self.0.push(entry.name.to_vec());
        true
    }
}

fn contents(task: &CurrentTask<'_>, file: &OpenFile) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; 1 << 16];
    let mut sink = BufferSink::new(&mut bytes);
    file.read_at(task, 0, &mut sink)?;
    let filled = sink.filled();
    bytes.truncate(filled);
    Ok(bytes)
}

impl Sandbox<'_, '_> {
    fn path(path: &str) -> Vec<u8> {
        format!("/{TREE}/{path}").into_bytes()
    }

    fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<OpenFile>, Errno> {
        self.task.kernel().namespace().open(self.task, None, &Self::path(path), flags, 0o644)
    }

    fn apply(&mut self, action: &Action) -> Result<(), Errno> {
        let (task, namespace) = (self.task, self.task.kernel().namespace());
        let walk = |path: &str, last| namespace.walk(task, None, &Self::path(path), last);
        match action {
            Action::Write { path, offset, data, flags } => {
                let file = self.open(path, OpenFlags::from_bits_retain(*flags) | OpenFlags::RDWR)?;
                file.write_at(task, *offset, &mut BufferSource::new(data)).map(|_| ())
            }
            Action::Truncate { path, size } => self.open(path, OpenFlags::WRONLY)?.file().set_size(*size),
            Action::Mkdir(path) => {
                let path = Self::path(path);
                namespace.create(task, At { base: None, path: &path }, FileKind::Directory, 0o755, b"")
            }
            Action::Rmdir(path) => namespace.rmdir(task, At { base: None, path: &Self::path(path) }),
            Action::Unlink(path) => namespace.unlink(task, At { base: None, path: &Self::path(path) }),
            Action::Rename { from, to, flags } => {
                let (from, to) = (Self::path(from), Self::path(to));
                let (from, to) = (At { base: None, path: &from }, At { base: None, path: &to });
                namespace.rename(task, from, to, *flags)
            }
            Action::Link { from, to } => {
                let object = walk(from, LastLink::Keep)?;
                namespace.link(task, &object, At { base: None, path: &Self::path(to) })
            }
            Action::Symlink { target, path } => {
                let path = Self::path(path);
                namespace.create(task, At { base: None, path: &path }, FileKind::Symlink, 0, target.as_bytes())
            }
            Action::Chmod { path, mode } => {
                let change = AttributeChange { mode: Some(*mode), ..AttributeChange::default() };
                walk(path, LastLink::Follow)?.inode().change(&change)
            }
            Action::Keep(path) => {
                self.kept.push(self.open(path, OpenFlags::empty())?);
                Ok(())
            }
        }
    }

    fn tree(&self, path: &str, into: &mut BTreeMap<String, Node>) {
        let directory = self.open(path, OpenFlags::DIRECTORY).unwrap();
        let mut names = Names(Vec::new());
        directory.read_dir(self.task, 0, &mut names).unwrap();
        for name in names.0.iter().filter(|name| !matches!(name.as_slice(), b"." | b"..")) {
            let name = std::str::from_utf8(name).unwrap();
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let namespace = self.task.kernel().namespace();
            let place = namespace.walk(self.task, None, &Self::path(&path), LastLink::Keep).unwrap();
            let stat = place.inode().stat().unwrap();
            let bytes = match stat.kind {
                FileKind::Symlink => place.inode().as_link().unwrap().text(self.task).unwrap(),
                FileKind::Regular => contents(self.task, &self.open(&path, OpenFlags::empty()).unwrap()).unwrap(),
                _ => {
                    self.tree(&path, into);
                    Vec::new()
                }
            };
            assert!(
                into.insert(path.clone(), (stat.kind.mode_bits() | stat.mode, stat.links, bytes)).is_none(),
                "{path} is listed twice"
            );
        }
    }
}

/// A sandbox over a fresh lower tree, and that tree.
fn sandbox(upper: Option<&Path>) -> (Fixture, TempDir) {
    let lower = TempDir::new().unwrap();
    populate(lower.path());
    let mut config = config();
    (config.user.uid, config.user.gid, config.user.groups) = (0, 0, vec![0]);
    config.view.root = Some(lower.path().to_owned());
    config.view.upper = upper.map(Path::to_owned);
    (fixture_with(config), lower)
}

/// Applies the same actions to both and compares each answer and the trees they leave.
fn compare(actions: &[Action], upper: Option<&Path>) {
    let model = TempDir::new().unwrap();
    populate(model.path());
    let mut native = Native { root: model.path().to_owned(), kept: Vec::new() };
    let (mut fixture, lower) = sandbox(upper);
    let task = fixture.current();
    let mut ours = Sandbox { task: &task, kept: Vec::new() };
    for (step, action) in actions.iter().enumerate() {
        assert_eq!(ours.apply(action), native.apply(action), "step {step}: {action:?}");
    }
    let (mut expected, mut found) = (BTreeMap::new(), BTreeMap::new());
    native.tree(&native.root.join(TREE), &mut expected);
    ours.tree("", &mut found);
    assert_eq!(found, expected);
    for (file, native) in ours.kept.iter().zip(&native.kept) {
        if native.metadata().unwrap().is_file() {
            let mut expected = vec![0; 1 << 16];
            let len = rustix::io::pread(native, &mut expected, 0).unwrap();
            assert_eq!(contents(&task, file).unwrap(), expected[..len]);
            assert_eq!(file.location().inode().stat().unwrap().links, native.metadata().unwrap().nlink());
        }
    }
    drop(ours);
    let untouched = TempDir::new().unwrap();
    populate(untouched.path());
    let lower = Native { root: lower.path().to_owned(), kept: Vec::new() };
    let untouched = Native { root: untouched.path().to_owned(), kept: Vec::new() };
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    untouched.tree(&untouched.root.join(TREE), &mut before);
    lower.tree(&lower.root.join(TREE), &mut after);
    assert_eq!(after, before, "the lower layer was written");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn an_overlay_behaves_as_a_directory(actions in proptest::collection::vec(action(), 1..40)) {
        rustix::process::umask(Mode::from_raw_mode(0o022));
        compare(&actions, None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn an_overlay_on_disk_behaves_as_a_directory(actions in proptest::collection::vec(action(), 1..40)) {
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let upper = TempDir::new().unwrap();
        compare(&actions, Some(upper.path()));
    }
}

/// Compares, over an upper layer in memory and one on disk, what earlier versions got wrong.
fn check(actions: &[Action]) {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    compare(actions, None);
    let upper = TempDir::new().unwrap();
    compare(actions, Some(upper.path()));
    assert!(!upper.path().join(super::PARKING).exists(), "what is private is removed in the end");
}

fn unlink(path: &str) -> Action {
    Action::Unlink(path.to_owned())
}

fn keep(path: &str) -> Action {
    Action::Keep(path.to_owned())
}

fn mkdir(path: &str) -> Action {
    Action::Mkdir(path.to_owned())
}

fn write(path: &str) -> Action {
    Action::Write { path: path.to_owned(), offset: 3, data: b"new".to_vec(), flags: 0 }
}

fn rename(from: &str, to: &str, flags: u32) -> Action {
    Action::Rename { from: from.to_owned(), to: to.to_owned(), flags }
}

fn link(from: &str, to: &str) -> Action {
    Action::Link { from: from.to_owned(), to: to.to_owned() }
}

#[test]
fn a_name_taken_from_a_hard_linked_file_is_not_counted_again() {
    check(&[unlink("file")]);
    check(&[unlink("dir/c"), rename("link/link", "b/link", 0), write("dir/dir/file")]);
    check(&[mkdir("link/b/dir"), unlink("file"), unlink("dir/c")]);
}

#[test]
fn a_copy_whose_only_copied_name_went_is_what_the_other_names_lead_to() {
    check(&[mkdir("a"), rename("dir/c", "a", RENAME_EXCHANGE), unlink("a"), rename("file", "a", 0)]);
    check(&[write("file"), unlink("file"), write("dir/c")]);
    check(&[write("file"), unlink("file"), link("b/a", "dir/a"), unlink("b/a"), unlink("dir/c"), write("dir/a")]);
    check(&[unlink("dir/c"), write("b/a"), rename("dir/file", "b/a", 0), link("file", "c")]);
}

#[test]
fn a_file_opened_before_it_was_copied_reads_the_copy_after_its_name_went() {
    check(&[keep("dir/file"), write("dir/file"), unlink("dir/file")]);
    check(&[keep("file"), write("dir/c"), unlink("dir/c"), unlink("b/a"), unlink("file")]);
    check(&[keep("file"), write("b/a"), rename("dir/file", "b/a", 0), rename("dir/dir/file", "file", 0)]);
}

#[test]
fn names_that_a_killed_run_left_are_removed() {
    let upper = TempDir::new().unwrap();
    fs::create_dir(upper.path().join(super::PARKING)).unwrap();
    fs::write(upper.path().join(super::PARKING).join("7"), b"old").unwrap();
    compare(&[write("file"), unlink("file"), write("b/a")], Some(upper.path()));
    assert!(!upper.path().join(super::PARKING).exists());
}
