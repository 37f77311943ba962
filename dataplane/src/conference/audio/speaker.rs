//! Dominant speaker identification (Volfin and Cohen, 2012) with the constants of docs/protocol/bridge.md 9.2.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::ids::EndpointId;

/// Levels per immediate, medium and long sub-band.
const N1: u32 = 13;
const N2: u32 = 5;
const N3: u32 = 10;
/// Length of the histories.
const LONG: usize = 1;
const MEDIUM: usize = LONG * N3 as usize;
const IMMEDIATE: usize = MEDIUM * N2 as usize;
const MEDIUM_THRESHOLD: u8 = 7;
const LONG_THRESHOLD: u8 = 4;
/// Relative activity that a challenger must exceed: immediate, medium, long.
const C1: f64 = 3.0;
const C2: f64 = 2.0;
const C3: f64 = 0.0;
const MIN_SCORE: f64 = 1e-10;
const LEVELS: u8 = 127;
/// Levels between two updates of the noise floor.
const MIN_LEVEL_WINDOW: u32 = 15 * 1000 / 20;
const SUB_UNIT: u8 = LEVELS.div_ceil(N1 as u8);
const DECISION: Duration = Duration::from_millis(300);
const IDLE: Duration = Duration::from_millis(40);
const SILENCE: Duration = Duration::from_secs(15);
/// The dominant speaker and up to ten before.
const RECENT: usize = 11;

#[derive(Debug, Serialize, Deserialize)]
struct Speaker {
    endpoint: EndpointId,
    /// Newest first.
    #[serde(with = "crate::carry::array")]
    levels: [u8; IMMEDIATE],
    #[serde(with = "crate::carry::array")]
    immediates: [u8; IMMEDIATE],
    mediums: [u8; MEDIUM],
    longs: [u8; LONG],
    #[serde(with = "crate::carry::checked")]
    scores: [f64; 3],
    #[serde(with = "crate::carry::checked")]
    last: Instant,
    min_level: u8,
    next_min_level: u8,
    window: u32,
}

impl Speaker {
    fn new(endpoint: EndpointId, now: Instant) -> Self {
        Self {
            endpoint,
            levels: [0; IMMEDIATE],
            immediates: [0; IMMEDIATE],
            mediums: [0; MEDIUM],
            longs: [0; LONG],
            scores: [MIN_SCORE; 3],
            last: now,
            min_level: 0,
            next_min_level: 0,
            window: 0,
        }
    }

    fn level(&mut self, level: u8) {
        let level = level.min(LEVELS);
        self.levels.rotate_right(1);
        self.levels[0] = level;
        self.track_floor(level);
    }

    fn track_floor(&mut self, level: u8) {
        if level == 0 {
            return;
        }
        if self.min_level == 0 || level < self.min_level {
            self.min_level = level;
            self.next_min_level = 0;
            self.window = 0;
            return;
        }
        if self.next_min_level == 0 || level < self.next_min_level {
            self.next_min_level = level;
        }
        self.window += 1;
        if self.window >= MIN_LEVEL_WINDOW {
            let mean = (f64::from(self.min_level) * f64::from(self.next_min_level)).sqrt();
            self.min_level = (mean as u8).clamp(1, LEVELS);
            self.next_min_level = 0;
            self.window = 0;
        }
    }

    fn evaluate(&mut self) {
        let floor = self.min_level.saturating_add(SUB_UNIT);
        for (immediate, level) in self.immediates.iter_mut().zip(self.levels) {
            *immediate = if level < floor { 0 } else { level / SUB_UNIT };
        }
        summarise(&self.immediates, &mut self.mediums, MEDIUM_THRESHOLD);
        summarise(&self.mediums, &mut self.longs, LONG_THRESHOLD);
        self.scores = [
            score(self.immediates[0], N1, 0.5, 0.78),
            score(self.mediums[0], N2, 0.5, 24.0),
            score(self.longs[0], N3, 0.5, 47.0),
        ];
    }
}

/// Each output counts how many values of its block of inputs exceed the threshold.
fn summarise(from: &[u8], to: &mut [u8], threshold: u8) {
    let block = (from.len() / to.len()).max(1);
    for (out, values) in to.iter_mut().zip(from.chunks(block)) {
        *out = values.iter().filter(|v| **v > threshold).count() as u8;
    }
}

/// Log-likelihood ratio of speech against silence for `v` active units of `n`.
fn score(v: u8, n: u32, p: f64, lambda: f64) -> f64 {
    let v = u32::from(v).min(n);
    let s = binomial(n, v).ln() + f64::from(v) * p.ln() + f64::from(n - v) * (1.0 - p).ln() - lambda.ln()
        + lambda * f64::from(v);
    s.max(MIN_SCORE)
}

fn binomial(n: u32, k: u32) -> f64 {
    let k = k.min(n - k);
    (0..k).fold(1.0, |product, i| product * f64::from(n - i) / f64::from(i + 1))
}

/// Finds out who speaks in one conference.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SpeakerDetector {
    speakers: Vec<Speaker>,
    /// The reigning speaker; none before the first one, and when it left.
    dominant: Option<EndpointId>,
    recent: Vec<EndpointId>,
    #[serde(with = "crate::carry::checked")]
    next_decision: Option<Instant>,
    #[serde(with = "crate::carry::checked")]
    last_level: Option<Instant>,
}

impl SpeakerDetector {
    /// Conference for one more speaker, so that its first level allocates nothing.
    pub fn add(&mut self, endpoint: EndpointId, now: Instant) {
        if !self.speakers.iter().any(|s| s.endpoint == endpoint) {
            self.speakers.push(Speaker::new(endpoint, now));
        }
    }

