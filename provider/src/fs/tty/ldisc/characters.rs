//! Classes of characters as the kernel's tables have them, which are Latin-1 whatever the locale (lib/ctype.c).

/// Tells whether a byte is a control character.
pub(super) fn is_control(byte: u8) -> bool {
    byte.is_ascii_control()
}

/// Tells whether a byte is a letter or a digit. In UTF-8 the first byte of most sequences counts as one.
pub(super) fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_digit() || is_upper(byte) || is_lower(byte)
}

fn is_upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || (matches!(byte, 0xc0..=0xde) && byte != 0xd7)
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || (byte >= 0xdf && byte != 0xf7)
}

/// The upper-case letter for a lower-case one.
pub(super) fn to_upper(byte: u8) -> u8 {
    if is_lower(byte) { byte - 0x20 } else { byte }
}

/// The lower-case letter for an upper-case one.
pub(super) fn to_lower(byte: u8) -> u8 {
    if is_upper(byte) { byte + 0x20 } else { byte }
}
