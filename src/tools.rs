//! The commands that see running sandboxes and act on them.

pub(crate) mod act;
mod format;
pub(crate) mod inspect;
pub(crate) mod ps;
mod table;
