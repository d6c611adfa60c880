//! The signature of a provider's shared object, in a file beside it: `personality.so` has `personality.so.sig`.
//!
//! What is signed is not the object but a statement about it, which cannot be mistaken for anything else that the same key
//! may sign: [`MAGIC`], the format version, the usage, the personality's name, the object's length, and its SHA-512 digest.
//! Each of the two texts is preceded by its length. Ed25519 as `verify_strict` of ed25519-dalek has it: no weak keys and no
//! second form of a signature.
//!
//! The digest is SHA-512 because Ed25519 brings it along, and `sha512sum` prints it for whoever wants to look.

use super::keys::{Keyring, SecretKey, Usage};
use super::text::{self, Reader, TextError};
use ed25519_dalek::Signature as Ed25519;
use sha2::{Digest as _, Sha512};
use thiserror::Error;

/// The first bytes of every statement.
const MAGIC: &[u8] = b"picovisor signature\0";
/// The version of the statement's form.
const STATEMENT_VERSION: u32 = 1;

/// A SHA-512 digest.
pub(super) type Digest = [u8; 64];

/// What a signature says about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What the object may be used as.
    pub usage: Usage,
    /// The personality's name, for people: 1 to 64 printable ASCII characters.
    pub name: String,
    /// Bytes in the object.
    pub len: u64,
    /// Its SHA-512 digest.
    pub digest: [u8; 64],
}

impl Statement {
    /// Makes the statement about an object; `None` for a name that cannot be one.
    pub fn about(object: &[u8], name: &str, usage: Usage) -> Option<Self> {
        is_name(name).then(|| Self { usage, name: name.to_owned(), len: object.len() as u64, digest: digest(object) })
    }

    /// The bytes that are signed.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(STATEMENT_VERSION.to_le_bytes());
        for text in [self.usage.to_string(), self.name.clone()] {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(self.len.to_le_bytes());
        bytes.extend(self.digest);
        bytes
    }
}

/// Tells whether a text can be a personality's name.
fn is_name(name: &str) -> bool {
    let printable = |byte| matches!(byte, b' '..=b'~');
    (1..=64).contains(&name.len()) && name.bytes().all(printable) && name.trim() == name
}

/// Computes an object's digest.
pub(super) fn digest(object: &[u8]) -> Digest {
    Sha512::digest(object).into()
}

/// Why a signature does not make its object acceptable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// The signature's file is not one.
    #[error("the signature file is malformed: {0}")]
    Text(#[from] TextError),
    /// The key that signed is not trusted.
    #[error("it is signed by a key that is not trusted: {0}")]
    UntrustedKey(String),
    /// The key that signed is trusted, for other things.
    #[error("it is signed by a key that is not trusted as \"{wanted}\": {key}")]
    KeyUsage {
        /// The key.
        key: String,
        /// What it would have to be trusted as.
        wanted: Usage,
    },
    /// It was signed to be something else.
    #[error("it is signed as \"{found}\", not as \"{wanted}\"")]
    Usage {
        /// What it was signed as.
        found: Usage,
        /// What it would have to be signed as.
        wanted: Usage,
    },
    /// The signature is not this key's signature of this statement: one of the two was changed.
    #[error("the signature does not fit: the signature file was changed")]
    Forged,
    /// The object is not the one that was signed.
    #[error("the object was changed after it was signed")]
    ObjectChanged,
}

/// A statement and who vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    statement: Statement,
    key: [u8; 32],
    signature: [u8; 64],
}

impl Signature {
    const KIND: &str = "signature";

    /// Signs a statement.
    pub fn new(statement: Statement, key: &SecretKey) -> Self {
        let signature = key.sign(&statement.bytes());
        Self { statement, key: *key.public().key.as_bytes(), signature }
    }

    /// Reads a signature from the text of its file. It is not verified yet.
    pub fn parse(text: &[u8]) -> Result<Self, TextError> {
        let mut reader = Reader::new(text, Self::KIND)?;
        let usage = Usage::new(reader.field("usage")?).ok_or(TextError::Value("usage"))?;
        let name = reader.field("name")?;
        if !is_name(name) {
            return Err(TextError::Value("name"));
        }
        let digits = reader.field("length")?;
        let len: u64 = digits.parse().map_err(|_| TextError::Value("length"))?;
        if len.to_string() != digits {
            return Err(TextError::Value("length"));
        }
        let statement = Statement { usage, name: name.to_owned(), len, digest: reader.bytes("sha512")? };
        let signature = Self { statement, key: reader.bytes("key")?, signature: reader.bytes("signature")? };
        reader.end()?;
        Ok(signature)
    }

    /// The text of the signature's file.
    pub fn text(&self) -> String {
        let Statement { usage, name, len, digest } = &self.statement;
        let (digest, key, signature) = (text::encode(digest), text::encode(&self.key), text::encode(&self.signature));
        let header = text::header(Self::KIND);
        format!(
            "{header}usage: {usage}\nname: {name}\nlength: {len}\nsha512: {digest}\nkey: {key}\nsignature: {signature}\n"
        )
    }

    /// Checks that a key of the ring that may be used so vouches for the object as `usage`.
    pub fn verify(&self, object: &[u8], ring: &Keyring, usage: &Usage) -> Result<&Statement, SignatureError> {
        let id = || text::encode(&self.key);
        let key = ring.find(&self.key).ok_or_else(|| SignatureError::UntrustedKey(id()))?;
        let signed = key.key.verify_strict(&self.statement.bytes(), &Ed25519::from_bytes(&self.signature));
        signed.map_err(|_| SignatureError::Forged)?;
        if self.statement.usage != *usage {
            return Err(SignatureError::Usage { found: self.statement.usage.clone(), wanted: usage.clone() });
        }
        if !key.allows(usage) {
            return Err(SignatureError::KeyUsage { key: id(), wanted: usage.clone() });
        }
        if self.statement.len != object.len() as u64 || self.statement.digest != digest(object) {
            return Err(SignatureError::ObjectChanged);
        }
        Ok(&self.statement)
    }
}

#[cfg(test)]
mod tests;
