//! Receive buffers that io_uring fills by itself: a provided-buffer ring over a slab.

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use super::IoError;
use super::slab::Slab;

/// The buffer group; one ring has only this one.
pub(super) const GROUP: u16 = 0;

/// Entries through which buffers are lent to the kernel.
pub(super) struct BufferRing {
    entries: Slab,
    mask: u16,
    tail: u16,
}

impl BufferRing {
    /// Registers a ring with room for `buffers` (a power of two up to 32,768) and lends it all buffers of `slab`.
    pub(super) fn register(ring: &IoUring, slab: &Slab) -> Result<Self, IoError> {
        let buffers = slab.count() as u16;
        let entries = Slab::new(slab.count(), size_of::<BufRingEntry>(), "the buffer ring")?;
        // SAFETY: the mapping is page-aligned, holds exactly `buffers` entries and outlives the registration: the
        // owner drops the ring first.
        let result =
            unsafe { ring.submitter().register_buf_ring_with_flags(entries.pointer(0) as u64, buffers, GROUP, 0) };
        result.map_err(|source| IoError::Uring { step: "registering a provided-buffer ring", source })?;
        let mut this = Self { entries, mask: buffers - 1, tail: 0 };
        (0..buffers).for_each(|buffer| this.lend(slab, buffer));
        this.publish();
        Ok(this)
    }

    /// Gives one buffer back to the kernel; it sees it after `publish`.
    pub(super) fn lend(&mut self, slab: &Slab, buffer: u16) {
        let entry = self.entries.pointer(usize::from(self.tail & self.mask)).cast::<BufRingEntry>();
        // SAFETY: the index is masked into the ring; entries past the published tail are not read by the kernel, and
        // `set_*` leaves alone the bytes of entry 0 that hold the tail.
        let entry = unsafe { &mut *entry };
        entry.set_addr(slab.pointer(usize::from(buffer)) as u64);
        entry.set_len(slab.stride() as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was lent.
    pub(super) fn publish(&mut self) {
        // SAFETY: the base is the first entry of the ring, whose `resv` field is the ring's tail; it is aligned for
        // u16 and only accessed atomically on both sides.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.pointer(0).cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}
