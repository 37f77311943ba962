//! Packets that came in one batch, opened and looked into, until they go to the receivers together.
//!
//! A receiver is given all packets of a batch before the next receiver is looked at: its keys and numbers are in the
//! processor's first cache by then, its packets lie side by side in the output, where the kernel takes them as one message,
//! and the output needs no more memory than stays in the second cache until the kernel has read it.

use std::ops::Range;
use std::sync::Arc;

use crate::conference::packet::info::PacketInfo;
use crate::conference::packet::payload::PayloadView;
use crate::congestion::active::ActiveLayers;
use crate::io::MAX_DATAGRAM;
use crate::negotiation::formats::Format;
use crate::negotiation::negotiated::Negotiated;

/// Most packets of a batch: one bit each in a word, and what one receiver is given of it is an eighth of the output.
pub const MAX_BATCH: usize = 32;

/// A set of packets of the batch, one bit each.
pub type Members = u32;

/// What waits. The default has no memory, and takes nothing.
#[derive(Debug, Default)]
pub struct Batch {
    waiting: Vec<Waiting>,
    bytes: Vec<u8>,
}

/// One packet, or the place of one that no receiver can be sent.
#[derive(Debug)]
pub struct Waiting {
    /// Index of its conference in the worker.
    pub conference: u32,
    /// Index of its source in the conference.
    pub source: usize,
    /// What is to be done.
    pub step: Step,
}

/// What is to be done with every receiver.
#[derive(Debug)]
pub enum Step {
    /// Send it.
    Forward {
        /// Where its bytes lie in the batch.
        bytes: Range<usize>,
        /// The rest.
        opened: Opened,
    },
    /// Close the numbering over it.
    Skip {
        /// Simulcast encoding.
        encoding: u8,
        /// Extended sequence number.
        sequence: i64,
    },
}

/// What is known of a packet that was opened, RTX undone.
#[derive(Debug)]
pub struct Opened {
    /// Its canonical format.
    pub format: Format,
    /// What its payload says.
    pub view: PayloadView,
    /// Its place in its stream.
    pub input: PacketInfo,
    /// What the sender sent when it came.
    pub active: ActiveLayers,
    /// The sender's numbers.
    pub sender: Arc<Negotiated>,
}

impl Batch {
    /// No packets, and memory for all that may come.
    pub fn new() -> Self {
        Self { waiting: Vec::with_capacity(MAX_BATCH), bytes: Vec::with_capacity(MAX_BATCH * MAX_DATAGRAM) }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether no other packet fits.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_BATCH || self.bytes.len() + MAX_DATAGRAM > self.bytes.capacity()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds a packet; false when there is no room.
    pub fn push(&mut self, conference: u32, source: usize, bytes: &[u8], opened: Opened) -> bool {
        let start = self.bytes.len();
        if self.waiting.len() >= MAX_BATCH || start + bytes.len() > self.bytes.capacity() {
            return false;
        }
        self.bytes.extend_from_slice(bytes);
        let step = Step::Forward { bytes: start..self.bytes.len(), opened };
        self.waiting.push(Waiting { conference, source, step });
        true
    }

    /// Adds the place of a packet that no receiver can be sent; false when there is no room.
    pub fn skip(&mut self, conference: u32, source: usize, encoding: u8, sequence: i64) -> bool {
        let fits = self.waiting.len() < MAX_BATCH;
        if fits {
            self.waiting.push(Waiting { conference, source, step: Step::Skip { encoding, sequence } });
        }
        fits
    }

    /// All that waits, in the order in which it came.
    pub fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// A packet's bytes.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or(&[])
    }

    /// The conference of the first packet that is not in `done`, and all packets of that conference.
    pub fn next_conference(&self, done: Members) -> Option<(u32, Members)> {
        let conference = self.waiting.get((!done).trailing_zeros() as usize)?.conference;
        let of_conference = |(i, waiting): (usize, &Waiting)| Members::from(waiting.conference == conference) << i;
        Some((conference, self.waiting.iter().enumerate().map(of_conference).fold(0, |members, one| members | one)))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.bytes.clear();
    }
}
