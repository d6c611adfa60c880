//! The command line as users see it: subcommands, options, help.
//!
//! Option names follow Docker, bubblewrap and gVisor where their meaning is the same.

mod provider;
mod serve;
mod tools;
mod values;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use provider::{KeygenOptions, ProviderCommand, SignOptions, VerifyOptions};
pub(crate) use serve::ServeOptions;
pub(crate) use tools::{
    ExecOptions, InspectOptions, KillOptions, ProcessOptions, PsOptions, StackOptions, StatsFormat, StatsOptions,
    TopOptions, WaitOptions,
};
pub(crate) use values::{BindSpec, EnvSpec, Period, UserSpec, env as parse_env, user as parse_user};

const ABOUT: &str = "Run Linux programs in a sandbox: a KVM virtual machine with no guest operating system in it";

const EXAMPLES: &str = "\
Examples:
  picovisor run -- ls -l /                       see the host's files, read-only
  picovisor run -- python3 job.py                writes vanish when the program ends
  picovisor run --rw . -- make                   … except below this folder
  picovisor run --memory 512M --timeout 30s -- ./untrusted
  picovisor ps                                   what is running?
  picovisor check                                can this machine run it?";

const RUN_LONG: &str = "\
Runs a program in a sandbox of its own and exits with its status.

The program sees the host's files read-only; what it writes goes to memory and vanishes when it ends. It has its own processes \
(it is process 1), its own /tmp, /proc, /dev and /sys, no network but a loopback, and no access to keys and tokens \
(`picovisor check` lists what is hidden). Standard input, output and error, the terminal, signals and the environment are the caller's; \
no other open descriptors are passed on.";

const RUN_AFTER: &str = "\
Examples:
  picovisor run -- python3 -c 'print(6 * 7)'
  picovisor run --rw . -- make -j4                    may write below the current folder
  picovisor run --bind ~/data:/data:ro -- ./analyse /data
  picovisor run --root ./debian -w / -- /bin/bash     another root file system
  picovisor run --clearenv -e LANG=C.UTF-8 -- env
  picovisor run --memory 512M --timeout 30s -- ./untrusted
  picovisor run --strace -o calls.txt -- ls           what does it ask the system for?

Exit status:
  the program's own; 128 + N if signal N ended it; 124 if --timeout ended it;
  125 if picovisor failed, 126 if the program cannot be executed, 127 if it was not found.

Environment:
  PICOVISOR_SERVE     off: don't use the spares of `picovisor serve`, as with --no-serve
  PICOVISOR_LOG       log filter for picovisor itself, such as info or provider=debug
  PICOVISOR_CRASH_DIR folder for crash reports [default: ~/.local/state/picovisor/crashes]";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "picovisor", version, about = ABOUT, after_help = EXAMPLES, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Run(RunCommand),
    /// List running sandboxes and their processes
    #[command(after_help = tools::PS_AFTER)]
    Ps(PsOptions),
    /// Show the processes of all sandboxes, the busiest first, again and again
    #[command(after_help = tools::TOP_AFTER)]
    Top(TopOptions),
    /// Send a signal to a sandbox, by default one that ends it
    #[command(after_help = tools::KILL_AFTER)]
    Kill(KillOptions),
    /// Stop a sandbox, or one process of it, until it is resumed
    Suspend(ProcessOptions),
    /// Let a suspended sandbox or process go on
    Resume(ProcessOptions),
    /// Compress all memory of a sandbox that gets smaller by it
    Compress(WaitOptions),
    /// Wait until a sandbox ends, and exit with its status
    #[command(after_help = tools::WAIT_AFTER)]
    Wait(WaitOptions),
    /// Run another program in a sandbox that is running
    #[command(after_help = tools::EXEC_AFTER, override_usage = "picovisor exec [OPTIONS] SANDBOX [--] PROGRAM [ARGS]...")]
    Exec(ExecOptions),
    /// Show the user stacks of all threads
    Stack(StackOptions),
    /// Show what has happened in sandboxes: traps, calls, faults, memory, CPU time
    Stats(StatsOptions),
    /// Show how a sandbox was started, as JSON
    Inspect(InspectOptions),
    /// Tell whether this machine can run sandboxes, how, and what is missing
    Check(CheckOptions),
    /// Keep monitors that are started ahead, so that `picovisor run` starts programs faster
    #[command(long_about = serve::ABOUT, after_long_help = serve::EXAMPLES)]
    Serve(ServeOptions),
    /// Make keys, and sign and verify providers that come as shared objects
    #[command(subcommand, long_about = provider::ABOUT, after_long_help = provider::EXAMPLES)]
    Provider(ProviderCommand),
    /// Print the completion script for a shell
    ///
    /// For bash: picovisor completions bash > /etc/bash_completion.d/picovisor
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// `picovisor run`, which is a command line of its own as well: see [`parse`].
#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// Run a program in a sandbox
    #[command(long_about = RUN_LONG, after_long_help = RUN_AFTER)]
    #[command(override_usage = "picovisor run [OPTIONS] [--] PROGRAM [ARGS]...")]
    Run(Box<RunOptions>),
}

