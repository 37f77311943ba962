//! What the generator plays: frame-shaped video, speech-shaped audio, or a recording.

pub mod audio;
pub mod video;

use std::time::Duration;

use ringbridge_dataplane::media::MediaKind;

/// One packet of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackPacket {
    /// RTP timestamp, from 0 at the track's start.
    pub timestamp: u32,
    /// The M bit.
    pub marker: bool,
    /// Audio level in -dBov, for audio.
    pub level: Option<u8>,
}

/// A source of packets in order of time.
pub trait Track {
    /// Audio or video.
    fn kind(&self) -> MediaKind;
    /// Whether payloads begin with a VP8 descriptor.
    fn is_vp8(&self) -> bool;
    /// When the next packet is due, since the track's start.
    fn next_due(&self) -> Duration;
    /// Writes the next packet's payload (replacing what is in `payload`).
    fn next(&mut self, payload: &mut Vec<u8>) -> TrackPacket;
}

/// A cheap, seeded sequence of numbers: content and jitter that are the same in every run.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// Seeded; equal seeds give equal sequences.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number (xorshift64*).
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}
