//! Payload types: every endpoint has its own numbers, every source keeps its codec under a canonical one.

use std::collections::HashMap;

use crate::media::{Media, PayloadType};

/// A codec that two endpoints share when everything that makes formats incompatible is equal
/// (focus-protocol 10: name, clock, channels, H264 profile and packetisation, VP9 and AV1 profile).
pub type CodecIndex = u8;

/// No codec, no payload type.
pub const NONE: u8 = 0xff;

/// Which payload view applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecKind {
    /// VP8: picture ids are rewritten.
    Vp8,
    /// VP9.
    Vp9,
    /// AV1.
    Av1,
    /// H264.
    H264,
    /// Redundant audio: its blocks carry payload types.
    Red,
    /// Anything else.
    Other,
}

/// Canonical codecs of one worker.
#[derive(Debug, Default)]
pub struct CodecRegistry {
    keys: HashMap<String, CodecIndex>,
    kinds: Vec<CodecKind>,
}

impl CodecRegistry {
    /// The index of a format, or [`NONE`] for rtx and when the registry is full.
    fn intern(&mut self, format: &PayloadType) -> CodecIndex {
        let name = format.name.to_ascii_lowercase();
        let parameter = |wanted: &str, default: &str| {
            // Jicofo packs all of H264's parameters into the value of the first one.
            let all =
                format.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(";");
            all.split(';')
                .filter_map(|pair| pair.split_once('='))
                .find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))
                .map_or_else(|| default.to_owned(), |(_, value)| value.trim().to_ascii_lowercase())
        };
        let (kind, detail) = match name.as_str() {
            "rtx" => return NONE,
            "vp8" => (CodecKind::Vp8, String::new()),
            "vp9" => (CodecKind::Vp9, parameter("profile-id", "0")),
            "av1" => (CodecKind::Av1, parameter("profile", "0")),
            "h264" => {
                let level_id = parameter("profile-level-id", "42e01f");
                let profile = level_id.get(..2).unwrap_or("42").to_owned();
                (CodecKind::H264, format!("{profile}/{}", parameter("packetization-mode", "0")))
            }
            "red" => (CodecKind::Red, String::new()),
            _ => (CodecKind::Other, String::new()),
        };
        let key = format!("{name}/{}/{}/{detail}", format.clock_rate, format.channels.max(1));
        if let Some(index) = self.keys.get(&key) {
            return *index;
        }
        let index = self.kinds.len();
        if index >= usize::from(NONE) {
            return NONE;
        }
        self.keys.insert(key, index as u8);
        self.kinds.push(kind);
        index as u8
    }

    /// Which payload view applies to a codec.
    pub fn kind(&self, codec: CodecIndex) -> CodecKind {
        self.kinds.get(usize::from(codec)).copied().unwrap_or(CodecKind::Other)
    }
}

/// What a payload type means on input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Media of a codec.
    Media(CodecIndex),
    /// Retransmissions of the payload type `apt`.
    Retransmission {
        /// The associated payload type of the same endpoint.
        apt: u8,
    },
}

/// One endpoint's numbers in both directions.
#[derive(Debug, Clone)]
pub struct FormatTable {
    input: [Option<Format>; 128],
    offered: [Option<Format>; 128],
    output: [u8; 256],
    output_rtx: [u8; 128],
}

impl Default for FormatTable {
    fn default() -> Self {
        Self { input: [None; 128], offered: [None; 128], output: [NONE; 256], output_rtx: [NONE; 128] }
    }
}

impl FormatTable {
    /// Compiles what signalling says.
    pub fn new(media: &Media, codecs: &mut CodecRegistry) -> Self {
        let mut table = Self::default();
        let mut compile = |formats: &[PayloadType], input: &mut [Option<Format>; 128]| {
            for format in formats {
                let Some(cell) = input.get_mut(usize::from(format.id)) else { continue };
                *cell = if format.name.eq_ignore_ascii_case("rtx") {
                    apt(format).map(|apt| Format::Retransmission { apt })
                } else {
                    Some(codecs.intern(format)).filter(|codec| *codec != NONE).map(Format::Media)
                };
            }
        };
        compile(&media.payload_types, &mut table.input);
        compile(&media.offered_payload_types, &mut table.offered);
        for format in &media.payload_types {
            match table.input.get(usize::from(format.id)) {
                // The first format of a codec is the preferred one.
                Some(Some(Format::Media(codec))) if table.output[usize::from(*codec)] == NONE => {
                    table.output[usize::from(*codec)] = format.id;
                }
                Some(Some(Format::Retransmission { apt })) if *apt < 128 => {
                    table.output_rtx[usize::from(*apt)] = format.id
                }
                _ => {}
            }
        }
        table
    }

