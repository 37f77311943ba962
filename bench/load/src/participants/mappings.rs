//! SSRC rewriting from a client's side: what the bridge says that its SSRCs carry (docs/protocol/bridge.md 6.6).

use serde::Deserialize;

use super::jingle::RemoteSource;

#[derive(Deserialize)]
#[serde(tag = "colibriClass")]
enum Message {
    #[serde(rename_all = "camelCase")]
    AudioSourcesMap { mapped_sources: Vec<Mapping> },
    #[serde(rename_all = "camelCase")]
    VideoSourcesMap { mapped_sources: Vec<Mapping> },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Mapping {
    owner: String,
    ssrc: u32,
    rtx: Option<u32>,
}

/// The sources that a message of the bridge channel names; none for messages about something else.
pub fn read(text: &str) -> Result<Vec<RemoteSource>, serde_json::Error> {
    let (mapped, video) = match serde_json::from_str(text)? {
        Message::AudioSourcesMap { mapped_sources } => (mapped_sources, false),
        Message::VideoSourcesMap { mapped_sources } => (mapped_sources, true),
        Message::Other => return Ok(Vec::new()),
    };
    Ok(mapped.into_iter().map(|m| RemoteSource { owner: m.owner, ssrc: m.ssrc, rtx: m.rtx, video }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_other_messages() {
        let text = r#"{"colibriClass":"VideoSourcesMap","mappedSources":[
            {"source":"ef56-v0","owner":"ef56","ssrc":3405691582,"rtx":305419896,"videoType":"CAMERA","mid":"v0"}]}"#;
        let expected = RemoteSource { owner: "ef56".into(), ssrc: 3_405_691_582, rtx: Some(305_419_896), video: true };
        assert_eq!(read(text).expect("valid"), [expected]);
        let text = r#"{"colibriClass":"AudioSourcesMap","mappedSources":[{"source":"a-a0","owner":"a","ssrc":7}]}"#;
        let expected = RemoteSource { owner: "a".into(), ssrc: 7, rtx: None, video: false };
        assert_eq!(read(text).expect("valid"), [expected]);
        assert_eq!(read(r#"{"colibriClass":"ServerHello","version":"1"}"#).expect("valid"), []);
        assert!(read("{}").is_err());
    }
}
