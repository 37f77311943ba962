//! Messages to the focus. Components describe rooms to it; nobody else is listened to.

use std::time::Instant;

use jid::{BareJid, Jid};
use tokio_xmpp::minidom::Element;
use xmpp_parsers::message::{Message, MessageType};

use super::json_message::{self, JsonMessage};
use super::limits::Refused;
use super::service::Focus;
use crate::jingle::ns;

/// Which component speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    Moderation,
    Metadata,
}

impl Focus {
    /// Takes a message. What is said in rooms, and to us by people, is none of our business.
    pub(super) fn handle_message(&mut self, now: Instant, message: &Message) {
        if message.type_ != MessageType::Normal {
            return;
        }
        let Some(json) = message.payloads.iter().find(|payload| payload.is("json-message", ns::JITMEET)) else {
            return;
        };
        let Some(speaker) = message.from.as_ref().and_then(|from| self.speaker(from)) else {
            self.shared.refused.count(Refused::ForeignMessage, 1);
            return;
        };
        if let Err(reason) = self.apply_message(now, speaker, json) {
            self.shared.refused.count(Refused::Message, 1);
            if let Some(silenced) = self.message_lines.speak(now) {
                tracing::warn!(from = ?message.from, reason, silenced, "a component's message was ignored");
            }
        }
    }

    /// A component's address is its host's name alone.
    fn speaker(&self, from: &Jid) -> Option<Speaker> {
        let from = from.is_bare().then(|| from.to_bare())?;
        let components = &self.shared.components;
        match () {
            () if components.is_moderation(&from) => Some(Speaker::Moderation),
            () if components.is_metadata(&from) => Some(Speaker::Metadata),
            () => None,
        }
    }

    fn apply_message(&mut self, now: Instant, speaker: Speaker, json: &Element) -> Result<(), String> {
        let message = json_message::parse(&json.text()).map_err(|unfit| unfit.to_string())?;
        let room = match &message {
            JsonMessage::Moderation(message) if speaker == Speaker::Moderation => Some(message.room.as_str()),
            JsonMessage::Metadata(_) if speaker == Speaker::Metadata => json.attr("room"),
            _ => return Err("it is not of that component's kind".to_owned()),
        };
        let room = room.and_then(|room| room.parse::<BareJid>().ok()).ok_or("it names no room")?;
        let (conference, mut cx) = self.conference(now, &room).ok_or("no such conference")?;
        match message {
            JsonMessage::Moderation(message) => conference.moderate(&mut cx, &message),
            JsonMessage::Metadata(metadata) => conference.set_metadata(&mut cx, metadata),
        }
        Ok(())
    }
}
