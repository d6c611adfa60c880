//! ELF headers of programs and their interpreters: everything is checked here, before anything is mapped.
//!
//! Linux trusts more (it maps what it is told and lets the program crash); here each lie has its own [`LoadError`].

use super::LoadError;
use super::file::{ImageFile, read_exactly};
use object::LittleEndian;
use object::elf::{
    ELFCLASS32, ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_386, EM_AARCH64, EM_ARM, EM_LOONGARCH, EM_MIPS, EM_PPC, EM_PPC64,
    EM_RISCV, EM_S390, EM_SPARCV9, EM_X86_64, ET_CORE, ET_DYN, ET_EXEC, ET_REL, FileHeader64, PF_R, PF_W, PF_X,
    PT_GNU_STACK, PT_INTERP, PT_LOAD, ProgramHeader64,
};
use vmm::addr::{PAGE_SIZE, USER_END};
use vmm::memory::Access;

type Header = FileHeader64<LittleEndian>;
type ProgramHeader = ProgramHeader64<LittleEndian>;
const LE: LittleEndian = LittleEndian;

/// Bytes of an ELF header.
const HEADER_BYTES: usize = 64;
/// Bytes of a program header.
const PROGRAM_HEADER_BYTES: usize = 56;
/// The most bytes of program headers that Linux reads.
const MAX_PROGRAM_HEADERS: usize = 65536;
/// The longest interpreter path, with its NUL (PATH_MAX).
const MAX_INTERPRETER: u64 = 4096;

/// How a program's addresses are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As they are (ET_EXEC).
    Fixed,
    /// Relative to wherever it is loaded (ET_DYN).
    Relocatable,
}

/// A segment that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) address: u64,
    pub(super) memory_size: u64,
    pub(super) offset: u64,
    pub(super) file_size: u64,
    pub(super) access: Access,
}

impl Segment {
    /// The first page's address.
    pub(super) fn page_start(&self) -> u64 {
        self.address & !(PAGE_SIZE - 1)
    }

    /// One past the last byte in memory; checked not to wrap.
    pub(super) fn end(&self) -> u64 {
        self.address + self.memory_size
    }

    /// One past the last byte from the file.
    pub(super) fn file_end(&self) -> u64 {
        self.address + self.file_size
    }
}

/// A checked ELF program.
#[derive(Clone, Debug)]
pub(super) struct Elf {
    pub(super) kind: Kind,
    pub(super) entry: u64,
    /// In file order; at least one, none empty, none overlapping.
    pub(super) segments: Vec<Segment>,
    pub(super) interpreter: Option<Vec<u8>>,
    pub(super) executable_stack: bool,
    /// The largest alignment that a segment asks for: a power of two, at least a page.
    pub(super) alignment: u64,
    /// Where the program headers are in memory, if a segment has them (AT_PHDR).
    pub(super) headers_address: Option<u64>,
    pub(super) headers_count: u16,
}

impl Elf {
    /// The lowest page and the end of the highest.
    pub(super) fn span(&self) -> (u64, u64) {
        let start = self.segments.iter().map(Segment::page_start).min().unwrap_or(0);
        let end = self.segments.iter().map(Segment::end).max().unwrap_or(0);
        (start, end.next_multiple_of(PAGE_SIZE))
    }

    /// Bytes that are certainly written or zeroed privately.
    pub(super) fn writable_bytes(&self) -> u64 {
        self.segments
            .iter()
            .filter(|segment| segment.access.contains(Access::WRITE))
            .map(|segment| segment.memory_size)
            .sum()
    }
}

/// Tells whether a file's first bytes are those of an ELF file.
pub(super) fn is_elf(head: &[u8]) -> bool {
    head.starts_with(&ELFMAG)
}

