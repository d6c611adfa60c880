//! The floating-point part of a signal frame: an XSAVE area with Linux's marks in it (arch/x86/kernel/fpu/signal.c).

use crate::errno::Errno;
use crate::mm::MemoryMap;
use crate::task::CurrentTask;
use vmm::addr::UserAddr;
use vmm::pico::CpuState;

/// FP_XSTATE_MAGIC1: the area is more than an FXSAVE image.
const MAGIC1: u32 = 0x4650_5853;
/// FP_XSTATE_MAGIC2: behind the area, proof that nobody copied the FXSAVE image alone.
const MAGIC2: u32 = 0x4650_5845;
/// Bytes of an FXSAVE image.
const FXSAVE: usize = 512;
/// Bytes of the XSAVE header behind it.
const HEADER: usize = 64;
/// What XRSTOR's operand is aligned to (SDM volume 1, 13.4), and FXRSTOR's.
const XSAVE_ALIGNMENT: u64 = 64;
const FXSAVE_ALIGNMENT: u64 = 16;
/// Where MXCSR lies.
const MXCSR: usize = 24;
/// Where `struct _fpx_sw_bytes` lies, in the part of the image that software may use.
const SW: usize = 464;
/// The components x87 and SSE.
const LEGACY: u64 = 3;

/// Bytes that the state takes in a frame.
pub(super) fn frame_size(cpu: &dyn CpuState) -> usize {
    cpu.xsave_size().max(FXSAVE + HEADER) + 4
}

/// The thread's state as a frame has it.
pub(super) fn save(cpu: &mut dyn CpuState) -> Vec<u8> {
    let (area_size, total) = (cpu.xsave_size(), frame_size(cpu));
    let mut area = vec![0; total];
    cpu.save_xsave(&mut area[..area_size]);
    put32(&mut area, SW, MAGIC1);
    put32(&mut area, SW + 4, u32::try_from(total).unwrap_or(u32::MAX));
    put64(&mut area, SW + 8, cpu.xcr0());
    put32(&mut area, SW + 16, u32::try_from(total - 4).unwrap_or(u32::MAX));
    area[SW + 20..FXSAVE].fill(0);
    // x87 and SSE count as present even in their initial state, since the image shows them.
    let present = get64(&area, FXSAVE) | LEGACY;
    put64(&mut area, FXSAVE, present);
    put32(&mut area, total - 4, MAGIC2);
    area
}

/// Loads the state from a frame at `at`; NULL resets it. `EFAULT` if it cannot be read or the processor would refuse it.
pub(super) fn restore(task: &mut CurrentTask<'_>, at: UserAddr) -> Result<(), Errno> {
    if at.0 == 0 {
        task.frame.cpu.reset_xsave();
        return Ok(());
    }
    let mm = task.mm();
    let size = task.frame.cpu.xsave_size();
    let mut area = vec![0; size.max(FXSAVE + HEADER)];
    mm.read(at, &mut area[..FXSAVE])?;
    match extended_size(&mm, at, &area, size)? {
        Some((extended, features)) => {
            mm.read(at, &mut area[..extended])?;
            if !at.0.is_multiple_of(XSAVE_ALIGNMENT) || !acceptable(&area, task.frame.cpu.xcr0()) {
                return Err(Errno::EFAULT);
            }
            // Components that the marks do not claim start afresh (restore_fpregs_from_user's init_bv).
            let present = get64(&area, FXSAVE) & (features | LEGACY);
            put64(&mut area, FXSAVE, present);
        }
        None if !at.0.is_multiple_of(FXSAVE_ALIGNMENT) => return Err(Errno::EFAULT),
        None => {
            // A bare FXSAVE image: the rest starts afresh.
            area[FXSAVE..].fill(0);
            put64(&mut area, FXSAVE, LEGACY);
        }
    }
    if get32(&area, MXCSR) & !MXCSR_MASK != 0 {
        return Err(Errno::EFAULT);
    }
    task.frame.cpu.load_xsave(&area[..size]);
    Ok(())
}

/// The MXCSR bits that every processor with AVX has.
const MXCSR_MASK: u32 = 0xffff;

/// Bytes and components of the extended area, if the marks are right (check_xstate_in_sigframe).
fn extended_size(mm: &MemoryMap, at: UserAddr, image: &[u8], size: usize) -> Result<Option<(usize, u64)>, Errno> {
    let (magic1, extended, features, area) =
        (get32(image, SW), get32(image, SW + 4), get64(image, SW + 8), get32(image, SW + 16));
    let Ok(bytes) = usize::try_from(area) else { return Ok(None) };
    if magic1 != MAGIC1 || bytes < FXSAVE + HEADER || bytes > size || area > extended {
        return Ok(None);
    }
    let mut magic2 = [0; 4];
    let behind = at.checked_add(u64::from(area)).ok_or(Errno::EFAULT)?;
    mm.read(behind, &mut magic2)?;
    Ok((u32::from_le_bytes(magic2) == MAGIC2).then_some((bytes, features)))
}

/// Tells whether XRSTOR would take the header: no component outside XCR0, no compaction, the reserved bytes that its standard
/// form looks at zero (SDM volume 1, 13.8.1).
fn acceptable(area: &[u8], xcr0: u64) -> bool {
    let header = &area[FXSAVE..FXSAVE + HEADER];
    get64(header, 0) & !xcr0 == 0 && header[8..24].iter().all(|byte| *byte == 0)
}

fn get32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn get64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}
