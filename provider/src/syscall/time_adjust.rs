//! adjtimex(2) and clock_adjtime(2) of a clock that nothing disciplines (kernel/time/ntp.c, timekeeping.c).
//!
//! The time is the host's. A program may look at the state of the clock, and sees what Linux shows until a time daemon sets it; what
//! would change the clock is checked as Linux checks it, and refused.

use super::constants::ClockNumber;
use crate::errno::Errno;
use crate::task::CurrentTask;
use crate::time::{ClockId, Timeval};
use crate::user::UserInOut;
use vmm::clock::ClockKind;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// CAP_SYS_TIME
const CAP_SYS_TIME: u32 = 25;

/// ADJ_FREQUENCY
const FREQUENCY: u32 = 0x2;
/// ADJ_SETOFFSET
const SETOFFSET: u32 = 0x100;
/// ADJ_NANO: the step is in nanoseconds.
const NANO: u32 = 0x2000;
/// ADJ_TICK
const TICK: u32 = 0x4000;
/// ADJ_ADJTIME: it is adjtime(3), which gives no other mode than these two.
const ADJTIME: u32 = 0x8000;
/// ADJ_OFFSET_SINGLESHOT, without which there is no `ADJTIME`.
const SINGLESHOT: u32 = 0x1;
/// ADJ_OFFSET_READONLY: adjtime(3) only asks.
const READONLY: u32 = 0x2000;

/// The clock follows no other (STA_UNSYNC).
const UNSYNCHRONIZED: i32 = 0x40;
/// What the call returns then (TIME_ERROR).
const TIME_ERROR: i32 = 5;
/// Microseconds by which a clock may be wrong of which nothing is known (NTP_PHASE_LIMIT).
const UNKNOWN_ERROR: i64 = 16_000_000;
/// The loop's time constant at the start.
const TIME_CONSTANT: i64 = 2;
/// The precision in microseconds.
const PRECISION: i64 = 1;
/// The most that the frequency may be off: 500 ppm in units of 2⁻¹⁶ ppm.
const TOLERANCE: i64 = 500 << 16;
/// Microseconds between two ticks at USER_HZ.
const TICK_US: i64 = 10_000;
/// Ticks that are not more than a tenth off.
const TICKS: std::ops::RangeInclusive<i64> = 9_000..=11_000;
/// Frequencies that do not overflow when they are scaled to nanoseconds a second (PPM_SCALE).
const FREQUENCIES: std::ops::RangeInclusive<i64> = i64::MIN / PPM_SCALE..=i64::MAX / PPM_SCALE;
const PPM_SCALE: i64 = 1000 << 16;

/// `struct timex`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Timex {
    modes: u32,
    padding: u32,
    offset: i64,
    freq: i64,
    maxerror: i64,
    esterror: i64,
    status: i32,
    padding2: i32,
    constant: i64,
    precision: i64,
    tolerance: i64,
    time: Timeval,
    tick: i64,
    /// Of a pulse-per-second source, which is not there: zeros.
    pulse: [i64; 8],
    tai: i32,
    reserved: [i32; 11],
}

const _: () = assert!(size_of::<Timex>() == 208, "struct timex has 208 bytes");

pub(super) fn adjtimex(task: &CurrentTask<'_>, state: UserInOut<Timex>) -> Result<i32, Errno> {
    let asked = state.read(task)?;
    adjust(task, &asked)?;
    state.write(task, &current(task, asked.modes))?;
    Ok(TIME_ERROR)
}

/// Only the real-time clock can be adjusted.
pub(super) fn clock_adjtime(task: &CurrentTask<'_>, clock: ClockNumber, state: UserInOut<Timex>) -> Result<i32, Errno> {
    let asked = state.read(task)?;
    match ClockId::from_raw(task, clock.0)? {
        ClockId::Running(ClockKind::Wall) => {}
        _ => return Err(Errno::EOPNOTSUPP),
    }
    adjust(task, &asked)?;
    state.write(task, &current(task, asked.modes))?;
    Ok(TIME_ERROR)
}

/// Refuses what would change the clock, and first what makes no sense (timekeeping_validate_timex).
fn adjust(task: &CurrentTask<'_>, asked: &Timex) -> Result<(), Errno> {
    let has = |mode: u32| asked.modes & mode == mode;
    let may_set = task.credentials().has(CAP_SYS_TIME);
    if has(ADJTIME) && !has(SINGLESHOT) {
        return Err(Errno::EINVAL);
    }
    let changes = if has(ADJTIME) { !has(READONLY) } else { asked.modes != 0 };
    if (changes || has(SETOFFSET)) && !may_set {
        return Err(Errno::EPERM);
    }
    if !has(ADJTIME) && has(TICK) && !TICKS.contains(&asked.tick) {
        return Err(Errno::EINVAL);
    }
    let unit = if has(NANO) { 1_000_000_000 } else { 1_000_000 };
    if has(SETOFFSET) && !(0..unit).contains(&asked.time.microseconds) {
        return Err(Errno::EINVAL);
    }
    if has(FREQUENCY) && !FREQUENCIES.contains(&asked.freq) {
        return Err(Errno::EINVAL);
    }
    if changes { Err(task.unsupported("adjtimex: changes", Errno::EPERM)) } else { Ok(()) }
}

