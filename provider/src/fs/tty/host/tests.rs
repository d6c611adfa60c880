use super::*;
use crate::abi::termios::{Termios, Termios2, WindowSize};
use crate::config::{Config, User};
use crate::fs::{BufferSink, BufferSource, Fd, LastLink, stdio};
use crate::testing::{Fixture, config, fixture_with};
use linux_raw_sys::general::__NR_ioctl;
use linux_raw_sys::ioctl as number;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A sandbox whose descriptor 0 is a pseudo-terminal of the host's.
struct Terminal0 {
    fixture: Fixture,
    /// The other side.
    outside: OwnedFd,
    /// The terminal as the host knows it.
    host: OwnedFd,
    scratch: UserAddr,
}

impl Terminal0 {
    fn new() -> Self {
        let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&outside).unwrap();
        unlockpt(&outside).unwrap();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let host = ioctl_tiocgptpeer(&outside, flags).unwrap();
        // The host's terminal belongs to whoever runs the test.
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let mut fixture = fixture_with(Config { user: User { uid, gid, groups: Vec::new() }, ..config() });
        let scratch = fixture.allocate(4096);
        let task = fixture.current();
        let file = stdio::adopt(&task, host.try_clone().unwrap()).unwrap();
        task.files().replace(file, false, Fd(0), 10).unwrap();
        Self { fixture, outside, host, scratch }
    }

    fn ioctl(&mut self, request: u32, arg: u64) -> Result<u64, Errno> {
        self.fixture.returned(__NR_ioctl, &[0, request.into(), arg])
    }

    fn get<T: FromBytes + IntoBytes>(&mut self, request: u32) -> Result<T, Errno> {
        self.ioctl(request, self.scratch.0)?;
        let mut value = T::new_zeroed();
        self.fixture.task.mm().unwrap().read(self.scratch, value.as_mut_bytes()).unwrap();
        Ok(value)
    }

    fn set<T: IntoBytes + Immutable>(&mut self, request: u32, value: &T) -> Result<u64, Errno> {
        self.fixture.task.mm().unwrap().write(self.scratch, value.as_bytes()).unwrap();
        self.ioctl(request, self.scratch.0)
    }
}

#[test]
fn settings_are_the_host_terminals() {
    let mut terminal = Terminal0::new();
    let old: Termios2 = terminal.get(number::TCGETS2).unwrap();
    assert_eq!(terminal.get::<Termios>(number::TCGETS).unwrap(), old.termios);
    // A fresh pseudo-terminal: ICRNL and IXON, ^C interrupts, 38,400 bits a second.
    assert_eq!((old.termios.c_iflag, old.termios.c_cc[0], old.c_ospeed), (0o2400, 3, 38400));
    let mut raw = old.termios;
    raw.c_lflag = 0;
    raw.c_cc[0] = 7;
    raw.c_cc[16] = 9;
    terminal.set(number::TCSETS, &raw).unwrap();
    assert_eq!(terminal.get::<Termios>(number::TCGETS).unwrap(), raw);
    let host = tcgetattr(&terminal.host).unwrap();
    assert!(host.local_modes.is_empty());
    assert_eq!(terminal.set(number::TCSETSF, &old.termios), Ok(0));
    assert_eq!(terminal.get::<Termios2>(number::TCGETS2).unwrap(), old);
}

#[test]
fn any_speed_can_be_set() {
    let mut terminal = Terminal0::new();
    let mut settings: Termios2 = terminal.get(number::TCGETS2).unwrap();
    settings.termios.c_cflag = settings.termios.c_cflag & !0o10017 | 0o10000;
    (settings.c_ispeed, settings.c_ospeed) = (12345, 12345);
    terminal.set(number::TCSETS2, &settings).unwrap();
    let read: Termios2 = terminal.get(number::TCGETS2).unwrap();
    assert_eq!((read.c_ispeed, read.c_ospeed), (12345, 12345));
}

#[test]
fn the_window_has_a_size() {
    let mut terminal = Terminal0::new();
    let size = WindowSize { rows: 31, columns: 97, x_pixels: 5, y_pixels: 6 };
    terminal.set(number::TIOCSWINSZ, &size).unwrap();
    assert_eq!(terminal.get::<WindowSize>(number::TIOCGWINSZ), Ok(size));
    assert_eq!(rustix::termios::tcgetwinsize(&terminal.host).unwrap().ws_col, 97);
}

