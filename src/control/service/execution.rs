//! `exec`: a program in the sandbox, for the tool at the other end of a connection.
//!
//! The tool's descriptors become the program's. A program with a terminal of its own talks through a socket instead, which the tool
//! connects with its caller's terminal: so nobody here reads what is typed there once the tool is gone.

use provider::config::{TerminalSize, User};
use provider::{Executed, Execution, OutsideEnd, ProgramStdio, SandboxEnd, StartError};
use rustix::io::Errno;
use rustix::process::Signal;
use std::ffi::OsString;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use vmm::threads::{HostThreads, Owner};

use super::Monitor;
use crate::cli::{EnvSpec, parse_env, parse_user};
use crate::control::channel::{Channel, ChannelError, LONGEST_REQUEST, Received};
use crate::control::messages::{Execute, Reply, Request, Window};
use crate::failure::{Failure, OURS};
use crate::identity;

/// The stack of a thread that carries bytes or waits: it makes a few calls.
const STACK: usize = 128 << 10;
/// Bytes carried at once.
const PIECE: usize = 4096;

/// A program that runs for a tool, and what is needed to look after it.
pub(crate) struct Attended {
    executed: Arc<Executed>,
    threads: Arc<HostThreads>,
    console: Option<Line>,
}

/// What connects a program's terminal with the tool's line.
struct Line {
    outside: Arc<OutsideEnd>,
    socket: UnixStream,
    printer: JoinHandle<()>,
}

impl Monitor {
    /// Starts the program. The failure says what the tool is to exit with.
    pub(crate) fn execute(&self, what: &Execute, fds: Vec<OwnedFd>) -> Result<Attended, Failure> {
        let expected = if what.terminal.is_some() { 1 } else { 3 };
        if fds.len() != expected {
            return Err(Failure::ours(format_args!("exec comes with {expected} descriptors, not {}", fds.len())));
        }
        let mut fds = fds;
        let socket = what.terminal.and_then(|_| fds.pop()).map(UnixStream::from);
        let stdio = match what.terminal {
            Some(window) => ProgramStdio::Terminal(size(window)),
            None => ProgramStdio::Descriptors(fds),
        };
        let execution = self.execution(what, stdio)?;
        let program = execution.program.clone();
        let executed = self.sandbox.execute(&self.host, execution).map_err(|error| match &error {
            StartError::Load(why) => {
                Failure::with_status(error.exit_status(), format_args!("{}: {why}", program.display()))
            }
            _ => Failure::with_status(error.exit_status(), &error),
        })?;
        let threads = self.host.threads().clone();
        let console = executed.terminal().zip(socket).map(|(outside, socket)| Line::start(&threads, outside, socket));
        match console.transpose() {
            Ok(console) => Ok(Attended { executed: Arc::new(executed), threads, console }),
            Err(error) => {
                executed.signal(Signal::KILL.as_raw());
                Err(Failure::ours(format_args!("no thread for its terminal: {error}")))
            }
        }
    }

    fn execution(&self, what: &Execute, stdio: ProgramStdio) -> Result<Execution, Failure> {
        let mut command = what.command.iter().cloned().map(OsString::from_vec);
        let program = command.next().ok_or_else(|| Failure::ours("exec: no program is given"))?;
        let config = self.sandbox.config();
        Ok(Execution {
            program,
            args: command.collect(),
            env: environment(&config.env, &what.environment)?,
            user: what.user.as_deref().map(|user| self.user(user)).transpose()?,
            workdir: what.workdir.clone().map(|path| PathBuf::from(OsString::from_vec(path))),
            stdio,
        })
    }

    fn user(&self, text: &str) -> Result<User, Failure> {
        let spec = parse_user(text).map_err(|why| Failure::ours(format_args!("--user: {why}")))?;
        let root = self.sandbox.config().view.root.as_deref();
        identity::resolve(Some(&spec), root.unwrap_or(Path::new("/")))
    }
}

/// The sandbox's environment with what is set besides.
fn environment(base: &[OsString], more: &[Vec<u8>]) -> Result<Vec<OsString>, Failure> {
    let mut variables = base.to_vec();
    for variable in more {
        let text = OsString::from_vec(variable.clone());
        match parse_env(&text) {
            Ok(EnvSpec::Set(name, _)) => {
                let named = |other: &OsString| {
                    let rest = other.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
                    rest.is_some_and(|rest| rest.first() == Some(&b'='))
                };
                variables.retain(|other| !named(other));
                variables.push(text);
            }
            Ok(EnvSpec::Inherit(_)) => {}
            Err(why) => return Err(Failure::ours(format_args!("--env: {why}"))),
        }
    }
    Ok(variables)
}

