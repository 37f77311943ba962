//! Formats (codec plus what makes it incompatible with its namesakes) and each endpoint's numbers for them.
//!
//! A [`FormatId`] is canonical for the conference: two endpoints that negotiated the same format under different payload
//! types share it. RTX has no id of its own: it is a role, resolved through `apt` (RFC 4588 section 8.1).

use serde::{Deserialize, Serialize};

use super::ids::{FormatId, FormatKey};
use super::vocabulary::Names;
use crate::ids::PayloadType;
use crate::media::{CodecParameters, Media, MediaKind};

/// How a payload is parsed and rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Codec {
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// AOMedia's RTP payload format.
    Av1,
    /// RFC 6184.
    H264,
    /// RFC 7587.
    Opus,
    /// RFC 2198.
    Red,
    /// Anything else: forwarded whole, without a look inside.
    Other,
}

impl Codec {
    fn of(name: &str) -> Self {
        match name {
            "vp8" => Self::Vp8,
            "vp9" => Self::Vp9,
            "av1" | "av1x" => Self::Av1,
            "h264" => Self::H264,
            "opus" => Self::Opus,
            "red" => Self::Red,
            _ => Self::Other,
        }
    }
}

/// Codecs of one list that are looked at: every number once for audio and once for video.
const MAX_CODECS: usize = 2 * PayloadType::COUNT;

/// A canonical format as one endpoint's packet carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Format {
    /// Its identity.
    pub id: FormatId,
    /// How to parse it.
    pub codec: Codec,
    /// RTP clock in Hz.
    pub clock_rate: u32,
}

/// The canonical format of a codec; `None` for RTX and FEC, or when it is refused.
fn intern(entry: &CodecParameters, names: &mut Names<'_>) -> Option<Format> {
    let mut name = entry.name.to_ascii_lowercase();
    if is_repair(&name) {
        return None;
    }
    let codec = Codec::of(&name);
    if codec == Codec::Av1 {
        name = "av1".to_owned();
    }
    let key = FormatKey {
        kind: entry.kind,
        variant: variant(codec, entry),
        name,
        clock_rate: entry.clock_rate,
        channels: entry.channels.max(1),
    };
    Some(Format { id: names.format(key)?, codec, clock_rate: entry.clock_rate.max(1) })
}

/// A list of codecs with what each one stands for, looked up once.
struct Resolved<'a> {
    list: &'a [CodecParameters],
    formats: Vec<Option<Format>>,
    apts: Vec<Option<PayloadType>>,
}

impl<'a> Resolved<'a> {
    fn of(list: &'a [CodecParameters], names: &mut Names<'_>) -> Self {
        let (list, excess) = list.split_at(list.len().min(MAX_CODECS));
        names.refuse_formats(excess.len());
        Self {
            list,
            formats: list.iter().map(|codec| intern(codec, names)).collect(),
            apts: list.iter().map(apt).collect(),
        }
    }

    fn entries(&self) -> impl Iterator<Item = (&'a CodecParameters, Option<Format>, Option<PayloadType>)> {
        let roles = self.formats.iter().copied().zip(self.apts.iter().copied());
        self.list.iter().zip(roles).map(|(codec, (format, apt))| (codec, format, apt))
    }

    /// The format under a number.
    fn format(&self, kind: MediaKind, number: PayloadType) -> Option<Format> {
        self.entries().find(|(codec, ..)| codec.kind == kind && codec.payload_type == number)?.1
    }

    /// The number of the retransmissions of a number.
    fn rtx(&self, kind: MediaKind, number: PayloadType) -> Option<PayloadType> {
        self.entries()
            .find(|(codec, _, apt)| codec.kind == kind && *apt == Some(number))
            .map(|(codec, ..)| codec.payload_type)
    }
}

fn is_repair(name: &str) -> bool {
    matches!(name, "rtx" | "ulpfec" | "flexfec" | "flexfec-03")
}

