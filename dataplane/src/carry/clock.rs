//! Moments as readings of the host's monotonic clock, which both processes see alike.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Moments this far from the present are made up: a hundred years.
const FARTHEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What the monotonic clock showed at a moment.
#[derive(Debug, Clone, Copy)]
pub struct ClockReading {
    /// The moment.
    pub at: Instant,
    /// Nanoseconds since the clock began.
    pub nanos: u64,
}

static CLOCK: OnceLock<ClockReading> = OnceLock::new();

/// Reads the clock once per process: all further moments are measured from there, so that one which is written and read
/// again is the same. See [`crate::io::read_clock`].
pub fn set_clock(read: impl FnOnce() -> ClockReading) {
    CLOCK.get_or_init(read);
}

/// The reading at a moment; `None` before [`set_clock`], or where it is made up.
pub(super) fn reading(moment: Instant) -> Option<i64> {
    let clock = CLOCK.get()?;
    let nanos = i64::try_from(clock.nanos).ok()?;
    let signed = |span: Duration| i64::try_from(span.as_nanos()).ok();
    match moment.checked_duration_since(clock.at) {
        Some(after) => nanos.checked_add(signed(after)?),
        None => nanos.checked_sub(signed(clock.at.saturating_duration_since(moment))?),
    }
}

/// The moment of a reading, likewise.
pub(super) fn moment(reading: i64) -> Option<Instant> {
    let clock = CLOCK.get()?;
    let step = i128::from(reading) - i128::from(clock.nanos);
    let span = Duration::from_nanos(u64::try_from(step.unsigned_abs()).ok()?);
    if span > FARTHEST {
        return None;
    }
    if step < 0 { clock.at.checked_sub(span) } else { clock.at.checked_add(span) }
}
