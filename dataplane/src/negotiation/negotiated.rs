//! What endpoints negotiated, compiled, and one copy for all who negotiated the same: browsers of one make agree on every
//! number, so that the tables of a whole conference fit the first cache of the processor.

use std::sync::Arc;

use hashbrown::HashMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::extensions::ExtensionTable;
use super::formats::{FormatTable, VideoFeedback};
use super::vocabulary::{Held, Names, Refused, Vocabulary};
use crate::carry::shared::{Borrowed, Owned};
use crate::media::Media;
use crate::stats::{Counter, WorkerStats};

/// Entries before those that nobody uses are looked for; then twice of what is left.
const FIRST_SWEEP: usize = 64;
/// Bytes of names and parameters up to which a negotiation is remembered, to be shared; browsers' have about 4,000.
const MAX_SHARED: usize = 32 * 1024;

/// One negotiation's tables.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Negotiated {
    /// Payload types.
    pub formats: FormatTable,
    /// Header extension ids.
    pub extensions: ExtensionTable,
    /// RTCP feedback.
    pub feedback: VideoFeedback,
}

/// The negotiations of a worker's endpoints that name only what is well known; others are shared within their conference.
#[derive(Debug, Serialize, Deserialize)]
pub struct Negotiations {
    #[serde(with = "known")]
    known: HashMap<Media, Arc<Negotiated>, foldhash::fast::RandomState>,
    #[serde(with = "crate::carry::checked")]
    sweep_at: usize,
    #[serde(with = "crate::carry::shared")]
    nothing: Arc<Negotiated>,
}

/// The negotiations of one conference's endpoints that name what is not well known, and the numbers that those names have.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ConferenceNegotiations {
    vocabulary: Vocabulary,
    /// Without the key where that is too large to be kept.
    #[serde(with = "live")]
    live: Vec<(Option<Media>, Held, Arc<Negotiated>)>,
}

/// The negotiations of a worker on their way.
mod known {
    use super::*;

    type Known = HashMap<Media, Arc<Negotiated>, foldhash::fast::RandomState>;

