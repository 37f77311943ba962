//! What one receiver got: every packet is counted, those of a sampled receiver are decrypted and compared.

use std::time::Instant;

use bytes::Bytes;
use hdrhistogram::Histogram;
use ringbridge_dataplane::ids::PayloadType;
use ringbridge_dataplane::media::MediaKind;
use ringbridge_dataplane::rtp::Packet;
use ringbridge_dataplane::rtp::vp8::Descriptor;
use webrtc_srtp::context::Context;

use super::ledger::{Ledger, Sent};
use super::media_numbers::Numbers;
use crate::media::Codec;

/// What a receiver expects of the streams that it is sent.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Its payload types, where the bridge is known to keep to them.
    pub numbers: Option<Numbers>,
}

/// Sums over receivers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// RTP packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// RTCP packets.
    pub rtcp: u64,
    /// Audio among the packets, by payload type.
    pub audio: u64,
    /// Audio among the missing ones.
    pub audio_lost: u64,
    /// Missing sequence numbers.
    pub lost: u64,
    /// Packets that came late or twice.
    pub disordered: u64,
    /// Packets that a sampled receiver decrypted and found equal to what was sent.
    pub verified: u64,
    /// The same that did not decrypt, differ, or bear a wrong payload type or picture id.
    pub wrong: u64,
}

impl Counts {
    /// Adds another receiver's counts.
    pub fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.rtcp += other.rtcp;
        self.audio += other.audio;
        self.audio_lost += other.audio_lost;
        self.lost += other.lost;
        self.disordered += other.disordered;
        self.verified += other.verified;
        self.wrong += other.wrong;
    }
}

/// Sequence of one incoming SSRC.
#[derive(Debug, Clone, Copy)]
struct Incoming {
    ssrc: u32,
    highest: u16,
    /// Packets since the last [`Receiver::reset`].
    packets: u64,
    /// Of the latest picture that was verified.
    picture: Option<Picture>,
}

/// A picture as it was sent and as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Picture {
    /// Number of its packet in the stream.
    number: u64,
    sent: u16,
    came: u16,
}

/// Picture ids are renumbered by a bridge: one that was sent after another must not come as an earlier one. Senders may
/// repeat packets late, so that only their ids show which picture is later.
fn verify_picture(
    latest: Option<Picture>,
    sent: &Sent,
    came: Option<(u16, u32)>,
) -> Result<Option<Picture>, &'static str> {
    let ((id, bits), (came, came_bits)) = match (sent.picture_id, came) {
        (Some(sent), Some(came)) => (sent, came),
        (Some(_), None) => return Err("a picture id is gone"),
        (None, Some(_)) => return Err("a picture id was never sent"),
        (None, None) => return Ok(latest),
    };
    let picture = Picture { number: sent.number, sent: id, came };
    let Some(last) = latest else { return Ok(Some(picture)) };
    let later = |bits: u32, of: u16, than: u16| of.wrapping_sub(than) & ((1 << bits) - 1) < 1 << (bits - 1);
    if sent.number <= last.number || !later(bits, id, last.sent) {
        return Ok(latest);
    }
    if !later(came_bits, came, last.came) {
        return Err("a picture id goes backwards");
    }
    Ok(Some(picture))
}

/// Added latencies, nanoseconds.
#[derive(Debug, Clone)]
pub struct Latency {
    /// Of all packets.
    pub all: Histogram<u64>,
    /// Of those of audio.
    pub audio: Histogram<u64>,
    /// Of those of video.
    pub video: Histogram<u64>,
    /// Of those whose sender is on another bridge than the receiver.
    pub across: Histogram<u64>,
    /// Of those of audio that were sent shortly after another participant's keyframe.
    pub audio_behind_keyframe: Histogram<u64>,
}

