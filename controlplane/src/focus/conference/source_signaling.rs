//! How members learn of each other's sources, and that media waits for it.
//!
//! A client may be deaf to an SSRC whose packets come before that is signalled: Firefox takes them for a stream that it knows,
//! and has no stream for the source ever after. Our own bridge therefore holds a source back from each client until that
//! acknowledged the signalling, and had a moment to do it. The acknowledgement comes before the client's session is
//! described anew; how long it takes says how busy the client is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::member::{Member, Stage};
use super::sources::{ConferenceSources, difference, only};
use super::state::Conference;
use crate::colibri::elements::{Endpoint, Unsignalled, UnsignalledSource};
use crate::focus::context::Context;
use crate::focus::features::Features;
use crate::focus::limits::{MAX_HOLD, Refused};
use crate::focus::requests::Question;
use crate::jingle::{Jingle, OwnedSource, SourceSet, json_sources, xml_sources};

/// Larger conferences are not held back: their clients have SSRCs that are rewritten, which the bridge signals.
const MEMBERS: usize = 100;

/// After the acknowledgement a client gets this, and twice the time that the acknowledgement took, before it gets sound, and a Firefox before
/// it gets the first picture of anybody: with a single place for video it takes whatever comes for that. All other pictures are let go at
/// once: each begins with a keyframe, which has to be asked for, and takes a moment of its own.
const LEAST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_millis(1_500);
/// Ends of waits that are this close go to the bridge in one request.
const TOGETHER: Duration = Duration::from_millis(40);

impl Conference {
    /// Has the bridge hold back, from each member, those sources of one that it does not know; and from that one, where its
    /// session just began, what its offer did not say. Before the bridge knows of them.
    pub(super) fn hold_unsignaled(&mut self, cx: &mut Context<'_>, owner: &str) {
        if self.members.len() > MEMBERS {
            return;
        }
        let nodes = &self.nodes;
        let until = cx.now + MAX_HOLD + cx.settings.sources.delays.of(self.members.len());
        let shown = self.sources.shown();
        let set = shown.get(owner);
        let mut changed = Vec::new();
        for (nick, member) in &mut self.members {
            if member.stage() != Stage::Active || member.ssrc_rewriting() || !nodes.on_own_bridge(&cx.bridges, nick) {
                continue;
            }
            let before = member.held().len();
            if nick == owner && member.is_behind() {
                for (other, set) in shown.iter().filter(|(other, _)| *other != nick) {
                    hold_new(member, other, set, until);
                }
            } else if let Some(set) = set.filter(|_| nick != owner) {
                hold_new(member, owner, set, until);
            }
            if member.held().len() != before {
                changed.push(unsignalled(nick, member));
            }
        }
        self.update_hold_due();
        self.send_held(cx, changed);
    }

    /// A member acknowledged, or refused, what was signalled at that time: names of sources, and whether they are video.
    pub(in super::super) fn sources_known(
        &mut self,
        cx: &mut Context<'_>,
        nick: &str,
        sid: &str,
        (names, at): (Vec<(String, bool)>, Instant),
    ) {
        let Some(member) = self.members.get_mut(nick).filter(|member| member.sid() == sid) else { return };
        let moment = (LEAST + 2 * cx.now.saturating_duration_since(at)).min(MOST);
        let pictures_wait = member.is_firefox() && !member.has_video_of_others();
        for (name, video) in names {
            member.source_signalled(&name, if video && !pictures_wait { cx.now } else { cx.now + moment });
        }
        self.update_hold_due();
    }

    /// Media may go where a wait is over.
    pub(super) fn release_held(&mut self, cx: &mut Context<'_>) {
        let mut changed = Vec::new();
        for (nick, member) in &mut self.members {
            if member.release(cx.now + TOGETHER) && member.has_endpoint() {
                changed.push(unsignalled(nick, member));
            }
        }
        self.update_hold_due();
        changed.retain(|endpoint| self.nodes.on_own_bridge(&cx.bridges, &endpoint.id));
        self.send_held(cx, changed);
    }

    fn send_held(&mut self, cx: &mut Context<'_>, endpoints: Vec<Endpoint>) {
        for (session, endpoints) in self.by_session(endpoints) {
            let Some(nick) = endpoints.first().map(|endpoint| endpoint.id.clone()) else { continue };
            self.update_session(cx, &session, &nick, endpoints);
        }
    }

    /// Signals to every member with a running session what changed for it since the last update: now, or together with what changes
    /// until then. How long that is follows from the size of the room by the operator's table; and where much changes, from how
    /// many stanzas a room may cause.
    pub(super) fn signal_sources(&mut self, cx: &mut Context<'_>) {
        // Visitors come and go without sources: that costs the others no round.
        if !self.sources.has_changed() {
            return;
        }
        let delay = cx.settings.sources.delays.of(self.members.len());
        if !delay.is_zero() {
            self.signal_due.get_or_insert(cx.now + delay);
            return;
        }
        self.signal_round(cx);
    }

    /// The time that changes waited for each other is over.
    pub(super) fn signal_round(&mut self, cx: &mut Context<'_>) {
        if !self.may_signal_sources(cx.now) {
            cx.refused.count(Refused::TellsJoined, 1);
            return;
        }
        let changed: Vec<String> = self.sources.take_changed().into_iter().collect();
        let mut messages = Vec::new();
        for (nick, member) in &mut self.members {
            messages.extend(source_updates(nick, member, &self.sources, &changed));
        }
        self.send_source_updates(cx, messages);
    }

