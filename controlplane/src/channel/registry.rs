//! Who may open a WebSocket: endpoints, and relays of other bridges, by conference and name, each with a password.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringbridge_dataplane::ids::EndpointId;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::limits::{CONNECTS, Intake};
use crate::pace::Bucket;

/// What somebody on a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A client of this bridge.
    Client,
    /// Another bridge.
    Relay,
}

/// What somebody still may say; shared by all connections, so that a new one does not make it new.
#[derive(Debug, Clone)]
pub(super) struct SharedIntake(Arc<Mutex<Intake>>);

impl SharedIntake {
    fn of(kind: Kind) -> Self {
        Self(Arc::new(Mutex::new(match kind {
            Kind::Client => Intake::default(),
            Kind::Relay => Intake::of_relay(),
        })))
    }

    /// Counts what was said; how long its sender should not be heard then.
    pub(super) fn charge(&self, now: Instant, work: usize, bytes: usize) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).charge(now, work, bytes)
    }
}

/// Kind, conference and name of somebody who may connect.
type Key = (Kind, String, String);

struct Registered {
    password: Zeroizing<String>,
    id: EndpointId,
    connects: Bucket,
    intake: SharedIntake,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Somebody who may connect, or whom we connect to.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) kind: Kind,
    pub(super) id: EndpointId,
    pub(super) name: String,
    pub(super) intake: SharedIntake,
}

/// Why a connection is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// Wrong password, or no such name or conference: they look the same to whoever asks.
    Unknown,
    /// Connects too often.
    TooOften,
}

/// Who may connect.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    registered: Arc<Mutex<HashMap<Key, Registered>>>,
}

impl Registry {
    /// Lets an endpoint connect with a password, for as long as the admission is kept.
    pub fn admit(&self, conference: &str, endpoint: &str, password: &str, id: EndpointId) -> Admission {
        self.register((Kind::Client, conference.to_owned(), endpoint.to_owned()), password, id)
    }

    /// Lets the bridge behind a relay connect; `relay` is that bridge's relay id.
    pub fn admit_relay(&self, conference: &str, relay: &str, password: &str, id: EndpointId) -> Admission {
        self.register((Kind::Relay, conference.to_owned(), relay.to_owned()), password, id)
    }

    fn register(&self, key: Key, password: &str, id: EndpointId) -> Admission {
        let intake = SharedIntake::of(key.0);
        let registered = Registered {
            password: Zeroizing::new(password.to_owned()),
            id,
            connects: Bucket::new(CONNECTS),
            intake: intake.clone(),
        };
        self.lock().insert(key.clone(), registered);
        Admission { registry: self.clone(), key, id, intake }
    }

    /// How many may connect.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn authenticate(
        &self,
        kind: Kind,
        conference: &str,
        name: &str,
        password: &str,
    ) -> Result<Peer, Rejection> {
        let mut registered = self.lock();
        let key = (kind, conference.to_owned(), name.to_owned());
        let registered = registered.get_mut(&key).ok_or(Rejection::Unknown)?;
        // How many of its characters are right must not show in the time that it takes.
        if !bool::from(registered.password.as_bytes().ct_eq(password.as_bytes())) {
            return Err(Rejection::Unknown);
        }
        if !registered.connects.take(Instant::now(), 1) {
            return Err(Rejection::TooOften);
        }
        Ok(Peer { kind, id: registered.id, name: name.to_owned(), intake: registered.intake.clone() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Registered>> {
        // A panic while the map was held cannot have left it half-written.
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody may connect while this is kept.
#[must_use]
#[derive(Debug)]
pub struct Admission {
    registry: Registry,
    key: Key,
    id: EndpointId,
    intake: SharedIntake,
}

impl Admission {
    /// The one who is admitted.
    pub(super) fn peer(&self) -> Peer {
        Peer { kind: self.key.0, id: self.id, name: self.key.2.clone(), intake: self.intake.clone() }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut registered = self.registry.lock();
        // A later one of the same name has its own.
        if registered.get(&self.key).is_some_and(|registered| registered.id == self.id) {
            registered.remove(&self.key);
        }
    }
}
