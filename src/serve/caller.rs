//! Who asks a spare, as the kernel tells it: rights and surroundings.
//!
//! A process of the same user may still be one that is not allowed everything: without privileges for ever (`no_new_privs`), under a
//! seccomp filter, in other namespaces, with another root, label or group. Whatever a spare does for it would be done with the
//! spare's rights, so they must be the same. The caller is not asked: the kernel is, of the very process that has connected, which is held by a
//! descriptor so that its number cannot become another's meanwhile. None of this can be got rid of once a process has it, so it is enough to look once.
//!
//! A control group is not looked at: a service manager puts the daemon into one of its own.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, makedev, openat, statx};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, Resource, Rlimit};
use rustix::thread::CpuSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use vmm::peer::{Scheduling, peer, peer_process, scheduling};

/// The lines of /proc/PID/status that have to be the same: ids, groups, capabilities, and confinement.
const RIGHTS: [&str; 11] = [
    "Uid:",
    "Gid:",
    "Groups:",
    "CapInh:",
    "CapPrm:",
    "CapEff:",
    "CapBnd:",
    "CapAmb:",
    "NoNewPrivs:",
    "Seccomp:",
    "Seccomp_filters:",
];
/// The namespaces, and the root, that have to be the same.
const PLACES: [&str; 9] = ["ns/mnt", "ns/net", "ns/pid", "ns/user", "ns/uts", "ns/ipc", "ns/cgroup", "ns/time", "root"];
/// The longest of the texts that are read.
const TEXT: usize = 16 << 10;

/// The limits, as /proc/PID/limits calls them.
const LIMITS: [(&str, Resource); 16] = [
    ("Max cpu time", Resource::Cpu),
    ("Max file size", Resource::Fsize),
    ("Max data size", Resource::Data),
    ("Max stack size", Resource::Stack),
    ("Max core file size", Resource::Core),
    ("Max resident set", Resource::Rss),
    ("Max processes", Resource::Nproc),
    ("Max open files", Resource::Nofile),
    ("Max locked memory", Resource::Memlock),
    ("Max address space", Resource::As),
    ("Max file locks", Resource::Locks),
    ("Max pending signals", Resource::Sigpending),
    ("Max msgqueue size", Resource::Msgqueue),
    ("Max nice priority", Resource::Nice),
    ("Max realtime priority", Resource::Rtprio),
    ("Max realtime timeout", Resource::Rttime),
];

/// What a process may do and sees.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    /// [`RIGHTS`], one line each.
    rights: String,
    /// [`PLACES`], by device and number; a kernel without one of them has it for nobody.
    places: [Option<(u64, u64)>; PLACES.len()],
    /// What a security module says of it.
    label: Option<Vec<u8>>,
}

/// What a process has besides, and could be given.
#[derive(Debug, PartialEq, Eq)]
struct Surroundings {
    limits: String,
    scheduling: Scheduling,
    /// The CPUs that it may run on, as a mask in hexadecimal.
    cpus: String,
    umask: u32,
}

/// The spare's own process, before it was jailed.
#[derive(Debug)]
pub(super) struct Own {
    standing: Standing,
    surroundings: Surroundings,
    folder: OwnedFd,
}

/// What of a caller's surroundings a spare has to take over.
#[derive(Debug)]
pub(super) struct Takeover {
    surroundings: Surroundings,
}

impl Own {
    /// Looks at this process.
    pub(super) fn look() -> io::Result<Self> {
        let folder = openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let own = open(&folder, std::process::id())?;
        let status = read(&own, "status")?;
        Ok(Self {
            standing: Standing::of(&own, &status, true)?,
            surroundings: Surroundings::of(&own, &status, 0)?,
            folder,
        })
    }

