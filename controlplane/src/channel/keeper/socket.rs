//! The socket between a bridge and a keeper: a pair that only processes of this bridge have the ends of.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, socketpair, sockopt};

use super::frame::MAX_FRAME;

/// The keeper's end, and the bridge's.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Whether a descriptor can be an end of such a pair.
pub fn is_keeper_socket(socket: impl AsFd) -> bool {
    let domain = sockopt::socket_domain(&socket);
    sockopt::socket_type(&socket) == Ok(SocketType::SEQPACKET) && domain == Ok(AddressFamily::UNIX)
}

/// Sends a frame, whole or not at all: whether there was room.
pub fn send(socket: impl AsFd, frame: &[u8]) -> io::Result<bool> {
    loop {
        match rustix::net::send(&socket, frame, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::NOBUFS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A frame, if there is one; an empty one is the end. `buffer` is [`MAX_FRAME`] long and one byte more, which no frame has.
pub fn receive(socket: impl AsFd, buffer: &mut [u8; MAX_FRAME + 1]) -> io::Result<Option<&[u8]>> {
    loop {
        match recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => return Ok(buffer.get(..length)),
            // Said once, before what the other end had sent, if it closed without reading everything.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
