//! Transfers to and from user memory.

use super::*;
use crate::fs::{Sink, Source as _};
use crate::mm::{EAGER_LIMIT, IOV_MAX, UserBuffers};
use std::io::Seek;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

fn buffers<'a>(map: &'a MemoryMap, ranges: &[(u64, u64)]) -> UserBuffers<'a> {
    let range = |&(at, len): &(u64, u64)| UserRange::new(UserAddr(AT + at), len).unwrap();
    UserBuffers { map, ranges: ranges.iter().map(range).collect() }
}

#[test]
fn bytes_go_through_several_buffers() {
    let map = map();
    map.map(fixed(pages(0..2), RW)).unwrap();
    let mut sink = buffers(&map, &[(0, 3), (8, 0), (100, 4)]);
    assert_eq!(sink.put(b"abcde"), Ok(5));
    assert_eq!(Sink::remaining(&sink), 2);
    assert_eq!(sink.put(b"fghi"), Ok(2));
    let mut source = buffers(&map, &[(100, 4), (0, 3)]);
    let mut bytes = [0; 7];
    assert_eq!(source.peek(&mut bytes[..2]), Ok(2));
    assert_eq!(source.take(&mut bytes), Ok(7));
    assert_eq!(&bytes, b"defgabc");
    assert_eq!(source.take(&mut bytes), Ok(0));
}

#[test]
fn a_fault_ends_a_transfer_that_has_begun_and_fails_one_that_has_not() {
    let map = map();
    map.map(fixed(pages(0..1), RW)).unwrap();
    assert_eq!(buffers(&map, &[(4090, 100)]).put(&[1; 100]), Ok(6));
    assert_eq!(buffers(&map, &[(4096, 100)]).put(&[1; 100]), Err(Errno::EFAULT));
    assert_eq!(buffers(&map, &[(0, 10), (8192, 10)]).put(&[1; 20]), Ok(10));
    let mut bytes = [0; 100];
    assert_eq!(buffers(&map, &[(4090, 100)]).take(&mut bytes), Ok(6));
    assert_eq!(buffers(&map, &[(4096, 100)]).take(&mut bytes), Err(Errno::EFAULT));
}

#[test]
fn iovecs_are_judged_as_linux_does() {
    let map = map();
    map.map(fixed(pages(0..8), RW)).unwrap();
    let put = |at: u64, iovecs: &[(u64, u64)]| {
        let words = iovecs.iter().flat_map(|(base, len)| [*base, *len]);
        let bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        map.write(UserAddr(AT + at), &bytes).unwrap();
    };
    let import = |at: u64, count: u64| {
        let imported = UserBuffers::import(&map, UserAddr(AT + at), count);
        imported.map(|buffers| buffers.ranges.iter().map(|range| range.len()).collect::<Vec<_>>())
    };
    put(0, &[(AT, 10), (0, 0), (AT + 50, 20)]);
    assert_eq!(import(0, 3), Ok(vec![10, 0, 20]));
    assert_eq!(import(0, 0), Ok(vec![]));
    assert_eq!(import(0, IOV_MAX as u64 + 1), Err(Errno::EINVAL));
    assert_eq!(import(0, u64::MAX), Err(Errno::EINVAL));
    assert_eq!(import(8 * 4096, 1), Err(Errno::EFAULT));
    put(0, &[(u64::MAX - 100, 10), (AT, u64::MAX)]);
    assert_eq!(import(0, 2), Err(Errno::EINVAL));
    assert_eq!(import(0, 1), Err(Errno::EFAULT));
    // Together never more than a call moves.
    put(0, &[(AT, 0x7fff_0000), (AT, 0x7fff_0000), (AT, 5)]);
    assert_eq!(import(0, 3), Ok(vec![0x7fff_0000, 0xf000, 0]));
    let single = |len| UserBuffers::single(&map, page(0), len).map(|buffers| buffers.ranges[0].len());
    assert_eq!(single(1 << 40), Ok(0x7fff_f000));
    assert_eq!(single(1 << 47), Err(Errno::EFAULT));
    assert_eq!(single(u64::MAX), Err(Errno::EFAULT));
}

#[test]
fn host_files_are_read_straight_into_pages_that_have_no_frames_yet() {
    let map = map();
    let range = UserRange { start: page(0), end: UserAddr(AT + 2 * EAGER_LIMIT) };
    map.map(fixed(range, RW)).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    let len: usize = 5 << 20;
    let content: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
    file.write_all_at(&content, 0).unwrap();
    // The first page has a frame, the others have none: nothing is lost between them.
    map.write(page(0), &[1]).unwrap();
    let mut sink = buffers(&map, &[(0, (len as u64) * 2)]);
    assert_eq!(sink.fill_from_host(file.as_fd(), Some(0)), Ok(len));
    let mut read = vec![0; len];
    map.read(page(0), &mut read).unwrap();
    assert!(read == content);
    assert_eq!(buffers(&map, &[(100, 7)]).drain_to_host(file.as_fd(), Some(1000)), Ok(7));
    let mut seven = [0; 7];
    file.read_exact_at(&mut seven, 1000).unwrap();
    assert_eq!(&seven, &content[100..107]);
    file.rewind().unwrap();
    assert_eq!(buffers(&map, &[(0, 10)]).fill_from_host(file.as_fd(), None), Ok(10));
    assert_eq!(buffers(&map, &[(0, 10)]).fill_from_host(file.as_fd(), Some(1 << 30)), Ok(0));
    let outside = 4 * EAGER_LIMIT;
    assert_eq!(buffers(&map, &[(outside, 10)]).fill_from_host(file.as_fd(), Some(0)), Err(Errno::EFAULT));
    let near_end = 2 * EAGER_LIMIT - 5;
    assert_eq!(buffers(&map, &[(near_end, 10)]).fill_from_host(file.as_fd(), Some(0)), Ok(5));
}

#[test]
fn objects_are_read_and_written_with_short_ends() {
    let map = map();
    map.map(fixed(pages(0..1), RW)).unwrap();
    map.write(page(0), b"0123456789").unwrap();
    let object = map.memory().new_object();
    assert_eq!(buffers(&map, &[(0, 4), (6, 4)]).drain_to_object(&object, 10), Ok(8));
    assert_eq!(object.size(), 18);
    assert_eq!(buffers(&map, &[(100, 6), (200, 90)]).fill_from_object(&object, 8), Ok(10));
    let mut bytes = [0; 6];
    map.read(UserAddr(AT + 100), &mut bytes).unwrap();
    assert_eq!(&bytes, b"\0\x000123");
    map.read(UserAddr(AT + 200), &mut bytes[..4]).unwrap();
    assert_eq!(&bytes[..4], b"6789");
    assert_eq!(buffers(&map, &[(0, 4)]).fill_from_object(&object, 18), Ok(0));
    assert_eq!(buffers(&map, &[(4096, 4)]).fill_from_object(&object, 0), Err(Errno::EFAULT));
    assert_eq!(buffers(&map, &[(4090, 40)]).drain_to_object(&object, 0), Ok(6));
}
