//! What an ICE agent sends, kept with where it goes.

use ringbridge_dataplane::io::{PacketSink, Path};

pub struct Out {
    pub slot: Vec<u8>,
    pub sent: Vec<(Path, Vec<u8>)>,
}

impl PacketSink for Out {
    fn slot(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.slot)
    }

    fn commit(&mut self, len: usize, path: Path) {
        self.sent.push((path, self.slot[..len].to_vec()));
    }
}
