//! The settings below /proc/sys that a program may change: those of what the sandbox has of its own.

use crate::errno::Errno;
use crate::fs::mqueue::{MESSAGE_SIZE_HARD, MESSAGE_SIZE_LEAST, MESSAGES_HARD, Settings};
use crate::fs::pseudo::Leaf;
use crate::task::CurrentTask;
use std::fmt::Write;
use std::ops::RangeInclusive;

/// All of them, by path.
pub(super) fn leaves() -> Vec<Leaf> {
    vec![
        Leaf::setting(
            "fs/mqueue/msg_default",
            |reader| numbers(&[queues(reader).msg_default]),
            |writer, bytes| store_queues(writer, bytes, 1..=MESSAGES_HARD, |settings, new| settings.msg_default = new),
        ),
        Leaf::setting(
            "fs/mqueue/msg_max",
            |reader| numbers(&[queues(reader).msg_max]),
            |writer, bytes| store_queues(writer, bytes, 1..=MESSAGES_HARD, |settings, new| settings.msg_max = new),
        ),
        Leaf::setting(
            "fs/mqueue/msgsize_default",
            |reader| numbers(&[queues(reader).msgsize_default]),
            |writer, bytes| store_queues(writer, bytes, SIZES, |settings, new| settings.msgsize_default = new),
        ),
        Leaf::setting(
            "fs/mqueue/msgsize_max",
            |reader| numbers(&[queues(reader).msgsize_max]),
            |writer, bytes| store_queues(writer, bytes, SIZES, |settings, new| settings.msgsize_max = new),
        ),
        Leaf::setting(
            "fs/mqueue/queues_max",
            |reader| numbers(&[queues(reader).queues_max.cast_signed().into()]),
            |writer, bytes| {
                let any = i32::MIN.into()..=i32::MAX.into();
                store_queues(writer, bytes, any, |settings, new| {
                    // As Linux, which keeps an `int` and compares it as an unsigned one.
                    settings.queues_max = i32::try_from(new).unwrap_or_default().cast_unsigned();
                })
            },
        ),
    ]
}

const SIZES: RangeInclusive<i64> = MESSAGE_SIZE_LEAST..=MESSAGE_SIZE_HARD;

fn queues(reader: &CurrentTask<'_>) -> Settings {
    reader.kernel().ipc().posix.settings()
}

fn store_queues(
    writer: &CurrentTask<'_>,
    bytes: &[u8],
    range: RangeInclusive<i64>,
    change: impl FnOnce(&mut Settings, i64),
) -> Result<(), Errno> {
    if let Some(value) = parse(bytes, range, 1)?.first() {
        writer.kernel().ipc().posix.change_settings(|settings| change(settings, *value));
    }
    Ok(())
}

/// The text of a setting of numbers.
fn numbers(values: &[i64]) -> Result<Vec<u8>, Errno> {
    let mut text = String::new();
    for (at, value) in values.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{value}", if at == 0 { "" } else { "\t" });
    }
    text.push('\n');
    Ok(text.into_bytes())
}

/// Reads up to `most` numbers, as proc_dointvec_minmax does: `EINVAL` for what is no number and for one outside the range.
fn parse(bytes: &[u8], range: RangeInclusive<i64>, most: usize) -> Result<Vec<i64>, Errno> {
    let words = bytes.split(|byte| matches!(byte, b' ' | b'\t' | b'\n' | 0)).filter(|word| !word.is_empty());
    words
        .take(most)
        .map(|word| {
            let text = std::str::from_utf8(word).map_err(|_| Errno::EINVAL)?;
            // A sign is a minus, if any.
            let value: i64 = text.parse().ok().filter(|_| !text.starts_with('+')).ok_or(Errno::EINVAL)?;
            if range.contains(&value) { Ok(value) } else { Err(Errno::EINVAL) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_linux_reads_them() {
        let read = |text: &str| parse(text.as_bytes(), -5..=99, 2);
        assert_eq!(read("12\n"), Ok(vec![12]));
        assert_eq!(read("  7\t-5 \n"), Ok(vec![7, -5]));
        assert_eq!(read("1 2 3"), Ok(vec![1, 2]));
        assert_eq!(read("\n"), Ok(vec![]));
        for wrong in ["x", "1x", "+1", "100", "-6", "99999999999999999999"] {
            assert_eq!(read(wrong), Err(Errno::EINVAL), "{wrong}");
        }
    }
}
