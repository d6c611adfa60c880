//! What the pool knows about an extent: who it serves, how often each frame is held, which free frames are not zero.

use super::arena::FRAMES;

/// Whom an extent serves. The frames of a block of virtual or object space sit at the same offset modulo 2 MiB here;
/// this is the reverse map of private frames and of objects' frames (verified by walking, since pages may move).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// Nobody: no frame of it is held.
    Free,
    /// Page tables and system pages, for good.
    Tables,
    /// Single frames for whoever needs one: small objects, copies.
    Common,
    /// A 2 MiB block of an address space's virtual addresses.
    Space {
        /// The address space.
        space: u64,
        /// Virtual address divided by 2 MiB.
        block: u64,
    },
    /// A 2 MiB block of an object's offsets.
    Object {
        /// The object.
        object: u64,
        /// Offset divided by 2 MiB.
        block: u64,
    },
    /// A chunk of a host file, mapped with or without the right to write.
    Window {
        /// Whether the host mapping permits stores.
        writable: bool,
    },
}

/// An extent's record: 48 bytes, and 2 KiB of counts once single frames of it are held.
#[derive(Debug)]
pub(crate) struct Extent {
    pub(crate) home: Home,
    /// Whether the host was asked for huge pages here.
    pub(crate) huge: bool,
    /// Whether it waits among the window's idle chunks.
    pub(crate) queued: bool,
    /// Frames held at least once.
    used: u16,
    /// Holders of the extent as a whole (2 MiB entries).
    whole: u32,
    /// Holders of single frames.
    counts: Option<Box<[u32; FRAMES as usize]>>,
    /// Free frames that hold stale bytes, a bit each.
    dirty: Option<Box<[u64; 8]>>,
}

impl Extent {
    pub(crate) fn new(huge: bool) -> Self {
        Self { home: Home::Free, huge, queued: false, used: 0, whole: 0, counts: None, dirty: None }
    }

    /// Tells whether it maps a host file: its frames are the host's page cache and count for nothing.
    pub(crate) fn is_window(&self) -> bool {
        matches!(self.home, Home::Window { .. })
    }

    /// How many hold a frame.
    pub(crate) fn count(&self, slot: u32) -> u32 {
        self.whole + self.counts.as_ref().map_or(0, |counts| counts[slot as usize])
    }

    /// Frames held at least once.
    pub(crate) fn used(&self) -> u32 {
        u32::from(self.used)
    }

    /// The first free frame at or after `slot`.
    pub(crate) fn next_free(&self, slot: u32) -> Option<u32> {
        if self.whole > 0 || u32::from(self.used) == FRAMES {
            return None;
        }
        match &self.counts {
            None => (slot < FRAMES).then_some(slot),
            Some(counts) => (slot..FRAMES).find(|&at| counts[at as usize] == 0),
        }
    }

    /// Free frames from `slot` on, at most `max`, up to the first that is held.
    pub(crate) fn free_run(&self, slot: u32, max: u32) -> u32 {
        if self.whole > 0 {
            return 0;
        }
        let end = slot.saturating_add(max).min(FRAMES);
        match &self.counts {
            None => end - slot,
            Some(counts) => (slot..end).take_while(|&at| counts[at as usize] == 0).fold(0, |run, _| run + 1),
        }
    }

    /// Adds a holder to each of `count` frames; returns how many were free before.
    pub(crate) fn hold(&mut self, slot: u32, count: u32) -> u32 {
        let counts = self.counts.get_or_insert_with(|| Box::new([0; FRAMES as usize]));
        let mut fresh = 0;
        for at in slot..slot + count {
            fresh += u32::from(counts[at as usize] == 0 && self.whole == 0);
            counts[at as usize] += 1;
        }
        self.used += small(fresh);
        fresh
    }

    /// Adds a holder of the whole; returns how many frames were free before.
    pub(crate) fn hold_whole(&mut self) -> u32 {
        let fresh = FRAMES - u32::from(self.used);
        self.whole += 1;
        self.used = small(FRAMES);
        fresh
    }

