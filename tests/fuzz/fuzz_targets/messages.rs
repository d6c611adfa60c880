//! Messages on the control socket: any bytes may come from whoever connects. A message is understood or refused, never waited for when
//! the other side has gone; and one that is understood is the same after it was said again.
#![no_main]
#![allow(dead_code, reason = "the command's own modules, of which this uses a part")]

#[path = "../../../src/control/channel.rs"]
mod channel;
#[path = "../../../src/control/messages.rs"]
mod messages;
#[path = "../../../src/serve/request.rs"]
mod request;

use channel::{Channel, ChannelError};
use messages::{Reply, Request};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::OwnedFd;

/// More goes into a socket's buffer.
const LONGEST: usize = 8192;

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("the host has sockets")
}

/// What comes at the end of a connection over which these bytes were written.
fn connected(bytes: &[u8]) -> OwnedFd {
    let (one, other) = pair();
    assert_eq!(rustix::io::write(&one, bytes), Ok(bytes.len()));
    other
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((how, data)) = data.split_first() else { return };
    let data = &data[..data.len().min(LONGEST)];
    match how % 4 {
        // As it is.
        0 => drop(Channel::new(connected(data)).receive::<Request>(4096, None)),
        1 => drop(request::Request::receive(&connected(data))),
        2 => {
            let _: Result<Reply, _> = serde_json::from_slice(data);
        }
        // With a header that is right.
        _ => {
            let length = u32::try_from(data.len()).expect("a short message");
            let header = [&b"pico\x01\0\0\0"[..], &length.to_le_bytes(), data].concat();
            match Channel::new(connected(&header)).receive::<Request>(length, None) {
                Ok((request, fds)) => {
                    assert!(fds.is_empty());
                    let (one, other) = pair();
                    Channel::new(one).send(&request).expect("a short message fits");
                    let (again, _) = Channel::new(other).receive::<Request>(u32::MAX, None).expect("it was just said");
                    assert_eq!(again, request);
                }
                Err(ChannelError::Malformed(_)) => {}
                Err(error) => panic!("a whole message is understood or malformed, not: {error}"),
            }
        }
    }
});
