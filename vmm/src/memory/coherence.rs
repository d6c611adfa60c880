//! Keeping the hardware's view in step with the page tables.
//!
//! The monitor edits guest page tables from outside. Upgrades need nothing: a stale entry faults and is walked again.
//! *Downgrades* (rights taken away, another frame, a retired table) are collected in [`Changes`] while entries are edited
//! and become true for every virtual CPU in [`Changes::finish`]; only then are frames given back. Two back ends:
//!
//! - [`Paging::Hardware`]: stale translations live in processors. The space's generation is bumped and every virtual CPU
//!   that runs it is kicked out; each flushes before it enters again.
//! - [`Paging::Shadow`]: stale translations live in KVM's shadow pages, which no flush by the guest reaches. Host changes
//!   to the *old data pages* do: MADV_DONTNEED for dying frames (it also gives zeros, and takes the host's mmap lock only
//!   for reading), a toggle of PROT_EXEC for living ones. KVM then drops its translations and flushes the processors
//!   before the call returns, also while virtual CPUs run; a fault of theirs that read the old entry before the edit is
//!   caught by KVM's own re-check under its lock. PROT_READ would do too but makes other virtual CPUs' stores fail with an
//!   EFAULT without an address meanwhile. A dummy memory slot drops everything, for changes of the tree's shape (KVM
//!   would go on using the old shadow of a split or collapsed block) and for changes that are cut into many pieces.
//!
//! A third means, a store to the table's page by code in the guest's ring 0, is not used. It takes a KVM_RUN of 8 µs on
//! kvm-pvm, but one on a virtual CPU's own thread, while an edit may be made by any thread, of any address space.
//!
//! # Measured
//! On kvm-pvm, CPU time of the caller: a toggle of PROT_EXEC on a page 8 to 10 µs, MADV_DONTNEED of one 2 µs, the dummy slot
//! 27 to 60 µs (and 0.25 ms or more of waiting while virtual CPUs run, for KVM's grace period). What that drops comes back at
//! 4 to 5 µs a page, and a toggle in the middle of a 2 MiB block drops its neighbours, too. So `ZAP_MAX` toggles cost
//! as much as dropping everything costs a program with some 120 live pages; a larger one would gain from more.
//!
//! With nested paging (kvm_amd 6.1 and 6.12, emulated; `toggling_execute_permission_is_counted`) a toggle of a page that the
//! guest has touched is one flush: making it executable flushes, taking that back finds nothing mapped. No virtual CPU
//! leaves for it that is not in the guest. The next access faults once on 6.1; on 6.12 all that was mapped of the
//! 2 MiB goes with the page, six faults where six pages were in use. So the toggle would do there, too, but flushing
//! by generation costs no fault at all, and stays.

#[cfg(test)]
mod rows;

use super::GuestMemory;
use super::arena::{Arena, FRAMES, Frame};
use super::entry::Entry;
use super::extent::Home;
use crate::Paging;
use crate::machine::SpaceSync;
use std::sync::atomic::Ordering;

/// Pieces of living frames beyond which dropping all shadows is cheaper than two `mprotect` each (see the
/// module's measurements).
const ZAP_MAX: usize = 64;

/// What becomes of the frames of a run once no virtual CPU reaches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// They stay where they are held.
    Keep,
    /// Each loses one holder.
    Put,
    /// They are whole extents that lose a holder.
    PutWhole,
}

/// Consecutive frames whose entries changed.
#[derive(Clone, Copy, Debug)]
struct Run {
    frame: Frame,
    count: u32,
    fate: Fate,
    /// Whether a processor may have a translation that must go.
    stale: bool,
    /// Whether the frames are known to be zeros (nobody ever touched them).
    zeroed: bool,
}

/// The downgrades of one operation on an address space.
#[derive(Debug)]
#[must_use = "downgrades are complete only when finished"]
pub(crate) struct Changes<'m> {
    memory: &'m GuestMemory,
    runs: Vec<Run>,
    stale: bool,
    reshaped: bool,
    tables: Vec<Frame>,
    promises: u32,
    finished: bool,
}

impl<'m> Changes<'m> {
    /// Starts an operation.
    pub(crate) fn new(memory: &'m GuestMemory) -> Self {
        Self {
            memory,
            runs: Vec::new(),
            stale: false,
            reshaped: false,
            tables: Vec::new(),
            promises: 0,
            finished: false,
        }
    }

