//! Builds ELF images byte by byte, as wrong as a test wants them.

/// A program header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) file_size: u64,
    pub(super) memory_size: u64,
    pub(super) alignment: u64,
}

pub(super) const LOAD: u32 = 1;
pub(super) const INTERP: u32 = 3;
pub(super) const GNU_STACK: u32 = 0x6474_e551;
pub(super) const R: u32 = 4;
pub(super) const W: u32 = 2;
pub(super) const X: u32 = 1;

/// A loaded part whose bytes in the file and in memory are as many.
pub(super) fn load(flags: u32, offset: u64, address: u64, size: u64) -> Part {
    Part { kind: LOAD, flags, offset, address, file_size: size, memory_size: size, alignment: 4096 }
}

/// An ELF image.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) class: u8,
    pub(super) data: u8,
    pub(super) kind: u16,
    pub(super) machine: u16,
    pub(super) entry: u64,
    pub(super) headers_offset: u64,
    pub(super) header_size: u16,
    pub(super) header_count: Option<u16>,
    pub(super) parts: Vec<Part>,
    /// Bytes by offset.
    pub(super) contents: Vec<(u64, Vec<u8>)>,
    /// The file's size; what no contents fill is `#`.
    pub(super) size: u64,
}

impl Image {
    /// A program at fixed addresses: text at 0x401000, data with zeros behind it at 0x403100.
    pub(super) fn fixed() -> Self {
        Self {
            class: 2,
            data: 1,
            kind: 2,
            machine: 62,
            entry: 0x40_1010,
            headers_offset: 64,
            header_size: 56,
            header_count: None,
            parts: vec![
                load(R, 0, 0x40_0000, 0x200),
                load(R | X, 0x1000, 0x40_1000, 0x800),
                Part { memory_size: 0x3000, ..load(R | W, 0x2100, 0x40_3100, 0x400) },
            ],
            contents: vec![(0x1010, b"text".to_vec()), (0x2100, b"data".to_vec())],
            size: 0x2600,
        }
    }

    /// The same, position-independent.
    pub(super) fn relocatable() -> Self {
        let mut image = Self { kind: 3, entry: 0x1010, ..Self::fixed() };
        image.parts.iter_mut().for_each(|part| part.address -= 0x40_0000);
        image
    }

    /// Asks for an interpreter; its name is put at 0x180.
    pub(super) fn with_interpreter(mut self, name: &[u8]) -> Self {
        let size = name.len() as u64;
        self.parts.insert(0, Part { kind: INTERP, ..load(R, 0x180, 0x180, size) });
        self.contents.push((0x180, name.to_vec()));
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![b'#'; usize::try_from(self.size).unwrap()];
        let mut put = |offset: u64, content: &[u8]| {
            for (at, byte) in (usize::try_from(offset).unwrap_or(usize::MAX)..).zip(content) {
                if let Some(place) = bytes.get_mut(at) {
                    *place = *byte;
                }
            }
        };
        let mut header = vec![0x7f, b'E', b'L', b'F', self.class, self.data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        header.extend(self.kind.to_le_bytes());
        header.extend(self.machine.to_le_bytes());
        header.extend(1_u32.to_le_bytes());
        header.extend(self.entry.to_le_bytes());
        header.extend(self.headers_offset.to_le_bytes());
        header.extend([0; 8 + 4]);
        header.extend(64_u16.to_le_bytes());
        header.extend(self.header_size.to_le_bytes());
        let count = self.header_count.unwrap_or(u16::try_from(self.parts.len()).unwrap());
        header.extend(count.to_le_bytes());
        header.extend([0; 6]);
        put(0, &header);
        for (number, part) in (0..).zip(&self.parts) {
            let mut entry = part.kind.to_le_bytes().to_vec();
            entry.extend(part.flags.to_le_bytes());
            for word in [part.offset, part.address, part.address, part.file_size, part.memory_size, part.alignment] {
                entry.extend(word.to_le_bytes());
            }
            put(self.headers_offset.saturating_add(number * 56), &entry);
        }
        for (offset, content) in &self.contents {
            put(*offset, content);
        }
        bytes
    }
}
