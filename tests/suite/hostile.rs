//! Hostile programs: what they do to themselves is as on Linux, what they ask for too much of is refused or ends them, and neither
//! the monitor nor a sandbox beside theirs suffers.

use crate::harness::{Command, Link, Outcome, Place, compare, in_sandbox_with, need_kvm, program, scratch};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

fn hostile(source: &str, what: &str) -> Command {
    Command::new(program(source, Link::Static)).arg(what)
}

/// Neither a panic, nor a bug check, nor a failure of ours: those have a line on standard error.
#[track_caller]
fn assert_quiet(outcome: &Outcome) {
    assert_eq!(outcome.errors(), "", "{outcome:?}");
}

/// What a program prints is what it prints natively, which is at least so much.
#[track_caller]
fn as_on_linux(source: &str, what: &str, lines: usize) {
    need_kvm!();
    let native = compare(&hostile(source, what), Place::Memory);
    assert_eq!(native.status, 0, "{what} is broken natively: {native:?}");
    assert!(native.text().lines().count() >= lines, "{what} is broken natively: {native:?}");
    assert!(!native.text().contains("set-up failed"), "{what} is broken natively: {native:?}");
}

#[test]
fn interrupts_of_every_vector() {
    as_on_linux("hostile_ring.c", "interrupts", 256);
}

#[test]
fn instructions_that_only_a_kernel_may_use() {
    as_on_linux("hostile_ring.c", "instructions", 70);
}

#[test]
fn every_opcode() {
    as_on_linux("hostile_ring.c", "opcodes", 900);
}

#[test]
fn faults_with_a_stack_pointer_that_leads_nowhere() {
    as_on_linux("hostile_ring.c", "stacks", 700);
}

#[test]
fn jumps_to_where_there_is_no_code() {
    as_on_linux("hostile_ring.c", "jumps", 25);
}

#[test]
fn every_flag() {
    as_on_linux("hostile_ring.c", "flags", 60);
}

#[test]
fn segment_selectors() {
    as_on_linux("hostile_ring.c", "segments", 100);
}

#[test]
fn segment_bases_that_are_no_addresses() {
    as_on_linux("hostile_ring.c", "bases", 36);
}

