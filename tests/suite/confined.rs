//! The parts of the monitor's jail besides its filter: paths (Landlock), capabilities, limits and descriptors; and what is said where the
//! host lacks one of them.

use crate::harness::{Command, Link, need_kvm, picovisor, program, scratch, tool};
use rustix::io::{FdFlags, fcntl_setfd};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Stdio};

/// CAP_CHOWN, CAP_DAC_OVERRIDE and CAP_FOWNER; CAP_NET_BIND_SERVICE (linux/capability.h).
const FILES: u64 = 1 << 0 | 1 << 1 | 1 << 3;
const LOW_PORTS: u64 = 1 << 10;

/// A sandbox whose program has said that it runs, and waits. It ends when this is dropped.
struct Waiting {
    child: Child,
    input: Option<ChildStdin>,
}

impl Waiting {
    #[track_caller]
    fn start(options: &[&str]) -> Self {
        let options: Vec<_> = options.iter().map(AsRef::as_ref).collect();
        Self::of(Command::new(tool("sh")).args(["-c", "echo ready; read line"]).sandboxed(&options).std())
    }

    #[track_caller]
    fn of(mut command: std::process::Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let input = child.stdin.take();
        Self { child, input }
    }

    /// The values of a field of every thread's status.
    fn statuses(&self, field: &str) -> BTreeSet<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let status = |task: std::fs::DirEntry| {
            // A thread that has ended meanwhile has none.
            let text = std::fs::read_to_string(task.path().join("status")).ok()?;
            // KVM's own worker shows what the machine was made with. It is the kernel's, and runs no instruction of ours.
            if text.starts_with("Name:\tkvm-nx") {
                return None;
            }
            text.lines().find_map(|line| line.strip_prefix(field)).map(|value| value.trim().to_owned())
        };
        tasks.flatten().filter_map(status).collect()
    }

    /// Lets the program end; what the monitor has said.
    fn end(mut self) -> String {
        self.input.take().unwrap().write_all(b"go on\n").unwrap();
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{errors}");
        errors
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A set of capabilities as the host shows it.
fn shown(set: u64) -> BTreeSet<String> {
    BTreeSet::from([format!("{set:016x}")])
}

/// This process's own capabilities.
fn own() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap()
}

#[test]
fn every_thread_has_the_capabilities_that_its_grants_need_and_no_others() {
    need_kvm!();
    let folder = scratch();
    let rw = folder.path().to_str().unwrap();
    let bind = format!("{rw}:/mnt:ro");
    let cases: [(&[&str], u64); 5] = [
        (&[], 0),
        (&["--bind", &bind], 0),
        (&["--rw", rw], FILES),
        (&["--net", "host"], LOW_PORTS),
        (&["--upper", rw, "--net", "host"], FILES | LOW_PORTS),
    ];
    for (options, needed) in cases {
        let sandbox = Waiting::start(&[&["--require-jail"], options].concat());
        for field in ["CapEff:", "CapPrm:"] {
            assert_eq!(sandbox.statuses(field), shown(needed & own()), "{field} with {options:?}");
        }
        for field in ["CapInh:", "CapAmb:"] {
            assert_eq!(sandbox.statuses(field), shown(0), "{field} with {options:?}");
        }
        if own() != 0 {
            assert_eq!(sandbox.statuses("CapBnd:"), shown(0), "{options:?}");
        }
        assert_eq!(sandbox.statuses("NoNewPrivs:"), BTreeSet::from(["1".to_owned()]), "{options:?}");
        assert_eq!(sandbox.end(), "");
    }
}

#[test]
fn without_the_jail_nothing_is_given_up() {
    need_kvm!();
    let sandbox = Waiting::start(&["--no-jail"]);
    assert_eq!(sandbox.statuses("CapEff:"), shown(own()));
    assert!(sandbox.end().contains("--no-jail: nothing keeps the monitor itself"));
}

#[test]
fn limits_are_the_callers_inside_and_lower_for_the_monitor() {
    need_kvm!();
    let script = "ulimit -c 77 2>/dev/null; exec \"$@\"";
    let inner = Command::new(tool("sh")).args(["-c", "ulimit -c; echo ready >&2; read line"]);
    let command = inner.sandboxed(&["--require-jail".as_ref()]);
    let std = command.std();
    let mut limited =
        Command::new(tool("sh")).args(["-c", script, "sh"]).arg(std.get_program()).args(std.get_args()).std();
    let mut child = limited.stdin(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    drop(child.stdin.take());
    let mut inside = String::new();
    child.stdout.take().unwrap().read_to_string(&mut inside).unwrap();
    child.wait().unwrap();
    assert_eq!((line.as_str(), inside.as_str()), ("ready\n", "77\n"));
    let fields = |name: &str| -> Vec<String> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).map(str::to_owned).collect()
    };
    assert_eq!(fields("Max core file size"), ["1", "1"]);
    for name in ["Max locked memory", "Max msgqueue size", "Max nice priority", "Max realtime priority"] {
        assert_eq!(fields(name), ["0", "0"], "{name}");
    }
}

