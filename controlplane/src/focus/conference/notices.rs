//! What our presence in a room says besides: recordings, SIP calls.

use tokio_xmpp::minidom::Element;

use super::member::{Helper, Member};
use super::state::{Conference, RoomState};
use crate::brewery::Trust;
use crate::focus::context::Context;
use crate::focus::limits::MAX_NOTICES;

impl Conference {
    /// Has our presence say something more, in place of what it said of that topic.
    pub(in super::super) fn set_notice(&mut self, cx: &mut Context<'_>, topic: String, notice: Element) {
        if self.notices.len() >= MAX_NOTICES && !self.notices.contains_key(&topic) {
            self.notices.pop_first();
        }
        self.notices.insert(topic, notice);
        // A room that is not ready yet gets it with everything else.
        if matches!(self.state, RoomState::Ready) {
            self.announce(cx);
        }
    }

    /// What kind of recorder or gateway a member is, if it is one.
    pub(in super::super) fn helper(&self, nick: &str, trust: &Trust) -> Option<Helper> {
        self.members.get(nick)?.helper(trust)
    }

    /// Whether somebody transcribes.
    pub(in super::super) fn has_transcriber(&self, trust: &Trust) -> bool {
        self.members.values().any(|member| member.helper(trust) == Some(Helper::Transcriber))
    }

    /// The bridge that it is on, the first one of several.
    pub(in super::super) fn bridge(&self) -> Option<&str> {
        self.nodes.iter().next().map(|session| session.bridge.as_str())
    }

    /// Whether a member moderates; nothing where nobody has that nickname.
    pub(in super::super) fn moderates(&self, nick: &str) -> Option<bool> {
        self.members.get(nick).filter(|member| !member.is_visitor()).map(Member::is_moderator)
    }
}
