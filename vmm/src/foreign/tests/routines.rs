//! The host's routines as a provider calls them: objects, contexts, memory, frames, stacks.

use super::super::abi::{CRegisters, Frame, Page, ProviderRoutines, StackFrame, ThreadContext, Visitor, disposition};
use super::super::abi::{page, status, stopped};
use super::super::context::borrow;
use super::super::routines::ROUTINES;
use super::{adapter, calls, context, empty_context, full, host, process, register, thread};
use crate::pico::{ContextParts, CpuState, DetachedCpu, Disposition, Process, Provider, Thread, TrapFrame};
use crate::trap::Registers;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;

#[test]
fn contexts_are_given_back_exactly_once_when_nobody_holds_them() {
    let host = host();
    register(&host, &full()).unwrap();
    let process = process(std::ptr::null(), 1, 0).unwrap();
    let thread = thread(process, 2, 0x1000).unwrap();
    // SAFETY: references that were just given.
    unsafe {
        assert_eq!((ROUTINES.get_process_context)(process).addr(), 1);
        assert_eq!((ROUTINES.get_thread_context)(thread).addr(), 2);
        (ROUTINES.reference_thread)(thread);
        assert_eq!((ROUTINES.terminate_thread)(thread), status::OK);
    }
    assert_eq!(calls(), [("exit thread", 2, 1), ("exit process", 1, 1)]);
    // SAFETY: both references to the thread, each given back once.
    unsafe {
        (ROUTINES.release_thread)(thread);
        assert_eq!(calls(), []);
        (ROUTINES.release_thread)(thread);
    }
    assert_eq!(calls(), [("release thread", 2, 0)]);
    // SAFETY: the one reference to the process.
    unsafe { (ROUTINES.release_process)(process) };
    assert_eq!(calls(), [("release process", 1, 0)]);
    drop(host);
    assert_eq!(calls(), []);
}

#[test]
fn contexts_of_what_was_not_made_stay_the_providers() {
    let host = host();
    register(&host, &full()).unwrap();
    // A copy of no parent, neither a pico nor a minimal process, and both.
    assert_eq!(process(std::ptr::null(), 0, 0).unwrap_err(), status::UNSUPPORTED);
    assert_eq!(process(std::ptr::null(), 1, 0x10000).unwrap_err(), status::UNSUPPORTED);
    assert_eq!(process(std::ptr::null(), 1, 1).unwrap_err(), status::UNSUPPORTED);
    assert_eq!(process(std::ptr::null(), 1, 1 << 40).unwrap_err(), status::INVALID);
    let process = process(std::ptr::null(), 1, 0).unwrap();
    assert_eq!(thread(process, 0, 0x1000).unwrap_err(), status::INVALID);
    assert_eq!(thread(process, 2, crate::addr::USER_END).unwrap_err(), status::INVALID);
    assert_eq!(thread(std::ptr::null(), 2, 0x1000).unwrap_err(), status::INVALID);
    // SAFETY: a reference that was given; it stays until it is given back.
    unsafe { assert_eq!((ROUTINES.terminate_process)(process), status::OK) };
    assert_eq!(calls(), [("exit process", 1, 1)]);
    assert_eq!(thread(process, 2, 0x1000).unwrap_err(), status::OVER);
    assert_eq!(calls(), []);
    // SAFETY: the one reference.
    unsafe { (ROUTINES.release_process)(process) };
    drop(host);
    assert_eq!(calls(), [("release process", 1, 0)]);
    // The host is gone; its pointer still says so.
    assert_eq!(self::process(std::ptr::null(), 1, 0).unwrap_err(), status::OVER);
    // SAFETY: null and a host: refused before anything is looked at.
    unsafe {
        assert_eq!(
            (ROUTINES.create_process)(std::ptr::null(), std::ptr::null(), std::ptr::null_mut()),
            status::INVALID
        );
        assert_eq!((ROUTINES.suspend_thread)(std::ptr::null()), status::INVALID);
        assert!((ROUTINES.get_process_context)(std::ptr::null()).is_null());
        (ROUTINES.release_thread)(std::ptr::null());
    }
}

