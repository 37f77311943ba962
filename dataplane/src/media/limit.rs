//! How much of something is wanted at most: picture height in pixels, frames per second, sources.

use serde::{Deserialize, Serialize};

/// A bound, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
pub enum Limit {
    /// Nothing is wanted.
    #[default]
    Off,
    /// So much, at least 1.
    Max(u32),
    /// Whatever there is.
    Unlimited,
}

impl Limit {
    /// At most so much; zero is nothing.
    pub const fn at_most(value: u32) -> Self {
        if value == 0 { Self::Off } else { Self::Max(value) }
    }

    /// Whether anything is wanted.
    pub fn is_on(self) -> bool {
        self != Self::Off
    }

    /// Whether a value is within the bound; nothing is when it is off.
    pub fn allows(self, value: u32) -> bool {
        self.is_on() && Self::Max(value) <= self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_larger() {
        assert!(
            Limit::Off < Limit::Max(1) && Limit::Max(720) < Limit::Max(1080) && Limit::Max(u32::MAX) < Limit::Unlimited
        );
        assert!(Limit::Max(360).allows(360) && !Limit::Max(360).allows(361));
        assert!(Limit::at_most(0) == Limit::Off && Limit::at_most(1) == Limit::Max(1));
        assert!(Limit::Unlimited.allows(u32::MAX) && !Limit::Off.allows(0));
    }
}
