//! `picovisor stats`: what has happened in sandboxes, as text, JSON or Prometheus's text format.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use super::format::{age, cpu, harmless, json, size};
use crate::cli::{StatsFormat, StatsOptions};
use crate::control::client::{AskError, Connection, find};
use crate::control::messages::{Reply, Request, StatisticsReport};
use crate::failure::Failure;
use crate::print;

/// Calls that the text shows.
const CALLS_SHOWN: usize = 12;

/// Prints the statistics of the sandboxes that are asked for.
pub(crate) fn stats(options: &StatsOptions) -> Result<u8, Failure> {
    let reports: Vec<StatisticsReport> = match options.sandboxes.as_slice() {
        [] => super::ps::of_all(ask)?,
        references => references.iter().map(|reference| one(reference)).collect::<Result<_, _>>()?,
    };
    let text = match options.format {
        StatsFormat::Text => reports.iter().map(human).collect::<Vec<_>>().join("\n"),
        StatsFormat::Json => json(&serde_json::to_value(&reports).map_err(Failure::ours)?),
        StatsFormat::Prometheus => prometheus(&reports),
    };
    print(text.as_bytes()).map(|()| 0)
}

fn one(reference: &str) -> Result<StatisticsReport, Failure> {
    let connection = find(reference)?;
    ask(&connection).map_err(|error| error.of(&connection.address))
}

fn ask(connection: &Connection) -> Result<StatisticsReport, AskError> {
    match connection.ask(&Request::Statistics)? {
        Reply::Statistics(report) => Ok(*report),
        other => Err(AskError::Refused(connection.odd(&other).to_string())),
    }
}

/// The counts of a map, the largest first.
fn ranked(counts: &BTreeMap<String, u64>) -> Vec<(&str, u64)> {
    let mut ranked: Vec<_> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    ranked
}

fn list(counts: &BTreeMap<String, u64>, most: usize) -> String {
    let ranked = ranked(counts);
    let shown: Vec<_> = ranked.iter().take(most).map(|(name, count)| format!("{} {count}", harmless(name))).collect();
    let rest = ranked.len().saturating_sub(most);
    let more = if rest > 0 { format!(", {rest} more") } else { String::new() };
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") + &more }
}

/// How many bytes the compressed ones were for each that they are; 0 if there are none.
fn ratio(report: &StatisticsReport) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes needs few digits")]
    let (before, after) = (report.compressed as f64, report.compressed_size as f64);
    if after > 0.0 { before / after } else { 0.0 }
}

fn human(report: &StatisticsReport) -> String {
    let lines: [(&str, String); 12] = [
        ("running", age(report.running_ms)),
        ("processes", format!("{}, {} threads", report.processes, report.threads)),
        ("traps", list(&report.traps, usize::MAX)),
        (
            "calls made",
            format!("{}, from {} patched sites", list(&report.call_paths, usize::MAX), report.patched_sites),
        ),
        ("calls", list(&report.calls, CALLS_SHOWN)),
        ("not served", list(&report.unsupported, CALLS_SHOWN)),
        ("exits avoided", list(&report.exits_avoided, usize::MAX)),
        ("page faults", format!("{}, {} from the host's disk", list(&report.faults, usize::MAX), report.major_faults)),
        ("wake-ups", format!("{}, {} interruptions", report.wake_ups, report.kicks)),
        (
            "memory",
            format!(
                "{} held of {}, {} committed, {} resident",
                size(report.memory_held),
                size(report.memory_limit),
                size(report.commit),
                size(report.resident)
            ),
        ),
        (
            "compressed",
            format!("{} in {}, {:.1} to 1", size(report.compressed), size(report.compressed_size), ratio(report)),
        ),
        (
            "CPU time",
            format!(
                "{} user, {} provider, {} host, {} ended",
                cpu(report.cpu_user_ns),
                cpu(report.cpu_provider_ns),
                cpu(report.cpu_host_ns),
                cpu(report.cpu_ended_ns)
            ),
        ),
    ];
    let label = report.name.as_ref().unwrap_or(&report.id);
    let body: String = lines.iter().map(|(name, value)| format!("  {name:<15}{value}\n")).collect();
    format!("{}\n{body}", harmless(label))
}

/// Writes families of metrics, each sandbox's samples under one heading, as the format asks.
struct Exposition<'r> {
    reports: &'r [StatisticsReport],
    text: String,
}

impl Exposition<'_> {
    /// Adds a family; `samples` are a report's, each with the labels it has besides the sandbox's.
    fn family<V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl Fn(&StatisticsReport) -> Vec<(Option<(&'static str, String)>, V)>,
    ) {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "# HELP picovisor_{name} {help}\n# TYPE picovisor_{name} {kind}\n");
        for report in self.reports {
            for (label, value) in samples(report) {
                let mut labels = format!("id=\"{}\"", escape(&report.id));
                if let Some(name) = &report.name {
                    let _ = write!(labels, ",name=\"{}\"", escape(name));
                }
                if let Some((name, value)) = label {
                    let _ = write!(labels, ",{name}=\"{}\"", escape(&value));
                }
                let _ = writeln!(self.text, "picovisor_{name}{{{labels}}} {value}");
            }
        }
    }

    /// Adds a family with a sample for each entry of a map.
    fn counts(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        of: fn(&StatisticsReport) -> &BTreeMap<String, u64>,
    ) {
        self.family(name, "counter", help, |report| {
            of(report).iter().map(|(key, count)| (Some((label, key.clone())), *count)).collect()
        });
    }

    /// Adds a family with one sample.
    fn single(&mut self, name: &str, kind: &str, help: &str, of: fn(&StatisticsReport) -> u64) {
        self.family(name, kind, help, |report| vec![(None, of(report))]);
    }
}

