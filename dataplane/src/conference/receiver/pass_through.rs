//! What a relay gets of a source: every encoding that somebody behind it wants, each on its own SSRC, under the sender's
//! timestamps and picture numbers. Sequence numbers are the sender's, too, for as long as nothing is left out: then they close up,
//! so that the other bridge neither misses what was not meant for it, nor loses count of the roll-overs (RFC 3711 section 3.3.1).

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Receiver;
use super::delivery::{Missing, count_not_sent};
use super::keyframe::Throttle;
use super::projection::Output;
use super::resent::Resent;
use super::rewrite::{self, Delivery, Outgoing};
use super::subscription::{Sent, Stream};
use crate::conference::packet::cache::{KeptHeader, PacketCache, PacketKey};
use crate::conference::packet::frame::Entry;
use crate::conference::packet::{MediaPacket, ReceivedPacket};
use crate::congestion::reorder::{self, Moves};
use crate::datagram::PacketSink;
use crate::ids::{ParticipantId, SourceId, Ssrc};
use crate::media::{Limit, MediaKind};
use crate::negotiation::negotiated::Negotiated;
use crate::stats::Counter;

/// Jumps of the sender beyond this are closed instead of passed on.
const MAX_JUMP: i64 = 1000;
/// Runs that late packets and repetitions are found in.
const RUNS: usize = 4;
/// Whoever begins with a number this close to a roll-over is moved away from it: were the first packets lost, the other bridge
/// would never learn that there was one.
const CLOSE_TO_ROLL_OVER: i64 = 8_192;

/// A link that loses more than one packet in so many is lossy. Of a receiver's own path that is three in a hundred; a link carries one copy
/// for everybody behind it, and what is lost there is lost to all of them.
const LOSSY: u64 = 100;
/// How long losses are counted before they are judged, how many there have to be, and how long the verdict holds while nothing is asked for.
const COUNTED: Duration = Duration::from_secs(2);
const LEAST_LOST: u32 = 3;
const HOLDS: Duration = Duration::from_secs(10);

/// What another bridge asks for again, beside what it was sent: there is no other feedback on a link.
#[derive(Debug, Default)]
struct Losses {
    /// When it is counted from, and what had gone out then.
    since: Option<(Instant, u64)>,
    repeated: u32,
    lossy: bool,
}

impl Losses {
    /// Records that a packet had to be repeated when so many had gone out.
    fn note(&mut self, now: Instant, sent: u64) {
        let (since, before) = *self.since.get_or_insert((now, sent));
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= HOLDS {
            *self = Self { since: Some((now, sent)), repeated: 1, lossy: false };
            return;
        }
        self.repeated += 1;
        if elapsed >= COUNTED {
            let lossy = self.repeated >= LEAST_LOST && u64::from(self.repeated) * LOSSY > sent.saturating_sub(before);
            *self = Self { since: Some((now, sent)), repeated: 0, lossy };
        }
    }

    fn is_lossy(&self, now: Instant) -> bool {
        self.lossy && self.since.is_some_and(|(since, _)| now.saturating_duration_since(since) < HOLDS)
    }
}

/// Where numbers out differ from numbers in by a constant.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Run {
    /// First number of the source.
    #[serde(with = "crate::carry::checked")]
    from: i64,
    /// The packet index that it went out under; the next run's is where this one ends.
    #[serde(deserialize_with = "crate::carry::checked::or_never")]
    index: i64,
}

impl Run {
    /// Nothing ever went out under it.
    const EMPTY: Self = Self { from: 0, index: i64::MAX };
}

/// One encoding towards one relay.
#[derive(Debug, Serialize, Deserialize)]
struct Lane {
    ssrc: Ssrc,
    /// Whether somebody behind the relay wants it.
    wanted: bool,
    /// Whether its packets go at the moment; else they begin with a keyframe.
    flows: bool,
    /// The newest first.
    runs: [Run; RUNS],
    /// The next packet index; none before the first packet.
    #[serde(with = "crate::carry::checked")]
    next: Option<i64>,
    /// First index that may be used again: earlier ones went out under other numbers, and would not be the same bytes.
    #[serde(with = "crate::carry::checked")]
    repeat_from: i64,
    /// For sender reports.
    sent: Sent,
}

