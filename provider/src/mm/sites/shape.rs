//! Which instructions around a SYSCALL can be rewritten, and how ([`Shape`]): pure functions of code bytes.
//!
//! Five bytes become a jump. What they were must be run elsewhere, and nobody may come back to, or jump to, the middle of
//! them. Two shapes satisfy that in nearly all code that compilers and assemblers make:
//!
//! - **Before**: `mov $number, %eax`, perhaps some instructions that move registers, and SYSCALL. The jump takes the place
//!   of the five-byte `mov` (or of the first five of the seven of `mov $number, %rax`), whose inside nobody jumps to.
//! - **After**: SYSCALL and one instruction of at least three bytes. Threads do come back to the second of the two, so
//!   the jump must begin there with a breakpoint: [`super::table`] chooses its target for that.
//!
//! Instructions are moved as they are. So they must mean the same elsewhere: none that names its own address or jumps.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// Bytes of SYSCALL: 0f 05.
pub(super) const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Bytes of a jump with a 32-bit displacement, which a rewritten place has.
pub(super) const JUMP_LEN: usize = 5;
/// Bytes between the start of the `mov` and SYSCALL at the most.
pub(super) const MOST_BEFORE: usize = 32;
/// How far before a `mov` decoding starts, to see whether it is an instruction at all.
const RUN_UP: usize = 32;
/// Bytes of code before the SYSCALL that [`recognize`] looks at.
pub(super) const LOOK_BEHIND: usize = MOST_BEFORE + RUN_UP;
/// Bytes of code from the SYSCALL on that it looks at: the longest instruction follows.
pub(super) const LOOK_AHEAD: usize = 2 + 15;

/// How a call site looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The `mov` starts `len` bytes before the SYSCALL: these bytes are run before the call, elsewhere.
    Before { len: usize },
    /// An instruction of `len` bytes follows, which is run after the call, elsewhere.
    After { len: usize },
}

/// Looks at the SYSCALL at `code[at]`, which has just made the call `number`; `code[0]` lies at `base`. Bytes before `code`
/// are not known, and none are behind it.
pub(super) fn recognize(code: &[u8], at: usize, base: u64, number: u32) -> Option<Shape> {
    if code.get(at..at + SYSCALL.len()) != Some(&SYSCALL) {
        return None;
    }
    before(code, at, base, number).or_else(|| after(code, at, base))
}

/// Finds the `mov` of the number.
fn before(code: &[u8], at: usize, base: u64, number: u32) -> Option<Shape> {
    let lens = JUMP_LEN..=MOST_BEFORE.min(at);
    let len = { lens }.find(|len| {
        let start = at - len;
        moves_number(&code[start..at], number) && is_straight(&code[start..at], base + start as u64) && {
            // The same bytes could be the end of another instruction.
            begins_instruction(code, start, base)
        }
    })?;
    Some(Shape::Before { len })
}

/// Tells whether code begins with `mov $number, %eax` or `mov $number, %rax`.
fn moves_number(code: &[u8], number: u32) -> bool {
    let number = number.to_le_bytes();
    code.strip_prefix(&[0xb8])
        .or_else(|| code.strip_prefix(&[0x48, 0xc7, 0xc0]))
        .is_some_and(|rest| rest.starts_with(&number))
}

/// Finds the instruction behind the SYSCALL.
fn after(code: &[u8], at: usize, base: u64) -> Option<Shape> {
    let next = at + SYSCALL.len();
    let rest = code.get(next..)?;
    let instruction = decoder(rest, base + next as u64).into_iter().next()?;
    let len = instruction.len();
    (len + SYSCALL.len() >= JUMP_LEN && is_movable(&instruction)).then_some(Shape::After { len })
}

/// Tells whether all of `code` is whole instructions that can be moved.
fn is_straight(code: &[u8], base: u64) -> bool {
    let mut decoder = decoder(code, base);
    while decoder.can_decode() {
        if !is_movable(&decoder.decode()) {
            return false;
        }
    }
    true
}

