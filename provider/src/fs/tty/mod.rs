//! Terminals: those the caller handed over, and the sandbox's own pseudo-terminals.
//!
//! A [`Terminal`] is known by its device number. What they all have is job control ([`control`]): a session that it belongs to and a
//! process group in the foreground, by the sandbox's own numbers. Beneath lies one of two devices: [`host`], a descriptor of the
//! caller's, whose settings and editing are the host's; or [`pty`], a pair with a line discipline of our own ([`ldisc`]).
//! [`open`] gives an open file on a terminal, [`open_controlling`] is /dev/tty, [`open_multiplexer`] /dev/ptmx.
//! Lock ranks: leaves. Signals are sent and sleepers woken with none of these locks held.

pub(crate) mod control;
mod host;
pub(crate) mod ldisc;
mod pty;

pub use pty::OutsideEnd;

use super::{File, Inode, OpenFlags};
use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, Pid, ThreadGroup};
use control::Control;
use host::HostTerminal;
use pty::{MasterFile, Pty};
use rustix::fs::{major, makedev, minor};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use vmm::inherited::{self, Job};

/// The only line discipline (N_TTY).
const LINE_DISCIPLINE: i32 = 0;
/// The first major number of Unix98 pseudo-terminals.
const PTS_MAJOR: u32 = 136;
/// How many major numbers they have.
const PTS_MAJORS: u32 = 8;
/// Pseudo-terminals that a sandbox may have (/proc/sys/kernel/pty/max).
const PTY_MAX: usize = 4096;
/// The group that owns pseudo-terminals: `tty` everywhere that devpts is mounted with gid=5.
const TTY_GROUP: u32 = 5;
/// The permissions of a new pseudo-terminal (devpts's mode=620).
const PTY_MODE: u32 = 0o620;

/// All terminals of a sandbox.
#[derive(Debug)]
pub(crate) struct Terminals {
    known: Mutex<Vec<Arc<Terminal>>>,
    /// Sessions that have lost their terminal to a hang-up, with the group that was in the foreground.
    hung_up: Mutex<BTreeMap<Pid, Option<Pid>>>,
    /// The monitor's job.
    job: Job,
}

impl Default for Terminals {
    fn default() -> Self {
        Self {
            known: Mutex::new(Rank::Leaf, Vec::new()),
            hung_up: Mutex::new(Rank::Leaf, BTreeMap::new()),
            job: inherited::job(),
        }
    }
}

impl Terminals {
    /// Adds a host descriptor of a terminal: a new terminal, or another way to open a known one.
    pub(crate) fn add(&self, fd: OwnedFd, access: OpenFlags) -> Result<Arc<Terminal>, Errno> {
        let stat = crate::fs::host::stat(fd.as_fd())?;
        let controlling = host::is_controlling(&fd, self.job);
        let name = host::name(&fd, stat.rdev);
        let mut known = self.known.lock();
        let same = |terminal: &&Arc<Terminal>| terminal.rdev == stat.rdev && terminal.host().is_some();
        if let Some(terminal) = known.iter().find(same).cloned() {
            drop(known);
            if let Some(host) = terminal.host() {
                host.add(fd, access);
            }
            return Ok(terminal);
        }
        // The first process inherits the caller's controlling terminal.
        let first = controlling.then_some(crate::kernel::INIT);
        let terminal = Arc::new(Terminal {
            rdev: stat.rdev,
            name,
            attributes: Attributes { mode: stat.mode, uid: stat.uid, gid: stat.gid },
            control: Mutex::new(Rank::Leaf, Control { session: first, foreground: first }),
            node: OnceLock::new(),
            device: Device::Host(HostTerminal::new(fd, access, self.job)),
        });
        known.push(Arc::clone(&terminal));
        Ok(terminal)
    }

    /// Makes a pseudo-terminal with the lowest free number, owned by `uid`; `ENOSPC` if there are too many.
    fn add_pty(&self, uid: u32) -> Result<Arc<Terminal>, Errno> {
        let mut known = self.known.lock();
        if known.len() >= PTY_MAX {
            return Err(Errno::ENOSPC);
        }
        let taken: Vec<u64> = known.iter().map(|terminal| terminal.rdev).collect();
        let number = (0..PTS_MAJORS * 256).find(|number| !taken.contains(&rdev(*number))).ok_or(Errno::ENOSPC)?;
        let terminal = Arc::new(Terminal {
            rdev: rdev(number),
            name: format!("pts/{number}").into_bytes(),
            attributes: Attributes { mode: PTY_MODE, uid, gid: TTY_GROUP },
            control: Mutex::new(Rank::Leaf, Control::default()),
            node: OnceLock::new(),
            device: Device::Pty(Box::new(Pty::new(number))),
        });
        known.push(Arc::clone(&terminal));
        Ok(terminal)
    }

    /// Forgets a pseudo-terminal whose outside is gone.
    fn remove(&self, terminal: &Arc<Terminal>) {
        self.known.lock().retain(|known| !Arc::ptr_eq(known, terminal));
    }

    /// All terminals.
    pub(crate) fn all(&self) -> Vec<Arc<Terminal>> {
        self.known.lock().clone()
    }

    /// Finds a terminal by its device number.
    fn find(&self, rdev: u64) -> Option<Arc<Terminal>> {
        self.known.lock().iter().find(|terminal| terminal.rdev == rdev).cloned()
    }

    /// Finds a session's controlling terminal.
    pub(crate) fn controlling(&self, session: Pid) -> Option<Arc<Terminal>> {
        self.all().into_iter().find(|terminal| terminal.control().session == Some(session))
    }

    /// Finds a process's controlling terminal: its session's, unless it has given that up.
    pub(crate) fn of_group(&self, group: &ThreadGroup) -> Option<Arc<Terminal>> {
        if group.has_left_terminal() { None } else { self.controlling(group.session()) }
    }

