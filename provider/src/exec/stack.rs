//! The initial stack: strings, argument and environment vectors, auxiliary vector (`create_elf_tables`).

use super::LoadError;
use super::auxv::AuxVector;
use crate::mm::{MapRequest, MemoryMap, Randomize, VmaFlags};
use vmm::addr::{PAGE_SIZE, UserAddr, UserRange};
use vmm::memory::Access;

/// The longest argument or environment string, with its NUL (MAX_ARG_STRLEN).
pub(super) const MAX_STRING: u64 = 32 * PAGE_SIZE;
/// The room for strings and their pointers that every program has, however small its stack limit (ARG_MAX).
const MIN_ROOM: u64 = 131_072;
/// The most room: three quarters of the default stack limit.
const MAX_ROOM: u64 = (8 << 20) / 4 * 3;
/// Stack mapped below what is filled.
const EXPANSION: u64 = 128 << 10;
/// What AT_PLATFORM says.
const PLATFORM: &[u8] = b"x86_64\0";

/// The strings a program is started with; none has a NUL inside.
#[derive(Clone, Debug, Default)]
pub(super) struct Strings {
    /// AT_EXECFN: the name of the program as it was given.
    pub(super) name: Vec<u8>,
    pub(super) args: Vec<Vec<u8>>,
    pub(super) env: Vec<Vec<u8>>,
}

/// Where things are in a filled stack.
#[derive(Clone, Debug)]
pub(super) struct Stack {
    /// The stack pointer at the first instruction: argc is there.
    pub(super) pointer: UserAddr,
    pub(super) args: UserRange,
    pub(super) env: UserRange,
    /// The auxiliary vector as bytes.
    pub(super) auxv: Vec<u8>,
}

/// The room for strings and pointers under a stack limit (`bprm_stack_limits`).
pub(super) fn room(stack_limit: u64) -> u64 {
    (stack_limit / 4).clamp(MIN_ROOM, MAX_ROOM)
}

impl Strings {
    /// Checks the limits: `E2BIG`. Programs always get an `argv[0]`, be it empty (since Linux 5.18).
    pub(super) fn checked(mut self, stack_limit: u64) -> Result<Self, LoadError> {
        if self.args.is_empty() {
            self.args.push(Vec::new());
        }
        let strings = || self.args.iter().chain(&self.env);
        if strings().any(|string| string.len() as u64 >= MAX_STRING) {
            return Err(LoadError::ArgumentsTooLong);
        }
        let pointers = strings().count() as u64 * 8;
        let bytes: u64 = strings().chain([&self.name]).map(|string| string.len() as u64 + 1).sum();
        if pointers + bytes > room(stack_limit) { Err(LoadError::ArgumentsTooLong) } else { Ok(self) }
    }

    /// Maps the stack and fills it.
    pub(super) fn build(
        &self,
        map: &MemoryMap,
        auxv: AuxVector,
        executable: bool,
        randomize: Randomize,
    ) -> Result<Stack, LoadError> {
        let top = map.layout().stack_top.0;
        let random = crate::mm::random_u64;
        let mut image = Image { at: top - 8, chunks: vec![(top - 8, vec![0; 8])] };
        let name = image.push(&[&self.name]);
        let env_start = image.push_all(&self.env);
        let args_start = image.push_all(&self.args);
        // A random distance, so that the stack pointer's low bits differ from run to run (arch_align_stack).
        let jitter = if randomize == Randomize::Yes { random() % 8192 } else { 0 };
        image.at = (image.at - jitter) & !15;
        let platform = image.push_bytes(PLATFORM);
        let seed: Vec<u8> = [random().to_ne_bytes(), random().to_ne_bytes()].concat();
        let seed = image.push_bytes(&seed);

        let auxv = auxv.finish(seed, name, platform);
        let mut words = vec![self.args.len() as u64];
        words.extend(addresses(args_start, &self.args));
        words.push(0);
        words.extend(addresses(env_start, &self.env));
        words.push(0);
        let vectors = [to_bytes(&words), auxv.clone()].concat();
        image.at = (image.at - vectors.len() as u64) & !15;
        image.chunks.push((image.at, vectors));

        map_stack(map, image.at, executable)?;
        for (at, bytes) in &image.chunks {
            map.write(UserAddr(*at), bytes).map_err(LoadError::of_memory(map.memory()))?;
        }
        Ok(Stack {
            pointer: UserAddr(image.at),
            args: UserRange { start: UserAddr(args_start), end: UserAddr(env_start) },
            env: UserRange { start: UserAddr(env_start), end: UserAddr(name) },
            auxv,
        })
    }
}

/// A stack being filled from the top down.
struct Image {
    at: u64,
    chunks: Vec<(u64, Vec<u8>)>,
}

impl Image {
    fn push_bytes(&mut self, bytes: &[u8]) -> u64 {
        self.at -= bytes.len() as u64;
        self.chunks.push((self.at, bytes.to_vec()));
        self.at
    }

    /// Pushes strings so that they lie in order, each with its NUL, and returns where the first is.
    fn push(&mut self, strings: &[&[u8]]) -> u64 {
        let bytes: Vec<u8> = strings.iter().flat_map(|string| string.iter().copied().chain([0])).collect();
        self.push_bytes(&bytes)
    }

    fn push_all(&mut self, strings: &[Vec<u8>]) -> u64 {
        let strings: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();
        self.push(&strings)
    }
}

/// The addresses of strings that lie in order from `start`.
fn addresses(start: u64, strings: &[Vec<u8>]) -> impl Iterator<Item = u64> {
    strings.iter().scan(start, |at, string| {
        let this = *at;
        *at += string.len() as u64 + 1;
        Some(this)
    })
}

fn to_bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Maps the growing stack: what is filled, and 128 KiB below it as far as the limit goes (`setup_arg_pages`).
fn map_stack(map: &MemoryMap, filled_from: u64, executable: bool) -> Result<(), LoadError> {
    let top = map.layout().stack_top.0;
    let filled = (top - filled_from).next_multiple_of(PAGE_SIZE);
    let limit = map.limits().stack() & !(PAGE_SIZE - 1);
    let size = filled.saturating_add(EXPANSION).min(limit.max(filled));
    let mut access = Access::READ | Access::WRITE;
    access.set(Access::EXEC, executable);
    let mut request = MapRequest::anonymous(size, access).fixed(UserAddr(top - size));
    request.flags |= VmaFlags::GROWSDOWN;
    map.map(request).map(drop).map_err(LoadError::of_memory(map.memory()))
}
