//! The daemon: keeps as many spares as it was asked for, and replaces those that have a caller.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, SocketFlags, accept_with, recv, shutdown};
use rustix::process::Signal;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vmm::signals::{HostSignals, take};

use super::address::Address;
use super::spare::{ARGUMENT, TAKEN};
use crate::cli::ServeOptions;
use crate::complain;
use crate::failure::{Failure, plain};

/// What ends the daemon.
const ENDING: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::HUP];
/// How long a spare's replacement waits: the program that it has begun to run comes first, and most are over by then.
const AFTER: Duration = Duration::from_millis(5);
/// How long the daemon waits to try again if a spare could not be started.
const AGAIN: Duration = Duration::from_secs(1);
/// Spares that may fail to start one after another before the daemon gives up, if none could ever be started.
const FAILURES: u32 = 3;

/// Keeps spares until a signal ends it.
pub(crate) fn serve(options: &ServeOptions) -> Result<u8, Failure> {
    let failed = |what: &'static str| move |error: io::Error| Failure::ours(format_args!("{what}: {}", plain(&error)));
    let signals = HostSignals::block(&ENDING.map(Signal::as_raw)).map_err(failed("signals"))?;
    let signals = signals.into_descriptor();
    let (pair, _other) = UnixStream::pair().map_err(failed("no socket"))?;
    if vmm::peer::peer_process(pair.as_fd()).is_err() {
        return Err(Failure::ours("the kernel cannot tell who connects; Linux 6.5 or later is needed"));
    }
    let address = Address::own().map_err(|error| Failure::ours(format_args!("/proc/self/exe: {error}")))?;
    let listener = address.listen(None).map_err(|error| match error {
        Errno::ADDRINUSE => Failure::ours("a daemon of this user and this build is running already"),
        error => Failure::ours(format_args!("no socket: {error}")),
    })?;
    vmm::inherited::keep_from_programs();
    let slots = (0..options.spares).map(Slot::new).collect();
    let mut daemon = Daemon { slots, used: Vec::new(), failures: 0, announced: false };
    let result = daemon.run(&signals, &listener);
    daemon.end();
    result.map(|()| 0)
}

/// A spare's process, and the socket that tells what becomes of it.
#[derive(Debug)]
struct Process {
    child: Child,
    socket: OwnedFd,
}

/// What a spare's socket tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Said(u8),
    Ended,
}

/// A place for a spare.
#[derive(Debug)]
struct Slot {
    number: u32,
    process: Option<Process>,
    /// It waits for a caller.
    ready: bool,
    /// When to start one, if there is none.
    due: Instant,
}

#[derive(Debug)]
struct Daemon {
    slots: Vec<Slot>,
    /// Spares that have a caller, or had one.
    used: Vec<Process>,
    /// Spares that have ended without a caller since the last that was ready.
    failures: u32,
    /// The user knows that it serves.
    announced: bool,
}

impl Daemon {
    fn run(&mut self, signals: &OwnedFd, listener: &OwnedFd) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            for slot in self.slots.iter_mut().filter(|slot| slot.process.is_none() && slot.due <= now) {
                match Process::start(slot.number) {
                    Ok(process) => slot.process = Some(process),
                    Err(error) => {
                        complain(&format_args!("no monitor can be started: {}", plain(&error)));
                        slot.due = now + AGAIN;
                        self.failures += 1;
                    }
                }
            }
            self.wait(signals, listener)?;
            if let Ok(Some(_)) = take(signals) {
                return Ok(());
            }
            // Who connects here wants to know only that somebody is.
            while accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).is_ok() {}
            self.hear_spares();
            // Once it has served, it may be a shortage that passes.
            if self.failures >= FAILURES && !self.announced {
                return Err(Failure::ours("no monitor can be kept ready; what they said is above"));
            }
            self.announce();
        }
    }

    /// Waits until there is something to do.
    fn wait(&self, signals: &OwnedFd, listener: &OwnedFd) -> Result<(), Failure> {
        let due = self.slots.iter().filter(|slot| slot.process.is_none()).map(|slot| slot.due).min();
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let own = [PollFd::new(signals, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        let processes = self.slots.iter().filter_map(|slot| slot.process.as_ref()).chain(&self.used);
        let theirs = processes.map(|process| PollFd::new(&process.socket, PollFlags::IN));
        match poll(&mut own.into_iter().chain(theirs).collect::<Vec<_>>(), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Failure::ours(format_args!("poll: {error}"))),
        }
    }

    /// Takes note of what has become of the spares.
    fn hear_spares(&mut self) {
        for slot in &mut self.slots {
            while let Some(process) = &mut slot.process {
                match process.hear() {
                    Heard::Nothing => break,
                    Heard::Said(TAKEN) => {
                        self.used.extend(slot.process.take());
                        (slot.ready, slot.due) = (false, Instant::now() + AFTER);
                    }
                    Heard::Said(_) => {
                        slot.ready = true;
                        self.failures = 0;
                    }
                    Heard::Ended => {
                        process.reap();
                        slot.process = None;
                        (slot.ready, slot.due) = (false, Instant::now() + AGAIN);
                        self.failures += 1;
                    }
                }
            }
        }
        self.used.retain_mut(|process| match process.hear() {
            Heard::Ended => {
                process.reap();
                false
            }
            _ => true,
        });
    }

    /// Says once that all is ready.
    fn announce(&mut self) {
        if !self.announced && self.slots.iter().all(|slot| slot.ready) {
            let count = self.slots.len();
            let monitors = if count == 1 { "monitor is" } else { "monitors are" };
            complain(&format_args!("{count} {monitors} ready; SIGTERM or SIGINT ends the daemon"));
            self.announced = true;
        }
    }

    /// Lets the spares go that have no caller, and waits for them.
    fn end(self) {
        for mut process in self.slots.into_iter().filter_map(|slot| slot.process) {
            // Says that there is no daemon any more, and still hears what it says to that.
            let _ = shutdown(&process.socket, Shutdown::Write);
            loop {
                match process.hear() {
                    Heard::Nothing => _ = poll(&mut [PollFd::new(&process.socket, PollFlags::IN)], None),
                    // A sandbox that has begun goes on.
                    Heard::Said(TAKEN) => break,
                    Heard::Said(_) => {}
                    Heard::Ended => break process.reap(),
                }
            }
        }
    }
}

impl Slot {
    fn new(number: u32) -> Self {
        Self { number, process: None, ready: false, due: Instant::now() }
    }
}

impl Process {
    /// Starts a spare, with nothing of the daemon's that a caller's program would see. It leaves the daemon's folder itself: so
    /// there is nothing to do between a fork and execve, whose outcome would have to be waited for.
    fn start(number: u32) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg0("picovisor")
            .args([ARGUMENT, &number.to_string()])
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { child, socket: ours.into() })
    }

    fn hear(&self) -> Heard {
        let mut byte = [0];
        match recv(&self.socket, &mut byte[..], RecvFlags::DONTWAIT) {
            Ok((1.., _)) => Heard::Said(byte[0]),
            Ok(_) | Err(Errno::CONNRESET) => Heard::Ended,
            // What is not known to have ended must not be waited for.
            Err(_) => Heard::Nothing,
        }
    }

    /// Waits for it to be gone, as it is in a moment: its socket is closed.
    fn reap(&mut self) {
        // It is this process's child, and nobody else has waited for it.
        let _ = self.child.wait();
    }
}
