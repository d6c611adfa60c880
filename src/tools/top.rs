//! `picovisor top`: the processes of all sandboxes, the busiest first, again and again.

mod screen;

use rustix::event::{Timespec, poll};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::format::{cpu, harmless, size};
use super::ps::{of_all, report_of};
use super::table::{Align, Table};
use crate::cli::TopOptions;
use crate::control::messages::{ProcessReport, SandboxReport};
use crate::failure::Failure;
use crate::print;
use screen::{Event, Screen};

const COLUMNS: [(&str, Align); 11] = [
    ("SANDBOX", Align::Left),
    ("PID", Align::Right),
    ("NAME", Align::Left),
    ("STATE", Align::Left),
    ("%CPU", Align::Right),
    ("%USER", Align::Right),
    ("TIME", Align::Right),
    ("RES", Align::Right),
    ("COMPR", Align::Right),
    ("THREADS", Align::Right),
    ("COMMAND", Align::Left),
];

/// What rows are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// CPU time since the last look.
    Cpu,
    /// Memory.
    Memory,
    /// CPU time in all.
    Time,
    /// As `ps` has them.
    Sandbox,
}

/// A process and what it has used since the last look.
#[derive(Debug)]
struct Row {
    sandbox: String,
    process: ProcessReport,
    /// Nanoseconds, in user mode and in all.
    used: (u64, u64),
}

/// What was seen at the last look: CPU times by sandbox and process.
#[derive(Debug, Default)]
struct Last {
    at: Option<Instant>,
    times: HashMap<(String, u64), (u64, u64)>,
}

/// Shows processes until it is told to stop, or with `--once` a single time.
pub(crate) fn top(options: &TopOptions) -> Result<u8, Failure> {
    let interval = Duration::from_secs_f64(options.interval);
    let mut last = Last::default();
    if options.once {
        last.rows(of_all(report_of)?);
        let start = Instant::now();
        // A signal may end it early: then the span is shorter.
        let _ = poll(&mut [], Timespec::try_from(interval).ok().as_ref());
        let rows = last.rows(of_all(report_of)?);
        return print(page(&rows, start.elapsed(), Order::Cpu, None).as_bytes()).map(|()| 0);
    }
    let mut order = Order::Cpu;
    let mut screen = Screen::open()?;
    let mut rows = Vec::new();
    let mut next = Instant::now();
    let mut span = interval;
    loop {
        if Instant::now() >= next {
            let before = last.at;
            rows = last.rows(of_all(report_of)?);
            span = before.map_or(interval, |before| before.elapsed());
            next = Instant::now() + interval;
        }
        screen.show(&page(&rows, span, order, Some(screen.size())))?;
        match screen.wait(next.saturating_duration_since(Instant::now()))? {
            Event::Quit => return Ok(0),
            Event::Ended(status) => return Ok(status),
            Event::Key(b'c' | b'P') => order = Order::Cpu,
            Event::Key(b'm' | b'M') => order = Order::Memory,
            Event::Key(b't' | b'T') => order = Order::Time,
            Event::Key(b's' | b'S') => order = Order::Sandbox,
            Event::Key(b' ') => next = Instant::now(),
            Event::Key(_) | Event::Resized | Event::Nothing => {}
        }
    }
}

impl Last {
    /// Turns what was seen now into rows, and keeps it for the next time.
    fn rows(&mut self, reports: Vec<SandboxReport>) -> Vec<Row> {
        let mut times = HashMap::new();
        let mut rows = Vec::new();
        for report in reports {
            let label = report.name.clone().unwrap_or_else(|| report.id.clone());
            for process in report.processes {
                // A zombie has no number of the host's, and uses nothing.
                let key = (report.id.clone(), process.id);
                let now = (process.cpu_user_ns, process.cpu_user_ns + process.cpu_provider_ns);
                // Of one that is new, all of it is new.
                let before = self.times.get(&key).copied().unwrap_or_default();
                let used = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
                if process.id != 0 {
                    times.insert(key, now);
                }
                let used = if process.id == 0 || self.at.is_none() { (0, 0) } else { used };
                rows.push(Row { sandbox: label.clone(), process, used });
            }
        }
        (self.at, self.times) = (Some(Instant::now()), times);
        rows
    }
}

