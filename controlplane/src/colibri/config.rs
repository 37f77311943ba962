//! What the colibri2 state machine is made with.

use ringbridge_dataplane::Capacity;
use ringbridge_dataplane::io::PortRange;

use super::transport::LocalTransport;

/// Relays to other bridges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelaySettings {
    /// Name of this bridge among them.
    pub id: String,
    /// UDP ports of relays that have one of their own; without them the kernel chooses.
    pub ports: Option<PortRange>,
}

/// What the state machine is made with.
#[derive(Debug, Clone)]
pub struct ColibriConfig {
    /// Our side of every transport.
    pub transport: LocalTransport,
    /// Number of workers, at least 1.
    pub workers: usize,
    /// Endpoints of one conference on one worker before new ones go to another.
    pub spill_endpoints: usize,
    /// What the workers take at most.
    pub capacity: Capacity,
    /// Whether data channels are served beside WebSockets.
    pub sctp: bool,
    /// SSRCs on which an endpoint with SSRC rewriting gets all audio.
    pub audio_ssrcs: usize,
    /// Pairs of SSRCs on which it gets all video.
    pub video_ssrcs: usize,
    /// Relays to other bridges, if they are served.
    pub relay: Option<RelaySettings>,
    /// Whether ICE is restarted in place.
    pub ice_restart: bool,
    /// First characters of the ufrags that belong to a worker.
    pub ufrag_prefix: fn(usize) -> String,
}