impl Latency {
    fn note(&mut self, kind: MediaKind, sent: &Sent, across: bool, now: Instant) {
        let nanos = now.saturating_duration_since(sent.at).as_nanos() as u64;
        let audio = kind == MediaKind::Audio;
        let of_kind = if audio { &mut self.audio } else { &mut self.video };
        // Saturates beyond a minute, which no bridge needs.
        of_kind.saturating_record(nanos);
        self.all.saturating_record(nanos);
        if across {
            self.across.saturating_record(nanos);
        }
        if audio && sent.behind_keyframe {
            self.audio_behind_keyframe.saturating_record(nanos);
        }
    }

    /// Of those whose sender is on the receiver's bridge.
    pub fn within(&self) -> Histogram<u64> {
        let mut within = self.all.clone();
        // A part of it, with the same bounds.
        let _ = within.subtract(&self.across);
        within
    }

    /// Forgets all of them.
    pub fn reset(&mut self) {
        let Self { all, audio, video, across, audio_behind_keyframe } = self;
        [all, audio, video, across, audio_behind_keyframe].into_iter().for_each(Histogram::reset);
    }
}

impl Default for Latency {
    fn default() -> Self {
        let [all, audio, video, across, audio_behind_keyframe] = std::array::from_fn(|_| latencies());
        Self { all, audio, video, across, audio_behind_keyframe }
    }
}

