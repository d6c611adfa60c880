//! What has happened in the sandbox, counted.

use std::collections::BTreeMap;
use vmm::pico::ProcessKind;
use vmm::trap::Vector;
use vmm::usage::Usage;

use super::Monitor;
use super::processes::{milliseconds, nanoseconds, number};
use crate::control::messages::StatisticsReport;

impl Monitor {
    /// Reads all counters.
    pub(super) fn statistics(&self) -> StatisticsReport {
        let counts = self.host.statistics().counts();
        let paths = self.host.call_paths();
        let kernel = self.sandbox.kernel();
        let (programs, faults) = (kernel.statistics(), kernel.statistics().faults());
        let views = self.sandbox.processes();
        let exceptions = counts.exceptions.iter().map(|(vector, count)| (exception(*vector), *count));
        let traps = [("system-call".to_owned(), counts.system_calls), ("kick".to_owned(), counts.kicked)];
        let host = Usage::of_this_process();
        let memory = self.host.memory();
        let compression = memory.compression();
        let mut report = StatisticsReport {
            id: self.address.id.to_string(),
            name: self.address.name.clone(),
            running_ms: milliseconds(self.started.elapsed()),
            traps: traps.into_iter().chain(exceptions).collect(),
            call_paths: named([
                ("answered", paths.answered),
                ("posted", paths.posted),
                ("refused", paths.refused),
                ("missed", paths.missed),
                ("trapped", counts.system_calls),
            ]),
            patched_sites: programs.patched_sites(),
            calls: programs.calls().into_iter().collect(),
            unsupported: self.sandbox.counters().into_iter().collect(),
            exits_avoided: named([
                ("signal", programs.spared_signals()),
                ("kick", counts.kicks_spared),
                ("host-fault", host.minor_faults),
            ]),
            faults: named([
                ("read", faults.read),
                ("write", faults.write),
                ("fetch", faults.fetch),
                ("failed", faults.failed),
            ]),
            major_faults: host.major_faults,
            wake_ups: programs.wake_ups(),
            kicks: counts.kicks_sent,
            processes: number(views.len()),
            threads: views.iter().map(|view| number(view.threads)).sum(),
            commit: views.iter().map(|view| view.commit).sum(),
            resident: views.iter().map(|view| view.resident).sum(),
            memory_held: memory.held(),
            memory_limit: memory.limit(),
            compressed: compression.bytes_before,
            compressed_size: compression.store_bytes,
            cpu_ended_ns: nanoseconds(self.host.gone().cpu_time),
            ..StatisticsReport::default()
        };
        for process in self.host.processes() {
            let split = process.cpu_split();
            match process.kind() {
                ProcessKind::Pico | ProcessKind::Minimal => {
                    report.cpu_user_ns += nanoseconds(split.user);
                    report.cpu_provider_ns += nanoseconds(split.provider);
                }
                ProcessKind::System | ProcessKind::MemoryCompression | ProcessKind::SecureSystem => {
                    report.cpu_host_ns += nanoseconds(split.total());
                }
            }
        }
        report
    }
}

fn named<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// The processor's name of an exception (Intel SDM volume 3, table 6-1).
fn exception(vector: Vector) -> String {
    let named = [
        (Vector::DIVIDE_ERROR, "#DE"),
        (Vector::DEBUG, "#DB"),
        (Vector::BREAKPOINT, "#BP"),
        (Vector::OVERFLOW, "#OF"),
        (Vector::INVALID_OPCODE, "#UD"),
        (Vector::DOUBLE_FAULT, "#DF"),
        (Vector::STACK_FAULT, "#SS"),
        (Vector::GENERAL_PROTECTION, "#GP"),
        (Vector::PAGE_FAULT, "#PF"),
        (Vector::X87_ERROR, "#MF"),
        (Vector::ALIGNMENT_CHECK, "#AC"),
        (Vector::MACHINE_CHECK, "#MC"),
        (Vector::SIMD_ERROR, "#XM"),
        (Vector::LEGACY_SYSCALL, "int-80"),
    ];
    let name = named.iter().find(|(known, _)| *known == vector).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| format!("vector-{}", vector.0))
}