/// Why a packet does not go to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It is of before what went out.
    Late,
    /// Nothing goes before a keyframe.
    AwaitsKeyframe,
}

impl Lane {
    fn new(ssrc: Ssrc, next: Option<i64>) -> Self {
        Self {
            ssrc,
            wanted: false,
            flows: false,
            runs: [Run::EMPTY; RUNS],
            next,
            repeat_from: next.unwrap_or(0),
            sent: Sent::default(),
        }
    }

    /// What follows has to start at a keyframe.
    fn stop(&mut self) {
        self.flows = false;
    }

    /// The sender starts counting anew; here the count goes on.
    fn restart(&mut self) {
        (self.flows, self.runs) = (false, [Run::EMPTY; RUNS]);
    }

    fn begin(&mut self, from: i64, index: i64) {
        self.runs.rotate_right(1);
        self.runs[0] = Run { from, index };
    }

    /// The packet index that a packet goes out under.
    #[inline]
    fn index(&mut self, sequence: i64, entry: Entry) -> Result<i64, Left> {
        let [newest, older @ ..] = &self.runs;
        if self.flows {
            let Some(next) = self.next else { return Err(Left::Late) };
            if sequence >= newest.from {
                let index = newest.index + (sequence - newest.from);
                if index - next <= MAX_JUMP {
                    self.next = Some(next.max(index + 1));
                    return Ok(index);
                }
            } else {
                let mut end = newest.index;
                for run in older {
                    if sequence >= run.from && run.index < end {
                        let index = run.index + (sequence - run.from);
                        return if index < end { Ok(index) } else { Err(Left::Late) };
                    }
                    end = run.index.min(end);
                }
                return Err(Left::Late);
            }
        } else if entry == Entry::Delta {
            return Err(Left::AwaitsKeyframe);
        }
        let index = self.next.unwrap_or_else(|| first_index(sequence));
        self.begin(sequence, index);
        (self.flows, self.next) = (true, Some(index + 1));
        Ok(index)
    }

    /// A packet goes to nobody, or not to this relay: the numbers close up over it, if none after it went out.
    fn leave_out(&mut self, sequence: i64) {
        let [newest, ..] = self.runs;
        let index = newest.index.wrapping_add(sequence - newest.from);
        if !self.flows || sequence < newest.from || self.next != Some(index) {
            return;
        }
        if newest.index == index {
            // Nothing went out in this run: it begins later.
            self.runs[0].from = sequence + 1;
        } else {
            self.begin(sequence + 1, index);
        }
    }

    /// The packet index of a number that went out, and the number of the source that it had.
    fn origin(&self, sequence: u16) -> Option<(i64, i64)> {
        let next = self.next?;
        let index = next + i64::from(sequence.wrapping_sub(next as u16) as i16);
        let run = self.runs.iter().find(|run| run.index <= index)?;
        (index < next).then(|| (index, run.from + (index - run.index)))
    }
}

/// The packet index of the first packet: the sender's number, where that is not too close to a roll-over.
fn first_index(sequence: i64) -> i64 {
    let number = sequence & 0xffff;
    if number >= 0x1_0000 - CLOSE_TO_ROLL_OVER { number - 0x8000 } else { number }
}

/// One relay that a source goes to, and everything that belongs to the pair.
#[derive(Debug, Serialize, Deserialize)]
pub struct PassThrough {
    relay: ParticipantId,
    /// What those behind the relay want of video; none before they said so.
    demand: Option<Limit>,
    /// By the position of the encoding.
    lanes: Vec<Lane>,
    /// Holds back the relay's own keyframe requests.
    requests: Throttle,
    resent: Option<Box<Resent>>,
    /// Counted anew after a hand-over to another process.
    #[serde(skip)]
    losses: Losses,
}

