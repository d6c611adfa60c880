//! /proc/cpuinfo: the host's processors, as many as the sandbox has, without the features that are hidden from programs.

use crate::errno::Errno;
use crate::task::CurrentTask;
use std::fmt::Write;
use std::sync::OnceLock;

/// Features that CPUID hides from programs: a program that believed in them would fault.
const HIDDEN_FLAGS: &[&str] = &[
    "amx_bf16",
    "amx_complex",
    "amx_fp16",
    "amx_int8",
    "amx_tile",
    "ibt",
    "la57",
    "ospke",
    "pku",
    "shstk",
    "user_shstk",
    "waitpkg",
];

/// The host's text, read once: the processors do not change.
static HOST: OnceLock<Vec<Processor>> = OnceLock::new();

/// A processor's lines: (key with its padding, value).
type Processor = Vec<(String, String)>;

/// The host's processors. Empty if the host shows none.
fn host_cpuinfo() -> &'static [Processor] {
    HOST.get_or_init(|| parse(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()))
}

/// Splits the text at empty lines and colons.
fn parse(text: &str) -> Vec<Processor> {
    let lines = |processor: &str| -> Processor {
        let pairs = processor.lines().filter_map(|line| line.split_once(':'));
        pairs.map(|(key, value)| (key.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned())).collect()
    };
    text.split("\n\n").map(lines).filter(|processor| !processor.is_empty()).collect()
}

/// Renders the file.
pub(super) fn render(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    Ok(show(host_cpuinfo(), reader.kernel().cpus().count()).into_bytes())
}

/// Shows `count` processors, each a core of its own in one package; a sandbox may have more than the host shows.
fn show(host: &[Processor], count: usize) -> String {
    let mut out = String::new();
    for (number, processor) in (0..count).zip(host.iter().cycle()) {
        for (key, value) in processor {
            // Writing to a String cannot fail.
            let _ = match key.trim_end() {
                "processor" | "core id" | "apicid" | "initial apicid" => writeln!(out, "{key}: {number}"),
                "siblings" | "cpu cores" => writeln!(out, "{key}: {count}"),
                "physical id" => writeln!(out, "{key}: 0"),
                "flags" => writeln!(out, "{key}: {}", visible(value)),
                _ if value.is_empty() => writeln!(out, "{key}:"),
                _ => writeln!(out, "{key}: {value}"),
            };
        }
        out.push('\n');
    }
    out
}

fn visible(flags: &str) -> String {
    flags.split(' ').filter(|flag| !HIDDEN_FLAGS.contains(flag)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "processor\t: 0\nphysical id\t: 1\nsiblings\t: 8\ncore id\t\t: 3\ncpu cores\t: 4\nflags\t\t: fpu pku sse2 \
                        amx_tile\npower management:\n\n";

    #[test]
    fn processors_are_counted_anew_and_hidden_features_dropped() {
        let shown = show(&parse(TEXT), 2);
        let one = |number: u32| {
            format!(
                "processor\t: {number}\nphysical id\t: 0\nsiblings\t: 2\ncore id\t\t: {number}\ncpu cores\t: 2\nflags\t\t: fpu \
                 sse2\npower management:\n\n"
            )
        };
        assert_eq!(shown, one(0) + &one(1));
    }

    #[test]
    fn the_hosts_own_text_keeps_its_shape() {
        let host = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let processors = parse(&host);
        let count = processors.len();
        let keys = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(keys(&show(&processors, count)), keys(&host));
    }

    #[test]
    fn a_host_without_processors_gives_an_empty_file() {
        assert_eq!(show(&parse(""), 2), "");
    }
}
