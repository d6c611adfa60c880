//! From the instructions that a program hands in to checked ones (bpf_check_classic in net/core/filter.c and
//! seccomp_check_filter in kernel/seccomp.c).

use super::bpf::{Alu, Condition, Op, Operand, SCRATCH_WORDS};
use super::{DATA_BYTES, DATA_WORDS};
use crate::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The most instructions that a program has (BPF_MAXINSNS).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Instruction {
    /// Class, size or operation, and source, see include/uapi/linux/bpf_common.h.
    pub code: u16,
    /// Where a conditional jump goes if the condition holds.
    pub jump_true: u8,
    /// And if it does not.
    pub jump_false: u8,
    /// A constant.
    pub k: u32,
}

/// The codes that seccomp permits: class | size or operation | source.
mod code {
    pub(super) const LD_ABS: u16 = 0x20;
    pub(super) const LD_LEN: u16 = 0x80;
    pub(super) const LDX_LEN: u16 = 0x81;
    pub(super) const LD_IMM: u16 = 0x00;
    pub(super) const LDX_IMM: u16 = 0x01;
    pub(super) const LD_MEM: u16 = 0x60;
    pub(super) const LDX_MEM: u16 = 0x61;
    pub(super) const ST: u16 = 0x02;
    pub(super) const STX: u16 = 0x03;
    pub(super) const NEG: u16 = 0x84;
    pub(super) const JA: u16 = 0x05;
    pub(super) const RET_K: u16 = 0x06;
    pub(super) const RET_A: u16 = 0x16;
    pub(super) const TAX: u16 = 0x07;
    pub(super) const TXA: u16 = 0x87;
    /// The class of arithmetic.
    pub(super) const ALU: u16 = 0x04;
    /// The class of conditional jumps.
    pub(super) const JMP: u16 = 0x05;
    /// The operand is the index register.
    pub(super) const X: u16 = 0x08;
}

/// Checks a program; `EINVAL` for one that Linux refuses.
pub fn check(instructions: &[Instruction]) -> Result<Vec<Op>, Errno> {
    if instructions.is_empty() || instructions.len() > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    let ops = instructions
        .iter()
        .enumerate()
        .map(|(at, instruction)| decode(*instruction, instructions.len() - at - 1).ok_or(Errno::EINVAL))
        .collect::<Result<Vec<Op>, Errno>>()?;
    if !matches!(ops.last(), Some(Op::Return(_) | Op::ReturnAccumulator)) || reads_unwritten_scratch(&ops) {
        return Err(Errno::EINVAL);
    }
    Ok(ops)
}

/// Decodes an instruction that `left` others follow; `None` if it is not permitted.
fn decode(instruction: Instruction, left: usize) -> Option<Op> {
    let Instruction { code, jump_true, jump_false, k } = instruction;
    let slot = || u8::try_from(k).ok().filter(|slot| usize::from(*slot) < SCRATCH_WORDS);
    Some(match code {
        code::LD_ABS if k % 4 == 0 => {
            Op::LoadData(u8::try_from(k / 4).ok().filter(|word| usize::from(*word) < DATA_WORDS)?)
        }
        code::LD_LEN => Op::Load(DATA_BYTES),
        code::LDX_LEN => Op::LoadIndex(DATA_BYTES),
        code::LD_IMM => Op::Load(k),
        code::LDX_IMM => Op::LoadIndex(k),
        code::LD_MEM => Op::Recall(slot()?),
        code::LDX_MEM => Op::RecallIndex(slot()?),
        code::ST => Op::Store(slot()?),
        code::STX => Op::StoreIndex(slot()?),
        code::NEG => Op::Negate,
        code::JA => Op::Jump(u16::try_from(k).ok().filter(|distance| usize::from(*distance) < left)?),
        code::RET_K => Op::Return(k),
        code::RET_A => Op::ReturnAccumulator,
        code::TAX => Op::ToIndex,
        code::TXA => Op::FromIndex,
        _ => {
            let operand = if code & code::X == 0 { Operand::Constant(k) } else { Operand::Index };
            match code & !code::X {
                masked if masked & 7 == code::ALU => Op::Alu(arithmetic(masked, operand)?, operand),
                masked if masked & 7 == code::JMP => {
                    let within = usize::from(jump_true.max(jump_false)) < left;
                    Op::JumpIf(condition(masked).filter(|_| within)?, operand, jump_true, jump_false)
                }
                _ => return None,
            }
        }
    })
}

fn arithmetic(code: u16, operand: Operand) -> Option<Alu> {
    let alu = match code {
        0x04 => Alu::Add,
        0x14 => Alu::Sub,
        0x24 => Alu::Mul,
        0x34 => Alu::Div,
        0x44 => Alu::Or,
        0x54 => Alu::And,
        0x64 => Alu::ShiftLeft,
        0x74 => Alu::ShiftRight,
        0xa4 => Alu::Xor,
        _ => return None,
    };
    match (alu, operand) {
        (Alu::Div, Operand::Constant(0)) => None,
        (Alu::ShiftLeft | Alu::ShiftRight, Operand::Constant(32..)) => None,
        _ => Some(alu),
    }
}

fn condition(code: u16) -> Option<Condition> {
    Some(match code {
        0x15 => Condition::Equal,
        0x25 => Condition::Greater,
        0x35 => Condition::GreaterOrEqual,
        0x45 => Condition::AnyBit,
        _ => return None,
    })
}

/// Tells whether some path reads scratch memory that it has not written (check_load_and_stores): it would see old contents of
/// the kernel's stack there.
fn reads_unwritten_scratch(ops: &[Op]) -> bool {
    // For each instruction, the words that are written on all paths to it which jump.
    let mut written_at = vec![u16::MAX; ops.len()];
    let mut written = 0_u16;
    for (at, op) in ops.iter().enumerate() {
        written &= written_at[at];
        let mut arrive = |distance: usize, written: u16| {
            if let Some(there) = written_at.get_mut(at + 1 + distance) {
                *there &= written;
            }
        };
        match *op {
            Op::Store(slot) | Op::StoreIndex(slot) => written |= 1 << slot,
            Op::Recall(slot) | Op::RecallIndex(slot) if written & 1 << slot == 0 => return true,
            Op::Jump(distance) => {
                arrive(usize::from(distance), written);
                written = u16::MAX;
            }
            Op::JumpIf(_, _, yes, no) => {
                arrive(usize::from(yes), written);
                arrive(usize::from(no), written);
                written = u16::MAX;
            }
            _ => {}
        }
    }
    false
}