    pub fn serialize<S: Serializer>(known: &Known, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list: Vec<(&Media, Borrowed<'_, Negotiated>)> =
            known.iter().map(|(of, to)| (of, Borrowed(to))).collect();
        list.sort_unstable_by_key(|(media, _)| *media);
        list.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Known, D::Error> {
        let list = Vec::<(Media, Owned<Negotiated>)>::deserialize(deserializer)?;
        Ok(list.into_iter().map(|(media, negotiated)| (media, negotiated.0)).collect())
    }
}

/// Those of a conference, likewise.
mod live {
    use super::*;

    type Live = Vec<(Option<Media>, Held, Arc<Negotiated>)>;

    pub fn serialize<S: Serializer>(live: &Live, serializer: S) -> Result<S::Ok, S::Error> {
        live.iter().map(|(media, held, to)| (media, held, Borrowed(to))).collect::<Vec<_>>().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Live, D::Error> {
        let list = Vec::<(Option<Media>, Held, Owned<Negotiated>)>::deserialize(deserializer)?;
        Ok(list.into_iter().map(|(media, held, to)| (media, held, to.0)).collect())
    }
}

impl ConferenceNegotiations {
    /// The tables of a negotiation, if somebody in the conference has them already.
    fn find(&self, media: &Media) -> Option<Arc<Negotiated>> {
        let same = |entry: &&(Option<Media>, Held, Arc<Negotiated>)| entry.0.as_ref() == Some(media);
        self.live.iter().find(same).map(|(_, _, negotiated)| Arc::clone(negotiated))
    }

    /// Forgets what nobody uses any more.
    fn sweep(&mut self) {
        let vocabulary = &mut self.vocabulary;
        self.live.retain(|(_, held, negotiated)| {
            let used = Arc::strong_count(negotiated) > 1;
            if !used {
                vocabulary.release(held);
            }
            used
        });
    }

    /// Keeps the numbers of a negotiation for as long as somebody uses it. Without `media` no other endpoint shares it.
    fn keep(&mut self, media: Option<Media>, held: Held, negotiated: &Arc<Negotiated>) {
        self.live.push((media, held, Arc::clone(negotiated)));
    }
}

impl Default for Negotiations {
    fn default() -> Self {
        Self { known: HashMap::default(), sweep_at: FIRST_SWEEP, nothing: Arc::default() }
    }
}

impl Negotiations {
    /// The tables of an endpoint that negotiated nothing yet.
    pub fn nothing(&self) -> Arc<Negotiated> {
        Arc::clone(&self.nothing)
    }

    /// The tables of a negotiation of an endpoint of a conference.
    pub fn compile(
        &mut self,
        media: &Media,
        conference: &mut ConferenceNegotiations,
        stats: &WorkerStats,
    ) -> Arc<Negotiated> {
        if let Some(known) = self.known.get(media).map(Arc::clone).or_else(|| conference.find(media)) {
            return known;
        }
        conference.sweep();
        let mut names = Names::new(&mut conference.vocabulary);
        let negotiated = Arc::new(Negotiated {
            formats: FormatTable::compile(media, &mut names),
            extensions: ExtensionTable::compile(&media.header_extensions, &mut names),
            feedback: VideoFeedback::of(media),
        });
        let refused = names.refused();
        stats.add(Counter::FormatsRefused, refused.formats);
        stats.add(Counter::ExtensionsRefused, refused.uris);
        let held = names.held();
        let shared = weight(media) <= MAX_SHARED;
        let complete = refused == Refused::default();
        if !complete || held != Held::default() {
            // What was refused today may find room tomorrow.
            conference.keep((shared && complete).then(|| media.clone()), held, &negotiated);
        } else if shared {
            if self.known.len() >= self.sweep_at {
                self.known.retain(|_, negotiated| Arc::strong_count(negotiated) > 1);
                self.sweep_at = (self.known.len() * 2).max(FIRST_SWEEP);
            }
            self.known.insert(media.clone(), Arc::clone(&negotiated));
        }
        negotiated
    }
}

/// Bytes of what a negotiation names.
fn weight(media: &Media) -> usize {
    let pairs = |list: &[(String, String)]| list.iter().map(|(a, b)| a.len() + b.len() + 48).sum::<usize>();
    let types = media.codecs.iter().chain(&media.offered_codecs);
    let types = types.map(|codec| codec.name.len() + pairs(&codec.parameters) + pairs(&codec.feedback) + 96);
    types.sum::<usize>() + media.header_extensions.iter().map(|e| e.uri.len() + 32).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PayloadType;
    use crate::media::{CodecParameters, HeaderExtension, MediaKind};
    use crate::negotiation::formats::Codec;
    use crate::negotiation::ids::UriId;
    use crate::negotiation::vocabulary::{
        MAX_FORMATS_PER_CONFERENCE, MAX_FORMATS_PER_ENDPOINT, MAX_URIS_PER_CONFERENCE, MAX_URIS_PER_ENDPOINT,
    };

    fn media(id: u8) -> Media {
        let extension = HeaderExtension { id, kind: MediaKind::Video, uri: "urn:3gpp:video-orientation".to_owned() };
        Media { header_extensions: vec![extension], ..Media::default() }
    }

    const fn number(number: u8) -> PayloadType {
        PayloadType::new(number).expect("7 bits")
    }

    fn video(payload_type: u8, name: &str) -> CodecParameters {
        CodecParameters {
            payload_type: number(payload_type),
            kind: MediaKind::Video,
            name: name.to_owned(),
            clock_rate: 90_000,
            channels: 1,
            parameters: Vec::new(),
            feedback: Vec::new(),
        }
    }

    /// One negotiation of `count` made-up codecs and as many made-up extensions.
    fn made_up(tag: &str, count: usize) -> Media {
        let numbers = (0..count).map(|i| (i % 128) as u8);
        Media {
            codecs: numbers.clone().zip(0..).map(|(id, i)| video(id, &format!("x-{tag}-{i}"))).collect(),
            header_extensions: numbers
                .zip(0..)
                .map(|(id, i)| HeaderExtension {
                    id: id + 1,
                    kind: MediaKind::Video,
                    uri: format!("urn:example:{tag}:{i}"),
                })
                .collect(),
            ..Media::default()
        }
    }

    #[test]
    fn equals_share_and_what_nobody_uses_is_dropped() {
        let (mut all, mut names, stats) =
            (Negotiations::default(), ConferenceNegotiations::default(), WorkerStats::default());
        let first = all.compile(&media(1), &mut names, &stats);
        assert!(Arc::ptr_eq(&first, &all.compile(&media(1), &mut ConferenceNegotiations::default(), &stats)));
        assert!(!Arc::ptr_eq(&first, &all.compile(&media(2), &mut names, &stats)));
        for _ in 0..3 {
            (0..200).for_each(|id| drop(all.compile(&media(id), &mut names, &stats)));
        }
        assert!(all.known.len() <= FIRST_SWEEP, "{} kept", all.known.len());
        assert!(Arc::ptr_eq(&first, &all.compile(&media(1), &mut names, &stats)), "used all the time");
    }

    #[test]
    fn one_endpoint_gets_so_many_names_of_its_own_and_the_rest_is_counted() {
        let (mut all, mut names, stats) =
            (Negotiations::default(), ConferenceNegotiations::default(), WorkerStats::default());
        let mut media = made_up("a", 1_100);
        // What is well known comes last, and is not refused.
        media.codecs.truncate(200);
        media.codecs.push(video(127, "VP8"));
        media.header_extensions.truncate(100);
        media.header_extensions.push(HeaderExtension {
            id: 200,
            kind: MediaKind::Video,
            uri: "urn:ietf:params:rtp-hdrext:sdes:mid".to_owned(),
        });
        let table = all.compile(&media, &mut names, &stats);
        assert_eq!(names.vocabulary.sizes(), (MAX_FORMATS_PER_ENDPOINT, MAX_URIS_PER_ENDPOINT));
        assert_eq!(stats.get(Counter::FormatsRefused) as usize, 200 - MAX_FORMATS_PER_ENDPOINT);
        assert_eq!(stats.get(Counter::ExtensionsRefused) as usize, 100 - MAX_URIS_PER_ENDPOINT);
        assert_eq!(table.formats.media(MediaKind::Video, number(127)).unwrap().codec, Codec::Vp8);
        assert_eq!(table.extensions.id(MediaKind::Video, UriId::MID), Some(200));
        assert_eq!(table.formats.media(MediaKind::Video, number(0)).unwrap().codec, Codec::Other);
        assert_eq!(table.formats.media(MediaKind::Video, number(100)), None, "refused");
        // Longer than any list of numbers can be: not even looked at.
        all.compile(&made_up("b", 100_000), &mut names, &stats);
        assert!(stats.get(Counter::FormatsRefused) > 90_000);
    }

    #[test]
    fn names_are_released_when_nobody_negotiates_them() {
        let (mut all, mut names, stats) =
            (Negotiations::default(), ConferenceNegotiations::default(), WorkerStats::default());
        for round in 0..1_000 {
            let table = all.compile(&made_up(&round.to_string(), 30), &mut names, &stats);
            assert!(table.formats.media(MediaKind::Video, number(29)).is_some(), "round {round}");
        }
        assert_eq!(stats.get(Counter::FormatsRefused), 0);
        assert!(names.vocabulary.sizes().0 <= 60);
    }

    #[test]
    fn a_conference_that_is_full_of_names_costs_nobody_else_and_recovers() {
        let (mut all, stats) = (Negotiations::default(), WorkerStats::default());
        let (mut theirs, mut ours) = (ConferenceNegotiations::default(), ConferenceNegotiations::default());
        let mut guests: Vec<_> =
            (0..100).map(|n| all.compile(&made_up(&n.to_string(), 32), &mut theirs, &stats)).collect();
        assert_eq!(theirs.vocabulary.sizes(), (MAX_FORMATS_PER_CONFERENCE, MAX_URIS_PER_CONFERENCE));
        assert!(stats.get(Counter::FormatsRefused) > 0);
        let new = Media { codecs: vec![video(96, "x-ours"), video(97, "VP9")], ..Media::default() };
        let table = all.compile(&new, &mut ours, &stats);
        assert!((96..98).all(|number| table.formats.media(MediaKind::Video, self::number(number)).is_some()));
        let late = all.compile(&new, &mut theirs, &stats);
        assert_eq!(late.formats.media(MediaKind::Video, number(96)), None);
        assert!(late.formats.media(MediaKind::Video, number(97)).is_some(), "well known, even there");
        guests.truncate(2);
        let later = all.compile(&new, &mut theirs, &stats);
        assert!(later.formats.media(MediaKind::Video, number(96)).is_some(), "the others have left");
    }

    #[test]
    fn two_of_a_conference_agree_on_what_is_not_well_known() {
        let (mut all, mut names, stats) =
            (Negotiations::default(), ConferenceNegotiations::default(), WorkerStats::default());
        let one = |id| Media { codecs: vec![video(id, "x-ours")], ..Media::default() };
        let (a, b) = (all.compile(&one(96), &mut names, &stats), all.compile(&one(100), &mut names, &stats));
        let format = a.formats.media(MediaKind::Video, number(96)).unwrap();
        assert_eq!(b.formats.output(format.id).unwrap().payload_type, number(100));
        assert!(Arc::ptr_eq(&a, &all.compile(&one(96), &mut names, &stats)));
    }
}
