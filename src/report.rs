//! What `-v` prints at exit.

use provider::Sandbox;
use std::sync::OnceLock;
use std::time::Instant;
use vmm::pico::Host;

use crate::complain;

/// How the sandbox was started, if there was a choice.
static START: OnceLock<String> = OnceLock::new();

/// Notes why no monitor that was ready was used, if there is one.
pub(crate) fn note_direct(why: Option<&str>) {
    if let Some(why) = why {
        let _ = START.set(format!("started without picovisor serve: {why}"));
    }
}

/// Notes that this monitor was ready before its caller came.
pub(crate) fn note_spare() {
    let _ = START.set("started by picovisor serve".to_owned());
}

/// Prints what the sandbox used and what it asked for in vain, to standard error.
pub(crate) fn print(sandbox: &Sandbox, host: &Host, started: Instant) {
    let (held, limit) = (host.memory().held(), host.memory().limit());
    complain(&format_args!("ran for {:.3} s", started.elapsed().as_secs_f64()));
    if let Some(start) = START.get() {
        complain(start);
    }
    complain(&format_args!("memory held at the end: {} of {}", Bytes(held), Bytes(limit)));
    let (paths, trapped) = (host.call_paths(), host.statistics().counts().system_calls);
    complain(&format_args!(
        "system calls: {} answered in the guest, {} posted, {trapped} trapped, from {} patched sites",
        paths.answered,
        paths.posted,
        sandbox.kernel().statistics().patched_sites()
    ));
    if let Some(kvm) = host.report() {
        complain(&format_args!("traps: {kvm}"));
    }
    let counters = sandbox.counters();
    if counters.is_empty() {
        complain(&"everything that the program asked for is supported");
    }
    for (what, count) in counters {
        complain(&format_args!("not supported: {what}, {count} time{}", if count == 1 { "" } else { "s" }));
    }
}

/// A size for people: `1.5 MiB`.
pub(crate) struct Bytes(pub(crate) u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.into_iter().find(|(shift, _)| self.0 >> shift > 0) {
            // Tenths, rounded down, without floating point's surprises for large sizes.
            Some((shift, unit)) => {
                let tenths = (self.0 >> (shift - 10)) * 10 / 1024;
                write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
            }
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        let sizes = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (5 << 20, "5.0 MiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
