//! ICE (RFC 8445) with consent freshness (RFC 7675): one agent per endpoint, two around a restart, all on the shared port.

mod agent;
mod pair;
mod session;
pub mod stun;

pub use agent::{Agent, AgentConfig, AgentEvent, Context, MAX_PAIRS, question, transaction_owner};
pub use session::{RESTART_TIMEOUT, Session, SessionEvent, TRANSITION};