    /// Looks at the process that has connected; `None` if its standing is another.
    pub(super) fn compare(&self, connection: &OwnedFd) -> io::Result<Option<Takeover>> {
        let whom = peer(connection.as_fd())?;
        let process = peer_process(connection.as_fd())?;
        let (true, Some(number)) = (whom.uid == rustix::process::geteuid().as_raw(), whom.pid) else { return Ok(None) };
        let theirs = open(&self.folder, number)?;
        let status = read(&theirs, "status")?;
        let standing = Standing::of(&theirs, &status, self.standing.label.is_some())?;
        let surroundings = Surroundings::of(&theirs, &status, number)?;
        // What was looked at was the process that has connected if that is alive still.
        let alive = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&Timespec::default())) == Ok(0);
        Ok((alive && standing == self.standing).then_some(Takeover { surroundings }))
    }

    /// Takes a caller's limits, CPUs, priority and umask over. On failure some are taken over.
    pub(super) fn take_over(&self, Takeover { surroundings: theirs }: &Takeover) -> Result<(), Errno> {
        let ours = &self.surroundings;
        if theirs.limits != ours.limits {
            take_limits(&ours.limits, &theirs.limits)?;
        }
        if theirs.cpus != ours.cpus {
            let cpus = cpu_set(&theirs.cpus).ok_or(Errno::INVAL)?;
            each_thread(|thread| rustix::thread::sched_setaffinity(Some(thread), &cpus))?;
        }
        if theirs.scheduling != ours.scheduling {
            let mut wanted = ours.scheduling;
            wanted.nice = theirs.scheduling.nice;
            if theirs.scheduling != wanted {
                return Err(Errno::NOTSUP);
            }
            let nice = wanted.nice;
            each_thread(|thread| rustix::process::setpriority_process(Some(thread), nice))?;
        }
        if theirs.umask != ours.umask {
            vmm::inherited::change_umask(theirs.umask);
        }
        Ok(())
    }
}

impl Standing {
    fn of(process: &OwnedFd, status: &str, labelled: bool) -> io::Result<Self> {
        let place = |name| {
            let found = statx(process, name, AtFlags::empty(), StatxFlags::INO)?;
            Ok((makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino))
        };
        let places = PLACES.map(|name| match place(name) {
            Ok(place) => Ok(Some(place)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        });
        let mut found = [None; PLACES.len()];
        for (found, place) in found.iter_mut().zip(places) {
            *found = place?;
        }
        let lines = status.lines().filter(|line| RIGHTS.iter().any(|name| line.starts_with(name)));
        let rights = lines.flat_map(|line| [line, "\n"]).collect();
        // Without a security module there is nothing to read.
        let label = if labelled { read(process, "attr/current").ok().map(String::into_bytes) } else { None };
        Ok(Self { rights, places: found, label })
    }
}

impl Surroundings {
    fn of(process: &OwnedFd, status: &str, number: u32) -> io::Result<Self> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let umask = field("Umask:").and_then(|text| u32::from_str_radix(text, 8).ok());
        let (Some(umask), Some(cpus)) = (umask, field("Cpus_allowed:")) else { return Err(Errno::NOSYS.into()) };
        Ok(Self { limits: read(process, "limits")?, scheduling: scheduling(number)?, cpus: cpus.to_owned(), umask })
    }
}

