//! Fault injection: the n-th host call of a run fails, is cut short or is interrupted, and the run ends in success or in a clear error.
//!
//! Ordinarily a sample of the n is tried; `tests/faults/run` tries all and prints the table of `docs/reliability.md`.

use crate::harness::{Link, need_kvm, picovisor, program};
use faults::{Ended, Fault, Plan, trace};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the program prints.
const OUTPUT: &str = "files\nmemory\nprocesses\nthreads\ntime\ndone\n";
/// How much it reads and writes.
const SIZE: usize = 50_000;
/// A run takes some tenths of a second; on a loaded machine more.
const LIMIT: Duration = Duration::from_secs(60);
/// How many runs are looked at to which nothing is done.
const PLAIN: usize = 6;
/// How many runs an ordinary test makes for each kind of fault.
const SAMPLE: u64 = 24;

/// What the program's C library says when it fails before `main`.
const LIBRARY: [&str; 2] = ["error while loading shared libraries", "Fatal glibc error"];

/// How a run ended that is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// As if nothing had happened.
    Unharmed,
    /// The program was told, by an error or a signal, and said so.
    Told,
    /// The monitor gave up, with one line and a status of its own.
    GaveUp,
}

/// A finished run.
struct Run {
    ended: Ended,
    out: String,
    errors: String,
    /// What the program wrote to a file, if that is there.
    written: Option<Vec<u8>>,
    /// Names in its folder.
    names: Vec<String>,
}

fn data() -> Vec<u8> {
    (0..SIZE).map(|i| u8::try_from((i * 7 + (i >> 8)) & 0xff).unwrap()).collect()
}

fn run(plan: Plan) -> Run {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::write(folder.path().join("input"), data()).unwrap();
    let crashes = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut command = Command::new(picovisor());
    command.args(["run", "--no-serve", "--rw"]).arg(folder.path()).arg("--workdir").arg(folder.path());
    command.arg("--").arg(program("injected.c", Link::Static));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("PICOVISOR_CRASH_DIR", crashes.path());
    command.stdin(Stdio::null());
    let (mut out_reader, out) = std::io::pipe().unwrap();
    let (mut err_reader, err) = std::io::pipe().unwrap();
    command.stdout(out).stderr(err);
    let listen = |reader: &mut std::io::PipeReader| {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (mut ended, out, errors) = std::thread::scope(|scope| {
        let out = scope.spawn(|| listen(&mut out_reader));
        let errors = scope.spawn(|| listen(&mut err_reader));
        let (_child, ended) = trace(&mut command, plan, LIMIT).expect("the monitor can be started and traced");
        // It holds the writing ends.
        drop(command);
        (ended, out.join().unwrap(), errors.join().unwrap())
    });
    // Its name is this run's own.
    for descriptor in &mut ended.descriptors {
        *descriptor = descriptor.replace(&*folder.path().to_string_lossy(), "FOLDER");
    }
    let list = |path: &Path| {
        let entries = std::fs::read_dir(path).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let mut names = list(folder.path());
    names.extend(list(crashes.path()));
    Run { ended, out, errors, written: std::fs::read(folder.path().join("output")).ok(), names }
}

/// The descriptors that runs have at their end to which nothing was done: of each kind the most that one had.
struct Usual(BTreeMap<String, usize>);

impl Usual {
    fn of(runs: &[Run]) -> Self {
        let mut most: BTreeMap<String, usize> = BTreeMap::new();
        for run in runs {
            for (name, count) in kinds(&run.ended.descriptors) {
                let known = most.entry(name.to_owned()).or_default();
                *known = count.max(*known);
            }
        }
        Self(most)
    }

    /// What a run has more. A virtual CPU belongs to a thread, of which there may be more or fewer.
    fn exceeded(&self, ended: &Ended) -> Vec<String> {
        let most = |name: &str| match name {
            "anon_inode:kvm" => ended.threads + 3,
            _ => self.0.get(name).copied().unwrap_or(0),
        };
        let over = |(name, count): (&str, usize)| (count > most(name)).then(|| format!("{count} × {name}"));
        kinds(&ended.descriptors).into_iter().filter_map(over).collect()
    }
}

fn kinds(descriptors: &[String]) -> BTreeMap<&str, usize> {
    let mut kinds = BTreeMap::new();
    for name in descriptors {
        *kinds.entry(name.as_str()).or_default() += 1;
    }
    kinds
}

/// What a run's end is; `Err` says what is wrong with it.
fn judge(run: &Run, fault: Fault, usual: &Usual) -> Result<Class, String> {
    let wrong = |why: &str| {
        let Run { ended, out, errors, .. } = run;
        Err(format!("{why}: status {}, {:?}\nit printed: {out:?}\nand said: {errors}", ended.status, ended.injected))
    };
    if run.ended.late {
        return wrong("it hung");
    }
    if run.ended.left_behind {
        return wrong("it left a process behind");
    }
    if !OUTPUT.starts_with(&run.out) {
        return wrong("wrong output");
    }
    if run.written.as_ref().is_some_and(|written| *written != data()) {
        return wrong("a wrong file");
    }
    if run.names.iter().any(|name| !["input", "output", "output.new"].contains(&name.as_str())) {
        return wrong("it left a file behind");
    }
    if matches!(fault, Fault::Interrupted | Fault::Short) && run.ended.status != 0 {
        return wrong("no reason to fail");
    }
    let lines: Vec<_> = run.errors.lines().collect();
    // A line of the monitor's may say besides what the sandbox has to do without.
    let ours = |line: &&str| line.starts_with("picovisor: ") && !line.contains("internal error");
    let theirs = |line: &&str| line.starts_with("injected: ") || LIBRARY.iter().any(|words| line.contains(words));
    let is_clear = lines.iter().all(|line| ours(line) || theirs(line) && !line.contains("WRONG"));
    match run.ended.status {
        0 if lines.iter().all(ours) => {
            if run.out != OUTPUT || run.written.is_none() || run.names.len() != 2 {
                return wrong("success without all of the results");
            }
            let extra = usual.exceeded(&run.ended);
            if !extra.is_empty() {
                return wrong(&format!("it kept descriptors: {extra:?}"));
            }
            Ok(Class::Unharmed)
        }
        3 | 127 if is_clear && lines.iter().any(theirs) => Ok(Class::Told),
        // The kernel's own answers where an error has no way to be told: a page that cannot be had.
        135 | 137 | 139 if is_clear => Ok(Class::Told),
        125..=127 if lines.iter().any(ours) && is_clear => Ok(Class::GaveUp),
        _ => wrong("an end that is not clear"),
    }
}

/// What the runs under one kind of fault came to.
#[derive(Default)]
struct Tally {
    classes: BTreeMap<Class, u64>,
    wrong: Vec<String>,
}

/// Tries `fault` at each of `nths`, on as many threads as there are processors.
fn try_all(fault: Fault, usual: &Usual, nths: &[u64]) -> Tally {
    let tally = Mutex::new(Tally::default());
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(nth) = nths.get(usize::try_from(index).unwrap()) else { return };
            let run = run(Plan { fault, nth: *nth });
            // A run is not the same twice: it may have had fewer calls than that.
            let judged = judge(&run, fault, usual);
            if let (Ok(class), Some(injected)) = (&judged, &run.ended.injected)
                && nths.len() > 100
                && *class != Class::Unharmed
            {
                eprintln!("{fault:?} {nth}: {class:?} {injected:x?} {}", run.errors.lines().next().unwrap_or_default());
            }
            let mut tally = tally.lock().unwrap();
            match judged {
                Ok(class) if run.ended.injected.is_some() => *tally.classes.entry(class).or_default() += 1,
                Ok(_) => {}
                Err(why) => tally.wrong.push(format!("{fault:?} {nth}: {why}")),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4) {
            scope.spawn(work);
        }
    });
    tally.into_inner().unwrap()
}

