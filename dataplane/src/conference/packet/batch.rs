//! Packets that came in one batch, opened and looked into, until they go to the receivers together.
//!
//! A receiver is given all packets of a batch before the next receiver is looked at: its keys and numbers are in the
//! processor's first cache by then, its packets lie side by side in the output, where the kernel takes them as one message,
//! and the output needs no more memory than stays in the second cache until the kernel has read it.

use std::ops::Range;

use super::ReceivedPacket;
use crate::datagram::MAX_DATAGRAM;
use crate::ids::{ConferenceIndex, SourceId};

/// Most packets of a batch: one bit each in a word, and what one receiver is given of it is an eighth of the output.
pub const MAX_BATCH: usize = 32;

/// A set of packets of the batch, one bit each.
pub type Members = u32;

/// What waits. The default has no memory, and takes nothing.
#[derive(Debug, Default)]
pub struct Batch {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

/// One packet, or the number of one that no receiver can be sent.
#[derive(Debug)]
pub struct Entry {
    /// Its conference in the worker.
    pub conference: ConferenceIndex,
    /// Its source in the conference.
    pub source: SourceId,
    /// What every receiver is to be given of it.
    pub action: Action,
}

/// What is to be done for every receiver.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most are of the large variant, and lie in memory that is there for the largest"
)]
pub enum Action {
    /// Send it.
    Forward {
        /// Where its bytes lie in the batch.
        bytes: Range<usize>,
        /// What was parsed.
        packet: ReceivedPacket,
    },
    /// Close the numbering over it.
    Skip {
        /// Simulcast encoding.
        encoding: u8,
        /// Extended sequence number.
        sequence: i64,
    },
}

impl Batch {
    /// No packets, and memory for all that may come.
    pub fn new() -> Self {
        Self { entries: Vec::with_capacity(MAX_BATCH), bytes: Vec::with_capacity(MAX_BATCH * MAX_DATAGRAM) }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether no other packet fits.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= MAX_BATCH || self.bytes.len() + MAX_DATAGRAM > self.bytes.capacity()
    }

    /// Adds a packet; false when there is no room.
    pub fn push(
        &mut self,
        conference: ConferenceIndex,
        source: SourceId,
        bytes: &[u8],
        packet: ReceivedPacket,
    ) -> bool {
        let start = self.bytes.len();
        if self.entries.len() >= MAX_BATCH || start + bytes.len() > self.bytes.capacity() {
            return false;
        }
        self.bytes.extend_from_slice(bytes);
        let action = Action::Forward { bytes: start..self.bytes.len(), packet };
        self.entries.push(Entry { conference, source, action });
        true
    }

    /// Adds the number of a packet that no receiver can be sent; false when there is no room.
    pub fn skip(&mut self, conference: ConferenceIndex, source: SourceId, encoding: u8, sequence: i64) -> bool {
        let fits = self.entries.len() < MAX_BATCH;
        if fits {
            self.entries.push(Entry { conference, source, action: Action::Skip { encoding, sequence } });
        }
        fits
    }

    /// All that waits, in the order in which it came.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// A packet's bytes.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or(&[])
    }

    /// The conference of the first packet that is not in `done`, and all packets of that conference.
    pub fn next_conference(&self, done: Members) -> Option<(ConferenceIndex, Members)> {
        let conference = self.entries.get((!done).trailing_zeros() as usize)?.conference;
        let of_it = |(i, entry): (usize, &Entry)| Members::from(entry.conference == conference) << i;
        Some((conference, self.entries.iter().enumerate().map(of_it).fold(0, |members, one| members | one)))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
    }
}
