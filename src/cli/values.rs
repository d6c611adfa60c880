//! Option values and how they are written: sizes, times, binds, users, names.
//!
//! Every parser returns a sentence on failure; clap puts the option and the value before it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Parses a number of bytes: `4096`, `512M`, `2G`, `1.5GiB`. Units are powers of 1,024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err("use a number and K, M, G or T, such as 512M or 2G".into()),
    };
    let bytes = scaled(number, 1 << shift).ok_or("use a number and K, M, G or T, such as 512M or 2G")?;
    match u64::try_from(bytes) {
        Ok(0) => Err("must be more than 0".into()),
        Ok(bytes) if bytes <= i64::MAX.cast_unsigned() => Ok(bytes),
        _ => Err("is more memory than any machine has".into()),
    }
}

/// Parses a time: `30` or `30s`, `500ms`, `5m`, `1.5h`, `2d`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    const USAGE: &str = "use a number and ms, s, m, h or d, such as 30s or 5m";
    let (number, unit) = split_unit(text);
    let nanoseconds: u64 = match unit {
        "ms" => 1_000_000,
        "" | "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return Err(USAGE.into()),
    };
    let total = scaled(number, nanoseconds).ok_or(USAGE)?;
    match u64::try_from(total) {
        Ok(0) => Err("must be more than 0".into()),
        Ok(total) if total <= i64::MAX.cast_unsigned() => Ok(Duration::from_nanos(total)),
        _ => Err("is more than 292 years".into()),
    }
}

/// How often something is done; `None`: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period(pub(crate) Option<Duration>);

/// Parses a time as [`time`] does, or `off`.
pub(super) fn period(text: &str) -> Result<Period, String> {
    if text == "off" { Ok(Period(None)) } else { time(text).map(|time| Period(Some(time))) }
}

/// Splits `1.5GiB` into `1.5` and `GiB`.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

/// Multiplies a decimal number by a unit, exactly, and drops what is below one; `None` if it is not a plain number.
fn scaled(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || fraction.len() > 9 || number.ends_with('.') {
        return None;
    }
    let unit = u128::from(unit);
    let whole: u128 = if whole.len() > 20 { return Some(u128::MAX) } else { whole.parse().ok()? };
    let fraction_value: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(whole * unit + fraction_value * unit / divisor)
}

/// A host tree shown inside: `SRC`, `SRC:DST` or `SRC:DST:ro`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BindSpec {
    /// The option that asked for it, for messages.
    pub(crate) option: &'static str,
    pub(crate) source: PathBuf,
    /// `None`: at the path that the host calls `source`.
    pub(crate) target: Option<PathBuf>,
    pub(crate) writable: bool,
}

/// Parses `SRC[:DST[:ro|:rw]]`; a colon in a path is written `\:`.
pub(super) fn bind(text: &OsStr) -> Result<BindSpec, String> {
    let fields = split_colons(text);
    let writable = match fields.get(2).map(|mode| mode.as_bytes()) {
        None | Some(b"rw") => true,
        Some(b"ro") => false,
        Some(_) => return Err("the third part must be ro or rw".into()),
    };
    if fields.len() > 3 {
        return Err("use SRC:DST or SRC:DST:ro (write a colon in a path as \\:)".into());
    }
    let source = PathBuf::from(&fields[0]);
    let target = fields.get(1).map(PathBuf::from);
    if source.as_os_str().is_empty() {
        return Err("the host path is empty".into());
    }
    match &target {
        Some(target) if !target.is_absolute() => Err("the path inside must begin with /".into()),
        _ => Ok(BindSpec { option: "--bind", source, target, writable }),
    }
}

/// Splits at colons that no backslash precedes. At least one field.
fn split_colons(text: &OsStr) -> Vec<OsString> {
    let mut fields = vec![Vec::new()];
    let mut bytes = text.as_bytes().iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let last = fields.last_mut().expect("the list starts with one field and only grows");
        match byte {
            b'\\' if bytes.peek() == Some(&b':') => last.extend(bytes.next()),
            b':' => fields.push(Vec::new()),
            _ => last.push(byte),
        }
    }
    fields.into_iter().map(OsString::from_vec).collect()
}

/// An absolute path inside the sandbox.
pub(super) fn inner_path(text: &OsStr) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if path.is_absolute() { Ok(path.to_owned()) } else { Err("the path inside must begin with /".into()) }
}

/// A path to hide: absolute, or beginning with `~/` for the caller's home directory.
pub(super) fn hidden_path(text: &OsStr) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if path.is_absolute() || path.starts_with("~") {
        Ok(path.to_owned())
    } else {
        Err("the path must begin with / or ~/".into())
    }
}

/// Who the program believes to be, as written: `UID`, `UID:GID`, or names from the sandbox's /etc/passwd and /etc/group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserSpec {
    pub(crate) user: String,
    pub(crate) group: Option<String>,
}

/// Parses `USER[:GROUP]`.
pub(crate) fn user(text: &str) -> Result<UserSpec, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group.to_owned())),
        None => (text, None),
    };
    if user.is_empty() || group.as_ref().is_some_and(|group| group.is_empty() || group.contains(':')) {
        return Err("use UID or UID:GID".into());
    }
    Ok(UserSpec { user: user.to_owned(), group })
}

