//! The vDSO's image is what a dynamic linker expects, and gives the clock page's time when it runs in this process.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use guest::VDSO_IMAGE as VDSO;
use guest::chacha;
use guest::clock::{ClockKind, ClockPage, Line, ProcessorNumber, RATE_SHIFT, Record, rate_of_khz};
use guest::random::State;
use guest::vdso::Timespec;
use object::elf::{DT_SONAME, FileHeader64, PF_W, PT_DYNAMIC, PT_GNU_EH_FRAME, PT_LOAD, STB_GLOBAL, STB_WEAK};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, Sym};
use object::{Endianness, SymbolIndex};
use std::arch::asm;
use std::collections::BTreeMap;
use std::ptr;

const PAGE: usize = 4096;
/// The clock page and the image.
const ALL: usize = 3 * PAGE;
const NAMES: [&str; 6] = ["clock_getres", "clock_gettime", "getcpu", "getrandom", "gettimeofday", "time"];

fn elf() -> &'static FileHeader64<Endianness> {
    FileHeader64::parse(VDSO).expect("the image is an ELF file")
}

/// Returns each dynamic symbol's (value, binding, version).
fn symbols() -> BTreeMap<String, (u64, u8, String)> {
    let endian = Endianness::Little;
    let sections = elf().sections(endian, VDSO).expect("sections");
    let table = sections.symbols(endian, VDSO, object::elf::SHT_DYNSYM).expect("dynamic symbols");
    let versions = sections.versions(endian, VDSO).expect("versions").expect("the image has symbol versions");
    let mut found = BTreeMap::new();
    for (at, symbol) in table.iter().enumerate().skip(1) {
        let name = String::from_utf8(symbol.name(endian, table.strings()).unwrap().to_vec()).unwrap();
        let index = versions.version_index(endian, SymbolIndex(at));
        let version = versions.version(index).unwrap().map_or(&b""[..], |version| version.name());
        let version = String::from_utf8(version.to_vec()).unwrap();
        found.insert(name, (symbol.st_value(endian), symbol.st_bind(), version));
    }
    found
}

#[test]
fn one_segment_at_zero_that_is_never_written() {
    let endian = Endianness::Little;
    let headers = elf().program_headers(endian, VDSO).unwrap();
    let loads: Vec<_> = headers.iter().filter(|header| header.p_type(endian) == PT_LOAD).collect();
    assert_eq!(loads.len(), 1);
    assert_eq!((loads[0].p_vaddr(endian), loads[0].p_offset(endian)), (0, 0));
    assert_eq!(loads[0].p_filesz(endian), loads[0].p_memsz(endian));
    assert!(loads[0].p_memsz(endian) <= (ALL - PAGE) as u64);
    assert_eq!(loads[0].p_flags(endian) & PF_W, 0);
    assert!(headers.iter().any(|header| header.p_type(endian) == PT_DYNAMIC));
    assert!(headers.iter().any(|header| header.p_type(endian) == PT_GNU_EH_FRAME), "profilers could not unwind");
}

#[test]
fn soname_is_the_one_linkers_look_for_and_nothing_is_to_be_relocated() {
    let endian = Endianness::Little;
    let sections = elf().sections(endian, VDSO).unwrap();
    let (dynamic, strings) = sections.dynamic(endian, VDSO).unwrap().expect("a dynamic section");
    let strings = sections.strings(endian, VDSO, strings).unwrap();
    let entries: BTreeMap<u32, u64> =
        dynamic.iter().map(|entry| (entry.tag32(endian).unwrap(), entry.d_val(endian))).collect();
    let soname = u32::try_from(entries[&DT_SONAME]).unwrap();
    assert_eq!(strings.get(soname), Ok(&b"linux-vdso.so.1"[..]));
    for (tag, name) in [
        (object::elf::DT_NEEDED, "NEEDED"),
        (object::elf::DT_RELA, "RELA"),
        (object::elf::DT_REL, "REL"),
        (object::elf::DT_JMPREL, "JMPREL"),
        (object::elf::DT_TEXTREL, "TEXTREL"),
        (object::elf::DT_INIT, "INIT"),
    ] {
        assert!(!entries.contains_key(&tag), "the image has DT_{name}");
    }
}

