//! `picovisor serve` for tests: a daemon of their own, for a copy of the executable. The others' runs are of another build, and find none.

use super::{Command, Outcome, picovisor, scratch, tool};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr};

/// What a run with -v says of its start.
pub(crate) const SERVED: &str = "picovisor: started by picovisor serve\n";
pub(crate) const DIRECT: &str = "picovisor: started without picovisor serve: ";

/// A daemon, and the executable whose runs it serves.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) executable: PathBuf,
    child: Child,
    errors: BufReader<ChildStderr>,
    _folder: tempfile::TempDir,
}

impl Daemon {
    /// Starts one, and waits until its spares are ready.
    pub(crate) fn start(spares: u32) -> Self {
        let folder = scratch();
        let executable = folder.path().join("picovisor");
        copy_to(&executable);
        let mut command = Command::new(&executable).args(["serve", "--spares", &spares.to_string()]).std();
        let mut child = command.spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "{line}");
        Self { executable, child, errors, _folder: folder }
    }

    /// `picovisor run -v` of a command, with more options.
    pub(crate) fn run(&self, command: &Command, options: &[&str]) -> Command {
        let options: Vec<_> = ["-v"].iter().chain(options).map(AsRef::as_ref).collect();
        command.sandboxed_by(&self.executable, &options)
    }

    /// Runs a command until a spare has done it, which takes another try where none is ready yet. Without what -v says.
    #[track_caller]
    pub(crate) fn serve(&self, command: &Command, options: &[&str]) -> Outcome {
        loop {
            let mut outcome = self.run(command, options).run();
            let errors = outcome.errors();
            if errors.contains(SERVED) {
                let own = errors.split_inclusive('\n').filter(|line| !line.starts_with("picovisor: "));
                outcome.err = own.collect::<String>().into();
                return outcome;
            }
            let busy = errors.contains("picovisor: ran for") && !errors.contains(DIRECT);
            assert!(busy, "{command} is not served: {errors}");
        }
    }

    /// Runs a command that no spare may do; why not.
    #[track_caller]
    pub(crate) fn direct(&self, command: &Command, options: &[&str]) -> String {
        self.why_direct(&self.run(command, options))
    }

    /// As [`Self::direct`], of a whole command line.
    #[track_caller]
    pub(crate) fn why_direct(&self, command: &Command) -> String {
        loop {
            let outcome = command.run();
            let errors = outcome.errors();
            assert!(!errors.contains(SERVED), "{command} is served: {errors}");
            if let Some(why) = errors.lines().find_map(|line| line.strip_prefix(DIRECT.trim_end_matches('\n'))) {
                return why.to_owned();
            }
            assert!(errors.contains("picovisor: ran for"), "{errors}");
        }
    }

    /// The name of its socket, or of a spare's.
    pub(crate) fn address(&self, spare: Option<u32>) -> String {
        let file = std::fs::metadata(&self.executable).unwrap();
        let (device, inode, size) = (file.dev(), file.ino(), file.size());
        let uid = rustix::process::geteuid().as_raw();
        let name =
            format!("picovisor/{uid}/serve/{device:x}-{inode:x}-{size:x}-{:x}.{:x}", file.mtime(), file.mtime_nsec());
        spare.map_or(name.clone(), |spare| format!("{name}/{spare}"))
    }

    /// Ends it with a signal, and waits for it; what it still said, and its status.
    pub(crate) fn end(mut self, signal: Signal) -> (String, Option<i32>) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let status = self.child.wait().unwrap();
        let mut rest = String::new();
        self.errors.read_to_string(&mut rest).unwrap();
        (rest, status.code())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended; its number is not another's before it is waited for.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Copies the command under test. Another process does, since what is open for writing here is so in children that other tests are about
/// to start as well, and then it cannot be executed.
pub(crate) fn copy_to(executable: &Path) {
    let copied = std::process::Command::new(tool("cp")).arg(picovisor()).arg(executable).status().unwrap();
    assert!(copied.success());
}

/// Connects to an abstract name.
pub(crate) fn connect(name: &str) -> std::io::Result<UnixStream> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
}

/// Where the sandbox of that name listens.
pub(crate) fn control_address(name: &str) -> String {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    let end = format!("/{name}");
    let mut names = table.lines().filter_map(|line| line.split_ascii_whitespace().nth(7)?.strip_prefix('@'));
    let is_its =
        |address: &&str| address.starts_with("picovisor/") && address.ends_with(&end) && !address.contains("/name/");
    names.find(is_its).expect("it listens").to_owned()
}
