//! ICE (RFC 8445) with consent freshness (RFC 7675): one agent per endpoint, two around a restart, all on the shared port.

mod agent;
mod drops;
mod integrity;
mod limits;
mod pair;
mod session;
mod signalling;
pub mod stun;

pub use agent::{Agent, AgentConfig, AgentEvent, Context, question, transaction_owner};
pub use drops::{DropCounter, DropReason};
pub use limits::MAX_PAIRS;
pub use session::{RESTART_TIMEOUT, Session, SessionEvent, TRANSITION};
pub use signalling::{IceCredentials, IceState, RemoteCandidate, RestartOutcome};
