//! What the process before left of a conference's members: sessions that this process knows by their ids alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::focus::kept::KeptMember;

/// To members who have media a missing bridge is not announced for this long: it may have started together with us.
const BRIDGE_PATIENCE: Duration = Duration::from_secs(10);

/// What the process before left of a conference's members.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(in super::super) struct Former {
    members: BTreeMap<String, KeptMember>,
    /// Until when a missing bridge is not announced.
    #[serde(with = "crate::carried")]
    quiet_until: Option<Instant>,
}

impl Former {
    /// Of a conference that goes on from `now` on.
    pub fn new(now: Instant, members: BTreeMap<String, KeptMember>) -> Self {
        Self { members, quiet_until: Some(now + BRIDGE_PATIENCE) }
    }

    /// What was kept of all of them.
    pub fn members(&self) -> &BTreeMap<String, KeptMember> {
        &self.members
    }

    /// What was kept of a member, and is not any more.
    pub fn take(&mut self, nick: &str) -> Option<KeptMember> {
        self.members.remove(nick)
    }

    /// Keeps those alone for whom `is_there` holds.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.members.retain(|nick, _| is_there(nick));
    }

    /// Whether a missing bridge is to be announced from `now` on, for the first time.
    pub fn ends_quiet(&mut self, now: Instant) -> bool {
        self.quiet_until.take_if(|at| *at <= now).is_some()
    }

    /// When a missing bridge is to be announced.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.quiet_until
    }

    /// Whether a missing bridge is not announced yet.
    pub fn is_quiet(&self) -> bool {
        self.quiet_until.is_some()
    }
}
