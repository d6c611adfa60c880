//! What right programs become.

use super::builder::{GNU_STACK, Image, Part, R, W, X, load as part};
use super::*;
use crate::mm::MappingName;
use std::fmt::Write;
use vmm::memory::Access;

fn show(loaded: &Loaded) -> String {
    let mut text = String::new();
    for mapping in loaded.map.mappings() {
        let right = |right, name| if mapping.access.contains(right) { name } else { '-' };
        let (r, w, x) = (right(Access::READ, 'r'), right(Access::WRITE, 'w'), right(Access::EXEC, 'x'));
        let name = if matches!(mapping.name, MappingName::Stack) { " stack" } else { "" };
        let (start, end) = (mapping.range.start.0, mapping.range.end.0);
        writeln!(text, "{start:x}-{end:x} {r}{w}{x}{name}").unwrap();
    }
    text
}

#[test]
fn a_fixed_program_lies_where_it_says() {
    let loaded = load_alone(&Image::fixed().bytes()).unwrap();
    expect_test::expect![[r#"
        400000-401000 r--
        401000-402000 r-x
        403000-404000 rw-
        404000-407000 rw-
        7ffffffde000-7ffffffff000 rw- stack
    "#]]
    .assert_eq(&show(&loaded));
    assert_eq!(loaded.entry, UserAddr(0x40_1010));
    assert_eq!(bytes_at(&loaded, 0x40_1010, 4), b"text");
    assert_eq!(bytes_at(&loaded, 0x40_3100, 4), b"data");
    // Behind the file's bytes there are zeros to the end of the page, not what the file has there.
    assert_eq!(bytes_at(&loaded, 0x40_34ff, 2), b"#\0");
    assert!(bytes_at(&loaded, 0x40_3500, 0x2c00).iter().all(|byte| *byte == 0));
    assert_eq!(bytes_at(&loaded, 0x40_3000, 1), b"#");
    assert_eq!(loaded.map.heap().start, UserAddr(0x40_7000));
}

#[test]
fn a_relocatable_program_without_interpreter_lies_in_the_mapping_area() {
    let loaded = load_alone(&Image::relocatable().bytes()).unwrap();
    let base = loaded.map.layout().mmap_base.0 - 0x7000;
    assert_eq!(loaded.entry, UserAddr(base + 0x1010));
    assert_eq!(bytes_at(&loaded, base + 0x1010, 4), b"text");
    assert_eq!(loaded.map.heap().start, UserAddr(0x5555_5555_4000));
    // Between segments nothing is mapped.
    assert!(loaded.map.read(UserAddr(base + 0x2000), &mut [0]).is_err());
}

#[test]
fn large_alignments_are_kept() {
    let mut image = Image::relocatable();
    image.parts[0].alignment = 2 << 20;
    let loaded = load_alone(&image.bytes()).unwrap();
    assert!((loaded.entry.0 - 0x1010).is_multiple_of(2 << 20));
    assert_eq!(bytes_at(&loaded, loaded.entry.0, 4), b"text");
    let memory = memory();
    let files = Files::new(&memory, &[("/ld.so", Image::relocatable().bytes())]);
    let loaded = load_with(&memory, &image.with_interpreter(b"/ld.so\0").bytes(), &files).unwrap();
    let program = aux(&loaded).get(&9).unwrap() - 0x1010;
    assert!(program.is_multiple_of(2 << 20));
}

#[test]
fn a_program_with_interpreter_starts_in_it() {
    let memory = memory();
    let linker = Image { entry: 0x1020, ..Image::relocatable() };
    let files = Files::new(&memory, &[("/ld.so", linker.bytes())]);
    let program = Image::relocatable().with_interpreter(b"/ld.so\0");
    let loaded = load_with(&memory, &program.bytes(), &files).unwrap();
    let base = loaded.map.layout().mmap_base.0 - 0x7000;
    assert_eq!(loaded.entry, UserAddr(base + 0x1020));
    let aux = aux(&loaded);
    assert_eq!(aux[&7], base, "AT_BASE");
    assert_eq!(aux[&9], 0x5555_5555_4000 + 0x1010, "AT_ENTRY");
    assert_eq!(aux[&3], 0x5555_5555_4000 + 64, "AT_PHDR");
    assert_eq!(aux[&5], 4, "AT_PHNUM");
    assert_eq!(loaded.map.heap().start, UserAddr(0x5555_5555_b000));
    let program = loaded.map.program().unwrap();
    assert_eq!(program.code.start, UserAddr(0x5555_5555_5000));
}

/// The auxiliary vector, by key.
fn aux(loaded: &Loaded) -> HashMap<u64, u64> {
    let auxv = loaded.map.program().unwrap().auxv.clone();
    let words: Vec<u64> = auxv.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
    words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

#[test]
fn the_stack_is_laid_out_as_linux_does() {
    let loaded = load_alone(&Image::fixed().bytes()).unwrap();
    let stack = loaded.stack.0;
    assert!(stack.is_multiple_of(16));
    assert_eq!(word(&loaded, stack), 3);
    let pointers: Vec<u64> = (1..=6).map(|number| word(&loaded, stack + number * 8)).collect();
    assert_eq!((pointers[3], pointers[5]), (0, 0));
    let strings: Vec<String> = [0, 1, 2, 4].map(|at| string(&loaded, pointers[at])).to_vec();
    assert_eq!(strings, ["program", "a", "b", "HOME=/"]);
    // The strings lie in order, the name behind them, and the last eight bytes are zeros.
    let top = loaded.map.layout().stack_top.0;
    assert_eq!(bytes_at(&loaded, pointers[0], 12), b"program\0a\0b\0");
    assert_eq!(bytes_at(&loaded, top - 17, 17), b"/program\0\0\0\0\0\0\0\0\0");
    let program = loaded.map.program().unwrap();
    assert_eq!((program.args.start.0, program.args.len()), (pointers[0], 12));
    assert_eq!((program.env.start.0, program.env.len()), (pointers[4], 7));
    // The vector follows the environment's end, and ends with AT_NULL.
    let len = program.auxv.len();
    assert_eq!(bytes_at(&loaded, stack + 7 * 8, len), program.auxv);
    assert_eq!(program.auxv[len - 16..], [0; 16]);
    let aux = aux(&loaded);
    let expected = [(6, 4096), (17, 100), (16, 0x178b_fbff), (26, 2), (4, 56), (5, 3), (3, 0x40_0040), (7, 0), (8, 0)];
    for (key, value) in expected.into_iter().chain([(9, 0x40_1010), (11, 1000), (13, 100), (23, 0), (51, 3376)]) {
        assert_eq!(aux.get(&key), Some(&value), "auxiliary vector entry {key}");
    }
    assert_eq!(string(&loaded, aux[&31]), "/program");
    assert_eq!(string(&loaded, aux[&15]), "x86_64");
    assert_ne!(bytes_at(&loaded, aux[&25], 16), [0; 16]);
    assert_eq!(aux.get(&33), None);
}

#[test]
fn there_is_always_an_argument() {
    let memory = memory();
    let loaded = load_strings(&memory, &Image::fixed().bytes(), &NoFiles, vec![], vec![]).unwrap();
    assert_eq!(word(&loaded, loaded.stack.0), 1);
    assert_eq!(string(&loaded, word(&loaded, loaded.stack.0 + 8)), "");
}

#[test]
fn arguments_have_limits() {
    let memory = memory();
    let bytes = Image::fixed().bytes();
    let try_args = |args: Vec<Vec<u8>>| load_strings(&memory, &bytes, &NoFiles, args, vec![]);
    try_args(vec![vec![b'x'; 131_071]]).unwrap();
    assert_eq!(try_args(vec![vec![b'x'; 131_072]]).unwrap_err(), LoadError::ArgumentsTooLong);
    // A quarter of 8 MiB, pointers included.
    let loaded = try_args(vec![vec![b'x'; 991]; 2096]).unwrap();
    let last = word(&loaded, loaded.stack.0 + 2096 * 8);
    assert_eq!(string(&loaded, last).len(), 991);
    assert_eq!(try_args(vec![vec![b'x'; 991]; 2098]).unwrap_err(), LoadError::ArgumentsTooLong);
}

#[test]
fn a_stack_is_executable_only_on_request() {
    let stack = |flags| {
        let mut image = Image::fixed();
        image.parts.push(Part { kind: GNU_STACK, memory_size: 0, ..part(flags, 0, 0, 0) });
        let loaded = load_alone(&image.bytes()).unwrap();
        loaded.map.mappings().last().unwrap().access.contains(Access::EXEC)
    };
    assert!(!stack(R | W));
    assert!(stack(R | W | X));
}

#[test]
fn zeros_without_file_bytes_and_read_only_tails_are_as_on_linux() {
    let mut image = Image::fixed();
    image.parts[2] = Part { file_size: 0, memory_size: 0x10, ..part(R, 0, 0x40_3100, 0) };
    image.parts.push(Part { memory_size: 0x2000, ..part(R, 0x2100, 0x41_0100, 0x100) });
    let loaded = load_alone(&image.bytes()).unwrap();
    assert_eq!(bytes_at(&loaded, 0x40_3000, 0x200), [0; 0x200]);
    // A read-only segment keeps the file's bytes in its last page; the page after it is zeros.
    assert_eq!(bytes_at(&loaded, 0x41_0200, 4), b"####");
    assert_eq!(bytes_at(&loaded, 0x41_1000, 4), [0; 4]);
}

#[test]
fn scripts_run_their_interpreters() {
    let memory = memory();
    let elf = Image::fixed().bytes();
    let script = |line: &str| line.as_bytes().to_vec();
    let files = Files::new(&memory, &[("/sh", elf), ("/outer", script("#! /sh -e -u \n"))]);
    let args = |loaded: &Loaded| {
        let count = word(loaded, loaded.stack.0);
        (1..=count).map(|at| string(loaded, word(loaded, loaded.stack.0 + at * 8))).collect::<Vec<_>>()
    };
    let loaded = load_with(&memory, b"#!/sh\necho", &files).unwrap();
    assert_eq!(args(&loaded), ["/sh", "/program", "a", "b"]);
    assert_eq!(string(&loaded, aux(&loaded)[&31]), "/program");
    let loaded = load_with(&memory, b"#!/outer x y\n", &files).unwrap();
    assert_eq!(args(&loaded), ["/sh", "-e -u", "/outer", "x y", "/program", "a", "b"]);
    let missing = load_with(&memory, b"#!/missing\n", &files).unwrap_err();
    assert_eq!(missing.to_string(), "its interpreter /missing not found");
    assert_eq!((missing.errno(), missing.is_not_found()), (Errno::ENOENT, false));
    assert_eq!(load_with(&memory, b"#!\n", &files).unwrap_err(), LoadError::BadScript);
}

#[test]
fn five_scripts_may_be_nested() {
    let memory = memory();
    let mut all = vec![("/0".to_owned(), Image::fixed().bytes())];
    all.extend((1..7).map(|depth| (format!("/{depth}"), format!("#!/{}\n", depth - 1).into_bytes())));
    let files: Vec<(&str, Vec<u8>)> = all.iter().map(|(path, bytes)| (path.as_str(), bytes.clone())).collect();
    let files = Files::new(&memory, &files);
    load_with(&memory, b"#!/4\n", &files).unwrap();
    let error = load_with(&memory, b"#!/5\n", &files).unwrap_err();
    assert_eq!((error.errno(), error), (Errno::ELOOP, LoadError::TooManyScripts));
}
