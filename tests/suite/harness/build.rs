//! Compiles guest programs once, into Cargo's folder for test files.

use super::repository;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

/// How a guest program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    /// glibc, static.
    Static,
    /// glibc, static and position-independent.
    StaticPie,
    /// glibc, by the dynamic loader.
    Dynamic,
    /// musl, static.
    Musl,
    /// musl, by its dynamic loader.
    MuslDynamic,
    /// No C library.
    Bare,
}

impl Link {
    fn compiler(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Static => ("gcc", &["-static"]),
            Self::StaticPie => ("gcc", &["-static-pie"]),
            Self::Dynamic => ("gcc", &[]),
            Self::Musl => ("musl-gcc", &["-static"]),
            Self::MuslDynamic => ("musl-gcc", &[]),
            Self::Bare => ("gcc", &["-nostdlib", "-static"]),
        }
    }
}

/// Warnings are errors, save those about the wrong arguments that the programs pass on purpose.
const FLAGS: &[&str] = &[
    "-O1",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-clobbered",
    "-Wno-infinite-recursion",
    "-Wno-nonnull",
    "-Wno-stringop-overflow",
    "-Wno-stringop-overread",
];

/// Compiles `tests/programs/{source}` and returns the program's path.
#[track_caller]
pub(crate) fn program(source: &str, link: Link) -> PathBuf {
    program_with(source, link, &[])
}

/// As [`program`], with more flags for the compiler.
#[track_caller]
pub(crate) fn program_with(source: &str, link: Link, flags: &[&str]) -> PathBuf {
    type Built = Arc<OnceLock<Result<PathBuf, String>>>;
    static PROGRAMS: Mutex<Option<HashMap<String, Built>>> = Mutex::new(None);
    let name = format!("{}-{link:?}{}", source.replace('.', "-"), flags.concat().replace(['/', '=', ','], "_"));
    let built = {
        let mut programs = PROGRAMS.lock().unwrap();
        programs.get_or_insert_default().entry(name.clone()).or_default().clone()
    };
    match built.get_or_init(|| compile(source, &name, link, flags)) {
        Ok(path) => path.clone(),
        Err(error) => panic!("{error}"),
    }
}

fn compile(source: &str, name: &str, link: Link, flags: &[&str]) -> Result<PathBuf, String> {
    let sources = repository().join("tests/programs");
    let source = sources.join(source);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let output = folder.join(name);
    // Any header may be one of its own.
    let headers = std::fs::read_dir(&sources).map_err(|error| format!("{}: {error}", sources.display()))?;
    let headers =
        headers.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "h"));
    let inputs: Vec<_> = headers.chain([source.clone(), PathBuf::from(file!())]).collect();
    if is_newer(&output, &inputs) {
        return Ok(output);
    }
    // Another test process may be compiling the same program: the rename makes it appear whole.
    let fresh = folder.join(format!(".{name}-{}", std::process::id()));
    let (compiler, mode) = link.compiler();
    let mut command = Command::new(compiler);
    command.args(FLAGS).args(mode).args(flags).arg("-o").arg(&fresh).arg(&source);
    let result = command.output().map_err(|error| {
        format!("{compiler}: {error}; `tests/run --setup` installs it (apt-get install gcc libc6-dev musl-tools)")
    })?;
    if !result.status.success() {
        return Err(format!("{} does not compile:\n{}", source.display(), String::from_utf8_lossy(&result.stderr)));
    }
    std::fs::rename(&fresh, &output).map_err(|error| format!("{}: {error}", output.display()))?;
    Ok(output)
}

/// Whether `output` exists and is newer than all of `inputs`.
fn is_newer(output: &Path, inputs: &[PathBuf]) -> bool {
    let time = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    time(output).is_some_and(|made| inputs.iter().filter_map(|input| time(input)).all(|changed| changed < made))
}
