//! Files whose content is rendered when it is read.

use super::{FileKind, Node};
use crate::errno::Errno;
use crate::fs::{AttributeChange, File, Inode, OffsetKeeper, OpenFlags, Sink, Source, Stat};
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// The largest write that a text file takes at once; more is refused as Linux's own handlers do.
const LONGEST_STORE: usize = 4096;

/// The content of a pseudo file.
pub(crate) trait Text: Send + Sync + Debug + 'static {
    /// Renders the content as `reader` sees it.
    fn render(&self, reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno>;

    /// Takes what one write(2) wrote.
    fn store(&self, _writer: &CurrentTask<'_>, _bytes: &[u8]) -> Result<(), Errno> {
        Err(Errno::EIO)
    }

    /// Device-specific control, as [`File::ioctl`].
    fn control(&self, _caller: &CurrentTask<'_>, _request: u32, _arg: u64) -> Result<u64, Errno> {
        Err(Errno::ENOTTY)
    }

    /// Checks at open(2) that `opener` may look, beyond the permission bits.
    fn permit(&self, _opener: &CurrentTask<'_>) -> Result<(), Errno> {
        Ok(())
    }
}

/// How lseek(2) and stat(2) see a text file's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seeks {
    /// seq_file: size 0, SEEK_END and sparse seeks are EINVAL.
    Sequence,
    /// Generic: as a regular file of this size, whatever the content.
    Sized(u64),
}

/// A file with rendered content.
#[derive(Debug)]
pub(crate) struct TextInode<T> {
    node: Node,
    seeks: Seeks,
    text: Arc<T>,
}

impl<T: Text> TextInode<T> {
    /// Makes a file.
    pub(crate) fn new(node: Node, seeks: Seeks, text: T) -> Arc<Self> {
        Arc::new(Self { node, seeks, text: Arc::new(text) })
    }
}

impl<T: Text> Inode for TextInode<T> {
    fn kind(&self) -> FileKind {
        FileKind::Regular
    }

    fn stat(&self) -> Result<Stat, Errno> {
        let size = match self.seeks {
            Seeks::Sequence => 0,
            Seeks::Sized(size) => size,
        };
        Ok(self.node.stat(FileKind::Regular, size, 1))
    }

    fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        self.node.change(change)
    }

    fn open(self: Arc<Self>, task: &CurrentTask<'_>, _flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        self.text.permit(task)?;
        let rendered = Mutex::new(Rank::Leaf, Rendered { bytes: None, next: 0 });
        Ok(Arc::new(TextFile { text: Arc::clone(&self.text), seeks: self.seeks, rendered }))
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(Vec::new())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[derive(Debug)]
struct TextFile<T> {
    text: Arc<T>,
    seeks: Seeks,
    rendered: Mutex<Rendered>,
}

/// What an open file has rendered, and where the next read in sequence begins.
#[derive(Debug)]
struct Rendered {
    bytes: Option<Arc<[u8]>>,
    next: u64,
}

impl<T: Text> TextFile<T> {
    /// The content for a read at `offset`: rendered anew at the start and after a jump, so that a sequence of reads sees one state.
    fn content(&self, task: &CurrentTask<'_>, offset: u64) -> Result<Arc<[u8]>, Errno> {
        {
            let rendered = self.rendered.lock();
            if let Some(bytes) = &rendered.bytes
                && offset != 0
                && offset == rendered.next
            {
                return Ok(Arc::clone(bytes));
            }
        }
        let bytes: Arc<[u8]> = self.text.render(task)?.into();
        self.rendered.lock().bytes = Some(Arc::clone(&bytes));
        Ok(bytes)
    }
}

impl<T: Text> File for TextFile<T> {
    fn read_at(&self, task: &CurrentTask<'_>, offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        let content = self.content(task, offset)?;
        let rest = usize::try_from(offset).ok().and_then(|start| content.get(start..)).unwrap_or_default();
        let rest = &rest[..rest.len().min(to.remaining())];
        let read = if rest.is_empty() { 0 } else { to.put(rest)? };
        self.rendered.lock().next = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(read)
    }

    fn write_at(&self, task: &CurrentTask<'_>, _offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let len = from.remaining();
        if len > LONGEST_STORE {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0; len];
        let taken = from.take(&mut bytes)?;
        if taken < len {
            return Err(Errno::EFAULT);
        }
        self.text.store(task, &bytes)?;
        Ok(len)
    }

    fn append(&self, task: &CurrentTask<'_>, from: &mut dyn Source) -> Result<(usize, u64), Errno> {
        let written = self.write_at(task, 0, from)?;
        Ok((written, u64::try_from(written).unwrap_or(u64::MAX)))
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        self.text.control(task, request, arg)
    }

    fn offset_keeper(&self) -> OffsetKeeper<'_> {
        OffsetKeeper::Unlocked
    }

    /// Whoever opens a setting with O_TRUNC means to write it.
    fn set_size(&self, _size: u64) -> Result<(), Errno> {
        Ok(())
    }

    fn size(&self) -> Result<u64, Errno> {
        match self.seeks {
            Seeks::Sequence => Err(Errno::EINVAL),
            Seeks::Sized(size) => Ok(size),
        }
    }
}
