//! Crash reports: what is left of a sandbox that a bug check or a panic has ended, as a file for whoever wants to know why.
//!
//! Reports lie in `$PICOVISOR_CRASH_DIR`, or else in `picovisor/crashes` of the user's folder for state (`$XDG_STATE_HOME`,
//! `~/.local/state`), or else in a folder of the user's own below the temporary one. They are the user's only to read,
//! never replace one another, and the oldest go when there are too many. Nothing of a program is in them but registers.
//! A monitor in its jail makes no folders: where there is none yet, it shows the report. Nor does it remove files: it has made room for a
//! report before.

use rustix::fs::{CWD, Mode, OFlags, RawDir, mkdir, openat, unlink};
use rustix::io::Errno;
use rustix::process::{getpid, getuid};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};
use vmm::bugcheck::{self, Code, Report};
use vmm::crash::{self, LastWords};

use crate::complain;
use crate::failure::{OURS, plain};

/// Reports that are kept.
const KEPT: usize = 20;
/// How their names begin and end.
const NAME: (&str, &str) = ("crash-", ".txt");

/// What a report says of the monitor and its host. Asked at the start, so that a jailed monitor need not ask.
#[derive(Debug)]
struct Circumstances {
    uid: u32,
    system: String,
}

static CIRCUMSTANCES: OnceLock<Circumstances> = OnceLock::new();

impl Circumstances {
    fn get() -> &'static Self {
        CIRCUMSTANCES.get_or_init(|| {
            let system = rustix::system::uname();
            let system = format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy());
            Self { uid: getuid().as_raw(), system }
        })
    }
}

/// Makes bug checks end in a report, a line for the user, and the exit status of our failures; and the monitor's own faults in
/// those two.
pub(crate) fn report_bug_checks() {
    Circumstances::get();
    crash::set_last_words(LastWords {
        program: "picovisor",
        status: OURS.into(),
        restore: crate::terminal::restore_after_panic,
    });
    bugcheck::set_handler(Box::new(|report| {
        crate::terminal::restore_after_panic();
        let Report { code, summary, .. } = report;
        if *code == Code::NoPagesAvailable {
            // Nobody's bug, and nothing that a report could explain.
            complain(&summary);
            return OURS.into();
        }
        complain(&format_args!("bug check {code}: {summary}; the sandbox was stopped{}", kept(report)));
        OURS.into()
    }));
}

/// What a panic says that is no bug: a new thread got no stack for its signal handlers, which the standard library has no other way to
/// report.
pub(crate) fn exhaustion(panic: &std::panic::PanicHookInfo<'_>) -> Option<String> {
    const BEGINNINGS: [&str; 2] = ["failed to allocate an alternative stack", "failed to set up alternative stack"];
    let message = panic.payload_as_str()?;
    let is_it = BEGINNINGS.iter().any(|beginning| message.starts_with(beginning));
    is_it.then(|| format!("the host is out of memory: {message}"))
}

/// Writes the report of a panic; returns what a line for the user says of it.
pub(crate) fn keep_panic(panic: &std::panic::PanicHookInfo<'_>) -> String {
    let mut report = Report::new(Code::UnhandledException, panic.to_string());
    report.parameters.push(("thread", std::thread::current().name().unwrap_or("unnamed").to_owned()));
    let trace = std::backtrace::Backtrace::force_capture();
    report.sections.push(("Backtrace", trace.to_string()));
    kept(&report)
}

/// Keeps a report; returns what a line for the user says of it: all of it, if it cannot be kept.
fn kept(report: &Report) -> String {
    match keep(report) {
        Ok(path) => format!("; the report is in {}", path.display()),
        Err(error) => format!("; its report could not be written ({}), and follows\n\n{report}", plain(&error)),
    }
}

fn keep(report: &Report) -> io::Result<PathBuf> {
    let folder = folder()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let path = write(&folder, &utc(now), report)?;
    if SETTLED.get().is_none() {
        tidy(&folder, KEPT);
    }
    Ok(path)
}

/// The folder that the user has named for reports.
fn named() -> Option<PathBuf> {
    std::env::var_os("PICOVISOR_CRASH_DIR").map(PathBuf::from)
}

/// The folder in the one for state.
fn of_state() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("picovisor/crashes"))
}

/// The folder that is left otherwise.
fn temporary() -> PathBuf {
    std::env::temp_dir().join(format!("picovisor-crashes-{}", Circumstances::get().uid))
}

/// Where the reports of a monitor go that can make no folder any more, if there is one.
static SETTLED: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Settles where reports go from now on, and makes room for one. Of the folders that are used without the user's word none is made
/// beforehand, since hardly a run ends in a report.
pub(crate) fn settle_folder() -> Option<&'static Path> {
    let found = || match named() {
        Some(folder) => make(folder).ok(),
        None => of_state().filter(|folder| folder.is_dir()).or_else(|| ours(temporary()).ok()),
    };
    let settled = SETTLED.get_or_init(found).as_deref();
    if let Some(folder) = settled {
        tidy(folder, KEPT - 1);
    }
    settled
}

