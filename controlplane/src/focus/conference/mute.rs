//! Members who are muted by others (docs/protocol/focus.md 8.1).

use xmpp_parsers::stanza_error::DefinedCondition;

use super::outcome::{Outcome, refusal};
use super::state::Conference;
use crate::focus::context::Context;
use crate::focus::xml::{build, escaped};

impl Conference {
    /// A member wants a target muted, or itself unmuted; `media` is a namespace and whether to mute.
    pub(in super::super) fn mute(
        &mut self,
        cx: &mut Context<'_>,
        muter: &str,
        target: Option<&str>,
        (media, on): (&str, bool),
    ) -> Outcome {
        let session = |nick: &str| self.members.get(nick).filter(|member| member.has_endpoint());
        let (Some(by), Some(target)) = (session(muter), target.filter(|target| session(target).is_some())) else {
            return Err(refusal(DefinedCondition::InternalServerError, "both need a session"));
        };
        if muter == target {
            return Ok(());
        }
        if !by.is_moderator() || !on {
            return Err(refusal(DefinedCondition::NotAllowed, "only moderators mute others, and nobody unmutes them"));
        }
        let xml = format!(
            "<mute xmlns='{media}' jid='{}' actor='{}'>true</mute>",
            escaped(&self.occupant(target)),
            escaped(&self.occupant(muter))
        );
        if let Some(mute) = build(&xml) {
            cx.notify(&self.occupant(target), mute);
        }
        Ok(())
    }
}
