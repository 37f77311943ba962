use super::*;
use crate::ids::Ssrc;
use crate::slab::Key;

const SETTINGS: SsrcRewriting = SsrcRewriting { audio: 2, video: 3, seed: 1, mids: false };

fn id(number: usize) -> SourceId {
    SourceId::new(number)
}

struct Rig {
    slots: SsrcSlots,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        Self { slots: SsrcSlots::new(&SETTINGS), now: Instant::now() }
    }

    fn millis(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// A source at an index, named after it.
    fn assign(&mut self, kind: MediaKind, source: usize, need: Need, keep: &[usize]) -> Option<Assigned> {
        let name = format!("s{source}");
        let request = Request { source: id(source), name: &name, kind, need };
        self.slots.assign(self.now, &request, |other| keep.contains(&other.number()), |_| false)
    }

    fn audio(&mut self, source: usize) -> Option<Assigned> {
        self.assign(MediaKind::Audio, source, Need::Wanted, &[])
    }

    fn video(&mut self, source: usize, keep: &[usize]) -> Option<Assigned> {
        self.assign(MediaKind::Video, source, Need::Urgent, keep)
    }

    fn release(&mut self, kind: MediaKind, source: usize) {
        let ssrcs = self.slots.kind(kind).ssrcs(id(source)).unwrap();
        self.slots.release(self.now, kind, id(source), Resume::first(ssrcs));
    }
}

#[test]
fn ssrcs_are_bounded_distinct_and_never_taken_ones() {
    let mut rig = Rig::new();
    let mut seen = Vec::new();
    for source in 0..40 {
        rig.millis(1_000);
        let audio = rig.audio(source).unwrap().ssrcs;
        let video = rig.video(source, &[]).unwrap().ssrcs;
        assert_eq!(audio.rtx, None);
        for ssrc in [Some(audio.ssrc), Some(video.ssrc), video.rtx].into_iter().flatten() {
            assert_ne!(ssrc, NO_SSRC);
            seen.push(ssrc);
        }
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 2 + 2 * 3);
    // The same seed and the first number refused: all others are the same, one further.
    let first = SsrcSlots::new(&SETTINGS).next_ssrc(&|_| false);
    let other = SsrcSlots::new(&SETTINGS).next_ssrc(&|ssrc| ssrc == first);
    assert_ne!(first, other);
}

#[test]
fn the_least_recently_used_slot_goes_first() {
    let mut rig = Rig::new();
    let ssrcs: Vec<Ssrc> = (0..3).map(|source| rig.video(source, &[]).unwrap().ssrcs.ssrc).collect();
    rig.millis(10_000);
    rig.slots.video.touch(id(0), rig.now);
    rig.millis(10);
    rig.slots.video.touch(id(2), rig.now);
    rig.millis(10);
    let order: Vec<_> = (3..6)
        .map(|source| {
            let assigned = rig.video(source, &[3, 4, 5]).unwrap();
            (assigned.evicted, assigned.ssrcs.ssrc)
        })
        .collect();
    assert_eq!(order, [(Some(id(1)), ssrcs[1]), (Some(id(0)), ssrcs[0]), (Some(id(2)), ssrcs[2])]);
    assert!(rig.video(6, &[3, 4, 5]).is_none(), "all are to be kept");
    assert_eq!(rig.slots.video.sources().collect::<Vec<_>>(), [4, 3, 5].map(id));
}

#[test]
fn audio_in_use_keeps_its_slot_and_a_speaker_gets_one_at_once() {
    let mut rig = Rig::new();
    rig.audio(0);
    rig.audio(1);
    rig.millis(10_000);
    rig.slots.audio.touch(id(0), rig.now);
    rig.slots.audio.touch(id(1), rig.now);
    rig.millis(499);
    assert!(rig.audio(2).is_none());
    assert_eq!(rig.assign(MediaKind::Audio, 3, Need::Urgent, &[0]).unwrap().evicted, Some(id(1)));
    rig.millis(1);
    assert_eq!(rig.audio(2).unwrap().evicted, Some(id(0)), "idle for half a second");
}

#[test]
fn ssrcs_that_the_client_just_heard_of_keep_their_first_source() {
    let mut rig = Rig::new();
    for source in 0..3 {
        rig.video(source, &[]).unwrap();
        rig.millis(100);
    }
    assert!(rig.video(3, &[3]).is_none(), "the client would show the first source for good");
    assert_eq!(rig.slots.kind(MediaKind::Video).settles(rig.now), Some(rig.now + Duration::from_millis(700)));
    rig.millis(700);
    assert_eq!(rig.video(3, &[3]).unwrap().evicted, Some(id(0)));
    rig.millis(200);
    assert_eq!(rig.slots.kind(MediaKind::Video).settles(rig.now), None);
}

