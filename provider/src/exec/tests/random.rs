//! Random damage to images: the loader answers, and what it loads can be used.

use super::builder::Image;
use super::*;
use proptest::prelude::*;

/// Loads an image and looks at what came out; nothing may panic, and memory is given back.
fn load_and_look(memory: &Arc<GuestMemory>, bytes: &[u8]) {
    let held = memory.held();
    let linker = Image::relocatable().bytes();
    let files = Files::new(memory, &[("/ld.so", linker), ("/self", bytes.to_vec())]);
    if let Ok(loaded) = load_with(memory, bytes, &files) {
        assert_eq!(word(&loaded, loaded.stack.0) & !0xff, 0);
        for mapping in loaded.map.mappings() {
            // What is mapped is readable unless the program has forbidden it or the file ends before.
            let mut byte = [0];
            let _: Result<(), Errno> = loaded.map.read(mapping.range.start, &mut byte);
        }
    }
    drop(files);
    assert_eq!(memory.held(), held, "memory is given back");
}

fn base() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Image::fixed().bytes()),
        Just(Image::relocatable().bytes()),
        Just(Image::relocatable().with_interpreter(b"/ld.so\0").bytes()),
        Just(b"#!/self x\n".to_vec()),
        Just(b"#! /ld.so\n".to_vec()),
    ]
}

/// Values that headers are wrong with.
fn value() -> impl Strategy<Value = u64> {
    let edges = [0, 1, 0xfff, 0x1000, 1 << 31, 1 << 32, (1 << 47) - 4096, 1 << 47, 1 << 63, u64::MAX - 4095, u64::MAX];
    prop_oneof![prop::sample::select(edges.to_vec()), any::<u64>(), 0..0x10_0000_u64]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn damaged_headers_are_survived(
        mut bytes in base(),
        words in prop::collection::vec((0..40_usize, value()), 0..4),
        flips in prop::collection::vec((0..300_usize, any::<u8>()), 0..4),
        cut in prop::option::of(0..0x2700_usize),
    ) {
        for (at, value) in words {
            if let Some(word) = bytes.get_mut(at * 8..at * 8 + 8) {
                word.copy_from_slice(&value.to_le_bytes());
            }
        }
        for (at, value) in flips {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut.unwrap_or(bytes.len()));
        load_and_look(&memory(), &bytes);
    }

    #[test]
    fn random_bytes_behind_the_magic_are_survived(tail in prop::collection::vec(any::<u8>(), 0..512)) {
        let bytes = [b"\x7fELF\x02\x01\x01".to_vec(), tail].concat();
        load_and_look(&memory(), &bytes);
    }
}