    fn of_task(&self, task: &CurrentTask<'_>) -> Option<Arc<Terminal>> {
        self.of_group(task.group())
    }

    fn remember_hung_up(&self, session: Pid, foreground: Option<Pid>) {
        self.hung_up.lock().insert(session, foreground);
    }

    fn forget_hung_up(&self, session: Pid) -> Option<Pid> {
        self.hung_up.lock().remove(&session).flatten()
    }
}

/// The device number of a pseudo-terminal.
fn rdev(number: u32) -> u64 {
    makedev(PTS_MAJOR + number / 256, number % 256)
}

/// The number of the pseudo-terminal with a device number.
fn pty_number(rdev: u64) -> Option<u32> {
    let (major, minor) = (major(rdev), minor(rdev));
    (PTS_MAJOR..PTS_MAJOR + PTS_MAJORS).contains(&major).then(|| (major - PTS_MAJOR) * 256 + minor)
}

/// A terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    rdev: u64,
    name: Vec<u8>,
    attributes: Attributes,
    control: Mutex<Control>,
    /// Its node in devpts, which keeps what chmod and chown changed.
    node: OnceLock<Arc<dyn Inode>>,
    device: Device,
}

/// Permission bits, owner and group that a terminal's node starts with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

#[derive(Debug)]
enum Device {
    Host(HostTerminal),
    Pty(Box<Pty>),
}

impl Terminal {
    /// The device number.
    pub(crate) fn rdev(&self) -> u64 {
        self.rdev
    }

    /// The path below /dev: `pts/3`.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Its number, for one that lies in devpts.
    pub(crate) fn number(&self) -> Option<u32> {
        pty_number(self.rdev)
    }

    /// Permission bits, owner and group that its node starts with.
    pub(crate) fn attributes(&self) -> Attributes {
        self.attributes
    }

    /// Its node in devpts, which `make` makes at first.
    pub(crate) fn node(&self, make: impl FnOnce() -> Arc<dyn Inode>) -> Arc<dyn Inode> {
        Arc::clone(self.node.get_or_init(make))
    }

    /// Whose it is.
    pub(crate) fn control(&self) -> Control {
        *self.control.lock()
    }

    /// Tells whether it is the caller's, and the caller's shell has lent it to another job for now.
    fn is_lent(&self) -> bool {
        self.host().is_some_and(HostTerminal::is_lent)
    }

    fn host(&self) -> Option<&HostTerminal> {
        match &self.device {
            Device::Host(host) => Some(host),
            Device::Pty(_) => None,
        }
    }

    fn pty(&self) -> Option<&Pty> {
        match &self.device {
            Device::Pty(pty) => Some(pty),
            Device::Host(_) => None,
        }
    }

    /// An open file with this access: `EACCES` if the caller handed over no descriptor that permits it; `EIO` for a pseudo-terminal
    /// that is locked or whose outside is gone, `EBUSY` for one in exclusive use.
    pub(crate) fn open(self: &Arc<Self>, flags: OpenFlags, privileged: bool) -> Result<Arc<dyn File>, Errno> {
        match &self.device {
            Device::Host(_) => host::open(self, flags),
            Device::Pty(_) => pty::open(self, flags, privileged),
        }
    }
}

/// Opens the terminal with this device number; `ENXIO` if the sandbox has no such device. A session leader without a controlling
/// terminal gets it as one, unless O_NOCTTY is given.
pub(crate) fn open(task: &CurrentTask<'_>, rdev: u64, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
    let terminal = task.kernel().terminals().find(rdev).ok_or(Errno::ENXIO)?;
    let file = terminal.open(flags, task.credentials().has(control::CAP_SYS_ADMIN))?;
    control::adopt_on_open(task, &terminal, flags);
    Ok(file)
}

/// Opens /dev/tty: the controlling terminal, or `ENXIO`.
pub(crate) fn open_controlling(task: &CurrentTask<'_>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
    let terminal = task.kernel().terminals().of_task(task).ok_or(Errno::ENXIO)?;
    terminal.open(flags, task.credentials().has(control::CAP_SYS_ADMIN))
}

/// Opens /dev/ptmx: a new pseudo-terminal's outside. Its inside is locked at first.
pub(crate) fn open_multiplexer(task: &CurrentTask<'_>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
    let terminal = task.kernel().terminals().add_pty(task.credentials().fsuid)?;
    Ok(Arc::new(MasterFile::new(task.kernel(), terminal, flags)))
}

/// Makes a pseudo-terminal that controls the session of `leader`'s, whose outside the monitor holds; see [`OutsideEnd`].
pub(crate) fn open_for_leader(
    kernel: &Arc<Kernel>,
    uid: u32,
    leader: Pid,
) -> Result<(Arc<Terminal>, OutsideEnd), Errno> {
    let terminal = kernel.terminals().add_pty(uid)?;
    *terminal.control.lock() = Control { session: Some(leader), foreground: Some(leader) };
    let outside = OutsideEnd::new(kernel, Arc::clone(&terminal));
    Ok((terminal, outside))
}

/// Makes a pseudo-terminal for the first process, whose outside the monitor holds; see [`OutsideEnd`].
pub(crate) fn open_for_caller(kernel: &Arc<Kernel>, uid: u32) -> Result<(Arc<Terminal>, OutsideEnd), Errno> {
    let (terminal, outside) = open_for_leader(kernel, uid, crate::kernel::INIT)?;
    // Before the caller's becomes raw; what is none keeps what a new terminal starts with.
    if let Ok(modes) = host::settings::get(rustix::stdio::stdin()) {
        outside.adopt(&modes);
    }
    Ok((terminal, outside))
}
