//! Who may send what: moderation of whole rooms (docs/protocol/focus.md 8.2).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::focus::json_message::{Medium, ModerationMessage};
use crate::focus::kept::KeptModeration;

/// Moderation of one medium.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct OfMedium {
    enabled: bool,
    /// Who may unmute all the same, by nickname. It outlasts their leaving: they may be in a breakout room.
    allowed: BTreeSet<String>,
}

/// Moderation of a room.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Moderation(BTreeMap<Medium, OfMedium>);

impl Moderation {
    /// Whether a member without the rights of a moderator must not send a medium.
    pub fn forbids(&self, nick: &str, medium: Medium) -> bool {
        self.0.get(&medium).is_some_and(|of| of.enabled && !of.allowed.contains(nick))
    }

    /// Takes what the component says of the room of that address, and returns what is moderated only now.
    pub fn update(&mut self, room: &str, message: &ModerationMessage) -> Option<Medium> {
        for (medium, allowed) in &message.allowed {
            let nicks = allowed.iter().filter_map(|occupant| nick_in(room, occupant)).map(str::to_owned);
            self.0.entry(*medium).or_default().allowed = nicks.collect();
        }
        let (medium, enabled) = message.enabled?;
        let was = std::mem::replace(&mut self.0.entry(medium).or_default().enabled, enabled);
        (enabled && !was).then_some(medium)
    }

    /// For the next process.
    pub fn kept(&self) -> BTreeMap<String, KeptModeration> {
        let of = |(medium, of): (&Medium, &OfMedium)| {
            let kept = KeptModeration { enabled: of.enabled, allowed: of.allowed.iter().cloned().collect() };
            (medium.name().to_owned(), kept)
        };
        self.0.iter().map(of).collect()
    }

    /// As the process before kept it.
    pub fn of_former_process(kept: &BTreeMap<String, KeptModeration>) -> Self {
        let of = |(name, kept): (&String, &KeptModeration)| {
            let allowed = kept.allowed.iter().cloned().collect();
            Some((Medium::parse(name)?, OfMedium { enabled: kept.enabled, allowed }))
        };
        Self(kept.iter().filter_map(of).collect())
    }

    /// For operators.
    pub fn to_json(&self) -> Value {
        let of = |(medium, of): (&Medium, &OfMedium)| {
            (medium.name().to_owned(), json!({ "enabled": of.enabled, "whitelist": of.allowed }))
        };
        self.0.iter().map(of).collect::<serde_json::Map<_, _>>().into()
    }
}

/// The nickname of an occupant of that room.
pub(super) fn nick_in<'a>(room: &str, occupant: &'a str) -> Option<&'a str> {
    occupant.strip_prefix(room)?.strip_prefix('/').filter(|nick| !nick.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(enabled: Option<(Medium, bool)>, allowed: &[(Medium, &[&str])]) -> ModerationMessage {
        let list = |nicks: &[&str]| nicks.iter().map(|nick| (*nick).to_owned()).collect();
        ModerationMessage {
            room: "r@c".to_owned(),
            enabled,
            actor: None,
            allowed: allowed.iter().map(|(medium, nicks)| (*medium, list(nicks))).collect(),
        }
    }

    #[test]
    fn only_who_is_listed_may_send_what_is_moderated() {
        let mut moderation = Moderation::default();
        assert!(!moderation.forbids("a", Medium::Audio));
        let on = message(Some((Medium::Audio, true)), &[]);
        assert_eq!(moderation.update("r@c", &on), Some(Medium::Audio));
        assert_eq!(moderation.update("r@c", &on), None, "it was before");
        assert!(moderation.forbids("a", Medium::Audio) && !moderation.forbids("a", Medium::Video));
        moderation
            .update("r@c", &message(None, &[(Medium::Audio, &["r@c/a", "other@c/b", "r@c", "r@c/", "r@cc/d", "b"])]));
        assert!(!moderation.forbids("a", Medium::Audio));
        for nick in ["b", "", "c/d", "d"] {
            assert!(moderation.forbids(nick, Medium::Audio), "{nick}");
        }
        moderation.update("r@c", &message(None, &[(Medium::Audio, &[])]));
        assert!(moderation.forbids("a", Medium::Audio));
        assert_eq!(moderation.update("r@c", &message(Some((Medium::Audio, false)), &[])), None);
        assert!(!moderation.forbids("a", Medium::Audio));
    }
}
