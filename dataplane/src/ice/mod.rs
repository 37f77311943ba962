//! ICE (RFC 8445) with consent freshness (RFC 7675): one agent per endpoint, all on the shared port.

mod agent;
mod pair;
pub mod stun;

pub use agent::{Agent, AgentConfig, AgentEvent, Context, MAX_PAIRS, question, transaction_owner};
