//! Whether a participant's own keys opened what arrived. The library drops what they do not without a word.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;

/// Sequence numbers of a stream that are remembered: a packet that comes twice is opened once.
const REMEMBERED: usize = 1_024;

/// Encrypted packets of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Encrypted {
    /// RTP packets on SSRCs that were signalled; one that comes twice counts once.
    pub rtp: u64,
    /// RTCP packets.
    pub rtcp: u64,
    /// Those of both that did not authenticate, or whose index was taken for a replay.
    pub not_opened: u64,
}

/// What arrived, and what came out of it.
#[derive(Debug, Default)]
pub struct Opened {
    /// SSRCs that were signalled, and the latest sequence numbers on each; the first packets may come before the signalling.
    streams: BTreeMap<u32, Seen>,
    arrived: Encrypted,
    opened: (u64, u64),
    /// An RTCP packet is being read; it may come out as several, or as none that the library knows.
    reading_rtcp: bool,
}

#[derive(Debug, Default)]
struct Seen {
    order: VecDeque<u16>,
    set: BTreeSet<u16>,
}

impl Seen {
    /// Whether this is the first with the number.
    fn push(&mut self, sequence: u16) -> bool {
        if !self.set.insert(sequence) {
            return false;
        }
        self.order.push_back(sequence);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        true
    }
}

impl Opened {
    /// Packets on these SSRCs are expected.
    pub fn expect(&mut self, ssrcs: impl IntoIterator<Item = u32>) {
        for ssrc in ssrcs {
            self.streams.entry(ssrc).or_default();
        }
    }

    /// And on these no longer.
    pub fn forget(&mut self, ssrcs: impl IntoIterator<Item = u32>) {
        for ssrc in ssrcs {
            self.streams.remove(&ssrc);
        }
    }

    /// A datagram that the library is about to read.
    pub fn arrived(&mut self, datagram: &[u8]) {
        let Some((header, _)) = datagram.split_first_chunk::<12>() else { return };
        let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        match header {
            [first, ..] if first >> 6 != 2 => {}
            // RFC 5761 section 4.
            [_, 192..=223, ..] => {
                self.arrived.rtcp += 1;
                self.reading_rtcp = true;
            }
            [_, _, high, low, ..] => {
                let first = |seen: &mut Seen| seen.push(u16::from_be_bytes([*high, *low]));
                self.arrived.rtp += u64::from(self.streams.get_mut(&number(8)).is_some_and(first));
            }
        }
    }

    /// An RTP packet was opened.
    pub fn rtp(&mut self) {
        self.opened.0 += 1;
    }

    /// A part of an RTCP packet was opened.
    pub fn rtcp(&mut self) {
        self.opened.1 += u64::from(std::mem::take(&mut self.reading_rtcp));
    }

    /// The figures so far.
    pub fn encrypted(&self) -> Encrypted {
        let Encrypted { rtp, rtcp, .. } = self.arrived;
        let not_opened = rtp.saturating_sub(self.opened.0) + rtcp.saturating_sub(self.opened.1);
        Encrypted { rtp, rtcp, not_opened }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtp(sequence: u16, ssrc: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 111];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(ssrc.to_be_bytes());
        packet.extend([7; 20]);
        packet
    }

    #[test]
    fn what_is_not_opened_is_seen() {
        let mut opened = Opened::default();
        opened.expect([1, 2]);
        for sequence in 0..3_000 {
            opened.arrived(&rtp(sequence, 1));
            opened.rtp();
        }
        assert_eq!(opened.encrypted(), Encrypted { rtp: 3_000, rtcp: 0, not_opened: 0 });
        // Twice, of an SSRC that nobody signalled, no media, and too short.
        opened.arrived(&rtp(2_999, 1));
        opened.arrived(&rtp(1, 3));
        opened.arrived(&[22; 40]);
        opened.arrived(&[0x80]);
        assert_eq!(opened.encrypted().not_opened, 0);
        opened.arrived(&rtp(1, 2));
        let mut report = rtp(0, 9);
        report[1] = 201;
        opened.arrived(&report);
        assert_eq!(opened.encrypted(), Encrypted { rtp: 3_001, rtcp: 1, not_opened: 2 });
        opened.rtcp();
        opened.rtcp();
        assert_eq!(opened.encrypted().not_opened, 1);
        opened.forget([2]);
        opened.arrived(&rtp(2, 2));
        assert_eq!(opened.encrypted().not_opened, 1);
    }
}
