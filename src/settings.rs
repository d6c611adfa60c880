//! From the options of `run` to the provider's [`Config`]: defaults, paths, identity.

use provider::config::{Bind, CallSites, Config, Limits, Network, Trace, TraceFormat, View};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use vmm::pico::Posting;

use crate::cli::{BindSpec, NetworkChoice, PostingChoice, RunOptions, TraceChoice};
use crate::failure::{Failure, plain};
use crate::{environment, identity};

/// Builds the configuration. Host paths become absolute here, so that nothing later depends on the working directory.
pub(crate) fn config(options: &RunOptions) -> Result<Config, Failure> {
    let view = view(options)?;
    let user = identity::resolve(options.identity.user.as_ref(), view.root.as_deref().unwrap_or(Path::new("/")))?;
    Ok(Config {
        program: options.program().to_owned(),
        args: options.args().to_vec(),
        env: environment::build(&options.identity)?,
        view,
        user,
        workdir: options.files.workdir.clone(),
        hostname: options.identity.hostname.clone().unwrap_or_else(host_name),
        limits: limits(options)?,
        network: match options.network.net {
            NetworkChoice::None => Network::Loopback,
            NetworkChoice::Host => Network::Host,
        },
        terminal: None,
        trace: options.watching.strace.map(|format| Trace {
            format: match format {
                TraceChoice::Text => TraceFormat::Text,
                TraceChoice::Json => TraceFormat::Json,
            },
            output: options.watching.strace_output.clone(),
        }),
        call_sites: if options.protection.no_patch { CallSites::LeaveAlone } else { CallSites::Patch },
        name: options.identity.name.clone(),
    })
}

/// When calls that threads post are taken.
pub(crate) fn posting(options: &RunOptions) -> Posting {
    match options.protection.posting {
        PostingChoice::Auto => Posting::Auto,
        PostingChoice::Never => Posting::Never,
        PostingChoice::Always => Posting::Always,
        PostingChoice::Flapping => Posting::Flapping,
    }
}

fn view(options: &RunOptions) -> Result<View, Failure> {
    let root = options.files.root.as_deref().map(|path| directory("--root", path)).transpose()?;
    let upper = options.files.upper.as_deref().map(|path| directory("--upper", path)).transpose()?;
    let binds = options.binds.iter().map(bind).collect::<Result<_, _>>()?;
    let hide = options.files.hide.iter().map(|path| expand_home(path)).collect::<Result<_, _>>()?;
    Ok(View { root, binds, hide, upper })
}

/// The absolute path of a host directory that an option names.
fn directory(option: &str, path: &Path) -> Result<PathBuf, Failure> {
    let real = real_path(option, path)?;
    if real.is_dir() {
        Ok(real)
    } else {
        Err(Failure::ours(format_args!("{option} {}: not a directory", path.display())))
    }
}

fn real_path(option: &str, path: &Path) -> Result<PathBuf, Failure> {
    std::fs::canonicalize(path)
        .map_err(|error| Failure::ours(format_args!("{option} {}: {}", path.display(), plain(&error))))
}

fn bind(spec: &BindSpec) -> Result<Bind, Failure> {
    let source = real_path(spec.option, &spec.source)?;
    // Without a target the tree appears where the caller knows it: links on the way are the caller's own.
    let target = match &spec.target {
        Some(target) => target.clone(),
        None => source.clone(),
    };
    Ok(Bind { source, target, writable: spec.writable })
}

/// Replaces a leading `~` by the caller's home directory.
fn expand_home(path: &Path) -> Result<PathBuf, Failure> {
    let Ok(rest) = path.strip_prefix("~") else { return Ok(path.to_owned()) };
    match std::env::home_dir().filter(|home| home.is_absolute()) {
        Some(home) => Ok(home.join(rest)),
        None => Err(Failure::ours(format_args!("--hide {}: HOME is not set", path.display()))),
    }
}

/// Bytes below which no program gets far: page tables, the clock page, a stack and a few pages of its own.
const LEAST_MEMORY: u64 = 512 << 10;

fn limits(options: &RunOptions) -> Result<Limits, Failure> {
    let memory = options.limits.memory.unwrap_or_else(usual_memory);
    if memory < LEAST_MEMORY {
        return Err(Failure::ours(format_args!(
            "--memory: {memory} bytes are too little; a sandbox needs 512K or more"
        )));
    }
    let available = available_cpus()?;
    let cpus = options.limits.cpus.unwrap_or(available);
    if cpus > available {
        return Err(Failure::ours(format_args!("--cpus {cpus}: only {available} can be used here")));
    }
    Ok(Limits { memory, pids: options.limits.pids, files: options.limits.files, cpus, timeout: options.limits.timeout })
}

/// Bytes of memory that a sandbox may hold where nothing is said.
pub(crate) fn usual_memory() -> u64 {
    host_memory() / 2
}

/// The CPUs that this process may run on.
fn available_cpus() -> Result<u32, Failure> {
    rustix::thread::sched_getaffinity(None)
        .map(|set| set.count().max(1))
        .map_err(|error| Failure::ours(format_args!("sched_getaffinity: {error}")))
}

/// The host's memory in bytes.
fn host_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(info.mem_unit.into())
}

/// The host's name: what a program sees that runs directly.
fn host_name() -> OsString {
    OsString::from_vec(rustix::system::uname().nodename().to_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_become_absolute_and_must_exist() {
        let spec = |source: &str, target: Option<&str>| BindSpec {
            option: if target.is_some() { "--bind" } else { "--rw" },
            source: source.into(),
            target: target.map(PathBuf::from),
            writable: true,
        };
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(bind(&spec(".", None)).unwrap().target, here);
        assert_eq!(bind(&spec("src/..", Some("/x"))).unwrap().source, here);
        let error = bind(&spec("/no/such", None)).unwrap_err();
        assert_eq!(error.to_string(), "--rw /no/such: No such file or directory");
        assert_eq!(
            directory("--root", Path::new("Cargo.toml")).unwrap_err().to_string(),
            "--root Cargo.toml: not a directory"
        );
    }

    #[test]
    fn the_host_has_memory_and_processors() {
        assert!(host_memory() > 1 << 20);
        assert!(available_cpus().unwrap() >= 1);
        assert!(!host_name().is_empty());
    }
}