/// The parameters that make two formats of one name incompatible (docs/protocol/focus.md 10).
fn variant(codec: Codec, entry: &CodecParameters) -> String {
    match codec {
        Codec::H264 => {
            let profile = parameter(entry, "profile-level-id").unwrap_or_default();
            let mode = parameter(entry, "packetization-mode").unwrap_or("0");
            format!("{}/{}", h264_profile(profile), mode)
        }
        Codec::Vp9 => parameter(entry, "profile-id").unwrap_or("0").to_owned(),
        Codec::Av1 => parameter(entry, "profile").unwrap_or("0").to_owned(),
        _ => String::new(),
    }
}

/// A format parameter. Jicofo sends H264's as one element whose value carries the others behind semicolons.
fn parameter<'a>(codec: &'a CodecParameters, name: &str) -> Option<&'a str> {
    codec.parameters.iter().find_map(|(key, value)| {
        let mut parts = value.split(';').map(str::trim);
        let first = parts.next()?;
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(first);
        }
        parts.find_map(|part| {
            let (k, v) = part.split_once('=')?;
            k.trim().eq_ignore_ascii_case(name).then(|| v.trim())
        })
    })
}

/// The profile that `profile-level-id` names, level left out (RFC 6184 section 8.1, table 5).
fn h264_profile(profile_level_id: &str) -> String {
    let number =
        |range: std::ops::Range<usize>| profile_level_id.get(range).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let (Some(idc), Some(iop)) = (number(0..2), number(2..4)) else {
        return "constrained-baseline".to_owned();
    };
    let name = match (idc, iop) {
        (0x42, iop) if iop & 0x4f == 0x40 => "constrained-baseline",
        (0x4d, iop) if iop & 0x8f == 0x80 => "constrained-baseline",
        (0x58, iop) if iop & 0xcf == 0xc0 => "constrained-baseline",
        (0x42, iop) if iop & 0x4f == 0 => "baseline",
        (0x58, iop) if iop & 0xcf == 0x80 => "baseline",
        (0x4d, iop) if iop & 0xaf == 0 => "main",
        (0x64, 0) => "high",
        (0x64, 0x0c) => "constrained-high",
        _ => return format!("{idc:02x}{iop:02x}"),
    };
    name.to_owned()
}

/// What a receiver calls a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OutputFormat {
    /// Payload type of the format.
    pub payload_type: PayloadType,
    /// Payload type of its retransmissions.
    pub rtx: Option<PayloadType>,
}

/// By RTX payload type: the associated payload type and its format.
type RtxRow = [Option<(PayloadType, Format)>; PayloadType::COUNT];

/// One endpoint's numbers, compiled for look-up in both directions.
#[derive(Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FormatTable {
    #[serde(with = "rows")]
    media: [Box<[Option<Format>; PayloadType::COUNT]>; 2],
    #[serde(with = "rows")]
    rtx: [Box<RtxRow>; 2],
    output: Vec<Option<OutputFormat>>,
}

/// Rows by payload type as lists of what is in them: most places are empty.
mod rows {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::ids::PayloadType;

    type Row<T> = Box<[Option<T>; PayloadType::COUNT]>;

    fn entries<T>(row: &Row<T>) -> Vec<(u8, &T)> {
        (0..).zip(row.iter()).filter_map(|(number, of)| Some((number, of.as_ref()?))).collect()
    }

    pub fn serialize<T: Serialize, S: Serializer>(rows: &[Row<T>; 2], serializer: S) -> Result<S::Ok, S::Error> {
        let [audio, video] = rows;
        (entries(audio), entries(video)).serialize(serializer)
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<[Row<T>; 2], D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let (audio, video) = <(Vec<(PayloadType, T)>, Vec<(PayloadType, T)>)>::deserialize(deserializer)?;
        Ok([audio, video].map(|list| {
            let mut row: Row<T> = Box::new(std::array::from_fn(|_| None));
            for (number, of) in list {
                if let Some(place) = row.get_mut(number.index()) {
                    *place = Some(of);
                }
            }
            row
        }))
    }
}

impl Default for FormatTable {
    fn default() -> Self {
        Self {
            media: std::array::from_fn(|_| Box::new([None; PayloadType::COUNT])),
            rtx: std::array::from_fn(|_| Box::new([None; PayloadType::COUNT])),
            output: Vec::new(),
        }
    }
}

