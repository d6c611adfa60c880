//! A shared object on its way from a file into the process: read once, sealed, verified, and only then looked at.
//!
//! The file is copied into a sealed memory file, and everything after (digest, checks, the dynamic linker) works on that
//! copy: whoever can write to the file, or put another in its place, is too late.

use super::keys::{self, KeyError, Keyring, Usage};
use super::signature::{Signature, SignatureError, Statement};
use rustix::fs::{MemfdFlags, SealFlags};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Bytes in the largest object that is looked at.
pub const OBJECT_MAX: u64 = 64 << 20;

/// Why an object was not accepted. None of its code has run.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The object cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The object.
        path: PathBuf,
        /// What the host said.
        error: io::Error,
    },
    /// The object is a folder, a device or the like.
    #[error("{}: not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The object has more than [`OBJECT_MAX`] bytes.
    #[error("{}: larger than {} MiB", .0.display(), OBJECT_MAX >> 20)]
    TooLarge(PathBuf),
    /// There is no signature beside it.
    #[error("{}: not signed: there is no {}", object.display(), signature.display())]
    Unsigned {
        /// The object.
        object: PathBuf,
        /// Where its signature would be.
        signature: PathBuf,
    },
    /// There is a file with the signature's name that cannot be read.
    #[error("{0}")]
    SignatureFile(KeyError),
    /// The signature does not make it acceptable.
    #[error("{}: {error}", path.display())]
    Signature {
        /// The object.
        path: PathBuf,
        /// What is wrong.
        error: SignatureError,
    },
    /// The host gave no sealed memory to keep the object in.
    #[error("memory for the object: {0}")]
    Memory(io::Error),
}

/// The file of an object's signature: the object's own path and `.sig`.
pub fn signature_path(object: &Path) -> PathBuf {
    let mut path = OsString::from(object);
    path.push(".sig");
    path.into()
}

/// A shared object that a trusted key vouches for, in memory that nobody can change.
#[derive(Debug)]
pub struct VerifiedObject {
    memory: File,
    bytes: Vec<u8>,
    path: PathBuf,
    statement: Statement,
}

impl VerifiedObject {
    /// Reads an object and its signature, and checks that a key of `ring` vouches for it as `usage`.
    pub fn open(path: &Path, ring: &Keyring, usage: &Usage) -> Result<Self, VerifyError> {
        let (memory, bytes) = copy(path)?;
        let signature = signature_of(path)?;
        let failed = |error| VerifyError::Signature { path: path.to_owned(), error };
        let statement = signature.verify(&bytes, ring, usage).map_err(failed)?.clone();
        Ok(Self { memory, bytes, path: path.to_owned(), statement })
    }

    /// Where it came from, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Parts into the sealed memory that holds it, and what was signed.
    pub(super) fn into_parts(self) -> (OwnedFd, Statement) {
        (self.memory.into(), self.statement)
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was signed.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }
}

/// Reads an object to sign it.
pub fn read_object(path: &Path) -> Result<Vec<u8>, VerifyError> {
    copy(path).map(|(_, bytes)| bytes)
}

/// Copies a file into sealed memory; returns that, and the bytes as they are there.
fn copy(path: &Path) -> Result<(File, Vec<u8>), VerifyError> {
    let failed = |error| VerifyError::Read { path: path.to_owned(), error };
    let file = keys::open(path).map_err(|error| match error {
        KeyError::Read { error, .. } => failed(error),
        // Opening does nothing else.
        other => VerifyError::SignatureFile(other),
    })?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(VerifyError::NotAFile(path.to_owned()));
    }
    if metadata.len() > OBJECT_MAX {
        return Err(VerifyError::TooLarge(path.to_owned()));
    }
    // It is mapped executable; a host that forbids that for all memory files says so here and not in the linker.
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("picovisor-provider", flags | MemfdFlags::EXEC)
        // Before Linux 6.3 the flag was unknown, and every memory file executable.
        .or_else(|error| match error {
            rustix::io::Errno::INVAL => rustix::fs::memfd_create("picovisor-provider", flags),
            error => Err(error),
        });
    let memory = File::from(memory.map_err(|error| VerifyError::Memory(error.into()))?);
    // The file may have grown since.
    let copied = io::copy(&mut file.take(OBJECT_MAX + 1), &mut &memory).map_err(failed)?;
    if copied > OBJECT_MAX {
        return Err(VerifyError::TooLarge(path.to_owned()));
    }
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals).map_err(|error| VerifyError::Memory(error.into()))?;
    let mut bytes = vec![0; usize::try_from(copied).unwrap_or(usize::MAX)];
    memory.read_exact_at(&mut bytes, 0).map_err(VerifyError::Memory)?;
    Ok((memory, bytes))
}

