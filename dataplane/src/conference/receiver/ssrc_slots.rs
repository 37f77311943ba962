//! SSRC rewriting (docs/protocol/bridge.md 6.6): one receiver gets the sources of a conference on a bounded set of SSRCs
//! that are the bridge's own. A source that has to be heard or seen takes a slot; when none is left it takes the one that
//! was of no use for the longest time, and the receiver sees that slot's streams go on.
//!
//! No I/O, no packets: who wants what and when goes in, which slot carries it comes out.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::subscription::{NO_SSRC, Resume};
use crate::ids::{SourceId, Ssrc};
use crate::media::Mid;
use crate::media::{Encoding, MediaKind};
use crate::messages::SsrcRewriting;

/// A source that nobody waits for does not take the slot of one that was sent this recently: two of them would take it
/// from each other with every packet.
const IDLE: Duration = Duration::from_millis(500);
/// A client needs a moment to make a track for a new SSRC, and heeds no new owner before: it would show the first one for good.
const FIRST: Duration = Duration::from_secs(1);
/// So that it follows at leisure, free ones rest this long before they carry another source.
const REST: Duration = Duration::from_secs(5);
/// Sources that may wait for a slot at the same time.
const WAITING: usize = 64;
/// Time between two attempts while all slots are in use.
const PATIENCE: Duration = Duration::from_millis(200);

/// The SSRCs of one slot, and what they carry.
#[derive(Debug, Serialize, Deserialize)]
struct Slot {
    ssrcs: Encoding,
    mid: Option<Mid>,
    /// The source that it carries.
    source: Option<SourceId>,
    /// Name of the source that it carries, or carried last.
    name: String,
    /// When it was of use last.
    #[serde(with = "crate::carry::checked")]
    used: Instant,
    /// When the present name got it.
    #[serde(with = "crate::carry::checked")]
    since: Instant,
    /// When its SSRCs were new to the client.
    #[serde(with = "crate::carry::checked")]
    made: Instant,
    /// Where its streams go on, while it carries nothing.
    resume: Resume,
    /// The announcement that names its source; none before the first one that does.
    #[serde(with = "crate::carry::checked")]
    announcement: Option<u64>,
}

/// How much a source needs a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Only if one is free.
    Spare,
    /// In the place of one that was not in use lately.
    Wanted,
    /// Also in the place of any that is not to be kept.
    Urgent,
}

/// A source that needs a slot.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The source in its conference.
    pub source: SourceId,
    /// Its name.
    pub name: &'a str,
    /// Audio or video.
    pub kind: MediaKind,
    /// How much it needs one.
    pub need: Need,
}

/// The slots of one kind.
#[derive(Debug, Serialize, Deserialize)]
pub struct Slots {
    #[serde(with = "crate::carry::checked")]
    limit: usize,
    slots: Vec<Slot>,
}

impl Slots {
    fn new(limit: usize) -> Self {
        Self { limit, slots: Vec::new() }
    }

    /// Most slots.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn of(&self, source: SourceId) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.source == Some(source))
    }

    /// The SSRCs on which a source goes out.
    pub fn ssrcs(&self, source: SourceId) -> Option<Encoding> {
        self.of(source).map(|slot| slot.ssrcs)
    }

    /// The sources that have a slot.
    pub fn sources(&self) -> impl Iterator<Item = SourceId> {
        self.slots.iter().filter_map(|slot| slot.source)
    }

    /// Records that a source was used.
    pub fn touch(&mut self, source: SourceId, at: Instant) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.source == Some(source)) {
            slot.used = slot.used.max(at);
        }
    }

    /// The slot for a source that has none: the one it had before; a free one that the client knows for long enough; a new
    /// one; any free one; and if there is need, the least recently used of those that can be spared. Of the last two, only what
    /// the client has made a track of by now.
    fn choose(&self, now: Instant, name: &str, need: Need, keep: impl Fn(SourceId) -> bool) -> Option<Choice> {
        let free = || self.slots.iter().enumerate().filter(|(_, slot)| slot.source.is_none());
        let oldest = |(at, slot): &(usize, &Slot)| (slot.used, *at);
        let rested = |slot: &Slot| now.saturating_duration_since(slot.since) >= REST;
        if let Some((at, _)) = free().find(|(_, slot)| slot.name == name) {
            return Some(Choice::Slot(at));
        }
        if let Some((at, _)) = free().filter(|(_, slot)| rested(slot)).min_by_key(oldest) {
            return Some(Choice::Slot(at));
        }
        if self.slots.len() < self.limit {
            return Some(Choice::New);
        }
        let settled = |slot: &Slot| now.saturating_duration_since(slot.made) >= FIRST;
        if let Some((at, _)) = free().filter(|(_, slot)| settled(slot)).min_by_key(oldest) {
            return Some(Choice::Slot(at));
        }
        let spared = |slot: &Slot| {
            let idle = now.saturating_duration_since(slot.used) >= IDLE;
            match need {
                Need::Spare => false,
                Need::Wanted => idle,
                Need::Urgent => idle || slot.source.is_some_and(|source| !keep(source)),
            }
        };
        let taken = self.slots.iter().enumerate().filter(|(_, slot)| slot.source.is_some());
        let rank = |(at, slot): &(usize, &Slot)| (!rested(slot), slot.used, *at);
        taken.filter(|(_, slot)| settled(slot) && spared(slot)).min_by_key(rank).map(|(at, _)| Choice::Slot(at))
    }

    /// When the next slot can be given to another source that could not before.
    pub fn settles(&self, now: Instant) -> Option<Instant> {
        self.slots.iter().map(|slot| slot.made + FIRST).filter(|at| *at > now).min()
    }
}

