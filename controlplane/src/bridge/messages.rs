//! Between the channel's typed messages and what the bridge does with them.

use axum::extract::ws::Utf8Bytes;
use ringbridge_dataplane::media::{AudioSubscription, Limit, VideoConstraint, VideoType};

use crate::channel::{
    AudioSourceMapping, AudioSubscriptionMode, BridgeMessage, ClientMessage, ReceiverAudioSubscription,
    ReceiverVideoConstraints, VideoSourceMapping, to_limit,
};
use crate::colibri::convert;

/// What a client asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FromClient {
    /// Wants a greeting.
    Hello,
    /// Wants other video; `legacy` when it named endpoints instead of sources.
    Video { constraints: ReceiverVideoConstraints, legacy: bool },
    /// Wants another number of video sources.
    LastN(i32),
    /// Wants other audio.
    Audio(AudioSubscription),
    /// Says what a source shows; without a name it is the endpoint's first video source.
    VideoType { source: Option<String>, video_type: VideoType },
    /// A message for one endpoint, or for all when `to` is empty; `text` is what they get.
    Message { to: String, text: Utf8Bytes },
    /// Statistics for the others, as they get them.
    Stats(Utf8Bytes),
}

/// What the bridge sends to a client.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ToClient {
    ServerHello,
    SenderSourceConstraints {
        source: String,
        max_height: i32,
    },
    /// Older dialect of the former.
    SenderVideoConstraints {
        ideal_height: i32,
    },
    ForwardedSources(Vec<String>),
    /// Older dialect of the former: endpoints.
    LastNEndpoints(Vec<String>),
    Connectivity {
        endpoint: String,
        active: bool,
    },
    DominantSpeaker {
        endpoint: String,
        previous: Vec<String>,
    },
    /// What the SSRCs of its video carry; what is new.
    VideoSources(Vec<VideoSourceMapping>),
    /// What the SSRCs of its audio carry; what is new.
    AudioSources(Vec<AudioSourceMapping>),
    /// What the way to the client carries, bit/s.
    ConnectionStats(u64),
    /// What another client sends; all who get it share one text.
    Forwarded(Utf8Bytes),
}

/// What a client's message asks for; `None` for messages without effect on this bridge.
pub(super) fn decode(message: ClientMessage) -> Option<FromClient> {
    Some(match message {
        ClientMessage::ClientHello => FromClient::Hello,
        ClientMessage::ReceiverVideoConstraints(message) => {
            let legacy = message.selected_endpoints.is_some() || message.on_stage_endpoints.is_some();
            FromClient::Video { constraints: message, legacy }
        }
        ClientMessage::ReceiverVideoConstraint { max_frame_height } => {
            let height = VideoConstraint { max_height: to_limit(max_frame_height), max_frame_rate: Limit::Unlimited };
            let default_constraints = Some(height);
            let constraints = ReceiverVideoConstraints { default_constraints, ..ReceiverVideoConstraints::default() };
            FromClient::Video { constraints, legacy: true }
        }
        ClientMessage::LastNChangedEvent { last_n } => FromClient::LastN(last_n),
        ClientMessage::SelectedEndpointsChangedEvent { selected_endpoints } => {
            let selected_endpoints = Some(selected_endpoints);
            let constraints = ReceiverVideoConstraints { selected_endpoints, ..ReceiverVideoConstraints::default() };
            FromClient::Video { constraints, legacy: true }
        }
        ClientMessage::SourceVideoTypeMessage { source_name, video_type } => {
            FromClient::VideoType { source: Some(source_name), video_type: convert::video_type(&video_type) }
        }
        ClientMessage::VideoTypeMessage { video_type } => {
            FromClient::VideoType { source: None, video_type: convert::video_type(&video_type) }
        }
        ClientMessage::EndpointMessage { to, text } => FromClient::Message { to, text },
        ClientMessage::EndpointStats { text } => FromClient::Stats(text),
        ClientMessage::ReceiverAudioSubscription(message) => FromClient::Audio(subscription(message)),
        ClientMessage::Unknown => return None,
    })
}

fn subscription(message: ReceiverAudioSubscription) -> AudioSubscription {
    let list = message.list.unwrap_or_default();
    let (all, include, exclude) = match message.mode {
        Some(AudioSubscriptionMode::All) => (true, Vec::new(), Vec::new()),
        Some(AudioSubscriptionMode::None) => (false, Vec::new(), Vec::new()),
        Some(AudioSubscriptionMode::Include) => (false, list, Vec::new()),
        Some(AudioSubscriptionMode::Exclude) => (true, Vec::new(), list),
        None => {
            let (include, exclude) = (message.include.unwrap_or_default(), message.exclude.unwrap_or_default());
            (message.all.unwrap_or(false), include, exclude)
        }
    };
    AudioSubscription { all, include, exclude }
}

