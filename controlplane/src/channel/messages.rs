//! Messages of the bridge channel (docs/protocol/bridge.md 5.5 and 5.6), and those of clients from before source names
//! (docs/protocol/focus.md 12). Unknown fields are ignored, unknown classes are not an error.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use axum::extract::ws::Utf8Bytes;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::counters;
use super::limits::{MAX_NAMES, is_shallow};

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

/// The first [`MAX_NAMES`] of what a list or a map has; the rest is read over.
struct First<T>(T);

struct FirstVisitor<T>(PhantomData<T>);

impl<'de> Deserialize<'de> for First<Vec<String>> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FirstVisitor(PhantomData::<Vec<String>>))
    }
}

impl<'de> Visitor<'de> for FirstVisitor<Vec<String>> {
    type Value = First<Vec<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while names.len() < MAX_NAMES {
            match list.next_element()? {
                Some(name) => names.push(name),
                None => return Ok(First(names)),
            }
        }
        let mut more = false;
        while list.next_element::<IgnoredAny>()?.is_some() {
            more = true;
        }
        counters::TOO_MANY_NAMES.fetch_add(u64::from(more), Ordering::Relaxed);
        Ok(First(names))
    }
}

type Constraints = BTreeMap<String, HeightConstraint>;

impl<'de> Deserialize<'de> for First<Constraints> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FirstVisitor(PhantomData::<Constraints>))
    }
}

impl<'de> Visitor<'de> for FirstVisitor<Constraints> {
    type Value = First<Constraints>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("constraints by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut constraints = BTreeMap::new();
        while constraints.len() < MAX_NAMES {
            match map.next_entry()? {
                Some((name, constraint)) => drop(constraints.insert(name, constraint)),
                None => return Ok(First(constraints)),
            }
        }
        let mut more = false;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            more = true;
        }
        counters::TOO_MANY_NAMES.fetch_add(u64::from(more), Ordering::Relaxed);
        Ok(First(constraints))
    }
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    First::<Vec<String>>::deserialize(deserializer).map(|names| names.0)
}

fn optional_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Ok(Option::<First<Vec<String>>>::deserialize(deserializer)?.map(|names| names.0))
}

fn optional_constraints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Constraints>, D::Error> {
    Ok(Option::<First<Constraints>>::deserialize(deserializer)?.map(|constraints| constraints.0))
}

/// What a client wants to receive; absent fields keep their previous value.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiverVideoConstraints {
    /// Video sources at most; -1 is unlimited.
    #[serde(default, deserialize_with = "optional_int")]
    pub last_n: Option<i32>,
    /// Selected source names.
    #[serde(default, deserialize_with = "optional_names")]
    pub selected_sources: Option<Vec<String>>,
    /// Source names on stage.
    #[serde(default, deserialize_with = "optional_names")]
    pub on_stage_sources: Option<Vec<String>>,
    /// Older dialect: selected endpoints.
    #[serde(default, deserialize_with = "optional_names")]
    pub selected_endpoints: Option<Vec<String>>,
    /// Older dialect: endpoints on stage.
    #[serde(default, deserialize_with = "optional_names")]
    pub on_stage_endpoints: Option<Vec<String>>,
    /// For everything that `constraints` does not name.
    pub default_constraints: Option<HeightConstraint>,
    /// By source name; in the older dialect by endpoint.
    #[serde(default, deserialize_with = "optional_constraints")]
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
    #[serde(default, deserialize_with = "optional_names")]
    pub include: Option<Vec<String>>,
    /// Source names that it does not want, whatever the others say.
    #[serde(default, deserialize_with = "optional_names")]
    pub exclude: Option<Vec<String>>,
    /// Older dialect, in place of the former.
    pub mode: Option<AudioSubscriptionMode>,
    /// Older dialect: the names that `mode` is about.
    #[serde(default, deserialize_with = "optional_names")]
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
        #[serde(deserialize_with = "names")]
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
    #[serde(skip_deserializing)]
    EndpointMessage {
        /// Whom it is for; empty is all.
        to: String,
        /// What they get.
        text: Utf8Bytes,
    },
    /// Statistics for the others.
    #[serde(skip_deserializing)]
    EndpointStats {
        /// What they get.
        text: Utf8Bytes,
    },
    /// A class that this bridge does not know.
    #[serde(other)]
    Unknown,
}

