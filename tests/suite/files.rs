//! What a sandbox sees of the host's files, what it can change, and how data moves.

use crate::harness::{Command, Outcome, need_kvm, picovisor, scratch, tool};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

#[track_caller]
fn busybox(options: &[&str], args: &[&str]) -> Outcome {
    Command::picovisor().arg("run").args(options).args(["--", "/bin/busybox"]).args(args).run()
}

/// Runs a script of commands that busybox's shell has built in, so that no process is made.
#[track_caller]
fn shell(options: &[&str], script: &str) -> Outcome {
    busybox(options, &["sh", "-c", script])
}

#[test]
fn writes_vanish_unless_granted() {
    need_kvm!();
    let folder = scratch();
    let path = folder.path().to_str().unwrap();
    std::fs::write(folder.path().join("old"), "old\n").unwrap();
    let script = format!("cd {path}; echo new > fresh; echo more >> old; read a < old; read b < fresh; echo $a $b");
    assert_eq!(shell(&[], &script).text(), "old new\n");
    assert_eq!(std::fs::read_to_string(folder.path().join("old")).unwrap(), "old\n");
    assert!(!folder.path().join("fresh").exists());

    assert_eq!(shell(&["--rw", path], &script).text(), "old new\n");
    assert_eq!(std::fs::read_to_string(folder.path().join("old")).unwrap(), "old\nmore\n");
    assert_eq!(std::fs::read_to_string(folder.path().join("fresh")).unwrap(), "new\n");
}

#[test]
fn binds_show_trees_elsewhere() {
    need_kvm!();
    let folder = scratch();
    std::fs::write(folder.path().join("f"), "text\n").unwrap();
    let path = folder.path().to_str().unwrap();
    let bind = format!("{path}:/mnt");
    assert_eq!(busybox(&["--bind", &bind], &["cat", "/mnt/f"]).text(), "text\n");
    assert_eq!(shell(&["--bind", &bind], "echo x > /mnt/g").status, 0);
    assert_eq!(std::fs::read_to_string(folder.path().join("g")).unwrap(), "x\n");
    let outcome = shell(&["--bind", &format!("{bind}:ro")], "echo y > /mnt/g");
    assert_ne!(outcome.status, 0);
    assert!(outcome.errors().contains("Read-only file system"), "{}", outcome.errors());
    assert_eq!(std::fs::read_to_string(folder.path().join("g")).unwrap(), "x\n");
    // A file alone, over another file.
    let file = format!("{path}/f:/etc/hostname");
    assert_eq!(busybox(&["--bind", &file], &["cat", "/etc/hostname"]).text(), "text\n");
}

#[test]
fn secrets_are_hidden() {
    need_kvm!();
    let home = scratch();
    for folder in [".ssh", ".aws", ".gnupg", ".config/gh"] {
        std::fs::create_dir_all(home.path().join(folder)).unwrap();
        std::fs::write(home.path().join(folder).join("secret"), "key\n").unwrap();
    }
    std::fs::write(home.path().join("visible"), "hello\n").unwrap();
    std::fs::write(home.path().join("private"), "mine\n").unwrap();
    let path = home.path().to_str().unwrap();
    let run = |options: &[&str], file: &str| {
        let command = Command::picovisor().env("HOME", path).arg("run").args(options);
        command.args(["--", "/bin/busybox", "cat"]).arg(format!("{path}/{file}")).run()
    };
    assert_eq!(run(&[], "visible").text(), "hello\n");
    assert_eq!(run(&[], "private").text(), "mine\n");
    for file in [".ssh/secret", ".aws/secret", ".gnupg/secret", ".config/gh/secret"] {
        let outcome = run(&[], file);
        assert_eq!((outcome.status, outcome.text().as_str()), (1, ""), "{file}");
        assert!(outcome.errors().contains("No such file"), "{}", outcome.errors());
    }
    assert_eq!(run(&["--hide", "~/private"], "private").status, 1);
    assert_eq!(run(&["--hide", &format!("{path}/private")], "private").status, 1);
    // Granting a folder by name shows it.
    let grant = format!("{path}/.ssh:{path}/.ssh:ro");
    assert_eq!(run(&["--bind", &grant], ".ssh/secret").text(), "key\n");
    for file in ["/etc/shadow", "/etc/gshadow"] {
        assert_eq!(busybox(&[], &["cat", file]).status, 1, "{file}");
    }
}