/// A message as the channel sends it.
pub(super) fn encode(message: ToClient) -> Utf8Bytes {
    let message = match message {
        ToClient::ServerHello => BridgeMessage::ServerHello { version: None },
        ToClient::SenderSourceConstraints { source, max_height } => {
            BridgeMessage::SenderSourceConstraints { source_name: source, max_height }
        }
        ToClient::SenderVideoConstraints { ideal_height } => BridgeMessage::ideal_height(ideal_height),
        ToClient::ForwardedSources(forwarded_sources) => BridgeMessage::ForwardedSources { forwarded_sources },
        ToClient::LastNEndpoints(last_n_endpoints) => BridgeMessage::LastNEndpointsChangeEvent { last_n_endpoints },
        ToClient::Connectivity { endpoint, active } => {
            BridgeMessage::EndpointConnectivityStatusChangeEvent { endpoint, active: active.to_string() }
        }
        ToClient::DominantSpeaker { endpoint, previous } => BridgeMessage::DominantSpeakerEndpointChangeEvent {
            dominant_speaker_endpoint: endpoint,
            previous_speakers: previous,
            silence: false,
        },
        ToClient::VideoSources(mapped_sources) => BridgeMessage::VideoSourcesMap { mapped_sources },
        ToClient::AudioSources(mapped_sources) => BridgeMessage::AudioSourcesMap { mapped_sources },
        ToClient::ConnectionStats(bps) => BridgeMessage::ConnectionStats { estimated_downlink_bandwidth: bps },
        ToClient::Forwarded(text) => return text,
    };
    message.to_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Option<FromClient> {
        decode(ClientMessage::parse("a", text.as_bytes()).unwrap())
    }

    #[test]
    fn constraints_pass_as_they_are() {
        let text = r#"{"colibriClass":"ReceiverVideoConstraints","lastN":3,"onStageSources":["b-v0"],
            "constraints":{"b-v0":{"maxHeight":720,"maxFrameRate":7.5}}}"#;
        let Some(FromClient::Video { constraints, legacy: false }) = decoded(text) else { panic!("not video") };
        assert_eq!(
            (constraints.last_n, constraints.selected_sources, constraints.default_constraints),
            (Some(3), None, None)
        );
        let height = VideoConstraint { max_height: Limit::Max(720), max_frame_rate: Limit::Max(8) };
        assert_eq!(constraints.constraints.unwrap().into_iter().collect::<Vec<_>>(), [("b-v0".to_owned(), height)]);
    }

    #[test]
    fn older_messages_mean_the_same() {
        let legacy = |text| match decoded(text) {
            Some(FromClient::Video { constraints, legacy: true }) => constraints,
            other => panic!("{other:?}"),
        };
        let selected = legacy(r#"{"colibriClass":"SelectedEndpointsChangedEvent","selectedEndpoints":["b"]}"#);
        assert_eq!(selected.selected_endpoints, Some(vec!["b".to_owned()]));
        let height = legacy(r#"{"colibriClass":"ReceiverVideoConstraint","maxFrameHeight":360}"#);
        assert_eq!(height.default_constraints.map(|d| d.max_height), Some(Limit::Max(360)));
        legacy(r#"{"colibriClass":"ReceiverVideoConstraints","onStageEndpoints":[]}"#);
        let shown = decoded(r#"{"colibriClass":"VideoTypeMessage","videoType":"DESKTOP"}"#);
        assert_eq!(shown, Some(FromClient::VideoType { source: None, video_type: VideoType::Desktop }));
        assert_eq!(decoded(r#"{"colibriClass":"LastNChangedEvent","lastN":-1}"#), Some(FromClient::LastN(-1)));
    }

    #[test]
    fn a_message_keeps_its_class_and_content() {
        let text = r#"{"colibriClass":"EndpointMessage","from":"a","msgPayload":{"x":[1,null]},"other":2,"to":"b"}"#;
        let Some(FromClient::Message { to, text: passed }) = decoded(text) else { panic!("not a message") };
        assert_eq!((to.as_str(), encode(ToClient::Forwarded(passed)).as_str()), ("b", text));
    }

    #[test]
    fn messages_without_effect() {
        assert_eq!(decoded(r#"{"colibriClass":"Novelty"}"#), None);
    }

    #[test]
    fn audio_subscriptions_of_both_dialects() {
        let audio = |fields: &str| {
            let text = format!(r#"{{"colibriClass":"ReceiverAudioSubscription"{fields}}}"#);
            match decoded(&text) {
                Some(FromClient::Audio(AudioSubscription { all, include, exclude })) => (all, include, exclude),
                other => panic!("{other:?}"),
            }
        };
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (none, ab) = (names(&[]), names(&["a-a0", "b-a0"]));
        assert_eq!(audio(""), (false, none.clone(), none.clone()));
        let fields = r#","all":true,"include":[],"exclude":["a-a0","b-a0"]"#;
        assert_eq!(audio(fields), (true, none.clone(), ab.clone()));
        let list = r#","list":["a-a0","b-a0"],"all":true"#;
        assert_eq!(audio(&format!(r#","mode":"All"{list}"#)), (true, none.clone(), none.clone()));
        assert_eq!(audio(&format!(r#","mode":"None"{list}"#)), (false, none.clone(), none.clone()));
        assert_eq!(audio(&format!(r#","mode":"Include"{list}"#)), (false, ab.clone(), none.clone()));
        assert_eq!(audio(&format!(r#","mode":"Exclude"{list}"#)), (true, none, ab));
        assert!(ClientMessage::parse("a", br#"{"colibriClass":"ReceiverAudioSubscription","mode":"Some"}"#).is_err());
    }
}
