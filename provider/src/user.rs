//! Typed user memory: what a system-call argument that points somewhere may be used for, and nothing else.
//!
//! A pointer from a program is an allegation: holding one proves neither that it is mapped nor that it is aligned. Linux checks on
//! access, so these do too.

use crate::errno::Errno;
use crate::task::CurrentTask;
use std::marker::PhantomData;
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes in the longest path, with its NUL (PATH_MAX).
pub const PATH_MAX: usize = 4096;
/// The most bytes of a structure that grows: a page.
const MOST: usize = 4096;

/// A pointer through which a call reads a `T`.
#[derive(Debug)]
pub struct UserIn<T>(pub UserAddr, PhantomData<fn() -> T>);

/// A pointer through which a call writes a `T`.
#[derive(Debug)]
pub struct UserOut<T>(pub UserAddr, PhantomData<fn(T)>);

/// A pointer through which a call reads and then writes a `T`.
#[derive(Debug)]
pub struct UserInOut<T>(pub UserAddr, PhantomData<fn(T) -> T>);

/// A pointer to a NUL-terminated string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserCStr(pub UserAddr);

macro_rules! pointer {
    ($name:ident) => {
        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<T> Copy for $name<T> {}
        impl<T> $name<T> {
            /// Wraps an address.
            pub fn new(addr: UserAddr) -> Self {
                Self(addr, PhantomData)
            }
            /// Tells whether the pointer is NULL.
            pub fn is_null(self) -> bool {
                self.0.0 == 0
            }
        }
    };
}
pointer!(UserIn);
pointer!(UserOut);
pointer!(UserInOut);

impl<T: FromBytes + IntoBytes> UserIn<T> {
    /// Reads the value.
    pub fn read(self, task: &CurrentTask<'_>) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        task.mm().read(self.0, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Reads a structure that grows with versions, in the program's `size` (copy_struct_from_user): what it lacks is zero, and what
    /// we don't know must be, or it is `E2BIG`, as is more than a page. Less than the first version's `least` bytes is `EINVAL`.
    pub fn read_sized(self, task: &CurrentTask<'_>, size: usize, least: usize) -> Result<T, Errno> {
        if size > MOST {
            return Err(Errno::E2BIG);
        }
        if size < least {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0; size];
        task.mm().read(self.0, &mut bytes)?;
        let (known, rest) = bytes.split_at(size.min(size_of::<T>()));
        if rest.iter().any(|byte| *byte != 0) {
            return Err(Errno::E2BIG);
        }
        let mut value = T::new_zeroed();
        value.as_mut_bytes()[..known.len()].copy_from_slice(known);
        Ok(value)
    }

    /// Reads the value, or returns `None` for NULL.
    pub fn read_opt(self, task: &CurrentTask<'_>) -> Result<Option<T>, Errno> {
        if self.is_null() { Ok(None) } else { self.read(task).map(Some) }
    }
}

impl<T: IntoBytes + Immutable> UserOut<T> {
    /// Writes the value.
    pub fn write(self, task: &CurrentTask<'_>, value: &T) -> Result<(), Errno> {
        task.mm().write(self.0, value.as_bytes())
    }

    /// Writes the value unless the pointer is NULL.
    pub fn write_opt(self, task: &CurrentTask<'_>, value: &T) -> Result<(), Errno> {
        if self.is_null() { Ok(()) } else { self.write(task, value) }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> UserInOut<T> {
    /// Reads the value.
    pub fn read(self, task: &CurrentTask<'_>) -> Result<T, Errno> {
        UserIn::new(self.0).read(task)
    }

    /// Writes the value.
    pub fn write(self, task: &CurrentTask<'_>, value: &T) -> Result<(), Errno> {
        UserOut::new(self.0).write(task, value)
    }
}

impl UserCStr {
    /// Reads a path: its bytes without the NUL, `ENAMETOOLONG` beyond [`PATH_MAX`].
    pub fn read_path(self, task: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
        task.mm().read_cstr(self.0, PATH_MAX)?.ok_or(Errno::ENAMETOOLONG)
    }

    /// Tells whether the pointer is NULL.
    pub fn is_null(self) -> bool {
        self.0.0 == 0
    }
}
