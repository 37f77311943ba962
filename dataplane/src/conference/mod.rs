//! Conferences: sources, receivers, and the forwarding core between them.
//!
//! A packet's way: [`forwarder`] finds the room, `ingress` opens and parses it once, `burst` keeps it until its batch is
//! read, `fan_out` walks over the receivers, `projection` decides per leg, `rewrite` writes and seals it; `remote` takes it to other workers. RTCP goes through `control`, everything that waits for time through `timers`.
//! `mapping` and `ssrc_slots` give receivers with SSRC rewriting their bounded set of SSRCs.

mod active;
mod burst;
mod cache;
mod codec;
mod control;
mod dependency;
mod downlink;
mod endpoint;
mod extension_map;
mod fair_share;
mod fan_out;
mod feedback;
pub mod forwarder;
mod frame;
mod grants;
mod ingress;
mod keyframe;
mod leg;
mod loudest;
mod mapping;
mod meter;
mod nack;
mod negotiated;
mod payload;
mod projection;
mod rank;
mod remote;
mod reports;
mod rewrite;
mod room;
mod round_trip;
mod sequence;
mod source;
mod speaker;
mod ssrc_slots;
mod timers;
mod vocabulary;
mod well_known;

pub use forwarder::{EndpointSlot, Forwarder, ForwarderConfig};
pub use loudest::LoudestOnly;
