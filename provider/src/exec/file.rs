//! The files a program is loaded from ([`ImageFile`]), independent of where they are, so that the loader is tested and fuzzed
//! without a file system.

use super::LoadError;
use crate::errno::Errno;
use crate::fs::notify::Mask;
use crate::fs::{
    BufferSink, FileKind, LastLink, Location, Mapping, OpenFile, OpenFlags, TextGuard, Want, check_access,
};
use crate::mm::{Label, Source};
use crate::task::CurrentTask;
use std::sync::Arc;
use vmm::memory::MemoryObject;

/// A file that a program, an interpreter or a script is loaded from.
pub trait ImageFile {
    /// Reads at `offset`; short only at the end of the file.
    fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<usize, Errno>;
    /// Bytes in the file.
    fn size(&self) -> Result<u64, Errno>;
    /// What its mappings show.
    fn source(&self) -> Result<Source, Errno>;
    /// What its mappings are called.
    fn label(&self) -> Label;
    /// The open file, for /proc/PID/exe.
    fn open_file(&self) -> Option<Arc<OpenFile>>;
    /// What keeps the file from being written while it runs.
    fn text_guard(&self) -> Option<Arc<TextGuard>> {
        None
    }
}

/// Opens interpreters by path.
pub trait ImageFiles {
    /// Opens a file for execution; checks that it is a regular file and may be executed.
    fn open(&self, path: &[u8]) -> Result<Box<dyn ImageFile + '_>, Errno>;
}

/// Files as a task sees them.
#[derive(Debug)]
pub struct TaskFiles<'t, 'f> {
    task: &'t CurrentTask<'f>,
}

/// An open file that a task executes.
#[derive(Debug)]
pub struct TaskImage<'t, 'f> {
    task: &'t CurrentTask<'f>,
    file: Arc<OpenFile>,
    guard: Option<Arc<TextGuard>>,
}

impl<'t, 'f> TaskFiles<'t, 'f> {
    /// Looks at files as `task` does.
    pub fn new(task: &'t CurrentTask<'f>) -> Self {
        Self { task }
    }

    /// Takes a file that is already open; `ETXTBSY` if somebody may write it.
    pub fn image(&self, file: Arc<OpenFile>) -> Result<TaskImage<'t, 'f>, Errno> {
        let guard = file.location().deny_writes()?.map(Arc::new);
        Ok(TaskImage { task: self.task, file, guard })
    }
}

impl ImageFiles for TaskFiles<'_, '_> {
    fn open(&self, path: &[u8]) -> Result<Box<dyn ImageFile + '_>, Errno> {
        if path.is_empty() {
            // An empty name is the working directory, and that cannot be executed.
            return Err(Errno::EACCES);
        }
        let location = self.task.kernel().namespace().walk(self.task, None, path, LastLink::Follow)?;
        Ok(Box::new(self.image(open_executable(self.task, location)?)?))
    }
}

impl ImageFile for TaskImage<'_, '_> {
    fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<usize, Errno> {
        let mut sink = BufferSink::new(to);
        loop {
            let at = offset.checked_add(sink.filled() as u64).ok_or(Errno::EINVAL)?;
            let read = self.file.file().read_at(self.task, at, &mut sink)?;
            if read == 0 || crate::fs::Sink::remaining(&sink) == 0 {
                self.file.tell(Mask::ACCESS);
                return Ok(sink.filled());
            }
        }
    }

    fn size(&self) -> Result<u64, Errno> {
        self.file.file().size()
    }

    fn source(&self) -> Result<Source, Errno> {
        match self.file.file().mapping()? {
            Mapping::Host(file) => Ok(Source::Host(file)),
            Mapping::Object(object) => Ok(Source::Object(object)),
            Mapping::Zero => Err(Errno::ENODEV),
        }
    }

    fn label(&self) -> Label {
        Label::File(Arc::clone(&self.file))
    }

    fn open_file(&self) -> Option<Arc<OpenFile>> {
        Some(Arc::clone(&self.file))
    }

    fn text_guard(&self) -> Option<Arc<TextGuard>> {
        self.guard.clone()
    }
}

/// Opens the file at `location` for execution (`do_open_execat`): `EACCES` unless it is a regular file that the task may execute.
/// Being readable is not needed.
pub fn open_executable(task: &CurrentTask<'_>, location: Location) -> Result<Arc<OpenFile>, Errno> {
    let inode = Arc::clone(location.inode());
    if inode.kind() != FileKind::Regular {
        return Err(Errno::EACCES);
    }
    check_access(&task.credentials(), &location, Want::EXECUTE)?;
    let flags = OpenFlags::empty();
    let file = inode.open(task, flags)?;
    OpenFile::by_path(file, location, flags)
}

/// A program in a memory object: what tests and fuzzing load from.
#[derive(Clone, Debug)]
pub struct ObjectImage(pub Arc<MemoryObject>);

impl ImageFile for ObjectImage {
    fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<usize, Errno> {
        Ok(self.0.read_at(offset, to)?)
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.0.size())
    }

    fn source(&self) -> Result<Source, Errno> {
        Ok(Source::Object(Arc::clone(&self.0)))
    }

    fn label(&self) -> Label {
        Label::None
    }

    fn open_file(&self) -> Option<Arc<OpenFile>> {
        None
    }
}

/// No files at all: opening any is `ENOENT`.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl ImageFiles for NoFiles {
    fn open(&self, _path: &[u8]) -> Result<Box<dyn ImageFile + '_>, Errno> {
        Err(Errno::ENOENT)
    }
}

/// Fills `to` from `offset`; `what` names it should the file end before.
pub(super) fn read_exactly(
    file: &dyn ImageFile,
    offset: u64,
    to: &mut [u8],
    what: &'static str,
) -> Result<(), LoadError> {
    let read = file.read_at(offset, to).map_err(LoadError::Read)?;
    if read == to.len() { Ok(()) } else { Err(LoadError::Truncated(what)) }
}