fn row(kind: MediaKind) -> usize {
    match kind {
        MediaKind::Audio => 0,
        MediaKind::Video => 1,
    }
}

impl FormatTable {
    /// Compiles what an endpoint negotiated.
    pub fn compile(media: &Media, names: &mut Names<'_>) -> Self {
        let mut table = Self::default();
        // The latest negotiation first, so that what is refused is the offer's; and last where both have a number.
        let own = Resolved::of(&media.codecs, names);
        let offered = Resolved::of(&media.offered_codecs, names);
        table.add_inputs(&offered);
        table.add_inputs(&own);
        for (codec, format, _) in own.entries() {
            let Some(format) = format else { continue };
            let index = usize::from(format.id.number());
            if table.output.len() <= index {
                table.output.resize(index + 1, None);
            }
            // The first number wins: it stands for the endpoint's preference.
            if let Some(slot) = table.output.get_mut(index)
                && slot.is_none()
            {
                *slot = Some(OutputFormat {
                    payload_type: codec.payload_type,
                    rtx: own.rtx(codec.kind, codec.payload_type),
                });
            }
        }
        table
    }

    fn add_inputs(&mut self, list: &Resolved<'_>) {
        for (codec, format, apt) in list.entries() {
            let number = codec.payload_type.index();
            let row = row(codec.kind);
            if let Some(apt) = apt {
                if let Some(format) = list.format(codec.kind, apt)
                    && let Some(slot) = self.rtx[row].get_mut(number)
                {
                    *slot = Some((apt, format));
                }
            } else if let Some(format) = format
                && let Some(slot) = self.media[row].get_mut(number)
            {
                *slot = Some(format);
            }
        }
    }

    /// What the endpoint means by a payload type on a media SSRC.
    #[inline]
    pub fn media(&self, kind: MediaKind, payload_type: PayloadType) -> Option<Format> {
        *self.media[row(kind)].get(payload_type.index())?
    }

    /// What the endpoint retransmits under a payload type on an RTX SSRC: the associated type and its format.
    #[inline]
    pub fn rtx(&self, kind: MediaKind, payload_type: PayloadType) -> Option<(PayloadType, Format)> {
        *self.rtx[row(kind)].get(payload_type.index())?
    }

    /// The endpoint's number for a format, if it negotiated that.
    #[inline]
    pub fn output(&self, format: FormatId) -> Option<OutputFormat> {
        *self.output.get(usize::from(format.number()))?
    }
}

fn apt(codec: &CodecParameters) -> Option<PayloadType> {
    if !codec.name.eq_ignore_ascii_case("rtx") {
        return None;
    }
    PayloadType::new(parameter(codec, "apt")?.parse().ok()?)
}

/// RTCP feedback that an endpoint negotiated for video.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoFeedback {
    /// Generic NACK.
    pub nack: bool,
    /// Picture loss indication.
    pub pli: bool,
    /// Full intra request.
    pub fir: bool,
    /// Transport-wide congestion control.
    pub transport_cc: bool,
    /// Receiver estimated maximum bitrate.
    pub remb: bool,
}

