//! The options of a tmpfs, see tmpfs(5), and what it may hold.

use super::BLOCK;
use crate::errno::Errno;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Options as they were given; what was not given stays as it is.
#[derive(Clone, Debug, Default)]
pub struct TmpOptions {
    /// Bytes; 0: as much as there is.
    pub(super) size: Option<u64>,
    pub(super) inodes: Option<u64>,
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// Reads a number with a unit, as memparse in lib/cmdline.c does.
fn amount(text: &[u8]) -> Result<u64, Errno> {
    let (digits, unit) = match text.split_last() {
        Some((b'k' | b'K', rest)) => (rest, 10),
        Some((b'm' | b'M', rest)) => (rest, 20),
        Some((b'g' | b'G', rest)) => (rest, 30),
        Some((b't' | b'T', rest)) => (rest, 40),
        _ => (text, 0),
    };
    number(digits, 10).and_then(|number| number.checked_mul(1 << unit).ok_or(Errno::EINVAL))
}

fn number(digits: &[u8], radix: u32) -> Result<u64, Errno> {
    let text = std::str::from_utf8(digits).map_err(|_| Errno::EINVAL)?;
    let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(text, radix).ok().filter(|_| plain).ok_or(Errno::EINVAL)
}

fn small(digits: &[u8], radix: u32) -> Result<u32, Errno> {
    number(digits, radix).and_then(|number| u32::try_from(number).map_err(|_| Errno::EINVAL))
}

impl TmpOptions {
    /// Takes one option; `EINVAL` for one that tmpfs does not have, or a value that means nothing.
    pub(in crate::fs) fn set(&mut self, name: &[u8], value: Option<&[u8]>) -> Result<(), Errno> {
        let given = value.ok_or(Errno::EINVAL);
        match name {
            b"size" => self.size = Some(Self::bytes(given?)?),
            b"nr_blocks" => self.size = Some(amount(given?)?.checked_mul(BLOCK).ok_or(Errno::EINVAL)?),
            b"nr_inodes" => self.inodes = Some(amount(given?)?),
            b"mode" => self.mode = Some(small(given?, 8)? & 0o7777),
            b"uid" => self.uid = Some(small(given?, 10)?),
            b"gid" => self.gid = Some(small(given?, 10)?),
            // Numbers are of 64 bits, and where pages lie is the host's business.
            b"inode32" | b"inode64" | b"noswap" if value.is_none() => {}
            b"huge" | b"mpol" => drop(given?),
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// A size; a percentage is of what the sandbox may hold, which is asked for when it is needed.
    fn bytes(text: &[u8]) -> Result<u64, Errno> {
        match text.split_last() {
            // As large as there is memory: the sandbox's own limit holds.
            Some((b'%', digits)) => number(digits, 10).map(|_| 0),
            _ => amount(text).map(|bytes| bytes.div_ceil(BLOCK).saturating_mul(BLOCK)),
        }
    }
}

/// What one tmpfs may hold, and holds.
#[derive(Debug)]
pub(super) struct Quota {
    /// Bytes of data; `u64::MAX`: only the sandbox's limit.
    size: AtomicU64,
    used: AtomicU64,
    /// Inodes; `u64::MAX`: only the budget.
    inodes: AtomicU64,
    used_inodes: AtomicU64,
}

fn limit(given: u64) -> u64 {
    if given == 0 { u64::MAX } else { given }
}

impl Quota {
    pub(super) fn new(options: &TmpOptions) -> Self {
        Self {
            size: AtomicU64::new(limit(options.size.unwrap_or_default())),
            used: AtomicU64::new(0),
            inodes: AtomicU64::new(limit(options.inodes.unwrap_or_default())),
            used_inodes: AtomicU64::new(0),
        }
    }

    /// Changes the limits; `EINVAL` if there is more already (shmem_reconfigure).
    pub(super) fn change(&self, options: &TmpOptions) -> Result<(), Errno> {
        let too_small = |given: Option<u64>, used: &AtomicU64| {
            given.is_some_and(|given| limit(given) < used.load(Ordering::Relaxed))
        };
        if too_small(options.size, &self.used) || too_small(options.inodes, &self.used_inodes) {
            return Err(Errno::EINVAL);
        }
        for (given, slot) in [(options.size, &self.size), (options.inodes, &self.inodes)] {
            if let Some(given) = given {
                slot.store(limit(given), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// The bytes that data may take, if that is bounded, and those that it takes.
    pub(super) fn size(&self) -> Option<(u64, u64)> {
        let size = self.size.load(Ordering::Relaxed);
        (size != u64::MAX).then(|| (size, self.used.load(Ordering::Relaxed)))
    }

    /// The inodes that there may be, if that is bounded, and those that there are.
    pub(super) fn inodes(&self) -> Option<(u64, u64)> {
        let inodes = self.inodes.load(Ordering::Relaxed);
        (inodes != u64::MAX).then(|| (inodes, self.used_inodes.load(Ordering::Relaxed)))
    }

    /// Notes that a file holds `now` bytes, and before held `before`.
    pub(super) fn held(&self, before: u64, now: u64) {
        if now >= before {
            self.used.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// Counts an inode, or another name of one; `ENOSPC`.
    pub(super) fn take_inode(&self) -> Result<(), Errno> {
        let inodes = self.inodes.load(Ordering::Relaxed);
        let add = |used: u64| (used < inodes).then_some(used + 1);
        let taken = self.used_inodes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        taken.map(|_| ()).map_err(|_| Errno::ENOSPC)
    }

    /// Counts an inode whether there is room or not.
    pub(super) fn add_inode(&self) {
        self.used_inodes.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives an inode back.
    pub(super) fn give_inode(&self) {
        self.used_inodes.fetch_sub(1, Ordering::Relaxed);
    }

    /// As /proc/PID/mounts shows the limits (shmem_show_options).
    pub(super) fn show(&self) -> String {
        let mut text = String::new();
        if let Some((size, _)) = self.size() {
            // Writing to a String cannot fail.
            let _ = write!(text, ",size={}k", size >> 10);
        }
        if let Some((inodes, _)) = self.inodes() {
            let _ = write!(text, ",nr_inodes={inodes}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_are_rounded_up_to_pages() {
        let size = |text: &[u8]| {
            let mut options = TmpOptions::default();
            options.set(b"size", Some(text)).map(|()| options.size)
        };
        assert_eq!(size(b"4097"), Ok(Some(8192)));
        assert_eq!(size(b"2k"), Ok(Some(4096)));
        assert_eq!(size(b"1m"), Ok(Some(1 << 20)));
        assert_eq!(size(b"50%"), Ok(Some(0)));
        for wrong in [&b"x"[..], b"", b"k", b"-1", b"99999999999999999999", b"16777216t"] {
            assert_eq!(size(wrong), Err(Errno::EINVAL), "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn limits_do_not_fall_below_what_is_used() {
        let quota = Quota::new(&TmpOptions { size: Some(8192), inodes: Some(1), ..TmpOptions::default() });
        quota.held(0, 4096);
        assert_eq!((quota.size(), quota.show().as_str()), (Some((8192, 4096)), ",size=8k,nr_inodes=1"));
        assert_eq!((quota.take_inode(), quota.take_inode()), (Ok(()), Err(Errno::ENOSPC)));
        let smaller = TmpOptions { size: Some(1), ..TmpOptions::default() };
        assert_eq!(quota.change(&smaller), Err(Errno::EINVAL));
        quota.held(4096, 0);
        assert_eq!(quota.change(&smaller), Ok(()));
        assert_eq!(quota.size(), Some((1, 0)));
    }
}