/// The folder of reports, which exists and is the user's. It is made if it is missing and still can be.
fn folder() -> io::Result<PathBuf> {
    if let Some(settled) = SETTLED.get() {
        return settled.clone().ok_or_else(|| io::Error::other("there was no folder for it"));
    }
    if let Some(folder) = named() {
        return make(folder);
    }
    if let Some(Ok(folder)) = of_state().map(make) {
        return Ok(folder);
    }
    ours(make(temporary())?)
}

/// A folder that nobody else has a say in: others may make folders beside it, too.
fn ours(folder: PathBuf) -> io::Result<PathBuf> {
    let found = std::fs::symlink_metadata(&folder)?;
    let ours = found.is_dir() && found.uid() == Circumstances::get().uid && found.mode() & 0o077 == 0;
    if ours { Ok(folder) } else { Err(io::Error::other(format!("{} is not ours alone", folder.display()))) }
}

fn make(folder: PathBuf) -> io::Result<PathBuf> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.is_dir();
    let missing: Vec<_> = folder.ancestors().take_while(is_missing).collect();
    for path in missing.into_iter().rev() {
        // The standard library's way is a host call that a spare cannot make.
        match mkdir(path, Mode::RWXU) {
            // Somebody else may have been faster; what is no folder is found out when a report is written to it.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(folder)
}

/// Writes a report to a new file.
fn write(folder: &Path, time: &str, report: &Report) -> io::Result<PathBuf> {
    let (begin, end) = NAME;
    let pid = getpid().as_raw_nonzero();
    let (mut file, path) = create(|try_number| {
        let more = if try_number == 0 { String::new() } else { format!("-{try_number}") };
        folder.join(format!("{begin}{time}-{pid}{more}{end}"))
    })?;
    let text = format!(
        "Crash report of picovisor {}, process {pid}, {time}, on {}\n\n{report}",
        env!("CARGO_PKG_VERSION"),
        Circumstances::get().system,
    );
    file.write_all(text.as_bytes())?;
    Ok(path)
}

/// Creates the first of the paths that does not exist, for the user alone.
fn create(path: impl Fn(u32) -> PathBuf) -> io::Result<(File, PathBuf)> {
    for try_number in 0.. {
        let path = path(try_number);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && try_number < 100 => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Removes the oldest reports beyond as many as `kept`. What cannot be removed stays.
fn tidy(folder: &Path, kept: usize) {
    let is_report = |name: &str| name.starts_with(NAME.0) && name.ends_with(NAME.1);
    let mut names = names(folder).unwrap_or_default();
    names.retain(|name| is_report(name));
    // Their times come first in the names.
    names.sort();
    for name in names.iter().rev().skip(kept) {
        // As for making folders.
        let _ = unlink(folder.join(name));
    }
}

/// The names in a folder. The standard library's way makes a host call more.
fn names(folder: &Path) -> Result<Vec<String>, Errno> {
    let folder = openat(CWD, folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&folder, &mut space);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
    }
    Ok(names)
}

/// A time as `20261121T161900Z`.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, whose years end with the leap day (Howard Hinnant's chrono-compatible algorithms).
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        let times = [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_800, "20000301T000000Z"),
            (4_107_542_399, "21000228T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
            (1_795_278_000, "20261121T162000Z"),
        ];
        for (seconds, text) in times {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn reports_are_private_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let report = Report::new(Code::CriticalStructureCorruption, "a test");
        let first = write(folder.path(), "20260101T000000Z", &report).unwrap();
        let second = write(folder.path(), "20260101T000000Z", &report).unwrap();
        assert_ne!(first, second);
        for path in [first, second] {
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            assert!(std::fs::read_to_string(&path).unwrap().contains("bug check 0x109"));
        }
    }

    #[test]
    fn the_oldest_reports_go() {
        let folder = tempfile::tempdir().unwrap();
        let report = Report::new(Code::UnhandledException, "a test");
        let write = |day| write(folder.path(), &format!("202601{day:02}T000000Z"), &report).unwrap();
        let paths: Vec<_> = (1..=KEPT + 3).map(write).collect();
        let other = folder.path().join("crash-course.md");
        std::fs::write(&other, "not ours").unwrap();
        tidy(folder.path(), KEPT);
        let there: Vec<_> = paths.iter().map(|path| path.exists()).collect();
        assert_eq!(there, [&[false; 3][..], &[true; KEPT]].concat());
        assert!(other.exists());
    }
}
