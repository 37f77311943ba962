//! Messages of the bridge channel (bridge-protocol 5.5 and 5.6), and those of clients from before source names
//! (focus-protocol 12). Unknown fields are ignored, unknown classes are not an error.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::counters;

/// The largest picture wanted.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeightConstraint {
    /// Pixels; -1 is unlimited, 0 is off.
    #[serde(default = "unlimited", deserialize_with = "int")]
    pub max_height: i32,
    /// Frames per second; negative is unlimited, 0 is off.
    #[serde(default = "unlimited_rate", deserialize_with = "rate")]
    pub max_frame_rate: f64,
}

fn unlimited() -> i32 {
    -1
}

fn unlimited_rate() -> f64 {
    -1.0
}

/// A JavaScript number where an integer is meant: fractions are cut, and infinity, which JSON writes as null, is -1.
fn int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    // `as` saturates.
    Ok(Option::<f64>::deserialize(deserializer)?.map_or(-1, |number| number as i32))
}

fn optional_int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.map(|number| number as i32))
}

fn optional_long<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.map(|number| number as i64))
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(-1.0))
}

/// What a client wants to receive; absent fields keep their previous value.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiverVideoConstraints {
    /// Video sources at most; -1 is unlimited.
    #[serde(default, deserialize_with = "optional_int")]
    pub last_n: Option<i32>,
    /// Selected source names.
    pub selected_sources: Option<Vec<String>>,
    /// Source names on stage.
    pub on_stage_sources: Option<Vec<String>>,
    /// Older dialect: selected endpoints.
    pub selected_endpoints: Option<Vec<String>>,
    /// Older dialect: endpoints on stage.
    pub on_stage_endpoints: Option<Vec<String>>,
    /// For everything that `constraints` does not name.
    pub default_constraints: Option<HeightConstraint>,
    /// By source name; in the older dialect by endpoint.
    pub constraints: Option<BTreeMap<String, HeightConstraint>>,
    /// A limit that the client knows of, bit/s; -1 is none.
    #[serde(default, deserialize_with = "optional_long")]
    pub assumed_bandwidth_bps: Option<i64>,
}

/// Which audio a client wants.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct ReceiverAudioSubscription {
    /// Whether it wants what neither list names; absent is no.
    pub all: Option<bool>,
    /// Source names that it wants in any case.
    pub include: Option<Vec<String>>,
    /// Source names that it does not want, whatever the others say.
    pub exclude: Option<Vec<String>>,
    /// Older dialect, in place of the former.
    pub mode: Option<AudioSubscriptionMode>,
    /// Older dialect: the names that `mode` is about.
    pub list: Option<Vec<String>>,
}

/// Which audio, in the older dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum AudioSubscriptionMode {
    /// All.
    All,
    /// None.
    None,
    /// Only what the list names.
    Include,
    /// All but what the list names.
    Exclude,
}

/// Client to bridge.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "colibriClass")]
pub enum ClientMessage {
    /// Asks for a `ServerHello`.
    ClientHello,
    /// What it wants to receive.
    ReceiverVideoConstraints(ReceiverVideoConstraints),
    /// Older dialect: one height for everything.
    #[serde(rename_all = "camelCase")]
    ReceiverVideoConstraint {
        /// Pixels.
        #[serde(deserialize_with = "int")]
        max_frame_height: i32,
    },
    /// Older dialect: how many video sources.
    #[serde(rename_all = "camelCase")]
    LastNChangedEvent {
        /// -1 is unlimited.
        #[serde(deserialize_with = "int")]
        last_n: i32,
    },
    /// Older dialect: selected endpoints.
    #[serde(rename_all = "camelCase")]
    SelectedEndpointsChangedEvent {
        /// Endpoint ids.
        selected_endpoints: Vec<String>,
    },
    /// What one of its sources shows.
    #[serde(rename_all = "camelCase")]
    SourceVideoTypeMessage {
        /// Source name.
        source_name: String,
        /// `camera`, `desktop`, `desktop_high_fps`, `none` or `disabled`, in any case.
        video_type: String,
    },
    /// Older dialect: what its only source shows.
    #[serde(rename_all = "camelCase")]
    VideoTypeMessage {
        /// As above.
        video_type: String,
    },
    /// Which audio it wants.
    ReceiverAudioSubscription(ReceiverAudioSubscription),
    /// For one other endpoint, or for all.
    EndpointMessage(Map<String, Value>),
    /// Statistics for the others.
    EndpointStats(Map<String, Value>),
    /// A class that this bridge does not know.
    #[serde(other)]
    Unknown,
}