/// A packet that a relay misses, and where it is found.
#[derive(Clone, Copy)]
pub struct Missed<'a> {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// Its number there.
    pub sequence: u16,
    /// The source's recent packets.
    pub cache: &'a PacketCache,
    /// The source.
    pub source: SourceId,
    /// The sender's numbers.
    pub sender: &'a Negotiated,
}

impl PassThrough {
    /// A source that nothing went out of to a relay; `lanes` are the SSRCs of its encodings and where their packet indices go on.
    pub fn new(relay: ParticipantId, demand: Option<Limit>, lanes: impl Iterator<Item = (Ssrc, Option<i64>)>) -> Self {
        let lanes = lanes.map(|(ssrc, next)| Lane::new(ssrc, next)).collect();
        Self { relay, demand, lanes, requests: Throttle::default(), resent: None, losses: Losses::default() }
    }

    /// The relay.
    #[inline]
    pub fn relay(&self) -> ParticipantId {
        self.relay
    }

    /// What those behind the relay want of video; none before they said so.
    pub fn demand(&self) -> Option<Limit> {
        self.demand
    }

    /// Takes what is wanted there from now on.
    pub fn set_demand(&mut self, demand: Option<Limit>) {
        self.demand = demand;
    }

    /// Whether any of it goes there.
    pub fn is_wanted(&self) -> bool {
        self.lanes.iter().any(|lane| lane.wanted)
    }

    /// The SSRCs of its encodings, by position.
    pub fn ssrcs(&self) -> impl Iterator<Item = Ssrc> {
        self.lanes.iter().map(|lane| lane.ssrc)
    }

    /// Where the packet indices of its SSRCs have got to, of those that something went out on.
    pub fn indices(&self) -> impl Iterator<Item = (Ssrc, i64)> {
        self.lanes.iter().filter_map(|lane| Some((lane.ssrc, lane.next?)))
    }

    /// Decides which encodings go: audio always; of video those within what is wanted, the lowest one in any case, and those of
    /// unknown height. `heights` are by position; `active` has a bit for each encoding that the sender sends.
    pub fn aim(&mut self, kind: MediaKind, heights: impl Iterator<Item = Option<u16>>, active: u8) {
        let limit = self.demand.unwrap_or(Limit::Off);
        // Where the lower ones are switched off, the lowest of those that come.
        let lowest = if active == 0 { usize::MAX } else { active.trailing_zeros() as usize };
        for ((at, lane), height) in self.lanes.iter_mut().enumerate().zip(heights) {
            let fits = height.is_none_or(|height| limit.allows(u32::from(height)));
            lane.wanted = kind == MediaKind::Audio || (limit.is_on() && (at <= lowest || fits));
            if !lane.wanted {
                // Here, because a source that nobody wants does not even cross to this worker.
                lane.stop();
            }
        }
    }

    /// Gives the relay a packet of the source, if it is to have it. Returns what it lacks to go on.
    #[inline]
    pub fn deliver(
        &mut self,
        packet: &MediaPacket<'_>,
        received: &ReceivedPacket,
        receiver: &mut Receiver,
        delivery: &mut Delivery<'_, impl PacketSink>,
    ) -> Option<Missing> {
        let info = &received.info;
        let lane = self.lanes.get_mut(usize::from(info.encoding))?;
        if !lane.wanted {
            delivery.stats.count(Counter::RelayUnwanted);
            return None;
        }
        if !receiver.is_ready() {
            lane.stop();
            return None;
        }
        let Some(shape) = rewrite::shape_aside(packet, delivery.translate, &receiver.negotiated().formats) else {
            delivery.stats.count(Counter::DropReceiverLacksCodec);
            lane.leave_out(info.sequence);
            return None;
        };
        let index = match lane.index(info.sequence, info.entry) {
            Ok(index) => index,
            Err(Left::Late) => {
                delivery.stats.count(Counter::DropRelayLate);
                return None;
            }
            Err(Left::AwaitsKeyframe) => {
                delivery.stats.count(Counter::RelayAwaitsKeyframe);
                return self.requests.ready(delivery.now).then_some(Missing::Keyframe(info.encoding));
            }
        };
        let output = Output { sequence: index, timestamp: info.timestamp, picture: info.picture, ends_picture: false };
        let outgoing = Outgoing { output, stream: Stream { ssrc: lane.ssrc, mid: None, rtx: None }, shape };
        match rewrite::send_verbatim(packet, &outgoing, receiver, delivery) {
            Ok(payload) => {
                delivery.forwarded += 1;
                lane.sent.count(payload);
            }
            Err(error) => count_not_sent(error, delivery.stats),
        }
        None
    }

