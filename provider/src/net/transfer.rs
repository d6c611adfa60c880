//! Sending, receiving, accepting and connecting with waits: what the calls and read(2) and write(2) share.

use super::inet::TCP;
use super::socket::{Incoming, MessageFlags, Outgoing, Received, Socket};
use crate::errno::Errno;
use crate::fs::{OpenFile, OpenFlags, Ready};
use crate::signal::Signal;
use crate::task::{CurrentTask, Deadline, Wake};
use std::sync::Arc;
use std::time::Duration;

/// The flags of a call, with O_NONBLOCK as MSG_DONTWAIT.
pub fn file_flags(file: &OpenFile, flags: MessageFlags) -> MessageFlags {
    if file.flags().contains(OpenFlags::NONBLOCK) { flags | MessageFlags::DONTWAIT } else { flags }
}

/// How long a wait may last.
#[derive(Clone, Copy, Debug)]
struct Patience {
    deadline: Deadline,
    /// Whether a timeout is set: then an interrupted call is not restarted (sock_intr_errno).
    is_limited: bool,
}

impl Patience {
    fn new(timeout: Option<Duration>) -> Self {
        Self { deadline: timeout.map_or(Deadline::Never, Deadline::after), is_limited: timeout.is_some() }
    }
}

/// Waits until `attempt` answers something other than `EAGAIN`, which is also the answer at the deadline.
fn wait<T>(
    task: &CurrentTask<'_>,
    socket: &dyn Socket,
    interest: Ready,
    patience: Patience,
    mut attempt: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    let woken = task.block_until(patience.deadline, |waiter| {
        waiter.on_source(socket.wait_source(), interest);
        match attempt() {
            Err(Errno::EAGAIN) => Ok(None),
            other => other.map(Some),
        }
    })?;
    match woken {
        Wake::Done(value) => Ok(value),
        Wake::TimedOut => Err(Errno::EAGAIN),
        Wake::Interrupted if patience.is_limited => Err(Errno::EINTR),
        Wake::Interrupted => Err(Errno::ERESTARTSYS),
    }
}

/// Sends a message, all of it unless the caller does not wait; returns bytes. A broken stream raises SIGPIPE.
pub fn send(task: &CurrentTask<'_>, socket: &dyn Socket, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
    let waits = !message.flags.contains(MessageFlags::DONTWAIT);
    let mut patience = None;
    let mut total = task.take_progress();
    if total > 0 {
        message.data.skip(total);
        message.control = &[];
    }
    loop {
        let step = match socket.send(task, message) {
            Err(Errno::EAGAIN) if waits => {
                let patience = *patience.get_or_insert_with(|| Patience::new(socket.common().options().send_timeout));
                wait(task, socket, Ready::OUT, patience, || socket.send(task, message))
            }
            other => other,
        };
        match step {
            Ok(sent) => total += sent,
            Err(Errno::NEEDS_THREAD) => return Err(task.keep_progress(total)),
            // What was sent counts.
            Err(_) if total > 0 => return Ok(total),
            Err(error) => {
                if error == Errno::EPIPE && socket.is_stream() && !message.flags.contains(MessageFlags::NOSIGNAL) {
                    task.needs_thread()?;
                    task.raise(Signal::SIGPIPE);
                }
                return Err(error);
            }
        }
        if !socket.is_stream() || message.data.remaining() == 0 {
            return Ok(total);
        }
        // Control messages go with the first byte.
        message.control = &[];
        if !waits {
            // One more attempt tells whether more fits now; a full socket ends it.
            match socket.send(task, message) {
                Ok(sent) => total += sent,
                Err(_) => return Ok(total),
            }
            if message.data.remaining() == 0 {
                return Ok(total);
            }
        }
    }
}

/// Receives a message, or as much of a stream as is asked for (MSG_WAITALL, SO_RCVLOWAT).
pub fn receive(task: &CurrentTask<'_>, socket: &dyn Socket, message: &mut Incoming<'_>) -> Result<Received, Errno> {
    // The queue of errors is never waited for.
    let waits = !message.flags.intersects(MessageFlags::DONTWAIT | MessageFlags::ERRQUEUE);
    let mut patience = None;
    let target = if !socket.is_stream() || message.flags.contains(MessageFlags::PEEK) {
        1
    } else if message.flags.contains(MessageFlags::WAITALL) {
        message.data.remaining()
    } else {
        socket.common().options().low_water.min(message.data.remaining())
    };
    if waits && target > 1 {
        // What was received cannot be put back.
        task.needs_thread()?;
    }
    let mut total: Option<Received> = None;
    loop {
        let step = match socket.receive(task, message) {
            Err(Errno::EAGAIN) if waits => {
                let patience =
                    *patience.get_or_insert_with(|| Patience::new(socket.common().options().receive_timeout));
                wait(task, socket, Ready::IN, patience, || socket.receive(task, message))
            }
            other => other,
        };
        let received = match (step, total.take()) {
            (Ok(step), None) => step,
            (Ok(step), Some(before)) => {
                let is_complete = step.is_complete || step.len == 0;
                let mut control = before.control;
                if socket.common().protocol == TCP {
                    // What a stream of TCP tells with data is told once, as it is at the end.
                    control.clear();
                }
                control.extend(step.control);
                Received { len: before.len + step.len, control, is_complete, ..before }
            }
            (Err(error), None) => return Err(error),
            // What was received counts; the error waits for the next call.
            (Err(error), Some(before)) => {
                if !matches!(error, Errno::EAGAIN | Errno::EINTR | Errno::ERESTARTSYS) {
                    socket.common().set_error(error);
                }
                return Ok(before);
            }
        };
        let is_enough = received.len == 0 || received.is_complete || received.len >= target;
        if is_enough || message.data.remaining() == 0 || !waits {
            return Ok(received);
        }
        total = Some(received);
    }
}

/// Takes the next connection, waiting for one as the file's flags and the socket's timeout say.
pub fn accept(task: &CurrentTask<'_>, file: &OpenFile, socket: &dyn Socket) -> Result<Arc<dyn Socket>, Errno> {
    match socket.accept(task) {
        Err(Errno::EAGAIN) if !file.flags().contains(OpenFlags::NONBLOCK) => {
            let patience = Patience::new(socket.common().options().receive_timeout);
            wait(task, socket, Ready::IN, patience, || socket.accept(task))
        }
        other => other,
    }
}

/// Connects, waiting as the file's flags and the socket's timeout say.
pub fn connect(task: &CurrentTask<'_>, file: &OpenFile, socket: &dyn Socket, address: &[u8]) -> Result<(), Errno> {
    let began = socket.connect(task, address);
    let Err(error @ (Errno::EAGAIN | Errno::EINPROGRESS | Errno::EALREADY)) = began else { return began };
    if file.flags().contains(OpenFlags::NONBLOCK) {
        return began;
    }
    let patience = Patience::new(socket.common().options().send_timeout);
    let finished = wait(task, socket, Ready::OUT, patience, || match socket.finish_connect(task, address) {
        Err(Errno::EINPROGRESS | Errno::EALREADY) => Err(Errno::EAGAIN),
        other => other,
    });
    // At the deadline: what a caller that does not wait would have got.
    finished.map_err(|late| if late == Errno::EAGAIN { error } else { late })
}
