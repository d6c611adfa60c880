//! `picovisor provider`: options of the tool that makes keys and signs providers.

use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;
use vmm::foreign::{PROVIDER_USAGE, Usage};

pub(super) const ABOUT: &str = "\
Makes keys, and signs and verifies providers that come as shared objects.

A provider is the operating system that programs in a sandbox see. It runs inside the monitor, with all its rights, so one that \
comes as a shared object is loaded only if a trusted key vouches for it. A signature is a small text file beside the object \
(mine.so has mine.so.sig). It names the object's length and digest, the key, and what it may be used as. \
Trusted keys are the .pub files of a folder that only its owner can write to.";

pub(super) const EXAMPLES: &str = "\
Examples:
  picovisor provider keygen ~/me                     makes ~/me.key and ~/me.pub
  picovisor provider sign mine.so --key ~/me.key     makes mine.so.sig
  install -m 644 ~/me.pub /etc/picovisor/keys/       trusts the key
  picovisor provider verify mine.so --keys /etc/picovisor/keys";

/// What to do about providers.
#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommand {
    /// Make a pair of keys
    ///
    /// Writes NAME.key, the secret key, which only you can read, and NAME.pub, the public key, for those who are to trust you.
    /// Existing files are never overwritten. The secret key is not protected by a passphrase: keep it where others cannot read it.
    Keygen(KeygenOptions),
    /// Sign a shared object
    ///
    /// Writes the signature beside the object: OBJECT.sig. Sign again after each build: a signature fits one object only.
    Sign(SignOptions),
    /// Tell whether a trusted key vouches for a shared object
    ///
    /// Reads the object, OBJECT.sig and the trusted keys, and does not run any of the object's code. The exit status is 0 if
    /// the object would be accepted, else 125.
    Verify(VerifyOptions),
}

/// `picovisor provider keygen`.
#[derive(Args, Debug)]
pub(crate) struct KeygenOptions {
    /// Where to put the keys, without .key and .pub
    #[arg(value_name = "NAME", value_hint = ValueHint::FilePath)]
    pub(crate) name: PathBuf,
    /// What the key may be used for (may be repeated)
    #[arg(long, value_name = "USAGE", default_value = PROVIDER_USAGE, value_parser = usage)]
    pub(crate) usage: Vec<Usage>,
}

/// `picovisor provider sign`.
#[derive(Args, Debug)]
pub(crate) struct SignOptions {
    /// The shared object
    #[arg(value_name = "OBJECT", value_hint = ValueHint::FilePath)]
    pub(crate) object: PathBuf,
    /// The secret key
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key: PathBuf,
    /// The personality's name, for people [default: the object's file name without its ending]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// What the object may be used as
    #[arg(long, value_name = "USAGE", default_value = PROVIDER_USAGE, value_parser = usage)]
    pub(crate) usage: Usage,
    /// Replace the signature of an earlier build
    #[arg(long)]
    pub(crate) force: bool,
}

/// `picovisor provider verify`.
#[derive(Args, Debug)]
pub(crate) struct VerifyOptions {
    /// The shared object
    #[arg(value_name = "OBJECT", value_hint = ValueHint::FilePath)]
    pub(crate) object: PathBuf,
    /// A folder of trusted keys, or one key's .pub file
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) keys: PathBuf,
    /// What it is to be used as
    #[arg(long, value_name = "USAGE", default_value = PROVIDER_USAGE, value_parser = usage)]
    pub(crate) usage: Usage,
}

fn usage(text: &str) -> Result<Usage, String> {
    Usage::new(text).ok_or_else(|| "use 1 to 64 small letters, digits, spaces, dots and dashes".to_owned())
}
