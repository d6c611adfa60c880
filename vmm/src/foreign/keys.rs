//! Ed25519 keys, what each may be used for, and the ring of those that a host trusts.
//!
//! A key says in its file what it may be used for, as an extended key usage does in a certificate: a key that is trusted
//! for one thing is not for another. Who may write to a ring decides what code runs in the monitor, so a ring that others
//! than its owner can write to is refused.

use super::text::{self, FILE_MAX, Reader, TextError};
use ed25519_dalek::{SECRET_KEY_LENGTH, Signer, SigningKey, VerifyingKey};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;
use zeroize::Zeroizing;

/// The usage of keys and signatures of providers.
pub const PROVIDER_USAGE: &str = "picovisor provider";

/// What a key may be used for: 1 to 64 small letters, digits, spaces, dots and dashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usage(String);

impl Usage {
    /// Takes a usage by its name; `None` for a text that is not one.
    pub fn new(name: &str) -> Option<Self> {
        let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b' ' | b'.' | b'-');
        let good = (1..=64).contains(&name.len()) && name.bytes().all(allowed) && name.trim() == name;
        good.then(|| Self(name.to_owned()))
    }

    /// The usage of providers.
    pub fn provider() -> Self {
        Self(PROVIDER_USAGE.to_owned())
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The usages of a key, in the order of its file; there is at least one.
fn usages(value: &str) -> Result<Vec<Usage>, TextError> {
    value.split(", ").map(|name| Usage::new(name).ok_or(TextError::Value("usages"))).collect()
}

fn usages_line(usages: &[Usage]) -> String {
    let names: Vec<&str> = usages.iter().map(|usage| usage.0.as_str()).collect();
    format!("usages: {}\n", names.join(", "))
}

/// A public key and what it may be used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    pub(super) key: VerifyingKey,
    usages: Vec<Usage>,
}

impl PublicKey {
    const KIND: &str = "public key";

    /// Reads a key from the text of its file.
    pub fn parse(text: &[u8]) -> Result<Self, TextError> {
        let mut reader = Reader::new(text, Self::KIND)?;
        let usages = usages(reader.field("usages")?)?;
        let bytes = reader.bytes("key")?;
        reader.end()?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| TextError::Value("key"))?;
        // A key of small order "verifies" almost anything.
        if key.is_weak() { Err(TextError::Value("key")) } else { Ok(Self { key, usages }) }
    }

    /// The text of the key's file.
    pub fn text(&self) -> String {
        text::header(Self::KIND) + &usages_line(&self.usages) + &format!("key: {}\n", self.id())
    }

    /// The key itself, in hexadecimal digits: how it is named in signatures and messages.
    pub fn id(&self) -> String {
        text::encode(self.key.as_bytes())
    }

    /// Tells whether the key may be used for `usage`.
    pub fn allows(&self, usage: &Usage) -> bool {
        self.usages.contains(usage)
    }

    /// What the key may be used for.
    pub fn usages(&self) -> &[Usage] {
        &self.usages
    }
}

/// A secret key. Its memory is wiped when it is dropped.
pub struct SecretKey {
    key: SigningKey,
    usages: Vec<Usage>,
}

impl fmt::Debug for SecretKey {
    /// Shows the public half.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretKey").field(&self.public()).finish()
    }
}

impl SecretKey {
    const KIND: &str = "secret key";

    /// Makes a key for the given usages from 32 bytes of the best randomness there is; `None` without a usage.
    pub fn from_seed(seed: &Zeroizing<[u8; SECRET_KEY_LENGTH]>, usages: Vec<Usage>) -> Option<Self> {
        (!usages.is_empty()).then(|| Self { key: SigningKey::from_bytes(seed), usages })
    }

    /// Reads a key from the text of its file.
    pub fn parse(text: &[u8]) -> Result<Self, TextError> {
        let mut reader = Reader::new(text, Self::KIND)?;
        let usages = usages(reader.field("usages")?)?;
        let seed = Zeroizing::new(reader.bytes("seed")?);
        reader.end()?;
        Ok(Self { key: SigningKey::from_bytes(&seed), usages })
    }

    /// The text of the key's file.
    pub fn text(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(text::encode(self.key.as_bytes()));
        // Sized ahead: a string that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(usize::try_from(FILE_MAX).unwrap_or_default()));
        text.push_str(&text::header(Self::KIND));
        text.push_str(&usages_line(&self.usages));
        text.push_str("seed: ");
        text.push_str(&seed);
        text.push('\n');
        text
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey { key: self.key.verifying_key(), usages: self.usages.clone() }
    }

    pub(super) fn sign(&self, statement: &[u8]) -> [u8; 64] {
        self.key.sign(statement).to_bytes()
    }
}

/// Why a key file or a ring of keys cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the host said.
        error: std::io::Error,
    },
    /// It is not an ordinary file of a few lines.
    #[error("{}: not a regular file of at most {FILE_MAX} bytes", .0.display())]
    NotAFile(PathBuf),
    /// Others than its owner may change it, or its owner is neither the caller nor root.
    #[error("{}: others may write to it, so it is not trusted", .0.display())]
    Writable(PathBuf),
    /// Its text is wrong.
    #[error("{}: {error}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: TextError,
    },
}

/// The public keys that a host trusts.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    keys: Vec<PublicKey>,
}

