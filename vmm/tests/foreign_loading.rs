//! Which shared objects become a host's provider, and what each of the others is told.

#[path = "foreign/mod.rs"]
mod foreign;
#[path = "personality/mod.rs"]
mod personality;

use foreign::{Recorder, Workshop, key};
use personality::{Event, Script};
use std::sync::Arc;
use vmm::foreign::{KeyError, LoadError, SignatureError, StartError, TableError, TextError, Usage, VerifyError};
use vmm::pico::{ExitReason, Host, ProcessAttributes, RegisterError, SubsystemType};

fn host() -> Host {
    Host::detached(64 << 20).expect("address space for 64 MiB")
}

/// Loads an object, which must fail; tells why, how many constructors have run, and what the host says to the next provider.
fn refused(workshop: &Workshop, parameters: &str) -> (LoadError, usize, Result<(), RegisterError>) {
    let host = host();
    let (result, runs) = workshop.load_witnessed(&host, parameters);
    let error = result.expect_err("it must not be loaded");
    (error, runs, host.register(Arc::new(Script::default())).map(|_| ()))
}

/// As [`refused`], for a workshop whose object must be refused before any code of it runs.
#[track_caller]
fn refused_unrun(workshop: &Workshop) -> LoadError {
    let (error, runs, next) = refused(workshop, "");
    assert_eq!((runs, next), (0, Ok(())), "{error}");
    error
}

/// What the signature's error is.
fn signature_error(error: LoadError) -> SignatureError {
    match error {
        LoadError::Verify(VerifyError::Signature { error, .. }) => error,
        other => panic!("{other}"),
    }
}

fn script() -> Workshop {
    let workshop = Workshop::with("script.so");
    workshop.sign();
    workshop
}

#[test]
fn a_signed_object_becomes_the_provider_and_the_only_one() {
    let host = host();
    let (_recorder, events) = Recorder::start();
    let provider = script().load(&host, &events).unwrap();
    assert_eq!(provider.subsystem(), Some(SubsystemType::Other(7)));
    assert_eq!(provider.statement().unwrap().name, "Script");
    // A second one, in either form.
    assert!(matches!(script().load(&host, &events).unwrap_err(), LoadError::Register(RegisterError::Taken)));
    assert_eq!(host.register(Arc::new(Script::default())).unwrap_err(), RegisterError::Taken);
}

#[test]
fn nothing_is_loaded_beside_a_rust_provider_or_after_a_process() {
    let host = host();
    host.register(Arc::new(Script::default())).unwrap();
    assert!(matches!(script().load(&host, "").unwrap_err(), LoadError::Register(RegisterError::Taken)));
    let host = self::host();
    host.create_process(ProcessAttributes::minimal(None)).unwrap();
    assert!(matches!(script().load(&host, "").unwrap_err(), LoadError::Register(RegisterError::Sealed)));
}

#[test]
fn an_unsigned_object_is_refused() {
    let error = refused_unrun(&Workshop::with("script.so"));
    assert!(matches!(error, LoadError::Verify(VerifyError::Unsigned { .. })), "{error}");
}

