//! Trees written down as tables of paths.

use super::{DirInode, LinkInode, Seeks, Super, Target, Text, TextInode, Tree};
use crate::errno::Errno;
use crate::fs::Inode;
use crate::task::CurrentTask;
use std::borrow::Cow;
use std::sync::Arc;

/// A file or link of a table.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    /// The path from the tree's root.
    pub(crate) path: Cow<'static, str>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// What it is.
    pub(crate) content: Content,
}

/// Renders a file as a reader sees it.
pub(crate) type Render = fn(&CurrentTask<'_>) -> Result<Vec<u8>, Errno>;
/// Takes what one write(2) wrote.
pub(crate) type Store = fn(&CurrentTask<'_>, &[u8]) -> Result<(), Errno>;

/// What a leaf is.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A file with text that never changes.
    Fixed(Cow<'static, str>),
    /// A file that is rendered.
    Rendered(Render),
    /// A file that is rendered and may be written.
    Setting(Render, Store),
    /// A symbolic link.
    Link(Cow<'static, str>),
    /// A directory with nothing in it.
    Empty,
}

impl Leaf {
    /// A read-only file.
    pub(crate) fn fixed(path: impl Into<Cow<'static, str>>, text: impl Into<Cow<'static, str>>) -> Self {
        Self { path: path.into(), mode: 0o444, content: Content::Fixed(text.into()) }
    }

    /// A read-only file that is rendered.
    pub(crate) fn rendered(path: impl Into<Cow<'static, str>>, render: Render) -> Self {
        Self { path: path.into(), mode: 0o444, content: Content::Rendered(render) }
    }

    /// A file that is rendered and that its owner may write.
    pub(crate) fn setting(path: impl Into<Cow<'static, str>>, render: Render, store: Store) -> Self {
        Self { path: path.into(), mode: 0o644, content: Content::Setting(render, store) }
    }

    /// A symbolic link.
    pub(crate) fn link(path: impl Into<Cow<'static, str>>, target: impl Into<Cow<'static, str>>) -> Self {
        Self { path: path.into(), mode: 0o777, content: Content::Link(target.into()) }
    }

    /// An empty directory.
    pub(crate) fn directory(path: impl Into<Cow<'static, str>>) -> Self {
        Self { path: path.into(), mode: 0, content: Content::Empty }
    }

    /// The same with other permission bits.
    pub(crate) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
}

impl Text for Content {
    fn render(&self, reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
        match self {
            Self::Fixed(text) | Self::Link(text) => Ok(text.as_bytes().to_vec()),
            Self::Rendered(render) | Self::Setting(render, _) => render(reader),
            Self::Empty => Err(Errno::EISDIR),
        }
    }

    /// Most settings are the host's kernel's, and not the sandbox's to change, or are given on the command line.
    fn store(&self, writer: &CurrentTask<'_>, bytes: &[u8]) -> Result<(), Errno> {
        if let Self::Setting(_, store) = self {
            return store(writer, bytes);
        }
        Err(writer.unsupported("write: a setting in /proc or /sys", Errno::EPERM))
    }
}

impl Target for Cow<'static, str> {
    fn text(&self, _reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
        Ok(self.as_bytes().to_vec())
    }
}

/// How the objects of a tree look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Of the files.
    pub(crate) seeks: Seeks,
    /// Permission bits of the directories.
    pub(crate) directory_mode: u32,
}

/// Makes the tree of a table; directories appear where paths have them.
pub(crate) fn grow(home: &Arc<Super>, look: Look, leaves: &[Leaf]) -> Tree {
    let leaves: Vec<(&str, &Leaf)> = leaves.iter().map(|leaf| (&*leaf.path, leaf)).collect();
    grow_level(home, look, &leaves)
}

fn grow_level(home: &Arc<Super>, look: Look, leaves: &[(&str, &Leaf)]) -> Tree {
    let mut tree = Tree::default();
    for (path, leaf) in leaves {
        let Some((directory, _)) = path.split_once('/') else {
            tree.add(path, plant(home, look, leaf));
            continue;
        };
        if tree.get(directory.as_bytes()).is_some() {
            continue;
        }
        let below: Vec<(&str, &Leaf)> = leaves
            .iter()
            .filter_map(|(path, leaf)| path.strip_prefix(directory)?.strip_prefix('/').map(|rest| (rest, *leaf)))
            .collect();
        let node = home.node(look.directory_mode);
        tree.add(directory, DirInode::new(node, grow_level(home, look, &below)));
    }
    tree
}

fn plant(home: &Arc<Super>, look: Look, leaf: &Leaf) -> Arc<dyn Inode> {
    match &leaf.content {
        Content::Empty => DirInode::new(home.node(look.directory_mode), Tree::default()),
        Content::Link(target) => LinkInode::new(home.node(leaf.mode), target.clone()),
        content => TextInode::new(home.node(leaf.mode), look.seeks, content.clone()),
    }
}
