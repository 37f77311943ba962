//! Messages of the bridge channel (docs/protocol/bridge.md 5.5 and 5.6), and those of clients from before source names
//! (docs/protocol/focus.md 12). Unknown fields are ignored, unknown classes are not an error.

mod bridge;
mod class;
mod client;
mod fields;
mod passed_on;
mod relay;
mod signalled;
#[cfg(test)]
mod tests;

pub use bridge::{AudioSourceMapping, BridgeMessage, VideoSourceMapping};
pub use class::Unusable;
pub use client::{AudioSubscriptionMode, ClientMessage, ReceiverAudioSubscription, ReceiverVideoConstraints};
pub use passed_on::Relayed;
pub use relay::{FromRelay, ToRelay};
pub use signalled::{from_limit, to_limit};
