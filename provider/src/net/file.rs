//! A socket as an open file.

use super::socket::{Incoming, MessageFlags, Outgoing, Socket};
use super::transfer;
use crate::errno::Errno;
use crate::fs::{
    AttributeChange, File, FileKind, FsStat, Inode, Location, OpenFile, OpenFlags, Ready, Sink, Source, Stat,
    Timestamp, WaitSource,
};
use crate::mm::UserBuffers;
use crate::task::CurrentTask;
use std::any::Any;
use std::sync::Arc;

/// The device number that sockets report (an anonymous file system's).
const DEVICE: u64 = 8;
/// What statfs(2) shows (SOCKFS_MAGIC).
const MAGIC: u64 = 0x534f_434b;

/// An open socket.
#[derive(Debug)]
pub struct SocketFile {
    socket: Arc<dyn Socket>,
}

/// The object that stat(2) sees.
#[derive(Debug)]
struct SocketInode {
    number: u64,
    uid: u32,
    made: Timestamp,
}

/// Makes an open file of a socket; `flags` are SOCK_NONBLOCK as an open flag.
pub fn open(socket: Arc<dyn Socket>, flags: OpenFlags) -> Arc<OpenFile> {
    let (number, uid) = (socket.common().inode, socket.common().uid);
    let inode = Arc::new(SocketInode { number, uid, made: Timestamp::now() });
    let location = Location::anonymous(inode, format!("socket:[{number}]").as_bytes());
    OpenFile::new(Arc::new(SocketFile { socket }), location, OpenFlags::RDWR | (flags & OpenFlags::NONBLOCK))
}

impl SocketFile {
    /// The socket.
    pub fn socket(&self) -> &Arc<dyn Socket> {
        &self.socket
    }

    /// Reads as read(2) does: waits as the file's flags and the socket's timeout say.
    pub fn read(&self, task: &CurrentTask<'_>, file: &OpenFile, to: &mut UserBuffers<'_>) -> Result<usize, Errno> {
        if Sink::remaining(to) == 0 {
            return Ok(0);
        }
        let flags = transfer::file_flags(file, MessageFlags::empty());
        let mut message = Incoming { data: to, flags, wants_name: false };
        transfer::receive(task, self.socket.as_ref(), &mut message).map(|received| received.len)
    }

    /// Writes as write(2) does.
    pub fn write(&self, task: &CurrentTask<'_>, file: &OpenFile, from: &mut UserBuffers<'_>) -> Result<usize, Errno> {
        let flags = transfer::file_flags(file, MessageFlags::empty());
        transfer::send(task, self.socket.as_ref(), &mut Outgoing { data: from, to: None, control: &[], flags })
    }
}

impl File for SocketFile {
    fn read_at(&self, task: &CurrentTask<'_>, _offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        let mut message = Incoming { data: to, flags: MessageFlags::DONTWAIT, wants_name: false };
        self.socket.receive(task, &mut message).map(|received| received.len)
    }

    fn write_at(&self, task: &CurrentTask<'_>, _offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let flags = MessageFlags::DONTWAIT | MessageFlags::NOSIGNAL;
        self.socket.send(task, &mut Outgoing { data: from, to: None, control: &[], flags })
    }

    fn seekable(&self) -> bool {
        false
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        self.socket.ioctl(task, request, arg)
    }

    fn ready(&self) -> Ready {
        self.socket.ready()
    }

    fn wait_source(&self) -> WaitSource<'_> {
        self.socket.wait_source()
    }

    fn as_socket(&self) -> Option<&SocketFile> {
        Some(self)
    }

    fn released(&self) {
        self.socket.close();
    }
}

impl Inode for SocketInode {
    fn kind(&self) -> FileKind {
        FileKind::Socket
    }

    fn stat(&self) -> Result<Stat, Errno> {
        let stat = Stat::without_storage(FileKind::Socket, 0o777, DEVICE, self.number, self.made);
        Ok(Stat { uid: self.uid, gid: self.uid, ..stat })
    }

    fn file_system_stat(&self) -> Option<Result<FsStat, Errno>> {
        Some(Ok(FsStat::without_storage(MAGIC)))
    }

    fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        if change.size.is_some() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    fn open(self: Arc<Self>, _task: &CurrentTask<'_>, _flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        // sock_no_open.
        Err(Errno::ENXIO)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
