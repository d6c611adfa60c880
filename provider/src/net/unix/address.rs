//! The names of Unix sockets.

use crate::errno::Errno;
use crate::net::Address;
use linux_raw_sys::net::AF_UNIX;

/// Where the name starts in a `struct sockaddr_un`.
const NAME: usize = 2;
/// Bytes of a name at the most.
const NAME_MAX: usize = 108;

/// What tells a socket's inode from others: device and number.
pub(super) type Key = (u64, u64);

/// A socket's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A path, as it was given to bind, and the object there.
    Path(Vec<u8>, Key),
    /// A name without a file.
    Abstract(Vec<u8>),
}

/// What a program asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Any abstract name.
    Any,
    /// A path.
    Path(Vec<u8>),
    /// An abstract name.
    Abstract(Vec<u8>),
}

/// Reads a `struct sockaddr_un`; `EINVAL`.
pub(super) fn parse(address: &[u8]) -> Result<Wanted, Errno> {
    let family = crate::net::address::family(address).ok_or(Errno::EINVAL)?;
    if family != AF_UNIX || address.len() > NAME + NAME_MAX {
        return Err(Errno::EINVAL);
    }
    let name = &address[NAME..];
    Ok(match name.first() {
        None => Wanted::Any,
        Some(0) => Wanted::Abstract(name[1..].to_vec()),
        Some(_) => Wanted::Path(name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()),
    })
}

/// Writes a name; a socket without one has a family only.
pub(super) fn encode(name: Option<&Name>) -> Address {
    let family = u16::try_from(AF_UNIX).unwrap_or_default().to_ne_bytes();
    match name {
        None => Address::new(&family),
        Some(Name::Path(path, _)) => Address::new(&[&family[..], path, b"\0"].concat()),
        Some(Name::Abstract(name)) => Address::new(&[&family[..], b"\0", name].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_at_a_nul_and_abstract_names_do_not() {
        assert_eq!(parse(b"\x01\0/tmp/a\0junk"), Ok(Wanted::Path(b"/tmp/a".to_vec())));
        assert_eq!(parse(b"\x01\0\0a\0b"), Ok(Wanted::Abstract(b"a\0b".to_vec())));
        assert_eq!(parse(b"\x01\0"), Ok(Wanted::Any));
        assert_eq!(parse(b"\x02\0/tmp/a"), Err(Errno::EINVAL));
        assert_eq!(parse(&[&b"\x01\0"[..], &[b'x'; 109]].concat()), Err(Errno::EINVAL));
    }

    #[test]
    fn a_full_path_still_gets_its_nul() {
        let long = Name::Path(vec![b'x'; 108], (1, 1));
        assert_eq!(encode(Some(&long)).bytes().len(), 111);
        assert_eq!(encode(None).bytes(), [1, 0]);
    }
}