#[test]
fn tmp_is_private() {
    need_kvm!();
    let outside = tempfile::tempdir_in("/tmp").unwrap();
    assert_eq!(busybox(&[], &["ls", "-A", "/tmp"]).text(), "");
    assert_eq!(busybox(&[], &["ls", outside.path().to_str().unwrap()]).status, 1);
    assert_eq!(shell(&[], "echo x > /tmp/y; read z < /tmp/y; echo $z").text(), "x\n");
    assert!(!Path::new("/tmp/y").exists());
}

#[test]
fn an_upper_folder_keeps_writes() {
    need_kvm!();
    let (upper, lower) = (scratch(), scratch());
    std::fs::write(lower.path().join("doomed"), "x").unwrap();
    let (upper_path, path) = (upper.path().to_str().unwrap(), lower.path().to_str().unwrap());
    assert_eq!(shell(&["--upper", upper_path], &format!("echo kept > {path}/new")).status, 0);
    assert_eq!(busybox(&["--upper", upper_path], &["rm", &format!("{path}/doomed")]).status, 0);
    assert_eq!(busybox(&["--upper", upper_path], &["cat", &format!("{path}/new")]).text(), "kept\n");
    assert_eq!(busybox(&["--upper", upper_path], &["cat", &format!("{path}/doomed")]).status, 1);
    assert!(!lower.path().join("new").exists() && lower.path().join("doomed").exists());
}

#[test]
fn host_devices_pipes_and_sockets_are_never_opened() {
    need_kvm!();
    let folder = scratch();
    let fifo = folder.path().join("fifo");
    assert_eq!(Command::new(tool("mkfifo")).arg(&fifo).run().status, 0);
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    let path = folder.path().to_str().unwrap();
    let outcome = busybox(&["--rw", path, "--timeout", "20s"], &["cat", &format!("{path}/socket")]);
    assert_eq!(outcome.status, 1, "{outcome:?}");
    // A host's FIFO is one of the sandbox's own inside. With a reader outside, a writer inside that does not wait finds none.
    let _reader = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
    let write = format!("import os; os.open('{path}/fifo', os.O_WRONLY | os.O_NONBLOCK)");
    let command =
        Command::picovisor().args(["run", "--rw", path, "--timeout", "20s", "--", "/usr/bin/python3", "-c", &write]);
    let outcome = command.run();
    let errors = String::from_utf8_lossy(&outcome.err);
    assert!(outcome.status == 1 && errors.contains("No such device or address"), "{outcome:?}");
}

#[test]
fn links_do_not_lead_out() {
    need_kvm!();
    let (root, outside) = (scratch(), scratch());
    std::fs::create_dir(root.path().join("bin")).unwrap();
    std::fs::copy(tool("busybox"), root.path().join("bin/busybox")).unwrap();
    std::fs::write(outside.path().join("secret"), "no\n").unwrap();
    symlink(outside.path(), root.path().join("absolute")).unwrap();
    symlink("../../../../../../../..", root.path().join("up")).unwrap();
    let root_path = root.path().to_str().unwrap();
    let outside_path = outside.path().to_str().unwrap();
    for name in
        ["/absolute/secret".to_owned(), format!("/up{outside_path}/secret"), format!("/../..{outside_path}/secret")]
    {
        let outcome = busybox(&["--root", root_path, "-w", "/"], &["cat", &name]);
        assert_eq!((outcome.status, outcome.text().as_str()), (1, ""), "{name}");
    }
}

#[test]
fn set_user_id_bits_of_the_host_mean_nothing() {
    need_kvm!();
    let folder = scratch();
    let path = folder.path().join("busybox");
    // The name "busybox" lets its first argument choose the command.
    std::fs::copy(tool("busybox"), &path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o6755)).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = Command::new(&path).args(["id", "-u"]).sandboxed(&["--user".as_ref(), "1:1".as_ref()]).run();
    assert_eq!(outcome.text(), "1\n", "{outcome:?}");
}

