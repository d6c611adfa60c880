//! That every line of the jail's table is needed: without it, something that a sandbox does for its program or its tools fails.
//!
//! Monitors that were built with debug assertions leave a line out if PICOVISOR_JAIL_WITHOUT names it, and end where the call is
//! made. Each line is left out of one scenario after another, until one shows it.

use crate::harness::{Command, need_kvm, picovisor, scratch, tool};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Lines that no scenario here shows, and why.
const UNSHOWN: &[(&str, &str)] = &[
    ("restart_syscall", "the kernel's own, after a stop"),
    ("sendfile", "file systems that cannot copy"),
    ("wait4", "the keeper of a terminal: the tests of -t"),
];

/// Something that a sandbox does, without the call that is named: the monitor's exit status, or 128 + N after signal N.
type Scenario = fn(without: &str) -> i32;

/// From the cheapest to the dearest, and their usual status.
const SCENARIOS: &[(Scenario, i32)] = &[
    (shell, 0),
    (queries, 0),
    (files_handed_over, 0),
    (streams_handed_over, 0),
    (granted_folder, 0),
    (host_network, 0),
    (tools, 128 + 10),
    (bug_check, BUG_CHECK),
];
const BUG_CHECK: i32 = 125;

/// Lines that only a bug check shows, which takes a host that lets a process change its child's memory.
const OF_REPORTS: &[&str] = &["lseek", "mseal"];

/// The status of a monitor that has made a call without a line: SIGSYS.
const CAUGHT: i32 = 128 + 31;

/// Runs a command in a sandbox.
fn sandboxed(without: &str, options: &[&str], program: &str, args: &[&str]) -> i32 {
    let options: Vec<_> = options.iter().map(AsRef::as_ref).collect();
    Command::new(tool(program)).args(args).sandboxed(&options).env(VARIABLE, without).run().status
}

/// The status of a process that has ended.
fn status(ended: ExitStatus) -> i32 {
    ended.code().or(ended.signal().map(|signal| 128 + signal)).unwrap()
}

const VARIABLE: &str = "PICOVISOR_JAIL_WITHOUT";

fn shell(without: &str) -> i32 {
    sandboxed(
        without,
        &[],
        "sh",
        &[
            "-c",
            "ls / | wc -l; readlink /proc/self/exe; while :; do :; done & sleep 0.05; kill $!; (sleep 0.02; echo late) & wait",
        ],
    )
}

fn queries(without: &str) -> i32 {
    let script = r"
import ctypes, mmap, os, select, threading, time
call = ctypes.CDLL(None).syscall
print(os.listxattr('/etc/passwd'), os.statvfs('/').f_bsize > 0, len(os.urandom(8)))
try: os.getxattr('/etc/passwd', 'user.none')
except OSError as error: print(error.errno)
os.sched_setaffinity(0, [0]); os.sched_yield(); print(len(os.getloadavg()), call(324, 0, 0, 0) >= 0)
r, w = os.pipe(); os.write(w, b'x'); print(select.select([r, 0], [], [], 0)[0])
threads = [threading.Thread(target=time.sleep, args=[0.01]) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
class Time(ctypes.Structure): _fields_ = [('s', ctypes.c_long), ('n', ctypes.c_long)]
now = time.time() + 0.3; until = Time(int(now), int(now % 1 * 1e9)); print(call(230, 0, 1, ctypes.byref(until), None))
with open('/bin/sh', 'rb') as f:
    print(f.seek(0, os.SEEK_DATA), os.pread(f.fileno(), 4, 0), mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[1:4])
    print(os.sendfile(os.open('/dev/null', os.O_WRONLY), f.fileno(), 0, 10))
print(time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID) > 0, len(os.listdir('/etc')) > 1, len(bytearray(64 << 20)))
";
    sandboxed(without, &[], "python3", &["-I", "-c", script])
}

/// Standard output is a file, standard input a folder's.
fn files_handed_over(without: &str) -> i32 {
    let script = r"
import fcntl, os
os.posix_fallocate(1, 0, 100); os.ftruncate(1, 50); os.fsync(1); os.lseek(1, 0, os.SEEK_SET)
os.write(1, b'first'); print(os.copy_file_range(0, 1, 5), os.fstat(1).st_size); os.pwrite(1, b'x', 3)
";
    let folder = scratch();
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    std::fs::write(&source, "0123456789").unwrap();
    let mut command =
        Command::new(tool("python3")).args(["-I", "-c", script]).sandboxed(&[]).env(VARIABLE, without).std();
    command.stdin(File::open(&source).unwrap()).stdout(File::create(&target).unwrap()).stderr(Stdio::null());
    status(command.status().unwrap())
}

/// Standard input and output are sockets.
fn streams_handed_over(without: &str) -> i32 {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = Command::new(tool("cat")).sandboxed(&[]).env(VARIABLE, without).std();
    let side = || std::os::fd::OwnedFd::from(theirs.try_clone().unwrap());
    let mut child = command.stdin(side()).stdout(side()).stderr(Stdio::null()).spawn().unwrap();
    drop((command, theirs));
    // One that has ended is what is to be seen.
    let _ = std::io::Write::write_all(&mut &ours, b"through");
    let _ = ours.shutdown(std::net::Shutdown::Write);
    let mut text = String::new();
    let _ = (&ours).read_to_string(&mut text);
    status(child.wait().unwrap())
}

