//! Which Linux this is, as uname(2) and /proc say.
//!
//! The release is fixed, so that a program behaves the same on every host. It is a long-term release whose system calls and file
//! formats this personality follows; what is not served answers `ENOSYS`, which programs that look for newer calls expect.

/// `uname -s`
pub const SYSTEM: &str = "Linux";
/// `uname -r`
pub const RELEASE: &str = "6.12.0-picovisor";
/// `uname -v`
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC Picovisor";
/// `uname -m`
pub const MACHINE: &str = "x86_64";
/// `uname -n` without a domain: what `domainname` prints.
pub const DOMAIN: &str = "(none)";
