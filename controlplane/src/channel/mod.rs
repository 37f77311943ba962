//! The bridge channel: typed messages, and the colibri WebSocket that carries them (bridge-protocol section 5).

pub mod client;
pub mod counters;
mod json;
pub mod messages;
mod registry;
mod server;
mod socket;

pub use client::{ClientMessage, ParseError};
pub use counters::ChannelCounters;
pub use messages::BridgeMessage;
pub use registry::Registry;
pub use server::router;
#[doc(hidden)]
pub use server::router_with;
#[doc(hidden)]
pub use socket::Limits;
pub use socket::{ChannelEvent, ChannelOut};