    /// Forgets a speaker.
    pub fn remove(&mut self, endpoint: EndpointId) {
        self.speakers.retain(|s| s.endpoint != endpoint);
        self.recent.retain(|e| *e != endpoint);
        self.dominant = self.dominant.filter(|e| *e != endpoint);
    }

    /// The dominant speaker first, then earlier ones.
    pub fn recent(&self) -> &[EndpointId] {
        &self.recent
    }

    /// Whether an endpoint is the dominant speaker.
    pub fn is_dominant(&self, endpoint: EndpointId) -> bool {
        self.dominant == Some(endpoint)
    }

    /// Takes the level of one audio packet: 0 is the loudest, 127 silence (RFC 6464). Returns its loudness, 0 to 127, which
    /// is 0 for what does not rise above the endpoint's own noise.
    pub fn level(&mut self, now: Instant, endpoint: EndpointId, level: u8) -> u8 {
        let Some(speaker) = self.speakers.iter_mut().find(|s| s.endpoint == endpoint) else { return 0 };
        speaker.last = now;
        speaker.level(LEVELS.saturating_sub(level));
        self.last_level = Some(now);
        self.next_decision.get_or_insert(now);
        let loudness = LEVELS.saturating_sub(level);
        if loudness < speaker.min_level.saturating_add(SUB_UNIT) { 0 } else { loudness }
    }

    /// When a decision is due; none while everybody is silent.
    pub fn deadline(&self) -> Option<Instant> {
        self.next_decision
    }

    /// Decides if due; true when the dominant speaker changed.
    pub fn decide(&mut self, now: Instant) -> bool {
        if self.next_decision.is_none_or(|due| due > now) {
            return false;
        }
        let silent = self.last_level.is_none_or(|last| now.saturating_duration_since(last) >= SILENCE);
        self.next_decision = (!silent).then_some(now + DECISION);
        for speaker in &mut self.speakers {
            if now.saturating_duration_since(speaker.last) >= IDLE {
                speaker.level(0);
            }
        }
        let Some(challenger) = self.challenger() else { return false };
        self.dominant = Some(challenger);
        self.recent.retain(|e| *e != challenger);
        self.recent.insert(0, challenger);
        self.recent.truncate(RECENT);
        true
    }

    fn challenger(&mut self) -> Option<EndpointId> {
        let Some(dominant) = self.dominant else {
            // The first one to be heard becomes dominant at once.
            return self.speakers.iter().find(|s| s.levels.iter().any(|l| *l > 0)).map(|s| s.endpoint);
        };
        for speaker in &mut self.speakers {
            speaker.evaluate();
        }
        let reigning = self.speakers.iter().find(|s| s.endpoint == dominant).map(|s| s.scores)?;
        let mut best = None;
        let mut best_medium = C2;
        for speaker in self.speakers.iter().filter(|s| s.endpoint != dominant) {
            let ratio = |i: usize| (speaker.scores[i] / reigning[i]).ln();
            if ratio(0) > C1 && ratio(1) > C2 && ratio(2) > C3 && ratio(1) > best_medium {
                best_medium = ratio(1);
                best = Some(speaker.endpoint);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Call {
        detector: SpeakerDetector,
        now: Instant,
        changes: Vec<EndpointId>,
    }

    impl Call {
        fn new(count: u32) -> Self {
            let now = Instant::now();
            let mut detector = SpeakerDetector::default();
            (0..count).for_each(|i| detector.add(EndpointId(i), now));
            Self { detector, now, changes: Vec::new() }
        }

        /// `levels`: header levels of each endpoint, one packet per 20 ms. Speech has pauses, or it would be noise.
        fn run(&mut self, millis: u64, levels: &[u8]) {
            for n in 0..millis / 20 {
                self.now += Duration::from_millis(20);
                let pause = if n % 10 == 9 { 60 } else { 0 };
                for (i, level) in levels.iter().enumerate() {
                    self.detector.level(self.now, EndpointId(i as u32), (*level + pause).min(127));
                }
                if self.detector.decide(self.now) {
                    self.changes.extend(self.detector.recent().first());
                }
            }
        }
    }

    #[test]
    fn the_first_speaker_is_dominant_at_once_and_a_louder_one_takes_over() {
        let mut call = Call::new(3);
        call.run(3000, &[127, 30, 127]);
        assert_eq!(call.changes, [EndpointId(1)]);
        call.run(3000, &[20, 127, 127]);
        assert_eq!(call.changes, [EndpointId(1), EndpointId(0)]);
        call.run(3000, &[127, 127, 25]);
        assert_eq!(call.detector.recent(), [EndpointId(2), EndpointId(0), EndpointId(1)]);
    }

    #[test]
    fn a_click_changes_nothing() {
        let mut call = Call::new(2);
        call.run(2000, &[30, 127]);
        call.run(20, &[127, 0]);
        call.run(1000, &[30, 127]);
        assert_eq!(call.changes, [EndpointId(0)]);
    }

    #[test]
    fn decisions_stop_in_silence_and_the_removed_are_forgotten() {
        let mut call = Call::new(2);
        call.run(600, &[30, 127]);
        call.run(16_000, &[]);
        assert_eq!(call.detector.deadline(), None);
        call.detector.remove(EndpointId(0));
        assert_eq!(call.detector.recent(), []);
        call.run(600, &[127, 30]);
        assert_eq!(call.detector.recent(), [EndpointId(1)]);
    }
}