/// The command line of almost every start.
#[derive(Debug, Parser)]
#[command(name = "picovisor", disable_help_subcommand = true, max_term_width = 110)]
struct RunLine {
    #[command(subcommand)]
    command: RunCommand,
}

/// `picovisor check`.
#[derive(Args, Debug)]
pub(crate) struct CheckOptions {
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// `picovisor run`.
#[derive(Args, Debug)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) files: FileOptions,
    #[command(flatten)]
    pub(crate) limits: LimitOptions,
    #[command(flatten)]
    pub(crate) identity: IdentityOptions,
    #[command(flatten)]
    pub(crate) network: NetworkOptions,
    #[command(flatten)]
    pub(crate) watching: WatchOptions,
    #[command(flatten)]
    pub(crate) protection: ProtectionOptions,
    #[command(flatten)]
    start: StartOptions,
    /// The program (a path, or a name to look up in PATH) and its arguments
    #[arg(value_name = "PROGRAM [ARGS]", required = true, num_args = 1.., trailing_var_arg = true, help_heading = "Program")]
    #[arg(allow_hyphen_values = true, value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
    /// `--bind` and `--rw` as one list, in command-line order.
    #[arg(skip)]
    pub(crate) binds: Vec<BindSpec>,
}

/// What the program sees of the host's files.
#[derive(Args, Debug)]
#[command(next_help_heading = "Files")]
pub(crate) struct FileOptions {
    /// Use DIR as the program's / instead of the host's
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) root: Option<PathBuf>,
    /// Show a host file or folder at another path; writes reach the host unless `:ro` (may be repeated)
    #[arg(long, value_name = "SRC:DST[:ro]", alias = "volume", value_hint = ValueHint::AnyPath)]
    #[arg(value_parser = os(values::bind))]
    bind: Vec<BindSpec>,
    /// Let writes to this host file or folder reach the host (may be repeated)
    #[arg(long, value_name = "DIR", value_hint = ValueHint::AnyPath)]
    rw: Vec<PathBuf>,
    /// Make a path not exist in the sandbox, besides those that `picovisor check` lists (may be repeated)
    #[arg(long, value_name = "PATH", value_parser = os(values::hidden_path))]
    pub(crate) hide: Vec<PathBuf>,
    /// Keep what the program writes in this host folder, for the next run
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) upper: Option<PathBuf>,
    /// Start in this folder of the sandbox [default: the current one, if the program can see it]
    #[arg(short, long, value_name = "DIR", visible_alias = "chdir", value_parser = os(values::inner_path))]
    pub(crate) workdir: Option<PathBuf>,
}

/// What the sandbox may use.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitOptions {
    /// Memory that the sandbox may hold, such as 512M or 2G [default: half of the host's]
    #[arg(short, long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) memory: Option<u64>,
    /// CPUs that the program sees and may use at once [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) cpus: Option<u32>,
    /// Processes and threads
    #[arg(long, value_name = "N", default_value_t = 4096, alias = "pids-limit")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub(crate) pids: u32,
    /// Open files for each process
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u64).range(3..=1_048_576))]
    pub(crate) files: u64,
    /// End the sandbox after this time, such as 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(crate) timeout: Option<Duration>,
}

