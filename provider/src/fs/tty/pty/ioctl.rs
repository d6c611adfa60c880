//! Control of pseudo-terminals, see ioctl_tty(2).

use super::super::LINE_DISCIPLINE;
use super::super::control::check_foreground;
use super::super::ldisc::{Effects, PacketStatus, Settings};
use super::slave::is_privileged;
use super::{Pty, Terminal};
use crate::abi::termios::{Termio, Termios, Termios2, WindowSize};
use crate::errno::Errno;
use crate::fs::{LastLink, OpenFile, OpenFlags};
use crate::signal::Signal;
use crate::task::{CurrentTask, Resource};
use crate::user::{UserIn, UserOut};
use linux_raw_sys::general::{VSTART, VSTOP};
use linux_raw_sys::ioctl as number;
use vmm::addr::UserAddr;

/// What a process in the background may not do (tty_ioctl, n_tty_ioctl_helper).
const CHANGING: [u32; 15] = [
    number::TCSETS,
    number::TCSETSW,
    number::TCSETSF,
    number::TCSETS2,
    number::TCSETSW2,
    number::TCSETSF2,
    number::TCSETA,
    number::TCSETAW,
    number::TCSETAF,
    number::TCFLSH,
    number::TCXONC,
    number::TCSBRK,
    number::TCSBRKP,
    number::TIOCSBRK,
    number::TIOCSETD,
];

/// Serves a request on the outside.
pub(super) fn outside(
    task: &CurrentTask<'_>,
    terminal: &Terminal,
    pty: &Pty,
    request: u32,
    arg: u64,
) -> Result<u64, Errno> {
    let at = UserAddr(arg);
    match request {
        number::TIOCGPTN => UserOut::new(at).write(task, &pty.number)?,
        number::TIOCSPTLCK => {
            let locked = UserIn::<i32>::new(at).read(task)? != 0;
            pty.state.lock().locked = locked;
        }
        number::TIOCGPTLCK => {
            let locked = i32::from(pty.state.lock().locked);
            UserOut::new(at).write(task, &locked)?;
        }
        number::TIOCPKT => {
            let on = UserIn::<i32>::new(at).read(task)? != 0;
            let packet = &mut pty.state.lock().packet;
            *packet = on.then(|| packet.unwrap_or_default());
        }
        number::TIOCGPKT => {
            let on = i32::from(pty.state.lock().packet.is_some());
            UserOut::new(at).write(task, &on)?;
        }
        number::TIOCSIG => {
            let wanted = i32::try_from(arg).ok().and_then(Signal::from_raw);
            let signal = wanted.filter(|signal| [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP].contains(signal));
            super::control::signal_foreground(task.kernel(), terminal, &[signal.ok_or(Errno::EINVAL)?]);
        }
        number::TIOCGPTPEER => return open_peer(task, terminal, arg),
        number::FIONREAD => {
            let waiting = i32::try_from(pty.state.lock().line.output_len()).unwrap_or(i32::MAX);
            UserOut::new(at).write(task, &waiting)?;
        }
        number::TCFLSH => {
            match arg {
                0 => pty.state.lock().line.discard_output(),
                1 => pty.state.lock().arriving.clear(),
                2 => {
                    let mut state = pty.state.lock();
                    state.line.discard_output();
                    state.arriving.clear();
                }
                _ => return Err(Errno::EINVAL),
            }
            pty.inside.wake_all();
        }
        number::TIOCSTI => return Err(if is_privileged(task) { Errno::EPERM } else { Errno::EIO }),
        _ => return both(task, terminal, pty, request, arg),
    }
    Ok(0)
}

/// Serves a request on the inside.
pub(super) fn inside(
    task: &CurrentTask<'_>,
    terminal: &Terminal,
    pty: &Pty,
    request: u32,
    arg: u64,
) -> Result<u64, Errno> {
    let at = UserAddr(arg);
    if CHANGING.contains(&request) {
        check_foreground(task, terminal, Signal::SIGTTOU)?;
    }
    match request {
        number::FIONREAD => {
            let waiting = i32::try_from(pty.state.lock().line.readable_bytes()).unwrap_or(i32::MAX);
            UserOut::new(at).write(task, &waiting)?;
        }
        number::TCFLSH => flush(task, terminal, pty, arg)?,
        number::TCXONC => control_flow(task, terminal, pty, arg)?,
        // Typing on others' behalf was a hole through which programs left their terminal; Linux has it off by default.
        number::TIOCSTI if !is_privileged(task) => return Err(Errno::EIO),
        number::TIOCSTI => {
            let byte = UserIn::<u8>::new(at).read(task)?;
            terminal.type_in(task.kernel(), pty, &[byte]);
        }
        _ => return both(task, terminal, pty, request, arg),
    }
    Ok(0)
}