#[test]
fn each_function_has_linux_name_a_weak_alias_and_the_version() {
    let symbols = symbols();
    for name in NAMES {
        let (value, binding, version) = &symbols[&format!("__vdso_{name}")];
        assert_eq!((*binding, version.as_str()), (STB_GLOBAL, "LINUX_2.6"), "{name}");
        let (alias, binding, version) = &symbols[name];
        assert_eq!((*binding, version.as_str()), (STB_WEAK, "LINUX_2.6"), "{name}");
        assert_eq!(alias, value, "{name}");
    }
    assert_eq!(symbols.len(), 2 * NAMES.len() + 1, "only the functions and the version: {symbols:?}");
}

/// The image mapped into this process behind a clock page.
struct Loaded {
    base: *mut u8,
    symbols: BTreeMap<String, (u64, u8, String)>,
}

type ClockCall = unsafe extern "C" fn(i32, *mut Timespec) -> i32;
type TimeCall = unsafe extern "C" fn(*mut i64) -> i64;
type DayCall = unsafe extern "C" fn(*mut Timespec, *mut [i32; 2]) -> i32;
type RandomCall = unsafe extern "C" fn(*mut u8, usize, u32, *mut State, usize) -> i64;
type CpuCall = unsafe extern "C" fn(*mut u32, *mut u32, *mut u8) -> i32;

