//! The forwarding core: what comes in from one endpoint goes out to the others, under the numbers that each of them
//! negotiated. No I/O and no clock of its own; one [`Forwarder`] per worker.
//!
//! The layout is source-major: a source holds one leg per receiver, so that fan-out is one linear walk.

mod allocation;
mod cache;
mod endpoint;
mod extension_map;
mod format;
mod forwarder;
mod input;
mod leg;
mod loss;
mod output;
mod projection;
mod reception;
mod rtcp_input;
mod signalling;
mod source;
mod speaker;

pub use forwarder::{EndpointSlot, Forwarder, ForwarderConfig};
