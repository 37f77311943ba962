//! State of one relay, as signalled: the connection of a conference to another bridge, and those behind it
//! (docs/protocol/bridge.md 10).

use std::collections::HashMap;
use std::sync::Arc;

use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::{EndpointId, WorkerId};
use ringbridge_dataplane::media::{Media, SourceDescription, VideoType};
use ringbridge_dataplane::messages::Command;

use super::context::Context;
use super::convert;
use super::elements::{self, Endpoint, IceTransport};
use super::endpoint::Changes;
use super::identity::{EndpointIdentity, RelayIdentity};
use super::limits::MAX_VIDEO_TYPES;
use super::names;
use super::output::Output;

/// Header extensions that serve bandwidth estimation, which there is none of between bridges.
const OF_ESTIMATION: [&str; 2] = [
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
];
/// Feedback that serves it.
const FEEDBACK_OF_ESTIMATION: [&str; 2] = ["transport-cc", "goog-remb"];

/// An endpoint of another bridge.
#[derive(Debug)]
pub(super) struct RelayedState {
    who: Arc<EndpointIdentity>,
    stats_id: Option<String>,
    sources: Vec<SourceDescription>,
    /// What its bridge said of its sources; wins over signalling.
    video_types: HashMap<String, VideoType>,
}

impl RelayedState {
    pub fn new(who: Arc<EndpointIdentity>) -> Self {
        Self { who, stats_id: None, sources: Vec::new(), video_types: HashMap::new() }
    }

    /// What of it never changes.
    pub fn who(&self) -> &Arc<EndpointIdentity> {
        &self.who
    }

    pub fn stats_id(&self) -> Option<&str> {
        self.stats_id.as_deref()
    }

    pub fn sources(&self) -> &[SourceDescription] {
        &self.sources
    }

    /// Takes over what a request says of it: the complete set of its sources, also where it names none (section 10).
    pub fn update(&mut self, request: &Endpoint, renamed: &mut u64) -> Changes {
        if request.stats_id.is_some() {
            self.stats_id.clone_from(&request.stats_id);
        }
        let asked = request.sources.as_ref().map_or(&[][..], |sources| &sources.media_sources);
        let mut sources: Vec<_> = asked.iter().filter_map(convert::source).collect();
        let synthetic = |name: &str| asked.iter().any(|source| source.synthetic && source.id == name);
        *renamed += names::own(&self.who.label, &mut sources, synthetic);
        self.set_sources(sources)
    }

    /// Its bridge said what one of its sources shows; remembered when the source is not signalled yet.
    pub fn set_video_type(&mut self, source: &str, video_type: VideoType) -> Changes {
        // Bounded: the other bridge may name what it likes.
        if self.video_types.len() < MAX_VIDEO_TYPES || self.video_types.contains_key(source) {
            self.video_types.insert(source.to_owned(), video_type);
        }
        self.set_sources(self.sources.clone())
    }

    fn set_sources(&mut self, mut sources: Vec<SourceDescription>) -> Changes {
        for source in &mut sources {
            if let Some(video_type) = self.video_types.get(&source.name) {
                source.video_type = *video_type;
            }
        }
        let mut changes = Changes::default();
        if sources != self.sources {
            let endpoint = self.who.id;
            self.sources.clone_from(&sources);
            changes.commands.push(Command::SetSources { endpoint, sources: sources.clone() });
            changes.outputs.push(Output::SourcesChanged { endpoint, sources });
        }
        changes
    }
}

/// One relay.
#[derive(Debug)]
pub(super) struct RelayState {
    who: Arc<RelayIdentity>,
    local: IceCredentials,
    media: Media,
    remote: Option<IceCredentials>,
    established: bool,
    /// In order of creation.
    relayed: Vec<RelayedState>,
}

impl RelayState {
    pub fn new(who: Arc<RelayIdentity>, local: IceCredentials) -> Self {
        Self { who, local, media: Media::default(), remote: None, established: false, relayed: Vec::new() }
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

    pub fn is_established(&self) -> bool {
        self.established
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
        if !relayed.sources.is_empty() {
            commands.push(Command::SetSources { endpoint, sources: relayed.sources.clone() });
        }
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
        let candidates = convert::candidates(ice, false);
        let news = |c: &IceCredentials| !self.established && self.remote.as_ref() != Some(c);
        let credentials = convert::credentials(ice).filter(news);
        if credentials.is_some() || !candidates.is_empty() {
            if credentials.is_some() {
                self.remote.clone_from(&credentials);
            }
            changes.commands.push(Command::SetRemoteIce { endpoint, credentials, candidates });
        }
        let fingerprints: Vec<_> = ice.fingerprints.iter().filter(|f| !f.value.trim().is_empty()).cloned().collect();
        if !fingerprints.is_empty() {
            let setup = fingerprints.iter().find_map(|f| f.setup);
            changes.outputs.push(Output::RemoteDtls { endpoint, setup, fingerprints });
        }
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
