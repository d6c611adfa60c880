//! Links the launcher statically (position-independent still): loading two libraries took half a millisecond of a start,
//! longer than making a virtual machine takes.
//!
//! The compiler's own way, `-Ctarget-feature=+crt-static`, goes for a whole build: it needs `--target`, since procedural
//! macros cannot be built with it, and that moves the executable to another folder. So the linker is told instead, and
//! for this executable only: in the place of the shared libraries that the standard library is linked with it finds
//! scripts that name the archives. Nothing here asks the name-service switch, the one thing that needs shared libraries.
//!
//! Such an executable begins in `vmm`'s `entry` module, and has the functions that a start runs side by side (`src/start-order.txt`, which
//! `benches/start-order` makes). They were in every part of seven megabytes, which is a hundred page faults that map sixteen pages each, and as many
//! pages to take down at the end: three times the cost of creating a virtual machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The shared libraries that have archives in their place (the others are part of glibc's), and the archives.
const SCRIPTS: [(&str, &[&str]); 2] =
    [("libc.so", &["libc.a", "libgcc_eh.a", "libgcc.a"]), ("libgcc_s.so", &["libgcc_eh.a", "libgcc.a"])];

/// The functions that come first.
const FIRST: &str = "src/start-order.txt";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={FIRST}");
    let target = |name: &str| env::var(format!("CARGO_CFG_{name}")).unwrap_or_default();
    let already_static = target("TARGET_FEATURE").split(',').any(|feature| feature == "crt-static");
    if target("TARGET_ENV") != "gnu" || already_static {
        return;
    }
    let folder = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("archives");
    fs::create_dir_all(&folder).expect("a folder in OUT_DIR");
    for (library, archives) in SCRIPTS {
        let found: Option<Vec<String>> = archives.iter().map(|archive| find(archive)).collect();
        // A system may have the C library without its archive: then the launcher is linked like any other program.
        let Some(found) = found else { return };
        fs::write(folder.join(library), format!("GROUP({})\n", found.join(" "))).expect("a file in OUT_DIR");
    }
    println!("cargo::rustc-link-arg-bins=-L{}", folder.display());
    println!("cargo::rustc-link-arg-bins=-static-pie");
    // What crt1.o asks for weakly is zero then, and not left to a dynamic linker that does not come.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,nodynamic-undefined-weak");
    if relocates_packed() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    println!("cargo::rustc-link-arg-bins=-Wl,-e,picovisor_entry");
    let script = folder.join("first.ld");
    fs::write(&script, order(&fs::read_to_string(FIRST).expect(FIRST))).expect("a file in OUT_DIR");
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
}

/// Whether the C library knows relocations that are packed, and take an eightieth of the space (glibc 2.36 and later).
fn relocates_packed() -> bool {
    let driver = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let macros = Command::new(driver).args(["-E", "-dM", "-include", "features.h", "-xc", "/dev/null"]).output();
    let macros = macros.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let value = |name| macros.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
    (value("#define __GLIBC__ "), value("#define __GLIBC_MINOR__ ")) >= (Some(2), Some(36))
}

/// A linker script that puts the functions of a list before all others: a symbol's pattern a line, or an object of the C library's, whose
/// functions have no sections of their own.
fn order(list: &str) -> String {
    let section = |line: &str| match line.strip_prefix("libc.a:") {
        Some(object) => format!("*libc.a:{object}(.text .text.*)\n"),
        // The compiler sets apart what it holds for rare: what runs once, too.
        None => format!("*(.text.{line} .text.unlikely.{line})\n"),
    };
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines = ["picovisor_entry"].into_iter().chain(lines);
    format!("SECTIONS {{ .text.first : {{\n{}}} }} INSERT BEFORE .text;\n", lines.map(section).collect::<String>())
}

/// The path of an archive, asked of the linker's driver; it answers with the bare name if there is none.
fn find(archive: &str) -> Option<String> {
    let driver = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let output = Command::new(driver).arg(format!("-print-file-name={archive}")).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    Some(path.trim()).filter(|path| Path::new(path).is_absolute()).map(str::to_owned)
}
