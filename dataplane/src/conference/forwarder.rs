//! The forwarding core of one worker, without I/O: packets and time in, packets (through a sink) and events out.

use std::sync::Arc;
use std::time::Instant;

use crate::ids::EndpointId;
use crate::io::{PacketSink, Path};
use crate::ring::{Command, Event};
use crate::stats::WorkerStats;

/// Index of an endpoint in its worker's forwarder; looked up once, then passed with every packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndpointSlot {
    index: u32,
    generation: u32,
}

/// Limits and knobs.
#[derive(Debug, Clone)]
pub struct ForwarderConfig {
    /// False passes payload types and extension ids through unchanged (a test knob).
    pub rewrite: bool,
}

impl Default for ForwarderConfig {
    fn default() -> Self {
        Self { rewrite: true }
    }
}

/// Forwards the media of all conferences of one worker.
#[derive(Debug)]
pub struct Forwarder {
    _config: ForwarderConfig,
    _stats: Arc<WorkerStats>,
}

impl Forwarder {
    /// An empty forwarder.
    pub fn new(config: ForwarderConfig, stats: Arc<WorkerStats>) -> Self {
        Self { _config: config, _stats: stats }
    }

    /// Applies a command; those for ICE and DTLS are ignored.
    pub fn handle_command(&mut self, _now: Instant, _command: Command) {}

    /// The slot of an endpoint.
    pub fn slot(&self, _endpoint: EndpointId) -> Option<EndpointSlot> {
        None
    }

    /// Sets where the endpoint's packets go; `None` stops sending.
    pub fn set_path(&mut self, _endpoint: EndpointId, _path: Option<Path>) {}

    /// Tells of an authenticated sign of life other than media, e.g. ICE consent.
    pub fn note_activity(&mut self, _now: Instant, _slot: EndpointSlot) {}

    /// Takes one SRTP packet.
    pub fn handle_rtp(
        &mut self,
        _now: Instant,
        _from: EndpointSlot,
        _datagram: &mut [u8],
        _sink: &mut impl PacketSink,
    ) {
    }

    /// Takes one SRTCP packet.
    pub fn handle_rtcp(
        &mut self,
        _now: Instant,
        _from: EndpointSlot,
        _datagram: &mut [u8],
        _sink: &mut impl PacketSink,
    ) {
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, _now: Instant, _sink: &mut impl PacketSink) {}

    /// When `handle_timeout` wants to run next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }
}
