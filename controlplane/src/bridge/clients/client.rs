//! One endpoint beyond signalling: its DTLS session, its bridge channel, what it receives and sends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ringbridge_dataplane::ids::{ConferenceId, EndpointId};
use ringbridge_dataplane::media::{Limit, ReceiverConstraints, SourceDescription};
use ringbridge_dataplane::messages::Bandwidth;

use super::carrier::Channels;
use super::mappings::Mappings;
use crate::bridge::dtls_transport::DtlsTransport;
use crate::bridge::receiver_preferences::ReceiverPreferences;
use crate::channel::ChannelCounters;
use crate::channel::limits::{FAN_OUT, Intake};
use crate::pace::Bucket;

/// A new endpoint.
#[derive(Debug, Clone)]
pub(crate) struct NewClient {
    pub conference: ConferenceId,
    pub label: String,
    pub worker: usize,
    pub visitor: bool,
    /// Whether signalling asked for a data channel.
    pub sctp: bool,
}

/// One endpoint, as far as its client is concerned.
pub(super) struct Client {
    pub(super) conference: ConferenceId,
    pub(super) label: String,
    pub(super) worker: usize,
    pub(super) visitor: bool,
    pub(super) created: Instant,
    /// As reported to the others; `None` until the first activity or the first report.
    pub(super) active: Option<bool>,
    pub(super) channels: Channels,
    /// Whether it ever had a channel, or was counted for having none.
    pub(super) channel_seen: bool,
    pub(super) legacy: bool,
    pub(super) preferences: ReceiverPreferences,
    /// What the worker was told last.
    pub(super) constraints: ReceiverConstraints,
    pub(super) sources: Vec<SourceDescription>,
    pub(super) forwarded: Vec<String>,
    /// Height that the others want of each of its sources.
    pub(super) demand: BTreeMap<String, Limit>,
    pub(super) bandwidth: Option<Bandwidth>,
    pub(super) mappings: Mappings,
    pub(super) dtls: DtlsTransport,
    /// What it may still say over its data channel.
    pub(super) intake: Intake,
    /// What it may still send to others.
    pub(super) fan_out: Bucket,
    /// Its entry among the timers.
    pub(super) timer: Option<Instant>,
}

impl Client {
    /// A client that has not connected yet.
    pub(super) fn new(now: Instant, new: NewClient, counters: Arc<ChannelCounters>) -> Self {
        Self {
            conference: new.conference,
            label: new.label,
            worker: new.worker,
            visitor: new.visitor,
            created: now,
            active: None,
            channels: Channels::default(),
            channel_seen: false,
            legacy: false,
            preferences: ReceiverPreferences::default(),
            constraints: ReceiverConstraints::default(),
            sources: Vec::new(),
            forwarded: Vec::new(),
            demand: BTreeMap::new(),
            bandwidth: None,
            mappings: Mappings::default(),
            dtls: DtlsTransport::new(new.sctp, counters),
            intake: Intake::default(),
            fan_out: Bucket::new(FAN_OUT),
            timer: None,
        }
    }
}

/// The endpoints of one conference.
#[derive(Default)]
pub(super) struct Conference {
    pub(super) members: Vec<EndpointId>,
    /// The dominant speaker first.
    pub(super) speakers: Vec<EndpointId>,
}
