//! ICE restarts of one endpoint in place (section 4.6): which are granted, under which number, and what became of them.

use std::time::Instant;

use ringbridge_dataplane::ice::{IceCredentials, RestartOutcome};
use serde::{Deserialize, Serialize};

use super::convert;
use super::elements::IceTransport;
use super::limits::ICE_RESTARTS;
use crate::pace::Bucket;

/// What became of ICE restarts and of what was said about them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartTotals {
    /// New credentials were given out.
    pub started: u64,
    /// A request while one was not answered yet got the same credentials.
    pub repeated: u64,
    /// One that was answered already gave way to a later one.
    pub superseded: u64,
    /// Media moved.
    pub succeeded: u64,
    /// No pair was nominated in time; media stayed.
    pub failed: u64,
    /// Nothing was connected yet: the answer had the transport as it is.
    pub not_established: u64,
    /// Declined, since they are switched off.
    pub disabled: u64,
    /// Declined, since they came too often.
    pub rate: u64,
    /// An answer to one that is not under way, or a second answer.
    pub late_answers: u64,
    /// An answer without ufrag or password.
    pub empty_answers: u64,
}

impl RestartTotals {
    /// Whether nothing of it reaches `implausible`.
    pub(super) fn is_plausible(&self, implausible: u64) -> bool {
        let Self {
            started,
            repeated,
            superseded,
            succeeded,
            failed,
            not_established,
            disabled,
            rate,
            late_answers,
            empty_answers,
        } = *self;
        let first = [started, repeated, superseded, succeeded, failed];
        let second = [not_established, disabled, rate, late_answers, empty_answers];
        first.iter().chain(&second).all(|count| *count < implausible)
    }
}

/// What a request for a restart leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// These credentials of ours are to be used; the worker may know them already.
    Use { generation: u32, local: IceCredentials },
    /// The answer has the transport as it is.
    Keep,
    /// The answer has no transport, so that the focus invites again.
    Decline,
}

/// What is known of the peer's side of a restart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub generation: u32,
    pub credentials: Option<IceCredentials>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pending {
    generation: u32,
    local: IceCredentials,
    remote: Option<IceCredentials>,
    #[serde(with = "crate::carried")]
    begun: Instant,
}

/// The restarts of one endpoint.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Restarts {
    generation: u32,
    pending: Option<Pending>,
    /// Full again in another process: upgrades are rare.
    #[serde(skip, default = "full")]
    budget: Bucket,
}

fn full() -> Bucket {
    Bucket::new(ICE_RESTARTS)
}

impl Restarts {
    /// None yet.
    pub fn new() -> Self {
        Self { generation: 0, pending: None, budget: full() }
    }

    /// Decides on a request; `fresh` makes credentials.
    pub fn ask(
        &mut self,
        now: Instant,
        established: bool,
        totals: &mut RestartTotals,
        fresh: impl FnOnce() -> IceCredentials,
    ) -> Decision {
        if !established {
            totals.not_established += 1;
            return Decision::Keep;
        }
        // Clients report one change of the network several times: the first answer to the first is as good.
        if let Some(pending) = self.pending.as_ref().filter(|pending| pending.remote.is_none()) {
            totals.repeated += 1;
            return Decision::Use { generation: pending.generation, local: pending.local.clone() };
        }
        if !self.budget.take(now, 1) {
            totals.rate += 1;
            return Decision::Decline;
        }
        totals.superseded += u64::from(self.pending.is_some());
        totals.started += 1;
        self.generation = self.generation.wrapping_add(1);
        let (generation, local) = (self.generation, fresh());
        self.pending = Some(Pending { generation, local: local.clone(), remote: None, begun: now });
        Decision::Use { generation, local }
    }

    /// What a transport update says for the restart under way, if it is about that: it carries its number, or the ufrag that the
    /// answer had, as trickled candidates do.
    pub fn answer(&mut self, ice: &IceTransport, totals: &mut RestartTotals) -> Option<Answer> {
        let credentials = convert::credentials(ice);
        let pending = self.pending.as_mut();
        let Some(tag) = ice.ice_generation else {
            let pending = pending.filter(|p| p.remote.is_some() && p.remote == credentials)?;
            return Some(Answer { generation: pending.generation, credentials: None });
        };
        let Some(pending) = pending.filter(|pending| pending.generation == tag) else {
            totals.late_answers += 1;
            return None;
        };
        if credentials.is_none() {
            totals.empty_answers += 1;
            return None;
        }
        if pending.remote.is_some() {
            totals.late_answers += 1;
            return (pending.remote == credentials).then_some(Answer { generation: tag, credentials: None });
        }
        pending.remote.clone_from(&credentials);
        Some(Answer { generation: tag, credentials })
    }

    /// The worker says how a restart ended: our credentials and the peer's that count from now on, and since when it was under
    /// way. `None` when it did not succeed, or was replaced meanwhile.
    pub fn end(
        &mut self,
        generation: u32,
        outcome: RestartOutcome,
        totals: &mut RestartTotals,
    ) -> Option<(IceCredentials, Option<IceCredentials>, Instant)> {
        let pending = self.pending.take_if(|pending| pending.generation == generation)?;
        if outcome == RestartOutcome::Abandoned {
            totals.failed += 1;
            return None;
        }
        totals.succeeded += 1;
        Some((pending.local, pending.remote, pending.begun))
    }
}