impl Loaded {
    fn new() -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh anonymous mapping; nothing else is touched.
        let base = unsafe { libc::mmap(ptr::null_mut(), ALL, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        let base = base.cast::<u8>();
        // SAFETY: the mapping is longer than a page.
        let text = unsafe { base.add(PAGE) };
        // SAFETY: the image is at most two pages, and the target is fresh memory.
        unsafe { ptr::copy_nonoverlapping(VDSO.as_ptr(), text, VDSO.len()) };
        // SAFETY: the pages belong to the mapping above.
        let result = unsafe { libc::mprotect(text.cast(), ALL - PAGE, libc::PROT_READ | libc::PROT_EXEC) };
        assert_eq!(result, 0);
        Self { base, symbols: symbols() }
    }

    fn page(&self) -> &ClockPage {
        // SAFETY: the first page is zeroed or written through this type only, aligned, and lives as long as `self`.
        unsafe { &*self.base.cast::<ClockPage>() }
    }

    fn address(&self, name: &str) -> *const u8 {
        let offset = usize::try_from(self.symbols[name].0).unwrap();
        // SAFETY: symbols lie within the image.
        unsafe { self.base.add(PAGE + offset) }
    }

    fn clock_call(&self, name: &str) -> ClockCall {
        // SAFETY: the symbol is a function of this type.
        unsafe { std::mem::transmute::<*const u8, ClockCall>(self.address(name)) }
    }

    /// Calls the image's `clock_gettime`.
    fn clock_ns(&self, clock: i32) -> i64 {
        let mut time = Timespec { seconds: -1, fraction: -1 };
        // SAFETY: the pointer is good.
        let result = unsafe { self.clock_call("__vdso_clock_gettime")(clock, &mut time) };
        assert_eq!(result, 0, "clock {clock}");
        assert!((0..1_000_000_000).contains(&time.fraction));
        time.seconds * 1_000_000_000 + time.fraction
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and functions of it are called only through `&self`.
        unsafe { libc::munmap(self.base.cast(), ALL) };
    }
}

/// The host's time.
fn host_ns(clock: i32) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is good.
    assert_eq!(unsafe { libc::clock_gettime(clock, &mut time) }, 0);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// A record whose clocks are far from the host's, so that it shows where an answer came from.
fn record(anchor: u64) -> Record {
    let line = |base_ns| Line { base_ns, rate: rate_of_khz(1_000_000) };
    Record {
        anchor,
        horizon: 1 << 50,
        monotonic: line(5_000_000_000_000),
        raw: line(9_000_000_000_000),
        wall_offset: 1_000_000_000_000_000_000,
        boot_offset: 100_000_000_000_000,
        atomic_offset: 1_000_000_037_000_000_000,
        coarse_base_ns: 1_000,
        coarse_step_ns: 4_000_000,
        coarse_floor_ns: 0,
    }
}

#[test]
fn every_clock_of_the_page_is_answered_from_it() {
    let loaded = Loaded::new();
    loaded.page().publish(record);
    for (clock, kind) in [
        (libc::CLOCK_REALTIME, ClockKind::Wall),
        (libc::CLOCK_MONOTONIC, ClockKind::Monotonic),
        (libc::CLOCK_MONOTONIC_RAW, ClockKind::Raw),
        (libc::CLOCK_REALTIME_COARSE, ClockKind::WallCoarse),
        (libc::CLOCK_MONOTONIC_COARSE, ClockKind::MonotonicCoarse),
        (libc::CLOCK_BOOTTIME, ClockKind::Boot),
        (libc::CLOCK_TAI, ClockKind::Atomic),
    ] {
        let now = || i64::try_from(loaded.page().now(kind).unwrap()).unwrap();
        let (before, answer, after) = (now(), loaded.clock_ns(clock), now());
        assert!((before..=after).contains(&answer), "{kind:?}: {before} {answer} {after}");
    }
}

#[test]
fn what_the_page_does_not_answer_is_asked_of_the_kernel() {
    let loaded = Loaded::new();
    let check = |clock| {
        let (before, answer, after) = (host_ns(clock), loaded.clock_ns(clock), host_ns(clock));
        assert!((before..=after).contains(&answer), "clock {clock}: {before} {answer} {after}");
    };
    check(libc::CLOCK_MONOTONIC);
    check(libc::CLOCK_REALTIME);
    loaded.page().publish(record);
    check(libc::CLOCK_THREAD_CPUTIME_ID);
    check(libc::CLOCK_PROCESS_CPUTIME_ID);
    let mut time = Timespec { seconds: 0, fraction: 0 };
    // SAFETY: the pointer is good.
    let result = unsafe { loaded.clock_call("__vdso_clock_gettime")(1234, &mut time) };
    assert_eq!(result, -libc::EINVAL);
    // The line is behind its horizon.
    loaded.page().publish(|now| Record { anchor: now - 10, horizon: 5, ..record(now) });
    check(libc::CLOCK_MONOTONIC);
    // The counter was reset.
    loaded.page().publish(|now| Record { anchor: now + (1 << 52), ..record(now) });
    check(libc::CLOCK_MONOTONIC);
}

#[test]
fn resolutions_are_linux_own() {
    let loaded = Loaded::new();
    loaded.page().publish(record);
    let getres = loaded.clock_call("__vdso_clock_getres");
    for (clock, expected) in [(0, 1), (1, 1), (4, 1), (7, 1), (11, 1), (5, 4_000_000), (6, 4_000_000), (2, 1)] {
        let mut time = Timespec { seconds: -1, fraction: -1 };
        // SAFETY: the pointer is good.
        assert_eq!(unsafe { getres(clock, &mut time) }, 0);
        assert_eq!((time.seconds, time.fraction), (0, expected), "clock {clock}");
    }
    // SAFETY: null is allowed.
    assert_eq!(unsafe { getres(1, ptr::null_mut()) }, 0);
    // SAFETY: null is allowed.
    assert_eq!(unsafe { getres(1234, ptr::null_mut()) }, -libc::EINVAL);
}

#[test]
fn gettimeofday_and_time_agree_with_the_wall_clock() {
    let loaded = Loaded::new();
    loaded.page().publish(record);
    // SAFETY: the symbol is a function of this type.
    let gettimeofday = unsafe { std::mem::transmute::<*const u8, DayCall>(loaded.address("__vdso_gettimeofday")) };
    // SAFETY: the symbol is a function of this type.
    let time = unsafe { std::mem::transmute::<*const u8, TimeCall>(loaded.address("__vdso_time")) };
    let (mut day, mut zone, mut seconds) = (Timespec { seconds: 0, fraction: 0 }, [1, 1], 0);
    let before = loaded.clock_ns(libc::CLOCK_REALTIME);
    // SAFETY: the pointers are good.
    assert_eq!(unsafe { gettimeofday(&mut day, &mut zone) }, 0);
    let after = loaded.clock_ns(libc::CLOCK_REALTIME);
    let day_us = day.seconds * 1_000_000 + day.fraction;
    assert!((before / 1000..=after / 1000).contains(&day_us), "{before} {day_us} {after}");
    assert_eq!(zone, [0, 0]);
    // SAFETY: null is allowed.
    assert_eq!(unsafe { gettimeofday(ptr::null_mut(), ptr::null_mut()) }, 0);
    let second = || loaded.clock_ns(libc::CLOCK_REALTIME_COARSE) / 1_000_000_000;
    let before = second();
    // SAFETY: the pointer is good.
    let returned = unsafe { time(&mut seconds) };
    assert_eq!(returned, seconds);
    assert!((before..=second()).contains(&seconds));
    // SAFETY: null is allowed.
    assert!(unsafe { time(ptr::null_mut()) } >= seconds);
}

#[test]
fn getcpu_answers_either_way() {
    let loaded = Loaded::new();
    // SAFETY: the symbol is a function of this type.
    let getcpu = unsafe { std::mem::transmute::<*const u8, CpuCall>(loaded.address("__vdso_getcpu")) };
    // SAFETY: the call returns a number.
    let processors = u32::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) }).unwrap();
    for how in [ProcessorNumber::Ask, ProcessorNumber::TscAux] {
        loaded.page().set_processor_number(how);
        let (mut processor, mut node) = (u32::MAX, u32::MAX);
        // SAFETY: the pointers are good.
        assert_eq!(unsafe { getcpu(&mut processor, &mut node, ptr::null_mut()) }, 0);
        assert!(processor < processors && node < 1024, "{how:?}: {processor} {node}");
        // SAFETY: null is allowed.
        assert_eq!(unsafe { getcpu(ptr::null_mut(), ptr::null_mut(), ptr::null_mut()) }, 0);
    }
}

