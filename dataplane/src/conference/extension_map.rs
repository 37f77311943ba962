//! Header extensions: ids differ per endpoint, URIs do not.

use std::collections::HashMap;

use crate::media::Media;

/// Extensions that the bridge itself consumes or writes.
pub mod uri {
    /// RFC 6464.
    pub const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    /// Transport-wide sequence number.
    pub const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    /// Absolute send time.
    pub const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
    /// Names of the sender's own SDP that mean nothing to a receiver, and its send-time offset.
    pub const NEVER_FORWARDED: [&str; 4] = [
        "urn:ietf:params:rtp-hdrext:sdes:mid",
        "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        "urn:ietf:params:rtp-hdrext:toffset",
    ];
}

/// What an extension is to the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Not negotiated, or meaningless to others: left out.
    Dropped,
    /// Audio level: read and forwarded.
    AudioLevel,
    /// Transport-wide sequence number: read, and replaced by the receiver's own.
    TransportCc,
    /// Forwarded under the receiver's id.
    Forwarded(ExtensionIndex),
}

/// Index of a URI in the registry.
pub type ExtensionIndex = u8;

/// Index of the audio level, which is registered first.
pub const AUDIO_LEVEL: ExtensionIndex = 0;

const MAX_EXTENSIONS: usize = 64;

/// URIs of one worker.
#[derive(Debug)]
pub struct ExtensionRegistry {
    indices: HashMap<String, ExtensionIndex>,
}

impl Default for ExtensionRegistry {
    fn default() -> Self {
        Self { indices: HashMap::from([(uri::AUDIO_LEVEL.to_owned(), AUDIO_LEVEL)]) }
    }
}

impl ExtensionRegistry {
    fn intern(&mut self, uri: &str) -> Option<ExtensionIndex> {
        if let Some(index) = self.indices.get(uri) {
            return Some(*index);
        }
        let index = self.indices.len();
        if index >= MAX_EXTENSIONS {
            return None;
        }
        self.indices.insert(uri.to_owned(), index as u8);
        Some(index as u8)
    }
}

/// One endpoint's ids in both directions.
#[derive(Debug, Clone)]
pub struct ExtensionMap {
    input: [Meaning; 256],
    output: [u8; MAX_EXTENSIONS],
    /// The endpoint's id of the transport-wide sequence number; zero when not negotiated for video.
    pub transport_cc: u8,
}

impl Default for ExtensionMap {
    fn default() -> Self {
        Self { input: [Meaning::Dropped; 256], output: [0; MAX_EXTENSIONS], transport_cc: 0 }
    }
}

impl ExtensionMap {
    /// Compiles what signalling says.
    pub fn new(media: &Media, registry: &mut ExtensionRegistry) -> Self {
        let mut map = Self::default();
        for extension in &media.header_extensions {
            let meaning = match extension.uri.as_str() {
                uri::AUDIO_LEVEL => Meaning::AudioLevel,
                uri::TRANSPORT_CC => {
                    map.transport_cc = extension.id;
                    Meaning::TransportCc
                }
                uri::ABS_SEND_TIME => Meaning::Dropped,
                other if uri::NEVER_FORWARDED.contains(&other) => Meaning::Dropped,
                other => registry.intern(other).map_or(Meaning::Dropped, Meaning::Forwarded),
            };
            map.input[usize::from(extension.id)] = meaning;
            match meaning {
                Meaning::AudioLevel => map.output[usize::from(AUDIO_LEVEL)] = extension.id,
                Meaning::Forwarded(index) => map.output[usize::from(index)] = extension.id,
                Meaning::Dropped | Meaning::TransportCc => {}
            }
        }
        map
    }

    /// What an id of this endpoint means.
    #[inline]
    pub fn meaning(&self, id: u8) -> Meaning {
        self.input[usize::from(id)]
    }

    /// The id under which this endpoint expects an extension.
    #[inline]
    pub fn output(&self, index: ExtensionIndex) -> Option<u8> {
        let id = *self.output.get(usize::from(index))?;
        (id != 0).then_some(id)
    }
}