/// The discriminator alone.
#[derive(Deserialize)]
struct Class<'a> {
    #[serde(rename = "colibriClass", borrow)]
    class: Cow<'a, str>,
}

/// Why a message is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is no valid JSON of its class.
    #[error("no valid message: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is nested too deeply.
    #[error("nested more than {} deep", super::limits::MAX_DEPTH)]
    TooDeep,
}

impl ClientMessage {
    /// Reads one message of `endpoint`; what is for other clients is theirs to read, and stays the text that it is.
    ///
    /// # Errors
    /// When it is no valid JSON of its class, or nested too deeply.
    pub fn parse(endpoint: &str, text: &[u8]) -> Result<Self, Unusable> {
        if !is_shallow(text) {
            return Err(Unusable::TooDeep);
        }
        Ok(match serde_json::from_slice::<Class<'_>>(text)?.class.as_ref() {
            "EndpointMessage" => {
                let (to, text) = passed_on(endpoint, text)?;
                Self::EndpointMessage { to, text }
            }
            "EndpointStats" => Self::EndpointStats { text: passed_on(endpoint, text)?.1 },
            _ => serde_json::from_slice(text)?,
        })
    }

    /// Reads one message off a channel; what is of no use is counted.
    pub fn receive(endpoint: &str, text: &[u8]) -> Option<Self> {
        match Self::parse(endpoint, text) {
            Ok(Self::Unknown) => {
                counters::UNKNOWN_CLASS.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%endpoint, "bridge message of an unknown class dropped");
                None
            }
            Ok(message) => Some(message),
            Err(error) => {
                let counter = match error {
                    Unusable::Malformed(_) => &counters::MALFORMED,
                    Unusable::TooDeep => &counters::TOO_DEEP,
                };
                counter.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%endpoint, %error, "bridge message dropped");
                None
            }
        }
    }

    /// What it costs to do what it asks for; 1 is a message that is passed on.
    pub fn work(&self) -> usize {
        match self {
            Self::ReceiverVideoConstraints(_)
            | Self::ReceiverVideoConstraint { .. }
            | Self::LastNChangedEvent { .. }
            | Self::SelectedEndpointsChangedEvent { .. }
            | Self::SourceVideoTypeMessage { .. }
            | Self::VideoTypeMessage { .. }
            | Self::ReceiverAudioSubscription(_) => 10,
            Self::EndpointStats { .. } => 5,
            Self::ClientHello | Self::EndpointMessage { .. } | Self::Unknown => 1,
        }
    }
}