    /// Closes the numbering over a packet that nobody is sent.
    #[inline]
    pub fn skip(&mut self, encoding: u8, sequence: i64) {
        if let Some(lane) = self.lanes.get_mut(usize::from(encoding)) {
            lane.leave_out(sequence);
        }
    }

    /// Sends a packet that the relay misses again, as it went out first: the same number, the same bytes, on the same SSRC. Twice where much
    /// is lost: what is lost again comes a whole round trip later.
    pub fn resend(
        &mut self,
        missed: &Missed<'_>,
        receiver: &mut Receiver,
        delivery: &mut Delivery<'_, impl PacketSink>,
    ) {
        let Some((encoding, lane)) = (0u8..).zip(&mut self.lanes).find(|(_, lane)| lane.ssrc == missed.ssrc) else {
            return;
        };
        let Some((index, number)) = lane.origin(missed.sequence) else { return };
        let copies = if self.losses.is_lossy(delivery.now) { 2 } else { 1 };
        if self.repeat(missed, (encoding, index, number), copies, receiver, delivery) {
            let sent = self.lanes.iter().map(|lane| u64::from(lane.sent.packets)).sum();
            self.losses.note(delivery.now, sent);
        }
    }

    /// Sends the last packet of a picture once more where much is lost: the other bridge would notice its loss only when the next picture
    /// comes. `sequence` is its number in the source.
    pub fn guard(
        &mut self,
        (encoding, sequence): (u8, i64),
        kept: (&PacketCache, SourceId, &Negotiated),
        receiver: &mut Receiver,
        delivery: &mut Delivery<'_, impl PacketSink>,
    ) {
        let Some(lane) = self.lanes.get(usize::from(encoding)).filter(|lane| lane.wanted && lane.flows) else { return };
        let [newest, ..] = lane.runs;
        let index = newest.index.wrapping_add(sequence - newest.from);
        if sequence < newest.from || lane.next.is_none_or(|next| index >= next) {
            return;
        }
        let (cache, source, sender) = kept;
        let missed = Missed { ssrc: lane.ssrc, sequence: index as u16, cache, source, sender };
        self.repeat(&missed, (encoding, index, sequence), 1, receiver, delivery);
    }

    /// Whether so much is lost on the way to the relay that [`Self::guard`] is worth it.
    pub fn is_lossy(&self, now: Instant) -> bool {
        self.losses.is_lossy(now)
    }

