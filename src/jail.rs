//! The jail of the monitor: what a monitor that was taken over, or is confused, can still ask of the host.
//!
//! First what it has of its caller's rights, and does not need, is given up ([`seal`](mod@seal)): descriptors, paths, capabilities,
//! limits. Then `no_new_privs`, and a seccomp filter for every thread that allows what a running monitor needs ([`rules`]) and
//! nothing else. It is entered before the first process exists, and cannot be left. In builds with debug assertions a call
//! outside the table ends the monitor (SIGSYS), so that a missing line is found; otherwise it fails with EPERM.
//!
//! What it leaves: a monitor that was taken over may open what is visible inside, hidden paths included, may change attributes
//! of its user's files, and may make memory executable by mprotect(2), because flushing a guest's translations toggles that right.
//!
//! Threads that do one thing take a second filter, which leaves them less ([`kinds`]).
//!
//! A few calls do not exist inside (ENOSYS): who makes them has another way ([`rules::ABSENT`]). `clone3`, whose flags a filter cannot
//! see, is one: the C library uses `clone` then.

mod capabilities;
mod compile;
#[cfg(test)]
mod docs;
mod kinds;
mod landlock;
mod limits;
mod rules;
mod seal;

pub(crate) use seal::{Missing, seal};

use rules::{RULES, Rule, When};

/// The call that has no line, for tests of what each is needed for: in builds with debug assertions the environment may name one.
fn left_out() -> Option<String> {
    let named = cfg!(debug_assertions).then(|| std::env::var("PICOVISOR_JAIL_WITHOUT").ok()).flatten();
    named.map(|call| format!("SYS_{call}"))
}

/// What a monitor's jail depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The program has the host's network.
    pub(crate) network: bool,
    /// The program may change files of the host's.
    pub(crate) writable: bool,
    /// The program was handed a file of the host's that it may write.
    pub(crate) output: bool,
    /// The program has a terminal of its own.
    pub(crate) terminal: bool,
}

impl Needs {
    fn holds(self) -> Vec<When> {
        let Self { network, writable, output, terminal } = self;
        let all = [
            (network, When::HostNetwork),
            (writable, When::Writable),
            (output, When::Output),
            (terminal, When::Terminal),
        ];
        all.into_iter().filter_map(|(needed, when)| needed.then_some(when)).collect()
    }
}

/// What holds for a monitor that does not know its caller yet: what any of those it may have could want, and what taking a
/// caller's place takes.
const AJAR: &[When] = &[When::Ahead, When::Spare, When::Writable, When::Output];

/// What can be done before the options are known, and before there is another thread: it is for the threads to come as well.
pub(crate) fn begin() {
    capabilities::bound();
}

/// Puts the monitor into the jail: all its threads, those to come included.
///
/// # Errors
/// Why the host has none.
pub(crate) fn enter(needs: Needs) -> Result<(), Missing> {
    apply(&program(&needs.holds())).map_err(|why| Missing::new("seccomp", why))
}

/// As [`enter`], for a monitor that does not know its caller yet: what it needs to take a caller's place is allowed, too,
/// until [`close`].
pub(crate) fn enter_ajar() -> Result<(), String> {
    apply(&program(AJAR))
}

/// Takes back what this caller does not need. A second filter that is as short as this costs a tenth of the table.
pub(crate) fn close(needs: Needs) -> Result<(), String> {
    let holds = [&needs.holds()[..], &[When::Spare]].concat();
    apply(&compile::refuse(&only_ajar(&holds), REFUSAL))
}

/// The calls that are allowed to a monitor without a caller, and not to one for which `holds` holds.
fn only_ajar(holds: &[When]) -> Vec<libc::c_long> {
    RULES.iter().filter(|rule| rule.counts(AJAR) && !rule.counts(holds)).map(|rule| rule.call).collect()
}

/// The filter of a monitor for which `holds` holds.
fn program(holds: &[When]) -> seccompiler::BpfProgram {
    let without = left_out();
    let allowed = |rule: &Rule| rule.counts(holds) && Some(rule.name) != without.as_deref();
    compile::program(allowed, without.as_deref(), std::process::id(), REFUSAL)
}

/// Takes from the calling thread what its kind does not need. `thread` is its name.
pub(crate) fn narrow(thread: &str) {
    let Some(kind) = kinds::of(thread) else { return };
    let calls = [kinds::EVERY, kind.calls].concat();
    if let Err(error) = seccompiler::apply_filter(&compile::only(&calls, REFUSAL)) {
        // It may do what every thread of the monitor may, and no more.
        tracing::warn!(%error, thread, "no filter of its own");
    }
}

fn apply(program: &seccompiler::BpfProgram) -> Result<(), String> {
    seccompiler::apply_filter_all_threads(program).map_err(|error| error.to_string())
}

/// What the jail is on this host, in a few words; `Err`: why there is none.
pub(crate) fn describe() -> Result<String, &'static str> {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.split_whitespace().any(|action| action == "errno") {
        Ok(format!("seccomp filter, {} host calls", RULES.iter().filter(|rule| rule.counts(&[])).count()))
    } else {
        Err("the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)")
    }
}

/// What Landlock is on this host, in a few words; `Err`: why there is none.
pub(crate) fn describe_landlock() -> Result<String, String> {
    landlock::available().map(|()| ["files"].into_iter().chain(landlock::more()).collect::<Vec<_>>().join(", "))
}

/// The host calls that are allowed, and why, for tools.
pub(crate) fn calls() -> Vec<serde_json::Value> {
    let line = |rule: &Rule| {
        serde_json::json!({
            "name": rule.name.trim_start_matches("SYS_"),
            "arguments_checked": !matches!(rule.arguments, rules::Arguments::Any),
            "only_with": rule.when.iter().map(|when| when.describe()).collect::<Vec<_>>(),
            "reason": rule.reason,
        })
    };
    RULES.iter().map(line).collect()
}

/// The host calls that do not exist where none of those lines allows them, and what whoever makes them does instead, for tools.
pub(crate) fn absent_calls() -> Vec<serde_json::Value> {
    let line = |absent: &rules::Absent| serde_json::json!({ "name": absent.name.trim_start_matches("SYS_"), "instead": absent.instead });
    rules::ABSENT.iter().map(line).collect()
}

/// What becomes of a call that is not in the table.
const REFUSAL: u32 = if cfg!(debug_assertions) {
    libc::SECCOMP_RET_KILL_PROCESS
} else {
    libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()
};

#[cfg(test)]
mod tests;
