//! What an ordinary test does with a fuzz target: the files of its corpus, and as many inputs again that are made from those by a
//! generator with a fixed seed. Coverage decides nothing here: that is the long run's business (`tests/fuzz/run`).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// The longest input that is made.
const LONGEST: usize = 512;

/// Runs `target` on the files of its corpus and on `runs` inputs made from them. `PICOVISOR_FUZZ_RUNS` makes it another number.
pub(crate) fn replay(name: &str, runs: u64, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let mut corpus: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    corpus.iter().for_each(|input| run(target, input));
    corpus.push(Vec::new());
    let runs = std::env::var("PICOVISOR_FUZZ_RUNS").map_or(runs, |runs| runs.parse().unwrap());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..runs {
        run(target, &random.damage(&corpus));
    }
}

fn run(target: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("the input was {input:02x?}");
        resume_unwind(panic);
    }
}

/// xorshift64*: a test needs repeatable numbers, not good ones.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % bound
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// An input of the corpus with some bytes changed, something behind it, or a part of another in it.
    fn damage(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        let other = &corpus[self.below(corpus.len())];
        match self.below(4) {
            0 => {
                let length = self.below(LONGEST);
                input.extend((0..length).map(|_| self.byte()));
            }
            1 if !other.is_empty() => {
                let from = self.below(other.len());
                let at = self.below(input.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            2 => input.truncate(self.below(input.len() + 1)),
            _ => {}
        }
        for _ in 0..self.below(8) {
            if !input.is_empty() {
                let at = self.below(input.len());
                input[at] = self.byte();
            }
        }
        input
    }
}