    /// Signals to a member whose session just began what changed since its offer was written, whatever the others wait for.
    pub(super) fn catch_up(&mut self, cx: &mut Context<'_>, nick: &str) {
        let Some(member) = self.members.get_mut(nick).filter(|member| member.is_behind()) else { return };
        let owners = differing(member, &self.sources);
        let messages = source_updates(nick, member, &self.sources, &owners);
        self.send_source_updates(cx, messages);
    }

    fn send_source_updates(&mut self, cx: &mut Context<'_>, messages: Vec<SourceUpdate>) {
        // Who waits for nothing need not be listened to.
        let waits = self.hold_due.is_some();
        for SourceUpdate { nick, jingle, added } in messages {
            let to = self.occupant(&nick);
            if added.is_empty() || !waits {
                cx.notify(&to, jingle.into());
                continue;
            }
            let pending = Question::SourcesSignaled { nick, sid: jingle.sid.clone(), sources: added, at: cx.now };
            self.ask(cx, &to, true, jingle.into(), pending);
        }
    }
}

/// A change of sources for one member: the Jingle request, and the sources that it adds, with whether they are video.
struct SourceUpdate {
    nick: String,
    jingle: Jingle,
    /// Names of the sources that it learns of, and whether they are video.
    added: Vec<(String, bool)>,
}

/// The owners of whose sources a member knows something else than is shown now. Sets are compared by their address.
fn differing(member: &Member, sources: &ConferenceSources) -> Vec<String> {
    let shown = sources.shown();
    let news = shown.iter().filter(|(owner, set)| !member.knows(owner).is_some_and(|before| Arc::ptr_eq(before, set)));
    let gone = member.knows_owners().filter(|owner| !shown.contains_key(*owner));
    news.map(|(owner, _)| owner).chain(gone).cloned().collect()
}

/// What changed of those owners for a member: at most a removal and an addition, in this order.
fn source_updates(
    nick: &str,
    member: &mut Member,
    sources: &ConferenceSources,
    owners: &[String],
) -> Vec<SourceUpdate> {
    if member.stage() != Stage::Active || member.ssrc_rewriting() {
        return Vec::new();
    }
    member.catches_up();
    let features = member.features().unwrap_or(Features::UNKNOWN);
    let media = |set: Option<&Arc<SourceSet>>| {
        set.map(|set| only((**set).clone(), features.audio, features.video)).unwrap_or_default()
    };
    let (mut add, mut remove) = (BTreeMap::new(), BTreeMap::new());
    for owner in owners.iter().filter(|owner| *owner != nick) {
        let after = sources.shown().get(owner);
        let before = member.tell(owner, after);
        let (added, removed) = difference(&media(before.as_ref()), &media(after));
        if !removed.is_empty() {
            remove.insert(owner.clone(), removed);
        }
        if !added.is_empty() {
            add.insert(owner.clone(), added);
        }
    }
    let added = names(add.values().flat_map(|set| &set.sources));
    [("source-remove", remove, Vec::new()), ("source-add", add, added)]
        .into_iter()
        .filter(|(_, owners, _)| !owners.is_empty())
        .map(|(action, owners, added)| {
            let jingle = sources_jingle(action, member.sid(), &owners, features.json_sources);
            SourceUpdate { nick: nick.to_owned(), jingle, added }
        })
        .collect()
}

/// Those of an owner's sources that a member does not know are held back from it.
fn hold_new(member: &mut Member, owner: &str, set: &Arc<SourceSet>, until: Instant) {
    let known = member.knows(owner).cloned();
    if known.as_ref().is_some_and(|known| Arc::ptr_eq(known, set)) {
        return;
    }
    let knows = |ssrc: u32| known.as_ref().is_some_and(|known| known.sources.iter().any(|source| source.ssrc == ssrc));
    for (name, _) in names(set.sources.iter().filter(|source| !knows(source.ssrc))) {
        member.hold_back(name, until);
    }
}

impl Conference {
    /// Records when the first wait is over.
    fn update_hold_due(&mut self) {
        self.hold_due = self.members.values().filter_map(Member::next_release).min();
    }
}

/// For the bridge: the sources that are not signalled to an endpoint yet.
fn unsignalled(nick: &str, member: &Member) -> Endpoint {
    let sources = member.held().map(|name| UnsignalledSource { name: name.clone() }).collect();
    Endpoint { unsignalled: Some(Unsignalled { sources }), ..Endpoint::new(nick) }
}

/// Names of sources and whether they are video, each once: those of one simulcast are one.
fn names<'a>(sources: impl IntoIterator<Item = &'a OwnedSource>) -> Vec<(String, bool)> {
    let named = |source: &OwnedSource| Some((source.name.clone()?, source.video));
    let mut names: Vec<(String, bool)> = sources.into_iter().filter_map(named).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn sources_jingle(action: &str, sid: &str, owners: &BTreeMap<String, SourceSet>, json: bool) -> Jingle {
    let mut jingle = Jingle::new(action, sid);
    if json {
        jingle.json_message = Some(json_sources(owners));
    } else {
        xml_sources(owners, &mut jingle.contents);
    }
    jingle
}
