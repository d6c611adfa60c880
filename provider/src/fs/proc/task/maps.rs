//! maps, smaps and smaps_rollup.

use super::Shown;
use crate::errno::Errno;
use crate::fs::{Inode, Location};
use crate::mm::{MappingInfo, MappingName, MemoryMap, Sharing, VmaFlags};
use rustix::fs::{major, minor};
use std::io::Write;
use std::sync::Arc;
use vmm::addr::PAGE_SIZE;
use vmm::memory::Access;

/// Where the last column begins, without the space before it (fs/proc/task_mmu.c: 25 + 6 × 8 − 1).
const NAME_COLUMN: usize = 72;
/// The size of a large page.
const HUGE_PAGE: u64 = 2 << 20;

/// `maps`
pub(super) fn render(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    if let Some(mm) = shown.task.mm() {
        mm.mappings().iter().for_each(|mapping| line(mapping, &mut out));
    }
    Ok(out)
}

/// `numa_maps`: everything lies on the one node that there is.
pub(super) fn by_node(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    let Some(mm) = shown.task.mm() else { return Ok(out) };
    for mapping in mm.mappings() {
        let pages = mm.space().resident(mapping.range) / PAGE_SIZE;
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{:08x} default", mapping.range.start.0);
        match &mapping.name {
            MappingName::File(_) => {
                out.extend(b" file=");
                out.extend(name(&mapping.name));
            }
            MappingName::Heap => out.extend(b" heap"),
            MappingName::Stack => out.extend(b" stack"),
            MappingName::Anonymous
            | MappingName::Special(_)
            | MappingName::SharedAnonymous
            | MappingName::Segment(_) => {}
        }
        if pages > 0 {
            let kind = if matches!(mapping.name, MappingName::File(_)) { "mapped" } else { "anon" };
            let _ = write!(out, " {kind}={pages} N0={pages} kernelpagesize_kB=4");
        }
        out.push(b'\n');
    }
    Ok(out)
}

/// Appends a mapping's line.
fn line(mapping: &MappingInfo, out: &mut Vec<u8>) {
    let start = out.len();
    let letter = |access: Access, letter: u8| if mapping.access.contains(access) { letter } else { b'-' };
    let (device, inode) = identity(&mapping.name);
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{:08x}-{:08x} ", mapping.range.start.0, mapping.range.end.0);
    out.extend([letter(Access::READ, b'r'), letter(Access::WRITE, b'w'), letter(Access::EXEC, b'x')]);
    out.push(if mapping.sharing == Sharing::Shared { b's' } else { b'p' });
    let _ = write!(out, " {:08x} {:02x}:{:02x} {inode} ", mapping.offset, major(device), minor(device));
    let name = name(&mapping.name);
    if !name.is_empty() {
        out.resize(out.len().max(start + NAME_COLUMN), b' ');
        out.push(b' ');
        out.extend(name);
    }
    out.push(b'\n');
}

/// The device and inode of the file; shared anonymous memory has those of its hidden file.
pub(super) fn identity(name: &MappingName) -> (u64, u64) {
    let MappingName::File(file) = name else { return (0, 0) };
    let inode: &Arc<dyn Inode> = Location::inode(file.location());
    inode.stat().map_or((0, 0), |stat| (stat.device, stat.inode))
}

/// The last column. A newline in a path is escaped.
fn name(name: &MappingName) -> Vec<u8> {
    escape_newlines(&plain_name(name))
}

/// What a mapping is called; empty for one without a name.
pub(super) fn plain_name(name: &MappingName) -> Vec<u8> {
    match name {
        MappingName::Anonymous => Vec::new(),
        MappingName::File(file) => file.location().path(),
        MappingName::Heap => b"[heap]".to_vec(),
        MappingName::Stack => b"[stack]".to_vec(),
        MappingName::Special(name) => name.as_bytes().to_vec(),
        MappingName::SharedAnonymous => b"/dev/zero (deleted)".to_vec(),
        MappingName::Segment(key) => format!("/SYSV{key:08x} (deleted)").into_bytes(),
    }
}