/// Serves what both sides know.
fn both(task: &CurrentTask<'_>, terminal: &Terminal, pty: &Pty, request: u32, arg: u64) -> Result<u64, Errno> {
    let at = UserAddr(arg);
    match request {
        number::TCGETS => UserOut::new(at).write(task, &pty.settings().to_abi().termios)?,
        number::TCGETS2 => UserOut::new(at).write(task, &pty.settings().to_abi())?,
        number::TCGETA => UserOut::new(at).write(task, &Termio::from(&pty.settings().to_abi().termios))?,
        number::TCSETS | number::TCSETSW | number::TCSETSF => {
            let new = UserIn::<Termios>::new(at).read(task)?;
            let old = pty.settings().to_abi();
            let new = Settings::from_abi(new, Some((old.c_ispeed, old.c_ospeed)));
            set(task, terminal, pty, new, request == number::TCSETSF);
        }
        number::TCSETS2 | number::TCSETSW2 | number::TCSETSF2 => {
            let new = UserIn::<Termios2>::new(at).read(task)?;
            let new = Settings::from_abi(new.termios, Some((new.c_ispeed, new.c_ospeed)));
            set(task, terminal, pty, new, request == number::TCSETSF2);
        }
        number::TCSETA | number::TCSETAW | number::TCSETAF => {
            let new = UserIn::<Termio>::new(at).read(task)?;
            let old = pty.settings().to_abi();
            let new = Settings::from_abi(new.over(old.termios), Some((old.c_ispeed, old.c_ospeed)));
            set(task, terminal, pty, new, request == number::TCSETAF);
        }
        // No setting is ever locked.
        number::TIOCGLCKTRMIOS => UserOut::new(at).write(task, &Termios::default())?,
        number::TIOCGWINSZ => UserOut::new(at).write(task, &pty.window())?,
        number::TIOCSWINSZ => {
            let size = UserIn::<WindowSize>::new(at).read(task)?;
            terminal.resize(task.kernel(), pty, size);
        }
        // What is printed is with the other side at once.
        number::TIOCOUTQ => UserOut::new(at).write(task, &0i32)?,
        // A pseudo-terminal has no line on which to send a break, and nothing to wait for.
        number::TCSBRK | number::TCSBRKP | number::TIOCSBRK | number::TIOCCBRK => {}
        number::TIOCEXCL => pty.state.lock().exclusive = true,
        number::TIOCNXCL => pty.state.lock().exclusive = false,
        number::TIOCGEXCL => {
            let exclusive = i32::from(pty.state.lock().exclusive);
            UserOut::new(at).write(task, &exclusive)?;
        }
        number::TIOCGETD => UserOut::new(at).write(task, &LINE_DISCIPLINE)?,
        number::TIOCSETD => {
            if UserIn::<i32>::new(at).read(task)? != LINE_DISCIPLINE {
                return Err(task.unsupported("ioctl: TIOCSETD other than N_TTY", Errno::EINVAL));
            }
        }
        number::TIOCGDEV => {
            let rdev = u32::try_from(terminal.rdev()).map_err(|_| Errno::EOVERFLOW)?;
            UserOut::new(at).write(task, &rdev)?;
        }
        number::TIOCVHANGUP if is_privileged(task) => terminal.hang_up(task.kernel(), pty),
        number::TIOCVHANGUP => return Err(Errno::EPERM),
        _ => return Err(task.unsupported("ioctl: a terminal request", Errno::ENOTTY)),
    }
    Ok(0)
}

fn set(task: &CurrentTask<'_>, terminal: &Terminal, pty: &Pty, new: Settings, flushes: bool) {
    terminal.with_pty(task.kernel(), pty, |state| {
        let flushed = if flushes { flush_input(state) } else { PacketStatus::empty() };
        let effects = state.line.change_settings(new);
        // What could not be taken before may be now.
        let pumped = state.pump();
        ((), Effects { packet: flushed, ..Effects::default() }.then(effects).then(pumped))
    });
}

fn flush_input(state: &mut super::State) -> PacketStatus {
    state.arriving.clear();
    state.line.flush_input()
}

/// TCFLSH.
fn flush(task: &CurrentTask<'_>, terminal: &Terminal, pty: &Pty, queue: u64) -> Result<(), Errno> {
    if queue > 2 {
        return Err(Errno::EINVAL);
    }
    terminal.with_pty(task.kernel(), pty, |state| {
        let input = if queue != 1 { flush_input(state) } else { PacketStatus::empty() };
        let output = if queue != 0 { state.line.flush_output() } else { PacketStatus::empty() };
        ((), Effects { packet: input | output, ..Effects::default() })
    });
    Ok(())
}

/// TCXONC: stops and starts the output, or asks the other side to.
fn control_flow(task: &CurrentTask<'_>, terminal: &Terminal, pty: &Pty, action: u64) -> Result<(), Errno> {
    if action > 3 {
        return Err(Errno::EINVAL);
    }
    terminal.with_pty(task.kernel(), pty, |state| {
        let packet = match action {
            0 => state.line.stop_by_program(),
            1 => state.line.start_by_program(),
            other => {
                state.line.send_character(if other == 2 { VSTOP } else { VSTART });
                PacketStatus::empty()
            }
        };
        ((), Effects { packet, ..Effects::default() })
    });
    Ok(())
}

/// TIOCGPTPEER: opens the inside, whatever the paths in /dev lead to.
fn open_peer(task: &CurrentTask<'_>, terminal: &Terminal, flags: u64) -> Result<u64, Errno> {
    let flags = OpenFlags::from_bits_retain(u32::try_from(flags).map_err(|_| Errno::EINVAL)?);
    let terminals = task.kernel().terminals();
    let terminal = terminals.find(terminal.rdev()).ok_or(Errno::EIO)?;
    let path = [b"/dev/", terminal.name()].concat();
    let location = task.kernel().namespace().walk(task, None, &path, LastLink::Follow)?;
    let file = terminal.open(flags, is_privileged(task))?;
    super::control::adopt_on_open(task, &terminal, flags);
    let limit = task.group().limits().soft(Resource::Files);
    let fd = task.files().insert(OpenFile::new(file, location, flags), flags.contains(OpenFlags::CLOEXEC), 0, limit)?;
    Ok(u64::try_from(fd.0).unwrap_or_default())
}
