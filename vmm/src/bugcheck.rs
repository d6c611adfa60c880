//! Bug checks: states in which going on would do more harm than stopping, and the report of one.
//!
//! NT stops the machine with a code and shows it; here the sandbox is stopped, and its monitor ends. What is done with the
//! report (a line for the user, a file) is the business of whoever has set the [handler](set_handler): this module opens no
//! file. It holds registers and numbers, and no other data of a program.

use std::fmt;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why a sandbox was stopped. Codes and names are NT's where it has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Something that the host protects has changed.
    CriticalStructureCorruption,
    /// The monitor has met a bug of its own: a panic.
    UnhandledException,
    /// The host has no memory for something that cannot be done without: nobody's bug.
    NoPagesAvailable,
}

impl Code {
    /// Its number.
    pub fn number(self) -> u32 {
        match self {
            Self::CriticalStructureCorruption => 0x109,
            Self::UnhandledException => 0x1e,
            Self::NoPagesAvailable => 0x4d,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::CriticalStructureCorruption => "CRITICAL_STRUCTURE_CORRUPTION",
            Self::UnhandledException => "KMODE_EXCEPTION_NOT_HANDLED",
            Self::NoPagesAvailable => "NO_PAGES_AVAILABLE",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} {}", self.number(), self.name())
    }
}

/// What is known of a bug check.
#[derive(Clone, Debug)]
pub struct Report {
    /// Why.
    pub code: Code,
    /// What has happened, in one line.
    pub summary: String,
    /// Names and values that say more.
    pub parameters: Vec<(&'static str, String)>,
    /// Further parts, each with a title: threads, processes, the host.
    pub sections: Vec<(&'static str, String)>,
}

impl Report {
    /// A report of nothing but why.
    pub fn new(code: Code, summary: impl Into<String>) -> Self {
        Self { code, summary: summary.into(), parameters: Vec::new(), sections: Vec::new() }
    }
}

impl fmt::Display for Report {
    /// The whole report, as text for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "bug check {}\n{}", self.code, self.summary)?;
        let width = self.parameters.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in &self.parameters {
            writeln!(f, "  {name:<width$}  {value}")?;
        }
        for (title, text) in &self.sections {
            writeln!(f, "\n{title}:")?;
            text.lines().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        Ok(())
    }
}

/// What becomes of a report. It returns the exit status of the monitor.
pub type Handler = Box<dyn Fn(&Report) -> i32 + Send + Sync>;

static HANDLER: OnceLock<Handler> = OnceLock::new();

/// Says what becomes of reports in this process. Only the first who says so is heard.
pub fn set_handler(handler: Handler) {
    let _ = HANDLER.set(handler);
}

/// Ends the process with a report, at once: nothing is unwound, no destructor runs. Of several at a time the first one's is
/// the report.
pub fn stop(report: &Report) -> ! {
    static STOPPING: AtomicBool = AtomicBool::new(false);
    if STOPPING.swap(true, Ordering::SeqCst) {
        loop {
            std::thread::park();
        }
    }
    let status = match HANDLER.get() {
        Some(handler) => handler(report),
        None => {
            let _ = write!(std::io::stderr(), "{report}");
            DEFAULT_STATUS
        }
    };
    crate::crash::exit(status)
}

/// Ends the process because the host has no memory for `what`.
pub fn out_of_memory(what: impl fmt::Display) -> ! {
    stop(&Report::new(Code::NoPagesAvailable, format!("the host is out of memory: {what}")))
}

/// The exit status where nobody has said what becomes of reports: a software error (sysexits.h).
const DEFAULT_STATUS: i32 = 70;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_text_for_people() {
        let mut report = Report::new(Code::CriticalStructureCorruption, "the trap code at 0x7000 has changed");
        report.parameters = vec![("address", "0x7000".to_owned()), ("expected", "ab".to_owned())];
        report.sections = vec![("Processes", "1 System\n2 Memory Compression".to_owned())];
        let text = "bug check 0x109 CRITICAL_STRUCTURE_CORRUPTION\nthe trap code at 0x7000 has changed\n  address   0x7000\n  \
                    expected  ab\n\nProcesses:\n  1 System\n  2 Memory Compression\n";
        assert_eq!(report.to_string(), text);
    }
}
