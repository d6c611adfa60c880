//! `picovisor check`: whether this machine can run sandboxes, how, and what is missing.

use provider::fs::DEFAULT_HIDDEN;
use serde_json::json;
use std::fmt::Write as _;
use vmm::HostReport;
use vmm::pico::{Host, HostConfig, OpenError, Posting};
use vmm::protect::Sealing;

use crate::cli::CheckOptions;
use crate::failure::{Failure, OURS};
use crate::{jail, print};

/// Guest memory for the probe: what a start needs and little more.
const PROBE_MEMORY: u64 = 64 << 20;

/// Prints the report. The status is 0 if sandboxes can run, else 125.
pub(crate) fn check(options: &CheckOptions) -> Result<u8, Failure> {
    let report = look()?;
    let text = if options.json { json(&report) } else { human(&report) };
    print(text.as_bytes())?;
    Ok(if report.refusal.is_none() { 0 } else { OURS })
}

/// Opens a host, which runs the trap probe, and keeps what it found out.
fn look() -> Result<HostReport, Failure> {
    match Host::open(&HostConfig { memory: PROBE_MEMORY, vcpus: None, posting: Posting::default() }) {
        Ok(host) => Ok(host.report().cloned().unwrap_or_default()),
        Err(OpenError::Refused(report)) => Ok(*report),
        Err(other) => Err(Failure::ours(other)),
    }
}

/// Names and values of the report, in the order in which they are printed.
fn facts(report: &HostReport) -> Vec<(&'static str, String)> {
    let unknown = || "unknown".to_owned();
    vec![
        ("kvm", report.refusal.as_ref().map_or_else(|| "usable".to_owned(), ToString::to_string)),
        ("trap method", report.traps.map_or_else(unknown, |traps| traps.to_string())),
        (
            "page tables",
            report.paging.map_or_else(unknown, |flavour| {
                let how = match flavour.paging {
                    vmm::Paging::Hardware => "two-dimensional paging by the processor",
                    vmm::Paging::Shadow => "shadow page tables",
                    vmm::Paging::None => "none",
                };
                format!("{how} ({})", flavour.source)
            }),
        ),
        ("virtual CPUs", report.max_vcpus.to_string()),
        ("memory slots", report.max_slots.to_string()),
        ("vector state", format!("XCR0 {:#x}", report.xcr0)),
        ("sealing", Sealing::probe().to_string()),
        ("jail", jail::describe().unwrap_or_else(|why| format!("none: {why}"))),
        ("Landlock", jail::describe_landlock().unwrap_or_else(|why| format!("none: {why}"))),
    ]
}

fn human(report: &HostReport) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (name, value) in facts(report) {
        let _ = writeln!(text, "{name:<14}{value}");
    }
    if !report.capabilities.is_empty() {
        let _ = writeln!(text, "\nCapabilities of KVM:");
    }
    for capability in &report.capabilities {
        let state = match (capability.present, capability.required) {
            (true, _) => "yes",
            (false, true) => "MISSING",
            (false, false) => "no",
        };
        let _ = writeln!(text, "  {state:<9}{:<36}{}", capability.name, capability.purpose);
    }
    let _ = writeln!(text, "\nHidden from programs unless granted with --bind or --rw:");
    for path in DEFAULT_HIDDEN {
        let _ = writeln!(text, "  {path}");
    }
    let verdict = match &report.refusal {
        None => "This machine can run sandboxes.".to_owned(),
        Some(refusal) => format!("This machine cannot run sandboxes: {refusal}"),
    };
    let _ = writeln!(text, "\n{verdict}");
    text
}

fn json(report: &HostReport) -> String {
    let capabilities: Vec<_> = report
        .capabilities
        .iter()
        .map(|capability| {
            json!({
                "name": capability.name,
                "purpose": capability.purpose,
                "required": capability.required,
                "present": capability.present,
            })
        })
        .collect();
    let value = json!({
        "usable": report.refusal.is_none(),
        "refusal": report.refusal.as_ref().map(ToString::to_string),
        "traps": report.traps.map(|traps| format!("{traps:?}")),
        "paging": report.paging.map(|flavour| format!("{:?}", flavour.paging)),
        "max_vcpus": report.max_vcpus,
        "max_slots": report.max_slots,
        "xcr0": report.xcr0,
        "sealing": format!("{:?}", Sealing::probe()),
        "jail": jail::describe().ok(),
        "landlock": jail::describe_landlock().ok(),
        "host_calls": jail::calls(),
        "absent_calls": jail::absent_calls(),
        "capabilities": capabilities,
        "hidden": DEFAULT_HIDDEN,
    });
    format!("{value}\n")
}
