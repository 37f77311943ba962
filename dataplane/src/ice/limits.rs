//! What one peer may cost an agent.

use crate::budget::Budget;

/// Most candidate pairs of one agent.
pub const MAX_PAIRS: usize = 16;

/// Authentic STUN requests of one endpoint. A browser sends twenty a second while it looks for a path, and fewer then.
pub(super) type StunRequests = Budget<100, 200>;

/// Requests with a wrong MESSAGE-INTEGRITY for one endpoint that are verified, from paths that it has not shown to be its own.
/// Beyond that no request from there is looked at for a while.
pub(super) type ForgedRequests = Budget<50, 100>;

/// The same, from paths that are known to be its own.
pub(super) type ForgedOnKnownPaths = Budget<200, 400>;
