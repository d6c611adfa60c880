//! Descriptor numbers against a naive model.

use super::*;
use crate::fs::{AttributeChange, File, FileKind, Inode, Location, Sink, Source, Stat};
use crate::task::CurrentTask;
use proptest::prelude::*;
use std::any::Any;
use std::collections::BTreeMap;

#[derive(Debug)]
struct Nothing;

impl File for Nothing {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, _to: &mut dyn Sink) -> Result<usize, Errno> {
        Ok(0)
    }
    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Ok(0)
    }
}

impl Inode for Nothing {
    fn kind(&self) -> FileKind {
        FileKind::Fifo
    }
    fn stat(&self) -> Result<Stat, Errno> {
        Err(Errno::EIO)
    }
    fn change(&self, _change: &AttributeChange) -> Result<(), Errno> {
        Err(Errno::EIO)
    }
    fn open(self: Arc<Self>, _task: &CurrentTask<'_>, _flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        Ok(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn file() -> Arc<OpenFile> {
    OpenFile::new(Arc::new(Nothing), Location::anonymous(Arc::new(Nothing), b"nothing"), OpenFlags::RDWR)
}

#[derive(Clone, Debug)]
enum Action {
    Insert { from: i32, cloexec: bool },
    Replace { at: i32 },
    Close { at: i32 },
    Range { first: u32, last: u32, mark: bool },
    Exec,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (-1..70, any::<bool>()).prop_map(|(from, cloexec)| Action::Insert { from, cloexec }),
        2 => (-1..70).prop_map(|at| Action::Replace { at }),
        4 => (-1..70).prop_map(|at| Action::Close { at }),
        1 => (0..70u32, 0..70u32, any::<bool>()).prop_map(|(first, last, mark)| Action::Range { first, last, mark }),
        1 => Just(Action::Exec),
    ]
}

const LIMIT: u64 = 32;

proptest! {
    #[test]
    fn numbers_are_those_of_a_map(actions in proptest::collection::vec(action(), 1..80)) {
        let table = FdTable::default();
        let mut model: BTreeMap<i32, bool> = BTreeMap::new();
        for action in actions {
            match action {
                Action::Insert { from, cloexec } => {
                    let expected = if from < 0 {
                        Err(Errno::EINVAL)
                    } else {
                        (from..32).find(|fd| !model.contains_key(fd)).map(Fd).ok_or(Errno::EMFILE)
                    };
                    prop_assert_eq!(table.insert(file(), cloexec, from, LIMIT), expected);
                    if let Ok(fd) = expected {
                        model.insert(fd.0, cloexec);
                    }
                }
                Action::Replace { at } => {
                    let expected = if (0..32).contains(&at) { Ok(()) } else { Err(Errno::EBADF) };
                    prop_assert_eq!(table.replace(file(), false, Fd(at), LIMIT), expected);
                    if expected.is_ok() {
                        model.insert(at, false);
                    }
                }
                Action::Close { at } => {
                    let expected = model.remove(&at).map(|_| ()).ok_or(Errno::EBADF);
                    prop_assert_eq!(table.close(Fd(at)).map(|_| ()), expected);
                }
                Action::Range { first, last, mark } => {
                    let action = if mark { RangeAction::MarkCloseOnExec } else { RangeAction::Close };
                    table.close_range(first, last, action);
                    let within = |fd: &i32| (first..=last).contains(&fd.unsigned_abs());
                    if mark {
                        model.iter_mut().filter(|(fd, _)| within(fd)).for_each(|(_, cloexec)| *cloexec = true);
                    } else {
                        model.retain(|fd, _| !within(fd));
                    }
                }
                Action::Exec => {
                    table.close_on_exec();
                    model.retain(|_, cloexec| !*cloexec);
                }
            }
            let numbers: Vec<i32> = table.numbers().into_iter().map(|fd| fd.0).collect();
            prop_assert_eq!(numbers, model.keys().copied().collect::<Vec<_>>());
            for (fd, cloexec) in &model {
                prop_assert_eq!(table.closes_on_exec(Fd(*fd)), Ok(*cloexec));
            }
        }
    }
}

#[test]
fn a_copy_has_no_room_beyond_what_it_holds() {
    let table = FdTable::default();
    for at in [Fd(3), Fd(200)] {
        table.replace(file(), false, at, NR_OPEN).unwrap();
    }
    drop(table.close(Fd(200)).unwrap());
    assert_eq!((table.size(), table.copy().unwrap().size()), (201, 4));
    assert_eq!(table.copy().unwrap().insert(file(), false, 3, NR_OPEN), Ok(Fd(4)));
}
