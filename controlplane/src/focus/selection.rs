//! Which bridge a participant goes to (docs/protocol/focus.md 7.2 to 7.4): a pure function of what is known of the bridges and
//! of where the conference is already.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

/// Reported stress from which a bridge is overloaded, where nothing else is set.
const STRESS_THRESHOLD: f64 = 0.8;

/// Participants of one conference on one bridge, where nothing else is set.
const MAX_PARTICIPANTS: usize = 80;

/// How a participant's bridge is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// One bridge for the whole conference: the least loaded one, rather in the first participant's region.
    #[default]
    Single,
    /// Rather a bridge in the participant's region or its group.
    RegionBased,
    /// The first bridge's region, on further bridges of it where one is overloaded.
    IntraRegion,
    /// As many bridges as there are. For tests.
    Split,
}

impl Strategy {
    /// Its word in the settings.
    pub fn word(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::RegionBased => "region-based",
            Self::IntraRegion => "intra-region",
            Self::Split => "split",
        }
    }
}

impl FromStr for Strategy {
    type Err = String;

    /// Our words, and the names of Jicofo's classes with or without their package.
    fn from_str(text: &str) -> Result<Self, String> {
        let class = text.rsplit('.').next().unwrap_or_default();
        match class.trim_end_matches("BridgeSelectionStrategy") {
            "single" | "Single" => Ok(Self::Single),
            "region-based" | "RegionBased" => Ok(Self::RegionBased),
            "intra-region" | "IntraRegion" => Ok(Self::IntraRegion),
            "split" | "Split" => Ok(Self::Split),
            _ => Err("use single, region-based, intra-region or split".to_owned()),
        }
    }
}

/// Regions that are close to each other; one that is in no group is a group of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegionGroups(Vec<BTreeSet<String>>);

impl RegionGroups {
    /// Whether two regions are the same or in one group. The last group that names a region counts, as with Jicofo.
    fn join(&self, a: &str, b: &str) -> bool {
        a == b || self.0.iter().rfind(|group| group.contains(a)).is_some_and(|group| group.contains(b))
    }
}

impl FromStr for RegionGroups {
    type Err = String;

    /// Groups separated by commas, the regions of one by spaces or plus signs: `us-east us-west, eu-west eu-north`; or as the
    /// lists that they are in HOCON: `["us-east", "us-west"], ["eu-west"]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut groups: Vec<BTreeSet<String>> = Vec::new();
        let text = text.trim();
        let text = text.strip_prefix('[').filter(|rest| rest.trim_start().starts_with('[')).unwrap_or(text);
        let listed = text.contains('[');
        let (ends, separators): (char, &[char]) = if listed { (']', &[',', ' ']) } else { (',', &['+', ' ']) };
        for group in text.split(ends) {
            let group = group.trim_start_matches([',', ' ']).trim_start_matches('[');
            let regions = group.split(separators).map(|region| region.trim_matches(['"', '\'']));
            let regions: BTreeSet<String> = regions.filter(|region| !region.is_empty()).map(str::to_owned).collect();
            if let Some(odd) = regions.iter().find(|region| region.contains(['[', ']', '"', '{', '}', ','])) {
                return Err(format!("{odd:?} is not a region; use e.g. \"us-east us-west, eu-west eu-north\""));
            }
            if !regions.is_empty() {
                groups.push(regions);
            }
        }
        Ok(Self(groups))
    }
}

/// How bridges are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectionSettings {
    /// By which rule.
    pub strategy: Strategy,
    /// Whether a conference may be on several bridges.
    pub relays: bool,
    /// Whether its bridges may be of several versions.
    pub mixed_versions: bool,
    /// The focus's own region: for participants that name none.
    pub local_region: Option<String>,
    /// Which regions are close to each other.
    pub region_groups: RegionGroups,
    /// Participants of one conference on one bridge, from which another is preferred; none is any number.
    pub max_participants: Option<usize>,
    /// The same for those that were added within a time.
    pub max_recent: Option<(usize, Duration)>,
    /// Corrected stress from which a bridge is overloaded.
    pub stress_threshold: f64,
}

impl Default for SelectionSettings {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            relays: false,
            mixed_versions: false,
            local_region: None,
            region_groups: RegionGroups::default(),
            max_participants: Some(MAX_PARTICIPANTS),
            max_recent: None,
            stress_threshold: STRESS_THRESHOLD,
        }
    }
}

