//! What state machines need to know of the network: where a datagram came from or goes to, and where to write one.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Largest datagram that is received or sent, bytes of UDP payload. Longer ones are dropped and counted.
pub const MAX_DATAGRAM: usize = 1500;

/// Where a datagram came from or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Path {
    /// Index of the local socket: one per local address of the bridge, then those that were handed to the worker since.
    pub local: u16,
    /// Address of the other side.
    pub remote: SocketAddr,
}

/// A local socket by its index and where it is bound; of the address only the family matters to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LocalSocket {
    /// Its index, as in [`Path::local`].
    pub local: u16,
    /// Where it is bound.
    pub address: SocketAddr,
}

impl LocalSocket {
    /// The sockets at these addresses, numbered from 0.
    pub fn numbered(addresses: &[SocketAddr]) -> Arc<[Self]> {
        (0..).zip(addresses).map(|(local, &address)| Self { local, address }).collect()
    }
}

/// A bound UDP socket for one endpoint alone, on its way to the worker that the endpoint lives on. The port is free again when the
/// worker has given it up and nobody keeps a clone of this.
#[derive(Debug, Clone)]
pub struct HandedSocket {
    address: SocketAddr,
    socket: Arc<UdpSocket>,
}

impl HandedSocket {
    /// Wraps a socket; an error when it has no address.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        Ok(Self { address: socket.local_addr()?, socket: Arc::new(socket) })
    }

    /// Where it is bound; the address may be a wildcard.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket, which the clones share.
    pub(crate) fn into_socket(self) -> Arc<UdpSocket> {
        self.socket
    }
}

impl PartialEq for HandedSocket {
    /// Whether both are the same socket.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.socket, &other.socket)
    }
}

/// Takes outgoing datagrams. The I/O backends implement it over their slab; tests implement it over a `Vec`.
pub trait PacketSink {
    /// A buffer of at least [`MAX_DATAGRAM`] bytes for the next datagram, or `None` when nothing is free even after
    /// a flush. Asking again without `commit` hands out the same buffer.
    fn slot(&mut self) -> Option<&mut [u8]>;

    /// Queues the first `len` bytes of the slot handed out last.
    fn commit(&mut self, len: usize, path: Path);
}
