//! Dominant speaker identification after Volfin and Cohen, with the constants of bridge-protocol 9.2: speech activity on
//! three time scales, and a candidate must beat the dominant speaker on all of them.

use std::time::{Duration, Instant};

use crate::ids::EndpointId;

const IMMEDIATE_LEVELS: usize = 13;
const MEDIUM_LENGTH: usize = 5;
const LONG_LENGTH: usize = 10;
const SUB_UNIT: u8 = 10;
const IMMEDIATES: usize = MEDIUM_LENGTH * LONG_LENGTH;
const MEDIUM_THRESHOLD: u8 = 7;
const LONG_THRESHOLD: u8 = 4;
const IMMEDIATE_LAMBDA: f64 = 0.78;
const MEDIUM_LAMBDA: f64 = 24.0;
const LONG_LAMBDA: f64 = 47.0;
const MARGINS: [f64; 3] = [3.0, 2.0, 0.0];
const MIN_SCORE: f64 = 1e-10;
const MIN_LEVEL_WINDOW: u32 = 750;
const DECISION: Duration = Duration::from_millis(300);
const LEVEL_IDLE: Duration = Duration::from_millis(40);
const STOP_AFTER: Duration = Duration::from_secs(15);

/// Earlier speakers that are told to clients.
const MAX_RECENT: usize = 11;

#[derive(Debug)]
struct Speaker {
    endpoint: EndpointId,
    /// Newest first.
    levels: [u8; IMMEDIATES],
    last_level: Instant,
    min_level: u8,
    next_min_level: u8,
    min_level_samples: u32,
    scores: [f64; 3],
}

impl Speaker {
    fn new(endpoint: EndpointId, now: Instant) -> Self {
        Self {
            endpoint,
            levels: [0; IMMEDIATES],
            last_level: now,
            min_level: 0,
            next_min_level: 0,
            min_level_samples: 0,
            scores: [MIN_SCORE; 3],
        }
    }

    fn push(&mut self, level: u8) {
        self.levels.copy_within(..IMMEDIATES - 1, 1);
        self.levels[0] = level;
        if level == 0 {
            return;
        }
        // The noise floor of the last fifteen seconds.
        if self.min_level == 0 || level < self.min_level {
            (self.min_level, self.next_min_level, self.min_level_samples) = (level, 0, 0);
            return;
        }
        if self.next_min_level == 0 || level < self.next_min_level {
            self.next_min_level = level;
        }
        self.min_level_samples += 1;
        if self.min_level_samples >= MIN_LEVEL_WINDOW {
            let mean = (f64::from(self.min_level) * f64::from(self.next_min_level)).sqrt();
            self.min_level = mean.clamp(1.0, 127.0) as u8;
            (self.next_min_level, self.min_level_samples) = (0, 0);
        }
    }

    fn evaluate(&mut self) {
        let floor = self.min_level.saturating_add(SUB_UNIT);
        let mut immediates = [0u8; IMMEDIATES];
        for (immediate, level) in immediates.iter_mut().zip(self.levels) {
            *immediate = if level < floor { 0 } else { level / SUB_UNIT };
        }
        let mut mediums = [0u8; LONG_LENGTH];
        for (medium, group) in mediums.iter_mut().zip(immediates.chunks(MEDIUM_LENGTH)) {
            *medium = group.iter().filter(|immediate| **immediate > MEDIUM_THRESHOLD).count() as u8;
        }
        let long = mediums.iter().filter(|medium| **medium > LONG_THRESHOLD).count() as u8;
        self.scores = [
            score(immediates[0], IMMEDIATE_LEVELS, IMMEDIATE_LAMBDA),
            score(mediums[0], MEDIUM_LENGTH, MEDIUM_LAMBDA),
            score(long, LONG_LENGTH, LONG_LAMBDA),
        ];
    }
}

/// Log-likelihood ratio of speech: binomial activity against exponential silence.
fn score(active: u8, length: usize, lambda: f64) -> f64 {
    let (n, k) = (length as f64, f64::from(active).min(length as f64));
    let combinations: f64 = (0..k as u32).map(|i| ((n - f64::from(i)) / (f64::from(i) + 1.0)).ln()).sum();
    let value = combinations + n * 0.5f64.ln() - lambda.ln() + lambda * k;
    value.max(MIN_SCORE)
}

/// Who speaks in one conference.
#[derive(Debug, Default)]
pub struct SpeakerDetector {
    speakers: Vec<Speaker>,
    recent: Vec<EndpointId>,
    next_decision: Option<Instant>,
    last_level: Option<Instant>,
}

