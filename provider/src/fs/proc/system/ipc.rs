//! sysvipc: the objects of System V IPC that the reader may look at.

use crate::errno::Errno;
use crate::ipc::Permissions;
use crate::task::CurrentTask;

const QUEUES: &str = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n";
const SETS: &str = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
const SEGMENTS: &str = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n";

fn owners(permissions: &Permissions) -> String {
    let Permissions { uid, gid, creator_uid, creator_gid, .. } = permissions;
    format!("{uid:5} {gid:5} {creator_uid:5} {creator_gid:5}")
}

/// Message queues (sysvipc_msg_proc_show).
pub(super) fn queues(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    let mut text = QUEUES.to_owned();
    for found in reader.kernel().ipc().messages.all() {
        let status = found.object.status();
        let permissions = &status.permissions;
        text += &format!(
            "{:10} {:10}  {:4o}  {:10} {:10} {:5} {:5} {} {:10} {:10} {:10}\n",
            permissions.key.0,
            found.id,
            permissions.mode,
            status.bytes,
            status.count,
            status.last_sender.0,
            status.last_receiver.0,
            owners(permissions),
            status.sent,
            status.received,
            status.changed,
        );
    }
    Ok(text.into_bytes())
}

/// Semaphore sets (sysvipc_sem_proc_show).
pub(super) fn sets(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    let mut text = SETS.to_owned();
    for found in reader.kernel().ipc().semaphores.all() {
        let status = found.object.status();
        let permissions = &status.permissions;
        text += &format!(
            "{:10} {:10}  {:4o} {:10} {} {:10} {:10}\n",
            permissions.key.0,
            found.id,
            permissions.mode,
            status.size,
            owners(permissions),
            status.operated,
            status.changed,
        );
    }
    Ok(text.into_bytes())
}

/// Shared memory segments (sysvipc_shm_proc_show).
pub(super) fn segments(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    /// SHM_DEST, SHM_LOCKED
    const DESTROYED: u32 = 0o1000;
    const LOCKED: u32 = 0o2000;
    let mut text = SEGMENTS.to_owned();
    for found in reader.kernel().ipc().segments.all() {
        let status = found.object.status();
        let permissions = &status.permissions;
        let flags = if status.removed { DESTROYED } else { 0 } | if status.locked { LOCKED } else { 0 };
        text += &format!(
            "{:10} {:10}  {:4o} {:21} {:5} {:5}  {:5} {} {:10} {:10} {:10} {:21} {:21}\n",
            permissions.key.0,
            found.id,
            permissions.mode | flags,
            status.size,
            status.creator.0,
            status.last.0,
            found.object.attachments(reader.kernel()),
            owners(permissions),
            status.attached,
            status.detached,
            status.changed,
            found.object.object().map_or(0, |object| object.held()),
            0,
        );
    }
    Ok(text.into_bytes())
}
