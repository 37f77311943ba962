//! What the colibri2 state machine is made with.

use ringbridge_dataplane::Capacity;

use super::transport::LocalTransport;

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
    /// Whether ICE is restarted in place.
    pub ice_restart: bool,
    /// First characters of the ufrags that belong to a worker.
    pub ufrag_prefix: fn(usize) -> String,
}
