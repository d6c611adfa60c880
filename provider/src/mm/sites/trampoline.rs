//! What is run in place of a rewritten call site ([`Trampoline`]), and which place of the program's own each of its
//! instructions stands for.
//!
//! A trampoline touches no stack and changes no register but RCX and R11, which a SYSCALL loses, too. Its call goes on at
//! the address in RCX.

use super::shape::{JUMP_LEN, SYSCALL};
use guest::layout::FAST_ENTRY;

/// Bytes of `lea there(%rip), %rcx; mov $FAST_ENTRY, %r11; jmp *%r11`.
const CALL_LEN: usize = 17;

/// A place of the program's that was rewritten, and the code that stands in for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trampoline {
    /// Where the code lies.
    pub(super) at: u64,
    /// Where the program's five bytes lie, which are a jump now.
    pub(super) window: u64,
    /// What these five bytes were.
    pub(super) original: [u8; JUMP_LEN],
    /// The part of the program's code that is run here.
    pub(super) moved: Moved,
}

/// The program's instructions that a trampoline has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// The `mov` at the window, and what lies between it and the SYSCALL: run before the call.
    Before(Box<[u8]>),
    /// The instruction behind the SYSCALL, which is at the window: run after the call.
    After(Box<[u8]>),
}

impl Moved {
    /// Bytes of the trampoline.
    pub(super) fn code_len(&self) -> usize {
        match self {
            Self::Before(moved) => moved.len() + CALL_LEN,
            Self::After(moved) => CALL_LEN + moved.len() + JUMP_LEN,
        }
    }
}

impl Trampoline {
    /// Its code; `None` if it lies too far from the program's.
    pub(super) fn code(&self) -> Option<Vec<u8>> {
        let mut code = Vec::with_capacity(self.moved.code_len());
        match &self.moved {
            Moved::Before(moved) => {
                code.extend_from_slice(moved);
                self.push_call(&mut code, self.window + (moved.len() + SYSCALL.len()) as u64)?;
            }
            Moved::After(moved) => {
                self.push_call(&mut code, self.at + CALL_LEN as u64)?;
                code.extend_from_slice(moved);
                let jump = self.at + code.len() as u64;
                code.extend_from_slice(&jump_to(jump, self.behind())?);
            }
        }
        debug_assert_eq!(code.len(), self.moved.code_len());
        Some(code)
    }

    /// The jump that the window has instead of the program's bytes; `None` if it does not reach.
    pub(super) fn jump(&self) -> Option<[u8; JUMP_LEN]> {
        jump_to(self.window, self.at)
    }

    /// The place of the program's that a thread at `rip`, in the trampoline, has reached. One that goes on there makes its
    /// call, or what is left to do after it, by the program's own code.
    pub(super) fn place_of(&self, rip: u64) -> u64 {
        let offset = rip.wrapping_sub(self.at);
        match &self.moved {
            // Beyond its own instructions it stands before the SYSCALL: RCX and R11 may be lost already.
            Moved::Before(moved) => self.window + offset.min(moved.len() as u64),
            Moved::After(_) if offset < CALL_LEN as u64 => self.window,
            Moved::After(_) => {
                self.return_address() + (offset - CALL_LEN as u64).min(self.behind() - self.return_address())
            }
        }
    }

    /// Where a thread goes on that is about to go on at `rip` of the program's, if that was rewritten under it.
    pub(super) fn stand_in_for(&self, rip: u64) -> Option<u64> {
        let returns = matches!(self.moved, Moved::After(_)) && rip == self.return_address();
        returns.then_some(self.at + CALL_LEN as u64)
    }

    /// Tells whether `rip` is in it.
    pub(super) fn contains(&self, rip: u64) -> bool {
        rip.wrapping_sub(self.at) < self.moved.code_len() as u64
    }

    /// Behind the SYSCALL.
    pub(super) fn return_address(&self) -> u64 {
        let before = match &self.moved {
            Moved::Before(moved) => moved.len(),
            Moved::After(_) => 0,
        };
        self.window + (before + SYSCALL.len()) as u64
    }

    /// Behind the last instruction of the program's that it has.
    fn behind(&self) -> u64 {
        match &self.moved {
            Moved::Before(_) => self.return_address(),
            Moved::After(moved) => self.return_address() + moved.len() as u64,
        }
    }

    /// Appends the call that goes on at `there`.
    fn push_call(&self, code: &mut Vec<u8>, there: u64) -> Option<()> {
        let lea = self.at + code.len() as u64;
        code.extend_from_slice(&[0x48, 0x8d, 0x0d]);
        code.extend_from_slice(&displacement(lea + 7, there)?);
        // The entry is in the highest 2 GiB: the constant is extended with its sign.
        let [entry @ .., _, _, _, _] = FAST_ENTRY.to_le_bytes();
        code.extend_from_slice(&[0x49, 0xc7, 0xc3]);
        code.extend_from_slice(&entry);
        code.extend_from_slice(&[0x41, 0xff, 0xe3]);
        Some(())
    }
}

