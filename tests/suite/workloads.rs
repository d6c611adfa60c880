//! Real programs from outside the repository, where their folder is given.

use crate::harness::{need_kvm, picovisor};
use std::path::Path;
use std::process::Command;

/// `PICOVISOR_WORKLOADS=DIR` names a folder with a `run.py` that runs commands natively and behind a prefix, compares them, and
/// exits with 0 if all is equal. `PICOVISOR_WORKLOADS_ARGS` holds more arguments for it, such as `--tier 0-2`.
#[test]
fn external_workloads_do_what_they_do_natively() {
    let Some(folder) = std::env::var_os("PICOVISOR_WORKLOADS") else {
        eprintln!("skipped external_workloads_do_what_they_do_natively: PICOVISOR_WORKLOADS is not set");
        return;
    };
    need_kvm!();
    let prefix = format!("{} run --rw {{cwd}} --", picovisor().display());
    let more = std::env::var("PICOVISOR_WORKLOADS_ARGS").unwrap_or_default();
    let mut command = Command::new(Path::new(&folder).join("run.py"));
    command.args(["--prefix", &prefix]).args(more.split_whitespace());
    let output = command.output().expect("the folder's run.py can be executed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
