//! The Jibris of one brewery, and which of them is asked next (docs/protocol/focus.md 8.7).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use xmpp_parsers::presence::Presence;

use super::element::is_available;
use crate::focus::context::Context;
use crate::focus::pool::{Pool, PoolChange};
use crate::focus::state_error::FocusStateError;

/// A Jibri that failed is not asked for so long, unless it says anew that it is idle.
const FAILURE: Duration = Duration::from_secs(60);
/// A Jibri that was asked is not asked again before its presence can have become busy.
const SELECTED: Duration = Duration::from_millis(200);
/// Jibris of one brewery that are remembered.
const MAX_INSTANCES: usize = 1_000;

/// One Jibri.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Instance {
    available: bool,
    #[serde(with = "crate::carried")]
    failed: Option<Instant>,
    #[serde(with = "crate::carried")]
    selected: Option<Instant>,
}

/// There is none to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoJibri {
    /// All that there are have something to do, or failed lately.
    Busy,
    /// There is none at all.
    Absent,
}

/// What a presence means for the tasks of a Jibri.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InstanceChange {
    /// It has nothing to do, or something.
    Idle(String, bool),
    /// It is gone.
    Gone(Vec<String>),
}

/// The Jibris of one brewery.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Instances {
    pub pool: Pool,
    known: BTreeMap<String, Instance>,
}

impl Instances {
    /// A pool without Jibris.
    pub fn new(pool: Pool) -> Self {
        Self { pool, known: BTreeMap::new() }
    }

    /// Goes on with the Jibris as another process knows them.
    pub fn all_go_on_with(own: Option<&mut Self>, other: Option<Self>) -> Result<(), FocusStateError> {
        let (pools, others) = match own {
            Some(Self { pool, known }) => {
                let other = other.map(|other| (other.pool, other.known));
                let (others, theirs) = other.unzip();
                *known = theirs.unwrap_or_default();
                (Some(pool), others)
            }
            None => (None, other.map(|other| other.pool)),
        };
        Pool::all_go_on_with(pools, others)
    }

    /// Takes a presence of their brewery.
    pub fn presence(&mut self, cx: &mut Context<'_>, presence: &Presence) -> Option<InstanceChange> {
        match self.pool.presence(cx, presence)? {
            PoolChange::Closed => {
                let known = std::mem::take(&mut self.known);
                Some(InstanceChange::Gone(known.into_keys().collect()))
            }
            PoolChange::Gone(jid) => {
                self.known.remove(&jid)?;
                tracing::info!(jibri = %jid, left = self.known.len(), "Jibri gone");
                Some(InstanceChange::Gone(vec![jid]))
            }
            PoolChange::Seen(jid) => {
                let status = presence.payloads.iter().find(|payload| payload.name() == "jibri-status")?;
                if !self.known.contains_key(&jid) {
                    if self.known.len() >= MAX_INSTANCES {
                        return None;
                    }
                    tracing::info!(jibri = %jid, "Jibri found");
                }
                let instance = self.known.entry(jid.clone()).or_default();
                instance.available = is_available(status);
                if instance.available {
                    // It speaks only when something changed: what went wrong is over.
                    instance.failed = None;
                }
                Some(InstanceChange::Idle(jid, instance.available))
            }
        }
    }

    /// The one to ask: idle, and the one that failed longest ago.
    pub fn select(&mut self, now: Instant) -> Result<String, NoJibri> {
        let none = self.known.is_empty();
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let free = self.known.iter_mut().filter(|(_, instance)| {
            instance.available && since(instance.selected).is_none_or(|since| since >= SELECTED)
        });
        let chosen = free.min_by_key(|(_, instance)| instance.failed);
        match chosen.filter(|(_, instance)| since(instance.failed).is_none_or(|since| since >= FAILURE)) {
            Some((jid, instance)) => {
                instance.selected = Some(now);
                Ok(jid.clone())
            }
            None if none => Err(NoJibri::Absent),
            None => Err(NoJibri::Busy),
        }
    }

    /// Whether one has nothing to do; nothing where it is not known.
    pub fn is_idle(&self, jid: &str) -> Option<bool> {
        self.known.get(jid).map(|instance| instance.available)
    }

    /// One did not do what it was asked.
    pub fn failed(&mut self, now: Instant, jid: &str) {
        if let Some(instance) = self.known.get_mut(jid) {
            instance.failed = Some(now);
        }
    }

    /// Nobody is known any more: we were away.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// How many there are, and how many of them are idle.
    pub fn count(&self) -> (usize, usize) {
        (self.known.len(), self.known.values().filter(|instance| instance.available).count())
    }
}
