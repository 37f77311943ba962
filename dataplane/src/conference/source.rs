//! What one endpoint publishes: encodings on the input side, one leg per receiver on the output side.

use std::time::{Duration, Instant};

use super::cache::PacketCache;
use super::leg::Leg;
use super::loss::LossDetector;
use super::reception::Reception;
use crate::ids::{ConferenceId, EndpointId};
use crate::media::{MediaKind, SourceDescription};
use crate::srtp::ReplayWindow;

/// An encoding without a packet for this long is taken as stopped.
const STOPPED_AFTER: Duration = Duration::from_millis(500);

/// Requests for a keyframe of one encoding are at least this far apart (bridge-protocol 7).
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(200);

/// Heights assumed before a keyframe tells, by simulcast encoding from low to high.
const NOMINAL_HEIGHTS: [u16; 3] = [180, 360, 720];

/// Closes the holes that dropped packets leave in a sequence, so that receivers do not see them as loss.
#[derive(Debug, Default)]
pub struct SequenceCloser {
    dropped: u64,
    last: [u64; 16],
}

impl SequenceCloser {
    /// Notes that the packet with this extended sequence number goes no further.
    pub fn drop(&mut self, index: u64) {
        self.last[self.dropped as usize % 16] = index;
        self.dropped += 1;
    }

    /// The index that a packet has when the dropped ones before it are not counted.
    pub fn close(&self, index: u64) -> u64 {
        let known = self.dropped.min(16) as usize;
        let after = self.last[..known].iter().filter(|dropped| **dropped > index).count() as u64;
        index.saturating_sub(self.dropped - after)
    }
}

/// The input side of one encoding.
#[derive(Debug)]
pub struct EncodingState {
    /// SSRC of its media.
    pub ssrc: u32,
    /// SSRC of its retransmissions.
    pub rtx: Option<u32>,
    /// Packets seen, originals and retransmissions alike.
    pub seen: ReplayWindow,
    /// Closes holes of dropped packets.
    pub closer: SequenceCloser,
    /// For receiver reports.
    pub reception: Reception,
    /// For retransmission requests (video).
    pub loss: LossDetector,
    /// Picture height from the last keyframe.
    pub height: Option<u16>,
    /// When the last packet came.
    pub last_packet: Option<Instant>,
    /// Whether packets come.
    pub active: bool,
    last_keyframe_request: Option<Instant>,
}

impl EncodingState {
    fn new(ssrc: u32, rtx: Option<u32>) -> Self {
        Self {
            ssrc,
            rtx,
            seen: ReplayWindow::default(),
            closer: SequenceCloser::default(),
            reception: Reception::default(),
            loss: LossDetector::default(),
            height: None,
            last_packet: None,
            active: false,
            last_keyframe_request: None,
        }
    }

    /// Whether a keyframe may be asked for now; notes that it was.
    pub fn may_request_keyframe(&mut self, now: Instant) -> bool {
        let free =
            self.last_keyframe_request.is_none_or(|last| now.saturating_duration_since(last) >= KEYFRAME_INTERVAL);
        if free {
            self.last_keyframe_request = Some(now);
        }
        free
    }
}

/// One source and its receivers.
pub struct Source {
    /// Index of the endpoint that publishes it.
    pub owner: usize,
    /// Its identity.
    pub owner_id: EndpointId,
    /// Where.
    pub conference: ConferenceId,
    /// As signalled.
    pub description: SourceDescription,
    /// From low to high.
    pub encodings: Vec<EncodingState>,
    /// One per receiver.
    pub legs: Vec<Leg>,
    /// Packets for retransmission (video).
    pub cache: Option<PacketCache>,
    /// The largest height that the owner was last told that anybody wants.
    pub demand: Option<i32>,
}

