//! Divides what a receiver's path carries among the sources that it wants (docs/protocol/bridge.md 8.3, steps 5 and 6).

use super::ladder::{Ladder, Step};
use super::layer::LayerId;
use crate::media::Bitrate;

/// A step up must leave this much room, or the next small change would take it back.
const HEADROOM: f64 = 1.1;

/// One source as a receiver wants it. The most important come first.
#[derive(Debug, Clone)]
pub struct Want {
    /// In which steps it can be had; empty while nothing of it was seen.
    pub ladder: Ladder,
    /// Whether others get what is left when it has reached its preferred step, or can get no further towards that.
    pub on_stage: bool,
    /// What it was allocated before.
    pub before: Option<LayerId>,
}

/// Who gets what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Division {
    /// One for each want; `None` is suspended.
    pub granted: Vec<Option<LayerId>>,
    /// What is allocated, together.
    pub bitrate: Bitrate,
    /// Everything that is wanted.
    pub ideal: Bitrate,
    /// More was allocated than there is: the least of the most important source.
    pub oversent: bool,
}

impl Want {
    fn step(&self, at: Option<usize>) -> Option<&Step> {
        self.ladder.steps().get(at?)
    }

    fn cost(&self, at: Option<usize>) -> u64 {
        self.step(at).map_or(0, |step| step.bitrate)
    }

    /// What has to be free for a step: its bitrate, and some more if it is new.
    fn needed(&self, at: usize) -> u64 {
        let cost = self.cost(Some(at));
        let new = self.step(Some(at)).is_some_and(|step| self.before.is_none_or(|before| step.id > before));
        if new { (cost as f64 * HEADROOM) as u64 } else { cost }
    }
}

