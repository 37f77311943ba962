//! What a worker at its limit leaves out: first the highest encodings, then the video of more and more receivers, audio
//! never. Without it the kernel would drop whatever does not fit in the socket, audio as likely as video.
//!
//! [`LoadMeter`] decides how much, from how busy the worker's turns are; [`Shedding`] says what that means for a subscription.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Levels that lower the highest encoding, one each.
const CAPS: u8 = 2;
/// Levels that stop the video of a sixteenth of the receivers, one each.
const GROUPS: u8 = 16;
/// How long turns are watched before the level may change.
const WINDOW: Duration = Duration::from_millis(50);
/// Share of a window's time in turns that found a full batch: from here on, more comes than goes.
const PRESSED: f64 = 0.8;
/// Expected share of busy time below which the level goes down.
const ROOM: f64 = 0.8;
/// The same while only encodings are lowered: what they cost is not known.
const ROOM_FOR_ENCODINGS: f64 = 0.6;
/// How much more of a processor the host is expected to grant from one window to the next, after it granted less than was needed.
const GRANTED_AGAIN: f64 = 1.015;
/// A worker that got less than this share of the time that its turns took was kept waiting in the middle of them. What the kernel
/// does for its packets is not counted as its own everywhere, and is less than the rest.
const KEPT_WAITING: f64 = 0.25;

/// How much is left out. Zero is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shedding {
    #[serde(deserialize_with = "crate::carry::below::<_, _, 19>")]
    level: u8,
    /// Moves the groups of one conference's receivers.
    offset: u8,
}

impl Shedding {
    /// The highest level: no video at all.
    pub const MAX: Self = Self { level: CAPS + GROUPS, offset: 0 };

    /// A level, at most [`Self::MAX`].
    pub fn at(level: u8) -> Self {
        Self { level: level.min(Self::MAX.level), offset: 0 }
    }

    /// What it means for the receivers of one conference (by its index in the worker): elsewhere others come first, or one
    /// level would stop the same participant of every small room.
    #[inline]
    pub fn within(self, conference: usize) -> Self {
        // Odd, so that sixteen rooms one after the other differ.
        Self { offset: (conference as u8).wrapping_mul(5), ..self }
    }

    /// For the gauge; 0 to 18.
    pub fn level(self) -> u8 {
        self.level
    }

    /// The encoding to forward at most, of those that are active (a mask), when the allocation allows `target`.
    #[inline]
    pub fn cap(self, active: u8, target: u8) -> u8 {
        let highest = 7 - (active | 1).leading_zeros() as u8;
        if self.level == 0 { target } else { target.min(highest.saturating_sub(self.level.min(CAPS))) }
    }

    /// Whether a receiver (by its index in the conference) gets video. The same receivers at the same level, so that few
    /// pictures stop and the others stay whole.
    #[inline]
    pub fn spares(self, receiver: usize) -> bool {
        // An odd factor spreads neighbours over the groups.
        (receiver as u8).wrapping_mul(7).wrapping_add(self.offset) % GROUPS >= self.level.saturating_sub(CAPS)
    }

    fn groups_left(self) -> u8 {
        GROUPS - self.level.saturating_sub(CAPS)
    }
}

/// What came of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// How much is left out, where that changed.
    pub changed: Option<Shedding>,
    /// What the worker used of a processor.
    pub used: Duration,
    /// Others had the processor for most of the time that its turns took: it is the host that is at its limit.
    pub kept_waiting: bool,
}

/// Watches a worker's turns.
#[derive(Debug)]
pub struct LoadMeter {
    /// When the window began, and what the worker had used of a processor until then.
    started: Option<(Instant, Duration)>,
    busy: Duration,
    pressed: Duration,
    overflow: u64,
    /// The last window was pressed: a keyframe for a large audience fills one window, overload the next one, too.
    was_pressed: bool,
    /// Share of a processor that the host is thought to grant: what it did when the worker could not get enough.
    granted: f64,
    shedding: Shedding,
}

impl LoadMeter {
    /// Of a worker that left out so much before it was watched, and whose sockets had lost so many packets.
    pub fn starting_at(shedding: Shedding, overflow: u64) -> Self {
        let (busy, pressed) = (Duration::ZERO, Duration::ZERO);
        Self { started: None, busy, pressed, overflow, was_pressed: false, granted: 1.0, shedding }
    }

