//! What goes wrong before a program runs: one clear line, the right status, and nothing left behind.

use crate::harness::{Command, Link, Outcome, need_kvm, picovisor, program, program_with, scratch, tool};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Runs `picovisor run` with arguments; it must print nothing on standard output and one line on standard error.
#[track_caller]
fn refused(args: &[&str]) -> (i32, String) {
    one_line(Command::picovisor().arg("run").args(args).run())
}

#[track_caller]
fn one_line(outcome: Outcome) -> (i32, String) {
    let text = outcome.errors();
    assert_eq!(outcome.text(), "", "{text}");
    assert!(text.starts_with("picovisor: ") && text.ends_with('\n') && text.lines().count() == 1, "{text:?}");
    (outcome.status, text["picovisor: ".len()..].trim_end().to_owned())
}

/// Refused with this status, and with all of these words in the line.
#[track_caller]
fn expect(args: &[&str], status: i32, words: &[&str]) {
    let (found, line) = refused(args);
    assert_eq!(found, status, "{args:?}: {line}");
    for word in words {
        assert!(line.contains(word), "{args:?}: no {word:?} in {line:?}");
    }
}

#[test]
fn wrong_options() {
    for (args, word) in [
        (&["--memory", "lots", "true"][..], "--memory"),
        (&["--cpus", "many", "true"], "--cpus"),
        (&["--pids", "0", "true"], "--pids"),
        (&["--timeout", "soon", "true"], "--timeout"),
        (&["--bind", "/a:b", "true"], "--bind"),
        (&["--user", ":", "true"], "--user"),
        (&["--hostname", "a b", "true"], "--hostname"),
        (&["--strace=xml", "true"], "--strace"),
        (&["--no-such-option", "true"], "--no-such-option"),
        (&["--net", "wifi", "true"], "--net"),
        (&[], "PROGRAM"),
    ] {
        expect(args, 125, &[word, "see --help"]);
    }
}

#[test]
fn options_that_need_what_is_not_there() {
    expect(&["-t", "true"], 125, &["-t", "terminal"]);
}

#[test]
fn host_paths_that_do_not_exist() {
    expect(&["--root", "/no/such", "true"], 125, &["--root", "/no/such", "No such file"]);
    expect(&["--root", "/etc/passwd", "true"], 125, &["--root", "/etc/passwd", "not a directory"]);
    expect(&["--bind", "/no/such:/x", "true"], 125, &["--bind", "/no/such", "No such file"]);
    expect(&["--rw", "/no/such", "true"], 125, &["--rw", "/no/such", "No such file"]);
    expect(&["--upper", "/no/such", "true"], 125, &["--upper", "/no/such", "No such file"]);
    expect(&["--env-file", "/no/such", "true"], 125, &["--env-file", "/no/such", "No such file"]);
}

#[test]
fn wrong_places_inside() {
    need_kvm!();
    expect(&["--workdir", "/no/such", "/bin/true"], 125, &["/no/such"]);
    expect(&["--workdir", "/etc/passwd", "/bin/true"], 125, &["/etc/passwd"]);
    expect(&["--strace", "-o", "/no/such/file", "/bin/true"], 125, &["/no/such/file"]);
    expect(&["--user", "no-such-user", "/bin/true"], 125, &["no-such-user"]);
}

