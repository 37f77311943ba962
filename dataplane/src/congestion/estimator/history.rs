//! What was sent to one receiver under transport-wide sequence numbers, until feedback reports what became of it.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::WorkerTime;

/// Packets remembered: a second and a half of 16 Mbit/s.
pub const CAPACITY: usize = 2048;

/// What is known of a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Fate {
    /// Not reported yet.
    #[default]
    Unknown,
    /// Reported as received.
    Received,
    /// Reported as missing, which a later report may correct.
    Missing,
}

/// Eight bytes, so that a receiver's whole history is 16 KiB.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Entry {
    micros: u32,
    size: u16,
    cluster: u8,
    fate: Fate,
}

/// Packets that are this much older than the newest one are left behind when another process takes over; microseconds. Feedback on
/// them is on its way no more, or says nothing that matters.
const CARRIED: u32 = 500_000;

impl Serialize for SentHistory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { entries, newest } = self;
        let known = (*newest).min(entries.len() as u64);
        let back = |age: u64| entries.get((newest - age) as usize % CAPACITY);
        let last = back(0).map_or(0, |entry| entry.micros);
        let recent = (0..known).map_while(back).take_while(|entry| last.wrapping_sub(entry.micros) <= CARRIED);
        (newest, recent.collect::<Vec<_>>()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SentHistory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (newest, recent) = <(u64, Vec<Entry>)>::deserialize(deserializer)?;
        let known = recent.len() as u64;
        if recent.len() > CAPACITY || known > newest || newest > u64::MAX / 2 {
            return Err(D::Error::custom("more packets than were sent"));
        }
        let mut history = Self { entries: Box::default(), newest };
        if newest > 0 {
            // What is left behind counts as reported, and as old: nothing is concluded from it.
            let last = recent.first().map_or(0, |entry| entry.micros);
            let micros = last.wrapping_sub(CARRIED).wrapping_sub(1);
            let reported = Entry { micros, fate: Fate::Received, ..Entry::default() };
            history.entries = vec![reported; CAPACITY].into_boxed_slice();
        }
        for (age, entry) in (0..).zip(recent) {
            if let Some(place) = history.entries.get_mut((newest - age) as usize % CAPACITY) {
                *place = entry;
            }
        }
        Ok(history)
    }
}

/// A packet that feedback speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// When it was sent.
    pub at: WorkerTime,
    /// Bytes of UDP payload.
    pub size: u16,
    /// The probe that it was part of; 0 is none.
    pub cluster: u8,
    /// What earlier feedback said.
    pub before: Fate,
}

/// The last [`CAPACITY`] packets; memory is taken at the first one, since most receivers of audio alone send no feedback.
#[derive(Debug, Default)]
pub struct SentHistory {
    entries: Box<[Entry]>,
    newest: u64,
}

impl SentHistory {
    /// The number that the next packet has to carry; the first is 1.
    #[inline]
    pub fn next_sequence(&self) -> u16 {
        (self.newest as u16).wrapping_add(1)
    }

    /// Records that the packet with [`Self::next_sequence`] was sent.
    #[inline]
    pub fn push(&mut self, now: WorkerTime, size: u16, cluster: u8) {
        if self.entries.is_empty() {
            self.entries = vec![Entry::default(); CAPACITY].into_boxed_slice();
        }
        self.newest += 1;
        if let Some(entry) = self.entries.get_mut(self.newest as usize % CAPACITY) {
            *entry = Entry { micros: now.as_micros() as u32, size, cluster, fate: Fate::Unknown };
        }
    }

    /// Packets sent so far.
    pub fn sent(&self) -> u64 {
        self.newest
    }

    /// Records a packet's fate and returns what was sent. `None` for numbers that were never used or are forgotten.
    pub fn settle(&mut self, now: WorkerTime, sequence: u16, received: bool) -> Option<Sent> {
        let age = u64::from((self.newest as u16).wrapping_sub(sequence));
        if age >= CAPACITY as u64 || age >= self.newest {
            return None;
        }
        let entry = self.entries.get_mut((self.newest - age) as usize % CAPACITY)?;
        let before = entry.fate;
        entry.fate = match (before, received) {
            (Fate::Received, _) | (_, true) => Fate::Received,
            (_, false) => Fate::Missing,
        };
        // A packet is at most some seconds old, so that the low half of the clock is enough.
        let now = now.as_micros();
        let at = now.saturating_sub(u64::from((now as u32).wrapping_sub(entry.micros)));
        let at = WorkerTime::from_micros(at);
        Some(Sent { at, size: entry.size, cluster: entry.cluster, before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> WorkerTime {
        WorkerTime::from_micros(micros)
    }

    #[test]
    fn numbers_wrap_and_old_ones_are_forgotten() {
        let mut history = SentHistory::default();
        assert_eq!(
            (history.next_sequence(), history.settle(at(9), 0, true), history.settle(at(9), 1, true)),
            (1, None, None)
        );
        for i in 0..70_000u64 {
            let sequence = history.next_sequence();
            history.push(at(i), 100, 0);
            assert_eq!(history.settle(at(i), sequence, true).map(|s| s.at), Some(at(i)));
            assert_eq!(history.settle(at(i), sequence.wrapping_add(1), true), None, "not sent yet");
            assert_eq!(history.settle(at(i), sequence.wrapping_sub(CAPACITY as u16), true), None, "forgotten");
        }
    }

    #[test]
    fn the_clock_wraps_between_sending_and_feedback() {
        let mut history = SentHistory::default();
        let sent = at(u64::from(u32::MAX) - 5);
        history.push(sent, 1200, 3);
        let found = history.settle(sent + 100_000, 1, false).unwrap();
        assert_eq!(found, Sent { at: sent, size: 1200, cluster: 3, before: Fate::Unknown });
        assert_eq!(history.settle(sent + 200_000, 1, true).unwrap().before, Fate::Missing);
        assert_eq!(history.settle(sent + 200_000, 1, false).unwrap().before, Fate::Received);
        assert_eq!(history.settle(sent + 200_000, 1, false).unwrap().before, Fate::Received, "that is final");
    }
}
