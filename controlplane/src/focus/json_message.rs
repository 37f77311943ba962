//! What components send the focus of a room, as JSON (docs/protocol/focus.md 8.2 and 8.3).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::limits::{MAX_JSON, MAX_JSON_DEPTH, MAX_LISTED, MAX_NAME};

/// What can be moderated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(super) enum Medium {
    /// Microphones.
    Audio,
    /// Cameras.
    Video,
    /// Shared screens.
    Desktop,
}

impl Medium {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Audio, Self::Video, Self::Desktop];

    /// Its name, which also ends the namespace of requests to mute it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Desktop => "desktop",
        }
    }

    /// From its name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|medium| medium.name().eq_ignore_ascii_case(text))
    }

    /// From the namespace of a request to mute.
    pub fn from_namespace(namespace: &str) -> Option<Self> {
        namespace.strip_prefix("http://jitsi.org/jitmeet/").and_then(Self::parse)
    }
}

/// Why a message is not heeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// Too many bytes.
    #[error("{0} bytes, {MAX_JSON} are the most")]
    TooLong(usize),
    /// Nested too deep.
    #[error("nested deeper than {MAX_JSON_DEPTH}")]
    TooDeep,
    /// A list with too many entries, or one that is too long.
    #[error("a list of more than {MAX_LISTED} entries, or an entry of more than {MAX_NAME} bytes")]
    TooMany,
    /// No JSON, or not of the form.
    #[error("{0}")]
    Form(String),
    /// No media type that is moderated.
    #[error("{0:?} is not a media type that can be moderated")]
    MediaType(String),
}

/// Of moderation: a medium is moderated, or not any more; who may unmute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModerationMessage {
    /// The room.
    pub room: String,
    /// Which medium is moderated, or not any more.
    pub enabled: Option<(Medium, bool)>,
    /// Who switched it, an occupant's address.
    pub actor: Option<String>,
    /// Who may unmute, occupants' addresses. A medium that is not named keeps its list.
    pub allowed: BTreeMap<Medium, Vec<String>>,
}