#[test]
fn a_stopped_threads_context_is_read_and_changed() {
    let host = host();
    register(&host, &full()).unwrap();
    let process = process(std::ptr::null(), 1, 0).unwrap();
    let thread = thread(process, 2, 0x1000).unwrap();
    // SAFETY: a thread of ours, which this host has no processor for.
    assert_eq!(unsafe { (ROUTINES.start_thread)(thread) }, status::EXHAUSTED);
    let mut area = [0_u8; 1024];
    let mut context = empty_context(ContextParts::all());
    // SAFETY: a thread of ours, and a context, in this whole test.
    let get = |context: &mut ThreadContext| unsafe { (ROUTINES.get_context_thread_internal)(thread, context) };
    // SAFETY: as above.
    let set = |context: &ThreadContext| unsafe { (ROUTINES.set_context_thread_internal)(thread, context) };
    assert_eq!((get(&mut context), context.extended_size), (status::TOO_SMALL, 576));
    (context.extended, context.extended_size) = (area.as_mut_ptr(), 1024);
    assert_eq!((get(&mut context), context.extended_size), (status::OK, 576));
    assert_eq!((context.registers.rip, context.fs_base, context.gs_base), (0x1000, 0x10, 0x20));
    (context.registers.rip, context.registers.general[1], context.fs_base) = (0x2000, 5, 0x30);
    (context.debug_addresses[0], context.debug_control) = (0x4000, 1);
    assert_eq!(set(&context), status::OK);
    // Parts that are not asked for stay as they are, on both sides.
    let control = CRegisters { rip: 0x2004, ..CRegisters::default() };
    let parts = ContextParts::CONTROL.bits().into();
    assert_eq!(set(&ThreadContext { parts, registers: control, ..context }), status::OK);
    let mut again = empty_context(ContextParts::all() - ContextParts::EXTENDED);
    assert_eq!(get(&mut again), status::OK);
    assert_eq!((again.registers.rip, again.registers.general[1]), (0x2004, 5));
    assert_eq!((again.fs_base, again.gs_base, again.debug_addresses[0]), (0x30, 0x20, 0x4000));
    assert_eq!(set(&ThreadContext { fs_base: 1 << 60, ..context }), status::INVALID);
    assert_eq!(set(&ThreadContext { parts: 1 << 20, ..context }), status::INVALID);
    assert_eq!(set(&ThreadContext { extended_size: 100, ..context }), status::INVALID);
    assert_eq!(set(&ThreadContext { extended: std::ptr::null_mut(), ..context }), status::INVALID);
    assert_eq!(set(&ThreadContext { size: 8, ..context }), status::TOO_SMALL);
    let mut how = 9;
    // SAFETY: as above.
    unsafe {
        assert_eq!((ROUTINES.wait_thread_stopped)(thread, &raw mut how), status::NOT_STOPPED);
        assert_eq!((ROUTINES.suspend_thread)(thread), status::OK);
        assert_eq!((ROUTINES.wait_thread_stopped)(thread, std::ptr::null_mut()), status::INVALID);
        assert_eq!((ROUTINES.wait_thread_stopped)(thread, &raw mut how), status::OK);
        assert_eq!(how, stopped::PARKED);
        assert_eq!((ROUTINES.resume_thread)(thread), status::OK);
        assert_eq!((ROUTINES.terminate_thread)(thread), status::OK);
        assert_eq!((ROUTINES.wait_thread_stopped)(thread, &raw mut how), status::OK);
    }
    assert_eq!(how, stopped::ENDED);
    assert_eq!(get(&mut again), status::NOT_STOPPED);
}

