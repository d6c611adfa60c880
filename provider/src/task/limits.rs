//! Resource limits, see getrlimit(2).
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};

/// A resource, in Linux's numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "getrlimit(2) describes them")]
#[repr(u32)]
pub enum Resource {
    Cpu = 0,
    FileSize = 1,
    Data = 2,
    Stack = 3,
    Core = 4,
    ResidentSet = 5,
    Processes = 6,
    Files = 7,
    LockedMemory = 8,
    AddressSpace = 9,
    Locks = 10,
    PendingSignals = 11,
    MessageQueues = 12,
    Nice = 13,
    RealTimePriority = 14,
    RealTimeTime = 15,
}

impl Resource {
    /// How many there are (RLIM_NLIMITS).
    pub const COUNT: usize = 16;

    /// Finds a resource by Linux's number.
    pub fn from_raw(raw: u32) -> Option<Self> {
        const ALL: [Resource; Resource::COUNT] = [
            Resource::Cpu,
            Resource::FileSize,
            Resource::Data,
            Resource::Stack,
            Resource::Core,
            Resource::ResidentSet,
            Resource::Processes,
            Resource::Files,
            Resource::LockedMemory,
            Resource::AddressSpace,
            Resource::Locks,
            Resource::PendingSignals,
            Resource::MessageQueues,
            Resource::Nice,
            Resource::RealTimePriority,
            Resource::RealTimeTime,
        ];
        usize::try_from(raw).ok().and_then(|index| ALL.get(index)).copied()
    }

    fn index(self) -> usize {
        // The discriminants are 0 to 15.
        usize::try_from(u32::from(self)).unwrap_or_default()
    }
}

impl From<Resource> for u32 {
    #[expect(clippy::as_conversions, reason = "reads the discriminant of a repr(u32) enum")]
    fn from(resource: Resource) -> Self {
        resource as Self
    }
}

/// No limit (RLIM_INFINITY).
pub const INFINITY: u64 = u64::MAX;

/// A limit: what is enforced, and what the process may raise that to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Enforced; `u64::MAX` is RLIM_INFINITY.
    pub soft: u64,
    /// The ceiling for `soft`.
    pub hard: u64,
}

/// A process's limits. Threads share them; fork copies them.
#[derive(Debug)]
pub struct ResourceLimits {
    limits: Mutex<[Limit; Resource::COUNT]>,
}

/// The size of the initial stack's growth unless it is changed (_STK_LIM).
const STACK: u64 = 8 << 20;

impl ResourceLimits {
    /// The limits that Linux gives its first process (include/asm-generic/resource.h), with ours for files and processes.
    pub fn initial(files: u64, pids: u64) -> Self {
        let mut limits = [Limit { soft: INFINITY, hard: INFINITY }; Resource::COUNT];
        let mut set = |resource: Resource, soft, hard| limits[resource.index()] = Limit { soft, hard };
        set(Resource::Stack, STACK, INFINITY);
        set(Resource::Core, 0, INFINITY);
        set(Resource::Processes, pids, pids);
        set(Resource::Files, files, files);
        set(Resource::LockedMemory, 8 << 20, 8 << 20);
        set(Resource::PendingSignals, pids, pids);
        set(Resource::MessageQueues, 819_200, 819_200);
        set(Resource::Nice, 0, 0);
        set(Resource::RealTimePriority, 0, 0);
        Self { limits: Mutex::new(Rank::Leaf, limits) }
    }

    /// The caller's limits, as a program has them that is run directly, but for files and processes, which are the sandbox's.
    pub fn inherited(files: u64, pids: u64) -> Self {
        use rustix::process::{Resource as Host, getrlimit};
        let limits = Self::initial(files, pids);
        let inherited = [
            (Resource::Cpu, Host::Cpu),
            (Resource::FileSize, Host::Fsize),
            (Resource::Data, Host::Data),
            (Resource::Stack, Host::Stack),
            (Resource::Core, Host::Core),
            (Resource::ResidentSet, Host::Rss),
            (Resource::LockedMemory, Host::Memlock),
            (Resource::AddressSpace, Host::As),
            (Resource::Locks, Host::Locks),
            (Resource::PendingSignals, Host::Sigpending),
            (Resource::MessageQueues, Host::Msgqueue),
            (Resource::Nice, Host::Nice),
            (Resource::RealTimePriority, Host::Rtprio),
            (Resource::RealTimeTime, Host::Rttime),
        ];
        for (resource, host) in inherited {
            let found = getrlimit(host);
            let (soft, hard) = (found.current.unwrap_or(INFINITY), found.maximum.unwrap_or(INFINITY));
            limits.limits.lock()[resource.index()] = Limit { soft, hard };
        }
        limits
    }

    /// The soft limit; `u64::MAX` is RLIM_INFINITY.
    pub fn soft(&self, resource: Resource) -> u64 {
        self.get(resource).soft
    }

    /// Both limits.
    pub fn get(&self, resource: Resource) -> Limit {
        self.limits.lock()[resource.index()]
    }

    /// Sets both limits; the caller has checked that it may. `EINVAL` if soft is above hard.
    pub fn set(&self, resource: Resource, limit: Limit) -> Result<(), Errno> {
        if limit.soft > limit.hard {
            return Err(Errno::EINVAL);
        }
        self.limits.lock()[resource.index()] = limit;
        Ok(())
    }

    /// A copy, for fork.
    pub fn duplicate(&self) -> Self {
        Self { limits: Mutex::new(Rank::Leaf, *self.limits.lock()) }
    }
}
