//! What the bridge channels of one bridge counted.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::{Family, Kind};

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Connections refused: bad path, wrong password, unknown endpoint.
    Refused,
    /// Messages that are no valid JSON of their class, and binary ones.
    Malformed,
    /// Messages of a class that this bridge does not know.
    UnknownClass,
    /// Messages longer than the limit.
    Oversized,
    /// Clients cut off because they did not read, or sent nothing, for too long.
    Stalled,
    /// Messages of other clients that were not passed on to one that does not read.
    Unread,
    /// Messages that are nested too deeply.
    TooDeep,
    /// Messages with longer lists or maps than are taken; the rest of them was.
    TooManyNames,
    /// Times that reading from a client was paused, since it sent too much.
    Throttled,
    /// Messages beyond the rate of their sender, where the sender cannot be kept waiting.
    TooFast,
    /// Copies of messages beyond what one sender may cause.
    FannedOut,
    /// WebSockets beyond the rate of their endpoint.
    TooOften,
    /// Datagrams of DTLS beyond the rate of their endpoint.
    Datagrams,
    /// SCTP packets that would begin another association or channel too soon.
    Associations,
    /// SCTP packets beyond the rate of their endpoint.
    Chunks,
    /// SCTP associations ended because too much was held of messages that were not whole.
    Fragments,
    /// Messages of another bridge about endpoints that are not behind it.
    NotBehind,
    /// Messages for another bridge while there was no channel to it, of the kind that is not sent again.
    NoChannel,
    /// SCTP packets that belong to no association.
    SctpDropped,
    /// SCTP associations ended because the client touched too many streams.
    SctpRefused,
    /// Data channels that a newer one of the same endpoint replaced.
    DataChannelsReplaced,
    /// Datagrams of DTLS sessions that another process had.
    HandedOver,
    /// Datagrams that found no room between the bridge and a former process that has their session.
    KeeperBusy,
}

/// Number of [`Counted`]s.
const COUNT: usize = Counted::KeeperBusy as usize + 1;

/// Counters of the bridge channels; shared by whatever carries them.
#[derive(Debug, Default)]
pub struct ChannelCounters([AtomicU64; COUNT]);

impl ChannelCounters {
    /// Counts one.
    pub fn count(&self, what: Counted) {
        self.add(what, 1);
    }

    /// Counts several.
    pub fn add(&self, what: Counted, times: u64) {
        if let Some(counter) = self.0.get(what as usize) {
            counter.fetch_add(times, Ordering::Relaxed);
        }
    }

    /// Counts what a former process counted, which calls the counters by their place; one that this release does not have is left out.
    pub fn add_at(&self, which: u8, times: u32) {
        if let Some(counter) = self.0.get(usize::from(which)) {
            counter.fetch_add(times.into(), Ordering::Relaxed);
        }
    }

    /// All of them, in order, for another process.
    pub fn all(&self) -> Vec<u64> {
        self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).collect()
    }

    /// Counts what another process counted.
    pub fn take_over(&self, all: &[u64]) {
        for (counter, count) in self.0.iter().zip(all) {
            counter.fetch_add(*count, Ordering::Relaxed);
        }
    }

    /// How many there were.
    pub fn get(&self, what: Counted) -> u64 {
        self.0.get(what as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// The counters as metrics.
    pub fn families(&self) -> Vec<Family> {
        let closed = [
            ("stalled", Counted::Stalled),
            ("too_many_streams", Counted::SctpRefused),
            ("too_much_held", Counted::Fragments),
            ("data_channel_replaced", Counted::DataChannelsReplaced),
        ];
        let dropped = [
            ("malformed", Counted::Malformed),
            ("unknown_class", Counted::UnknownClass),
            ("oversized", Counted::Oversized),
            ("unread", Counted::Unread),
            ("no_association", Counted::SctpDropped),
            ("not_behind_relay", Counted::NotBehind),
            ("no_relay_channel", Counted::NoChannel),
            ("too_deep", Counted::TooDeep),
            ("too_fast", Counted::TooFast),
            ("fan_out", Counted::FannedOut),
            ("datagram_rate", Counted::Datagrams),
            ("association_rate", Counted::Associations),
            ("chunk_rate", Counted::Chunks),
            ("handed_over", Counted::HandedOver),
            ("keeper_busy", Counted::KeeperBusy),
        ];
        let by_reason = |name: &str, help: &str, counters: &[(&str, Counted)]| {
            let counts = counters.iter().map(|(reason, counter)| (*reason, self.get(*counter) as f64));
            Family::new(name, help, Kind::PlainCounter).by_reason(counts)
        };
        let refused = [("unknown", Counted::Refused), ("too_often", Counted::TooOften)];
        let limited = [("throttled", Counted::Throttled), ("names_cut", Counted::TooManyNames)];
        vec![
            by_reason("ringbridge_channel_refused", "WebSockets refused.", &refused),
            by_reason(
                "ringbridge_channel_limited",
                "Times that a client was slowed down, or its lists were cut.",
                &limited,
            ),
            by_reason("ringbridge_channel_closed", "Bridge channels that the bridge closed.", &closed),
            by_reason("ringbridge_channel_dropped", "Messages and packets of bridge channels dropped.", &dropped),
        ]
    }
}
