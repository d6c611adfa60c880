use crate::config::{Config, User};
use crate::errno::Errno;
use crate::fs::{BufferSink, BufferSource, DirEntry, DirSink, Fd, FdTable, LastLink, OpenFlags, stdio};
use crate::mm::MapRequest;
use crate::task::{CurrentTask, Pid, Policy, ResourceLimits, Resources, Scheduling, Task, ThreadGroup};
use crate::testing::{Fixture, config, fixture_with};
use std::sync::Arc;
use vmm::memory::Access;

fn fixture() -> Fixture {
    let fixture = fixture_with(config());
    fixture.task.set_name(b"a name");
    fixture
}

fn try_read(task: &CurrentTask<'_>, path: &str) -> Result<String, Errno> {
    let file = task.kernel().namespace().open(task, None, path.as_bytes(), OpenFlags::empty(), 0)?;
    let mut text = Vec::new();
    loop {
        let mut bytes = vec![0; 65536];
        let got = file.read(task, &mut BufferSink::new(&mut bytes))?;
        if got == 0 {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        text.extend_from_slice(&bytes[..got]);
    }
}

fn read(task: &CurrentTask<'_>, path: &str) -> String {
    try_read(task, path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn write(task: &CurrentTask<'_>, path: &str, text: &str) -> Result<usize, Errno> {
    let file = task.kernel().namespace().open(task, None, path.as_bytes(), OpenFlags::WRONLY, 0)?;
    file.write(task, &mut BufferSource::new(text.as_bytes()))
}

/// The words before the first colon of each line.
fn keys(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(key, _)| key.to_owned()).collect()
}

/// Asserts that the lines that both have come in the same order, and that we have nearly all of the host's: hosts of other
/// versions have a few more or fewer.
fn same_lines(ours: &str, host: &str) {
    let (ours, host) = (keys(ours), keys(host));
    let common: Vec<&String> = ours.iter().filter(|key| host.contains(key)).collect();
    let in_host_order: Vec<&String> = host.iter().filter(|key| ours.contains(key)).collect();
    assert_eq!(common, in_host_order);
    assert!(common.len() * 10 >= host.len() * 9, "ours: {ours:?}, the host's: {host:?}");
}

#[test]
fn status_has_the_hosts_lines() {
    let mut fixture = fixture();
    let task = fixture.current();
    let ours = read(&task, "/proc/self/status");
    same_lines(&ours, &std::fs::read_to_string("/proc/self/status").unwrap());
    assert!(ours.starts_with("Name:\ta name\nUmask:\t0022\nState:\tR (running)\nTgid:\t1\n"), "{ours}");
    assert!(ours.contains("\nUid:\t1000\t1000\t1000\t1000\n"), "{ours}");
    assert!(ours.contains("\nGroups:\t1000  \n"), "{ours}");
    assert!(ours.contains("\nVmSize:\t       0 kB\n"), "{ours}");
}

#[test]
fn stat_tells_how_a_task_is_scheduled() {
    let mut fixture = fixture();
    // Priority, nice value; real-time priority, policy.
    let mut shown = |scheduling: Scheduling| {
        fixture.task.set_scheduling(scheduling);
        let line = read(&fixture.current(), "/proc/self/stat");
        let fields: Vec<i32> = line
            .rsplit(") ")
            .next()
            .unwrap()
            .split(' ')
            .skip(1)
            .map(|field| field.trim_end().parse().unwrap_or(-1))
            .collect();
        [fields[14], fields[15], fields[36], fields[37]]
    };
    let ordinary = Scheduling::default();
    assert_eq!(shown(ordinary), [20, 0, 0, 0]);
    assert_eq!(shown(Scheduling { nice: 5, ..ordinary }), [25, 5, 0, 0]);
    assert_eq!(shown(Scheduling { policy: Policy::RoundRobin, priority: 7, ..ordinary }), [-8, 0, 7, 2]);
}

#[test]
fn io_counts_what_calls_move() {
    let mut fixture = fixture();
    fixture.task.transfers().note_read(&Ok(7));
    fixture.task.transfers().note_write(&Ok(3));
    fixture.task.transfers().note_write(&Err(Errno::EPIPE));
    let mut shown = |path| read(&fixture.current(), path).lines().take(4).map(str::to_owned).collect::<Vec<_>>();
    let expected = ["rchar: 7", "wchar: 3", "syscr: 1", "syscw: 2"];
    assert_eq!(shown("/proc/self/io"), expected);
    assert_eq!(shown("/proc/thread-self/io"), expected);
}

#[test]
fn stat_and_statm_have_linuxs_fields() {
    let mut fixture = fixture();
    let mm = fixture.task.mm().unwrap();
    let at = mm.map(MapRequest::anonymous(3 * 4096, Access::READ | Access::WRITE)).unwrap();
    let task = fixture.current();
    let line = read(&task, "/proc/self/stat");
    assert!(line.starts_with("1 (a name) R 0 1 1 0 -1 4194304 "), "{line}");
    let fields: Vec<&str> = line.trim_end().rsplit_once(") ").unwrap().1.split(' ').collect();
    let host = std::fs::read_to_string("/proc/self/stat").unwrap();
    assert_eq!(fields.len(), host.trim_end().rsplit_once(") ").unwrap().1.split(' ').count());
    assert!(fields.iter().skip(1).all(|field| field.parse::<i128>().is_ok()), "{line}");
    // vsize is the 23rd field.
    assert_eq!(fields[20], "12288");
    assert_eq!(read(&task, "/proc/self/statm"), "3 0 0 0 0 3 0\n", "nothing was touched");
    mm.write(at, &[1]).unwrap();
    assert_eq!(read(&task, "/proc/self/statm"), "3 1 0 0 0 3 0\n");
}

#[test]
fn mappings_are_shown_in_linuxs_columns() {
    let mut fixture = fixture();
    let mm = fixture.task.mm().unwrap();
    let at = mm.map(MapRequest::anonymous(4096, Access::READ | Access::WRITE)).unwrap();
    let task = fixture.current();
    let maps = read(&task, "/proc/self/maps");
    assert_eq!(maps, format!("{:08x}-{:08x} rw-p 00000000 00:00 0 \n", at.0, at.0 + 4096));
    let smaps = read(&task, "/proc/self/smaps");
    assert!(smaps.starts_with(&maps), "{smaps}");
    let host = std::fs::read_to_string("/proc/self/smaps").unwrap();
    // The lines of the first mapping: up to VmFlags.
    let first = |text: &str| -> String {
        text.lines().skip(1).take_while(|line| !line.starts_with("VmFlags")).map(|line| format!("{line}\n")).collect()
    };
    same_lines(&first(&smaps), &first(&host));
    assert!(smaps.contains("\nSize:                  4 kB\n"), "{smaps}");
    assert!(smaps.ends_with("VmFlags: rd wr mr mw me ac \n"), "{smaps}");
    let rollup = read(&task, "/proc/self/smaps_rollup");
    same_lines(&rollup, &std::fs::read_to_string("/proc/self/smaps_rollup").unwrap());
}

#[test]
fn other_files_of_a_task_have_the_hosts_shape() {
    let mut fixture = fixture();
    let task = fixture.current();
    let words = |text: &str| -> Vec<usize> { text.lines().map(|line| line.split_whitespace().count()).collect() };
    for name in ["comm", "personality", "uid_map", "setgroups", "oom_score", "oom_score_adj", "schedstat", "io"] {
        let path = format!("/proc/self/{name}");
        let host = std::fs::read_to_string(&path).unwrap();
        let host = if name == "comm" { "a name\n".to_owned() } else { host };
        assert_eq!(words(&read(&task, &path)), words(&host), "{name}");
    }
    let limits = |text: &str| -> Vec<String> { text.lines().map(|line| line.chars().take(26).collect()).collect() };
    let host = std::fs::read_to_string("/proc/self/limits").unwrap();
    let ours = read(&task, "/proc/self/limits");
    assert_eq!(limits(&ours), limits(&host));
    let units = |text: &str| -> Vec<String> { text.lines().map(|line| line.chars().skip(68).collect()).collect() };
    assert_eq!(units(&ours), units(&host));
}

#[test]
fn the_name_can_be_changed_from_inside() {
    let mut fixture = fixture();
    let task = fixture.current();
    assert_eq!(write(&task, "/proc/self/comm", "a rather long new name"), Ok(22));
    assert_eq!(read(&task, "/proc/thread-self/comm"), "a rather long n\n");
    assert_eq!(write(&task, "/proc/self/oom_score_adj", "300\n"), Ok(4));
    assert_eq!(write(&task, "/proc/self/oom_score_adj", "100\n"), Err(Errno::EACCES));
    assert_eq!(write(&task, "/proc/self/oom_score_adj", "1001\n"), Err(Errno::EINVAL));
    assert_eq!(read(&task, "/proc/self/oom_score_adj"), "300\n");
    assert_eq!(write(&task, "/proc/self/status", "x"), Err(Errno::EACCES));
}

#[test]
fn descriptors_are_links_to_open_files() {
    // The host's pipe belongs to whoever runs the test.
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut fixture = fixture_with(Config { user: User { uid, gid, groups: Vec::new() }, ..config() });
    let task = fixture.current();
    let namespace = task.kernel().namespace();
    let flags = OpenFlags::RDWR | OpenFlags::APPEND;
    let null = namespace.open(&task, None, b"/dev/null", flags, 0).unwrap();
    task.files().replace(null, true, Fd(5), 10).unwrap();
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    task.files().replace(stdio::adopt(&task, reader).unwrap(), false, Fd(0), 10).unwrap();
    let link = |path: &str| {
        let place = namespace.walk(&task, None, path.as_bytes(), LastLink::Keep).unwrap();
        let (text, stat) = (place.inode().as_link().unwrap().text(&task).unwrap(), place.inode().stat().unwrap());
        (String::from_utf8(text).unwrap(), stat.mode, stat.size)
    };
    assert_eq!(link("/proc/self/fd/5"), ("/dev/null".to_owned(), 0o700, 64));
    let (pipe, mode, _) = link("/proc/self/fd/0");
    assert!(pipe.starts_with("pipe:[") && mode == 0o500, "{pipe}");
    assert!(namespace.open(&task, None, b"/proc/self/fd/5", OpenFlags::empty(), 0).is_ok());
    assert!(namespace.open(&task, None, b"/dev/fd/0", OpenFlags::empty(), 0).is_ok());
    assert!(matches!(namespace.open(&task, None, b"/proc/self/fd/05", OpenFlags::empty(), 0), Err(Errno::ENOENT)));
    let details = read(&task, "/proc/self/fdinfo/5");
    let own = std::fs::File::open("/dev/null").unwrap();
    let host = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&own))).unwrap();
    assert_eq!(keys(&details), keys(&host));
    assert!(details.starts_with("pos:\t0\nflags:\t02002002\n"), "{details}");
}

