//! What one encoding brings per second at each operating point, counted as its packets pass.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::activity::{SILENT, SILENT_PICTURES};
use crate::conference::packet::frame::Frame;
use crate::congestion::layer::{MAX_POINTS, MAX_SPATIAL, MAX_TEMPORAL, Point};

/// Slots that make up the window.
const SLOTS: usize = 4;
/// Slots per second.
const PER_SECOND: u64 = 4;
/// A layer is gone when this many pictures of its encoding passed without a frame of it.
const MISSED_PICTURES: u32 = 16;
/// Rates of different encodings compare from this age on.
const RELIABLE_AFTER: Duration = Duration::from_secs(1);
/// Rates are not computed over less time than this.
const LEAST: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Slot {
    bytes: [u32; MAX_POINTS],
    frames: [u16; MAX_POINTS],
}

/// Counts of one encoding over about a second.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Meter {
    #[serde(with = "crate::carry::checked")]
    start: Option<Instant>,
    #[serde(with = "crate::carry::checked")]
    at: u64,
    #[serde(with = "crate::carry::array")]
    slots: [Slot; SLOTS],
    pictures: u32,
    /// Number of the last picture with a frame of exactly this layer; zero is never.
    last_seen: [u32; MAX_POINTS],
    /// The same for a spatial layer, and when that was.
    #[serde(with = "crate::carry::checked")]
    last_spatial: [Option<(u32, Instant)>; MAX_SPATIAL],
}

/// What one point brings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Frames per second.
    pub frame_rate: f32,
    /// Bits per second.
    pub bitrate: u64,
}

/// The slot of a moment, counted from the start.
fn slot(elapsed: Duration) -> u64 {
    elapsed.as_secs() * PER_SECOND + u64::from(elapsed.subsec_millis()) * PER_SECOND / 1000
}

impl Meter {
    /// Counts a packet; `picture` when it is the first one seen of a new picture, `begins` of a new frame. True when it
    /// is the first one of its layer.
    pub fn count(&mut self, now: Instant, frame: &Frame, picture: bool, begins: bool, bytes: usize) -> bool {
        let start = *self.start.get_or_insert(now);
        let at = slot(now.saturating_duration_since(start));
        if at > self.at {
            for passed in (self.at + 1..=at).take(SLOTS) {
                self.slots[(passed % SLOTS as u64) as usize] = Slot::default();
            }
            // Fewer were emptied than passed only when all of them were.
            self.at = at;
        }
        if picture {
            self.pictures = self.pictures.wrapping_add(1).max(1);
        }
        let layer = Point::new(frame.spatial, frame.temporal);
        let new = std::mem::replace(&mut self.last_seen[layer.index()], self.pictures.max(1)) == 0;
        self.last_spatial[usize::from(layer.spatial())] = Some((self.pictures, now));
        let slot = &mut self.slots[(self.at % SLOTS as u64) as usize];
        for (i, total) in slot.bytes.iter_mut().enumerate() {
            *total = total.saturating_add(if frame.needed.contains_index(i) { bytes as u32 } else { 0 });
        }
        if begins {
            // A picture counts once for each point: with the frame of the point's own spatial layer.
            let first = layer.index();
            let row = usize::from(layer.spatial()) * MAX_TEMPORAL + MAX_TEMPORAL;
            for count in slot.frames.get_mut(first..row).unwrap_or(&mut []) {
                *count = count.saturating_add(1);
            }
        }
        new
    }

    /// Whether frames of exactly this layer come, judged by the other frames of the encoding.
    pub fn seen(&self, point: Point) -> bool {
        let last = self.last_seen[point.index()];
        last != 0 && self.pictures.wrapping_sub(last) < MISSED_PICTURES
    }

    /// What a point brings.
    pub fn rate(&self, now: Instant, point: Point) -> Rate {
        let Some(start) = self.start else { return Rate { frame_rate: 0.0, bitrate: 0 } };
        let elapsed = now.saturating_duration_since(start);
        let newest = slot(elapsed);
        let oldest = newest.saturating_sub(SLOTS as u64 - 1);
        let (mut bytes, mut frames) = (0u64, 0u32);
        for at in oldest..=newest.min(self.at) {
            let slot = &self.slots[(at % SLOTS as u64) as usize];
            bytes += u64::from(slot.bytes[point.index()]);
            frames += u32::from(slot.frames[point.index()]);
        }
        let window = elapsed.saturating_sub(Duration::from_millis(oldest * 1000 / PER_SECOND)).max(LEAST);
        let seconds = window.as_secs_f64();
        Rate { frame_rate: (f64::from(frames) / seconds) as f32, bitrate: (bytes as f64 * 8.0 / seconds) as u64 }
    }

