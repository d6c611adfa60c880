use super::*;
use crate::fs::{BufferSink, BufferSource, Mapping, OffsetKeeper, OpenFile};
use crate::testing::{config, fixture_with};

fn open_at(task: &CurrentTask<'_>, path: &str) -> Result<Arc<OpenFile>, Errno> {
    task.kernel().namespace().open(task, None, path.as_bytes(), OpenFlags::RDWR, 0)
}

fn read(task: &CurrentTask<'_>, file: &OpenFile, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0xee; len];
    let got = file.read(task, &mut BufferSink::new(&mut bytes))?;
    bytes.truncate(got);
    Ok(bytes)
}

/// (name, what a read of five bytes gives, what a write of three gives)
type Row = (&'static str, Result<usize, Errno>, Result<usize, Errno>);

#[test]
fn devices_read_write_and_seek_as_on_linux() {
    let mut fixture = fixture_with(config());
    let task = fixture.current();
    let rows: [Row; 5] = [
        ("null", Ok(0), Ok(3)),
        ("zero", Ok(5), Ok(3)),
        ("full", Ok(5), Err(Errno::ENOSPC)),
        ("random", Ok(5), Ok(3)),
        ("urandom", Ok(5), Ok(3)),
    ];
    for (name, reads, writes) in rows {
        let file = open_at(&task, &format!("/dev/{name}")).unwrap();
        assert_eq!(read(&task, &file, 5).map(|bytes| bytes.len()), reads, "{name}");
        assert_eq!(file.write(&task, &mut BufferSource::new(b"abc")), writes, "{name}");
        for whence in 0..5 {
            assert_eq!(file.seek(7, whence), Ok(0), "{name}");
        }
        assert_eq!(file.seek(0, 5), Err(Errno::EINVAL));
        assert!(matches!(file.file().offset_keeper(), OffsetKeeper::Zero));
        let maps_zeros = matches!(file.file().mapping(), Ok(Mapping::Zero));
        assert_eq!(maps_zeros, name == "zero", "{name}");
    }
}

#[test]
fn zeros_are_zeros_over_several_pieces() {
    let mut fixture = fixture_with(config());
    let task = fixture.current();
    let file = open_at(&task, "/dev/zero").unwrap();
    let bytes = read(&task, &file, 200_001).unwrap();
    assert_eq!(bytes.len(), 200_001);
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn random_bytes_differ() {
    let mut fixture = fixture_with(config());
    let task = fixture.current();
    let file = open_at(&task, "/dev/urandom").unwrap();
    let (first, second) = (read(&task, &file, 10_000).unwrap(), read(&task, &file, 10_000).unwrap());
    assert_eq!(first.len(), 10_000);
    assert_ne!(first, second);
    assert_ne!(first[..32], first[4096..4128]);
}

#[test]
fn nodes_have_linuxs_numbers() {
    let mut fixture = fixture_with(config());
    let task = fixture.current();
    for (name, numbers) in [("null", (1, 3)), ("zero", (1, 5)), ("full", (1, 7)), ("urandom", (1, 9)), ("tty", (5, 0))]
    {
        let host = rustix::fs::stat(format!("/dev/{name}")).unwrap();
        assert_eq!((major(host.st_rdev), minor(host.st_rdev)), numbers);
        let path = format!("/dev/{name}");
        let place = task.kernel().namespace().walk(&task, None, path.as_bytes(), crate::fs::LastLink::Follow).unwrap();
        let stat = place.inode().stat().unwrap();
        assert_eq!((stat.rdev, stat.kind, stat.mode), (host.st_rdev, FileKind::CharDevice, host.st_mode & 0o7777));
        assert_eq!(path_of_memory_device(stat.rdev), (name != "tty").then_some(path));
    }
}

fn path_of_memory_device(rdev: u64) -> Option<String> {
    path(rdev).filter(|path| path != b"/dev/tty").map(|path| String::from_utf8(path).unwrap())
}

#[test]
fn a_number_without_a_driver_is_no_device() {
    let mut fixture = fixture_with(config());
    let task = fixture.current();
    for rdev in [makedev(1, 1), makedev(1, 2), makedev(10, 232), makedev(136, 0), makedev(4, 64)] {
        assert!(matches!(open(&task, FileKind::CharDevice, rdev, OpenFlags::RDWR), Err(Errno::ENXIO)));
    }
    assert!(matches!(open(&task, FileKind::BlockDevice, makedev(1, 3), OpenFlags::RDWR), Err(Errno::ENXIO)));
    assert!(matches!(open_at(&task, "/dev/tty"), Err(Errno::ENXIO)));
}

#[test]
fn standard_descriptors_have_names() {
    let mut fixture = fixture_with(config());
    let task = fixture.current();
    for (name, target) in LINKS {
        let path = format!("/dev/{name}");
        let place = task.kernel().namespace().walk(&task, None, path.as_bytes(), crate::fs::LastLink::Keep).unwrap();
        assert_eq!(place.inode().as_link().unwrap().text(&task), Ok(target.as_bytes().to_vec()));
    }
}
