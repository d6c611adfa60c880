//! What makes a signature good, and each way in which it is not.

use super::*;
use proptest::prelude::*;
use zeroize::Zeroizing;

fn key_for(seed: u8, usage: &str) -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([seed; 32]), vec![Usage::new(usage).unwrap()]).unwrap()
}

fn ring(keys: &[&SecretKey]) -> Keyring {
    let mut ring = Keyring::default();
    keys.iter().for_each(|key| ring.insert(key.public()));
    ring
}

fn signed(key: &SecretKey, usage: &str) -> Signature {
    Signature::new(Statement::about(b"object", "Script 1", Usage::new(usage).unwrap()).unwrap(), key)
}

#[test]
fn a_signature_survives_its_text() {
    let key = key_for(1, "picovisor provider");
    let signature = Signature::parse(signed(&key, "picovisor provider").text().as_bytes()).unwrap();
    let statement = signature.verify(b"object", &ring(&[&key]), &Usage::provider()).unwrap();
    assert_eq!((statement.name.as_str(), statement.len), ("Script 1", 6));
}

#[test]
fn each_way_to_be_wrong_has_its_error() {
    let (key, other) = (key_for(1, "picovisor provider"), key_for(2, "something else"));
    let usage = Usage::provider();
    let verify = |signature: &Signature, object: &[u8], keys: &[&SecretKey]| {
        signature.verify(object, &ring(keys), &usage).unwrap_err()
    };
    let good = signed(&key, "picovisor provider");
    assert_eq!(verify(&good, b"objecu", &[&key]), SignatureError::ObjectChanged);
    assert_eq!(verify(&good, b"object and more", &[&key]), SignatureError::ObjectChanged);
    assert_eq!(verify(&good, b"object", &[&other]), SignatureError::UntrustedKey(key.public().id()));
    let by_other = signed(&other, "picovisor provider");
    let wanted = SignatureError::KeyUsage { key: other.public().id(), wanted: usage.clone() };
    assert_eq!(verify(&by_other, b"object", &[&key, &other]), wanted);
    let as_other = signed(&key, "something else");
    let found = Usage::new("something else").unwrap();
    assert_eq!(verify(&as_other, b"object", &[&key]), SignatureError::Usage { found, wanted: usage.clone() });
}

#[test]
fn another_key_in_the_file_does_not_help() {
    let (key, other) = (key_for(1, "picovisor provider"), key_for(2, "picovisor provider"));
    let text = signed(&key, "picovisor provider").text().replace(&key.public().id(), &other.public().id());
    let forged = Signature::parse(text.as_bytes()).unwrap();
    let both = ring(&[&key, &other]);
    assert_eq!(forged.verify(b"object", &both, &Usage::provider()).unwrap_err(), SignatureError::Forged);
}

#[test]
fn the_statement_is_what_it_was_when_the_format_was_made() {
    // Fixed for good: a signature that is valid today is valid for every later version that reads format 1.
    let statement = Statement::about(b"abc", "n", Usage::provider()).unwrap();
    let mut wanted = b"picovisor signature\0\x01\0\0\0\x12\0\0\0\0\0\0\0picovisor provider\x01\0\0\0\0\0\0\0n".to_vec();
    wanted.extend(b"\x03\0\0\0\0\0\0\0");
    // FIPS 180-2, appendix C.1.
    wanted.extend(*b"\xdd\xaf\x35\xa1\x93\x61\x7a\xba\xcc\x41\x73\x49\xae\x20\x41\x31\x12\xe6\xfa\x4e\x89\xa9\x7e\xa2");
    wanted.extend(*b"\x0a\x9e\xee\xe6\x4b\x55\xd3\x9a\x21\x92\x99\x2a\x27\x4f\xc1\xa8\x36\xba\x3c\x23\xa3\xfe\xeb\xbd");
    wanted.extend(*b"\x45\x4d\x44\x23\x64\x3c\xe8\x0e\x2a\x9a\xc9\x4f\xa5\x4c\xa4\x9f");
    assert_eq!(statement.bytes(), wanted);
}

#[test]
fn names_are_printable() {
    for bad in ["", " x", "x\n", "ü", &"x".repeat(65)] {
        assert_eq!(Statement::about(b"", bad, Usage::provider()), None, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn no_change_of_a_byte_is_accepted(at in any::<prop::sample::Index>(), xor in 1_u8..) {
        let key = key_for(1, "picovisor provider");
        let mut text = signed(&key, "picovisor provider").text().into_bytes();
        let at = at.index(text.len());
        text[at] ^= xor;
        if let Ok(signature) = Signature::parse(&text) {
            prop_assert!(signature.verify(b"object", &ring(&[&key]), &Usage::provider()).is_err());
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(text in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut with_header = b"picovisor signature 1\nusage: ".to_vec();
        with_header.extend(&text);
        prop_assert!(Signature::parse(&text).is_err() || text.starts_with(b"picovisor signature 1\n"));
        let _ = Signature::parse(&with_header);
    }
}
