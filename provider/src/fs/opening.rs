//! open(2) by path, in the order of checks of fs/namei.c (path_openat, do_open, may_open).

use super::access::{self, Want, capability};
use super::notify::Mask;
use super::walk::{LastLink, Resolve, Special, Tail};
use super::{
    AttributeChange, File, FileKind, Location, MountFlags, Namespace, NewNode, OpenFile, OpenFlags, Patience, Sink,
    Source, Use,
};
use crate::errno::Errno;
use crate::task::{Credentials, CurrentTask};
use std::sync::Arc;

/// What O_PATH opens: a place and nothing more.
#[derive(Debug)]
struct PlaceFile;

impl File for PlaceFile {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, _to: &mut dyn Sink) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }
}

/// How often open(O_CREAT) tries again when somebody makes or removes the name between its lookup and its creation.
const CREATE_TRIES: u32 = 16;

impl Namespace {
    /// Opens a path as open(2) does. `mode` counts for a file that is made; the umask is applied here.
    pub fn open(
        &self,
        task: &CurrentTask<'_>,
        base: Option<&Location>,
        path: &[u8],
        flags: OpenFlags,
        mode: u32,
    ) -> Result<Arc<OpenFile>, Errno> {
        self.open_how(task, base, path, flags, mode, Resolve::empty())
    }

    /// Opens a path as openat2(2) does.
    pub fn open_how(
        &self,
        task: &CurrentTask<'_>,
        base: Option<&Location>,
        path: &[u8],
        flags: OpenFlags,
        mode: u32,
        resolve: Resolve,
    ) -> Result<Arc<OpenFile>, Errno> {
        let last = if flags.contains(OpenFlags::NOFOLLOW) { LastLink::Keep } else { LastLink::Follow };
        if flags.contains(OpenFlags::PATH) {
            let place = self.walker(task, base, resolve).walk(path, last)?;
            return open_place(place, flags);
        }
        if flags.contains(OpenFlags::TMPFILE) {
            let directory = self.walker(task, base, resolve).walk(path, last)?;
            return open_unnamed(task, directory, flags, mode);
        }
        if flags.contains(OpenFlags::CREAT) {
            return self.open_or_create(task, base, path, flags, mode, resolve);
        }
        let place = self.walker(task, base, resolve).walk(path, last)?;
        self.open_at(task, place, flags)
    }

    fn open_or_create(
        &self,
        task: &CurrentTask<'_>,
        base: Option<&Location>,
        path: &[u8],
        flags: OpenFlags,
        mode: u32,
        resolve: Resolve,
    ) -> Result<Arc<OpenFile>, Errno> {
        let mut failed = Errno::EEXIST;
        for _ in 0..CREATE_TRIES {
            let mut walker = self.walker(task, base, resolve);
            let mut tail = walker.walk_to_tail(path)?;
            let opened = loop {
                let (directory, name) = match tail {
                    Tail::Place(place, Special::Root) if place.kind() != FileKind::Directory => {
                        break self.open_existing(task, place, flags);
                    }
                    Tail::Place(..) | Tail::Name { slash: true, .. } => return Err(Errno::EISDIR),
                    Tail::Name { directory, name, .. } => (directory, name),
                };
                match walker.step(&directory, &name) {
                    Ok(place) => {
                        let follows = !flags.intersects(OpenFlags::NOFOLLOW | OpenFlags::EXCL);
                        if place.kind() == FileKind::Symlink && follows {
                            tail = walker.follow(&directory, &place, false)?;
                            continue;
                        }
                        break self.open_existing(task, place, flags);
                    }
                    Err(Errno::ENOENT) => break self.open_created(task, &directory, &name, flags, mode),
                    Err(error) => return Err(error),
                }
            };
            match opened {
                // Somebody made the name, or removed the file that it led to.
                Err(error @ (Errno::EEXIST | Errno::ENOENT)) if !flags.contains(OpenFlags::EXCL) => failed = error,
                other => return other,
            }
        }
        Err(failed)
    }

    fn open_existing(&self, task: &CurrentTask<'_>, place: Location, flags: OpenFlags) -> Result<Arc<OpenFile>, Errno> {
        if flags.contains(OpenFlags::EXCL) {
            return Err(Errno::EEXIST);
        }
        if place.kind() == FileKind::Directory {
            return Err(Errno::EISDIR);
        }
        self.open_at(task, place, flags)
    }

    /// Sets the size of the regular file at a place (vfs_truncate). Like an open for writing this is `ETXTBSY` for a file that is being
    /// run, breaks leases, and counts as a use while it waits for them.
    pub fn truncate_at(&self, task: &CurrentTask<'_>, place: &Location, size: u64) -> Result<(), Errno> {
        let _counted = place.opened(true)?;
        self.locks().leases().break_for(task, place.inode(), Use::Write, Patience::Waits)?;
        place.inode().change(&AttributeChange { size: Some(size), ..AttributeChange::default() })?;
        place.tell(Mask::MODIFY);
        Ok(())
    }

    fn open_created(
        &self,
        task: &CurrentTask<'_>,
        directory: &Location,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
    ) -> Result<Arc<OpenFile>, Errno> {
        let place = self.make(task, directory, name, FileKind::Regular, mode, 0, b"")?;
        let opened = place.opened(flags.writes())?;
        // A file that was just made may be written whatever its mode says.
        let file = place.inode().clone().open(task, flags.difference(OpenFlags::TRUNC))?;
        let file = OpenFile::counted(file, place, flags, opened);
        file.note_created();
        Ok(file)
    }