#[test]
fn descriptors_that_the_caller_left_open_are_closed() {
    need_kvm!();
    let folder = scratch();
    let path = folder.path().join("left-open");
    let file = std::fs::File::create(&path).unwrap();
    // Other children that this test process starts just now get it as well, which does them no harm.
    fcntl_setfd(&file, FdFlags::empty()).unwrap();
    let holds = |sandbox: &Waiting| {
        let links = std::fs::read_dir(format!("/proc/{}/fd", sandbox.child.id())).unwrap().flatten();
        links.filter_map(|link| std::fs::read_link(link.path()).ok()).any(|target| target == path)
    };
    let sandbox = Waiting::start(&["--require-jail"]);
    assert!(!holds(&sandbox));
    assert_eq!(sandbox.end(), "");
    let native = Command::new(tool("ls")).args(["-l", "/proc/self/fd"]).run();
    assert!(native.text().contains("left-open"), "it is not inherited at all: {native:?}");
    drop(file);
}

/// Makes every thread of a sandbox's monitor open files, as if somebody had taken it over: what the host answers to each.
fn taken_over(sandbox: &Waiting, files: &[String]) -> Vec<(String, String, i32)> {
    let id = sandbox.child.id().to_string();
    let outcome = Command::new(program("taken_over.c", Link::Static)).arg(id).args(files).run();
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let line = |line: &str| {
        let (rest, error) = line.rsplit_once(' ').unwrap();
        let (thread, file) = rest.split_once(' ').unwrap();
        (thread.to_owned(), file.to_owned(), error.parse().unwrap())
    };
    outcome.text().lines().map(line).collect()
}

#[test]
fn a_monitor_that_was_taken_over_opens_what_was_granted_and_nothing_else() {
    need_kvm!();
    let [granted, visible, other] = [(); 3].map(|()| scratch());
    let file = |folder: &tempfile::TempDir, how: char| {
        let path = folder.path().join("file");
        std::fs::write(&path, "text").unwrap();
        format!("{how}{}", path.display())
    };
    let files = [
        (file(&granted, 'r'), 0),
        (file(&granted, 'w'), 0),
        (file(&visible, 'r'), 0),
        (file(&visible, 'w'), libc::EACCES),
        (file(&other, 'w'), libc::EACCES),
        ("r/proc/self/status".to_owned(), 0),
        ("w/proc/self/comm".to_owned(), libc::EACCES),
    ];
    let names: Vec<_> = files.iter().map(|(name, _)| name.clone()).collect();
    let paths = [&granted, &visible].map(|folder| folder.path().to_str().unwrap().to_owned());
    let options = ["--require-jail", "--rw", &paths[0], "--bind", &format!("{}:/mnt:ro", paths[1])];
    let check = |sandbox: &Waiting, expected: &dyn Fn(&str) -> i32| {
        let found = taken_over(sandbox, &names);
        let threads: BTreeSet<_> = found.iter().map(|(thread, ..)| thread.as_str()).collect();
        // The first, the one that the machine was opened with, and whichever have begun since.
        assert!(threads.contains("picovisor") && threads.contains("pico"), "{threads:?}");
        for (thread, name, error) in &found {
            assert_eq!(*error, expected(name), "{name} by {thread}");
        }
    };
    let expected = |name: &str| files.iter().find(|(known, _)| known == name).unwrap().1;
    check(&Waiting::start(&options), &expected);
    // What is not visible cannot be read, either, where / is another folder.
    let root = scratch();
    std::fs::create_dir(root.path().join("bin")).unwrap();
    std::fs::copy("/bin/busybox", root.path().join("bin/busybox")).unwrap();
    let options = [&["--root", root.path().to_str().unwrap()], &options[..]].concat();
    let options: Vec<_> = options.iter().map(AsRef::as_ref).collect();
    let inner = Command::new("busybox").args(["sh", "-c", "echo ready; read line"]);
    let sandbox = Waiting::of(inner.sandboxed(&options).std());
    check(&sandbox, &expected);
    let hidden =
        taken_over(&Waiting::of(inner.sandboxed(&options).std()), &[file(&other, 'r'), "r/etc/hostname".into()]);
    assert!(hidden.iter().all(|(.., error)| *error == libc::EACCES), "{hidden:?}");
}

