//! Delivery, frames and restarts, on a task without a processor.

use super::deliver::{Delivery, InterruptedCall};
use super::*;
use crate::errno::Errno;
use crate::task::ExitStatus;
use crate::testing::{Fixture, fixture};
use expect_test::expect;
use linux_raw_sys::general::{
    __NR_getpid, __NR_kill, __NR_pause, __NR_rt_sigaction, __NR_rt_sigpending, __NR_rt_sigprocmask, __NR_rt_sigreturn,
    __NR_rt_sigsuspend, __NR_rt_sigtimedwait, __NR_sigaltstack, __NR_tgkill,
};
use vmm::addr::UserAddr;
use vmm::trap::{Exception, Vector};

const HANDLER: u64 = 0x40_1000;
const RESTORER: u64 = 0x40_2000;
const SIGINFO: u64 = 4;
const ONSTACK: u64 = 0x0800_0000;
const RESTART: u64 = 0x1000_0000;
const NODEFER: u64 = 0x4000_0000;
const RESETHAND: u64 = 0x8000_0000;
const WITH_RESTORER: u64 = 0x0400_0000;

/// A task with a stack of 64 KiB.
fn with_stack() -> Fixture {
    let mut fixture = fixture();
    let stack = fixture.allocate(64 << 10);
    fixture.registers.rsp = stack.0 + (60 << 10);
    fixture.registers.rip = 0x40_0000;
    fixture.registers.rflags = 0x246;
    fixture
}

fn act(fixture: &mut Fixture, signal: Signal, handler: u64, flags: u64) {
    let action = SigAction { handler, flags: flags | WITH_RESTORER, restorer: RESTORER, mask: SignalSet::EMPTY };
    let at = fixture.put(&action);
    fixture.returned(__NR_rt_sigaction, &[number(signal), at.0, 0, 8]).unwrap();
}

fn number(signal: Signal) -> u64 {
    u64::from(signal.raw().unsigned_abs())
}

fn raise(fixture: &mut Fixture, signal: Signal) {
    fixture.returned(__NR_tgkill, &[1, 1, number(signal)]).unwrap();
}

fn deliver(fixture: &mut Fixture, interrupted: Option<Errno>) -> Delivery {
    let call = interrupted.map(|error| InterruptedCall { number: u64::from(__NR_pause), error });
    let mut task = fixture.current();
    let delivery = task.deliver_signals(call);
    let registers = task.frame.registers;
    fixture.registers = registers;
    delivery
}

#[test]
fn a_handler_finds_its_arguments_and_sigreturn_undoes_it() {
    let mut fixture = with_stack();
    act(&mut fixture, Signal::SIGUSR1, HANDLER, SIGINFO);
    fixture.registers.rbx = 0x1234;
    fixture.registers.r11 = 0x5678;
    let before = fixture.registers;
    raise(&mut fixture, Signal::SIGUSR1);
    assert_eq!(deliver(&mut fixture, None), Delivery::Registers);

    let inside = fixture.registers;
    assert_eq!((inside.rip, inside.rdi, inside.rax), (HANDLER, 10, 0));
    assert_eq!(inside.rsp % 16, 8, "as after a call");
    assert!(before.rsp - 128 >= inside.rsp + 440, "the red zone stays untouched");
    assert_eq!(fixture.get::<u64>(UserAddr(inside.rsp)), RESTORER);
    // si_signo, si_code SI_TKILL, si_pid
    assert_eq!(fixture.get::<[i32; 5]>(UserAddr(inside.rsi)), [10, 0, -6, 0, 1]);
    // uc_flags, then the saved rip and rflags in the middle of the machine context
    assert_eq!(fixture.get::<u64>(UserAddr(inside.rdx)), 7);
    assert_eq!(fixture.get::<[u64; 2]>(UserAddr(inside.rdx + 40 + 16 * 8)), [before.rip, before.rflags]);
    assert!(fixture.task.signals().blocked().contains(Signal::SIGUSR1));

    // The handler returns to the restorer, which makes the call.
    fixture.registers.rsp += 8;
    fixture.registers.rbx = 0;
    fixture.check(__NR_rt_sigreturn, &[], &expect![["Resume"]]);
    assert_eq!(fixture.registers, before);
    assert!(!fixture.task.signals().blocked().contains(Signal::SIGUSR1));
    assert!(!fixture.task.signals().needs_attention());
}