fn granted_folder(without: &str) -> i32 {
    let script = r"
import ctypes, os
libc = ctypes.CDLL(None)
print(os.statvfs('.').f_bsize > 0)
f = os.open('file', os.O_CREAT | os.O_RDWR, 0o600); os.write(f, b'0123'); os.fdatasync(f); os.fsync(f); os.sync()
print(libc.syncfs(f)); os.ftruncate(f, 2); os.posix_fallocate(f, 0, 10)
r, w = os.pipe(); os.write(w, b'abc'); print(os.splice(r, f, 3, offset_dst=1))
os.mkdir('folder'); os.mkfifo('fifo'); os.link('file', 'other'); os.symlink('file', 'link'); os.rename('other', 'moved')
os.chmod('file', 0o644); os.chown('file', os.getuid(), os.getgid()); os.utime('file', (1, 1)); print(os.readlink('link'))
try: os.setxattr('file', 'user.a', b'b'); os.removexattr('file', 'user.a')
except OSError as error: print(error.errno)
os.rmdir('folder'); os.unlink('moved'); print(sorted(os.listdir('.')))
";
    let folder = scratch();
    let path = folder.path().to_str().unwrap();
    sandboxed(without, &["--rw", path, "-w", path], "python3", &["-I", "-c", script])
}

fn host_network(without: &str) -> i32 {
    let script = r"
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('127.0.0.1', 0)); s.listen()
c = socket.create_connection(s.getsockname()); d, _ = s.accept(); c.sendall(b'there'); print(d.recv(9), c.getpeername() == s.getsockname())
print(d.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)); c.shutdown(socket.SHUT_RDWR); print(d.recv(9))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('127.0.0.1', 0)); u.sendto(b'x', u.getsockname()); print(u.recvfrom(9)[0])
";
    sandboxed(without, &["--net", "host"], "python3", &["-I", "-c", script])
}

/// Starts a sandbox that has said that it runs, and whose standard input keeps it; the status of one that ends before.
fn sleeper(without: &str, options: &[&str], crashes: &Path) -> Result<Child, i32> {
    let options: Vec<_> = options.iter().map(AsRef::as_ref).collect();
    let command = Command::new(tool("sh")).args(["-c", "echo ready; read line; exit 3"]).sandboxed(&options);
    let command = command.env(VARIABLE, without).env("PICOVISOR_CRASH_DIR", crashes.to_str().unwrap());
    let mut child = command.std().stdin(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line == "ready\n" { Ok(child) } else { Err(status(child.wait().unwrap())) }
}

fn tools(without: &str) -> i32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("lines-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = scratch();
    let mut child = match sleeper(without, &["--name", &name], folder.path()) {
        Ok(child) => child,
        Err(status) => return status,
    };
    for asked in [&["exec", &name, "--", "sh", "-c", "echo inside"][..], &["stats", &name], &["compress", &name]] {
        // Of a monitor that has ended there is nothing to be had, which its own status shows.
        let _ = Command::new(picovisor()).args(asked).run();
    }
    // The monitor passes it on, which ends the program; the end of its input would, too.
    let input = child.stdin.take();
    let _ = kill_process(Pid::from_child(&child), Signal::USR1);
    let ended = status(child.wait().unwrap());
    drop(input);
    ended
}

/// The monitor's constants change, which ends it with a report.
fn bug_check(without: &str) -> i32 {
    let folder = scratch();
    let mut child = match sleeper(without, &["--integrity", "10ms"], folder.path()) {
        Ok(child) => child,
        Err(status) => return status,
    };
    let input = child.stdin.take();
    if !crate::protection::tamper(&child) {
        child.kill().unwrap();
    }
    let ended = status(child.wait().unwrap());
    drop(input);
    ended
}

/// The lines of the table, but those that are a spare's alone: the tests of `picovisor serve` make spares take a caller's place, and one
/// that lacks a line ends instead.
fn lines() -> Vec<String> {
    let check = Command::picovisor().args(["check", "--json"]).run();
    let report: serde_json::Value = serde_json::from_slice(&check.out).unwrap();
    let is_spare = |when: &serde_json::Value| when.as_str().unwrap().starts_with("a spare");
    let is_spares_alone = |line: &&serde_json::Value| {
        let when = line["only_with"].as_array().unwrap();
        !when.is_empty() && when.iter().all(is_spare)
    };
    let table = report["host_calls"].as_array().unwrap();
    let lines = table.iter().filter(|line| !is_spares_alone(line));
    lines.map(|line| line["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_line_of_the_jail_is_needed() {
    need_kvm!();
    if cfg!(not(debug_assertions)) {
        eprintln!("skipped: only a monitor with debug assertions leaves a line out");
        return;
    }
    let mut unshown: Vec<_> = UNSHOWN.iter().map(|(name, _)| *name).collect();
    for (scenario, usual) in SCENARIOS {
        let status = scenario("");
        if *usual == BUG_CHECK && status == 128 + 9 {
            unshown.extend(OF_REPORTS);
        } else {
            assert_eq!(status, *usual, "a scenario that fails shows nothing");
        }
    }
    // Some calls are made only if threads meet in a certain way: whoever is late has another chance.
    let is_shown = |line: &str| (0..4).any(|_| SCENARIOS.iter().any(|(scenario, _)| scenario(line) == CAUGHT));
    let lines = lines();
    assert!(unshown.iter().all(|name| lines.iter().any(|line| line == name)), "a line that is not in the table");
    let left = Mutex::new(lines);
    let unneeded = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(line) = left.lock().unwrap().pop() else { return };
                    if !unshown.contains(&line.as_str()) && !is_shown(&line) {
                        unneeded.lock().unwrap().push(line);
                    }
                }
            });
        }
    });
    let unneeded = unneeded.into_inner().unwrap();
    assert!(
        unneeded.is_empty(),
        "no scenario needs {unneeded:?}: either the line goes, or there is one that shows what it is for"
    );
}
