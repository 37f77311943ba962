//! What one endpoint said it wants to receive: patches of `ReceiverVideoConstraints` merged over time
//! (docs/protocol/bridge.md 5.5), in the current dialect and in that of older clients, which name endpoints.

use std::collections::BTreeMap;

use ringbridge_dataplane::media::{AudioSubscription, ReceiverConstraints, VideoConstraint};

/// Height that a client gets of everything it does not name when its first message has no default.
const FIRST_DEFAULT: VideoConstraint = VideoConstraint { max_height: 180, max_frame_rate: -1 };

/// One message; absent fields keep their previous value.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct WishPatch {
    pub last_n: Option<i32>,
    pub selected_sources: Option<Vec<String>>,
    pub on_stage_sources: Option<Vec<String>>,
    pub selected_endpoints: Option<Vec<String>>,
    pub on_stage_endpoints: Option<Vec<String>>,
    pub default: Option<VideoConstraint>,
    /// By source name, or by endpoint in the older dialect.
    pub constraints: Option<BTreeMap<String, VideoConstraint>>,
    /// Bits per second; negative takes it back.
    pub assumed_bandwidth: Option<i64>,
}

/// The merged state.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Wishes {
    /// Whether any `ReceiverVideoConstraints` came; before that the initial last-n counts.
    said: bool,
    last_n: Option<i32>,
    selected_sources: Vec<String>,
    on_stage_sources: Vec<String>,
    selected_endpoints: Vec<String>,
    on_stage_endpoints: Vec<String>,
    default: Option<VideoConstraint>,
    constraints: BTreeMap<String, VideoConstraint>,
    assumed_bandwidth: Option<u64>,
    audio: AudioSubscription,
}

impl Wishes {
    /// Last-n from signalling; without effect once the endpoint spoke for itself.
    pub fn set_initial_last_n(&mut self, last_n: i32) {
        if !self.said {
            self.last_n = Some(last_n);
        }
    }

    /// Merges one message.
    pub fn apply(&mut self, patch: WishPatch) {
        if !self.said {
            self.said = true;
            self.default = Some(FIRST_DEFAULT);
        }
        fn set<T>(to: &mut T, from: Option<T>) {
            if let Some(value) = from {
                *to = value;
            }
        }
        self.last_n = patch.last_n.or(self.last_n);
        self.default = patch.default.or(self.default);
        set(&mut self.selected_sources, patch.selected_sources);
        set(&mut self.on_stage_sources, patch.on_stage_sources);
        set(&mut self.selected_endpoints, patch.selected_endpoints);
        set(&mut self.on_stage_endpoints, patch.on_stage_endpoints);
        set(&mut self.constraints, patch.constraints);
        if let Some(bandwidth) = patch.assumed_bandwidth {
            self.assumed_bandwidth = u64::try_from(bandwidth).ok();
        }
    }

    /// Only last-n changes (`LastNChangedEvent`): the rest stays as before the first full message.
    pub fn set_last_n(&mut self, last_n: i32) {
        self.last_n = Some(last_n);
    }

    /// Which audio it wants from now on.
    pub fn set_audio(&mut self, audio: AudioSubscription) {
        self.audio = audio;
    }

    /// With every endpoint name replaced by its video sources; `sources_of` is `None` for a name that is no endpoint.
    pub fn resolve(&self, sources_of: impl Fn(&str) -> Option<Vec<String>>) -> ReceiverConstraints {
        let expand = |sources: &[String], endpoints: &[String]| {
            let mut names = sources.to_vec();
            for endpoint in endpoints {
                names.extend(sources_of(endpoint).unwrap_or_default());
            }
            names
        };
        let mut per_source: BTreeMap<String, VideoConstraint> = BTreeMap::new();
        for (name, constraint) in &self.constraints {
            match sources_of(name) {
                Some(sources) => {
                    for source in sources {
                        per_source.entry(source).or_insert(*constraint);
                    }
                }
                // A source name; unknown ones apply when the source appears.
                None => {
                    per_source.insert(name.clone(), *constraint);
                }
            }
        }
        let before = ReceiverConstraints::default();
        ReceiverConstraints {
            last_n: self.last_n.unwrap_or(before.last_n),
            on_stage: expand(&self.on_stage_sources, &self.on_stage_endpoints),
            selected: expand(&self.selected_sources, &self.selected_endpoints),
            default: self.default.unwrap_or(before.default),
            per_source: per_source.into_iter().collect(),
            assumed_bandwidth: self.assumed_bandwidth,
            audio: self.audio.clone(),
        }
    }

