//! The sources of one conference: who publishes what, whether that is acceptable, and what is signalled to others
//! (docs/protocol/focus.md 5.4 to 5.7).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::colibri::elements as c2;
use crate::colibri::names;
use crate::focus::limits::{IMPLAUSIBLE, MAX_NAME};
use crate::focus::settings::SourceLimits;
use crate::jingle::{OwnedGroup, OwnedSource, SourceSet};

/// Msids remembered per participant at most.
const MAX_WITHDRAWN: usize = 200;

/// Why sources are refused; the text goes to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// An SSRC of zero.
    #[error("SSRC 0 is not allowed")]
    ZeroSsrc,
    /// An SSRC that somebody has.
    #[error("SSRC {0} is already used in this conference")]
    SsrcTaken(u32),
    /// An msid that somebody else has.
    #[error("msid {0:?} is already used by another participant")]
    MsidTaken(String),
    /// Too many.
    #[error("more than {} sources or {} groups", .0.ssrcs, .0.groups)]
    TooMany(SourceLimits),
    /// A name or msid that is too long.
    #[error("a name or msid of {0} bytes is too long, 256 are the most")]
    TooLong(usize),
    /// An msid by which clients know the bridge's own sources.
    #[error("msid {0:?} is that of the bridge")]
    BridgeMsid(String),
    /// A group that names an SSRC twice.
    #[error("a group names SSRC {0} twice")]
    TwiceInGroup(u32),
    /// A group names an SSRC without a source.
    #[error("a group names SSRC {0}, which has no source")]
    UnknownInGroup(u32),
    /// A FID group that is no pair.
    #[error("a FID group needs exactly two SSRCs, not {0}")]
    BadFid(usize),
    /// Two sources of a kind that do not belong together have one msid.
    #[error("msid {0:?} is used by two sources of the same kind that are in no common group")]
    MsidConflict(String),
    /// Grouped sources differ in their msid, or have none.
    #[error("the sources of a group need one and the same msid")]
    GroupMsid,
    /// Something to be removed is not there.
    #[error("SSRC {0} is not a source of this participant")]
    NotThere(u32),
}

/// Everybody's sources.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct ConferenceSources {
    #[serde(skip)]
    limits: SourceLimits,
    by_owner: BTreeMap<String, SourceSet>,
    /// The SSRCs in `by_owner`: to look through everybody's for each of a newcomer's would cost as much as there are.
    ssrcs: BTreeSet<u32>,
    /// Whose each stream is, by [`stream_of`], and how many of the owner's sources are in it.
    streams: BTreeMap<String, (String, usize)>,
    /// Owners of whom something else is shown since this was asked last.
    changed: BTreeSet<String>,
    /// What is signalled to others of each; every member has these very sets, not copies.
    #[serde(with = "crate::carried::shared_table")]
    shown: BTreeMap<String, Arc<SourceSet>>,
    reserved: BTreeSet<u32>,
    /// By owner: msids that it announced and took back, and how often.
    withdrawn: BTreeMap<String, BTreeMap<String, u32>>,
    /// Names that were not their owner's, so far.
    renamed: u64,
}

/// What an msid must not have in common with anybody else's: its stream, or all of it where `-` says that there is none (RFC 8830
/// section 2). Receivers keep sound and picture of a stream in step: a stranger's sound must not set the pace of somebody's picture.
fn stream_of(msid: &str) -> &str {
    msid.split_whitespace().next().filter(|stream| *stream != "-").unwrap_or(msid)
}

/// What an msid is called when it returns. Chromium refuses a second media section with the same msid, even where the
/// first is inactive, so each return gets a name of its own.
fn alias(msid: &str, times_withdrawn: u32) -> String {
    format!("{msid}-again{times_withdrawn}")
}

