//! Tables and symbols that lie: whatever they say, a step and a look-up end, and read nothing else.

use super::symbols::Symbols;
use super::tables::Tables;
use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::fs;

/// Where the sections of the tests lie.
const INDEX: u64 = 0x10_0000;
const FRAMES: u64 = 0x20_0000;

/// An .eh_frame_hdr of the usual encodings, with `rest` behind its head.
fn index(frames: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, 0x1b, 0x03, 0x3b];
    let relative = u32::try_from(frames - INDEX - 4).unwrap();
    bytes.extend(relative.to_le_bytes());
    bytes.extend(u32::try_from(rest.len() / 8).unwrap().to_le_bytes());
    bytes.extend(rest);
    bytes
}

/// A CIE whose code keeps no frame pointer, and the entry of one function with these instructions.
fn frames(function: u64, instructions: &[u8]) -> Vec<u8> {
    // Length, CIE, version, "zR", factors 1 and -8, return column, one byte: PC-relative pointers of 4 bytes.
    // At the beginning the frame is at RSP + 8, and the return address below it.
    let mut bytes = vec![20, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1, 0, 0];
    let entry = bytes.len();
    let len = 4 + 4 + 4 + 1 + instructions.len();
    bytes.extend(u32::try_from(len).unwrap().to_le_bytes());
    bytes.extend(u32::try_from(entry + 4).unwrap().to_le_bytes());
    let relative = function.wrapping_sub(FRAMES + entry as u64 + 8);
    bytes.extend(&relative.to_le_bytes()[..4]);
    bytes.extend(0x100_u32.to_le_bytes());
    bytes.push(0);
    bytes.extend(instructions);
    bytes
}

/// A step with tables of one function at 0x30_0000, from a stack of words at 0x1000.
fn step(instructions: &[u8], words: &[u64]) -> Option<(u64, u64, bool)> {
    let function = 0x30_0000_u64;
    let frames = frames(function, instructions);
    let mut rest = Vec::new();
    rest.extend(u32::try_from(function - INDEX).unwrap().to_le_bytes());
    rest.extend(u32::try_from(FRAMES + 24 - INDEX).unwrap().to_le_bytes());
    let index = index(FRAMES, &rest);
    assert_eq!(Tables::place(&index, INDEX), Some(FRAMES));
    let tables = Tables::new(INDEX, index, FRAMES, frames);
    let read = |at: UserAddr, to: &mut [u8]| {
        let word = at.0.checked_sub(0x1000).and_then(|from| words.get(usize::try_from(from / 8).unwrap()));
        word.is_some_and(|word| {
            to.copy_from_slice(&word.to_le_bytes());
            true
        })
    };
    let registers = Registers { rip: function + 0x10, rsp: 0x1000, ..Registers::default() };
    let (caller, interrupted) = tables.step(&mut UnwindContext::new(), &registers, function + 0x10, &read)?;
    Some((caller.rip, caller.rsp, interrupted))
}

#[test]
fn a_step_finds_the_caller_above() {
    assert_eq!(step(&[], &[0x5000]), Some((0x5000, 0x1008, false)));
    // From the function's beginning on the frame is 16 bytes further up.
    assert_eq!(step(&[0x0e, 24], &[1, 2, 0x6000]), Some((0x6000, 0x1018, false)));
}

#[test]
fn a_table_that_leads_nowhere_ends_the_step() {
    // No return address, one that is no program's, a stack that cannot be read, a frame below the stack pointer, an
    // undefined return address, and no such instruction.
    assert_eq!(step(&[], &[0]), None);
    assert_eq!(step(&[], &[u64::MAX]), None);
    assert_eq!(step(&[], &[]), None);
    assert_eq!(step(&[0x0e, 0], &[0x5000]), None);
    assert_eq!(step(&[0x07, 16], &[0x5000]), None);
    assert_eq!(step(&[0x3f], &[0x5000]), None);
}

#[test]
fn an_endless_expression_is_given_up() {
    // The frame's address is computed by a jump to itself.
    assert_eq!(step(&[0x0f, 3, 0x2f, 0xfd, 0xff], &[0x5000]), None);
}

#[test]
fn this_test_program_has_symbols() {
    let bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
    let read = |offset: u64, to: &mut [u8]| {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = start.checked_add(to.len()).and_then(|end| bytes.get(start..end));
        part.is_some_and(|part| {
            to.copy_from_slice(part);
            true
        })
    };
    let mut budget = MOST_BYTES;
    let symbols = Symbols::load(&read, &mut budget).unwrap();
    assert!(budget < MOST_BYTES);
    let entry = u64::from_le_bytes(bytes[24..32].try_into().unwrap());
    assert_eq!(symbols.find(entry + 1, &read), Some((b"_start".to_vec(), entry)));
    assert_eq!(symbols.find(u64::MAX, &read), None);
    // A walk that has read its share gets no more.
    assert!(Symbols::load(&read, &mut 1000).is_none());
}

#[test]
fn an_entry_that_would_lie_before_its_section_is_none() {
    let mut rest = [0; 36];
    (rest[6], rest[7], rest[11], rest[19]) = (240, 255, 1, 1);
    let tables = Tables::new(INDEX, index(FRAMES, &rest), FRAMES, Vec::new());
    let registers = Registers { rip: 0x20_0000, rsp: 0x1000, ..Registers::default() };
    let step = tables.step(&mut UnwindContext::new(), &registers, registers.rip, &|_, _| true);
    assert!(step.is_none());
}

proptest! {
    #[test]
    fn tables_of_any_bytes_are_bounded(
        rest in prop::collection::vec(any::<u8>(), 0..256),
        frames in prop::collection::vec(any::<u8>(), 0..512),
        instructions in prop::collection::vec(any::<u8>(), 0..64),
        code in 0x20_0000_u64..0x40_0000,
    ) {
        let reads = Cell::new(0);
        let read = |at: UserAddr, to: &mut [u8]| {
            reads.set(reads.get() + 1);
            to.copy_from_slice(&at.0.to_le_bytes());
            true
        };
        let tables = Tables::new(INDEX, index(FRAMES, &rest), FRAMES, frames);
        let registers = Registers { rip: code, rsp: 0x1000, ..Registers::default() };
        if let Some((caller, _)) = tables.step(&mut UnwindContext::new(), &registers, code, &read) {
            prop_assert!(caller.rip != 0);
        }
        let _ = Tables::place(&rest, INDEX);
        let _ = step(&instructions, &[0x5000, 0x6000]);
        // One a register, and one an operation of its expression at the most.
        prop_assert!(reads.get() <= 17 * 1001);
    }

    #[test]
    fn symbols_of_any_bytes_are_bounded(mut bytes in prop::collection::vec(any::<u8>(), 64..2048), address: u64) {
        // A header that looks right, and tables that lie somewhere in the rest.
        bytes[..4].copy_from_slice(b"\x7fELF");
        bytes[40..48].copy_from_slice(&64_u64.to_le_bytes());
        bytes[58..62].copy_from_slice(&[64, 0, 8, 0]);
        let read = |offset: u64, to: &mut [u8]| {
            to.iter_mut().zip(offset..).for_each(|(to, at)| *to = bytes[usize::try_from(at % 64).unwrap()]);
            true
        };
        let mut budget = 1 << 20;
        if let Some(symbols) = Symbols::load(&read, &mut budget) {
            let _ = symbols.find(address, &read);
        }
        prop_assert!(budget <= 1 << 20);
    }
}