fn escape_newlines(path: &[u8]) -> Vec<u8> {
    path.iter()
        .flat_map(|byte| if *byte == b'\n' { &b"\\012"[..] } else { std::slice::from_ref(byte) })
        .copied()
        .collect()
}

/// Bytes of one or several mappings by kind, as smaps counts them.
#[derive(Clone, Copy, Debug, Default)]
struct Resident {
    rss: u64,
    clean: u64,
    dirty: u64,
    anonymous: u64,
    locked: u64,
}

impl Resident {
    fn of(mm: &MemoryMap, mapping: &MappingInfo) -> Self {
        let rss = mm.space().resident(mapping.range);
        // A file's pages count as clean, anonymous ones as dirty: neither bit carries information here.
        let file = matches!(mapping.name, MappingName::File(_) | MappingName::Special(_));
        let locked = if mapping.flags.contains(VmaFlags::LOCKED) { rss } else { 0 };
        let (clean, dirty) = if file { (rss, 0) } else { (0, rss) };
        let anonymous = if mapping.sharing == Sharing::Private { dirty } else { 0 };
        Self { rss, clean, dirty, anonymous, locked }
    }

    fn add(&mut self, other: Self) {
        self.rss += other.rss;
        self.clean += other.clean;
        self.dirty += other.dirty;
        self.anonymous += other.anonymous;
        self.locked += other.locked;
    }

    /// Appends the lines that both files have, in Linux's order. Every page counts as private: the sandbox does not know who else
    /// maps it.
    fn show(self, rollup: Rollup, out: &mut Vec<u8>) {
        let mut amount = |name: &str, bytes: u64| {
            // Writing to a Vec cannot fail.
            let _ = writeln!(out, "{:<16}{:>8} kB", format!("{name}:"), bytes / 1024);
        };
        amount("Rss", self.rss);
        amount("Pss", self.rss);
        amount("Pss_Dirty", self.dirty);
        if rollup == Rollup::Yes {
            amount("Pss_Anon", self.anonymous);
            amount("Pss_File", self.clean);
            amount("Pss_Shmem", self.dirty - self.anonymous);
        }
        amount("Shared_Clean", 0);
        amount("Shared_Dirty", 0);
        amount("Private_Clean", self.clean);
        amount("Private_Dirty", self.dirty);
        amount("Referenced", self.rss);
        amount("Anonymous", self.anonymous);
        for name in ["KSM", "LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"] {
            amount(name, 0);
        }
        for name in ["Shared_Hugetlb", "Private_Hugetlb", "Swap", "SwapPss"] {
            amount(name, 0);
        }
        amount("Locked", self.locked);
    }
}

/// Whether it is the sum of all mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rollup {
    Yes,
    No,
}

/// `smaps`
pub(super) fn detailed(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    let Some(mm) = shown.task.mm() else { return Ok(out) };
    for mapping in mm.mappings() {
        line(&mapping, &mut out);
        let kib = |bytes: u64| bytes / 1024;
        // Writing to a Vec cannot fail.
        let _ = writeln!(out, "Size:           {:>8} kB", kib(mapping.range.len()));
        let _ = writeln!(out, "KernelPageSize: {:>8} kB", kib(PAGE_SIZE));
        let _ = writeln!(out, "MMUPageSize:    {:>8} kB", kib(PAGE_SIZE));
        Resident::of(&mm, &mapping).show(Rollup::No, &mut out);
        let _ = writeln!(out, "THPeligible:    {:>8}", u32::from(takes_huge_pages(&mapping)));
        let _ = writeln!(out, "VmFlags: {}", flags(&mapping));
    }
    Ok(out)
}

/// Tells whether the mapping contains a whole block that may get a large page.
fn takes_huge_pages(mapping: &MappingInfo) -> bool {
    let first = mapping.range.start.0.next_multiple_of(HUGE_PAGE);
    matches!(mapping.name, MappingName::Anonymous | MappingName::Heap)
        && !mapping.flags.contains(VmaFlags::NOHUGEPAGE)
        && mapping.range.end.0 >= first.saturating_add(HUGE_PAGE)
}

