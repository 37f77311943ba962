//! One endpoint or relay as a member of its conference: what it sends ([`publisher`]), what it is sent ([`Receiver`]), and what
//! both sides share.

use serde::{Deserialize, Serialize};

pub mod publisher;
pub mod relay;
pub mod schedule;
pub mod spread;

use std::sync::Arc;
use std::time::{Duration, Instant};

use publisher::Publisher;
use relay::Relay;

use super::receiver::Receiver;
use super::receiver::pass_through::PassThrough;
use crate::ids::{EndpointId, MeshId, ParticipantId, SourceId, WorkerId};
use crate::limits::{CommandedChanges, RtcpWork};
use crate::media::Encoding;
use crate::messages::Event;
use crate::negotiation::negotiated::Negotiated;
use crate::srtp::SrtpKeys;

/// An endpoint is inactive after this long without a sign of life.
const ACTIVITY_TIMEOUT: Duration = Duration::from_secs(8);

/// What a participant is.
#[derive(Debug, Serialize, Deserialize)]
pub enum Role {
    /// An endpoint of this bridge.
    Endpoint,
    /// An endpoint of another bridge: its packets come by the relay that it is behind, with that one's keys and numbers.
    Relayed {
        /// The relay.
        relay: ParticipantId,
        /// The mesh of the relay.
        mesh: MeshId,
    },
    /// The connection to another bridge.
    Relay(Box<Relay>),
}

/// State of one endpoint or relay.
#[derive(Serialize, Deserialize)]
pub struct Participant {
    /// Its identity.
    id: EndpointId,
    /// Distinguishes it from earlier users of its number.
    generation: u32,
    /// The worker that it lives on, when that is another one: then its packets come opened, and none go to it.
    home: Option<WorkerId>,
    /// What it is.
    role: Role,
    /// What it sends.
    pub publisher: Publisher,
    /// What it is sent.
    pub receiver: Receiver,
    /// How often commands may change it at once.
    commanded: CommandedChanges,
    /// What its RTCP may cost.
    rtcp_work: RtcpWork,
    keys: Option<SrtpKeys>,
    #[serde(with = "crate::carry::checked")]
    last_activity: Instant,
    /// What the control plane believes: changes are reported, and a new endpoint counts as active.
    active: bool,
}

impl Participant {
    /// A participant without keys; `home` is the worker that it lives on, unless it is this one.
    pub fn new(
        id: EndpointId,
        generation: u32,
        (home, role): (Option<WorkerId>, Role),
        negotiated: Arc<Negotiated>,
        now: Instant,
    ) -> Self {
        let mut participant = Self {
            id,
            generation,
            home,
            role,
            publisher: Publisher::default(),
            receiver: Receiver::default(),
            commanded: CommandedChanges::new(),
            rtcp_work: RtcpWork::new(),
            keys: None,
            last_activity: now,
            active: false,
        };
        // Others are watched over by their home, or by the bridge that they are at.
        participant.active = participant.has_transport();
        participant.set_negotiated(negotiated);
        participant
    }

    /// Its identity.
    #[inline]
    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// What distinguishes it from earlier users of its number.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether it is the one of a generation, and not a later one under the same number.
    #[inline]
    pub fn is_of(&self, generation: u32) -> bool {
        self.generation == generation
    }

    /// The worker that it lives on, when that is another one.
    #[inline]
    pub fn home(&self) -> Option<WorkerId> {
        self.home
    }

    /// When a change by a command, made now, may be acted upon.
    pub fn reserve_command(&mut self, now: Instant) -> Instant {
        self.commanded.reserve(now)
    }

    /// Whether its RTCP may cost anything at all at the moment.
    pub fn has_rtcp_work(&mut self, now: Instant) -> bool {
        match &mut self.role {
            Role::Relay(relay) => relay.rtcp_work().has_any(now),
            Role::Endpoint | Role::Relayed { .. } => self.rtcp_work.has_any(now),
        }
    }

    /// Whether its RTCP may cost this much more; pays for it if so.
    pub fn pays_for_rtcp(&mut self, now: Instant, work: u32) -> bool {
        match &mut self.role {
            Role::Relay(relay) => relay.rtcp_work().take_many(now, work),
            Role::Endpoint | Role::Relayed { .. } => self.rtcp_work.take_many(now, work),
        }
    }

    /// Whether its packets come in at this worker.
    #[inline]
    pub fn is_local(&self) -> bool {
        self.home.is_none()
    }