/// Which of `count` calls are tried: all if that is asked for, or else some from everywhere.
fn chosen(count: u64) -> Vec<u64> {
    match std::env::var("PICOVISOR_FAULTS").as_deref() {
        Ok("all") => (1..=count).collect(),
        Ok(list) => list.split(',').map(|nth| nth.parse().expect("PICOVISOR_FAULTS holds numbers")).collect(),
        Err(_) => {
            let mut nths: Vec<_> = (0..SAMPLE).map(|index| 1 + index * count / SAMPLE).collect();
            nths.dedup();
            nths
        }
    }
}

fn check(fault: Fault) {
    need_kvm!();
    let plain: Vec<_> = (0..PLAIN).map(|_| run(Plan { fault, nth: 0 })).collect();
    let usual = Usual::of(&plain);
    plain.iter().for_each(|run| assert_eq!(judge(run, fault, &usual), Ok(Class::Unharmed)));
    let places = plain.iter().map(|run| run.ended.counted).max().unwrap();
    let tally = try_all(fault, &usual, &chosen(places));
    let mut line = format!("{fault:?}: {places} places");
    for (class, count) in &tally.classes {
        let _ = write!(line, ", {class:?} {count}");
    }
    eprintln!("{line}, wrong {}", tally.wrong.len());
    assert!(tally.wrong.is_empty(), "{} ends are wrong:\n{}", tally.wrong.len(), tally.wrong.join("\n"));
    assert!(!tally.classes.is_empty(), "no fault was injected");
}

#[test]
fn a_host_call_that_fails_is_survived_or_reported() {
    check(Fault::Refused);
}

#[test]
fn a_host_call_that_is_interrupted_is_made_again() {
    check(Fault::Interrupted);
}

#[test]
fn a_transfer_that_is_cut_short_goes_on() {
    check(Fault::Short);
}

#[test]
fn memory_that_runs_out_is_survived_or_reported() {
    check(Fault::Exhausted);
}
