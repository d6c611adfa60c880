//! Tools and running sandboxes: `ps`, `kill`, `suspend`, `resume`, `wait`, `inspect`, `stats`, `stack`, and clients that do not behave.
//!
//! Others may run sandboxes at the same time, so each test looks at its own alone.

use crate::harness::{Command, Link, Outcome, need_kvm, program};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout};
use std::sync::atomic::{AtomicU32, Ordering};

/// A sandbox that runs the waiter, which has said that it is ready.
pub(crate) struct Running {
    pub(crate) name: String,
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(way: &str, signals: u32) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let waiter = Command::new(program("waiter.c", Link::Static)).arg(way).arg(signals.to_string()).input("");
        let mut child = waiter.sandboxed(&["--name".as_ref(), name.as_ref()]).std().spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut running = Self { name, child, output };
        assert_eq!(running.line(), "ready");
        running
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Its end: what it still printed, and its status.
    pub(crate) fn end(mut self) -> (String, i32) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        (rest, status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap())
    }

    /// What `ps --json` says of it.
    pub(crate) fn report(&self) -> Value {
        let outcome = tool(&["ps", "--json", &self.name]);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let mut reports: Value = serde_json::from_slice(&outcome.out).unwrap();
        reports[0].take()
    }

    /// What `stats` says of it, once it waits for its first signal: it is ready a moment before.
    fn waiting(&self) -> Value {
        loop {
            let report = self.stats();
            if report["calls"]["rt_sigsuspend"] == 1 {
                return report;
            }
        }
    }

    /// What `stats` says of it.
    fn stats(&self) -> Value {
        let text = succeed(&["stats", "--format", "json", &self.name]);
        let mut reports: Value = serde_json::from_str(&text).unwrap();
        reports[0].take()
    }

    fn monitor(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// A connection to its socket that says nothing yet.
    fn connect(&self) -> UnixStream {
        let report = self.report();
        let uid = report["uid"].as_u64().unwrap();
        let name = format!("picovisor/{uid}/{}/{}", report["id"].as_str().unwrap(), self.name);
        UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended; its number is not another's before it is waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tool(args: &[&str]) -> Outcome {
    Command::picovisor().args(args).run()
}

#[track_caller]
pub(crate) fn succeed(args: &[&str]) -> String {
    let outcome = tool(args);
    assert_eq!((outcome.status, outcome.errors().as_str()), (0, ""), "{args:?}: {outcome:?}");
    outcome.text()
}

#[track_caller]
pub(crate) fn fail(args: &[&str]) -> String {
    let outcome = tool(args);
    assert_eq!(outcome.status, 125, "{args:?}: {outcome:?}");
    outcome.errors()
}

fn process(report: &Value, kind: &str) -> Value {
    let processes = report["processes"].as_array().unwrap();
    let found: Vec<_> = processes.iter().filter(|process| process["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind} in {report:#}");
    found[0].clone()
}

#[test]
fn ps_shows_a_sandbox_with_its_own_processes_and_the_hosts() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let report = sandbox.report();
    assert_eq!(report["name"], *sandbox.name);
    assert_eq!(report["monitor"], u64::from(sandbox.child.id()));
    assert!(report["command"][0].as_str().unwrap().contains("waiter"), "{report:#}");
    let waiter = process(&report, "pico");
    assert_eq!((&waiter["pid"], &waiter["parent"], &waiter["threads"]), (&1.into(), &0.into(), &1.into()));
    assert!(waiter["name"].as_str().unwrap().starts_with("waiter"), "{waiter}");
    assert_eq!(waiter["command"][1], "pause");
    assert!(waiter["resident"].as_u64().unwrap() > 0 && waiter["commit"].as_u64().unwrap() > 0, "{waiter}");
    assert_eq!(waiter["handles"], 3);
    let system = process(&report, "system");
    assert_eq!((&system["name"], &system["pid"]), (&"System".into(), &Value::Null));
    // The main thread, the one for signals, the event loop, and the one that serves this.
    assert!(system["threads"].as_u64().unwrap() >= 4, "{system}");
    assert_eq!(process(&report, "memory-compression")["name"], "Memory Compression");

    let text = succeed(&["ps", &sandbox.name]);
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with(&sandbox.name)).collect();
    assert!(rows.len() >= 3 && rows.iter().any(|row| row.contains("System")), "{text}");
    let id = report["id"].as_str().unwrap();
    assert_eq!(succeed(&["ps", "-q", &id[..11]]), format!("{id}\n"));
    assert!(succeed(&["ps", "-q"]).lines().any(|line| line == id));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let mut ps = Command::picovisor().args(["ps", &sandbox.name]).std();
    let mut child = ps.spawn().unwrap();
    drop(child.stdout.take());
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((child.wait().unwrap().code(), errors.as_str()), (Some(0), ""));
}

