//! Identities of what can be negotiated: formats and header extensions, as numbers that packets are compared by.

use serde::{Deserialize, Serialize};

use crate::media::MediaKind;

/// A format, the same for all endpoints of a conference: ten bits of a number, and six that distinguish it from a former one of the same
/// number. One word, since every packet compares it for every receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FormatId(u16);

impl FormatId {
    /// One more than the highest number.
    pub const NUMBERS: u16 = 1 << 10;

    /// The format of a number below [`Self::NUMBERS`].
    pub fn new(number: u16, generation: u8) -> Self {
        Self((number % Self::NUMBERS) | u16::from(generation) << 10)
    }

    /// Its number; numbers are given densely.
    #[inline]
    pub fn number(self) -> u16 {
        self.0 % Self::NUMBERS
    }
}

/// What makes a format.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FormatKey {
    /// Audio or video.
    pub kind: MediaKind,
    /// Its name in lower case.
    pub name: String,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// Channels of audio; at least 1.
    pub channels: u8,
    /// What distinguishes it from incompatible ones of its name.
    pub variant: String,
}

/// A URI, the same for all endpoints of a conference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UriId(u16);

impl UriId {
    /// The URI of a number.
    pub fn new(number: u16) -> Self {
        Self(number)
    }

    /// Its number; numbers are given densely.
    pub fn number(self) -> u16 {
        self.0
    }

    /// Client-to-mixer audio level (RFC 6464).
    pub const AUDIO_LEVEL: Self = Self(0);
    /// Transport-wide sequence number.
    pub const TRANSPORT_CC: Self = Self(1);
    /// Absolute send time.
    pub const ABS_SEND_TIME: Self = Self(2);
    /// The m-section of the sender: meaningless to a receiver.
    pub const MID: Self = Self(3);
    /// Stream id (RFC 8852).
    pub const RID: Self = Self(4);
    /// Repaired stream id (RFC 8852).
    pub const REPAIRED_RID: Self = Self(5);
    /// Video layers allocation: describes encodings that the receiver does not get.
    pub const LAYERS_ALLOCATION: Self = Self(6);

    /// Dependency descriptor: written anew where the bridge routes by it.
    pub const DEPENDENCY: Self = Self(7);

    /// Whether the value is passed on as it is; the others are dropped or written anew for each receiver.
    pub const fn passes(self) -> bool {
        !matches!(
            self,
            Self::TRANSPORT_CC
                | Self::ABS_SEND_TIME
                | Self::MID
                | Self::RID
                | Self::REPAIRED_RID
                | Self::LAYERS_ALLOCATION
                | Self::DEPENDENCY
        )
    }
}