#[test]
fn places_are_links() {
    let mut fixture = fixture();
    let task = fixture.current();
    let text = |path: &[u8]| {
        let place = task.kernel().namespace().walk(&task, None, path, LastLink::Keep).unwrap();
        place.inode().as_link().unwrap().text(&task).map(|text| String::from_utf8(text).unwrap())
    };
    assert_eq!(text(b"/proc/self"), Ok("1".to_owned()));
    assert_eq!(text(b"/proc/thread-self"), Ok("1/task/1".to_owned()));
    assert_eq!(text(b"/proc/1/cwd"), Ok("/".to_owned()));
    assert_eq!(text(b"/proc/1/root"), Ok("/".to_owned()));
    assert_eq!(text(b"/proc/1/exe"), Err(Errno::ENOENT));
    assert_eq!(text(b"/proc/1/ns/pid"), Ok("pid:[4026531836]".to_owned()));
    assert_eq!(text(b"/proc/mounts"), Ok("self/mounts".to_owned()));
}

struct Names(Vec<String>);

impl DirSink for Names {
    fn entry(&mut self, entry: &DirEntry<'_>) -> bool {
        self.0.push(String::from_utf8(entry.name.to_vec()).unwrap());
        true
    }
}

fn names(task: &CurrentTask<'_>, path: &str) -> Vec<String> {
    let place = task.kernel().namespace().walk(task, None, path.as_bytes(), LastLink::Follow).unwrap();
    let mut names = Names(Vec::new());
    place.inode().as_dir().unwrap().list(task, 0, &mut names).unwrap();
    names.0
}

