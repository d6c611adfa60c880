//! The file systems that a program may mount, and their options.
//!
//! A tmpfs (ramfs is one, too) is made anew. The kernel's own (proc, sysfs, devpts) are the sandbox's, mounted once more.

use super::mount::{MountFlags, NewMount, SuperBlock};
use super::tmp::{TmpFs, TmpOptions};
use super::{Location, Namespace, OpenFile};
use crate::errno::Errno;
use crate::task::CurrentTask;
use std::sync::Arc;

/// Types of file systems of which a sandbox has one.
const SHARED: &[&[u8]] = &[b"proc", b"sysfs", b"devpts", b"mqueue"];

/// A file system that is about to be mounted (a file-system context).
#[derive(Debug, Default)]
pub struct Request {
    /// Its type, as /proc/filesystems has it.
    pub kind: Vec<u8>,
    /// What is mounted: any text, for the types that there are.
    pub source: Vec<u8>,
    /// Its own options.
    options: TmpOptions,
    /// Nothing is to be written, whichever mount shows it.
    pub read_only: bool,
}

/// A file system that was made and is mounted nowhere yet.
#[derive(Debug)]
pub struct MadeRequest {
    request: Request,
    superblock: Arc<SuperBlock>,
}

impl Request {
    /// Starts on a file system of a type; `ENODEV` for one that there is not.
    pub fn new(kind: &[u8]) -> Result<Self, Errno> {
        let known = SHARED.contains(&kind) || matches!(kind, b"tmpfs" | b"ramfs");
        if known { Ok(Self { kind: kind.to_vec(), ..Self::default() }) } else { Err(Errno::ENODEV) }
    }

    /// Takes options as mount(2) has them: words with commas between; `EINVAL` for one that the type does not have.
    pub fn options(&mut self, text: &[u8]) -> Result<(), Errno> {
        for word in text.split(|byte| *byte == b',').filter(|word| !word.is_empty()) {
            let mut parts = word.splitn(2, |byte| *byte == b'=');
            let name = parts.next().unwrap_or_default();
            self.option(name, parts.next())?;
        }
        Ok(())
    }

    /// Takes one option.
    pub fn option(&mut self, name: &[u8], value: Option<&[u8]>) -> Result<(), Errno> {
        match (name, value) {
            (b"ro", None) => self.read_only = true,
            (b"rw", None) => self.read_only = false,
            // What vfs_parse_sb_flag knows: all writes are seen at once here.
            (b"sync" | b"async" | b"dirsync" | b"lazytime" | b"nolazytime" | b"mand" | b"nomand", None) => {}
            (b"source", Some(source)) => self.source = source.to_vec(),
            _ => match &self.kind[..] {
                b"tmpfs" => self.options.set(name, value)?,
                // ramfs takes whatever it does not know.
                b"ramfs" => {
                    if name == b"mode" {
                        self.options.set(name, value)?;
                    }
                }
                b"proc" if matches!(name, b"hidepid" | b"gid" | b"subset") => {}
                b"devpts" if matches!(name, b"newinstance" | b"ptmxmode" | b"mode" | b"gid" | b"uid" | b"max") => {}
                _ => return Err(Errno::EINVAL),
            },
        }
        Ok(())
    }

    /// The file system.
    pub(super) fn superblock(&self, namespace: &Namespace) -> Result<Arc<SuperBlock>, Errno> {
        let shared = namespace.own.iter().find(|own| own.file_system.type_name().as_bytes() == self.kind);
        if let Some(shared) = shared.filter(|_| SHARED.contains(&&self.kind[..])) {
            return Ok(shared.clone());
        }
        let type_name = if self.kind == b"ramfs" { "ramfs" } else { "tmpfs" };
        let file_system = TmpFs::like(namespace.nameless(), type_name, &self.options)?;
        let superblock = SuperBlock::new(file_system, None);
        superblock.set_read_only(self.read_only);
        Ok(superblock)
    }
}

impl Namespace {
    /// Mounts a file system of a type (do_new_mount).
    pub fn mount_file_system(
        &self,
        task: &CurrentTask<'_>,
        request: &Request,
        at: &Location,
        flags: MountFlags,
    ) -> Result<(), Errno> {
        let superblock = request.superblock(self)?;
        let source: &[u8] = if request.source.is_empty() { b"none" } else { &request.source };
        self.mount_new(task, &NewMount { superblock, source, flags }, at)
    }

    /// Makes a mount of a file system that is nowhere yet, and opens it (fsmount).
    pub fn open_file_system(&self, request: &MadeRequest, flags: MountFlags) -> Result<Arc<OpenFile>, Errno> {
        let source: &[u8] = if request.request.source.is_empty() { b"none" } else { &request.request.source };
        self.open_new(&NewMount { superblock: request.superblock.clone(), source, flags })
    }

    /// Makes the file system that was asked for, mounted nowhere yet (FSCONFIG_CMD_CREATE).
    pub fn make_file_system(&self, request: Request) -> Result<MadeRequest, Errno> {
        request.superblock(self).map(|superblock| MadeRequest { request, superblock })
    }

    /// Changes the options of what is mounted at a place (do_remount).
    pub fn remount(
        &self,
        task: &CurrentTask<'_>,
        at: &Location,
        options: &[u8],
        read_only: bool,
        flags: MountFlags,
    ) -> Result<(), Errno> {
        let mount = at.mount().filter(|_| at.is_mount_root()).ok_or(Errno::EINVAL)?;
        let mut request = Request { kind: mount.file_system.type_name().into(), read_only, ..Request::default() };
        // What the view made has no options that could change.
        let known = Request::new(&request.kind).is_ok();
        if known {
            request.options(options)?;
        }
        if !SHARED.contains(&&request.kind[..]) {
            self.set_file_system_read_only(task, at, request.read_only)?;
        }
        if known {
            mount.file_system.reconfigure(&request.options)?;
        }
        self.change_mount_flags(task, at, super::Depth::One, |_| flags)
    }
}
