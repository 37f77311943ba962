//! Frame-shaped video: keyframes at intervals, frames that vary in size, each frame's packets due at once.

use std::time::Duration;

use super::{Codec, Noise, Track, TrackPacket};

/// VP8 payload descriptor with 15-bit picture id, TL0PICIDX and temporal id (RFC 7741 section 4.2).
const DESCRIPTOR: usize = 6;
/// Frame tag, start code and size of a keyframe (RFC 6386 section 9.1).
const KEYFRAME_HEADER: usize = 10;

/// The shape of a generated stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoShape {
    /// Bits a second, payload.
    pub bitrate: u64,
    /// Frames a second.
    pub frame_rate: u32,
    /// Largest payload of a packet, bytes.
    pub packet: usize,
    /// Frames from keyframe to keyframe.
    pub keyframe_interval: u32,
    /// How many times larger than others a keyframe is.
    pub keyframe_factor: u32,
}

impl Default for VideoShape {
    /// 2.5 Mbit/s at 30 frames a second, 1,200-byte packets, a keyframe of five frames' size every two seconds.
    fn default() -> Self {
        Self { bitrate: 2_500_000, frame_rate: 30, packet: 1_200, keyframe_interval: 60, keyframe_factor: 5 }
    }
}

/// VP8 frames with random content.
#[derive(Debug)]
pub struct GeneratedVideo {
    shape: VideoShape,
    noise: Noise,
    frame: u64,
    /// Bytes of the present frame that are still to be sent; 0 before a frame begins.
    left: usize,
    keyframe: bool,
    /// The next frame is to be a keyframe.
    asked: bool,
    first: bool,
    /// Spreads the participants' frames over the frame interval, as clocks that know nothing of each other do.
    phase: Duration,
    /// Spreads their keyframes, too.
    keyframe_phase: u64,
}

impl GeneratedVideo {
    /// A stream; seeds make streams differ.
    pub fn new(shape: VideoShape, seed: u64) -> Self {
        let mut noise = Noise::new(seed);
        let phase = Duration::from_micros(noise.draw() % (1_000_000 / u64::from(shape.frame_rate.max(1))));
        let (frame, left, keyframe_phase) = (0, 0, 0);
        let mut this =
            Self { shape, noise, frame, left, keyframe: true, asked: false, first: true, phase, keyframe_phase };
        this.keyframe_phase = this.noise.draw() % u64::from(shape.keyframe_interval.max(1));
        this.begin();
        this
    }

    fn begin(&mut self) {
        let interval = u64::from(self.shape.keyframe_interval.max(1));
        let factor = u64::from(self.shape.keyframe_factor.max(1));
        let per_interval = self.shape.bitrate / 8 * interval / u64::from(self.shape.frame_rate.max(1));
        let usual = per_interval / (interval - 1 + factor);
        let asked = std::mem::take(&mut self.asked);
        self.keyframe = asked || self.frame == 0 || (self.frame + self.keyframe_phase).is_multiple_of(interval);
        let size = if self.keyframe { usual * factor } else { usual * (70 + self.noise.draw() % 61) / 100 };
        self.left = (size as usize).max(KEYFRAME_HEADER + 16);
        self.first = true;
    }
}

impl Track for GeneratedVideo {
    fn codec(&self) -> Codec {
        Codec::Vp8
    }

    fn next_due(&self) -> Duration {
        self.phase + Duration::from_nanos(self.frame * 1_000_000_000 / u64::from(self.shape.frame_rate.max(1)))
    }

    fn next(&mut self, payload: &mut Vec<u8>) -> TrackPacket {
        let body = self.left.min(self.shape.packet.saturating_sub(DESCRIPTOR).max(32));
        payload.resize(DESCRIPTOR + body, 0);
        let start = if self.first { 0x10 } else { 0 };
        let id = (self.frame & 0x7fff) as u16;
        payload[..DESCRIPTOR].copy_from_slice(&[
            0x80 | start,
            0xe0,
            0x80 | (id >> 8) as u8,
            id as u8,
            self.frame as u8,
            0x00,
        ]);
        self.noise.fill(&mut payload[DESCRIPTOR..]);
        if self.first {
            // The P bit of the frame tag says whether the frame depends on others.
            payload[DESCRIPTOR] = payload[DESCRIPTOR] & 0xfe | u8::from(!self.keyframe);
            if self.keyframe {
                let size = &mut payload[DESCRIPTOR + 3..DESCRIPTOR + KEYFRAME_HEADER];
                size.copy_from_slice(&[0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02]);
            }
        }
        self.left -= body;
        self.first = false;
        let timestamp = (self.frame * 90_000 / u64::from(self.shape.frame_rate.max(1))) as u32;
        let marker = self.left == 0;
        if marker {
            self.frame += 1;
            self.begin();
        }
        TrackPacket { timestamp, marker, level: None }
    }

    fn request_keyframe(&mut self) {
        self.asked = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringbridge_dataplane::rtp::keyframe;

    #[test]
    fn a_keyframe_comes_with_the_next_frame_when_it_is_asked_for() {
        let mut track = GeneratedVideo::new(VideoShape::default(), 7);
        let mut payload = Vec::new();
        let mut frame = |track: &mut GeneratedVideo| {
            let mut key = false;
            loop {
                let marker = track.next(&mut payload).marker;
                key |= keyframe::vp8(&payload).is_some();
                if marker {
                    return key;
                }
            }
        };
        while frame(&mut track) {}
        track.request_keyframe();
        assert!(!frame(&mut track), "it was begun before");
        assert!(frame(&mut track));
        assert!(!frame(&mut track));
    }

    #[test]
    fn the_bitrate_is_kept_and_keyframes_are_keyframes() {
        let shape = VideoShape::default();
        let mut track = GeneratedVideo::new(shape, 7);
        let (mut bytes, mut keyframes, mut payload) = (0, 0, Vec::new());
        let mut starts = true;
        while track.next_due() < Duration::from_secs(20) {
            let due = track.next_due();
            let packet = track.next(&mut payload);
            assert!(payload.len() <= shape.packet);
            bytes += payload.len() as u64;
            let is_keyframe = keyframe::vp8(&payload).is_some();
            assert!(!is_keyframe || starts, "only a frame's first packet may look like a keyframe");
            keyframes += u64::from(is_keyframe && starts);
            starts = packet.marker;
            assert_eq!(packet.marker, track.next_due() > due);
        }
        assert!((10..=11).contains(&keyframes), "{keyframes}");
        let rate = bytes * 8 / 20;
        assert!((2_400_000..2_600_000).contains(&rate), "{rate} bit/s");
    }
}
