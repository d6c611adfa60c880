//! Secrets: which host paths a sandbox does not see.
//!
//! What is hidden does not exist inside; a program may make its own in its place, in memory. A path that is granted by name
//! (`--bind ~/.ssh:…`, `--rw`) is seen, and what lies in a granted directory stays hidden if it is on the list itself.

use super::host::{Finder, Hidden, Secret};
use crate::config::{Bind, Config};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Host paths that no sandbox sees unless they are granted; `~` is each home directory that the caller could read: the caller's,
/// and for root every user's. `*` in a last component stands for anything.
pub const DEFAULT_HIDDEN: &[&str] = &[
    "~/.ssh",
    "~/.aws",
    "~/.gnupg",
    "~/.config/gh",
    "~/.config/gcloud",
    "~/.azure",
    "~/.kube",
    "~/.docker/config.json",
    "~/.netrc",
    "~/.git-credentials",
    "~/.config/git/credentials",
    "~/.npmrc",
    "~/.pypirc",
    "~/.cargo/credentials.toml",
    "~/.password-store",
    "~/.local/share/keyrings",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/ssl/private",
    "/etc/pki/tls/private",
    "/etc/letsencrypt",
    "/etc/ssh/ssh_host_*_key",
    "/etc/wireguard",
    "/run/docker.sock",
    "/run/podman",
    "/run/containerd",
    "/run/crio",
    "/run/libvirt",
    "/run/user",
    "/run/secrets",
    "/var/lib/docker",
    "/var/lib/containerd",
];

/// Environment variables whose value is the path of an agent's socket.
const AGENTS: &[&str] = &["SSH_AUTH_SOCK", "GPG_AGENT_INFO"];

/// The paths of [`DEFAULT_HIDDEN`] as they are on this host, existing or not, `~` and `*` replaced.
pub fn default_hidden() -> Vec<PathBuf> {
    let homes = homes();
    let mut paths = Vec::new();
    for pattern in DEFAULT_HIDDEN {
        match pattern.strip_prefix("~/") {
            Some(rest) => paths.extend(homes.iter().map(|home| home.join(rest))),
            None => expand(Path::new(pattern), &mut paths),
        }
    }
    paths.extend(AGENTS.iter().filter_map(std::env::var_os).filter(|value| value.as_bytes().starts_with(b"/")).map(
        // GPG_AGENT_INFO goes on with a colon and numbers.
        |value| PathBuf::from(OsStr::from_bytes(value.as_bytes().split(|byte| *byte == b':').next().unwrap_or(b"/"))),
    ));
    paths
}

/// The numbers of people's accounts (UID_MIN and what lies below nobody, login.defs(5)): the others own no secrets of a home.
const PEOPLE: std::ops::Range<u32> = 1000..65534;

/// The home directories that the caller could read.
fn homes() -> Vec<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let mut homes: Vec<PathBuf> = std::env::var_os("HOME").map(PathBuf::from).into_iter().collect();
    let users = fs::read("/etc/passwd").unwrap_or_default();
    for line in users.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let (Some(number), Some(home)) = (fields.get(2), fields.get(5)) else { continue };
        let number = std::str::from_utf8(number).ok().and_then(|text| text.parse::<u32>().ok());
        if number.is_some_and(|number| number == uid || (uid == 0 && PEOPLE.contains(&number))) {
            homes.push(PathBuf::from(OsStr::from_bytes(home)));
        }
    }
    // A service's "home" may be /.
    homes.retain(|home| home.is_absolute() && home.parent().is_some());
    homes.sort();
    homes.dedup();
    homes
}

/// Adds the paths that a pattern stands for.
fn expand(pattern: &Path, paths: &mut Vec<PathBuf>) {
    let name = pattern.file_name().unwrap_or_default().as_bytes();
    let Some(star) = name.iter().position(|byte| *byte == b'*') else {
        return paths.push(pattern.to_owned());
    };
    let (prefix, suffix) = (&name[..star], &name[star + 1..]);
    let parent = pattern.parent().unwrap_or(Path::new("/"));
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.as_bytes().starts_with(prefix) && name.as_bytes().ends_with(suffix) {
            paths.push(parent.join(name));
        }
    }
}

/// What is hidden where.
#[derive(Debug)]
pub(super) struct Hiding<'a> {
    root: PathBuf,
    binds: &'a [Bind],
    secrets: Vec<Secret>,
    hide: &'a [PathBuf],
}

