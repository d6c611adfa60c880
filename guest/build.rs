//! Builds the images that run inside the virtual machine: freestanding programs with a linker script each.
//!
//! They are compiled by the compiler that builds the rest, for the ordinary target, so a stable toolchain is enough.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A freestanding program in `image/NAME.rs`, linked by `image/NAME.ld`.
struct Image {
    name: &'static str,
    /// Options for the compiler beyond those of every image.
    rustc: &'static [&'static str],
    /// Further options for the linker.
    link: &'static [&'static str],
}

const IMAGES: &[Image] = &[Image {
    name: "trap",
    rustc: &["--crate-type=bin", "-Crelocation-model=static", "-Ccode-model=kernel"],
    link: &["-static", "-no-pie"],
}];

/// Options every image needs: no unwinding, no run-time library, nothing the linker adds by itself.
const RUSTC: &[&str] = &[
    "--edition=2024",
    "--target=x86_64-unknown-linux-gnu",
    "-Copt-level=2",
    "-Cpanic=abort",
    "-Cforce-unwind-tables=no",
    "-Cdefault-linker-libraries=no",
    "-Cstrip=debuginfo",
];
const LINK: &[&str] = &["-nostartfiles", "-nostdlib", "-Wl,--build-id=none", "-Wl,-z,max-page-size=4096"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=image");
    println!("cargo::rerun-if-changed=src");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for image in IMAGES {
        build(image, &out);
    }
    build_vdso(&out);
}

fn build(image: &Image, out: &Path) {
    let source = Path::new("image").join(image.name);
    let script = source.with_extension("ld");
    let link = LINK.iter().chain(image.link).map(|&option| option.to_owned());
    let status = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"))
        .args(RUSTC)
        .args(image.rustc)
        .args(link.chain([format!("-Wl,-T,{}", script.display())]).map(|option| format!("-Clink-arg={option}")))
        .arg("-o")
        .arg(out.join(image.name))
        .arg(source.with_extension("rs"))
        // Options meant for the host's programs (static C run-time, instrumentation) have no place in an image.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .unwrap_or_else(|error| panic!("the compiler does not start: {error}"));
    assert!(status.success(), "the image {} does not build", image.name);
}

/// Builds `image/vdso.rs` in two steps. As a cdylib, the compiler would give the linker a list of exported symbols of
/// its own, which cannot be combined with the version node that the vDSO needs. And a library's object brings no panic
/// handler and no memcpy: whatever would call one fails to link.
fn build_vdso(out: &Path) {
    let object = out.join("vdso.o");
    let status = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"))
        .args(RUSTC)
        // One unit, so that the assembly's aliases find their functions. Profilers unwind through the vDSO.
        .args(["--crate-type=lib", "-Crelocation-model=pic", "-Ccodegen-units=1", "-Cforce-unwind-tables=yes"])
        .arg(format!("--emit=obj={}", object.display()))
        .arg("image/vdso.rs")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .unwrap_or_else(|error| panic!("the compiler does not start: {error}"));
    assert!(status.success(), "the vDSO does not compile");
    let status = Command::new(env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into()))
        .args(LINK)
        .args([
            "-shared",
            "-Wl,-soname=linux-vdso.so.1",
            "-Wl,--hash-style=both",
            "-Wl,-Bsymbolic",
            "-Wl,--eh-frame-hdr",
        ])
        .args(["-Wl,-z,defs", "-Wl,-z,noexecstack", "-Wl,--gc-sections", "-Wl,--fatal-warnings", "-Wl,--strip-all"])
        .args(["-Wl,-T,image/vdso.ld", "-o"])
        .args([&out.join("vdso"), &object])
        .status()
        .unwrap_or_else(|error| panic!("the linker does not start: {error}"));
    assert!(status.success(), "the vDSO does not link");
}
