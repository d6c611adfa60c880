//! Real programs of the distribution: what they print must be what they print natively.

use crate::harness::{Command, Place, assert_same, compare, need_kvm, scratch, tool};

/// Runs a tool natively and in a sandbox; it must succeed and do the same.
#[track_caller]
fn same(name: &str, args: &[&str]) -> String {
    same_with_input(name, args, "")
}

#[track_caller]
fn same_with_input(name: &str, args: &[&str], input: &str) -> String {
    let command = Command::new(tool(name)).args(args).input(input);
    let native = compare(&command, Place::HostFolder);
    assert_eq!(native.status, 0, "{command} is broken natively: {native:?}");
    native.text()
}

#[test]
fn busybox() {
    need_kvm!();
    same("busybox", &["sha256sum", "/bin/bash"]);
    same("busybox", &["ls", "-l", "/etc/init.d"]);
    same("busybox", &["wc", "/etc/services"]);
    same("busybox", &["sort", "-r", "/etc/services"]);
    same("busybox", &["grep", "-n", "tcp", "/etc/services"]);
    same("busybox", &["awk", "BEGIN{for(i=0;i<100000;i++)s+=i;print s}"]);
    same("busybox", &["sh", "-c", "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; echo $i"]);
    same("busybox", &["find", "/etc/apt", "-type", "f"]);
    same("busybox", &["tar", "-cf", "-", "/etc/init.d"]);
    same("busybox", &["gzip", "-c", "/etc/services"]);
    same_with_input("busybox", &["cat"], "from stdin\n");
}

/// busybox's cat uses sendfile(2), which must move the position that the caller's file has.
#[test]
fn a_file_as_standard_input_is_read_to_its_end() {
    need_kvm!();
    let cat = Command::new(tool("busybox")).arg("cat");
    let [native, ours] = [cat.std(), cat.sandboxed(&[]).std()].map(|mut command| {
        let input = std::fs::File::open("/etc/services").expect("a readable file");
        command.stdin(input).output().expect("it runs").stdout
    });
    assert!(!native.is_empty());
    assert_eq!(ours, native);
}

#[test]
fn coreutils() {
    need_kvm!();
    same("ls", &["-laR", "--time-style=full-iso", "/etc/pam.d", "/etc/apt"]);
    same("ls", &["-la", "/usr/bin"]);
    same("stat", &["-c", "%n %F %a %U %G", "/", "/etc/passwd", "/dev/zero", "/tmp"]);
    same("cat", &["/etc/services"]);
    same("sha256sum", &["/bin/bash", "/bin/ls"]);
    same("sort", &["/etc/services"]);
    same("du", &["-s", "--apparent-size", "/etc/pam.d"]);
    same("date", &["-u", "-d", "@0"]);
    same("id", &[]);
    same("readlink", &["-f", "/bin/sh"]);
    same("od", &["-c", "/etc/hostname"]);
    same("tr", &["a-z", "A-Z"]);
    same("env", &[]);
    same("dd", &["if=/etc/services", "bs=1000", "skip=2", "count=5", "status=none"]);
}

#[test]
fn find_lists_a_large_tree() {
    need_kvm!();
    // The order of entries is the host's own; only the set and the facts must agree.
    // A folder that its owner keeps to itself opens natively for root alone, whose capabilities no monitor has that changes nothing.
    let closed = ["-type", "d", "!", "-user", "root", "!", "-perm", "-o+rx", "-prune", "-o"];
    let command = Command::new(tool("find")).arg("/usr/share").args(closed);
    let command = command.args(["-printf", "%p %y %s %m %T@ %i\\n"]);
    let sorted = |text: String| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (native, ours) = (sorted(command.run().text()), sorted(command.sandboxed(&[]).run().text()));
    assert!(native.len() > 1000);
    let different = native.iter().zip(&ours).find(|(native, ours)| native != ours);
    assert_eq!((different, native.len()), (None, ours.len()));
}

#[test]
fn python() {
    need_kvm!();
    let script = r#"
import hashlib, json, re, sys, os, math, zlib, struct, decimal, datetime, collections, random, tempfile, itertools
print(sys.version_info[:3], sys.byteorder, sys.maxsize)
print(hashlib.sha256(b"x" * 1000000).hexdigest(), hashlib.blake2b(b"y").hexdigest()[:16])
print(json.dumps(json.loads('{"a": [1, 2.5, null, "\u00e9"]}'), sort_keys=True))
print(re.sub(r"(\w+)@(\w+)", r"\2 at \1", "me@here you@there"))
random.seed(7); print(random.random(), math.sin(1), decimal.Decimal(1) / 7)
print(zlib.crc32(zlib.compress(b"z" * 100000)), struct.unpack("<I", b"\1\2\3\4"))
with tempfile.NamedTemporaryFile("w+") as f:
    f.write("line\n" * 1000); f.flush(); f.seek(0); print(sum(1 for _ in f), os.stat(f.name).st_size)
print(sorted(os.listdir("/etc/pam.d"))[:5], os.getcwd() != "", os.path.realpath("/bin/sh"))
print(sum(i * i for i in range(200000)))
try:
    open("/no/such")
except OSError as e:
    print(e.errno, e.strerror)
"#;
    same("python3", &["-I", "-c", script]);
}

#[test]
fn sqlite_openssl_perl_jq() {
    need_kvm!();
    let series =
        "with recursive c(x) as (values(1) union all select x+1 from c where x<100000) select sum(x), count(*) from c";
    assert_eq!(same("sqlite3", &[":memory:", series]), "5000050000|100000\n");
    let file = "create table t(a, b); insert into t values (1, 'x'), (2, 'y'); begin; update t set b = 'z'; commit; select * from t";
    same("sqlite3", &["test.db", file]);
    same("openssl", &["dgst", "-sha256", "/bin/bash"]);
    same(
        "openssl",
        &["enc", "-aes-256-cbc", "-pbkdf2", "-k", "password", "-S", "0011223344556677", "-in", "/etc/services", "-a"],
    );
    same(
        "perl",
        &[
            "-e",
            "print join(',', map { $_ ** 2 } 1..10), \"\\n\"; my %h = (a => 1); print keys %h, \"\\n\"; print sprintf('%.10f', atan2(1, 1) * 4)",
        ],
    );
    same_with_input("jq", &["-c", ".a | map(. * 2)"], "{\"a\": [1, 2, 3]}");
}

#[test]
fn files_written_by_tools_arrive_on_the_host() {
    need_kvm!();
    let (mine, theirs) = (scratch(), scratch());
    let command = Command::new(tool("tar")).args(["-cf", "x.tar", "-C", "/etc", "--sort=name", "pam.d"]);
    let native = command.clone().folder(mine.path()).run();
    let ours = command.sandboxed(&["--rw".as_ref(), theirs.path().as_os_str()]).folder(theirs.path()).run();
    assert_same(&command, &native, &ours);
    let read = |folder: &tempfile::TempDir| std::fs::read(folder.path().join("x.tar")).unwrap();
    assert!(read(&mine) == read(&theirs), "the archives differ");
}
