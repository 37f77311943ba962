//! State of one endpoint, as signalled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbridge_dataplane::ice::{IceCredentials, RestartOutcome};
use ringbridge_dataplane::ids::{EndpointId, WorkerId};
use ringbridge_dataplane::media::{Media, SourceDescription, VideoType};
use ringbridge_dataplane::messages::Command;
use serde::{Deserialize, Serialize};

use super::changes::Changes;
use super::convert;
use super::elements::{self, ForceMute, IceTransport, Unsignalled};
use super::identity::EndpointIdentity;
use super::output::Output;
use super::published::Published;
use super::restart::{Answer, Decision, RestartTotals, Restarts};
use super::totals::Totals;
use super::transport::{LocalTransport, NewTransport};

/// An endpoint that never showed any activity is expired after this time.
const NEVER_ACTIVE: Duration = Duration::from_secs(120);
/// An endpoint that fell silent is expired after this time.
const INACTIVE: Duration = Duration::from_secs(60);
/// A client counts as knowing all sources after this: a focus that fell silent must not keep media back for ever.
const UNSIGNALLED_LONGEST: Duration = Duration::from_secs(5);

/// How an endpoint reaches the bridge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Access {
    /// Our ICE credentials: those of the pair in use.
    pub local: IceCredentials,
    /// Password of its WebSocket.
    pub password: String,
    /// Whether it reaches private addresses.
    pub private: bool,
}

/// One endpoint.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EndpointState {
    #[serde(with = "super::identity::shared")]
    who: Arc<EndpointIdentity>,
    access: Access,
    stats_id: Option<String>,
    media: Media,
    published: Published,
    force_mute: ForceMute,
    /// Others' sources that its client does not know yet, and when it counts as knowing them in any case.
    unsignalled: Vec<String>,
    #[serde(with = "crate::carried")]
    unsignalled_until: Option<Instant>,
    remote: Option<IceCredentials>,
    established: bool,
    ice_restarts: Restarts,
    #[serde(with = "crate::carried")]
    created: Instant,
    ever_active: bool,
    #[serde(with = "crate::carried")]
    silent_since: Option<Instant>,
}

impl EndpointState {
    pub fn new(now: Instant, who: Arc<EndpointIdentity>, access: Access) -> Self {
        Self {
            who,
            access,
            stats_id: None,
            media: Media::default(),
            published: Published::default(),
            force_mute: ForceMute::default(),
            unsignalled: Vec::new(),
            unsignalled_until: None,
            remote: None,
            established: false,
            ice_restarts: Restarts::new(),
            created: now,
            ever_active: false,
            silent_since: None,
        }
    }

    /// What of it never changes.
    pub fn who(&self) -> &Arc<EndpointIdentity> {
        &self.who
    }

    pub fn id(&self) -> EndpointId {
        self.who.id
    }

    pub fn stats_id(&self) -> Option<&str> {
        self.stats_id.as_deref()
    }

    pub fn sources(&self) -> &[SourceDescription] {
        self.published.sources()
    }

    pub fn force_mute(&self) -> ForceMute {
        self.force_mute
    }

    /// Whether ICE was connected at some time.
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Its transport with these credentials of ours.
    pub fn transport(&self, ours: &LocalTransport, local: &IceCredentials) -> IceTransport {
        ours.describe(&NewTransport {
            ufrag: &local.ufrag,
            pwd: &local.pwd,
            conference: &self.who.conference_hex,
            endpoint: &self.who.label,
            password: &self.access.password,
            private: self.access.private,
        })
    }

    /// Password of its WebSocket.
    pub fn password(&self) -> &str {
        &self.access.password
    }

    /// Our credentials of the pair in use.
    pub fn local(&self) -> &IceCredentials {
        &self.access.local
    }

    /// What a worker that knows it as a remote endpoint needs.
    pub fn introduce(&self) -> Vec<Command> {
        let EndpointIdentity { id: endpoint, conference, worker, .. } = *self.who;
        let home = WorkerId::from_index(worker);
        let mut commands = vec![Command::CreateRemoteEndpoint { conference, endpoint, home }];
        if self.media != Media::default() {
            commands.push(Command::SetMedia { endpoint, media: Box::new(self.media.clone()) });
        }
        commands.extend(self.published.introduce(&self.who));
        commands
    }

    // --- requests -----------------------------------------------------------------------------------------------

