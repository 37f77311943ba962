//! Plain packets of one source, kept for retransmission and shared by all its receivers.

use crate::io::MAX_DATAGRAM;

/// Packets kept per video source.
const CAPACITY: usize = 512;

/// A ring of the newest packets; allocated once per source.
pub struct PacketCache {
    entries: Box<[Entry]>,
    bytes: Box<[u8]>,
    next: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    encoding: u8,
    used: bool,
    len: u16,
    index: u64,
}

impl PacketCache {
    /// An empty cache of 512 packets, 768 KiB.
    pub fn new() -> Self {
        Self {
            entries: vec![Entry::default(); CAPACITY].into_boxed_slice(),
            bytes: vec![0; CAPACITY * MAX_DATAGRAM].into_boxed_slice(),
            next: 0,
        }
    }

    /// Stores a plain packet over the oldest one.
    pub fn insert(&mut self, encoding: u8, index: u64, packet: &[u8]) {
        let at = self.next * MAX_DATAGRAM;
        let Some(slot) = self.bytes.get_mut(at..at + packet.len()).filter(|_| packet.len() <= MAX_DATAGRAM) else {
            return;
        };
        slot.copy_from_slice(packet);
        self.entries[self.next] = Entry { encoding, used: true, len: packet.len() as u16, index };
        self.next = (self.next + 1) % CAPACITY;
    }

    /// Finds a packet by encoding and extended sequence number.
    pub fn get(&self, encoding: u8, index: u64) -> Option<&[u8]> {
        let position =
            self.entries.iter().position(|entry| entry.used && entry.encoding == encoding && entry.index == index)?;
        let at = position * MAX_DATAGRAM;
        self.bytes.get(at..at + usize::from(self.entries[position].len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let mut cache = PacketCache::new();
        for index in 0..CAPACITY as u64 + 1 {
            cache.insert((index % 2) as u8, index, &index.to_be_bytes());
        }
        assert_eq!(cache.get(0, 0), None, "overwritten");
        assert_eq!(cache.get(1, 1), Some(&1u64.to_be_bytes()[..]));
        assert_eq!(cache.get(0, 1), None, "another encoding");
        cache.insert(0, 9_999, &[0; MAX_DATAGRAM + 1]);
        assert_eq!(cache.get(0, 9_999), None, "too long to keep");
    }
}