const _: () = assert!(FAST_ENTRY >= u64::MAX << 31, "a constant of 32 bits names the entry");

/// The bytes of a jump that lies at `from`.
fn jump_to(from: u64, to: u64) -> Option<[u8; JUMP_LEN]> {
    let [a, b, c, d] = displacement(from + JUMP_LEN as u64, to)?;
    Some([0xe9, a, b, c, d])
}

/// What is added to the address behind an instruction to get `to`.
pub(super) fn displacement(behind: u64, to: u64) -> Option<[u8; 4]> {
    i32::try_from(to.wrapping_sub(behind).cast_signed()).ok().map(i32::to_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, Register};

    const WINDOW: u64 = 0x7f00_1000_0123;
    const AT: u64 = 0x7eff_d000_0010;

    fn decoded(code: &[u8]) -> Vec<Instruction> {
        Decoder::with_ip(64, code, AT, DecoderOptions::NONE).into_iter().collect()
    }

    fn before() -> Trampoline {
        // mov $257, %eax; mov %rcx, %r10
        let moved = [0xb8, 1, 1, 0, 0, 0x49, 0x89, 0xca];
        Trampoline { at: AT, window: WINDOW, original: [0xb8, 1, 1, 0, 0], moved: Moved::Before(moved.into()) }
    }

    fn after() -> Trampoline {
        // cmp $-4096, %rax
        let moved = [0x48, 0x3d, 0, 0xf0, 0xff, 0xff];
        Trampoline { at: AT, window: WINDOW, original: [0x0f, 0x05, 0x48, 0x3d, 0], moved: Moved::After(moved.into()) }
    }

    fn check_call(call: &[Instruction], there: u64) {
        assert_eq!((call[0].mnemonic(), call[0].op0_register()), (Mnemonic::Lea, Register::RCX));
        assert_eq!(call[0].ip_rel_memory_address(), there);
        assert_eq!((call[1].mnemonic(), call[1].op0_register()), (Mnemonic::Mov, Register::R11));
        assert_eq!(call[1].immediate(1), FAST_ENTRY);
        assert_eq!((call[2].mnemonic(), call[2].op0_register()), (Mnemonic::Jmp, Register::R11));
    }

    #[test]
    fn what_comes_before_the_call_is_run_before_it() {
        let trampoline = before();
        let code = decoded(&trampoline.code().unwrap());
        assert_eq!(code.len(), 5);
        assert_eq!((code[0].mnemonic(), code[0].immediate(1)), (Mnemonic::Mov, 257));
        assert_eq!(code[1].op0_register(), Register::R10);
        check_call(&code[2..], WINDOW + 10);
        let jump = Decoder::with_ip(64, &trampoline.jump().unwrap(), WINDOW, DecoderOptions::NONE).decode();
        assert_eq!((jump.mnemonic(), jump.near_branch_target()), (Mnemonic::Jmp, AT));
    }

    #[test]
    fn what_comes_after_the_call_is_run_after_it() {
        let code = decoded(&after().code().unwrap());
        assert_eq!(code.len(), 5);
        check_call(&code, code[3].ip());
        assert_eq!(code[3].mnemonic(), Mnemonic::Cmp);
        assert_eq!((code[4].mnemonic(), code[4].near_branch_target()), (Mnemonic::Jmp, WINDOW + 8));
    }

    #[test]
    fn each_instruction_stands_for_a_place_of_the_program() {
        let places = |trampoline: Trampoline| {
            let code = decoded(&trampoline.code().unwrap());
            code.iter().map(|instruction| trampoline.place_of(instruction.ip()) - WINDOW).collect::<Vec<_>>()
        };
        assert_eq!(places(before()), [0, 5, 8, 8, 8]);
        assert_eq!(places(after()), [0, 0, 0, 2, 8]);
    }

    #[test]
    fn a_thread_that_returns_into_the_window_goes_on_elsewhere() {
        let trampoline = after();
        let there = trampoline.stand_in_for(WINDOW + 2).unwrap();
        assert_eq!(trampoline.place_of(there), WINDOW + 2);
        assert_eq!(trampoline.stand_in_for(WINDOW), None);
        assert_eq!(before().stand_in_for(WINDOW + 10), None);
        assert_eq!((before().return_address(), trampoline.return_address()), (WINDOW + 10, WINDOW + 2));
    }

    #[test]
    fn what_lies_too_far_away_is_not_reached() {
        let far = Trampoline { at: WINDOW - (3 << 30), ..after() };
        assert_eq!((far.code(), far.jump()), (None, None));
        assert!(
            after().contains(AT)
                && after().contains(AT + 27)
                && !after().contains(AT + 28)
                && !after().contains(AT - 1)
        );
    }
}
