//! The one way a task sleeps.

/// Tasks that wait for something of the provider's to change.
#[derive(Debug, Default)]
pub struct WaitQueue {}

impl WaitQueue {
    /// Wakes all that wait.
    pub fn wake_all(&self) {
        todo!()
    }
}
