//! `picovisor run`: starts the sandbox, passes signals on, and turns its end into an exit status.

use provider::{Origin, Prepared, Sandbox, SandboxEnd, StartError};
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use vmm::inherited::Others;
use vmm::pico::{Guardian, Host, HostConfig, HostOpening, Posting};
use vmm::signals::{HostSignal, HostSignals, stop_this_process};
use vmm::threads::{Enrolled, Owner};

use crate::cli::{NetworkChoice, RunOptions};
use crate::control::address::{ListenError, Listener};
use crate::control::server::Server;
use crate::control::service::Monitor;
use crate::failure::{Failure, OURS, TIMED_OUT, plain};
use crate::jail::Missing;
use crate::serve::link::{Heard, Link};
use crate::terminal::{Console, Keeper, TerminalModes};
use crate::{complain, jail, report, settings};

/// What other processes and the terminal send to the program by sending it to us. SIGKILL and SIGSTOP act on us, and so on all
/// of the sandbox; SIGTTIN and SIGTTOU come from our own use of the terminal on the program's behalf.
const FORWARDED: [Signal; 9] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::TERM,
    Signal::CONT,
    Signal::TSTP,
    Signal::WINCH,
];

/// The stack of the thread that passes signals on: it makes a few calls.
const SIGNAL_THREAD_STACK: usize = 64 << 10;

/// How long a sandbox runs before the first check of the monitor's integrity: most are over by then, and should not pay for
/// a thread.
const UNCHECKED: Duration = Duration::from_secs(1);

/// How long a sandbox runs before there are threads for whoever has a signal or a question for it. Most are over by then; until then
/// signals and tools wait.
const UNATTENDED: Duration = Duration::from_millis(5);

/// What is under way before the command line is understood, because it takes long and does not depend on it.
pub(crate) struct Beginning {
    started: Instant,
    signals: HostSignals,
    host: HostOpening,
    /// What the caller left open for us, unasked.
    others: std::io::Result<Others>,
}

impl Beginning {
    /// Blocks the signals that are passed on (so, before any thread) and begins to open the host.
    pub(crate) fn new(others: std::io::Result<Others>) -> Result<Self, Failure> {
        let started = Instant::now();
        let signals = block_signals()?;
        jail::begin();
        Ok(Self { started, signals, host: Host::begin().map_err(Failure::ours)?, others })
    }

    /// Goes on to a host that is ready, and jailed but for what taking a caller's place needs: a monitor that knows its caller later.
    /// Its signals are not passed on before.
    pub(crate) fn ahead(self) -> Result<(Ahead, HostSignals), Failure> {
        let Self { signals, host, .. } = self;
        let main = host.threads().adopt("main");
        let memory = settings::usual_memory();
        let config = HostConfig { memory, vcpus: None, posting: Posting::Auto };
        let host = host.finish(&config).map_err(Failure::ours)?;
        host.check().map_err(Failure::ours)?;
        Ok((Ahead { host, main }, signals))
    }
}

/// A host that is ready before its caller is known.
pub(crate) struct Ahead {
    host: Host,
    main: Enrolled,
}

impl Ahead {
    /// Bytes of memory that the sandbox may hold at the most.
    pub(crate) fn memory(&self) -> u64 {
        self.host.memory().limit()
    }

    /// Goes through the start of a program that does not run.
    pub(crate) fn rehearse(&self, options: &RunOptions) {
        if let Ok(config) = settings::config(options) {
            Sandbox::rehearse(&self.host, config);
        }
    }

    /// Leaves the jail's door ajar: [`Self::run`] closes it.
    pub(crate) fn enter_jail(&self) -> Result<(), Failure> {
        jail::enter_ajar().map_err(|why| Failure::ours(format_args!("no jail: {why}")))?;
        self.host.enter_jail().map_err(Failure::ours)
    }

