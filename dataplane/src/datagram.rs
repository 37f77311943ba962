//! What state machines need to know of the network: where a datagram came from or goes to, and where to write one.

use std::net::SocketAddr;

/// Largest datagram that is received or sent, bytes of UDP payload. Longer ones are dropped and counted.
pub const MAX_DATAGRAM: usize = 1500;

/// Where a datagram came from or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// Index of the local socket (one per local address of the bridge).
    pub local: u8,
    /// Address of the other side.
    pub remote: SocketAddr,
}

/// Takes outgoing datagrams. The I/O backends implement it over their slab; tests implement it over a `Vec`.
pub trait PacketSink {
    /// A buffer of at least [`MAX_DATAGRAM`] bytes for the next datagram, or `None` when nothing is free even after
    /// a flush. Asking again without `commit` hands out the same buffer.
    fn slot(&mut self) -> Option<&mut [u8]>;

    /// Queues the first `len` bytes of the slot handed out last.
    fn commit(&mut self, len: usize, path: Path);
}
