//! Who the program believes to be: the caller, or `--user` looked up in the sandbox's user database.

use provider::config::User;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use crate::cli::UserSpec;
use crate::failure::Failure;

/// A user database larger than this is not read.
const DATABASE_LIMIT: u64 = 4 << 20;

/// The identity inside, for `--user` if given; `root` is the host folder that is `/` inside.
pub(crate) fn resolve(spec: Option<&UserSpec>, root: &Path) -> Result<User, Failure> {
    let caller = caller()?;
    match spec {
        None => Ok(caller.clone()),
        Some(spec) => look_up(spec, caller, &database(root, "etc/passwd"), &database(root, "etc/group")),
    }
}

/// Who has started the monitor. The host is asked once, at the start: a sealed monitor asks no more.
fn caller() -> Result<&'static User, Failure> {
    static CALLER: OnceLock<Result<User, Errno>> = OnceLock::new();
    let look = || {
        let groups = rustix::process::getgroups()?.into_iter().map(rustix::process::Gid::as_raw).collect();
        Ok(User { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw(), groups })
    };
    CALLER.get_or_init(look).as_ref().map_err(|error| Failure::ours(format_args!("getgroups: {error}")))
}

/// The text of a user database below `root`, or nothing: a sandbox need not have one. The folder may be somebody else's
/// work, so links stay inside it and only a plain file is read.
fn database(root: &Path, path: &str) -> String {
    let read = || -> std::io::Result<String> {
        let directory =
            rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let node = rustix::fs::openat2(&directory, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        let kind = rustix::fs::statx(&node, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?.stx_mode;
        if FileType::from_raw_mode(kind.into()) != FileType::RegularFile {
            return Ok(String::new());
        }
        let file = rustix::fs::openat2(&directory, path, flags, Mode::empty(), resolve)?;
        let mut bytes = Vec::new();
        std::fs::File::from(file).take(DATABASE_LIMIT).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

/// A line of /etc/passwd, as far as it matters here.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name, uid, gid })
    })
}

/// Name, id and comma-separated members of each group.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

/// The id that `text` is, if it is one. The all-ones id means "unchanged" to Linux and is none.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

fn look_up(spec: &UserSpec, caller: &User, passwd: &str, group: &str) -> Result<User, Failure> {
    let account = match id(&spec.user) {
        Some(uid) => accounts(passwd).find(|account| account.uid == uid).ok_or(uid),
        None => match accounts(passwd).find(|account| account.name == spec.user) {
            Some(account) => Ok(account),
            None => return Err(Failure::ours(format_args!("--user: the sandbox has no user {:?}", spec.user))),
        },
    };
    let named = match &spec.group {
        None => None,
        Some(text) => match id(text).or_else(|| groups(group).find(|(name, ..)| name == text).map(|(_, gid, _)| gid)) {
            Some(gid) => Some(gid),
            None => return Err(Failure::ours(format_args!("--user: the sandbox has no group {text:?}"))),
        },
    };
    match account {
        // A number without a name: the group stays the caller's, as bubblewrap has it.
        Err(uid) => Ok(User { uid, gid: named.unwrap_or(caller.gid), groups: Vec::new() }),
        // Docker gives the supplementary groups only when no group is named.
        Ok(account) if named.is_none() => {
            let member = |members: &str| members.split(',').any(|member| member == account.name);
            let groups = groups(group).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid);
            Ok(User { uid: account.uid, gid: account.gid, groups: groups.collect() })
        }
        Ok(account) => Ok(User { uid: account.uid, gid: named.unwrap_or(account.gid), groups: Vec::new() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:1001:Ann,,:/home/ann:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nann:x:1001:\naudio:x:29:bob,ann\nvideo:x:44:annie\nkvm:x:108:ann\n";

    fn found(user: &str, group: Option<&str>) -> Option<(u32, u32, Vec<u32>)> {
        let spec = UserSpec { user: user.into(), group: group.map(Into::into) };
        let caller = User { uid: 5, gid: 6, groups: vec![7] };
        look_up(&spec, &caller, PASSWD, GROUP).ok().map(|user| (user.uid, user.gid, user.groups))
    }

    #[test]
    fn users_are_looked_up_as_docker_does() {
        assert_eq!(found("ann", None), Some((1000, 1001, vec![29, 108])));
        assert_eq!(found("1000", None), Some((1000, 1001, vec![29, 108])));
        assert_eq!(found("1000", Some("9")), Some((1000, 9, vec![])));
        assert_eq!(found("ann", Some("audio")), Some((1000, 29, vec![])));
        assert_eq!(found("4242", None), Some((4242, 6, vec![])));
        assert_eq!(found("4242", Some("kvm")), Some((4242, 108, vec![])));
        assert_eq!(found("nobody", None), None);
        assert_eq!(found("ann", Some("nogroup")), None);
        assert_eq!(found("4294967295", None), None);
    }

    #[test]
    fn a_database_is_read_inside_the_root_only() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        assert_eq!(database(root.path(), "etc/passwd"), "");
        std::os::unix::fs::symlink("/etc/hostname", root.path().join("etc/passwd")).unwrap();
        assert_eq!(database(root.path(), "etc/passwd"), "");
        std::fs::write(root.path().join("etc/hostname"), "mine").unwrap();
        assert_eq!(database(root.path(), "etc/passwd"), "mine");
        assert_eq!(database(&root.path().join("missing"), "etc/passwd"), "");
    }
}
