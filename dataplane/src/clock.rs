//! The clock of a worker, in which everything about a receiver's path is timed.
//!
//! State machines take an [`Instant`]. Estimation of bandwidth and round-trip time counts in a worker's own microseconds
//! instead, since it computes with them at each packet: moments are [`WorkerTime`], the time between two is plain microseconds.
//! NTP time is only in what RTCP reports say.

use std::ops::Add;
use std::time::{Duration, Instant};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::carry::checked::Checked;

/// A moment: microseconds since a worker began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[repr(transparent)]
pub struct WorkerTime(u64);

impl WorkerTime {
    /// So many microseconds after the worker began.
    #[inline]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// A moment of a worker that began at `epoch`, which is the earliest.
    #[inline]
    pub fn of(instant: Instant, epoch: Instant) -> Self {
        Self(u64::try_from(instant.saturating_duration_since(epoch).as_micros()).unwrap_or(u64::MAX))
    }

    /// The same moment, for a worker that began at `epoch`.
    pub fn instant(self, epoch: Instant) -> Instant {
        epoch + Duration::from_micros(self.0)
    }

    /// Microseconds since the worker began.
    #[inline]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Microseconds since an earlier moment; 0 when that is later.
    #[inline]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Microseconds that no worker runs for: some 35,000 years.
const NEVER: u64 = 1 << 60;

impl<'de> Deserialize<'de> for WorkerTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let micros = u64::deserialize(deserializer)?;
        if micros < NEVER { Ok(Self(micros)) } else { Err(D::Error::custom("a time that no worker runs for")) }
    }
}

impl Checked for WorkerTime {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

/// So many microseconds later.
impl Add<u64> for WorkerTime {
    type Output = Self;

    #[inline]
    fn add(self, micros: u64) -> Self {
        Self(self.0 + micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_the_time_between_them() {
        let epoch = Instant::now();
        let at = epoch + Duration::from_micros(1_500_007);
        let time = WorkerTime::of(at, epoch);
        assert_eq!((time.as_micros(), time.instant(epoch)), (1_500_007, at));
        assert_eq!(WorkerTime::of(epoch, at), WorkerTime::default(), "nothing is before the beginning");
        assert_eq!(((time + 3).since(time), time.since(time + 3)), (3, 0));
    }
}
