//! Which tables of callbacks make a provider, and who hands over to whom.

use super::super::abi::{CProtectedRange, ProviderRoutines, status};
use super::super::load::{ForeignProvider, LoadError, StartError};
use super::super::routines::{ForeignHost, ROUTINES};
use super::super::tables::TableError;
use super::{
    ANSWER, HOST, PARAMETERS, TABLE, adapter, calls, claim_and_register, context, full, host, least, process, register,
    table_error,
};
use crate::pico::{DetachedCpu, Disposition, Provider, RegisterError, SubsystemType, TrapFrame};
use crate::trap::Registers;
use std::mem::offset_of;

#[test]
fn a_provider_registers_with_a_table_of_any_size_from_the_minimum_on() {
    for table in [full(), least()] {
        let host = host();
        register(&host, &table).unwrap();
        assert_eq!(PARAMETERS.take(), b"parameters");
    }
    // A larger one, whose tail nobody here knows.
    let host = host();
    #[repr(C)]
    struct Larger(ProviderRoutines, [u64; 4]);
    let larger = Larger(ProviderRoutines { size: size_of::<Larger>() as u64, ..full() }, [u64::MAX; 4]);
    register(&host, &larger.0).unwrap();
}

#[test]
fn what_a_smaller_table_lacks_is_absent() {
    let host = host();
    let foreign = register(&host, &least()).unwrap();
    let callbacks = foreign.callbacks().unwrap();
    assert!(callbacks.dispatch_kick.is_none() && callbacks.start.is_none() && callbacks.process_details.is_none());
    let provider = ForeignProvider { host: foreign, statement: None };
    assert_eq!(provider.start(b"x"), Err(StartError::Absent));
    let (adapter, context) = (adapter(least()), context(1));
    assert_eq!(adapter.thread_number(&context), 0);
    assert!(adapter.thread_name(&context).is_empty());
    let mut cpu = DetachedCpu::default();
    let mut frame = TrapFrame { registers: Registers::default(), cpu: &mut cpu };
    assert_eq!(adapter.dispatch_kick(&context, &mut frame), Disposition::Resume);
}

#[test]
fn a_table_that_is_too_small_is_refused() {
    let minimum = offset_of!(ProviderRoutines, dispatch_kick);
    for size in [0, 8, minimum as u64 - 1] {
        let table = ProviderRoutines { size, ..full() };
        assert_eq!(table_error(register(&host(), &table)), TableError::TooSmall { size, minimum });
    }
}

#[test]
fn a_table_of_another_version_is_refused() {
    let table = ProviderRoutines { version: 2, ..full() };
    assert_eq!(table_error(register(&host(), &table)), TableError::Version { found: 2 });
}

#[test]
fn a_table_with_holes_is_refused() {
    let holes = [
        ("DispatchSystemCall", ProviderRoutines { dispatch_system_call: None, ..full() }),
        ("DispatchException", ProviderRoutines { dispatch_exception: None, ..full() }),
        ("ExitThread", ProviderRoutines { exit_thread: None, ..full() }),
        ("ExitProcess", ProviderRoutines { exit_process: None, ..full() }),
        ("TerminateProcess", ProviderRoutines { terminate_process: None, ..full() }),
        ("WalkUserStack", ProviderRoutines { walk_user_stack: None, ..full() }),
        ("GetAllocatedProcessImageName", ProviderRoutines { process_image_name: None, ..full() }),
        ("OpenProcessAllowedAccess", ProviderRoutines { open_process_allowed_access: None, ..full() }),
        ("OpenThreadAllowedAccess", ProviderRoutines { open_thread_allowed_access: None, ..full() }),
    ];
    for (name, table) in holes {
        assert_eq!(table_error(register(&host(), &table)), TableError::Missing(name));
    }
    let table = ProviderRoutines { subsystem: 0, ..full() };
    assert_eq!(table_error(register(&host(), &table)), TableError::Subsystem);
}

