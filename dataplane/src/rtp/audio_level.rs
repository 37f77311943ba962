//! Client-to-mixer audio level (RFC 6464).

/// Level of one audio packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevel {
    /// -dBov: 0 is the loudest, 127 is silence.
    pub level: u8,
    /// Whether the sender believes that it is voice.
    pub voice: bool,
}

impl AudioLevel {
    /// Reads the extension's value; the two-byte form may carry extra bytes, which are ignored.
    pub fn parse(data: &[u8]) -> Option<Self> {
        data.first().map(|&b| Self { level: b & 0x7f, voice: b & 0x80 != 0 })
    }

    /// The extension's value.
    pub fn encode(self) -> [u8; 1] {
        [self.level.min(127) | u8::from(self.voice) << 7]
    }
}
