//! `picovisor provider`: makes keys, signs shared objects, and tells whether one would be accepted.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use vmm::foreign::{
    Keyring, SecretKey, Signature, Statement, VerifiedObject, read_object, read_secret_key, signature_path,
};
use zeroize::Zeroizing;

use crate::cli::{KeygenOptions, ProviderCommand, SignOptions, VerifyOptions};
use crate::failure::{Failure, plain};
use crate::print;

/// Does what the command says.
pub(crate) fn execute(command: &ProviderCommand) -> Result<u8, Failure> {
    let text = match command {
        ProviderCommand::Keygen(options) => keygen(options)?,
        ProviderCommand::Sign(options) => sign(options)?,
        ProviderCommand::Verify(options) => verify(options)?,
    };
    print(text.as_bytes()).map(|()| 0)
}

fn keygen(options: &KeygenOptions) -> Result<String, Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    fill_with_randomness(&mut *seed).map_err(|error| named("randomness", &error))?;
    let key = SecretKey::from_seed(&seed, options.usage.clone())
        .ok_or_else(|| Failure::ours("a key must be usable for something"))?;
    let (secret, public) = (with_suffix(&options.name, ".key"), with_suffix(&options.name, ".pub"));
    create(&public, key.public().text().as_bytes(), 0o644)?;
    if let Err(failure) = create(&secret, key.text().as_bytes(), 0o600) {
        // Half a pair is of no use, and would be in the way of the next try.
        let _ = std::fs::remove_file(&public);
        return Err(failure);
    }
    let id = key.public().id();
    Ok(format!("secret key  {}\npublic key  {}\nkey         {id}\n", secret.display(), public.display()))
}

fn sign(options: &SignOptions) -> Result<String, Failure> {
    let object = read_object(&options.object).map_err(explained)?;
    let key = read_secret_key(&options.key).map_err(explained)?;
    if !key.public().allows(&options.usage) {
        return Err(Failure::ours(format_args!(
            "{}: this key is not for \"{}\", so nobody would accept its signature",
            options.key.display(),
            options.usage
        )));
    }
    let stem = options.object.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = options.name.clone().or(stem).unwrap_or_default();
    let statement = Statement::about(&object, &name, options.usage.clone()).ok_or_else(|| {
        Failure::ours(format_args!("\"{name}\" cannot be a name: use --name with 1 to 64 printable ASCII characters"))
    })?;
    let path = signature_path(&options.object);
    let text = Signature::new(statement, &key).text();
    if options.force {
        replace(&path, text.as_bytes())?;
    } else {
        create(&path, text.as_bytes(), 0o644)?;
    }
    Ok(format!("signature   {}\nname        {name}\nkey         {}\n", path.display(), key.public().id()))
}

fn verify(options: &VerifyOptions) -> Result<String, Failure> {
    let ring = if options.keys.is_dir() { Keyring::from_folder } else { Keyring::from_file };
    let ring = ring(&options.keys).map_err(explained)?;
    let object = VerifiedObject::open(&options.object, &ring, &options.usage).map_err(explained)?;
    let statement = object.statement();
    Ok(format!(
        "good        {}\nname        {}\nusage       {}\n",
        object.path().display(),
        statement.name,
        statement.usage
    ))
}

/// Appends to a path's last name, as [`Path::with_extension`] does not for a name that has dots in it.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Writes a new file, all of it or none.
fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::ours(format_args!("{}: exists, and is not overwritten", path.display()))
        }
        _ => named(&path.display().to_string(), &error),
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| {
        let _ = std::fs::remove_file(path);
        named(&path.display().to_string(), &error)
    })
}

/// Writes a file in the place of another, so that a reader finds the one or the other, whole.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let new = with_suffix(path, ".new");
    create(&new, bytes, 0o644)?;
    std::fs::rename(&new, path).map_err(|error| {
        let _ = std::fs::remove_file(&new);
        named(&path.display().to_string(), &error)
    })
}

/// Fills a buffer from the host's random number generator, waiting until it has been seeded.
fn fill_with_randomness(buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::rand::getrandom(&mut buffer[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What an error says, without Rust's "(os error 2)" at its end.
fn explained(error: impl std::fmt::Display) -> Failure {
    let text = error.to_string();
    Failure::ours(text.rsplit_once(" (os error ").map_or(text.as_str(), |(plain, _)| plain))
}

fn named(what: &str, error: &io::Error) -> Failure {
    Failure::ours(format_args!("{what}: {}", plain(error)))
}
