//! The monitor's own descriptors: what the host knows it by.

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// A descriptor of the monitor's.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) number: i32,
    pub(super) kind: &'static str,
    /// What the host shows for it: a path, or the kernel's name for what has none.
    pub(super) target: String,
}

/// All descriptors that are open, but the one that this takes to look.
pub(super) fn list() -> Result<Vec<Handle>, Errno> {
    let folder = openat(CWD, "/proc/self/fd", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut space = [MaybeUninit::uninit(); 8192];
    // Without a descriptor of its own, as the other way to read a folder has.
    let mut entries = RawDir::new(&folder, &mut space);
    let mut handles = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().ok().and_then(|name| name.parse::<i32>().ok());
        let Some(number) = number.filter(|number| *number != folder.as_raw_fd()) else { continue };
        // One that was closed meanwhile is none any more.
        let Ok(target) = readlinkat(&folder, name, Vec::new()) else { continue };
        let target = target.to_string_lossy().into_owned();
        handles.push(Handle { number, kind: kind(&target), target });
    }
    handles.sort_by_key(|handle| handle.number);
    Ok(handles)
}

/// What kind of object the host's name for it speaks of (proc_pid_fd(5)).
fn kind(target: &str) -> &'static str {
    let named = [
        ("anon_inode:kvm-vcpu", "vcpu"),
        ("anon_inode:kvm-vm", "vm"),
        ("/dev/kvm", "kvm"),
        ("anon_inode:[eventfd", "eventfd"),
        ("anon_inode:[eventpoll", "epoll"),
        ("anon_inode:[timerfd", "timerfd"),
        ("anon_inode:[signalfd", "signalfd"),
        ("anon_inode:[pidfd", "pidfd"),
        ("anon_inode:", "anonymous"),
        ("socket:", "socket"),
        ("pipe:", "pipe"),
        ("/memfd:", "memfd"),
        ("/dev/pts/", "terminal"),
        ("/dev/", "device"),
    ];
    named.iter().find(|(start, _)| target.starts_with(start)).map_or("file", |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_descriptor_is_of_a_kind() {
        let targets = [
            ("anon_inode:kvm-vcpu:0", "vcpu"),
            ("anon_inode:kvm-vm", "vm"),
            ("anon_inode:[eventfd]", "eventfd"),
            ("anon_inode:[eventpoll]", "epoll"),
            ("anon_inode:[fanotify]", "anonymous"),
            ("socket:[12]", "socket"),
            ("pipe:[12]", "pipe"),
            ("/memfd:x (deleted)", "memfd"),
            ("/dev/pts/3", "terminal"),
            ("/dev/null", "device"),
            ("/etc/passwd", "file"),
        ];
        for (target, expected) in targets {
            assert_eq!(kind(target), expected, "{target}");
        }
    }

    #[test]
    fn an_open_file_is_listed_and_the_list_itself_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let handles = list().unwrap();
        let found = handles.iter().find(|handle| handle.number == file.as_raw_fd()).unwrap();
        assert_eq!((found.kind, found.target.as_str()), ("file", file.path().to_str().unwrap()));
        let open: Vec<_> = handles.iter().filter(|handle| handle.target.ends_with("/fd")).collect();
        assert!(open.is_empty(), "{open:?}");
    }
}
