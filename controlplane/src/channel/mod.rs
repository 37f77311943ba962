//! The bridge channel (docs/protocol/bridge.md 5): typed messages, and what carries them: a WebSocket server, or an SCTP data
//! channel inside the endpoint's DTLS session.

mod counters;
mod data;
mod dcep;
pub mod limits;
mod messages;
mod outbox;
mod reception;
mod server;

pub use counters::{ChannelCounters, Counted};
pub use data::{DataChannel, DataChannelOutput, MAX_SCTP_MESSAGE, NotSent};
pub use limits::MAX_MESSAGE;
pub use messages::{
    AudioSourceMapping, AudioSubscriptionMode, BridgeMessage, ClientMessage, FromRelay, ReceiverAudioSubscription,
    ReceiverVideoConstraints, Relayed, ToRelay, Unusable, VideoSourceMapping, from_limit, to_limit,
};
pub use outbox::{ChannelOut, Outbox, Outgoing, Refused, outbox};
pub use server::{Admission, ChannelEvent, Registry, router};
#[doc(hidden)]
pub use server::{Timing, router_with};