#[test]
fn spare_sources_evict_nobody() {
    let mut rig = Rig::new();
    for source in 0..3 {
        assert!(rig.assign(MediaKind::Video, source, Need::Spare, &[]).is_some());
    }
    rig.millis(60_000);
    assert!(rig.assign(MediaKind::Video, 3, Need::Spare, &[]).is_none());
}

#[test]
fn a_source_that_returns_gets_its_ssrcs_back_and_others_are_left_alone_at_first() {
    let mut rig = Rig::new();
    let first = rig.video(0, &[]).unwrap().ssrcs;
    rig.release(MediaKind::Video, 0);
    // Its client may not even have made the track: a new one gets new SSRCs as long as there are.
    let second = rig.video(1, &[]).unwrap().ssrcs;
    assert_ne!(first, second);
    assert_eq!(rig.video(0, &[]).unwrap().ssrcs, first);
    rig.release(MediaKind::Video, 0);
    rig.millis(5_000);
    let reused = rig.video(2, &[]).unwrap();
    assert_eq!((reused.ssrcs, reused.evicted), (first, None), "before another pair is made up");
    assert_eq!(rig.slots.video.slots.len(), 2);
}

#[test]
fn what_is_mapped_is_told_before_it_counts() {
    let mut rig = Rig::new();
    assert!(rig.slots.announce().is_none());
    let ssrcs = rig.audio(4).unwrap().ssrcs;
    assert!(!rig.slots.is_signalled(MediaKind::Audio, id(4)));
    let (first, carried) = rig.slots.announce().unwrap();
    assert_eq!(carried, [Carried { source: id(4), kind: MediaKind::Audio, ssrcs, mid: None }]);
    assert!(rig.slots.announce().is_none(), "said already");
    rig.audio(5);
    let (second, carried) = rig.slots.announce().unwrap();
    assert_eq!((carried.len(), second), (2, first + 1));
    assert!(rig.slots.note_signalled(first));
    assert!(rig.slots.is_signalled(MediaKind::Audio, id(4)) && !rig.slots.is_signalled(MediaKind::Audio, id(5)));
    assert!(rig.slots.note_signalled(second) && !rig.slots.note_signalled(first));
    assert!(rig.slots.is_signalled(MediaKind::Audio, id(5)));
    // The SSRC of 4 goes to another source: that has to be signalled first, again.
    rig.millis(10_000);
    rig.slots.audio.touch(id(5), rig.now);
    assert_eq!(rig.audio(6).unwrap().evicted, Some(id(4)));
    assert!(!rig.slots.is_signalled(MediaKind::Audio, id(6)) && !rig.slots.is_signalled(MediaKind::Audio, id(4)));
    rig.slots.announce().unwrap();
    rig.slots.announce_again();
    let (fourth, carried) = rig.slots.announce().unwrap();
    assert_eq!((fourth, carried.len()), (second + 2, 2));
    assert!(rig.slots.note_signalled(fourth) && rig.slots.is_signalled(MediaKind::Audio, id(6)));
}

#[test]
fn feedback_finds_the_source_that_an_ssrc_carries_now() {
    let mut rig = Rig::new();
    let video = rig.video(7, &[]).unwrap().ssrcs;
    let audio = rig.audio(8).unwrap().ssrcs;
    assert_eq!((rig.slots.source(video.ssrc), rig.slots.source(audio.ssrc)), (Some(id(7)), Some(id(8))));
    assert_eq!((rig.slots.source(video.rtx.unwrap()), rig.slots.source(Ssrc::new(99))), (None, None));
    rig.release(MediaKind::Video, 7);
    assert_eq!(rig.slots.source(video.ssrc), None);
}

#[test]
fn those_who_wait_are_bounded_and_patient() {
    let mut rig = Rig::new();
    assert!(rig.slots.wait(rig.now, id(1)));
    assert!(!rig.slots.wait(rig.now, id(1)), "known");
    assert!((2..65).all(|source| rig.slots.wait(rig.now, id(source))));
    assert!(!rig.slots.wait(rig.now, id(65)), "full");
    assert_eq!(rig.slots.next_waiting(), Some(id(1)));
    rig.slots.refuse(rig.now);
    rig.millis(199);
    assert!(!rig.slots.wait(rig.now, id(66)));
    rig.millis(1);
    assert!(rig.slots.wait(rig.now, id(66)));
    rig.release_waiting(2);
    assert_eq!(rig.slots.next_waiting(), Some(id(3)));
}

impl Rig {
    fn release_waiting(&mut self, source: usize) {
        self.slots.release(
            self.now,
            MediaKind::Audio,
            id(source),
            Resume::first(Encoding { ssrc: Ssrc::new(1), rtx: None }),
        );
    }
}
