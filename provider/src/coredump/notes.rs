//! The notes of a core: who died, of what, with which registers.

use super::LastWords;
use crate::mm::{MappingInfo, MappingName};
use crate::ptrace::UserRegisters;
use crate::signal::{SIGINFO_SIZE, SigInfo};
use crate::task::{CurrentTask, NAME_MAX};
use std::time::Duration;
use vmm::addr::{PAGE_SIZE, UserRange};
use zerocopy::{Immutable, IntoBytes};

const NT_PRSTATUS: u32 = 1;
const NT_FPREGSET: u32 = 2;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_SIGINFO: u32 = 0x5349_4749;
const NT_FILE: u32 = 0x4649_4c45;
const NT_X86_XSTATE: u32 = 0x202;
/// Bytes of the legacy part of an XSAVE area.
const FXSAVE_BYTES: usize = 512;
/// The longest NT_FILE note: with more mappings than fit it is left out (MAX_FILE_NOTE_SIZE).
const FILES_MAX: usize = 4 << 20;
/// Bytes of the arguments that are shown (ELF_PRARGSZ), the NUL among them.
const ARGUMENTS: usize = 80;

/// `struct elf_prstatus`
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct Status {
    signal: i32,
    code: i32,
    errno: i32,
    current: i16,
    padding: i16,
    pending: u64,
    blocked: u64,
    tid: i32,
    parent: i32,
    process_group: i32,
    session: i32,
    user_time: [u64; 2],
    system_time: [u64; 2],
    children_user_time: [u64; 2],
    children_system_time: [u64; 2],
    registers: UserRegisters,
    float_valid: i32,
    padding_after: i32,
}

/// `struct elf_prpsinfo`
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct Process {
    state: u8,
    state_name: u8,
    zombie: u8,
    nice: i8,
    padding: u32,
    flags: u64,
    uid: u32,
    gid: u32,
    pid: i32,
    parent: i32,
    process_group: i32,
    session: i32,
    name: [u8; 16],
    arguments: [u8; ARGUMENTS],
}

const _: () = {
    assert!(size_of::<Status>() == 336);
    assert!(size_of::<Process>() == 136);
    assert!(NAME_MAX < 16);
};

/// Renders all notes in Linux's order: the thread that died first, so that debuggers show it.
pub(super) fn render(task: &CurrentTask<'_>, info: &SigInfo, own: &LastWords, others: &[LastWords]) -> Vec<u8> {
    let mut notes = Vec::new();
    put(&mut notes, "CORE", NT_PRSTATUS, status(task, info, own).as_bytes());
    put(&mut notes, "CORE", NT_PRPSINFO, process(task).as_bytes());
    let bytes: [u8; SIGINFO_SIZE] = info.to_bytes();
    put(&mut notes, "CORE", NT_SIGINFO, &bytes);
    let program = task.mm().program();
    put(&mut notes, "CORE", NT_AUXV, program.as_ref().map_or(&[], |program| &program.auxv[..]));
    if let Some(files) = files(&task.mm().mappings()) {
        put(&mut notes, "CORE", NT_FILE, &files);
    }
    extended(&mut notes, own);
    for other in others {
        put(&mut notes, "CORE", NT_PRSTATUS, status(task, info, other).as_bytes());
        extended(&mut notes, other);
    }
    notes
}

/// Appends a note: sizes, type, name and contents, each of these padded to words.
fn put(notes: &mut Vec<u8>, name: &str, kind: u32, contents: &[u8]) {
    let word = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    for field in [word(name.len() + 1), word(contents.len()), kind] {
        notes.extend(field.to_le_bytes());
    }
    for bytes in [&[name.as_bytes(), b"\0"].concat()[..], contents] {
        notes.extend(bytes);
        notes.resize(notes.len().next_multiple_of(4), 0);
    }
}

