//! The monitor's own image, as the loader mapped it: what of it is constant, and whether it still is.
//!
//! Text and constants are private mappings of a file. A page of them that somebody has stored to, whatever the means
//! (a debugger, /proc/PID/mem, a lifted protection), is no longer the file's but a copy of the process's own, and the host's
//! page map tells that (Documentation/admin-guide/mm/pagemap.rst, bit 61). So a check reads eight bytes a page and none
//! of the text, which would make it resident; a page that is a copy is compared with the file. Constants that
//! the loader relocated are the process's own from the start: they are digested, as is what has no file to compare with.

use super::corruption::Corruption;
use super::sealed::{Sealing, seal};
use crate::addr::PAGE_SIZE;
use crate::memory::{raw, read_at, read_whole};
use rustix::io::Errno;
use std::ffi::{CStr, c_int, c_void};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::OnceLock;

const PAGE: usize = 4096;
const _: () = assert!(PAGE as u64 == PAGE_SIZE);

/// A constant part of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// What it is, as a report names it.
    pub(super) name: String,
    /// Its whole pages in the monitor's address space.
    pub(super) pages: Range<usize>,
    /// Where they lie in the executable's file; `None`: they are not to be compared with it.
    pub(super) offset: Option<u64>,
}

/// The constant parts of the executable and of the libraries that are loaded now.
pub(super) fn segments() -> Vec<Segment> {
    let mut found = Vec::new();
    // SAFETY: the callback takes the pointer for what it is, during the call only.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

/// Looks at one loaded object.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
    // SAFETY: `segments` passes a vector that nobody else uses meanwhile.
    let found = unsafe { &mut *found.cast::<Vec<Segment>>() };
    // SAFETY: the loader's structure is valid during the call.
    let info = unsafe { &*info };
    let headers = if info.dlpi_phdr.is_null() {
        &[]
    } else {
        // SAFETY: the loader says where an object's program headers are, and how many.
        unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) }
    };
    let name = if info.dlpi_name.is_null() {
        String::new()
    } else {
        // SAFETY: a name that is there is a string of the loader's.
        unsafe { CStr::from_ptr(info.dlpi_name) }.to_string_lossy().into_owned()
    };
    // The host's own vDSO is its own affair.
    if !name.starts_with("linux-vdso") && !name.starts_with("linux-gate") {
        found.extend(headers.iter().filter_map(|header| segment(info.dlpi_addr, &name, header)));
    }
    0
}

fn segment(base: u64, object: &str, header: &libc::Elf64_Phdr) -> Option<Segment> {
    let start = usize::try_from(base.wrapping_add(header.p_vaddr)).ok()?;
    let end = start.checked_add(usize::try_from(header.p_memsz).ok()?)?;
    let (of, is_program) = if object.is_empty() { ("the monitor", true) } else { (object, false) };
    let (what, end) = match header.p_type {
        libc::PT_LOAD if header.p_flags & libc::PF_W == 0 => {
            let what = if header.p_flags & libc::PF_X != 0 { "text" } else { "constants" };
            (what, end.next_multiple_of(PAGE))
        }
        // The loader makes whole pages of it read-only, and leaves what shares the last one with variables.
        libc::PT_GNU_RELRO => ("relocated constants", end / PAGE * PAGE),
        _ => return None,
    };
    let pages = start / PAGE * PAGE..end;
    let in_file = is_program && header.p_type == libc::PT_LOAD;
    let offset = in_file.then(|| header.p_offset / PAGE_SIZE * PAGE_SIZE);
    (!pages.is_empty()).then(|| Segment { name: format!("{what} of {of}"), pages, offset })
}

/// Seals the constant parts of the executable and of its libraries, where the host can; the loader has made them
/// read-only. Done once, whoever asks: what is loaded later is checked, and not sealed.
///
/// Nothing is loaded to or unloaded from these addresses for as long as the process lives, so nobody misses the right to
/// change them. A debugger is not kept from setting breakpoints by it.
pub fn seal_image() -> Sealing {
    static SEALED: OnceLock<Sealing> = OnceLock::new();
    *SEALED.get_or_init(|| {
        let seal = |segment: Segment| {
            // SAFETY: text, constants and relocated constants of loaded objects, which are never unloaded.
            unsafe { seal(segment.pages.start, segment.pages.len()) }
        };
        let worst = segments().into_iter().map(seal).filter(|&sealing| sealing == Sealing::ReadOnly).count();
        if worst == 0 { Sealing::Sealed } else { Sealing::ReadOnly }
    })
}

/// Has the host map all of the executable's constant parts now, a page table's entry each: for a process that is started ahead of its
/// work, which would meet them one fault after another.
pub fn load_image() {
    for segment in segments() {
        let start: *mut c_void = ptr::with_exposed_provenance_mut(segment.pages.start);
        // SAFETY: populating changes no contents. A host that cannot (before Linux 5.14) leaves it to the faults.
        unsafe { libc::madvise(start, segment.pages.len(), libc::MADV_POPULATE_READ) };
    }
}

/// Tells whether the pages of a segment are still the file's, or at least hold what it holds.
pub(super) fn check(segment: &Segment, offset: u64) -> Result<(), Corruption> {
    let Some(own) = own_pages(&segment.pages) else { return Ok(()) };
    for page in own {
        let address = segment.pages.start + page * PAGE;
        let (mut expected, mut actual) = ([0; PAGE], [0; PAGE]);
        let in_file = offset + (page * PAGE) as u64;
        if executable().and_then(|file| read_page(file, in_file, &mut expected)).is_err() {
            continue;
        }
        // SAFETY: the image stays mapped; the buffer is a page.
        let read = unsafe { raw::copy(actual.as_mut_ptr(), ptr::with_exposed_provenance(address), PAGE) };
        if read.is_err() || expected != actual {
            let name = format!("{} (page {page})", segment.name);
            return Err(Corruption::of_bytes(name, address, &expected, &actual));
        }
    }
    Ok(())
}

/// The pages of a range that are copies of the process's own, by index; `None` where the host does not tell.
fn own_pages(pages: &Range<usize>) -> Option<Vec<usize>> {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const OF_FILE: u64 = 1 << 61;
    let map = File::open("/proc/self/pagemap").ok()?;
    let mut bytes = vec![0; pages.len() / PAGE * 8];
    read_whole(&map, &mut bytes, (pages.start / PAGE * 8) as u64)?;
    let (words, _) = bytes.as_chunks::<8>();
    let is_own = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        word & (PRESENT | SWAPPED) != 0 && word & OF_FILE == 0
    };
    Some((0..).zip(words).filter(|(_, word)| is_own(word)).map(|(page, _)| page).collect())
}

fn executable() -> io::Result<&'static File> {
    static FILE: OnceLock<Result<File, io::ErrorKind>> = OnceLock::new();
    let file = FILE.get_or_init(|| File::open("/proc/self/exe").map_err(|error| error.kind()));
    file.as_ref().map_err(|&kind| kind.into())
}

/// Reads a page of a file; what lies behind its end is zeroes, as in a mapping.
fn read_page(file: &File, offset: u64, to: &mut [u8; PAGE]) -> io::Result<()> {
    let mut done = 0;
    while done < PAGE {
        match read_at(file, &mut to[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
