//! ChaCha20 (RFC 8439) as a stream of blocks, for the vDSO's random bytes.
//!
//! One piece of assembly, so that what must not be left behind is not: the key and all that is computed from it lie in
//! vector registers, nothing is put on the stack, and the registers are zeroed at the end. A signal handler's frame or a
//! forked child's copy of the stack thus never holds a key for longer than the function runs. Only SSE2 is used, which
//! every x86-64 processor has.

use core::arch::asm;

/// Bytes in a block.
pub const BLOCK: usize = 64;
/// Bytes in a key.
pub const KEY: usize = 32;

/// The first row of the cipher's 4 × 4 matrix: "expand 32-byte k".
const CONSTANTS: [u64; 2] = [u64::from_le_bytes(*b"expand 3"), u64::from_le_bytes(*b"2-byte k")];

/// Rotates the words of a row left.
macro_rules! rotate {
    ($row:literal, $left:literal, $right:literal, $scratch:literal) => {
        concat!(
            concat!("movdqa ", $scratch, ", ", $row, "\n"),
            concat!("pslld ", $row, ", ", $left, "\n"),
            concat!("psrld ", $scratch, ", ", $right, "\n"),
            concat!("por ", $row, ", ", $scratch, "\n"),
        )
    };
}

/// Four quarter rounds side by side, on the columns of a matrix whose rows are given.
macro_rules! quarter_rounds {
    ($a:literal, $b:literal, $c:literal, $d:literal, $scratch:literal) => {
        concat!(
            concat!("paddd ", $a, ", ", $b, "\n", "pxor ", $d, ", ", $a, "\n"),
            // By 16: the halves of each word change places.
            concat!("pshuflw ", $d, ", ", $d, ", 0xb1\n", "pshufhw ", $d, ", ", $d, ", 0xb1\n"),
            concat!("paddd ", $c, ", ", $d, "\n", "pxor ", $b, ", ", $c, "\n"),
            rotate!($b, "12", "20", $scratch),
            concat!("paddd ", $a, ", ", $b, "\n", "pxor ", $d, ", ", $a, "\n"),
            rotate!($d, "8", "24", $scratch),
            concat!("paddd ", $c, ", ", $d, "\n", "pxor ", $b, ", ", $c, "\n"),
            rotate!($b, "7", "25", $scratch),
        )
    };
}

/// Makes diagonals of columns (or columns of diagonals, the other way around).
macro_rules! turn {
    ($b:literal, $c:literal, $d:literal, $by_one:literal, $by_three:literal) => {
        concat!(
            concat!("pshufd ", $b, ", ", $b, ", ", $by_one, "\n"),
            concat!("pshufd ", $c, ", ", $c, ", 0x4e\n"),
            concat!("pshufd ", $d, ", ", $d, ", ", $by_three, "\n"),
        )
    };
}

/// Adds the matrix that a block began with, and stores the block.
macro_rules! finish {
    ($a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(
            concat!("paddd ", $a, ", xmm8\n", "paddd ", $b, ", xmm9\n"),
            concat!("paddd ", $c, ", xmm10\n", "paddd ", $d, ", xmm11\n"),
            concat!("movdqu [{to}], ", $a, "\n", "movdqu [{to} + 16], ", $b, "\n"),
            concat!("movdqu [{to} + 32], ", $c, "\n", "movdqu [{to} + 48], ", $d, "\n"),
            "add {to}, 64\n",
        )
    };
}

