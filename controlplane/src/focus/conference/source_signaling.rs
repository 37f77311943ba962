//! What members are told of each other's sources, and that media waits for it.
//!
//! A client may be deaf to an SSRC whose packets come before it was told of it: Firefox takes them for a stream that it knows,
//! and has no stream for the source ever after. Our own bridge therefore holds a source back from each client until that
//! acknowledged what it was told, and had a moment to do it. The acknowledgement comes before the client's session is
//! described anew; how long it takes says how busy the client is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::member::{Member, Stage};
use super::sources::{difference, only};
use super::state::Conference;
use crate::colibri::elements::{Endpoint, Untold, UntoldSource};
use crate::focus::context::Context;
use crate::focus::features::Features;
use crate::focus::limits::{MAX_HOLD, Refused};
use crate::focus::requests::Question;
use crate::jingle::{Jingle, OwnedSource, SourceSet, json_sources, xml_sources};

/// Larger conferences are not held back: their clients have SSRCs that are rewritten, of which the bridge tells them.
const MEMBERS: usize = 100;

/// After the acknowledgement a client gets this, and twice the time that the acknowledgement took, before it gets sound. Picture
/// is let go at once: it begins with a keyframe, which has to be asked for, and takes a moment of its own.
const LEAST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_millis(1_500);
/// Ends of waits that are this close are told to the bridge together.
const TOGETHER: Duration = Duration::from_millis(40);

impl Conference {
    /// Has the bridge hold back, from each member, the sources that it was not told of. Before the bridge knows of them.
    pub(super) fn hold_unsignaled(&mut self, cx: &mut Context<'_>) {
        let own = self.on_own_bridges(cx);
        if own.is_empty() || self.members.len() > MEMBERS {
            return;
        }
        let shown = self.sources.shown();
        let mut changed = Vec::new();
        for (nick, member) in &mut self.members {
            if member.stage() != Stage::Active || member.ssrc_rewriting() || !own.contains(nick) {
                continue;
            }
            let before = member.held().len();
            for (owner, set) in shown.iter().filter(|(owner, _)| *owner != nick) {
                let told = member.knows(owner);
                if told.is_some_and(|told| Arc::ptr_eq(told, set)) {
                    continue;
                }
                let known = |ssrc: u32| told.is_some_and(|told| told.sources.iter().any(|source| source.ssrc == ssrc));
                for (name, _) in names(set.sources.iter().filter(|source| !known(source.ssrc))) {
                    member.hold_back(name, cx.now + MAX_HOLD);
                }
            }
            if member.held().len() != before {
                changed.push(untold(nick, member));
            }
        }
        self.update_hold_due();
        self.send_held(cx, changed);
    }

    /// A member acknowledged, or refused, what it was told at that time: names of sources, and whether they are video.
    pub(in super::super) fn sources_known(
        &mut self,
        cx: &mut Context<'_>,
        nick: &str,
        sid: &str,
        (told, at): (Vec<(String, bool)>, Instant),
    ) {
        let Some(member) = self.members.get_mut(nick).filter(|member| member.sid() == sid) else { return };
        let moment = (LEAST + 2 * cx.now.saturating_duration_since(at)).min(MOST);
        for (name, video) in told {
            member.told_of(&name, if video { cx.now } else { cx.now + moment });
        }
        self.update_hold_due();
    }

    /// Media may go where a wait is over.
    pub(super) fn release_held(&mut self, cx: &mut Context<'_>) {
        let mut changed = Vec::new();
        for (nick, member) in &mut self.members {
            if member.release(cx.now + TOGETHER) && member.has_endpoint() {
                changed.push(untold(nick, member));
            }
        }
        self.update_hold_due();
        let own = self.on_own_bridges(cx);
        changed.retain(|endpoint| own.contains(&endpoint.id));
        self.send_held(cx, changed);
    }

    /// Who is on bridges of ours.
    fn on_own_bridges(&self, cx: &Context<'_>) -> BTreeSet<String> {
        let own = self
            .nodes
            .iter()
            .filter(|session| cx.bridges.get(&session.bridge).is_some_and(|bridge| bridge.ringbridge.is_some()));
        own.flat_map(|session| self.nodes.members(&session.id)).cloned().collect()
    }

    fn send_held(&mut self, cx: &mut Context<'_>, endpoints: Vec<Endpoint>) {
        for (session, endpoints) in self.by_session(endpoints) {
            let Some(nick) = endpoints.first().map(|endpoint| endpoint.id.clone()) else { continue };
            self.update_session(cx, &session, &nick, endpoints);
        }
    }

    /// Tells every member with a running session what changed for it since it was last told: now, or soon and together with
    /// what changes until then, where much changes.
    pub(super) fn signal_sources(&mut self, cx: &mut Context<'_>) {
        if !self.may_signal_sources(cx.now) {
            cx.refused.count(Refused::TellsJoined, 1);
            return;
        }
        // Who waits for nothing need not be listened to.
        let waits = self.hold_due.is_some();
        let mut messages = Vec::new();
        for (nick, member) in self.members.iter_mut().filter(|(_, member)| member.stage() == Stage::Active) {
            let features = member.features().unwrap_or(Features::UNKNOWN);
            if member.ssrc_rewriting() {
                continue;
            }
            let (mut add, mut remove) = (BTreeMap::new(), BTreeMap::new());
            let shown = self.sources.shown();
            // Sets are compared only where they are not the same one: a round must not cost members times members sets.
            let changed = shown.iter().filter(|(owner, set)| {
                *owner != nick && !member.knows(owner).is_some_and(|before| Arc::ptr_eq(before, set))
            });
            let mut changed: Vec<(String, Option<Arc<SourceSet>>)> =
                changed.map(|(owner, set)| (owner.clone(), Some(Arc::clone(set)))).collect();
            changed
                .extend(member.knows_owners().filter(|owner| !shown.contains_key(*owner)).map(|o| (o.clone(), None)));
            for (owner, after) in changed {
                let before = member.tell(&owner, after.as_ref());
                let media = |set: Option<Arc<SourceSet>>| {
                    set.map(|set| only((*set).clone(), features.audio, features.video)).unwrap_or_default()
                };
                let (added, removed) = difference(&media(before), &media(after));
                for (set, all) in [(added, &mut add), (removed, &mut remove)] {
                    if !set.is_empty() {
                        all.insert(owner.clone(), set);
                    }
                }
            }
            let json = features.json_sources;
            for (action, owners) in [("source-remove", remove), ("source-add", add)] {
                if !owners.is_empty() {
                    let told = if action == "source-add" {
                        names(owners.values().flat_map(|set| &set.sources))
                    } else {
                        Vec::new()
                    };
                    messages.push((nick.clone(), sources_jingle(action, member.sid(), &owners, json), told));
                }
            }
        }
        for (nick, jingle, told) in messages {
            let to = self.occupant(&nick);
            if told.is_empty() || !waits {
                cx.notify(&to, jingle.into());
                continue;
            }
            let pending = Question::SourcesSignaled { nick, sid: jingle.sid.clone(), sources: told, at: cx.now };
            self.ask(cx, &to, true, jingle.into(), pending);
        }
    }
}

impl Conference {
    /// Notes when the first wait is over.
    fn update_hold_due(&mut self) {
        self.hold_due = self.members.values().filter_map(Member::next_release).min();
    }
}

/// What an endpoint was not told of, for the bridge.
fn untold(nick: &str, member: &Member) -> Endpoint {
    let sources = member.held().map(|name| UntoldSource { name: name.clone() }).collect();
    Endpoint { untold: Some(Untold { sources }), ..Endpoint::new(nick) }
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