#[derive(Debug, Clone, Copy)]
enum Choice {
    Slot(usize),
    New,
}

/// What a source got.
#[derive(Debug, Clone, Copy)]
pub struct Assigned {
    /// The SSRCs that it goes out on from now on, once that was signalled to the receiver.
    pub ssrcs: Encoding,
    /// The media section that packets on them name.
    pub mid: Option<Mid>,
    /// The source that they carried until now: its state is the state of the streams.
    pub evicted: Option<SourceId>,
    /// Where the streams go on, if nothing was evicted.
    pub resume: Resume,
}

/// One entry of what the receiver has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// The source in its conference.
    pub source: SourceId,
    /// Audio or video.
    pub kind: MediaKind,
    /// SSRCs of the bridge.
    pub ssrcs: Encoding,
    /// Their media section.
    pub mid: Option<Mid>,
}

/// All slots of one receiver.
#[derive(Debug, Serialize, Deserialize)]
pub struct SsrcSlots {
    /// Those of audio.
    audio: Slots,
    /// Those of video.
    video: Slots,
    random: u64,
    /// Slots have media sections.
    mids: bool,
    /// Number of the last announcement.
    #[serde(with = "crate::carry::checked")]
    announced: u64,
    /// The last one that was signalled to the client.
    #[serde(with = "crate::carry::checked")]
    signalled: u64,
    /// There is something to announce.
    news: bool,
    waiting: Vec<SourceId>,
    #[serde(with = "crate::carry::checked")]
    refused_until: Option<Instant>,
}

impl SsrcSlots {
    /// No slot yet.
    pub fn new(settings: &SsrcRewriting) -> Self {
        Self {
            audio: Slots::new(settings.audio),
            video: Slots::new(settings.video),
            random: settings.seed,
            mids: settings.mids,
            announced: 0,
            signalled: 0,
            news: false,
            waiting: Vec::with_capacity(WAITING),
            refused_until: None,
        }
    }

    /// The slots of one kind.
    pub fn kind(&self, kind: MediaKind) -> &Slots {
        match kind {
            MediaKind::Audio => &self.audio,
            MediaKind::Video => &self.video,
        }
    }

    /// See [`Self::kind`].
    pub fn kind_mut(&mut self, kind: MediaKind) -> &mut Slots {
        match kind {
            MediaKind::Audio => &mut self.audio,
            MediaKind::Video => &mut self.video,
        }
    }

    /// Gives a slot to a source that has none. `keep` says which others must keep theirs, `taken` which SSRCs must not be
    /// made up. `None` when there is none to be had.
    pub fn assign(
        &mut self,
        now: Instant,
        request: &Request<'_>,
        keep: impl Fn(SourceId) -> bool,
        taken: impl Fn(Ssrc) -> bool,
    ) -> Option<Assigned> {
        let Request { source, name, kind, need } = *request;
        let at = match self.kind(kind).choose(now, name, need, keep)? {
            Choice::Slot(at) => at,
            Choice::New => self.add(now, kind, taken),
        };
        let slots = self.kind_mut(kind);
        let slot = slots.slots.get_mut(at)?;
        let evicted = slot.source.replace(source);
        let assigned = Assigned { ssrcs: slot.ssrcs, mid: slot.mid, evicted, resume: slot.resume };
        if slot.name != name {
            name.clone_into(&mut slot.name);
            slot.since = now;
        }
        (slot.used, slot.announcement) = (now, None);
        self.news = true;
        Some(assigned)
    }