#[test]
fn memory_is_mapped_read_written_and_taken_away() {
    let host = host();
    register(&host, &full()).unwrap();
    let process = process(std::ptr::null(), 1, 0).unwrap();
    let (map, read) = (ROUTINES.map_memory, ROUTINES.read_memory);
    let (write, poke) = (ROUTINES.write_memory, ROUTINES.poke_memory);
    let mut bytes = [0_u8; 4];
    // SAFETY: a process of ours, and buffers of the lengths given.
    unsafe {
        assert_eq!(map(process, 0x1000, 0x1000, 1), status::OK);
        assert_eq!(write(process, 0x1ffe, b"abcd".as_ptr(), 4), status::FAULT);
        assert_eq!(poke(process, 0x1100, b"abcd".as_ptr(), 4), status::OK);
        assert_eq!((ROUTINES.protect_memory)(process, 0x1000, 0x1000, 3), status::OK);
        assert_eq!(write(process, 0x1101, b"xy".as_ptr(), 2), status::OK);
        assert_eq!(read(process, 0x1100, bytes.as_mut_ptr(), 4), status::OK);
        assert_eq!(&bytes, b"axyd");
        let mut found = Page { size: size_of::<Page>() as u64, state: 9, access: 9 };
        assert_eq!((ROUTINES.query_page)(process, 0x1234, &raw mut found), status::OK);
        assert_eq!((found.state, found.access), (page::MAPPED, 3));

        let child = self::process(process, 3, 1).unwrap();
        assert_eq!((ROUTINES.break_copy)(child, 0x1000), status::OK);
        assert_eq!(write(child, 0x1100, b"child".as_ptr(), 5), status::OK);
        assert_eq!(read(process, 0x1100, bytes.as_mut_ptr(), 4), status::OK);
        assert_eq!(&bytes, b"axyd");
        (ROUTINES.release_process)(child);

        assert_eq!((ROUTINES.unmap_memory)(process, 0x1000, 0x1000), status::OK);
        assert_eq!(read(process, 0x1100, bytes.as_mut_ptr(), 4), status::FAULT);
        assert_eq!((ROUTINES.query_page)(process, 0x1234, &raw mut found), status::OK);
        assert_eq!(found.state, page::ABSENT);
        assert_eq!(read(process, 0x1100, std::ptr::null_mut(), 4), status::INVALID);
        assert_eq!(read(process, 0x1100, std::ptr::null_mut(), 0), status::OK);
        assert_eq!(write(process, 0x1100, std::ptr::null(), u64::MAX), status::INVALID);
        assert_eq!(poke(process, u64::MAX, b"abcd".as_ptr(), 4), status::INVALID);
        for (address, length, access) in
            [(1, 0x1000, 1), (0x1000, 1, 1), (0x1000, 0, 1), (1 << 47, 0x1000, 1), (!0xfff, 0x2000, 1)]
        {
            assert_eq!(map(process, address, length, access), status::INVALID, "{address:#x}, {length:#x}");
            assert_eq!((ROUTINES.unmap_memory)(process, address, length), status::INVALID);
        }
        assert_eq!(map(process, 0x1000, 0x1000, 8), status::INVALID);
        // More than the host has.
        assert_eq!(map(process, 0x10_0000, 64 << 20, 3), status::NO_MEMORY);
    }
}

thread_local! {
    static FRAME_WORK: Cell<fn(*mut Frame)> = const { Cell::new(|_| ()) };
}

unsafe extern "C" fn works_on_its_frame(_: *mut c_void, frame: *mut Frame) -> i32 {
    FRAME_WORK.get()(frame);
    disposition::RESUME
}