/// Up to a minute in nanoseconds, three digits.
fn latencies() -> Histogram<u64> {
    let made = Histogram::new_with_bounds(1, 60_000_000_000, 3);
    // These bounds are valid for the crate: 2 * low <= high, and at most five digits.
    made.unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// A quantile of nanoseconds, in microseconds.
pub fn micros(nanos: &Histogram<u64>, quantile: f64) -> f64 {
    nanos.value_at_quantile(quantile) as f64 / 1e3
}

/// What a sampled receiver's packets are compared with.
pub struct Oracle<'a> {
    /// Decrypts what this receiver gets.
    pub open: &'a mut Context,
    /// What was sent.
    pub ledger: &'a Ledger,
    /// Codecs by stream.
    pub codecs: &'a [Codec],
    /// Bridges by stream, and the receiver's own.
    pub bridges: (&'a [usize], usize),
    /// Where latencies are recorded.
    pub latency: &'a mut Latency,
}

/// One receiver and what it has counted.
pub struct Receiver {
    /// What was counted since the last [`Self::reset`].
    pub counts: Counts,
    /// The first thing that was wrong.
    pub complaint: Option<String>,
    sampled: bool,
    expected: Expected,
    incoming: Vec<Incoming>,
}

impl Receiver {
    /// A receiver; `sampled` ones decrypt.
    pub fn new(sampled: bool, expected: Expected) -> Self {
        Self { counts: Counts::default(), complaint: None, sampled, expected, incoming: Vec::with_capacity(64) }
    }

    /// Starts counting anew; sequences go on.
    pub fn reset(&mut self) {
        self.counts = Counts::default();
        self.incoming.iter_mut().for_each(|incoming| incoming.packets = 0);
    }

    /// Packets since the last reset by SSRC.
    pub fn heard(&self) -> impl Iterator<Item = (u32, u64)> {
        self.incoming.iter().map(|incoming| (incoming.ssrc, incoming.packets))
    }

    /// Takes one SRTP packet; a sampled receiver with keys asks the oracle.
    pub fn handle_rtp(&mut self, now: Instant, datagram: &[u8], oracle: Option<Oracle<'_>>) {
        let [_, second, s0, s1, _, _, _, _, a, b, c, d, ..] = *datagram else {
            return self.complain("an RTP packet is cut");
        };
        let (sequence, ssrc) = (u16::from_be_bytes([s0, s1]), u32::from_be_bytes([a, b, c, d]));
        self.counts.packets += 1;
        self.counts.bytes += datagram.len() as u64;
        let audio = self.is_audio(PayloadType::from_low_bits(second));
        self.counts.audio += u64::from(audio);
        let at = match self.incoming.iter().position(|incoming| incoming.ssrc == ssrc) {
            Some(at) => {
                let ahead = sequence.wrapping_sub(self.incoming[at].highest);
                if ahead == 0 || ahead > 0x8000 {
                    // It was counted as lost when a later one came first.
                    self.counts.lost = self.counts.lost.saturating_sub(u64::from(ahead != 0));
                    self.counts.disordered += 1;
                } else {
                    let skipped = u64::from(ahead) - 1;
                    self.counts.lost += skipped;
                    self.counts.audio_lost += if audio { skipped } else { 0 };
                    self.incoming[at].highest = sequence;
                }
                at
            }
            None => {
                self.incoming.push(Incoming { ssrc, highest: sequence, packets: 0, picture: None });
                self.incoming.len() - 1
            }
        };
        self.incoming[at].packets += 1;
        if let Some(oracle) = oracle.filter(|_| self.sampled) {
            match self.verify(now, at, datagram, oracle) {
                Ok(()) => self.counts.verified += 1,
                Err(complaint) => self.complain(complaint),
            }
        }
    }

    fn verify(
        &mut self,
        now: Instant,
        at: usize,
        datagram: &[u8],
        Oracle { open, ledger, codecs, bridges, latency }: Oracle<'_>,
    ) -> Result<(), &'static str> {
        let plain: Bytes = open.decrypt_rtp(datagram).map_err(|_| "a packet does not decrypt")?;
        let packet = Packet::parse(&plain).map_err(|_| "a packet does not parse")?;
        let payload = packet.payload();
        let found = ledger.find(true, payload).or_else(|| ledger.find(false, payload));
        let sent = found.ok_or("a payload was never sent, or more than a million packets ago")?;
        let Some(&codec) = codecs.get(sent.stream) else { return Err("a stream does not exist") };
        if self.expected.numbers.is_some_and(|numbers| numbers.payload_type(codec) != packet.payload_type()) {
            return Err("a payload type is not the receiver's own");
        }
        let across = bridges.0.get(sent.stream).is_some_and(|bridge| *bridge != bridges.1);
        latency.note(codec.kind(), &sent, across, now);
        if codec == Codec::Vp8 {
            let descriptor = Descriptor::parse(payload).ok();
            let id = descriptor.and_then(|d| Some((d.picture_id?, if d.long_picture_id { 15 } else { 7 })));
            self.incoming[at].picture = verify_picture(self.incoming[at].picture, &sent, id)?;
        }
        Ok(())
    }

    fn is_audio(&self, payload_type: PayloadType) -> bool {
        let numbers = self.expected.numbers.unwrap_or(Numbers::USUAL);
        payload_type == numbers.payload_type(Codec::Opus)
    }

    fn complain(&mut self, complaint: &str) {
        self.counts.wrong += 1;
        self.complaint.get_or_insert_with(|| complaint.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_goes_backwards_only_if_it_was_sent_forwards() {
        let check = |pairs: &[(u16, u16)], sent_bits, came_bits| {
            let (mut latest, mut number) = (None, 0);
            pairs.iter().try_for_each(|(id, came)| {
                number += 1;
                let (at, picture_id) = (Instant::now(), Some((*id, sent_bits)));
                let sent = Sent { at, stream: 0, number, picture_id, behind_keyframe: false };
                latest = verify_picture(latest, &sent, Some((*came, came_bits)))?;
                Ok::<_, &str>(())
            })
        };
        assert_eq!(check(&[(1, 11), (2, 12), (1, 11), (3, 13)], 15, 15), Ok(()), "a late repetition");
        assert_eq!(check(&[(59, 59), (0, 0), (1, 1), (60, 60)], 15, 15), Ok(()), "a sender that begins anew");
        assert_eq!(check(&[(126, 126), (127, 127), (0, 0), (1, 1)], 7, 7), Ok(()), "seven bits wrap");
        assert_eq!(check(&[(127, 127), (0, 128)], 7, 15), Ok(()), "seven bits made fifteen");
        assert_eq!(check(&[(0x7fff, 5), (0, 6)], 15, 15), Ok(()), "fifteen bits wrap");
        assert!(check(&[(1, 11), (2, 10)], 15, 15).is_err());
        assert!(check(&[(127, 127), (0, 0)], 7, 15).is_err(), "a bridge that makes fifteen bits must go on");
    }
}
