//! The text form of keys and signatures: a header line that names the kind and its version, then `field: value` lines.
//!
//! ```text
//! picovisor public key 1
//! usages: picovisor provider
//! key: 8c1f…
//! ```
//!
//! Parsing is strict, so that a file has one meaning and one spelling: fields come in their order, values have one form
//! (hexadecimal digits are small), and nothing follows. A human may read it, compare it, and paste it into a message.

use std::fmt::Write as _;
use thiserror::Error;

/// Bytes of the largest file of this form that is read.
pub(super) const FILE_MAX: u64 = 4096;

/// What is wrong with the text of a key or a signature.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// It does not begin as files of this kind do.
    #[error("it does not begin with \"picovisor {0}\"")]
    Kind(&'static str),
    /// It has a version that this program does not know.
    #[error("it has format version {found}; this program knows version {VERSION}")]
    Version {
        /// What the header says.
        found: String,
    },
    /// A field is missing, or not where it should be.
    #[error("the field \"{0}\" is missing or out of place")]
    Field(&'static str),
    /// A field's value is not of its form.
    #[error("the value of the field \"{0}\" is malformed")]
    Value(&'static str),
    /// Something follows the last field, or the last line does not end.
    #[error("it does not end behind its last field")]
    End,
}

/// The version of all kinds of files.
pub(super) const VERSION: &str = "1";

/// Walks through the lines of a file.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// Begins to read a file of a kind.
    pub(super) fn new(bytes: &'a [u8], kind: &'static str) -> Result<Self, TextError> {
        let text = std::str::from_utf8(bytes).map_err(|_| TextError::Kind(kind))?;
        let mut reader = Self { rest: text };
        let header = reader.line().ok_or(TextError::Kind(kind))?;
        let version = header.strip_prefix("picovisor ").and_then(|rest| rest.strip_prefix(kind));
        match version.and_then(|version| version.strip_prefix(' ')).ok_or(TextError::Kind(kind))? {
            VERSION => Ok(reader),
            found => Err(TextError::Version { found: found.chars().take(16).flat_map(char::escape_default).collect() }),
        }
    }

    /// Takes the next line's value, which must be that of `name`.
    pub(super) fn field(&mut self, name: &'static str) -> Result<&'a str, TextError> {
        let line = self.line().ok_or(TextError::Field(name))?;
        line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).ok_or(TextError::Field(name))
    }

    /// Takes the next line's value as `N` bytes in hexadecimal digits.
    pub(super) fn bytes<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], TextError> {
        let mut bytes = [0; N];
        decode(self.field(name)?, &mut bytes).ok_or(TextError::Value(name))?;
        Ok(bytes)
    }

    /// Checks that nothing follows.
    pub(super) fn end(self) -> Result<(), TextError> {
        if self.rest.is_empty() { Ok(()) } else { Err(TextError::End) }
    }

    fn line(&mut self) -> Option<&'a str> {
        let (line, rest) = self.rest.split_once('\n')?;
        self.rest = rest;
        Some(line)
    }
}

/// Begins a file of a kind.
pub(super) fn header(kind: &str) -> String {
    format!("picovisor {kind} {VERSION}\n")
}

/// Writes bytes as hexadecimal digits.
pub(super) fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads hexadecimal digits, small ones, exactly as many as `to` takes.
pub(super) fn decode(text: &str, to: &mut [u8]) -> Option<()> {
    let digits = text.as_bytes();
    if digits.len() != 2 * to.len() {
        return None;
    }
    for (byte, pair) in to.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<[u8; 2], TextError> {
        let mut reader = Reader::new(text.as_bytes(), "thing")?;
        reader.field("name")?;
        let bytes = reader.bytes("value")?;
        reader.end()?;
        Ok(bytes)
    }

    #[test]
    fn what_is_written_is_read() {
        let text = header("thing") + "name: a b\nvalue: " + &encode(&[0x0f, 0xa9]) + "\n";
        assert_eq!(read(&text), Ok([0x0f, 0xa9]));
    }

    #[test]
    fn each_mistake_is_named() {
        let good = "picovisor thing 1\nname: a\nvalue: 0fa9\n";
        assert_eq!(read(good), Ok([0x0f, 0xa9]));
        let cases = [
            ("", TextError::Kind("thing")),
            ("picovisor other 1\n", TextError::Kind("thing")),
            ("picovisor thing1\n", TextError::Kind("thing")),
            ("picovisor thing 2\n", TextError::Version { found: "2".to_owned() }),
            ("picovisor thing 1\nvalue: 0fa9\n", TextError::Field("name")),
            ("picovisor thing 1\nname: a\n", TextError::Field("value")),
            ("picovisor thing 1\nname: a\nvalue: 0fa9", TextError::Field("value")),
            ("picovisor thing 1\nname: a\nvalue: 0FA9\n", TextError::Value("value")),
            ("picovisor thing 1\nname: a\nvalue: 0fa\n", TextError::Value("value")),
            ("picovisor thing 1\nname: a\nvalue: 0fa9\n\n", TextError::End),
        ];
        for (text, error) in cases {
            assert_eq!(read(text), Err(error), "{text:?}");
        }
        assert_eq!(Reader::new(b"\xff\n", "thing").unwrap_err(), TextError::Kind("thing"));
    }
}
