//! The forwarder: conferences, endpoints and sources of one worker, and the time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::extension_map::ExtensionRegistry;
use super::format::CodecRegistry;
use super::source::Source;
use super::speaker::SpeakerDetector;
use crate::ids::{ConferenceId, EndpointId};
use crate::io::{MAX_DATAGRAM, PacketSink, Path};
use crate::ring::{Event, FeedbackSsrcs};
use crate::rtcp::{ReportBlock, build};
use crate::stats::{Counter, WorkerStats};

/// How often slow things are looked at: activity, receiver reports, stopped encodings.
const TICK: Duration = Duration::from_millis(100);

/// Between two receiver reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// An endpoint without packets and consent for this long is inactive (bridge-protocol 5.6).
const INACTIVE_AFTER: Duration = Duration::from_secs(8);

/// Settings of a forwarder.
#[derive(Debug, Clone, Copy)]
pub struct ForwarderConfig {
    /// Whether payload types and extension ids are translated; off only in tests.
    pub rewrite: bool,
    /// Endpoints at most.
    pub max_endpoints: usize,
    /// Sources per endpoint at most.
    pub max_sources: usize,
}

impl Default for ForwarderConfig {
    fn default() -> Self {
        Self { rewrite: true, max_endpoints: 5_000, max_sources: 20 }
    }
}

/// Where an endpoint lives in this forwarder; goes stale with the endpoint and is checked on use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointSlot {
    pub(super) index: u32,
    pub(super) id: EndpointId,
}

/// One conference on this worker.
pub(super) struct Conference {
    pub feedback: FeedbackSsrcs,
    pub endpoints: Vec<usize>,
    pub sources: Vec<usize>,
    pub speaker: SpeakerDetector,
    /// Whether targets have to be chosen again.
    pub dirty: bool,
}

/// The forwarding core of one worker.
pub struct Forwarder {
    pub(super) config: ForwarderConfig,
    pub(super) stats: Arc<WorkerStats>,
    pub(super) conferences: HashMap<ConferenceId, Conference>,
    pub(super) endpoints: Vec<Option<Box<Endpoint>>>,
    pub(super) by_id: HashMap<EndpointId, usize>,
    pub(super) sources: Vec<Option<Box<Source>>>,
    pub(super) codecs: CodecRegistry,
    pub(super) extensions: ExtensionRegistry,
    pub(super) events: VecDeque<Event>,
    pub(super) epoch: Option<Instant>,
    pub(super) scratch: Box<[u8; MAX_DATAGRAM]>,
    pub(super) loss_pending: bool,
    next_tick: Option<Instant>,
    next_report: Option<Instant>,
}

impl Forwarder {
    /// An empty forwarder.
    pub fn new(config: ForwarderConfig, stats: Arc<WorkerStats>) -> Self {
        Self {
            config,
            stats,
            conferences: HashMap::new(),
            endpoints: Vec::new(),
            by_id: HashMap::new(),
            sources: Vec::new(),
            codecs: CodecRegistry::default(),
            extensions: ExtensionRegistry::default(),
            events: VecDeque::new(),
            epoch: None,
            scratch: Box::new([0; MAX_DATAGRAM]),
            loss_pending: false,
            next_tick: None,
            next_report: None,
        }
    }

    /// Where an endpoint lives, for the demux to remember.
    pub fn slot(&self, endpoint: EndpointId) -> Option<EndpointSlot> {
        self.by_id.get(&endpoint).map(|index| EndpointSlot { index: *index as u32, id: endpoint })
    }

    /// Endpoints and conferences on this worker.
    pub fn population(&self) -> (usize, usize) {
        (self.by_id.len(), self.conferences.len())
    }

    /// Where an endpoint's packets go; `None` stops sending to it.
    pub fn set_path(&mut self, endpoint: EndpointId, path: Option<Path>) {
        let endpoint = self.by_id.get(&endpoint).and_then(|index| self.endpoints.get_mut(*index)?.as_mut());
        if let Some(endpoint) = endpoint {
            endpoint.path = path;
        }
    }

    /// An endpoint gave a sign of life outside of media: consent (RFC 7675).
    pub fn note_activity(&mut self, now: Instant, slot: EndpointSlot) {
        if let Some(endpoint) = self.endpoint_mut(slot) {
            endpoint.last_activity = now;
        }
    }

    pub(super) fn endpoint_mut(&mut self, slot: EndpointSlot) -> Option<&mut Endpoint> {
        let endpoint = self.endpoints.get_mut(slot.index as usize)?.as_deref_mut()?;
        (endpoint.id == slot.id).then_some(endpoint)
    }

