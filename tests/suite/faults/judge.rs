//! Which ends are as they should be.

use super::{Left, Run, Scene};
use faults::{Ended, Fault};
use std::collections::{BTreeMap, BTreeSet};

/// What the program's C library says when it fails before `main`.
const LIBRARY: [&str; 2] = ["error while loading shared libraries", "Fatal glibc error"];

/// What is wrong with a run that has descriptors which others have not.
pub(super) const KEPT: &str = "it kept descriptors";

/// How a run ended that is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// As if nothing had happened.
    Unharmed,
    /// The program was told, by an error or a signal, and said so.
    Told,
    /// The monitor gave up, with one line and a status of its own.
    GaveUp,
}

/// What runs have at their end to which nothing was done.
pub(super) struct Usual {
    /// Descriptors: of each kind the most that one had, apart for those that have a machine of their own.
    descriptors: BTreeMap<(bool, String), usize>,
    /// What they say.
    lines: BTreeSet<String>,
}

impl Usual {
    pub(super) fn of(runs: &[Run]) -> Self {
        let mut descriptors: BTreeMap<_, usize> = BTreeMap::new();
        for Run { ended, .. } in runs {
            for (name, count) in kinds(&ended.descriptors) {
                let known = descriptors.entry((has_machine(ended), name.to_owned())).or_default();
                *known = count.max(*known);
            }
        }
        let lines = runs.iter().flat_map(|run| run.errors.lines()).map(str::to_owned).collect();
        Self { descriptors, lines }
    }

    /// What a run has more. A virtual CPU belongs to a thread, of which there may be more or fewer; and nobody waits until the memory
    /// of the program's last process is gone, which its file is in.
    fn exceeded(&self, ended: &Ended) -> Vec<String> {
        let most = |name: &str| match name {
            MACHINE => ended.threads + 3,
            _ if name.starts_with(env!("CARGO_TARGET_TMPDIR")) => 1,
            _ => self.descriptors.get(&(has_machine(ended), name.to_owned())).copied().unwrap_or(0),
        };
        let over = |(name, count): (&str, usize)| (count > most(name)).then(|| format!("{count} × {name}"));
        kinds(&ended.descriptors).into_iter().filter_map(over).collect()
    }
}

/// What the descriptors of a machine and its virtual CPUs are.
const MACHINE: &str = "anon_inode:kvm";

fn has_machine(ended: &Ended) -> bool {
    ended.descriptors.iter().any(|name| name == MACHINE)
}

fn kinds(descriptors: &[String]) -> BTreeMap<&str, usize> {
    let mut kinds = BTreeMap::new();
    for name in descriptors {
        *kinds.entry(name.as_str()).or_default() += 1;
    }
    kinds
}

/// What a run's end is; `Err` says what is wrong with it.
pub(super) fn judge(scene: &dyn Scene, run: &Run, fault: Option<Fault>, usual: &Usual) -> Result<Class, String> {
    let wrong = |why: &str| {
        let Run { ended, out, errors, .. } = run;
        let end = out.lines().next_back().unwrap_or_default();
        let printed = format!("{} bytes, the last line {end:?}", out.len());
        Err(format!("{why}: status {}, {:x?}\nit printed {printed}\nand said: {errors}", ended.status, ended.injected))
    };
    let output = scene.output();
    if run.ended.late {
        return wrong("it hung");
    }
    if run.ended.left_behind {
        return wrong("it left a process behind");
    }
    if !output.starts_with(&run.out) {
        return wrong("wrong output");
    }
    if let Left::Wrong(why) = &run.left {
        return wrong(why);
    }
    let lines: Vec<_> = run.errors.lines().collect();
    let is_no_reason = matches!(fault, Some(Fault::Interrupted | Fault::Short));
    if is_no_reason && (run.ended.status != 0 || lines.iter().any(|line| !usual.lines.contains(*line))) {
        return wrong("no reason to fail");
    }
    // A line of the monitor's may say besides what the sandbox has to do without.
    let ours = |line: &&str| line.starts_with("picovisor: ") && !line.contains("internal error");
    let theirs = |line: &&str| line.starts_with("injected: ") || LIBRARY.iter().any(|words| line.contains(words));
    let is_clear = lines.iter().all(|line| ours(line) || theirs(line) && !line.contains("WRONG"));
    match run.ended.status {
        0 if lines.iter().all(ours) => {
            if run.out != output || !matches!(run.left, Left::All) {
                return wrong("success without all of the results");
            }
            let extra = usual.exceeded(&run.ended);
            if !extra.is_empty() {
                return wrong(&format!("{KEPT}: {extra:?}"));
            }
            Ok(Class::Unharmed)
        }
        3 | 127 if is_clear && lines.iter().any(theirs) => Ok(Class::Told),
        // The kernel's own answers where an error has no way to be told: a page that cannot be had.
        135 | 137 | 139 if is_clear => Ok(Class::Told),
        status if is_clear && scene.signals().contains(&status) => Ok(Class::Told),
        125..=127 if lines.iter().any(ours) && is_clear => Ok(Class::GaveUp),
        _ => wrong("an end that is not clear"),
    }
}
