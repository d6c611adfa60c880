//! `picovisor serve`: the side that asks, and the side that is asked.
//!
//! Each run has a daemon of its own, which is gone at its end, with all that it has started. The side that is not traced stands as the
//! other does (under a filter, without privileges): otherwise nothing would be handed over.

use super::stage::{GRACE, Heard, LIMIT, Stage, is_ready, listen};
use super::{Left, Run, Scene};
use crate::harness::{Link, picovisor, program, tool};
use faults::{Plan, Traced, stand_alike};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::os::linux::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

/// How often it is looked whether a daemon has a monitor ready that did not say so.
const LOOK: Duration = Duration::from_millis(20);

/// What a daemon says when it is ready.
const READY: &str = "picovisor: 1 monitor is ready; SIGTERM or SIGINT ends the daemon\n";

/// Copies of the executable: a daemon serves the runs of its own file, so as many as there are runs at once.
#[derive(Default)]
struct Copies(Mutex<Vec<Copy>>);

struct Copy(tempfile::TempDir);

impl Copies {
    /// Has one to itself for as long as `body` takes.
    fn with<T>(&self, body: impl FnOnce(&Path) -> T) -> T {
        let free = self.0.lock().unwrap().pop();
        let copy = free.unwrap_or_else(Copy::make);
        let result = body(&copy.path());
        self.0.lock().unwrap().push(copy);
        result
    }
}

impl Copy {
    fn make() -> Self {
        let copy = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        // Another process writes it: what is open for writing here is so in children that other tests are about to start as well, and
        // then it cannot be executed.
        let copied = Command::new(tool("cp")).arg(picovisor()).arg(copy.path()).status().unwrap();
        assert!(copied.success());
        copy
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("picovisor")
    }
}

/// The caller of a daemon, which is traced.
#[derive(Default)]
pub(super) struct Client(Copies);

impl Scene for Client {
    fn name(&self) -> &'static str {
        "the caller of a daemon"
    }

    fn output(&self) -> String {
        OUTPUT.to_owned()
    }

    fn run(&self, plan: Option<Plan>) -> Run {
        self.0.with(|executable| {
            let stage = Stage::with_files();
            let (tell, told) = mpsc::channel();
            let (over, is_over) = mpsc::channel::<()>();
            let (mut run, end) = std::thread::scope(|scope| {
                // On a thread of its own: the one that traces has no other children.
                let command = daemon(&stage, executable);
                let daemon = scope.spawn(move || {
                    let daemon = Untraced::start(command, executable);
                    let _ = tell.send(());
                    // Until the other side is gone.
                    let _ = is_over.recv();
                    daemon.end(executable)
                });
                let _ = told.recv();
                let run = stage.trace(client(&stage, executable, &[]), plan);
                drop(over);
                (run, daemon.join().unwrap())
            });
            if let Err(why) = end {
                run.left = Left::Wrong(why);
            }
            run
        })
    }

    /// It does the run itself if it cannot be handed over.
    fn detours(&self) -> Vec<Run> {
        let run = || {
            let stage = Stage::with_files();
            stage.trace(client(&stage, picovisor(), &["--no-serve"]), None)
        };
        (0..super::PLAIN).map(|_| run()).collect()
    }
}

/// A daemon with its spare, which are traced, for one caller.
#[derive(Default)]
pub(super) struct Daemon(Copies);

impl Scene for Daemon {
    fn name(&self) -> &'static str {
        "a daemon and its monitors"
    }

    fn output(&self) -> String {
        OUTPUT.to_owned()
    }

    fn run(&self, plan: Option<Plan>) -> Run {
        self.0.with(|executable| {
            let stage = Stage::with_files();
            let mut command = daemon(&stage, executable);
            let (errors, err) = std::io::pipe().unwrap();
            command.stderr(err);
            let traced = Traced::start(&mut command, plan).expect("a daemon can be started and traced");
            // It holds the writing end.
            drop(command);
            let process = process(traced.id()).expect("it is stopped and cannot have ended");
            std::thread::scope(|scope| {
                let others = scope.spawn(|| {
                    let said = await_ready(&errors, executable);
                    let served = Served::run(client(&stage, executable, &[]));
                    // It may be gone.
                    let _ = pidfd_send_signal(&process, Signal::TERM);
                    let mut rest = listen(&errors, |_| {});
                    rest.text = said + &rest.text;
                    (served, rest)
                });
                let mut ended = traced.attend(LIMIT).expect("a daemon can be traced");
                let (Served { status, out, mut errors }, said) = others.join().unwrap();
                errors.is_late |= said.is_late;
                errors.text += &said.text.replacen(READY, "", 1);
                if status != 0 {
                    ended.status = status;
                }
                stage.end(ended, out, errors)
            })
        })
    }
}