#[test]
fn kill_sends_a_signal_and_ends_the_sandbox_by_default() {
    need_kvm!();
    let mut sandbox = Running::start("pause", 2);
    succeed(&["kill", "-s", "USR1", &sandbox.name]);
    assert_eq!((sandbox.line(), sandbox.line()), ("signal 10".to_owned(), "ready".to_owned()));
    succeed(&["kill", "--signal", "12", &sandbox.name, "1"]);
    assert_eq!(sandbox.end(), ("signal 12\n".to_owned(), 7));

    let sandbox = Running::start("pause", 1);
    assert!(fail(&["kill", &sandbox.name, "4000"]).contains("it has no process 4000"));
    succeed(&["kill", &sandbox.name]);
    assert_eq!(sandbox.end(), (String::new(), 137));
}

#[test]
fn suspend_stops_a_sandbox_until_it_is_resumed() {
    need_kvm!();
    let mut sandbox = Running::start("compute", 1);
    succeed(&["suspend", &sandbox.name]);
    succeed(&["suspend", &sandbox.name, "1"]);
    assert_eq!(process(&sandbox.report(), "pico")["state"], "suspended");
    // It leaves its endless loop soon, and uses no time from then on.
    let used = |report: &Value| {
        let process = process(report, "pico");
        process["cpu_user_ns"].as_u64().unwrap() + process["cpu_provider_ns"].as_u64().unwrap()
    };
    let mut before = used(&sandbox.report());
    loop {
        let now = used(&sandbox.report());
        if now == before {
            break;
        }
        before = now;
    }
    succeed(&["kill", "-s", "HUP", &sandbox.name]);
    succeed(&["resume", &sandbox.name]);
    assert_eq!(sandbox.line(), "signal 1");
    assert_eq!(sandbox.end().1, 7);

    // Who is suspended can be killed all the same.
    for pid in [None, Some("1")] {
        let sandbox = Running::start("compute", 1);
        succeed(&["suspend", &sandbox.name]);
        let kill: Vec<_> = ["kill", &sandbox.name].into_iter().chain(pid).collect();
        succeed(&kill);
        assert_eq!(sandbox.end().1, 137);
    }
}

#[test]
fn wait_takes_the_sandboxs_status_over() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let start = || Command::picovisor().args(["wait", &sandbox.name]).std().spawn().unwrap();
    let waiting = [start(), start()];
    succeed(&["kill", "-s", "TERM", &sandbox.name]);
    let name = sandbox.name.clone();
    assert_eq!(sandbox.end().1, 7);
    for mut child in waiting {
        // It may have come too late.
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let status = child.wait().unwrap().code();
        let late = status == Some(125) && (errors.contains("no sandbox") || errors.contains("has ended"));
        assert!(status == Some(7) || late, "{status:?} {errors}");
    }
    assert!(fail(&["wait", &name]).contains("there is no sandbox"));
}

