use super::*;
use crate::fs::{BufferSink, DirEntry, DirSink, Directory, FileSystem, Inode, Location, NewNode, OpenFile, OpenFlags};
use crate::task::CurrentTask;
use crate::testing::fixture;
use std::sync::atomic::AtomicU32;

fn home() -> Arc<Super> {
    Super::new(7, Timestamp { seconds: 5, nanoseconds: 0 }, Flavour::PROC)
}

fn look() -> Look {
    Look { seeks: Seeks::Sequence, directory_mode: 0o555 }
}

/// Opens an object that is in no tree.
fn open(task: &CurrentTask<'_>, inode: Arc<dyn Inode>) -> Arc<OpenFile> {
    let file = inode.clone().open(task, OpenFlags::empty()).unwrap();
    OpenFile::new(file, Location::anonymous(inode, b"test"), OpenFlags::empty())
}

fn read(task: &CurrentTask<'_>, file: &OpenFile, len: usize) -> String {
    let mut bytes = vec![0; len];
    let got = file.read(task, &mut BufferSink::new(&mut bytes)).unwrap();
    String::from_utf8(bytes[..got].to_vec()).unwrap()
}

#[derive(Debug, Default)]
struct Counter(AtomicU32);

impl Text for Counter {
    fn render(&self, _reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
        Ok(format!("look {}\n", self.0.fetch_add(1, Ordering::Relaxed)).into_bytes())
    }
}

#[test]
fn a_sequence_of_reads_sees_one_state_and_a_rewind_the_next() {
    let mut fixture = fixture();
    let task = fixture.current();
    let file = open(&task, TextInode::new(home().node(0o444), Seeks::Sequence, Counter::default()));
    assert_eq!(
        (read(&task, &file, 5), read(&task, &file, 99), read(&task, &file, 99)),
        ("look ".into(), "0\n".into(), "".into())
    );
    assert_eq!(file.seek(0, 0), Ok(0));
    assert_eq!(read(&task, &file, 99), "look 1\n");
    assert_eq!(file.seek(0, 2), Err(Errno::EINVAL));
}

#[test]
fn a_sized_file_has_an_end() {
    let mut fixture = fixture();
    let task = fixture.current();
    let file = open(&task, TextInode::new(home().node(0o444), Seeks::Sized(4096), Counter::default()));
    assert_eq!(file.seek(0, 2), Ok(4096));
    assert_eq!(file.location().inode().stat().unwrap().size, 4096);
}

struct Names(Vec<(String, u64)>, usize);

impl DirSink for Names {
    fn entry(&mut self, entry: &DirEntry<'_>) -> bool {
        if self.0.len() == self.1 {
            return false;
        }
        self.0.push((String::from_utf8(entry.name.to_vec()).unwrap(), entry.next));
        true
    }
}

#[test]
fn a_table_grows_into_a_tree_that_is_listed_in_pieces() {
    let mut fixture = fixture();
    let task = fixture.current();
    let leaves = [Leaf::fixed("a/b/c", "1\n"), Leaf::link("a/d", "b/c"), Leaf::fixed("e", "2\n"), Leaf::directory("f")];
    let home = home();
    let root = DirInode::new(home.node(0o555), grow(&home, look(), &leaves));
    assert_eq!(root.stat().unwrap().links, 4);
    let mut all = Names(Vec::new(), 2);
    root.list(&task, 0, &mut all).unwrap();
    let next = all.0.last().unwrap().1;
    let mut rest = Names(Vec::new(), 9);
    root.list(&task, next, &mut rest).unwrap();
    let names: Vec<String> = all.0.into_iter().chain(rest.0).map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "e", "f"]);
    let a = root.lookup(&task, b"a").unwrap();
    let d = a.as_dir().unwrap().lookup(&task, b"d").unwrap();
    assert_eq!(d.as_link().unwrap().text(&task), Ok(b"b/c".to_vec()));
    assert!(matches!(a.as_dir().unwrap().lookup(&task, b"c"), Err(Errno::ENOENT)));
}

#[test]
fn entries_can_be_neither_made_nor_removed() {
    let home = home();
    let root = DirInode::new(home.node(0o555), Tree::default());
    let node = |kind| NewNode { kind, mode: 0o644, uid: 0, gid: 0, rdev: 0, target: b"" };
    assert!(matches!(root.create(b"x", &node(FileKind::Regular)), Err(Errno::ENOENT)));
    assert_eq!(root.remove(b"x", false), Err(Errno::EPERM));
    let sys = Super::new(7, Timestamp::default(), Flavour::SYS);
    let root = DirInode::new(sys.node(0o755), Tree::default());
    assert!(matches!(root.create(b"x", &node(FileKind::Regular)), Err(Errno::EACCES)));
    assert!(matches!(root.create(b"x", &node(FileKind::Directory)), Err(Errno::EPERM)));
}

#[test]
fn settings_refuse_to_be_changed_and_say_so() {
    let mut fixture = fixture();
    let kernel = fixture.kernel.clone();
    let task = fixture.current();
    let home = home();
    let tree = grow(&home, look(), &[Leaf::fixed("x", "1\n").mode(0o644)]);
    let inode = tree.get(b"x").unwrap().clone();
    let file = inode.clone().open(&task, OpenFlags::WRONLY).unwrap();
    let file = OpenFile::new(file, Location::anonymous(inode, b"x"), OpenFlags::WRONLY);
    let written = file.write(&task, &mut crate::fs::BufferSource::new(b"2\n"));
    assert_eq!(written, Err(Errno::EPERM));
    assert_eq!(kernel.counters().list().len(), 1);
}

#[test]
fn attributes_change_and_the_figures_are_a_pseudo_file_systems() {
    let home = home();
    let inode = TextInode::new(home.node(0o444), Seeks::Sequence, Counter::default());
    inode.change(&AttributeChange { mode: Some(0o600), uid: Some(3), ..AttributeChange::default() }).unwrap();
    let stat = inode.stat().unwrap();
    assert_eq!((stat.mode, stat.uid, stat.gid, stat.device, stat.modified.seconds), (0o600, 3, 0, 7, 5));
    let figures = PseudoFs::new(inode, "proc", 0x9fa0).stat().unwrap();
    assert_eq!((figures.magic, figures.block_size, figures.blocks, figures.name_max), (0x9fa0, 4096, 0, 255));
}