impl Keyring {
    /// Reads every file of a folder whose name ends in `.pub`. One that is wrong makes the whole ring wrong: a key that
    /// somebody meant to trust must not be missing silently.
    pub fn from_folder(folder: &Path) -> Result<Self, KeyError> {
        let failed = |error| KeyError::Read { path: folder.to_owned(), error };
        let handle = File::open(folder).map_err(failed)?;
        trusted(&handle, folder)?;
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "pub") {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(Self { keys: paths.iter().map(|path| Self::key(path)).collect::<Result<_, _>>()? })
    }

    /// Reads one file as a ring of one key.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        Ok(Self { keys: vec![Self::key(path)?] })
    }

    fn key(path: &Path) -> Result<PublicKey, KeyError> {
        let file = open(path)?;
        trusted(&file, path)?;
        let text = read(file, path)?;
        PublicKey::parse(&text).map_err(|error| KeyError::Text { path: path.to_owned(), error })
    }

    /// Trusts one more key.
    pub fn insert(&mut self, key: PublicKey) {
        self.keys.push(key);
    }

    /// The trusted keys.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// The trusted key with these bytes.
    pub(super) fn find(&self, bytes: &[u8; 32]) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.key.as_bytes() == bytes)
    }
}

/// Reads a secret key's file.
pub fn read_secret_key(path: &Path) -> Result<SecretKey, KeyError> {
    let text = read(open(path)?, path)?;
    SecretKey::parse(&text).map_err(|error| KeyError::Text { path: path.to_owned(), error })
}

/// Opens a file to read, without waiting for whoever is at the other end of a FIFO.
pub(super) fn open(path: &Path) -> Result<File, KeyError> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    opened.map_err(|error| KeyError::Read { path: path.to_owned(), error })
}

/// Reads a small regular file.
pub(super) fn read(file: File, path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = |error| KeyError::Read { path: path.to_owned(), error };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(KeyError::NotAFile(path.to_owned()));
    }
    // Room for one byte more than is allowed, so that the buffer never moves.
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(FILE_MAX).unwrap_or_default() + 1));
    file.take(FILE_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_MAX { Err(KeyError::NotAFile(path.to_owned())) } else { Ok(text) }
}

/// Checks that only its owner can change a file or folder, and that this is somebody who runs the monitor or root.
fn trusted(file: &File, path: &Path) -> Result<(), KeyError> {
    let metadata = file.metadata().map_err(|error| KeyError::Read { path: path.to_owned(), error })?;
    let owner = metadata.uid();
    let ours = owner == 0 || owner == rustix::process::geteuid().as_raw();
    if ours && metadata.mode() & 0o022 == 0 { Ok(()) } else { Err(KeyError::Writable(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn secret(seed: u8) -> SecretKey {
        SecretKey::from_seed(&Zeroizing::new([seed; 32]), vec![Usage::provider()]).unwrap()
    }

    #[test]
    fn keys_survive_their_text() {
        let key = secret(1);
        let again = SecretKey::parse(key.text().as_bytes()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(PublicKey::parse(key.public().text().as_bytes()).unwrap(), key.public());
        assert!(!format!("{key:?}").contains(&text::encode(&[1; 32])), "a debug line shows the secret");
    }

    #[test]
    fn a_usage_is_plain_text() {
        for good in ["picovisor provider", "a", "x-1.2"] {
            assert!(Usage::new(good).is_some(), "{good:?}");
        }
        for bad in ["", " a", "a ", "A", "a,b", "a\nb", &"a".repeat(65)] {
            assert!(Usage::new(bad).is_none(), "{bad:?}");
        }
        assert!(SecretKey::from_seed(&Zeroizing::new([0; 32]), Vec::new()).is_none());
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        // The neutral element: whoever "signs" with it needs no secret.
        let text = format!("picovisor public key 1\nusages: a\nkey: 01{}\n", "0".repeat(62));
        assert_eq!(PublicKey::parse(text.as_bytes()).unwrap_err(), TextError::Value("key"));
    }

    #[test]
    fn a_ring_is_its_folders_public_keys() {
        let folder = tempfile::tempdir().unwrap();
        for seed in [1, 2] {
            fs::write(folder.path().join(format!("{seed}.pub")), secret(seed).public().text()).unwrap();
        }
        fs::write(folder.path().join("README"), "not a key").unwrap();
        let ring = Keyring::from_folder(folder.path()).unwrap();
        assert_eq!(ring.keys(), [secret(1).public(), secret(2).public()]);
        fs::write(folder.path().join("3.pub"), "not a key").unwrap();
        assert!(matches!(Keyring::from_folder(folder.path()).unwrap_err(), KeyError::Text { .. }));
        assert!(matches!(Keyring::from_folder(Path::new("/nowhere")).unwrap_err(), KeyError::Read { .. }));
    }

    #[test]
    fn a_ring_that_others_can_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pub");
        fs::write(&file, secret(1).public().text()).unwrap();
        Keyring::from_folder(folder.path()).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(Keyring::from_folder(folder.path()).unwrap_err(), KeyError::Writable(path) if path == file));
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Keyring::from_folder(folder.path()).unwrap_err(), KeyError::Writable(_)));
    }

    #[test]
    fn only_small_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large.pub");
        fs::write(&large, vec![b'x'; 5000]).unwrap();
        assert!(matches!(Keyring::from_file(&large).unwrap_err(), KeyError::NotAFile(_)));
        let inner = folder.path().join("folder.pub");
        fs::create_dir(&inner).unwrap();
        assert!(matches!(Keyring::from_file(&inner).unwrap_err(), KeyError::NotAFile(_)));
    }
}