#[test]
fn bytes_go_through_the_line_discipline() {
    let mut terminal = Terminal0::new();
    let outside = terminal.outside.try_clone().unwrap();
    {
        let task = terminal.fixture.current();
        let file = task.files().get(Fd(0)).unwrap();
        let mut bytes = [0; 16];
        assert_eq!(file.read(&task, &mut BufferSink::new(&mut bytes)), Err(Errno::EAGAIN));
        assert_eq!(file.write(&task, &mut BufferSource::new(b"a\n")), Ok(2));
        assert_eq!(rustix::io::read(&outside, &mut bytes[..]).unwrap(), 3);
        assert_eq!(&bytes[..3], b"a\r\n");
        rustix::io::write(&outside, b"ab\x7fc\r").unwrap();
        // The host hands input over in the background.
        let mut arriving = [PollFd::new(&terminal.host, PollFlags::IN)];
        poll(&mut arriving, None).unwrap();
    }
    assert_eq!(terminal.get::<i32>(number::FIONREAD), Ok(3));
    let task = terminal.fixture.current();
    let file = task.files().get(Fd(0)).unwrap();
    let mut bytes = [0; 16];
    assert_eq!(file.read(&task, &mut BufferSink::new(&mut bytes)), Ok(3));
    assert_eq!(&bytes[..3], b"ac\n");
    assert_eq!(file.seek(0, 1), Err(Errno::ESPIPE));
}

#[test]
fn its_name_leads_to_the_same_device() {
    let mut terminal = Terminal0::new();
    let host = rustix::fs::fstat(&terminal.host).unwrap();
    let task = terminal.fixture.current();
    let file = task.files().get(Fd(0)).unwrap();
    let path = file.location().path();
    assert_eq!(path, rustix::termios::ttyname(&terminal.host, Vec::new()).unwrap().as_bytes());
    let namespace = task.kernel().namespace();
    let named = namespace.walk(&task, None, &path, LastLink::Follow).unwrap().inode().stat().unwrap();
    let open = file.location().inode().stat().unwrap();
    assert_eq!((named.rdev, named.device, named.inode), (open.rdev, open.device, open.inode));
    assert_eq!((open.rdev, open.mode), (host.st_rdev, host.st_mode & 0o7777));
    let again = namespace.open(&task, None, &path, OpenFlags::RDWR, 0).unwrap();
    assert_eq!(again.write(&task, &mut BufferSource::new(b"x")), Ok(1));
}

#[test]
fn a_terminal_that_nobody_controls_becomes_the_sessions_when_it_is_opened() {
    let mut terminal = Terminal0::new();
    // The host's terminal is not the controlling terminal of the test's session.
    assert_eq!(terminal.ioctl(number::TIOCGPGRP, terminal.scratch.0), Err(Errno::ENOTTY));
    let open = |terminal: &mut Terminal0, path: &[u8], flags| {
        let task = terminal.fixture.current();
        let opened = task.kernel().namespace().open(&task, None, path, flags, 0);
        opened.map(|_| ())
    };
    let path = {
        let task = terminal.fixture.current();
        task.files().get(Fd(0)).unwrap().location().path()
    };
    open(&mut terminal, &path, OpenFlags::RDWR | OpenFlags::NOCTTY).unwrap();
    assert_eq!(open(&mut terminal, b"/dev/tty", OpenFlags::RDWR), Err(Errno::ENXIO));
    open(&mut terminal, &path, OpenFlags::RDWR).unwrap();
    open(&mut terminal, b"/dev/tty", OpenFlags::RDWR).unwrap();
    assert_eq!(terminal.get::<i32>(number::TIOCGSID), Ok(1));
    assert_eq!(terminal.ioctl(number::TIOCSCTTY, 0), Ok(0));
    assert_eq!(terminal.set(number::TIOCSPGRP, &-1i32), Err(Errno::EINVAL));
    assert_eq!(terminal.set(number::TIOCSPGRP, &77i32), Err(Errno::ESRCH));
    assert_eq!(terminal.set(number::TIOCSPGRP, &1i32), Ok(0));
}

#[test]
fn other_requests_are_refused_as_linux_does() {
    let mut terminal = Terminal0::new();
    assert_eq!(terminal.ioctl(number::TCFLSH, 3), Err(Errno::EINVAL));
    assert_eq!(terminal.ioctl(number::TCFLSH, 2), Ok(0));
    assert_eq!(terminal.ioctl(number::TCXONC, 9), Err(Errno::EINVAL));
    assert_eq!(terminal.ioctl(number::TCSBRK, 1), Ok(0));
    assert_eq!(terminal.ioctl(0x1234_5678, 0), Err(Errno::ENOTTY));
    assert_eq!(terminal.ioctl(number::TCGETS, 8), Err(Errno::EFAULT));
    assert_eq!(terminal.fixture.kernel.counters().list().len(), 1);
}
