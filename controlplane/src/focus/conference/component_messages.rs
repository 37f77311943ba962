//! What components send of a conference's room (docs/protocol/focus.md 8.2 and 8.3), and what follows.

use tokio_xmpp::minidom::Element;

use super::moderation::nick_in;
use super::state::Conference;
use crate::focus::context::Context;
use crate::focus::json_message::{ModerationMessage, RoomMetadata};

impl Conference {
    /// The component says who may send what. Who must not any more is informed, and is muted on the bridge.
    pub(in super::super) fn moderate(&mut self, cx: &mut Context<'_>, message: &ModerationMessage) {
        let room = self.room.to_string();
        let begun = self.moderation.update(&room, message);
        self.force_mutes(cx);
        let Some(medium) = begun else { return };
        tracing::info!(room, medium = medium.name(), actor = ?message.actor, "A/V moderation started");
        let actor = message.actor.as_deref().and_then(|actor| nick_in(&room, actor));
        let silenced = self.members.iter().filter(|(nick, member)| {
            Some(nick.as_str()) != actor && member.has_endpoint() && !self.is_never_muted(&cx.helpers, nick)
        });
        let silenced: Vec<String> = silenced.map(|(nick, _)| self.occupant(nick)).collect();
        for to in silenced {
            let mute = Element::builder("mute", format!("http://jitsi.org/jitmeet/{}", medium.name())).append("true");
            cx.notify(&to, mute.build());
        }
    }

    /// The component describes the room.
    pub(in super::super) fn set_metadata(&mut self, cx: &mut Context<'_>, metadata: RoomMetadata) {
        self.metadata.update(metadata);
        self.metadata_settled(cx);
    }

    /// The room waited long enough.
    pub(super) fn metadata_timeout(&mut self, cx: &mut Context<'_>) {
        if self.metadata.poll_timeout().is_some_and(|due| due <= cx.now) {
            tracing::warn!(room = %self.room, "no metadata came; the room begins without it");
            self.metadata_settled(cx);
        }
    }

    fn metadata_settled(&mut self, cx: &mut Context<'_>) {
        if self.metadata.settle() {
            self.setup_answered(cx);
        }
    }
}