/// Whom an object is for, and the object with its true sender. The values of its fields are not taken apart.
fn passed_on(endpoint: &str, text: &[u8]) -> Result<(String, Utf8Bytes), serde_json::Error> {
    let mut fields: BTreeMap<Cow<'_, str>, &RawValue> = BTreeMap::new();
    // A name that comes twice counts as it did last.
    fields.extend(serde_json::from_slice::<Fields<'_>>(text)?.0);
    let to = fields.get("to").and_then(|to| serde_json::from_str(to.get()).ok()).unwrap_or_default();
    let from = to_raw_value(endpoint)?;
    fields.insert(Cow::Borrowed("from"), &from);
    Ok((to, Utf8Bytes::from(serde_json::to_string(&fields)?)))
}

/// The fields of an object, as written.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

#[derive(Deserialize)]
struct Field<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((Field(name), value)) = map.next_entry()? {
                    if fields.len() >= MAX_NAMES {
                        return Err(de::Error::custom("too many fields"));
                    }
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
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
            tracing::error!(%error, "a bridge message does not serialise; it is left out");
            String::from("{}")
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    fn parse(text: &str) -> Result<ClientMessage, Unusable> {
        ClientMessage::parse("a", text.as_bytes())
    }

    #[test]
    fn constraints_of_both_dialects() {
        let head = r#"{"colibriClass":"ReceiverVideoConstraints","lastN":-1,"future":1,
            "defaultConstraints":{"maxHeight":180},"constraints":{"ab-v0":{"maxHeight":720,"maxFrameRate":15}}}"#;
        let ClientMessage::ReceiverVideoConstraints(parsed) = parse(head).expect("valid") else {
            panic!("another class");
        };
        assert_eq!(parsed.last_n, Some(-1));
        assert_eq!(parsed.constraints.expect("there")["ab-v0"].max_height, 720);
        assert_eq!(parsed.selected_sources, None, "absent is not empty");
        let lyno = r#"{"colibriClass":"LastNChangedEvent","lastN":4}"#;
        assert_eq!(parse(lyno).expect("valid"), ClientMessage::LastNChangedEvent { last_n: 4 });
        assert_eq!(parse(r#"{"colibriClass":"SomethingNew","x":1}"#).expect("tolerated"), ClientMessage::Unknown);
        assert!(parse("{").is_err());
        assert!(parse(r#"{"colibriClass":"LastNChangedEvent","lastN":"many"}"#).is_err());
    }

    #[test]
    fn numbers_as_javascript_writes_them() {
        let text = r#"{"colibriClass":"ReceiverVideoConstraints","lastN":3.0,"assumedBandwidthBps":1e6,"selectedSources":null,
            "defaultConstraints":{"maxHeight":359.7,"maxFrameRate":null},"constraints":{"a-v0":{"maxHeight":null},"b-v0":{}}}"#;
        let ClientMessage::ReceiverVideoConstraints(parsed) = parse(text).expect("valid") else {
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
                    let message = parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
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
                        mid: Some("v0".into()),
                    }],
                },
                r#"{"colibriClass":"VideoSourcesMap","mappedSources":[{"source":"a-v0","owner":"a","ssrc":3405691582,"rtx":305419896,"videoType":"CAMERA","mid":"v0"}]}"#,
            ),
            (
                BridgeMessage::AudioSourcesMap {
                    mapped_sources: vec![AudioSourceMapping {
                        source: "a-a0".into(),
                        owner: "a".into(),
                        ssrc: 7,
                        mid: None,
                    }],
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
    }

    fn passed(text: &str) -> (String, Map<String, Value>) {
        match parse(text).expect("valid") {
            ClientMessage::EndpointMessage { to, text } => (to, serde_json::from_str(&text).expect("JSON")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_for_others_keeps_its_content_and_gets_its_true_sender() {
        let text = r#"{"colibriClass":"EndpointMessage","to":"b","from":"c","fr\u006fm":"d","from":"e",
            "msgPayload":{"x":[1,null,1e400,"\ud83e\udd80"]},"other":-0.0}"#;
        let ClientMessage::EndpointMessage { to, text } = parse(text).expect("valid") else { panic!("another class") };
        assert_eq!(to, "b");
        assert!(text.contains(r#""msgPayload":{"x":[1,null,1e400,"\ud83e\udd80"]}"#), "as written: {text}");
        assert_eq!(text.matches("from").count(), 1, "{text}");
        assert!(text.contains(r#""from":"a""#), "{text}");
        let (to, fields) = passed(r#"{"to":7,"msgPayload":1,"msgPayload":2,"colibriClass":"EndpointMessage"}"#);
        assert_eq!((to.as_str(), &fields["msgPayload"]), ("", &Value::from(2)));
        let quoted = ClientMessage::parse("a\"\\\n", br#"{"colibriClass":"EndpointStats"}"#).expect("valid");
        let ClientMessage::EndpointStats { text } = quoted else { panic!("another class") };
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON")["from"], "a\"\\\n");
    }

    #[test]
    fn what_is_for_others_is_whole_json() {
        for text in [
            r#"{"colibriClass":"EndpointMessage","x":}"#,
            r#"{"colibriClass":"EndpointMessage","x":1"#,
            r#"{"colibriClass":"EndpointMessage","x":1}{}"#,
            r#"{"colibriClass":"EndpointMessage","colibriClass":"EndpointStats"}"#,
            r#"["EndpointMessage"]"#,
            "",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let mut binary = br#"{"colibriClass":"EndpointMessage","x":"?"}"#.to_vec();
        let at = binary.iter().position(|byte| *byte == b'?').expect("there");
        binary[at] = 0xff;
        assert!(ClientMessage::parse("a", &binary).is_err(), "what clients get is text");
        let fields = (0..MAX_NAMES + 1).map(|n| format!(r#","f{n}":1"#)).collect::<String>();
        assert!(parse(&format!(r#"{{"colibriClass":"EndpointMessage"{fields}}}"#)).is_err());
    }

    #[test]
    fn depth_is_bounded_in_every_class() {
        let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
        for class in ["EndpointMessage", "EndpointStats", "ReceiverVideoConstraints", "Novelty"] {
            let text = format!(r#"{{"colibriClass":"{class}","x":{deep}}}"#);
            assert!(matches!(parse(&text), Err(Unusable::TooDeep)), "{class}");
        }
    }

    #[test]
    fn lists_and_maps_are_cut() {
        let quoted: Vec<String> = (0..10_000).map(|n| format!("\"s{n}\"")).collect();
        let (list, before) = (quoted.join(","), counters::TOO_MANY_NAMES.load(Ordering::Relaxed));
        let fields = ["selectedSources", "onStageSources", "selectedEndpoints", "onStageEndpoints"];
        let fields = fields.map(|field| format!(r#","{field}":[{list}]"#)).concat();
        let map = quoted.iter().map(|name| format!(r#"{name}:{{"maxHeight":1}}"#)).collect::<Vec<_>>().join(",");
        let text =
            format!(r#"{{"colibriClass":"ReceiverVideoConstraints"{fields},"constraints":{{{map}}},"lastN":3}}"#);
        let ClientMessage::ReceiverVideoConstraints(parsed) = parse(&text).expect("valid") else { panic!("class") };
        let lists =
            [parsed.selected_sources, parsed.on_stage_sources, parsed.selected_endpoints, parsed.on_stage_endpoints];
        for list in lists {
            let list = list.expect("there");
            assert_eq!((list.len(), list[0].as_str()), (MAX_NAMES, "s0"));
        }
        assert_eq!((parsed.constraints.map(|map| map.len()), parsed.last_n), (Some(MAX_NAMES), Some(3)));
        let audio = format!(r#"{{"colibriClass":"ReceiverAudioSubscription","include":[{list}],"exclude":[{list}]}}"#);
        let ClientMessage::ReceiverAudioSubscription(parsed) = parse(&audio).expect("valid") else { panic!("class") };
        assert_eq!(parsed.include.map(|list| list.len()), Some(MAX_NAMES));
        let old = format!(r#"{{"colibriClass":"SelectedEndpointsChangedEvent","selectedEndpoints":[{list}]}}"#);
        let ClientMessage::SelectedEndpointsChangedEvent { selected_endpoints } = parse(&old).expect("valid") else {
            panic!("class")
        };
        assert_eq!(selected_endpoints.len(), MAX_NAMES);
        assert_eq!(counters::TOO_MANY_NAMES.load(Ordering::Relaxed) - before, 8);
        assert!(parse(r#"{"colibriClass":"ReceiverVideoConstraints","selectedSources":[1]}"#).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = parse(&text);
            let _ = parse(&format!(r#"{{"colibriClass":"EndpointMessage",{text}}}"#));
        }
    }
}