    /// Sends a packet so many times, under the index that it went out under; true when it went.
    fn repeat(
        &mut self,
        missed: &Missed<'_>,
        (encoding, index, number): (u8, i64, i64),
        copies: usize,
        receiver: &mut Receiver,
        delivery: &mut Delivery<'_, impl PacketSink>,
    ) -> bool {
        let Some(lane) = self.lanes.get_mut(usize::from(encoding)) else { return false };
        let Some((bytes, cached)) = missed.cache.get(PacketKey { encoding, sequence: number }) else {
            delivery.stats.count(Counter::NackCacheMiss);
            return false;
        };
        if index < lane.repeat_from || !receiver.may_repeat_index() {
            delivery.stats.count(Counter::DropCannotRepeat);
            return false;
        }
        let Some(header) = KeptHeader::parse(MediaKind::Video, bytes, missed.sender) else { return false };
        let packet = cached.media((missed.source, MediaKind::Video), (&header, bytes), missed.sender);
        let Some(packet) = packet else { return false };
        let shape = rewrite::shape_aside(&packet, delivery.translate, &receiver.negotiated().formats);
        let Some(shape) = shape.filter(|_| {
            let resent = self.resent.get_or_insert_default();
            resent.may(delivery.now, (encoding, missed.sequence), receiver.rtt())
        }) else {
            return false;
        };
        let timestamp = packet.rtp.timestamp();
        let output = Output { sequence: index, timestamp, picture: cached.picture, ends_picture: false };
        let outgoing = Outgoing { output, stream: Stream { ssrc: lane.ssrc, mid: None, rtx: None }, shape };
        let mut any = false;
        for _ in 0..copies {
            if !receiver.pays_for_repeat(delivery.now, delivery.worker_time, bytes.len()) {
                delivery.stats.count(Counter::DropRepairBudget);
                break;
            }
            match rewrite::send_verbatim(&packet, &outgoing, receiver, delivery) {
                Ok(payload) => {
                    delivery.stats.count(Counter::Retransmissions);
                    lane.sent.count(payload);
                    any = true;
                }
                Err(error) => {
                    count_not_sent(error, delivery.stats);
                    break;
                }
            }
        }
        any
    }

    /// What a sender report of an encoding is to say: the SSRC, and what was sent on it. Nothing before something was.
    pub fn report(&self, encoding: u8) -> Option<(Ssrc, Sent)> {
        let lane = self.lanes.get(usize::from(encoding))?;
        (lane.flows && lane.sent.packets > 0).then_some((lane.ssrc, lane.sent))
    }

    /// The encoding that goes out on an SSRC, if somebody behind the relay wants it.
    pub fn wanted_on(&self, ssrc: Ssrc) -> Option<u8> {
        (0u8..).zip(&self.lanes).find(|(_, lane)| lane.ssrc == ssrc && lane.wanted).map(|(encoding, _)| encoding)
    }

    /// The relay asks for a keyframe: false when it did so just before.
    pub fn may_request_keyframe(&mut self, now: Instant) -> bool {
        let may = self.requests.ready(now);
        if may {
            self.requests.used(now);
        }
        may
    }

    /// The sender starts anew; the relay sees the streams go on.
    pub fn restart(&mut self) {
        self.lanes.iter_mut().for_each(Lane::restart);
    }

    /// The relay has new keys: all counting starts anew.
    pub fn restart_counting(&mut self) {
        for lane in &mut self.lanes {
            *lane = Lane { wanted: lane.wanted, ..Lane::new(lane.ssrc, None) };
        }
    }

    /// The relay's numbers are others from now on: what went out before cannot go out again as it was.
    pub fn renegotiated(&mut self) {
        for lane in &mut self.lanes {
            lane.repeat_from = lane.next.unwrap_or(0);
        }
    }

