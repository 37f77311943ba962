//! Whether a member sends audio and video, as it says itself in its presence (docs/protocol/focus.md 3.4).

use serde_json::{Map, Value};
use tokio_xmpp::minidom::Element;

use super::limits::MAX_SOURCE_INFO;

/// What a member says that it sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Sending {
    pub audio: bool,
    pub video: bool,
}

/// What a presence says cannot be read: what was said before holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Sending {
    /// What a presence says: today's clients in JSON, gateways in elements of their own. Who says nothing is muted.
    pub fn read<'a>(payloads: impl Iterator<Item = &'a Element> + Clone) -> Result<Self, Unreadable> {
        let text = |name: &str| payloads.clone().find(|payload| payload.name() == name).map(Element::text);
        if let Some(json) = text("SourceInfo") {
            return Self::of_json(&json);
        }
        let sends = |name: &str| text(name).is_some_and(|muted| !muted.trim().eq_ignore_ascii_case("true"));
        Ok(Self { audio: sends("audiomuted"), video: sends("videomuted") })
    }

    fn of_json(json: &str) -> Result<Self, Unreadable> {
        if json.len() > MAX_SOURCE_INFO {
            return Err(Unreadable);
        }
        let sources: Map<String, Value> = serde_json::from_str(json).map_err(|_| Unreadable)?;
        let mut sending = Self::default();
        for (name, source) in &sources {
            let source = source.as_object().ok_or(Unreadable)?;
            let muted = source.get("muted").is_none_or(is_true);
            match is_video(name, source) {
                Some(true) => sending.video |= !muted,
                Some(false) => sending.audio |= !muted,
                None => {}
            }
        }
        Ok(sending)
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::String(text) => text == "true",
        Value::Number(number) => number.as_f64() != Some(0.0),
        _ => false,
    }
}

/// By what the source says of itself, or by its name: `ab-v0`, `ab-a0`.
fn is_video(name: &str, source: &Map<String, Value>) -> Option<bool> {
    let said = source.get("mediaType").and_then(Value::as_str).unwrap_or_default();
    let kind = name.split_once('-').and_then(|(_, rest)| rest.chars().next());
    match () {
        () if said.eq_ignore_ascii_case("video") => Some(true),
        () if said.eq_ignore_ascii_case("audio") => Some(false),
        () if kind == Some('v') => Some(true),
        () if kind == Some('a') => Some(false),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(xml: &str) -> Result<(bool, bool), Unreadable> {
        let presence: Element = format!("<presence xmlns='jabber:client'>{xml}</presence>").parse().expect("XML");
        let payloads: Vec<Element> = presence.children().cloned().collect();
        Sending::read(payloads.iter()).map(|sending| (sending.audio, sending.video))
    }

    #[test]
    fn what_clients_say() {
        let info = |json: &str| read(&format!("<SourceInfo>{json}</SourceInfo>"));
        assert_eq!(info(r#"{"a-a0":{"muted":false},"a-v0":{"muted":true}}"#), Ok((true, false)));
        assert_eq!(
            info(r#"{"a-a0":{},"a-v0":{"muted":true},"a-v1":{"muted":false,"videoType":"desktop"}}"#),
            Ok((false, true))
        );
        assert_eq!(info(r#"{"x":{"muted":false,"mediaType":"VIDEO"},"y-":{"muted":false}}"#), Ok((false, true)));
        assert_eq!(info("{}"), Ok((false, false)));
        // Of an older kind, and of no kind.
        assert_eq!(read("<audiomuted>false</audiomuted><videomuted>true</videomuted>"), Ok((true, false)));
        assert_eq!(read(""), Ok((false, false)));
        assert_eq!(read("<SourceInfo>{}</SourceInfo><audiomuted>false</audiomuted>"), Ok((false, false)), "JSON wins");
    }

    #[test]
    fn what_nobody_can_read() {
        let long = format!("{{\"{}\":{{}}}}", "x".repeat(MAX_SOURCE_INFO));
        for json in ["", "x", "[]", "1", r#"{"a-a0":1}"#, r#"{"a-a0":{"muted":false}"#, &long, &"[".repeat(1_000)] {
            assert_eq!(read(&format!("<SourceInfo>{json}</SourceInfo>")), Err(Unreadable), "{json:.40}");
        }
    }
}
