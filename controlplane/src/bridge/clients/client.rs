//! One endpoint beyond signalling: its DTLS session, its bridge channel, what it receives and sends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ringbridge_dataplane::media::{Limit, ReceiverConstraints, SourceDescription};
use ringbridge_dataplane::messages::Bandwidth;

use super::carrier::Carriers;
use super::mappings::Mappings;
use crate::bridge::dtls_transport::DtlsTransport;
use crate::bridge::receiver_preferences::ReceiverPreferences;
use crate::channel::Admission;
use crate::channel::limits::{FAN_OUT, Intake};
use crate::colibri::identity::EndpointIdentity;
use crate::pace::Bucket;

/// One endpoint, as far as its client is concerned. Open to the files of this folder, which are its steps; what has an invariant
/// is a type of its own with private fields.
pub(super) struct Client {
    pub(super) who: Arc<EndpointIdentity>,
    pub(super) created: Instant,
    /// As reported to the others; `None` until the first activity or the first report.
    pub(super) active: Option<bool>,
    pub(super) carriers: Carriers,
    /// For as long as it exists, a WebSocket may be opened.
    pub(super) _admission: Admission,
    /// Whether it ever had a channel, or was counted for having none.
    pub(super) channel_seen: bool,
    pub(super) preferences: ReceiverPreferences,
    /// What the worker got last.
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
}

impl Client {
    /// A client that has not connected yet.
    pub(super) fn new(now: Instant, who: Arc<EndpointIdentity>, admission: Admission, dtls: DtlsTransport) -> Self {
        Self {
            who,
            created: now,
            active: None,
            carriers: Carriers::default(),
            _admission: admission,
            channel_seen: false,
            preferences: ReceiverPreferences::default(),
            constraints: ReceiverConstraints::default(),
            sources: Vec::new(),
            forwarded: Vec::new(),
            demand: BTreeMap::new(),
            bandwidth: None,
            mappings: Mappings::default(),
            dtls,
            intake: Intake::default(),
            fan_out: Bucket::new(FAN_OUT),
        }
    }
}
