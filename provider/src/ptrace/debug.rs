//! Debug registers as a tracer sees them (arch/x86/kernel/ptrace.c and hw_breakpoint.c): four addresses at which a tracee traps.
//!
//! Where the host's KVM does not serve them, a tracee with such an address is stepped, instruction by instruction, and what
//! it watches is compared: slow, but no slower than a debugger that does the same. What is only read cannot be seen so.

use super::registers::TF;
use crate::errno::Errno;
use crate::mm::MemoryMap;
use crate::signal::SignalCode;
use crate::task::{CurrentTask, Work};
use vmm::addr::{USER_END, UserAddr};
use vmm::trap::DebugRegisters;

/// Bits of DR7 that read as zero (DR_CONTROL_RESERVED).
const CONTROL_RESERVED: u64 = 0xffff_ffff_0000_fc00;
/// Bits of DR6 that read as one (DR6_RESERVED).
const STATUS_RESERVED: u64 = 0xffff_0ff0;
/// The bit of DR6 for a single step.
const STATUS_STEP: u64 = 1 << 14;
/// The flag that lets the instruction at a breakpoint run.
const RF: u64 = 1 << 16;

/// On what one of the four traps, as DR7 encodes it.
const EXECUTION: u64 = 0;
const PORT: u64 = 2;
const ACCESS: u64 = 3;

/// A tracee's debug registers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Debugging {
    registers: DebugRegisters,
    /// DR6, with all bits clear when nothing has trapped.
    status: u64,
    /// What the watched places held when they were last looked at, for a tracee that is stepped.
    seen: [u64; 4],
}

impl Debugging {
    /// One of the eight registers.
    pub(crate) fn get(&self, number: usize) -> u64 {
        match number {
            6 => self.status ^ STATUS_RESERVED,
            7 => self.registers.control,
            // The fourth and the fifth are other names of the last two, which Linux does not know.
            _ => self.registers.addresses.get(number).copied().unwrap_or_default(),
        }
    }

    /// Changes one of the eight; `EIO` for those that there are not, `EINVAL` for what Linux would not trap at.
    pub(crate) fn set(&mut self, number: usize, value: u64) -> Result<(), Errno> {
        let mut new = *self;
        match number {
            6 => new.status = value ^ STATUS_RESERVED,
            7 => new.registers.control = value & !CONTROL_RESERVED,
            _ => *new.registers.addresses.get_mut(number).ok_or(Errno::EIO)? = value,
        }
        if value >= USER_END && number < new.registers.addresses.len() {
            return Err(Errno::EINVAL);
        }
        new.all_on().try_for_each(|at| new.check(at))?;
        *self = new;
        Ok(())
    }

    fn is_on(&self, at: usize) -> bool {
        self.registers.control >> (2 * at) & 3 != 0
    }

    /// On what one of the four traps, and the length that it watches less one.
    fn kind(&self, at: usize) -> (u64, u64) {
        let field = self.registers.control >> (16 + 4 * at) & 0xf;
        // Of the encodings of lengths, that of eight bytes came last.
        let last = [0, 1, 7, 3][usize::try_from(field >> 2).unwrap_or_default()];
        (field & 3, last)
    }