    /// Records a turn that ended at `now`: how long it worked, whether it found a full batch, and how many packets the
    /// sockets have lost since the start. Now and then it asks what the worker has used of a processor, and says what came of the time
    /// since it did so last.
    pub fn turn(
        &mut self,
        now: Instant,
        work: Duration,
        full: bool,
        overflow: u64,
        used: impl FnOnce() -> Duration,
    ) -> Option<Window> {
        self.busy += work;
        if full {
            self.pressed += work;
        }
        let Some((started, used_before)) = self.started else {
            self.started = Some((now, used()));
            return None;
        };
        let elapsed = now.saturating_duration_since(started);
        if elapsed < WINDOW {
            return None;
        }
        let used_now = used();
        let used = used_now.saturating_sub(used_before);
        let share = |part: Duration| part.as_secs_f64() / elapsed.as_secs_f64();
        let (busy, pressed, got) = (share(self.busy), share(self.pressed), share(used).min(1.0));
        let lost = overflow > self.overflow;
        (self.busy, self.pressed, self.overflow) = (Duration::ZERO, Duration::ZERO, overflow);
        self.started = Some((now, used_now));
        let before = self.shedding;
        let is_pressed = pressed >= PRESSED;
        let again = std::mem::replace(&mut self.was_pressed, is_pressed) && is_pressed;
        let kept_waiting = got < busy * KEPT_WAITING;
        self.granted = match (kept_waiting, is_pressed) {
            (false, _) => 1.0,
            (true, true) => got,
            (true, false) => (self.granted * GRANTED_AGAIN).min(1.0),
        };
        // The time for which it was kept waiting is no work that fewer packets would save.
        self.shedding.level = self.next(if kept_waiting { got } else { busy }, again, lost);
        let changed = (self.shedding != before).then_some(self.shedding);
        Some(Window { changed, used, kept_waiting })
    }

