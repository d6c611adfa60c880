//! What reaches a provider through its callbacks, and what its answers mean.

use super::super::abi::ProviderRoutines;
use super::{adapter, calls, context, full, lies_about_its_name};
use crate::addr::UserAddr;
use crate::memory::{Access, Fault, FaultKind};
use crate::pico::walk::{self, Found, Place};
use crate::pico::{
    Activity, Chance, DetachedCpu, Disposition, ExceptionRecord, ExitReason, ProcessAccess, Provider, SubsystemType,
    ThreadAccess, TrapFrame,
};
use crate::trap::{Exception, Registers, Vector};
use std::ops::ControlFlow;

#[test]
fn traps_reach_foreign_callbacks_and_their_answers_count() {
    let adapter = adapter(full());
    let mut cpu = DetachedCpu::default();
    let mut registers = Registers { rax: 41, ..Registers::default() };
    let mut call = |rdi| {
        registers.rdi = rdi;
        let mut frame = TrapFrame { registers, cpu: &mut cpu };
        let answer = adapter.dispatch_system_call(&context(5), &mut frame);
        (answer, frame.registers.rax)
    };
    assert_eq!(call(0), (Disposition::Return, 42));
    assert_eq!(call(1), (Disposition::Resume, 42));
    assert_eq!(call(2), (Disposition::Exit, 42));
    // Not an answer to a system call, and none at all: the thread ends.
    assert_eq!(call(3), (Disposition::Exit, 42));
    assert_eq!(call(99), (Disposition::Exit, 42));
    assert_eq!(calls(), [("call", 5, 41); 5]);

    let exception = Exception { vector: Vector::PAGE_FAULT, error: 6, address: UserAddr(0x1234) };
    let mut frame = TrapFrame { registers: Registers::default(), cpu: &mut cpu };
    let mut ask = |chance| {
        let record = ExceptionRecord { exception, chance };
        (adapter.dispatch_exception(&context(6), &record, &mut frame), frame.registers.rip)
    };
    assert_eq!(ask(Chance::First), (None, 0), "an answer of none must leave the frame alone");
    assert_eq!(ask(Chance::Second), (Some(Disposition::Resume), 0x1234));
    assert_eq!(calls(), [("exception", 6, 14 << 8 | 1), ("exception", 6, 14 << 8 | 2)]);
}

#[test]
fn tools_learn_what_the_foreign_provider_says() {
    let (adapter, context) = (adapter(full()), context(3));
    assert_eq!((adapter.process_number(&context), adapter.thread_number(&context)), (12, 77));
    let details = adapter.process_details(&context);
    assert_eq!((details.parent, details.activity, details.handles), (Some(11), Activity::Stopped, 5));
    assert_eq!((details.command.as_slice(), adapter.process_name(&context).as_slice()), (&b"nnnn"[..], &b"nnnn"[..]));
    assert_eq!(adapter.subsystem(), SubsystemType::Other(9));
    let lies = self::adapter(ProviderRoutines { process_image_name: Some(lies_about_its_name), ..full() });
    assert_eq!(lies.process_name(&context), [0; 256]);
    let linux = self::adapter(ProviderRoutines { subsystem: 1, ..full() });
    assert_eq!(linux.subsystem(), SubsystemType::Linux);
}

#[test]
fn rights_are_the_wanted_ones_that_the_foreign_provider_allows() {
    let (adapter, context) = (adapter(full()), context(3));
    let wanted = ProcessAccess::TERMINATE | ProcessAccess::QUERY;
    assert_eq!(adapter.open_process_allowed_access(&context, None, wanted), wanted);
    assert_eq!(adapter.open_process_allowed_access(&context, Some(&context), wanted), ProcessAccess::TERMINATE);
    let wanted = ThreadAccess::GET_CONTEXT;
    assert_eq!(adapter.open_thread_allowed_access(&context, None, wanted), wanted);
    assert_eq!(adapter.open_thread_allowed_access(&context, Some(&context), wanted), ThreadAccess::empty());
}

#[test]
fn ends_terminations_and_io_faults_reach_the_foreign_provider() {
    let (adapter, context) = (adapter(full()), context(3));
    adapter.exit_thread(&context, ExitReason::Exited);
    adapter.exit_process(&context, ExitReason::Unhandled);
    adapter.terminate_process(&context);
    let fault = |access| Fault { address: UserAddr(0x9000), access, kind: FaultKind::Entry };
    assert!(adapter.dispatch_io_fault(&context, &fault(Access::WRITE)));
    assert!(!adapter.dispatch_io_fault(&context, &fault(Access::READ)));
    let io = ("io fault", 3, 0x9000);
    assert_eq!(calls(), [("exit thread", 3, 0), ("exit process", 3, 3), ("terminate", 3, 0), io, io]);
}

#[test]
fn stacks_are_walked_by_the_foreign_provider_until_the_visitor_has_enough() {
    let adapter = adapter(full());
    let mut seen = Vec::new();
    let registers = Registers { rip: 0x55, ..Registers::default() };
    adapter.walk_user_stack(&context(4), &registers, &mut |frame| {
        seen.push(frame);
        if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(calls(), [("walk", 4, 0x55)]);
    let symbol = Some(Place { name: b"function".to_vec(), offset: 3 });
    let frame = |address| walk::StackFrame {
        address: UserAddr(address),
        found: Found::FramePointer,
        module: None,
        symbol: symbol.clone(),
    };
    assert_eq!(seen, [frame(1), frame(2)]);
}
