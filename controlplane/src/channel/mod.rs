//! The bridge channel (bridge-protocol 5): typed messages, and what carries them: a WebSocket server, or an SCTP data
//! channel inside the endpoint's DTLS session.

pub mod counters;
mod data;
mod dcep;
mod messages;
mod server;

pub use data::{DataChannel, DataChannelOutput, MAX_SCTP_MESSAGE, NotSent};
pub use messages::{
    AudioSourceMapping, AudioSubscriptionMode, BridgeMessage, ClientMessage, HeightConstraint,
    ReceiverAudioSubscription, ReceiverVideoConstraints, VideoSourceMapping,
};
pub use server::{ChannelEvent, ChannelOut, MAX_MESSAGE, Registry, router};
#[doc(hidden)]
pub use server::{Timing, router_with};