    /// Runs the program for the caller at the other end of `link`, whose place this process has taken.
    pub(crate) fn run(self, options: &RunOptions, link: &Arc<Link>) -> Result<u8, Failure> {
        let Self { host, main: _main } = self;
        let started = Instant::now();
        let config = settings::config(options)?;
        let listener = listen(options)?;
        if !host.memory().lower_limit(config.limits.memory) {
            return Err(Failure::ours(
                "--memory: less than what a monitor needs that was started ahead; try --no-serve",
            ));
        }
        let sandbox = Sandbox::prepare(&host, config).map_err(|error| start_failure(options, &error))?;
        let needs = needs(options, &sandbox);
        let missing = jail::seal(&host, sandbox.grants(), needs, Ok(Others::default())).map_err(Failure::ours)?;
        jail::close(needs).map_err(|why| Failure::ours(format_args!("no jail: {why}")))?;
        // Not before: a thread with a filter of its own cannot be given another one by the thread that closes.
        host.threads().begin_with(jail::narrow);
        tell_missing(options, &missing)?;
        let ready = Ready { started, from: Signals::Caller(link.clone()), host, listener, sandbox, keeper: None };
        attend(options, ready, &Arc::new(TerminalModes::none()))
    }
}

/// Runs the program and returns the exit status.
pub(crate) fn run(options: &RunOptions, beginning: Result<Beginning, Failure>) -> Result<u8, Failure> {
    let terminal = Arc::new(TerminalModes::save());
    if options.network.tty && !terminal.is_terminal() {
        return Err(Failure::ours("-t: standard input is not a terminal"));
    }
    // Early, since it takes about as long to start as a sandbox.
    let keeper = options.network.tty.then(Keeper::start);
    let mut config = settings::config(options)?;
    config.terminal = options.network.tty.then(|| terminal.size());
    let Beginning { started, signals, host, others } = beginning?;
    let _main = host.threads().adopt("main");
    let listener = listen(options)?;
    let host = host
        .finish(&HostConfig { memory: config.limits.memory, vcpus: None, posting: settings::posting(options) })
        .map_err(Failure::ours)?;
    let sandbox = Sandbox::prepare(&host, config).map_err(|error| start_failure(options, &error))?;
    enter_jail(options, &host, &sandbox, others)?;
    attend(options, Ready { started, from: Signals::Host(signals), host, listener, sandbox, keeper }, &terminal)
}

/// Whom signals for the program come from.
enum Signals {
    /// The host: who starts the program is this process.
    Host(HostSignals),
    /// The caller, which is another process, at the other end of this.
    Caller(Arc<Link>),
}

/// A host that is ready for the program, and what belongs to this run.
struct Ready {
    started: Instant,
    from: Signals,
    host: Host,
    listener: Listener,
    sandbox: Prepared,
    keeper: Option<std::io::Result<Keeper>>,
}

