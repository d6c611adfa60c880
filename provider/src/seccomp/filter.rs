//! Filters: checked programs, stacked.

use super::bpf::{self, Op};
use super::check::Instruction;
use super::{Answer, SeccompData, Verdict};
use crate::errno::Errno;
use std::sync::Arc;

/// The most instructions on the way through all filters of a task: 256 KiB of them (MAX_INSNS_PER_PATH).
const MAX_PATH: usize = (1 << 18) / size_of::<Instruction>();
/// What each filter costs besides its instructions.
const FILTER_COST: usize = 4;

/// A filter on top of those that were there before it. Tasks share the ones below.
#[derive(Debug)]
pub struct Filter {
    program: Vec<Op>,
    /// SECCOMP_FILTER_FLAG_LOG.
    log: bool,
    below: Option<Arc<Self>>,
    /// Instructions on the way through this and all below.
    path: usize,
    /// How many filters there are, this one among them.
    count: u32,
}

impl Filter {
    /// Puts a checked program on top of others; `ENOMEM` if the way through all would be too long.
    pub fn stack(program: Vec<Op>, log: bool, below: Option<Arc<Self>>) -> Result<Arc<Self>, Errno> {
        let (path, count) = below.as_ref().map_or((0, 0), |below| (below.path + FILTER_COST, below.count));
        let path = path + program.len();
        if path > MAX_PATH {
            return Err(Errno::ENOMEM);
        }
        Ok(Arc::new(Self { program, log, below, path, count: count + 1 }))
    }

    /// How many filters there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Tells whether `self` is `other` or stacked upon it (is_ancestor).
    pub fn stands_on(&self, other: &Self) -> bool {
        self.layers().any(|layer| std::ptr::eq(layer, other))
    }

    /// This filter and those below it.
    fn layers(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |filter| filter.below.as_deref())
    }

    /// Asks all filters: the strictest answer counts, of equally strict ones the newest filter's (seccomp_run_filters).
    pub fn judge(&self, data: &SeccompData) -> Verdict {
        let mut strictest = Answer::ALLOW;
        let mut logged = false;
        for filter in self.layers() {
            let answer = Answer(bpf::run(&filter.program, data));
            if answer.rank() < strictest.rank() {
                (strictest, logged) = (answer, filter.log);
            }
        }
        Verdict { action: strictest.action(), data: strictest.data(), logged }
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // One after the other: thousands of nested drops would use up the stack.
        let mut next = self.below.take();
        while let Some(mut filter) = next.and_then(Arc::into_inner) {
            next = filter.below.take();
        }
    }
}