    /// Takes over what a request says of it.
    pub fn update(&mut self, now: Instant, request: &elements::Endpoint, totals: &mut Totals) -> Changes {
        let mut changes = Changes::default();
        let endpoint = self.id();
        if request.stats_id.is_some() {
            self.stats_id.clone_from(&request.stats_id);
        }
        if !request.media.is_empty() {
            self.update_media(request, &mut changes);
        }
        // Before anything that may let media flow.
        if let Some(unsignalled) = &request.unsignalled {
            self.update_unsignalled(now, unsignalled, &mut changes);
        }
        if let Some(last_n) = &request.initial_last_n {
            changes.outputs.push(Output::InitialLastN { endpoint, last_n: last_n.value });
        }
        if let Some(ice) = request.transport.as_ref().and_then(|transport| transport.ice.as_ref()) {
            self.update_transport(ice, &mut totals.ice_restarts, &mut changes);
        }
        if let Some(sources) = &request.sources {
            self.published.update(&self.who, &sources.media_sources, &mut totals.sources_renamed, &mut changes);
        }
        if let Some(mute) = request.force_mute
            && mute != self.force_mute
        {
            self.force_mute = mute;
            changes.commands.push(Command::SetForceMute { endpoint, audio: mute.audio, video: mute.video });
        }
        changes
    }

    fn update_media(&mut self, request: &elements::Endpoint, changes: &mut Changes) {
        let before = self.media.clone();
        convert::merge_media(&mut self.media, &request.media);
        if self.media != before || request.create {
            let media = Box::new(self.media.clone());
            changes.commands.push(Command::SetMedia { endpoint: self.id(), media });
        }
    }

    fn update_unsignalled(&mut self, now: Instant, unsignalled: &Unsignalled, changes: &mut Changes) {
        let names: Vec<String> = unsignalled.sources.iter().map(|source| source.name.clone()).collect();
        if names != self.unsignalled {
            self.unsignalled_until = (!names.is_empty()).then_some(now + UNSIGNALLED_LONGEST);
            self.unsignalled.clone_from(&names);
            changes.commands.push(Command::SetUnsignalled { endpoint: self.id(), sources: names });
        }
    }

    /// Once established, only an ICE restart changes ICE; DTLS fields count at any time (section 4.3).
    fn update_transport(&mut self, ice: &IceTransport, totals: &mut RestartTotals, changes: &mut Changes) {
        let endpoint = self.id();
        if self.established {
            if let Some(Answer { generation, credentials }) = self.ice_restarts.answer(ice, totals) {
                let candidates = convert::candidates(ice, true);
                changes.commands.push(Command::AnswerIceRestart { endpoint, generation, credentials, candidates });
            }
        } else {
            let candidates = convert::candidates(ice, false);
            changes.set_remote_ice(endpoint, &mut self.remote, convert::credentials(ice), candidates);
        }
        changes.set_remote_dtls(endpoint, ice);
    }

    /// Decides on a request to restart ICE; `fresh` makes credentials.
    pub fn restart_ice(
        &mut self,
        now: Instant,
        totals: &mut RestartTotals,
        fresh: impl FnOnce() -> IceCredentials,
    ) -> Decision {
        self.ice_restarts.ask(now, self.established, totals, fresh)
    }

    // --- what the endpoint and its worker say -------------------------------------------------------------------

    /// The endpoint said what one of its sources shows; remembered when the source is not signalled yet.
    pub fn set_video_type(&mut self, source: &str, video_type: VideoType) -> Changes {
        self.published.set_video_type(&self.who, source, video_type)
    }

    /// ICE connected, or lost its pair.
    pub fn set_ice_connected(&mut self, now: Instant, connected: bool) {
        self.established |= connected;
        self.set_active(now, connected);
    }

    /// An ICE restart ended: when it began, if it succeeded and its credentials count from now on.
    pub fn end_restart(
        &mut self,
        generation: u32,
        outcome: RestartOutcome,
        totals: &mut RestartTotals,
    ) -> Option<Instant> {
        let (local, remote, begun) = self.ice_restarts.end(generation, outcome, totals)?;
        (self.access.local, self.remote) = (local, remote);
        Some(begun)
    }

    // --- time ---------------------------------------------------------------------------------------------------

    /// When its client counts as knowing all sources.
    pub fn unsignalled_until(&self) -> Option<Instant> {
        self.unsignalled_until
    }

    /// Its client counts as knowing all sources, if that is due.
    pub fn end_unsignalled(&mut self, now: Instant) -> Option<Command> {
        self.unsignalled_until.take_if(|until| *until <= now)?;
        self.unsignalled.clear();
        Some(Command::SetUnsignalled { endpoint: self.id(), sources: Vec::new() })
    }

    /// Something authenticated arrived, or nothing does any more.
    pub fn set_active(&mut self, now: Instant, active: bool) {
        if active {
            self.ever_active = true;
            self.silent_since = None;
        } else if self.ever_active && self.silent_since.is_none() {
            self.silent_since = Some(now);
        }
    }

    /// Why it is to be expired now, if it is.
    pub fn expired(&self, now: Instant) -> Option<&'static str> {
        let passed = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        if !self.ever_active && passed(self.created, NEVER_ACTIVE) {
            return Some("never active");
        }
        self.silent_since.filter(|since| passed(*since, INACTIVE)).map(|_| "inactive")
    }
}