    /// The next thing that the control plane should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.loss_pending || self.conferences.values().any(|conference| conference.dirty) {
            return self.epoch;
        }
        let twcc = self.endpoints.iter().flatten().filter_map(|endpoint| endpoint.twcc.poll_timeout());
        let speakers = self.conferences.values().filter_map(|conference| conference.speaker.poll_timeout());
        twcc.chain(speakers).chain(self.next_tick).chain(self.next_report).min()
    }

    /// Does what is due: retransmission requests, feedback, reports, allocation, decisions.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut impl PacketSink) {
        self.epoch.get_or_insert(now);
        if self.next_tick.is_none_or(|due| due <= now) {
            self.next_tick = (!self.by_id.is_empty()).then(|| now + TICK);
            self.refresh_activity(now);
            self.loss_pending = true;
        }
        if std::mem::take(&mut self.loss_pending) {
            self.send_nacks(now, sink);
        }
        self.decide_speakers(now);
        self.allocate_dirty(now, sink);
        self.send_feedback(now, sink);
        if self.next_report.is_none_or(|due| due <= now) {
            self.next_report = (!self.by_id.is_empty()).then(|| now + REPORT_INTERVAL);
            self.send_reports(now, sink);
        }
    }

    /// Wakes the timers up after the first endpoint came.
    pub(super) fn start_timers(&mut self, now: Instant) {
        self.epoch.get_or_insert(now);
        self.next_tick.get_or_insert(now + TICK);
        self.next_report.get_or_insert(now + REPORT_INTERVAL);
    }

    fn refresh_activity(&mut self, now: Instant) {
        for source in self.sources.iter_mut().flatten().filter(|source| source.is_video()) {
            if source.refresh_activity(now) {
                if let Some(conference) = self.conferences.get_mut(&source.conference) {
                    conference.dirty = true;
                }
            }
        }
        for endpoint in self.endpoints.iter_mut().flatten() {
            let active = now.saturating_duration_since(endpoint.last_activity) < INACTIVE_AFTER;
            if active != endpoint.reported_active {
                endpoint.reported_active = active;
                self.events.push_back(Event::Activity { endpoint: endpoint.id, active });
            }
        }
    }

    fn decide_speakers(&mut self, now: Instant) {
        for (id, conference) in &mut self.conferences {
            if conference.speaker.decide(now) {
                conference.dirty = true;
                let recent = conference.speaker.recent().to_vec();
                self.events.push_back(Event::DominantSpeaker { conference: *id, recent });
            }
        }
    }

    fn send_nacks(&mut self, now: Instant, sink: &mut impl PacketSink) {
        for source in self.sources.iter_mut().flatten().filter(|source| source.is_video()) {
            let Some(conference) = self.conferences.get(&source.conference) else { continue };
            let Some(owner) = self.endpoints.get_mut(source.owner).and_then(Option::as_deref_mut) else { continue };
            for encoding in &mut source.encodings {
                if encoding.loss.poll_timeout().is_none_or(|due| now < due) {
                    continue;
                }
                let mut missing = [0u16; 128];
                let count = encoding.loss.take_due(now, &mut missing);
                if count == 0 {
                    continue;
                }
                let (sender, media) = (conference.feedback.video, encoding.ssrc);
                let missing = &missing[..count];
                if owner.send_rtcp(sink, &self.stats, |out| build::nack(sender, media, missing, out)) {
                    self.stats.add(Counter::NackSent, count as u64);
                }
            }
        }
    }

    fn send_feedback(&mut self, now: Instant, sink: &mut impl PacketSink) {
        for endpoint in self.endpoints.iter_mut().flatten() {
            let Some(conference) = self.conferences.get(&endpoint.conference) else { continue };
            let media = endpoint.ssrcs.first().map_or(0, |role| role.ssrc);
            while endpoint.twcc.poll_timeout().is_some_and(|due| due <= now) {
                let Some(len) =
                    endpoint.twcc.take_feedback(now, conference.feedback.video, media, &mut self.scratch[..])
                else {
                    break;
                };
                let packet = &self.scratch[..len];
                endpoint.send_rtcp(sink, &self.stats, |out| {
                    out.get_mut(..len)?.copy_from_slice(packet);
                    Some(len)
                });
            }
        }
    }

    fn send_reports(&mut self, now: Instant, sink: &mut impl PacketSink) {
        for endpoint in self.endpoints.iter_mut().flatten() {
            let Some(conference) = self.conferences.get(&endpoint.conference) else { continue };
            let nothing =
                ReportBlock { ssrc: 0, fraction_lost: 0, lost: 0, highest: 0, jitter: 0, last_sr: 0, delay: 0 };
            let mut blocks = [nothing; 31];
            let mut count = 0;
            for index in &endpoint.sources {
                let Some(source) = self.sources.get_mut(*index).and_then(Option::as_deref_mut) else { continue };
                for encoding in &mut source.encodings {
                    if count < blocks.len() {
                        if let Some(block) = encoding.reception.report(now, encoding.ssrc) {
                            blocks[count] = block;
                            count += 1;
                        }
                    }
                }
            }
            if count == 0 {
                continue;
            }
            let sender = conference.feedback.video;
            endpoint.send_rtcp(sink, &self.stats, |out| build::receiver_report(sender, &blocks[..count], out));
        }
    }

    /// Asks the owner of a source for a keyframe of one encoding, not more often than the throttle allows.
    pub(super) fn request_keyframe(&mut self, now: Instant, source: usize, encoding: u8, sink: &mut impl PacketSink) {
        let Some(source) = self.sources.get_mut(source).and_then(Option::as_deref_mut) else { return };
        let Some(conference) = self.conferences.get(&source.conference) else { return };
        let Some(state) = source.encodings.get_mut(usize::from(encoding)) else { return };
        if !state.may_request_keyframe(now) {
            self.stats.count(Counter::KeyframeRequestsThrottled);
            return;
        }
        let Some(owner) = self.endpoints.get_mut(source.owner).and_then(Option::as_deref_mut) else { return };
        let (sender, media, fir) = (conference.feedback.video, state.ssrc, owner.next_fir);
        let sent = if owner.takes_pli {
            owner.send_rtcp(sink, &self.stats, |out| build::pli(sender, media, out))
        } else {
            owner.next_fir = fir.wrapping_add(1);
            owner.send_rtcp(sink, &self.stats, |out| build::fir(sender, media, fir, out))
        };
        if sent {
            self.stats.count(Counter::KeyframeRequests);
        }
    }
}
