//! What the host found out about KVM, for `picovisor check` and for refusals.

use std::fmt;

/// The result of looking at KVM.
#[derive(Clone, Debug)]
pub struct HostReport {}

impl fmt::Display for HostReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KVM is not available")
    }
}
impl std::error::Error for HostReport {}
