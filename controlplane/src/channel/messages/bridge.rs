//! Messages from the bridge to a client.

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;

/// Bridge to client.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "colibriClass")]
pub enum BridgeMessage {
    /// Greeting.
    ServerHello {
        /// Version of the bridge, where announced.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<String>,
    },
    /// How high one of the client's sources is needed at most.
    #[serde(rename_all = "camelCase")]
    SenderSourceConstraints {
        /// Source name.
        source_name: String,
        /// Pixels; -1 is unlimited, 0 is not needed.
        max_height: i32,
    },
    /// Older dialect of the former.
    #[serde(rename_all = "camelCase")]
    SenderVideoConstraints {
        /// The constraint.
        video_constraints: IdealHeight,
    },
    /// Video sources that the client gets.
    #[serde(rename_all = "camelCase")]
    ForwardedSources {
        /// Source names.
        forwarded_sources: Vec<String>,
    },
    /// Older dialect of the former.
    #[serde(rename_all = "camelCase")]
    LastNEndpointsChangeEvent {
        /// Endpoints whose video the client gets.
        last_n_endpoints: Vec<String>,
    },
    /// An endpoint fell silent or is back.
    EndpointConnectivityStatusChangeEvent {
        /// Name of the endpoint.
        endpoint: String,
        /// The words `true` or `false`.
        active: String,
    },
    /// Who speaks.
    #[serde(rename_all = "camelCase")]
    DominantSpeakerEndpointChangeEvent {
        /// Endpoint of the dominant speaker.
        dominant_speaker_endpoint: String,
        /// Endpoints that spoke before, the latest first.
        previous_speakers: Vec<String>,
        /// Whether nobody does.
        silence: bool,
    },
    /// What SSRCs of the client's video carry from now on; those that are not named are as before.
    #[serde(rename_all = "camelCase")]
    VideoSourcesMap {
        /// New or changed mappings of video.
        mapped_sources: Vec<VideoSourceMapping>,
    },
    /// The same of its audio.
    #[serde(rename_all = "camelCase")]
    AudioSourcesMap {
        /// New or changed mappings of audio.
        mapped_sources: Vec<AudioSourceMapping>,
    },
    /// What the way to the client carries.
    #[serde(rename_all = "camelCase")]
    ConnectionStats {
        /// Bits per second.
        estimated_downlink_bandwidth: u64,
    },
}

/// What a pair of SSRCs of video carries (docs/protocol/bridge.md 6.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VideoSourceMapping {
    /// Source name.
    pub source: String,
    /// Endpoint that it belongs to.
    pub owner: String,
    /// SSRC of the media packets.
    pub ssrc: u32,
    /// SSRC of the retransmissions.
    pub rtx: u32,
    /// `CAMERA`, `DESKTOP` and so on.
    pub video_type: &'static str,
    /// Media section id of its packets, where the client goes by that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
}

/// What an SSRC of audio carries (docs/protocol/bridge.md 6.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AudioSourceMapping {
    /// Source name.
    pub source: String,
    /// Endpoint that it belongs to.
    pub owner: String,
    /// SSRC.
    pub ssrc: u32,
    /// Media section id of its packets, where the client goes by that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
}

/// A height in the older dialect.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdealHeight {
    /// Pixels.
    pub ideal_height: i32,
}

impl BridgeMessage {
    /// The older dialect's sender constraint.
    pub fn ideal_height(ideal_height: i32) -> Self {
        Self::SenderVideoConstraints { video_constraints: IdealHeight { ideal_height } }
    }

    /// The text frame.
    pub fn to_text(&self) -> Utf8Bytes {
        Utf8Bytes::from(serde_json::to_string(self).unwrap_or_else(|error| {
            tracing::error!(%error, "a bridge message cannot be serialised; it is not sent");
            String::from("{}")
        }))
    }
}
