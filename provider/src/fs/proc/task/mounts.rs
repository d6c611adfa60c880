//! mounts and mountinfo.

use super::Shown;
use crate::errno::Errno;
use crate::fs::{Mount, MountFlags, Sharing, option_words};
use rustix::fs::{major, minor};
use std::io::Write;
use std::sync::Arc;

/// The mounts that the task can reach from its root, with the paths they have for it.
fn visible(shown: &Shown<'_, '_>) -> Vec<(Arc<Mount>, Sharing, Vec<u8>)> {
    let Some(context) = shown.task.fs() else { return Vec::new() };
    let root = context.root();
    let all = context.mounts().list().into_iter();
    all.filter_map(|(mount, sharing)| mount.path_from(&root).map(|path| (mount, sharing, path))).collect()
}

/// `mounts`: as fstab(5) has it.
pub(super) fn table(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    for (mount, _, path) in visible(shown) {
        escape(&mount.source, &mut out);
        out.push(b' ');
        escape(&path, &mut out);
        let options = options(&mount, mount.is_read_only());
        let more = mount.file_system.options();
        // Writing to a Vec cannot fail.
        let _ = writeln!(out, " {} {options}{more} 0 0", mount.file_system.type_name());
    }
    Ok(out)
}

/// `mountinfo`
pub(super) fn information(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    for (mount, sharing, path) in visible(shown) {
        let device = mount.file_system.device();
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{} {} {}:{} ", mount.id, mount.parent_id(), major(device), minor(device));
        escape(&mount.root_path(), &mut out);
        out.push(b' ');
        escape(&path, &mut out);
        let _ = write!(out, " {}", options(&mount, mount.flags().contains(MountFlags::READ_ONLY)));
        for (word, group) in [("shared", sharing.group), ("master", sharing.master), ("propagate_from", sharing.from)] {
            if group != 0 {
                let _ = write!(out, " {word}:{group}");
            }
        }
        if sharing.unbindable {
            out.extend(b" unbindable");
        }
        let _ = write!(out, " - {} ", mount.file_system.type_name());
        escape(&mount.source, &mut out);
        let _ = writeln!(out, " {}{}", access(mount.is_superblock_read_only()), mount.file_system.options());
    }
    Ok(out)
}

/// `mountstats`: what is mounted; no file system here has figures of its own.
pub(super) fn statistics(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    for (mount, _, path) in visible(shown) {
        out.extend(b"device ");
        escape(&mount.source, &mut out);
        out.extend(b" mounted on ");
        escape(&path, &mut out);
        // Writing to a Vec cannot fail.
        let _ = writeln!(out, " with fstype {}", mount.file_system.type_name());
    }
    Ok(out)
}

fn access(read_only: bool) -> &'static str {
    if read_only { "ro" } else { "rw" }
}

fn options(mount: &Mount, read_only: bool) -> String {
    let mut words = vec![access(read_only)];
    words.extend(option_words(mount.flags()));
    words.join(",")
}

/// Appends a name with the bytes that would end a field or a line as octal numbers (`mangle` in fs/proc_namespace.c).
fn escape(name: &[u8], out: &mut Vec<u8>) {
    for byte in name {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => {
                // Writing to a Vec cannot fail.
                let _ = write!(out, "\\{byte:03o}");
            }
            _ => out.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_forge_fields() {
        let mut out = Vec::new();
        escape(b"a b\tc\nd\\e#", &mut out);
        assert_eq!(out, b"a\\040b\\011c\\012d\\134e\\043");
    }
}