/// Who and where the program believes to be.
#[derive(Args, Debug)]
#[command(next_help_heading = "Environment and identity")]
pub(crate) struct IdentityOptions {
    /// Set an environment variable, or pass on the caller's if only the name is given (may be repeated)
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = os(values::env))]
    pub(crate) env: Vec<EnvSpec>,
    /// Read environment variables from a file: one NAME=VALUE or NAME a line, # for comments (may be repeated)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) env_file: Vec<PathBuf>,
    /// Start with an empty environment instead of the caller's
    #[arg(long)]
    pub(crate) clearenv: bool,
    /// User and group inside: ids, or names in the sandbox's /etc/passwd and /etc/group [default: the caller's]
    #[arg(short, long, value_name = "UID[:GID]", value_parser = values::user)]
    pub(crate) user: Option<UserSpec>,
    /// The host name inside [default: the host's]
    #[arg(long, value_name = "NAME", value_parser = values::hostname)]
    pub(crate) hostname: Option<OsString>,
    /// A name for the sandbox, for people and tools
    #[arg(long, value_name = "NAME", value_parser = values::name)]
    pub(crate) name: Option<String>,
}

/// What the program can reach.
#[derive(Args, Debug)]
#[command(next_help_heading = "Network and terminal")]
pub(crate) struct NetworkOptions {
    /// What network the program has
    #[arg(long, value_name = "NET", value_enum, default_value_t = NetworkChoice::None, alias = "network")]
    pub(crate) net: NetworkChoice,
    /// Give the program a terminal of its own, connected to the caller's, which is raw meanwhile; without this option it
    /// uses the caller's itself
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Accepted for Docker's users: standard input is always connected
    #[arg(short, long, hide = true)]
    interactive: bool,
    /// Accepted for Docker's users: a sandbox never leaves anything behind
    #[arg(long, hide = true)]
    rm: bool,
}

/// A kind of network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkChoice {
    /// A loopback of its own
    #[value(alias = "loopback")]
    None,
    /// The host's TCP and UDP, for the program to use as the caller could; Unix sockets stay inside
    Host,
}

/// How to watch what happens.
#[derive(Args, Debug)]
#[command(next_help_heading = "Watching")]
pub(crate) struct WatchOptions {
    /// At exit, print what the sandbox used and which system calls it lacked
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Trace system calls, to standard error unless -o is given
    #[arg(long, value_name = "FORMAT", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub(crate) strace: Option<TraceChoice>,
    /// Write the trace to this host file
    #[arg(short = 'o', long, value_name = "FILE", requires = "strace", value_hint = ValueHint::FilePath)]
    pub(crate) strace_output: Option<PathBuf>,
}

/// The form of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceChoice {
    /// For people, as strace prints
    Text,
    /// One JSON object a line
    Json,
}

/// What protects the host from the monitor, and the program from us.
#[derive(Args, Debug)]
#[command(next_help_heading = "Protection")]
pub(crate) struct ProtectionOptions {
    /// Don't put the monitor itself into a jail: it keeps the caller's rights, whatever happens to it
    #[arg(long, conflicts_with = "require_jail")]
    pub(crate) no_jail: bool,
    /// Fail where the host lacks a part of the monitor's jail, in place of a warning
    #[arg(long)]
    pub(crate) require_jail: bool,
    /// Check this often that the monitor's own code and tables are what they were, and stop the sandbox if not (off: never)
    #[arg(long, value_name = "TIME|off", default_value = "10s", value_parser = values::period)]
    pub(crate) integrity: Period,
    /// Never rewrite the program's system-call instructions, not even in memory: for one that checks its own code
    #[arg(long)]
    pub(crate) no_patch: bool,
    /// When calls are served without a trap: for tests, since each way must give the same results
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto", hide = true)]
    pub(crate) posting: PostingChoice,
}

/// When calls that threads post are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PostingChoice {
    /// While calls are frequent and a processor is idle
    Auto,
    /// Never
    Never,
    /// As soon as a thread can post
    Always,
    /// Now and then
    Flapping,
}

/// How the sandbox is started.
#[derive(Args, Debug)]
#[command(next_help_heading = "Start")]
struct StartOptions {
    /// Start by oneself, even if `picovisor serve` has a monitor ready
    #[arg(long)]
    no_serve: bool,
}

/// Adapts a parser of host strings, which need not be UTF-8, to clap.
fn os<T: Clone + Send + Sync + 'static>(
    parse: fn(&OsStr) -> Result<T, String>,
) -> impl clap::builder::TypedValueParser<Value = T> {
    use clap::builder::TypedValueParser as _;
    clap::builder::OsStringValueParser::new().try_map(move |text| parse(&text))
}

