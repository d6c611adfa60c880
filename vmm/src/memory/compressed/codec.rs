//! A page's bytes as the store keeps them: one word where it is all that the page repeats, else an LZ4 block.

use crate::addr::PAGE_SIZE;
use crate::memory::arena::usize_of;
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use std::fmt;

/// The bytes of a page.
pub(crate) type Page = [u8; usize_of(PAGE_SIZE)];

/// The longest block that is worth keeping: three quarters of a page.
pub(crate) const LONGEST: usize = usize_of(PAGE_SIZE) / 4 * 3;

/// A page in its short form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short<'b> {
    /// The word that the page repeats.
    Fill(u64),
    /// An LZ4 block of at most [`LONGEST`] bytes.
    Block(&'b [u8]),
}

/// The bytes of a block are not what they were: they decode to no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

/// A compressor with its buffers.
pub(crate) struct Codec {
    table: CompressTable,
    out: Vec<u8>,
}

impl Codec {
    pub(crate) fn new() -> Self {
        Self { table: CompressTable::small(), out: vec![0; get_maximum_output_size(usize_of(PAGE_SIZE))] }
    }

    /// Makes a page short; `None`: it would stay too long.
    pub(crate) fn shorten(&mut self, page: &Page) -> Option<Short<'_>> {
        if let Some(word) = repeated(page) {
            return Some(Short::Fill(word));
        }
        // The buffer is large enough for whatever a page becomes, so a refusal does not happen; it would mean the same.
        let len = compress_into_with_table(page, &mut self.out, &mut self.table).ok()?;
        (len <= LONGEST).then(|| Short::Block(&self.out[..len]))
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").finish_non_exhaustive()
    }
}

/// Writes the page that a block stands for. `digest` is what [`digest`] said of the block when it was made.
pub(crate) fn lengthen(block: &[u8], wanted: u32, page: &mut Page) -> Result<(), Damaged> {
    if digest(block) != wanted {
        return Err(Damaged);
    }
    match decompress_into(block, page) {
        Ok(len) if len == page.len() => Ok(()),
        _ => Err(Damaged),
    }
}

/// A short sum of a block's bytes, which tells damage (not malice: nobody else can write to the store).
pub(crate) fn digest(block: &[u8]) -> u32 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = block.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mix = |sum: u64, word: &[u8; 8]| (sum ^ u64::from_le_bytes(*word)).wrapping_mul(ODD).rotate_left(29);
    let sum = mix(words.iter().fold(block.len() as u64, mix), &last);
    #[expect(clippy::cast_possible_truncation, reason = "half of the sum is kept")]
    {
        (sum ^ sum >> 32) as u32
    }
}

/// The word that a page consists of, if it is always the same.
fn repeated(page: &Page) -> Option<u64> {
    let (words, _) = page.as_chunks::<8>();
    let first = words.first()?;
    words.iter().all(|word| word == first).then(|| u64::from_ne_bytes(*first))
}

/// Writes a page that repeats `word`.
pub(crate) fn fill(word: u64, page: &mut Page) {
    let (words, _) = page.as_chunks_mut::<8>();
    words.fill(word.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pages of runs: some compress, some do not.
    fn page() -> impl Strategy<Value = Box<Page>> {
        prop::collection::vec((any::<u8>(), 1..600_usize, any::<bool>()), 1..40).prop_map(|runs| {
            let mut page = Box::new([0; usize_of(PAGE_SIZE)]);
            let (mut at, mut noise) = (0, 1_u64);
            for (byte, len, noisy) in runs {
                for slot in page.iter_mut().skip(at).take(len) {
                    noise = noise.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(u64::from(byte) | 1);
                    *slot = if noisy { noise.to_be_bytes()[0] } else { byte };
                }
                at += len;
            }
            page
        })
    }

    proptest! {
        #[test]
        fn a_page_comes_back_as_it_was(page in page()) {
            let mut codec = Codec::new();
            let mut back = [1; usize_of(PAGE_SIZE)];
            match codec.shorten(&page) {
                Some(Short::Fill(word)) => fill(word, &mut back),
                Some(Short::Block(block)) => {
                    prop_assert!(block.len() <= LONGEST);
                    prop_assert_eq!(lengthen(block, digest(block), &mut back), Ok(()));
                }
                None => return Ok(()),
            }
            prop_assert!(back == *page);
        }

        #[test]
        fn damage_is_an_error_and_never_another_page(page in page(), at in any::<prop::sample::Index>(), bits in 1..=255_u8) {
            let mut codec = Codec::new();
            let Some(Short::Block(block)) = codec.shorten(&page) else { return Ok(()) };
            let mut damaged = block.to_vec();
            damaged[at.index(block.len())] ^= bits;
            let mut back = [0; usize_of(PAGE_SIZE)];
            prop_assert_eq!(lengthen(&damaged, digest(block), &mut back), Err(Damaged));
            // A block that was replaced, sum and all, decodes to a page or to nothing, and stays in bounds.
            let other = lengthen(&damaged, digest(&damaged), &mut back);
            prop_assert!(other.is_ok() || other == Err(Damaged));
        }

        #[test]
        fn any_bytes_decode_to_a_page_or_an_error(block in prop::collection::vec(any::<u8>(), 0..3072)) {
            let mut back = [0; usize_of(PAGE_SIZE)];
            let result = lengthen(&block, digest(&block), &mut back);
            prop_assert!(result.is_ok() || result == Err(Damaged));
        }
    }

    #[test]
    fn words_that_repeat_are_kept_as_a_word_and_noise_is_left_alone() {
        let mut codec = Codec::new();
        let mut page = [0; usize_of(PAGE_SIZE)];
        assert_eq!(codec.shorten(&page), Some(Short::Fill(0)));
        fill(0x0123_4567_89ab_cdef, &mut page);
        assert_eq!(codec.shorten(&page), Some(Short::Fill(0x0123_4567_89ab_cdef)));
        let mut noise = 1_u64;
        for byte in &mut page {
            noise = noise.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            *byte = noise.to_be_bytes()[0];
        }
        assert_eq!(codec.shorten(&page), None);
    }
}
