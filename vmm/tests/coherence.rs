//! What the guest sees of the monitor's edits: random operations on an address space, compared with a naive model.
//!
//! Guest threads spin inside the guest and sweep a list of pages when shared memory tells them to, so that between an
//! edit and the sweep nothing leaves the guest that the edit did not make leave. The same operations also run without a
//! machine, where the monitor's own accesses are compared. The seed of a run is printed; `PICOVISOR_SEED` runs one again
//! and `PICOVISOR_ROUNDS` makes it longer.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "it is a test")]

#[path = "personality/mod.rs"]
mod personality;

use personality::{DATA, Rig};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use vmm::addr::{BLOCK_SIZE, PAGE_SIZE, UserAddr, UserRange};
use vmm::memory::{Access, AddressSpace, GuestMemory, MemoryObject};

/// What a sweep records for a page that could not be accessed.
const FAULT: u64 = u64::MAX;
/// The pages that are swept: all of a few neighbours, and some of a block that may have a 2 MiB entry.
const NEAR: u64 = 0x1000_0000;
const NEAR_PAGES: u64 = 16;
const BLOCK: u64 = NEAR + 2 * BLOCK_SIZE;
const IN_BLOCK: [u64; 4] = [0, 1, 255, 511];
/// Pages of the object that is mapped.
const OBJECT_PAGES: u64 = 8;

/// A thread's command: sequence number, done, stores, count.
const COMMAND: u64 = DATA;
const COMMAND_STEP: u64 = 64;
const LIST: u64 = DATA + 0x1000;
const RESULTS: u64 = DATA + 0x2000;
const RESULTS_STEP: u64 = 0x1000;

payload!(
    sweeper,
    // rdi: which thread this is; r14: how many others to start.
    "2:",
    "mov r15, rdi",
    "shl r15, 6",
    "add r15, 0x500000",
    "mov r13, rdi",
    "shl r13, 12",
    "add r13, 0x502000",
    "test r14, r14",
    "jz 3f",
    "mov rdx, r14",
    "lea rdi, [rip + 2b]",
    "mov rsi, 0x7effffc000",
    "xor r14d, r14d",
    "mov eax, 5",
    "syscall",
    "3:",
    "lea rdi, [rip + 8f]",
    "mov eax, 4",
    "syscall",
    "xor ebx, ebx",
    "4:",
    "pause",
    "mov rax, [r15]",
    "cmp rax, rbx",
    "je 4b",
    "mov rbx, rax",
    "xor ebp, ebp",
    "5:",
    "mov rsi, [0x501000 + rbp*8]",
    "cmp qword ptr [r15 + 16], 0",
    "jne 6f",
    "mov rax, [rsi]",
    "jmp 9f",
    "6:",
    "mov rax, rbx",
    "shl rax, 8",
    "add rax, rbp",
    "mov [rsi], rax",
    "xor eax, eax",
    "jmp 9f",
    // Exceptions come here; rbx, rbp and r12 to r15 are the program's.
    "8:",
    "mov rax, -1",
    "9:",
    "mov [r13 + rbp*8], rax",
    "inc rbp",
    "cmp rbp, [r15 + 24]",
    "jb 5b",
    "mov [r15 + 8], rbx",
    "jmp 4b",
);

/// How often memory is compressed during a sweep.
const PRESSES: u32 = 4;

/// xorshift64*: a test needs repeatable numbers, not good ones.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn access(&mut self) -> Access {
        Access::from_bits_truncate(u8::try_from(self.below(4)).unwrap())
    }
}

/// Where a modelled page's first word lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Cell {
    Object(u64),
    Own(u64),
}

#[derive(Clone, Copy, Debug)]
struct Page {
    access: Access,
    cell: Cell,
    shared_until_stored: bool,
    object: Option<u64>,
}

#[derive(Debug, Default)]
struct Model {
    pages: BTreeMap<u64, Page>,
    cells: BTreeMap<Cell, u64>,
    /// Pages that lie in a mapping of the object, whether they show a page of it or lie beyond its end.
    sourced: BTreeSet<u64>,
    next: u64,
}

impl Model {
    fn own(&mut self, value: u64) -> Cell {
        self.next += 1;
        self.cells.insert(Cell::Own(self.next), value);
        Cell::Own(self.next)
    }

    fn swept(range: UserRange) -> Vec<u64> {
        list().into_iter().filter(|page| range.contains(UserAddr(*page))).collect()
    }

    fn remove(&mut self, range: UserRange) {
        for page in Self::swept(range) {
            self.pages.remove(&page);
            self.sourced.remove(&page);
        }
    }

    fn load(&self, page: u64) -> u64 {
        match self.pages.get(&page) {
            Some(page) if !page.access.is_empty() => self.cells[&page.cell],
            _ => FAULT,
        }
    }

    fn store(&mut self, page: u64, value: u64) -> u64 {
        match self.pages.get(&page) {
            Some(page) if page.access.contains(Access::WRITE) && !page.shared_until_stored => {
                self.cells.insert(page.cell, value);
                0
            }
            _ => FAULT,
        }
    }
}