/// The text format of Prometheus, version 0.0.4.
fn prometheus(reports: &[StatisticsReport]) -> String {
    let mut all = Exposition { reports, text: String::new() };
    all.counts("traps_total", "Times that a program was left for the provider.", "kind", |report| &report.traps);
    all.counts("call_paths_total", "System calls by how they were made.", "path", |report| &report.call_paths);
    all.single("patched_sites_total", "counter", "Call sites that make their calls without SYSCALL.", |report| {
        report.patched_sites
    });
    all.counts("system_calls_total", "System calls, without those answered in the guest.", "call", |report| {
        &report.calls
    });
    all.counts("unsupported_total", "What was asked for and not served.", "what", |report| &report.unsupported);
    all.counts("exits_avoided_total", "Times that a program need not be left.", "by", |report| &report.exits_avoided);
    all.counts("page_faults_total", "Page faults that the provider saw.", "access", |report| &report.faults);
    all.single("major_faults_total", "counter", "Page faults that needed the host's disk.", |report| {
        report.major_faults
    });
    all.single("wake_ups_total", "counter", "Times that a sleeping thread went on.", |report| report.wake_ups);
    all.single("kicks_total", "counter", "Times that a running program was interrupted.", |report| report.kicks);
    all.single("processes", "gauge", "Processes.", |report| report.processes);
    all.single("threads", "gauge", "Threads of processes.", |report| report.threads);
    all.single("commit_bytes", "gauge", "Private memory that processes may fill.", |report| report.commit);
    all.single("resident_bytes", "gauge", "Memory that processes have.", |report| report.resident);
    all.single("memory_held_bytes", "gauge", "Guest memory that the sandbox holds.", |report| report.memory_held);
    all.single("memory_limit_bytes", "gauge", "Guest memory that the sandbox may hold.", |report| report.memory_limit);
    all.single("compressed_bytes", "gauge", "Memory that is compressed, before that.", |report| report.compressed);
    all.single("compressed_store_bytes", "gauge", "What compressed memory takes.", |report| report.compressed_size);
    all.family("compression_ratio", "gauge", "How far memory was compressed.", |report| vec![(None, ratio(report))]);
    all.family("cpu_seconds_total", "counter", "CPU time.", |report| {
        #[expect(clippy::cast_precision_loss, reason = "seconds in Prometheus are floating-point numbers")]
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let sample = |of: &str, nanoseconds| (Some(("of", of.to_owned())), seconds(nanoseconds));
        vec![
            sample("user", report.cpu_user_ns),
            sample("provider", report.cpu_provider_ns),
            sample("host", report.cpu_host_ns),
            sample("ended", report.cpu_ended_ns),
        ]
    });
    all.family("running_seconds", "gauge", "How long the sandbox has been running.", |report| {
        vec![(None, report.running_ms / 1000)]
    });
    all.text
}

/// A label's value as the format has it.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> StatisticsReport {
        let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        StatisticsReport {
            id: "0123456789ab".into(),
            name: Some("we\"b".into()),
            traps: counts(&[("system-call", 7), ("#PF", 9)]),
            call_paths: counts(&[("answered", 12), ("posted", 5), ("trapped", 2)]),
            calls: counts(&[("read", 3), ("write", 4)]),
            compressed: 4096,
            compressed_size: 1024,
            cpu_user_ns: 1_500_000_000,
            ..StatisticsReport::default()
        }
    }

    #[test]
    fn prometheus_gets_families_with_labels() {
        let text = prometheus(&[report(), StatisticsReport { id: "b".into(), ..StatisticsReport::default() }]);
        let label = "id=\"0123456789ab\",name=\"we\\\"b\"";
        for line in [
            "# TYPE picovisor_traps_total counter".to_owned(),
            format!("picovisor_traps_total{{{label},kind=\"#PF\"}} 9"),
            format!("picovisor_call_paths_total{{{label},path=\"posted\"}} 5"),
            format!("picovisor_system_calls_total{{{label},call=\"read\"}} 3"),
            format!("picovisor_compression_ratio{{{label}}} 4"),
            format!("picovisor_cpu_seconds_total{{{label},of=\"user\"}} 1.5"),
            "picovisor_processes{id=\"b\"} 0".to_owned(),
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        // A family has one heading, and nothing else stands between its samples.
        let mut seen: Vec<&str> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split('{').next().unwrap();
            assert!(seen.last() == Some(&name) || !seen.contains(&name), "{name} twice");
            seen.push(name);
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
        }
    }

    #[test]
    fn people_see_the_most_frequent_first() {
        let text = human(&report());
        assert!(text.contains("#PF 9, system-call 7") && text.contains("4.0K in 1.0K, 4.0 to 1"), "{text}");
        assert!(text.contains("calls made     answered 12, posted 5, trapped 2"), "{text}");
        assert!(text.contains("not served     none"), "{text}");
        let many = (0..20).map(|number| (format!("call{number}"), number)).collect();
        assert!(list(&many, 12).ends_with(", 8 more"));
    }
}