    /// Turns one holder of the whole into a holder of each frame (its 2 MiB entry is split).
    pub(crate) fn split_whole(&mut self) {
        let counts = self.counts.get_or_insert_with(|| Box::new([0; FRAMES as usize]));
        counts.iter_mut().for_each(|count| *count += 1);
        assert!(self.whole > 0, "only an extent that a 2 MiB entry holds is split");
        self.whole -= 1;
    }

    /// Takes a holder of a frame away; tells whether the frame became free.
    pub(crate) fn release(&mut self, slot: u32) -> bool {
        let counts = self.counts.as_mut().expect("a frame that is held has a count");
        let count = &mut counts[slot as usize];
        *count = count.checked_sub(1).expect("a frame is released as often as it was held");
        let free = *count == 0 && self.whole == 0;
        self.used -= u16::from(free);
        free
    }

    /// Takes a holder of the whole away; tells whether every frame of it became free.
    pub(crate) fn release_whole(&mut self) -> bool {
        self.whole = self.whole.checked_sub(1).expect("an extent is released as often as it was held");
        if self.whole > 0 {
            return false;
        }
        self.used = match &self.counts {
            None => 0,
            Some(counts) => small(counts.iter().fold(0, |used, &count| used + u32::from(count > 0))),
        };
        self.used == 0
    }

    /// Forgets the counts of an extent that nobody holds.
    pub(crate) fn clear(&mut self) {
        self.home = Home::Free;
        self.counts = None;
    }

    /// Notes that free frames hold stale bytes.
    pub(crate) fn soil(&mut self, slot: u32) {
        let dirty = self.dirty.get_or_insert_with(|| Box::new([0; 8]));
        dirty[(slot / 64) as usize] |= 1 << (slot % 64);
    }

    /// Tells whether a free frame holds stale bytes, and forgets it.
    pub(crate) fn take_dirty(&mut self, slot: u32) -> bool {
        let Some(dirty) = &mut self.dirty else { return false };
        let (word, bit) = (&mut dirty[(slot / 64) as usize], 1 << (slot % 64));
        let was = *word & bit != 0;
        *word &= !bit;
        was
    }

    /// Tells whether any free frame may hold stale bytes.
    pub(crate) fn may_be_dirty(&self) -> bool {
        self.dirty.as_ref().is_some_and(|dirty| dirty.iter().any(|&word| word != 0))
    }

    /// Forgets all stale bytes (the host gave zeros); returns how many frames had some.
    pub(crate) fn wash(&mut self) -> u32 {
        self.dirty.take().map_or(0, |dirty| dirty.iter().map(|word| word.count_ones()).sum())
    }
}

/// A count of an extent's frames as it is stored.
fn small(count: u32) -> u16 {
    u16::try_from(count).expect("an extent has 512 frames")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_single_holders_add_up() {
        let mut extent = Extent::new(false);
        assert_eq!(extent.hold_whole(), 512);
        assert_eq!(extent.hold(3, 2), 0);
        assert_eq!((extent.count(3), extent.count(5)), (2, 1));
        assert!(!extent.release_whole());
        assert_eq!(extent.used(), 2);
        assert_eq!(extent.next_free(3), Some(5));
        assert_eq!(extent.free_run(0, 512), 3);
        assert!(extent.release(3) && extent.release(4));
        assert_eq!(extent.used(), 0);
    }

    #[test]
    fn a_split_keeps_every_frame_held() {
        let mut extent = Extent::new(true);
        extent.hold_whole();
        extent.split_whole();
        assert_eq!(extent.used(), 512);
        assert!((0..512).all(|slot| extent.count(slot) == 1));
        assert!((0..512).all(|slot| extent.release(slot)));
        assert_eq!(extent.used(), 0);
    }

    #[test]
    fn stale_bytes_are_remembered_once() {
        let mut extent = Extent::new(false);
        extent.soil(70);
        extent.soil(71);
        assert!(extent.take_dirty(70) && !extent.take_dirty(70));
        assert!(extent.may_be_dirty());
        assert_eq!(extent.wash(), 1);
        assert!(!extent.may_be_dirty());
    }
}
