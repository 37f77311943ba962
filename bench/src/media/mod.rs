//! What the generator plays: frame-shaped video, speech-shaped audio, or a recording.

pub mod audio;
pub mod capture;
pub mod video;

use std::str::FromStr;
use std::time::Duration;

use ringbridge_dataplane::media::MediaKind;

/// What a track is encoded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// VP8.
    Vp8,
    /// VP9.
    Vp9,
    /// AV1.
    Av1,
    /// H264, constrained baseline, packetization mode 1.
    H264,
    /// Opus.
    Opus,
}

impl Codec {
    /// All codecs.
    pub const ALL: [Self; 5] = [Self::Vp8, Self::Vp9, Self::Av1, Self::H264, Self::Opus];

    /// Name in signalling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Av1 => "AV1",
            Self::H264 => "H264",
            Self::Opus => "opus",
        }
    }

    /// Audio or video.
    pub const fn kind(self) -> MediaKind {
        if matches!(self, Self::Opus) { MediaKind::Audio } else { MediaKind::Video }
    }

    /// Of its RTP timestamps, Hz.
    pub const fn clock_rate(self) -> u32 {
        if matches!(self, Self::Opus) { 48_000 } else { 90_000 }
    }

    /// Audio channels.
    pub const fn channels(self) -> u8 {
        if matches!(self, Self::Opus) { 2 } else { 1 }
    }

    /// Format parameters.
    pub const fn parameters(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::H264 => {
                &[("level-asymmetry-allowed", "1"), ("packetization-mode", "1"), ("profile-level-id", "42e01f")]
            }
            _ => &[],
        }
    }
}

impl FromStr for Codec {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name));
        known.ok_or_else(|| format!("codec {name:?} is unknown; choose from VP8, VP9, AV1, H264, opus"))
    }
}

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
    /// What it is encoded with.
    fn codec(&self) -> Codec;
    /// When the next packet is due, since the track's start.
    fn next_due(&self) -> Duration;
    /// Writes the next packet's payload (replacing what is in `payload`).
    fn next(&mut self, payload: &mut Vec<u8>) -> TrackPacket;
    /// Receivers need a keyframe. What was recorded stays as it is.
    fn request_keyframe(&mut self) {}
}

/// A stream that is announced and of which nothing comes: a participant that joined muted.
#[derive(Debug, Clone, Copy)]
pub struct Muted(pub Codec);

impl Track for Muted {
    fn codec(&self) -> Codec {
        self.0
    }

    fn next_due(&self) -> Duration {
        // Longer than any run, and short enough to be added to the time.
        Duration::from_secs(10_000_000)
    }

    fn next(&mut self, payload: &mut Vec<u8>) -> TrackPacket {
        payload.clear();
        TrackPacket { timestamp: 0, marker: false, level: None }
    }
}

/// A cheap, seeded sequence of numbers: content and jitter that are the same in every run.
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// Seeded; equal seeds give equal sequences.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number (xorshift64*).
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.draw().to_le_bytes()[..chunk.len()]);
        }
    }
}