    /// Ports cannot be watched, instructions have one length, and what is watched is aligned (arch_build_bp_info).
    fn check(&self, at: usize) -> Result<(), Errno> {
        let (kind, last) = self.kind(at);
        let wrong = kind == PORT || kind == EXECUTION && last != 0 || self.registers.addresses[at] & last != 0;
        if wrong { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// Whether something is to be watched that only the processor sees: what is read.
    pub(crate) fn needs_processor(&self) -> bool {
        self.all_on().any(|at| self.kind(at).0 == ACCESS)
    }

    /// The numbers of those that are on.
    fn all_on(&self) -> impl Iterator<Item = usize> + use<> {
        let all = *self;
        (0..all.registers.addresses.len()).filter(move |at| all.is_on(*at))
    }

    /// What the processor gets: those that are on, each in the task only.
    fn for_processor(&self) -> DebugRegisters {
        let control = self
            .all_on()
            .fold(0, |control, at| control | 1 << (2 * at) | self.registers.control & 0xf << (16 + 4 * at));
        DebugRegisters { addresses: if control == 0 { [0; 4] } else { self.registers.addresses }, control }
    }

    /// Looks at what is watched. Answers which places have changed since the last look, or hold the next instruction.
    fn look(&mut self, mm: &MemoryMap, rip: u64) -> u64 {
        let mut hits = 0;
        for at in self.all_on() {
            let (address, (kind, last)) = (self.registers.addresses[at], self.kind(at));
            let hit = if kind == EXECUTION {
                address == rip
            } else {
                let mut bytes = [0; 8];
                let len = usize::try_from(last + 1).unwrap_or(bytes.len());
                // What is not mapped holds nothing.
                let _ = mm.read(UserAddr(address), &mut bytes[..len]);
                std::mem::replace(&mut self.seen[at], u64::from_le_bytes(bytes)) != u64::from_le_bytes(bytes)
            };
            hits |= u64::from(hit) << at;
        }
        hits
    }
}

impl CurrentTask<'_> {
    /// Gives the processor what the tracer has set; a processor that cannot trap steps instead.
    pub(crate) fn load_debug_registers(&mut self) {
        let mut debug = self.tracee().lock().debug;
        let registers = debug.for_processor();
        let steps = registers.control != 0 && !self.frame.cpu.traps_at_addresses();
        if steps {
            debug.look(&self.mm(), self.frame.registers.rip);
            self.tracee().lock().debug = debug;
        }
        self.replace_work(Work::WATCH, if steps { Work::WATCH } else { Work::empty() });
        self.frame.cpu.set_debug_registers(&registers);
    }

    /// A new program traps nowhere (flush_ptrace_hw_breakpoint).
    pub(crate) fn reset_debug_registers(&mut self) {
        {
            let mut state = self.tracee().lock();
            state.debug = Debugging::default();
            state.stepping &= self.work().contains(Work::STEP);
        }
        self.load_debug_registers();
    }

    /// A debug exception: notes for the tracer what trapped. `None` if nothing did, and the task was only stepped to see.
    pub(crate) fn debug_trap(&mut self) -> Option<SignalCode> {
        let (mut debug, stepping) = {
            let state = self.tracee().lock();
            (state.debug, state.stepping)
        };
        let mut status = STATUS_STEP;
        if self.work().contains(Work::WATCH) {
            let hits = debug.look(&self.mm(), self.frame.registers.rip);
            // The trap flag is the monitor's, unless the tracer steps, or it is the program's own.
            let asked = self.work().contains(Work::STEP) || !stepping;
            status = hits | if asked { STATUS_STEP } else { 0 };
        } else if debug.for_processor().control != 0 {
            let on = debug.all_on().fold(0, |on, at| on | 1 << at);
            status = self.frame.cpu.take_debug_status() & (on | STATUS_STEP);
        }
        debug.status = status;
        self.tracee().lock().debug = debug;
        if debug.all_on().any(|at| status & 1 << at != 0 && debug.kind(at).0 == EXECUTION) {
            self.frame.registers.rflags |= RF;
        }
        match status {
            0 => None,
            _ if status & STATUS_STEP != 0 => Some(SignalCode::TRAP_TRACE),
            _ => Some(SignalCode::TRAP_HWBKPT),
        }
    }

    /// Puts the trap flag back after something else has set the flags, if the task is stepped to see what it does.
    pub(crate) fn watch_on(&mut self) {
        if self.work().contains(Work::WATCH) {
            self.tracee().lock().stepping |= self.frame.registers.rflags & TF == 0;
            self.frame.registers.rflags |= TF;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns the first of the four on, for `kind` and the length whose encoding is `len`.
    fn control(kind: u64, len: u64) -> u64 {
        1 | kind << 16 | len << 18
    }

    #[test]
    fn only_what_can_be_watched_is_taken() {
        let mut debug = Debugging::default();
        assert_eq!(debug.set(0, 0x1004), Ok(()));
        assert_eq!(debug.set(7, control(1, 3)), Ok(()));
        assert_eq!(debug.set(0, 0x1002), Err(Errno::EINVAL), "four bytes are aligned to four");
        assert_eq!(debug.set(7, control(1, 2)), Err(Errno::EINVAL), "and eight to eight");
        assert_eq!(debug.set(7, control(PORT, 0)), Err(Errno::EINVAL));
        assert_eq!(debug.set(7, control(EXECUTION, 1)), Err(Errno::EINVAL));
        assert_eq!(debug.set(1, USER_END), Err(Errno::EINVAL));
        assert_eq!((debug.set(4, 0), debug.set(5, 0)), (Err(Errno::EIO), Err(Errno::EIO)));
        assert_eq!((debug.get(0), debug.get(7)), (0x1004, control(1, 3)), "a refused value changes nothing");
    }

    #[test]
    fn the_processor_gets_only_what_is_on() {
        let mut debug = Debugging::default();
        assert_eq!(debug.set(0, 0x1000), Ok(()));
        assert_eq!(debug.set(2, 0x2000), Ok(()));
        assert_eq!(debug.for_processor(), DebugRegisters::default());
        // The third globally, with bits that are nobody's.
        assert_eq!(debug.set(7, 1 << 5 | 0b0111 << 24 | 0x300), Ok(()));
        let expected = DebugRegisters { addresses: [0x1000, 0, 0x2000, 0], control: 1 << 4 | 0b0111 << 24 };
        assert_eq!(debug.for_processor(), expected);
        assert_eq!(debug.get(6), STATUS_RESERVED);
    }
}