impl Source {
    /// A source without receivers.
    pub fn new(owner: usize, owner_id: EndpointId, conference: ConferenceId, description: SourceDescription) -> Self {
        let encodings = description.encodings.iter().map(|e| EncodingState::new(e.ssrc, e.rtx)).collect();
        let cache = (description.kind == MediaKind::Video).then(PacketCache::new);
        Self { owner, owner_id, conference, description, encodings, legs: Vec::new(), cache, demand: None }
    }

    /// Whether it is video.
    pub fn is_video(&self) -> bool {
        self.description.kind == MediaKind::Video
    }

    /// The SSRC that receivers know it by: its first encoding's, since offers are stripped of simulcast.
    pub fn output_ssrc(&self) -> u32 {
        self.encodings.first().map_or(0, |encoding| encoding.ssrc)
    }

    /// The SSRC that receivers know its retransmissions by.
    pub fn output_rtx(&self) -> Option<u32> {
        self.encodings.first().and_then(|encoding| encoding.rtx)
    }

    /// Takes the signalled description again; true when the encodings are the same, so that all state stays.
    pub fn update(&mut self, description: &SourceDescription) -> bool {
        let same = self.description.kind == description.kind && self.description.encodings == description.encodings;
        if same {
            self.description = description.clone();
        }
        same
    }

    /// Re-reads which encodings are alive; true when that changed.
    pub fn refresh_activity(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for encoding in &mut self.encodings {
            let active = encoding.last_packet.is_some_and(|last| now.saturating_duration_since(last) < STOPPED_AFTER);
            changed |= active != encoding.active;
            encoding.active = active;
        }
        changed
    }

    fn height(&self, encoding: usize) -> u16 {
        let nominal = NOMINAL_HEIGHTS.get(encoding).copied().unwrap_or(u16::MAX);
        self.encodings.get(encoding).and_then(|state| state.height).unwrap_or(nominal)
    }

    /// The encoding for a receiver that wants at most `max_height` pixels (-1 is unlimited, 0 is none): the highest
    /// living one that fits, else the lowest living one, else the first.
    pub fn encoding_for(&self, max_height: i32) -> Option<u8> {
        if max_height == 0 || self.encodings.is_empty() {
            return None;
        }
        let alive = || (0..self.encodings.len()).filter(|index| self.encodings[*index].active);
        let fitting = alive().filter(|index| max_height < 0 || i32::from(self.height(*index)) <= max_height).last();
        Some(fitting.or_else(|| alive().next()).unwrap_or(0) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Encoding, VideoType};

    #[test]
    fn dropped_packets_leave_no_hole_even_for_late_ones() {
        let mut closer = SequenceCloser::default();
        assert_eq!(closer.close(10), 10);
        closer.drop(11);
        closer.drop(13);
        assert_eq!(closer.close(10), 10, "late, from before both");
        assert_eq!(closer.close(12), 11);
        assert_eq!(closer.close(14), 12);
    }

    #[test]
    fn the_highest_living_encoding_that_fits() {
        let now = Instant::now();
        let encodings = (1..=3).map(|ssrc| Encoding { ssrc, rtx: None }).collect();
        let description =
            SourceDescription { name: "a-v0".into(), kind: MediaKind::Video, video_type: VideoType::Camera, encodings };
        let mut source = Source::new(0, EndpointId(1), ConferenceId(1), description);
        assert_eq!(source.encoding_for(720), Some(0), "nothing came yet");
        source.encodings.iter_mut().for_each(|encoding| encoding.last_packet = Some(now));
        assert!(source.refresh_activity(now));
        assert_eq!(source.encoding_for(720), Some(2));
        assert_eq!(source.encoding_for(400), Some(1));
        assert_eq!(source.encoding_for(90), Some(0), "never less than the lowest");
        assert_eq!(source.encoding_for(-1), Some(2));
        assert_eq!(source.encoding_for(0), None);
        source.encodings[2].last_packet = now.checked_sub(STOPPED_AFTER);
        assert!(source.refresh_activity(now));
        assert_eq!(source.encoding_for(-1), Some(1), "the top one stopped");
    }
}
