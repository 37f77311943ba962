//! When a scripted participant speaks.

use std::time::{Duration, Instant};

/// The times at which a participant's microphone is loud.
#[derive(Debug, Clone, Copy)]
pub enum Speech {
    /// All the time.
    Always,
    /// In turn with others.
    InTurn {
        /// When the first one begins.
        start: Instant,
        /// Length of a turn.
        length: Duration,
        /// Whose turn this is, from 0.
        index: u32,
        /// How many take part.
        count: u32,
    },
}

impl Speech {
    /// The participant `index` of `count` that speak for `length` each; an impossible count is one who always speaks.
    pub fn in_turn(start: Instant, length: Duration, index: usize, count: usize) -> Self {
        match (u32::try_from(index), u32::try_from(count)) {
            (Ok(index), Ok(count)) if count > 0 && !length.is_zero() => Self::InTurn { start, length, index, count },
            _ => Self::Always,
        }
    }

    /// Whether it speaks now.
    pub fn is_loud(&self, now: Instant) -> bool {
        match *self {
            Self::Always => true,
            Self::InTurn { start, length, index, count } => {
                let turns = now.saturating_duration_since(start).as_nanos() / length.as_nanos();
                turns % u128::from(count) == u128::from(index)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_speaks() {
        let start = Instant::now();
        let length = Duration::from_secs(3);
        let all: Vec<_> = (0..4).map(|index| Speech::in_turn(start, length, index, 4)).collect();
        for (seconds, speaker) in [(0, 0), (2, 0), (3, 1), (8, 2), (11, 3), (12, 0)] {
            let now = start + Duration::from_secs(seconds);
            let loud: Vec<_> = (0..4).filter(|index| all[*index].is_loud(now)).collect();
            assert_eq!(loud, [speaker], "after {seconds} s");
        }
        assert!(Speech::Always.is_loud(start));
        assert!(Speech::in_turn(start, length, 0, 0).is_loud(start));
    }
}