fn size(Window { rows, columns }: Window) -> TerminalSize {
    TerminalSize { rows, columns }
}

impl Attended {
    /// Looks after the program until it has ended and the tool knows, or the tool is gone.
    pub(crate) fn serve(self, channel: &Arc<Channel>) {
        let Self { executed, threads, console } = self;
        if channel.send(&Reply::Started { pid: executed.pid() }).is_err() {
            executed.signal(Signal::HUP.as_raw());
        }
        let outside = console.as_ref().map(|console| console.outside.clone());
        let (ended, told) = (executed.clone(), channel.clone());
        let waiter = threads.spawn("exec-end", STACK, Owner::System, move || {
            let status = match ended.wait() {
                SandboxEnd::Exited(code) => code,
                SandboxEnd::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
                SandboxEnd::Failed => OURS,
            };
            if let Some(console) = console {
                console.finish();
            }
            // It may be gone. Whoever receives below learns that there is nothing more to do.
            let _ = told.send(&Reply::Ended { status });
            told.hang_up();
        });
        if waiter.is_err() {
            executed.signal(Signal::KILL.as_raw());
            return;
        }
        loop {
            let received: Result<Received<Request>, _> = channel.receive(LONGEST_REQUEST, None);
            match received.map(|(request, _)| request) {
                Ok(Request::Forward { signal }) => executed.signal(signal),
                Ok(Request::Resize(window)) => {
                    if let Some(outside) = &outside {
                        outside.resize(size(window));
                    }
                }
                Ok(_) | Err(ChannelError::Malformed(_)) => {}
                Err(_) => break,
            }
        }
        // The tool is gone, as a terminal is that hangs up. To a program that has ended it does not matter.
        executed.signal(Signal::HUP.as_raw());
    }
}

impl Line {
    fn start(threads: &Arc<HostThreads>, outside: &Arc<OutsideEnd>, socket: UnixStream) -> std::io::Result<Self> {
        socket.set_nonblocking(false)?;
        let (typed, typing) = (socket.try_clone()?, outside.clone());
        threads.spawn("exec-keyboard", STACK, Owner::System, move || type_all(&typed, &typing))?;
        let (screen, printing) = (socket.try_clone()?, outside.clone());
        let printer = threads.spawn("exec-screen", STACK, Owner::System, move || print_all(&screen, &printing))?;
        Ok(Self { outside: outside.clone(), socket, printer })
    }

    /// Prints what is left, and hangs up.
    fn finish(self) {
        self.outside.finish();
        // It cannot panic: the process would have ended.
        let _ = self.printer.join();
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Types what comes, until the tool is gone.
fn type_all(typed: &UnixStream, outside: &OutsideEnd) {
    let mut bytes = [0; PIECE];
    loop {
        // The standard library would receive, which takes another host call.
        match rustix::io::read(typed, &mut bytes) {
            Ok(0) => break,
            Ok(count) => outside.type_in(&bytes[..count]),
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    outside.hang_up();
}

/// Prints what comes from inside, until that has ended. Goes on taking when nobody reads it any more, so that nobody inside waits for
/// room.
fn print_all(screen: &UnixStream, outside: &OutsideEnd) {
    let mut read = true;
    while let Some(bytes) = outside.take_printed() {
        read = read && write_all(screen, &bytes).is_ok();
    }
}

/// Writes all of it. The standard library would send, which takes another host call.
fn write_all(screen: &UnixStream, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        bytes = &bytes[rustix::io::retry_on_intr(|| rustix::io::write(screen, bytes))?..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_added_and_replaced() {
        let base: Vec<OsString> = ["A=1", "AB=2", "C=3"].map(OsString::from).into();
        let more = [b"A=x".to_vec(), b"D=\xff".to_vec()];
        let expected: Vec<OsString> = ["AB=2", "C=3", "A=x"]
            .map(OsString::from)
            .into_iter()
            .chain([OsString::from_vec(b"D=\xff".to_vec())])
            .collect();
        assert_eq!(environment(&base, &more).unwrap(), expected);
        assert!(environment(&base, &[b"=x".to_vec()]).is_err());
    }
}