/// Divides what is available; `None` is no limit. Never allocates more, but for the lowest step of the first
/// source, which it gets whatever the path carries.
pub fn divide(wants: &[Want], available: Option<Bitrate>) -> Division {
    let top = |want: &Want| want.ladder.steps().len().checked_sub(1);
    let ideal = wants.iter().fold(0u64, |sum, w| sum.saturating_add(w.cost(top(w))));
    let Some(available) = available.map(Bitrate::get) else {
        let granted = wants.iter().map(|w| w.step(top(w)).map(|s| s.id)).collect();
        return Division { granted, bitrate: Bitrate::new(ideal), ideal: Bitrate::new(ideal), oversent: false };
    };
    let mut at: Vec<Option<usize>> = vec![None; wants.len()];
    let mut spent = 0u64;
    let floor = wants.iter().position(|w| !w.ladder.steps().is_empty());
    if let Some(first) = floor {
        at[first] = Some(0);
        spent = wants[first].cost(Some(0));
    }
    let mut first = floor.filter(|at| wants.get(*at).is_some_and(|w| !w.on_stage));
    loop {
        let mut changed = false;
        for (i, (want, at)) in wants.iter().zip(&mut at).enumerate() {
            let Some(top) = top(want) else { continue };
            if first == Some(i) {
                // It has had its step of this round already.
                first = None;
                changed = true;
                continue;
            }
            let preferred = want.ladder.preferred().min(top);
            let is_new = at.is_none_or(|at| at < preferred) && want.on_stage;
            let next = at.map_or(0, |at| at + 1);
            let free = available.saturating_sub(spent - want.cost(*at));
            // On stage, as far as the preferred step at once; otherwise step by step, so that all get something.
            let goal = if is_new { preferred } else { next.min(top) };
            let step = (next..=goal).rev().find(|step| want.needed(*step) <= free);
            if let Some(step) = step {
                spent = spent - want.cost(*at) + want.cost(Some(step));
                *at = Some(step);
                changed = true;
                // It may get further before others have their turn. Where it cannot, what is left is theirs.
                if want.on_stage && step < preferred {
                    break;
                }
            }
        }
        if !changed {
            break;
        }
    }
    let granted = wants.iter().zip(&at).map(|(want, at)| want.step(*at).map(|s| s.id)).collect();
    Division { granted, bitrate: Bitrate::new(spent), ideal: Bitrate::new(ideal), oversent: spent > available }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::layer::Layer;
    use crate::media::Limit;
    use crate::media::VideoType;
    use proptest::prelude::*;

    fn divide(wants: &[Want], available: Option<u64>) -> Division {
        super::divide(wants, available.map(Bitrate::new))
    }

    fn layer(encoding: u8, temporal: u8, height: u16, frame_rate: f32, bitrate: u64) -> Layer {
        Layer { id: LayerId { encoding, spatial: 0, temporal }, height: Some(height), frame_rate, bitrate }
    }

    fn camera(limit: Limit) -> Want {
        let layers = [
            layer(0, 0, 180, 15.0, 80_000),
            layer(0, 1, 180, 30.0, 120_000),
            layer(1, 0, 360, 30.0, 500_000),
            layer(2, 0, 720, 30.0, 1_800_000),
        ];
        Want { ladder: Ladder::of(&layers, VideoType::Camera, limit, Limit::Unlimited), on_stage: false, before: None }
    }

    fn screen() -> Want {
        let layers =
            [layer(0, 0, 1080, 5.0, 600_000), layer(0, 1, 1080, 15.0, 1_000_000), layer(0, 2, 1080, 30.0, 2_500_000)];
        Want {
            ladder: Ladder::of(&layers, VideoType::Desktop, Limit::Unlimited, Limit::Unlimited),
            on_stage: true,
            before: None,
        }
    }

    fn encodings(division: &Division) -> Vec<Option<u8>> {
        division.granted.iter().map(|g| g.map(|id| id.encoding)).collect()
    }

    #[test]
    fn a_screen_beside_five_cameras_on_two_megabits() {
        let mut wants = vec![screen()];
        wants.extend((0..5).map(|_| camera(Limit::Max(180))));
        let division = divide(&wants, Some(2_000_000));
        assert!(division.granted.iter().all(Option::is_some), "{division:?}");
        assert!(division.granted[0].unwrap().temporal >= 1 && division.bitrate.get() <= 2_000_000);
        // With less, the cameras give way.
        let division = divide(&wants, Some(750_000));
        assert_eq!(encodings(&division), [Some(0), Some(0), None, None, None, None]);
        assert_eq!(division.granted[0].unwrap().temporal, 0);
        let division = divide(&wants, Some(100_000));
        assert_eq!((encodings(&division), division.oversent), (vec![Some(0), None, None, None, None, None], true));
    }

    #[test]
    fn the_stage_comes_first_up_to_its_preferred_step() {
        let stage = Want { on_stage: true, ..camera(Limit::Max(720)) };
        let wants = [stage, camera(Limit::Max(180)), camera(Limit::Max(180))];
        assert_eq!(encodings(&divide(&wants, Some(140_000))), [Some(0), None, None]);
        assert_eq!(
            encodings(&divide(&wants, Some(400_000))),
            [Some(0), Some(0), Some(0)],
            "too little for its next step"
        );
        assert_eq!(encodings(&divide(&wants, Some(700_000))), [Some(1), Some(0), None]);
        assert_eq!(encodings(&divide(&wants, Some(1_500_000))), [Some(1), Some(0), Some(0)]);
        assert_eq!(encodings(&divide(&wants, Some(2_600_000))), [Some(2), Some(0), Some(0)]);
        assert_eq!(encodings(&divide(&wants, None)), [Some(2), Some(0), Some(0)]);
    }

    #[test]
    fn without_a_stage_all_get_something_before_one_gets_more() {
        let wants = [camera(Limit::Max(720)), camera(Limit::Max(720)), camera(Limit::Max(720))];
        assert_eq!(encodings(&divide(&wants, Some(300_000))), [Some(0), Some(0), Some(0)]);
        assert_eq!(encodings(&divide(&wants, Some(900_000))), [Some(1), Some(0), Some(0)]);
    }

    #[test]
    fn a_step_up_needs_room_a_step_down_does_not() {
        let mut want = [camera(Limit::Max(720))];
        assert_eq!(encodings(&divide(&want, Some(540_000))), [Some(0)]);
        want[0].before = Some(LayerId::whole(1));
        assert_eq!(encodings(&divide(&want, Some(540_000))), [Some(1)], "it stays");
        assert_eq!(encodings(&divide(&want, Some(520_000))), [Some(0)]);
    }

    fn any_want() -> impl Strategy<Value = Want> {
        let layers = proptest::collection::vec((0u8..3, 0u8..3, 1u64..3_000_000), 0..9);
        (layers, any::<bool>(), 0usize..4, proptest::option::of((0u8..3, 0u8..3)), any::<bool>()).prop_map(
            |(list, on_stage, limit, before, screen)| {
                let mut layers: Vec<Layer> = list
                    .into_iter()
                    .map(|(e, t, rate)| layer(e, t, 180 << e, 7.5 * f32::from(1u8 << t), rate))
                    .collect();
                layers.sort_by_key(|l| l.id);
                layers.dedup_by_key(|l| l.id);
                let video_type = if screen { VideoType::Desktop } else { VideoType::Camera };
                let ladder = Ladder::of(
                    &layers,
                    video_type,
                    [Limit::Unlimited, Limit::Max(180), Limit::Max(360), Limit::Max(720)][limit],
                    Limit::Unlimited,
                );
                Want {
                    ladder,
                    on_stage,
                    before: before.map(|(encoding, temporal)| LayerId { encoding, spatial: 0, temporal }),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn never_more_than_there_is_but_for_the_floor(
            wants in proptest::collection::vec(any_want(), 0..12),
            available in 0u64..12_000_000,
        ) {
            let division = divide(&wants, Some(available));
            let first = wants.iter().find(|w| !w.ladder.steps().is_empty());
            let floor = first.map_or(0, |w| w.ladder.steps()[0].bitrate);
            prop_assert!(division.bitrate.get() <= available.max(floor));
            prop_assert_eq!(division.oversent, division.bitrate.get() > available);
            let sum: u64 = wants.iter().zip(&division.granted).map(|(w, granted)| {
                w.ladder.steps().iter().find(|s| Some(s.id) == *granted).map_or(0, |s| s.bitrate)
            }).sum();
            prop_assert_eq!(sum, division.bitrate.get());
            prop_assert!(division.bitrate <= division.ideal);
            if let Some(at) = wants.iter().position(|w| !w.ladder.steps().is_empty()) {
                prop_assert!(division.granted[at].is_some(), "the most important one is never without");
            }
        }

        #[test]
        fn what_was_granted_is_granted_again(
            wants in proptest::collection::vec(any_want(), 1..10),
            available in 0u64..9_000_000,
        ) {
            let mut wants = wants;
            let mut last = divide(&wants, Some(available));
            // Each time what was allocated counts as held; the second round may still use the room that it needs no more.
            for _ in 0..wants.len() * 10 {
                for (want, granted) in wants.iter_mut().zip(&last.granted) {
                    want.before = *granted;
                }
                let next = divide(&wants, Some(available));
                if next == last {
                    return Ok(());
                }
                last = next;
            }
            prop_assert!(false, "it flaps");
        }
    }
}
