//! Program images: ELF, scripts, the initial stack.
//!
//! [`load()`] makes a new address space and puts a program into it; nothing of the caller changes before that has succeeded, so
//! execve can still fail with an error. [`file::ImageFile`] is the seam to the file system: the loader is tested and fuzzed without one.

mod auxv;
mod elf;
mod error;
pub mod file;
mod load;
mod path;
mod script;
mod stack;
mod start;
#[cfg(test)]
mod tests;
mod vdso;

pub use auxv::Machine;
pub use error::LoadError;
pub use path::find_program;
pub use start::{execute, start};
pub use vdso::Vdso;

use crate::mm::{Layout, MemoryLimits, MemoryMap, Program, Randomize};
use crate::task::Credentials;
use elf::{Elf, Kind};
use file::{ImageFile, ImageFiles};
use load::{Place, Placed};
use std::sync::Arc;
use vmm::addr::UserAddr;
use vmm::memory::GuestMemory;

/// How many scripts may be each other's interpreters.
const MAX_SCRIPTS: usize = 5;

/// What to load.
#[derive(Debug)]
pub struct Request<'a> {
    /// The program's file, opened for execution.
    pub file: &'a dyn ImageFile,
    /// Where interpreters are found.
    pub files: &'a dyn ImageFiles,
    /// The program's name as it was given: AT_EXECFN, and what a script's interpreter gets as its argument.
    pub name: Vec<u8>,
    /// The arguments, with `argv[0]`.
    pub args: Vec<Vec<u8>>,
    /// The environment.
    pub env: Vec<Vec<u8>>,
}

/// What the new address space depends on.
#[derive(Debug)]
pub struct Environment<'a> {
    /// The sandbox's memory.
    pub memory: &'a Arc<GuestMemory>,
    /// The process's limits.
    pub limits: MemoryLimits,
    /// Whether addresses are random.
    pub randomize: Randomize,
    /// Facts for the auxiliary vector.
    pub machine: Machine,
    /// Whose ids the vector tells.
    pub credentials: &'a Credentials,
    /// The vDSO, if there is one.
    pub vdso: Option<&'a Vdso>,
}

/// A loaded program: it runs when a thread with these registers enters the address space.
#[derive(Debug)]
pub struct Loaded {
    /// Its memory.
    pub map: Arc<MemoryMap>,
    /// The first instruction: the interpreter's if there is one.
    pub entry: UserAddr,
    /// The stack pointer.
    pub stack: UserAddr,
}

impl std::fmt::Debug for dyn ImageFile + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageFile").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for dyn ImageFiles + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageFiles").finish_non_exhaustive()
    }
}

/// Loads a program into a new address space.
///
/// # Errors
/// See [`LoadError`]; the caller's own memory is as it was.
pub fn load(request: Request<'_>, environment: Environment<'_>) -> Result<Loaded, LoadError> {
    let name = request.name.clone();
    let strings = stack::Strings { name, args: request.args, env: request.env };
    load_image(request.file, request.files, &request.name, strings, 0, &environment)
}

/// Loads a file that may be a script, whose interpreter may be one, too.
fn load_image(
    file: &dyn ImageFile,
    files: &dyn ImageFiles,
    path: &[u8],
    mut strings: stack::Strings,
    depth: usize,
    environment: &Environment<'_>,
) -> Result<Loaded, LoadError> {
    let mut head = [0; script::HEAD];
    file.read_at(0, &mut head).map_err(LoadError::Read)?;
    let Some(script) = script::parse(&head) else {
        let strings = strings.checked(environment.limits.stack())?;
        return load_elf(file, files, &strings, environment);
    };
    let script = script?;
    if depth == MAX_SCRIPTS {
        return Err(LoadError::TooManyScripts);
    }
    // The script's path takes the place of argv[0], behind the interpreter and its argument.
    let rest = strings.args.drain(..).skip(1);
    let args = [script.interpreter.clone()].into_iter().chain(script.argument).chain([path.to_vec()]).chain(rest);
    let args = args.collect();
    let strings = stack::Strings { args, ..strings };
    let missing = |error| LoadError::Interpreter { path: lossy(&script.interpreter), error };
    let interpreter = files.open(&script.interpreter).map_err(missing)?;
    load_image(&*interpreter, files, &script.interpreter, strings, depth + 1, environment)
}

fn load_elf(
    file: &dyn ImageFile,
    files: &dyn ImageFiles,
    strings: &stack::Strings,
    environment: &Environment<'_>,
) -> Result<Loaded, LoadError> {
    let elf = elf::parse(file)?;
    let interpreter = match &elf.interpreter {
        Some(path) => Some(open_interpreter(files, path)?),
        None => None,
    };
    let limits = environment.limits.clone();
    let layout = Layout::new(limits.stack(), environment.randomize);
    let map =
        MemoryMap::with_layout(environment.memory, limits, layout).map_err(LoadError::of_memory(environment.memory))?;

    let place = if interpreter.is_some() { Place::ProgramArea } else { Place::MappingArea };
    let program = load::place(&map, file, &elf, place)?;
    let linker = match &interpreter {
        Some((file, elf, path)) => Some(
            load::place(&map, &**file, elf, Place::MappingArea)
                .map_err(|error| LoadError::BadInterpreter { path: lossy(path), error: Box::new(error) })?,
        ),
        None => None,
    };
    let vdso = match environment.vdso {
        Some(vdso) => Some(vdso.map(&map).map_err(LoadError::of_memory(environment.memory))?),
        None => None,
    };
    map.set_heap(heap_start(&map, &elf, &program, linker.is_some()));

    let base = linker.map_or(UserAddr(0), |linker| UserAddr(linker.bias));
    let auxv =
        auxv::AuxVector::new(&environment.machine, &program, elf.headers_count, base, environment.credentials, vdso);
    let stack = strings.build(&map, auxv, elf.executable_stack, environment.randomize)?;
    map.set_program(Program {
        file: file.open_file(),
        text: file.text_guard(),
        code: program.code,
        data: program.data,
        stack: stack.pointer,
        args: stack.args,
        env: stack.env,
        auxv: stack.auxv,
    });
    let entry = linker.map_or(program.entry, |linker| linker.entry);
    Ok(Loaded { map, entry, stack: stack.pointer })
}

type Interpreter<'a> = (Box<dyn ImageFile + 'a>, Elf, Vec<u8>);

/// Opens and checks the program that a dynamic program asks to be loaded with it.
fn open_interpreter<'a>(files: &'a dyn ImageFiles, path: &[u8]) -> Result<Interpreter<'a>, LoadError> {
    let file = files.open(path).map_err(|error| LoadError::Interpreter { path: lossy(path), error })?;
    let elf =
        elf::parse(&*file).map_err(|error| LoadError::BadInterpreter { path: lossy(path), error: Box::new(error) })?;
    Ok((file, elf, path.to_vec()))
}

/// Where the heap starts: behind the program, a random distance away. A relocatable program without an interpreter lies in the mapping area,
/// where no heap can grow: its heap is where programs usually are.
fn heap_start(map: &MemoryMap, elf: &Elf, program: &Placed, has_linker: bool) -> UserAddr {
    let layout = map.layout();
    if elf.kind == Kind::Relocatable && !has_linker {
        return layout.detached_brk;
    }
    UserAddr(program.end.0 + layout.brk_offset)
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
