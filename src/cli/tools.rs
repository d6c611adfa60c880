//! The options of the commands that see running sandboxes and act on them.

use clap::{Args, ValueEnum, ValueHint};
use provider::signal::Signal;
use std::ffi::OsString;
use std::path::PathBuf;

use super::EnvSpec;

pub(super) const PS_AFTER: &str = "\
Columns:
  SANDBOX     the name that --name gave, or the id
  PID         the number that programs inside see; - for what they don't see
  THREADS     of a program; of the monitor, those that serve no single process
  USER        CPU time of the program's own code
  PROVIDER    CPU time of Picovisor and the host on its behalf
  COMMIT      private memory that it may fill
  RES         memory that it has, shared pages included
  COMPR       memory of it that is compressed
  HANDLES     open descriptors: inside for programs, on the host for System

System holds the monitor's threads and descriptors that serve no single process, Memory Compression the store of compressed pages;
Secure System is there while the monitor is jailed. The row (ended) has the CPU time of processes that are gone.

Examples:
  picovisor ps
  picovisor ps --json web
  picovisor ps -q | xargs -r -n1 picovisor kill";

pub(super) const TOP_AFTER: &str = "\
Keys:
  c, m, t, s   order by CPU, memory, CPU time in all, or sandbox
  space        look again at once
  q            quit";

pub(super) const KILL_AFTER: &str = "\
Examples:
  picovisor kill web              end the sandbox
  picovisor kill -s TERM web      ask its first process to end
  picovisor kill -s HUP web 17    a signal for process 17 in it";

pub(super) const WAIT_AFTER: &str = "\
Exit status:
  that of the sandbox's `picovisor run`; 125 if it cannot be waited for.";

pub(super) const EXEC_AFTER: &str = "\
The program sees what the sandbox's first program sees: its files, processes, network and limits. Its standard input, output and error \
are the caller's, and so are signals. It is ended with the sandbox, and gets SIGHUP when this command goes first.

Examples:
  picovisor exec web ls -l /tmp
  picovisor exec -it web bash
  picovisor exec -e DEBUG=1 -w /srv web ./check

Exit status:
  the program's own; 128 + N if signal N ended it; 137 if the sandbox ended first;
  125 if picovisor failed, 126 if the program cannot be executed, 127 if it was not found.";

/// The sandbox that a command is about.
const SANDBOX: &str = "The sandbox: its name, its id, or the beginning of its id";

/// `picovisor ps`.
#[derive(Args, Debug)]
pub(crate) struct PsOptions {
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Print only the sandboxes' ids
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
    /// Don't cut lines at the terminal's edge
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only these sandboxes
    #[arg(value_name = "SANDBOX")]
    pub(crate) sandboxes: Vec<String>,
}

/// `picovisor top`.
#[derive(Args, Debug)]
pub(crate) struct TopOptions {
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = interval)]
    pub(crate) interval: f64,
    /// Print one page and end
    #[arg(long)]
    pub(crate) once: bool,
}

/// `picovisor kill`.
#[derive(Args, Debug)]
pub(crate) struct KillOptions {
    /// The signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = signal)]
    pub(crate) signal: i32,
    #[arg(help = SANDBOX)]
    pub(crate) sandbox: String,
    /// The process, by its number inside [default: the first]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: Option<i32>,
}

/// `picovisor suspend` and `picovisor resume`.
#[derive(Args, Debug)]
pub(crate) struct ProcessOptions {
    #[arg(help = SANDBOX)]
    pub(crate) sandbox: String,
    /// The process, by its number inside [default: all]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: Option<i32>,
}

/// `picovisor wait`.
#[derive(Args, Debug)]
pub(crate) struct WaitOptions {
    #[arg(help = SANDBOX)]
    pub(crate) sandbox: String,
}

/// `picovisor inspect`.
#[derive(Args, Debug)]
pub(crate) struct InspectOptions {
    /// List the monitor's descriptors, too
    #[arg(long)]
    pub(crate) handles: bool,
    /// The sandboxes
    #[arg(value_name = "SANDBOX", required = true)]
    pub(crate) sandboxes: Vec<String>,
}