/// A bridge, as far as its choice depends on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub id: &'a str,
    pub region: Option<&'a str>,
    /// Under which name other bridges reach it; none for one without relays.
    pub relay_id: Option<&'a str>,
    pub version: Option<&'a str>,
    /// Reported stress with that of the endpoints added just now.
    pub stress: f64,
    pub operational: bool,
    pub shutting_down: bool,
    pub graceful_shutdown: bool,
    pub draining: bool,
    /// It had no room lately.
    pub full: bool,
    /// Clients do not reach it.
    pub unreached: bool,
}

/// A bridge that the conference is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Present<'a> {
    pub bridge: &'a str,
    pub participants: usize,
    /// Participants added within the time of [`SelectionSettings::max_recent`].
    pub recent: usize,
}

/// For whom a bridge is chosen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    /// The bridges of its conference, the first one first.
    pub conference: &'a [Present<'a>],
    /// Where it is.
    pub region: Option<&'a str>,
    /// The only version that may be used.
    pub version: Option<&'a str>,
    /// Bridges that its conference left: they serve only where there is no other, the latest one least of all.
    pub avoid: &'a [String],
    /// Bridges that do not reach others of its conference: they do not serve at all.
    pub cut_off: &'a [String],
}

/// The bridge for a participant, of all that are known.
pub(super) fn select<'a>(
    settings: &SelectionSettings,
    bridges: &[Candidate<'a>],
    wanted: &Wanted<'_>,
) -> Option<&'a str> {
    let known = |present: &Present<'_>| bridges.iter().find(|bridge| bridge.id == present.bridge);
    let conference: Vec<&Present<'_>> =
        wanted.conference.iter().filter(|present| known(present).is_some_and(|bridge| bridge.operational)).collect();
    let first = conference.first().and_then(|present| known(present));
    if let Some(first) = first
        && (!settings.relays || settings.strategy == Strategy::Single || first.relay_id.is_none())
    {
        return Some(first.id);
    }
    let version = first.and_then(|first| first.version).filter(|_| !settings.mixed_versions);
    let is_in = |bridge: &Candidate<'_>| conference.iter().any(|present| present.bridge == bridge.id);
    let fits = |bridge: &&Candidate<'a>| {
        bridge.operational
            && !bridge.shutting_down
            && !bridge.full
            && !wanted.cut_off.iter().any(|id| id == bridge.id)
            && (first.is_none() || version.is_none() || bridge.version == version)
            && (wanted.version.is_none() || bridge.version == wanted.version)
            && (first.is_none() || is_in(bridge) || may_join(bridge, &conference, bridges))
    };
    let mut left: Vec<Candidate<'a>> = bridges.iter().filter(fits).copied().collect();
    for avoided in wanted.avoid.iter().rev() {
        if left.iter().any(|bridge| bridge.id != avoided) {
            left.retain(|bridge| bridge.id != avoided);
        }
    }
    // Of each kind only those remain that are better, if there are any.
    for better in [
        (|bridge| !bridge.unreached) as fn(&Candidate<'_>) -> bool,
        |bridge| !bridge.draining,
        |bridge| !bridge.graceful_shutdown,
    ] {
        if left.iter().any(better) {
            left.retain(better);
        }
    }
    left.sort_by(|a, b| a.stress.total_cmp(&b.stress));
    Choice { settings, left: &left, conference: &conference }.by_strategy(wanted.region, first.and_then(|b| b.region))
}

/// Whether a bridge can be linked to those of a conference: under a name that none of them has.
fn may_join(bridge: &Candidate<'_>, conference: &[&Present<'_>], bridges: &[Candidate<'_>]) -> bool {
    let of = |present: &&&Present<'_>| bridges.iter().find(|known| known.id == present.bridge)?.relay_id;
    bridge.relay_id.is_some_and(|id| !conference.iter().any(|present| of(&present) == Some(id)))
}

/// What is left of the bridges, the least loaded one first.
struct Choice<'s, 'a> {
    settings: &'s SelectionSettings,
    left: &'s [Candidate<'a>],
    conference: &'s [&'s Present<'s>],
}

