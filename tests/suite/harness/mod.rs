//! Compiles guest programs, runs them natively and in a sandbox, and compares what they did.

mod build;
mod command;
pub(crate) mod serve;

pub(crate) use build::{Link, program, program_with};
pub(crate) use command::{Command, Outcome};

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The command under test.
pub(crate) fn picovisor() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_picovisor"))
}

/// The repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Answers whether tests that need KVM run. False where they are to be skipped; ends the test where KVM is missing.
pub(crate) fn kvm() -> bool {
    if std::env::var_os("PICOVISOR_NO_KVM").is_some_and(|value| value == "1") {
        let thread = std::thread::current();
        eprintln!("skipped {}: PICOVISOR_NO_KVM=1", thread.name().unwrap_or("a test"));
        return false;
    }
    let opened = std::fs::File::options().read(true).write(true).open("/dev/kvm");
    assert!(
        opened.is_ok(),
        "/dev/kvm cannot be opened ({}); PICOVISOR_NO_KVM=1 skips what needs it",
        opened.unwrap_err()
    );
    true
}

/// Ends the calling test here if it needs KVM and those tests are to be skipped.
macro_rules! need_kvm {
    () => {
        if !crate::harness::kvm() {
            return;
        }
    };
}
pub(crate) use need_kvm;

/// Finds a tool that the tests compare with. The test command's set-up step installs what is missing.
pub(crate) fn tool(name: &str) -> PathBuf {
    let folders = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    match folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file()) {
        Some(path) => path,
        None => panic!("{name} is not installed; tests/run --setup installs what the tests need"),
    }
}

/// A folder that vanishes with the value, outside /tmp: sandboxes have a /tmp of their own.
pub(crate) fn scratch() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("picovisor-test-").tempdir_in("/var/tmp");
    folder.expect("a temporary folder in /var/tmp")
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a host folder given with `--rw`.
    HostFolder,
    /// In a host folder that is not given: writes go to the overlay.
    Overlay,
    /// In the sandbox's own /tmp.
    Memory,
}

/// Runs `command` natively and in a sandbox and compares output, errors and status. Returns the native outcome.
///
/// Each run starts in a fresh, empty folder. After a run in the overlay, the host's folder must be empty still.
#[track_caller]
pub(crate) fn compare(command: &Command, place: Place) -> Outcome {
    let folder = scratch();
    let native = command.clone().folder(folder.path()).run();
    let ours = in_sandbox(command, place);
    assert_same(command, &native, &ours);
    native
}

/// Compares a run in a sandbox with a native one.
#[track_caller]
pub(crate) fn assert_same(command: &Command, native: &Outcome, ours: &Outcome) {
    if native != ours {
        panic!("{command} differs (- natively, + in the sandbox):\n{}", native.difference(ours));
    }
}

/// Runs `command` in a sandbox, in a fresh folder of the kind that `place` says.
#[track_caller]
pub(crate) fn in_sandbox(command: &Command, place: Place) -> Outcome {
    in_sandbox_with(command, place, &[])
}

/// As [`in_sandbox`], with more options for the sandbox.
#[track_caller]
pub(crate) fn in_sandbox_with(command: &Command, place: Place, options: &[&str]) -> Outcome {
    let folder = scratch();
    let mut options: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
    let sandboxed = match place {
        Place::HostFolder => {
            options.extend([OsStr::new("--rw"), folder.path().as_os_str()]);
            command.sandboxed(&options).folder(folder.path())
        }
        Place::Overlay => command.sandboxed(&options).folder(folder.path()),
        Place::Memory => {
            options.extend([OsStr::new("--workdir"), OsStr::new("/tmp")]);
            command.sandboxed(&options)
        }
    };
    let outcome = sandboxed.run();
    if place == Place::Overlay {
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder exists").flatten().collect();
        assert!(left.is_empty(), "{command} wrote through the overlay: {left:?}");
    }
    outcome
}