impl ConferenceSources {
    /// Nobody's yet.
    pub fn new(limits: SourceLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// What one participant may publish.
    pub fn limits(&self) -> SourceLimits {
        self.limits
    }

    /// Whether what is known of all together follows from what is known of each.
    pub fn is_sound(&self) -> bool {
        let mut of_each = Self::default();
        self.by_owner.iter().for_each(|(owner, set)| of_each.index(owner, set));
        let sources: usize = self.by_owner.values().map(|set| set.sources.len()).sum();
        let plausible = self.renamed < IMPLAUSIBLE && sources == self.ssrcs.len();
        plausible && of_each.ssrcs == self.ssrcs && of_each.streams == self.streams
    }

    /// What one participant may publish from now on.
    pub fn set_limits(&mut self, limits: SourceLimits) {
        self.limits = limits;
    }

    /// Adds to an owner's sources, all or nothing, and returns what was added with names filled in.
    pub fn add(&mut self, owner: &str, added: SourceSet) -> Result<SourceSet, SourceError> {
        let mut added = added;
        if added.sources.len() > self.limits.ssrcs || added.groups.len() > self.limits.groups {
            return Err(SourceError::TooMany(self.limits));
        }
        for source in &mut added.sources {
            let longest = [&source.name, &source.msid].into_iter().flatten().map(String::len).max().unwrap_or(0);
            if longest > MAX_NAME {
                return Err(SourceError::TooLong(longest));
            }
            if let Some(msid) = source.msid.as_ref().filter(|msid| msid.contains(BRIDGE_MSID)) {
                return Err(SourceError::BridgeMsid(msid.clone()));
            }
            // Nothing but these has a meaning, and this goes to everybody.
            source.video_type = source.video_type.as_deref().and_then(video_type).map(str::to_owned);
        }
        let mut union = self.by_owner.get(owner).cloned().unwrap_or_default();
        if let Some(withdrawn) = self.withdrawn.get(owner) {
            for msid in added.sources.iter_mut().filter_map(|source| source.msid.as_mut()) {
                if let Some(times) = withdrawn.get(msid) {
                    *msid = alias(msid, *times);
                }
            }
        }
        self.renamed += name_sources(owner, &union, &mut added);
        let mut new = BTreeSet::new();
        for source in &added.sources {
            if source.ssrc == 0 {
                return Err(SourceError::ZeroSsrc);
            }
            if self.ssrcs.contains(&source.ssrc) || self.reserved.contains(&source.ssrc) || !new.insert(source.ssrc) {
                return Err(SourceError::SsrcTaken(source.ssrc));
            }
            if let Some(msid) = source.msid.as_ref()
                && self.streams.get(stream_of(msid)).is_some_and(|(other, _)| other != owner)
            {
                return Err(SourceError::MsidTaken(msid.clone()));
            }
        }
        union.sources.extend(added.sources.iter().cloned());
        added.groups.retain(|group| !union.groups.contains(group));
        union.groups.extend(added.groups.iter().cloned());
        check(&union, self.limits)?;
        self.by_owner.insert(owner.to_owned(), union);
        self.index(owner, &added);
        self.show(owner);
        Ok(added)
    }

    /// Removes from an owner's sources, by SSRC; groups with a removed SSRC go too. Returns what was removed.
    pub fn remove(&mut self, owner: &str, removed: &SourceSet) -> Result<SourceSet, SourceError> {
        let set = self.by_owner.entry(owner.to_owned()).or_default();
        let gone: BTreeSet<u32> = removed.sources.iter().map(|source| source.ssrc).collect();
        if let Some(missing) = gone.iter().find(|ssrc| !set.sources.iter().any(|source| source.ssrc == **ssrc)) {
            return Err(SourceError::NotThere(*missing));
        }
        let (sources, kept) =
            std::mem::take(&mut set.sources).into_iter().partition(|source| gone.contains(&source.ssrc));
        set.sources = kept;
        let touched = |group: &OwnedGroup| group.ssrcs.iter().any(|ssrc| gone.contains(ssrc));
        let (groups, kept) = std::mem::take(&mut set.groups).into_iter().partition(touched);
        set.groups = kept;
        let removed = SourceSet { sources, groups };
        self.unindex(&removed);
        self.note_withdrawn(owner, &removed);
        self.show(owner);
        Ok(removed)
    }

    /// Takes all of an owner's sources away.
    pub fn clear(&mut self, owner: &str) {
        let removed = self.by_owner.remove(owner).unwrap_or_default();
        self.unindex(&removed);
        self.note_withdrawn(owner, &removed);
        self.show(owner);
    }

    /// An owner left the room.
    pub fn forget(&mut self, owner: &str) {
        let removed = self.by_owner.remove(owner).unwrap_or_default();
        self.unindex(&removed);
        self.withdrawn.remove(owner);
        self.show(owner);
    }

    fn index(&mut self, owner: &str, added: &SourceSet) {
        for source in &added.sources {
            self.ssrcs.insert(source.ssrc);
            if let Some(msid) = &source.msid {
                self.streams.entry(stream_of(msid).to_owned()).or_insert_with(|| (owner.to_owned(), 0)).1 += 1;
            }
        }
    }

    fn unindex(&mut self, removed: &SourceSet) {
        for source in &removed.sources {
            self.ssrcs.remove(&source.ssrc);
            let Some(stream) = source.msid.as_deref().map(stream_of) else { continue };
            if let Some((_, count)) = self.streams.get_mut(stream) {
                *count -= 1;
                if *count == 0 {
                    self.streams.remove(stream);
                }
            }
        }
    }

    /// Counts the msids that no source of the owner has any more.
    fn note_withdrawn(&mut self, owner: &str, removed: &SourceSet) {
        let left = self.by_owner.get(owner);
        let kept = |msid: &str| left.is_some_and(|set| set.sources.iter().any(|s| s.msid.as_deref() == Some(msid)));
        let gone: BTreeSet<&str> =
            removed.sources.iter().filter_map(|s| s.msid.as_deref()).filter(|msid| !kept(msid)).collect();
        let withdrawn = self.withdrawn.entry(owner.to_owned()).or_default();
        for msid in gone {
            let original = withdrawn.iter().find(|(original, times)| alias(original, **times) == *msid);
            let msid = original.map_or(msid, |(original, _)| original).to_owned();
            if withdrawn.len() < MAX_WITHDRAWN || withdrawn.contains_key(&msid) {
                *withdrawn.entry(msid).or_default() += 1;
            }
        }
    }

    /// How many sources were given another name since this was asked last.
    pub fn take_renamed(&mut self) -> u64 {
        std::mem::take(&mut self.renamed)
    }

    /// An owner's sources.
    pub fn of(&self, owner: &str) -> SourceSet {
        self.by_owner.get(owner).cloned().unwrap_or_default()
    }

    /// Whether an owner shares a screen.
    pub fn has_screen(&self, owner: &str) -> bool {
        let screen = |source: &OwnedSource| source.video_type.as_deref() == Some("desktop");
        self.by_owner.get(owner).is_some_and(|set| set.sources.iter().any(screen))
    }

    /// The bridge's own SSRCs, which nobody else may use.
    pub fn reserve(&mut self, feedback: &SourceSet) {
        self.reserved = feedback.sources.iter().map(|source| source.ssrc).collect();
    }

    /// What everybody but the owner is to know of each owner's sources: all without simulcast. The same set as before where
    /// nothing changed ([`Arc::ptr_eq`]).
    pub fn shown(&self) -> &BTreeMap<String, Arc<SourceSet>> {
        &self.shown
    }

    /// Whether there are any of whom something else is shown.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The owners of whom something else is shown since this was asked last.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    fn show(&mut self, owner: &str) {
        let shown = self.by_owner.get(owner).map(strip_simulcast).filter(|set| !set.is_empty());
        if shown.as_ref() == self.shown.get(owner).map(Arc::as_ref) {
            return;
        }
        self.changed.insert(owner.to_owned());
        match shown {
            Some(set) => drop(self.shown.insert(owner.to_owned(), Arc::new(set))),
            None => drop(self.shown.remove(owner)),
        }
    }
}

