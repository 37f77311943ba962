//! Who is loud enough to be forwarded where only the loudest are (docs/protocol/bridge.md 9.1).

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::ids::SourceId;

/// One that sent nothing for this long is not ranked.
const EXPIRES: Duration = Duration::from_millis(150);

/// How many are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoudestOnly {
    /// So many of a conference, the loudest.
    pub count: usize,
    /// And the dominant speaker, however quiet at the moment.
    pub dominant: bool,
}

impl Default for LoudestOnly {
    /// Jitsi Videobridge's numbers: three and the dominant speaker.
    fn default() -> Self {
        Self { count: 3, dominant: true }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Ranked {
    source: SourceId,
    /// Smoothed loudness, 0 to 127.
    energy: u32,
    #[serde(with = "crate::carry::checked")]
    at: Instant,
}

/// The ranking of one conference.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct LoudestRanking {
    ranked: Vec<Ranked>,
}

impl LoudestRanking {
    /// Conference for one more source, so that its first packet allocates nothing.
    pub fn reserve(&mut self, sources: usize) {
        self.ranked.reserve(sources.saturating_sub(self.ranked.len()));
    }

    /// Forgets a source.
    pub fn remove(&mut self, source: SourceId) {
        self.ranked.retain(|r| r.source != source);
    }

    /// Takes the level of one packet, 0 for noise to 127, and says whether the packet is to go on.
    pub fn passes(&mut self, now: Instant, source: SourceId, level: u8, dominant: bool, only: LoudestOnly) -> bool {
        let level = u32::from(level);
        let energy = match self.ranked.iter_mut().find(|r| r.source == source) {
            Some(known) => {
                let expired = now.saturating_duration_since(known.at) > EXPIRES;
                let old = if expired { 0 } else { known.energy };
                (known.energy, known.at) = ((50 * level + 50 * old + 50) / 100, now);
                known.energy
            }
            None => {
                let energy = (50 * level + 50) / 100;
                self.ranked.push(Ranked { source, energy, at: now });
                energy
            }
        };
        if dominant && only.dominant {
            return true;
        }
        // Of equals the one that was there first.
        let louder = |r: &&Ranked| {
            now.saturating_duration_since(r.at) <= EXPIRES
                && (r.energy, source) > (energy, r.source)
                && r.source != source
        };
        self.ranked.iter().filter(louder).count() < only.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Key;

    const TWO: LoudestOnly = LoudestOnly { count: 2, dominant: true };

    /// Packets of all sources at one time, levels by source; who passes.
    fn round(
        loudest: &mut LoudestRanking,
        now: Instant,
        levels: &[u8],
        dominant: Option<usize>,
        only: LoudestOnly,
    ) -> Vec<usize> {
        let sources = levels.iter().enumerate();
        sources
            .filter(|(s, l)| loudest.passes(now, SourceId::new(*s), **l, dominant == Some(*s), only))
            .map(|(s, _)| s)
            .collect()
    }

    #[test]
    fn the_loudest_pass_and_a_cough_does_not_take_over_at_once() {
        let (mut loudest, mut now) = (LoudestRanking::default(), Instant::now());
        let mut next = |loudest: &mut LoudestRanking, levels: &[u8], dominant| {
            now += Duration::from_millis(20);
            round(loudest, now, levels, dominant, TWO)
        };
        for _ in 0..20 {
            next(&mut loudest, &[10, 80, 60, 20], None);
        }
        assert_eq!(next(&mut loudest, &[10, 80, 60, 20], None), [1, 2]);
        assert_eq!(next(&mut loudest, &[10, 80, 60, 90], None), [1, 2], "one packet is half of its loudness");
        assert_eq!(
            next(&mut loudest, &[10, 80, 60, 90], None),
            [1, 2, 3],
            "overtaken, which it learns with its next packet"
        );
        assert_eq!(next(&mut loudest, &[10, 80, 60, 90], None), [1, 3]);
        assert_eq!(next(&mut loudest, &[10, 80, 60, 90], Some(0)), [0, 1, 3], "the dominant speaker pauses for breath");
    }

    #[test]
    fn who_is_silent_leaves_its_place_to_others_and_equals_share_by_order() {
        let (mut loudest, mut now) = (LoudestRanking::default(), Instant::now());
        for _ in 0..10 {
            now += Duration::from_millis(20);
            assert_eq!(round(&mut loudest, now, &[50, 50, 50], None, TWO).len(), 2);
        }
        assert_eq!(round(&mut loudest, now, &[50, 50, 50], None, TWO), [0, 1]);
        // DTX: the first one sends nothing any more.
        for step in 1..=10u64 {
            let at = now + Duration::from_millis(20 * step);
            let passed = [1, 2].map(|s| loudest.passes(at, SourceId::new(s), 50, false, TWO));
            assert_eq!(passed[1], step * 20 > 150, "after {} ms", step * 20);
        }
    }

    #[test]
    fn without_a_place_for_the_dominant_it_has_to_be_loud() {
        let only = LoudestOnly { count: 1, dominant: false };
        let (mut loudest, now) = (LoudestRanking::default(), Instant::now());
        round(&mut loudest, now, &[20, 90], Some(0), only);
        assert_eq!(round(&mut loudest, now, &[20, 90], Some(0), only), [1]);
    }
}
