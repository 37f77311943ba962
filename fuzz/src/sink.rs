//! Takes the datagrams that the data plane sends.

use ringbridge_dataplane::io::{MAX_DATAGRAM, PacketSink, Path};

/// A list of datagrams.
pub struct ListSink {
    buffer: Box<[u8; MAX_DATAGRAM]>,
    /// What was sent since somebody looked.
    pub datagrams: Vec<(Path, Vec<u8>)>,
    /// No slot while true.
    pub full: bool,
}

impl Default for ListSink {
    fn default() -> Self {
        Self { buffer: Box::new([0; MAX_DATAGRAM]), datagrams: Vec::new(), full: false }
    }
}

impl PacketSink for ListSink {
    fn slot(&mut self) -> Option<&mut [u8]> {
        if self.full { None } else { Some(&mut self.buffer[..]) }
    }

    fn commit(&mut self, len: usize, path: Path) {
        self.datagrams.push((path, self.buffer[..len].to_vec()));
    }
}