/// Writes `count` blocks to `to`, from block `number` on, and returns the number of the block after the last. Blocks are
/// counted in 64 bits, and `nonce` has as many, as in the cipher's first version: RFC 8439 counts in 32, and has the
/// first 32 bits of its longer nonce above them.
///
/// The key is read before anything is written, so it may lie in `to`.
///
/// # Safety
/// `key` must be good for reads of [`KEY`] bytes, `to` for writes of `count` [`BLOCK`]s; neither need be aligned.
/// `count` must not be 0.
// Not inlined: it is called twice, and is half of what there is room for.
#[inline(never)]
pub unsafe fn blocks(to: *mut u8, count: usize, key: *const u8, number: u64, nonce: u64) -> u64 {
    let next: u64;
    // Two blocks are computed side by side, which takes hardly longer than one: a round waits for its own results most
    // of the time. Of an odd last pair the second is not stored.
    // SAFETY: the loop reads and writes what the caller vouches for, and nothing else.
    unsafe {
        asm!(
            // The matrix: constants in xmm8, the key in xmm9 and xmm10, number and nonce in xmm11. xmm14 is 1.
            "movq xmm8, {scratch}",
            "mov {scratch}, {constants_high}",
            "movq xmm12, {scratch}",
            "punpcklqdq xmm8, xmm12",
            "movdqu xmm9, [{key}]",
            "movdqu xmm10, [{key} + 16]",
            "movq xmm11, {next}",
            "movq xmm12, {nonce}",
            "punpcklqdq xmm11, xmm12",
            "mov {scratch:e}, 1",
            "movq xmm14, {scratch}",
            "2:",
            "movdqa xmm0, xmm8",
            "movdqa xmm1, xmm9",
            "movdqa xmm2, xmm10",
            "movdqa xmm3, xmm11",
            "movdqa xmm4, xmm8",
            "movdqa xmm5, xmm9",
            "movdqa xmm6, xmm10",
            "movdqa xmm7, xmm11",
            "paddq xmm7, xmm14",
            "mov {scratch:e}, 10",
            "3:",
            quarter_rounds!("xmm0", "xmm1", "xmm2", "xmm3", "xmm12"),
            quarter_rounds!("xmm4", "xmm5", "xmm6", "xmm7", "xmm13"),
            turn!("xmm1", "xmm2", "xmm3", "0x39", "0x93"),
            turn!("xmm5", "xmm6", "xmm7", "0x39", "0x93"),
            quarter_rounds!("xmm0", "xmm1", "xmm2", "xmm3", "xmm12"),
            quarter_rounds!("xmm4", "xmm5", "xmm6", "xmm7", "xmm13"),
            turn!("xmm1", "xmm2", "xmm3", "0x93", "0x39"),
            turn!("xmm5", "xmm6", "xmm7", "0x93", "0x39"),
            "dec {scratch:e}",
            "jnz 3b",
            finish!("xmm0", "xmm1", "xmm2", "xmm3"),
            "paddq xmm11, xmm14",
            "dec {count}",
            "jz 4f",
            finish!("xmm4", "xmm5", "xmm6", "xmm7"),
            "paddq xmm11, xmm14",
            "dec {count}",
            "jnz 2b",
            "4:",
            "movq {next}, xmm11",
            // Whatever has the key, or what it could be computed from.
            "pxor xmm0, xmm0",
            "pxor xmm1, xmm1",
            "pxor xmm2, xmm2",
            "pxor xmm3, xmm3",
            "pxor xmm4, xmm4",
            "pxor xmm5, xmm5",
            "pxor xmm6, xmm6",
            "pxor xmm7, xmm7",
            "pxor xmm9, xmm9",
            "pxor xmm10, xmm10",
            "pxor xmm12, xmm12",
            "pxor xmm13, xmm13",
            scratch = inout(reg) CONSTANTS[0] => _,
            constants_high = const CONSTANTS[1],
            to = inout(reg) to => _,
            count = inout(reg) count => _,
            key = in(reg) key,
            next = inout(reg) number => next,
            nonce = in(reg) nonce,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
            out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _,
            out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _,
            options(nostack),
        );
    }
    next
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
    }

    /// Blocks at an odd address, with bytes around them that must stay.
    fn stream(key: &[u8], count: usize, number: u64, nonce: u64) -> (Vec<u8>, u64) {
        let mut room = vec![0xa5; count * BLOCK + 2];
        assert_eq!(key.len(), KEY);
        // SAFETY: there is room for the blocks from the second byte on.
        let to = unsafe { room.as_mut_ptr().add(1) };
        // SAFETY: the key has its length, and `to` the room.
        let next = unsafe { blocks(to, count, key.as_ptr(), number, nonce) };
        assert_eq!((room[0], room[count * BLOCK + 1]), (0xa5, 0xa5));
        (room[1..=count * BLOCK].to_vec(), next)
    }

    fn check(key: &str, counter: u32, nonce: &str, expected: &str) {
        let nonce = bytes(nonce);
        let above = u32::from_le_bytes(nonce[..4].try_into().unwrap());
        let number = u64::from(above) << 32 | u64::from(counter);
        let nonce = u64::from_le_bytes(nonce[4..].try_into().unwrap());
        assert_eq!(stream(&bytes(key), 1, number, nonce), (bytes(expected), number + 1));
    }

    const ZEROES: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    const NO_NONCE: &str = "000000000000000000000000";

    #[test]
    fn the_block_of_rfc_8439_2_3_2() {
        check(
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            1,
            "000000090000004a00000000",
            "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e
             d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
        );
    }

    /// Appendix A.1, the vectors 1 to 5.
    #[test]
    fn the_blocks_of_rfc_8439_a_1() {
        check(
            ZEROES,
            0,
            NO_NONCE,
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7
             da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
        );
        check(
            ZEROES,
            1,
            NO_NONCE,
            "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed
             29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
        );
        check(
            "0000000000000000000000000000000000000000000000000000000000000001",
            1,
            NO_NONCE,
            "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a
             8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
        );
        check(
            "00ff000000000000000000000000000000000000000000000000000000000000",
            2,
            NO_NONCE,
            "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca
             13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
        );
        check(
            ZEROES,
            0,
            "000000000000000000000002",
            "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7
             8a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d",
        );
    }

    #[test]
    fn many_blocks_are_each_block_in_turn() {
        let key: Vec<u8> = (0..32).map(|byte| byte * 7).collect();
        // The counter's halves are one number.
        for start in [0, 5, u64::from(u32::MAX) - 1, u64::MAX - 2] {
            for count in 1..6 {
                let (all, next) = stream(&key, count, start, 9);
                assert_eq!(next, start.wrapping_add(count as u64));
                let single = |at| stream(&key, 1, start.wrapping_add(at), 9).0;
                assert_eq!(all, (0..count as u64).flat_map(single).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_key_may_be_overwritten_by_its_blocks() {
        let key = [3; KEY];
        let (expected, _) = stream(&key, 2, 0, 0);
        let mut room = [0; 2 * BLOCK];
        room[2 * BLOCK - KEY..].copy_from_slice(&key);
        let to = room.as_mut_ptr();
        // SAFETY: the key is the room's last bytes.
        let in_room = unsafe { to.add(2 * BLOCK - KEY) };
        // SAFETY: there is room for two blocks.
        unsafe { blocks(to, 2, in_room, 0, 0) };
        assert_eq!(room, expected[..]);
    }
}