/// Only the media that a receiver supports.
pub fn only(mut set: SourceSet, audio: bool, video: bool) -> SourceSet {
    let keep = |is_video: bool| if is_video { video } else { audio };
    set.sources.retain(|source| keep(source.video));
    set.groups.retain(|group| keep(group.video));
    set
}

fn check(set: &SourceSet, limits: SourceLimits) -> Result<(), SourceError> {
    if set.sources.len() > limits.ssrcs || set.groups.len() > limits.groups {
        return Err(SourceError::TooMany(limits));
    }
    for group in &set.groups {
        if group.ssrcs.len() > limits.ssrcs {
            return Err(SourceError::TooMany(limits));
        }
        if let Some((_, twice)) = group.ssrcs.iter().enumerate().find(|(n, ssrc)| group.ssrcs[..*n].contains(ssrc)) {
            return Err(SourceError::TwiceInGroup(*twice));
        }
        if group.semantics.eq_ignore_ascii_case("FID") && group.ssrcs.len() != 2 {
            return Err(SourceError::BadFid(group.ssrcs.len()));
        }
        let mut msid = None;
        for ssrc in &group.ssrcs {
            let source = set.sources.iter().find(|source| source.ssrc == *ssrc);
            let source = source.ok_or(SourceError::UnknownInGroup(*ssrc))?;
            let own = source.msid.as_ref().ok_or(SourceError::GroupMsid)?;
            if *msid.get_or_insert(own) != own {
                return Err(SourceError::GroupMsid);
            }
        }
    }
    check_msids(set)
}

