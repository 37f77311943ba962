//! How many members of a conference send, as they say, and whether that are as many as may (docs/protocol/focus.md 3.2).

use crate::focus::settings::SenderLimits;
use crate::focus::source_info::Sending;
use crate::jingle::SourceSet;

/// Those who send, and what presence says of that.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Senders {
    audio: usize,
    video: usize,
    /// Whether as many send as may; not announced before that was so once.
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

    /// Records whether as many send as may; true when presence is to be changed.
    pub fn judge(&mut self, limits: SenderLimits) -> bool {
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

    /// Its state, for operators.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "audio": self.audio, "video": self.video })
    }
}

/// The text of a refusal where sources would make one sender more than may be; by what was said so far, not by who it is.
pub(super) fn too_many(senders: &Senders, limits: SenderLimits, added: &SourceSet) -> Option<String> {
    let has = |video: bool| added.sources.iter().any(|source| source.video == video);
    let audio = has(false) && senders.audio >= limits.audio;
    let video = has(true) && senders.video >= limits.video;
    let media: Vec<&str> =
        [("audio", audio), ("video", video)].iter().filter(|(_, full)| *full).map(|(m, _)| *m).collect();
    (!media.is_empty()).then(|| format!("Sender count exceeded for: {}", media.join(" ")))
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
