//! mounts and mountinfo.

use super::Shown;
use crate::errno::Errno;
use crate::fs::Mount;
use rustix::fs::{major, minor};
use std::io::Write;

/// `mounts`: as fstab(5) has it.
pub(super) fn table(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    for mount in shown.task.kernel().namespace().mounts() {
        escape(&mount.source, &mut out);
        out.push(b' ');
        escape(&mount.path(), &mut out);
        // Writing to a Vec cannot fail.
        let _ = writeln!(out, " {} {},relatime 0 0", mount.file_system.type_name(), access(mount));
    }
    Ok(out)
}

/// `mountinfo`
pub(super) fn information(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    for mount in shown.task.kernel().namespace().mounts() {
        let device = mount.file_system.device();
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{} {} {}:{} / ", mount.id, mount.parent_id(), major(device), minor(device));
        escape(&mount.path(), &mut out);
        let _ = write!(out, " {},relatime - {} ", access(mount), mount.file_system.type_name());
        escape(&mount.source, &mut out);
        let _ = writeln!(out, " {}", access(mount));
    }
    Ok(out)
}

/// `mountstats`: what is mounted; no file system here has figures of its own.
pub(super) fn statistics(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    for mount in shown.task.kernel().namespace().mounts() {
        out.extend(b"device ");
        escape(&mount.source, &mut out);
        out.extend(b" mounted on ");
        escape(&mount.path(), &mut out);
        // Writing to a Vec cannot fail.
        let _ = writeln!(out, " with fstype {}", mount.file_system.type_name());
    }
    Ok(out)
}

fn access(mount: &Mount) -> &'static str {
    if mount.read_only { "ro" } else { "rw" }
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