    fn next(&self, busy: f64, pressed: bool, lost: bool) -> u8 {
        let level = self.shedding.level;
        if lost || pressed {
            // What is lost already is lost at random: hurry.
            return (level + if lost { 2 } else { 1 }).min(Shedding::MAX.level);
        }
        let left = f64::from(self.shedding.groups_left());
        let (expected, room) = if level > CAPS {
            (if left > 0.0 { busy * (left + 1.0) / left } else { busy }, ROOM)
        } else {
            (busy, ROOM_FOR_ENCODINGS)
        };
        if expected < room * self.granted { level.saturating_sub(1) } else { level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker on a host that grants it a share of a processor.
    struct World {
        meter: LoadMeter,
        now: Instant,
        used: Duration,
        overflow: u64,
        granted: f64,
        /// Share of the work that counts as the worker's own: not what the kernel does in interrupts.
        own: f64,
        /// What is said of the last window.
        window: Option<Window>,
    }

    impl World {
        fn granted(granted: f64) -> Self {
            let (meter, now) = (LoadMeter::starting_at(Shedding::default(), 0), Instant::now());
            Self { meter, now, used: Duration::ZERO, overflow: 0, granted, own: 1.0, window: None }
        }

        /// One turn of this length, of which so much was work by the clock and so much by the processor.
        fn turn(&mut self, turn: Duration, (work, used): (f64, f64), full: bool) -> u8 {
            self.now += turn;
            self.used += turn.mul_f64(used);
            let used = self.used;
            self.window = self.meter.turn(self.now, turn.mul_f64(work), full, self.overflow, || used).or(self.window);
            self.meter.shedding.level()
        }

        /// What is left of the load, as a share of a processor's work; and of what the worker is granted.
        fn kept(&self, load: f64) -> f64 {
            load * f64::from(self.meter.shedding.groups_left()) / f64::from(GROUPS) / self.granted
        }

        /// Time in which `load` of a processor's work would have to be done if nothing were shed; returns the level after each turn.
        fn simulate(&mut self, load: f64, time: Duration) -> Vec<u8> {
            let (end, mut levels) = (self.now + time, Vec::new());
            while self.now < end {
                let share = self.kept(load);
                // What exceeds the capacity overflows a socket after a while.
                if share > 1.2 {
                    self.overflow += 1;
                }
                let work = share.min(0.95);
                levels.push(self.turn(Duration::from_millis(2), (work, work * self.granted * self.own), share >= 1.0));
            }
            levels
        }
    }

    fn changes(levels: &[u8]) -> usize {
        levels.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    #[test]
    fn overload_is_shed_quickly_and_steadily_and_given_back() {
        for (load, own) in [(1.3, 1.0), (2.0, 1.0), (5.0, 1.0), (1.3, 0.4), (5.0, 0.4)] {
            let mut world = World { own, ..World::granted(1.0) };
            let half = world.simulate(0.5, Duration::from_secs(2));
            assert!(half.iter().all(|level| *level == 0));
            world.simulate(load, Duration::from_millis(800));
            let overflown = world.overflow;
            let levels = world.simulate(load, Duration::from_secs(10));
            assert_eq!(world.overflow, overflown, "at {load}: nothing is lost at random after 0.8 s");
            let changes = changes(&levels);
            assert!(changes <= 2, "at {load}: {changes} changes in 10 s");
            let kept = world.kept(load);
            assert!((0.6..1.0).contains(&kept), "at {load}: carries {kept} of its capacity");
            assert!(world.window.is_some_and(|window| !window.kept_waiting));
            let levels = world.simulate(0.4, Duration::from_secs(2));
            assert_eq!(levels.last(), Some(&0), "at {load}: recovers within two seconds");
        }
    }

    /// Others have the processor: turns take long, whatever is to be done in them.
    #[test]
    fn who_is_kept_waiting_leaves_out_what_helps_and_no_more() {
        let mut world = World::granted(0.04);
        // For a while it does not even get to empty its sockets, and all video is left out.
        let turn = Duration::from_millis(25);
        let worst = (0..80).map(|_| world.turn(turn, (0.97, 0.04), true)).max();
        assert_eq!(worst, Some(Shedding::MAX.level()));
        assert!(world.window.is_some_and(|window| window.kept_waiting));
        // Then it does, in turns that take as long.
        let levels: Vec<u8> = (0..240).map(|_| world.turn(turn, (0.97, 0.03), false)).collect();
        let until = levels.iter().position(|level| *level == 0).map(|turns| turn * turns as u32);
        assert!(until.is_some_and(|time| time < Duration::from_secs(5)), "{until:?}");
        // A twentieth of a processor is granted where a thirteenth is needed.
        let mut world = World::granted(0.05);
        world.simulate(0.075, Duration::from_secs(5));
        let levels = world.simulate(0.075, Duration::from_secs(10));
        let changes = changes(&levels);
        assert!(changes <= 16, "{changes} changes in 10 s: {until:?}");
        assert!(levels.iter().all(|level| (6..=10).contains(level)), "{levels:?}");
        // The others end.
        world.granted = 1.0;
        assert_eq!(world.simulate(0.075, Duration::from_secs(1)).last(), Some(&0));
    }

    #[test]
    fn one_burst_is_no_overload() {
        let (mut meter, start) = (LoadMeter::starting_at(Shedding::default(), 0), Instant::now());
        let mut turn = |millis, work, full| {
            let (at, used) = (Duration::from_millis(millis), || Duration::from_millis(millis));
            meter.turn(start + at, Duration::from_millis(work), full, 0, used).and_then(|window| window.changed)
        };
        assert_eq!(turn(0, 0, false), None);
        assert_eq!(turn(60, 60, true), None, "a keyframe for 500 receivers");
        assert_eq!(turn(120, 10, false), None);
        assert_eq!(turn(180, 60, true), None);
        assert_eq!(turn(240, 60, true), Some(Shedding::at(1)));
    }

    #[test]
    fn what_was_lost_before_is_no_reason_to_leave_out_more() {
        let mut meter = LoadMeter::starting_at(Shedding::at(1), 1_000);
        let start = Instant::now();
        let mut turn = |millis, lost| {
            let window =
                meter.turn(start + Duration::from_millis(millis), Duration::ZERO, false, lost, || Duration::ZERO);
            window.and_then(|window| window.changed)
        };
        assert_eq!(turn(0, 1_000), None);
        assert_eq!(turn(200, 1_000), Some(Shedding::at(0)), "there is room");
        assert_eq!(turn(400, 1_001), Some(Shedding::at(2)), "one more is lost");
    }

    #[test]
    fn encodings_go_first_and_receivers_one_by_one() {
        let at = Shedding::at;
        assert_eq!([0, 1, 2, 9].map(|level| at(level).cap(0b111, 2)), [2, 1, 0, 0]);
        assert_eq!([0, 1].map(|level| at(level).cap(0b1, 0)), [0, 0], "a single encoding cannot be lowered");
        let spared = |level| (0..160).filter(|receiver| at(level).spares(*receiver)).count();
        assert_eq!((0..=2).map(spared).collect::<Vec<_>>(), [160; 3]);
        assert_eq!((3..=18).map(spared).collect::<Vec<_>>(), (0..16).rev().map(|n| n * 10).collect::<Vec<_>>());
        let stays = |receiver| (3..18).all(|level| at(level).spares(receiver) || !at(level + 1).spares(receiver));
        assert!((0..160).all(stays), "whoever is left out at one level is at the next");
    }

    #[test]
    fn a_level_stops_as_much_in_small_rooms_as_in_a_large_one() {
        for participants in [2, 3, 5] {
            let shed = |level| {
                let of_room =
                    |room| (0..participants).filter(|to| !Shedding::at(level).within(room).spares(*to)).count();
                (0..160).map(of_room).sum::<usize>()
            };
            let shed: Vec<_> = (2..=18).map(shed).collect();
            let groups: Vec<_> = (0..=16).map(|groups| groups * participants * 10).collect();
            assert_eq!(shed, groups, "rooms of {participants}");
        }
    }
}
