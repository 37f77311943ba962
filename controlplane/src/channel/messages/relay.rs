//! Messages between two bridges (docs/protocol/bridge.md 10).

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};

use super::class::{Unusable, class};
use super::fields::{int, unlimited};
use super::passed_on::{Relayed, relayed};
use crate::channel::counters::{ChannelCounters, Counted};

/// What another bridge says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "colibriClass")]
pub enum FromRelay {
    /// Asks for a `ServerHello`.
    ClientHello,
    /// Greets.
    ServerHello {
        /// Its version, where announced.
        version: Option<String>,
    },
    /// What it wants of one source, the most that its receivers want.
    #[serde(rename_all = "camelCase")]
    AddReceiver {
        /// Source name.
        source_name: String,
        /// The largest picture.
        video_constraints: Picture,
    },
    /// What a source of an endpoint behind it shows.
    #[serde(rename_all = "camelCase")]
    SourceVideoTypeMessage {
        /// Source name.
        source_name: String,
        /// `camera`, `desktop`, `desktop_high_fps`, `none` or `disabled`, in any case.
        video_type: String,
        /// The endpoint.
        endpoint_id: String,
    },
    /// An endpoint behind it fell silent or is back.
    EndpointConnectivityStatusChangeEvent {
        /// The endpoint.
        endpoint: String,
        /// The words `true` or `false`.
        active: String,
    },
    /// Something of an endpoint behind it, for one endpoint or for all.
    #[serde(skip_deserializing)]
    EndpointMessage(Relayed),
    /// Statistics of an endpoint behind it.
    #[serde(skip_deserializing)]
    EndpointStats(Relayed),
    /// A class that this bridge does not know, or that has no effect.
    #[serde(other)]
    Unknown,
}

/// The largest picture wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Picture {
    /// Pixels; -1 is unlimited, 0 is not wanted.
    #[serde(default = "unlimited", deserialize_with = "int")]
    pub max_height: i32,
}

impl FromRelay {
    /// Reads one message; what is for clients stays the text that it is.
    ///
    /// # Errors
    /// When it is no valid JSON of its class, or nested too deeply.
    pub fn parse(text: &[u8]) -> Result<Self, Unusable> {
        Ok(match class(text)?.as_ref() {
            "EndpointMessage" => Self::EndpointMessage(relayed(text)?),
            "EndpointStats" => Self::EndpointStats(relayed(text)?),
            _ => serde_json::from_slice(text)?,
        })
    }

    /// Reads one message off the channel of a relay; what is of no use is counted.
    pub fn receive(relay: &str, text: &[u8], counters: &ChannelCounters) -> Option<Self> {
        match Self::parse(text) {
            Ok(Self::Unknown) => {
                counters.count(Counted::UnknownClass);
                tracing::debug!(%relay, "message of another bridge of an unknown class dropped");
                None
            }
            Ok(message) => Some(message),
            Err(error) => {
                counters.count(error.counted());
                tracing::debug!(%relay, %error, "message of another bridge dropped");
                None
            }
        }
    }
}

/// What we say to another bridge. Its parser takes no other fields than these.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "colibriClass")]
pub enum ToRelay {
    /// Answers a `ClientHello`.
    ServerHello {},
    /// What our receivers want of one of its sources.
    #[serde(rename_all = "camelCase")]
    AddReceiver {
        /// Our relay id.
        bridge_id: String,
        /// Source name.
        source_name: String,
        /// The largest picture.
        video_constraints: VideoConstraints,
    },
    /// What a source shows.
    #[serde(rename_all = "camelCase")]
    SourceVideoTypeMessage {
        /// `CAMERA`, `DESKTOP` and so on.
        video_type: &'static str,
        /// Source name.
        source_name: String,
        /// Its endpoint.
        endpoint_id: String,
    },
    /// An endpoint fell silent or is back.
    EndpointConnectivityStatusChangeEvent {
        /// The endpoint.
        endpoint: String,
        /// The words `true` or `false`.
        active: String,
    },
    /// What a client wrote, with its sender.
    #[serde(skip_serializing)]
    Forwarded(Utf8Bytes),
}

/// A constraint as bridges write it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VideoConstraints {
    /// Pixels; -1 is unlimited, 0 is not wanted.
    pub max_height: i32,
    /// Pictures per second; always -1.
    pub max_frame_rate: f64,
}

impl ToRelay {
    /// So high at most.
    pub fn add_receiver(bridge_id: &str, source_name: String, max_height: i32) -> Self {
        let video_constraints = VideoConstraints { max_height, max_frame_rate: -1.0 };
        Self::AddReceiver { bridge_id: bridge_id.to_owned(), source_name, video_constraints }
    }