    /// Opens a place and nothing more (O_PATH).
    pub fn open_place(&self, place: Location, flags: OpenFlags) -> Result<Arc<OpenFile>, Errno> {
        open_place(place, flags)
    }

    /// Opens what is at a place, as a path walk that ends there would.
    pub fn open_at(&self, task: &CurrentTask<'_>, place: Location, flags: OpenFlags) -> Result<Arc<OpenFile>, Errno> {
        let kind = place.kind();
        let who = task.credentials();
        let truncates = flags.contains(OpenFlags::TRUNC);
        // do_open asks for a directory before may_open refuses a link that was not followed.
        if flags.contains(OpenFlags::DIRECTORY) && kind != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if kind == FileKind::Symlink {
            return Err(Errno::ELOOP);
        }
        if kind == FileKind::Directory && (flags.writes() || truncates) {
            return Err(Errno::EISDIR);
        }
        let device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
        if device && place.mount_flags().contains(MountFlags::NODEV) {
            return Err(Errno::EACCES);
        }
        access::check_access(&who, &place, wanted(flags))?;
        if kind == FileKind::Directory && flags.contains(OpenFlags::DIRECT) {
            return Err(Errno::EINVAL);
        }
        if flags.contains(OpenFlags::NOATIME) && !access::owns(&who, place.inode().permissions()?) {
            return Err(Errno::EPERM);
        }
        let opened = place.opened(flags.writes() || truncates)?;
        if kind == FileKind::Regular {
            let with = if flags.writes() { Use::Write } else { Use::Read };
            let patience = if flags.contains(OpenFlags::NONBLOCK) { Patience::Leaves } else { Patience::Waits };
            self.locks().leases().break_for(task, place.inode(), with, patience)?;
        }
        // A host's file is opened as the program says: only its owner may ask for that there.
        let no_times = place.mount_flags().contains(MountFlags::NOATIME) && place.in_memory();
        let asked = flags;
        let flags = if no_times { flags | OpenFlags::NOATIME } else { flags };
        let file = match kind {
            // A FIFO that a path leads to, whatever its file system; a pipe without a name opens itself.
            FileKind::Fifo if place.mount().is_some() => task.kernel().pipes().open_fifo(task, place.inode(), flags)?,
            _ => place.inode().clone().open(task, flags)?,
        };
        let file = OpenFile::counted(file, place, asked, opened);
        if truncates && kind == FileKind::Regular {
            if flags.writes() {
                file.file().set_size(0)?;
            } else {
                let inode = file.location().inode();
                inode.change(&AttributeChange { size: Some(0), ..AttributeChange::default() })?;
            }
            file.tell(Mask::MODIFY);
        }
        Ok(file)
    }
}

/// What an open with these flags asks of the mode bits; access mode 3 asks for both (open(2), NOTES).
fn wanted(flags: OpenFlags) -> Want {
    let mut want = match flags.bits() & 3 {
        0 => Want::READ,
        1 => Want::WRITE,
        _ => Want::READ | Want::WRITE,
    };
    want.set(Want::WRITE, want.contains(Want::WRITE) || flags.contains(OpenFlags::TRUNC));
    want
}

fn open_place(place: Location, flags: OpenFlags) -> Result<Arc<OpenFile>, Errno> {
    if flags.contains(OpenFlags::DIRECTORY) && place.kind() != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    place.inode().hold()?;
    let kept = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW;
    Ok(OpenFile::new(Arc::new(PlaceFile), place, flags & kept))
}

fn open_unnamed(
    task: &CurrentTask<'_>,
    directory: Location,
    flags: OpenFlags,
    mode: u32,
) -> Result<Arc<OpenFile>, Errno> {
    let operations = directory.inode().as_dir().ok_or(Errno::ENOTDIR)?;
    let who = task.credentials();
    access::check_access(&who, &directory, Want::WRITE | Want::EXECUTE)?;
    let mode = mode & 0o7777 & !task.fs().umask();
    let node = new_node(&who, &directory, FileKind::Regular, mode)?;
    let inode = operations.create_unnamed(&node)?;
    let number = inode.stat()?.inode;
    let file = inode.clone().open(task, flags)?;
    let mut name = directory.path();
    name.extend_from_slice(format!("/#{number} (deleted)").as_bytes());
    let place = Location::anonymous(inode, &name);
    if flags.contains(OpenFlags::EXCL) {
        place.give_up_names();
    }
    Ok(OpenFile::new(file, place, flags))
}

/// Who owns what a task makes in a directory, and with which mode (inode_init_owner).
pub(super) fn new_node<'a>(
    who: &Credentials,
    directory: &Location,
    kind: FileKind,
    mode: u32,
) -> Result<NewNode<'a>, Errno> {
    const SET_GROUP_ID: u32 = 0o2000;
    let parent = directory.inode().permissions()?;
    let (mut mode, mut gid) = (mode, who.fsgid);
    if parent.mode & SET_GROUP_ID != 0 {
        gid = parent.gid;
        if kind == FileKind::Directory {
            mode |= SET_GROUP_ID;
        } else if mode & 0o2010 == 0o2010 && !access::in_group(who, gid) && !who.has(capability::FSETID) {
            mode &= !SET_GROUP_ID;
        }
    }
    Ok(NewNode { kind, mode, uid: who.fsuid, gid, rdev: 0, target: b"" })
}
