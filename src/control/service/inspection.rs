//! How the sandbox was configured, as `inspect` prints it.

use provider::config::{Limits, Network, View};
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::processes::milliseconds;
use super::{Monitor, handles};

impl Monitor {
    /// Everything that the sandbox was started with, and when; perhaps with the monitor's descriptors.
    pub(super) fn inspect(&self, with_handles: bool) -> Result<Value, String> {
        let config = self.sandbox.config();
        let started = self.started().duration_since(std::time::UNIX_EPOCH).map_or(0, milliseconds);
        let report = self.host.report();
        let mut value = json!({
            "id": self.address.id.as_str(),
            "name": self.address.name,
            "uid": self.address.uid,
            "monitor": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "protocol": crate::control::channel::VERSION,
            "command": self.command(),
            "started_ms": started,
            "running_ms": milliseconds(self.started.elapsed()),
            "environment": config.env.iter().map(text).collect::<Vec<_>>(),
            "workdir": config.workdir.as_deref().map(path),
            "hostname": text(&config.hostname),
            "user": { "uid": config.user.uid, "gid": config.user.gid, "groups": config.user.groups },
            "limits": limits(&config.limits),
            "network": match config.network { Network::Loopback => "loopback", Network::Host => "host" },
            "terminal": config.terminal.is_some(),
            "files": files(&config.view),
            "host": report.map(|report| json!({
                "traps": report.traps.map(|traps| traps.to_string()),
                "paging": report.paging.map(|flavour| format!("{:?}", flavour.paging)),
                "virtual_cpus": report.max_vcpus,
            })),
        });
        if with_handles {
            let list = handles::list().map_err(|error| format!("its descriptors cannot be listed: {error}"))?;
            let handle = |handle: &handles::Handle| json!({ "fd": handle.number, "kind": handle.kind, "target": handle.target, "process": "System" });
            value["handles"] = list.iter().map(handle).collect();
        }
        Ok(value)
    }
}

fn limits(limits: &Limits) -> Value {
    json!({
        "memory": limits.memory,
        "pids": limits.pids,
        "files": limits.files,
        "cpus": limits.cpus,
        "timeout_ms": limits.timeout.map(milliseconds),
    })
}

fn files(view: &View) -> Value {
    let binds: Vec<_> = view
        .binds
        .iter()
        .map(|bind| json!({ "source": path(&bind.source), "target": path(&bind.target), "writable": bind.writable }))
        .collect();
    json!({
        "root": view.root.as_deref().map(path),
        "binds": binds,
        "hide": view.hide.iter().map(|hidden| path(hidden)).collect::<Vec<_>>(),
        "upper": view.upper.as_deref().map(path),
    })
}

fn text(text: &OsString) -> String {
    OsStr::to_string_lossy(text).into_owned()
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