/// What the program prints.
const OUTPUT: &str = "files\ndone\n";

fn daemon(stage: &Stage, executable: &Path) -> Command {
    stage.command(executable, &["serve", "--spares", "1"])
}

fn client(stage: &Stage, executable: &Path, options: &[&str]) -> Command {
    let mut command = stage.run_in_folder(executable, options, &program("injected.c", Link::Static));
    command.arg("files");
    command
}

/// A caller that is not traced, and has ended.
struct Served {
    /// 128 + N after signal N.
    status: i32,
    out: Heard,
    errors: Heard,
}

impl Served {
    fn run(mut command: Command) -> Self {
        stand_alike(&mut command);
        let (out_reader, out) = std::io::pipe().unwrap();
        let (err_reader, err) = std::io::pipe().unwrap();
        let mut child = command.stdout(out).stderr(err).spawn().unwrap();
        // It holds the writing ends.
        drop(command);
        let (out, mut errors) = std::thread::scope(|scope| {
            let out = scope.spawn(|| listen(&out_reader, |_| {}));
            let errors = listen(&err_reader, |_| {});
            (out.join().unwrap(), errors)
        });
        let process = process(child.id()).expect("it was not waited for");
        if !is_ready(&process, Instant::now() + GRACE) {
            errors.is_late = true;
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        let by_signal = status.signal().map(|signal| 128 + signal);
        Self { status: status.code().or(by_signal).unwrap(), out, errors }
    }
}

/// A daemon that is not traced.
struct Untraced {
    child: Child,
    process: OwnedFd,
    errors: PipeReader,
    /// What it has said.
    said: String,
}

impl Untraced {
    /// Starts one, and waits until it has a monitor ready.
    fn start(mut command: Command, executable: &Path) -> Self {
        stand_alike(&mut command);
        let (errors, err) = std::io::pipe().unwrap();
        let child = command.stderr(err).spawn().unwrap();
        let process = process(child.id()).expect("it was not waited for");
        let said = await_ready(&errors, executable);
        Self { child, process, errors, said }
    }

    /// Ends it, and finds out whether it has been well and left nothing.
    fn end(mut self, executable: &Path) -> Result<(), String> {
        let is_alive = !is_ready(&self.process, Instant::now());
        // A monitor that had a caller is about to go, and is not the daemon's to wait for.
        let monitors = processes(executable);
        // It may be gone.
        let _ = pidfd_send_signal(&self.process, Signal::TERM);
        let deadline = Instant::now() + GRACE;
        let all = monitors.iter().chain([&self.process]);
        let stays: Vec<_> = all.filter(|process| !is_ready(process, deadline)).collect();
        stays.iter().for_each(|process| _ = pidfd_send_signal(process, Signal::KILL));
        let stays = stays.len();
        let status = self.child.wait().unwrap();
        // Until whoever has its standard error is gone.
        let rest = listen(&self.errors, |_| {});
        let said = self.said + &rest.text;
        // A signal may come before it has said so.
        let is_usual = said.is_empty() || said == READY;
        if is_alive && stays == 0 && status.success() && is_usual && !rest.is_late {
            return Ok(());
        }
        Err(format!("the daemon: alive: {is_alive}, {status}, {stays} processes stay, it said {said:?}"))
    }
}

/// A process that was not waited for.
fn process(number: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(number.try_into().unwrap())?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// The processes of a copy of the executable.
fn processes(executable: &Path) -> Vec<OwnedFd> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_its = |number: &u32| std::fs::read_link(format!("/proc/{number}/exe")).is_ok_and(|file| file == executable);
    numbers.filter(is_its).filter_map(process).collect()
}

/// Waits until a daemon has a monitor ready, or is gone; answers what it has said.
fn await_ready(errors: &PipeReader, executable: &Path) -> String {
    let deadline = Instant::now() + LIMIT;
    let (mut said, mut piece) = (String::new(), [0; 1024]);
    while !said.ends_with(READY) && Instant::now() < deadline {
        if is_ready(errors, Instant::now() + LOOK) {
            match rustix::io::read(errors, &mut piece) {
                Ok(0) => break,
                Ok(count) => said += &String::from_utf8_lossy(&piece[..count]),
                Err(error) => assert_eq!(error, Errno::INTR),
            }
        } else if listens(executable) {
            break;
        }
    }
    said
}

/// Whether a monitor of a copy of the executable waits for a caller.
fn listens(executable: &Path) -> bool {
    let file = std::fs::metadata(executable).unwrap();
    let build = format!("/serve/{:x}-{:x}-", file.st_dev(), file.st_ino());
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    table.lines().any(|line| line.contains(&build) && line.ends_with("/0"))
}
