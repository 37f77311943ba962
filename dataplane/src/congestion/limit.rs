//! How much of something is wanted at most: picture height in pixels, frames per second.

/// A bound, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
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
    /// As clients signal it: 0 is off, a negative number unlimited.
    pub fn from_signalled(value: i32) -> Self {
        match u32::try_from(value) {
            Ok(0) => Self::Off,
            Ok(most) => Self::Max(most),
            Err(_) => Self::Unlimited,
        }
    }

    /// The same the other way; unlimited is -1.
    pub fn signalled(self) -> i32 {
        match self {
            Self::Off => 0,
            Self::Max(most) => i32::try_from(most).unwrap_or(i32::MAX),
            Self::Unlimited => -1,
        }
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
    fn what_is_signalled_is_what_is_meant() {
        for (value, limit) in [(0, Limit::Off), (180, Limit::Max(180)), (-1, Limit::Unlimited)] {
            assert_eq!((Limit::from_signalled(value), limit.signalled()), (limit, value));
        }
        assert_eq!(Limit::from_signalled(i32::MIN), Limit::Unlimited);
        assert_eq!(Limit::Max(u32::MAX).signalled(), i32::MAX);
    }

    #[test]
    fn more_is_larger() {
        assert!(
            Limit::Off < Limit::Max(1) && Limit::Max(720) < Limit::Max(1080) && Limit::Max(u32::MAX) < Limit::Unlimited
        );
        assert!(Limit::Max(360).allows(360) && !Limit::Max(360).allows(361));
        assert!(Limit::Unlimited.allows(u32::MAX) && !Limit::Off.allows(0));
    }
}
