//! State of one relay, as signalled: the connection of a conference to another bridge, and those behind it
//! (docs/protocol/bridge.md 10).

use std::sync::Arc;

use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::{EndpointId, WorkerId};
use ringbridge_dataplane::media::{Media, SourceDescription, VideoType};
use ringbridge_dataplane::messages::Command;
use serde::{Deserialize, Serialize};

use super::changes::Changes;
use super::context::Context;
use super::convert;
use super::elements::{self, Endpoint, IceTransport};
use super::identity::{EndpointIdentity, RelayIdentity};
use super::output::Output;
use super::published::Published;

/// Header extensions that serve bandwidth estimation, which there is none of between bridges.
const OF_ESTIMATION: [&str; 2] = [
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
];
/// Feedback that serves it.
const FEEDBACK_OF_ESTIMATION: [&str; 2] = ["transport-cc", "goog-remb"];

/// An endpoint of another bridge.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RelayedState {
    #[serde(with = "super::identity::shared")]
    who: Arc<EndpointIdentity>,
    stats_id: Option<String>,
    published: Published,
}

impl RelayedState {
    pub fn new(who: Arc<EndpointIdentity>) -> Self {
        Self { who, stats_id: None, published: Published::default() }
    }

    /// What of it never changes.
    pub fn who(&self) -> &Arc<EndpointIdentity> {
        &self.who
    }

    pub fn stats_id(&self) -> Option<&str> {
        self.stats_id.as_deref()
    }

    pub fn sources(&self) -> &[SourceDescription] {
        self.published.sources()
    }

    /// Takes over what a request says of it: the complete set of its sources, also where it names none (section 10).
    pub fn update(&mut self, request: &Endpoint, renamed: &mut u64) -> Changes {
        if request.stats_id.is_some() {
            self.stats_id.clone_from(&request.stats_id);
        }
        let asked = request.sources.as_ref().map_or(&[][..], |sources| &sources.media_sources);
        let mut changes = Changes::default();
        self.published.update(&self.who, asked, renamed, &mut changes);
        changes
    }

    /// Its bridge said what one of its sources shows; remembered when the source is not signalled yet.
    pub fn set_video_type(&mut self, source: &str, video_type: VideoType) -> Changes {
        self.published.set_video_type(&self.who, source, video_type)
    }
}

/// One relay.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RelayState {
    #[serde(with = "super::identity::shared")]
    who: Arc<RelayIdentity>,
    local: IceCredentials,
    /// Password of its WebSocket, where it has that instead of a data channel.
    websocket: Option<String>,
    media: Media,
    remote: Option<IceCredentials>,
    established: bool,
    /// In order of creation.
    relayed: Vec<RelayedState>,
}

impl RelayState {
    /// `websocket` is its password where the two bridges talk over one.
    pub fn new(who: Arc<RelayIdentity>, local: IceCredentials, websocket: Option<String>) -> Self {
        Self { who, local, websocket, media: Media::default(), remote: None, established: false, relayed: Vec::new() }
    }

    /// What of it never changes.
    pub fn who(&self) -> &Arc<RelayIdentity> {
        &self.who
    }

    pub fn id(&self) -> EndpointId {
        self.who.id
    }

    /// Our ICE credentials.
    pub fn local(&self) -> &IceCredentials {
        &self.local
    }

    /// Password of its WebSocket, where it has one.
    pub fn websocket(&self) -> Option<&str> {
        self.websocket.as_deref()
    }

    pub fn is_established(&self) -> bool {
        self.established
    }

    /// The ids of it and of those behind it.
    pub fn ids(&self) -> impl Iterator<Item = EndpointId> {
        std::iter::once(self.id()).chain(self.relayed.iter().map(|relayed| relayed.who.id))
    }

    /// Those behind it.
    pub fn relayed(&self) -> &[RelayedState] {
        &self.relayed
    }

    pub fn relayed_mut(&mut self, label: &str) -> Option<&mut RelayedState> {
        self.relayed.iter_mut().find(|e| e.who.label == label)
    }

