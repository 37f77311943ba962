//! Messages from a client to the bridge.

use std::collections::BTreeMap;

use axum::extract::ws::Utf8Bytes;
use ringbridge_dataplane::media::VideoConstraint;
use serde::Deserialize;

use super::class::{Unusable, class};
use super::fields::{
    counting_cuts, int, names, optional_constraint, optional_constraints, optional_int, optional_long, optional_names,
};
use super::passed_on::passed_on;
use crate::channel::counters::{ChannelCounters, Counted};

/// What a client changes of the [`ReceiverConstraints`](ringbridge_dataplane::media::ReceiverConstraints) that it asked for before;
/// absent fields keep their value.
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
    #[serde(default, deserialize_with = "optional_constraint")]
    pub default_constraints: Option<VideoConstraint>,
    /// By source name; in the older dialect by endpoint.
    #[serde(default, deserialize_with = "optional_constraints")]
    pub constraints: Option<BTreeMap<String, VideoConstraint>>,
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
    /// All audio.
    All,
    /// No audio.
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
        /// `camera`, `desktop`, `desktop_high_fps`, `none` or `disabled`, in any case.
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

impl ClientMessage {
    /// Reads one message of `endpoint`; what is for other clients is theirs to read, and stays the text that it is.
    ///
    /// # Errors
    /// When it is no valid JSON of its class, or nested too deeply.
    pub fn parse(endpoint: &str, text: &[u8]) -> Result<Self, Unusable> {
        Ok(match class(text)?.as_ref() {
            "EndpointMessage" => {
                let (to, text) = passed_on(endpoint, text)?;
                Self::EndpointMessage { to, text }
            }
            "EndpointStats" => Self::EndpointStats { text: passed_on(endpoint, text)?.1 },
            _ => serde_json::from_slice(text)?,
        })
    }

    /// Reads one message off a channel; what is of no use is counted.
    pub fn receive(endpoint: &str, text: &[u8], counters: &ChannelCounters) -> Option<Self> {
        let (parsed, cuts) = counting_cuts(|| Self::parse(endpoint, text));
        counters.add(Counted::TooManyNames, cuts);
        match parsed {
            Ok(Self::Unknown) => {
                counters.count(Counted::UnknownClass);
                tracing::debug!(%endpoint, "bridge message of an unknown class dropped");
                None
            }
            Ok(message) => Some(message),
            Err(error) => {
                counters.count(error.counted());
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