#[test]
fn a_table_at_no_address_is_refused() {
    TABLE.set(std::ptr::null());
    // SAFETY: the entry above.
    assert_eq!(table_error(unsafe { claim_and_register(&host()) }), TableError::Nowhere);
    let words = [full(), full()];
    TABLE.set((&raw const words[0]).wrapping_byte_add(1));
    // SAFETY: the entry above; the address is within the two tables.
    assert_eq!(table_error(unsafe { claim_and_register(&host()) }), TableError::Nowhere);
}

#[test]
fn protected_ranges_are_taken_or_refused() {
    static TABLE: [u64; 2] = [1, 2];
    let range = CProtectedRange { name: c"a table".as_ptr(), address: (&raw const TABLE).cast(), length: 16 };
    let with = |ranges: &[CProtectedRange]| ProviderRoutines {
        protected_ranges: ranges.as_ptr(),
        protected_range_count: ranges.len() as u64,
        ..full()
    };
    let good = [range];
    let ranges = adapter(with(&good)).protected_ranges();
    assert_eq!((ranges[0].name(), ranges[0].address(), ranges[0].len()), ("a table", TABLE.as_ptr().addr(), 16));
    // The adapter's own table is protected too.
    assert_eq!(ranges.len(), 2);
    let bad = [
        CProtectedRange { name: std::ptr::null(), ..range },
        CProtectedRange { name: c"".as_ptr(), ..range },
        CProtectedRange { address: std::ptr::null(), ..range },
        CProtectedRange { length: 0, ..range },
        CProtectedRange { length: u64::MAX, ..range },
    ];
    for bad in bad {
        assert_eq!(table_error(register(&host(), &with(&[range, bad]))), TableError::Range(1));
    }
    let nowhere = ProviderRoutines { protected_range_count: 1, ..full() };
    assert_eq!(table_error(register(&host(), &nowhere)), TableError::Range(0));
}

#[test]
fn there_is_one_provider_and_a_failed_one_closes_registration() {
    let host = host();
    register(&host, &full()).unwrap();
    let register_error = |result: Result<&'static ForeignHost, LoadError>| match result.unwrap_err() {
        LoadError::Register(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(register_error(register(&host, &full())), RegisterError::Taken);

    let host = self::host();
    ANSWER.set(-11);
    let refused = register(&host, &full());
    ANSWER.set(0);
    assert!(matches!(refused.unwrap_err(), LoadError::Refused(-11)));
    assert_eq!(register_error(register(&host, &full())), RegisterError::Spoilt);

    let host = self::host();
    host.create_process(crate::pico::ProcessAttributes::minimal(None)).unwrap();
    assert_eq!(register_error(register(&host, &full())), RegisterError::Sealed);
}

#[test]
fn a_foreign_provider_hands_over_once_and_before_any_process() {
    let host = host();
    let foreign = register(&host, &least()).unwrap();
    let hand_over = |table: &ProviderRoutines| {
        // SAFETY: the host that the entry was given, and a table.
        unsafe { (ROUTINES.hand_over)(HOST.get(), table) }
    };
    assert_eq!(hand_over(&ProviderRoutines { size: 16, ..full() }), status::TOO_SMALL);
    assert_eq!(hand_over(&full()), status::OK);
    assert!(foreign.callbacks().unwrap().start.is_some(), "the real table is not in charge");
    assert_eq!(hand_over(&full()), status::TAKEN);

    let host = self::host();
    register(&host, &full()).unwrap();
    process(std::ptr::null(), 1, 0).unwrap();
    assert_eq!(hand_over(&full()), status::SEALED);
}

#[test]
fn a_request_starts_the_foreign_provider() {
    let host = host();
    let provider = ForeignProvider { host: register(&host, &full()).unwrap(), statement: None };
    assert_eq!(provider.start(b"ab"), Ok(()));
    assert_eq!(provider.start(b"abc"), Err(StartError::Failed(-11)));
    assert_eq!(calls().len(), 2);
    assert_eq!(provider.subsystem(), Some(SubsystemType::Other(9)));
}