    pub fn relayed_by_id(&mut self, id: EndpointId) -> Option<&mut RelayedState> {
        self.relayed.iter_mut().find(|e| e.who.id == id)
    }

    pub fn add(&mut self, relayed: RelayedState) {
        self.relayed.push(relayed);
    }

    /// Removes one of those behind it.
    pub fn remove(&mut self, id: EndpointId) -> Option<RelayedState> {
        let index = self.relayed.iter().position(|e| e.who.id == id)?;
        Some(self.relayed.remove(index))
    }

    /// What a worker needs that has known nothing of it.
    pub fn introduce(&self) -> Vec<Command> {
        let RelayIdentity { id: relay, conference, worker, mesh, .. } = *self.who;
        let mut commands =
            vec![Command::CreateRemoteRelay { conference, relay, home: WorkerId::from_index(worker), mesh }];
        commands.extend(self.formats(relay));
        commands.extend(self.relayed.iter().flat_map(|relayed| self.introduce_relayed(relayed)));
        commands
    }

    /// What every worker needs to know of an endpoint behind it.
    pub fn introduce_relayed(&self, relayed: &RelayedState) -> Vec<Command> {
        let RelayIdentity { id: relay, conference, .. } = *self.who;
        let endpoint = relayed.who.id;
        let mut commands = vec![Command::CreateRelayedEndpoint { conference, endpoint, relay }];
        commands.extend(self.formats(endpoint));
        commands.extend(relayed.published.introduce(&relayed.who));
        commands
    }

    /// The formats under which its media crosses.
    fn formats(&self, endpoint: EndpointId) -> Option<Command> {
        let media = || Box::new(self.media.clone());
        (self.media != Media::default()).then(|| Command::SetMedia { endpoint, media: media() })
    }

    /// Takes over formats and header extensions, which are those of everybody behind it.
    pub fn update_media(&mut self, request: &elements::Relay) -> Changes {
        let before = self.media.clone();
        convert::merge_media(&mut self.media, &request.media);
        self.media.header_extensions.retain(|e| !OF_ESTIMATION.contains(&e.uri.as_str()));
        for formats in [&mut self.media.codecs, &mut self.media.offered_codecs] {
            for format in formats {
                format.feedback.retain(|(kind, _)| !FEEDBACK_OF_ESTIMATION.contains(&kind.as_str()));
            }
        }
        let mut changes = Changes::default();
        if self.media != before {
            let ids = std::iter::once(self.who.id).chain(self.relayed.iter().map(|e| e.who.id));
            changes.commands.extend(ids.filter_map(|id| self.formats(id)));
        }
        changes
    }

    /// Takes over the other side's transport. There are no ICE restarts: once it was connected, credentials stay.
    pub fn update_transport(&mut self, ice: &IceTransport) -> Changes {
        let mut changes = Changes::default();
        let endpoint = self.who.id;
        let credentials = convert::credentials(ice).filter(|_| !self.established);
        changes.set_remote_ice(endpoint, &mut self.remote, credentials, convert::candidates(ice, false));
        changes.set_remote_dtls(endpoint, ice);
        // An address is the order to open it. Who has a data channel needs no other.
        let url = ice.web_sockets.iter().find_map(|socket| socket.url.clone()).filter(|_| self.websocket.is_some());
        changes.outputs.extend(url.map(|url| Output::DialRelay { relay: endpoint, url }));
        changes
    }

    /// It is no longer in its conference, nor is anybody behind it.
    pub fn end(self, context: &mut Context) {
        for relayed in self.relayed {
            context.count_relay_out(relayed.who.id);
            context.output(Output::EndpointExpired { endpoint: relayed.who });
        }
        context.count_relay_out(self.who.id);
        context.output(Output::RelayExpired { relay: self.who });
    }

    /// ICE connected, or lost its pair.
    pub fn set_ice_connected(&mut self, connected: bool) {
        self.established |= connected;
    }
}