    /// Notes that a leaf was replaced by one (or a mark, or nothing) that has not its frame.
    pub(crate) fn released(&mut self, old: Entry) {
        let (count, fate) = if old.is_large() { (FRAMES, Fate::PutWhole) } else { (1, Fate::Put) };
        self.promises += u32::from(old.is_large());
        self.push(Run { frame: old.frame(), count, fate, stale: old.is_present(), zeroed: false });
    }

    /// Notes that a leaf, which was swapped out of its table, was replaced by one that has not its frame.
    pub(crate) fn swapped(&mut self, old: Entry) {
        debug_assert!(!old.is_large(), "the sharing of 2 MiB is broken in pieces");
        self.push(Run { frame: old.frame(), count: 1, fate: Fate::Put, stale: old.is_seen(), zeroed: false });
    }

    /// Notes that a leaf was taken out of reach before, and its frames were never touched.
    pub(crate) fn untouched(&mut self, old: Entry) {
        let (count, fate) = if old.is_large() { (FRAMES, Fate::PutWhole) } else { (1, Fate::Put) };
        self.promises += u32::from(old.is_large());
        self.push(Run { frame: old.frame(), count, fate, stale: false, zeroed: true });
    }

    /// Notes that an object gave up a frame that no entry of its mappers shows any more.
    pub(crate) fn dropped(&mut self, frame: Frame) {
        self.push(Run { frame, count: 1, fate: Fate::Put, stale: false, zeroed: false });
    }

    /// Notes that a leaf was replaced by `new`, which has the same frame, here or elsewhere.
    pub(crate) fn changed(&mut self, old: Entry, new: Entry) {
        if old.outlives(new) {
            let count = if old.is_large() { FRAMES } else { 1 };
            self.push(Run { frame: old.frame(), count, fate: Fate::Keep, stale: true, zeroed: false });
        }
    }

    /// Notes that a present 2 MiB leaf was split.
    pub(crate) fn reshaped(&mut self) {
        self.stale = true;
        self.reshaped = true;
    }

    /// Notes that a table was unlinked; its page is given back.
    pub(crate) fn unlinked(&mut self, table: Frame) {
        self.reshaped();
        self.tables.push(table);
    }

    fn push(&mut self, run: Run) {
        self.stale |= run.stale;
        if let Some(last) = self.runs.last_mut()
            && last.frame.add(last.count) == run.frame
            && (last.fate, last.stale, last.zeroed) == (run.fate, run.stale, run.zeroed)
        {
            last.count += run.count;
            return;
        }
        self.runs.push(run);
    }

    /// Makes the changes true for every virtual CPU, then gives frames and tables back.
    pub(crate) fn finish(mut self, sync: &SpaceSync) {
        let memory = self.memory;
        if self.stale {
            // After the entries' edits, before the kick: a virtual CPU that enters with the new value has flushed.
            sync.generation.fetch_add(1, Ordering::SeqCst);
        }
        let paging = memory.machine().paging();
        let mut pieces = self.pieces();
        match paging {
            Paging::Hardware => {
                if self.stale {
                    drop(memory.machine().hold_out(sync));
                }
                discard(memory.arena(), &mut pieces, |_| false);
            }
            Paging::Shadow => self.zap(&mut pieces),
            Paging::None => discard(memory.arena(), &mut pieces, |_| false),
        }
        self.settle(paging, &pieces);
    }

    /// Gives everything back without a flush: for a space that no processor will ever load again. Shadows of its tables may
    /// live on and name the frames, but nothing leads there before the tables' pages are reused, which drops them.
    pub(crate) fn finish_dead(mut self) {
        let mut pieces = self.pieces();
        discard(self.memory.arena(), &mut pieces, |_| false);
        self.reshaped = false;
        self.settle(self.memory.machine().paging(), &pieces);
    }