/// The two-letter flags of `show_smap_vma_flags`, each with a space behind it.
fn flags(mapping: &MappingInfo) -> String {
    let (access, may, shared) = (mapping.access, mapping.max_access, mapping.sharing == Sharing::Shared);
    let has = |flag| mapping.flags.contains(flag);
    let accountable = !shared && may.contains(Access::WRITE) && access.contains(Access::WRITE);
    let all = [
        ("rd", access.contains(Access::READ)),
        ("wr", access.contains(Access::WRITE)),
        ("ex", access.contains(Access::EXEC)),
        // A mapping of a file that is open for reading only is shared in name (do_mmap).
        ("sh", shared && may.contains(Access::WRITE)),
        ("mr", may.contains(Access::READ)),
        ("mw", may.contains(Access::WRITE)),
        ("me", may.contains(Access::EXEC)),
        ("ms", shared),
        ("gd", has(VmaFlags::GROWSDOWN)),
        ("lo", has(VmaFlags::LOCKED)),
        ("sr", has(VmaFlags::SEQUENTIAL)),
        ("rr", has(VmaFlags::RANDOM)),
        ("dc", has(VmaFlags::DONTFORK)),
        ("de", has(VmaFlags::SPECIAL)),
        ("lf", has(VmaFlags::LOCK_ON_FAULT)),
        ("ac", accountable && !has(VmaFlags::NORESERVE)),
        ("nr", has(VmaFlags::NORESERVE)),
        ("wf", has(VmaFlags::WIPEONFORK)),
        ("dd", has(VmaFlags::DONTDUMP)),
        ("hg", has(VmaFlags::HUGEPAGE)),
        ("nh", has(VmaFlags::NOHUGEPAGE)),
    ];
    all.iter().filter(|(_, set)| *set).map(|(name, _)| format!("{name} ")).collect()
}

/// `smaps_rollup`
pub(super) fn summed(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    // Linux: ESRCH for a task without memory.
    let mm = shown.task.mm().ok_or(Errno::ESRCH)?;
    let mappings = mm.mappings();
    let mut sum = Resident::default();
    for mapping in &mappings {
        sum.add(Resident::of(&mm, mapping));
    }
    let start = mappings.first().map_or(0, |mapping| mapping.range.start.0);
    let end = mappings.last().map_or(0, |mapping| mapping.range.end.0);
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{start:08x}-{end:08x} ---p 00000000 00:00 0 ");
    out.resize(out.len().max(NAME_COLUMN), b' ');
    out.extend(b" [rollup]\n");
    sum.show(Rollup::Yes, &mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm::addr::{UserAddr, UserRange};

    fn mapping(name: MappingName) -> MappingInfo {
        MappingInfo {
            range: UserRange { start: UserAddr(0x40_0000), end: UserAddr(0x40_1000) },
            access: Access::READ | Access::WRITE,
            max_access: Access::all(),
            sharing: Sharing::Private,
            offset: 0,
            flags: VmaFlags::empty(),
            name,
        }
    }

    #[test]
    fn an_anonymous_mapping_ends_with_a_space() {
        let mut out = Vec::new();
        line(&mapping(MappingName::Anonymous), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "00400000-00401000 rw-p 00000000 00:00 0 \n");
    }

    #[test]
    fn a_name_stands_in_its_column() {
        let mut out = Vec::new();
        line(&mapping(MappingName::Heap), &mut out);
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line.find("[heap]"), Some(73));
        assert_eq!(line.len(), 80);
    }

    #[test]
    fn flags_are_linuxs_letters() {
        assert_eq!(flags(&mapping(MappingName::Heap)), "rd wr mr mw me ac ");
    }

    #[test]
    fn a_newline_in_a_path_cannot_forge_a_line() {
        assert_eq!(escape_newlines(b"/a\nb"), b"/a\\012b");
    }
}
