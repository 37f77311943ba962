//! Between the channel's typed messages and what the bridge does with them.

use serde_json::{Map, Value};

use super::wishes::WishPatch;
use ringbridge_dataplane::media::VideoType;

/// What a client asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FromClient {
    /// Wants a greeting.
    Hello,
    /// Wants other video; `legacy` when it named endpoints instead of sources.
    Wishes { patch: WishPatch, legacy: bool },
    /// Wants another number of video sources.
    LastN(i32),
    /// Says what a source shows; without a name it is the endpoint's first video source.
    VideoType { source: Option<String>, video_type: VideoType },
    /// A message for one endpoint, or for all when `to` is empty; `body` is the whole object.
    Message { to: String, body: Map<String, Value> },
    /// Statistics for the others; the whole object.
    Stats(Map<String, Value>),
}

/// What the bridge tells a client.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ToClient {
    ServerHello,
    SenderSourceConstraints { source: String, max_height: i32 },
    /// Older dialect of the former.
    SenderVideoConstraints { ideal_height: i32 },
    ForwardedSources(Vec<String>),
    /// Older dialect of the former: endpoints.
    LastNEndpoints(Vec<String>),
    Connectivity { endpoint: String, active: bool },
    DominantSpeaker { endpoint: String, previous: Vec<String> },
    /// An object as it came from another client, `from` filled in.
    Forwarded(Map<String, Value>),
}

/// What a client's message asks for; `None` for messages without effect on this bridge.
pub(super) fn decode(message: crate::channel::ClientMessage) -> Option<FromClient> {
    match message {}
}

/// A message as the channel sends it.
pub(super) fn encode(_: ToClient) -> crate::channel::ChannelOut {
    crate::channel::ChannelOut::Close
}

/// Tells a client that its endpoint is gone.
pub(super) fn expired() -> crate::channel::ChannelOut {
    crate::channel::ChannelOut::Close
}