    /// The text.
    pub fn to_text(&self) -> Utf8Bytes {
        if let Self::Forwarded(text) = self {
            return text.clone();
        }
        Utf8Bytes::from(serde_json::to_string(self).unwrap_or_else(|error| {
            tracing::error!(%error, "a message to another bridge cannot be serialised; it is not sent");
            String::from("{}")
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Option<FromRelay> {
        FromRelay::parse(text.as_bytes()).ok()
    }

    #[test]
    fn what_a_bridge_says_is_read() {
        let add = r#"{"colibriClass":"AddReceiver","bridgeId":"jvb1","sourceName":"b-v0","videoConstraints":{"maxHeight":180,"maxFrameRate":-1.0}}"#;
        let wanted = |max_height| FromRelay::AddReceiver {
            source_name: "b-v0".to_owned(),
            video_constraints: Picture { max_height },
        };
        assert_eq!(parse(add), Some(wanted(180)));
        assert_eq!(parse(&add.replace("\"maxHeight\":180,", "")), Some(wanted(-1)));
        assert_eq!(parse(&add.replace("180", "1e300")), Some(wanted(i32::MAX)));
        assert_eq!(parse(&add.replace("\"bridgeId\"", "\"novelty\"")), Some(wanted(180)), "fields of the future");
        assert_eq!(
            parse(
                r#"{"colibriClass":"SourceVideoTypeMessage","videoType":"DESKTOP","sourceName":"a-v1","endpointId":"a"}"#
            ),
            Some(FromRelay::SourceVideoTypeMessage {
                source_name: "a-v1".to_owned(),
                video_type: "DESKTOP".to_owned(),
                endpoint_id: "a".to_owned()
            })
        );
        assert_eq!(parse(r#"{"colibriClass":"ClientHello"}"#), Some(FromRelay::ClientHello));
        assert_eq!(parse(r#"{"colibriClass":"ServerHello"}"#), Some(FromRelay::ServerHello { version: None }));
        assert_eq!(
            parse(r#"{"colibriClass":"RemoveReceiver","bridgeId":"b","endpointId":"a"}"#),
            Some(FromRelay::Unknown)
        );
        let text = r#"{"colibriClass":"EndpointMessage","to":"b","from":"a","msgPayload":{"x":[1,1e400]}}"#;
        let Some(FromRelay::EndpointMessage(message)) = parse(text) else { panic!("class") };
        assert_eq!((message.to.as_str(), message.from.as_str()), ("b", "a"));
        assert!(message.text.contains(r#""msgPayload":{"x":[1,1e400]}"#), "{}", message.text);
        let Some(FromRelay::EndpointStats(stats)) = parse(r#"{"colibriClass":"EndpointStats","from":7}"#) else {
            panic!("class")
        };
        assert_eq!(stats.from, "");
    }

    #[test]
    fn what_is_of_no_use_is_counted() {
        let counters = ChannelCounters::default();
        let deep = format!(r#"{{"colibriClass":"EndpointMessage","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for text in [r#"{"colibriClass":"AddReceiver"}"#, "[]", "", r#"{"colibriClass":"Novelty"}"#, &deep] {
            assert_eq!(FromRelay::receive("jvb2", text.as_bytes(), &counters), None, "{text}");
        }
        let counted = [Counted::Malformed, Counted::UnknownClass, Counted::TooDeep].map(|what| counters.get(what));
        assert_eq!(counted, [3, 1, 1]);
    }

    #[test]
    fn what_we_say_has_the_fields_that_a_strict_reader_takes() {
        let texts = [
            (ToRelay::ServerHello {}, r#"{"colibriClass":"ServerHello"}"#),
            (
                ToRelay::add_receiver("jvb1", "a-v0".to_owned(), 720),
                r#"{"colibriClass":"AddReceiver","bridgeId":"jvb1","sourceName":"a-v0","videoConstraints":{"maxHeight":720,"maxFrameRate":-1.0}}"#,
            ),
            (
                ToRelay::SourceVideoTypeMessage {
                    video_type: "DESKTOP",
                    source_name: "a-v1".to_owned(),
                    endpoint_id: "a".to_owned(),
                },
                r#"{"colibriClass":"SourceVideoTypeMessage","videoType":"DESKTOP","sourceName":"a-v1","endpointId":"a"}"#,
            ),
            (
                ToRelay::EndpointConnectivityStatusChangeEvent { endpoint: "a".to_owned(), active: "false".to_owned() },
                r#"{"colibriClass":"EndpointConnectivityStatusChangeEvent","endpoint":"a","active":"false"}"#,
            ),
            (ToRelay::Forwarded(Utf8Bytes::from_static("{}")), "{}"),
        ];
        for (message, text) in texts {
            assert_eq!(message.to_text().as_str(), text);
            if text.len() > 2 {
                assert!(parse(text).is_some_and(|read| read != FromRelay::Unknown), "the other bridge reads {text}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = parse(&text);
            let _ = parse(&format!(r#"{{"colibriClass":"AddReceiver",{text}}}"#));
        }
    }
}