/// Within one kind of media, every SIM group with its FID groups, every other FID group, and every single source needs an
/// msid of its own.
fn check_msids(set: &SourceSet) -> Result<(), SourceError> {
    let sim = |ssrc: u32| set.groups.iter().position(|g| g.semantics == "SIM" && g.ssrcs.contains(&ssrc));
    let mut owners: BTreeMap<(bool, &str), String> = BTreeMap::new();
    for source in &set.sources {
        let Some(msid) = source.msid.as_deref() else { continue };
        let fid = set.groups.iter().find(|g| g.semantics == "FID" && g.ssrcs.contains(&source.ssrc));
        let primary = fid.and_then(|group| group.ssrcs.first().copied()).unwrap_or(source.ssrc);
        let unit = sim(primary).map_or_else(|| format!("ssrc {primary}"), |index| format!("SIM {index}"));
        if owners.entry((source.video, msid)).or_insert_with(|| unit.clone()) != &unit {
            return Err(SourceError::MsidConflict(msid.to_owned()));
        }
    }
    Ok(())
}

/// Part of the msid by which clients know the bridge's own sources, and that they treat as no participant's.
const BRIDGE_MSID: &str = "mixedmslabel";

fn video_type(text: &str) -> Option<&'static str> {
    ["camera", "desktop"].into_iter().find(|known| text.eq_ignore_ascii_case(known))
}

/// Gives nameless sources the name that Jitsi Videobridge would assume, `<owner>-a0` or `-v0`: one name per msid, and
/// the next free number for another msid of the same kind. So do sources whose name is not their owner's, or is that of
/// another of its sources; returns how many.
fn name_sources(owner: &str, present: &SourceSet, added: &mut SourceSet) -> u64 {
    type Kind = (bool, Option<String>);
    let kind = |source: &OwnedSource| (source.video, source.msid.clone());
    let mut meaning: BTreeMap<String, Kind> = BTreeMap::new();
    let named = present.sources.iter().filter_map(|source| Some((source.name.clone()?, kind(source))));
    meaning.extend(named);
    let mut renamed = 0;
    for source in &mut added.sources {
        let Some(name) = &source.name else { continue };
        let kind = kind(source);
        let owned = names::belongs_to(name, owner);
        if !owned || *meaning.entry(name.clone()).or_insert_with(|| kind.clone()) != kind {
            renamed += 1;
            source.name = None;
        }
    }
    let mut of_kind: BTreeMap<Kind, String> = meaning.iter().map(|(name, kind)| (kind.clone(), name.clone())).collect();
    for source in added.sources.iter_mut().filter(|source| source.name.is_none()) {
        let kind = kind(source);
        let name = of_kind.entry(kind.clone()).or_insert_with(|| {
            let free = names::next_free(owner, source.video, |name| meaning.contains_key(name));
            meaning.insert(free.clone(), kind);
            free
        });
        source.name = Some(name.clone());
    }
    renamed
}

