use super::bpf::{Op, run};
use super::check::{Instruction, MAX_INSTRUCTIONS, check};
use super::*;
use crate::errno::Errno;
use proptest::prelude::*;

/// An instruction.
const fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, k }
}

const fn jump(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, k }
}

const ALLOW: u32 = 0x7fff_0000;
const RETURN: u16 = 0x06;
const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;

/// A filter that answers `answer` to calls with this number and allows the rest.
fn answers(number: u32, answer: u32) -> Vec<Instruction> {
    vec![op(LOAD, 0), jump(EQUAL, number, 0, 1), op(RETURN, answer), op(RETURN, ALLOW)]
}

fn stack(programs: &[Vec<Instruction>]) -> Arc<Filter> {
    let stacked = programs
        .iter()
        .fold(None, |below, program| Some(Filter::stack(check(program).unwrap(), false, below).unwrap()));
    stacked.unwrap()
}

fn call(number: i32) -> SeccompData {
    SeccompData { number, instruction_pointer: 0x1_0000_0002, args: [1 << 32 | 7, 0, 0, 0, 0, u64::MAX] }
}

#[test]
fn data_has_the_layout_of_the_interface() {
    let words = call(39).words();
    assert_eq!(words[..6], [39, AUDIT_ARCH, 2, 1, 7, 1]);
    assert_eq!(words[14..], [u32::MAX, u32::MAX]);
}

#[test]
fn the_strictest_answer_counts_and_of_equals_the_newest() {
    let filter = stack(&[answers(1, 0x0005_0001), answers(1, 0x0003_0002), answers(1, 0x0003_0003), answers(2, 0)]);
    let verdict = filter.judge(&call(1));
    assert_eq!((verdict.action, verdict.data), (Action::Trap, 3));
    assert_eq!(filter.judge(&call(2)).action, Action::KillThread);
    assert_eq!(filter.judge(&call(3)).action, Action::Allow);
    assert_eq!(filter.count(), 4);
    let lethal = stack(&[answers(1, 0), answers(1, 0x8000_0000)]);
    assert_eq!(lethal.judge(&call(1)).action, Action::KillProcess);
}

#[test]
fn unknown_actions_kill() {
    assert_eq!(stack(&[answers(1, 0x0001_0000)]).judge(&call(1)).action, Action::KillProcess);
}

#[test]
fn ancestors_are_known() {
    let base = stack(&[answers(1, 0)]);
    let top = Filter::stack(check(&answers(2, 0)).unwrap(), false, Some(base.clone())).unwrap();
    assert!(top.stands_on(&base) && top.stands_on(&top) && !base.stands_on(&top));
}

#[test]
fn the_way_through_all_filters_is_limited() {
    let long: Vec<Instruction> = vec![op(RETURN, ALLOW); MAX_INSTRUCTIONS];
    let mut filter = None;
    let mut count = 0;
    let error = loop {
        match Filter::stack(check(&long).unwrap(), false, filter.clone()) {
            Ok(next) => (filter, count) = (Some(next), count + 1),
            Err(error) => break error,
        }
    };
    // Eight of 4,096 instructions would fit, but for what each costs besides.
    assert_eq!((error, count), (Errno::ENOMEM, 7));
}

#[test]
fn thousands_of_filters_are_dropped_without_recursion() {
    let mut filter = None;
    while let Ok(next) = Filter::stack(check(&[op(RETURN, ALLOW)]).unwrap(), false, filter.clone()) {
        filter = Some(next);
    }
    assert_eq!(filter.as_ref().map(|filter| filter.count()), Some(6554));
    std::thread::Builder::new().stack_size(64 << 10).spawn(move || drop(filter)).unwrap().join().unwrap();
}

#[test]
fn what_linux_refuses_is_refused() {
    let refused: &[&[Instruction]] = &[
        &[],
        &[op(LOAD, 0)],
        &[op(LOAD, 64), op(RETURN, 0)],
        &[op(LOAD, 2), op(RETURN, 0)],
        &[op(0x28, 0), op(RETURN, 0)],
        &[op(0x30, 0), op(RETURN, 0)],
        &[op(0x40, 0), op(RETURN, 0)],
        &[op(0x34, 0), op(RETURN, 0)],
        &[op(0x94, 1), op(RETURN, 0)],
        &[op(0x64, 32), op(RETURN, 0)],
        &[op(0x74, 32), op(RETURN, 0)],
        &[op(0x02, 16), op(RETURN, 0)],
        &[op(0x60, 0), op(RETURN, 0)],
        &[op(0x05, 1), op(RETURN, 0)],
        &[op(0x05, u32::MAX), op(RETURN, 0)],
        &[jump(EQUAL, 0, 1, 0), op(RETURN, 0)],
        &[jump(EQUAL, 0, 0, 1), op(RETURN, 0)],
        &[op(0x55, 0), op(RETURN, 0)],
        &[op(0x0e, 0)],
        &[op(0xffff, 0), op(RETURN, 0)],
        // Only one of two paths writes what is read.
        &[jump(EQUAL, 0, 0, 1), op(0x02, 3), op(0x60, 3), op(RETURN, 0)],
    ];
    for program in refused {
        assert_eq!(check(program), Err(Errno::EINVAL), "{program:?}");
    }
    let long = vec![op(RETURN, 0); MAX_INSTRUCTIONS + 1];
    assert_eq!(check(&long), Err(Errno::EINVAL));
    assert!(check(&long[1..]).is_ok());
}

