//! The payload types and extension ids that a participant negotiated.

/// One participant's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Video (VP8, or the codec of a recording).
    pub video: u8,
    /// Opus.
    pub opus: u8,
    /// Header extension `sdes:mid`.
    pub mid: u8,
    /// Header extension `ssrc-audio-level`.
    pub level: u8,
}

impl Numbers {
    /// What most participants have.
    pub const USUAL: Self = Self { video: 96, opus: 111, mid: 1, level: 2 };
    /// What the others have, so that a bridge that translates has something to translate.
    pub const OTHER: Self = Self { video: 100, opus: 109, mid: 4, level: 5 };
}