/// Tells whether an instruction begins at `code[start]`: most of the ways to read what comes before lead there. Code of
/// variable length cannot be read backwards, but readings that begin in different places soon agree.
fn begins_instruction(code: &[u8], start: usize, base: u64) -> bool {
    let first = start.saturating_sub(RUN_UP);
    // The last few have had no room to find their way.
    let starts = first..start.saturating_sub(RUN_UP / 4).max(first);
    let leading = |from: usize| {
        let mut decoder = decoder(&code[from..], base + from as u64);
        while decoder.can_decode() && decoder.position() < start - from {
            let _ = decoder.decode();
        }
        decoder.position() == start - from
    };
    // Nothing lies before the first code of a mapping.
    starts.is_empty() || 2 * starts.clone().filter(|from| leading(*from)).count() > starts.len()
}

fn decoder(code: &[u8], base: u64) -> Decoder<'_> {
    Decoder::with_ip(64, code, base, DecoderOptions::NONE)
}

/// Tells whether an instruction means the same elsewhere, and can be told from one that might not: it computes with general
/// registers, constants and memory that no instruction pointer is part of the address of, and goes on behind itself.
fn is_movable(instruction: &Instruction) -> bool {
    let computes = matches!(
        instruction.mnemonic(),
        Mnemonic::Mov
            | Mnemonic::Movsx
            | Mnemonic::Movsxd
            | Mnemonic::Movzx
            | Mnemonic::Lea
            | Mnemonic::Xor
            | Mnemonic::And
            | Mnemonic::Or
            | Mnemonic::Not
            | Mnemonic::Neg
            | Mnemonic::Add
            | Mnemonic::Sub
            | Mnemonic::Cmp
            | Mnemonic::Test
            | Mnemonic::Nop
    );
    computes && !instruction.is_ip_rel_memory_operand() && !instruction.has_lock_prefix() && {
        (0..instruction.op_count()).all(|operand| match instruction.op_kind(operand) {
            OpKind::Register => is_general(instruction.op_register(operand)),
            OpKind::Memory
            | OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => true,
            _ => false,
        })
    }
}

