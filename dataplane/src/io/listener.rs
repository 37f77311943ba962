//! A listening socket that hands over connections when there is something to read.

use std::io;
use std::os::fd::AsFd;

use super::socket::set_option;

/// Seconds after which one that says nothing is handed over all the same, when the kernel next repeats its part of the handshake (after 1,
/// 3, 7 s and so on).
const SILENT_FOR: libc::c_int = 3;

/// Leaves connections with the kernel until their first bytes are there, or for some seconds (`TCP_DEFER_ACCEPT`, tcp(7)).
///
/// # Errors
/// What the system says, as of `setsockopt`: the socket is not of TCP, or the system does not know the option.
pub fn defer_accept(listener: &impl AsFd) -> io::Result<()> {
    set_option(listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, SILENT_FOR)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_says_nothing_comes_after_who_does() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        listener.set_nonblocking(true).expect("a socket");
        defer_accept(&listener).expect("Linux knows it");
        let address = listener.local_addr().expect("bound");
        let silent = TcpStream::connect(address).expect("the kernel takes it");
        let mut speaks = TcpStream::connect(address).expect("the kernel takes it");
        assert_eq!(listener.accept().expect_err("nobody said anything").kind(), ErrorKind::WouldBlock);
        speaks.write_all(b"x").expect("open");
        let accepted = || loop {
            match listener.accept() {
                Ok((_, peer)) => return peer,
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
                Err(error) => panic!("{error}"),
            }
        };
        // The silent one is not lost either, some seconds later.
        assert_eq!([accepted(), accepted()], [&speaks, &silent].map(|one| one.local_addr().expect("open")));
    }

    #[test]
    fn another_socket_is_refused() {
        defer_accept(&UdpSocket::bind("127.0.0.1:0").expect("loopback")).expect_err("not of TCP");
    }
}
