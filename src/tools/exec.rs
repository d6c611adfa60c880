//! `picovisor exec`: a program in a sandbox that runs already, as if it had been started here.

use rustix::process::{Signal, getpid, kill_process};
use std::ffi::OsString;
use std::io::{Read, Write, stderr, stdin, stdout};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use vmm::signals::{HostSignal, HostSignals};

use crate::cli::{EnvSpec, ExecOptions};
use crate::control::client::{AskError, Connection, find};
use crate::control::messages::{Execute, Reply, Request, Window};
use crate::failure::{Failure, plain};
use crate::terminal::{OtherModes, TerminalModes};
use crate::{complain, run};

/// The status when the sandbox ends first: SIGKILL ends everything in it.
const SANDBOX_ENDED: u8 = 137;
/// Bytes carried at once.
const PIECE: usize = 4096;

/// Runs the program to its end and takes over its status.
pub(crate) fn exec(options: &ExecOptions) -> Result<u8, Failure> {
    let terminal = Arc::new(TerminalModes::save());
    if options.tty && !terminal.is_terminal() {
        return Err(Failure::ours("-t: standard input is not a terminal"));
    }
    let connection = Arc::new(find(&options.sandbox)?);
    let failed = |error: AskError| error.of(&connection.address);
    // Before the first other thread.
    let signals = run::block_signals()?;
    let window = window(&terminal);
    let request = Request::Execute(Box::new(request(options, options.tty.then_some(window))));
    let (ours, theirs) = UnixStream::pair().map_err(|error| Failure::ours(plain(&error)))?;
    match options.tty {
        true => connection.send(&request, &[theirs.as_fd()]),
        false => connection.send(&request, &[stdin().as_fd(), stdout().as_fd(), stderr().as_fd()]),
    }
    .map_err(failed)?;
    drop(theirs);
    match connection.receive(None).map_err(failed)? {
        Reply::Started { .. } => {}
        Reply::NotStarted { status, why } => return Err(Failure::with_status(status, why)),
        other => return Err(connection.odd(&other)),
    }
    let raw = options.tty.then(|| terminal.raw()).transpose()?;
    let forwarder = Forwarder { signals, connection: connection.clone(), terminal, tty: options.tty };
    std::thread::spawn(move || forwarder.run());
    let screen = raw.as_ref().map(|_| carry(ours));
    let end = connection.receive(None);
    if let Some(screen) = screen {
        // What was printed last. It ends when the other side has closed the line, as it has by now.
        let _ = screen.join();
    }
    drop::<Option<OtherModes>>(raw);
    match end {
        Ok(Reply::Ended { status }) => Ok(status),
        Ok(other) => Err(connection.odd(&other)),
        Err(AskError::Gone) => {
            let label = connection.address.label();
            Err(Failure::with_status(SANDBOX_ENDED, format_args!("{label}: the sandbox has ended")))
        }
        Err(error) => Err(failed(error)),
    }
}

fn request(options: &ExecOptions, terminal: Option<Window>) -> Execute {
    let mut variables: Vec<(OsString, OsString)> = Vec::new();
    // What kind of terminal it is, the caller's environment knows.
    let inherited = options.tty.then(|| EnvSpec::Inherit("TERM".into()));
    for spec in inherited.iter().chain(&options.env) {
        match spec {
            EnvSpec::Set(name, value) => variables.push((name.clone(), value.clone())),
            EnvSpec::Inherit(name) => variables.extend(std::env::var_os(name).map(|value| (name.clone(), value))),
        }
    }
    let joined = |(name, value): (OsString, OsString)| [&name.into_vec()[..], b"=", &value.into_vec()].concat();
    Execute {
        command: options.command.iter().map(|word| word.clone().into_vec()).collect(),
        environment: variables.into_iter().map(joined).collect(),
        workdir: options.workdir.as_ref().map(|path| path.clone().into_os_string().into_vec()),
        user: options.user.clone(),
        terminal,
    }
}

fn window(terminal: &TerminalModes) -> Window {
    let size = terminal.size();
    Window { rows: size.rows, columns: size.columns }
}

/// Carries what is typed and what is printed between the caller's terminal and the line. The thread it returns ends with the line.
fn carry(line: UnixStream) -> std::thread::JoinHandle<()> {
    let keyboard = line.try_clone();
    std::thread::spawn(move || {
        let mut bytes = [0; PIECE];
        let Ok(mut line) = keyboard else { return };
        // A terminal that is gone is hung up inside, too.
        while let Ok(count @ 1..) = stdin().read(&mut bytes) {
            if line.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
        let _ = line.shutdown(std::net::Shutdown::Write);
    });
    std::thread::spawn(move || {
        let (mut line, mut bytes) = (line, [0; PIECE]);
        while let Ok(count @ 1..) = line.read(&mut bytes) {
            let mut out = stdout();
            if out.write_all(&bytes[..count]).and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    })
}

/// Passes signals on.
struct Forwarder {
    signals: HostSignals,
    connection: Arc<Connection>,
    terminal: Arc<TerminalModes>,
    tty: bool,
}

impl Forwarder {
    fn run(self) {
        loop {
            match self.signals.wait(None) {
                Ok(Some(signal)) => self.pass_on(signal),
                Ok(None) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return complain(&format_args!("signals are not passed on: {}", plain(&error))),
            }
        }
    }

    /// Passes a signal on; where the program has a terminal of its own, a new size of the caller's is its new size.
    fn pass_on(&self, HostSignal { number, .. }: HostSignal) {
        let request = match self.tty && number == Signal::WINCH.as_raw() {
            true => Request::Resize(window(&self.terminal)),
            false => Request::Forward { signal: number },
        };
        // Who is gone has ended, as is seen where its end is waited for.
        let _ = self.connection.send(&request, &[]);
        if number == Signal::TSTP.as_raw() {
            // The caller's shell sees its job stop. SIGCONT, passed on, lets both go on.
            let _ = kill_process(getpid(), Signal::STOP);
        }
    }
}