/// Starts the sandbox and sees it through.
fn attend(options: &RunOptions, ready: Ready, terminal: &Arc<TerminalModes>) -> Result<u8, Failure> {
    let Ready { started, from, host, listener, sandbox, keeper } = ready;
    let link = if let Signals::Caller(link) = &from { Some(link.clone()) } else { None };
    let timeout = sandbox.config().limits.timeout;
    // A folder of the host's that keeps what was written may have something put away in it.
    let tidies_up = sandbox.config().view.upper.is_some();
    let sandbox = Arc::new(sandbox.start(&host).map_err(|error| start_failure(options, &error))?);

    let monitor = Monitor::new(host, sandbox.clone(), listener.address.clone(), started);
    let server = Arc::new(Server::new(listener, &monitor));
    let threads = monitor.host.threads();

    let outside = sandbox.terminal().zip(keeper);
    let console = outside.map(|(outside, keeper)| Console::start(threads, outside, terminal, keeper)).transpose()?;
    let timed_out = Arc::new(AtomicBool::new(false));
    let first_check = |period: Duration| (Instant::now() + period.min(UNCHECKED), period, monitor.host.guardian());
    let forwarder = Forwarder {
        from,
        monitor: Arc::downgrade(&monitor),
        sandbox: sandbox.clone(),
        server: server.clone(),
        terminal: terminal.clone(),
        deadline: timeout.and_then(|timeout| started.checked_add(timeout)),
        timed_out: timed_out.clone(),
        integrity: options.protection.integrity.0.map(first_check),
    };
    if !sandbox.is_over_within(timeout.map_or(UNATTENDED, |timeout| timeout.min(UNATTENDED))) {
        threads
            .spawn("signals", SIGNAL_THREAD_STACK, Owner::System, move || forwarder.run())
            .map_err(|error| Failure::ours(format_args!("cannot start a thread: {}", plain(&error))))?;
    }
    let end = sandbox.wait(|| match (&console, &link) {
        (Some(console), _) => console.while_stopped(stop_with_it),
        (None, Some(link)) => {
            // All of it, as if this process had stopped: that would be one that the caller's shell does not know.
            monitor.suspend_all();
            link.stopped();
        }
        (None, None) => stop_with_it(),
    });
    let timed_out = timed_out.load(Ordering::Relaxed);
    if console.is_none() && !matches!(end, SandboxEnd::Exited(_)) {
        terminal.restore();
    }
    let printed = console.map_or(Ok(()), Console::finish);
    if options.watching.verbose {
        report::print(&sandbox, &monitor.host, started);
    }
    let timeout = timeout.unwrap_or_default();
    let result = match end {
        SandboxEnd::Signaled(_) if timed_out => {
            Err(Failure::with_status(TIMED_OUT, format_args!("ended after {timeout:?} (--timeout)")))
        }
        SandboxEnd::Exited(code) => printed.map(|()| code),
        SandboxEnd::Signaled(signal) => Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        SandboxEnd::Failed => Err(Failure::ours("the sandbox could not go on; PICOVISOR_LOG=error shows why")),
    };
    server.finish(result.as_ref().map_or_else(Failure::status, |status| *status));
    if let Some(link) = link {
        // Before the machine is taken down, which nobody has to wait for.
        link.end(&result);
    }
    if !tidies_up {
        // This process is about to end, which ends all that the sandbox is made of, faster than could be done piece by piece.
        std::mem::forget((sandbox, monitor));
    }
    result
}

/// Puts the monitor into its jail, before its program is loaded. `others` are closed even without one: nobody could use them.
fn enter_jail(
    options: &RunOptions,
    host: &Host,
    sandbox: &Prepared,
    others: std::io::Result<Others>,
) -> Result<(), Failure> {
    if options.protection.no_jail {
        complain(&"--no-jail: nothing keeps the monitor itself from what its caller may do");
        return Ok(());
    }
    let needs = needs(options, sandbox);
    let mut missing = jail::seal(host, sandbox.grants(), needs, others).map_err(Failure::ours)?;
    match jail::enter(needs) {
        Ok(()) => {
            host.threads().begin_with(jail::narrow);
            host.enter_jail().map_err(Failure::ours)?;
        }
        Err(why) => missing.insert(0, why),
    }
    tell_missing(options, &missing)
}

/// Says which parts of the jail this host lacks, or refuses to go on without.
fn tell_missing(options: &RunOptions, missing: &[Missing]) -> Result<(), Failure> {
    let list = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if missing.is_empty() {
        return Ok(());
    }
    if options.protection.require_jail {
        return Err(Failure::ours(format_args!("--require-jail: this host lacks {list}")));
    }
    complain(&format_args!("the monitor's jail lacks {list}"));
    Ok(())
}

/// What of the host's the options let the program have.
fn needs(options: &RunOptions, sandbox: &Prepared) -> jail::Needs {
    jail::Needs {
        network: options.network.net == NetworkChoice::Host,
        writable: sandbox.config().view.reaches_host(),
        output: provider::hands_output_over(),
        terminal: options.network.tty,
    }
}

/// Takes the addresses at which tools will reach the sandbox.
fn listen(options: &RunOptions) -> Result<Listener, Failure> {
    let name = options.identity.name.as_deref();
    Listener::open(name).map_err(|error| match error {
        ListenError::NameTaken => {
            let name = name.unwrap_or_default();
            Failure::ours(format_args!("--name {name}: a sandbox has this name already; `picovisor ps` shows it"))
        }
        ListenError::Host(error) => Failure::ours(format_args!("no control socket: {error}")),
    })
}

