//! The discipline against the host's own: Linux is the specification.

use super::*;
use crate::abi::termios::Termios;
use crate::fs::tty::host::settings as host_settings;
use linux_raw_sys::general as raw;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::OptionalActions;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// A pseudo-terminal of the host's.
struct Host {
    outside: OwnedFd,
    inside: OwnedFd,
}

impl Host {
    fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let outside = openpt(flags).unwrap();
        grantpt(&outside).unwrap();
        unlockpt(&outside).unwrap();
        let inside = ioctl_tiocgptpeer(&outside, flags).unwrap();
        fcntl_setfl(&outside, OFlags::NONBLOCK).unwrap();
        fcntl_setfl(&inside, OFlags::NONBLOCK).unwrap();
        Self { outside, inside }
    }

    fn apply(&self, settings: &Settings) {
        let termios = settings.to_abi().termios;
        host_settings::set(self.inside.as_fd(), OptionalActions::Now, &termios, None).unwrap();
    }

    /// Reads inside; `None` if nothing is there.
    fn read(&self, limit: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; limit];
        rustix::io::read(&self.inside, &mut bytes).map(|count| bytes[..count].to_vec()).ok()
    }

    /// What has come out of the outside, and how much can be read inside. Linux moves bytes in its own time, so this looks until it sees
    /// what is expected, or long enough.
    fn observe(&self, expected: (Vec<u8>, u64)) -> (Vec<u8>, u64) {
        let patience = Instant::now() + Duration::from_secs(5);
        let mut bytes = vec![0; 1 << 16];
        let mut shown = Vec::new();
        loop {
            while let Ok(count) = rustix::io::read(&self.outside, &mut bytes) {
                shown.extend_from_slice(&bytes[..count]);
            }
            let seen = (shown, rustix::io::ioctl_fionread(&self.inside).unwrap());
            if seen == expected || Instant::now() > patience {
                return seen;
            }
            shown = seen.0;
            std::thread::yield_now();
        }
    }
}

fn read(ours: &mut LineDiscipline, limit: usize) -> Option<Vec<u8>> {
    ours.is_readable(1).then(|| ours.read(limit))
}

#[derive(Clone, Debug)]
enum Step {
    Type(Vec<u8>),
    Print(Vec<u8>),
    Read(usize),
    Set(Settings),
}

/// Any of these flags.
fn any_of(flags: &'static [u32]) -> impl Strategy<Value = u32> {
    prop::sample::subsequence(flags, 0..=flags.len()).prop_map(|some| some.into_iter().fold(0, |all, flag| all | flag))
}

/// Settings with any of the flags that mean something to a pseudo-terminal, but signals: the host's terminal has nobody to send
/// them to, and they flush what is on its way.
fn settings() -> impl Strategy<Value = Settings> {
    const INPUT: &[u32] =
        &[raw::PARMRK, raw::ISTRIP, raw::INLCR, raw::IGNCR, raw::ICRNL, raw::IUCLC, raw::IXON, raw::IXANY, raw::IUTF8];
    const OUTPUT: &[u32] = &[raw::OPOST, raw::OLCUC, raw::ONLCR, raw::OCRNL, raw::ONOCR, raw::ONLRET, raw::TAB3];
    const LOCAL: &[u32] = &[
        raw::ICANON,
        raw::ECHO,
        raw::ECHOE,
        raw::ECHOK,
        raw::ECHONL,
        raw::ECHOCTL,
        raw::ECHOPRT,
        raw::ECHOKE,
        raw::IEXTEN,
    ];
    (any_of(INPUT), any_of(OUTPUT), any_of(LOCAL), any::<bool>()).prop_map(|(c_iflag, c_oflag, c_lflag, usual)| {
        let default = Settings::default().to_abi().termios;
        let mut c_cc = default.c_cc;
        // EOL and EOL2, which are off by default.
        (c_cc[11], c_cc[16]) = (b'!', b'?');
        let c_lflag = if usual { default.c_lflag & !raw::ISIG } else { c_lflag };
        Settings::from_abi(Termios { c_iflag, c_oflag, c_lflag, c_cc, ..default }, None)
    })
}

/// Bytes of which many are special.
fn typed() -> impl Strategy<Value = Vec<u8>> {
    const SPECIAL: &[u8] = b"\x7f\x7f\x15\x04\x11\x13\x12\x17\x16\r\n\n\t\x08!?\x00\x01 ab_Z9\xc3\xa9\xe2\x82\xac\xff";
    prop::collection::vec(prop_oneof![4 => prop::sample::select(SPECIAL), 1 => any::<u8>()], 1..24)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => typed().prop_map(Step::Type),
        2 => typed().prop_map(Step::Print),
        2 => (1usize..20).prop_map(Step::Read),
        1 => settings().prop_map(Step::Set),
    ]
}

/// Reads all there is. A read that finds nothing makes sure that Linux has taken what was typed.
fn drain(host: &Host, ours: &mut LineDiscipline) -> Result<(), TestCaseError> {
    loop {
        let (mine, theirs) = (read(ours, 100), host.read(100));
        prop_assert_eq!(&mine, &theirs, "while all was read");
        if mine.is_none() {
            return Ok(());
        }
    }
}

/// Takes the steps on both terminals; every difference is a failure.
fn agree(start: Settings, steps: &[Step]) -> Result<(), TestCaseError> {
    let (host, mut ours) = (Host::new(), LineDiscipline::default());
    host.apply(&start);
    ours.change_settings(start);
    for (at, step) in steps.iter().enumerate() {
        let (theirs, mine) = match step {
            Step::Type(bytes) => {
                let count = rustix::io::write(&host.outside, bytes).unwrap();
                (count, ours.receive(bytes).0)
            }
            Step::Print(bytes) => {
                drain(&host, &mut ours)?;
                (rustix::io::write(&host.inside, bytes).unwrap_or(0), ours.write(bytes))
            }
            Step::Read(limit) => {
                let (mine, theirs) = (read(&mut ours, *limit), host.read(*limit));
                prop_assert_eq!(mine, theirs, "step {}: {:?}", at, step);
                (0, 0)
            }
            Step::Set(new) => {
                drain(&host, &mut ours)?;
                host.apply(new);
                ours.change_settings(*new);
                (0, 0)
            }
        };
        prop_assert_eq!(mine, theirs, "step {}: {:?}", at, step);
        let mine = (ours.take_output(1 << 16), u64::try_from(ours.readable_bytes()).unwrap());
        let theirs = host.observe(mine.clone());
        let readable = |(shown, waiting): (Vec<u8>, u64)| (shown.escape_ascii().to_string(), waiting);
        prop_assert_eq!(readable(mine), readable(theirs), "step {}: {:?}", at, step);
    }
    Ok(())
}

#[test]
fn agrees_with_the_hosts_discipline() {
    // The same steps each time: a difference is to be found by whoever makes it.
    let config = Config { cases: 2000, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let cases = (settings(), prop::collection::vec(step(), 1..24));
    runner.run(&cases, |(start, steps)| agree(start, &steps)).unwrap();
}
