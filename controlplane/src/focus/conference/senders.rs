//! How many members of a conference send, as they say, and whether that are as many as may (docs/protocol/focus.md 3.2).

use xmpp_parsers::stanza_error::DefinedCondition;

use super::outcome::{Outcome, refusal};
use super::state::Conference;
use crate::focus::context::Context;
use crate::focus::limits::Refused;
use crate::focus::settings::SenderLimits;
use crate::focus::source_info::Sending;
use crate::jingle::SourceSet;

/// Those who send, and what the room was told of that.
#[derive(Debug, Default)]
pub(super) struct Senders {
    audio: usize,
    video: usize,
    /// Whether as many send as may; not told before that was so once.
    audio_full: Option<bool>,
    video_full: Option<bool>,
}

impl Senders {
    /// One says something else than before.
    pub fn change(&mut self, before: Sending, after: Sending) {
        let count =
            |count: &mut usize, before: bool, after: bool| *count = *count + usize::from(after) - usize::from(before);
        count(&mut self.audio, before.audio, after.audio);
        count(&mut self.video, before.video, after.video);
    }

    /// Notes whether as many send as may; true when the room is to be told.
    fn judge(&mut self, limits: SenderLimits) -> bool {
        let judge = |full: &mut Option<bool>, now: bool| {
            let news = full.unwrap_or_default() != now;
            if news {
                *full = Some(now);
            }
            news
        };
        let audio = judge(&mut self.audio_full, self.audio >= limits.audio);
        judge(&mut self.video_full, self.video >= limits.video) || audio
    }

    /// What our presence says of it: clients keep from unmuting.
    pub fn properties(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let audio = self.audio_full.map(|full| ("audio-limit-reached", full));
        let video = self.video_full.map(|full| ("video-limit-reached", full));
        audio.into_iter().chain(video)
    }

    /// For operators.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "audio": self.audio, "video": self.video })
    }
}

impl Conference {
    /// Somebody says something else of what it sends, came or left: the room is told where that makes a difference.
    pub(super) fn senders_changed(&mut self, cx: &mut Context<'_>) {
        if self.senders.judge(cx.settings.sources.senders) && self.is_ready() {
            self.announce(cx);
        }
    }

    /// Whether somebody may add these sources.
    pub(super) fn may_send(&self, cx: &mut Context<'_>, added: &SourceSet) -> Outcome {
        let limits = cx.settings.sources.senders;
        let has = |video: bool| added.sources.iter().any(|source| source.video == video);
        let audio = has(false) && self.senders.audio >= limits.audio;
        let video = has(true) && self.senders.video >= limits.video;
        if !audio && !video {
            return Ok(());
        }
        cx.refused.count(Refused::Senders, 1);
        let media =
            [("audio", audio), ("video", video)].into_iter().filter(|(_, full)| *full).map(|(medium, _)| medium);
        let text = format!("Sender count exceeded for: {}", media.collect::<Vec<_>>().join(" "));
        Err(refusal(DefinedCondition::ResourceConstraint, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_told_when_the_last_place_is_taken_and_when_one_is_free() {
        let limits = SenderLimits { audio: 2, video: 0 };
        let (silent, speaks) = (Sending::default(), Sending { audio: true, video: false });
        let mut senders = Senders::default();
        let told = |senders: &Senders| senders.properties().collect::<Vec<_>>();
        assert!(senders.judge(limits), "none may send video");
        assert_eq!(told(&senders), [("video-limit-reached", true)]);
        senders.change(silent, speaks);
        assert!(!senders.judge(limits));
        senders.change(silent, speaks);
        assert!(senders.judge(limits) && !senders.judge(limits), "once");
        assert_eq!(told(&senders), [("audio-limit-reached", true), ("video-limit-reached", true)]);
        senders.change(speaks, speaks);
        senders.change(silent, speaks);
        assert!(!senders.judge(limits), "more than may");
        senders.change(speaks, silent);
        senders.change(speaks, silent);
        assert!(senders.judge(limits));
        assert_eq!(told(&senders), [("audio-limit-reached", false), ("video-limit-reached", true)]);
    }
}
