//! The monitor's own log: to standard error, and only where `PICOVISOR_LOG` asks for it.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::failure::Failure;

/// The variable that holds the filter: a level, or `target=level` items separated by commas.
const VARIABLE: &str = "PICOVISOR_LOG";

/// Starts logging if it is asked for. Without the variable nothing is set up, which keeps a start short.
pub(crate) fn start() -> Result<(), Failure> {
    let Some(filter) = std::env::var_os(VARIABLE).filter(|filter| !filter.is_empty()) else { return Ok(()) };
    let wrong = || {
        Failure::ours(format_args!("{VARIABLE}: use a level such as info, or a list such as provider=debug,vmm=warn"))
    };
    let targets: Targets = filter.to_str().ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(targets).with(lines).init();
    Ok(())
}
