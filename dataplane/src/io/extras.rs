//! What some kernels and cards have beyond the usual, and not every host gains from: off unless asked for.

use std::io;
use std::net::UdpSocket;
use std::os::fd::RawFd;
use std::str::FromStr;

use super::IoError;
use super::socket::set_option;

/// The longest busy poll that makes sense, microseconds: after it a timer would have been as good.
const MAX_BUSY_POLL: u32 = 10_000;

/// The longest that a datagram may wait for others, microseconds: what a bridge adds must stay small beside a network's jitter.
const MAX_COALESCE: u32 = 2_000;

/// Options of an I/O backend; as text `sqpoll,zero-copy,busy-poll=50,coalesce=100`. What the backend does not have is an error at start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoExtras {
    /// io_uring only: a thread of the kernel takes the submissions (`IORING_SETUP_SQPOLL`). It needs a core.
    pub sqpoll: bool,
    /// io_uring only: the card reads packets where they lie (`IORING_OP_SENDMSG_ZC`), and a flush waits until it has.
    pub zero_copy: bool,
    /// Microseconds that a wait polls the card's queues before it sleeps (`SO_BUSY_POLL`; with io_uring its NAPI
    /// registration). 0 is off.
    pub busy_poll: u32,
    /// Microseconds that a received datagram waits at most for others, while others are to be expected. 0 is off; `None` lets
    /// [`super::probe`] choose.
    pub coalesce: Option<u32>,
}

/// An option that does not exist, or a value that is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "I/O option {0:?} is unknown; choose from sqpoll, zero-copy, busy-poll=MICROSECONDS (1 to {MAX_BUSY_POLL}), \
     coalesce=MICROSECONDS (0 to {MAX_COALESCE})"
)]
pub struct UnknownExtra(String);

impl FromStr for IoExtras {
    type Err = UnknownExtra;

    fn from_str(text: &str) -> Result<Self, UnknownExtra> {
        let mut extras = Self::default();
        for option in text.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            let unknown = || UnknownExtra(option.to_owned());
            match option.split_once('=') {
                None if option == "sqpoll" => extras.sqpoll = true,
                None if option == "zero-copy" => extras.zero_copy = true,
                Some(("busy-poll", micros)) => {
                    let micros = micros.parse().ok().filter(|micros| (1..=MAX_BUSY_POLL).contains(micros));
                    extras.busy_poll = micros.ok_or_else(unknown)?;
                }
                Some(("coalesce", micros)) => {
                    let micros = micros.parse().ok().filter(|micros| *micros <= MAX_COALESCE);
                    extras.coalesce = Some(micros.ok_or_else(unknown)?);
                }
                _ => return Err(unknown()),
            }
        }
        Ok(extras)
    }
}

impl IoExtras {
    /// The first option that only io_uring has, if any.
    pub fn of_uring(self) -> Option<&'static str> {
        [(self.sqpoll, "sqpoll"), (self.zero_copy, "zero-copy")].iter().find(|option| option.0).map(|option| option.1)
    }

    /// Refuses what only io_uring has.
    pub(super) fn without_uring(self) -> Result<Self, IoError> {
        self.of_uring().map_or(Ok(self), |option| Err(IoError::NeedsUring(option)))
    }

    /// Has the sockets' own waits poll the card first.
    pub(super) fn poll_busily(self, sockets: &[UdpSocket]) -> Result<(), IoError> {
        if self.busy_poll == 0 {
            return Ok(());
        }
        for socket in sockets {
            for (option, value) in [(libc::SO_BUSY_POLL, self.busy_poll), (libc::SO_PREFER_BUSY_POLL, 1)] {
                set_option(socket, libc::SOL_SOCKET, option, value as libc::c_int).map_err(IoError::BusyPoll)?;
            }
        }
        Ok(())
    }

    /// Has the waits of a ring poll the card first.
    pub(super) fn poll_ring_busily(self, ring: RawFd) -> Result<(), IoError> {
        #[repr(C)]
        struct Napi {
            timeout: u32,
            prefer: u8,
            rest: [u8; 3 + 4 + 4],
        }
        const REGISTER_NAPI: libc::c_uint = 27;
        if self.busy_poll == 0 {
            return Ok(());
        }
        let mut napi = Napi { timeout: self.busy_poll, prefer: 1, rest: [0; 11] };
        // SAFETY: the structure is as long as the kernel's, and lives during the call.
        let result = unsafe { libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_NAPI, &raw mut napi, 1) };
        if result < 0 { Err(IoError::BusyPoll(io::Error::last_os_error())) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_wrong_ones_named() {
        assert_eq!("".parse(), Ok(IoExtras::default()));
        let all = IoExtras { sqpoll: true, zero_copy: true, busy_poll: 50, coalesce: Some(700) };
        assert_eq!(" sqpoll, zero-copy,busy-poll=50,coalesce=700".parse(), Ok(all));
        assert_eq!("coalesce=0".parse(), Ok(IoExtras { coalesce: Some(0), ..IoExtras::default() }));
        for wrong in
            ["turbo", "busy-poll", "busy-poll=0", "busy-poll=99999", "sqpoll=1", "coalesce=2001", "coalesce=-1"]
        {
            let text = format!("zero-copy,{wrong}").parse::<IoExtras>().unwrap_err().to_string();
            assert!(text.contains(wrong) && text.contains("coalesce=MICROSECONDS"), "{text}");
        }
    }
}