fn extended(notes: &mut Vec<u8>, thread: &LastWords) {
    let area = thread.registers.extended();
    put(notes, "CORE", NT_FPREGSET, &area[..area.len().min(FXSAVE_BYTES)]);
    put(notes, "LINUX", NT_X86_XSTATE, &area);
}

/// Seconds and microseconds.
fn timeval(span: Duration) -> [u64; 2] {
    [span.as_secs(), u64::from(span.subsec_micros())]
}

fn status(task: &CurrentTask<'_>, info: &SigInfo, thread: &LastWords) -> Status {
    let group = task.group();
    let children = group.children_usage();
    let signal = info.signal.raw();
    Status {
        signal,
        code: 0,
        errno: 0,
        current: i16::try_from(signal).unwrap_or_default(),
        padding: 0,
        pending: thread.pending.0,
        blocked: thread.blocked.0,
        tid: thread.tid.0,
        parent: group.parent().0,
        process_group: group.process_group().0,
        session: group.session().0,
        user_time: timeval(thread.usage.user),
        system_time: timeval(thread.usage.system),
        children_user_time: timeval(children.user),
        children_system_time: timeval(children.system),
        registers: thread.registers.user,
        float_valid: 1,
        padding_after: 0,
    }
}

fn process(task: &CurrentTask<'_>) -> Process {
    /// PF_SIGNALED and PF_DUMPCORE.
    const FLAGS: u64 = 0x600;
    let group = task.group();
    let credentials = task.credentials();
    let mut name = [0; 16];
    let comm = task.name();
    name[..comm.len().min(NAME_MAX)].copy_from_slice(&comm[..comm.len().min(NAME_MAX)]);
    Process {
        state: 0,
        state_name: b'R',
        zombie: 0,
        nice: i8::try_from(task.nice()).unwrap_or_default(),
        padding: 0,
        flags: FLAGS,
        uid: credentials.uid,
        gid: credentials.gid,
        pid: group.pid().0,
        parent: group.parent().0,
        process_group: group.process_group().0,
        session: group.session().0,
        name,
        arguments: arguments(task),
    }
}

/// The start of the arguments, as /proc/PID/cmdline shows them, with spaces between.
fn arguments(task: &CurrentTask<'_>) -> [u8; ARGUMENTS] {
    let mut text = [0; ARGUMENTS];
    let mm = task.mm();
    let Some(range) = mm.program().map(|program| program.args) else { return text };
    let len = usize::try_from(range.len()).unwrap_or(usize::MAX).min(ARGUMENTS - 1);
    // What cannot be read stays empty.
    let read = mm.read_partial(range.start, &mut text[..len]).unwrap_or(0);
    text[..read].iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    text
}

/// Which files are mapped where: `None` if that is too long.
fn files(mappings: &[MappingInfo]) -> Option<Vec<u8>> {
    let mapped: Vec<(UserRange, u64, Vec<u8>)> = mappings
        .iter()
        .filter_map(|mapping| match &mapping.name {
            MappingName::File(file) => Some((mapping.range, mapping.offset / PAGE_SIZE, file.location().path())),
            _ => None,
        })
        .collect();
    let mut note = Vec::new();
    let count = u64::try_from(mapped.len()).unwrap_or_default();
    note.extend([count, PAGE_SIZE].iter().flat_map(|word| word.to_le_bytes()));
    for (range, page, _) in &mapped {
        note.extend([range.start.0, range.end.0, *page].iter().flat_map(|word| word.to_le_bytes()));
    }
    for (.., path) in &mapped {
        note.extend(path);
        note.push(0);
    }
    (note.len() <= FILES_MAX).then_some(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_padded_to_words() {
        let mut notes = Vec::new();
        put(&mut notes, "LINUX", NT_X86_XSTATE, &[7; 5]);
        let header = [6, 5, NT_X86_XSTATE].map(u32::to_le_bytes).concat();
        assert_eq!(notes, [&header[..], b"LINUX\0\0\0", &[7, 7, 7, 7, 7, 0, 0, 0]].concat());
    }
}
