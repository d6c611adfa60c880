//! Classic BPF as seccomp has it: checked programs ([`Op`]) and their interpreter.
//!
//! A program that [`check`](super::check::check) has passed ends: all jumps go forward and the last instruction returns. So
//! [`run`] needs no bound, and cannot fail.

use super::SeccompData;

/// The second operand of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A constant.
    Constant(u32),
    /// The index register.
    Index,
}

/// What an operation does to the accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Alu {
    Add,
    Sub,
    Mul,
    /// Division by zero ends the program with 0.
    Div,
    And,
    Or,
    Xor,
    /// By the operand's low five bits.
    ShiftLeft,
    /// By the operand's low five bits.
    ShiftRight,
}

/// What a conditional jump asks of the accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Condition {
    Equal,
    Greater,
    GreaterOrEqual,
    /// They have a bit in common.
    AnyBit,
}

/// A checked instruction. Jumps count from the next instruction on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A word of [`SeccompData`] to the accumulator, by its index.
    LoadData(u8),
    /// A constant to the accumulator.
    Load(u32),
    /// A constant to the index register.
    LoadIndex(u32),
    /// A word of scratch memory to the accumulator.
    Recall(u8),
    /// A word of scratch memory to the index register.
    RecallIndex(u8),
    /// The accumulator to scratch memory.
    Store(u8),
    /// The index register to scratch memory.
    StoreIndex(u8),
    /// Arithmetic on the accumulator.
    Alu(Alu, Operand),
    /// The accumulator negated.
    Negate,
    /// Goes on elsewhere.
    Jump(u16),
    /// Goes on at one of two places.
    JumpIf(Condition, Operand, u8, u8),
    /// Ends with a constant.
    Return(u32),
    /// Ends with the accumulator.
    ReturnAccumulator,
    /// The accumulator to the index register.
    ToIndex,
    /// The index register to the accumulator.
    FromIndex,
}

/// Words of scratch memory (BPF_MEMWORDS).
pub const SCRATCH_WORDS: usize = 16;

/// Runs a checked program.
pub fn run(program: &[Op], data: &SeccompData) -> u32 {
    let words = data.words();
    let (mut accumulator, mut index) = (0_u32, 0_u32);
    let mut scratch = [0_u32; SCRATCH_WORDS];
    let mut at = 0;
    // A program that ends without a return cannot have passed the check; it would be the strictest answer.
    while let Some(op) = program.get(at) {
        at += 1;
        let value = |operand: Operand| match operand {
            Operand::Constant(constant) => constant,
            Operand::Index => index,
        };
        match *op {
            Op::LoadData(word) => accumulator = words.get(usize::from(word)).copied().unwrap_or_default(),
            Op::Load(constant) => accumulator = constant,
            Op::LoadIndex(constant) => index = constant,
            Op::Recall(slot) => accumulator = scratch[usize::from(slot) % SCRATCH_WORDS],
            Op::RecallIndex(slot) => index = scratch[usize::from(slot) % SCRATCH_WORDS],
            Op::Store(slot) => scratch[usize::from(slot) % SCRATCH_WORDS] = accumulator,
            Op::StoreIndex(slot) => scratch[usize::from(slot) % SCRATCH_WORDS] = index,
            Op::Alu(Alu::Div, operand) => match accumulator.checked_div(value(operand)) {
                Some(quotient) => accumulator = quotient,
                None => return 0,
            },
            Op::Alu(operation, operand) => accumulator = compute(operation, accumulator, value(operand)),
            Op::Negate => accumulator = accumulator.wrapping_neg(),
            Op::Jump(distance) => at += usize::from(distance),
            Op::JumpIf(condition, operand, yes, no) => {
                let taken = if holds(condition, accumulator, value(operand)) { yes } else { no };
                at += usize::from(taken);
            }
            Op::Return(constant) => return constant,
            Op::ReturnAccumulator => return accumulator,
            Op::ToIndex => index = accumulator,
            Op::FromIndex => accumulator = index,
        }
    }
    0
}

fn compute(operation: Alu, left: u32, right: u32) -> u32 {
    match operation {
        Alu::Add => left.wrapping_add(right),
        Alu::Sub => left.wrapping_sub(right),
        Alu::Mul => left.wrapping_mul(right),
        Alu::Div => left.checked_div(right).unwrap_or_default(),
        Alu::And => left & right,
        Alu::Or => left | right,
        Alu::Xor => left ^ right,
        Alu::ShiftLeft => left.wrapping_shl(right),
        Alu::ShiftRight => left.wrapping_shr(right),
    }
}

fn holds(condition: Condition, left: u32, right: u32) -> bool {
    match condition {
        Condition::Equal => left == right,
        Condition::Greater => left > right,
        Condition::GreaterOrEqual => left >= right,
        Condition::AnyBit => left & right != 0,
    }
}
