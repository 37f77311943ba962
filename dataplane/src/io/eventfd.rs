//! Wake-ups across threads: a Linux eventfd.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use super::IoError;

/// A non-blocking eventfd; clones share it. Wake-ups coalesce until drained.
#[derive(Debug, Clone)]
pub struct EventFd(Arc<File>);

impl EventFd {
    /// A new one, not signalled.
    pub fn new() -> Result<Self, IoError> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(IoError::Allocate { what: "an eventfd", source: std::io::Error::last_os_error() });
        }
        // SAFETY: the call above returned this descriptor and nothing else owns it.
        Ok(Self(Arc::new(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))))
    }

    /// Wakes whoever waits on it; never blocks.
    pub fn notify(&self) {
        // It fails only when 2^64-2 wake-ups are pending: then the reader wakes up anyway.
        let _ = (&*self.0).write(&1u64.to_ne_bytes());
    }

    /// Takes back all wake-ups; true when there was one.
    pub fn drain(&self) -> bool {
        matches!((&*self.0).read(&mut [0; 8]), Ok(8))
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_ups_coalesce_and_clones_share() {
        let fd = EventFd::new().unwrap();
        assert!(!fd.drain());
        fd.clone().notify();
        fd.notify();
        assert!(fd.drain());
        assert!(!fd.drain());
    }
}