    /// What a media packet with this payload type carries. The SSRC already said that it is no retransmission, so a
    /// number that is rtx in one table and a codec in the other is the codec.
    pub fn media(&self, payload_type: u8) -> Option<CodecIndex> {
        [&self.input, &self.offered].into_iter().find_map(|table| match table.get(usize::from(payload_type))? {
            Some(Format::Media(codec)) => Some(*codec),
            _ => None,
        })
    }

    /// The codec that a retransmission with this payload type repeats, and the payload type that it had.
    pub fn retransmission(&self, payload_type: u8) -> Option<(CodecIndex, u8)> {
        [&self.input, &self.offered].into_iter().find_map(|table| match table.get(usize::from(payload_type))? {
            Some(Format::Retransmission { apt }) => match table.get(usize::from(*apt))? {
                Some(Format::Media(codec)) => Some((*codec, *apt)),
                _ => None,
            },
            _ => None,
        })
    }

    /// The number under which this endpoint expects a codec.
    #[inline]
    pub fn output(&self, codec: CodecIndex) -> Option<u8> {
        let number = self.output[usize::from(codec)];
        (number != NONE).then_some(number)
    }

    /// The number under which this endpoint expects retransmissions of a payload type of its own.
    #[inline]
    pub fn output_rtx(&self, payload_type: u8) -> Option<u8> {
        let number = *self.output_rtx.get(usize::from(payload_type))?;
        (number != NONE).then_some(number)
    }
}

fn apt(format: &PayloadType) -> Option<u8> {
    let (_, value) = format.parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("apt"))?;
    value.trim().parse().ok().filter(|apt| *apt < 128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::MediaKind;

    fn format(id: u8, name: &str, parameters: &[(&str, &str)]) -> PayloadType {
        PayloadType {
            id,
            kind: MediaKind::Video,
            name: name.into(),
            clock_rate: 90_000,
            channels: 1,
            parameters: parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            feedback: vec![],
        }
    }

    #[test]
    fn ninety_six_is_vp8_here_and_its_retransmissions_there() {
        let mut codecs = CodecRegistry::default();
        let jicofo = Media {
            payload_types: vec![format(100, "VP8", &[]), format(96, "rtx", &[("apt", "100")])],
            ..Media::default()
        };
        let other = Media {
            payload_types: vec![format(96, "vp8", &[]), format(97, "rtx", &[("apt", "96")])],
            offered_payload_types: jicofo.payload_types.clone(),
            ..Media::default()
        };
        let (a, b) = (FormatTable::new(&jicofo, &mut codecs), FormatTable::new(&other, &mut codecs));
        let vp8 = a.media(100).expect("negotiated");
        assert_eq!(codecs.kind(vp8), CodecKind::Vp8);
        assert_eq!(b.output(vp8), Some(96));
        assert_eq!(b.output_rtx(96), Some(97));
        assert_eq!(a.retransmission(96), Some((vp8, 100)));
        assert_eq!(b.media(96), Some(vp8));
        assert_eq!(b.media(100), Some(vp8), "a strict answerer still sends with the offer's number");
        assert_eq!(b.retransmission(97), Some((vp8, 96)));
        assert_eq!(b.retransmission(96), Some((vp8, 100)));
    }

    #[test]
    fn incompatible_formats_are_different_codecs() {
        let mut codecs = CodecRegistry::default();
        let jicofo =
            format(107, "H264", &[("profile-level-id", "42e01f;level-asymmetry-allowed=1;packetization-mode=1;")]);
        let chrome = format(107, "H264", &[("packetization-mode", "1"), ("profile-level-id", "42e01f")]);
        let high = format(108, "H264", &[("packetization-mode", "1"), ("profile-level-id", "640c1f")]);
        let single = format(109, "H264", &[("packetization-mode", "0"), ("profile-level-id", "42e01f")]);
        let index = codecs.intern(&jicofo);
        assert_eq!(codecs.intern(&chrome), index);
        assert_ne!(codecs.intern(&high), index);
        assert_ne!(codecs.intern(&single), index);
        assert_ne!(codecs.intern(&format(1, "VP9", &[("profile-id", "2")])), codecs.intern(&format(2, "VP9", &[])));
    }
}
