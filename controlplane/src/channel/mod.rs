//! The bridge channel over WebSocket (bridge-protocol 5): typed messages, and the server that carries them.

pub mod counters;
mod messages;
mod server;

pub use messages::{BridgeMessage, ClientMessage, HeightConstraint, ReceiverVideoConstraints};
pub use server::{ChannelEvent, ChannelOut, MAX_MESSAGE, Registry, router};
#[doc(hidden)]
pub use server::{Timing, router_with};
