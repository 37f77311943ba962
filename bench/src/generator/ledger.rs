//! What was sent lately: a receiver's packet is looked up by its payload, which shows when it was sent and that it
//! arrived unchanged.

use std::hash::BuildHasher;
use std::time::Instant;

use ringbridge_dataplane::rtp::vp8::Descriptor;

/// Packets remembered; at 100,000 packets a second, those of ten seconds.
const ENTRIES: usize = 1 << 20;

/// What was sent with a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Time at which it was sent.
    pub at: Instant,
    /// Index of the stream that sent it.
    pub stream: usize,
    /// Number of the packet in its stream.
    pub number: u64,
    /// The picture id of a VP8 descriptor, and its bits; Chromium leaves it out where it sends dependency descriptors.
    pub picture_id: Option<(u16, u32)>,
    /// Whether another participant had begun to send a keyframe shortly before.
    pub behind_keyframe: bool,
}

/// The payloads sent of late. Allocates only when it is made.
pub struct Ledger {
    /// The latest packets: a packet's slot is its serial number modulo their number.
    sent: Box<[Option<Entry>]>,
    /// Serial number of the next packet; the first is 1.
    next: u64,
    /// Serial number of the latest packet by hash; 0 is none.
    latest: Box<[u64]>,
    hasher: foldhash::fast::FixedState,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u64,
    /// Serial number of the latest packet before it that shares its slot in `latest`; 0 is none.
    before: u64,
    sent: Sent,
}

/// The part of a payload that no bridge may touch: all of it, but for VP8's descriptor, where picture ids are renumbered.
fn untouched(vp8: bool, payload: &[u8]) -> &[u8] {
    let skip = if vp8 { Descriptor::parse(payload).map_or(0, |descriptor| descriptor.len) } else { 0 };
    payload.get(skip..).unwrap_or(&[])
}

impl Default for Ledger {
    fn default() -> Self {
        Self::remembering(ENTRIES)
    }
}

impl Ledger {
    fn remembering(packets: usize) -> Self {
        Self {
            sent: vec![None; packets].into_boxed_slice(),
            next: 1,
            latest: vec![0; packets].into_boxed_slice(),
            hasher: foldhash::fast::FixedState::with_seed(0x72_69_6e_67),
        }
    }

    fn place(&self, number: u64) -> usize {
        (number % self.sent.len() as u64) as usize
    }

    /// The packet with a serial number, while it is remembered.
    fn entry(&self, serial: u64) -> Option<&Entry> {
        let remembered = serial != 0 && self.next - serial <= self.sent.len() as u64;
        self.sent[self.place(serial)].as_ref().filter(|_| remembered)
    }

    /// Records a payload that goes out now.
    pub fn note(&mut self, vp8: bool, payload: &[u8], sent: Sent) {
        let hash = self.hasher.hash_one(untouched(vp8, payload));
        let (bucket, place) = (self.place(hash), self.place(self.next));
        let latest = self.latest[bucket];
        // Of equal ones only the latest is asked for: silence does not make the way to the others long.
        let before = self.entry(latest).filter(|entry| entry.hash == hash).map_or(latest, |entry| entry.before);
        self.sent[place] = Some(Entry { hash, before, sent });
        self.latest[bucket] = self.next;
        self.next += 1;
    }

    /// What was sent with this very payload, if it was; the latest of several.
    pub fn find(&self, vp8: bool, payload: &[u8]) -> Option<Sent> {
        // 64 bits of hash detect a changed payload; keeping all bytes would take gigabytes.
        let hash = self.hasher.hash_one(untouched(vp8, payload));
        let mut entry = self.entry(self.latest[self.place(hash)])?;
        while entry.hash != hash {
            entry = self.entry(entry.before)?;
        }
        Some(entry.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_payload_is_not_found() {
        let mut ledger = Ledger::default();
        let sent =
            Sent { at: Instant::now(), stream: 3, number: 77, picture_id: Some((258, 15)), behind_keyframe: false };
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

    #[test]
    fn everything_is_found_as_long_as_it_is_remembered() {
        let at = Instant::now();
        let sent = |number| Sent { at, stream: 0, number, picture_id: None, behind_keyframe: false };
        let mut ledger = Ledger::remembering(1024);
        for number in 0..10_000u64 {
            ledger.note(false, &number.to_be_bytes(), sent(number));
            // Silence between any two.
            ledger.note(false, &[0xf8, 0xff, 0xfe], sent(number));
            let oldest = (2 * number + 2).saturating_sub(1024).div_ceil(2);
            if number % 100 == 0 {
                for known in oldest..=number {
                    assert_eq!(ledger.find(false, &known.to_be_bytes()), Some(sent(known)), "{known} at {number}");
                }
            }
            assert_eq!(ledger.find(false, &[0xf8, 0xff, 0xfe]), Some(sent(number)));
            if let Some(forgotten) = oldest.checked_sub(1) {
                assert_eq!(ledger.find(false, &forgotten.to_be_bytes()), None);
            }
            assert_eq!(ledger.find(false, &(number + 1).to_be_bytes()), None, "not sent yet");
        }
    }
}