impl ClientMessage {
    /// Reads one text frame.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Reads one message off a channel; what is of no use is counted.
    pub fn receive(endpoint: &str, text: &[u8]) -> Option<Self> {
        match serde_json::from_slice(text) {
            Ok(Self::Unknown) => {
                counters::UNKNOWN_CLASS.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%endpoint, "bridge message of an unknown class dropped");
                None
            }
            Ok(message) => Some(message),
            Err(error) => {
                counters::MALFORMED.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%endpoint, %error, "malformed bridge message dropped");
                None
            }
        }
    }
}

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
        /// Which.
        endpoint: String,
        /// The words `true` or `false`.
        active: String,
    },
    /// Who speaks.
    #[serde(rename_all = "camelCase")]
    DominantSpeakerEndpointChangeEvent {
        /// Now.
        dominant_speaker_endpoint: String,
        /// Before.
        previous_speakers: Vec<String>,
        /// Whether nobody does.
        silence: bool,
    },
    /// What SSRCs of the client's video carry from now on; those that are not named are as before.
    #[serde(rename_all = "camelCase")]
    VideoSourcesMap {
        /// The news.
        mapped_sources: Vec<VideoSourceMapping>,
    },
    /// The same of its audio.
    #[serde(rename_all = "camelCase")]
    AudioSourcesMap {
        /// The news.
        mapped_sources: Vec<AudioSourceMapping>,
    },
    /// What the way to the client carries.
    #[serde(rename_all = "camelCase")]
    ConnectionStats {
        /// Bits per second.
        estimated_downlink_bandwidth: u64,
    },
    /// An object of another client, passed on as it came with `from` filled in; its class is in it.
    #[serde(untagged)]
    Forwarded(Map<String, Value>),
}

/// What a pair of SSRCs of video carries (bridge-protocol 6.6).
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
}