/// Reads and checks the headers of an ELF file.
pub(super) fn parse(file: &dyn ImageFile) -> Result<Elf, LoadError> {
    let size = file.size().map_err(LoadError::Read)?;
    let mut bytes = [0; HEADER_BYTES];
    let read = file.read_at(0, &mut bytes).map_err(LoadError::Read)?;
    if !is_elf(&bytes[..read]) {
        return Err(LoadError::UnknownFormat);
    }
    // The identification says what the rest means, so it is judged even if the rest is cut off.
    check_identification(&bytes[..read])?;
    if read < HEADER_BYTES {
        return Err(LoadError::Truncated("its ELF header does"));
    }
    let (header, _) = object::pod::from_bytes::<Header>(&bytes)
        .map_err(|()| LoadError::Malformed("its ELF header cannot be read"))?;
    let kind = match header.e_type.get(LE) {
        ET_EXEC => Kind::Fixed,
        ET_DYN => Kind::Relocatable,
        ET_REL => return Err(LoadError::NotAProgram("an object file")),
        ET_CORE => return Err(LoadError::NotAProgram("a core dump")),
        _ => return Err(LoadError::NotAProgram("of an unknown type")),
    };
    let table = read_program_headers(file, header)?;
    let (headers, _) = object::pod::slice_from_bytes::<ProgramHeader>(&table, usize::from(header.e_phnum.get(LE)))
        .map_err(|()| LoadError::Malformed("its program headers cannot be read"))?;

    let mut elf = Elf {
        kind,
        entry: header.e_entry.get(LE),
        segments: Vec::new(),
        interpreter: None,
        executable_stack: false,
        alignment: PAGE_SIZE,
        headers_address: None,
        headers_count: header.e_phnum.get(LE),
    };
    for entry in headers {
        match entry.p_type.get(LE) {
            PT_LOAD => elf.add_segment(entry, size, header.e_phoff.get(LE))?,
            PT_INTERP if elf.interpreter.is_none() => elf.interpreter = Some(read_interpreter(file, entry)?),
            PT_GNU_STACK => elf.executable_stack = entry.p_flags.get(LE) & PF_X != 0,
            _ => {}
        }
    }
    elf.check_segments()?;
    Ok(elf)
}

impl Elf {
    fn add_segment(&mut self, header: &ProgramHeader, file_bytes: u64, headers_offset: u64) -> Result<(), LoadError> {
        let segment = Segment {
            address: header.p_vaddr.get(LE),
            memory_size: header.p_memsz.get(LE),
            offset: header.p_offset.get(LE),
            file_size: header.p_filesz.get(LE),
            access: access(header.p_flags.get(LE)),
        };
        if segment.file_size > segment.memory_size {
            return Err(LoadError::Malformed("a segment has more bytes in the file than in memory"));
        }
        if segment.memory_size == 0 {
            return Ok(());
        }
        let end = segment.address.checked_add(segment.memory_size).filter(|end| *end <= USER_END);
        if end.is_none() {
            return Err(LoadError::OutOfRange { address: segment.address, size: segment.memory_size });
        }
        if segment.file_size > 0 {
            let file_end = segment.offset.checked_add(segment.file_size);
            if file_end.is_none_or(|end| end > file_bytes) {
                return Err(LoadError::Truncated("a segment does"));
            }
            if segment.address % PAGE_SIZE != segment.offset % PAGE_SIZE {
                return Err(LoadError::Malformed("a segment's address and file offset differ within a page"));
            }
        }
        let in_segment = headers_offset.checked_sub(segment.offset).filter(|at| *at < segment.file_size);
        if let (None, Some(at)) = (self.headers_address, in_segment) {
            self.headers_address = Some(segment.address + at);
        }
        let alignment = header.p_align.get(LE);
        if alignment.is_power_of_two() && alignment > self.alignment {
            self.alignment = alignment;
        }
        self.segments.push(segment);
        Ok(())
    }

    fn check_segments(&self) -> Result<(), LoadError> {
        if self.segments.is_empty() {
            return Err(LoadError::Malformed("it has nothing to load"));
        }
        let mut by_address: Vec<&Segment> = self.segments.iter().collect();
        by_address.sort_by_key(|segment| segment.address);
        if let Some(pair) = by_address.windows(2).find(|pair| pair[0].end() > pair[1].address) {
            return Err(LoadError::Overlap(pair[1].address));
        }
        let (start, end) = self.span();
        // The alignment may cost as much again when a place is looked for.
        if end > USER_END || self.alignment >= USER_END / 4 || end - start > USER_END / 2 {
            return Err(LoadError::OutOfRange { address: start, size: end - start });
        }
        if self.entry >= USER_END {
            return Err(LoadError::Malformed("its entry point is no address of a program"));
        }
        Ok(())
    }
}