#[test]
fn extended_state_is_in_the_frame_and_comes_back() {
    let mut fixture = with_stack();
    act(&mut fixture, Signal::SIGUSR1, HANDLER, 0);
    let mut area = vec![0; 576];
    fixture.current().frame.cpu.save_xsave(&mut area);
    area[160..176].fill(0xab);
    area[512] = 3;
    fixture.current().frame.cpu.load_xsave(&area);
    raise(&mut fixture, Signal::SIGUSR1);
    deliver(&mut fixture, None);
    let frame = fixture.registers.rsp;
    let state = fixture.get::<u64>(UserAddr(frame + 8 + 40 + 184));
    assert_eq!(state % 64, 0);
    assert_eq!(fixture.get::<[u8; 16]>(UserAddr(state + 160)), [0xab; 16]);
    // FP_XSTATE_MAGIC1, then the size with FP_XSTATE_MAGIC2, which lies right behind the area.
    assert_eq!(fixture.get::<[u32; 2]>(UserAddr(state + 464)), [0x4650_5853, 580]);
    assert_eq!(fixture.get::<u32>(UserAddr(state + 576)), 0x4650_5845);
    let mut now = vec![0; 576];
    fixture.current().frame.cpu.save_xsave(&mut now);
    assert_eq!(now[160], 0, "a handler starts with fresh state");

    fixture.registers.rsp += 8;
    fixture.check(__NR_rt_sigreturn, &[], &expect![["Resume"]]);
    fixture.current().frame.cpu.save_xsave(&mut now);
    assert_eq!(now[160..176], [0xab; 16]);
}

/// Delivers SIGUSR1, lets `spoil` change the frame, returns from the handler, and tells what that leads to.
fn spoiled(spoil: impl FnOnce(&mut Fixture, u64)) -> Delivery {
    let mut fixture = with_stack();
    act(&mut fixture, Signal::SIGUSR1, HANDLER, 0);
    raise(&mut fixture, Signal::SIGUSR1);
    deliver(&mut fixture, None);
    let frame = fixture.registers.rsp;
    spoil(&mut fixture, frame);
    fixture.registers.rsp += 8;
    fixture.check(__NR_rt_sigreturn, &[], &expect![["Resume"]]);
    let delivery = deliver(&mut fixture, None);
    if delivery == Delivery::Exit {
        assert_eq!(fixture.task.group().exit_status(), Some(ExitStatus::Signaled(Signal::SIGSEGV)));
    } else {
        let (privileged, resumable) = (0x20_3200, fixture.registers.rip < 1 << 47);
        assert!(resumable && fixture.registers.rflags & privileged == 0x200);
    }
    delivery
}

fn poke(fixture: &mut Fixture, at: u64, bytes: &[u8]) {
    fixture.current().mm().write(UserAddr(at), bytes).unwrap();
}

#[test]
fn hostile_frames_end_in_a_signal_and_not_in_ring_0() {
    const CONTEXT: u64 = 8 + 40;
    assert_eq!(spoiled(|_, _| {}), Delivery::Nothing);
    // rflags: everything set; only the program's own bits are taken.
    let all_flags = |fixture: &mut Fixture, frame| poke(fixture, frame + CONTEXT + 17 * 8, &[0xff; 8]);
    assert_eq!(spoiled(all_flags), Delivery::Nothing);
    // rip: not canonical.
    let far = |fixture: &mut Fixture, frame| poke(fixture, frame + CONTEXT + 16 * 8, &(1u64 << 47).to_le_bytes());
    assert_eq!(spoiled(far), Delivery::Exit);
    // cs: ring 0, which becomes ring 3 and is no code segment of ours.
    let kernel_code = |fixture: &mut Fixture, frame| poke(fixture, frame + CONTEXT + 18 * 8, &[0x10, 0]);
    assert_eq!(spoiled(kernel_code), Delivery::Exit);
    // The state's address: unmapped, and nothing.
    let nowhere = |fixture: &mut Fixture, frame| poke(fixture, frame + CONTEXT + 184, &8u64.to_le_bytes());
    assert_eq!(spoiled(nowhere), Delivery::Exit);
    let none = |fixture: &mut Fixture, frame| poke(fixture, frame + CONTEXT + 184, &[0; 8]);
    assert_eq!(spoiled(none), Delivery::Nothing);
    let state = |fixture: &mut Fixture, frame: u64| fixture.get::<u64>(UserAddr(frame + CONTEXT + 184));
    // MXCSR with a reserved bit, a component that the processor lacks, a compacted area.
    for (offset, bytes) in [(24, [0, 0, 1, 0]), (512, [0, 0, 0, 0x80]), (520, [1, 0, 0, 0])] {
        let spoil = |fixture: &mut Fixture, frame| {
            let at = state(fixture, frame);
            poke(fixture, at + offset, &bytes);
        };
        assert_eq!(spoiled(spoil), Delivery::Exit, "offset {offset}");
    }
    // Without the second mark only the FXSAVE image counts.
    let unmarked = |fixture: &mut Fixture, frame| {
        let at = state(fixture, frame);
        poke(fixture, at + 576, &[0; 4]);
    };
    assert_eq!(spoiled(unmarked), Delivery::Nothing);
}

