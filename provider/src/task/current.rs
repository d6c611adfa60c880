//! The capability to act as a task.
use super::Task;
use std::ops::Deref;
use std::sync::Arc;
use vmm::pico::TrapFrame;

/// The capability to act as a task: one holder at a time, on whichever host thread serves the trap.
#[derive(Debug)]
pub struct CurrentTask<'a> {
    task: Arc<Task>,
    /// The trapped registers; only calls that take `&mut CurrentTask` change them.
    pub frame: TrapFrame<'a>,
}

impl Deref for CurrentTask<'_> {
    type Target = Arc<Task>;
    fn deref(&self) -> &Arc<Task> {
        &self.task
    }
}
