//! That a monitor is jailed: its filter, paths (Landlock), capabilities, limits and descriptors; and what is said where the host lacks
//! one of them.
//!
//! A monitor comes to be in two ways, of a run itself or of `picovisor serve`, which enters its jail in two steps: what is tried here is
//! tried of both.

use crate::harness::serve::{Daemon, connect, control_address};
use crate::harness::{Command, Link, need_kvm, picovisor, program, scratch, tool};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::socket_peercred;
use rustix::process::Pid;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// CAP_CHOWN, CAP_DAC_OVERRIDE and CAP_FOWNER; CAP_NET_BIND_SERVICE (linux/capability.h).
const FILES: u64 = 1 << 0 | 1 << 1 | 1 << 3;
const LOW_PORTS: u64 = 1 << 10;

/// How a sandbox's monitor comes to be.
#[derive(Clone, Copy, Debug)]
enum Way<'a> {
    /// It is the caller's `picovisor run`.
    Direct,
    /// It was a spare of this daemon's, which was handed the run.
    Served(&'a Daemon),
}

/// Tries something of a sandbox of either way.
fn each_way(test: impl Fn(Way<'_>)) {
    test(Way::Direct);
    test(Way::Served(&Daemon::start(2)));
}

impl Way<'_> {
    /// `picovisor run` of a command. That it is to be served nobody says: it is what becomes of any.
    fn run(self, inner: &Command, options: &[&str]) -> Command {
        let options: Vec<_> = options.iter().map(AsRef::as_ref).collect();
        match self {
            Self::Direct => inner.sandboxed(&options),
            Self::Served(daemon) => inner.sandboxed_by(&daemon.executable, &options),
        }
    }
}

/// What runs in a sandbox that waits.
fn waits() -> Command {
    Command::new(tool("sh")).args(["-c", "echo ready; read line"])
}

/// A sandbox whose program has said that it runs, and waits. It ends when this is dropped.
struct Waiting {
    /// `picovisor run`.
    child: Child,
    input: Option<ChildStdin>,
    /// The lines that the program has said before.
    said: String,
    monitor: Pid,
}

impl Waiting {
    #[track_caller]
    fn start(way: Way<'_>, options: &[&str]) -> Self {
        Self::of(way, &waits(), options, Clone::clone)
    }