/// What a start's failure says to the user: what is wrong with a program is said of the program.
fn start_failure(options: &RunOptions, error: &StartError) -> Failure {
    let status = error.exit_status();
    match error {
        StartError::Load(error) => {
            Failure::with_status(status, format_args!("{}: {error}", options.program().display()))
        }
        other => Failure::with_status(status, other),
    }
}

/// Blocks the forwarded signals here and in every thread that is started from now on.
pub(crate) fn block_signals() -> Result<HostSignals, Failure> {
    let numbers = FORWARDED.map(Signal::as_raw);
    HostSignals::block(&numbers).map_err(|error| Failure::ours(format_args!("signals: {}", plain(&error))))
}

/// The program was stopped: stop as well, so that a shell sees its job stop. SIGCONT, passed on, lets both go on.
pub(crate) fn stop_with_it() {
    stop_this_process();
}

/// The thread that passes signals on, and ends the sandbox when its time is over.
struct Forwarder {
    from: Signals,
    monitor: Weak<Monitor>,
    sandbox: Arc<Sandbox>,
    server: Arc<Server>,
    terminal: Arc<TerminalModes>,
    deadline: Option<Instant>,
    timed_out: Arc<AtomicBool>,
    /// When the thread that checks the monitor's integrity is to begin, and how often it is to look.
    integrity: Option<(Instant, Duration, Guardian)>,
}

impl Forwarder {
    /// Passes a signal on. Where the terminal inside is the sandbox's own, a new size of the caller's is its new size.
    fn pass_on(&self, HostSignal { number, from_kernel }: HostSignal) {
        // What has stopped with a caller that is another process goes on with it.
        if number == Signal::CONT.as_raw()
            && matches!(self.from, Signals::Caller(_))
            && let Some(monitor) = self.monitor.upgrade()
        {
            monitor.resume_all();
        }
        match self.sandbox.terminal() {
            Some(outside) if number == Signal::WINCH.as_raw() => outside.resize(self.terminal.size()),
            _ => self.sandbox.deliver_signal(number, if from_kernel { Origin::Terminal } else { Origin::Process }),
        }
    }

    /// Waits for a signal, or for news of the caller.
    fn hear(&self, timeout: Option<Duration>) -> std::io::Result<Heard> {
        match &self.from {
            Signals::Caller(link) => link.hear(timeout),
            Signals::Host(signals) => Ok(signals.wait(timeout)?.map_or(Heard::Nothing, Heard::Signal)),
        }
    }

    /// Lets integrity be checked from now on, if it is time.
    fn check_integrity(&mut self) {
        let due = self.integrity.take_if(|(at, ..)| Instant::now() >= *at);
        if let Some((_, period, guardian)) = due
            && let Err(error) = guardian.start(period)
        {
            tracing::warn!(%error, "the monitor's integrity is not checked");
        }
    }

    /// Runs until the process exits.
    fn run(mut self) {
        // Here, beside the first process, whose start does not wait for the event loop's.
        self.server.start();
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| Instant::now() >= deadline);
        while !is_over(self.deadline) {
            let next = [self.deadline, self.integrity.as_ref().map(|(at, ..)| *at)].into_iter().flatten().min();
            let left = next.map(|next| next.saturating_duration_since(Instant::now()));
            match self.hear(left) {
                Ok(Heard::Signal(signal)) => self.pass_on(signal),
                Ok(Heard::Nothing) => {}
                Ok(Heard::Over) => return,
                // The sandbox ends with its caller, as it does where that is the monitor itself.
                Ok(Heard::Gone) => std::process::exit(OURS.into()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return complain(&format_args!("signals are not passed on: {}", plain(&error))),
            }
            self.check_integrity();
        }
        self.timed_out.store(true, Ordering::Relaxed);
        self.sandbox.terminate();
    }
}
