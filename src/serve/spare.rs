//! A spare: a monitor that has everything but its caller.
//!
//! It is this program again, started by the daemon with one argument more, and in a session of its own, so that no terminal's keys reach it. It makes
//! its machine and goes into its jail, listens, and waits. When a caller comes whose place it can take it listens no more, tells the
//! daemon, which has another one started, and becomes that caller's monitor. It ends with the sandbox. A spare that waits ends with
//! the daemon; one that has a caller does not.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{fchdir, setsid};
use rustix::stdio;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use vmm::inherited::{Inherited, Others, take_place};

use super::address::Address;
use super::caller::{Own, Takeover};
use super::link::{Link, Notice, Reason};
use super::request::{Descriptors, Request};
use crate::cli::{RunOptions, RunParser};
use crate::failure::{Failure, OURS};
use crate::run::{Ahead, Beginning};
use crate::{complain, report};

/// What makes this program a spare. It is no command: nothing but the daemon has a use for it.
pub(super) const ARGUMENT: &str = "@spare";
/// What a spare tells the daemon: that it waits, and that it has a caller.
pub(super) const READY: u8 = b'r';
pub(super) const TAKEN: u8 = b't';

/// A program that most systems have. It is loaded, and does not run.
const REHEARSAL: &str = "/bin/true";

/// Does a spare's work if this process was started as one.
pub(crate) fn run_if_asked(arguments: &[OsString]) -> Option<ExitCode> {
    let [_, argument, number] = arguments else { return None };
    if argument != ARGUMENT {
        return None;
    }
    let number = number.to_str().and_then(|number| number.parse().ok())?;
    Some(match Spare::start(number).and_then(Spare::wait) {
        Ok(Some(taken)) => taken.run(),
        Ok(None) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&format_args!("no monitor can be kept ready: {failure}"));
            ExitCode::from(OURS)
        }
    })
}

/// A spare that waits.
struct Spare {
    listener: OwnedFd,
    /// To the daemon. Closed: there is none any more.
    daemon: OwnedFd,
    /// Signals for this process, once there is a caller.
    signals: OwnedFd,
    null: OwnedFd,
    own: Own,
    parser: RunParser,
    ahead: Ahead,
}

/// A spare that has a caller.
struct Taken {
    options: Box<RunOptions>,
    ahead: Ahead,
    link: Arc<Link>,
    /// Closed when this process ends, and so the daemon learns of that.
    daemon: OwnedFd,
}

impl Spare {
    fn start(number: u32) -> Result<Self, Failure> {
        let failed = |what: &'static str| move |error: Errno| Failure::ours(format_args!("{what}: {error}"));
        // The daemon has put its socket at standard input.
        let daemon = fcntl_dupfd_cloexec(stdio::stdin(), 3).map_err(failed("the daemon's socket"))?;
        let null = rustix::fs::openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let null = null.map_err(failed("/dev/null"))?;
        stdio::dup2_stdin(&null).map_err(failed("/dev/null"))?;
        rustix::process::chdir("/").map_err(failed("/"))?;
        // Fails for the leader of a process group only, which the daemon's child is not.
        let _ = setsid();
        let _ = rustix::thread::set_name(c"picovisor-spare");
        // Before anything is given up: callers are compared with it.
        let own = Own::look().map_err(|error| Failure::ours(format_args!("/proc: {error}")))?;
        let (ahead, signals) = Beginning::new(Ok(Others::default()))?.ahead()?;
        let mut parser = RunParser::new();
        parser.prepare();
        rehearse(&ahead, &own, &mut parser);
        let address = Address::own().map_err(failed("/proc/self/exe"))?;
        let listener = address.listen(Some(number)).map_err(failed("no socket"))?;
        ahead.enter_jail()?;
        Ok(Self { listener, daemon, signals: signals.into_descriptor(), null, own, parser, ahead })
    }

