//! What every step of a conference shares: the time, the settings, and the worker's own tables.

use std::collections::VecDeque;
use std::time::Instant;

use super::audio::loudest::LoudestOnly;
use super::packet::batch::Batch;
use super::receiver::rewrite::{Delivery, send_time};
use crate::clock::WorkerTime;
use crate::congestion::estimator::Bounds;
use crate::congestion::fair_share::FairShare;
use crate::congestion::shedding::Shedding;
use crate::ids::WorkerId;
use crate::limits::Complaints;
use crate::messages::Event;
use crate::negotiation::negotiated::Negotiations;
use crate::peers::{PeerSignal, Peers};
use crate::stats::{Counter, WorkerStats};

/// Limits and knobs.
#[derive(Debug, Clone)]
pub struct ForwarderConfig {
    /// False passes payload types and extension ids through unchanged (a test knob).
    pub rewrite: bool,
    /// Most endpoints of one conference.
    pub max_endpoints_per_conference: usize,
    /// Most sources of one endpoint.
    pub max_sources_per_endpoint: usize,
    /// Bytes of packets kept per video source for retransmission.
    pub cache_bytes: usize,
    /// Sends no receiver more than its path is estimated to carry.
    pub congestion_control: bool,
    /// Bounds of those estimates.
    pub bandwidth: Bounds,
    /// Forwards the loudest of a conference alone; `None` forwards everybody.
    pub loudest_only: Option<LoudestOnly>,
}

impl Default for ForwarderConfig {
    fn default() -> Self {
        Self {
            rewrite: true,
            max_endpoints_per_conference: 1000,
            max_sources_per_endpoint: 20,
            cache_bytes: 512 * 1024,
            congestion_control: true,
            bandwidth: Bounds::default(),
            loudest_only: None,
        }
    }
}

/// Events that wait to be polled; further ones are dropped and counted.
const MAX_EVENTS: usize = 8192;

/// What a step may use besides the conference itself.
#[derive(Debug)]
pub struct Env<'a> {
    /// The time of the step.
    pub now: Instant,
    /// Start of the worker's clock.
    pub epoch: Instant,
    /// Counters.
    pub stats: &'a WorkerStats,
    /// Limits and knobs.
    pub config: &'a ForwarderConfig,
    /// Events to the control plane.
    pub events: &'a mut VecDeque<Event>,
    /// What the worker leaves out for want of time.
    pub shedding: Shedding,
    /// The other workers.
    pub peers: &'a mut Peers,
    /// Packets that wait for their receivers.
    pub batch: &'a mut Batch,
    /// Holds back the log.
    pub complaints: &'a mut Complaints,
    /// What is taken of each sender.
    pub share: &'a mut FairShare,
    /// What endpoints negotiated.
    pub negotiations: &'a mut Negotiations,
}

impl Env<'_> {
    /// The time of the step by the worker's clock.
    pub fn worker_time(&self) -> WorkerTime {
        WorkerTime::of(self.now, self.epoch)
    }

    /// When the worker's clock shows a time.
    pub fn instant(&self, time: WorkerTime) -> Instant {
        time.instant(self.epoch)
    }

    /// What the deliveries of this step have in common.
    pub fn delivery<'a, S>(&'a self, sink: &'a mut S) -> Delivery<'a, S> {
        let worker_time = self.worker_time();
        Delivery {
            now: self.now,
            worker_time,
            send_time: send_time(worker_time),
            stats: self.stats,
            shedding: self.shedding,
            translate: self.config.rewrite,
            sink,
            forwarded: 0,
        }
    }

    /// Queues an event; false when there is no room.
    pub fn emit(&mut self, event: Event) -> bool {
        let fits = self.events.len() < MAX_EVENTS;
        if fits {
            self.events.push_back(event);
        } else {
            self.stats.count(Counter::DropEventFull);
        }
        fits
    }

    /// Queues a message for another worker; false, and counted, when there is no room.
    pub fn send_signal(&mut self, worker: WorkerId, signal: PeerSignal) -> bool {
        let sent = self.peers.send_signal(worker, signal);
        if !sent {
            self.stats.count(Counter::DropCrossWorkerFull);
        }
        sent
    }
}
