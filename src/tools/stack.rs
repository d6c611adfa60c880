//! `picovisor stack`: the user stacks of all threads of a process.

use super::format::{harmless, json};
use crate::cli::StackOptions;
use crate::control::client::find;
use crate::control::messages::{Frame, ProcessStacks, Reply, Request};
use crate::failure::Failure;
use crate::print;

/// Prints the stacks of one process, or of all.
pub(crate) fn stack(options: &StackOptions) -> Result<u8, Failure> {
    let (reference, pid) = target(&options.sandbox, options.pid)?;
    let connection = find(reference)?;
    let stacks = match connection.ask(&Request::Stacks { pid }).map_err(|error| error.of(&connection.address))? {
        Reply::Stacks(stacks) => stacks,
        other => return Err(connection.odd(&other)),
    };
    let text = match options.json {
        true => json(&serde_json::to_value(&stacks).map_err(Failure::ours)?),
        false => stacks.iter().map(human).collect::<Vec<_>>().join("\n"),
    };
    print(text.as_bytes()).map(|()| 0)
}

/// What `SANDBOX`, `SANDBOX:PID` or `SANDBOX PID` names.
fn target(text: &str, pid: Option<i32>) -> Result<(&str, Option<i32>), Failure> {
    match (text.split_once(':'), pid) {
        (None, pid) => Ok((text, pid)),
        (Some((sandbox, number)), None) => match number.parse() {
            Ok(pid @ 1..) => Ok((sandbox, Some(pid))),
            _ => Err(Failure::ours(format_args!("{number:?} is no process: use SANDBOX:PID"))),
        },
        (Some(_), Some(_)) => Err(Failure::ours("use SANDBOX:PID or SANDBOX PID, not both")),
    }
}

fn human(process: &ProcessStacks) -> String {
    let mut text = format!("process {} ({})\n", process.pid, harmless(&process.name));
    for thread in &process.threads {
        let place = match thread.place.as_str() {
            "provider" => " in a system call",
            "ended" => " has ended",
            _ => "",
        };
        text.push_str(&format!("  thread {} ({}){place}\n", thread.number, harmless(&thread.name)));
        for (number, frame) in thread.frames.iter().enumerate() {
            text.push_str(&format!("    #{number:<3} {}\n", line(frame)));
        }
    }
    text
}

/// A frame: address, function, file.
fn line(frame: &Frame) -> String {
    let mut line = format!("{:#018x}", frame.address);
    if let Some((name, offset)) = &frame.symbol {
        line.push_str(&format!(" {}+{offset:#x}", harmless(name)));
    }
    if let Some((name, offset)) = &frame.module {
        line.push_str(&format!(" in {}+{offset:#x}", harmless(name)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::messages::ThreadStack;

    #[test]
    fn processes_are_named_in_two_ways() {
        assert_eq!(target("web", None).unwrap(), ("web", None));
        assert_eq!(target("web", Some(7)).unwrap(), ("web", Some(7)));
        assert_eq!(target("web:7", None).unwrap(), ("web", Some(7)));
        for wrong in ["web:", "web:x", "web:0", "web:-1"] {
            assert!(target(wrong, None).is_err(), "{wrong}");
        }
        assert!(target("web:7", Some(7)).is_err());
    }

    #[test]
    fn frames_show_what_is_known() {
        let frame = |symbol: Option<&str>, module: Option<&str>| Frame {
            address: 0x1234,
            symbol: symbol.map(|name| (name.to_owned(), 4)),
            module: module.map(|name| (name.to_owned(), 16)),
            ..Frame::default()
        };
        let frames = vec![frame(Some("ma\u{1b}in"), Some("/bin/x")), frame(None, None)];
        let thread = ThreadStack { number: 3, name: "x".into(), place: "provider".into(), frames };
        let text = human(&ProcessStacks { pid: 1, name: "x".into(), threads: vec![thread] });
        let expected = "process 1 (x)\n  thread 3 (x) in a system call\n    \
                        #0   0x0000000000001234 ma\\u{1b}in+0x4 in /bin/x+0x10\n    #1   0x0000000000001234\n";
        assert_eq!(text, expected);
    }
}
