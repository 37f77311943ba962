//! What the bridge channel counted since the process started.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::{Family, Kind};

/// Connections refused: bad path, wrong password, unknown endpoint.
pub static REFUSED: AtomicU64 = AtomicU64::new(0);
/// Messages that are no valid JSON of their class, and binary ones.
pub static MALFORMED: AtomicU64 = AtomicU64::new(0);
/// Messages of a class that this bridge does not know.
pub static UNKNOWN_CLASS: AtomicU64 = AtomicU64::new(0);
/// Messages longer than the limit.
pub static OVERSIZED: AtomicU64 = AtomicU64::new(0);
/// Clients cut off because they did not read, or said nothing, for too long.
pub static STALLED: AtomicU64 = AtomicU64::new(0);
/// Messages of other clients that were not passed on to one that does not read.
pub static UNREAD: AtomicU64 = AtomicU64::new(0);
/// Messages that are nested too deeply.
pub static TOO_DEEP: AtomicU64 = AtomicU64::new(0);
/// Messages with longer lists or maps than are taken; the rest of them was.
pub static TOO_MANY_NAMES: AtomicU64 = AtomicU64::new(0);
/// Times that a client was not listened to for a while, since it said too much.
pub static THROTTLED: AtomicU64 = AtomicU64::new(0);
/// Messages beyond the rate of their sender, where the sender cannot be kept waiting.
pub static TOO_FAST: AtomicU64 = AtomicU64::new(0);
/// Copies of messages beyond what one sender may cause.
pub static FANNED_OUT: AtomicU64 = AtomicU64::new(0);
/// WebSockets beyond the rate of their endpoint.
pub static TOO_OFTEN: AtomicU64 = AtomicU64::new(0);
/// Datagrams of DTLS beyond the rate of their endpoint.
pub static DATAGRAMS: AtomicU64 = AtomicU64::new(0);
/// SCTP packets that would begin another association or channel too soon.
pub static ASSOCIATIONS: AtomicU64 = AtomicU64::new(0);
/// SCTP packets beyond the rate of their endpoint.
pub static CHUNKS: AtomicU64 = AtomicU64::new(0);
/// SCTP associations ended because too much was held of messages that were not whole.
pub static FRAGMENTS: AtomicU64 = AtomicU64::new(0);
/// SCTP packets that belong to no association.
pub static SCTP_DROPPED: AtomicU64 = AtomicU64::new(0);
/// SCTP associations ended because the client touched too many streams.
pub static SCTP_REFUSED: AtomicU64 = AtomicU64::new(0);
/// Data channels that a newer one of the same endpoint replaced.
pub static DATA_CHANNELS_REPLACED: AtomicU64 = AtomicU64::new(0);

/// The counters as metrics.
pub fn families() -> Vec<Family> {
    let closed = [
        ("stalled", &STALLED),
        ("too_many_streams", &SCTP_REFUSED),
        ("too_much_held", &FRAGMENTS),
        ("data_channel_replaced", &DATA_CHANNELS_REPLACED),
    ];
    let dropped = [
        ("malformed", &MALFORMED),
        ("unknown_class", &UNKNOWN_CLASS),
        ("oversized", &OVERSIZED),
        ("unread", &UNREAD),
        ("no_association", &SCTP_DROPPED),
        ("too_deep", &TOO_DEEP),
        ("too_fast", &TOO_FAST),
        ("fan_out", &FANNED_OUT),
        ("datagram_rate", &DATAGRAMS),
        ("association_rate", &ASSOCIATIONS),
        ("chunk_rate", &CHUNKS),
    ];
    let by_reason = |name: &str, help: &str, counters: &[(&str, &AtomicU64)]| {
        let family = Family::new(name, help, Kind::PlainCounter);
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        counters.iter().fold(family, |family, (reason, counter)| family.with(&[("reason", reason)], value(counter)))
    };
    let refused = [("unknown", &REFUSED), ("too_often", &TOO_OFTEN)];
    let limited = [("throttled", &THROTTLED), ("names_cut", &TOO_MANY_NAMES)];
    vec![
        by_reason("ringbridge_channel_refused", "Web-sockets refused.", &refused),
        by_reason("ringbridge_channel_limited", "Times that a client got less than it asked for.", &limited),
        by_reason("ringbridge_channel_closed", "Bridge channels that we ended.", &closed),
        by_reason("ringbridge_channel_dropped", "Messages and packets of bridge channels left out.", &dropped),
    ]
}