impl<'a> Hiding<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        let root = config.view.root.clone().unwrap_or_else(|| PathBuf::from("/"));
        let mut finder = Finder::default();
        let mut secrets: Vec<Secret> = default_hidden().iter().filter_map(|path| finder.find(path)).collect();
        if root != Path::new("/") {
            // The same names under another root are that system's secrets.
            let inside = DEFAULT_HIDDEN.iter().filter(|pattern| !pattern.starts_with('~'));
            let inside = inside.map(|pattern| root.join(pattern.trim_start_matches('/')));
            let mut paths = Vec::new();
            inside.for_each(|pattern| expand(&pattern, &mut paths));
            secrets.extend(paths.iter().filter_map(|path| finder.find(path)));
        }
        Self { root, binds: &config.view.binds, secrets, hide: &config.view.hide }
    }

    /// What the root's tree does not show.
    pub(super) fn in_root(&self) -> Hidden {
        let mut hidden = Hidden::default();
        self.secrets.iter().for_each(|secret| hidden.add(secret));
        self.add_chosen(&mut hidden, None);
        hidden
    }

    /// What a bind does not show: a secret that it is, or lies in, was granted by name.
    pub(super) fn in_bind(&self, index: usize) -> Hidden {
        let above = above(&self.binds[index].source);
        let mut hidden = Hidden::default();
        let kept = self.secrets.iter().filter(|secret| !secret.is_any_of(&above));
        kept.for_each(|secret| hidden.add(secret));
        self.add_chosen(&mut hidden, Some(index));
        hidden
    }

    /// Adds what the user chose to hide in this tree.
    fn add_chosen(&self, hidden: &mut Hidden, bind: Option<usize>) {
        let paths = self.hide.iter().filter_map(|path| self.host_path(path, bind));
        paths.filter_map(|path| Secret::find(&path)).for_each(|secret| hidden.add(&secret));
    }

    /// Where a path inside lies on the host, if it lies in this tree: the last bind that covers it counts, the bind's own target
    /// belongs to what is below.
    fn host_path(&self, path: &Path, bind: Option<usize>) -> Option<PathBuf> {
        let covering = self.binds.iter().rposition(|bind| path.starts_with(&bind.target) && path != bind.target);
        if covering != bind {
            return None;
        }
        let (source, target) = match bind {
            None => (self.root.as_path(), Path::new("/")),
            Some(index) => (self.binds[index].source.as_path(), self.binds[index].target.as_path()),
        };
        Some(source.join(path.strip_prefix(target).ok()?))
    }
}

/// The identities of a path's object and of the directories that lead to it.
fn above(path: &Path) -> HashSet<(u64, u64)> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real.ancestors().filter_map(|path| fs::metadata(path).ok()).map(|meta| (meta.dev(), meta.ino())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;
    use tempfile::TempDir;

    fn identity(path: &Path) -> (u64, u64) {
        let meta = fs::metadata(path).unwrap();
        (meta.dev(), meta.ino())
    }

    #[test]
    fn a_chosen_path_is_hidden_in_the_tree_that_shows_it() {
        let host = TempDir::new().unwrap();
        fs::create_dir_all(host.path().join("bound/secret")).unwrap();
        fs::create_dir_all(host.path().join("root/other")).unwrap();
        let mut config = config();
        config.view.root = Some(host.path().join("root"));
        let (source, target) = (host.path().join("bound"), PathBuf::from("/data"));
        config.view.binds = vec![Bind { source: source.clone(), target, writable: true }];
        config.view.hide = vec!["/data/secret".into(), "/other".into()];
        let hiding = Hiding::new(&config);
        let (bound, root) = (identity(&source), identity(&host.path().join("root")));
        assert!(hiding.in_bind(0).hides_name(bound, b"secret"));
        assert!(!hiding.in_bind(0).hides_name(root, b"other"));
        assert!(hiding.in_root().hides_name(root, b"other"));
    }

    #[test]
    fn a_pattern_stands_for_what_is_there() {
        let host = TempDir::new().unwrap();
        for name in ["ssh_host_rsa_key", "ssh_host_rsa_key.pub", "other"] {
            fs::write(host.path().join(name), b"").unwrap();
        }
        let mut paths = Vec::new();
        expand(&host.path().join("ssh_host_*_key"), &mut paths);
        assert_eq!(paths, [host.path().join("ssh_host_rsa_key")]);
    }
}
