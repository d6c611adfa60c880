//! See `provider::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| provider::fuzzing::discipline(data));