fn access(flags: u32) -> Access {
    let mut access = Access::empty();
    access.set(Access::READ, flags & PF_R != 0);
    access.set(Access::WRITE, flags & PF_W != 0);
    access.set(Access::EXEC, flags & PF_X != 0);
    access
}

/// Checks the identification and the machine, from as much of the header as there is.
fn check_identification(head: &[u8]) -> Result<(), LoadError> {
    let truncated = LoadError::Truncated("its ELF header does");
    let [_, _, _, _, class, data, ..] = head else { return Err(truncated) };
    let machine = match head.get(18..20) {
        Some(&[low, high]) if *data == ELFDATA2LSB => Some(u16::from_le_bytes([low, high])),
        Some(&[high, low]) => Some(u16::from_le_bytes([low, high])),
        _ => None,
    };
    match (*class, machine) {
        (ELFCLASS32, None | Some(EM_386 | EM_X86_64)) => return Err(LoadError::Bits32),
        (ELFCLASS32 | ELFCLASS64, Some(machine)) if machine != EM_X86_64 => {
            return Err(LoadError::ForeignArchitecture(machine_name(machine)));
        }
        (ELFCLASS64, _) => {}
        _ => return Err(LoadError::Malformed("it has neither 32 nor 64 bits")),
    }
    if *data != ELFDATA2LSB {
        return Err(LoadError::ForeignArchitecture("a big-endian processor".into()));
    }
    if machine.is_none() { Err(truncated) } else { Ok(()) }
}

fn machine_name(machine: u16) -> String {
    match machine {
        EM_386 => "32-bit x86".into(),
        EM_ARM => "32-bit Arm".into(),
        EM_AARCH64 => "64-bit Arm (aarch64)".into(),
        EM_RISCV => "RISC-V".into(),
        EM_PPC => "32-bit PowerPC".into(),
        EM_PPC64 => "64-bit PowerPC".into(),
        EM_S390 => "IBM Z (s390)".into(),
        EM_MIPS => "MIPS".into(),
        EM_LOONGARCH => "LoongArch".into(),
        EM_SPARCV9 => "64-bit SPARC".into(),
        other => format!("an unknown processor (ELF machine {other})"),
    }
}

/// Reads the table of program headers into 8-byte aligned memory.
fn read_program_headers(file: &dyn ImageFile, header: &Header) -> Result<Vec<u8>, LoadError> {
    let count = usize::from(header.e_phnum.get(LE));
    let bytes = count * PROGRAM_HEADER_BYTES;
    if usize::from(header.e_phentsize.get(LE)) != PROGRAM_HEADER_BYTES {
        return Err(LoadError::Malformed("its program headers have a wrong size"));
    }
    if count == 0 || bytes > MAX_PROGRAM_HEADERS {
        return Err(LoadError::Malformed("it has no program headers, or too many"));
    }
    let mut table = vec![0; bytes];
    read_exactly(file, header.e_phoff.get(LE), &mut table, "its program headers do")?;
    Ok(table)
}

fn read_interpreter(file: &dyn ImageFile, header: &ProgramHeader) -> Result<Vec<u8>, LoadError> {
    let size = header.p_filesz.get(LE);
    if !(2..=MAX_INTERPRETER).contains(&size) {
        return Err(LoadError::Malformed("its interpreter's name is empty or too long"));
    }
    let mut name = vec![0; usize::try_from(size).unwrap_or(0)];
    read_exactly(file, header.p_offset.get(LE), &mut name, "its interpreter's name does")?;
    if name.pop() != Some(0) {
        return Err(LoadError::Malformed("its interpreter's name has no end"));
    }
    // What follows an earlier NUL is not part of the name.
    let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    name.truncate(len);
    Ok(name)
}
