//! Members who must not be heard or seen: muted by others, or by moderation (docs/protocol/focus.md 8.1 and 11.3). The bridge is
//! informed, so that who goes on sending is not forwarded.

use xmpp_parsers::stanza_error::DefinedCondition;

use super::member::Helper;
use super::outcome::{Outcome, refusal};
use super::state::Conference;
use crate::brewery::Trust;
use crate::colibri::elements::{Endpoint, ForceMute};
use crate::focus::context::Context;
use crate::focus::json_message::Medium;
use crate::focus::xml::{build, escaped};

impl Conference {
    /// A member wants a target muted, or itself muted or unmuted.
    pub(in super::super) fn mute(
        &mut self,
        cx: &mut Context<'_>,
        muter: &str,
        target: Option<&str>,
        (medium, on): (Medium, bool),
    ) -> Outcome {
        let session = |nick: &str| self.members.get(nick).filter(|member| member.has_endpoint());
        let (Some(by), Some(target)) = (session(muter), target.filter(|target| session(target).is_some())) else {
            return Err(refusal(DefinedCondition::InternalServerError, "both need a session"));
        };
        let other = muter != target;
        if other && (!by.is_moderator() || !on) {
            return Err(refusal(DefinedCondition::NotAllowed, "only moderators mute others, and nobody unmutes them"));
        }
        if self.is_never_muted(&cx.helpers, target) {
            return Err(refusal(DefinedCondition::NotAllowed, "recorders, gateways and visitors are not muted"));
        }
        if !on && !by.is_moderator() && self.moderation.forbids(muter, medium) {
            return Err(refusal(DefinedCondition::NotAllowed, "the room is moderated: a moderator has to allow it"));
        }
        if other || !on {
            if let Some(member) = self.members.get_mut(target) {
                member.set_muted(medium, on);
            }
            self.force_mutes(cx);
        }
        if !other {
            return Ok(());
        }
        tracing::info!(room = %self.room, endpoint = target, medium = medium.name(), by = muter, "muted");
        let xml = format!(
            "<mute xmlns='http://jitsi.org/jitmeet/{}' jid='{}' actor='{}'>true</mute>",
            medium.name(),
            escaped(&self.occupant(target)),
            escaped(&self.occupant(muter))
        );
        if let Some(mute) = build(&xml) {
            cx.notify(&self.occupant(target), mute);
        }
        Ok(())
    }

    /// Whether nobody mutes a member: recorders, and gateways that cannot be muted, would not unmute; visitors send nothing.
    pub(super) fn is_never_muted(&self, helpers: &Trust, nick: &str) -> bool {
        let Some(member) = self.members.get(nick) else { return false };
        if member.is_visitor() {
            return true;
        }
        match member.helper(helpers) {
            Some(Helper::Recorder | Helper::Transcriber) => true,
            Some(Helper::Gateway) => !member.features().is_some_and(|features| features.audio_mute),
            None => false,
        }
    }

    /// Whether a member must not send a medium.
    pub(super) fn must_not_send(&self, helpers: &Trust, nick: &str, medium: Medium) -> bool {
        let Some(member) = self.members.get(nick).filter(|_| !self.is_never_muted(helpers, nick)) else { return false };
        member.is_muted(medium) || (!member.is_moderator() && self.moderation.forbids(nick, medium))
    }

    /// What the bridge is to drop of a member. It knows one kind of video: that is dropped where neither camera nor screen may
    /// be sent, or the camera may not and there is no screen.
    pub(super) fn force_mute_of(&self, helpers: &Trust, nick: &str) -> ForceMute {
        let no_screen = || self.must_not_send(helpers, nick, Medium::Desktop) || !self.sources.has_screen(nick);
        ForceMute {
            audio: self.must_not_send(helpers, nick, Medium::Audio),
            video: self.must_not_send(helpers, nick, Medium::Video) && no_screen(),
        }
    }

    /// Sends the bridge everybody for whom that has changed.
    pub(super) fn force_mutes(&mut self, cx: &mut Context<'_>) {
        let nicks: Vec<String> = self.members.keys().cloned().collect();
        self.force_mutes_of(cx, nicks);
    }

    /// The same for some.
    pub(super) fn force_mutes_of(&mut self, cx: &mut Context<'_>, nicks: impl IntoIterator<Item = String>) {
        let mut changed = Vec::new();
        for nick in nicks {
            let wanted = self.force_mute_of(&cx.helpers, &nick);
            let Some(member) = self.members.get_mut(&nick).filter(|member| member.has_endpoint()) else { continue };
            if member.force_mute(wanted) {
                changed.push(Endpoint { force_mute: Some(wanted), ..Endpoint::new(nick) });
            }
        }
        for (session, endpoints) in self.by_session(changed) {
            // Of nobody: one who cannot be muted is no reason to end another's session.
            self.update_session(cx, &session, "", endpoints);
        }
    }
}
