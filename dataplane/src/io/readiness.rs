//! Which of many sockets have something to read (epoll(7)): one descriptor to poll for all of them, whatever their number.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Sockets that one wait reports; the others come next time, as those that were reported go to the end of the kernel's list.
const MAX_EVENTS: usize = 64;

/// Descriptors that are watched, each under a number.
pub(super) struct Readiness {
    epoll: OwnedFd,
    events: [libc::epoll_event; MAX_EVENTS],
    ready: usize,
}

impl Readiness {
    /// Watches nothing yet.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above returned this descriptor and nothing else owns it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { epoll, events: [libc::epoll_event { events: 0, u64: 0 }; MAX_EVENTS], ready: 0 })
    }

    /// Watches a descriptor under this number.
    pub(super) fn watch(&self, socket: &impl AsRawFd, number: u16) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number.into() };
        // SAFETY: the event is valid for reads during the call.
        let result =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Watches it no more: closing a descriptor is not enough while another one of the same socket is open.
    pub(super) fn unwatch(&self, socket: &impl AsRawFd) {
        // SAFETY: no event is read for this operation.
        let _ = unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, socket.as_raw_fd(), std::ptr::null_mut())
        };
    }

    /// Looks which are readable now, without waiting; how many are to be had from [`Self::get`].
    pub(super) fn readable(&mut self) -> io::Result<usize> {
        self.ready = 0;
        // SAFETY: the array holds as many events as given.
        let ready =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), MAX_EVENTS as libc::c_int, 0) };
        match usize::try_from(ready) {
            Ok(ready) => self.ready = ready,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
        Ok(self.ready)
    }

    /// The number of one of those.
    pub(super) fn get(&self, i: usize) -> Option<u16> {
        self.events.get(..self.ready)?.get(i).map(|event| event.u64 as u16)
    }
}

impl AsRawFd for Readiness {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn what_is_readable_is_reported_until_it_is_unwatched() {
        let mut readiness = Readiness::new().unwrap();
        let sockets: Vec<_> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for (number, socket) in sockets.iter().enumerate() {
            readiness.watch(socket, 300 + number as u16).unwrap();
        }
        assert_eq!((readiness.readable().unwrap(), readiness.get(0)), (0, None));
        for to in [&sockets[2], &sockets[0]] {
            sockets[1].send_to(&[1], to.local_addr().unwrap()).unwrap();
        }
        let all = |readiness: &mut Readiness| {
            let count = readiness.readable().unwrap();
            let mut numbers: Vec<_> = (0..count).map(|i| readiness.get(i).unwrap()).collect();
            numbers.sort_unstable();
            numbers
        };
        assert_eq!(all(&mut readiness), [300, 302]);
        assert_eq!(all(&mut readiness), [300, 302], "still");
        let kept = sockets[2].try_clone().unwrap();
        readiness.unwatch(&sockets[2]);
        assert_eq!(all(&mut readiness), [300]);
        drop((sockets, kept));
        assert_eq!(all(&mut readiness), []);
    }
}
