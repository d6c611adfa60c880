//! What a handle to a process or a thread may be used for. The bits are those of NT's access masks.

bitflags::bitflags! {
    /// Rights to a process.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ProcessAccess: u32 {
        /// Ask for its termination.
        const TERMINATE = 0x1;
        /// Read its memory.
        const VM_READ = 0x10;
        /// Write its memory.
        const VM_WRITE = 0x20;
        /// Learn its name, its threads, its CPU time and the like.
        const QUERY = 0x400;
        /// Suspend and resume all its threads.
        const SUSPEND_RESUME = 0x800;
        /// Learn whether it has ended.
        const SYNCHRONIZE = 0x10_0000;
    }
}

bitflags::bitflags! {
    /// Rights to a thread.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ThreadAccess: u32 {
        /// End it.
        const TERMINATE = 0x1;
        /// Suspend and resume it.
        const SUSPEND_RESUME = 0x2;
        /// Read its registers.
        const GET_CONTEXT = 0x8;
        /// Change its registers.
        const SET_CONTEXT = 0x10;
        /// Learn its name, its state and its CPU time.
        const QUERY = 0x40;
        /// Learn whether it has ended.
        const SYNCHRONIZE = 0x10_0000;
    }
}

impl ProcessAccess {
    /// What anybody may have to a minimal process: it is the host's own, and nobody's to stop or look into.
    pub const MINIMAL: Self = Self::QUERY.union(Self::SYNCHRONIZE);
}