#[test]
fn a_tampered_object_is_refused() {
    let workshop = script();
    let mut bytes = std::fs::read(workshop.object()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(workshop.object(), &bytes).unwrap();
    assert_eq!(signature_error(refused_unrun(&workshop)), SignatureError::ObjectChanged);
    bytes.truncate(middle);
    std::fs::write(workshop.object(), &bytes).unwrap();
    assert_eq!(signature_error(refused_unrun(&workshop)), SignatureError::ObjectChanged);
}

#[test]
fn a_tampered_signature_is_refused() {
    let workshop = script();
    let text = std::fs::read_to_string(workshop.signature()).unwrap();
    for (from, to) in [("name: Script", "name: Linux!"), ("length: ", "length: 1")] {
        std::fs::write(workshop.signature(), text.replace(from, to)).unwrap();
        assert_eq!(signature_error(refused_unrun(&workshop)), SignatureError::Forged);
    }
    std::fs::write(workshop.signature(), text.replace("sha512: ", "sha512:")).unwrap();
    let malformed = SignatureError::Text(TextError::Field("sha512"));
    assert_eq!(signature_error(refused_unrun(&workshop)), malformed);
}

#[test]
fn a_signature_of_another_format_version_is_refused() {
    let workshop = script();
    let text = std::fs::read_to_string(workshop.signature()).unwrap();
    std::fs::write(workshop.signature(), text.replace("picovisor signature 1", "picovisor signature 2")).unwrap();
    let version = SignatureError::Text(TextError::Version { found: "2".to_owned() });
    assert_eq!(signature_error(refused_unrun(&workshop)), version);
}

#[test]
fn an_object_signed_by_a_key_that_is_not_trusted_is_refused() {
    let workshop = Workshop::with("script.so");
    let stranger = key(9, "picovisor provider");
    workshop.sign_with(&stranger, Usage::provider());
    assert_eq!(signature_error(refused_unrun(&workshop)), SignatureError::UntrustedKey(stranger.public().id()));
}

#[test]
fn an_object_signed_by_a_key_for_something_else_is_refused() {
    let mut workshop = Workshop::with("script.so");
    let other = key(2, "something else");
    workshop.ring.insert(other.public());
    workshop.sign_with(&other, Usage::provider());
    let wanted = SignatureError::KeyUsage { key: other.public().id(), wanted: Usage::provider() };
    assert_eq!(signature_error(refused_unrun(&workshop)), wanted);
}

#[test]
fn an_object_signed_as_something_else_is_refused() {
    let workshop = Workshop::with("script.so");
    let found = Usage::new("something else").unwrap();
    workshop.sign_with(&workshop.key, found.clone());
    let wrong = SignatureError::Usage { found, wanted: Usage::provider() };
    assert_eq!(signature_error(refused_unrun(&workshop)), wrong);
}

#[test]
fn what_is_no_regular_file_of_a_sane_size_is_refused() {
    let workshop = script();
    std::fs::remove_file(workshop.object()).unwrap();
    assert!(matches!(refused_unrun(&workshop), LoadError::Verify(VerifyError::Read { .. })));
    std::fs::create_dir(workshop.object()).unwrap();
    assert!(matches!(refused_unrun(&workshop), LoadError::Verify(VerifyError::NotAFile(_))));
    std::fs::remove_dir(workshop.object()).unwrap();
    std::fs::File::create(workshop.object()).unwrap().set_len(1 << 30).unwrap();
    assert!(matches!(refused_unrun(&workshop), LoadError::Verify(VerifyError::TooLarge(_))));
    // The same of its signature.
    let workshop = script();
    std::fs::write(workshop.signature(), vec![b'x'; 5000]).unwrap();
    let error = refused_unrun(&workshop);
    assert!(matches!(error, LoadError::Verify(VerifyError::SignatureFile(KeyError::NotAFile(_)))), "{error}");
}

#[test]
fn what_is_signed_but_no_shared_object_is_refused() {
    let workshop = Workshop::with("script.so");
    std::fs::write(workshop.object(), "#!/bin/sh\n").unwrap();
    workshop.sign();
    assert!(matches!(refused_unrun(&workshop), LoadError::NotAnObject));
}

#[test]
fn an_object_that_needs_a_library_that_nobody_signed_is_refused() {
    let workshop = Workshop::with("needs.so");
    workshop.sign();
    let error = refused_unrun(&workshop);
    assert!(matches!(&error, LoadError::NeedsLibrary(name) if name.ends_with("libneeded.so")), "{error}");
}

#[test]
fn an_object_without_an_entry_is_refused() {
    // One that has is in the process, and must not be taken for it.
    let (_recorder, events) = Recorder::start();
    script().load(&host(), &events).unwrap();
    let workshop = Workshop::with("noentry.so");
    workshop.sign();
    let (error, _, next) = refused(&workshop, "");
    assert!(matches!(error, LoadError::NoEntry), "{error}");
    assert_eq!(next, Err(RegisterError::Spoilt));
}

/// Loads the object with a word that makes it misbehave. Its code has run, so nobody else registers.
#[track_caller]
fn misbehaves(word: &str) -> LoadError {
    let (error, runs, next) = refused(&script(), &format!("events=0 {word}"));
    assert_eq!((runs, next), (1, Err(RegisterError::Spoilt)), "{error}");
    error
}

#[test]
fn an_object_with_too_small_a_table_is_refused() {
    let error = misbehaves("small");
    assert!(matches!(error, LoadError::Table(TableError::TooSmall { size: 64, .. })), "{error}");
}

#[test]
fn an_object_of_another_version_of_the_contract_is_refused() {
    let error = misbehaves("version");
    assert!(matches!(error, LoadError::Table(TableError::Version { found: 2 })), "{error}");
}

#[test]
fn an_object_without_a_callback_that_all_have_is_refused() {
    let error = misbehaves("hole");
    assert!(matches!(error, LoadError::Table(TableError::Missing("ExitProcess"))), "{error}");
}

#[test]
fn an_object_may_refuse_its_host() {
    let error = misbehaves("refuse");
    assert!(matches!(error, LoadError::Refused(-11)), "{error}");
    // Parameters that it does not understand.
    let (error, _, _) = refused(&script(), "nonsense");
    assert!(matches!(error, LoadError::Refused(-1)), "{error}");
}

#[test]
fn an_object_hands_over_to_its_real_table_before_its_first_process() {
    let host = host();
    let (recorder, events) = Recorder::start();
    let provider = script().load(&host, &format!("{events} handover")).unwrap();
    // A detached host has no processor to start a thread on (-11); the table was handed over by then, and a process made.
    let request = [&0_u64.to_le_bytes()[..], &[0x90]].concat();
    assert_eq!(provider.start(&request).unwrap_err(), StartError::Failed(-11));
    recorder.script.wait_for(|events| events.contains(&Event::ProcessEnd(ExitReason::Terminated)));
    // The real table's start does not hand over again, which would be refused now (-10).
    assert_eq!(provider.start(&request).unwrap_err(), StartError::Failed(-11));
}
