//! The check of all protected ranges, and the digests that it compares them with.
//!
//! Digests are taken once, at [`Integrity::arm`] (or the first check), and kept in sealed memory. A range that is large is kept as
//! several pieces. [`Integrity::verify`] looks at everything; [`Integrity::verify_slice`] looks at everything small and at
//! the next few pieces of what is large, for a thread that comes by now and then.

use super::corruption::{Corruption, Digest};
use super::image::{self, Segment};
use super::sealed::SealedSlice;
use crate::memory::raw;
use crate::pico::ProtectedRange;
use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// Bytes of a piece: 0.1 ms of work.
const PIECE: usize = 256 << 10;
/// Pieces of large ranges that one slice looks at.
const PIECES_A_SLICE: usize = 2;
/// Bytes read at once: they are copied, since a range may be unreadable, and memory that others could write to is not to
/// be borrowed.
const CHUNK: usize = 16 << 10;

/// What else is protected, by those who know it.
pub(crate) trait Guarded {
    /// The ranges of the monitor's memory whose bytes are constant from now on.
    fn ranges(&self) -> Vec<ProtectedRange>;

    /// Looks at what is not a range of constant bytes.
    fn check(&self) -> Result<(), Corruption>;
}

/// What a check looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Ranges, or pieces of large ones.
    pub ranges: usize,
    /// Bytes in them whose digest was taken.
    pub bytes: usize,
}

/// A piece of a range, and what it must be.
#[derive(Clone, Copy, Debug)]
struct Record {
    address: usize,
    len: usize,
    digest: Digest,
}

/// What the check knows once it is armed.
#[derive(Debug)]
struct Armed {
    /// What has digests.
    ranges: Vec<ProtectedRange>,
    /// Which range each record is of.
    owners: Vec<usize>,
    records: SealedSlice<Record>,
    /// Small ones come first.
    small: usize,
    /// Parts of the image that are compared with its file.
    text: Vec<Segment>,
}

/// The check of a host's protected ranges.
#[derive(Debug, Default)]
pub(crate) struct Integrity {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    armed: Option<Armed>,
    /// The piece that the next slice begins with.
    next: usize,
}

impl Integrity {
    /// Takes the digests, if that was not done. What is wrong by then is not noticed.
    ///
    /// # Errors
    /// The host has no memory for the digests, or a range cannot be read.
    pub(crate) fn arm(&self, guarded: &dyn Guarded) -> io::Result<()> {
        self.armed(guarded).map(|_| ())
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// What has changed; the first of it.
    pub(crate) fn verify(&self, guarded: &dyn Guarded) -> Result<Verified, Failure> {
        let state = self.armed(guarded)?;
        let Some(armed) = &state.armed else { return Ok(Verified::default()) };
        armed.look(guarded, 0..armed.records.len())
    }

    /// Looks at everything small and at the next pieces of what is large.
    ///
    /// # Errors
    /// What has changed; the first of it.
    pub(crate) fn verify_slice(&self, guarded: &dyn Guarded) -> Result<Verified, Failure> {
        let mut state = self.armed(guarded)?;
        let begin = state.next;
        let Some(armed) = &state.armed else { return Ok(Verified::default()) };
        let verified = armed.look(guarded, 0..armed.small)?;
        let begin = if begin < armed.records.len() { begin.max(armed.small) } else { armed.small };
        let end = (begin + PIECES_A_SLICE).min(armed.records.len());
        let more = armed.digests(begin..end)?;
        state.next = end;
        Ok(Verified { ranges: verified.ranges + more.ranges, bytes: verified.bytes + more.bytes })
    }

    /// What is looked at, and the memory that the digests are in.
    pub(crate) fn ranges(&self, guarded: &dyn Guarded) -> io::Result<Vec<ProtectedRange>> {
        let state = self.armed(guarded)?;
        let Some(armed) = &state.armed else { return Ok(Vec::new()) };
        let mut ranges = armed.ranges.clone();
        let records = &*armed.records;
        // SAFETY: sealed memory stays, and so does the loader's.
        let range = |name: &str, at, len| unsafe { ProtectedRange::from_raw(name.to_owned(), at, len) };
        ranges.push(range("the digests", records.as_ptr().addr(), size_of_val(records)));
        ranges.extend(armed.text.iter().map(|part| range(&part.name, part.pages.start, part.pages.len())));
        Ok(ranges)
    }

    fn armed(&self, guarded: &dyn Guarded) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.armed.is_none() {
            state.armed = Some(Armed::new(guarded)?);
        }
        Ok(state)
    }
}

