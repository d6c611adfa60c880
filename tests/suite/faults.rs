//! Fault injection: the n-th host call of a run fails, is cut short or is interrupted, and the run ends in success or in a clear error.
//!
//! A [`Scene`] is what is run meanwhile: [`files`], [`network`], [`terminal`], and both sides of [`serve`]. Ordinarily a sample of the n is
//! tried; `tests/faults/run` tries all and prints the table of `docs/reliability.md`.

mod files;
mod judge;
mod network;
mod serve;
mod stage;
mod terminal;

use crate::harness::need_kvm;
use faults::{Ended, Fault, Plan};
use judge::{Class, KEPT, Usual, judge};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many runs are looked at to which nothing is done.
const PLAIN: usize = 6;

/// How often a run is made again that has kept a descriptor: a thread may have been about to close it, which it will not be every time.
const AGAIN: usize = 3;

/// What is run, and what it should come to.
trait Scene: Sync {
    /// What it is called in the table.
    fn name(&self) -> &'static str;

    /// What the program prints.
    fn output(&self) -> String;

    /// Runs it once, under a plan or with nothing done to it.
    fn run(&self, plan: Option<Plan>) -> Run;

    /// Runs it in the ways to which only a fault leads, with nothing done to it.
    fn detours(&self) -> Vec<Run> {
        Vec::new()
    }

    /// Statuses of a program that was told by a signal, besides those of memory that cannot be had.
    fn signals(&self) -> &'static [i32] {
        &[]
    }

    /// How many runs an ordinary test makes for each kind of fault.
    fn sample(&self) -> u64 {
        8
    }
}

/// A finished run.
struct Run {
    ended: Ended,
    out: String,
    errors: String,
    left: Left,
}

/// What a run left behind.
enum Left {
    /// What it should have.
    All,
    /// Not all of that, and nothing else.
    Part,
    /// Something that is wrong.
    Wrong(String),
}

/// What the runs under one kind of fault came to.
#[derive(Default)]
struct Tally {
    classes: BTreeMap<Class, u64>,
    wrong: Vec<String>,
}

/// Tries `fault` at each of `nths`, on as many threads as there are processors.
fn try_all(scene: &dyn Scene, fault: Fault, usual: &Usual, nths: &[u64]) -> Tally {
    let tally = Mutex::new(Tally::default());
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(&nth) = nths.get(usize::try_from(index).unwrap()) else { return };
            let mut run = scene.run(Some(Plan { fault, nth }));
            // A run is not the same twice: it may have had fewer calls than that.
            let mut judged = judge(scene, &run, Some(fault), usual);
            for _ in 0..AGAIN {
                if judged.as_ref().is_err_and(|why| why.starts_with(KEPT)) {
                    run = scene.run(Some(Plan { fault, nth }));
                    judged = judge(scene, &run, Some(fault), usual);
                }
            }
            if let (true, Some(injected)) = (is_full(), &run.ended.injected)
                && judged != Ok(Class::Unharmed)
            {
                let end = judged.as_ref().map_or_else(|why| format!("WRONG: {why}"), |class| format!("{class:?}"));
                let said = run.errors.lines().next().unwrap_or_default();
                eprintln!("{}: {fault:?} {nth}: {end} {injected:x?} {said}", scene.name());
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

/// Whether all calls are tried, and what is not as if nothing had happened is shown.
fn is_full() -> bool {
    std::env::var_os("PICOVISOR_FAULTS").is_some()
}

/// Which of `count` calls are tried: all if that is asked for, or else some from everywhere.
fn chosen(count: u64, sample: u64) -> Vec<u64> {
    match std::env::var("PICOVISOR_FAULTS").as_deref() {
        Ok("all") => (1..=count).collect(),
        Ok(list) => list.split(',').map(|nth| nth.parse().expect("PICOVISOR_FAULTS holds numbers")).collect(),
        Err(_) => {
            let mut nths: Vec<_> = (0..sample).map(|index| 1 + index * count / sample).collect();
            nths.dedup();
            nths
        }
    }
}

/// Tries `faults` on a scene.
fn check(scene: &dyn Scene, faults: &[Fault]) {
    let mut plain: Vec<_> = (0..PLAIN).map(|_| scene.run(None)).collect();
    let most = |fault| plain.iter().map(|run| run.ended.places(fault)).max().unwrap();
    let places: Vec<_> = faults.iter().map(|fault| most(*fault)).collect();
    plain.extend(scene.detours());
    let usual = Usual::of(&plain);
    plain.iter().for_each(|run| assert_eq!(judge(scene, run, None, &usual), Ok(Class::Unharmed)));
    assert!(places.iter().any(|places| *places > 0), "nothing could be done to a call");
    let mut wrong = Vec::new();
    // Who only asks a daemon takes no memory that could be refused.
    for (&fault, places) in faults.iter().zip(places).filter(|(_, places)| *places > 0) {
        let tally = try_all(scene, fault, &usual, &chosen(places, scene.sample()));
        let mut line = format!("{}: {fault:?}: {places} places", scene.name());
        for (class, count) in &tally.classes {
            let _ = write!(line, ", {class:?} {count}");
        }
        eprintln!("{line}, wrong {}", tally.wrong.len());
        assert!(!tally.classes.is_empty() || !tally.wrong.is_empty(), "{line}: no fault was injected");
        wrong.extend(tally.wrong);
    }
    assert!(wrong.is_empty(), "{} ends are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_host_call_that_fails_is_survived_or_reported() {
    need_kvm!();
    check(&files::Files, &[Fault::Refused]);
}

#[test]
fn a_host_call_that_is_interrupted_is_made_again() {
    need_kvm!();
    check(&files::Files, &[Fault::Interrupted]);
}

#[test]
fn a_transfer_that_is_cut_short_goes_on() {
    need_kvm!();
    check(&files::Files, &[Fault::Short]);
}

#[test]
fn memory_that_runs_out_is_survived_or_reported() {
    need_kvm!();
    check(&files::Files, &[Fault::Exhausted]);
}

#[test]
fn so_is_all_of_that_with_the_hosts_network() {
    need_kvm!();
    check(&network::Network, &Fault::ALL);
}

#[test]
fn so_is_all_of_that_in_a_terminal() {
    need_kvm!();
    check(&terminal::Terminal, &Fault::ALL);
}

#[test]
fn so_is_all_of_that_by_whom_a_daemon_serves() {
    need_kvm!();
    check(&serve::Client::default(), &Fault::ALL);
}

#[test]
fn so_is_all_of_that_by_a_daemon() {
    need_kvm!();
    check(&serve::Daemon::default(), &Fault::ALL);
}