impl SpeakerDetector {
    /// Takes the audio level of a packet: 0 is the loudest, 127 is silence (RFC 6464).
    pub fn level(&mut self, now: Instant, endpoint: EndpointId, level: u8) {
        let loudness = 127 - level.min(127);
        let speaker = match self.speakers.iter_mut().find(|speaker| speaker.endpoint == endpoint) {
            Some(speaker) => speaker,
            None => {
                self.speakers.push(Speaker::new(endpoint, now));
                let Some(speaker) = self.speakers.last_mut() else { return };
                speaker
            }
        };
        speaker.last_level = now;
        speaker.push(loudness);
        self.last_level = Some(now);
        self.next_decision.get_or_insert(now + DECISION);
    }

    /// Forgets an endpoint; true when the order of speakers changed.
    pub fn remove(&mut self, endpoint: EndpointId) -> bool {
        self.speakers.retain(|speaker| speaker.endpoint != endpoint);
        let before = self.recent.len();
        self.recent.retain(|recent| *recent != endpoint);
        self.recent.len() != before
    }

    /// When [`Self::decide`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_decision
    }

    /// The dominant speaker and up to ten earlier ones.
    pub fn recent(&self) -> &[EndpointId] {
        &self.recent
    }

    /// Decides, if it is time; true when the dominant speaker changed.
    pub fn decide(&mut self, now: Instant) -> bool {
        if self.next_decision.is_none_or(|due| now < due) {
            return false;
        }
        let silent = self.last_level.is_none_or(|last| now.saturating_duration_since(last) > STOP_AFTER);
        self.next_decision = (!silent).then(|| now + DECISION);
        for speaker in &mut self.speakers {
            // Levels that did not come count as silence, one per packet interval.
            let idle = now.saturating_duration_since(speaker.last_level);
            if idle > LEVEL_IDLE {
                for _ in 0..(idle.as_millis() / 20).min(IMMEDIATES as u128) {
                    speaker.push(0);
                }
                speaker.last_level = now;
            }
            speaker.evaluate();
        }
        let Some(winner) = self.winner() else { return false };
        self.recent.retain(|recent| *recent != winner);
        self.recent.insert(0, winner);
        self.recent.truncate(MAX_RECENT);
        true
    }

    /// Who takes over, if anybody.
    fn winner(&self) -> Option<EndpointId> {
        let dominant =
            self.recent.first().and_then(|first| self.speakers.iter().find(|speaker| speaker.endpoint == *first));
        let Some(dominant) = dominant else {
            // The first to speak at all is dominant at once.
            let first = self.speakers.iter().max_by(|a, b| a.scores[0].total_cmp(&b.scores[0]))?;
            return (first.scores[0] > MIN_SCORE).then_some(first.endpoint);
        };
        let ratio = |speaker: &Speaker, scale: usize| (speaker.scores[scale] / dominant.scores[scale]).ln();
        self.speakers
            .iter()
            .filter(|speaker| speaker.endpoint != dominant.endpoint)
            .filter(|speaker| (0..3).all(|scale| ratio(speaker, scale) > MARGINS[scale]))
            .max_by(|a, b| a.scores[1].total_cmp(&b.scores[1]))
            .map(|speaker| speaker.endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds levels every 20 ms, deciding when it is time; returns the dominant speaker at the end.
    fn talk(detector: &mut SpeakerDetector, now: &mut Instant, millis: u64, levels: &[(EndpointId, u8)]) {
        for _ in 0..millis / 20 {
            for (endpoint, level) in levels {
                detector.level(*now, *endpoint, *level);
            }
            *now += Duration::from_millis(20);
            detector.decide(*now);
        }
    }

    #[test]
    fn who_talks_takes_over_and_who_coughs_does_not() {
        let (a, b) = (EndpointId(1), EndpointId(2));
        let mut now = Instant::now();
        let mut detector = SpeakerDetector::default();
        talk(&mut detector, &mut now, 2_000, &[(a, 90), (b, 90)]);
        talk(&mut detector, &mut now, 3_000, &[(a, 25), (b, 90)]);
        assert_eq!(detector.recent().first(), Some(&a));
        talk(&mut detector, &mut now, 100, &[(a, 30), (b, 20)]);
        talk(&mut detector, &mut now, 1_000, &[(a, 25), (b, 90)]);
        assert_eq!(detector.recent().first(), Some(&a), "a cough is not speech");
        talk(&mut detector, &mut now, 3_000, &[(a, 90), (b, 25)]);
        assert_eq!(detector.recent(), [b, a]);
        assert!(detector.remove(b));
        assert_eq!(detector.recent(), [a]);
    }
}
