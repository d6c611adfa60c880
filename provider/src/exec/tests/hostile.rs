//! What wrong programs are told.

use super::builder::{INTERP, Image, Part, R, load as part};
use super::*;
use expect_test::{Expect, expect};

fn check(image: &Image, expected: Expect) {
    check_bytes(&image.bytes(), expected);
}

fn check_bytes(bytes: &[u8], expected: Expect) {
    let error = load_alone(bytes).expect_err("this program must not load");
    expected.assert_eq(&format!("{:?}: {error}", error.errno()));
}

fn with(change: impl FnOnce(&mut Image)) -> Image {
    let mut image = Image::fixed();
    change(&mut image);
    image
}

#[test]
fn files_that_are_no_programs() {
    check_bytes(
        b"",
        expect!["ENOEXEC: not an executable format: neither an ELF file nor a script that starts with #!"],
    );
    check_bytes(
        b"hello",
        expect!["ENOEXEC: not an executable format: neither an ELF file nor a script that starts with #!"],
    );
    check_bytes(
        &[0; 4096],
        expect!["ENOEXEC: not an executable format: neither an ELF file nor a script that starts with #!"],
    );
    check(&with(|image| image.kind = 1), expect!["ENOEXEC: an ELF file, but not a program: an object file"]);
    check(&with(|image| image.kind = 4), expect!["ENOEXEC: an ELF file, but not a program: a core dump"]);
    check(&with(|image| image.kind = 77), expect!["ENOEXEC: an ELF file, but not a program: of an unknown type"]);
}

#[test]
fn programs_for_other_processors() {
    let bits32 = with(|image| (image.class, image.machine) = (1, 3));
    check(&bits32, expect!["ENOEXEC: a 32-bit program; only 64-bit x86-64 programs can run"]);
    let x32 = with(|image| image.class = 1);
    check(&x32, expect!["ENOEXEC: a 32-bit program; only 64-bit x86-64 programs can run"]);
    let arm = with(|image| image.machine = 183);
    check(&arm, expect!["ENOEXEC: made for 64-bit Arm (aarch64); only x86-64 programs can run"]);
    let arm32 = with(|image| (image.class, image.machine) = (1, 40));
    check(&arm32, expect!["ENOEXEC: made for 32-bit Arm; only x86-64 programs can run"]);
    let unknown = with(|image| image.machine = 9999);
    check(&unknown, expect!["ENOEXEC: made for an unknown processor (ELF machine 9999); only x86-64 programs can run"]);
    let mut big = with(|image| (image.data, image.machine) = (2, 0x1600)).bytes();
    check_bytes(&big, expect!["ENOEXEC: made for IBM Z (s390); only x86-64 programs can run"]);
    big[18..20].copy_from_slice(&[0, 62]);
    check_bytes(&big, expect!["ENOEXEC: made for a big-endian processor; only x86-64 programs can run"]);
    check(&with(|image| image.class = 7), expect!["ENOEXEC: malformed ELF file: it has neither 32 nor 64 bits"]);
}

#[test]
fn truncated_programs() {
    let bytes = Image::fixed().bytes();
    check_bytes(&bytes[..4], expect!["ENOEXEC: truncated: the file ends before its ELF header does"]);
    check_bytes(&bytes[..63], expect!["ENOEXEC: truncated: the file ends before its ELF header does"]);
    check_bytes(&bytes[..100], expect!["ENOEXEC: truncated: the file ends before its program headers do"]);
    check_bytes(&bytes[..0x24ff], expect!["ENOEXEC: truncated: the file ends before a segment does"]);
    assert!(load_alone(&bytes[..0x2500]).is_ok());
    let outside = with(|image| image.headers_offset = 1 << 60);
    check(&outside, expect!["ENOEXEC: truncated: the file ends before its program headers do"]);
    let wrapped = with(|image| image.parts[1].offset = u64::MAX - 0xfff);
    check(&wrapped, expect!["ENOEXEC: truncated: the file ends before a segment does"]);
}

