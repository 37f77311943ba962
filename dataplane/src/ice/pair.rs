//! One candidate pair: its checks, its validity, its consent.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::datagram::Path;

use super::stun::TransactionId;

/// Consent is lost this long after the last answer (RFC 7675 section 5.1).
pub(super) const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Mean time between checks of a pair that carries media; randomised by a fifth (RFC 7675 section 5.1).
pub(super) const CONSENT_INTERVAL: Duration = Duration::from_secs(5);
/// Time between checks of such a pair while the latest one is unanswered.
const CONSENT_RETRY: Duration = Duration::from_secs(1);
/// Time between checks of a pair that was valid once, while no other pair is.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(5);
/// Wait for the answer to the first check; doubles up to `MAX_RTO` (RFC 8445 section 14.3 allows what suits the network).
const INITIAL_RTO: Duration = Duration::from_millis(250);
const MAX_RTO: Duration = Duration::from_secs(4);
/// Unanswered checks until a pair that never was valid counts as failed: about 24 seconds.
const MAX_ATTEMPTS: u32 = 9;
/// Checks whose answers are still accepted.
const OUTSTANDING: usize = 8;

/// A check on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Check {
    pub id: TransactionId,
    /// Whether it carried USE-CANDIDATE.
    pub nominating: bool,
    /// The role that it was sent in: a 487 to an older role is stale.
    pub controlling: bool,
}

/// A local socket and a remote address.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pair {
    path: Path,
    /// Priority of the remote candidate.
    remote_priority: u32,
    /// The remote candidate is a TURN relay: used only when nothing else works.
    relayed: bool,
    /// The peer has shown that it knows our password from this address, or answered from it.
    learnt: bool,
    /// Nomination is done: our USE-CANDIDATE was answered, or the peer's came in.
    nominated: bool,
    /// When the next check is due; `None` when it is not checked.
    #[serde(with = "crate::carry::checked")]
    next_check: Option<Instant>,
    /// Until when there is consent to send; `None` when the pair is not valid.
    #[serde(with = "crate::carry::checked")]
    consent_until: Option<Instant>,
    was_valid: bool,
    attempts: u32,
    #[serde(with = "crate::carry::checked")]
    last_sent: Option<Instant>,
    outstanding: [Option<Check>; OUTSTANDING],
    #[serde(with = "crate::carry::checked")]
    newest: usize,
}

impl Pair {
    pub fn new(path: Path, remote_priority: u32, relayed: bool) -> Self {
        Self {
            path,
            remote_priority,
            relayed,
            learnt: false,
            nominated: false,
            next_check: None,
            consent_until: None,
            was_valid: false,
            attempts: 0,
            last_sent: None,
            outstanding: [None; OUTSTANDING],
            newest: 0,
        }
    }

    /// The local socket and the remote address.
    pub fn path(&self) -> Path {
        self.path
    }

    /// Priority of the remote candidate.
    pub fn remote_priority(&self) -> u32 {
        self.remote_priority
    }

    /// Whether the remote candidate is a TURN relay.
    pub fn relayed(&self) -> bool {
        self.relayed
    }

    /// Whether the peer has shown that it is at this address.
    pub fn learnt(&self) -> bool {
        self.learnt
    }

    /// Whether nomination is done.
    pub fn nominated(&self) -> bool {
        self.nominated
    }

    /// When the next check is due; `None` when it is not checked.
    pub fn next_check(&self) -> Option<Instant> {
        self.next_check
    }

    /// Until when there is consent to send; `None` when the pair is not valid.
    pub fn consent_until(&self) -> Option<Instant> {
        self.consent_until
    }

    /// The peer's signalling names the candidate of an address that was known already.
    pub fn signalled(&mut self, priority: u32, relayed: bool) {
        (self.remote_priority, self.relayed) = (priority, relayed);
    }

    /// The peer sent an authentic request from this address, with or without USE-CANDIDATE that counts.
    pub fn requested(&mut self, nominating: bool) {
        self.learnt = true;
        self.nominated |= nominating;
    }

    /// Checks it from now on, if it is not checked yet.
    pub fn check_from(&mut self, now: Instant) {
        self.next_check.get_or_insert(now);
    }

    /// Checks it no more.
    pub fn quiet(&mut self) {
        self.next_check = None;
    }

    /// The roles have changed: nobody has nominated it, and answers to checks in the old role do not count.
    pub fn reset_role(&mut self) {
        self.nominated = false;
        if !self.valid() && self.next_check.is_some() {
            self.forget_checks();
        }
    }

    /// Whether the peer answered a check over it and consent still holds.
    pub fn valid(&self) -> bool {
        self.consent_until.is_some()
    }

    /// Whether it was valid at any time.
    pub fn was_valid(&self) -> bool {
        self.was_valid
    }

    /// Whether it is neither valid nor being checked.
    pub fn idle(&self) -> bool {
        !self.valid() && self.next_check.is_none()
    }

    /// Pair priority of RFC 8445 section 6.1.2.3.
    pub fn priority(&self, local_priority: u32, controlling: bool) -> u64 {
        let (local, remote) = (u64::from(local_priority), u64::from(self.remote_priority));
        let (g, d) = if controlling { (local, remote) } else { (remote, local) };
        (g.min(d) << 32).saturating_add(2 * g.max(d) + u64::from(g > d))
    }

    /// Starts over with checks, e.g. because the peer checked this pair (triggered check).
    pub fn trigger(&mut self, now: Instant) {
        if !self.valid() {
            self.attempts = 0;
        }
        self.next_check = Some(now);
    }

    /// Whether a check that is still unanswered went out within `span`: a flood of requests must not become a flood of checks.
    pub fn checked_within(&self, span: Duration, now: Instant) -> bool {
        self.last_sent.is_some_and(|sent| now.saturating_duration_since(sent) < span)
    }

    /// Records a check that goes out now and plans the next one.
    pub fn sent(&mut self, now: Instant, check: Check) {
        self.newest = (self.newest + 1) % OUTSTANDING;
        if let Some(place) = self.outstanding.get_mut(self.newest) {
            *place = Some(check);
        }
        self.last_sent = Some(now);
        self.next_check = if self.valid() {
            Some(now + if check.nominating && !self.nominated { INITIAL_RTO } else { CONSENT_RETRY })
        } else if self.was_valid {
            Some(now + RECOVERY_INTERVAL)
        } else {
            self.attempts += 1;
            let rto = (INITIAL_RTO * (1 << (self.attempts - 1).min(8))).min(MAX_RTO);
            (self.attempts < MAX_ATTEMPTS).then(|| now + rto)
        };
    }

    /// The check that this transaction belongs to.
    pub fn check(&self, id: &TransactionId) -> Option<Check> {
        self.outstanding.iter().flatten().find(|check| check.id == *id).copied()
    }

    /// An authentic answer: consent for another while. `interval` is the randomised time to the next check.
    pub fn answered(&mut self, now: Instant, check: Check, interval: Duration) {
        self.forget_checks();
        self.learnt = true;
        self.was_valid = true;
        self.attempts = 0;
        self.last_sent = None;
        self.consent_until = Some(now + CONSENT_TIMEOUT);
        self.nominated |= check.nominating;
        self.next_check = Some(now + interval);
    }

    /// Consent is gone.
    pub fn expire(&mut self, now: Instant) {
        self.consent_until = None;
        self.nominated = false;
        self.forget_checks();
        self.next_check = Some(now);
    }

    /// No answer to an earlier check counts any more.
    pub fn forget_checks(&mut self) {
        self.outstanding = [None; OUTSTANDING];
    }
}
