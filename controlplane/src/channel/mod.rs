//! The bridge channel (docs/protocol/bridge.md 5 and 10): typed messages, and what carries them: a WebSocket, which clients and
//! other bridges open to us or we to other bridges, or an SCTP data channel inside the DTLS session.

mod counters;
mod data;
mod dcep;
mod dial;
mod events;
pub mod keeper;
pub mod limits;
mod messages;
mod outbox;
mod reception;
mod registry;
mod secured;
mod server;
mod socket;

pub use counters::{ChannelCounters, Counted};
pub use data::{DataChannel, DataChannelOutput, MAX_SCTP_MESSAGE, NotSent};
pub use dial::{Address, Dial, Dialler};
pub use events::ChannelEvent;
pub use limits::MAX_MESSAGE;
pub use messages::{
    AudioSourceMapping, AudioSubscriptionMode, BridgeMessage, ClientMessage, FromRelay, ReceiverAudioSubscription,
    ReceiverVideoConstraints, Relayed, ToRelay, Unusable, VideoSourceMapping, from_limit, to_limit,
};
pub use outbox::{ChannelOut, Outbox, Outgoing, Refused, outbox};
pub use registry::{Admission, Registry};
pub use secured::{SecuredChannel, SecuredOutput, Written};
pub use server::router;
#[doc(hidden)]
pub use server::router_with;
#[doc(hidden)]
pub use socket::Timing;
