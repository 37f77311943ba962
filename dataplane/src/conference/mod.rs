//! Conferences: sources, receivers, and the forwarding core between them.

pub mod forwarder;

pub use forwarder::{EndpointSlot, Forwarder, ForwarderConfig};