/// A state that keeps to a page.
#[repr(align(256))]
struct Room(State);

impl Room {
    fn new() -> Self {
        // SAFETY: any bytes are a state.
        Self(unsafe { std::mem::zeroed() })
    }
}

#[test]
fn getrandom_fills_what_it_is_given_and_no_more() {
    let loaded = Loaded::new();
    // SAFETY: the symbol is a function of this type.
    let getrandom = unsafe { std::mem::transmute::<*const u8, RandomCall>(loaded.address("__vdso_getrandom")) };
    let mut room = Room::new();
    let mut drawn = Vec::new();
    for len in (0..200).chain([5000]) {
        let mut bytes = vec![0xa5; len + 2];
        let to = bytes.as_mut_ptr().wrapping_add(1);
        // SAFETY: there is room from the second byte on, and the state is one.
        let done = unsafe { getrandom(to, len, 0, &mut room.0, size_of::<State>()) };
        assert_eq!((done, bytes[0], bytes[len + 1]), (i64::try_from(len).unwrap(), 0xa5, 0xa5));
        drawn.extend_from_slice(&bytes[1..=len]);
    }
    let mut windows: Vec<_> = drawn.chunks_exact(8).collect();
    windows.sort_unstable();
    windows.dedup();
    assert_eq!(windows.len(), drawn.len() / 8);
    // What is not for the state is the kernel's: its error.
    let mut byte = 0;
    // SAFETY: the pointers are good.
    let result = unsafe { getrandom(&mut byte, 1, 0x100, &mut room.0, size_of::<State>()) };
    assert_eq!(result, -i64::from(libc::EINVAL));
}

/// Calls a `getrandom` on a stack of its own. Returns what the function leaves on it and in the registers that it may
/// change.
fn remains(getrandom: *const u8, to: &mut [u8], state: &mut State) -> Vec<u8> {
    const STACK: usize = 1 << 16;
    const REGISTERS: usize = 16 * 16 + 9 * 8;
    let mut room = vec![0_u128; (STACK + REGISTERS).div_ceil(16)];
    let registers = room.as_mut_ptr().cast::<u8>().wrapping_add(STACK);
    // SAFETY: the function follows the ABI and is given good pointers; R12 to R15 are the same after it as before.
    unsafe {
        asm!(
            // What this program has had in there is none of the function's doing.
            "pxor xmm0, xmm0", "pxor xmm1, xmm1", "pxor xmm2, xmm2", "pxor xmm3, xmm3", "pxor xmm4, xmm4",
            "pxor xmm5, xmm5", "pxor xmm6, xmm6", "pxor xmm7, xmm7", "pxor xmm8, xmm8", "pxor xmm9, xmm9",
            "pxor xmm10, xmm10", "pxor xmm11, xmm11", "pxor xmm12, xmm12", "pxor xmm13, xmm13", "pxor xmm14, xmm14",
            "pxor xmm15, xmm15", "xor eax, eax", "xor r9d, r9d", "xor r10d, r10d", "xor r11d, r11d",
            "mov r12, rsp",
            "mov rsp, r13",
            "call r14",
            "mov rsp, r12",
            "movups [r13], xmm0", "movups [r13 + 0x10], xmm1", "movups [r13 + 0x20], xmm2", "movups [r13 + 0x30], xmm3",
            "movups [r13 + 0x40], xmm4", "movups [r13 + 0x50], xmm5", "movups [r13 + 0x60], xmm6",
            "movups [r13 + 0x70], xmm7", "movups [r13 + 0x80], xmm8", "movups [r13 + 0x90], xmm9",
            "movups [r13 + 0xa0], xmm10", "movups [r13 + 0xb0], xmm11", "movups [r13 + 0xc0], xmm12",
            "movups [r13 + 0xd0], xmm13", "movups [r13 + 0xe0], xmm14", "movups [r13 + 0xf0], xmm15",
            "mov [r13 + 0x100], rax", "mov [r13 + 0x108], rcx", "mov [r13 + 0x110], rdx", "mov [r13 + 0x118], rsi",
            "mov [r13 + 0x120], rdi", "mov [r13 + 0x128], r8", "mov [r13 + 0x130], r9", "mov [r13 + 0x138], r10",
            "mov [r13 + 0x140], r11",
            in("rdi") to.as_mut_ptr(), in("rsi") to.len(), in("rdx") 0, in("rcx") &raw mut *state,
            in("r8") size_of::<State>(), out("r12") _, in("r13") registers, in("r14") getrandom,
            lateout("rax") _, clobber_abi("sysv64"),
        );
    }
    // SAFETY: as long as the vector, and any bytes are bytes.
    unsafe { std::slice::from_raw_parts(room.as_ptr().cast::<u8>(), STACK + REGISTERS) }.to_vec()
}

