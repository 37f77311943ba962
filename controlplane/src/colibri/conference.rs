//! State of one conference and of its endpoints, as signalled.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, WorkerId};
use ringbridge_dataplane::media::{Media, SourceDescription, VideoType};
use ringbridge_dataplane::messages::{Command, FeedbackSsrcs};

use super::elements::{ForceMute, MediaSource, MediaType, Source, Sources};
use super::placement::Share;
use super::restart::Restarts;

/// An endpoint that never showed any activity is expired after this time.
const NEVER_ACTIVE: Duration = Duration::from_secs(120);
/// An endpoint that fell silent is expired after this time.
const INACTIVE: Duration = Duration::from_secs(60);
/// An empty conference younger than this is left alone.
const EMPTY_GRACE: Duration = Duration::from_secs(20);

/// How an endpoint reaches the bridge.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// Our ICE credentials: those of the pair in use.
    pub local: IceCredentials,
    /// Password of its web-socket.
    pub password: String,
    /// Whether it reaches private addresses.
    pub private: bool,
}

/// One endpoint.
#[derive(Debug)]
pub(super) struct EndpointState {
    pub id: EndpointId,
    pub label: String,
    /// Its home.
    pub worker: usize,
    pub visitor: bool,
    pub stats_id: Option<String>,
    pub media: Media,
    pub sources: Vec<SourceDescription>,
    /// What the endpoint itself said of its sources; wins over signalling.
    pub video_types: HashMap<String, VideoType>,
    pub force_mute: ForceMute,
    /// Others' sources that its client was not told of yet, and when it counts as told in any case.
    pub untold: Vec<String>,
    pub untold_until: Option<Instant>,
    pub remote: Option<IceCredentials>,
    pub established: bool,
    /// What its transport is described by.
    pub access: Access,
    pub ice_restarts: Restarts,
    created: Instant,
    ever_active: bool,
    silent_since: Option<Instant>,
}

impl EndpointState {
    pub fn new(id: EndpointId, label: String, worker: usize, access: Access, now: Instant) -> Self {
        Self {
            id,
            label,
            worker,
            visitor: false,
            stats_id: None,
            media: Media::default(),
            sources: Vec::new(),
            video_types: HashMap::new(),
            force_mute: ForceMute::default(),
            untold: Vec::new(),
            untold_until: None,
            remote: None,
            established: false,
            access,
            ice_restarts: Restarts::new(),
            created: now,
            ever_active: false,
            silent_since: None,
        }
    }

    /// Lets what the endpoint said win over signalling.
    pub fn override_video_types(&self, sources: &mut [SourceDescription]) {
        for source in sources {
            if let Some(video_type) = self.video_types.get(&source.name) {
                source.video_type = *video_type;
            }
        }
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

/// One conference.
#[derive(Debug)]
pub(super) struct Conference {
    pub id: ConferenceId,
    pub meeting_id: String,
    /// Random, in hexadecimal; part of web-socket URLs.
    pub hex_id: String,
    pub name: Option<String>,
    /// Whether third parties may collect statistics of it.
    pub rtcstats: bool,
    /// Those that it exists on, in the order in which it got there; never none.
    pub workers: Vec<usize>,
    pub feedback: FeedbackSsrcs,
    /// In order of creation.
    pub endpoints: Vec<EndpointState>,
    pub created: Instant,
}

impl Conference {
    pub fn endpoint(&mut self, label: &str) -> Option<&mut EndpointState> {
        self.endpoints.iter_mut().find(|e| e.label == label)
    }

    /// How many of its endpoints each worker has.
    pub fn shares(&self) -> Vec<Share> {
        let endpoints = |worker| self.endpoints.iter().filter(|e| e.worker == worker).count();
        self.workers.iter().map(|worker| Share { worker: *worker, endpoints: endpoints(*worker) }).collect()
    }

    /// What a worker that none of its endpoints lives on has to be told of it.
    pub fn introduce(&self) -> Vec<Command> {
        let mut commands = vec![Command::CreateConference { conference: self.id, feedback: self.feedback }];
        for state in &self.endpoints {
            let endpoint = state.id;
            commands.push(Command::CreateRemoteEndpoint {
                conference: self.id,
                endpoint,
                home: WorkerId::from_index(state.worker),
            });
            if state.media != Media::default() {
                commands.push(Command::SetMedia { endpoint, media: Box::new(state.media.clone()) });
            }
            if !state.sources.is_empty() {
                commands.push(Command::SetSources { endpoint, sources: state.sources.clone() });
            }
        }
        commands
    }

    /// Whether the periodic check ends it.
    pub fn deserted(&self, now: Instant) -> bool {
        self.endpoints.is_empty() && now.saturating_duration_since(self.created) >= EMPTY_GRACE
    }

    /// The bridge's own sources.
    pub fn feedback_sources(&self) -> Sources {
        let source = |media_type, name: &str, ssrc| MediaSource {
            media_type,
            id: name.to_owned(),
            synthetic: false,
            sources: vec![Source { ssrc, name: Some(name.to_owned()), ..Source::default() }],
            ssrc_groups: Vec::new(),
        };
        Sources {
            media_sources: vec![
                source(MediaType::Audio, "jvb-a0", self.feedback.audio.get()),
                source(MediaType::Video, "jvb-v0", self.feedback.video.get()),
            ],
        }
    }
}
