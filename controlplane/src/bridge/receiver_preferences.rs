//! What one endpoint said it wants to receive: patches of `ReceiverVideoConstraints` merged over time
//! (docs/protocol/bridge.md 5.5), in the current dialect and in that of older clients, which name endpoints.

use std::collections::BTreeMap;

use ringbridge_dataplane::media::{AudioSubscription, Bitrate, Limit, ReceiverConstraints, VideoConstraint};
use serde::{Deserialize, Serialize};

use crate::channel::{ReceiverVideoConstraints, to_limit};

/// What one endpoint wants to receive, as far as it has said so.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ReceiverPreferences {
    /// Whether any `ReceiverVideoConstraints` came; before that the initial last-n counts.
    said: bool,
    /// Whether it speaks the older dialect, in which names are those of endpoints.
    legacy: bool,
    /// As the worker gets it, but with the names that the endpoint used.
    wanted: ReceiverConstraints,
}

impl ReceiverPreferences {
    /// Last-n from signalling; without effect once the endpoint spoke for itself.
    pub fn set_initial_last_n(&mut self, last_n: i32) {
        if !self.said {
            self.wanted.last_n = to_limit(last_n);
        }
    }

    /// Merges one message: what it does not name stays as it was. `legacy` is whether it is of the older dialect.
    pub fn apply(&mut self, message: ReceiverVideoConstraints, legacy: bool) {
        self.said = true;
        self.legacy |= legacy;
        let names = |sources: Option<Vec<String>>, endpoints: Option<Vec<String>>| match (sources, endpoints) {
            (Some(sources), Some(endpoints)) => Some([sources, endpoints].concat()),
            (sources, endpoints) => sources.or(endpoints),
        };
        let wanted = &mut self.wanted;
        set(&mut wanted.last_n, message.last_n.map(to_limit));
        set(&mut wanted.selected, names(message.selected_sources, message.selected_endpoints));
        set(&mut wanted.on_stage, names(message.on_stage_sources, message.on_stage_endpoints));
        set(&mut wanted.default, message.default_constraints);
        set(&mut wanted.per_source, message.constraints.map(|constraints| constraints.into_iter().collect()));
        // Negative takes it back.
        set(
            &mut wanted.assumed_bandwidth,
            message.assumed_bandwidth_bps.map(|bps| u64::try_from(bps).ok().map(Bitrate::new)),
        );
    }

    /// Only last-n changes (`LastNChangedEvent`): the rest stays as before the first full message.
    pub fn set_last_n(&mut self, last_n: i32) {
        self.wanted.last_n = to_limit(last_n);
    }

    /// Which audio it wants from now on.
    pub fn set_audio(&mut self, audio: AudioSubscription) {
        self.wanted.audio = audio;
    }

    /// Whether it speaks the older dialect.
    pub fn is_legacy(&self) -> bool {
        self.legacy
    }

    /// As the worker gets it. In the older dialect the name of an endpoint stands for its video sources; `sources_of` is `None`
    /// for a name that is no endpoint. In the current one names are those of sources, whatever endpoints are called.
    pub fn resolve(&self, sources_of: impl Fn(&str) -> Option<Vec<String>>) -> ReceiverConstraints {
        let mut resolved = self.wanted.clone();
        if !self.legacy {
            return resolved;
        }
        for names in [&mut resolved.on_stage, &mut resolved.selected] {
            *names = names.drain(..).flat_map(|name| sources_of(&name).unwrap_or_else(|| vec![name])).collect();
        }
        let mut per_source: BTreeMap<String, VideoConstraint> = BTreeMap::new();
        for (name, constraint) in resolved.per_source {
            match sources_of(&name) {
                Some(sources) => {
                    for source in sources {
                        per_source.entry(source).or_insert(constraint);
                    }
                }
                // A source name; unknown ones apply when the source appears.
                None => {
                    per_source.insert(name, constraint);
                }
            }
        }
        resolved.per_source = per_source.into_iter().collect();
        resolved
    }

