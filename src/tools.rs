//! The commands that see running sandboxes and act on them.

pub(crate) mod act;
pub(crate) mod exec;
mod format;
pub(crate) mod inspect;
pub(crate) mod ps;
pub(crate) mod stack;
pub(crate) mod stats;
mod table;
pub(crate) mod top;
