//! Conferences: sources, receivers, and what is forwarded between them.
//!
//! A packet's way: `forwarder` finds the conference; `ingress` opens it, parses it once and puts it into the batch
//! (`packet`); `fan_out` walks over the receivers when the batch is read, where each one's subscription decides and the
//! packet is written under its numbers and sealed (`receiver`). `remote` takes it to other workers.
//!
//! RTCP comes in through `rtcp_in` and goes out through `rtcp_out`; what a receiver misses goes out again by `retransmission`.
//! `allocation` decides which layers a receiver gets, `timers` runs what waits for time (`participant/schedule`), `members` keeps who is
//! there and what they publish (`participant`, `source`).

mod allocation;
mod audio;
mod context;
mod fan_out;
mod forwarder;
mod ingress;
mod members;
mod packet;
mod participant;
mod receiver;
mod relays;
mod remote;
mod retransmission;
mod rtcp_in;
mod rtcp_out;
mod source;
mod timers;

pub use audio::loudest::LoudestOnly;
pub use context::ForwarderConfig;
pub(crate) use forwarder::Arriving;
pub use forwarder::{EndpointSlot, Forwarder};