    /// Whether the endpoint shows special interest in one of these sources.
    pub fn interested_in(&self, endpoint: &str, sources: &[String]) -> bool {
        let named = |name: &String| sources.contains(name) || name == endpoint;
        self.wanted.on_stage.iter().chain(&self.wanted.selected).any(named)
            || self
                .wanted
                .per_source
                .iter()
                .any(|(name, constraint)| constraint.max_height != Limit::Off && named(name))
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn height(max_height: i32) -> VideoConstraint {
        VideoConstraint { max_height: to_limit(max_height), max_frame_rate: Limit::Unlimited }
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
        preferences.apply(
            ReceiverVideoConstraints {
                last_n: Some(5),
                constraints: Some(constraints),
                ..ReceiverVideoConstraints::default()
            },
            false,
        );
        let first = preferences.resolve(no_endpoints);
        assert_eq!((first.last_n, first.default), (Limit::Max(5), height(180)));
        preferences.apply(
            ReceiverVideoConstraints {
                on_stage_sources: Some(vec!["b-v0".to_owned()]),
                ..ReceiverVideoConstraints::default()
            },
            false,
        );
        let second = preferences.resolve(no_endpoints);
        assert_eq!(second.last_n, Limit::Max(5));
        assert_eq!(second.per_source, [("b-v0".to_owned(), height(720))]);
        assert_eq!(second.on_stage, ["b-v0"]);
        // The map is replaced as a whole, and a default survives messages without one.
        preferences.apply(
            ReceiverVideoConstraints {
                default_constraints: Some(height(0)),
                constraints: Some(BTreeMap::new()),
                ..ReceiverVideoConstraints::default()
            },
            false,
        );
        preferences.apply(ReceiverVideoConstraints { last_n: Some(-1), ..ReceiverVideoConstraints::default() }, false);
        let last = preferences.resolve(no_endpoints);
        assert_eq!((last.last_n, last.default, last.per_source.len()), (Limit::Unlimited, height(0), 0));
        preferences.set_initial_last_n(3);
        assert_eq!(preferences.resolve(no_endpoints).last_n, Limit::Unlimited, "signalling no longer counts");
    }

    #[test]
    fn endpoints_stand_for_their_sources_in_the_older_dialect() {
        let sources_of = |name: &str| (name == "b").then(|| vec!["b-v0".to_owned(), "b-v1".to_owned()]);
        let message = ReceiverVideoConstraints {
            selected_endpoints: Some(vec!["b".to_owned(), "gone".to_owned()]),
            on_stage_sources: Some(vec!["c-v0".to_owned()]),
            on_stage_endpoints: Some(vec!["b".to_owned()]),
            constraints: Some(BTreeMap::from([
                ("b".to_owned(), height(360)),
                ("b-v1".to_owned(), height(720)),
                ("c-v0".to_owned(), height(90)),
            ])),
            ..ReceiverVideoConstraints::default()
        };
        let mut preferences = ReceiverPreferences::default();
        preferences.apply(message, true);
        let resolved = preferences.resolve(sources_of);
        assert_eq!(resolved.selected, ["b-v0", "b-v1", "gone"]);
        assert_eq!(resolved.on_stage, ["c-v0", "b-v0", "b-v1"]);
        let names: Vec<_> = resolved.per_source.iter().map(|(name, c)| (name.as_str(), c.max_height)).collect();
        assert_eq!(
            names,
            [("b-v0", 360), ("b-v1", 720), ("c-v0", 90)].map(|(name, most)| (name, Limit::Max(most))),
            "what names the source itself wins"
        );
        assert!(preferences.interested_in("b", &[]));
        assert!(preferences.interested_in("c", &["c-v0".to_owned()]));
        assert!(!preferences.interested_in("d", &["d-v0".to_owned()]));
        // The names are replaced as one list, however they were given.
        let sources = Some(vec!["d-v0".to_owned()]);
        preferences.apply(
            ReceiverVideoConstraints { selected_sources: sources, ..ReceiverVideoConstraints::default() },
            false,
        );
        assert_eq!(preferences.resolve(sources_of).selected, ["d-v0"]);
    }

    #[test]
    fn an_endpoint_that_is_called_like_a_source_takes_nothing_of_it() {
        let names = || Some(vec!["b-v0".to_owned()]);
        let mut preferences = ReceiverPreferences::default();
        let message = ReceiverVideoConstraints {
            on_stage_sources: names(),
            selected_sources: names(),
            constraints: Some(BTreeMap::from([("b-v0".to_owned(), height(720))])),
            ..ReceiverVideoConstraints::default()
        };
        preferences.apply(message, false);
        let resolved = preferences.resolve(|name| (name == "b-v0").then(|| vec!["b-v0-v0".to_owned()]));
        assert_eq!((resolved.on_stage, resolved.selected), (names().unwrap(), names().unwrap()));
        assert_eq!(resolved.per_source, [("b-v0".to_owned(), height(720))]);
    }

    #[test]
    fn bandwidth_can_be_taken_back() {
        let mut preferences = ReceiverPreferences::default();
        preferences.apply(
            ReceiverVideoConstraints { assumed_bandwidth_bps: Some(500_000), ..ReceiverVideoConstraints::default() },
            false,
        );
        let resolved = preferences.resolve(no_endpoints);
        assert_eq!(resolved.assumed_bandwidth, Some(Bitrate::new(500_000)));
        let back = Some(-1);
        preferences.apply(
            ReceiverVideoConstraints { assumed_bandwidth_bps: back, ..ReceiverVideoConstraints::default() },
            false,
        );
        assert_eq!(preferences.resolve(no_endpoints).assumed_bandwidth, None);
    }
}