#[test]
fn getrandom_leaves_nothing_behind_that_is_not_the_callers() {
    let loaded = Loaded::new();
    let mut room = Room::new();
    // A first call, from the batch, of blocks and a new batch, of another one, and with a new seed.
    for (len, wiped) in [(40, false), (16, false), (400, false), (90, false), (1, true), (64, true)] {
        if wiped {
            room = Room::new();
        }
        let old_key = room.0.key;
        let mut bytes = vec![0; len];
        let remains = remains(loaded.address("__vdso_getrandom"), &mut bytes, &mut room.0);
        let secret = [&old_key[..], &room.0.key, &room.0.batch].concat();
        // Whatever follows from the key, as far as it can be told: what the next batch will be.
        let mut next = [0; 2 * chacha::BLOCK];
        // SAFETY: there is room for two blocks.
        unsafe { chacha::blocks(next.as_mut_ptr(), 2, room.0.key.as_ptr(), 0, 0) };
        let secret = [&secret[..], &next].concat();
        // Zeroes are where bytes were handed out.
        for part in secret.chunks(8).filter(|part| part.iter().filter(|byte| **byte == 0).count() < 4) {
            assert!(!remains.windows(8).any(|window| window == part), "{len} bytes: {part:x?} was left behind");
        }
    }
}

#[test]
fn time_never_goes_back_while_the_page_is_rewritten() {
    // Later than any kernel's monotonic clock, whose answer (when the writer was preempted) is thus told apart.
    const YEARS: i64 = 1_000_000_000_000_000_000;
    let loaded = Loaded::new();
    let start =
        |now| Record { monotonic: Line { base_ns: YEARS.unsigned_abs(), rate: 1 << RATE_SHIFT }, ..record(now) };
    let mut latest = loaded.page().publish(start);
    let address = loaded.address("__vdso_clock_gettime") as usize;
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            // SAFETY: the symbol is a function of this type, and the mapping outlives the scope.
            let call = unsafe { std::mem::transmute::<usize, ClockCall>(address) };
            let (mut last, mut answers) = (0, 0);
            while answers < 100_000 {
                let mut time = Timespec { seconds: 0, fraction: 0 };
                // SAFETY: the pointer is good.
                assert_eq!(unsafe { call(libc::CLOCK_MONOTONIC, &mut time) }, 0);
                let now = time.seconds * 1_000_000_000 + time.fraction;
                if now >= YEARS {
                    assert!(now >= last, "{last} {now}");
                    (last, answers) = (now, answers + 1);
                }
            }
        });
        let mut fast = false;
        while !reader.is_finished() {
            fast = !fast;
            latest = loaded.page().publish(|now| {
                let base_ns = latest.at(ClockKind::Monotonic, now).unwrap_or(latest.monotonic.base_ns);
                let rate = rate_of_khz(if fast { 500_000 } else { 2_000_000 });
                Record { anchor: now, monotonic: Line { base_ns, rate }, ..latest }
            });
        }
    });
}
