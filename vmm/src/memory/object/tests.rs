//! Random operations on an object, compared with a vector of bytes.

use super::*;
use proptest::prelude::*;
use std::io::Write;
use std::os::fd::AsFd;

/// Offsets reach past a block, so that single frames, an extent and the next one are used.
const MAX: u64 = (2 << 20) + 9 * PAGE_SIZE;

#[derive(Clone, Debug)]
enum Op {
    Write { offset: u64, bytes: u64, value: u8 },
    Resize { size: u64 },
    Punch { offset: u64, bytes: u64 },
    Read { offset: u64, bytes: u64 },
}

/// Offsets near the borders of pages, small files, extents and blocks, and anywhere.
fn offset() -> impl Strategy<Value = u64> {
    let borders = prop::sample::select(vec![0, PAGE_SIZE, SMALL_PAGES * PAGE_SIZE, 2 << 20]);
    prop_oneof![0..MAX, (borders, 0..3_u64).prop_map(|(border, past)| (border + past).saturating_sub(1))]
}

fn bytes() -> impl Strategy<Value = u64> {
    prop_oneof![0..10_u64, 0..3 * PAGE_SIZE, 0..MAX]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (offset(), bytes(), 1..=255_u8).prop_map(|(offset, bytes, value)| Op::Write { offset, bytes, value }),
        1 => offset().prop_map(|size| Op::Resize { size }),
        2 => (offset(), bytes()).prop_map(|(offset, bytes)| Op::Punch { offset, bytes }),
        2 => (offset(), bytes()).prop_map(|(offset, bytes)| Op::Read { offset, bytes }),
    ]
}

/// The bytes of `model` from `offset` on, at most `bytes`.
fn slice(model: &[u8], offset: u64, bytes: u64) -> &[u8] {
    let first = usize_of(offset).min(model.len());
    &model[first..(first + usize_of(bytes)).min(model.len())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn an_object_agrees_with_a_vector(ops in prop::collection::vec(op(), 1..30)) {
        let memory = GuestMemory::detached(32 << 20).unwrap();
        let object = memory.new_object();
        let mut model: Vec<u8> = Vec::new();
        for op in ops {
            match op {
                Op::Write { offset, bytes, value } => {
                    let data = vec![value; usize_of(bytes)];
                    prop_assert_eq!(object.write_at(offset, &data), Ok(data.len()));
                    let end = usize_of(offset) + data.len();
                    if !data.is_empty() {
                        model.resize(model.len().max(end), 0);
                        model[usize_of(offset)..end].copy_from_slice(&data);
                    }
                }
                Op::Resize { size } => {
                    object.set_size(size);
                    model.resize(usize_of(size), 0);
                }
                Op::Punch { offset, bytes } => {
                    object.punch_hole(offset, bytes);
                    let first = usize_of(offset).min(model.len());
                    let end = (first + usize_of(bytes)).min(model.len());
                    model[first..end].fill(0);
                }
                Op::Read { offset, bytes } => {
                    let mut data = vec![0xee; usize_of(bytes)];
                    let read = object.read_at(offset, &mut data).unwrap();
                    prop_assert_eq!(&data[..read], slice(&model, offset, bytes));
                }
            }
            prop_assert_eq!(object.size(), model.len() as u64);
            let mut all = vec![0xee; model.len() + 1];
            prop_assert_eq!(object.read_at(0, &mut all), Ok(model.len()));
            prop_assert_eq!(&all[..model.len()], &model[..]);
            check_holes(&object, &model)?;
        }
        drop(object);
        prop_assert_eq!(memory.held(), 0);
    }
}

/// Walks data and holes from the start: they alternate, cover the size, and holes read as zeros.
fn check_holes(object: &MemoryObject, model: &[u8]) -> Result<(), TestCaseError> {
    let size = model.len() as u64;
    let (mut at, mut held) = (0, 0);
    while at < size {
        let data = object.next_data(at).unwrap_or(size);
        prop_assert!(slice(model, at, data - at).iter().all(|&byte| byte == 0), "a hole that is not zero");
        let hole = object.next_hole(data);
        prop_assert!(hole > data || data == size, "no progress at {}", data);
        held += (hole - data).next_multiple_of(PAGE_SIZE);
        at = hole;
    }
    prop_assert_eq!(object.held(), held);
    Ok(())
}

#[test]
fn copy_up_takes_the_files_bytes_and_zeros_behind_them() {
    let memory = GuestMemory::detached(32 << 20).unwrap();
    let mut host = tempfile::tempfile().unwrap();
    let text: Vec<u8> = (0..3_000_001_u32).map(|number| u8::try_from(number % 253).unwrap()).collect();
    host.write_all(&text).unwrap();
    let object = memory.new_object();
    object.fill_from_host(host.as_fd(), 3_100_000).unwrap();
    let mut all = vec![1; 3_100_001];
    assert_eq!(object.read_at(0, &mut all), Ok(3_100_000));
    assert_eq!(&all[..text.len()], &text[..]);
    assert!(all[text.len()..3_100_000].iter().all(|&byte| byte == 0));
}

#[test]
fn a_full_memory_is_an_error_and_keeps_what_was_written() {
    let memory = GuestMemory::detached(1 << 20).unwrap();
    let object = memory.new_object();
    let written = object.write_at(0, &vec![9; 4 << 20]).unwrap();
    assert!(written > 900 << 10 && written <= 1 << 20, "{written}");
    assert_eq!(object.size(), written as u64);
    assert_eq!(object.write_at(object.size(), &[1]), Err(MemoryError::LimitReached));
    assert_eq!(object.write_at(u64::MAX - 1, &[1, 2, 3]), Err(MemoryError::Io(libc::EFBIG)));
    object.set_size(0);
    assert_eq!(object.write_at(0, &[1]), Ok(1));
}

#[test]
fn bytes_behind_the_end_never_come_into_the_file() {
    use crate::addr::{UserAddr, UserRange};
    use crate::memory::Access;
    let memory = GuestMemory::detached(4 << 20).unwrap();
    let (object, space) = (memory.new_object(), memory.new_space().unwrap());
    let page = UserRange::new(UserAddr(0x10_0000), PAGE_SIZE).unwrap();
    object.write_at(0, b"end").unwrap();
    space.map_object(page, &object, 0, Access::READ | Access::WRITE, false).unwrap();
    for grow in
        [|object: &MemoryObject| object.set_size(100), |object: &MemoryObject| _ = object.write_at(200, b"x").unwrap()]
    {
        let end = object.size();
        space.write(UserAddr(page.start.0 + end), b"stray").unwrap();
        grow(&object);
        let mut bytes = [1; 5];
        object.read_at(end, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 5]);
    }
}
