//! `picovisor serve`: monitors that are started ahead, so that `picovisor run` does not wait for a start.
//!
//! A KVM descriptor belongs to the process that opened it, so what can be had ahead is a whole process: a *spare* ([`spare`]) that has
//! done everything that does not depend on what is run. The daemon ([`server`]) keeps a few of them. `picovisor run` ([`client`])
//! looks for one of its user and its own build ([`address`]), hands it what a run has from its caller ([`request`]), passes signals
//! on and ends as the program does ([`link`]). A spare runs one sandbox and ends. It is asked for nothing that it could not do exactly as its
//! caller would: the caller's rights and surroundings, as the kernel tells them, are compared with its own ([`caller`]), and if anything
//! differs that cannot be taken over the caller runs the program itself.

mod address;
mod caller;
pub(crate) mod client;
pub(crate) mod link;
mod request;
pub(crate) mod server;
pub(crate) mod spare;
