//! Secrets: which host paths a sandbox does not see.
//!
//! What is hidden does not exist inside; a program may make its own in its place, in memory. A path that is granted by name
//! (`--bind ~/.ssh:…`, `--rw`) is seen, and what lies in a granted directory stays hidden if it is on the list itself.

use super::host::Hidden;
use crate::config::{Bind, Config};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
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

/// The home directories that the caller could read.
fn homes() -> Vec<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let mut homes: Vec<PathBuf> = std::env::var_os("HOME").map(PathBuf::from).into_iter().collect();
    let users = fs::read("/etc/passwd").unwrap_or_default();
    for line in users.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let (Some(number), Some(home)) = (fields.get(2), fields.get(5)) else { continue };
        let number = std::str::from_utf8(number).ok().and_then(|text| text.parse::<u32>().ok());
        if number == Some(uid) || uid == 0 {
            homes.push(PathBuf::from(OsStr::from_bytes(home)));
        }
    }
    // System users' "homes" such as / and /usr/sbin hold no secrets of theirs; / would cost the most look-ups.
    homes.retain(|home| home.is_absolute() && home.parent().is_some() && !home.starts_with("/usr") && home.exists());
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
    secrets: Vec<PathBuf>,
    hide: &'a [PathBuf],
}

impl<'a> Hiding<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        let root = config.view.root.clone().unwrap_or_else(|| PathBuf::from("/"));
        Self { root, binds: &config.view.binds, secrets: default_hidden(), hide: &config.view.hide }
    }

    /// What the root's tree does not show.
    pub(super) fn in_root(&self) -> Hidden {
        self.hidden(&self.root, None)
    }

    /// What a bind does not show.
    pub(super) fn in_bind(&self, index: usize) -> Hidden {
        self.hidden(&self.binds[index].source, Some(index))
    }

    fn hidden(&self, tree: &Path, bind: Option<usize>) -> Hidden {
        let mut hidden = Hidden::default();
        let real = fs::canonicalize(tree).unwrap_or_else(|_| tree.to_owned());
        for secret in &self.secrets {
            // A secret that is the tree, or that the tree lies in, was granted by name.
            if bind.is_none() || !real.starts_with(fs::canonicalize(secret).as_deref().unwrap_or(secret)) {
                hidden.add(secret);
            }
            // The same names under another root are that system's secrets.
            if bind.is_none() && tree != Path::new("/") {
                hidden.add(&tree.join(secret.strip_prefix("/").unwrap_or(secret)));
            }
        }
        for path in self.hide {
            if let Some(host) = self.host_path(path, bind) {
                hidden.add(&host);
            }
        }
        hidden
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
