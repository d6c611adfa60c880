//! The queue: what is merged, what overflows, how names are filled up.

use super::*;
use crate::errno::Errno;
use crate::fs::{At, BufferSink, Fd, OpenFlags};
use crate::task::CurrentTask;
use crate::testing::{config, fixture_with};

fn instance(all: &Arc<Watches>) -> Arc<crate::fs::OpenFile> {
    Instance::open(all, OpenFlags::NONBLOCK).unwrap()
}

fn queue(file: &crate::fs::OpenFile) -> &Instance {
    file.file().as_any().unwrap().downcast_ref().unwrap()
}

fn read(task: &CurrentTask<'_>, file: &crate::fs::OpenFile, room: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; room];
    let read = file.read(task, &mut BufferSink::new(&mut bytes))?;
    bytes.truncate(read);
    Ok(bytes)
}

#[test]
fn an_event_like_the_last_is_not_queued_again() {
    let mut fixture = fixture_with(config());
    let task = fixture.current();
    let file = instance(&Arc::default());
    for (mask, name) in [(Mask::OPEN, "a"), (Mask::OPEN, "a"), (Mask::OPEN, "b"), (Mask::OPEN, "a")] {
        queue(&file).queue(1, mask, 0, name.as_bytes());
    }
    assert_eq!(read(&task, &file, 4096).unwrap().len(), 3 * 32);
    assert_eq!(read(&task, &file, 4096), Err(Errno::EAGAIN));
}

#[test]
fn only_whole_events_are_read_and_names_end_in_zeros() {
    let mut fixture = fixture_with(config());
    let task = fixture.current();
    let file = instance(&Arc::default());
    queue(&file).queue(7, Mask::CREATE, 9, b"fifteen letters");
    queue(&file).queue(7, Mask::CREATE, 9, b"sixteen letters!");
    assert_eq!(read(&task, &file, 31), Err(Errno::EINVAL));
    let first = read(&task, &file, 79).unwrap();
    let word = |at: usize| u32::from_ne_bytes(first[at..at + 4].try_into().unwrap());
    assert_eq!([word(0), word(4), word(8), word(12)], [7, Mask::CREATE.bits(), 9, 16]);
    assert_eq!(&first[16..], b"fifteen letters\0");
    assert_eq!(read(&task, &file, 79).unwrap().len(), 48);
}

#[test]
fn lost_events_are_told_once() {
    let mut fixture = fixture_with(config());
    let task = fixture.current();
    let file = instance(&Arc::default());
    for wd in 0..i32::try_from(QUEUE_MAX).unwrap() + 5 {
        queue(&file).queue(wd, Mask::OPEN, 0, b"");
    }
    let all = read(&task, &file, QUEUE_MAX * 32).unwrap();
    assert_eq!(all.len(), (QUEUE_MAX + 1) * 16);
    assert_eq!(all[all.len() - 16..all.len() - 12], (-1_i32).to_ne_bytes());
    assert_eq!(all[all.len() - 12..all.len() - 8], Mask::Q_OVERFLOW.bits().to_ne_bytes());
}

#[test]
fn closing_the_instance_ends_its_watches() {
    let mut fixture = fixture_with(config());
    let task = fixture.current();
    let namespace = task.kernel().namespace();
    let file = instance(namespace.watches());
    let place = namespace.walk(&task, None, b"/tmp", crate::fs::LastLink::Follow).unwrap();
    assert_eq!(queue(&file).watch(place.inode(), Mask::EVENTS, Added::Replaces), Ok(1));
    assert_eq!(queue(&file).watch(place.inode(), Mask::OPEN, Added::MustBeNew), Err(Errno::EEXIST));
    assert!(namespace.watches().has(place.inode()));
    namespace.create(&task, At { base: None, path: b"/tmp/new" }, FileKind::Directory, 0o755, b"").unwrap();
    assert_eq!(read(&task, &file, 4096).unwrap().len(), 32);
    task.files().insert(file, false, 0, 10).unwrap();
    task.files().close(Fd(0)).unwrap();
    assert!(!namespace.watches().has(place.inode()));
}
