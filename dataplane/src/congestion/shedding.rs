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

/// Watches a worker's turns.
#[derive(Debug, Default)]
pub struct LoadMeter {
    started: Option<Instant>,
    busy: Duration,
    pressed: Duration,
    overflow: u64,
    /// The last window was pressed: a keyframe for a large audience fills one window, overload the next one, too.
    was_pressed: bool,
    shedding: Shedding,
}

impl LoadMeter {
    /// Of a worker that left out so much before it was watched, and whose sockets had lost so many packets.
    pub fn starting_at(shedding: Shedding, overflow: u64) -> Self {
        Self { shedding, overflow, ..Self::default() }
    }

    /// Records a turn that ended at `now`: how long it worked, whether it found a full batch, and how many packets the
    /// sockets have lost since the start. Returns the new level when it changes.
    pub fn turn(&mut self, now: Instant, work: Duration, full: bool, overflow: u64) -> Option<Shedding> {
        let started = *self.started.get_or_insert(now);
        self.busy += work;
        if full {
            self.pressed += work;
        }
        let elapsed = now.saturating_duration_since(started);
        if elapsed < WINDOW {
            return None;
        }
        let share = |part: Duration| part.as_secs_f64() / elapsed.as_secs_f64();
        let (busy, pressed, lost) = (share(self.busy), share(self.pressed), overflow > self.overflow);
        (self.started, self.busy, self.pressed, self.overflow) = (Some(now), Duration::ZERO, Duration::ZERO, overflow);
        let before = self.shedding;
        let is_pressed = pressed >= PRESSED;
        let again = std::mem::replace(&mut self.was_pressed, is_pressed) && is_pressed;
        self.shedding.level = self.next(busy, again, lost);
        (self.shedding != before).then_some(self.shedding)
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
        if expected < room { level.saturating_sub(1) } else { level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that could carry `load` of its capacity's work if nothing were shed; returns the level after each turn.
    fn simulate(meter: &mut LoadMeter, now: &mut Instant, load: f64, time: Duration, overflow: &mut u64) -> Vec<u8> {
        let (end, mut levels) = (*now + time, Vec::new());
        while *now < end {
            let share = load * f64::from(meter.shedding.groups_left()) / f64::from(GROUPS);
            let turn = Duration::from_millis(2);
            *now += turn;
            // What exceeds the capacity overflows a socket after a while.
            if share > 1.2 {
                *overflow += 1;
            }
            meter.turn(*now, turn.mul_f64(share.min(0.95)), share >= 1.0, *overflow);
            levels.push(meter.shedding.level());
        }
        levels
    }

    #[test]
    fn overload_is_shed_quickly_and_steadily_and_given_back() {
        for load in [1.3, 2.0, 5.0] {
            let (mut meter, mut now, mut overflow) = (LoadMeter::default(), Instant::now(), 0);
            let half = simulate(&mut meter, &mut now, 0.5, Duration::from_secs(2), &mut overflow);
            assert!(half.iter().all(|level| *level == 0));
            simulate(&mut meter, &mut now, load, Duration::from_millis(800), &mut overflow);
            let overflown = overflow;
            let levels = simulate(&mut meter, &mut now, load, Duration::from_secs(10), &mut overflow);
            assert_eq!(overflow, overflown, "at {load}: nothing is lost at random after 0.8 s");
            let changes = levels.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(changes <= 2, "at {load}: {changes} changes in 10 s");
            let kept = f64::from(meter.shedding.groups_left()) / 16.0 * load;
            assert!((0.6..1.0).contains(&kept), "at {load}: carries {kept} of its capacity");
            let levels = simulate(&mut meter, &mut now, 0.4, Duration::from_secs(2), &mut overflow);
            assert_eq!(levels.last(), Some(&0), "at {load}: recovers within two seconds");
        }
    }

    #[test]
    fn one_burst_is_no_overload() {
        let (mut meter, start) = (LoadMeter::default(), Instant::now());
        let mut turn = |millis, work, full| {
            meter.turn(start + Duration::from_millis(millis), Duration::from_millis(work), full, 0)
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
        let mut turn = |millis, lost| meter.turn(start + Duration::from_millis(millis), Duration::ZERO, false, lost);
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
