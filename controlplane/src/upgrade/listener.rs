//! Sockets at which connections arrive, of another process.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use tokio::net::TcpListener;

/// A listener, if it is that of this address.
pub fn listening(socket: OwnedFd, address: SocketAddr) -> Option<TcpListener> {
    let listener = std::net::TcpListener::from(socket);
    let bound = listener.local_addr().ok()?;
    // Port 0 was some port.
    let same = bound.ip() == address.ip() && (address.port() == 0 || bound.port() == address.port());
    if !same {
        return None;
    }
    listener.set_nonblocking(true).ok()?;
    TcpListener::from_std(listener).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_taken_where_it_is_wanted_only() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let socket = || OwnedFd::from(listener.try_clone().expect("a descriptor"));
        let taken = listening(socket(), address).expect("the same address");
        assert_eq!(taken.local_addr().expect("bound"), address);
        assert!(listening(socket(), SocketAddr::new(address.ip(), 0)).is_some(), "any port is its port");
        let other = SocketAddr::new(address.ip(), address.port() ^ 1);
        assert!(listening(socket(), other).is_none());
        assert!(listening(socket(), SocketAddr::from(([0, 0, 0, 0], address.port()))).is_none());
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let named = udp.local_addr().expect("bound");
        // Not a listener: whoever accepts there gets an error, and the bridge goes on without.
        let _ = listening(udp.into(), named);
    }
}
