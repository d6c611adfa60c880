//! What clone's CLONE_FS shares: root, working directory, umask.

/// A task's root, working directory and umask.
#[derive(Debug)]
pub struct FsContext {}