#[test]
fn a_frame_that_does_not_fit_kills_with_segv() {
    let mut fixture = with_stack();
    act(&mut fixture, Signal::SIGUSR1, HANDLER, 0);
    fixture.registers.rsp = 0x1000;
    raise(&mut fixture, Signal::SIGUSR1);
    assert_eq!(deliver(&mut fixture, None), Delivery::Exit);
    assert_eq!(fixture.task.group().exit_status(), Some(ExitStatus::Signaled(Signal::SIGSEGV)));
}

#[test]
fn the_alternate_stack_is_used_once_and_guards_its_end() {
    let mut fixture = with_stack();
    let base = fixture.allocate(16 << 10);
    let stack = fixture.put(&AltStack { base: base.0, flags: 0, padding: 0, size: 16 << 10 });
    fixture.returned(__NR_sigaltstack, &[stack.0, 0]).unwrap();
    act(&mut fixture, Signal::SIGUSR1, HANDLER, ONSTACK | NODEFER);
    let on_it = |fixture: &Fixture| fixture.task.signals().alt_stack().holds(fixture.registers.rsp);
    assert!(!on_it(&fixture));
    raise(&mut fixture, Signal::SIGUSR1);
    deliver(&mut fixture, None);
    assert!(on_it(&fixture));
    let outer = fixture.registers.rsp;
    let old = fixture.put(&AltStack::default());
    fixture.check(__NR_sigaltstack, &[stack.0, old.0], &expect![["EPERM"]]);
    fixture.check(__NR_sigaltstack, &[0, old.0], &expect![["0x0"]]);
    assert_eq!(fixture.get::<AltStack>(old).flags, 1, "SS_ONSTACK");

    raise(&mut fixture, Signal::SIGUSR1);
    deliver(&mut fixture, None);
    assert!(on_it(&fixture) && fixture.registers.rsp < outer, "nested below, not from the top again");
    fixture.registers.rsp = base.0 + 600;
    raise(&mut fixture, Signal::SIGUSR1);
    assert_eq!(deliver(&mut fixture, None), Delivery::Exit, "overflows");
}

