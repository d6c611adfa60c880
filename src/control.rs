//! The control socket: how tools of the same user see a running sandbox and act on it.
//!
//! Each `picovisor run` listens on an abstract Unix socket ([`address`]). Both sides ask the kernel who is at the other end before they
//! say anything: a sandbox talks to its owner and to root, a tool to its own user's sandboxes. What they say are bounded, versioned
//! messages ([`channel`], [`messages`]). In the monitor the event loop accepts, and each connection is served by a thread of its own
//! that belongs to the System process ([`server`]), so that neither a slow client nor a long answer holds up anything else;
//! [`service`] does what is asked. [`client`] is the other side, which the commands in [`crate::tools`] use.

pub(crate) mod address;
pub(crate) mod channel;
pub(crate) mod client;
pub(crate) mod messages;
pub(crate) mod server;
pub(crate) mod service;