#[test]
fn every_listed_name_can_be_found() {
    let mut fixture = fixture();
    let task = fixture.current();
    let mut left = vec!["/proc".to_owned()];
    let mut files = 0;
    while let Some(path) = left.pop() {
        for name in names(&task, &path) {
            let below = format!("{path}/{name}");
            let place = task.kernel().namespace().walk(&task, None, below.as_bytes(), LastLink::Keep).unwrap();
            if place.inode().as_dir().is_some() {
                left.push(below);
            } else if place.inode().as_link().is_none() && !below.ends_with("/mem") && !below.ends_with("/pagemap") {
                match try_read(&task, &below) {
                    Ok(_) => files += 1,
                    // Some are for the privileged only.
                    Err(Errno::EACCES) => assert_eq!(place.inode().stat().unwrap().mode & 0o044, 0, "{below}"),
                    // No security module has labels.
                    Err(Errno::EINVAL) => assert!(path.ends_with("/attr"), "{below}"),
                    Err(error) => panic!("{below}: {error}"),
                }
            }
        }
    }
    assert!(files > 180, "{files}");
}

#[test]
fn the_root_lists_processes_last() {
    let mut fixture = fixture();
    let task = fixture.current();
    let names = names(&task, "/proc");
    assert_eq!(&names[names.len() - 3..], ["self", "thread-self", "1"]);
    assert!(names.iter().any(|name| name == "sys") && names.iter().any(|name| name == "net"), "{names:?}");
}

