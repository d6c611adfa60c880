//! The state machine with a kernel whose answers are known.

extern crate std;
use super::*;
use core::cell::{Cell, RefCell};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

/// A page with a state in it, and a kernel whose keys are known.
struct Bench {
    page: *mut [u8; PAGE],
    generation: Cell<u64>,
    /// The calls' lengths and flags.
    calls: RefCell<Vec<(usize, u32)>>,
    /// What happens to the state during a call, for each of the next ones.
    meanwhile: RefCell<Vec<fn(&Bench)>>,
    fails: Cell<bool>,
}

#[repr(align(4096))]
struct Page {
    _bytes: [u8; PAGE],
}

impl Bench {
    fn new() -> Self {
        Self {
            page: Box::into_raw(Box::new(Page { _bytes: [0; PAGE] })).cast(),
            generation: Cell::new(7),
            calls: RefCell::default(),
            meanwhile: RefCell::default(),
            fails: Cell::new(false),
        }
    }

    fn state_at(&self, offset: usize) -> *mut State {
        self.page.cast::<u8>().wrapping_add(offset).cast()
    }

    fn state(&self) -> State {
        // SAFETY: the page is this value's, and any bytes are a state.
        unsafe { self.state_at(0).read() }
    }

    fn set_state(&self, state: State) {
        // SAFETY: as above.
        unsafe { self.state_at(0).write(state) };
    }

    fn call(&self, to: &mut [u8], flags: u32, state_len: usize) -> i64 {
        // SAFETY: the slice is good, and the state is this value's.
        unsafe { getrandom(self, to.as_mut_ptr(), to.len(), flags, self.state_at(0), state_len) }
    }

    #[track_caller]
    fn draw(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        assert_eq!(self.call(&mut bytes, 0, STATE), i64::try_from(len).unwrap());
        bytes
    }

    fn wipe(&self) {
        self.set_state(WIPED);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // SAFETY: made by a box of this type.
        drop(unsafe { Box::from_raw(self.page.cast::<Page>()) });
    }
}

/// The bytes of the kernel's `call`th answer.
fn answer(call: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((call * 101 + at * 3) % 251).unwrap()).collect()
}

impl Seeds for Bench {
    unsafe fn fetch(&self, to: *mut u8, len: usize, flags: u32) -> i64 {
        self.calls.borrow_mut().push((len, flags));
        let meanwhile = self.meanwhile.borrow_mut().pop();
        if let Some(meanwhile) = meanwhile {
            meanwhile(self);
        }
        if self.fails.get() {
            return -4;
        }
        let bytes = answer(self.calls.borrow().len(), len);
        // SAFETY: as the caller vouches.
        unsafe { bytes.as_ptr().copy_to(to, len) };
        i64::try_from(len).unwrap()
    }

    fn generation(&self) -> u64 {
        self.generation.get()
    }
}

const WIPED: State = State { batch: [0; BATCH], key: [0; 32], generation: 0, position: 0, in_use: 0, padding: [0; 6] };

/// What the function computes, the plain way.
struct Model {
    batch: Vec<u8>,
    key: Vec<u8>,
}

impl Model {
    fn new(key: Vec<u8>) -> Self {
        Self { batch: Vec::new(), key }
    }

    fn draw(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.batch.drain(..len.min(self.batch.len())).collect();
        if bytes.len() < len {
            let whole = (len - bytes.len()) / chacha::BLOCK;
            let mut stream = vec![0; (whole + 2) * chacha::BLOCK];
            // SAFETY: there is room, and the key has its length.
            unsafe { chacha::blocks(stream.as_mut_ptr(), whole + 2, self.key.as_ptr(), 0, 0) };
            self.key = stream.split_off(stream.len() - chacha::KEY);
            self.batch = stream.split_off(whole * chacha::BLOCK);
            bytes.extend(stream);
            bytes.extend(self.batch.drain(..len - bytes.len()));
        }
        bytes
    }
}

#[test]
fn bytes_are_the_ciphers_whatever_their_number() {
    let bench = Bench::new();
    let mut model = Model::new(answer(1, chacha::KEY));
    for len in (1..300).chain([1, 96, 95, 64, 32, 100_000, 4096]) {
        assert_eq!(bench.draw(len), model.draw(len), "{len}");
        let state = bench.state();
        let used = usize::from(state.position);
        assert_eq!(state.batch[..used], vec![0; used], "handed out");
        assert_eq!((&state.batch[used..], &state.key[..]), (&model.batch[..], &model.key[..]));
        assert_eq!(state.in_use, 0);
    }
    assert_eq!(*bench.calls.borrow(), [(chacha::KEY, 0)], "one seed serves all");
}

