//! The pages that a virtual CPU's thread writes to, as a program would that wants the monitor to stumble: the call page at the post,
//! and in the fast path with any registers.

use super::calls::{Calls, Pages, PostedCall, ServeCalls, Served};
use super::fast::{self, Outcome};
use super::post::{Look, Post};
use super::supervisor::Page;
use crate::fuzzing::input::Input;
use crate::trap::Registers;
use guest::layout::{self, call};
use std::sync::{Arc, Mutex, Weak};

/// Serves calls by giving back the sum of their words, and wants some to be made by trap.
#[derive(Debug, Default)]
struct Adder(Mutex<Option<PostedCall>>);

fn sum(call: &PostedCall) -> u64 {
    call.arguments.iter().fold(call.number, |sum, word| sum.wrapping_add(*word))
}

impl ServeCalls for Adder {
    fn serve(&self, call: &PostedCall) -> Option<Served> {
        *self.0.lock().expect("nobody panics with this lock") = Some(*call);
        let result = sum(call);
        (!result.is_multiple_of(4)).then_some(Served { result, is_wanted: false })
    }
}

/// A post, its pages, and who serves there.
struct Rig {
    pages: Pages,
    post: Post,
    adder: Arc<Adder>,
}

thread_local! {
    static RIG: Rig = {
        let pages = Pages { answers: Page::detached(), call: Page::detached() };
        Rig { pages, post: Post::over(pages), adder: Arc::default() }
    };
}

/// Fills a call page and has it looked at.
pub fn page(data: &[u8]) {
    RIG.with(|rig| rig.run(Input::new(data)));
}

impl Rig {
    fn run(&self, mut input: Input<'_>) {
        let server: Arc<dyn ServeCalls> = self.adder.clone();
        let server: Weak<dyn ServeCalls> = Arc::downgrade(&server);
        let calls = Arc::new(Calls::new(server));
        self.post.attach(&calls);
        self.fill(&mut input);
        if input.byte().is_multiple_of(2) {
            self.look(&mut input);
        } else {
            self.leave(&mut input);
        }
        // What a program has made of its mask is its own; that it can be told again is enough.
        let mask = self.pages.call.load(call::MASK);
        assert_eq!(calls.mask(), mask);
        self.post.detach_from(&calls);
        assert_eq!(calls.mask(), mask);
    }

    fn fill(&self, input: &mut Input<'_>) {
        let state = u64::from(input.byte() % 8);
        for offset in (0..=call::STACK).step_by(8) {
            self.pages.call.store(offset, word(input));
        }
        // A state that means something, and any upper half.
        self.pages.call.store(call::STATE, state | u64::from(input.byte() % 2) << 32);
    }

    fn look(&self, input: &mut Input<'_>) {
        let state = self.pages.call.load(call::STATE) & 0xffff_ffff;
        let posted = PostedCall {
            number: self.pages.call.load(call::NUMBER),
            arguments: [0, 1, 2, 3, 4, 5].map(|index| self.pages.call.load(call::ARGUMENTS + 8 * index)),
            return_address: self.pages.call.load(call::RETURN),
        };
        self.adder.0.lock().expect("nobody panics with this lock").take();
        let open = !input.byte().is_multiple_of(4);
        if open {
            self.post.open();
        }
        let look = self.post.look();
        let served = self.adder.0.lock().expect("nobody panics with this lock").take();
        let after = self.pages.call.load(call::STATE) & 0xffff_ffff;
        if open && state == u64::from(call::POSTED) {
            assert_eq!(served, Some(posted), "the call that stood there");
            let is_served = !sum(&posted).is_multiple_of(4);
            let state = if is_served { call::DONE } else { call::REFUSED };
            assert_eq!((look == Look::Served, after), (is_served, u64::from(state)));
            assert!(!is_served || self.pages.call.load(call::RESULT) == sum(&posted));
        } else {
            assert_eq!((look, served, after), (Look::Nothing, None, state), "nobody asked");
        }
        self.post.shut();
        assert!(self.post.is_shut());
    }

    fn leave(&self, input: &mut Input<'_>) {
        let mut registers = Registers {
            rip: layout::FAST_PAGE + (u64::from(input.byte()) | u64::from(input.byte()) << 8) % layout::PAGE,
            rsp: if input.byte().is_multiple_of(2) { layout::CALL_PAGE + call::RFLAGS } else { word(input) },
            rcx: word(input),
            r11: word(input),
            rflags: word(input),
            rax: word(input),
            ..Registers::default()
        };
        assert!(fast::is_inside(registers.rip));
        let (before, state) = (registers, self.pages.call.load(call::STATE) & 0xffff_ffff);
        let outcome = fast::leave(self.pages.call, &mut registers);
        assert_eq!(self.pages.call.load(call::STATE), u64::from(call::FREE), "the post is closed");
        let own = [before.rcx, self.pages.call.load(call::RETURN)];
        assert!(own.contains(&registers.rip), "the program's own word for where it goes on");
        assert_eq!((registers.rcx, registers.r11), (registers.rip, registers.rflags), "as behind SYSCALL");
        match outcome {
            Outcome::Changed => assert_eq!(registers.rax, 0),
            Outcome::Unanswered(_) => assert_eq!(registers.rax, before.rax, "the call is still to be made"),
            Outcome::Answered if state == u64::from(call::DONE) => {
                let result = self.pages.call.load(call::RESULT);
                assert!(registers.rax == result || registers.rax == before.rax);
            }
            Outcome::Answered => assert_eq!(registers.rax, before.rax),
        }
    }
}

/// A word: any, or one that means something to the fast path.
fn word(input: &mut Input<'_>) -> u64 {
    match input.byte() % 8 {
        0 => 0,
        1 => u64::from(input.byte()),
        2 => layout::FAST_PAGE + u64::from(input.byte()) * 4,
        3 => layout::CALL_PAGE + u64::from(input.byte()),
        4 => u64::MAX - u64::from(input.byte()),
        5 => 1 << (input.byte() % 64),
        _ => input.word(),
    }
}
