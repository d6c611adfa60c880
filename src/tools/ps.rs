//! `picovisor ps`: the sandboxes that are running, and their processes.

use rustix::termios::{isatty, tcgetwinsize};

use super::format::{age, cpu, harmless, json, size};
use super::table::{Align, Table};
use crate::cli::PsOptions;
use crate::control::address::Address;
use crate::control::client::{AskError, Connection, find, sandboxes};
use crate::control::messages::{ProcessReport, Reply, Request, SandboxReport};
use crate::failure::Failure;
use crate::{complain, print};

/// Sandboxes that are asked at the same time.
const AT_ONCE: usize = 64;

const COLUMNS: [(&str, Align); 13] = [
    ("SANDBOX", Align::Left),
    ("PID", Align::Right),
    ("NAME", Align::Left),
    ("STATE", Align::Left),
    ("THREADS", Align::Right),
    ("USER", Align::Right),
    ("PROVIDER", Align::Right),
    ("COMMIT", Align::Right),
    ("RES", Align::Right),
    ("COMPR", Align::Right),
    ("HANDLES", Align::Right),
    ("AGE", Align::Right),
    ("COMMAND", Align::Left),
];

/// Prints the sandboxes that are asked for.
pub(crate) fn ps(options: &PsOptions) -> Result<u8, Failure> {
    let mut reports: Vec<SandboxReport> = match options.sandboxes.as_slice() {
        [] => of_all(report_of),
        references => references.iter().map(|reference| one(reference)).collect(),
    }?;
    reports.sort_by(|a, b| (a.started_ms, &a.id).cmp(&(b.started_ms, &b.id)));
    let text = if options.json {
        json(&serde_json::to_value(&reports).map_err(Failure::ours)?)
    } else if options.quiet {
        reports.iter().map(|report| format!("{}\n", report.id)).collect()
    } else {
        lines(&reports, options.no_trunc)
    };
    print(text.as_bytes())?;
    if reports.is_empty() && isatty(std::io::stdout()) && !options.json {
        complain(&"no sandbox of yours is running");
    }
    Ok(0)
}

fn one(reference: &str) -> Result<SandboxReport, Failure> {
    let connection = find(reference)?;
    report_of(&connection).map_err(|error| error.of(&connection.address))
}

pub(crate) fn report_of(connection: &Connection) -> Result<SandboxReport, AskError> {
    match connection.ask(&Request::Processes)? {
        Reply::Sandbox(report) => Ok(*report),
        other => Err(AskError::Refused(connection.odd(&other).to_string())),
    }
}

/// Asks every sandbox of this user's. One that is gone by now is none; one that does not answer is complained about.
pub(crate) fn of_all<T: Send>(question: impl Fn(&Connection) -> Result<T, AskError> + Sync) -> Result<Vec<T>, Failure> {
    let mut reports = Vec::new();
    for some in sandboxes()?.chunks(AT_ONCE) {
        let ask = &|address: &Address| Connection::open(address).and_then(|connection| question(&connection));
        let answers = std::thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|address| scope.spawn(move || ask(address))).collect();
            // A panic has ended the process.
            asked.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<_>>()
        });
        for (address, answer) in some.iter().zip(answers) {
            match answer {
                Ok(report) => reports.push(report),
                // Whose address another user has taken is not there.
                Err(AskError::Gone | AskError::Impostor) => {}
                Err(error) => complain(&error.of(address)),
            }
        }
    }
    Ok(reports)
}

fn lines(reports: &[SandboxReport], whole: bool) -> String {
    let mut table = Table::new(&COLUMNS);
    for report in reports {
        let label = report.name.as_ref().unwrap_or(&report.id);
        report.processes.iter().for_each(|process| table.push(row(label, process)));
        if report.cpu_ended_ns > 0 {
            table.push(gone(label, report.cpu_ended_ns));
        }
    }
    let width = Some(std::io::stdout()).filter(|out| !whole && isatty(out));
    let width = width.and_then(|out| tcgetwinsize(out).ok()).map(|size| usize::from(size.ws_col));
    table.lines(width.filter(|width| *width > 0)).join("\n") + "\n"
}

fn row(label: &str, process: &ProcessReport) -> Vec<String> {
    vec![
        label.to_owned(),
        process.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        harmless(&process.name),
        process.state.clone(),
        process.threads.to_string(),
        cpu(process.cpu_user_ns),
        cpu(process.cpu_provider_ns),
        size(process.commit),
        size(process.resident),
        size(process.compressed),
        process.handles.to_string(),
        age(process.running_ms),
        harmless(&process.command.join(" ")),
    ]
}

/// What processes that are gone have used, so that the columns add up.
fn gone(label: &str, used_ns: u64) -> Vec<String> {
    let mut row = vec!["-".to_owned(); COLUMNS.len() - 1];
    (row[0], row[2], row[6]) = (label.to_owned(), "(ended)".to_owned(), cpu(used_ns));
    row.push(String::new());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox() -> SandboxReport {
        let process = ProcessReport {
            pid: Some(1),
            name: "x\u{1b}y".into(),
            kind: "pico".into(),
            state: "running".into(),
            command: vec!["x".into(), "a b".into()],
            resident: 5 << 20,
            ..ProcessReport::default()
        };
        SandboxReport { id: "0123456789ab".into(), cpu_ended_ns: 1, processes: vec![process], ..Default::default() }
    }

    #[test]
    fn a_row_for_each_process_and_one_for_those_that_are_gone() {
        let text = lines(&[sandbox()], true);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("SANDBOX") && lines[0].ends_with("COMMAND"));
        assert!(lines[1].contains("x\\u{1b}y") && lines[1].contains("5.0M") && lines[1].ends_with("x a b"));
        assert!(lines[2].contains("(ended)"));
    }

    #[test]
    fn missing_fields_have_defaults() {
        let mut value = serde_json::to_value([sandbox()]).unwrap();
        value[0]["processes"][0].as_object_mut().unwrap().remove("resident");
        value[0]["news"] = 7.into();
        let reports: Vec<SandboxReport> = serde_json::from_value(value).unwrap();
        assert_eq!(reports[0].processes[0].resident, 0);
        assert_eq!(reports[0].processes[0].pid, Some(1));
    }
}
