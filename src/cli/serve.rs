//! `picovisor serve`: options of the daemon that keeps monitors ready.

use clap::Args;

pub(super) const ABOUT: &str = "\
Keeps monitors that are started ahead, so that `picovisor run` starts programs faster.

While it runs, each `picovisor run` of the same user and the same build hands its program to a monitor that is ready, and does itself \
what it always does: it passes signals on and ends as the program does. The results are the same. A monitor runs one sandbox, never a \
second one, and is replaced then. It runs in the foreground until SIGTERM, SIGINT or SIGHUP ends it; sandboxes that are running go on.";

pub(super) const EXAMPLES: &str = "\
Examples:
  picovisor serve &
  picovisor run -- python3 -c pass           uses a monitor that is ready
  picovisor run -v -- python3 -c pass        says whether it did
  picovisor run --no-serve -- python3 -c pass

A run does everything itself, as without the daemon:
  where a standard descriptor is a terminal, and with -t;
  with --net host, --no-jail, --upper, and more --memory than half of the host's;
  where its caller has other rights, capabilities, namespaces, seccomp filters or another root than the daemon;
  where the caller's limits on memory, or its scheduling policy, differ from the daemon's;
  with PICOVISOR_LOG set, with PICOVISOR_SERVE=off, and when no monitor is free.

What the caller has from its control group and its OOM score is the daemon's for such a sandbox: start the daemon in the group that its \
sandboxes should be accounted to. SIGSTOP stops `picovisor run`, not the program (SIGTSTP does both).
It needs Linux 6.5 and a jail (see `picovisor check`).";

/// `picovisor serve`.
#[derive(Args, Debug)]
pub(crate) struct ServeOptions {
    /// How many monitors to keep ready; one takes a few megabytes and no CPU time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) spares: u32,
}