#[test]
fn a_tool_that_waits_hears_of_the_end() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let mut client = sandbox.connect();
    client.write_all(&message(1, br#""Wait""#)).unwrap();
    let mut heard = vec![0; message(1, br#""Done""#).len()];
    client.read_exact(&mut heard).unwrap();
    assert_eq!(heard, message(1, br#""Done""#));
    succeed(&["kill", &sandbox.name]);
    let mut told = Vec::new();
    client.read_to_end(&mut told).unwrap();
    assert_eq!(told, message(1, br#"{"Ended":{"status":137}}"#), "{}", String::from_utf8_lossy(&told));
    assert_eq!(sandbox.end().1, 137);
}

#[test]
fn names_are_given_once_at_a_time() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let name = sandbox.name.clone();
    let errors = fail(&["run", "--name", &name, "--", "/bin/busybox", "true"]);
    assert!(errors.contains("has this name already"), "{errors}");
    // A letter too many.
    let errors = fail(&["kill", &format!("{name}x")]);
    assert!(errors.contains("there is no sandbox") && errors.contains(&format!("did you mean {name:?}?")), "{errors}");
    succeed(&["kill", &name]);
    assert_eq!(sandbox.end().1, 137);
    assert_eq!(tool(&["run", "--name", &name, "--", "/bin/busybox", "true"]).status, 0);
}

#[test]
fn a_monitor_that_was_killed_leaves_nothing_behind() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let (name, id) = (sandbox.name.clone(), sandbox.report()["id"].as_str().unwrap().to_owned());
    kill_process(sandbox.monitor(), Signal::KILL).unwrap();
    assert_eq!(sandbox.end().1, 137);
    assert!(!succeed(&["ps", "-q"]).contains(&id));
    assert!(fail(&["ps", &name]).contains("there is no sandbox"));
}

#[test]
fn inspect_tells_how_a_sandbox_was_started() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let value: Value = serde_json::from_str(&succeed(&["inspect", &sandbox.name])).unwrap();
    let one = &value[0];
    assert_eq!((&one["name"], &one["protocol"]), (&sandbox.name.clone().into(), &1.into()));
    assert_eq!(one["command"][1], "pause");
    assert_eq!((&one["limits"]["pids"], &one["network"]), (&4096.into(), &"loopback".into()));
    assert_eq!(one["files"]["binds"][0]["writable"], false);
    assert!(one["environment"].as_array().unwrap().iter().any(|variable| variable == "TERM=dumb"));
    assert_eq!(one["handles"], Value::Null);
}

#[test]
fn every_descriptor_of_the_monitor_belongs_to_one_process() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let value: Value = serde_json::from_str(&succeed(&["inspect", "--handles", &sandbox.name])).unwrap();
    let handles = value[0]["handles"].as_array().unwrap();
    let number = |handle: &Value| handle["fd"].as_u64().unwrap();
    let listed: Vec<_> = handles.iter().map(number).collect();
    let folder = format!("/proc/{}/fd", sandbox.monitor());
    let open = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let open: Vec<u64> = open.map(|name| name.parse().unwrap()).collect();
    // The tool's own connection may be closed by now.
    let closed: Vec<_> = handles.iter().filter(|handle| !open.contains(&number(handle))).collect();
    assert!(closed.len() <= 1 && closed.iter().all(|handle| handle["kind"] == "socket"), "{closed:?}");
    assert!(open.iter().all(|fd| listed.contains(fd)), "{open:?} are open, {listed:?} listed");
    for kind in ["kvm", "vm", "vcpu", "epoll", "eventfd", "socket", "pipe"] {
        assert!(handles.iter().any(|handle| handle["kind"] == kind), "no {kind} in {handles:?}");
    }
    let names = ["System", "Memory Compression", "Secure System"];
    let of = |name: &&str| handles.iter().filter(|handle| handle["process"] == **name).count();
    assert_eq!(names.iter().map(of).sum::<usize>(), handles.len());
    assert_eq!(process(&sandbox.report(), "system")["handles"], handles.len());
}

#[test]
fn the_cpu_times_of_all_processes_add_up_to_the_monitors() {
    need_kvm!();
    let sandbox = Running::start("compute", 1);
    let report = loop {
        let report = sandbox.report();
        if report["cpu_ns"].as_u64().unwrap() > 1_500_000_000 {
            break report;
        }
    };
    let nanoseconds = |value: &Value| value.as_u64().unwrap();
    let of = |process: &Value| nanoseconds(&process["cpu_user_ns"]) + nanoseconds(&process["cpu_provider_ns"]);
    let processes: u64 = report["processes"].as_array().unwrap().iter().map(of).sum();
    let sum = processes + nanoseconds(&report["cpu_ended_ns"]);
    let total = nanoseconds(&report["cpu_ns"]);
    assert!(sum.abs_diff(total) * 50 <= total, "{sum} of {total} ns: {report:#}");
    // The program computes, and makes no calls.
    let waiter = process(&report, "pico");
    assert!(nanoseconds(&waiter["cpu_user_ns"]) * 10 > of(&waiter) * 9, "{waiter}");
    // And that is what the host shows, in ticks of 10 ms: utime and stime.
    succeed(&["suspend", &sandbox.name]);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", sandbox.monitor())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    assert!((ticks + 2) * 10_000_000 >= total, "{ticks} ticks, {total} ns");
}

#[test]
fn stats_count_what_happens() {
    need_kvm!();
    let mut sandbox = Running::start("pause", 2);
    let first = sandbox.waiting();
    let sum = |counts: &Value| counts.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum::<u64>();
    // Each call is a trap, the one that waits included, or was posted; one that was refused may have been begun twice. And
    // each page fault is an exception.
    let paths = |path: &str| first["call_paths"][path].as_u64().unwrap();
    let made = paths("trapped") + paths("posted");
    assert!((made..=made + paths("refused")).contains(&sum(&first["calls"])), "{first:#}");
    assert_eq!(first["traps"]["system-call"], paths("trapped"), "{first:#}");
    assert!(paths("refused") + paths("missed") <= paths("trapped"), "{first:#}");
    assert!(first["calls"]["write"].as_u64().unwrap() >= 1, "{first:#}");
    assert!(sum(&first["faults"]) <= first["traps"]["#PF"].as_u64().unwrap_or(0), "{first:#}");
    assert_eq!(first["faults"]["failed"], 0);
    assert_eq!((&first["processes"], &first["threads"]), (&1.into(), &1.into()));
    assert!(first["resident"].as_u64() > Some(0) && first["memory_held"].as_u64() > Some(0), "{first:#}");
    assert!(first["exits_avoided"]["host-fault"].as_u64() > Some(0), "{first:#}");

    succeed(&["kill", "-s", "USR1", &sandbox.name]);
    assert_eq!((sandbox.line(), sandbox.line()), ("signal 10".to_owned(), "ready".to_owned()));
    let second = sandbox.stats();
    assert!(second["wake_ups"].as_u64() > first["wake_ups"].as_u64(), "{second:#}");
    assert!(second["calls"]["write"].as_u64() > first["calls"]["write"].as_u64(), "{second:#}");
    // The signal was for a thread that slept in a call.
    let spared = |report: &Value| report["exits_avoided"]["signal"].as_u64().unwrap();
    assert!(spared(&second) > spared(&first), "{second:#}");

    let text = succeed(&["stats", "--format", "prometheus", &sandbox.name]);
    let sample = format!("name=\"{}\",call=\"rt_sigsuspend\"}} ", sandbox.name);
    assert!(
        text.lines().any(|line| line.starts_with("picovisor_system_calls_total{") && line.contains(&sample)),
        "{text}"
    );
    assert!(text.contains("# TYPE picovisor_traps_total counter\n"), "{text}");
    assert!(text.contains(",path=\"answered\"} "), "{text}");
    let text = succeed(&["stats", &sandbox.name]);
    assert!(text.starts_with(&sandbox.name) && text.contains("system-call"), "{text}");
    succeed(&["kill", &sandbox.name]);
}

#[test]
fn stack_shows_the_threads_of_a_process() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    sandbox.waiting();
    let whole = succeed(&["stack", &sandbox.name]);
    assert!(whole.starts_with("process 1 (waiter") && whole.contains("thread 1 (waiter"), "{whole}");
    assert!(whole.contains(" in a system call\n    #0   0x"), "{whole}");
    assert_eq!(succeed(&["stack", &format!("{}:1", sandbox.name)]), whole);
    let json: Value = serde_json::from_str(&succeed(&["stack", "--json", &sandbox.name, "1"])).unwrap();
    assert_eq!((&json[0]["pid"], &json[0]["threads"][0]["place"]), (&1.into(), &"provider".into()));
    assert_eq!(json[0]["threads"][0]["frames"][0]["found"], "registers");
    assert!(fail(&["stack", &sandbox.name, "77"]).contains("it has no process 77"));
    // It goes on as if nothing had been.
    succeed(&["kill", "-s", "USR1", &sandbox.name]);
    assert_eq!(sandbox.end(), ("signal 10\n".to_owned(), 7));
}

/// A message as tools send it.
fn message(version: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&b"pico"[..], &version.to_le_bytes(), &[0, 0], &length.to_le_bytes(), body].concat()
}

/// Sends bytes, closes that side, and returns what comes back.
fn answer_to(sandbox: &Running, bytes: &[u8]) -> Vec<u8> {
    let mut client = sandbox.connect();
    // It may have hung up before everything is written.
    let _ = client.write_all(bytes);
    let _ = client.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    answer
}

#[test]
fn clients_that_do_not_behave_hold_nobody_up() {
    need_kvm!();
    let sandbox = Running::start("pause", 1);
    let idle: Vec<_> = (0..20).map(|_| sandbox.connect()).collect();
    let mut slow = sandbox.connect();
    slow.write_all(b"pico\x01").unwrap();
    assert_eq!(answer_to(&sandbox, b""), b"");
    assert_eq!(answer_to(&sandbox, b"GET / HTTP/1.1\r\n\r\n"), b"");
    assert_eq!(answer_to(&sandbox, &message(1, br#""Processes""#)[..20]), b"");
    for (bytes, why) in [
        (message(1, b"[[[["), "not understood"),
        (message(1, br#""Fly""#), "unknown variant"),
        (message(1, br#"{"Signal":{"pid":1,"signal":"x"}}"#), "not understood"),
        (message(99, b""), "version 99"),
        (b"pico\x01\0\0\0\xff\xff\xff\xff".to_vec(), "too long"),
    ] {
        let answer = String::from_utf8_lossy(&answer_to(&sandbox, &bytes)).into_owned();
        assert!(answer.starts_with("pico\u{1}\0") && answer.contains("Refused") && answer.contains(why), "{answer:?}");
    }
    let two = [message(1, br#"{"Signal":{"pid":null,"signal":0}}"#), message(1, br#"{"Suspend":{"pid":7}}"#)].concat();
    let answers = String::from_utf8_lossy(&answer_to(&sandbox, &two)).into_owned();
    assert!(answers.contains("\"Done\"") && answers.contains("it has no process 7"), "{answers:?}");
    sandbox.waiting();
    drop((idle, slow));
    succeed(&["kill", &sandbox.name]);
    assert_eq!(sandbox.end().1, 137);
}

#[test]
fn another_user_is_turned_away() {
    need_kvm!();
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let sandbox = Running::start("pause", 1);
    let report = sandbox.report();
    let script = "import socket, sys\n\
                  s = socket.socket(socket.AF_UNIX)\n\
                  s.connect('\\0' + sys.argv[1])\n\
                  print(s.recv(100))";
    let name = format!("picovisor/0/{}/{}", report["id"].as_str().unwrap(), sandbox.name);
    let python = Command::new(crate::harness::tool("python3")).args(["-c", script, &name]);
    let output = python.std().uid(65534).gid(65534).output().unwrap();
    // Closed without a word, whether or not anything was asked.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "b''\n", "{output:?}");
    let output = Command::picovisor().args(["ps", &sandbox.name]).std().uid(65534).gid(65534).output();
    // Where the user may run the command at all.
    if let Ok(output) = output {
        assert_eq!(output.status.code(), Some(125), "{output:?}");
    }
}