    /// The encodings of its source have other positions from now on.
    pub fn renumber(&mut self, moves: &Moves) {
        reorder::permute(&mut self.lanes, moves);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_the_senders_until_something_is_left_out() {
        let mut lane = Lane::new(Ssrc::new(1), None);
        assert_eq!(lane.index(1000, Entry::Delta), Err(Left::AwaitsKeyframe));
        assert_eq!(lane.index(1001, Entry::Keyframe), Ok(1001));
        assert_eq!([1004, 1003].map(|sequence| lane.index(sequence, Entry::Delta)), [Ok(1004), Ok(1003)]);
        assert_eq!(lane.index(1000, Entry::Delta), Err(Left::Late));
        lane.leave_out(1005);
        assert_eq!(lane.index(1006, Entry::Delta), Ok(1005));
        assert_eq!(lane.index(1002, Entry::Delta), Ok(1002), "late, of before what was left out");
        assert_eq!(lane.index(1005, Entry::Delta), Err(Left::Late), "its number is another one's");
        assert_eq!((lane.origin(1005), lane.origin(1004)), (Some((1005, 1006)), Some((1004, 1004))));
        assert_eq!((lane.origin(1006), lane.origin(1000)), (None, None));
        lane.stop();
        assert_eq!(lane.index(5000, Entry::Delta), Err(Left::AwaitsKeyframe));
        assert_eq!(lane.index(5001, Entry::Keyframe), Ok(1006));
        lane.restart();
        assert_eq!(lane.index(3, Entry::Keyframe), Ok(1007));
        assert_eq!(lane.origin(1006), None, "of before the sender started anew");
        assert_eq!(lane.index(3 + 2 * MAX_JUMP, Entry::Delta), Ok(1008), "too far to be lost packets");
    }

    #[test]
    fn a_link_is_lossy_while_more_than_one_packet_in_a_hundred_is_asked_for() {
        let (start, millis) = (Instant::now(), Duration::from_millis);
        // So many packets between two of them that are asked for, one of those each 100 ms, for 5 s.
        let judge = |between: u64| {
            let mut losses = Losses::default();
            (1..=50u32).for_each(|n| losses.note(start + millis(100) * n, between * u64::from(n)));
            losses
        };
        for (between, lossy) in [(20, true), (90, true), (120, false), (5_000, false)] {
            assert_eq!(judge(between).is_lossy(start + millis(5_000)), lossy, "one in {between}");
        }
        let mut losses = judge(50);
        assert!(!losses.is_lossy(start + millis(5_000) + HOLDS), "nothing was asked for since");
        losses.note(start + millis(5_000) + HOLDS, 100_000);
        assert!(!losses.is_lossy(start + millis(5_000) + HOLDS), "one loss after that says nothing yet");
        let mut few = Losses::default();
        [0, 2_500].into_iter().for_each(|at| few.note(start + millis(at), 1));
        assert!(!few.is_lossy(start + millis(2_500)), "two of hardly any");
    }

    #[test]
    fn first_numbers_keep_away_from_the_roll_over() {
        for (sequence, index) in [(0, 0), (40_000, 40_000), (57_343, 57_343), (57_344, 24_576), (65_535, 32_767)] {
            for roll_overs in [0, 1, 70_000] {
                assert_eq!(first_index(sequence + (roll_overs << 16)), index);
            }
        }
    }

    proptest! {
        /// Whatever is lost, late, left out, stopped, restarted: no index is used for two packets, none is far from the last,
        /// and what is asked for again is what went out.
        #[test]
        fn no_index_is_used_twice(
            steps in proptest::collection::vec((0u8..12, 0i64..40), 1..400),
            start in 0i64..200_000,
        ) {
            let mut lane = Lane::new(Ssrc::new(1), None);
            let mut used = std::collections::HashMap::new();
            let (mut life, mut newest) = (0, start);
            let mut seen = std::collections::HashSet::new();
            let mut last = None;
            for (step, by) in steps {
                let entry = if step == 0 { Entry::Keyframe } else { Entry::Delta };
                let sequence = match step {
                    0..=5 => newest + 1,
                    6 => newest - by,
                    7 => newest + 1 + by * 200,
                    8 => {
                        newest += 1;
                        seen.insert((life, newest));
                        lane.leave_out(newest);
                        continue;
                    }
                    9 => {
                        lane.stop();
                        continue;
                    }
                    10 if by == 0 => {
                        lane.restart();
                        (life, newest) = (life + 1, start);
                        continue;
                    }
                    _ => newest + 1,
                };
                newest = newest.max(sequence);
                // A source never gives a number twice.
                if !seen.insert((life, sequence)) {
                    continue;
                }
                if let Ok(index) = lane.index(sequence, entry) {
                    prop_assert!(index >= 0);
                    prop_assert!(used.insert(index, (life, sequence)).is_none(), "{index} twice");
                    if let Some(last) = last {
                        prop_assert!(index - last <= MAX_JUMP + 1);
                    }
                    last = last.max(Some(index));
                }
            }
            for (index, (lived, sequence)) in used {
                if let Some((found, number)) = lane.origin(index as u16)
                    && found == index
                    && lived == life
                {
                    prop_assert_eq!(number, sequence);
                }
            }
        }
    }
}
