//! Open file descriptions.
use super::{File, Location, OpenFlags};
use std::sync::Arc;

/// An open file description: what dup(2) and fork(2) share.
#[derive(Debug)]
pub struct OpenFile {}

#[expect(unused_variables, reason = "skeleton")]
impl OpenFile {
    /// Makes one at offset 0.
    pub fn new(file: Arc<dyn File>, location: Location, flags: OpenFlags) -> Arc<Self> {
        todo!()
    }
    /// The file behind it.
    pub fn file(&self) -> &Arc<dyn File> {
        todo!()
    }
    /// Where it was opened.
    pub fn location(&self) -> &Location {
        todo!()
    }
    /// Status flags (F_GETFL).
    pub fn flags(&self) -> OpenFlags {
        todo!()
    }
}