/// Tells a general register from those of segments, control and debugging.
fn is_general(register: Register) -> bool {
    (Register::AL..=Register::R15).contains(&register)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x40_1000;

    /// Looks at the first SYSCALL in `code`, with as many one-byte instructions in front as are looked at.
    fn shape(code: &[u8], number: u32) -> Option<Shape> {
        let mut all = vec![0x90; LOOK_BEHIND];
        all.extend_from_slice(code);
        let at = all.windows(2).position(|pair| pair == SYSCALL).unwrap();
        recognize(&all, at, BASE, number)
    }

    #[test]
    fn the_usual_wrapper_is_rewritten_at_its_mov() {
        // endbr64; mov $39, %eax; syscall; ret
        let getpid = [0xf3, 0x0f, 0x1e, 0xfa, 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
        assert_eq!(shape(&getpid, 39), Some(Shape::Before { len: 5 }));
        assert_eq!(shape(&getpid, 40), None, "another number came here: by a jump to the SYSCALL, say");
        // mov $186, %rax; syscall; ret
        assert_eq!(shape(&[0x48, 0xc7, 0xc0, 186, 0, 0, 0, 0x0f, 0x05, 0xc3], 186), Some(Shape::Before { len: 7 }));
    }

    #[test]
    fn moves_between_mov_and_syscall_are_taken_along() {
        // mov $257, %eax; mov %rcx, %r10; mov $-100, %edi; syscall
        let openat = [0xb8, 1, 1, 0, 0, 0x49, 0x89, 0xca, 0xbf, 0x9c, 0xff, 0xff, 0xff, 0x0f, 0x05, 0xc3];
        assert_eq!(shape(&openat, 257), Some(Shape::Before { len: 13 }));
        // mov $1, %eax; mov 8(%rsp), %edi; syscall
        assert_eq!(
            shape(&[0xb8, 1, 0, 0, 0, 0x8b, 0x7c, 0x24, 8, 0x0f, 0x05, 0xc3], 1),
            Some(Shape::Before { len: 9 })
        );
    }

    #[test]
    fn what_cannot_be_moved_is_left_alone() {
        let before = |middle: &[u8]| {
            let mut code = vec![0xb8, 1, 0, 0, 0];
            code.extend_from_slice(middle);
            code.extend_from_slice(&[0x0f, 0x05, 0xc3]);
            shape(&code, 1)
        };
        assert_eq!(before(&[0x48, 0x8b, 0x3d, 0, 0, 0, 0]), None, "mov 0(%rip), %rdi");
        assert_eq!(before(&[0x48, 0x8d, 0x3d, 0, 0, 0, 0]), None, "lea 0(%rip), %rdi");
        assert_eq!(before(&[0x75, 0x00]), None, "jne");
        assert_eq!(before(&[0xe8, 0, 0, 0, 0]), None, "call");
        assert_eq!(before(&[0x57]), None, "push %rdi");
        assert_eq!(before(&[0x8e, 0xd8]), None, "mov %eax, %ds");
        assert_eq!(before(&[0xf0, 0x01, 0x07]), None, "lock add %eax, (%rdi)");
        assert_eq!(before(&[0xf3, 0xa4]), None, "rep movsb");
    }

    #[test]
    fn a_mov_of_other_registers_or_widths_is_none_of_the_number() {
        assert_eq!(shape(&[0x41, 0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xc3], 1), None, "mov $1, %r8d");
        assert_eq!(shape(&[0x48, 0xb8, 1, 0, 0, 0, 0, 0, 0, 0, 0x0f, 0x05, 0xc3], 1), None, "movabs $1, %rax");
        assert_eq!(shape(&[0x66, 0xb8, 1, 0, 0x90, 0x90, 0x0f, 0x05, 0xc3], 0x9090_0001), None, "mov $1, %ax");
        assert_eq!(shape(&[0xc7, 0xc0, 1, 0, 0, 0, 0x0f, 0x05, 0xc3], 1), None, "the long form of mov $1, %eax");
    }

    #[test]
    fn the_end_of_another_instruction_is_no_mov() {
        // lea 0x90(%rax), %rdi; syscall, for a call whose number happens to be 0x90.
        let lea = [0x48, 0x8d, 0xb8, 0x90, 0, 0, 0, 0x0f, 0x05, 0xc3];
        assert_eq!(shape(&lea, 0x90), None);
    }

    #[test]
    fn without_a_mov_the_instruction_behind_is_taken() {
        // xor %eax, %eax; syscall; cmp $-4096, %rax: the C library's read.
        let read = [0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0x77, 0x5b];
        assert_eq!(shape(&read, 0), Some(Shape::After { len: 6 }));
        assert_eq!(shape(&[0x0f, 0x05, 0x48, 0x89, 0xc5, 0xc3], 9), Some(Shape::After { len: 3 }), "mov %rax, %rbp");
        assert_eq!(shape(&[0x0f, 0x05, 0x89, 0xc2, 0xc3, 0x90], 9), None, "mov %eax, %edx is too short");
        assert_eq!(shape(&[0x0f, 0x05, 0xc3, 0x90, 0x90, 0x90], 9), None, "ret");
        assert_eq!(shape(&[0x0f, 0x05, 0x48, 0x8b, 0x05, 0, 0, 0, 0, 0xc3], 9), None, "mov 0(%rip), %rax");
        assert_eq!(shape(&[0x0f, 0x05, 0xe9, 0, 0, 0, 0], 9), None, "jmp");
    }

    #[test]
    fn code_ends_where_its_mapping_ends() {
        let code = [0xb8, 39, 0, 0, 0, 0x0f, 0x05];
        assert_eq!(recognize(&code, 5, BASE, 39), Some(Shape::Before { len: 5 }));
        assert_eq!(recognize(&code[4..], 1, BASE, 39), None);
        assert_eq!(recognize(&code, 6, BASE, 39), None, "that is no SYSCALL");
        assert_eq!(recognize(&[0x0f, 0x05, 0x48, 0x3d, 0], 0, BASE, 0), None, "half an instruction");
    }
}
