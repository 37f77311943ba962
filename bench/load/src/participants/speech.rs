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
        /// Number of participants that take turns.
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

    /// Level of packet `number`, dBov (RFC 6464), and whether it holds voice.
    ///
    /// A level that never changes is noise to a speaker detector: turns have words with pauses, and silence has a floor.
    pub fn level(&self, now: Instant, number: u64) -> (i8, bool) {
        let wobble = (number * 7 % 9) as i8;
        match self {
            Self::Always => (-20, true),
            Self::InTurn { .. } if !self.is_loud(now) => (-70 - wobble / 2, false),
            // Words of 0.8 s, pauses of 0.1 s.
            Self::InTurn { .. } if number % 45 < 40 => (-18 - wobble, true),
            Self::InTurn { .. } => (-55, false),
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
        let levels: std::collections::BTreeSet<_> = (0..90).map(|number| all[0].level(start, number)).collect();
        assert!(levels.len() > 5 && levels.iter().all(|(level, voice)| *voice == (*level > -30)), "{levels:?}");
        assert!((0..90).all(|number| all[1].level(start, number).0 < -60));
        assert!(Speech::Always.is_loud(start));
        assert!(Speech::in_turn(start, length, 0, 0).is_loud(start));
    }
}
