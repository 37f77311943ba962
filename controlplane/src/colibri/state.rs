//! What another process needs to go on with the conferences of this one (docs/upgrade.md). It is written by the state machine as it
//! is, and read as if a stranger had made it up: whatever contradicts itself is refused as a whole.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use ringbridge_dataplane::ids::{ConferenceId, EndpointId, MeshId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::conference::Conference;
use super::config::ColibriConfig;
use super::context::SharedState;
use super::identity::EndpointIdentity;
use super::limits::{MAX_CONFERENCES, MAX_ID, MAX_RELAYS};
use crate::carried::CarryError;
use crate::public_address::PublicAddress;

/// Ids up to here are taken over; a bridge that counts further is older than any.
const MAX_NEXT: u32 = 1 << 31;
/// Public addresses that were found.
const MAX_FOUND: usize = 64;

/// Why state is not taken over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StateError {
    /// Endpoints belong to workers by number.
    #[error("the state is of a bridge with {carried} workers and this one has {here}; give it as many, or restart it")]
    Workers {
        /// There.
        carried: usize,
        /// Here.
        here: usize,
    },
    /// Other bridges know this one by its relay id.
    #[error(
        "the state has relays under the id {carried:?} and this bridge has {here:?}; keep the relay id, or restart it"
    )]
    RelayId {
        /// There.
        carried: Option<String>,
        /// Here.
        here: Option<String>,
    },
    /// It cannot be written or read at all.
    #[error(transparent)]
    Carry(#[from] CarryError),
    /// It contradicts itself, or a bound.
    #[error("the state contradicts itself: {0}")]
    Contradiction(String),
}

fn contradiction(what: impl Into<String>) -> StateError {
    StateError::Contradiction(what.into())
}

/// Written by [`super::bridge::ColibriBridge::export`]. The fields are those of [`ColibriState`], in its order.
#[derive(Debug, Serialize)]
pub(super) struct ColibriStateRef<'a> {
    pub workers: usize,
    pub relay_id: Option<&'a str>,
    pub conferences: Vec<&'a Conference>,
    pub found: Vec<PublicAddress>,
    pub graceful_shutdown: bool,
    #[serde(with = "crate::carried")]
    pub next_check: Instant,
    pub shared: SharedState,
}

/// What another process wrote; nothing of it is believed before [`ColibriState::check`] looked at it.
#[derive(Debug, Deserialize)]
pub(super) struct ColibriState {
    pub workers: usize,
    pub relay_id: Option<String>,
    pub conferences: Vec<Conference>,
    pub found: Vec<PublicAddress>,
    pub graceful_shutdown: bool,
    #[serde(with = "crate::carried")]
    pub next_check: Instant,
    pub shared: SharedState,
}

impl ColibriState {
    /// What is wrong with it, if anything.
    pub fn check(&self, config: &ColibriConfig) -> Result<(), StateError> {
        let Self { workers, relay_id, conferences, found, graceful_shutdown: _, next_check: _, shared } = self;
        let here = config.workers.max(1);
        if *workers != here {
            return Err(StateError::Workers { carried: *workers, here });
        }
        let own = config.relay.as_ref().map(|relay| &relay.id);
        if conferences.iter().any(|conference| !conference.relays().is_empty()) && own != relay_id.as_ref() {
            return Err(StateError::RelayId { carried: relay_id.clone(), here: own.cloned() });
        }
        if conferences.len() > MAX_CONFERENCES || found.len() > MAX_FOUND || shared.refused.len() != here {
            return Err(contradiction("more of something than a bridge has"));
        }
        check_shared(shared)?;
        let mut seen = Seen::default();
        conferences.iter().try_for_each(|conference| seen.check(conference, here, shared))
    }
}

fn check_shared(shared: &SharedState) -> Result<(), StateError> {
    let SharedState { next_conference, next_endpoint, next_mesh, next_unsignalled: _, totals, refused: _ } = shared;
    let next = [next_conference, next_endpoint, next_mesh];
    if next.iter().any(|next| !(1..=MAX_NEXT).contains(*next)) || !totals.is_plausible() {
        return Err(contradiction("a count that no bridge reaches"));
    }
    Ok(())
}

/// What belongs to one alone.
#[derive(Default)]
struct Seen<'a> {
    meetings: HashSet<&'a str>,
    conferences: HashSet<ConferenceId>,
    hex_ids: HashSet<&'a str>,
    ids: HashSet<EndpointId>,
    meshes: HashMap<MeshId, (ConferenceId, &'a str)>,
}

impl<'a> Seen<'a> {
    fn check(&mut self, conference: &'a Conference, workers: usize, shared: &SharedState) -> Result<(), StateError> {
        let (id, meeting, hex) = (conference.id(), conference.meeting_id(), conference.hex_id());
        let fresh = self.meetings.insert(meeting) && self.conferences.insert(id) && self.hex_ids.insert(hex);
        if !fresh || id.0 == 0 || id.0 >= shared.next_conference {
            return Err(contradiction(format!("{id} is there twice, or has a number that is given out later")));
        }
        let long = |text: &str| text.len() > MAX_ID;
        if long(meeting) || long(hex) || conference.name().is_some_and(long) {
            return Err(contradiction(format!("{id} has a name of more than {MAX_ID} bytes")));
        }
        let known: HashSet<usize> = conference.workers().iter().copied().collect();
        if known.is_empty() || known.len() != conference.workers().len() || known.iter().any(|w| *w >= workers) {
            return Err(contradiction(format!("{id} is on workers that do not exist")));
        }
        if conference.relays().len() > MAX_RELAYS {
            return Err(contradiction(format!("{id} has more than {MAX_RELAYS} relays")));
        }
        let mut labels = HashSet::new();
        let mut relay_labels = HashSet::new();
        let mut endpoint = |who: &'a EndpointIdentity, relay: Option<EndpointId>, ids: &mut HashSet<EndpointId>| {
            let fits = who.conference == id && who.conference_hex == hex && who.relay == relay && !long(&who.label);
            let fresh = ids.insert(who.id) && labels.insert(who.label.as_str());
            let number = who.id.0 > 0 && who.id.0 < shared.next_endpoint;
            match fits && fresh && number && known.contains(&who.worker) {
                true => Ok(()),
                false => Err(contradiction(format!("{} does not belong into {id}", who.id))),
            }
        };
        for state in conference.endpoints() {
            endpoint(state.who(), None, &mut self.ids)?;
        }
        for state in conference.relays() {
            let who = state.who();
            let mesh = *self.meshes.entry(who.mesh).or_insert((id, who.mesh_name.as_str()));
            let fits = who.conference == id
                && who.conference_hex == hex
                && mesh == (id, who.mesh_name.as_str())
                && known.contains(&who.worker);
            let fresh = self.ids.insert(who.id) && relay_labels.insert(&who.label);
            let number = who.id.0 > 0 && who.id.0 < shared.next_endpoint && who.mesh.0 < shared.next_mesh;
            if !(fits && fresh && number) || long(&who.label) || long(&who.mesh_name) {
                return Err(contradiction(format!("relay {} does not belong into {id}", who.id)));
            }
            for relayed in state.relayed() {
                endpoint(relayed.who(), Some(who.id), &mut self.ids)?;
                if relayed.who().worker != who.worker {
                    return Err(contradiction(format!("{} is not where its relay is", relayed.who().id)));
                }
            }
        }
        Ok(())
    }
}