fn list() -> Vec<u64> {
    let near = (0..NEAR_PAGES).map(|page| NEAR + page * PAGE_SIZE);
    near.chain(IN_BLOCK.map(|page| BLOCK + page * PAGE_SIZE)).collect()
}

fn pages(start: u64, count: u64) -> UserRange {
    UserRange::new(UserAddr(start), count * PAGE_SIZE).unwrap()
}

struct Run {
    memory: Arc<GuestMemory>,
    /// Memory is compressed a few times while threads sweep.
    pressed: bool,
    space: Arc<AddressSpace>,
    object: Arc<MemoryObject>,
    model: Model,
    random: Random,
    threads: u64,
    detached: bool,
    sequence: u64,
}

impl Run {
    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.space.read(UserAddr(at), &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn set_word(&self, at: u64, value: u64) {
        self.space.write(UserAddr(at), &value.to_le_bytes()).unwrap();
    }

    /// Lets one thread sweep and returns what it recorded.
    fn sweep(&mut self, thread: u64, stores: bool) -> Vec<u64> {
        self.sequence += 1;
        if self.detached {
            return list().into_iter().zip(0..).map(|(page, index)| self.access(page, stores, index)).collect();
        }
        let command = COMMAND + thread * COMMAND_STEP;
        self.set_word(command + 16, u64::from(stores));
        self.set_word(command + 24, list().len() as u64);
        self.set_word(command, self.sequence);
        // Not without end: a thread must get to the end of an instruction, whose pages may all be compressed.
        let mut presses = if self.pressed { PRESSES } else { 0 };
        while self.word(command + 8) != self.sequence {
            if presses > 0 {
                presses -= 1;
                self.compress();
            }
            std::thread::yield_now();
        }
        (0..list().len() as u64).map(|at| self.word(RESULTS + thread * RESULTS_STEP + at * 8)).collect()
    }

    /// What a sweep does with one page, by the monitor's own access.
    fn access(&self, page: u64, stores: bool, index: u64) -> u64 {
        if stores {
            let value = (self.sequence << 8) + index;
            return self.space.write(UserAddr(page), &value.to_le_bytes()).map_or(FAULT, |()| 0);
        }
        let mut bytes = [0; 8];
        self.space.read(UserAddr(page), &mut bytes).map_or(FAULT, |()| u64::from_le_bytes(bytes))
    }

    /// Compares what every thread sees with the model.
    fn compare(&mut self, done: &str) {
        for thread in 0..self.threads {
            let seen = self.sweep(thread, false);
            let expected: Vec<u64> = list().into_iter().map(|page| self.model.load(page)).collect();
            assert_eq!(seen, expected, "loads of thread {thread} after {done}");
            let seen = self.sweep(thread, true);
            let value = |index| (self.sequence << 8) + index;
            let expected: Vec<u64> =
                list().into_iter().zip(0..).map(|(page, index)| self.model.store(page, value(index))).collect();
            assert_eq!(seen, expected, "stores of thread {thread} after {done}");
        }
    }

    /// A range: some neighbours, the whole block, or a page of it.
    fn range(&mut self) -> UserRange {
        match self.random.below(6) {
            0 => pages(BLOCK, BLOCK_SIZE / PAGE_SIZE),
            1 => pages(BLOCK + IN_BLOCK[usize::try_from(self.random.below(4)).unwrap()] * PAGE_SIZE, 1),
            _ => self.near(),
        }
    }

    fn near(&mut self) -> UserRange {
        let first = self.random.below(NEAR_PAGES);
        let count = 1 + self.random.below(NEAR_PAGES - first);
        pages(NEAR + first * PAGE_SIZE, count)
    }

    fn step(&mut self) -> String {
        match self.random.below(9) {
            8 => self.compress(),
            0 | 1 => self.map_anonymous(),
            2 => self.unmap(),
            3 | 4 => self.protect(),
            5 => self.move_pages(),
            6 => self.map_object(),
            _ => match self.random.below(3) {
                0 => self.shrink_object(),
                _ => self.break_copies(),
            },
        }
    }

    fn map_anonymous(&mut self) -> String {
        let (range, access) = (self.range(), self.random.access());
        if Model::swept(range).iter().any(|page| self.model.sourced.contains(page)) {
            // What lies in a mapping of an object is the object's business until it is unmapped.
            self.space.unmap(range);
            self.model.remove(range);
        }
        self.space.map_anonymous(range, access, true).unwrap();
        for page in Model::swept(range) {
            if !self.model.pages.contains_key(&page) {
                let cell = self.model.own(0);
                self.model.pages.insert(page, Page { access, cell, shared_until_stored: false, object: None });
            }
        }
        format!("map_anonymous({range:?}, {access:?})")
    }

    fn compress(&self) -> String {
        let report = self.memory.compress();
        format!("compress of {} pages", report.pages)
    }

    fn unmap(&mut self) -> String {
        let range = self.range();
        self.space.unmap(range);
        self.model.remove(range);
        format!("unmap({range:?})")
    }

    fn protect(&mut self) -> String {
        let (range, access) = (self.range(), self.random.access());
        self.space.protect(range, access);
        for page in Model::swept(range) {
            self.model.pages.entry(page).and_modify(|page| page.access = access);
        }
        format!("protect({range:?}, {access:?})")
    }

    fn move_pages(&mut self) -> String {
        let from = self.near();
        let count = from.len() / PAGE_SIZE;
        let first = self.random.below(NEAR_PAGES - count + 1);
        let to = pages(NEAR + first * PAGE_SIZE, count);
        if to.overlaps(from) {
            return "nothing".to_owned();
        }
        self.space.unmap(to);
        self.model.remove(to);
        self.space.move_pages(from, to.start).unwrap();
        for page in Model::swept(from) {
            let target = page - from.start.0 + to.start.0;
            if let Some(moved) = self.model.pages.remove(&page) {
                self.model.pages.insert(target, moved);
            }
            if self.model.sourced.remove(&page) {
                self.model.sourced.insert(target);
            }
        }
        format!("move_pages({from:?}, {to:?})")
    }

    fn map_object(&mut self) -> String {
        let (range, access, private) = (self.near(), self.random.access(), self.random.below(2) == 0);
        let offset = self.random.below(OBJECT_PAGES);
        self.space.unmap(range);
        self.space.map_object(range, &self.object, offset * PAGE_SIZE, access, private).unwrap();
        let size = self.object.size() / PAGE_SIZE;
        for page in Model::swept(range) {
            self.model.pages.remove(&page);
            self.model.sourced.insert(page);
            let shows = offset + (page - range.start.0) / PAGE_SIZE;
            if shows < size {
                let cell = Cell::Object(shows);
                self.model.cells.entry(cell).or_insert(0);
                let page_state = Page { access, cell, shared_until_stored: private, object: Some(shows) };
                self.model.pages.insert(page, page_state);
            }
        }
        format!("map_object({range:?}, {offset}, {access:?}, private: {private})")
    }

    /// Truncation takes pages beyond the end from every mapping, private copies of them too.
    fn shrink_object(&mut self) -> String {
        let size = self.random.below(OBJECT_PAGES);
        self.object.set_size(size * PAGE_SIZE);
        self.model.pages.retain(|_, page| page.object.is_none_or(|shows| shows < size));
        self.model.cells.retain(|cell, _| !matches!(cell, Cell::Object(page) if *page >= size));
        self.object.set_size(OBJECT_PAGES * PAGE_SIZE);
        format!("shrink_object({size})")
    }

    fn break_copies(&mut self) -> String {
        let range = self.near();
        for page in Model::swept(range) {
            let Some(state) = self.model.pages.get(&page).copied() else { continue };
            if state.shared_until_stored && state.access.contains(Access::WRITE) {
                self.space.break_copy(UserAddr(page)).unwrap();
                let cell = self.model.own(self.model.cells[&state.cell]);
                self.model.pages.insert(page, Page { cell, shared_until_stored: false, ..state });
            }
        }
        format!("break_copies({range:?})")
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    let seed = number("PICOVISOR_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) | 1);
    println!("PICOVISOR_SEED={seed}");
    seed
}

impl Run {
    fn new(memory: &Arc<GuestMemory>, space: Arc<AddressSpace>, threads: u64) -> Self {
        let object = memory.new_object();
        object.set_size(OBJECT_PAGES * PAGE_SIZE);
        let (model, random) = (Model::default(), Random(seed()));
        Self {
            memory: memory.clone(),
            pressed: false,
            space,
            object,
            model,
            random,
            threads: threads.max(1),
            detached: threads == 0,
            sequence: 0,
        }
    }

    fn rounds(&mut self, rounds: u64) {
        let mut history = Vec::new();
        self.compare("the start");
        for _ in 0..number("PICOVISOR_ROUNDS").unwrap_or(rounds) {
            history.push(self.step());
            let tail = history.len().saturating_sub(6);
            self.compare(&history[tail..].join(", "));
        }
    }
}

fn run(threads: u64, rounds: u64, pressed: bool) {
    let Some(rig) = Rig::open(None) else { return };
    let (process, _thread) = rig.start_with(sweeper(), |mut registers| {
        registers.r14 = threads - 1;
        registers
    });
    let mut run = Run::new(rig.host.memory(), process.space(), threads);
    for (page, at) in list().into_iter().zip(0..) {
        run.set_word(LIST + at * 8, page);
    }
    run.pressed = pressed;
    run.rounds(rounds);
    process.terminate();
}

#[test]
fn the_monitor_sees_every_edit_and_leaks_no_frame() {
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let before = memory.held();
    let mut run = Run::new(&memory, memory.new_space().unwrap(), 0);
    run.rounds(3000);
    drop(run);
    assert_eq!(memory.held(), before);
}

#[test]
fn one_thread_sees_every_edit() {
    run(1, 600, false);
}

#[test]
fn two_threads_on_two_virtual_cpus_see_every_edit() {
    run(2, 120, false);
}

#[test]
fn two_threads_find_everything_while_it_is_compressed_under_them() {
    run(2, 40, true);
}
