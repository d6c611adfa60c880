//! Time: clocks, structures, and the timers that send signals.

mod clock;
mod countdown;
mod cpu_limit;
mod descriptor;
mod interval;
mod posix;
mod service;
mod types;

pub use clock::ClockId;
pub use cpu_limit::CpuLimit;
pub(crate) use descriptor::{Setting, TimerFd};
pub use interval::{IntervalTimer, IntervalTimers, Which};
pub use posix::{Notify, PosixTimers, TimerClock, TimerSpec};
pub use service::TimerService;
pub(crate) use service::{Expiry, TimerKey};
pub use types::{Timespec, Timeval};