    /// From when on the rates can rank encodings; none before the first packet.
    pub fn reliable_from(&self) -> Option<Instant> {
        self.start.map(|start| start + RELIABLE_AFTER)
    }

    /// What all layers together bring.
    pub fn whole(&self, now: Instant) -> Rate {
        let top = (0..MAX_SPATIAL as u8).map(|spatial| self.rate(now, Point::new(spatial, u8::MAX)));
        let frame_rate = top.map(|rate| rate.frame_rate).fold(0.0, f32::max);
        Rate { frame_rate, bitrate: self.rate(now, Point::TOP).bitrate }
    }

    /// The spatial layers of which frames come, one bit each.
    #[inline]
    pub fn spatial(&self, now: Instant) -> u8 {
        let comes = |last: &(u32, Instant)| {
            self.pictures.wrapping_sub(last.0) < SILENT_PICTURES || now.saturating_duration_since(last.1) < SILENT
        };
        let all = self.last_spatial.iter().enumerate();
        all.fold(0, |mask, (spatial, last)| mask | u8::from(last.as_ref().is_some_and(comes)) << spatial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L1T3 at 30 frames per second, 1000 bytes each.
    fn run(meter: &mut Meter, start: Instant, frames: std::ops::Range<u32>) -> Instant {
        let mut now = start;
        for i in frames {
            now = start + Duration::from_micros(u64::from(i) * 33_333);
            let frame = Frame::layer(0, [0, 2, 1, 2][i as usize % 4]);
            meter.count(now, &frame, true, true, 600);
            meter.count(now, &frame, false, false, 400);
        }
        now
    }

    #[test]
    fn rates_are_of_all_that_a_point_needs() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let now = run(&mut meter, start, 0..95);
        for (temporal, frame_rate, bitrate) in [(0, 7.5, 60_000.0), (1, 15.0, 120_000.0), (2, 30.0, 240_000.0)] {
            let rate = meter.rate(now, Point::new(0, temporal));
            assert!((rate.frame_rate / frame_rate - 1.0).abs() < 0.15, "{rate:?}");
            assert!((rate.bitrate as f64 / bitrate - 1.0).abs() < 0.15, "{rate:?}");
            assert!(meter.seen(Point::new(0, temporal)));
        }
        assert!(!meter.seen(Point::new(0, 3)) && !meter.seen(Point::new(1, 0)));
        assert_eq!(meter.spatial(now), 1);
        let later = meter.rate(now + Duration::from_secs(2), Point::new(0, 2));
        assert_eq!((later.bitrate, later.frame_rate), (0, 0.0));
    }

    #[test]
    fn a_temporal_layer_that_ends_is_noticed() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        run(&mut meter, start, 0..40);
        for i in 0..16u32 {
            assert!(meter.seen(Point::new(0, 2)), "after {i}");
            meter.count(start + Duration::from_millis(2000), &Frame::layer(0, (i % 2) as u8), true, true, 10);
        }
        assert!(!meter.seen(Point::new(0, 2)) && meter.seen(Point::new(0, 1)));
    }

    #[test]
    fn a_spatial_layer_that_ends_is_noticed_within_300_ms() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let at = |i: u64| start + Duration::from_millis(33 * i);
        for i in 0..40 {
            meter.count(at(i), &Frame::layer(0, 0), true, true, 10);
            if i <= 30 {
                meter.count(at(i), &Frame::layer(1, 0), false, true, 10);
            }
            let expected = if at(i) < at(30) + SILENT { 0b11 } else { 0b01 };
            assert_eq!(meter.spatial(at(i)), expected, "picture {i}");
        }
        assert_eq!(meter.spatial(at(400)), 0b01, "a still screen changes nothing");
    }

    #[test]
    fn a_young_stream_is_measured_by_its_age() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let now = run(&mut meter, start, 0..15);
        let rate = meter.rate(now, Point::new(0, 2)).bitrate as f64;
        assert!((rate / 240_000.0 - 1.0).abs() < 0.15, "{rate}");
    }
}
