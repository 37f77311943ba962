//! Speech-shaped audio: a packet every 20 ms, with a level.

use std::time::Duration;

use super::{Codec, Noise, Track, TrackPacket};

/// Opus at about 40 kbit/s.
const PAYLOAD: usize = 100;
const FRAME: Duration = Duration::from_millis(20);

/// Packets of random content and sizes.
#[derive(Debug)]
pub struct GeneratedAudio {
    noise: Noise,
    packet: u32,
    /// Spreads the participants' packets over the 20 ms, as clocks that know nothing of each other do.
    phase: Duration,
}

impl GeneratedAudio {
    /// A stream; seeds make streams differ, in content and in phase.
    pub fn new(seed: u64) -> Self {
        let mut noise = Noise::new(seed);
        let phase = Duration::from_micros(noise.draw() % 20_000);
        Self { noise, packet: 0, phase }
    }
}

impl Track for GeneratedAudio {
    fn codec(&self) -> Codec {
        Codec::Opus
    }

    fn next_due(&self) -> Duration {
        self.phase + FRAME * self.packet
    }

    fn next(&mut self, payload: &mut Vec<u8>) -> TrackPacket {
        payload.resize(PAYLOAD - 20 + (self.noise.draw() % 41) as usize, 0);
        self.noise.fill(payload);
        // Two seconds of speech, two of silence.
        let level = if (self.packet / 100).is_multiple_of(2) { 20 } else { 90 };
        self.packet += 1;
        TrackPacket { timestamp: (self.packet - 1) * 960, marker: self.packet == 1, level: Some(level) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_packets_a_second() {
        let mut track = GeneratedAudio::new(3);
        let (mut packets, mut payload) = (0, Vec::new());
        while track.next_due() < Duration::from_secs(1) {
            let packet = track.next(&mut payload);
            assert_eq!(packet.timestamp, packets * 960);
            assert!((PAYLOAD - 20..=PAYLOAD + 20).contains(&payload.len()));
            packets += 1;
        }
        assert!((49..=50).contains(&packets));
    }
}
