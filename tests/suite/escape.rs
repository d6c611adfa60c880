//! No path leads out of the granted folders: programs try to get at a canary beside them, while others move what they walk through.

use crate::harness::{Command, Link, Outcome, need_kvm, picovisor, program, scratch, tool};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};

/// A canary in a folder, and beside that a folder to be granted and one that is a root.
struct Cage {
    folder: tempfile::TempDir,
    before: Canary,
}

/// What must stay as it is.
#[derive(Debug, PartialEq, Eq)]
struct Canary {
    text: String,
    names: Vec<OsString>,
    /// Mode, links, size, and the times of the last changes of contents and of attributes.
    file: [i64; 7],
    folder: [i64; 7],
}

impl Canary {
    fn look(outside: &Path) -> Self {
        let facts = |path: &Path| {
            let meta = std::fs::symlink_metadata(path).unwrap();
            let [links, size] = [meta.nlink(), meta.size()].map(|number| i64::try_from(number).unwrap());
            [i64::from(meta.mode()), links, size, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()]
        };
        let mut names: Vec<_> = std::fs::read_dir(outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let canary = outside.join("canary");
        let text = std::fs::read_to_string(&canary).unwrap();
        Self { text, names, file: facts(&canary), folder: facts(outside) }
    }
}

impl Cage {
    fn new() -> Self {
        let folder = scratch();
        let at = |name: &str| folder.path().join(name);
        for name in ["outside", "granted", "granted/sub", "granted/sub/deep", "root", "root/etc", "root/granted"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        // Found by its text, its size or its name. Whoever finds a way writes to all that is called so, too.
        let text = format!("{:4711}", "This is the canary.");
        for name in ["outside/canary", "outside/secret"] {
            std::fs::write(at(name), &text).unwrap();
        }
        for name in ["granted/sub/secret", "granted/sub/deep/secret", "granted/secret", "root/etc/hostname"] {
            std::fs::write(at(name), "inside\n").unwrap();
        }
        let before = Canary::look(&at("outside"));
        Self { folder, before }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program in a root of its own, which has `granted` as its /granted.
    fn in_root(&self, granted: &str, args: &[&str]) -> Command {
        let mut bind = self.at(granted).into_os_string();
        bind.push(":/granted");
        let root = self.at("root");
        let options =
            ["--root".as_ref(), root.as_os_str(), "--bind".as_ref(), &bind, "-w".as_ref(), "/granted".as_ref()];
        self.escape(args).sandboxed(&options)
    }

    /// A program that sees the host's files but for the canary's folder, and may write everything around that.
    fn beside_what_is_hidden(&self, args: &[&str]) -> Command {
        let outside = self.at("outside");
        let options: [&OsStr; 4] =
            ["--rw".as_ref(), self.folder.path().as_os_str(), "--hide".as_ref(), outside.as_os_str()];
        self.escape(args).folder(&self.at("granted")).sandboxed(&options)
    }

    fn escape(&self, args: &[&str]) -> Command {
        let outside = self.at("outside");
        let args = args.iter().map(|arg| if *arg == "OUTSIDE" { outside.as_os_str() } else { arg.as_ref() });
        Command::new(program("escape.c", Link::Static)).args(args)
    }

    /// The canary is as it was.
    #[track_caller]
    fn is_sound(&self) {
        assert_eq!(Canary::look(&self.at("outside")), self.before);
    }
}

#[track_caller]
fn nothing_leaked(outcome: &Outcome, last: &str) {
    let text = outcome.text();
    assert!(!text.contains("LEAK") && !text.contains("canary"), "{outcome:?}");
    assert!(outcome.status == 0 && text.lines().last() == Some(last), "{outcome:?}");
    assert_eq!(outcome.errors(), "", "{outcome:?}");
}

/// A program that gets at the canary says so: else these tests could not fail.
#[test]
fn what_is_not_kept_inside_gets_out() {
    let cage = Cage::new();
    let native = cage.escape(&["walk", "OUTSIDE", "1"]).folder(&cage.at("granted")).run();
    assert!(native.text().contains("LEAK: This is the canary."), "{native:?}");
    assert_ne!(Canary::look(&cage.at("outside")), cage.before);
}

#[test]
fn a_race_of_links_and_renames_inside_leads_nowhere() {
    need_kvm!();
    for hidden in [false, true] {
        let cage = Cage::new();
        let args = ["race", "OUTSIDE", "25"];
        let command = if hidden { cage.beside_what_is_hidden(&args) } else { cage.in_root("granted", &args) };
        nothing_leaked(&command.run(), "walked");
        cage.is_sound();
    }
}

#[test]
fn a_race_against_the_host_leads_nowhere() {
    need_kvm!();
    let cage = Cage::new();
    let command = cage.in_root("granted", &["walk", "sub", "60"]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A folder of the granted tree is a link to the canary's by turns, and lies beside that folder.
            let (sub, link, away) = (cage.at("granted/sub"), cage.at("link"), cage.at("away"));
            symlink(cage.at("outside"), &link).unwrap();
            while !over.load(Ordering::Relaxed) {
                std::fs::rename(&sub, &away).unwrap();
                std::fs::rename(&link, &sub).unwrap();
                std::fs::rename(&sub, &link).unwrap();
                std::fs::rename(&away, &sub).unwrap();
            }
        });
        let outcome = std::panic::catch_unwind(|| command.run());
        over.store(true, Ordering::Relaxed);
        match outcome {
            Ok(outcome) => nothing_leaked(&outcome, "walked"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    cage.is_sound();
}

#[test]
fn no_trick_leads_out() {
    need_kvm!();
    for hidden in [false, true] {
        let cage = Cage::new();
        let hostname = std::fs::read("/etc/hostname").unwrap_or_default();
        let args = ["tricks", "OUTSIDE"];
        let command = if hidden { cage.beside_what_is_hidden(&args) } else { cage.in_root("granted", &args) };
        nothing_leaked(&command.run(), "up from a root: no");
        cage.is_sound();
        assert_eq!(std::fs::read("/etc/hostname").unwrap_or_default(), hostname);
        assert_eq!(std::fs::read_to_string(cage.at("root/etc/hostname")).unwrap(), "inside\n");
        // Neither set-id bits nor capabilities reach the host.
        let set_id = cage.at("granted/setid");
        assert_eq!(std::fs::metadata(&set_id).unwrap().permissions().mode() & 0o7000, 0);
        for name in ["security.capability", "trusted.overlay.opaque"] {
            let mut value = [0_u8; 64];
            assert!(rustix::fs::getxattr(&set_id, name, &mut value).is_err(), "{name}");
        }
        // Nor devices.
        for entry in std::fs::read_dir(cage.at("granted")).unwrap() {
            let kind = entry.unwrap().file_type().unwrap();
            assert!(kind.is_dir() || kind.is_file() || kind.is_symlink());
        }
    }
}

/// Lets a program that holds folders open look once more.
#[track_caller]
fn look(child: &mut Child, out: &mut impl BufRead, when: &str) {
    writeln!(child.stdin.as_mut().unwrap(), "{when}").unwrap();
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "looked\n", "{when}");
}

#[test]
fn what_is_replaced_while_a_program_runs_is_not_followed() {
    need_kvm!();
    for grant in ["granted", "by-link"] {
        let cage = Cage::new();
        symlink(cage.at("granted"), cage.at("by-link")).unwrap();
        let command = cage.in_root(grant, &["hold", "OUTSIDE"]).input("");
        let mut child = command.std().spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let rename = |from: &str, to: &str| std::fs::rename(cage.at(from), cage.at(to)).unwrap();
        look(&mut child, &mut out, "at first");
        // The link by which it was granted leads elsewhere.
        std::fs::remove_file(cage.at("by-link")).unwrap();
        symlink(cage.at("outside"), cage.at("by-link")).unwrap();
        look(&mut child, &mut out, "another link");
        // The granted folder is moved, and something else is in its place.
        rename("granted", "moved");
        symlink(cage.at("outside"), cage.at("granted")).unwrap();
        look(&mut child, &mut out, "a link in the place of the granted folder");
        // A folder that is open is moved out of the granted one, beside the canary; and a link is in its place.
        rename("moved/sub", "outside/sub");
        look(&mut child, &mut out, "a folder beside the canary");
        symlink(cage.at("outside"), cage.at("moved/sub")).unwrap();
        look(&mut child, &mut out, "a link in the place of a folder");
        rename("outside/sub", "back");
        std::fs::remove_dir_all(cage.at("moved")).unwrap();
        look(&mut child, &mut out, "no granted folder any more");
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        let now = Canary::look(&cage.at("outside"));
        assert_eq!((now.text, now.names, now.file), (cage.before.text, cage.before.names, cage.before.file));
    }
}

#[test]
fn a_mount_of_the_hosts_kernel_inside_a_grant_is_closed() {
    need_kvm!();
    let cage = Cage::new();
    let granted = cage.at("granted");
    let script = "mount -t proc none \"$1/sub\" && mount --bind \"$1/sub/1\" \"$1/sub/self/net\" 2> /dev/null; shift; exec \"$@\"";
    let list = Command::new("/bin/ls").args([granted.join("sub")]).sandboxed(&[]);
    let std = list.std();
    let outcome = Command::new(tool("unshare"))
        .args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "/bin/sh", "-c", script, "sh"])
        .arg(&granted)
        .arg(picovisor())
        .args(std.get_args())
        .run();
    assert_eq!(outcome.text(), "", "{outcome:?}");
    assert!(outcome.errors().contains("Permission denied"), "{outcome:?}");
}