impl VideoFeedback {
    /// Collects the feedback of all video payload types.
    pub fn of(media: &Media) -> Self {
        let has = |kind: &str, subtype: &str| {
            media.codecs.iter().filter(|codec| codec.kind == MediaKind::Video).any(|codec| {
                codec.feedback.iter().any(|(k, s)| k.eq_ignore_ascii_case(kind) && s.eq_ignore_ascii_case(subtype))
            })
        };
        Self {
            nack: has("nack", ""),
            pli: has("nack", "pli"),
            fir: has("ccm", "fir"),
            transport_cc: has("transport-cc", ""),
            remb: has("goog-remb", ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negotiation::vocabulary::Vocabulary;

    const fn number(number: u8) -> PayloadType {
        PayloadType::new(number).expect("7 bits")
    }

    fn video(payload_type: u8, name: &str, parameters: &[(&str, &str)]) -> CodecParameters {
        CodecParameters {
            payload_type: number(payload_type),
            kind: MediaKind::Video,
            name: name.to_owned(),
            clock_rate: 90_000,
            channels: 1,
            parameters: parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            feedback: Vec::new(),
        }
    }

    fn table(list: Vec<CodecParameters>, vocabulary: &mut Vocabulary) -> FormatTable {
        let media = Media { codecs: list, ..Media::default() };
        FormatTable::compile(&media, &mut Names::new(vocabulary))
    }

    #[test]
    fn one_number_is_rtx_here_and_vp8_there() {
        let mut vocabulary = Vocabulary::default();
        let a = table(vec![video(100, "VP8", &[]), video(96, "rtx", &[("apt", "100")])], &mut vocabulary);
        let b = table(vec![video(96, "vp8", &[]), video(97, "rtx", &[("apt", "96")])], &mut vocabulary);
        let vp8 = a.media(MediaKind::Video, number(100)).unwrap();
        assert_eq!(b.media(MediaKind::Video, number(96)), Some(vp8));
        assert_eq!(a.media(MediaKind::Video, number(96)), None);
        assert_eq!(a.rtx(MediaKind::Video, number(96)), Some((number(100), vp8)));
        assert_eq!(b.output(vp8.id), Some(OutputFormat { payload_type: number(96), rtx: Some(number(97)) }));
        assert_eq!(a.output(vp8.id), Some(OutputFormat { payload_type: number(100), rtx: Some(number(96)) }));
    }

    #[test]
    fn the_offer_serves_numbers_that_the_answer_lacks() {
        let mut vocabulary = Vocabulary::default();
        let media = Media {
            codecs: vec![video(96, "VP8", &[]), video(97, "rtx", &[("apt", "96")])],
            offered_codecs: vec![video(100, "VP8", &[]), video(96, "rtx", &[("apt", "100")])],
            ..Media::default()
        };
        let table = FormatTable::compile(&media, &mut Names::new(&mut vocabulary));
        let vp8 = table.media(MediaKind::Video, number(96)).unwrap();
        assert_eq!(table.media(MediaKind::Video, number(100)), Some(vp8));
        assert_eq!(
            table.rtx(MediaKind::Video, number(96)),
            Some((number(100), vp8)),
            "by role, although 96 is VP8 in the answer"
        );
        assert_eq!(table.rtx(MediaKind::Video, number(97)), Some((number(96), vp8)));
        assert_eq!(table.output(vp8.id).unwrap().payload_type, number(96));
    }

    #[test]
    fn fmtp_tells_formats_apart() {
        let mut vocabulary = Vocabulary::default();
        let jicofo = [("profile-level-id", "42e01f;level-asymmetry-allowed=1;packetization-mode=1;")];
        let split = [("profile-level-id", "42C01F"), ("packetization-mode", "1")];
        let a = table(vec![video(107, "H264", &jicofo), video(101, "VP9", &[])], &mut vocabulary);
        let b = table(
            vec![
                video(50, "h264", &split),
                video(51, "h264", &[("profile-level-id", "640034"), ("packetization-mode", "1")]),
                video(52, "h264", &[("profile-level-id", "42e01f")]),
                video(53, "VP9", &[("profile-id", "2")]),
                video(54, "VP9", &[("profile-id", "0")]),
            ],
            &mut vocabulary,
        );
        let h264 = a.media(MediaKind::Video, number(107)).unwrap();
        assert_eq!(b.output(h264.id).unwrap().payload_type, number(50));
        let vp9 = a.media(MediaKind::Video, number(101)).unwrap();
        assert_eq!(b.output(vp9.id).unwrap().payload_type, number(54));
        assert_ne!(b.media(MediaKind::Video, number(51)), b.media(MediaKind::Video, number(50)));
        assert_ne!(b.media(MediaKind::Video, number(52)), b.media(MediaKind::Video, number(50)));
        assert_eq!(a.output(b.media(MediaKind::Video, number(53)).unwrap().id), None);
    }
}
