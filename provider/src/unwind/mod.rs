//! Walks of user stacks: by the unwind tables of the programs and libraries that are mapped, else by frame pointers.
//!
//! [`image`] finds the ELF image that an address lies in, [`tables`] takes a step by its tables, [`symbols`] names
//! functions. All of it reads memory and files that the program controls: whatever makes no sense ends a step or a name,
//! sizes have limits, and a whole walk reads no more than [`MOST_BYTES`].

mod image;
mod symbols;
mod tables;
#[cfg(test)]
mod tests;

use crate::mm::{MappingInfo, MemoryMap};
use gimli::UnwindContext;
use image::Image;
use vmm::addr::UserAddr;
use vmm::pico::walk::{self, Found, MOST_FRAMES, Place, StackFrame, Visit};
use vmm::trap::Registers;

/// Bytes of tables and symbols that one walk reads at the most.
const MOST_BYTES: usize = 64 << 20;

/// Where a step has led.
struct Step {
    registers: Registers,
    found: Found,
    /// The frame it leads to was interrupted, not calling: its address is that of its next instruction.
    interrupted: bool,
}

/// One walk: the mappings as they were at its start, and the images that it came through.
struct Walk<'a> {
    mm: &'a MemoryMap,
    mappings: Vec<MappingInfo>,
    images: Vec<Image>,
    /// Bytes that may still be read.
    budget: usize,
    context: Box<UnwindContext<usize>>,
}

/// Visits the frames of a stack, innermost first.
pub(crate) fn walk(mm: &MemoryMap, registers: &Registers, visit: &mut Visit<'_>) {
    let mut walk = Walk {
        mm,
        mappings: mm.mappings(),
        images: Vec::new(),
        budget: MOST_BYTES,
        context: Box::new(UnwindContext::new()),
    };
    let mut at = Step { registers: *registers, found: Found::Registers, interrupted: true };
    for _ in 0..MOST_FRAMES {
        // A call may be its function's last instruction: then the return address lies behind the function.
        let code = if at.interrupted { at.registers.rip } else { at.registers.rip.wrapping_sub(1) };
        let image = walk.image(code);
        if visit(walk.frame(&at, code, image)).is_break() {
            return;
        }
        let next = walk.by_table(&at.registers, code, image).or_else(|| walk.by_frame_pointer(&at.registers));
        let Some(next) = next else { return };
        at = next;
    }
}

impl Walk<'_> {
    /// The image that `code` lies in.
    fn image(&mut self, code: u64) -> Option<usize> {
        if let Some(known) = self.images.iter().position(|image| image.contains(code)) {
            return Some(known);
        }
        let image = Image::find(self.mm, &self.mappings, code, &mut self.budget)?;
        self.images.push(image);
        Some(self.images.len() - 1)
    }

    /// What is shown of a frame.
    fn frame(&mut self, at: &Step, code: u64, image: Option<usize>) -> StackFrame {
        let address = at.registers.rip;
        let mut frame = StackFrame::bare(UserAddr(address), at.found);
        let Some(image) = image.and_then(|index| self.images.get_mut(index)) else { return frame };
        frame.module = Some(Place { name: image.name().to_vec(), offset: image.offset(address) });
        // The instruction's function, and how far behind its beginning the frame goes on.
        frame.symbol = image
            .symbol(self.mm, code, &mut self.budget)
            .map(|(name, start)| Place { name, offset: address.wrapping_sub(start) });
        frame
    }

    /// A step by the unwind table of the image.
    fn by_table(&mut self, registers: &Registers, code: u64, image: Option<usize>) -> Option<Step> {
        let tables = self.images.get(image?)?.tables()?;
        let mm = self.mm;
        let read = |at: UserAddr, to: &mut [u8]| mm.read(at, to).is_ok();
        let (registers, interrupted) = tables.step(&mut self.context, registers, code, &read)?;
        Some(Step { registers, found: Found::UnwindTable, interrupted })
    }

    /// A step by the frame pointer.
    fn by_frame_pointer(&self, registers: &Registers) -> Option<Step> {
        let read = |at: UserAddr, to: &mut [u8]| self.mm.read(at, to).is_ok();
        let registers = walk::step_by_frame_pointer(registers, &read)?;
        Some(Step { registers, found: Found::FramePointer, interrupted: false })
    }
}
