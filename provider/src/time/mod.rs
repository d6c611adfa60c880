//! Time: clocks, structures, and the timers that send signals.

mod clock;
mod interval;
mod service;
mod types;

pub use clock::ClockId;
pub use interval::{IntervalTimer, IntervalTimers, Which};
pub use service::TimerService;
pub use types::{Timespec, Timeval};
