//! One relay beyond signalling, and one endpoint behind it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ringbridge_dataplane::media::{Limit, SourceDescription};

use super::carrier::Carriers;
use super::redial::Redial;
use crate::bridge::dtls_transport::DtlsTransport;
use crate::channel::Admission;
use crate::channel::limits::{FAN_OUT_OF_RELAY, Intake};
use crate::colibri::identity::{EndpointIdentity, RelayIdentity};
use crate::pace::Bucket;

/// The connection to another bridge.
pub(super) struct Relay {
    pub(super) who: Arc<RelayIdentity>,
    pub(super) dtls: DtlsTransport,
    /// What carries what the two bridges say.
    pub(super) carriers: Carriers,
    /// Where that is a WebSocket: the other bridge may open it for as long as this exists.
    pub(super) admission: Option<Admission>,
    /// Where we are the one who opens it.
    pub(super) redial: Option<Redial>,
    /// Whether it ever was, or was counted for not being.
    pub(super) channel_seen: bool,
    /// Since when nothing came over it, if that is so.
    pub(super) silent: Option<Instant>,
    /// ICE gave up before it ever connected.
    pub(super) unreached: bool,
    /// What it may still say over a data channel.
    pub(super) intake: Intake,
    /// What it may still send to others.
    pub(super) fan_out: Bucket,
}

impl Relay {
    /// One that is not connected yet.
    pub(super) fn new(who: Arc<RelayIdentity>, dtls: DtlsTransport, admission: Option<Admission>) -> Self {
        Self {
            who,
            dtls,
            carriers: Carriers::default(),
            admission,
            redial: None,
            channel_seen: false,
            silent: None,
            unreached: false,
            intake: Intake::of_relay(),
            fan_out: Bucket::new(FAN_OUT_OF_RELAY),
        }
    }
}

/// An endpoint of another bridge.
pub(super) struct Relayed {
    pub(super) who: Arc<EndpointIdentity>,
    pub(super) sources: Vec<SourceDescription>,
    /// Height that receivers on this side want of each of its sources. Sent to the other bridge; kept while it cannot be sent.
    pub(super) demand: BTreeMap<String, Limit>,
    /// As its bridge says.
    pub(super) active: bool,
}

impl Relayed {
    pub(super) fn new(who: Arc<EndpointIdentity>) -> Self {
        Self { who, sources: Vec::new(), demand: BTreeMap::new(), active: true }
    }
}