    /// Cuts the runs where holders or the kind of memory differ.
    fn pieces(&mut self) -> Vec<Piece> {
        let runs = std::mem::take(&mut self.runs);
        if runs.is_empty() {
            return Vec::new();
        }
        let pool = self.memory.pool();
        let mut pieces: Vec<Piece> = Vec::with_capacity(runs.len());
        for run in runs {
            let first = pieces.len();
            let step = if run.fate == Fate::PutWhole { FRAMES } else { 1 };
            for offset in (0..run.count).step_by(step as usize) {
                let frame = run.frame.add(offset);
                let backing = match pool.extent(frame.extent()).home {
                    Home::Window { writable: true } => Backing::File(libc::PROT_READ | libc::PROT_WRITE),
                    Home::Window { writable: false } => Backing::File(libc::PROT_READ),
                    _ if run.fate == Fate::Keep => Backing::Living,
                    _ if (0..step).all(|at| pool.count(frame.add(at)) == 1) => Backing::Dying,
                    _ => Backing::Living,
                };
                match pieces[first..].last_mut() {
                    Some(last) if last.backing == backing => last.count += step,
                    _ => pieces.push(Piece {
                        frame,
                        count: step,
                        fate: run.fate,
                        stale: run.stale,
                        backing,
                        zeroed: run.zeroed && backing == Backing::Dying,
                    }),
                }
            }
        }
        pieces
    }

    /// Makes KVM drop its shadows of what changed.
    fn zap(&self, pieces: &mut [Piece]) {
        let arena = self.memory.arena();
        // Dying frames first: giving them back is the zap. Nothing else may fault them in again: their entries are gone.
        discard(arena, pieces, |piece| piece.stale);
        let living = pieces.iter().filter(|piece| piece.stale && !piece.zeroed);
        let many = self.reshaped || living.clone().count() > ZAP_MAX;
        let mut living = living.map(|piece| match piece.backing {
            Backing::File(protection) => (piece, protection),
            Backing::Living | Backing::Dying => (piece, libc::PROT_READ | libc::PROT_WRITE),
        });
        // A refusal (a file system mounted noexec, a policy against writable and executable memory) costs speed only.
        if many || !living.all(|(piece, protection)| arena.zap(piece.frame, piece.count, protection)) {
            self.memory.machine().drop_shadows();
        }
    }

    fn settle(&mut self, paging: Paging, pieces: &[Piece]) {
        self.finished = true;
        if pieces.is_empty() && self.tables.is_empty() {
            return;
        }
        let arena = self.memory.arena();
        let mut pool = self.memory.pool();
        for piece in pieces {
            match piece.fate {
                Fate::Keep => {}
                Fate::Put => pool.put(arena, piece.frame, piece.count, piece.zeroed),
                Fate::PutWhole => {
                    let first = piece.frame.extent();
                    (first..first + piece.count / FRAMES)
                        .for_each(|extent| pool.put_whole(arena, extent, piece.zeroed));
                }
            }
        }
        pool.forget_promise(self.promises);
        // `zap` has dropped all shadows after the tables were unlinked, if any were.
        let shadowed = paging == Paging::Shadow && !self.reshaped;
        pool.retire_tables(arena, &self.tables, shadowed);
    }
}

impl Drop for Changes<'_> {
    fn drop(&mut self) {
        debug_assert!(
            self.finished || (self.runs.is_empty() && !self.stale) || std::thread::panicking(),
            "a downgrade of a live entry was not followed by a flush"
        );
    }
}

/// What lies behind frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backing {
    /// A host file, mapped with this protection.
    File(i32),
    /// Frames that somebody still holds afterwards.
    Living,
    /// Frames that nobody holds afterwards.
    Dying,
}

/// A part of a run in which all frames are alike.
#[derive(Clone, Copy, Debug)]
struct Piece {
    frame: Frame,
    count: u32,
    fate: Fate,
    stale: bool,
    backing: Backing,
    /// Whether it was given back to the host, so that it reads as zeros.
    zeroed: bool,
}

/// Gives the host memory of dying frames back where that pays: 2 MiB and more, and what `also` says. The rest is zeroed
/// when it is reused.
fn discard(arena: &Arena, pieces: &mut [Piece], also: impl Fn(&Piece) -> bool) {
    let mut at = 0;
    while at < pieces.len() {
        let first = pieces[at];
        let mut end = at + 1;
        let mut count = first.count;
        while end < pieces.len() && pieces[end].backing == Backing::Dying && pieces[end].frame == first.frame.add(count)
        {
            count += pieces[end].count;
            end += 1;
        }
        let group = &mut pieces[at..end];
        let zeroed = group.iter().all(|piece| piece.zeroed);
        if first.backing == Backing::Dying && !zeroed && (count >= FRAMES || group.iter().any(&also)) {
            arena.discard(first.frame, count);
            group.iter_mut().for_each(|piece| piece.zeroed = true);
        }
        at = end;
    }
}
