//! What one receiver gets of one source.

use std::time::{Duration, Instant};

use super::projection::{Outgoing, Projection};

/// Sent packets remembered for retransmission requests; a power of two.
const REMEMBERED: usize = 256;

/// The same packet is not repeated more often than this.
const REPEAT_INTERVAL: Duration = Duration::from_millis(20);

/// What is needed to send a packet again exactly as it was.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// The numbers that it left with.
    pub out: Outgoing,
    /// The encoding that it came from.
    pub encoding: u8,
    /// Its index there.
    pub index: u64,
    /// The transport-wide number that it left with.
    pub transport_cc: u16,
    at: Instant,
}

/// State that belongs to an outgoing SSRC rather than to the leg: it must survive while the receiver's keys live,
/// since a sequence number may not be used twice with one key.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutputStream {
    /// Sequence numbers, timestamps, picture ids.
    pub projection: Projection,
    /// Extended sequence number of the next retransmission.
    pub next_rtx: u64,
    /// Packets sent, for sender reports.
    pub packets: u32,
    /// Payload bytes sent, for sender reports.
    pub octets: u32,
}

/// One receiver of one source.
pub struct Leg {
    /// Index of the receiving endpoint.
    pub receiver: usize,
    /// The encoding that it should get.
    pub target: Option<u8>,
    /// The largest height that it wants, -1 unlimited; what `target` was chosen for.
    pub max_height: i32,
    /// The outgoing stream.
    pub stream: OutputStream,
    sent: Option<Box<[Option<Sent>]>>,
}

impl Leg {
    /// A leg that goes on with what was sent under this SSRC before. Video remembers what it sends.
    pub fn new(receiver: usize, video: bool, stream: OutputStream) -> Self {
        Self {
            receiver,
            // Audio has one encoding and goes to everybody.
            target: if video { None } else { Some(0) },
            max_height: 0,
            stream,
            sent: video.then(|| vec![None; REMEMBERED].into_boxed_slice()),
        }
    }

    /// Changes what the receiver should get.
    pub fn set_target(&mut self, target: Option<u8>) {
        if target.is_none() {
            self.stream.projection.suspend();
        }
        self.target = target;
    }

    /// Remembers a sent packet.
    pub fn remember(&mut self, now: Instant, out: Outgoing, encoding: u8, index: u64, transport_cc: u16) {
        if let Some(sent) = &mut self.sent {
            sent[out.index as usize % REMEMBERED] = Some(Sent { out, encoding, index, transport_cc, at: now });
        }
    }

    /// What left under this sequence number, unless it was (re)sent just now; notes that it is repeated.
    pub fn repeat(&mut self, now: Instant, sequence: u16) -> Option<Sent> {
        let cell = self.sent.as_mut()?.get_mut(usize::from(sequence) % REMEMBERED)?;
        let sent = cell.as_mut().filter(|sent| sent.out.index as u16 == sequence)?;
        if now.saturating_duration_since(sent.at) < REPEAT_INTERVAL {
            return None;
        }
        sent.at = now;
        Some(*sent)
    }
}
