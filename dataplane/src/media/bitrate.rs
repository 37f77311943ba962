//! How much goes over a path, or is to go.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::carry::checked::Checked;

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
#[repr(transparent)]
pub struct Bitrate(#[serde(deserialize_with = "in_range")] u64);

impl Bitrate {
    /// So many bits per second.
    #[inline]
    pub const fn new(bits_per_second: u64) -> Self {
        Self(bits_per_second)
    }

    /// What so many bytes in a time are; a time of nothing counts as a microsecond.
    pub const fn of(bytes: u64, micros: u64) -> Self {
        let micros = if micros == 0 { 1 } else { micros };
        Self(bytes.saturating_mul(8_000_000) / micros)
    }

    /// Bytes in a time at this rate.
    #[inline]
    pub const fn bytes_in(self, micros: u64) -> u64 {
        self.0.saturating_mul(micros) / 8_000_000
    }

    /// The nearest below a calculated one.
    #[inline]
    pub const fn from_f64(bits_per_second: f64) -> Self {
        Self(bits_per_second as u64)
    }

    /// Bits per second.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The same, to calculate with.
    #[inline]
    pub const fn as_f64(self) -> f64 {
        self.0 as f64
    }

    /// What is left of it beside another.
    #[inline]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// More than this is made up; ten times it, and sums of such, are no overflow.
const LARGEST: u64 = 1 << 56;

/// Reads one that another process knew.
fn in_range<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = u64::deserialize(deserializer)?;
    if value <= LARGEST { Ok(value) } else { Err(D::Error::custom("a bitrate out of range")) }
}

impl Checked for Bitrate {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bit/s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_over_time() {
        assert_eq!(Bitrate::of(125_000, 500_000), Bitrate::new(2_000_000));
        assert_eq!(Bitrate::new(2_000_000).bytes_in(500_000), 125_000);
        assert_eq!(Bitrate::of(1, 0).get(), 8_000_000);
        assert!(Bitrate::of(u64::MAX, 1).get() > Bitrate::of(u64::MAX / 8_000_000, 2).get(), "it saturates");
        assert_eq!(Bitrate::new(64_000).to_string(), "64000 bit/s");
    }
}
