//! What our presence in a room says besides: recordings, SIP calls.

use tokio_xmpp::minidom::Element;

use super::member::Member;
use super::state::{Conference, RoomState};
use crate::focus::context::Context;
use crate::focus::limits::MAX_NOTICES;

impl Conference {
    /// Has our presence say something more, in place of what it said of that topic.
    pub(in super::super) fn set_notice(&mut self, cx: &mut Context<'_>, topic: String, notice: Element) {
        if self.notices.len() >= MAX_NOTICES && !self.notices.contains_key(&topic) {
            self.notices.pop_first();
        }
        self.notices.insert(topic, notice);
        // A room that is not ready yet is told with everything else.
        if matches!(self.state, RoomState::Ready) {
            self.announce(cx);
        }
    }

    /// Whether a member moderates; nothing where nobody has that nickname.
    pub(in super::super) fn moderates(&self, nick: &str) -> Option<bool> {
        self.members.get(nick).map(Member::is_moderator)
    }
}