/// The folder of a process below /proc.
fn open(proc: &OwnedFd, number: u32) -> Result<OwnedFd, Errno> {
    openat(proc, number.to_string(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A text of the kernel's, which comes whole.
fn read(process: &OwnedFd, name: &str) -> io::Result<String> {
    let file = openat(process, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = vec![0; TEXT];
    let count = retry_on_intr(|| rustix::io::read(&file, &mut bytes[..]))?;
    bytes.truncate(count);
    String::from_utf8(bytes).map_err(|_| Errno::ILSEQ.into())
}

/// The soft and the hard limit in a line of /proc/PID/limits, and which one it is.
fn limit(line: &str) -> Option<(Resource, Rlimit)> {
    let (_, resource) = LIMITS.iter().find(|(name, _)| line.starts_with(name))?;
    let mut values = line.get(26..)?.split_ascii_whitespace();
    let mut next = || match values.next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    Some((*resource, Rlimit { current: next()?, maximum: next()? }))
}

/// Sets those limits that differ. The number of descriptors is raised as far as may be, as it is by every monitor.
///
/// How much memory the process may map was of no matter to what the spare has mapped already, and would have been to a monitor
/// that the caller had started: that is not taken over.
fn take_limits(ours: &str, theirs: &str) -> Result<(), Errno> {
    for (_, line) in ours.lines().zip(theirs.lines()).filter(|(ours, theirs)| ours != theirs) {
        let (resource, mut limit) = limit(line).ok_or(Errno::INVAL)?;
        match resource {
            Resource::As | Resource::Data | Resource::Memlock => return Err(Errno::NOTSUP),
            Resource::Nofile => limit.current = limit.maximum,
            _ => {}
        }
        rustix::process::setrlimit(resource, limit)?;
    }
    Ok(())
}

/// Does something to every thread of this process.
fn each_thread(mut change: impl FnMut(Pid) -> Result<(), Errno>) -> Result<(), Errno> {
    for entry in std::fs::read_dir("/proc/self/task").map_err(|_| Errno::NOENT)?.flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        // Those that end meanwhile don't matter.
        match number.map(&mut change) {
            None | Some(Ok(()) | Err(Errno::SRCH)) => {}
            Some(Err(error)) => return Err(error),
        }
    }
    Ok(())
}

/// The CPUs of a mask as /proc/PID/status shows it: 32 bits at a time, the highest first.
fn cpu_set(mask: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for (group, word) in mask.rsplit(',').enumerate() {
        let word = u32::from_str_radix(word, 16).ok()?;
        for bit in (0..32).filter(|bit| word >> bit & 1 != 0) {
            let cpu = group * 32 + bit;
            if cpu >= CpuSet::MAX_CPU {
                return None;
            }
            set.set(cpu);
        }
    }
    (set.count() > 0).then_some(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_process_is_like_itself() {
        let own = Own::look().unwrap();
        assert_eq!(own.standing.rights.lines().count(), RIGHTS.len(), "{}", own.standing.rights);
        assert!(own.standing.places[..4].iter().all(Option::is_some));
        let (one, _other) = UnixStream::pair().unwrap();
        let same = own.compare(&one.into()).unwrap().unwrap();
        assert_eq!(same.surroundings.limits, own.surroundings.limits);
        assert!(own.take_over(&same).is_ok());
    }

    #[test]
    fn another_standing_is_seen() {
        let mut own = Own::look().unwrap();
        let pair = || UnixStream::pair().unwrap();
        own.standing.places[1] = Some((1, 1));
        assert!(own.compare(&pair().0.into()).unwrap().is_none());
        let mut own = Own::look().unwrap();
        own.standing.rights = own.standing.rights.replace("NoNewPrivs:\t0", "NoNewPrivs:\t1") + "x";
        assert!(own.compare(&pair().0.into()).unwrap().is_none());
    }

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            7                    seconds   \n\
                    Max nice priority         0                    unlimited            \n";
        let found: Vec<_> = text.lines().map(limit).collect();
        let limits = |current, maximum| Rlimit { current, maximum };
        assert!(found[0].is_none());
        assert!(matches!(&found[1], Some((Resource::Cpu, found)) if *found == limits(None, Some(7))));
        assert!(matches!(&found[2], Some((Resource::Nice, found)) if *found == limits(Some(0), None)));
        let own = std::fs::read_to_string("/proc/self/limits").unwrap();
        assert_eq!(own.lines().filter_map(limit).count(), LIMITS.len());
    }

    #[test]
    fn cpus_are_read_as_the_kernel_writes_them() {
        let set =
            |mask| cpu_set(mask).map(|set| (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect::<Vec<_>>());
        assert_eq!(set("3"), Some(vec![0, 1]));
        assert_eq!(set("80000001,00000000,00000004"), Some(vec![2, 64, 95]));
        assert_eq!(set("0"), None);
        assert_eq!(set("x"), None);
    }
}
