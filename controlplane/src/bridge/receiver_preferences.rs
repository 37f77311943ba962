//! What one endpoint said it wants to receive: patches of `ReceiverVideoConstraints` merged over time
//! (docs/protocol/bridge.md 5.5), in the current dialect and in that of older clients, which name endpoints.

use std::collections::BTreeMap;

use ringbridge_dataplane::media::{AudioSubscription, ReceiverConstraints, VideoConstraint};

use super::signalled::to_limit;
use crate::channel::{HeightConstraint, ReceiverVideoConstraints};

/// Height that a client gets of everything it does not name when its first message has no default.
const FIRST_DEFAULT: HeightConstraint = HeightConstraint { max_height: 180, max_frame_rate: -1.0 };

fn to_constraint(height: HeightConstraint) -> VideoConstraint {
    // Saturates; a rate of less than one picture per second is still one.
    let max_frame_rate = to_limit(height.max_frame_rate.ceil() as i32);
    VideoConstraint { max_height: to_limit(height.max_height), max_frame_rate }
}

/// What one endpoint wants to receive, as far as it has said so.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ReceiverPreferences {
    /// Whether any `ReceiverVideoConstraints` came; before that the initial last-n counts.
    said: bool,
    video: ReceiverVideoConstraints,
    audio: AudioSubscription,
}

impl ReceiverPreferences {
    /// Last-n from signalling; without effect once the endpoint spoke for itself.
    pub fn set_initial_last_n(&mut self, last_n: i32) {
        if !self.said {
            self.video.last_n = Some(last_n);
        }
    }

    /// Merges one message: what it does not name stays as it was.
    pub fn apply(&mut self, message: ReceiverVideoConstraints) {
        if !self.said {
            self.said = true;
            self.video.default_constraints = Some(FIRST_DEFAULT);
        }
        let before = std::mem::take(&mut self.video);
        self.video = ReceiverVideoConstraints {
            last_n: message.last_n.or(before.last_n),
            selected_sources: message.selected_sources.or(before.selected_sources),
            on_stage_sources: message.on_stage_sources.or(before.on_stage_sources),
            selected_endpoints: message.selected_endpoints.or(before.selected_endpoints),
            on_stage_endpoints: message.on_stage_endpoints.or(before.on_stage_endpoints),
            default_constraints: message.default_constraints.or(before.default_constraints),
            constraints: message.constraints.or(before.constraints),
            assumed_bandwidth_bps: message.assumed_bandwidth_bps.or(before.assumed_bandwidth_bps),
        };
    }

    /// Only last-n changes (`LastNChangedEvent`): the rest stays as before the first full message.
    pub fn set_last_n(&mut self, last_n: i32) {
        self.video.last_n = Some(last_n);
    }

    /// Which audio it wants from now on.
    pub fn set_audio(&mut self, audio: AudioSubscription) {
        self.audio = audio;
    }

    /// With every endpoint name replaced by its video sources; `sources_of` is `None` for a name that is no endpoint.
    pub fn resolve(&self, sources_of: impl Fn(&str) -> Option<Vec<String>>) -> ReceiverConstraints {
        let wanted = &self.video;
        let expand = |sources: &Option<Vec<String>>, endpoints: &Option<Vec<String>>| {
            let mut names = sources.clone().unwrap_or_default();
            for endpoint in endpoints.iter().flatten() {
                names.extend(sources_of(endpoint).unwrap_or_default());
            }
            names
        };
        let mut per_source: BTreeMap<String, VideoConstraint> = BTreeMap::new();
        for (name, height) in wanted.constraints.iter().flatten() {
            let constraint = to_constraint(*height);
            match sources_of(name) {
                Some(sources) => {
                    for source in sources {
                        per_source.entry(source).or_insert(constraint);
                    }
                }
                // A source name; unknown ones apply when the source appears.
                None => {
                    per_source.insert(name.clone(), constraint);
                }
            }
        }
        let before = ReceiverConstraints::default();
        ReceiverConstraints {
            last_n: wanted.last_n.map_or(before.last_n, to_limit),
            on_stage: expand(&wanted.on_stage_sources, &wanted.on_stage_endpoints),
            selected: expand(&wanted.selected_sources, &wanted.selected_endpoints),
            default: wanted.default_constraints.map_or(before.default, to_constraint),
            per_source: per_source.into_iter().collect(),
            // Negative takes it back.
            assumed_bandwidth: wanted.assumed_bandwidth_bps.and_then(|bps| u64::try_from(bps).ok()),
            audio: self.audio.clone(),
        }
    }

    /// Whether the endpoint shows special interest in one of these sources.
    pub fn interested_in(&self, endpoint: &str, sources: &[String]) -> bool {
        let named =
            |list: &Option<Vec<String>>| list.iter().flatten().any(|name| sources.contains(name) || name == endpoint);
        let wanted = |(name, constraint): (&String, &HeightConstraint)| {
            constraint.max_height != 0 && (sources.contains(name) || name == endpoint)
        };
        named(&self.video.on_stage_sources)
            || named(&self.video.selected_sources)
            || named(&self.video.on_stage_endpoints)
            || named(&self.video.selected_endpoints)
            || self.video.constraints.iter().flatten().any(wanted)
    }
}

