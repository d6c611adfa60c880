//! The settings below /proc/sys that a program may change: those of what the sandbox has of its own.

use crate::errno::Errno;
use crate::fs::Leases;
use crate::fs::mqueue::{MESSAGE_SIZE_HARD, MESSAGE_SIZE_LEAST, MESSAGES_HARD, Settings};
use crate::fs::pseudo::Leaf;
use crate::ipc::{Limit, Registry, Segment};
use crate::net::inet::{FIRST_UNPRIVILEGED, Kept, Stack};
use crate::task::CurrentTask;
use std::fmt::{Display, Write};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// All of them, by path.
pub(super) fn leaves() -> Vec<Leaf> {
    let mut leaves = of_files();
    leaves.extend(of_ipc());
    leaves.extend(of_network());
    leaves
}

/// A setting that is one limit of System V IPC.
macro_rules! limit {
    ($path:literal, $field:ident, $range:expr) => {
        Leaf::setting(
            $path,
            |reader| numbers(&[reader.kernel().ipc().limits.$field.get()]),
            |writer, bytes| {
                let value = parse(bytes, $range, 1)?;
                value.first().iter().for_each(|value| writer.kernel().ipc().limits.$field.set(**value));
                Ok(())
            },
        )
    };
}

/// A setting of how many objects of a kind there may be.
macro_rules! most {
    ($path:literal, $registry:ident) => {
        Leaf::setting(
            $path,
            |reader| numbers(&[reader.kernel().ipc().$registry.most()]),
            |writer, bytes| {
                let value = parse(bytes, 0..=Registry::<Segment>::MOST, 1)?;
                value.first().iter().for_each(|most| writer.kernel().ipc().$registry.set_most(**most));
                Ok(())
            },
        )
    };
}

/// A setting that says which number the next object of a kind gets; −1: any.
macro_rules! next {
    ($path:literal, $registry:ident) => {
        Leaf::setting(
            $path,
            |reader| numbers(&[reader.kernel().ipc().$registry.wanted_number().unwrap_or(-1)]),
            |writer, bytes| {
                let value = parse(bytes, 0..=i32::MAX, 1)?;
                value.first().iter().for_each(|id| writer.kernel().ipc().$registry.want_number(**id));
                Ok(())
            },
        )
    };
}

/// Those of System V IPC, see sysvipc(7) and proc_sys_kernel(5).
fn of_ipc() -> Vec<Leaf> {
    const INT: RangeInclusive<u64> = 0..=i32::MAX.cast_unsigned() as u64;
    vec![
        limit!("kernel/msgmax", message_size, INT),
        limit!("kernel/msgmnb", queue_bytes, INT),
        most!("kernel/msgmni", messages),
        next!("kernel/msg_next_id", messages),
        Leaf::setting("kernel/sem", show_semaphores, store_semaphores),
        next!("kernel/sem_next_id", semaphores),
        limit!("kernel/shmall", segment_pages, 0..=u64::MAX),
        limit!("kernel/shmmax", segment_size, 0..=u64::MAX),
        most!("kernel/shmmni", segments),
        next!("kernel/shm_next_id", segments),
    ]
}

/// SEMMSL, SEMMNS, SEMOPM, SEMMNI.
fn show_semaphores(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    let ipc = reader.kernel().ipc();
    let limits = &ipc.limits;
    let most = u64::try_from(ipc.semaphores.most()).unwrap_or_default();
    numbers(&[limits.set_size.get(), limits.semaphores.get(), limits.operations.get(), most])
}

/// Stores as many of the four as there are.
fn store_semaphores(writer: &CurrentTask<'_>, bytes: &[u8]) -> Result<(), Errno> {
    let values: Vec<u64> = parse(bytes, 0..=i32::MAX.cast_unsigned().into(), 4)?;
    let ipc = writer.kernel().ipc();
    // The operations of one call are copied: Linux bounds them by what an allocation yields.
    const OPERATIONS: u64 = 1 << 16;
    // A semaphore's number has 16 bits.
    let most = u64::try_from(Registry::<Segment>::MOST).unwrap_or_default();
    if values.get(3).is_some_and(|sets| *sets > most) || values.first().is_some_and(|size| *size > u16::MAX.into()) {
        return Err(Errno::EINVAL);
    }
    let set = |limit: &Limit, at: usize| values.get(at).iter().for_each(|value| limit.set(**value));
    set(&ipc.limits.set_size, 0);
    set(&ipc.limits.semaphores, 1);
    if let Some(operations) = values.get(2) {
        ipc.limits.operations.set(*operations.min(&OPERATIONS));
    }
    if let Some(sets) = values.get(3) {
        ipc.semaphores.set_most(usize::try_from(*sets).unwrap_or_default());
    }
    Ok(())
}