/// Of a room's metadata, what concerns a focus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RoomMetadata {
    /// Whether newcomers start muted: audio, video. Nothing where it is not said: then it stays as it was.
    pub start_muted: Option<(bool, bool)>,
    /// Ids of users who may moderate.
    pub moderators: Vec<String>,
    /// Ids of users who may take part in the main room; nothing where everybody may.
    pub participants: Option<Vec<String>>,
    /// From how many participants on others become visitors; nothing where it is not said.
    pub participants_soft_limit: Option<u32>,
    /// Whether visitors are allowed; nothing where it is not said.
    pub visitors_enabled: Option<bool>,
    /// Whether visitors are let in.
    pub visitors_live: bool,
    /// Whether newcomers wait in a lobby.
    pub lobby_enabled: bool,
    /// Whether the meeting is transcribed in the background.
    pub transcribing: bool,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JsonMessage {
    /// Of moderation.
    Moderation(ModerationMessage),
    /// Of metadata.
    Metadata(RoomMetadata),
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Raw {
    #[serde(rename = "av_moderation")]
    Moderation(RawModeration),
    #[serde(rename = "room_metadata")]
    Metadata { metadata: Option<RawMetadata> },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawModeration {
    room: String,
    enabled: Option<bool>,
    media_type: Option<String>,
    actor: Option<String>,
    whitelists: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RawMetadata {
    visitors: Option<RawVisitors>,
    start_muted: Option<RawStartMuted>,
    moderators: Option<Value>,
    participants: Option<Value>,
    recording: Option<RawRecording>,
    async_transcription: Option<bool>,
    participants_soft_limit: Option<i64>,
    visitors_enabled: Option<bool>,
    lobby_enabled: Option<bool>,
}

#[derive(Deserialize)]
struct RawVisitors {
    live: Option<bool>,
}

#[derive(Deserialize)]
struct RawStartMuted {
    audio: Option<bool>,
    video: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRecording {
    is_transcribing_enabled: Option<bool>,
}

/// Reads a message. Fields that are not known are not looked at.
pub(super) fn parse(text: &str) -> Result<JsonMessage, Unfit> {
    if text.len() > MAX_JSON {
        return Err(Unfit::TooLong(text.len()));
    }
    if is_too_deep(text) {
        return Err(Unfit::TooDeep);
    }
    let raw: Raw = serde_json::from_str(text).map_err(|error| Unfit::Form(error.to_string()))?;
    match raw {
        Raw::Moderation(raw) => moderation(raw).map(JsonMessage::Moderation),
        Raw::Metadata { metadata } => self::metadata(metadata.unwrap_or_default()).map(JsonMessage::Metadata),
    }
}

/// Brackets in strings count for nothing.
fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_JSON_DEPTH {
            return true;
        }
    }
    false
}

fn medium(text: &str) -> Result<Medium, Unfit> {
    Medium::parse(text).ok_or_else(|| Unfit::MediaType(text.chars().take(32).collect()))
}

fn moderation(raw: RawModeration) -> Result<ModerationMessage, Unfit> {
    let kind = raw.media_type.as_deref().map(medium).transpose()?;
    let lists = match raw.whitelists {
        None | Some(Value::Null) => serde_json::Map::new(),
        Some(Value::Object(lists)) => lists,
        // Lua has one empty table for both.
        Some(Value::Array(lists)) if lists.is_empty() => serde_json::Map::new(),
        Some(_) => return Err(Unfit::Form("whitelists is not an object".to_owned())),
    };
    let mut allowed = BTreeMap::new();
    for (name, list) in lists {
        allowed.insert(medium(&name)?, strings(list)?);
    }
    let enabled = kind.zip(raw.enabled);
    Ok(ModerationMessage { room: raw.room, enabled, actor: raw.actor, allowed })
}

fn metadata(raw: RawMetadata) -> Result<RoomMetadata, Unfit> {
    let transcribes = raw.recording.and_then(|recording| recording.is_transcribing_enabled);
    let muted = |raw: RawStartMuted| (raw.audio == Some(true), raw.video == Some(true));
    Ok(RoomMetadata {
        start_muted: raw.start_muted.map(muted),
        moderators: raw.moderators.map(strings).transpose()?.unwrap_or_default(),
        participants: raw.participants.map(strings).transpose()?,
        participants_soft_limit: raw.participants_soft_limit.and_then(|limit| u32::try_from(limit).ok()),
        visitors_enabled: raw.visitors_enabled,
        visitors_live: raw.visitors.and_then(|visitors| visitors.live) == Some(true),
        lobby_enabled: raw.lobby_enabled == Some(true),
        transcribing: transcribes == Some(true) && raw.async_transcription == Some(true),
    })
}

/// A list of strings. An empty object is an empty list: Lua has one empty table for both.
fn strings(list: Value) -> Result<Vec<String>, Unfit> {
    let list = match list {
        Value::Array(list) => list,
        Value::Object(map) if map.is_empty() => Vec::new(),
        _ => return Err(Unfit::Form("a list of strings is needed".to_owned())),
    };
    if list.len() > MAX_LISTED {
        return Err(Unfit::TooMany);
    }
    let text = |value: Value| match value {
        Value::String(text) if text.len() <= MAX_NAME => Ok(text),
        Value::String(_) => Err(Unfit::TooMany),
        _ => Err(Unfit::Form("a list of strings is needed".to_owned())),
    };
    list.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moderation_of(text: &str) -> ModerationMessage {
        match parse(text) {
            Ok(JsonMessage::Moderation(message)) => message,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn metadata_of(text: &str) -> RoomMetadata {
        match parse(text) {
            Ok(JsonMessage::Metadata(message)) => message,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn moderation_is_switched() {
        let message = moderation_of(
            r#"{"type":"av_moderation","enabled":true,"room":"r@c","actor":"r@c/a","mediaType":"audio","more":[{}]}"#,
        );
        assert_eq!(message.enabled, Some((Medium::Audio, true)));
        assert_eq!((message.room.as_str(), message.actor.as_deref()), ("r@c", Some("r@c/a")));
        for (name, medium) in [("DESKTOP", Medium::Desktop), ("vIdEo", Medium::Video)] {
            let text = format!(r#"{{"type":"av_moderation","enabled":false,"room":"r@c","mediaType":"{name}"}}"#);
            assert_eq!(moderation_of(&text).enabled, Some((medium, false)));
        }
        // One without the other says nothing.
        assert_eq!(moderation_of(r#"{"type":"av_moderation","room":"r@c","mediaType":"audio"}"#).enabled, None);
        assert_eq!(moderation_of(r#"{"type":"av_moderation","room":"r@c","enabled":true}"#).enabled, None);
    }

    #[test]
    fn lists_of_who_may_unmute() {
        let message = moderation_of(
            r#"{"type":"av_moderation","room":"r@c","mediaType":"audio","removed":true,
                "whitelists":{"audio":["r@c/a","r@c/b"],"Video":{},"desktop":[]}}"#,
        );
        assert_eq!(message.allowed[&Medium::Audio], ["r@c/a", "r@c/b"]);
        assert!(message.allowed[&Medium::Video].is_empty() && message.allowed[&Medium::Desktop].is_empty());
        assert!(moderation_of(r#"{"type":"av_moderation","room":"r@c","whitelists":[]}"#).allowed.is_empty());
        assert!(moderation_of(r#"{"type":"av_moderation","room":"r@c","whitelists":null}"#).allowed.is_empty());
    }

    #[test]
    fn metadata_as_the_component_sends_it() {
        let message = metadata_of(
            r#"{"type":"room_metadata","metadata":{"startMuted":{"audio":true},"moderators":["u1"],"participants":[],
                "recording":{"isTranscribingEnabled":true},"asyncTranscription":true,"participantsSoftLimit":50,
                "visitorsEnabled":true,"visitors":{"live":true,"x":1},"lobbyEnabled":true,"services":[{"type":"turn"}]}}"#,
        );
        let expected = RoomMetadata {
            start_muted: Some((true, false)),
            moderators: vec!["u1".to_owned()],
            participants: Some(Vec::new()),
            participants_soft_limit: Some(50),
            visitors_enabled: Some(true),
            visitors_live: true,
            lobby_enabled: true,
            transcribing: true,
        };
        assert_eq!(message, expected);
        for nothing in [
            r#"{"type":"room_metadata","metadata":{}}"#,
            r#"{"type":"room_metadata"}"#,
            r#"{"type":"room_metadata","metadata":null}"#,
            r#"{"type":"room_metadata","metadata":{"recording":{"isTranscribingEnabled":true},"moderators":{}}}"#,
            r#"{"type":"room_metadata","metadata":{"participantsSoftLimit":-1}}"#,
        ] {
            assert_eq!(metadata_of(nothing), RoomMetadata::default(), "{nothing}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for text in [
            "",
            "{",
            "[]",
            "null",
            r#"{"room":"r@c"}"#,
            r#"{"type":"breakout_rooms","room":"r@c"}"#,
            r#"{"type":7,"room":"r@c"}"#,
            r#"{"type":"av_moderation"}"#,
            r#"{"type":"av_moderation","room":7}"#,
            r#"{"type":"av_moderation","room":"r@c","enabled":"true","mediaType":"audio"}"#,
            r#"{"type":"av_moderation","room":"r@c","mediaType":"smell","enabled":true}"#,
            r#"{"type":"av_moderation","room":"r@c","whitelists":"all"}"#,
            r#"{"type":"av_moderation","room":"r@c","whitelists":{"smell":[]}}"#,
            r#"{"type":"av_moderation","room":"r@c","whitelists":{"audio":"r@c/a"}}"#,
            r#"{"type":"av_moderation","room":"r@c","whitelists":{"audio":[7]}}"#,
            r#"{"type":"av_moderation","room":"r@c","enabled":true,"enabled":false,"mediaType":"audio"}"#,
            r#"{"type":"room_metadata","metadata":[]}"#,
            r#"{"type":"room_metadata","metadata":{"moderators":[["u"]]}}"#,
            r#"{"type":"room_metadata","metadata":{"startMuted":true}}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn messages_are_bounded() {
        let room = |rest: &str| format!(r#"{{"type":"av_moderation","room":"r@c",{rest}}}"#);
        let long = room(&format!(r#""x":"{}""#, "x".repeat(MAX_JSON)));
        assert_eq!(parse(&long), Err(Unfit::TooLong(long.len())));
        let nested = |depth: usize| room(&format!(r#""x":{}1{}"#, "[".repeat(depth - 1), "]".repeat(depth - 1)));
        assert!(parse(&nested(MAX_JSON_DEPTH)).is_ok());
        assert_eq!(parse(&nested(MAX_JSON_DEPTH + 1)), Err(Unfit::TooDeep));
        assert!(parse(&room(&format!(r#""x":"\"{}""#, "[".repeat(1_000)))).is_ok(), "brackets in text are text");
        let list =
            |count: usize| room(&format!(r#""whitelists":{{"audio":[{}]}}"#, vec![r#""r@c/a""#; count].join(",")));
        assert!(parse(&list(MAX_LISTED)).is_ok());
        assert_eq!(parse(&list(MAX_LISTED + 1)), Err(Unfit::TooMany));
        let entry = format!(r#""whitelists":{{"audio":["{}"]}}"#, "x".repeat(MAX_NAME + 1));
        assert_eq!(parse(&room(&entry)), Err(Unfit::TooMany));
    }

    #[test]
    fn a_namespace_names_a_medium() {
        for medium in Medium::ALL {
            assert_eq!(Medium::from_namespace(&format!("http://jitsi.org/jitmeet/{}", medium.name())), Some(medium));
        }
        assert_eq!(Medium::from_namespace("http://jitsi.org/jitmeet"), None);
        assert_eq!(Medium::from_namespace("http://jitsi.org/jitmeet/smell"), None);
    }
}
