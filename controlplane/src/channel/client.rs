//! What clients send (bridge-protocol 5.5), in the current dialect and in that of clients of 2022
//! (focus-protocol 12), which name endpoints instead of sources.

use std::collections::BTreeMap;

use ringbridge_dataplane::media::{VideoConstraint, VideoType};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::json;

/// A message of a client. Unknown fields are ignored; absent ones are `None`.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientMessage {
    /// `ClientHello`: answered with `ServerHello`.
    ClientHello,
    /// `ReceiverVideoConstraints`: what it wants to receive; a patch of what it said before.
    ReceiverVideoConstraints(Box<ReceiverVideoConstraints>),
    /// `LastNChangedEvent`: how many videos it wants, -1 for all.
    LastNChanged {
        /// As in [`ReceiverVideoConstraints::last_n`].
        last_n: i32,
    },
    /// `SelectedEndpointsChangedEvent` and the older `SelectedEndpointChangedEvent`: endpoints of special interest.
    SelectedEndpointsChanged {
        /// Endpoint ids; replaces the earlier list.
        selected_endpoints: Vec<String>,
    },
    /// `ReceiverVideoConstraint`: the largest height that it wants of anything.
    ReceiverVideoConstraint {
        /// Pixels; -1 is unlimited.
        max_frame_height: i32,
    },
    /// `ReceiverAudioSubscription`: whose audio it wants.
    ReceiverAudioSubscription(ReceiverAudioSubscription),
    /// `SourceVideoTypeMessage`: what one of its sources shows.
    SourceVideoType {
        /// Source name.
        source_name: String,
        /// What it shows.
        video_type: VideoType,
    },
    /// `VideoTypeMessage`, the older form: what its first video source shows.
    VideoType {
        /// What it shows.
        video_type: VideoType,
    },
    /// `EndpointMessage`: for one endpoint, or for everybody when `to` is empty.
    EndpointMessage {
        /// Endpoint id, or empty.
        to: String,
        /// The whole object, `colibriClass` and `to` included.
        body: Map<String, Value>,
    },
    /// `EndpointStats`: statistics for the others.
    EndpointStats {
        /// The whole object, `colibriClass` included.
        body: Map<String, Value>,
    },
    /// A class that this bridge does not know.
    Unknown {
        /// Its `colibriClass`.
        class: String,
    },
}

/// `ReceiverVideoConstraints`. Each absent field keeps its previous value; `constraints` is replaced as a whole.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReceiverVideoConstraints {
    /// How many video sources at most; -1 is unlimited.
    #[serde(deserialize_with = "json::optional_int")]
    pub last_n: Option<i32>,
    /// Source names.
    pub selected_sources: Option<Vec<String>>,
    /// Source names, the most important first.
    pub on_stage_sources: Option<Vec<String>>,
    /// Older dialect: endpoint ids.
    pub selected_endpoints: Option<Vec<String>>,
    /// Older dialect: endpoint ids.
    pub on_stage_endpoints: Option<Vec<String>>,
    /// For what `constraints` does not name.
    #[serde(deserialize_with = "json::optional_constraint")]
    pub default_constraints: Option<VideoConstraint>,
    /// By source name; in the older dialect by endpoint id.
    #[serde(deserialize_with = "json::optional_constraints")]
    pub constraints: Option<BTreeMap<String, VideoConstraint>>,
    /// Bandwidth that the client says it has, bit/s; -1 is off.
    #[serde(deserialize_with = "json::optional_long")]
    pub assumed_bandwidth_bps: Option<i64>,
}

impl ReceiverVideoConstraints {
    /// Whether the client speaks the older dialect, which names endpoints.
    pub fn names_endpoints(&self) -> bool {
        self.selected_endpoints.is_some() || self.on_stage_endpoints.is_some()
    }
}

/// `ReceiverAudioSubscription` (bridge-protocol 9.4).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ReceiverAudioSubscription {
    /// Everything but `exclude`.
    pub all: Option<bool>,
    /// Source names that it wants.
    pub include: Option<Vec<String>>,
    /// Source names that it does not want.
    pub exclude: Option<Vec<String>>,
    /// Older form: `All`, `None`, `Include` or `Exclude`, with `list`.
    pub mode: Option<String>,
    /// Source names of the older form.
    pub list: Option<Vec<String>>,
}

/// Why a message was dropped.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or not an object.
    #[error("not a JSON object: {0}")]
    NotAnObject(serde_json::Error),
    /// No class.
    #[error("the object has no text field `colibriClass`")]
    NoClass,
    /// A field is missing or has the wrong type.
    #[error("{class}: {error}")]
    Field {
        /// The `colibriClass`.
        class: String,
        /// What is wrong.
        error: serde_json::Error,
    },
}

impl ClientMessage {
    /// Reads one text frame.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let body: Map<String, Value> = serde_json::from_str(text).map_err(ParseError::NotAnObject)?;
        let Some(Value::String(class)) = body.get("colibriClass") else { return Err(ParseError::NoClass) };
        let class = class.clone();
        Self::of_class(&class, body).map_err(|error| ParseError::Field { class, error })
    }

    fn of_class(class: &str, body: Map<String, Value>) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct LastN {
            #[serde(deserialize_with = "json::required_int")]
            last_n: i32,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct SelectedMany {
            selected_endpoints: Vec<String>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct SelectedOne {
            selected_endpoint: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct MaxHeight {
            #[serde(deserialize_with = "json::required_int")]
            max_frame_height: i32,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct SourceVideoType {
            source_name: String,
            #[serde(deserialize_with = "json::video_type")]
            video_type: VideoType,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct LegacyVideoType {
            #[serde(deserialize_with = "json::video_type")]
            video_type: VideoType,
        }

        fn read<T: serde::de::DeserializeOwned>(body: Map<String, Value>) -> Result<T, serde_json::Error> {
            serde_json::from_value(Value::Object(body))
        }

        Ok(match class {
            "ClientHello" => Self::ClientHello,
            "ReceiverVideoConstraints" => Self::ReceiverVideoConstraints(Box::new(read(body)?)),
            "LastNChangedEvent" => Self::LastNChanged { last_n: read::<LastN>(body)?.last_n },
            "SelectedEndpointsChangedEvent" => {
                Self::SelectedEndpointsChanged { selected_endpoints: read::<SelectedMany>(body)?.selected_endpoints }
            }
            "SelectedEndpointChangedEvent" => {
                let one = read::<SelectedOne>(body)?.selected_endpoint;
                Self::SelectedEndpointsChanged {
                    selected_endpoints: one.into_iter().filter(|id| !id.is_empty()).collect(),
                }
            }
            "ReceiverVideoConstraint" => {
                Self::ReceiverVideoConstraint { max_frame_height: read::<MaxHeight>(body)?.max_frame_height }
            }
            "ReceiverAudioSubscription" => Self::ReceiverAudioSubscription(read(body)?),
            "SourceVideoTypeMessage" => {
                let SourceVideoType { source_name, video_type } = read(body)?;
                Self::SourceVideoType { source_name, video_type }
            }
            "VideoTypeMessage" => Self::VideoType { video_type: read::<LegacyVideoType>(body)?.video_type },
            "EndpointMessage" => {
                // An absent or null `to` is a broadcast, as an empty one is.
                let to = match body.get("to") {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(to)) => to.clone(),
                    Some(other) => return Err(serde::de::Error::custom(format!("`to` is not a text: {other}"))),
                };
                Self::EndpointMessage { to, body }
            }
            "EndpointStats" => Self::EndpointStats { body },
            _ => Self::Unknown { class: class.to_owned() },
        })
    }
}