#[test]
fn another_users_secrets_are_hidden() {
    let mut fixture = fixture();
    let kernel = fixture.kernel.clone();
    let other = Resources { files: Some(Arc::new(FdTable::default())), ..Resources::default() };
    let credentials = crate::task::Credentials::new(1, 1, Vec::new());
    let group = |tid: Pid| ThreadGroup::new(tid, ResourceLimits::initial(10, 10));
    kernel.tasks().insert(|tid| Task::new(&kernel, &group(tid), tid, other, credentials)).unwrap();
    let task = fixture.current();
    for name in ["environ", "auxv", "maps", "io", "mem"] {
        assert_eq!(try_read(&task, &format!("/proc/2/{name}")), Err(Errno::EACCES), "{name}");
    }
    assert_eq!(read(&task, "/proc/2/cmdline"), "");
    assert!(read(&task, "/proc/2/stat").starts_with("2 () Z 0 2 2 "));
}

#[test]
fn a_task_that_is_gone_answers_esrch() {
    let mut fixture = fixture();
    let kernel = fixture.kernel.clone();
    let credentials = crate::task::Credentials::new(1000, 1000, Vec::new());
    let group = |tid: Pid| ThreadGroup::new(tid, ResourceLimits::initial(10, 10));
    let made =
        kernel.tasks().insert(|tid| Task::new(&kernel, &group(tid), tid, Resources::default(), credentials)).unwrap();
    let task = fixture.current();
    let file = kernel.namespace().open(&task, None, b"/proc/2/stat", OpenFlags::empty(), 0).unwrap();
    drop(kernel.tasks().remove(made.tid()));
    let mut bytes = [0; 8];
    assert_eq!(file.read(&task, &mut BufferSink::new(&mut bytes)), Err(Errno::ESRCH));
    assert_eq!(try_read(&task, "/proc/2/stat"), Err(Errno::ENOENT));
}

