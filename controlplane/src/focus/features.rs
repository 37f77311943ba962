//! What clients can do.

/// What a client can do, from its disco features (docs/protocol/focus.md 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Features {
    /// Audio at all.
    pub audio: bool,
    /// Video at all.
    pub video: bool,
    /// Retransmissions.
    pub rtx: bool,
    /// Transport-wide congestion control.
    pub tcc: bool,
    /// REMB.
    pub remb: bool,
    /// Sources in compact JSON.
    pub json_sources: bool,
    /// Data channels over SCTP.
    pub sctp: bool,
    /// Expects a bridge that maps sources to a few SSRCs.
    pub ssrc_rewriting: bool,
    /// Finds the media section of a packet by its `sdes:mid` extension; counts with SSRC rewriting.
    pub mid_demux: bool,
    /// A gateway that can be muted.
    pub audio_mute: bool,
}

impl Features {
    /// What is assumed of a client that does not say.
    pub const UNKNOWN: Self = Self {
        audio: true,
        video: true,
        rtx: false,
        tcc: false,
        remb: false,
        json_sources: false,
        sctp: false,
        ssrc_rewriting: false,
        mid_demux: false,
        audio_mute: false,
    };

    /// Their names, as Jicofo's pages have them.
    pub fn names(self) -> Vec<&'static str> {
        [
            (self.audio, "AUDIO"),
            (self.video, "VIDEO"),
            (self.sctp, "SCTP"),
            (self.rtx, "RTX"),
            (self.remb, "REMB"),
            (self.tcc, "TCC"),
            (self.ssrc_rewriting, "SSRC_REWRITING_V1"),
            (self.mid_demux, "RTP_MID_DEMUX"),
            (self.json_sources, "JSON_SOURCES"),
            (self.audio_mute, "AUDIO_MUTE"),
        ]
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name))
        .collect()
    }

    /// Reads disco features.
    pub fn from_vars<'a>(vars: impl Iterator<Item = &'a str>) -> Self {
        let mut features = Self { audio: false, video: false, ..Self::UNKNOWN };
        for var in vars {
            match var {
                "urn:xmpp:jingle:apps:rtp:audio" => features.audio = true,
                "urn:xmpp:jingle:apps:rtp:video" => features.video = true,
                "urn:ietf:rfc:4588" => features.rtx = true,
                "http://jitsi.org/tcc" => features.tcc = true,
                "http://jitsi.org/remb" => features.remb = true,
                "urn:xmpp:jingle:transports:dtls-sctp:1" => features.sctp = true,
                "http://jitsi.org/ssrc-rewriting-1" => features.ssrc_rewriting = true,
                "http://jitsi.org/protocol/audio-mute" => features.audio_mute = true,
                "http://jitsi.org/rtp-mid-demux" => features.mid_demux = true,
                "http://jitsi.org/json-encoded-sources" => features.json_sources = true,
                _ => {}
            }
        }
        features
    }
}