#[test]
fn interrupted_calls_restart_as_their_error_and_the_handler_say() {
    let outcome = |error, handler_flags: Option<u64>| {
        let mut fixture = with_stack();
        match handler_flags {
            Some(flags) => act(&mut fixture, Signal::SIGUSR1, HANDLER, flags),
            None => act(&mut fixture, Signal::SIGUSR1, SigAction::IGNORE, 0),
        }
        fixture.registers.rax = error_value(error);
        raise(&mut fixture, Signal::SIGUSR1);
        let rip = fixture.registers.rip;
        assert_eq!(deliver(&mut fixture, Some(error)), Delivery::Registers);
        let (rax, at) = if handler_flags.is_some() {
            let context = fixture.registers.rdx + 40;
            let rax = fixture.get::<u64>(UserAddr(context + 13 * 8));
            (rax, fixture.get::<u64>(UserAddr(context + 16 * 8)))
        } else {
            (fixture.registers.rax, fixture.registers.rip)
        };
        match rip - at {
            2 => format!("again {rax}"),
            _ => format!("returns {}", rax.cast_signed()),
        }
    };
    let summary: Vec<_> =
        [Errno::ERESTARTSYS, Errno::ERESTARTNOINTR, Errno::ERESTARTNOHAND, Errno::ERESTART_RESTARTBLOCK]
            .map(|error| {
                format!(
                    "{error}: handler {}, SA_RESTART {}, no handler {}",
                    outcome(error, Some(0)),
                    outcome(error, Some(RESTART)),
                    outcome(error, None)
                )
            })
            .into();
    expect![[r#"
        ERESTARTSYS: handler returns -4, SA_RESTART again 34, no handler again 34
        ERESTARTNOINTR: handler again 34, SA_RESTART again 34, no handler again 34
        ERESTARTNOHAND: handler returns -4, SA_RESTART returns -4, no handler again 34
        ERESTART_RESTARTBLOCK: handler returns -4, SA_RESTART returns -4, no handler again 219"#]]
    .assert_eq(&summary.join("\n"));
}

fn error_value(error: Errno) -> u64 {
    error.to_return()
}

#[test]
fn sigsuspend_saves_the_old_mask_in_the_frame() {
    let mut fixture = with_stack();
    act(&mut fixture, Signal::SIGUSR1, HANDLER, 0);
    let both = fixture.put(&SignalSet::of(Signal::SIGUSR1).with(Signal::SIGUSR2));
    fixture.returned(__NR_rt_sigprocmask, &[0, both.0, 0, 8]).unwrap();
    raise(&mut fixture, Signal::SIGUSR1);
    let pending = fixture.put(&SignalSet::EMPTY);
    fixture.returned(__NR_rt_sigpending, &[pending.0, 8]).unwrap();
    assert_eq!(fixture.get::<SignalSet>(pending), SignalSet::of(Signal::SIGUSR1));
    let only_second = fixture.put(&SignalSet::of(Signal::SIGUSR2));
    fixture.check(__NR_rt_sigsuspend, &[only_second.0, 8], &expect![["ERESTARTNOHAND"]]);
    assert_eq!(deliver(&mut fixture, Some(Errno::ERESTARTNOHAND)), Delivery::Registers);
    let saved = fixture.get::<SignalSet>(UserAddr(fixture.registers.rdx + 40 + 256));
    assert_eq!(saved, SignalSet::of(Signal::SIGUSR1).with(Signal::SIGUSR2));
}

#[test]
fn sigtimedwait_takes_a_blocked_signal_and_its_information() {
    let mut fixture = with_stack();
    let set = fixture.put(&SignalSet::of(Signal::SIGUSR1));
    fixture.returned(__NR_rt_sigprocmask, &[0, set.0, 0, 8]).unwrap();
    let now = fixture.put(&[0u64; 2]);
    let info = fixture.put(&[0u8; SIGINFO_SIZE]);
    fixture.check(__NR_rt_sigtimedwait, &[set.0, info.0, now.0, 8], &expect![["EAGAIN"]]);
    raise(&mut fixture, Signal::SIGUSR1);
    fixture.check(__NR_rt_sigtimedwait, &[set.0, info.0, now.0, 8], &expect![["0xa"]]);
    assert_eq!(fixture.get::<[i32; 3]>(info), [10, 0, -6]);
    fixture.check(__NR_rt_sigtimedwait, &[set.0, info.0, now.0, 4], &expect![["EINVAL"]]);
}

#[test]
fn one_shot_handlers_go_back_to_the_default() {
    let mut fixture = with_stack();
    act(&mut fixture, Signal::SIGUSR1, HANDLER, RESETHAND | NODEFER);
    raise(&mut fixture, Signal::SIGUSR1);
    assert_eq!(deliver(&mut fixture, None), Delivery::Registers);
    raise(&mut fixture, Signal::SIGUSR1);
    assert_eq!(deliver(&mut fixture, None), Delivery::Exit);
    assert_eq!(fixture.task.group().exit_status(), Some(ExitStatus::Signaled(Signal::SIGUSR1)));
}

#[test]
fn an_ignored_signal_wakes_nobody_and_a_forced_one_kills_all_the_same() {
    let mut fixture = with_stack();
    raise(&mut fixture, Signal::SIGCHLD);
    assert!(!fixture.task.signals().needs_attention());
    act(&mut fixture, Signal::SIGFPE, SigAction::IGNORE, 0);
    let mut task = fixture.current();
    exception::serve(&mut task, Exception { vector: Vector::DIVIDE_ERROR, error: 0, address: UserAddr(0) });
    assert_eq!(deliver(&mut fixture, None), Delivery::Exit);
    assert_eq!(fixture.task.group().exit_status(), Some(ExitStatus::Signaled(Signal::SIGFPE)));
}

#[test]
fn kill_knows_whom_it_may_reach() {
    let mut fixture = with_stack();
    fixture.check(__NR_kill, &[1, 0], &expect![["0x0"]]);
    fixture.check(__NR_kill, &[2, 0], &expect![["ESRCH"]]);
    fixture.check(__NR_kill, &[2, 65], &expect![["ESRCH"]]);
    fixture.check(__NR_kill, &[1, 65], &expect![["EINVAL"]]);
    fixture.check(__NR_kill, &[0x8000_0000, 0], &expect![["ESRCH"]]);
    fixture.check(__NR_kill, &[u64::MAX, 0], &expect![["ESRCH"]]);
    fixture.check(__NR_tgkill, &[0, 1, 0], &expect![["EINVAL"]]);
    fixture.check(__NR_tgkill, &[2, 1, 0], &expect![["ESRCH"]]);
    fixture.check(__NR_getpid, &[], &expect![["0x1"]]);
}

#[test]
fn an_interrupt_instruction_is_a_protection_fault_unless_its_gate_is_open() {
    let mut fixture = with_stack();
    let code = fixture.put(&[0xcdu8, 0x80, 0xcd, 0x03]);
    for (at, signal, rip) in [(code.0, Signal::SIGSEGV, code.0), (code.0 + 2, Signal::SIGTRAP, code.0 + 4)] {
        fixture.registers.rip = at;
        let mut task = fixture.current();
        exception::serve(&mut task, Exception { vector: Vector::INVALID_OPCODE, error: 0, address: UserAddr(0) });
        assert_eq!(task.take_signal(!SignalSet::EMPTY).map(|info| info.signal), Some(signal));
        assert_eq!(task.frame.registers.rip, rip);
    }
}
