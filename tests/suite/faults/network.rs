//! `--net host`: datagrams and a connection through the host, and Unix sockets inside.

use super::stage::Stage;
use super::{Run, Scene};
use crate::harness::{Link, picovisor, program};
use faults::Plan;

pub(super) struct Network;

impl Scene for Network {
    fn name(&self) -> &'static str {
        "the host's network"
    }

    fn output(&self) -> String {
        "datagrams\nconnection\nUnix sockets\ndone\n".to_owned()
    }

    fn run(&self, plan: Option<Plan>) -> Run {
        let stage = Stage::new();
        let mut command = stage.command(picovisor(), &["run", "--no-serve", "--net", "host", "--"]);
        command.arg(program("injected_network.c", Link::Static));
        stage.trace(command, plan)
    }
}
