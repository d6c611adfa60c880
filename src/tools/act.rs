//! `kill`, `suspend`, `resume` and `wait`: acting on a sandbox, or waiting for it.

use super::format::size;
use crate::cli::{KillOptions, ProcessOptions, WaitOptions};
use crate::control::client::{AskError, find};
use crate::control::messages::{Reply, Request};
use crate::failure::Failure;
use crate::print;

/// Sends a signal.
pub(crate) fn kill(options: &KillOptions) -> Result<u8, Failure> {
    let connection = find(&options.sandbox)?;
    match connection.ask(&Request::Signal { pid: options.pid, signal: options.signal }) {
        // It is so dead that it cannot say so.
        Ok(Reply::Done) | Err(AskError::Gone) => Ok(0),
        Ok(other) => Err(connection.odd(&other)),
        Err(error) => Err(error.of(&connection.address)),
    }
}

/// Stops processes until they are resumed.
pub(crate) fn suspend(options: &ProcessOptions) -> Result<u8, Failure> {
    act(&options.sandbox, &Request::Suspend { pid: options.pid })
}

/// Lets processes go on.
pub(crate) fn resume(options: &ProcessOptions) -> Result<u8, Failure> {
    act(&options.sandbox, &Request::Resume { pid: options.pid })
}

fn act(reference: &str, request: &Request) -> Result<u8, Failure> {
    let connection = find(reference)?;
    match connection.ask(request).map_err(|error| error.of(&connection.address))? {
        Reply::Done => Ok(0),
        other => Err(connection.odd(&other)),
    }
}

/// Compresses every page that gets smaller, and tells what came of it.
pub(crate) fn compress(options: &WaitOptions) -> Result<u8, Failure> {
    let connection = find(&options.sandbox)?;
    let failed = |error: AskError| error.of(&connection.address);
    connection.send(&Request::Compress, &[]).map_err(failed)?;
    // However much there is.
    match connection.receive(None).map_err(failed)? {
        Reply::Compressed { pages, incompressible, before, after, took_ms } => {
            let (before, after) = (size(before), size(after));
            let line = format!(
                "{pages} pages compressed, {incompressible} not compressible; {before} held before, {after} now; {took_ms} ms\n"
            );
            print(line.as_bytes()).map(|()| 0)
        }
        other => Err(connection.odd(&other)),
    }
}

/// Waits until the sandbox has ended, and takes over its status.
pub(crate) fn wait(options: &WaitOptions) -> Result<u8, Failure> {
    let connection = find(&options.sandbox)?;
    let failed = |error: AskError| error.of(&connection.address);
    let mut reply = connection.ask(&Request::Wait).map_err(failed)?;
    if matches!(reply, Reply::Done) {
        reply = connection.receive(None).map_err(failed)?;
    }
    match reply {
        Reply::Ended { status } => Ok(status),
        other => Err(connection.odd(&other)),
    }
}