#[cfg(test)]
mod tests {
    use ringbridge_dataplane::media::Limit;

    use super::*;

    fn height(max_height: i32) -> HeightConstraint {
        HeightConstraint { max_height, max_frame_rate: -1.0 }
    }

    fn no_endpoints(_: &str) -> Option<Vec<String>> {
        None
    }

    #[test]
    fn silence_is_thumbnails() {
        let mut preferences = ReceiverPreferences::default();
        assert_eq!(preferences.resolve(no_endpoints), ReceiverConstraints::default());
        preferences.set_initial_last_n(20);
        assert_eq!(preferences.resolve(no_endpoints).last_n, Limit::Max(20));
        let audio = AudioSubscription { all: false, include: vec!["b-a0".to_owned()], exclude: Vec::new() };
        preferences.set_audio(audio.clone());
        assert_eq!(preferences.resolve(no_endpoints).audio, audio);
        assert_eq!(preferences.resolve(no_endpoints).last_n, Limit::Max(20), "that is no word on video");
    }

    #[test]
    fn patches_keep_what_they_do_not_name() {
        let mut preferences = ReceiverPreferences::default();
        let constraints = BTreeMap::from([("b-v0".to_owned(), height(720))]);
        preferences.apply(ReceiverVideoConstraints {
            last_n: Some(5),
            constraints: Some(constraints),
            ..ReceiverVideoConstraints::default()
        });
        let first = preferences.resolve(no_endpoints);
        assert_eq!((first.last_n, first.default), (Limit::Max(5), to_constraint(FIRST_DEFAULT)));
        preferences.apply(ReceiverVideoConstraints {
            on_stage_sources: Some(vec!["b-v0".to_owned()]),
            ..ReceiverVideoConstraints::default()
        });
        let second = preferences.resolve(no_endpoints);
        assert_eq!(second.last_n, Limit::Max(5));
        assert_eq!(second.per_source, [("b-v0".to_owned(), to_constraint(height(720)))]);
        assert_eq!(second.on_stage, ["b-v0"]);
        // The map is replaced as a whole, and a default survives messages without one.
        preferences.apply(ReceiverVideoConstraints {
            default_constraints: Some(height(0)),
            constraints: Some(BTreeMap::new()),
            ..ReceiverVideoConstraints::default()
        });
        preferences.apply(ReceiverVideoConstraints { last_n: Some(-1), ..ReceiverVideoConstraints::default() });
        let last = preferences.resolve(no_endpoints);
        assert_eq!((last.last_n, last.default, last.per_source.len()), (Limit::Unlimited, to_constraint(height(0)), 0));
        preferences.set_initial_last_n(3);
        assert_eq!(preferences.resolve(no_endpoints).last_n, Limit::Unlimited, "signalling no longer counts");
    }

    #[test]
    fn endpoints_stand_for_their_sources() {
        let mut preferences = ReceiverPreferences::default();
        preferences.apply(ReceiverVideoConstraints {
            selected_endpoints: Some(vec!["b".to_owned(), "gone".to_owned()]),
            constraints: Some(BTreeMap::from([("b".to_owned(), height(360)), ("c-v0".to_owned(), height(90))])),
            ..ReceiverVideoConstraints::default()
        });
        let resolved = preferences.resolve(|name| (name == "b").then(|| vec!["b-v0".to_owned(), "b-v1".to_owned()]));
        assert_eq!(resolved.selected, ["b-v0", "b-v1"]);
        let names: Vec<_> = resolved.per_source.iter().map(|(name, c)| (name.as_str(), c.max_height)).collect();
        assert_eq!(names, [("b-v0", 360), ("b-v1", 360), ("c-v0", 90)].map(|(name, most)| (name, Limit::Max(most))));
        assert!(preferences.interested_in("b", &[]));
        assert!(preferences.interested_in("c", &["c-v0".to_owned()]));
        assert!(!preferences.interested_in("d", &["d-v0".to_owned()]));
    }

    #[test]
    fn rates_are_whole_and_bandwidth_can_be_taken_back() {
        let mut preferences = ReceiverPreferences::default();
        let height = HeightConstraint { max_height: 720, max_frame_rate: 7.5 };
        preferences.apply(ReceiverVideoConstraints {
            constraints: Some(BTreeMap::from([("b-v0".to_owned(), height)])),
            assumed_bandwidth_bps: Some(500_000),
            ..ReceiverVideoConstraints::default()
        });
        let resolved = preferences.resolve(no_endpoints);
        assert_eq!(
            resolved.per_source,
            [("b-v0".to_owned(), VideoConstraint { max_height: Limit::Max(720), max_frame_rate: Limit::Max(8) })]
        );
        assert_eq!(resolved.assumed_bandwidth, Some(500_000));
        let back = Some(-1);
        preferences
            .apply(ReceiverVideoConstraints { assumed_bandwidth_bps: back, ..ReceiverVideoConstraints::default() });
        assert_eq!(preferences.resolve(no_endpoints).assumed_bandwidth, None);
    }
}