    /// Whether it has keys and an address here.
    #[inline]
    pub fn has_transport(&self) -> bool {
        self.is_local() && self.behind().is_none()
    }

    /// Whether it is an endpoint that others' sources are projected for here.
    #[inline]
    pub fn is_receiver(&self) -> bool {
        self.is_local() && matches!(self.role, Role::Endpoint)
    }

    /// The relay that it is behind.
    #[inline]
    pub fn behind(&self) -> Option<ParticipantId> {
        match self.role {
            Role::Relayed { relay, .. } => Some(relay),
            Role::Endpoint | Role::Relay(_) => None,
        }
    }

    /// The mesh that it belongs to; none if it is an endpoint of this bridge.
    pub fn mesh(&self) -> Option<MeshId> {
        match &self.role {
            Role::Endpoint => None,
            Role::Relayed { mesh, .. } => Some(*mesh),
            Role::Relay(relay) => Some(relay.mesh()),
        }
    }

    /// What only a relay has; none if it is an endpoint.
    #[inline]
    pub fn relay(&self) -> Option<&Relay> {
        match &self.role {
            Role::Relay(relay) => Some(relay),
            Role::Endpoint | Role::Relayed { .. } => None,
        }
    }

    /// The same, to change it.
    #[inline]
    pub fn relay_mut(&mut self) -> Option<&mut Relay> {
        match &mut self.role {
            Role::Relay(relay) => Some(relay),
            Role::Endpoint | Role::Relayed { .. } => None,
        }
    }

    /// Of a relay: a source does not go there any more. How far its SSRCs got is remembered.
    pub fn end_pass(&mut self, source: SourceId, pass: &PassThrough) {
        if let Some(relay) = self.relay_mut() {
            relay.release(source);
        }
        pass.indices().for_each(|(ssrc, next)| self.receiver.remember(ssrc, next));
    }

    /// Whether it is a relay, and nobody who speaks or listens.
    #[inline]
    pub fn is_relay(&self) -> bool {
        self.relay().is_some()
    }

    /// Replaces its formats and extensions, in both directions.
    pub fn set_negotiated(&mut self, negotiated: Arc<Negotiated>) {
        self.publisher.set_negotiated(Arc::clone(&negotiated));
        self.receiver.set_negotiated(negotiated);
    }

    /// Installs keys; false if they were in use already, and their counters must not restart.
    pub fn set_keys(&mut self, keys: &SrtpKeys) -> bool {
        if self.keys.as_ref() == Some(keys) {
            return false;
        }
        self.publisher.set_keys(keys, self.is_relay());
        self.receiver.set_keys(keys);
        self.keys = Some(keys.clone());
        true
    }

    /// Records a sign of life; there is an event when it was silent before.
    #[inline]
    pub fn note_activity(&mut self, now: Instant) -> Option<Event> {
        self.last_activity = now;
        let was_active = std::mem::replace(&mut self.active, true);
        (!was_active).then_some(Event::Activity { endpoint: self.id, active: true })
    }

    /// Looks for silence; there is an event when it has lasted for long enough.
    pub fn check_activity(&mut self, now: Instant) -> Option<Event> {
        let silent = now.saturating_duration_since(self.last_activity) >= ACTIVITY_TIMEOUT;
        let news = self.active && silent;
        self.active &= !silent;
        news.then_some(Event::Activity { endpoint: self.id, active: false })
    }

    /// When [`Self::check_activity`] will find silence if no sign of life follows.
    #[inline]
    pub fn silent_at(&self) -> Option<Instant> {
        self.active.then_some(self.last_activity + ACTIVITY_TIMEOUT)
    }

    /// Whether it is an endpoint that is sent sources on their own SSRCs, and has to remember those.
    pub fn remembers_ssrcs(&self) -> bool {
        self.is_receiver() && self.receiver.ssrc_slots().is_none()
    }

    /// Whether it has to remember one more SSRC for a source of others; none when it has to remember nothing of anybody.
    pub fn is_news(&self, ssrcs: Encoding) -> Option<bool> {
        match (self.is_relay() && self.has_transport(), self.remembers_ssrcs()) {
            // Repetitions go there on the media SSRC.
            (true, _) => Some(!self.receiver.remembers(Encoding { rtx: None, ..ssrcs })),
            (false, true) => Some(!self.receiver.remembers(ssrcs)),
            (false, false) => None,
        }
    }
}
