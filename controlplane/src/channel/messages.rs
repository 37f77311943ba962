//! What the bridge sends to clients (bridge-protocol 5.6, and the older dialect of focus-protocol 12).

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

/// A message to a client.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "colibriClass", rename_all_fields = "camelCase")]
pub enum BridgeMessage {
    /// The greeting.
    ServerHello {
        /// Version of the bridge, if it is announced.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<String>,
    },
    /// The dominant speaker, or the list of recent speakers, changed.
    DominantSpeakerEndpointChangeEvent {
        /// Endpoint id.
        dominant_speaker_endpoint: String,
        /// Up to ten earlier ones, the latest first.
        previous_speakers: Vec<String>,
        /// Whether nobody speaks now.
        silence: bool,
    },
    /// An endpoint became inactive, or active again.
    EndpointConnectivityStatusChangeEvent {
        /// Endpoint id.
        endpoint: String,
        /// Clients expect the texts "true" and "false".
        #[serde(serialize_with = "as_text")]
        active: bool,
    },
    /// The video sources that the client is being sent.
    ForwardedSources {
        /// Source names.
        forwarded_sources: Vec<String>,
    },
    /// SSRC rewriting: which source is behind which video SSRC.
    VideoSourcesMap {
        /// New and changed ones only.
        mapped_sources: Vec<VideoSourceMapping>,
    },
    /// SSRC rewriting: which source is behind which audio SSRC.
    AudioSourcesMap {
        /// New and changed ones only.
        mapped_sources: Vec<AudioSourceMapping>,
    },
    /// The largest height that anybody wants of one of the client's sources.
    SenderSourceConstraints {
        /// Source name.
        source_name: String,
        /// Pixels; -1 is unlimited, 0 is nobody.
        max_height: i32,
    },
    /// What the bridge estimates of the client's downlink.
    ConnectionStats {
        /// Bit/s.
        estimated_downlink_bandwidth: u64,
    },
    /// Older dialect of `ForwardedSources`: endpoints whose video is sent.
    LastNEndpointsChangeEvent {
        /// Endpoint ids.
        last_n_endpoints: Vec<String>,
    },
    /// Older dialect of `SenderSourceConstraints`.
    SenderVideoConstraints {
        /// The constraint.
        video_constraints: IdealHeight,
    },
    /// An object of another client (`EndpointMessage`, `EndpointStats`), with its `colibriClass`, `from` filled in.
    #[serde(untagged)]
    Forwarded(Map<String, Value>),
}

/// One entry of [`BridgeMessage::VideoSourcesMap`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VideoSourceMapping {
    /// Source name.
    pub source: String,
    /// Endpoint id.
    pub owner: String,
    /// SSRC of the media packets.
    pub ssrc: u32,
    /// SSRC of the retransmissions.
    pub rtx: u32,
    /// `CAMERA`, `DESKTOP`, …
    pub video_type: String,
    /// Media section, where one was signalled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
}

/// One entry of [`BridgeMessage::AudioSourcesMap`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AudioSourceMapping {
    /// Source name.
    pub source: String,
    /// Endpoint id.
    pub owner: String,
    /// SSRC of the media packets.
    pub ssrc: u32,
    /// Media section, where one was signalled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
}

/// A height that a sender should aim at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdealHeight {
    /// Pixels; 0 is off.
    pub ideal_height: i32,
}

fn as_text<S: Serializer>(value: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *value { "true" } else { "false" })
}

impl BridgeMessage {
    /// The greeting, without a version.
    pub fn hello() -> Self {
        Self::ServerHello { version: None }
    }

    /// As one text frame.
    pub fn to_json(&self) -> String {
        // Plain text, numbers and maps with text keys always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_reference_writes_them() {
        let cases = [
            (BridgeMessage::hello(), r#"{"colibriClass":"ServerHello"}"#),
            (
                BridgeMessage::SenderSourceConstraints { source_name: "ab12cd34-v0".into(), max_height: 360 },
                r#"{"colibriClass":"SenderSourceConstraints","sourceName":"ab12cd34-v0","maxHeight":360}"#,
            ),
            (
                BridgeMessage::EndpointConnectivityStatusChangeEvent { endpoint: "ab12cd34".into(), active: false },
                r#"{"colibriClass":"EndpointConnectivityStatusChangeEvent","endpoint":"ab12cd34","active":"false"}"#,
            ),
            (
                BridgeMessage::DominantSpeakerEndpointChangeEvent {
                    dominant_speaker_endpoint: "a".into(),
                    previous_speakers: vec!["b".into()],
                    silence: false,
                },
                r#"{"colibriClass":"DominantSpeakerEndpointChangeEvent","dominantSpeakerEndpoint":"a","previousSpeakers":["b"],"silence":false}"#,
            ),
            (
                BridgeMessage::ForwardedSources { forwarded_sources: vec![] },
                r#"{"colibriClass":"ForwardedSources","forwardedSources":[]}"#,
            ),
            (
                BridgeMessage::VideoSourcesMap {
                    mapped_sources: vec![VideoSourceMapping {
                        source: "ef56-v0".into(),
                        owner: "ef56".into(),
                        ssrc: 3_405_691_582,
                        rtx: 305_419_896,
                        video_type: "CAMERA".into(),
                        mid: Some("v0".into()),
                    }],
                },
                r#"{"colibriClass":"VideoSourcesMap","mappedSources":[{"source":"ef56-v0","owner":"ef56","ssrc":3405691582,"rtx":305419896,"videoType":"CAMERA","mid":"v0"}]}"#,
            ),
            (
                BridgeMessage::LastNEndpointsChangeEvent { last_n_endpoints: vec!["a".into()] },
                r#"{"colibriClass":"LastNEndpointsChangeEvent","lastNEndpoints":["a"]}"#,
            ),
            (
                BridgeMessage::SenderVideoConstraints { video_constraints: IdealHeight { ideal_height: 180 } },
                r#"{"colibriClass":"SenderVideoConstraints","videoConstraints":{"idealHeight":180}}"#,
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(message.to_json(), expected);
        }
    }

    #[test]
    fn a_forwarded_object_keeps_its_own_class() {
        let Value::Object(body) =
            serde_json::json!({"colibriClass": "EndpointMessage", "from": "a", "msgPayload": [1]})
        else {
            unreachable!("an object")
        };
        let sent: Value = serde_json::from_str(&BridgeMessage::Forwarded(body.clone()).to_json()).expect("JSON");
        assert_eq!(sent, Value::Object(body));
    }
}
