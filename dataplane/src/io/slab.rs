//! Packet memory: equal buffers in one mapping, made once.

use std::io;
use std::ptr::NonNull;

use super::IoError;

/// `count` buffers of `stride` bytes. Hands out raw pointers: the kernel writes to some buffers while others are read.
pub(super) struct Slab {
    base: NonNull<u8>,
    stride: usize,
    count: usize,
}

impl Slab {
    /// Maps and touches all of it, so that the packet path takes no page fault.
    pub(super) fn new(count: usize, stride: usize, what: &'static str) -> Result<Self, IoError> {
        let too_large = || IoError::Allocate { what, source: io::Error::from_raw_os_error(libc::ENOMEM) };
        let len = count.checked_mul(stride).filter(|&len| len > 0).ok_or_else(too_large)?;
        // SAFETY: a new private anonymous mapping touches no existing memory.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(IoError::Allocate { what, source: io::Error::last_os_error() });
        }
        Ok(Self { base: NonNull::new(base.cast()).ok_or_else(too_large)?, stride, count })
    }

    /// Bytes of one buffer.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// How many buffers.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Start of buffer `index`.
    pub(super) fn pointer(&self, index: usize) -> *mut u8 {
        assert!(index < self.count, "buffer {index} of {}", self.count);
        // SAFETY: the offset lies inside the mapping, as `index` is below `count`.
        unsafe { self.base.as_ptr().add(index * self.stride) }
    }

    /// `len` bytes at `offset` of buffer `index`, cut to the buffer.
    ///
    /// # Safety
    /// The kernel must not write to these bytes while the slice lives.
    pub(super) unsafe fn bytes(&mut self, index: usize, offset: usize, len: usize) -> &mut [u8] {
        let offset = offset.min(self.stride);
        let len = len.min(self.stride - offset);
        // SAFETY: the range lies inside one buffer, memory is initialised (zero pages), `&mut self` keeps other
        // slices away and the caller keeps the kernel away.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(index).add(offset), len) }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; nothing borrows from it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.count * self.stride) };
    }
}