/// What an SSRC of audio carries (bridge-protocol 6.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AudioSourceMapping {
    /// Source name.
    pub source: String,
    /// Endpoint that it belongs to.
    pub owner: String,
    /// SSRC.
    pub ssrc: u32,
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
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| {
            tracing::error!(%error, "a bridge message does not serialise; it is left out");
            String::from("{}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn constraints_of_both_dialects() {
        let head = r#"{"colibriClass":"ReceiverVideoConstraints","lastN":-1,"future":1,
            "defaultConstraints":{"maxHeight":180},"constraints":{"ab-v0":{"maxHeight":720,"maxFrameRate":15}}}"#;
        let ClientMessage::ReceiverVideoConstraints(parsed) = ClientMessage::parse(head).expect("valid") else {
            panic!("another class");
        };
        assert_eq!(parsed.last_n, Some(-1));
        assert_eq!(parsed.constraints.expect("there")["ab-v0"].max_height, 720);
        assert_eq!(parsed.selected_sources, None, "absent is not empty");
        let lyno = r#"{"colibriClass":"LastNChangedEvent","lastN":4}"#;
        assert_eq!(ClientMessage::parse(lyno).expect("valid"), ClientMessage::LastNChangedEvent { last_n: 4 });
        assert_eq!(
            ClientMessage::parse(r#"{"colibriClass":"SomethingNew","x":1}"#).expect("tolerated"),
            ClientMessage::Unknown
        );
        assert!(ClientMessage::parse("{").is_err());
        assert!(ClientMessage::parse(r#"{"colibriClass":"LastNChangedEvent","lastN":"many"}"#).is_err());
    }

    #[test]
    fn numbers_as_javascript_writes_them() {
        let text = r#"{"colibriClass":"ReceiverVideoConstraints","lastN":3.0,"assumedBandwidthBps":1e6,"selectedSources":null,
            "defaultConstraints":{"maxHeight":359.7,"maxFrameRate":null},"constraints":{"a-v0":{"maxHeight":null},"b-v0":{}}}"#;
        let ClientMessage::ReceiverVideoConstraints(parsed) = ClientMessage::parse(text).expect("valid") else {
            panic!("another class");
        };
        let height = |max_height| HeightConstraint { max_height, max_frame_rate: -1.0 };
        assert_eq!((parsed.last_n, parsed.assumed_bandwidth_bps), (Some(3), Some(1_000_000)));
        assert_eq!((parsed.selected_sources, parsed.default_constraints), (None, Some(height(359))));
        let constraints = parsed.constraints.expect("there");
        assert_eq!((constraints["a-v0"], constraints["b-v0"]), (height(-1), height(-1)));
    }

    /// Every text frame that real clients sent in the recordings; none is of an unknown class.
    #[test]
    fn recorded_messages_parse() {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures"));
        let mut parsed = 0;
        // The recordings lie beside the repository; without them there is nothing to check.
        for scenario in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(lines) = std::fs::read_to_string(scenario.path().join("bridge-channel.jsonl")) else { continue };
            for line in lines.lines() {
                let entry: Value = serde_json::from_str(line).expect("a recorded line");
                if entry["dir"] == "client->bridge" {
                    let text = entry["msg"].to_string();
                    let message = ClientMessage::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
                    assert_ne!(message, ClientMessage::Unknown, "{text}");
                    parsed += 1;
                }
            }
        }
        assert!(parsed > 100 || !folder.exists(), "only {parsed} recorded messages");
    }

    #[test]
    fn what_is_sent_is_what_the_reference_sends() {
        let texts = [
            (BridgeMessage::ServerHello { version: None }, r#"{"colibriClass":"ServerHello"}"#),
            (
                BridgeMessage::SenderSourceConstraints { source_name: "a-v0".into(), max_height: 360 },
                r#"{"colibriClass":"SenderSourceConstraints","sourceName":"a-v0","maxHeight":360}"#,
            ),
            (
                BridgeMessage::EndpointConnectivityStatusChangeEvent { endpoint: "a".into(), active: "false".into() },
                r#"{"colibriClass":"EndpointConnectivityStatusChangeEvent","endpoint":"a","active":"false"}"#,
            ),
            (
                BridgeMessage::ConnectionStats { estimated_downlink_bandwidth: 2_500_000 },
                r#"{"colibriClass":"ConnectionStats","estimatedDownlinkBandwidth":2500000}"#,
            ),
            (
                BridgeMessage::VideoSourcesMap {
                    mapped_sources: vec![VideoSourceMapping {
                        source: "a-v0".into(),
                        owner: "a".into(),
                        ssrc: 3_405_691_582,
                        rtx: 305_419_896,
                        video_type: "CAMERA",
                    }],
                },
                r#"{"colibriClass":"VideoSourcesMap","mappedSources":[{"source":"a-v0","owner":"a","ssrc":3405691582,"rtx":305419896,"videoType":"CAMERA"}]}"#,
            ),
            (
                BridgeMessage::AudioSourcesMap {
                    mapped_sources: vec![AudioSourceMapping { source: "a-a0".into(), owner: "a".into(), ssrc: 7 }],
                },
                r#"{"colibriClass":"AudioSourcesMap","mappedSources":[{"source":"a-a0","owner":"a","ssrc":7}]}"#,
            ),
            (
                BridgeMessage::ideal_height(180),
                r#"{"colibriClass":"SenderVideoConstraints","videoConstraints":{"idealHeight":180}}"#,
            ),
        ];
        for (message, text) in texts {
            assert_eq!(message.to_text(), text);
        }
        let Value::Object(object) =
            serde_json::json!({"colibriClass":"EndpointMessage","from":"a","msgPayload":{"x":1}})
        else {
            panic!("an object");
        };
        let text = BridgeMessage::Forwarded(object.clone()).to_text();
        assert_eq!(serde_json::from_str::<Map<String, Value>>(&text).expect("json"), object);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = ClientMessage::parse(&text);
        }
    }
}
