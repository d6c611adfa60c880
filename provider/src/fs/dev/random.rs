//! /dev/random and /dev/urandom, see random(4). Both give the host kernel's random numbers and never block.

use crate::errno::Errno;
use crate::fs::{File, OffsetKeeper, Sink, Source};
use crate::task::CurrentTask;
use crate::user::UserOut;
use rustix::rand::{GetRandomFlags, getrandom};
use std::sync::Arc;
use vmm::addr::UserAddr;

pub(super) const RANDOM: u32 = 8;
pub(super) const URANDOM: u32 = 9;

/// Random bytes are fetched in pieces: up to 256 bytes come whole, whatever signals arrive (getrandom(2)); more may be short.
const PIECE: usize = 4096;

/// `RNDGETENTCNT` of <linux/random.h>.
const GET_ENTROPY_COUNT: u32 = 0x8004_5200;
/// The size of the kernel's pool in bits, which is what it reports once it is seeded.
pub(crate) const POOL_BITS: i32 = 256;

/// Opens a random device by its minor number.
pub(super) fn open(minor: u32) -> Option<Arc<dyn File>> {
    matches!(minor, RANDOM | URANDOM).then(|| Arc::new(RandomDevice) as Arc<dyn File>)
}

#[derive(Debug)]
struct RandomDevice;

impl File for RandomDevice {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        let mut bytes = [0; PIECE];
        let mut done = 0;
        while to.remaining() > 0 {
            let wanted = PIECE.min(to.remaining());
            let got = fill(&mut bytes[..wanted])?;
            match to.put(&bytes[..got]) {
                Ok(put) => {
                    done += put;
                    if put < got {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Takes bytes that are meant to be mixed into the pool. The host's pool needs none from a sandbox; they are read and dropped.
    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let mut bytes = [0; PIECE];
        let mut done = 0;
        while from.remaining() > 0 {
            let wanted = PIECE.min(from.remaining());
            match from.take(&mut bytes[..wanted]) {
                Ok(taken) => {
                    done += taken;
                    if taken < wanted {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn offset_keeper(&self) -> OffsetKeeper<'_> {
        OffsetKeeper::Zero
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        match request {
            GET_ENTROPY_COUNT => {
                UserOut::<i32>::new(UserAddr(arg)).write(task, &POOL_BITS)?;
                Ok(0)
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Fills the buffer, however often the host call is interrupted.
fn fill(bytes: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while done < bytes.len() {
        match getrandom(&mut bytes[done..], GetRandomFlags::empty()) {
            Ok(got) => done += got,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}