#[test]
fn memory_is_read_and_written_at_its_addresses() {
    let mut fixture = fixture();
    let mm = fixture.task.mm().unwrap();
    let at = mm.map(MapRequest::anonymous(2 * 4096, Access::READ | Access::WRITE)).unwrap();
    mm.write(at, b"hello").unwrap();
    let task = fixture.current();
    let file = task.kernel().namespace().open(&task, None, b"/proc/self/mem", OpenFlags::RDWR, 0).unwrap();
    let mut bytes = vec![0; 3 * 4096];
    assert_eq!(file.read_at(&task, at.0, &mut BufferSink::new(&mut bytes)), Ok(2 * 4096));
    assert_eq!(&bytes[..6], b"hello\0");
    assert_eq!(file.write_at(&task, at.0 + 1, &mut BufferSource::new(b"a")), Ok(1));
    let mut word = [0; 5];
    mm.read(at, &mut word).unwrap();
    assert_eq!(&word, b"hallo");
    assert_eq!(file.read_at(&task, 0, &mut BufferSink::new(&mut word)), Err(Errno::EIO));
    assert_eq!(file.read_at(&task, u64::MAX - 4, &mut BufferSink::new(&mut word)), Err(Errno::EIO));
    let map = task.kernel().namespace().open(&task, None, b"/proc/self/pagemap", OpenFlags::empty(), 0).unwrap();
    let mut entries = [0; 24];
    assert_eq!(map.read_at(&task, at.0 / 4096 * 8, &mut BufferSink::new(&mut entries)), Ok(24));
    assert_eq!((entries[7], entries[15], entries[23]), (0x80, 0x80, 0));
    assert_eq!(map.read_at(&task, 4, &mut BufferSink::new(&mut entries)), Err(Errno::EINVAL));
}

#[test]
fn mounts_are_the_sandboxs() {
    let mut fixture = fixture();
    let task = fixture.current();
    let mounts = read(&task, "/proc/mounts");
    assert!(mounts.contains("\nproc /proc proc rw,nosuid,relatime 0 0\n"), "{mounts}");
    assert!(mounts.lines().all(|line| line.split(' ').count() == 6), "{mounts}");
    let details = read(&task, "/proc/self/mountinfo");
    assert_eq!(details.lines().count(), mounts.lines().count());
    for line in details.lines() {
        let (before, behind) = line.split_once(" - ").unwrap();
        assert_eq!((before.split(' ').count(), behind.split(' ').count()), (6, 3), "{line}");
    }
}

#[test]
fn the_machine_has_the_hosts_shape() {
    let mut fixture = fixture();
    let task = fixture.current();
    let words = |text: &str| -> Vec<usize> { text.lines().map(|line| line.split_whitespace().count()).collect() };
    for name in ["uptime", "loadavg", "swaps", "execdomains", "sysvipc/shm", "net/dev", "net/tcp", "net/unix"] {
        let host = std::fs::read_to_string(format!("/proc/{name}")).unwrap();
        let ours = read(&task, &format!("/proc/{name}"));
        assert_eq!(words(&ours).first(), words(&host).first(), "{name}");
    }
    let first = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    };
    let ours = read(&task, "/proc/stat");
    let host = std::fs::read_to_string("/proc/stat").unwrap();
    let without_cpus =
        |names: Vec<String>| -> Vec<String> { names.into_iter().filter(|name| !name.starts_with("cpu")).collect() };
    assert_eq!(without_cpus(first(&ours)), without_cpus(first(&host)));
    assert_eq!(ours.lines().next().unwrap().split_whitespace().count(), 11);
    assert!(read(&task, "/proc/version").starts_with("Linux version 6."));
    assert_eq!(read(&task, "/proc/sys/kernel/ostype"), "Linux\n");
    assert_eq!(read(&task, "/proc/sys/kernel/hostname"), "picovisor\n");
}

#[test]
fn descriptors_are_not_moved_or_removed() {
    let mut fixture = fixture();
    let pipe = fixture.allocate(8);
    fixture.returned(linux_raw_sys::general::__NR_pipe, &[pipe.0]).unwrap();
    let task = fixture.current();
    let at = |path: &'static [u8]| crate::fs::At { base: None, path };
    let namespace = task.kernel().namespace();
    let (one, other) = (at(b"/proc/self/fd/0"), at(b"/proc/self/fd/1"));
    for (from, to) in [(one, other), (other, at(b"/proc/self/fd/9"))] {
        let moved = namespace.rename(&task, from, to, 0);
        assert!(matches!(moved, Err(Errno::EACCES | Errno::EPERM)), "{moved:?}");
    }
    assert!(matches!(namespace.unlink(&task, one), Err(Errno::EACCES | Errno::EPERM)));
    assert!(task.files().get_any(Fd(0)).is_ok());
}
