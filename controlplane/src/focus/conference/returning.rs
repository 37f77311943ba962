//! A conference of the process before (docs/protocol/focus.md 7.6): its room saw nobody leave, its members have sessions that
//! this process knows by their ids alone. Each is ended right before its member gets another one.

use std::time::Instant;

use jid::BareJid;

use super::former::Former;
use super::moderation::Moderation;
use super::state::{Conference, Options};
use crate::focus::context::{Context, ORPHAN_LIFETIME, Orphan};
use crate::focus::json_message::Medium;
use crate::focus::kept::{KeptMember, KeptRoom};
use crate::xmpp::iq::Request;

impl Conference {
    /// One of the process before; `waiting` ask for it already.
    pub fn of_former_process(room: BareJid, waiting: Vec<Request>, kept: &KeptRoom, cx: &mut Context<'_>) -> Self {
        let options = Options { start_muted: kept.start_muted, rtcstats: kept.rtcstats };
        let mut conference = Self::new(room, waiting, options, cx);
        conference.moderation = Moderation::of_former_process(&kept.moderation);
        if let Some(metadata) = &kept.metadata {
            conference.metadata.update(metadata.clone());
        }
        conference.former = Former::new(cx.now, kept.members.clone());
        conference
    }

    /// For the next process.
    pub fn kept(&self) -> KeptRoom {
        let mut members = self.former.members().clone();
        for (nick, member) in self.members.iter().filter(|(_, member)| !member.is_visitor()) {
            let muted = Medium::ALL.into_iter().filter(|medium| member.is_muted(*medium));
            let muted: Vec<String> = muted.map(|medium| medium.name().to_owned()).collect();
            let sid = match member.sid() {
                "" => self.former.members().get(nick).map(|former| former.sid.clone()).unwrap_or_default(),
                sid => sid.to_owned(),
            };
            if !sid.is_empty() || !muted.is_empty() {
                members.insert(nick.clone(), KeptMember { sid, muted });
            }
        }
        KeptRoom {
            meeting_id: self.meeting_id.clone(),
            bridges: self.nodes.iter().map(|session| session.bridge.clone()).collect(),
            start_muted: self.start_muted,
            rtcstats: self.rtcstats,
            moderation: self.moderation.kept(),
            metadata: self.metadata.current().cloned(),
            members,
            tasks: Vec::new(),
        }
    }

    /// Somebody is seen for the first time: what others muted of it before stays so.
    pub(super) fn remember(&mut self, nick: &str) {
        let Some(kept) = self.former.members().get(nick) else { return };
        let muted: Vec<Medium> = kept.muted.iter().filter_map(|name| Medium::parse(name)).collect();
        if let Some(member) = self.members.get_mut(nick).filter(|member| !member.is_visitor()) {
            muted.into_iter().for_each(|medium| member.set_muted(medium, true));
            member.was_member_before();
        }
    }

    /// A member gets its first session of this process: the one of the process before ends.
    pub(super) fn end_former_session(&mut self, cx: &mut Context<'_>, nick: &str) {
        if let Some(kept) = self.former.take(nick) {
            self.terminate(cx, nick, &kept.sid, "success", "moving");
        }
    }

    /// Everybody who is in the room was seen: who left while nobody was here is forgotten.
    pub(super) fn forget_absent(&mut self) {
        self.former.retain(|nick| self.members.contains_key(nick));
    }

    /// Somebody left: nothing is remembered of it.
    pub(super) fn forget_former(&mut self, nick: &str) {
        self.former.take(nick);
    }

    /// The bridge had long enough to come.
    pub(super) fn former_timeout(&mut self, cx: &mut Context<'_>) {
        if self.former.ends_quiet(cx.now) && self.no_bridge {
            self.announce(cx);
        }
    }
}

/// What is left on bridges of a conference of the process before: it goes when the room has another one, or after a while.
pub(in super::super) fn orphans<'a>(
    now: Instant,
    room: &'a BareJid,
    kept: &'a KeptRoom,
) -> impl Iterator<Item = Orphan> + 'a {
    let of =
        move |bridge: &String| Orphan::new(now, ORPHAN_LIFETIME, room.clone(), kept.meeting_id.clone(), bridge.clone());
    kept.bridges.iter().map(of)
}
