//! `picovisor run` as the caller of a spare: finds one, hands over, passes signals on, and ends as the program does.
//!
//! It comes before everything that a start by oneself needs, and does nothing that such a start would not find undone.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use rustix::stdio;
use rustix::termios::isatty;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use vmm::inherited::{Inherited, ignored_signals, standard_descriptors};
use vmm::signals::{HostSignals, take};

use super::address::Address;
use super::link::Notice;
use super::request::{Request, environment};
use crate::failure::Failure;
use crate::run::{block_signals, stop_with_it};

/// How long a spare may take to say whether it does it. One that is that late is stopped, or stuck.
const PATIENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// What became of the attempt to have a spare run the program.
pub(crate) enum HandOver {
    /// It did, and so it ended.
    Done(Result<u8, Failure>),
    /// Nothing has been done; the reason, where there is something to say.
    Direct(Option<&'static str>),
}

/// Hands the command line over to a spare, if there is one that can do it, and sees it through.
pub(crate) fn hand_over(arguments: &[OsString]) -> HandOver {
    // One that is the program's own argument does no harm.
    let unwanted = std::env::var_os("PICOVISOR_SERVE").is_some_and(|value| value == "off");
    if unwanted || arguments.iter().any(|argument| argument == "--no-serve") {
        return HandOver::Direct(Some("it was told so"));
    }
    // The log is this process's own.
    if std::env::var_os("PICOVISOR_LOG").is_some_and(|value| !value.is_empty()) {
        return HandOver::Direct(None);
    }
    let Ok(address) = Address::own() else { return HandOver::Direct(None) };
    let mut why = None;
    let done = address.try_spares(|socket| match Caller::prepare(arguments).and_then(|caller| caller.ask(&socket)) {
        Ok(caller) => Some(HandOver::Done(caller.see_through(&socket))),
        Err(Refusal::Free) => None,
        Err(Refusal::Direct(reason)) => {
            why = Some(reason);
            Some(HandOver::Direct(why))
        }
        Err(Refusal::Failed(failure)) => Some(HandOver::Done(Err(failure))),
    });
    done.unwrap_or(HandOver::Direct(why))
}

/// Why a spare does not do it.
enum Refusal {
    /// Somebody was faster, or it is gone: another one may.
    Free,
    /// No spare could.
    Direct(&'static str),
    /// It cannot be known how far it got.
    Failed(Failure),
}

/// What is handed over.
struct Caller {
    request: Request,
    folder: OwnedFd,
    signals: OwnedFd,
}

/// A caller whose program a spare runs.
struct Served {
    signals: OwnedFd,
}

impl Caller {
    /// Collects what is handed over.
    fn prepare(arguments: &[OsString]) -> Result<Self, Refusal> {
        let standard = standard_descriptors();
        let opened = || standard_fds().into_iter().zip(standard).filter(|(_, open)| *open).map(|(fd, _)| fd);
        // Reading and control of a terminal are a matter of sessions and process groups, which cannot be handed over.
        if opened().any(isatty) {
            return Err(Refusal::Direct("a standard descriptor is a terminal"));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, ".", flags, Mode::empty());
        let folder = folder.map_err(|_| Refusal::Direct("the current folder cannot be opened"))?;
        // As a start by oneself has them.
        let signals = block_signals().ok().map(HostSignals::into_descriptor);
        let signals = signals.ok_or(Refusal::Direct("signals cannot be watched"))?;
        let inherited = Inherited { standard, ignored: ignored_signals(), environment: environment() };
        Ok(Self { request: Request { arguments: arguments.to_vec(), inherited }, folder, signals })
    }

    /// Asks a spare to run it.
    fn ask(self, socket: &OwnedFd) -> Result<Served, Refusal> {
        let standard = self.request.inherited.standard;
        let open = standard_fds().into_iter().zip(standard).filter(|(_, open)| *open).map(|(fd, _)| fd);
        let fds: Vec<_> = open.chain([self.folder.as_fd()]).collect();
        // Until it is heard whole, nothing is begun.
        self.request.send(socket, &fds).map_err(|_| Refusal::Free)?;
        let late = loop {
            match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&PATIENCE)) {
                Err(Errno::INTR) => {}
                Ok(1..) => break false,
                Ok(0) | Err(_) => break true,
            }
        };
        if late {
            // From now on it cannot say that it does.
            let _ = shutdown(socket, Shutdown::Both);
        }
        // Something has come, if only the end: nothing to read is a signal's doing.
        let answer = loop {
            match Notice::take(socket) {
                Ok(None) => {}
                Ok(Some(notice)) => break Ok(notice),
                Err(error) => break Err(error),
            }
        };
        match answer {
            Ok(Notice::Accepted) if !late => Ok(Served { signals: self.signals }),
            Ok(Notice::Accepted) => Err(Refusal::Failed(Failure::ours("a monitor of picovisor serve was too late"))),
            Ok(Notice::Declined(reason)) => Err(Refusal::Direct(reason.text())),
            // It is gone, and has said nothing before.
            Ok(_) | Err(Errno::PIPE) => Err(Refusal::Free),
            // Whether it runs the program is not known, and nobody else may run it as well.
            Err(_) => Err(Refusal::Failed(Failure::ours("the answer of a monitor of picovisor serve cannot be read"))),
        }
    }
}

impl Served {
    /// Passes signals on until the program has ended; its exit status.
    fn see_through(&self, socket: &OwnedFd) -> Result<u8, Failure> {
        loop {
            let mut ends = [PollFd::new(socket, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            match poll(&mut ends, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Failure::ours(format_args!("poll: {error}"))),
            }
            match Notice::take(socket) {
                Ok(Some(Notice::Ended(status))) => return Ok(status),
                // Whoever lets this process go on lets the program do so: that signal is passed on like others.
                Ok(Some(Notice::Stopped)) => stop_with_it(),
                Ok(None) => {}
                Err(error) if error != Errno::PIPE => {
                    return Err(Failure::ours(format_args!(
                        "the monitor that runs the program cannot be heard: {error}"
                    )));
                }
                Ok(Some(_)) | Err(_) => {
                    return Err(Failure::ours("the monitor that ran the program has ended unexpectedly"));
                }
            }
            let signal = take(&self.signals).map_err(|error| Failure::ours(format_args!("signals: {error}")))?;
            if let Some(signal) = signal {
                // One that is gone is noticed above.
                let _ = Notice::Signal(signal).send(socket);
            }
        }
    }
}

fn standard_fds() -> [BorrowedFd<'static>; 3] {
    [stdio::stdin(), stdio::stdout(), stdio::stderr()]
}
