//! The order of a source's encodings, from low to high: by what they carry. Senders name them in any order (RFC 8853
//! section 5.2); Firefox names the highest first, Chromium the lowest.

use std::cmp::Ordering;

use super::meter::Rate;
use crate::congestion::layer::MAX_ENCODINGS;
use crate::congestion::reorder::{Moves, STAY};

/// Measured rates that differ by less than this factor say nothing of rank.
const CLEAR: f64 = 1.5;

/// What is known of an encoding that was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// Pixels, once a keyframe says it.
    pub height: Option<u16>,
    /// What it brings; `None` while it is stopped, or young.
    pub rate: Option<Rate>,
}

/// Where encodings belong, given what is known of each in its present position; `None` of one that was never seen, which
/// keeps its position. Where nothing orders them, they stay as they are.
pub fn moves(known: &[Option<Evidence>]) -> Moves {
    let seen =
        || known.iter().take(MAX_ENCODINGS).enumerate().filter_map(|(position, of)| Some((position as u8, (*of)?)));
    // Heights and rates together might say a > b > c > a.
    let heights = seen().all(|(_, of)| of.height.is_some());
    let mut positions = STAY;
    let mut count = 0;
    for (slot, (position, _)) in positions.iter_mut().zip(seen()) {
        *slot = position;
        count += 1;
    }
    let mut order = positions;
    let of = |position: u8| known.get(usize::from(position)).copied().flatten();
    // At most four: each rises past those that are clearly above it.
    for from in 1..count {
        for at in (1..=from).rev() {
            let (Some(below), Some(above)) = (of(order[at - 1]), of(order[at])) else { break };
            if below.compare(&above, heights) != Ordering::Greater {
                break;
            }
            order.swap(at - 1, at);
        }
    }
    let mut moves = STAY;
    for (old, new) in order.iter().zip(&positions).take(count) {
        moves[usize::from(*old)] = *new;
    }
    moves
}

impl Evidence {
    fn compare(&self, other: &Self, heights: bool) -> Ordering {
        if heights && self.height != other.height {
            return self.height.cmp(&other.height);
        }
        let (Some(rate), Some(others)) = (self.rate, other.rate) else { return Ordering::Equal };
        let frames = clearly(rate.frame_rate.into(), others.frame_rate.into());
        // Without heights a large still picture has fewer frames than a small moving one, yet rarely fewer bits.
        let frames = if heights { frames } else { Ordering::Equal };
        frames.then_with(|| clearly(rate.bitrate as f64, others.bitrate as f64))
    }
}

fn clearly(a: f64, b: f64) -> Ordering {
    if a > b * CLEAR {
        Ordering::Greater
    } else if b > a * CLEAR {
        Ordering::Less
    } else {
        Ordering::Equal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::reorder::permute;
    use proptest::prelude::*;

    fn sized(height: u16) -> Option<Evidence> {
        Some(Evidence { height: Some(height), rate: None })
    }

    fn measured(height: Option<u16>, frame_rate: f32, bitrate: u64) -> Option<Evidence> {
        Some(Evidence { height, rate: Some(Rate { frame_rate, bitrate }) })
    }

    #[test]
    fn by_height_first() {
        assert_eq!(moves(&[sized(720), sized(360), sized(180)])[..3], [2, 1, 0]);
        assert_eq!(moves(&[sized(180), sized(360), sized(720)]), STAY);
        assert_eq!(moves(&[sized(360), sized(720), sized(180)])[..3], [1, 2, 0]);
        assert_eq!(moves(&[sized(720), sized(180), sized(360), sized(90)]), [3, 1, 2, 0]);
        let still = [measured(Some(1080), 1.0, 20_000), measured(Some(540), 30.0, 400_000)];
        assert_eq!(moves(&still)[..2], [1, 0], "whatever they bring at the moment");
    }

    #[test]
    fn then_by_frame_rate_and_by_bitrate_when_that_is_clear() {
        let of = |a: (f32, u64), b: (f32, u64)| {
            moves(&[measured(Some(1080), a.0, a.1), measured(Some(1080), b.0, b.1)])[..2] == [1, 0]
        };
        assert!(of((30.0, 500_000), (5.0, 800_000)));
        assert!(of((30.0, 2_000_000), (25.0, 400_000)));
        assert!(!of((30.0, 500_000), (25.0, 400_000)) && !of((25.0, 400_000), (30.0, 500_000)));
        assert_eq!(moves(&[sized(720), measured(Some(720), 30.0, 9)]), STAY, "what is stopped is not judged");
    }

    #[test]
    fn by_bitrate_while_a_height_is_not_known() {
        let all = [measured(None, 30.0, 900_000), measured(Some(360), 30.0, 300_000), measured(None, 30.0, 90_000)];
        assert_eq!(moves(&all)[..3], [2, 1, 0]);
        assert_eq!(moves(&[measured(None, 30.0, 900_000), sized(180)]), STAY);
    }

    #[test]
    fn what_was_never_seen_stays_where_it_is() {
        assert_eq!(moves(&[None, sized(360), sized(180)]), [0, 2, 1, 3]);
        assert_eq!(moves(&[sized(360), None, sized(180)]), [2, 1, 0, 3]);
        assert_eq!(moves(&[]), STAY);
    }

    proptest! {
        #[test]
        fn a_permutation_that_settles(
            known in proptest::collection::vec(
                proptest::option::of((proptest::option::of(1u16..5), proptest::option::of((1f32..90.0, 1u64..50)))),
                0..6,
            ),
        ) {
            let known: Vec<Option<Evidence>> = known
                .into_iter()
                .map(|of| of.map(|(height, rate)| Evidence {
                    height,
                    rate: rate.map(|(frame_rate, bitrate)| Rate { frame_rate, bitrate }),
                }))
                .collect();
            let first = moves(&known);
            let mut sorted = first;
            sorted.sort_unstable();
            prop_assert_eq!(sorted, STAY);
            let mut moved = known.clone();
            moved.truncate(MAX_ENCODINGS);
            for (old, new) in first.iter().enumerate().take(moved.len()) {
                moved[usize::from(*new)] = known[old];
            }
            let mut permuted = known.clone();
            permuted.truncate(MAX_ENCODINGS);
            permute(&mut permuted, &first);
            prop_assert_eq!(&permuted, &moved);
            prop_assert_eq!(moves(&moved), STAY, "{:?}", moved);
        }
    }
}