#[test]
fn what_both_paths_write_may_be_read() {
    let program = [jump(EQUAL, 0, 0, 2), op(0x02, 3), op(0x05, 1), op(0x02, 3), op(0x60, 3), op(0x16, 0)];
    assert_eq!(check(&program).unwrap().len(), 6);
}

#[test]
fn division_by_an_index_of_zero_ends_with_zero() {
    let program = check(&[op(0x00, 7), op(0x01, 0), op(0x3c, 0), op(RETURN, ALLOW)]).unwrap();
    assert_eq!(run(&program, &call(0)), 0);
}

/// The interface as the manual describes it, instruction by instruction over what was handed in.
fn model(program: &[Instruction], data: &SeccompData) -> u32 {
    let (mut a, mut x, mut mem) = (0_u32, 0_u32, [0_u32; 16]);
    let mut pc = 0_usize;
    let slot = |k: u32| usize::try_from(k).unwrap();
    loop {
        let Instruction { code, jump_true, jump_false, k } = program[pc];
        pc += 1;
        let source = if code & 0x08 != 0 { x } else { k };
        let go = |holds: bool| usize::from(if holds { jump_true } else { jump_false });
        match code {
            0x20 => a = data.words()[slot(k) / 4],
            0x80 => a = 64,
            0x81 => x = 64,
            0x00 => a = k,
            0x01 => x = k,
            0x60 => a = mem[slot(k)],
            0x61 => x = mem[slot(k)],
            0x02 => mem[slot(k)] = a,
            0x03 => mem[slot(k)] = x,
            0x04 | 0x0c => a = a.wrapping_add(source),
            0x14 | 0x1c => a = a.wrapping_sub(source),
            0x24 | 0x2c => a = a.wrapping_mul(source),
            0x34 | 0x3c if source == 0 => return 0,
            0x34 | 0x3c => a /= source,
            0x44 | 0x4c => a |= source,
            0x54 | 0x5c => a &= source,
            0xa4 | 0xac => a ^= source,
            0x64 | 0x6c => a <<= source & 31,
            0x74 | 0x7c => a >>= source & 31,
            0x84 => a = 0_u32.wrapping_sub(a),
            0x05 => pc += slot(k),
            0x15 | 0x1d => pc += go(a == source),
            0x25 | 0x2d => pc += go(a > source),
            0x35 | 0x3d => pc += go(a >= source),
            0x45 | 0x4d => pc += go(a & source != 0),
            0x06 => return k,
            0x16 => return a,
            0x07 => x = a,
            0x87 => a = x,
            other => panic!("the check let {other:#x} pass"),
        }
    }
}

fn instruction() -> impl Strategy<Value = Instruction> {
    let codes = vec![
        0x20_u16, 0x80, 0x81, 0x00, 0x01, 0x60, 0x61, 0x02, 0x03, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44,
        0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84, 0xa4, 0xac, 0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45,
        0x4d, 0x06, 0x16, 0x07, 0x87,
    ];
    let code = prop_oneof![20 => prop::sample::select(codes), 1 => any::<u16>()];
    let k = prop_oneof![4 => 0_u32..64, 2 => (0_u32..16).prop_map(|word| word * 4), 1 => any::<u32>()];
    (code, 0_u8..6, 0_u8..6, k).prop_map(|(code, jump_true, jump_false, k)| Instruction {
        code,
        jump_true,
        jump_false,
        k,
    })
}

/// Programs that start with writing all scratch memory and end with a return, so that many pass the check.
fn program() -> impl Strategy<Value = Vec<Instruction>> {
    prop::collection::vec(instruction(), 0..40).prop_map(|body| {
        let stores = (0..16).map(|slot| op(0x02, slot));
        stores.chain(body).chain((0..7).map(|_| op(0x16, 0))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_interpreter_agrees_with_the_model(body in program(), number: i32, ip: u64, args: [u64; 6]) {
        let data = SeccompData { number, instruction_pointer: ip, args };
        // Instructions that the check refuses go one by one, so that what is left usually passes.
        let passes = |instruction: &Instruction| {
            check(&[vec![op(0x02, instruction.k % 16), *instruction], vec![op(RETURN, 0); 600]].concat()).is_ok()
        };
        let kept: Vec<Instruction> = body.into_iter().filter(|instruction| {
            passes(instruction) && (instruction.code != 0x05 || instruction.k < 6)
        }).collect();
        let checked = check(&kept);
        prop_assume!(checked.is_ok());
        prop_assert_eq!(run(&checked.unwrap(), &data), model(&kept, &data));
    }

    #[test]
    fn no_program_breaks_the_check_or_runs_for_ever(raw in prop::collection::vec((any::<u16>(), any::<u8>(), any::<u8>(), any::<u32>()), 0..50)) {
        let raw: Vec<Instruction> = raw.into_iter()
            .map(|(code, jump_true, jump_false, k)| Instruction { code: code & 0xbf, jump_true, jump_false, k: k % 70 })
            .collect();
        if let Ok(checked) = check(&raw) {
            prop_assert!(matches!(checked.last(), Some(Op::Return(_) | Op::ReturnAccumulator)));
            run(&checked, &SeccompData::default());
        }
    }
}