/// A file with these bytes and this mode, in a folder of its own.
fn file(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn programs_that_are_missing_or_not_executable() {
    need_kvm!();
    let folder = scratch();
    expect(&["/no/such/program"], 127, &["/no/such/program"]);
    expect(&["no-such-program-anywhere"], 127, &["no-such-program-anywhere"]);
    expect(&[""], 127, &[]);
    expect(&["/etc/passwd"], 126, &["/etc/passwd"]);
    expect(&["/etc"], 126, &["/etc"]);
    expect(&["/etc/passwd/x"], 126, &["/etc/passwd/x"]);
    expect(&[&file(folder.path(), "plain", b"\x7fELF", 0o644)], 126, &["plain"]);
}

#[test]
fn files_that_are_no_programs() {
    need_kvm!();
    let folder = scratch();
    let make = |name: &str, bytes: &[u8]| file(folder.path(), name, bytes, 0o755);
    expect(&[&make("empty", b"")], 126, &["empty"]);
    expect(&[&make("text", b"just text, no program\n")], 126, &["text"]);
    expect(&[&make("script", b"#!/no/such/interpreter\n")], 127, &["/no/such/interpreter"]);
    expect(&[&make("bare", b"#!\n")], 126, &["bare"]);
    expect(&[&make("magic", b"\x7fELF")], 126, &["magic"]);
}

/// Bytes of a sound static program, to be broken.
fn sound() -> Vec<u8> {
    std::fs::read(program("nolibc.S", Link::Bare)).unwrap()
}

/// Offset of program header `index` and of a field in it.
fn header(elf: &[u8], index: usize, field: usize) -> usize {
    let start = usize::try_from(u64::from_le_bytes(elf[32..40].try_into().unwrap())).unwrap();
    start + index * 56 + field
}

fn put(elf: &mut [u8], at: usize, value: u64) {
    elf[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Indices of the loadable segments.
fn loads(elf: &[u8]) -> Vec<usize> {
    let count = usize::from(u16::from_le_bytes([elf[56], elf[57]]));
    (0..count).filter(|&index| elf[header(elf, index, 0)] == 1).collect()
}

const VADDR: usize = 16;
const FILESZ: usize = 32;
const MEMSZ: usize = 40;

#[test]
fn foreign_programs() {
    need_kvm!();
    let folder = scratch();
    for (name, offset, value, word) in [
        ("i386", 4, 1, "32-bit"),
        ("aarch64", 18, 183, "aarch64"),
        ("riscv", 18, 243, "RISC-V"),
        ("big", 5, 2, "made for an unknown processor"),
    ] {
        let mut elf = sound();
        elf[offset] = value;
        let path = file(folder.path(), name, &elf, 0o755);
        let (status, line) = refused(&[&path]);
        assert_eq!(status, 126, "{line}");
        assert!(line.to_lowercase().contains(&word.to_lowercase()), "{word} is not in {line:?}");
    }
}

#[test]
fn broken_and_hostile_programs() {
    need_kvm!();
    let folder = scratch();
    let first = loads(&sound())[0];
    type Breakage<'a> = (&'a str, &'a dyn Fn(&mut Vec<u8>));
    let breakages: &[Breakage<'_>] = &[
        ("cut-in-the-header", &|elf| elf.truncate(40)),
        ("cut-in-the-program-headers", &|elf| elf.truncate(100)),
        ("no-segments", &|elf| elf[56..58].fill(0)),
        ("65535-segments", &|elf| elf[56..58].fill(0xff)),
        ("headers-far-away", &|elf| put(elf, 32, u64::MAX - 8)),
        ("strange-entry-size", &|elf| elf[54] = 1),
        ("more-in-file-than-in-memory", &|elf| {
            let at = header(elf, first, FILESZ);
            put(elf, at, u64::MAX);
        }),
        ("huge-segment", &|elf| {
            let at = header(elf, first, MEMSZ);
            put(elf, at, 1 << 62);
        }),
        ("wrapped-address", &|elf| {
            let at = header(elf, first, VADDR);
            put(elf, at, u64::MAX - 0xfff);
        }),
        ("kernel-address", &|elf| {
            let at = header(elf, first, VADDR);
            put(elf, at, 0xffff_8000_0000_0000);
        }),
        ("unaligned-address", &|elf| {
            let at = header(elf, first, VADDR);
            put(elf, at, 0x40_0123);
        }),
    ];
    for (name, damage) in breakages {
        let mut elf = sound();
        damage(&mut elf);
        let (status, line) = refused(&[&file(folder.path(), name, &elf, 0o755)]);
        assert_eq!(status, 126, "{name}: {line}");
        assert!(line.contains(name), "{name}: {line}");
    }
}

#[test]
fn overlapping_segments() {
    need_kvm!();
    let folder = scratch();
    let mut elf = sound();
    let loads = loads(&elf);
    assert!(loads.len() >= 2, "the sound program has several segments");
    let (first, last) = (loads[0], loads[loads.len() - 1]);
    let address = elf[header(&elf, first, VADDR)..][..8].to_owned();
    let at = header(&elf, last, VADDR);
    elf[at..at + 8].copy_from_slice(&address);
    let path = file(folder.path(), "overlap", &elf, 0o755);
    let outcome = Command::picovisor().arg("run").arg(&path).run();
    // Linux maps one over the other and jumps; a clear refusal is as good. Neither may be our failure.
    assert!(outcome.status == 126 || outcome.status > 128, "{outcome:?}");
}

#[test]
fn a_missing_interpreter_is_named() {
    need_kvm!();
    let path = program_with("hello.c", Link::Dynamic, &["-Wl,--dynamic-linker=/no/such/ld.so"]);
    let outcome = one_line(Command::new(&path).sandboxed(&[]).run());
    assert_eq!(outcome.0, 127, "{}", outcome.1);
    assert!(outcome.1.contains("/no/such/ld.so"), "{}", outcome.1);
}

#[test]
fn a_memory_limit_that_is_too_small() {
    need_kvm!();
    for size in ["1", "4K", "64K", "511K"] {
        expect(&["--memory", size, "/bin/busybox", "true"], 125, &["memory"]);
    }
}

#[test]
fn no_kvm_device() {
    let shell = "mount -t tmpfs none /dev && exec \"$0\" \"$@\"";
    let (status, line) = one_line(in_namespace(shell, &["/bin/true"]));
    assert_eq!(status, 125);
    assert!(line.contains("/dev/kvm does not exist"), "{line}");
}

#[test]
fn no_permission_on_the_kvm_device() {
    let folder = scratch();
    let closed = file(folder.path(), "closed", b"", 0o000);
    // As the file's owner, without the capability that overrides its mode.
    let shell =
        format!("mount --bind {closed} /dev/kvm && exec setpriv --bounding-set=-all --inh-caps=-all \"$0\" \"$@\"");
    if !Path::new("/dev/kvm").exists() {
        need_kvm!();
    }
    let (status, line) = one_line(in_namespace(&shell, &["/bin/true"]));
    assert_eq!(status, 125);
    assert!(line.contains("no permission to open /dev/kvm"), "{line}");
}

/// Runs `picovisor run` behind a shell command in user and mount namespaces of its own.
#[track_caller]
fn in_namespace(shell: &str, args: &[&str]) -> Outcome {
    let unshare = tool("unshare");
    let command = Command::new(unshare).args(["--user", "--map-root-user", "--mount", "/bin/sh", "-c", shell]);
    command.arg(picovisor()).arg("run").args(args).run()
}

#[test]
fn failures_leave_nothing_behind() {
    need_kvm!();
    let folder = scratch();
    let before = left_behind();
    let folder_name = folder.path().to_str().unwrap();
    for args in [
        &["--rw", folder_name, "/no/such"][..],
        &["--rw", folder_name, "/etc/passwd"],
        &["--memory", "4K", "/bin/true"],
    ] {
        refused(args);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let new: Vec<_> = left_behind().into_iter().filter(|path| !before.contains(path)).collect();
    assert!(new.is_empty(), "left behind: {new:?}");
}

/// Files of ours in the places where programs leave things.
fn left_behind() -> Vec<PathBuf> {
    let folders = ["/tmp", "/var/tmp", "/dev/shm", "/run"];
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("picovisor"));
    entries
        .map(|entry| entry.path())
        .filter(ours)
        .filter(|path| !path.to_string_lossy().contains("picovisor-test-"))
        .collect()
}