    fn add(&mut self, now: Instant, kind: MediaKind, taken: impl Fn(Ssrc) -> bool) -> usize {
        let ssrc = self.next_ssrc(&taken);
        let rtx = (kind == MediaKind::Video).then(|| self.next_ssrc(&|other| other == ssrc || taken(other)));
        let ssrcs = Encoding { ssrc, rtx };
        let number = u16::try_from(self.kind(kind).slots.len()).ok().filter(|_| self.mids);
        let slot = Slot {
            ssrcs,
            mid: number.map(|number| Mid::new(kind, number)),
            source: None,
            name: String::new(),
            used: now,
            since: now,
            made: now,
            resume: Resume::first(ssrcs),
            announcement: None,
        };
        let slots = &mut self.kind_mut(kind).slots;
        slots.push(slot);
        slots.len() - 1
    }

    /// SplitMix64: the worker has no other source of chance, and SSRCs need no secrecy.
    fn next_ssrc(&mut self, taken: &impl Fn(Ssrc) -> bool) -> Ssrc {
        loop {
            self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut x = self.random;
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let ssrc = Ssrc::new((x ^ (x >> 31)) as u32);
            if ssrc != NO_SSRC && !taken(ssrc) && !self.knows(ssrc) {
                return ssrc;
            }
        }
    }

    fn knows(&self, ssrc: Ssrc) -> bool {
        let slots = self.audio.slots.iter().chain(&self.video.slots);
        slots.map(|slot| slot.ssrcs).any(|ssrcs| ssrcs.ssrc == ssrc || ssrcs.rtx == Some(ssrc))
    }

    /// A source is gone; `resume` is how far its streams got, unless they never began.
    pub fn release(&mut self, now: Instant, kind: MediaKind, source: SourceId, resume: Resume) {
        if let Some(slot) = self.kind_mut(kind).slots.iter_mut().find(|slot| slot.source == Some(source)) {
            (slot.source, slot.resume, slot.used) = (None, resume, now);
            self.news = true;
        }
        self.waiting.retain(|waiting| *waiting != source);
    }

    /// Forgets how far all streams got: the receiver has new keys, and counting starts anew.
    pub fn restart(&mut self) {
        for slot in self.audio.slots.iter_mut().chain(&mut self.video.slots) {
            slot.resume = Resume::first(slot.ssrcs);
        }
    }

    /// The source that a receiver means by a media SSRC.
    pub fn source(&self, ssrc: Ssrc) -> Option<SourceId> {
        self.video.slots.iter().chain(&self.audio.slots).find(|slot| slot.ssrcs.ssrc == ssrc)?.source
    }

    /// Whether the receiver knows what a source's SSRC carries, so that packets may go.
    pub fn is_signalled(&self, kind: MediaKind, source: SourceId) -> bool {
        self.kind(kind).of(source).is_some_and(|slot| slot.announcement.is_some_and(|number| number <= self.signalled))
    }

    /// Everything that the receiver has to know, and the number of this announcement, if there is news.
    pub fn announce(&mut self) -> Option<(u64, Vec<Carried>)> {
        if !std::mem::take(&mut self.news) {
            return None;
        }
        self.announced += 1;
        let mut carried = Vec::new();
        for (kind, slots) in [(MediaKind::Audio, &mut self.audio), (MediaKind::Video, &mut self.video)] {
            for slot in &mut slots.slots {
                let Some(source) = slot.source else { continue };
                slot.announcement.get_or_insert(self.announced);
                carried.push(Carried { source, kind, ssrcs: slot.ssrcs, mid: slot.mid });
            }
        }
        Some((self.announced, carried))
    }

    /// The announcement could not be handed on: it is to be made again.
    pub fn announce_again(&mut self) {
        self.news = true;
    }

    /// All announcements up to one were signalled to the client. Returns whether packets may go that could not before.
    pub fn note_signalled(&mut self, announcement: u64) -> bool {
        let news = announcement > self.signalled;
        self.signalled = self.signalled.max(announcement);
        news
    }

    /// Records that a source without a slot sends; false when that is known, or pointless at the moment.
    pub fn wait(&mut self, now: Instant, source: SourceId) -> bool {
        if self.refused_until.is_some_and(|until| now < until) || self.waiting.contains(&source) {
            return false;
        }
        let room = self.waiting.len() < WAITING;
        if room {
            self.waiting.push(source);
        }
        room
    }

    /// The source that waits longest for a slot.
    pub fn next_waiting(&mut self) -> Option<SourceId> {
        (!self.waiting.is_empty()).then(|| self.waiting.remove(0))
    }

    /// There was no slot for one that waited.
    pub fn refuse(&mut self, now: Instant) {
        self.refused_until = Some(now + PATIENCE);
    }
}

#[cfg(test)]
mod tests;