    /// Whether the endpoint shows special interest in one of these sources.
    pub fn interested_in(&self, endpoint: &str, sources: &[String]) -> bool {
        let named = |list: &[String]| list.iter().any(|name| sources.contains(name) || name == endpoint);
        let wanted = |(name, constraint): (&String, &VideoConstraint)| {
            constraint.max_height != 0 && (sources.contains(name) || name == endpoint)
        };
        named(&self.on_stage_sources)
            || named(&self.selected_sources)
            || named(&self.on_stage_endpoints)
            || named(&self.selected_endpoints)
            || self.constraints.iter().any(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn height(max_height: i32) -> VideoConstraint {
        VideoConstraint { max_height, max_frame_rate: -1 }
    }

    fn no_endpoints(_: &str) -> Option<Vec<String>> {
        None
    }

    #[test]
    fn silence_is_thumbnails() {
        let mut wishes = Wishes::default();
        assert_eq!(wishes.resolve(no_endpoints), ReceiverConstraints::default());
        wishes.set_initial_last_n(20);
        assert_eq!(wishes.resolve(no_endpoints).last_n, 20);
        let audio = AudioSubscription { all: false, include: vec!["b-a0".to_owned()], exclude: Vec::new() };
        wishes.set_audio(audio.clone());
        assert_eq!(wishes.resolve(no_endpoints).audio, audio);
        assert_eq!(wishes.resolve(no_endpoints).last_n, 20, "that is no word on video");
    }

    #[test]
    fn patches_keep_what_they_do_not_name() {
        let mut wishes = Wishes::default();
        let constraints = BTreeMap::from([("b-v0".to_owned(), height(720))]);
        wishes.apply(WishPatch { last_n: Some(5), constraints: Some(constraints), ..WishPatch::default() });
        let first = wishes.resolve(no_endpoints);
        assert_eq!((first.last_n, first.default), (5, FIRST_DEFAULT));
        wishes.apply(WishPatch { on_stage_sources: Some(vec!["b-v0".to_owned()]), ..WishPatch::default() });
        let second = wishes.resolve(no_endpoints);
        assert_eq!(second.last_n, 5);
        assert_eq!(second.per_source, [("b-v0".to_owned(), height(720))]);
        assert_eq!(second.on_stage, ["b-v0"]);
        // The map is replaced as a whole, and a default survives messages without one.
        wishes.apply(WishPatch {
            default: Some(height(0)),
            constraints: Some(BTreeMap::new()),
            ..WishPatch::default()
        });
        wishes.apply(WishPatch { last_n: Some(-1), ..WishPatch::default() });
        let last = wishes.resolve(no_endpoints);
        assert_eq!((last.last_n, last.default, last.per_source.len()), (-1, height(0), 0));
        wishes.set_initial_last_n(3);
        assert_eq!(wishes.resolve(no_endpoints).last_n, -1, "signalling no longer counts");
    }

    #[test]
    fn endpoints_stand_for_their_sources() {
        let mut wishes = Wishes::default();
        wishes.apply(WishPatch {
            selected_endpoints: Some(vec!["b".to_owned(), "gone".to_owned()]),
            constraints: Some(BTreeMap::from([("b".to_owned(), height(360)), ("c-v0".to_owned(), height(90))])),
            ..WishPatch::default()
        });
        let resolved = wishes.resolve(|name| (name == "b").then(|| vec!["b-v0".to_owned(), "b-v1".to_owned()]));
        assert_eq!(resolved.selected, ["b-v0", "b-v1"]);
        let names: Vec<_> = resolved.per_source.iter().map(|(name, c)| (name.as_str(), c.max_height)).collect();
        assert_eq!(names, [("b-v0", 360), ("b-v1", 360), ("c-v0", 90)]);
        assert!(wishes.interested_in("b", &[]));
        assert!(wishes.interested_in("c", &["c-v0".to_owned()]));
        assert!(!wishes.interested_in("d", &["d-v0".to_owned()]));
    }
}