/// `picovisor exec`.
#[derive(Args, Debug)]
pub(crate) struct ExecOptions {
    /// Give the program a terminal of its own, connected to the caller's, which is raw meanwhile
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Accepted for Docker's users: standard input is always connected
    #[arg(short, long, hide = true)]
    interactive: bool,
    /// Set an environment variable besides the sandbox's, or pass on the caller's if only the name is given (may be repeated)
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = super::os(super::values::env))]
    pub(crate) env: Vec<EnvSpec>,
    /// Start in this folder of the sandbox
    #[arg(short, long, value_name = "DIR", value_parser = super::os(super::values::inner_path))]
    pub(crate) workdir: Option<PathBuf>,
    /// User and group inside: ids, or names that the sandbox knows [default: the sandbox's]
    #[arg(short, long, value_name = "UID[:GID]", value_parser = user)]
    pub(crate) user: Option<String>,
    #[arg(help = SANDBOX)]
    pub(crate) sandbox: String,
    /// The program (a path, or a name to look up in the sandbox's PATH) and its arguments
    #[arg(value_name = "PROGRAM [ARGS]", required = true, num_args = 1.., trailing_var_arg = true)]
    #[arg(allow_hyphen_values = true, value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

/// `picovisor stack`.
#[derive(Args, Debug)]
pub(crate) struct StackOptions {
    /// Print JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// The sandbox, or SANDBOX:PID
    #[arg(value_name = "SANDBOX[:PID]")]
    pub(crate) sandbox: String,
    /// The process, by its number inside [default: all]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: Option<i32>,
}

/// `picovisor stats`.
#[derive(Args, Debug)]
pub(crate) struct StatsOptions {
    /// For people, for programs, or for Prometheus to scrape
    #[arg(long, value_enum, default_value_t = StatsFormat::Text)]
    pub(crate) format: StatsFormat,
    /// Only these sandboxes
    #[arg(value_name = "SANDBOX")]
    pub(crate) sandboxes: Vec<String>,
}

/// The form of statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatsFormat {
    /// For people
    Text,
    /// A JSON array
    Json,
    /// Prometheus's text format
    Prometheus,
}

/// Seconds between two looks: from a tenth to an hour.
fn interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("use a number of seconds from 0.1 to 3600".into()),
    }
}

/// A user as the sandbox is asked for it: whether there is one is for the sandbox to say.
fn user(text: &str) -> Result<String, String> {
    super::values::user(text).map(|_| text.to_owned())
}

/// A signal's number: from 1 to 64, or a name with or without SIG, such as TERM or RTMIN+2 (as programs count these).
fn signal(text: &str) -> Result<i32, String> {
    /// The C library keeps the first two real-time signals for itself.
    const RT_MIN: i32 = 34;
    let wrong = || "use a name such as TERM or SIGTERM, or a number from 1 to 64".to_owned();
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let number = match name.strip_prefix("RTMIN") {
        Some("") => Some(RT_MIN),
        Some(more) => {
            more.strip_prefix('+').and_then(|more| more.parse::<i32>().ok()).and_then(|more| more.checked_add(RT_MIN))
        }
        None => text.parse().ok(),
    };
    let named = || (1..32).find(|number| Signal::from_raw(*number).is_some_and(|it| it.to_string()[3..] == *name));
    number.or_else(named).filter(|number| Signal::from_raw(*number).is_some()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_neither_too_short_nor_too_long() {
        assert_eq!(interval("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "nan", "inf", "1e9", "x"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in
            [("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("9", 9), ("64", 64), ("RTMIN", 34), ("SIGRTMIN+2", 36)]
        {
            assert_eq!(signal(text), Ok(number), "{text}");
        }
        for wrong in ["", "SIG", "0", "65", "-9", "TREM", "RTMIN+31", "RTMIN+x", "RTMIN+2147483647"] {
            assert!(signal(wrong).is_err(), "{wrong}");
        }
    }
}