#[test]
fn the_state_behind_a_frame_is_read_and_changed() {
    let adapter = adapter(ProviderRoutines { dispatch_system_call: Some(works_on_its_frame), ..full() });
    let mut cpu = DetachedCpu::default();
    FRAME_WORK.set(|frame| {
        let mut area = [0_u8; 1024];
        let mut context = empty_context(ContextParts::all() - ContextParts::DEBUG);
        (context.extended, context.extended_size) = (area.as_mut_ptr(), 64);
        // SAFETY: the callback's frame, and contexts with areas of the sizes they say, in this whole function.
        unsafe {
            assert_eq!((ROUTINES.set_thread_descriptor_base)(frame, 0, 0x1000), status::OK);
            assert_eq!((ROUTINES.set_thread_descriptor_base)(frame, 1, 0x2000), status::OK);
            assert_eq!((ROUTINES.set_thread_descriptor_base)(frame, 2, 0x2000), status::INVALID);
            assert_eq!((ROUTINES.set_thread_descriptor_base)(frame, 0, 1 << 63), status::INVALID);
            assert_eq!((ROUTINES.get_frame_context)(frame, &raw mut context), status::TOO_SMALL);
            assert_eq!(context.extended_size, 576);
            context.extended_size = 1024;
            assert_eq!((ROUTINES.get_frame_context)(frame, &raw mut context), status::OK);
        }
        assert_eq!((context.fs_base, context.gs_base, context.registers.rip), (0x1000, 0x2000, 7));
        assert_eq!((context.extended_size, area[0], area[1]), (576, 0x7f, 3));
        area[24] = 0xa0;
        context.extended = area.as_mut_ptr();
        (context.registers.rip, context.gs_base) = (8, 0x3000);
        // SAFETY: as above.
        unsafe {
            assert_eq!((ROUTINES.set_frame_context)(frame, &raw const context), status::OK);
            context.gs_base = 1 << 50;
            assert_eq!((ROUTINES.set_frame_context)(frame, &raw const context), status::INVALID);
            assert_eq!((ROUTINES.get_frame_context)(std::ptr::null_mut(), &raw mut context), status::INVALID);
            assert_eq!((ROUTINES.get_frame_context)(frame, std::ptr::null_mut()), status::INVALID);
        }
    });
    let mut frame = TrapFrame { registers: Registers { rip: 7, ..Registers::default() }, cpu: &mut cpu };
    assert_eq!(adapter.dispatch_system_call(&context(1), &mut frame), Disposition::Resume);
    assert_eq!(frame.registers.rip, 8);
    assert_eq!(cpu.segment_bases(), (0x1000, 0x3000));
    let mut area = vec![0; cpu.xsave_size()];
    cpu.save_xsave(&mut area);
    assert_eq!(area[24], 0xa0);
}

thread_local! {
    static SEEN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C" fn see(_: *mut Visitor, frame: *const StackFrame) -> i32 {
    // SAFETY: the host's frame.
    SEEN.with_borrow_mut(|seen| seen.push(unsafe { (*frame).address }));
    0
}

#[test]
fn a_foreign_provider_walks_frame_pointers_with_the_hosts_help() {
    let host = host();
    register(&host, &full()).unwrap();
    let process = process(std::ptr::null(), 1, 0).unwrap();
    let stack: Vec<u8> = [0x5010_u64, 0x222, 0, 0x333].iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut registers = CRegisters { rip: 0x111, ..CRegisters::default() };
    (registers.general[6], registers.general[7]) = (0x5000, 0x5000);
    let mut visitor = Visitor { size: size_of::<Visitor>() as u64, visit: Some(see) };
    // SAFETY: a process of ours, and the rest lives in this function.
    unsafe {
        assert_eq!((ROUTINES.map_memory)(process, 0x5000, 0x1000, 3), status::OK);
        assert_eq!((ROUTINES.write_memory)(process, 0x5000, stack.as_ptr(), 32), status::OK);
        let walk = ROUTINES.walk_frame_pointers;
        assert_eq!(walk(process, &raw const registers, &raw mut visitor), status::OK);
        assert_eq!(walk(process, std::ptr::null(), &raw mut visitor), status::INVALID);
        assert_eq!(walk(process, &raw const registers, std::ptr::null_mut()), status::INVALID);
    }
    assert_eq!(SEEN.take(), [0x111, 0x222, 0x333]);
}

/// Counts of what the host knows, for the types that the table's references stand for.
#[test]
fn references_are_what_the_host_counts() {
    let host = host();
    register(&host, &full()).unwrap();
    let process = process(std::ptr::null(), 1, 0).unwrap();
    let thread = thread(process, 2, 0x1000).unwrap();
    // SAFETY: references that were just given, and that are not given back here.
    let (process, thread) = unsafe { (borrow::<Process>(process), borrow::<Thread>(thread)) };
    let (process, thread) = (process.unwrap(), thread.unwrap());
    assert_eq!(thread.process().id(), process.id());
    assert!(host.processes().iter().any(|other| other.id() == process.id()));
}
