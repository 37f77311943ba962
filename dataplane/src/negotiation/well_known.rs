//! Formats and header extensions that clients negotiate in earnest. Their numbers are fixed, the same on every worker, and are
//! there whatever anybody else negotiates; what is not in these lists is numbered per conference (see [`crate::negotiation::vocabulary`]).

use std::sync::LazyLock;

use hashbrown::HashMap;

use super::ids::FormatKey;
use crate::media::MediaKind;

/// Names of audio formats in lower case, with their clocks in Hz and channels.
const AUDIO: &[(&str, u32, u8)] = &[
    ("opus", 48_000, 2),
    ("opus", 48_000, 1),
    ("red", 48_000, 2),
    ("red", 48_000, 1),
    ("red", 8_000, 1),
    ("multiopus", 48_000, 4),
    ("multiopus", 48_000, 6),
    ("multiopus", 48_000, 8),
    ("isac", 16_000, 1),
    ("isac", 32_000, 1),
    ("ilbc", 8_000, 1),
    ("g722", 8_000, 1),
    ("pcmu", 8_000, 1),
    ("pcma", 8_000, 1),
    ("speex", 16_000, 1),
    ("cn", 8_000, 1),
    ("cn", 16_000, 1),
    ("cn", 32_000, 1),
    ("cn", 48_000, 1),
    ("telephone-event", 8_000, 1),
    ("telephone-event", 16_000, 1),
    ("telephone-event", 32_000, 1),
    ("telephone-event", 48_000, 1),
];

/// Names of video formats in lower case, and what distinguishes incompatible ones of a name; all with a clock of 90 kHz.
const VIDEO: &[(&str, &[&str])] = &[
    ("vp8", &[""]),
    ("vp9", &["0", "1", "2", "3"]),
    ("av1", &["0", "1", "2"]),
    (
        "h264",
        &[
            "constrained-baseline/1",
            "constrained-baseline/0",
            "baseline/1",
            "baseline/0",
            "main/1",
            "main/0",
            "high/1",
            "high/0",
            "constrained-high/1",
            "constrained-high/0",
        ],
    ),
    ("h265", &[""]),
    ("red", &[""]),
];

/// Header extensions of the clients in use; the first eight are those that the bridge itself reads or writes, in the order of
/// the constants of [`crate::negotiation::ids::UriId`].
const URIS: &[&str] = &[
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "urn:ietf:params:rtp-hdrext:sdes:mid",
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00",
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    "urn:ietf:params:rtp-hdrext:toffset",
    "urn:ietf:params:rtp-hdrext:csrc-audio-level",
    "urn:ietf:params:rtp-hdrext:encrypt",
    "urn:ietf:params:rtp-hdrext:framemarking",
    "urn:3gpp:video-orientation",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
    "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type",
    "http://www.webrtc.org/experiments/rtp-hdrext/video-timing",
    "http://www.webrtc.org/experiments/rtp-hdrext/color-space",
    "http://www.webrtc.org/experiments/rtp-hdrext/inband-cn",
    "http://www.webrtc.org/experiments/rtp-hdrext/video-frame-tracking-id",
    "http://www.webrtc.org/experiments/rtp-hdrext/corruption-detection",
    "http://www.webrtc.org/experiments/rtp-hdrext/generic-frame-descriptor-00",
    "http://www.webrtc.org/experiments/rtp-hdrext/generic-frame-descriptor-01",
    "http://www.webrtc.org/experiments/rtp-hdrext/transport-wide-cc-02",
    "http://tools.ietf.org/html/draft-ietf-avtext-framemarking-07",
];

static FORMATS: LazyLock<HashMap<FormatKey, u16, foldhash::fast::RandomState>> = LazyLock::new(|| {
    let audio = AUDIO.iter().map(|(name, clock_rate, channels)| FormatKey {
        kind: MediaKind::Audio,
        name: (*name).to_owned(),
        clock_rate: *clock_rate,
        channels: *channels,
        variant: String::new(),
    });
    let video = VIDEO.iter().flat_map(|(name, variants)| {
        variants.iter().map(|variant| FormatKey {
            kind: MediaKind::Video,
            name: (*name).to_owned(),
            clock_rate: 90_000,
            channels: 1,
            variant: (*variant).to_owned(),
        })
    });
    video.chain(audio).zip(0..).collect()
});

static URI_NUMBERS: LazyLock<HashMap<&str, u16, foldhash::fast::RandomState>> =
    LazyLock::new(|| URIS.iter().copied().zip(0..).collect());

/// The number of a format; `None` when it is not in the list.
pub fn format(key: &FormatKey) -> Option<u16> {
    FORMATS.get(key).copied()
}

/// How many formats are in the list: the first number that is free.
pub fn formats() -> u16 {
    FORMATS.len() as u16
}

/// The number of a header extension; `None` when it is not in the list.
pub fn uri(uri: &str) -> Option<u16> {
    URI_NUMBERS.get(uri).copied()
}

/// How many header extensions are in the list: the first number that is free.
pub fn uris() -> u16 {
    URIS.len() as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negotiation::ids::UriId;

    #[test]
    fn every_entry_has_a_number_of_its_own_and_those_that_are_read_have_theirs() {
        assert_eq!(URI_NUMBERS.len(), URIS.len());
        let expected = AUDIO.len() + VIDEO.iter().map(|(_, variants)| variants.len()).sum::<usize>();
        assert_eq!(FORMATS.len(), expected);
        assert_eq!(uri("urn:ietf:params:rtp-hdrext:ssrc-audio-level"), Some(UriId::AUDIO_LEVEL.number()));
        assert_eq!(uri("urn:ietf:params:rtp-hdrext:sdes:mid"), Some(UriId::MID.number()));
        assert_eq!(
            uri("https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"),
            Some(UriId::DEPENDENCY.number())
        );
    }
}
