//! The keeper: a process that outlives the monitor by a moment, to make a terminal that it left raw usable again.
//!
//! Nothing in a process can act on SIGKILL, so the modes are in the hands of another one. It is this program again (a fork of the
//! monitor would hold copies of the sandbox's memory), exists with `-t` only, and ends with the monitor. It holds the
//! terminal, a socket to the monitor and /dev/null. Its session is its own: a signal to the job does not reach it, and it may
//! change a terminal that controls another session without being stopped for it.

use rustix::io::Errno;
use rustix::process::{chdir, setsid};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::ffi::OsStr;
use std::io::{self, stdin, stdout};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::same;

/// The one argument that makes this program a keeper. It is no command: nothing but the monitor has a use for it.
const ARGUMENT: &str = "@keep-terminal";

/// A keeper of the terminal on standard input, as the monitor has it. It goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    process: Child,
    /// Closed by the kernel if not by us: that is what the keeper waits for.
    life: Option<UnixStream>,
}

impl Keeper {
    /// Starts one. It is at work when [`Keeper::ready`] has returned.
    pub(crate) fn start() -> io::Result<Self> {
        vmm::inherited::keep_from_programs();
        let (life, its) = UnixStream::pair()?;
        let process = Command::new("/proc/self/exe")
            .arg0("picovisor")
            .arg(ARGUMENT)
            .env_clear()
            .stdin(Stdio::inherit())
            .stdout(OwnedFd::from(its))
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { process, life: Some(life) })
    }

    /// Waits until it knows the terminal's modes, which so must not have changed before.
    pub(crate) fn ready(&self) -> io::Result<()> {
        let Some(life) = &self.life else { return Ok(()) };
        match rustix::io::retry_on_intr(|| rustix::io::read(life, &mut [0; 1]))? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.life = None;
        // Without children only if the caller ignores SIGCHLD; the keeper goes all the same.
        let _ = self.process.wait();
    }
}

/// Does a keeper's work if this process was started as one; false if not.
pub(crate) fn keep_if_asked(arguments: &[impl AsRef<OsStr>]) -> bool {
    let asked = matches!(arguments, [_, only] if only.as_ref() == ARGUMENT);
    if asked {
        // Without the modes, or the monitor, there is nothing to keep; there is nobody to tell, either.
        let _ = keep();
    }
    asked
}

fn keep() -> Result<(), Errno> {
    // Fails for the leader of a process group only, which the monitor's child is not.
    let _ = setsid();
    let _ = rustix::thread::set_name(c"picovisor-keep");
    // Keeps no file system busy.
    let _ = chdir("/");
    let modes = tcgetattr(stdin())?;
    let mut raw = modes.clone();
    raw.make_raw();
    rustix::io::write(stdout(), b"k")?;
    // The monitor writes nothing: this ends when the last of its threads has let go of its descriptors, and so before its
    // parent, which may want the terminal, learns of its death.
    while rustix::io::read(stdout(), &mut [0; 1]) == Err(Errno::INTR) {}
    // Other modes than the monitor's are what somebody else has set since.
    if same(&tcgetattr(stdin())?, &raw) {
        tcsetattr(stdin(), OptionalActions::Now, &modes)?;
    }
    Ok(())
}
