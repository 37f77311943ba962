//! Media section ids that the bridge makes up: with them a client finds the media section of a packet by its `sdes:mid`
//! extension (RFC 9143 section 15), not by its SSRC (docs/protocol/bridge.md 6.6).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::MediaKind;

/// Longest id in bytes: the kind's letter and five digits.
pub const MAX_LEN: usize = 6;

/// The media section of one slot of SSRCs: `a0`, `a1`, … for audio, `v0`, `v1`, … for video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mid {
    kind: MediaKind,
    slot: u16,
}

impl Mid {
    /// The one of a slot, counted from zero apart for each kind.
    pub fn new(kind: MediaKind, slot: u16) -> Self {
        Self { kind, slot }
    }

    /// Its text.
    pub fn write(self, out: &mut [u8; MAX_LEN]) -> &[u8] {
        // From the last digit to the letter.
        let (mut start, mut rest) = (MAX_LEN, self.slot);
        for place in (1..MAX_LEN).rev() {
            out[place] = b'0' + (rest % 10) as u8;
            (start, rest) = (place - 1, rest / 10);
            if rest == 0 {
                break;
            }
        }
        if let Some(first) = out.get_mut(start) {
            *first = match self.kind {
                MediaKind::Audio => b'a',
                MediaKind::Video => b'v',
            };
        }
        out.get(start..).unwrap_or(&[])
    }
}

impl fmt::Display for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.write(&mut [0; MAX_LEN])).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packets_carry_is_what_clients_are_told() {
        for (kind, slot, text) in [
            (MediaKind::Audio, 0, "a0"),
            (MediaKind::Video, 7, "v7"),
            (MediaKind::Video, 10, "v10"),
            (MediaKind::Audio, 49, "a49"),
            (MediaKind::Video, u16::MAX, "v65535"),
        ] {
            let mid = Mid::new(kind, slot);
            assert_eq!((mid.write(&mut [0; MAX_LEN]), mid.to_string().as_str()), (text.as_bytes(), text));
        }
    }
}