/// Why a check did not end well.
#[derive(Debug, Error)]
pub enum Failure {
    /// Something has changed.
    #[error("{0}")]
    Corrupt(Box<Corruption>),
    /// It could not be made: the host has no memory for the digests.
    #[error("the integrity of protected memory cannot be checked: {0}")]
    Host(#[from] io::Error),
}

impl From<Corruption> for Failure {
    fn from(corruption: Corruption) -> Self {
        Self::Corrupt(Box::new(corruption))
    }
}

impl Armed {
    fn new(guarded: &dyn Guarded) -> io::Result<Self> {
        let mut ranges = guarded.ranges();
        let mut text = Vec::new();
        for segment in image::segments() {
            if segment.offset.is_some() {
                text.push(segment);
            } else {
                let Segment { name, pages, .. } = segment;
                // SAFETY: what the loader has mapped stays so.
                ranges.push(unsafe { ProtectedRange::from_raw(name, pages.start, pages.len()) });
            }
        }
        ranges.retain(|range| !range.is_empty());
        ranges.sort_by_key(|range| range.len() > PIECE);
        let small = ranges.iter().filter(|range| range.len() <= PIECE).count();
        let (mut owners, mut records) = (Vec::new(), Vec::new());
        for (owner, range) in ranges.iter().enumerate() {
            for offset in (0..range.len()).step_by(PIECE) {
                let (address, len) = (range.address() + offset, PIECE.min(range.len() - offset));
                let digest = digest(address, len).ok_or(io::ErrorKind::InvalidData)?;
                records.push(Record { address, len, digest });
                owners.push(owner);
            }
        }
        Ok(Self { ranges, owners, records: SealedSlice::of(&records)?, small, text })
    }

    /// Looks at some of the records, and at what has none.
    fn look(&self, guarded: &dyn Guarded, records: Range<usize>) -> Result<Verified, Failure> {
        guarded.check()?;
        let verified = self.digests(records)?;
        // Last: a table among the constants is better called by its own name.
        for segment in &self.text {
            image::check(segment, segment.offset.unwrap_or_default())?;
        }
        Ok(Verified { ranges: verified.ranges + self.text.len(), ..verified })
    }

    fn digests(&self, records: Range<usize>) -> Result<Verified, Corruption> {
        let mut verified = Verified::default();
        for (record, &owner) in self.records[records.clone()].iter().zip(&self.owners[records]) {
            let actual = digest(record.address, record.len);
            if actual != Some(record.digest) {
                let (name, address) = (self.ranges[owner].name().to_owned(), record.address);
                let expected = record.digest;
                return Err(Corruption { name, address, expected, actual });
            }
            verified = Verified { ranges: verified.ranges + 1, bytes: verified.bytes + record.len };
        }
        Ok(verified)
    }
}

/// The digest of memory of the monitor; `None` if it cannot be read.
fn digest(address: usize, len: usize) -> Option<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK.min(len)];
    for offset in (0..len).step_by(CHUNK) {
        let count = CHUNK.min(len - offset);
        let from = ptr::with_exposed_provenance(address + offset);
        // SAFETY: the buffer has room; the other side is somebody's memory or none, which is an error and not a fault.
        unsafe { raw::copy(buffer.as_mut_ptr(), from, count) }.ok()?;
        hasher.update(&buffer[..count]);
    }
    Some(Digest(*hasher.finalize().as_bytes()))
}
