//! What the bridge channel counted since the process started.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// The counters as Prometheus text.
pub fn to_prometheus() -> String {
    let mut text = String::new();
    let metric = "ringbridge_channel_refused";
    let value = REFUSED.load(Ordering::Relaxed);
    // Writing to a text cannot fail.
    let _ = writeln!(text, "# TYPE {metric} counter\n{metric} {value}");
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
    for (metric, counters) in [("ringbridge_channel_closed", &closed[..]), ("ringbridge_channel_dropped", &dropped[..])]
    {
        let _ = writeln!(text, "# TYPE {metric} counter");
        for (reason, counter) in counters {
            let value = counter.load(Ordering::Relaxed);
            let _ = writeln!(text, "{metric}{{reason=\"{reason}\"}} {value}");
        }
    }
    text
}