#[test]
fn instructions_that_differ_between_processors_end_one_process_at_most() {
    need_kvm!();
    // Natively some of them would be the host's.
    let outcome = in_sandbox_with(&hostile("hostile_ring.c", "strange"), Place::Memory, &[]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_quiet(&outcome);
}

#[test]
fn forged_signal_frames() {
    as_on_linux("hostile_frames.c", "fields", 300);
}

#[test]
fn forged_vector_state() {
    as_on_linux("hostile_frames.c", "vectors", 200);
}

#[test]
fn signal_frames_of_noise() {
    as_on_linux("hostile_frames.c", "noise", 1);
}

#[test]
fn handlers_and_stacks_that_are_nowhere() {
    as_on_linux("hostile_frames.c", "handlers", 60);
}

#[test]
fn the_supervisor_half_is_out_of_reach() {
    as_on_linux("hostile_code.c", "supervisor", 40);
}

#[test]
fn the_vdso_is_each_process_own() {
    as_on_linux("hostile_code.c", "vdso", 10);
}

#[test]
fn code_that_is_rewritten_while_it_runs() {
    as_on_linux("hostile_code.c", "rewriting", 7);
}

#[test]
fn noise_in_the_page_of_calls_hurts_nobody_else() {
    as_on_linux("hostile_code.c", "fast-path", 5);
    for posting in ["always", "never", "flapping"] {
        let command = hostile("hostile_code.c", "fast-path");
        let outcome = in_sandbox_with(&command, Place::Memory, &["--posting", posting]);
        assert_eq!(outcome.status, 0, "{posting}: {outcome:?}");
        assert_quiet(&outcome);
    }
}

#[test]
fn storms_of_signals() {
    as_on_linux("hostile_floods.c", "signals", 5);
}

#[test]
fn storms_of_futexes() {
    as_on_linux("hostile_floods.c", "futexes", 1);
}

#[test]
fn floods_of_timers() {
    as_on_linux("hostile_floods.c", "timers", 3);
}

#[test]
fn floods_of_notices() {
    as_on_linux("hostile_floods.c", "notices", 2);
}

#[test]
fn every_kind_of_descriptor_runs_out() {
    as_on_linux("hostile_floods.c", "descriptors", 17);
}

#[test]
fn pollers_of_pollers() {
    as_on_linux("hostile_floods.c", "pollers", 4);
}

#[test]
fn mappings_run_out() {
    as_on_linux("hostile_floods.c", "mappings", 1);
}

/// A sandbox beside that of a hostile program: it computes and writes what is known beforehand.
struct Neighbour(Child);

impl Neighbour {
    fn start() -> Self {
        let script = "i=0; while read -r line; do i=$((i + line)); echo $i > /tmp/sum; cat /tmp/sum; done";
        let child = Command::new("/bin/sh").args(["-c", script]).input("").sandboxed(&[]).std().spawn().unwrap();
        Self(child)
    }

    /// It has its answers right, and ends well.
    #[track_caller]
    fn proves_well(mut self) {
        let mut input = self.0.stdin.take().unwrap();
        let mut answers = BufReader::new(self.0.stdout.take().unwrap()).lines();
        let mut sum = 0;
        for number in 1..20 {
            sum += number;
            writeln!(input, "{number}").unwrap();
            assert_eq!(answers.next().unwrap().unwrap(), sum.to_string());
        }
        drop(input);
        assert!(self.0.wait().unwrap().success());
        let mut errors = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!(errors, "");
    }
}

/// A number of /proc/PID/status.
fn status_of(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

/// What the monitor may hold besides the sandbox's memory: the records of what lies in that.
const BESIDES_MIB: u64 = 64;

/// Lets a process in a sandbox ask for ever more of something. It ends as one of `ends` says, the first process of the sandbox can
/// use memory afterwards, the monitor is within its limits, and the neighbour is well. Not run natively, where it would be the
/// machine that has to bear it.
#[track_caller]
fn flood(what: &str, memory_mib: u64, ends: &[&str]) {
    need_kvm!();
    let neighbour = Neighbour::start();
    let memory = format!("{memory_mib}M");
    // Not to hang where there is no end.
    let timeout = ["--timeout", "100s"];
    let limits = ["--memory", &memory, "--files", "40000", "--workdir", "/tmp"];
    let options: Vec<_> = timeout.iter().chain(&limits).map(AsRef::as_ref).collect();
    let mut child = hostile("hostile_floods.c", what).input("").sandboxed(&options).std().spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said: Vec<_> = lines.by_ref().map(Result::unwrap).take_while(|line| line != "ready").collect();
    let end = said.last().cloned().unwrap_or_default();
    if ends.contains(&end.as_str()) {
        let (anonymous, descriptors) = (status_of(child.id(), "RssAnon"), status_of(child.id(), "FDSize"));
        let threads = status_of(child.id(), "Threads");
        assert!(anonymous <= (memory_mib + BESIDES_MIB) << 10, "{what}: the monitor holds {anonymous} KiB");
        assert!(descriptors <= 4096, "{what}: the monitor has room for {descriptors} descriptors");
        assert!(threads <= 64, "{what}: the monitor has {threads} threads");
    }
    drop(child.stdin.take());
    let outcome = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&outcome.stderr);
    assert!(ends.contains(&end.as_str()), "{what} ended by {said:?}, {:?}: {errors}", outcome.status);
    assert!(outcome.status.success() && errors.is_empty(), "{what}: {:?}: {errors}", outcome.status);
    neighbour.proves_well();
}

/// As Linux's OOM killer ends a process.
const KILLED: &str = "signal 9";
/// It met ENOSPC, or another limit's error.
const REFUSED: &str = "status 3";

#[test]
fn sparse_memory_is_counted_with_its_page_tables() {
    flood("sparse", 16, &[KILLED]);
}

#[test]
fn a_gigabyte_of_pipes_is_refused() {
    // Buffers that shrink, as those of a user with too many do.
    flood("pipes", 64, &["status 6", KILLED]);
}

#[test]
fn messages_that_nobody_takes_are_bounded() {
    flood("sockets", 64, &["status 5", KILLED]);
}

#[test]
fn files_end_at_the_memory() {
    // All that is left for the program itself are some pages: it goes on, or is killed for want of them.
    flood("files", 32, &[REFUSED, "status 4", KILLED]);
}

#[test]
fn names_in_memory_are_bounded() {
    flood("names", 64, &[REFUSED]);
    flood("folders", 64, &[REFUSED]);
    flood("links", 64, &[REFUSED]);
    flood("attributes", 64, &[REFUSED]);
}

#[test]
fn locks_are_bounded() {
    flood("locks", 64, &["status 5"]);
}

#[test]
fn messages_of_system_v_are_bounded() {
    flood("queues", 64, &["status 0"]);
}

#[test]
fn threads_end_at_the_limit() {
    need_kvm!();
    let neighbour = Neighbour::start();
    let command = hostile("hostile_floods.c", "threads");
    let outcome = in_sandbox_with(&command, Place::Memory, &["--pids", "100"]);
    assert_eq!((outcome.status, outcome.text().as_str()), (0, "99 threads until EAGAIN\nfork() = -1 EAGAIN\n"));
    assert_quiet(&outcome);
    neighbour.proves_well();
}

/// Seconds of processor time that a process has used.
fn processor_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u32 = [11, 12].iter().map(|at| fields[*at].parse::<u32>().unwrap()).sum();
    f64::from(ticks) / 100.0
}

#[test]
fn who_ignores_everything_is_ended_by_the_time_and_kept_to_a_processor() {
    need_kvm!();
    let options = ["--timeout", "3s", "--cpus", "1"].map(AsRef::as_ref);
    let start = std::time::Instant::now();
    let mut child = hostile("hostile_floods.c", "spinners").sandboxed(&options).std().spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let neighbour = Neighbour::start();
    neighbour.proves_well();
    // A busy machine gives it less, never more.
    let (used, passed) = (processor_seconds(child.id()), start.elapsed().as_secs_f64());
    assert!(used <= passed * 1.5 + 0.5, "one processor was used for {used} of {passed} seconds");
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(124), "{errors}");
    assert_eq!(errors, "picovisor: ended after 3s (--timeout)\n");
}

#[test]
fn a_fork_bomb_that_nobody_ends_is_ended_by_the_time() {
    need_kvm!();
    let folder = scratch();
    let neighbour = Neighbour::start();
    let options = ["--timeout", "3s", "--pids", "60"].map(AsRef::as_ref);
    let script = "bomb() { bomb | bomb & }; while :; do bomb; done 2> /dev/null";
    let command = Command::new("/bin/sh").args(["-c", script]).folder(folder.path()).sandboxed(&options);
    let child = command.std().stdin(Stdio::null()).spawn().unwrap();
    neighbour.proves_well();
    let outcome = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&outcome.stderr);
    // A shell that cannot fork gives up, or tries again.
    let ended = outcome.status.code() == Some(124) && errors.ends_with("picovisor: ended after 3s (--timeout)\n");
    assert!(ended || outcome.status.code() == Some(2), "{:?}: {errors}", outcome.status);
}