/// Runs `true` on a host that lacks some calls.
fn without(calls: &[libc::c_long], options: &[&str]) -> (i32, String) {
    let calls = calls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let options: Vec<_> = options.iter().map(AsRef::as_ref).collect();
    let std = Command::new(tool("true")).sandboxed(&options).std();
    let command = Command::new(program("without.c", Link::Static)).arg(calls);
    let outcome = command.arg(std.get_program()).args(std.get_args()).run();
    (outcome.status, outcome.errors())
}

#[test]
fn a_host_that_lacks_a_mechanism_is_told_which_and_why_or_refused() {
    need_kvm!();
    let none = "the kernel has none, or does not start with it (CONFIG_SECURITY_LANDLOCK, CONFIG_LSM, lsm=)";
    let missing = "Function not implemented (os error 38)";
    let cases = [
        (&[libc::SYS_landlock_create_ruleset][..], format!("Landlock: {none}")),
        (&[libc::SYS_capset], format!("capabilities: {missing}")),
        (&[libc::SYS_seccomp], "seccomp: ".to_owned()),
        (&[libc::SYS_seccomp, libc::SYS_landlock_create_ruleset], format!("Landlock: {none}")),
    ];
    for (calls, why) in cases {
        let (status, said) = without(calls, &[]);
        assert_eq!(status, 0, "{calls:?}: {said}");
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 1, "{said}");
        assert!(lines[0].starts_with("picovisor: the monitor's jail lacks ") && said.contains(&why), "{said}");
        let (status, refused) = without(calls, &["--require-jail"]);
        assert_eq!(status, 125, "{calls:?}: {refused}");
        assert!(
            refused.starts_with("picovisor: --require-jail: this host lacks ") && refused.contains(&why),
            "{refused}"
        );
    }
    let (status, said) = without(&[libc::SYS_seccomp, libc::SYS_landlock_create_ruleset], &[]);
    assert_eq!(status, 0);
    assert!(said.contains("seccomp: ") && said.contains("; Landlock: "), "{said}");
    // Nothing is missing of what nobody asks for.
    let (status, said) = without(&[libc::SYS_landlock_create_ruleset], &["--no-jail"]);
    assert_eq!((status, said.lines().count()), (0, 1));
    assert!(said.contains("--no-jail: nothing keeps the monitor itself"), "{said}");
}

#[test]
fn check_says_what_this_host_has() {
    let text = Command::picovisor().arg("check").run().text();
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_owned).unwrap_or_default();
    assert!(line("Landlock").contains("files"), "{text}");
    let command = Command::new(program("without.c", Link::Static)).arg(libc::SYS_landlock_create_ruleset.to_string());
    let text = command.arg(picovisor()).arg("check").run().text();
    assert!(text.lines().any(|line| line.starts_with("Landlock") && line.contains("none: the kernel")), "{text}");
}

#[test]
fn the_folder_of_crash_reports_is_there_before_the_monitor_is_confined() {
    need_kvm!();
    let folder = scratch();
    let reports = folder.path().join("state/crashes");
    let command = Command::new(tool("true")).sandboxed(&["--require-jail".as_ref()]);
    let outcome = command.env("PICOVISOR_CRASH_DIR", reports.to_str().unwrap()).run();
    assert_eq!((outcome.status, outcome.errors()), (0, String::new()));
    assert_eq!(std::fs::read_dir(&reports).unwrap().count(), 0);
}

#[test]
fn who_has_no_capabilities_can_make_files_that_nobody_may_write() {
    need_kvm!();
    if own() == 0 {
        eprintln!("skipped: who has no capabilities runs all other tests so");
        return;
    }
    let script = "umask 0222; echo text > file; cp file copy; ln copy link; rm copy; cat link; stat -c %a link file";
    let native = scratch();
    let inner = |folder: &tempfile::TempDir| Command::new(tool("sh")).args(["-c", script]).folder(folder.path());
    let without_capabilities = |command: &Command| {
        let std = command.std();
        let drop = ["--bounding-set=-all", "--inh-caps=-all"];
        let run = Command::new(tool("setpriv")).args(drop).arg(std.get_program()).args(std.get_args());
        run.folder(std.get_current_dir().unwrap()).run()
    };
    let expected = without_capabilities(&inner(&native));
    assert_eq!(expected.text(), "text\n444\n444\n", "{expected:?}");
    for option in ["--rw", "--upper"] {
        let folder = scratch();
        let options = ["--require-jail", option, folder.path().to_str().unwrap()];
        let command = inner(&folder).sandboxed(&options.map(AsRef::as_ref));
        let ours = without_capabilities(&command);
        assert_eq!((ours.status, ours.text(), ours.errors()), (0, expected.text(), expected.errors()), "{option}");
    }
}
