//! Links the launcher statically (position-independent still): loading two libraries took half a millisecond of a start,
//! longer than making a virtual machine takes.
//!
//! The compiler's own way, `-Ctarget-feature=+crt-static`, goes for a whole build: it needs `--target`, since procedural
//! macros cannot be built with it, and that moves the executable to another folder. So the linker is told instead, and
//! for this executable only: in the place of the shared libraries that the standard library is linked with it finds
//! scripts that name the archives. Nothing here asks the name-service switch, the one thing that needs shared libraries.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The shared libraries that have archives in their place (the others are part of glibc's), and the archives.
const SCRIPTS: [(&str, &[&str]); 2] =
    [("libc.so", &["libc.a", "libgcc_eh.a", "libgcc.a"]), ("libgcc_s.so", &["libgcc_eh.a", "libgcc.a"])];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
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
}

/// The path of an archive, asked of the linker's driver; it answers with the bare name if there is none.
fn find(archive: &str) -> Option<String> {
    let driver = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let output = Command::new(driver).arg(format!("-print-file-name={archive}")).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    Some(path.trim()).filter(|path| Path::new(path).is_absolute()).map(str::to_owned)
}