/// The state of the clock.
fn current(task: &CurrentTask<'_>, modes: u32) -> Timex {
    Timex {
        modes,
        padding: 0,
        offset: 0,
        freq: 0,
        maxerror: UNKNOWN_ERROR,
        esterror: UNKNOWN_ERROR,
        status: UNSYNCHRONIZED,
        padding2: 0,
        constant: TIME_CONSTANT,
        precision: PRECISION,
        tolerance: TOLERANCE,
        time: Timeval::from_nanoseconds(task.kernel().now(ClockKind::Wall)),
        tick: TICK_US,
        pulse: [0; 8],
        tai: 0,
        reserved: [0; 11],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, User};
    use crate::testing::{Fixture, config, fixture, fixture_with};
    use linux_raw_sys::general::{__NR_adjtimex, __NR_clock_adjtime};
    use zerocopy::FromZeros;

    fn administrator() -> Fixture {
        fixture_with(Config { user: User { uid: 0, gid: 0, groups: vec![] }, ..config() })
    }

    /// Asks with these values as an administrator; returns the result and what was written.
    fn ask(change: impl FnOnce(&mut Timex)) -> (Result<u64, Errno>, Timex) {
        let mut fixture = administrator();
        let mut asked = Timex::new_zeroed();
        change(&mut asked);
        let at = fixture.put(&asked);
        let result = fixture.returned(__NR_adjtimex, &[at.0]);
        (result, fixture.get(at))
    }

    #[test]
    fn the_state_is_that_of_a_clock_that_nothing_disciplines() {
        let (result, shown) = ask(|_| {});
        assert_eq!(result, Ok(5));
        assert_eq!((shown.status, shown.tick, shown.tolerance, shown.tai), (0x40, 10_000, 32_768_000, 0));
        assert!(shown.time.seconds > 1_700_000_000 && (0..1_000_000).contains(&shown.time.microseconds));
        // adjtime(3) with nothing to set.
        let (result, shown) = ask(|asked| (asked.modes, asked.offset) = (0xa001, 7));
        assert_eq!((result, shown.offset, shown.modes), (Ok(5), 0, 0xa001));
    }

    #[test]
    fn changes_are_checked_and_refused() {
        let refused = |change: fn(&mut Timex)| ask(change).0.unwrap_err();
        assert_eq!(refused(|asked| asked.modes = 0x8000), Errno::EINVAL);
        assert_eq!(refused(|asked| asked.modes = 0x8001), Errno::EPERM);
        assert_eq!(refused(|asked| (asked.modes, asked.tick) = (0x4000, 8_999)), Errno::EINVAL);
        assert_eq!(refused(|asked| (asked.modes, asked.tick) = (0x4000, 10_001)), Errno::EPERM);
        assert_eq!(refused(|asked| (asked.modes, asked.freq) = (0x2, i64::MAX)), Errno::EINVAL);
        assert_eq!(refused(|asked| (asked.modes, asked.time.microseconds) = (0x100, 1_000_000)), Errno::EINVAL);
        assert_eq!(refused(|asked| (asked.modes, asked.time.microseconds) = (0x2100, 1_000_000)), Errno::EPERM);
    }

    #[test]
    fn others_may_only_look() {
        let mut fixture = fixture();
        let looks = Timex::new_zeroed();
        let changes = Timex { modes: 0x4000, ..looks };
        let (looks, changes) = (fixture.put(&looks), fixture.put(&changes));
        assert_eq!(fixture.returned(__NR_adjtimex, &[looks.0]), Ok(5));
        assert_eq!(fixture.returned(__NR_adjtimex, &[changes.0]), Err(Errno::EPERM));
    }

    #[test]
    fn only_the_real_time_clock_is_adjusted() {
        let mut fixture = fixture();
        let at = fixture.put(&Timex::new_zeroed());
        assert_eq!(fixture.returned(__NR_clock_adjtime, &[0, at.0]), Ok(5));
        assert_eq!(fixture.returned(__NR_clock_adjtime, &[1, at.0]), Err(Errno::EOPNOTSUPP));
        assert_eq!(fixture.returned(__NR_clock_adjtime, &[99, at.0]), Err(Errno::EINVAL));
        assert_eq!(fixture.returned(__NR_clock_adjtime, &[99, 0]), Err(Errno::EFAULT));
    }
}