/// Those of leases and POSIX queues.
fn of_files() -> Vec<Leaf> {
    vec![
        Leaf::setting(
            "fs/lease-break-time",
            |reader| numbers(&[leases(reader).break_time()]),
            |writer, bytes| {
                let value = parse(bytes, 0..=i32::MAX.into(), 1)?;
                value.first().iter().for_each(|seconds| leases(writer).set_break_time(**seconds));
                Ok(())
            },
        ),
        Leaf::setting(
            "fs/leases-enable",
            |reader| numbers(&[i32::from(leases(reader).enabled())]),
            |writer, bytes| {
                let value = parse(bytes, i32::MIN..=i32::MAX, 1)?;
                value.first().iter().for_each(|value| leases(writer).set_enabled(**value != 0));
                Ok(())
            },
        ),
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
            |reader| numbers(&[queues(reader).queues_max.cast_signed()]),
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

/// Those of the sandbox's own network.
fn of_network() -> Vec<Leaf> {
    vec![
        Leaf::setting(
            "net/ipv4/ip_forward",
            |reader| numbers(&[inet(reader).settings.forward.get()]),
            |writer, bytes| store_kept(&inet(writer).settings.forward, bytes, i32::MIN..=i32::MAX),
        ),
        Leaf::setting("net/ipv4/ip_local_port_range", automatic_ports, store_automatic_ports),
        Leaf::setting(
            "net/ipv4/tcp_recovery",
            |reader| numbers(&[inet(reader).settings.recovery.get()]),
            |writer, bytes| store_kept(&inet(writer).settings.recovery, bytes, 0..=255),
        ),
    ]
}

fn inet<'k>(task: &'k CurrentTask<'_>) -> &'k Stack {
    task.kernel().network().inet()
}

fn store_kept(kept: &Kept, bytes: &[u8], range: RangeInclusive<i32>) -> Result<(), Errno> {
    let values = parse(bytes, range, 1)?;
    values.first().iter().for_each(|value| kept.set(**value));
    Ok(())
}

fn automatic_ports(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    let (first, last) = inet(reader).automatic_ports();
    numbers(&[first, last])
}

/// The two ends of a range that is not empty and begins above the privileged ports (ipv4_local_port_range).
fn store_automatic_ports(writer: &CurrentTask<'_>, bytes: &[u8]) -> Result<(), Errno> {
    let values = parse(bytes, 1..=u16::MAX, 2)?;
    let (first, last) = inet(writer).automatic_ports();
    let (first, last) = (values.first().copied().unwrap_or(first), values.get(1).copied().unwrap_or(last));
    if last < first || first < FIRST_UNPRIVILEGED {
        return Err(Errno::EINVAL);
    }
    inet(writer).set_automatic_ports(first, last);
    Ok(())
}

const SIZES: RangeInclusive<i64> = MESSAGE_SIZE_LEAST..=MESSAGE_SIZE_HARD;

fn leases<'a>(reader: &'a CurrentTask<'_>) -> &'a Leases {
    reader.kernel().namespace().locks().leases()
}

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
fn numbers<T: Display>(values: &[T]) -> Result<Vec<u8>, Errno> {
    let mut text = String::new();
    for (at, value) in values.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{value}", if at == 0 { "" } else { "\t" });
    }
    text.push('\n');
    Ok(text.into_bytes())
}

/// Reads up to `most` numbers, as proc_dointvec_minmax does: `EINVAL` for what is no number and for one outside the range.
fn parse<T: FromStr + PartialOrd>(bytes: &[u8], range: RangeInclusive<T>, most: usize) -> Result<Vec<T>, Errno> {
    let words = bytes.split(|byte| matches!(byte, b' ' | b'\t' | b'\n' | 0)).filter(|word| !word.is_empty());
    words
        .take(most)
        .map(|word| {
            let text = std::str::from_utf8(word).map_err(|_| Errno::EINVAL)?;
            // A sign is a minus, if any.
            let value: T = text.parse().ok().filter(|_| !text.starts_with('+')).ok_or(Errno::EINVAL)?;
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
