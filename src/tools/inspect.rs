//! `picovisor inspect`: how a sandbox was configured, as JSON.

use super::format::json;
use crate::cli::InspectOptions;
use crate::control::client::find;
use crate::control::messages::{Reply, Request};
use crate::failure::Failure;
use crate::print;

/// Prints one JSON array with an object for each sandbox.
pub(crate) fn inspect(options: &InspectOptions) -> Result<u8, Failure> {
    let one = |reference: &String| {
        let connection = find(reference)?;
        let request = Request::Inspect { handles: options.handles };
        match connection.ask(&request).map_err(|error| error.of(&connection.address))? {
            Reply::Inspection(value) => Ok(value),
            other => Err(connection.odd(&other)),
        }
    };
    let values: Vec<_> = options.sandboxes.iter().map(one).collect::<Result<_, Failure>>()?;
    print(json(&values.into()).as_bytes()).map(|()| 0)
}