/// A change to the program's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EnvSpec {
    /// `NAME=VALUE`
    Set(OsString, OsString),
    /// `NAME`: the caller's value, if there is one.
    Inherit(OsString),
}

/// Parses `NAME=VALUE` or `NAME`.
pub(crate) fn env(text: &OsStr) -> Result<EnvSpec, String> {
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len());
    let name = OsStr::from_bytes(&bytes[..end]).to_owned();
    if name.is_empty() {
        return Err("the name is empty".into());
    }
    match bytes.get(end + 1..) {
        Some(value) => Ok(EnvSpec::Set(name, OsStr::from_bytes(value).to_owned())),
        None => Ok(EnvSpec::Inherit(name)),
    }
}

/// A sandbox's name: what Docker accepts.
pub(super) fn name(text: &str) -> Result<String, String> {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if first && rest && text.len() <= 64 {
        Ok(text.to_owned())
    } else {
        Err("use up to 64 letters, digits, '_', '.' and '-', and begin with a letter or a digit".into())
    }
}

/// A host name: at most 64 bytes, as sethostname(2) has it, of the characters a host name may have.
pub(super) fn hostname(text: &str) -> Result<OsString, String> {
    let sound = text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !text.is_empty() && text.len() <= 64 && sound {
        Ok(text.into())
    } else {
        Err("use up to 64 letters, digits, '.', '_' and '-'".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let good: [(&str, u64); 9] = [
            ("1", 1),
            ("4096", 4096),
            ("4096b", 4096),
            ("1k", 1024),
            ("512M", 512 << 20),
            ("512MiB", 512 << 20),
            ("2G", 2 << 30),
            ("1.5g", 3 << 29),
            ("1T", 1 << 40),
        ];
        for (text, bytes) in good {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "0",
            "0.0001K",
            "M",
            "-1",
            "1X",
            "1.2.3M",
            "1.",
            ".5G",
            "9999999999T",
            "99999999999999999999999999",
            "1 G",
        ] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn times() {
        let good =
            [("30", 30_000), ("30s", 30_000), ("500ms", 500), ("5m", 300_000), ("1.5h", 5_400_000), ("0.25s", 250)];
        for (text, milliseconds) in good {
            assert_eq!(time(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "0", "0s", "s", "5 m", "1w", "-3", "1e3", "999999999d", "0.0000000001s"] {
            assert!(time(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn periods() {
        assert_eq!(period("off"), Ok(Period(None)));
        assert_eq!(period("2s"), Ok(Period(Some(Duration::from_secs(2)))));
        assert!(period("0").is_err() && period("never").is_err());
    }

    #[test]
    fn binds() {
        let spec = |source: &str, target: Option<&str>, writable| BindSpec {
            option: "--bind",
            source: source.into(),
            target: target.map(PathBuf::from),
            writable,
        };
        assert_eq!(bind("/a:/b".as_ref()), Ok(spec("/a", Some("/b"), true)));
        assert_eq!(bind("/a:/b:ro".as_ref()), Ok(spec("/a", Some("/b"), false)));
        assert_eq!(bind("a:/b:rw".as_ref()), Ok(spec("a", Some("/b"), true)));
        assert_eq!(bind("/a".as_ref()), Ok(spec("/a", None, true)));
        assert_eq!(bind("/a\\:b:/c".as_ref()), Ok(spec("/a:b", Some("/c"), true)));
        assert_eq!(bind(OsStr::from_bytes(b"/\xff:/b")).unwrap().source.as_os_str().as_bytes(), b"/\xff");
        for text in ["", ":", ":/b", "/a:", "/a:b", "/a:/b:x", "/a:/b:ro:x"] {
            assert!(bind(text.as_ref()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn users() {
        assert_eq!(user("1000"), Ok(UserSpec { user: "1000".into(), group: None }));
        assert_eq!(user("a:b"), Ok(UserSpec { user: "a".into(), group: Some("b".into()) }));
        for text in ["", ":", "1:", ":1", "1:2:3"] {
            assert!(user(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn environments() {
        assert_eq!(env("A=b=c".as_ref()), Ok(EnvSpec::Set("A".into(), "b=c".into())));
        assert_eq!(env("A=".as_ref()), Ok(EnvSpec::Set("A".into(), "".into())));
        assert_eq!(env("A".as_ref()), Ok(EnvSpec::Inherit("A".into())));
        assert!(env("=b".as_ref()).is_err() && env("".as_ref()).is_err());
    }

    #[test]
    fn names() {
        assert!(name("job-1.a_b").is_ok() && name("0").is_ok());
        for text in ["", "-a", ".a", "a b", "a/b", "é"] {
            assert!(name(text).is_err(), "{text:?}");
        }
        assert!(hostname("a.b-c").is_ok() && hostname("").is_err() && hostname("a b").is_err());
        assert!(hostname(&"a".repeat(65)).is_err());
    }

    #[test]
    fn inner_paths_are_absolute() {
        assert!(inner_path("/a".as_ref()).is_ok() && inner_path("a".as_ref()).is_err());
        assert!(hidden_path("~/.netrc".as_ref()).is_ok() && hidden_path("~".as_ref()).is_ok());
        assert!(hidden_path("a".as_ref()).is_err());
    }
}