impl RunOptions {
    /// The program as the user named it.
    pub(crate) fn program(&self) -> &OsStr {
        &self.command[0]
    }

    /// The program's arguments.
    pub(crate) fn args(&self) -> &[OsString] {
        &self.command[1..]
    }

    /// Whether a monitor that was started ahead, with a jail, memory for `memory` bytes and no terminal, may run it.
    pub(crate) fn suit_a_spare(&self, memory: u64) -> bool {
        let usual_jail = !self.protection.no_jail && self.network.net == NetworkChoice::None;
        let usual_calls = self.protection.posting == PostingChoice::Auto;
        // What --upper keeps is complete only when the monitor has ended.
        let usual_files = self.files.upper.is_none();
        let fits = self.limits.memory.is_none_or(|wanted| wanted <= memory);
        usual_jail && usual_calls && usual_files && fits && !self.network.tty && !self.start.no_serve
    }

    /// Merges `--bind` and `--rw` into the order in which they were given.
    fn order_binds(&mut self, matches: &clap::ArgMatches) {
        let positions = |id| matches.indices_of(id).into_iter().flatten();
        let rw =
            self.files.rw.drain(..).map(|source| BindSpec { option: "--rw", source, target: None, writable: true });
        let mut binds: Vec<_> = positions("bind").zip(self.files.bind.drain(..)).collect();
        binds.extend(positions("rw").zip(rw));
        binds.sort_by_key(|(position, _)| *position);
        self.binds = binds.into_iter().map(|(_, bind)| bind).collect();
    }
}

/// Parses the arguments, the command's own name included. Help and version come back as errors of their own kinds.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    if arguments.get(1).is_some_and(|command| command == "run") {
        return parse_run(arguments);
    }
    let matches = Cli::command().try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

/// Parses `picovisor run …`. To describe all the other commands as well took a quarter of a millisecond, of every start.
fn parse_run(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let options = RunParser::new().parse(arguments)?;
    Ok(Cli { command: Command::Run(RunCommand::Run(options)) })
}

/// What `picovisor run` understands. To describe it takes longer than to read a command line, and can be done ahead.
#[derive(Debug)]
pub(crate) struct RunParser(clap::Command);

impl RunParser {
    /// Describes it.
    pub(crate) fn new() -> Self {
        Self(RunLine::command())
    }

    /// Does what else the first command line would wait for.
    pub(crate) fn prepare(&mut self) {
        self.0.build();
    }

    /// Parses the arguments, `picovisor run` included.
    pub(crate) fn parse(&mut self, arguments: &[OsString]) -> Result<Box<RunOptions>, clap::Error> {
        let matches = self.0.try_get_matches_from_mut(arguments)?;
        let RunLine { command: RunCommand::Run(mut options) } = RunLine::from_arg_matches(&matches)?;
        refuse_option_as_program(options.program(), arguments)?;
        let (_, matches) = matches.subcommand().expect("a parsed command line has a subcommand");
        options.order_binds(matches);
        Ok(options)
    }
}

/// An unknown option would be taken for the program: a program may begin with a dash only behind `--`.
fn refuse_option_as_program(program: &OsStr, arguments: &[OsString]) -> Result<(), clap::Error> {
    let dashed = program.as_encoded_bytes().starts_with(b"-");
    let after_escape = arguments.windows(2).any(|pair| pair[0] == "--" && pair[1] == program);
    if !dashed || after_escape {
        return Ok(());
    }
    // Parsing again without that freedom lets clap say which option the user may have meant.
    let strict = |run: clap::Command| {
        run.mut_arg("command", |command| {
            command.allow_hyphen_values(false).trailing_var_arg(false).value_hint(ValueHint::Unknown)
        })
    };
    RunLine::command().mut_subcommand("run", strict).try_get_matches_from(arguments).map(|_| ())
}

/// Renders a usage error of clap's, which takes a paragraph, as one line.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut lines =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let mut line = lines.next().unwrap_or("invalid command line").trim_start_matches("error: ").to_owned();
    for more in lines.filter(|line| !line.is_empty()) {
        match more.strip_prefix("tip: ") {
            Some(tip) => line.push_str(&format!(" ({tip})")),
            None => line.push_str(&format!(" {more}")),
        }
    }
    line.push_str("; see --help");
    line
}

#[cfg(test)]
mod tests;