/// Of each SIM group only the first SSRC stays, with its FID partner.
pub fn strip_simulcast(set: &SourceSet) -> SourceSet {
    let is_sim = |group: &&OwnedGroup| group.semantics.eq_ignore_ascii_case("SIM");
    let upper: BTreeSet<u32> =
        set.groups.iter().filter(is_sim).flat_map(|group| group.ssrcs.iter().skip(1).copied()).collect();
    let partners: BTreeSet<u32> = set
        .groups
        .iter()
        .filter(|group| !is_sim(group) && group.ssrcs.first().is_some_and(|first| upper.contains(first)))
        .flat_map(|group| group.ssrcs.iter().skip(1).copied())
        .collect();
    let hidden = |ssrc: &u32| upper.contains(ssrc) || partners.contains(ssrc);
    SourceSet {
        sources: set.sources.iter().filter(|source| !hidden(&source.ssrc)).cloned().collect(),
        groups: set.groups.iter().filter(|group| !is_sim(group) && !group.ssrcs.iter().any(hidden)).cloned().collect(),
    }
}

/// What `after` has that `before` has not, and the other way round: to add, to remove.
pub fn difference(before: &SourceSet, after: &SourceSet) -> (SourceSet, SourceSet) {
    let minus = |a: &SourceSet, b: &SourceSet| SourceSet {
        sources: a.sources.iter().filter(|s| !b.sources.iter().any(|o| o.ssrc == s.ssrc)).cloned().collect(),
        groups: a.groups.iter().filter(|group| !b.groups.contains(group)).cloned().collect(),
    };
    (minus(after, before), minus(before, after))
}

/// The complete set as colibri2 wants it: one media-source per name, groups with their first SSRC.
pub fn to_colibri(set: &SourceSet) -> c2::Sources {
    let mut media_sources: Vec<c2::MediaSource> = Vec::new();
    let plain = |source: &OwnedSource| c2::Source {
        ssrc: source.ssrc,
        name: source.name.clone(),
        video_type: source.video_type.clone(),
        ..c2::Source::default()
    };
    for source in &set.sources {
        let id = source.name.clone().unwrap_or_default();
        match media_sources.iter_mut().find(|media| media.id == id) {
            Some(media) => media.sources.push(plain(source)),
            None => media_sources.push(c2::MediaSource {
                media_type: if source.video { c2::MediaType::Video } else { c2::MediaType::Audio },
                id,
                synthetic: false,
                sources: vec![plain(source)],
                ssrc_groups: Vec::new(),
            }),
        }
    }
    for group in &set.groups {
        let first = group.ssrcs.first().copied().unwrap_or_default();
        let home = media_sources.iter_mut().find(|media| media.sources.iter().any(|source| source.ssrc == first));
        if let Some(media) = home {
            media.ssrc_groups.push(c2::SsrcGroup {
                semantics: group.semantics.clone(),
                sources: group.ssrcs.iter().map(|ssrc| c2::Source { ssrc: *ssrc, ..c2::Source::default() }).collect(),
            });
        }
    }
    c2::Sources { media_sources }
}