#[test]
fn headers_that_lie() {
    let set = |change: fn(&mut Part)| with(|image| change(&mut image.parts[2]));
    check(
        &with(|image| image.header_count = Some(0)),
        expect!["ENOEXEC: malformed ELF file: it has no program headers, or too many"],
    );
    check(
        &with(|image| image.header_count = Some(2000)),
        expect!["ENOEXEC: malformed ELF file: it has no program headers, or too many"],
    );
    check(
        &with(|image| image.header_size = 32),
        expect!["ENOEXEC: malformed ELF file: its program headers have a wrong size"],
    );
    check(
        &with(|image| image.parts.clear()),
        expect!["ENOEXEC: malformed ELF file: it has no program headers, or too many"],
    );
    check(
        &with(|image| image.parts.iter_mut().for_each(|part| part.kind = 0)),
        expect!["ENOEXEC: malformed ELF file: it has nothing to load"],
    );
    check(
        &set(|part| part.address = 0x40_1400),
        expect!["ENOEXEC: malformed ELF file: a segment's address and file offset differ within a page"],
    );
    check(&set(|part| part.address = 0x40_1100), expect!["ENOEXEC: malformed ELF file: segments overlap at 0x401100"]);
    check(
        &set(|part| part.memory_size = 1),
        expect!["ENOEXEC: malformed ELF file: a segment has more bytes in the file than in memory"],
    );
    check(
        &set(|part| part.memory_size = u64::MAX),
        expect![
            "ENOEXEC: malformed ELF file: a segment of 0xffffffffffffffff bytes at 0x403100 does not fit into a program's address space"
        ],
    );
    check(
        &set(|part| part.address = 0xffff_ffff_8000_0100),
        expect![
            "ENOEXEC: malformed ELF file: a segment of 0x3000 bytes at 0xffffffff80000100 does not fit into a program's address space"
        ],
    );
    check(
        &set(|part| part.address = 0x7fff_ffff_e100),
        expect![
            "ENOEXEC: malformed ELF file: a segment of 0x3000 bytes at 0x7fffffffe100 does not fit into a program's address space"
        ],
    );
    check(
        &set(|part| part.memory_size = 1 << 40),
        expect!["ENOMEM: the program needs 1099511627776 bytes of memory; the limit is 67108864"],
    );
    check(
        &with(|image| image.entry = 1 << 63),
        expect!["ENOEXEC: malformed ELF file: its entry point is no address of a program"],
    );
    let low = with(|image| image.parts.push(part(R, 0x1000, 0x1000, 0x100)));
    check(
        &low,
        expect![
            "ENOEXEC: malformed ELF file: a segment of 0x100 bytes at 0x1000 does not fit into a program's address space"
        ],
    );
    let wide = with(|image| {
        image.kind = 3;
        image.parts.push(part(R, 0x1000, 0x7fff_ffff_0000, 0x100));
    });
    check(
        &wide,
        expect![
            "ENOEXEC: malformed ELF file: a segment of 0x7fffffbf1000 bytes at 0x400000 does not fit into a program's address space"
        ],
    );
    let aligned = with(|image| {
        image.kind = 3;
        image.parts[0].alignment = 1 << 46;
    });
    check(
        &aligned,
        expect![
            "ENOEXEC: malformed ELF file: a segment of 0x7000 bytes at 0x400000 does not fit into a program's address space"
        ],
    );
}

#[test]
fn interpreters_that_are_none() {
    let named = |name: &[u8]| Image::relocatable().with_interpreter(name);
    check(&named(b"/lib/ld.so\0"), expect!["ENOENT: its interpreter /lib/ld.so not found"]);
    check(&named(b"\0"), expect!["ENOEXEC: malformed ELF file: its interpreter's name is empty or too long"]);
    check(&named(b"/lib/ld.so"), expect!["ENOEXEC: malformed ELF file: its interpreter's name has no end"]);
    let outside = with(|image| image.parts.push(Part { kind: INTERP, ..part(R, 1 << 40, 0, 20) }));
    check(&outside, expect!["ENOEXEC: truncated: the file ends before its interpreter's name does"]);
    let memory = memory();
    let files =
        Files::new(&memory, &[("/text", b"hello".to_vec()), ("/arm", with(|image| image.machine = 183).bytes())]);
    let try_with = |name: &[u8]| load_with(&memory, &named(name).bytes(), &files).unwrap_err();
    let error = try_with(b"/text\0");
    expect!["its interpreter /text cannot be loaded: not an executable format: neither an ELF file nor a script that starts with #!"]
        .assert_eq(&error.to_string());
    assert_eq!(error.errno(), Errno::ELIBBAD);
    assert_eq!(try_with(b"/arm\0").errno(), Errno::ELIBBAD);
}

#[test]
fn a_program_that_needs_more_memory_than_there_is() {
    let image = with(|image| image.parts[2].memory_size = 65 << 20);
    check(&image, expect!["ENOMEM: the program needs 68157440 bytes of memory; the limit is 67108864"]);
    let tiny = GuestMemory::detached(16 << 10).unwrap();
    let error = load_with(&tiny, &Image::fixed().bytes(), &NoFiles).unwrap_err();
    assert_eq!(error, LoadError::OutOfMemory { limit: 16 << 10 });
}