#[test]
fn parameters_are_linux_own() {
    let bench = Bench::new();
    // SAFETY: the page has room.
    unsafe { bench.page.write([0xff; PAGE]) };
    let to = core::ptr::null_mut();
    // SAFETY: as above.
    assert_eq!(unsafe { getrandom(&bench, to, 0, 0, bench.state_at(0), usize::MAX) }, 0);
    // SAFETY: as above, and any bytes are words.
    let words = unsafe { bench.page.cast::<[u32; 17]>().read() };
    assert_eq!(words[..3], [144, 3, 0x28]);
    assert_eq!(words[3..], [[0; 13].as_slice(), &[u32::MAX]].concat());
    // With anything else before it, it is a length like others.
    assert_eq!(bench.call(&mut [0; 3], 0, usize::MAX), 3);
    assert_eq!(*bench.calls.borrow(), [(3, 0)]);
}

#[test]
fn states_keep_to_a_page() {
    let bench = Bench::new();
    let mut byte = [0];
    let mut call = |offset, flags, len| {
        // SAFETY: the state lies in the page wherever the call looks at it.
        unsafe { getrandom(&bench, byte.as_mut_ptr(), 1, flags, bench.state_at(offset), len) }
    };
    assert_eq!(call(PAGE - STATE, 0, STATE), 1);
    assert_eq!(call(5, 0, STATE), 1);
    assert_eq!(call(PAGE - STATE + 1, 0, STATE), -EFAULT);
    assert_eq!(call(PAGE - 1, 0, 0), -EFAULT);
    assert_eq!(call(PAGE - 1, 0xff, STATE), -EFAULT);
}

#[test]
fn what_is_not_known_is_asked_of_the_kernel() {
    let bench = Bench::new();
    for (flags, len) in [(8, STATE), (u32::MAX, STATE), (0, STATE - 1), (1, STATE + 1), (4, 0)] {
        assert_eq!(bench.call(&mut [0; 40], flags, len), 40);
        assert_eq!(bench.calls.borrow_mut().pop(), Some((40, flags)));
    }
    assert_eq!({ bench.state().generation }, 0);
    for flags in 0..8 {
        assert_eq!(bench.call(&mut [], flags, STATE), 0);
    }
    assert!(bench.calls.borrow().is_empty(), "nothing is asked for nothing");
    for flags in 0..8 {
        assert_eq!(bench.call(&mut [0; 40], flags, STATE), 40);
    }
    assert_eq!(bench.calls.borrow().len(), 1);
}

#[test]
fn a_state_in_use_is_left_alone() {
    let bench = Bench::new();
    bench.draw(10);
    let used = State { in_use: 1, ..bench.state() };
    bench.set_state(used);
    assert_eq!(bench.draw(50), answer(2, 50));
    let state = bench.state();
    assert_eq!((state.batch, state.key, state.position, state.in_use), (used.batch, used.key, 10, 1));
}

#[test]
fn another_generation_takes_another_seed() {
    let bench = Bench::new();
    bench.draw(10);
    bench.generation.set(8);
    let mut model = Model::new(answer(2, chacha::KEY));
    assert_eq!(bench.draw(50), model.draw(50));
    bench.wipe();
    let mut model = Model::new(answer(3, chacha::KEY));
    assert_eq!(bench.draw(500), model.draw(500));
    assert_eq!({ bench.state().generation }, 8);
}

#[test]
fn without_a_seed_the_kernel_is_asked() {
    let bench = Bench::new();
    bench.draw(10);
    bench.generation.set(8);
    bench.fails.set(true);
    assert_eq!(bench.call(&mut [0; 20], 1, STATE), -4);
    assert_eq!(bench.calls.borrow()[1..], [(chacha::KEY, 0), (20, 1)]);
    assert_eq!((bench.state().generation, bench.state().in_use), (0, 0));
    bench.fails.set(false);
    assert_eq!(bench.draw(20), Model::new(answer(4, chacha::KEY)).draw(20));
}

#[test]
fn a_state_that_is_wiped_meanwhile_is_seeded_anew() {
    let bench = Bench::new();
    bench.meanwhile.borrow_mut().push(Bench::wipe);
    assert_eq!(bench.draw(200), Model::new(answer(2, chacha::KEY)).draw(200));
    // A handler of the child has used the state since: it is of this generation, and partly handed out.
    bench.generation.set(8);
    bench.meanwhile.borrow_mut().push(|bench| {
        bench.wipe();
        bench.draw(30);
    });
    assert_eq!(bench.draw(20), Model::new(answer(5, chacha::KEY)).draw(20));
    // Again and again: the kernel's own answer.
    bench.generation.set(9);
    bench.meanwhile.borrow_mut().extend([Bench::wipe as fn(&Bench); 2]);
    assert_eq!(bench.draw(60), answer(8, 60));
    assert_eq!((bench.state().generation, bench.state().in_use), (0, 0));
}

#[test]
fn a_position_of_the_programs_own_making_stays_in_the_batch() {
    let bench = Bench::new();
    bench.draw(10);
    bench.set_state(State { position: 200, ..bench.state() });
    let mut model = Model::new(bench.state().key.to_vec());
    assert_eq!(bench.draw(70), model.draw(70));
}

#[test]
fn the_counter_gives_generations() {
    let first = Kernel.generation();
    assert!(first > 0 && Kernel.generation() - first <= 1);
}
