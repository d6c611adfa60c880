//! Steps by unwind tables: .eh_frame_hdr finds the entry for an address, .eh_frame says where the caller's registers are.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EhFrameOffset, Encoding, EvaluationResult, Expression, Format,
    Location, Pointer, Reader, Register, RegisterRule, UnwindContext, UnwindSection, Value,
};
use gimli::{EndianSlice, LittleEndian};
use vmm::addr::{USER_END, UserAddr};
use vmm::pico::walk::{ReadMemory, read_word};
use vmm::trap::Registers;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Bytes of an address.
const ADDRESS: u8 = 8;
/// The column of the return address (System V ABI for AMD64, figure 3.36).
const RETURN: Register = Register(16);
/// Bytes of an entry at the most: its instructions are run at each step.
const LONGEST_ENTRY: usize = 64 << 10;
/// Operations of an expression at the most.
const MOST_OPERATIONS: u32 = 1000;

/// The unwind tables of an image.
pub(super) struct Tables {
    index_at: u64,
    index: Vec<u8>,
    frames_at: u64,
    frames: Vec<u8>,
}

/// The bases that pointers in the tables are relative to.
fn bases(index_at: u64, frames_at: u64) -> BaseAddresses {
    BaseAddresses::default().set_eh_frame_hdr(index_at).set_eh_frame(frames_at)
}

impl Tables {
    /// Where .eh_frame lies, according to an .eh_frame_hdr at `at`.
    pub(super) fn place(index: &[u8], at: u64) -> Option<u64> {
        let parsed = EhFrameHdr::new(index, LittleEndian).parse(&bases(at, 0), ADDRESS).ok()?;
        match parsed.eh_frame_ptr() {
            Pointer::Direct(frames) => Some(frames),
            Pointer::Indirect(_) => None,
        }
    }

    /// Takes both sections, and where they lie.
    pub(super) fn new(index_at: u64, index: Vec<u8>, frames_at: u64, frames: Vec<u8>) -> Self {
        Self { index_at, index, frames_at, frames }
    }

    /// The caller's registers, as far as they are known, and whether it was interrupted and has not called.
    pub(super) fn step(
        &self,
        context: &mut UnwindContext<usize>,
        registers: &Registers,
        code: u64,
        read: &ReadMemory<'_>,
    ) -> Option<(Registers, bool)> {
        let bases = bases(self.index_at, self.frames_at);
        let index = EhFrameHdr::new(&self.index, LittleEndian).parse(&bases, ADDRESS).ok()?;
        let frames = EhFrame::new(&self.frames, LittleEndian);
        let at = index.table()?.lookup(code, &bases).ok()?.direct().ok()?;
        // A table may say that an entry lies before the section; the library would subtract all the same.
        let offset = EhFrameOffset(usize::try_from(at.checked_sub(self.frames_at)?).ok()?);
        let entry = frames.fde_from_offset(&bases, offset, EhFrame::cie_from_offset).ok()?;
        if !entry.contains(code) {
            return None;
        }
        if entry.entry_len() > LONGEST_ENTRY || entry.cie().entry_len() > LONGEST_ENTRY {
            return None;
        }
        let interrupted = entry.is_signal_trampoline();
        let encoding =
            Encoding { address_size: ADDRESS, format: Format::Dwarf32, version: entry.cie().version().into() };
        let row = entry.unwind_info_for_address(&frames, &bases, context, code).ok()?;
        let evaluate =
            |expression: Expression<Slice<'_>>, first| evaluate(expression, encoding, first, registers, read);
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => get(registers, *register)?.wrapping_add_signed(*offset),
            CfaRule::Expression(expression) => evaluate(expression.get(&frames).ok()?, None)?,
        };
        // Up the stack, but for the step out of a signal handler that has one of its own.
        if cfa <= registers.rsp && !interrupted || cfa > USER_END {
            return None;
        }
        // Its stack pointer is the frame's address, unless the table says otherwise (a signal frame's does).
        let mut caller = Registers { rsp: cfa, ..*registers };
        let mut returns = false;
        for (register, rule) in row.registers() {
            let value = match rule {
                RegisterRule::Undefined | RegisterRule::Architectural => continue,
                RegisterRule::SameValue => get(registers, *register)?,
                RegisterRule::Offset(offset) => read_word(read, UserAddr(cfa.wrapping_add_signed(*offset)))?,
                RegisterRule::ValOffset(offset) => cfa.wrapping_add_signed(*offset),
                RegisterRule::Register(other) => get(registers, *other)?,
                RegisterRule::Expression(expression) => {
                    let at = evaluate(expression.get(&frames).ok()?, Some(cfa))?;
                    read_word(read, UserAddr(at))?
                }
                RegisterRule::ValExpression(expression) => evaluate(expression.get(&frames).ok()?, Some(cfa))?,
                RegisterRule::Constant(value) => *value,
                _ => return None,
            };
            if *register == RETURN {
                returns = true;
                caller.rip = value;
            } else if let Some(place) = place(&mut caller, *register) {
                *place = value;
            }
        }
        // The outermost frame says that nobody called it.
        (returns && caller.rip != 0 && caller.rip < USER_END).then_some((caller, interrupted))
    }
}

/// Evaluates an expression, whose stack holds `first` at the beginning.
fn evaluate<R: Reader>(
    expression: Expression<R>,
    encoding: Encoding,
    first: Option<u64>,
    registers: &Registers,
    read: &ReadMemory<'_>,
) -> Option<u64> {
    let mut evaluation = expression.evaluation(encoding);
    evaluation.set_max_iterations(MOST_OPERATIONS);
    if let Some(first) = first {
        evaluation.set_initial_value(first);
    }
    let mut state = evaluation.evaluate().ok()?;
    loop {
        state = match state {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register, .. } => {
                evaluation.resume_with_register(Value::Generic(get(registers, register)?)).ok()?
            }
            EvaluationResult::RequiresMemory { address, size: ADDRESS, .. } => {
                evaluation.resume_with_memory(Value::Generic(read_word(read, UserAddr(address))?)).ok()?
            }
            _ => return None,
        };
    }
    match evaluation.as_result() {
        [piece] => match piece.location {
            Location::Address { address } => Some(address),
            _ => None,
        },
        _ => None,
    }
}

/// The register of a column (System V ABI for AMD64, figure 3.36).
fn place(registers: &mut Registers, column: Register) -> Option<&mut u64> {
    let r = registers;
    Some(match column.0 {
        0 => &mut r.rax,
        1 => &mut r.rdx,
        2 => &mut r.rcx,
        3 => &mut r.rbx,
        4 => &mut r.rsi,
        5 => &mut r.rdi,
        6 => &mut r.rbp,
        7 => &mut r.rsp,
        8 => &mut r.r8,
        9 => &mut r.r9,
        10 => &mut r.r10,
        11 => &mut r.r11,
        12 => &mut r.r12,
        13 => &mut r.r13,
        14 => &mut r.r14,
        15 => &mut r.r15,
        16 => &mut r.rip,
        _ => return None,
    })
}

fn get(registers: &Registers, column: Register) -> Option<u64> {
    let mut registers = *registers;
    place(&mut registers, column).map(|value| *value)
}
