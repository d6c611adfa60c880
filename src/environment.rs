//! The program's environment: what is inherited, read from files, and set.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::cli::{EnvSpec, IdentityOptions, parse_env};
use crate::failure::Failure;

/// An environment file larger than this is a mistake.
const FILE_LIMIT: u64 = 1 << 20;

/// The program's environment as `NAME=VALUE` strings: the caller's (unless cleared), then the files', then the options'.
pub(crate) fn build(options: &IdentityOptions) -> Result<Vec<OsString>, Failure> {
    let caller: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let mut variables = Variables { caller: &caller, set: if options.clearenv { Vec::new() } else { caller.clone() } };
    for path in &options.env_file {
        for spec in read_file(path)? {
            variables.apply(spec);
        }
    }
    for spec in &options.env {
        variables.apply(spec.clone());
    }
    Ok(variables.set.into_iter().map(|(name, value)| join(name, &value)).collect())
}

/// An environment in the making; names keep their first position.
struct Variables<'a> {
    caller: &'a [(OsString, OsString)],
    set: Vec<(OsString, OsString)>,
}

impl Variables<'_> {
    fn apply(&mut self, spec: EnvSpec) {
        match spec {
            EnvSpec::Set(name, value) => self.put(name, value),
            EnvSpec::Inherit(name) => {
                if let Some((_, value)) = self.caller.iter().find(|(known, _)| *known == name) {
                    self.put(name, value.clone());
                }
            }
        }
    }

    fn put(&mut self, name: OsString, value: OsString) {
        match self.set.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.set.push((name, value)),
        }
    }
}

fn join(name: OsString, value: &OsStr) -> OsString {
    let mut bytes = name.into_vec();
    bytes.push(b'=');
    bytes.extend_from_slice(value.as_bytes());
    OsString::from_vec(bytes)
}

fn read_file(path: &Path) -> Result<Vec<EnvSpec>, Failure> {
    let fail = |why: &dyn std::fmt::Display| Failure::ours(format_args!("--env-file {}: {why}", path.display()));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| fail(&crate::failure::plain(&error)))?;
    let length = std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_LIMIT + 1), &mut bytes);
    let length = length.map_err(|error| fail(&crate::failure::plain(&error)))?;
    if length as u64 > FILE_LIMIT {
        return Err(fail(&"is larger than 1 MiB"));
    }
    parse_lines(&bytes).map_err(|(line, why)| fail(&format_args!("line {line}: {why}")))
}

/// Parses the lines of an environment file as Docker does: no quotes, no expansion, blanks before a name ignored.
fn parse_lines(bytes: &[u8]) -> Result<Vec<EnvSpec>, (usize, String)> {
    let mut specs = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if line.contains(&0) {
            return Err((index + 1, "contains a zero byte".into()));
        }
        specs.push(parse_env(OsStr::from_bytes(line)).map_err(|why| (index + 1, why))?);
    }
    Ok(specs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> EnvSpec {
        EnvSpec::Set(name.into(), value.into())
    }

    #[test]
    fn files_are_read_as_docker_reads_them() {
        let text = b"# comment\n\nA=1\r\n  B= x y \nC\nD=\"q\"#z\n";
        let expected = [set("A", "1"), set("B", " x y "), EnvSpec::Inherit("C".into()), set("D", "\"q\"#z")];
        assert_eq!(parse_lines(text).unwrap(), expected);
        assert_eq!(parse_lines(b"A=1\n=2\n"), Err((2, "the name is empty".into())));
        assert_eq!(parse_lines(b"A=\0"), Err((1, "contains a zero byte".into())));
    }

    #[test]
    fn later_settings_win_and_missing_ones_are_not_inherited() {
        let caller = [("A".into(), "caller".into()), ("B".into(), "b".into())];
        let mut variables = Variables { caller: &caller, set: Vec::new() };
        let specs =
            [set("A", "1"), set("Z", "z"), set("A", "2"), EnvSpec::Inherit("B".into()), EnvSpec::Inherit("N".into())];
        specs.into_iter().for_each(|spec| variables.apply(spec));
        let strings: Vec<_> = variables.set.into_iter().map(|(name, value)| join(name, &value)).collect();
        assert_eq!(strings, ["A=2", "Z=z", "B=b"]);
    }
}