    /// Starts a sandbox for a command that waits once it has said that it is ready. `by` makes of `picovisor run` what starts it.
    #[track_caller]
    fn of(way: Way<'_>, inner: &Command, options: &[&str], by: impl Fn(&Command) -> Command) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let name = format!("confined-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let started = Self::begin(&by(&way.run(inner, &[&["--name", &name], options].concat())), &name);
            let is_served = started.monitor != Pid::from_child(&started.child);
            match way {
                Way::Direct => assert!(!is_served, "{options:?}"),
                Way::Served(_) if is_served => {}
                Way::Served(daemon) => {
                    // None was ready. Or none may: then this says so.
                    daemon.serve(&inner.clone().input(""), options);
                    continue;
                }
            }
            return started;
        }
    }

    #[track_caller]
    fn begin(run: &Command, name: &str) -> Self {
        let mut child = run.std().stdin(Stdio::piped()).spawn().unwrap();
        let (mut output, mut said) = (BufReader::new(child.stdout.take().unwrap()), String::new());
        while !said.ends_with("ready\n") {
            assert_ne!(output.read_line(&mut said).unwrap(), 0, "{run} has said {said:?}");
        }
        said.truncate(said.len() - "ready\n".len());
        // The kernel tells who listens there.
        let monitor = socket_peercred(connect(&control_address(name)).unwrap()).unwrap().pid;
        let input = child.stdin.take();
        Self { child, input, said, monitor }
    }

    /// A file of the monitor's in /proc.
    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.monitor.as_raw_nonzero())
    }

    /// The values of a field of every thread's status.
    fn statuses(&self, field: &str) -> BTreeSet<String> {
        let tasks = std::fs::read_dir(self.proc("task")).unwrap();
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

    /// What the monitor's descriptors are of, without the numbers of sockets, processors and its own process.
    fn descriptors(&self) -> BTreeSet<String> {
        let links = std::fs::read_dir(self.proc("fd")).unwrap().flatten();
        let target = |link: std::fs::DirEntry| Some(std::fs::read_link(link.path()).ok()?.display().to_string());
        let (own, kind) = (self.proc(""), |target: &str| target.replace(|letter: char| letter.is_ascii_digit(), ""));
        let known =
            |target: String| if target.starts_with('/') { target.replace(&own, "/proc/self/") } else { kind(&target) };
        links.filter_map(target).map(known).collect()
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

/// What every thread's status shows of a number.
fn all(number: u32) -> BTreeSet<String> {
    BTreeSet::from([number.to_string()])
}

/// A set of capabilities as the host shows it.
fn shown(set: u64) -> BTreeSet<String> {
    BTreeSet::from([format!("{set:016x}")])
}

/// A field of this process's own status.
fn own_status(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_owned()
}

/// This process's own capabilities.
fn own() -> u64 {
    u64::from_str_radix(&own_status("CapEff:"), 16).unwrap()
}

#[test]
fn every_thread_of_the_monitor_is_jailed_and_secure_system_shows_it() {
    need_kvm!();
    each_way(|way| {
        let sandbox = Waiting::start(way, &["--require-jail"]);
        assert_eq!(sandbox.statuses("Seccomp:"), all(2), "{way:?}");
        assert_eq!(sandbox.statuses("NoNewPrivs:"), all(1), "{way:?}");
        // A spare's table is for any caller. What this one does not need, a second filter takes away; threads that do one thing have one more.
        let callers: u32 = own_status("Seccomp_filters:").parse().unwrap();
        let least = callers + if matches!(way, Way::Direct) { 1 } else { 2 };
        let filters = sandbox.statuses("Seccomp_filters:");
        assert!(
            filters.iter().all(|count| (least..=least + 1).contains(&count.parse().unwrap())),
            "{way:?}: {filters:?}"
        );
        let listed = Command::picovisor().arg("ps").run().text();
        assert!(listed.contains("Secure System"), "{way:?}: {listed}");
        assert_eq!(sandbox.end(), "");
    });
}

#[test]
fn without_the_jail_the_monitor_says_so_and_gives_nothing_up() {
    need_kvm!();
    let sandbox = Waiting::start(Way::Direct, &["--no-jail"]);
    assert_eq!(sandbox.statuses("CapEff:"), shown(own()));
    let caller = ["Seccomp:", "NoNewPrivs:"].map(|field| BTreeSet::from([own_status(field)]));
    assert_eq!(["Seccomp:", "NoNewPrivs:"].map(|field| sandbox.statuses(field)), caller);
    let said = "picovisor: --no-jail: nothing keeps the monitor itself from what its caller may do\n";
    assert_eq!(sandbox.end(), said);
}

#[test]
fn every_thread_has_the_capabilities_that_its_grants_need_and_no_others() {
    need_kvm!();
    let folder = scratch();
    let rw = folder.path().to_str().unwrap();
    let bind = format!("{rw}:/mnt:ro");
    let cases: [(&[&str], u64); 3] = [(&[], 0), (&["--bind", &bind], 0), (&["--rw", rw], FILES)];
    // What no spare does (`what_cannot_be_handed_over_is_not`).
    let direct: [(&[&str], u64); 2] =
        [(&["--net", "host"], LOW_PORTS), (&["--upper", rw, "--net", "host"], FILES | LOW_PORTS)];
    each_way(|way| {
        let more = if matches!(way, Way::Direct) { &direct[..] } else { &[] };
        for (options, needed) in cases.iter().chain(more) {
            let sandbox = Waiting::start(way, &[&["--require-jail"], *options].concat());
            for field in ["CapEff:", "CapPrm:"] {
                assert_eq!(sandbox.statuses(field), shown(needed & own()), "{field} with {options:?}, {way:?}");
            }
            for field in ["CapInh:", "CapAmb:"] {
                assert_eq!(sandbox.statuses(field), shown(0), "{field} with {options:?}, {way:?}");
            }
            if own() != 0 {
                assert_eq!(sandbox.statuses("CapBnd:"), shown(0), "{options:?}, {way:?}");
            }
            assert_eq!(sandbox.statuses("NoNewPrivs:"), all(1), "{options:?}, {way:?}");
            assert_eq!(sandbox.end(), "");
        }
    });
}

#[test]
fn limits_are_the_callers_inside_and_lower_for_the_monitor() {
    need_kvm!();
    let inner = Command::new(tool("sh")).args(["-c", "ulimit -c; echo ready; read line"]);
    let limited = |run: &Command| {
        let run = run.std();
        let script = "ulimit -c 77 2>/dev/null; exec \"$@\"";
        Command::new(tool("sh")).args(["-c", script, "sh"]).arg(run.get_program()).args(run.get_args())
    };
    each_way(|way| {
        let sandbox = Waiting::of(way, &inner, &["--require-jail"], limited);
        assert_eq!(sandbox.said, "77\n", "{way:?}");
        let limits = std::fs::read_to_string(sandbox.proc("limits")).unwrap();
        let fields = |name: &str| -> Vec<String> {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().take(2).map(str::to_owned).collect()
        };
        assert_eq!(fields("Max core file size"), ["1", "1"], "{way:?}");
        for name in ["Max locked memory", "Max msgqueue size", "Max nice priority", "Max realtime priority"] {
            assert_eq!(fields(name), ["0", "0"], "{name}, {way:?}");
        }
    });
}

#[test]
fn descriptors_that_the_caller_left_open_are_closed() {
    need_kvm!();
    let folder = scratch();
    let path = folder.path().join("left-open");
    let file = std::fs::File::create(&path).unwrap();
    // Other children that this test process starts just now get it as well, which does them no harm. A daemon is one that it is left open
    // for, too.
    fcntl_setfd(&file, FdFlags::empty()).unwrap();
    each_way(|way| {
        let sandbox = Waiting::start(way, &["--require-jail"]);
        assert!(!sandbox.descriptors().contains(path.to_str().unwrap()), "{way:?}");
        assert_eq!(sandbox.end(), "");
    });
    let native = Command::new(tool("ls")).args(["-l", "/proc/self/fd"]).run();
    assert!(native.text().contains("left-open"), "it is not inherited at all: {native:?}");
    drop(file);
}

#[test]
fn a_monitor_has_descriptors_of_what_it_needs_only() {
    need_kvm!();
    // Besides what the program sees and has opened, which has paths.
    let own = [
        "/dev/null",
        "anon_inode:[eventfd]",
        "anon_inode:[eventpoll]",
        "anon_inode:[signalfd]",
        "anon_inode:kvm-vcpu:",
        "anon_inode:kvm-vm",
        "pipe:[]",
        "socket:[]",
    ];
    let descriptors = |way| Waiting::start(way, &["--require-jail"]).descriptors();
    let direct = descriptors(Way::Direct);
    let served = descriptors(Way::Served(&Daemon::start(2)));
    let is_own = |target: &&String| own.contains(&target.as_str());
    let others: Vec<_> = direct.iter().filter(|target| !target.starts_with('/') && !is_own(target)).collect();
    assert!(others.is_empty() && direct.len() > 4, "{others:?} of {direct:?}");
    let more: Vec<_> = served.difference(&direct).filter(|target| !is_own(target)).collect();
    assert!(more.is_empty(), "{more:?} of {served:?}");
}

/// Makes every thread of a sandbox's monitor open files, or make calls, as if somebody had taken it over: what the host answers to each.
fn taken_over(sandbox: &Waiting, files: &[String]) -> Vec<(String, String, i32)> {
    let id = sandbox.monitor.as_raw_nonzero().to_string();
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
    let check = |way: Way<'_>, sandbox: &Waiting| {
        let found = taken_over(sandbox, &names);
        let threads: BTreeSet<_> = found.iter().map(|(thread, ..)| thread.as_str()).collect();
        // The first, the one that the machine was opened with, and whichever have begun since.
        assert!(threads.contains("picovisor") && threads.contains("pico"), "{threads:?}");
        for (thread, name, error) in &found {
            let expected = files.iter().find(|(known, _)| known == name).unwrap().1;
            assert_eq!(*error, expected, "{name} by {thread}, {way:?}");
        }
    };
    // What is not visible cannot be read, either, where / is another folder.
    let root = scratch();
    std::fs::create_dir(root.path().join("bin")).unwrap();
    std::fs::copy("/bin/busybox", root.path().join("bin/busybox")).unwrap();
    let elsewhere = [&["--root", root.path().to_str().unwrap()], &options[..]].concat();
    let inner = Command::new("busybox").args(["sh", "-c", "echo ready; read line"]);
    each_way(|way| {
        check(way, &Waiting::start(way, &options));
        let start = || Waiting::of(way, &inner, &elsewhere, Clone::clone);
        check(way, &start());
        let hidden = taken_over(&start(), &[file(&other, 'r'), "r/etc/hostname".into()]);
        assert!(hidden.iter().all(|(.., error)| *error == libc::EACCES), "{way:?}: {hidden:?}");
    });
}

#[test]
fn a_monitor_that_was_taken_over_makes_none_of_the_calls_that_taking_a_callers_place_takes() {
    need_kvm!();
    // With debug assertions it is the last thing that it does.
    let refused = if cfg!(debug_assertions) { -libc::SIGSYS } else { libc::EPERM };
    let calls = [libc::SYS_socket, libc::SYS_capset, libc::SYS_setpriority, libc::SYS_fchdir, libc::SYS_unlinkat];
    let calls: Vec<_> = calls.iter().map(|call| format!("c{call}")).collect();
    // One after another, or one each time where the first is the last.
    let tries: Vec<_> = if cfg!(debug_assertions) { calls.chunks(1).collect() } else { vec![&calls[..]] };
    each_way(|way| {
        for calls in &tries {
            let found = taken_over(&Waiting::start(way, &["--require-jail"]), calls);
            assert!(found.len() >= calls.len(), "{found:?}");
            assert!(found.iter().all(|(.., answer)| *answer == refused), "{way:?}: {found:?}");
        }
    });
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
    each_way(|way| {
        let folder = scratch();
        let reports = folder.path().join("state/crashes");
        let run = || {
            let command = Command::new(tool("true")).env("PICOVISOR_CRASH_DIR", reports.to_str().unwrap());
            match way {
                Way::Direct => command.sandboxed(&["--require-jail".as_ref()]).run(),
                Way::Served(daemon) => daemon.serve(&command, &["--require-jail"]),
            }
        };
        let outcome = run();
        assert_eq!((outcome.status, outcome.errors()), (0, String::new()), "{way:?}");
        assert_eq!(std::fs::read_dir(&reports).unwrap().count(), 0);
        // And has room for one more report: the oldest go.
        for number in 0..30 {
            std::fs::write(reports.join(format!("crash-20260101T0000{number:02}Z-1.txt")), "").unwrap();
        }
        assert_eq!(run().status, 0);
        assert_eq!(std::fs::read_dir(&reports).unwrap().count(), 19, "{way:?}");
        assert!(reports.join("crash-20260101T000029Z-1.txt").exists());
    });
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
