//! What the bridge channel counted since the process started.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::rest::{Family, Kind};

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
        ("data_channel_replaced", &DATA_CHANNELS_REPLACED),
    ];
    let dropped = [
        ("malformed", &MALFORMED),
        ("unknown_class", &UNKNOWN_CLASS),
        ("oversized", &OVERSIZED),
        ("unread", &UNREAD),
        ("no_association", &SCTP_DROPPED),
    ];
    let by_reason = |name: &str, help: &str, counters: &[(&str, &AtomicU64)]| {
        let family = Family::new(name, help, Kind::PlainCounter);
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        counters.iter().fold(family, |family, (reason, counter)| family.with(&[("reason", reason)], value(counter)))
    };
    let refused = REFUSED.load(Ordering::Relaxed) as f64;
    vec![
        Family::single("ringbridge_channel_refused", "Web-sockets refused.", Kind::PlainCounter, refused),
        by_reason("ringbridge_channel_closed", "Bridge channels that we ended.", &closed),
        by_reason("ringbridge_channel_dropped", "Messages and packets of bridge channels left out.", &dropped),
    ]
}
