use super::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Three folders: one to be read, one to be changed, one to keep changes; and one that is nobody's.
struct Folders {
    read: TempDir,
    write: TempDir,
    keep: TempDir,
    other: TempDir,
}

impl Folders {
    fn new() -> Self {
        let new = || {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("file"), "text").unwrap();
            fs::create_dir(folder.path().join("folder")).unwrap();
            folder
        };
        Self { read: new(), write: new(), keep: new(), other: new() }
    }

    fn grants(&self) -> Vec<Grant> {
        let grant = |folder: &TempDir, access| Grant { tree: OwnedFd::from(fs::File::open(folder).unwrap()), access };
        vec![
            grant(&self.read, HostAccess::Read),
            grant(&self.write, HostAccess::Write),
            grant(&self.keep, HostAccess::Keep),
        ]
    }
}

/// Does something on a thread under the rules, as all of a monitor's are.
fn under_rules<T: Send>(folders: &Folders, network: bool, body: impl FnOnce() -> T + Send) -> T {
    let rules = rules(&folders.grants(), network, None).unwrap();
    let confined = || {
        confine(rules).unwrap();
        body()
    };
    std::thread::scope(|scope| scope.spawn(confined).join().unwrap())
}

/// The kind of a failure that is a refusal; panics on another and on success.
fn refused<T>(what: &str, result: io::Result<T>) {
    let error = result.err().unwrap_or_else(|| panic!("{what} is allowed"));
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}");
}

#[test]
fn a_tree_allows_what_was_granted_and_no_more() {
    let folders = Folders::new();
    under_rules(&folders, false, || {
        let Folders { read, write, keep, other } = &folders;
        let (read, write, keep, other) = (read.path(), write.path(), keep.path(), other.path());
        for folder in [read, write, keep] {
            assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "text");
            assert_eq!(fs::read_dir(folder).unwrap().count(), 2);
        }
        refused("reading elsewhere", fs::read(other.join("file")));
        refused("listing elsewhere", fs::read_dir(other));
        for folder in [read, other] {
            let file = folder.join("file");
            refused("writing", fs::OpenOptions::new().write(true).open(&file));
            refused("emptying", fs::OpenOptions::new().write(true).truncate(true).open(&file));
            refused("making a file", fs::write(folder.join("new"), ""));
            refused("making a folder", fs::create_dir(folder.join("new")));
            refused("making a link", std::os::unix::fs::symlink("file", folder.join("new")));
            refused("removing a file", fs::remove_file(&file));
            refused("removing a folder", fs::remove_dir(folder.join("folder")));
            refused("renaming", fs::rename(&file, folder.join("new")));
            refused("moving there", fs::rename(write.join("file"), folder.join("folder/new")));
        }
        for folder in [write, keep] {
            fs::write(folder.join("file"), "more").unwrap();
            fs::rename(folder.join("file"), folder.join("folder/file")).unwrap();
            fs::hard_link(folder.join("folder/file"), folder.join("again")).unwrap();
            fs::OpenOptions::new().append(true).open(folder.join("again")).unwrap().write_all(b"!").unwrap();
            fs::remove_file(folder.join("again")).unwrap();
            fs::remove_file(folder.join("folder/file")).unwrap();
            fs::remove_dir(folder.join("folder")).unwrap();
            std::os::unix::fs::symlink("nowhere", folder.join("link")).unwrap();
            mknodat(CWD, folder.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        }
        let node = |folder: &Path, kind, number| Ok(mknodat(CWD, folder.join("node"), kind, Mode::RUSR, number)?);
        refused("a device node", node(write, FileType::CharacterDevice, 0));
        refused("a block device", node(keep, FileType::BlockDevice, 0x100));
        // Linux lets everybody make this one.
        node(keep, FileType::CharacterDevice, 0).unwrap();
    });
}

#[test]
fn nothing_is_executed_and_no_device_is_opened_for_requests() {
    let folders = Folders::new();
    let tool = folders.write.path().join("tool");
    fs::copy("/bin/true", &tool).unwrap();
    assert!(Command::new(&tool).status().unwrap().success());
    under_rules(&folders, false, || {
        refused("executing", Command::new(&tool).stdin(Stdio::null()).status());
        refused("a device", fs::OpenOptions::new().read(true).write(true).open("/dev/kvm"));
    });
}

#[test]
fn what_the_monitor_reads_of_its_host_stays_readable() {
    let folders = Folders::new();
    under_rules(&folders, false, || {
        for path in ["/proc/self/status", "/proc/self/exe", "/proc/self/pagemap", "/proc/cpuinfo"] {
            assert!(fs::File::open(path).is_ok(), "{path}");
        }
        assert!(fs::read_dir("/sys/devices/system/cpu").is_ok());
        refused("/etc/hostname", fs::read("/etc/hostname"));
        refused("writing to /proc", fs::OpenOptions::new().write(true).open("/proc/self/comm"));
    });
}

#[test]
fn what_was_opened_before_stays_open() {
    let folders = Folders::new();
    let mut file = fs::OpenOptions::new().append(true).open(folders.other.path().join("file")).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    under_rules(&folders, false, || {
        file.write_all(b", more").unwrap();
        refused("opening it again", fs::OpenOptions::new().write(true).open(&path));
    });
    assert_eq!(fs::read_to_string(folders.other.path().join("file")).unwrap(), "text, more");
}

#[test]
fn tcp_is_for_those_who_have_the_hosts_network() {
    let folders = Folders::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    under_rules(&folders, false, || {
        refused("connecting", TcpStream::connect(address));
        refused("binding", TcpListener::bind("127.0.0.1:0"));
    });
    under_rules(&folders, true, || {
        TcpStream::connect(address).unwrap();
        TcpListener::bind("127.0.0.1:0").unwrap();
    });
}

#[test]
fn abstract_sockets_of_others_and_signals_to_others_are_closed() {
    let folders = Folders::new();
    let name = format!("picovisor-landlock-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&other);
    under_rules(&folders, true, || {
        refused("connecting", UnixStream::connect_addr(&address));
        let signal = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        refused("a signal", signal.map_err(io::Error::from));
        // Threads of one process are not others, though each has a domain of its own.
        rustix::process::test_kill_process(rustix::process::getpid()).unwrap();
    });
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn crash_reports_can_be_written_and_nothing_else() {
    let folders = Folders::new();
    let reports = folders.other.path();
    let rules = rules(&folders.grants(), false, Some(reports)).unwrap();
    std::thread::scope(|scope| {
        let confined = scope.spawn(|| {
            confine(rules).unwrap();
            fs::write(reports.join("crash-1.txt"), "report").unwrap();
            refused("reading it", fs::read(reports.join("crash-1.txt")));
            refused("removing it", fs::remove_file(reports.join("crash-1.txt")));
            refused("a folder", fs::create_dir(reports.join("new")));
        });
        confined.join().unwrap();
    });
}