/// A share of a span in tenths of a per cent, as `12.3`.
fn percent(used_ns: u64, span: Duration) -> String {
    let tenths = u128::from(used_ns) * 1000 / span.as_nanos().max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// The text of a screen: a summary, the heading, and as many rows as fit.
fn page(rows: &[Row], span: Duration, order: Order, fits: Option<(usize, usize)>) -> String {
    let mut sorted: Vec<&Row> = rows.iter().collect();
    match order {
        Order::Cpu => sorted.sort_by_key(|row| std::cmp::Reverse(row.used.1)),
        Order::Memory => sorted.sort_by_key(|row| std::cmp::Reverse(row.process.resident)),
        Order::Time => {
            sorted.sort_by_key(|row| std::cmp::Reverse(row.process.cpu_user_ns + row.process.cpu_provider_ns));
        }
        Order::Sandbox => {}
    }
    let mut table = Table::new(&COLUMNS);
    for Row { sandbox, process, used } in &sorted {
        table.push(vec![
            sandbox.clone(),
            process.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            harmless(&process.name),
            process.state.clone(),
            percent(used.1, span),
            percent(used.0, span),
            cpu(process.cpu_user_ns + process.cpu_provider_ns),
            size(process.resident),
            size(process.compressed),
            process.threads.to_string(),
            harmless(&process.command.join(" ")),
        ]);
    }
    let (height, width) = fits.map_or((usize::MAX, None), |(height, width)| (height, Some(width)));
    let mut sandboxes: Vec<&str> = rows.iter().map(|row| row.sandbox.as_str()).collect();
    sandboxes.sort_unstable();
    sandboxes.dedup();
    let used = rows.iter().map(|row| row.used.1).sum();
    let inside = rows.iter().filter(|row| row.process.pid.is_some()).count();
    let order = match order {
        Order::Cpu => "CPU",
        Order::Memory => "memory",
        Order::Time => "time",
        Order::Sandbox => "sandbox",
    };
    let keys = if fits.is_some() { "; keys: c m t s, q" } else { "" };
    let summary =
        format!("{} sandboxes, {inside} processes, {}% CPU, by {order}{keys}", sandboxes.len(), percent(used, span));
    let cut = |line: String| width.map_or_else(|| line.clone(), |width| line.chars().take(width).collect());
    let lines: Vec<_> = [cut(summary)].into_iter().chain(table.lines(width)).take(height).collect();
    lines.join("\n") + if fits.is_some() { "" } else { "\n" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(user: u64, provider: u64) -> Vec<SandboxReport> {
        let process = |id: u64, name: &str, times: (u64, u64), resident: u64| ProcessReport {
            id,
            pid: (id > 1).then_some(1),
            name: name.into(),
            cpu_user_ns: times.0,
            cpu_provider_ns: times.1,
            resident,
            ..ProcessReport::default()
        };
        let processes =
            vec![process(1, "System", (0, 5_000_000_000), 0), process(3, "busy", (user, provider), 7 << 20)];
        vec![SandboxReport { id: "0123456789ab".into(), name: Some("web".into()), processes, ..Default::default() }]
    }

    #[test]
    fn shares_are_of_the_time_since_the_last_look() {
        let mut last = Last::default();
        let first = last.rows(reports(1_000_000_000, 0));
        assert!(first.iter().all(|row| row.used == (0, 0)));
        let rows = last.rows(reports(1_500_000_000, 250_000_000));
        assert_eq!(rows[1].used, (500_000_000, 750_000_000));
        let text = page(&rows, Duration::from_secs(1), Order::Cpu, None);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "1 sandboxes, 1 processes, 75.0% CPU, by CPU");
        assert!(lines[2].contains("busy") && lines[2].contains("75.0   50.0"), "{text}");
        let by_time = page(&rows, Duration::from_secs(1), Order::Time, None);
        assert!(by_time.lines().nth(2).unwrap().contains("System"), "{by_time}");
        let by_memory = page(&rows, Duration::from_secs(1), Order::Memory, None);
        assert!(by_memory.lines().nth(2).unwrap().contains("busy"), "{by_memory}");
    }

    #[test]
    fn a_page_is_no_larger_than_the_screen() {
        let mut last = Last::default();
        let rows = last.rows(reports(0, 0));
        for (height, width) in [(0, 0), (1, 20), (2, 5), (3, 200), (50, 20)] {
            let text = page(&rows, Duration::from_secs(1), Order::Sandbox, Some((height, width)));
            assert!(text.lines().count() <= height.min(4));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
        }
    }
}
