//! Sets of processors and memory nodes as the kernel prints them.

/// The first `set` of `width` bits, as `%*pb`: hexadecimal, 32 bits between commas.
pub(crate) fn first(set: usize, width: usize) -> String {
    mask(width, |bit| bit < set)
}

/// One of `width` bits, as `%*pb`.
pub(crate) fn single(bit: usize, width: usize) -> String {
    mask(width, |other| other == bit)
}

/// Those of `width` bits that are in the set, as `%*pb`.
pub(crate) fn mask(width: usize, contains: impl Fn(usize) -> bool) -> String {
    let word = |index: usize| {
        let len = (width - index * 32).min(32);
        let bits = (0..len).filter(|bit| contains(index * 32 + bit)).fold(0u32, |bits, bit| bits | 1 << bit);
        format!("{bits:0digits$x}", digits = len.div_ceil(4))
    };
    (0..width.div_ceil(32)).rev().map(word).collect::<Vec<_>>().join(",")
}

/// The numbers below `count`, as `%*pbl`: `0-3`.
pub(crate) fn list(count: usize) -> String {
    ranges(count, |_| true)
}

/// The numbers below `width` that are in the set, as `%*pbl`: `0-3,5`.
pub(crate) fn ranges(width: usize, contains: impl Fn(usize) -> bool) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut bit = 0;
    while bit < width {
        let end = (bit..width).find(|end| !contains(*end)).unwrap_or(width);
        match end - bit {
            0 => {}
            1 => parts.push(bit.to_string()),
            _ => parts.push(format!("{bit}-{}", end - 1)),
        }
        bit = end + 1;
    }
    parts.join(",")
}

/// Tells whether a bit is in a mask of 64-bit words.
pub(crate) fn in_words(words: &[u64], bit: usize) -> bool {
    words.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_grouped() {
        assert_eq!(first(2, 2), "3");
        assert_eq!(first(1, 64), "00000000,00000001");
        assert_eq!(first(33, 33), "1,ffffffff");
        assert_eq!(first(64, 64), "ffffffff,ffffffff");
        assert_eq!(single(5, 6), "20");
    }

    #[test]
    fn lists_are_ranges() {
        assert_eq!((list(1).as_str(), list(4).as_str()), ("0", "0-3"));
        assert_eq!(ranges(8, |bit| in_words(&[0b1011_0101], bit)), "0,2,4-5,7");
        assert_eq!(ranges(8, |_| false), "");
    }
}
