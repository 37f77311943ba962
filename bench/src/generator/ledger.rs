//! What was sent lately: a receiver's packet is looked up by its payload, which tells when it was sent and that it
//! arrived unchanged.

use std::hash::BuildHasher;
use std::time::Instant;

use ringbridge_dataplane::rtp::vp8::Descriptor;

/// Packets remembered; at 100,000 packets a second this is more than half a second.
const ENTRIES: usize = 1 << 16;
/// Packets that share one place of the index; the oldest makes room.
const WAYS: usize = 4;
/// Payload bytes kept of each.
const PAYLOAD: usize = 1500;

/// What was sent with a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// By which stream.
    pub stream: usize,
    /// Number of the packet in its stream.
    pub number: u64,
    /// The picture id of a VP8 descriptor, and its bits; Chromium leaves it out where it sends dependency descriptors.
    pub picture_id: Option<(u16, u32)>,
}

/// See the module. Allocates only when it is made.
pub struct Ledger {
    /// The latest packets, in a ring: hash, payload length, what was sent.
    sent: Vec<Option<(u64, usize, Sent)>>,
    payloads: Vec<u8>,
    next: usize,
    /// Places in the ring by hash, the newest first.
    index: Vec<[u32; WAYS]>,
    hasher: foldhash::fast::FixedState,
}

/// The part of a payload that no bridge may touch: all of it, but for VP8's descriptor, where picture ids are renumbered.
fn untouched(vp8: bool, payload: &[u8]) -> &[u8] {
    let skip = if vp8 { Descriptor::parse(payload).map_or(0, |descriptor| descriptor.len) } else { 0 };
    payload.get(skip..).unwrap_or(&[])
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            sent: vec![None; ENTRIES],
            payloads: vec![0; ENTRIES * PAYLOAD],
            next: 0,
            index: vec![[0; WAYS]; ENTRIES],
            hasher: foldhash::fast::FixedState::with_seed(0x72_69_6e_67),
        }
    }
}

impl Ledger {
    /// Notes a payload that goes out now.
    pub fn note(&mut self, vp8: bool, payload: &[u8], sent: Sent) {
        let kept = untouched(vp8, payload);
        let kept = &kept[..kept.len().min(PAYLOAD)];
        let hash = self.hasher.hash_one(kept);
        let place = self.next;
        self.next = (self.next + 1) % ENTRIES;
        self.payloads[place * PAYLOAD..][..kept.len()].copy_from_slice(kept);
        self.sent[place] = Some((hash, kept.len(), sent));
        let places = &mut self.index[hash as usize % ENTRIES];
        places.copy_within(..WAYS - 1, 1);
        places[0] = place as u32;
    }

    /// What was sent with this very payload, if it was; the latest of several.
    pub fn find(&self, vp8: bool, payload: &[u8]) -> Option<Sent> {
        let kept = untouched(vp8, payload);
        let hash = self.hasher.hash_one(kept);
        self.index[hash as usize % ENTRIES].iter().find_map(|place| {
            let (known, len, sent) = self.sent[*place as usize]?;
            (known == hash && self.payloads[*place as usize * PAYLOAD..][..len] == *kept).then_some(sent)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_payload_is_not_found() {
        let mut ledger = Ledger::default();
        let sent = Sent { at: Instant::now(), stream: 3, number: 77, picture_id: Some((258, 15)) };
        // A descriptor with a 15-bit picture id, then data.
        let mut payload = vec![0x90, 0x80, 0x81, 0x02, 1, 2, 3, 4];
        ledger.note(true, &payload, sent);
        payload[3] = 9;
        assert_eq!(ledger.find(true, &payload), Some(sent), "picture ids may differ");
        payload[6] ^= 1;
        assert_eq!(ledger.find(true, &payload), None);
        payload[6] ^= 1;
        assert_eq!(ledger.find(false, &payload), None, "another codec counts every byte");
    }
}
