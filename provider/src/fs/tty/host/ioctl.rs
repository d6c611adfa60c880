//! Terminal control, see ioctl_tty(2).

use super::super::LINE_DISCIPLINE;
use super::super::control::check_foreground;
use super::{Terminal, settings};
use crate::abi::termios::{Termios, Termios2, WindowSize};
use crate::errno::Errno;
use crate::signal::Signal;
use crate::task::CurrentTask;
use crate::user::{UserIn, UserOut};
use linux_raw_sys::ioctl as number;
use rustix::termios::{
    Action, OptionalActions, QueueSelector, Winsize, ioctl_tiocexcl, ioctl_tiocnxcl, tcdrain, tcflow, tcflush,
    tcgetwinsize, tcsendbreak, tcsetwinsize,
};
use std::os::fd::BorrowedFd;
use vmm::addr::UserAddr;

/// What a process in the background may not do.
const CHANGING: [u32; 11] = [
    number::TCSETS,
    number::TCSETSW,
    number::TCSETSF,
    number::TCSETS2,
    number::TCSETSW2,
    number::TCSETSF2,
    number::TCFLSH,
    number::TCXONC,
    number::TCSBRK,
    number::TCSBRKP,
    number::TIOCSETD,
];

/// Serves a request on a terminal's host descriptor; `ENOTTY` for one that it does not know.
pub(super) fn control(
    task: &CurrentTask<'_>,
    terminal: &Terminal,
    fd: BorrowedFd<'_>,
    request: u32,
    arg: u64,
) -> Result<u64, Errno> {
    let at = UserAddr(arg);
    if CHANGING.contains(&request) {
        check_foreground(task, terminal, Signal::SIGTTOU)?;
    }
    match request {
        number::TCGETS => UserOut::new(at).write(task, &settings::get(fd)?.termios)?,
        number::TCGETS2 => UserOut::new(at).write(task, &settings::get(fd)?)?,
        number::TCSETS => set(task, fd, OptionalActions::Now, at)?,
        number::TCSETSW => set(task, fd, OptionalActions::Drain, at)?,
        number::TCSETSF => set(task, fd, OptionalActions::Flush, at)?,
        number::TCSETS2 => set2(task, fd, OptionalActions::Now, at)?,
        number::TCSETSW2 => set2(task, fd, OptionalActions::Drain, at)?,
        number::TCSETSF2 => set2(task, fd, OptionalActions::Flush, at)?,
        number::TIOCGWINSZ => {
            let size = tcgetwinsize(fd)?;
            let size = WindowSize {
                rows: size.ws_row,
                columns: size.ws_col,
                x_pixels: size.ws_xpixel,
                y_pixels: size.ws_ypixel,
            };
            UserOut::new(at).write(task, &size)?;
        }
        number::TIOCSWINSZ => {
            let size = UserIn::<WindowSize>::new(at).read(task)?;
            let size =
                Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: size.x_pixels, ws_ypixel: size.y_pixels };
            tcsetwinsize(fd, size)?;
        }
        number::FIONREAD => {
            let waiting = i32::try_from(rustix::io::ioctl_fionread(fd)?).unwrap_or(i32::MAX);
            UserOut::new(at).write(task, &waiting)?;
        }
        number::TCFLSH => {
            let queue = match arg {
                0 => QueueSelector::IFlush,
                1 => QueueSelector::OFlush,
                2 => QueueSelector::IOFlush,
                _ => return Err(Errno::EINVAL),
            };
            tcflush(fd, queue)?;
        }
        number::TCXONC => {
            let action = match arg {
                0 => Action::OOff,
                1 => Action::OOn,
                2 => Action::IOff,
                3 => Action::IOn,
                _ => return Err(Errno::EINVAL),
            };
            tcflow(fd, action)?;
        }
        // An argument of 0 sends a break; any other waits for the output to drain (tcdrain).
        number::TCSBRK if arg == 0 => tcsendbreak(fd)?,
        number::TCSBRK => tcdrain(fd)?,
        number::TCSBRKP => tcsendbreak(fd)?,
        number::TIOCEXCL => ioctl_tiocexcl(fd)?,
        number::TIOCNXCL => ioctl_tiocnxcl(fd)?,
        number::TIOCGETD => UserOut::new(at).write(task, &LINE_DISCIPLINE)?,
        number::TIOCGDEV => {
            let rdev = u32::try_from(terminal.rdev()).map_err(|_| Errno::EOVERFLOW)?;
            UserOut::new(at).write(task, &rdev)?;
        }
        _ => return Err(task.unsupported("ioctl: a terminal request", Errno::ENOTTY)),
    }
    Ok(0)
}

fn set(task: &CurrentTask<'_>, fd: BorrowedFd<'_>, when: OptionalActions, at: UserAddr) -> Result<(), Errno> {
    let new = UserIn::<Termios>::new(at).read(task)?;
    settings::set(fd, when, &new, None)
}

fn set2(task: &CurrentTask<'_>, fd: BorrowedFd<'_>, when: OptionalActions, at: UserAddr) -> Result<(), Errno> {
    let new = UserIn::<Termios2>::new(at).read(task)?;
    settings::set(fd, when, &new.termios, Some((new.c_ispeed, new.c_ospeed)))
}