impl<'a> Choice<'_, 'a> {
    fn by_strategy(&self, region: Option<&str>, first_region: Option<&str>) -> Option<&'a str> {
        let begins = self.conference.is_empty();
        match self.settings.strategy {
            // With the first one alone, for one bridge is the answer above.
            Strategy::Single => self.find(|b| is_of(b, region)).or_else(|| self.find(|_| true)),
            Strategy::RegionBased => self.region_based(region),
            Strategy::IntraRegion if begins => {
                self.find(|b| !self.overloaded(b) && is_of(b, region)).or_else(|| self.find(|_| true))
            }
            Strategy::IntraRegion => self.intra_region(first_region),
            Strategy::Split => {
                let fewest = || {
                    let there = self.left.iter().filter_map(|b| Some((self.present(b)?.participants, b.id)));
                    there.min_by_key(|(participants, _)| *participants).map(|(_, id)| id)
                };
                self.find(|b| self.present(b).is_none()).or_else(fewest)
            }
        }
    }

    fn region_based(&self, region: Option<&str>) -> Option<&'a str> {
        let local = self.settings.local_region.as_deref();
        let mut region = region.or(local);
        if let (Some(wanted), Some(own)) = (region, local) {
            let near = |b: &Candidate<'_>| self.close(b, Some(wanted));
            // The first one of a conference is probably met by somebody from here.
            let begins = self.conference.is_empty() && self.settings.region_groups.join(wanted, own);
            if begins || !self.left.iter().any(near) {
                region = Some(own);
            }
        }
        let free = |b: &Candidate<'_>| !self.overloaded(b);
        let here = |b: &Candidate<'_>| self.present(b).is_some();
        self.find(|b| free(b) && here(b) && is_of(b, region))
            .or_else(|| self.find(|b| free(b) && here(b) && self.close(b, region)))
            .or_else(|| self.find(|b| free(b) && is_of(b, region)))
            .or_else(|| self.find(|b| free(b) && self.close(b, region)))
            .or_else(|| self.find(|b| free(b) && here(b)))
            .or_else(|| self.find(free))
            .or_else(|| self.find(|b| here(b) && !self.maxed(b)))
            .or_else(|| self.find(|_| true))
    }

    /// Where Jicofo gives up, this one rather crosses regions.
    fn intra_region(&self, region: Option<&str>) -> Option<&'a str> {
        let free = |b: &Candidate<'_>| !self.overloaded(b) && is_of(b, region);
        let here = |b: &Candidate<'_>| self.present(b).is_some();
        self.find(|b| free(b) && here(b))
            .or_else(|| self.find(free))
            .or_else(|| self.find(|b| here(b) && is_of(b, region)))
            .or_else(|| self.find(here))
            .or_else(|| self.find(|_| true))
    }

    fn find(&self, fits: impl Fn(&Candidate<'_>) -> bool) -> Option<&'a str> {
        self.left.iter().find(|bridge| fits(bridge)).map(|bridge| bridge.id)
    }

    fn present(&self, bridge: &Candidate<'_>) -> Option<&Present<'_>> {
        self.conference.iter().find(|present| present.bridge == bridge.id).copied()
    }

    fn close(&self, bridge: &Candidate<'_>, region: Option<&str>) -> bool {
        let groups = &self.settings.region_groups;
        region.zip(bridge.region).is_some_and(|(wanted, its)| groups.join(wanted, its))
    }

    fn maxed(&self, bridge: &Candidate<'_>) -> bool {
        let participants = self.present(bridge).map_or(0, |present| present.participants);
        self.settings.max_participants.is_some_and(|most| participants >= most)
    }

    /// For this conference.
    fn overloaded(&self, bridge: &Candidate<'_>) -> bool {
        let recent = self.present(bridge).map_or(0, |present| present.recent);
        bridge.unreached
            || bridge.stress >= self.settings.stress_threshold
            || self.maxed(bridge)
            || self.settings.max_recent.is_some_and(|(most, _)| recent >= most)
    }
}

fn is_of(bridge: &Candidate<'_>, region: Option<&str>) -> bool {
    region.is_some() && bridge.region == region
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(id: &'static str, region: &'static str, stress: f64) -> Candidate<'static> {
        Candidate {
            id,
            region: Some(region).filter(|region| !region.is_empty()),
            relay_id: Some(id),
            version: Some("2.3"),
            stress,
            operational: true,
            shutting_down: false,
            graceful_shutdown: false,
            draining: false,
            full: false,
            unreached: false,
        }
    }

    fn settings(strategy: Strategy) -> SelectionSettings {
        SelectionSettings {
            strategy,
            relays: true,
            local_region: Some("eu-west".to_owned()),
            region_groups: "us-east us-west, eu-west+eu-north".parse().expect("groups"),
            ..SelectionSettings::default()
        }
    }

    /// The conference: bridges and their participants.
    fn on(present: &[(&'static str, usize)]) -> Vec<Present<'static>> {
        present
            .iter()
            .map(|(bridge, participants)| Present { bridge, participants: *participants, recent: 0 })
            .collect()
    }

    fn chosen(
        settings: &SelectionSettings,
        bridges: &[Candidate<'static>],
        conference: &[Present<'static>],
        region: &str,
    ) -> &'static str {
        let region = Some(region).filter(|region| !region.is_empty());
        select(settings, bridges, &Wanted { conference, region, ..Wanted::default() }).unwrap_or("none")
    }

    #[test]
    fn by_region_and_its_group() {
        let world = [
            bridge("eu1", "eu-west", 0.3),
            bridge("eu2", "eu-west", 0.2),
            bridge("north", "eu-north", 0.1),
            bridge("us", "us-east", 0.0),
            bridge("far", "ap-south", 0.9),
        ];
        let settings = settings(Strategy::RegionBased);
        for (conference, region, expected, why) in [
            (&[] as &[(&str, usize)], "eu-west", "eu2", "the least loaded one of the region"),
            (&[], "eu-north", "eu2", "the first one: the local region of the same group"),
            (&[], "us-east", "us", "the local region is not in that group"),
            (&[], "us-west", "us", "no bridge of the region, one of its group"),
            (&[], "", "eu2", "no region is the local one"),
            (&[], "mars", "eu2", "no bridge anywhere near: the local region"),
            (&[("eu1", 3)], "eu-west", "eu1", "already there, though more loaded"),
            (&[("eu1", 3)], "eu-north", "eu1", "already there, in its group"),
            (&[("north", 3)], "eu-west", "north", "the same the other way round"),
            (&[("eu1", 3)], "us-west", "us", "a second continent"),
            (&[("us", 3)], "ap-south", "us", "its only bridge is overloaded: not a third place"),
            (&[("eu1", 80)], "eu-west", "eu2", "that one has its most participants"),
            (&[("eu1", 80), ("eu2", 80)], "eu-west", "north", "so has the other"),
            (&[("eu1", 3), ("eu2", 1)], "eu-west", "eu2", "the less loaded of two"),
        ] {
            assert_eq!(chosen(&settings, &world, &on(conference), region), expected, "{conference:?} {region}: {why}");
        }
        let loaded = |stress: [f64; 3]| {
            [bridge("a", "eu-west", stress[0]), bridge("b", "eu-west", stress[1]), bridge("c", "us-east", stress[2])]
        };
        for (stress, conference, expected) in [
            ([0.9, 0.7, 0.1], &[("a", 1usize)] as &[_], "b"),
            ([0.9, 0.8, 0.1], &[("a", 1)], "c"),
            ([0.9, 0.8, 0.9], &[("a", 1)], "a"),
            ([0.9, 0.8, 0.95], &[("a", 80)], "b"),
            ([0.9, 0.8, 0.95], &[], "b"),
        ] {
            assert_eq!(chosen(&settings, &loaded(stress), &on(conference), "eu-west"), expected, "{stress:?}");
        }
        // Without a region of our own, those that name none are anywhere.
        let nowhere = SelectionSettings { local_region: None, ..settings };
        assert_eq!(chosen(&nowhere, &world, &[], ""), "us");
        assert_eq!(chosen(&nowhere, &world, &[], "mars"), "us");
    }

    #[test]
    fn in_the_region_of_the_first() {
        let settings = settings(Strategy::IntraRegion);
        let world =
            |a: f64, b: f64| [bridge("a", "eu-west", a), bridge("b", "eu-west", b), bridge("c", "us-east", 0.0)];
        for (loads, conference, region, expected) in [
            ((0.5, 0.4), &[] as &[_], "eu-west", "b"),
            ((0.9, 0.8), &[], "eu-west", "c"),
            ((0.5, 0.4), &[("a", 1)], "us-east", "a"),
            ((0.8, 0.4), &[("a", 1)], "us-east", "b"),
            ((0.9, 0.8), &[("a", 1)], "us-east", "a"),
            ((0.1, 0.1), &[("a", 80), ("b", 2)], "", "b"),
        ] {
            assert_eq!(chosen(&settings, &world(loads.0, loads.1), &on(conference), region), expected, "{loads:?}");
        }
    }

    #[test]
    fn as_many_as_there_are() {
        let settings = settings(Strategy::Split);
        let world = [bridge("a", "", 0.5), bridge("b", "", 0.4), bridge("c", "", 0.6)];
        for (conference, expected) in [
            (&[] as &[_], "b"),
            (&[("b", 1)], "a"),
            (&[("b", 1), ("a", 1)], "c"),
            (&[("b", 2), ("a", 1), ("c", 2)], "a"),
        ] {
            assert_eq!(chosen(&settings, &world, &on(conference), ""), expected, "{conference:?}");
        }
    }

    #[test]
    fn one_bridge_for_ever() {
        let world = [bridge("a", "eu-west", 0.9), bridge("b", "us-east", 0.1)];
        let single = settings(Strategy::Single);
        assert_eq!(chosen(&single, &world, &[], "eu-west"), "a");
        assert_eq!(chosen(&single, &world, &[], "mars"), "b");
        assert_eq!(chosen(&single, &world, &[], ""), "b", "the local region is for strategies by region");
        for settings in [
            single,
            SelectionSettings { relays: false, ..settings(Strategy::RegionBased) },
            SelectionSettings { relays: false, ..settings(Strategy::Split) },
        ] {
            assert_eq!(chosen(&settings, &world, &on(&[("a", 500)]), "us-east"), "a", "{settings:?}");
        }
    }

    #[test]
    fn a_bridge_without_a_relay_keeps_its_conference_and_joins_none() {
        let alone = |id| Candidate { relay_id: None, ..bridge(id, "eu-west", 0.5) };
        let world = [alone("a"), bridge("b", "eu-west", 0.6), alone("c"), bridge("d", "eu-west", 0.7)];
        let settings = settings(Strategy::Split);
        assert_eq!(chosen(&settings, &world, &on(&[("a", 1)]), ""), "a");
        assert_eq!(chosen(&settings, &world, &on(&[("b", 1)]), ""), "d");
        assert_eq!(chosen(&settings, &world, &on(&[("b", 2), ("d", 1)]), ""), "d");
        // Two of one name cannot be distinguished.
        let twin = Candidate { relay_id: Some("b"), ..bridge("e", "eu-west", 0.0) };
        assert_eq!(chosen(&settings, &[world[1], twin], &on(&[("b", 1)]), ""), "b");
    }

    #[test]
    fn versions_are_not_mixed_unless_allowed() {
        let other = |id, stress| Candidate { version: Some("2.4"), ..bridge(id, "eu-west", stress) };
        let world = [bridge("a", "eu-west", 0.9), other("b", 0.1), bridge("c", "us-east", 0.95)];
        let strict = settings(Strategy::RegionBased);
        assert_eq!(chosen(&strict, &world, &[], "eu-west"), "b");
        assert_eq!(chosen(&strict, &world, &on(&[("a", 1)]), "eu-west"), "a");
        assert_eq!(chosen(&settings(Strategy::Split), &world, &on(&[("a", 1)]), ""), "c");
        let mixed = SelectionSettings { mixed_versions: true, ..strict.clone() };
        assert_eq!(chosen(&mixed, &world, &on(&[("a", 1)]), "eu-west"), "b");
        let pinned = |version| select(&strict, &world, &Wanted { version: Some(version), ..Wanted::default() });
        assert_eq!([pinned("2.3"), pinned("2.4"), pinned("1.0")], [Some("a"), Some("b"), None]);
    }

    #[test]
    fn the_order_of_who_is_about_to_go() {
        let calm = bridge("calm", "eu-west", 0.5);
        for odd in [
            Candidate { draining: true, stress: 0.0, ..bridge("odd", "eu-west", 0.0) },
            Candidate { graceful_shutdown: true, ..bridge("odd", "eu-west", 0.0) },
            Candidate { unreached: true, ..bridge("odd", "eu-west", 0.0) },
        ] {
            for strategy in [Strategy::Single, Strategy::RegionBased, Strategy::IntraRegion, Strategy::Split] {
                let settings = settings(strategy);
                assert_eq!(chosen(&settings, &[odd, calm], &[], "eu-west"), "calm", "{strategy:?} {odd:?}");
                assert_eq!(chosen(&settings, &[odd], &[], "eu-west"), "odd", "better than none");
                if strategy != Strategy::Single {
                    // A conference that is on it goes elsewhere with its next participant.
                    assert_eq!(chosen(&settings, &[odd, calm], &on(&[("odd", 1)]), "eu-west"), "calm", "{strategy:?}");
                }
            }
        }
        for never in [
            Candidate { operational: false, ..bridge("odd", "eu-west", 0.0) },
            Candidate { shutting_down: true, ..bridge("odd", "eu-west", 0.0) },
            Candidate { full: true, ..bridge("odd", "eu-west", 0.0) },
        ] {
            assert_eq!(chosen(&settings(Strategy::Split), &[never], &[], ""), "none", "{never:?}");
            assert_eq!(chosen(&settings(Strategy::Split), &[never, calm], &[], ""), "calm");
        }
        let draining = Candidate { draining: true, ..bridge("draining", "", 0.0) };
        let leaving = Candidate { graceful_shutdown: true, ..bridge("leaving", "", 0.0) };
        let unreached = Candidate { unreached: true, ..bridge("unreached", "", 0.0) };
        assert_eq!(chosen(&settings(Strategy::Single), &[draining, leaving, unreached], &[], ""), "leaving");
        assert_eq!(chosen(&settings(Strategy::Single), &[draining, unreached], &[], ""), "draining");
    }

    #[test]
    fn a_burst_goes_to_several() {
        let settings =
            SelectionSettings { max_recent: Some((30, Duration::from_secs(60))), ..settings(Strategy::RegionBased) };
        let world = [bridge("a", "eu-west", 0.1), bridge("b", "eu-west", 0.2)];
        let with = |recent| [Present { bridge: "a", participants: 40, recent }];
        assert_eq!(chosen(&settings, &world, &with(29), "eu-west"), "a");
        assert_eq!(chosen(&settings, &world, &with(30), "eu-west"), "b");
        let unlimited = SelectionSettings { max_participants: None, max_recent: None, ..settings };
        assert_eq!(chosen(&unlimited, &world, &on(&[("a", 5_000)]), "eu-west"), "a");
    }

    #[test]
    fn words_of_the_settings() {
        for (text, strategy) in [
            ("single", Strategy::Single),
            ("SingleBridgeSelectionStrategy", Strategy::Single),
            ("RegionBasedBridgeSelectionStrategy", Strategy::RegionBased),
            ("org.jitsi.jicofo.bridge.IntraRegionBridgeSelectionStrategy", Strategy::IntraRegion),
            ("split", Strategy::Split),
        ] {
            assert_eq!(text.parse(), Ok(strategy), "{text}");
        }
        assert!("VisitorSelectionStrategy".parse::<Strategy>().is_err() && "".parse::<Strategy>().is_err());
        let groups: RegionGroups = " a b ,, c+d  e,a c".parse().expect("groups");
        assert!(groups.join("c", "a") && groups.join("b", "a") && groups.join("x", "x"));
        assert!(
            groups.join("a", "c") && !groups.join("a", "b") && !groups.join("c", "e"),
            "the last group of a region counts"
        );
        for text in
            ["a b, c d", "[\"a\", \"b\"],[\"c\", \"d\"]", "[ [a, b], [c, d] ]", "['a','b'], ['c','d'],", "a+b,c+d"]
        {
            assert_eq!(text.parse(), "a b, c d".parse::<RegionGroups>(), "{text}");
        }
        for text in ["{a}", "[a] b, [c", "a]"] {
            assert!(text.parse::<RegionGroups>().is_err(), "{text}");
        }
        for strategy in [Strategy::Single, Strategy::RegionBased, Strategy::IntraRegion, Strategy::Split] {
            assert_eq!(strategy.word().parse(), Ok(strategy));
        }
    }
}
