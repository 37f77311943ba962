//! What the channel server counted since the process started.

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

/// The counters as Prometheus text.
pub fn to_prometheus() -> String {
    let mut text = String::new();
    let metric = "ringbridge_channel_refused";
    let value = REFUSED.load(Ordering::Relaxed);
    // Writing to a text cannot fail.
    let _ = writeln!(text, "# TYPE {metric} counter\n{metric} {value}");
    let metric = "ringbridge_channel_closed";
    let value = STALLED.load(Ordering::Relaxed);
    let _ = writeln!(text, "# TYPE {metric} counter\n{metric}{{reason=\"stalled\"}} {value}");
    let metric = "ringbridge_channel_dropped";
    let _ = writeln!(text, "# TYPE {metric} counter");
    for (reason, counter) in [("malformed", &MALFORMED), ("unknown_class", &UNKNOWN_CLASS), ("oversized", &OVERSIZED)] {
        let value = counter.load(Ordering::Relaxed);
        let _ = writeln!(text, "{metric}{{reason=\"{reason}\"}} {value}");
    }
    text
}