#[test]
fn standard_input_and_output_can_be_files() {
    need_kvm!();
    let folder = scratch();
    std::fs::write(folder.path().join("in"), noise(100_000)).unwrap();
    let copy = |prefix: &str, script: &str, out: &str| {
        // The position of standard input is shared with the shell: what the program leaves, the shell's next command reads.
        let script =
            format!("{{ {prefix} {script}; dd bs=7 count=1 status=none; }} < in > {out}; tail -c 20 {out} >> all");
        let outcome = Command::new("/bin/sh").args(["-c", &script]).folder(folder.path()).run();
        assert_eq!(outcome.status, 0, "{script}: {outcome:?}");
        std::fs::read(folder.path().join(out)).unwrap()
    };
    let prefix = format!("{} run", picovisor().display());
    for script in ["/bin/busybox cat", "/bin/busybox head -c 1000", "/bin/busybox dd bs=100 count=3", "/bin/cat"] {
        assert!(copy("", script, "native") == copy(&prefix, script, "ours"), "{script} moved other bytes");
    }
}

/// Bytes that no run-length trick shortens.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// How much the copying tests copy.
const COPIED: usize = 64 << 20;

#[test]
fn copies_are_whole_and_go_straight_to_the_host() {
    need_kvm!();
    let folder = scratch();
    let bytes = noise(COPIED);
    std::fs::write(folder.path().join("from"), &bytes).unwrap();
    let path = folder.path().to_str().unwrap();
    let trace = folder.path().join("trace");
    for (name, args) in [("cp", ["cp", "from", "to-cp"]), ("cat", ["cat", "from", ""])] {
        let mut command = Command::new(tool("strace")).args(["-f", "-qq", "-o"]).arg(&trace);
        command = command.args([
            "-e",
            "trace=read,write,pread64,pwrite64,readv,writev,preadv,pwritev,preadv2,pwritev2,copy_file_range,sendfile",
        ]);
        command = command.arg(picovisor()).args(["run", "--rw", path, "--"]).arg(tool(args[0]));
        command = command.args(args[1..].iter().filter(|arg| !arg.is_empty())).folder(folder.path());
        let outcome = command.run();
        assert_eq!(outcome.status, 0, "{name}: {}", outcome.errors());
        let copy = if name == "cp" { std::fs::read(folder.path().join("to-cp")).unwrap() } else { outcome.out };
        assert!(copy == bytes, "{name} changed the bytes");
        // Every byte is moved by a call on the host's descriptors that names guest memory or none at all: what read and
        // write with a buffer of the monitor's moved must be a rounding error.
        let trace = std::fs::read_to_string(&trace).unwrap();
        let bounced: u64 = trace.lines().filter(|line| moved_by(line, &["read(", "write("])).map(result).sum();
        let direct: u64 = trace
            .lines()
            .filter(|line| {
                moved_by(
                    line,
                    &["preadv", "pwritev", "readv", "writev", "copy_file_range", "sendfile", "pread64", "pwrite64"],
                )
            })
            .map(result)
            .sum();
        assert!(direct >= COPIED as u64, "{name} moved {direct} bytes directly");
        assert!(bounced < (1 << 20), "{name} moved {bounced} bytes through the monitor");
    }
}

/// Whether a line of strace's is one of these calls, or the end of one that another thread's line has come into.
fn moved_by(line: &str, calls: &[&str]) -> bool {
    let call = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
    let resumed = call.strip_prefix("<... ").map(|call| call.replacen(" resumed>", "(", 1));
    let call = resumed.as_deref().unwrap_or(call);
    calls.iter().any(|name| call.starts_with(name))
}

/// The result of a call in a line of strace's, if it is a number of bytes.
fn result(line: &str) -> u64 {
    line.rsplit("= ").next().and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn copies_into_the_overlay_are_whole() {
    need_kvm!();
    let folder = scratch();
    let bytes = noise(COPIED);
    std::fs::write(folder.path().join("from"), &bytes).unwrap();
    let path = folder.path().to_str().unwrap();
    let script = format!("exec busybox cmp {path}/from {path}/from");
    assert_eq!(shell(&[], &script).status, 0);
    // dd without truncation makes the overlay copy the file up and change one byte of the copy.
    let args = ["dd", "if=/dev/zero", &format!("of={path}/from"), "bs=1", "count=1", "conv=notrunc"];
    assert_eq!(busybox(&[], &args).status, 0);
    assert!(std::fs::read(folder.path().join("from")).unwrap() == bytes);
}