fn signature_of(object: &Path) -> Result<Signature, VerifyError> {
    let path = signature_path(object);
    let text = keys::open(&path).and_then(|file| keys::read(file, &path)).map_err(|error| match error {
        KeyError::Read { error, .. } if error.kind() == io::ErrorKind::NotFound => {
            VerifyError::Unsigned { object: object.to_owned(), signature: path.clone() }
        }
        other => VerifyError::SignatureFile(other),
    })?;
    Signature::parse(&text)
        .map_err(|error| VerifyError::Signature { path: object.to_owned(), error: SignatureError::Text(error) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::SecretKey;
    use std::fs;
    use zeroize::Zeroizing;

    struct Fixture {
        folder: tempfile::TempDir,
        ring: Keyring,
        key: SecretKey,
    }

    impl Fixture {
        fn new() -> Self {
            let key = SecretKey::from_seed(&Zeroizing::new([7; 32]), vec![Usage::provider()]).unwrap();
            let mut ring = Keyring::default();
            ring.insert(key.public());
            Self { folder: tempfile::tempdir().unwrap(), ring, key }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("a.so")
        }

        fn sign(&self, object: &[u8]) {
            let statement = Statement::about(object, "test", Usage::provider()).unwrap();
            fs::write(signature_path(&self.path()), Signature::new(statement, &self.key).text()).unwrap();
        }

        fn open(&self) -> Result<VerifiedObject, VerifyError> {
            VerifiedObject::open(&self.path(), &self.ring, &Usage::provider())
        }
    }

    #[test]
    fn a_signed_object_is_what_was_read_whatever_the_file_becomes() {
        let fixture = Fixture::new();
        fs::write(fixture.path(), b"the object").unwrap();
        fixture.sign(b"the object");
        let object = fixture.open().unwrap();
        fs::write(fixture.path(), b"another!!!").unwrap();
        assert_eq!(object.bytes, b"the object");
        assert_eq!(object.statement().name, "test");
        let mut again = [0; 10];
        object.memory.read_exact_at(&mut again, 0).unwrap();
        assert_eq!(&again, b"the object");
        object.memory.write_at(b"x", 0).unwrap_err();
        object.memory.set_len(3).unwrap_err();
    }

    #[test]
    fn an_object_needs_a_signature() {
        let fixture = Fixture::new();
        fs::write(fixture.path(), b"x").unwrap();
        assert!(matches!(fixture.open().unwrap_err(), VerifyError::Unsigned { .. }));
        fs::create_dir(signature_path(&fixture.path())).unwrap();
        assert!(matches!(fixture.open().unwrap_err(), VerifyError::SignatureFile(KeyError::NotAFile(_))));
    }

    #[test]
    fn a_changed_object_is_refused() {
        let fixture = Fixture::new();
        fs::write(fixture.path(), b"the object").unwrap();
        fixture.sign(b"the objects");
        let changed = |error| matches!(error, VerifyError::Signature { error: SignatureError::ObjectChanged, .. });
        assert!(changed(fixture.open().unwrap_err()));
    }

    #[test]
    fn only_regular_files_of_a_sane_size_are_objects() {
        let fixture = Fixture::new();
        assert!(matches!(fixture.open().unwrap_err(), VerifyError::Read { .. }));
        fs::create_dir(fixture.path()).unwrap();
        assert!(matches!(fixture.open().unwrap_err(), VerifyError::NotAFile(_)));
        fs::remove_dir(fixture.path()).unwrap();
        let fifo = rustix::fs::mknodat(rustix::fs::CWD, fixture.path(), rustix::fs::FileType::Fifo, 0o600.into(), 0);
        fifo.unwrap();
        // Nobody writes to it: this must not wait for somebody.
        assert!(matches!(fixture.open().unwrap_err(), VerifyError::NotAFile(_)));
        fs::remove_file(fixture.path()).unwrap();
        File::create(fixture.path()).unwrap().set_len(OBJECT_MAX + 1).unwrap();
        assert!(matches!(fixture.open().unwrap_err(), VerifyError::TooLarge(_)));
    }
}