/// The sources of others that a member is to know from us. With SSRC rewriting the bridge signals them.
pub(super) fn known_to(
    sources: &ConferenceSources,
    nick: &str,
    ssrc_rewriting: bool,
) -> BTreeMap<String, Arc<SourceSet>> {
    match ssrc_rewriting {
        true => BTreeMap::new(),
        false => sources
            .shown()
            .iter()
            .filter(|(owner, _)| *owner != nick)
            .map(|(o, s)| (o.clone(), Arc::clone(s)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(ssrc: u32, msid: &str) -> OwnedSource {
        OwnedSource { ssrc, name: None, msid: Some(msid.to_owned()), video_type: None, video: true }
    }

    fn group(semantics: &str, ssrcs: &[u32]) -> OwnedGroup {
        OwnedGroup { semantics: semantics.to_owned(), ssrcs: ssrcs.to_vec(), video: true }
    }

    fn simulcast() -> SourceSet {
        SourceSet {
            sources: (1..=6).map(|ssrc| source(ssrc, "a-video m")).collect(),
            groups: vec![group("SIM", &[1, 2, 3]), group("FID", &[1, 4]), group("FID", &[2, 5]), group("FID", &[3, 6])],
        }
    }

    #[test]
    fn a_withdrawn_msid_returns_under_another_name() {
        let mut sources = ConferenceSources::default();
        let one = |ssrc| SourceSet { sources: vec![source(ssrc, "s t")], groups: Vec::new() };
        let msid = |set: SourceSet| set.sources[0].msid.clone();
        assert_eq!(msid(sources.add("a", one(1)).expect("valid")).as_deref(), Some("s t"));
        for alias in ["s t-again1", "s t-again2"] {
            sources.remove("a", &one(1)).expect("known by its SSRC");
            assert_eq!(msid(sources.add("a", one(1)).expect("valid")).as_deref(), Some(alias));
        }
        sources.clear("a");
        assert_eq!(msid(sources.add("a", one(1)).expect("valid")).as_deref(), Some("s t-again3"));
        sources.forget("a");
        assert_eq!(msid(sources.add("a", one(1)).expect("valid")).as_deref(), Some("s t"));
    }

    #[test]
    fn receivers_learn_one_encoding_and_the_bridge_all() {
        let mut sources = ConferenceSources::default();
        let added = sources.add("a", simulcast()).expect("valid");
        assert!(added.sources.iter().all(|source| source.name.as_deref() == Some("a-v0")));
        let told = &sources.shown()["a"];
        assert_eq!(told.sources.iter().map(|source| source.ssrc).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(told.groups, [group("FID", &[1, 4])]);
        assert!(only((**told).clone(), true, false).is_empty(), "no video for who has none");
        let colibri = to_colibri(&sources.of("a"));
        assert_eq!(colibri.media_sources.len(), 1);
        assert_eq!(colibri.media_sources[0].sources.len(), 6);
        assert_eq!(colibri.media_sources[0].ssrc_groups.len(), 4);
    }

    #[test]
    fn bad_sources_are_refused_whole() {
        let mut sources = ConferenceSources::default();
        sources.add("a", simulcast()).expect("valid");
        let one = |ssrc, msid: &str| SourceSet { sources: vec![source(ssrc, msid)], groups: vec![] };
        assert_eq!(sources.add("b", one(0, "x")), Err(SourceError::ZeroSsrc));
        assert_eq!(sources.add("b", one(1, "x")), Err(SourceError::SsrcTaken(1)));
        assert_eq!(sources.add("a", one(1, "a-video m")), Err(SourceError::SsrcTaken(1)));
        assert_eq!(sources.add("b", one(9, "a-video m")), Err(SourceError::MsidTaken("a-video m".into())));
        let stream = SourceError::MsidTaken("a-video other".into());
        assert_eq!(sources.add("b", one(1_000, "a-video other")), Err(stream));
        let share = |one: &str, other: &str| stream_of(one) == stream_of(other);
        assert!(share("s a", "s  b") && !share("- one", "- two") && !share("sa", "s a") && share("- one", "- one"));
        let with = |groups| SourceSet { sources: vec![source(9, "x"), source(10, "y")], groups };
        assert_eq!(sources.add("b", with(vec![group("FID", &[9, 11])])), Err(SourceError::UnknownInGroup(11)));
        assert_eq!(sources.add("b", with(vec![group("FID", &[9])])), Err(SourceError::BadFid(1)));
        assert_eq!(sources.add("b", with(vec![group("FID", &[9, 10])])), Err(SourceError::GroupMsid));
        let many = SourceSet { sources: (100..121).map(|ssrc| source(ssrc, "z")).collect(), groups: vec![] };
        assert_eq!(sources.add("b", many), Err(SourceError::TooMany(SourceLimits::default())));
        let twins = SourceSet { sources: vec![source(9, "x"), source(10, "x")], groups: vec![] };
        assert_eq!(sources.add("b", twins), Err(SourceError::MsidConflict("x".into())));
        sources.reserve(&one(77, "mixedmslabel"));
        assert_eq!(sources.add("b", one(77, "x")), Err(SourceError::SsrcTaken(77)));
        assert!(sources.of("b").is_empty(), "nothing of all that stayed");
        assert_eq!(sources.remove("b", &one(1, "x")), Err(SourceError::NotThere(1)));
        let removed = sources.remove("a", &one(2, "a-video m")).expect("there");
        assert_eq!(removed.groups.len(), 2, "SIM and its FID go with it");
    }

    #[test]
    fn a_name_is_its_owners_or_is_given() {
        let mut sources = ConferenceSources::default();
        let named = |ssrc, name: &str, msid: &str, video| OwnedSource {
            name: Some(name.to_owned()),
            video,
            ..source(ssrc, msid)
        };
        let mut add = |owner: &str, added: Vec<OwnedSource>| {
            let set = SourceSet { sources: added, groups: vec![] };
            let added = sources.add(owner, set).expect("taken, under another name");
            added.sources.into_iter().filter_map(|source| source.name).collect::<Vec<_>>()
        };
        assert_eq!(add("mallory", vec![named(1, "bob-v0", "a", true)]), ["mallory-v0"], "before bob has it");
        assert_eq!(add("bob", vec![named(2, "bob-v0", "b", true)]), ["bob-v0"]);
        assert_eq!(add("mallory", vec![named(3, "bob-a0", "c", false)]), ["mallory-a0"]);
        // Of others' form, the bridge's, of no form, another owner's with our name in it.
        let forms = ["jvb-v0", "bob", "mallory", "mallory-", "-v0", "mallory-v0-v1", "bob-mallory-v0", "Mallory-v9"];
        for (n, name) in forms.into_iter().enumerate() {
            let given = add("mallory", vec![named(10 + n as u32, name, &format!("m{n}"), true)]);
            assert_eq!(given, [format!("mallory-v{}", n + 1)], "{name}");
        }
        // A member called like a name of another one.
        assert_eq!(add("bob-v0", vec![named(40, "bob-v0", "d", true)]), ["bob-v0-v0"]);
        // One name for two sources of one owner, or for audio and video.
        let two = vec![named(50, "eve-v0", "e", true), named(51, "eve-v0", "f", true), named(52, "eve-v0", "e", false)];
        assert_eq!(add("eve", two), ["eve-v0", "eve-v1", "eve-a0"]);
        assert_eq!(sources.take_renamed(), 2 + 8 + 1 + 2);
        let all: Vec<_> =
            ["mallory", "bob", "bob-v0", "eve"].iter().flat_map(|owner| sources.of(owner).sources).collect();
        let unique: BTreeSet<_> = all.iter().filter_map(|source| source.name.as_deref()).collect();
        assert_eq!(unique.len(), all.len());
    }

    #[test]
    fn texts_and_groups_are_bounded() {
        let mut sources = ConferenceSources::default();
        let mut refused = |source: OwnedSource, groups| {
            sources.add("a", SourceSet { sources: vec![source], groups }).expect_err("refused")
        };
        let long = |n| "x".repeat(n);
        assert_eq!(refused(source(1, &long(257)), vec![]), SourceError::TooLong(257));
        let named = |name: String| OwnedSource { name: Some(name), ..source(1, "m") };
        assert_eq!(refused(named(long(40_000)), vec![]), SourceError::TooLong(40_000));
        let bridge = "x mixedmslabel y";
        assert_eq!(refused(source(1, bridge), vec![]), SourceError::BridgeMsid(bridge.into()));
        assert_eq!(refused(source(1, "m"), vec![group("SIM", &[1, 1])]), SourceError::TwiceInGroup(1));
        assert_eq!(refused(source(1, "m"), vec![group("FID", &[1, 1])]), SourceError::TwiceInGroup(1));
        assert_eq!(
            refused(source(1, "m"), vec![group("SIM", &[1; 21])]),
            SourceError::TooMany(SourceLimits::default())
        );
        let many = (0..21).map(|n| group("SIM", &[1, n + 2])).collect();
        assert_eq!(refused(source(1, "m"), many), SourceError::TooMany(SourceLimits::default()));
        let odd = |kind: &str| OwnedSource { video_type: Some(kind.to_owned()), ..source(2, "m") };
        let mut kind = |text: &str| {
            let set = SourceSet { sources: vec![odd(text)], groups: vec![] };
            let added = sources.add("b", set).expect("fine");
            sources.clear("b");
            added.sources[0].video_type.clone()
        };
        assert_eq!(kind("DESKTOP").as_deref(), Some("desktop"));
        assert_eq!(kind(&long(10_000)), None);
    }

    #[test]
    fn names_are_filled_in_once_per_msid() {
        let mut sources = ConferenceSources::default();
        sources.add("a", simulcast()).expect("valid");
        let screen = SourceSet { sources: vec![source(20, "screen s")], groups: vec![] };
        let added = sources.add("a", screen).expect("valid");
        assert_eq!(added.sources[0].name.as_deref(), Some("a-v1"), "v0 is the camera");
    }

    /// What is looked up is what a look through everybody's sources would find.
    fn is_indexed(sources: &ConferenceSources) {
        let all = || sources.by_owner.iter().flat_map(|(owner, set)| set.sources.iter().map(move |s| (owner, s)));
        assert_eq!(sources.ssrcs, all().map(|(_, source)| source.ssrc).collect());
        let mut streams: BTreeMap<String, (String, usize)> = BTreeMap::new();
        for (owner, source) in all() {
            let Some(msid) = &source.msid else { continue };
            streams.entry(stream_of(msid).to_owned()).or_insert_with(|| (owner.clone(), 0)).1 += 1;
        }
        assert_eq!(sources.streams, streams);
    }

    proptest! {
        #[test]
        fn whatever_is_added_and_removed_is_found_again(
            steps in proptest::collection::vec((0..3usize, 0..4u8, 1u32..12, 0..4usize), 0..60),
        ) {
            let mut sources = ConferenceSources::default();
            for (owner, step, ssrc, msid) in steps {
                let owner = ["a", "b", "c"][owner];
                let set = SourceSet { sources: vec![source(ssrc, ["s t", "s u", "- t", "-"][msid])], groups: Vec::new() };
                match step {
                    0 | 1 => drop(sources.add(owner, set)),
                    2 => drop(sources.remove(owner, &set)),
                    _ if ssrc % 2 == 0 => sources.clear(owner),
                    _ => sources.forget(owner),
                }
                is_indexed(&sources);
            }
        }

        #[test]
        fn a_difference_leads_from_one_to_the_other(
            before in proptest::collection::btree_set(1u32..30, 0..12),
            after in proptest::collection::btree_set(1u32..30, 0..12),
        ) {
            let set = |ssrcs: &BTreeSet<u32>| SourceSet {
                sources: ssrcs.iter().map(|ssrc| source(*ssrc, "m")).collect(),
                groups: vec![],
            };
            let (add, remove) = difference(&set(&before), &set(&after));
            let mut result: BTreeSet<u32> = before.clone();
            for source in &remove.sources {
                prop_assert!(result.remove(&source.ssrc));
            }
            for source in &add.sources {
                prop_assert!(result.insert(source.ssrc));
            }
            prop_assert_eq!(result, after);
        }
    }
}
