//! From one receiver's constraints to one height limit and one target encoding per video source
//! (docs/protocol/bridge.md 8.3, steps 1 to 3; [`super::division`] then divides the bandwidth).

use super::ladder::nominal_height;
use super::layer::LayerId;
use crate::media::{Limit, ReceiverConstraints, VideoType};

/// A source as a receiver may want it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Source name.
    pub name: &'a str,
    /// Camera, desktop, or nothing at the moment.
    pub video_type: VideoType,
}

/// Height limits for one receiver: for every candidate, by its position.
///
/// `candidates` come in last-N order: sources of recent speakers first.
pub fn limits(candidates: &[Candidate<'_>], constraints: &ReceiverConstraints) -> Vec<Limit> {
    let mut order: Vec<usize> = Vec::with_capacity(candidates.len());
    for name in constraints.on_stage.iter().chain(&constraints.selected) {
        let found = candidates.iter().position(|c| c.name == name.as_str() && c.video_type.is_shown());
        if let Some(i) = found
            && !order.contains(&i)
        {
            order.push(i);
        }
    }
    for enabled in [true, false] {
        let rest: Vec<usize> = (0..candidates.len())
            .filter(|i| candidates[*i].video_type.is_shown() == enabled && !order.contains(i))
            .collect();
        order.extend(rest);
    }
    let mut limits = vec![Limit::Off; candidates.len()];
    let mut left = match constraints.last_n {
        Limit::Off => 0,
        Limit::Max(most) => most as usize,
        Limit::Unlimited => usize::MAX,
    };
    for i in order {
        if left == 0 {
            break;
        }
        let wanted = constraints.of(candidates[i].name);
        if wanted.max_height.is_on() && wanted.max_frame_rate.is_on() {
            limits[i] = wanted.max_height;
            left -= 1;
        }
    }
    limits
}

/// The highest encoding that fits under a limit, whole; the lowest one when none fits, none when the limit is off.
pub fn target(limit: Limit, heights: impl ExactSizeIterator<Item = Option<u16>>) -> Option<LayerId> {
    if limit == Limit::Off {
        return None;
    }
    let mut target = 0;
    for (i, height) in heights.enumerate() {
        let height = height.map_or(nominal_height(i), u32::from);
        if limit.allows(height) {
            target = i;
        }
    }
    u8::try_from(target).ok().map(LayerId::whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::VideoConstraint;
    use proptest::prelude::*;

    fn candidates<'a>(names: &[&'a str]) -> Vec<Candidate<'a>> {
        names.iter().map(|name| Candidate { name, video_type: VideoType::Camera }).collect()
    }

    fn height(max_height: u32) -> VideoConstraint {
        VideoConstraint { max_height: Limit::at_most(max_height), max_frame_rate: Limit::Unlimited }
    }

    #[test]
    fn last_n_counts_stage_first_then_selected_then_speakers() {
        let constraints = ReceiverConstraints {
            last_n: Limit::Max(3),
            on_stage: vec!["d-v0".to_owned()],
            selected: vec!["c-v0".to_owned(), "d-v0".to_owned(), "gone".to_owned()],
            default: height(180),
            per_source: vec![("d-v0".to_owned(), height(720)), ("a-v0".to_owned(), height(0))],
            ..ReceiverConstraints::default()
        };
        let limits = limits(&candidates(&["a-v0", "b-v0", "c-v0", "d-v0", "e-v0"]), &constraints);
        assert_eq!(limits, [0, 180, 180, 720, 0].map(Limit::at_most), "a source that is not wanted does not count");
    }

    #[test]
    fn disabled_sources_come_last() {
        let mut list = candidates(&["a-v0", "b-v0"]);
        list[0].video_type = VideoType::None;
        let constraints = ReceiverConstraints { last_n: Limit::Max(1), ..ReceiverConstraints::default() };
        assert_eq!(limits(&list, &constraints), [Limit::Off, Limit::Max(180)]);
    }

    #[test]
    fn targets() {
        let nominal = || [None, None, None].into_iter();
        let target = |limit, heights| target(limit, heights).map(|layer| layer.encoding);
        assert_eq!(target(Limit::Off, nominal()), None);
        assert_eq!(target(Limit::Max(90), nominal()), Some(0));
        assert_eq!(target(Limit::Max(180), nominal()), Some(0));
        assert_eq!(target(Limit::Max(360), nominal()), Some(1));
        assert_eq!(target(Limit::Max(719), nominal()), Some(1));
        assert_eq!(target(Limit::Unlimited, nominal()), Some(2));
        assert_eq!(target(Limit::Max(360), [Some(90), Some(180), Some(360)].into_iter()), Some(2));
        let single = super::target(Limit::Max(180), [Some(1080)].into_iter());
        assert_eq!(single, Some(LayerId::whole(0)), "a single encoding is always forwarded");
    }

    proptest! {
        #[test]
        fn never_more_than_last_n(count in 0usize..30, last_n in proptest::option::of(0u32..40)) {
            let names: Vec<String> = (0..count).map(|i| format!("{i}-v0")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let constraints = ReceiverConstraints { last_n: last_n.map_or(Limit::Unlimited, Limit::at_most), ..ReceiverConstraints::default() };
            let on = limits(&candidates(&names), &constraints).into_iter().filter(|limit| limit.is_on()).count();
            let expected = last_n.map_or(count, |n| count.min(n as usize));
            prop_assert_eq!(on, expected);
        }
    }
}