    /// Waits for a caller whose place it can take; `None` if the daemon ends first.
    fn wait(mut self) -> Result<Option<Taken>, Failure> {
        tell(&self.daemon, READY);
        loop {
            let [listener, daemon, signals] =
                [&self.listener, &self.daemon, &self.signals].map(|end| PollFd::new(end, PollFlags::IN));
            let mut ends = [listener, daemon, signals];
            match poll(&mut ends, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Failure::ours(format_args!("poll: {error}"))),
            }
            // The daemon says nothing. A signal would be the program's later on.
            if ends[1..].iter().any(|end| !end.revents().is_empty()) {
                return Ok(None);
            }
            let Ok(connection) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else {
                continue;
            };
            // Who cannot say what is wanted gets no answer.
            let Ok((request, descriptors)) = Request::receive(&connection) else { continue };
            match self.consider(&connection, &request) {
                Ok((options, takeover)) => {
                    return self.take(connection, options, &takeover, request.inherited, descriptors);
                }
                Err(reason) => _ = Notice::Declined(reason).send(&connection),
            }
        }
    }

    /// Finds out whether the request can be served just as the caller would itself. Changes nothing.
    fn consider(&mut self, connection: &OwnedFd, request: &Request) -> Result<(Box<RunOptions>, Takeover), Reason> {
        let takeover = self.own.compare(connection).map_err(|_| Reason::Standing)?.ok_or(Reason::Standing)?;
        // What is wrong with the command line the caller finds out itself.
        let options = self.parser.parse(&request.arguments).map_err(|_| Reason::Options)?;
        if !options.suit_a_spare(self.ahead.memory()) {
            return Err(Reason::Options);
        }
        Ok((options, takeover))
    }

    /// Takes the caller's place.
    fn take(
        self,
        connection: OwnedFd,
        options: Box<RunOptions>,
        takeover: &Takeover,
        inherited: Inherited,
        descriptors: Descriptors,
    ) -> Result<Option<Taken>, Failure> {
        let Self { listener, daemon, signals, null, own, ahead, .. } = self;
        // Whoever has connected meanwhile is told so by this.
        drop(listener);
        let Descriptors { standard: [input, output, error], folder } = descriptors;
        let taken = fchdir(&folder).and_then(|()| own.take_over(takeover));
        // Before the caller's descriptors: it may be waited for.
        tell(&daemon, TAKEN);
        if taken.is_err() {
            let _ = Notice::Declined(Reason::Surroundings).send(&connection);
            return Ok(None);
        }
        let put = |put: fn(&OwnedFd) -> Result<(), Errno>, fd: Option<OwnedFd>| fd.map_or(Ok(()), |fd| put(&fd));
        let put = put(|fd| stdio::dup2_stdin(fd), input)
            .and_then(|()| put(|fd| stdio::dup2_stdout(fd), output))
            .and_then(|()| put(|fd| stdio::dup2_stderr(fd), error));
        if put.is_err() || Notice::Accepted.send(&connection).is_err() {
            // The caller is gone, or starts the program itself.
            return Ok(None);
        }
        take_place(inherited);
        let _ = rustix::thread::set_name(c"picovisor");
        report::note_spare();
        Ok(Some(Taken { options, ahead, link: Arc::new(Link::new(connection, signals, null)), daemon }))
    }
}

impl Taken {
    fn run(self) -> ExitCode {
        let Self { options, ahead, link, daemon: _daemon } = self;
        // Once the program has run, this was said already.
        link.end(&ahead.run(&options, &link));
        ExitCode::SUCCESS
    }
}

/// Does once for nothing what the caller will wait for, so that it does not wait for what is slow the first time.
fn rehearse(ahead: &Ahead, own: &Own, parser: &mut RunParser) {
    vmm::protect::load_image();
    if let Ok((one, _other)) = UnixStream::pair() {
        let _ = own.compare(&one.into());
    }
    if let Ok(options) = parser.parse(&["picovisor", "run", "--", REHEARSAL].map(OsString::from)) {
        ahead.rehearse(&options);
    }
}

/// Tells the daemon something. One that is gone does not want to know.
fn tell(daemon: &OwnedFd, what: u8) {
    let _ = rustix::net::send(daemon, &[what], rustix::net::SendFlags::NOSIGNAL);
}
