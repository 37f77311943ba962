//! Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01): the receiving side, which records
//! arrivals and writes feedback for the sender.

use serde::{Deserialize, Serialize};

use crate::ids::Ssrc;
use std::time::{Duration, Instant};

use super::packet_type as pt;

/// Packets between two feedbacks at most; more are reported in the next one.
const CAPACITY: usize = 512;

/// Never more often than this, when frames end.
const AFTER_MARKER: Duration = Duration::from_millis(20);

/// At least this often, while packets come.
const REGULAR: Duration = Duration::from_millis(100);

/// Units of the deltas.
const DELTA_MICROS: i64 = 250;
/// Arrivals later than this after the first one are made up: some 35,000 years, in microseconds.
const LATEST: i64 = 1 << 60;

/// Records arrivals by transport-wide sequence number and writes feedback.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "CarriedRecorder")]
pub struct TwccRecorder {
    #[serde(with = "crate::carry::checked")]
    epoch: Option<Instant>,
    /// First extended sequence number that is not reported yet.
    #[serde(with = "crate::carry::checked")]
    base: u64,
    /// One past the newest that arrived.
    #[serde(with = "crate::carry::checked")]
    end: u64,
    /// Arrival by `sequence % CAPACITY`, microseconds since the epoch; negative is not received. Kept after they were
    /// reported, too. Empty before the first: most endpoints of a large conference send nothing.
    arrivals: Box<[i64]>,
    #[serde(with = "crate::carry::checked")]
    last_feedback: Option<Instant>,
    pending: bool,
    marker: bool,
    feedback_count: u8,
}

/// The same as it comes from another process.
#[derive(Deserialize)]
struct CarriedRecorder {
    #[serde(with = "crate::carry::checked")]
    epoch: Option<Instant>,
    #[serde(with = "crate::carry::checked")]
    base: u64,
    #[serde(with = "crate::carry::checked")]
    end: u64,
    #[serde(deserialize_with = "crate::carry::at_most::<_, _, CAPACITY>")]
    arrivals: Vec<i64>,
    #[serde(with = "crate::carry::checked")]
    last_feedback: Option<Instant>,
    pending: bool,
    marker: bool,
    feedback_count: u8,
}

impl TryFrom<CarriedRecorder> for TwccRecorder {
    type Error = &'static str;

    fn try_from(carried: CarriedRecorder) -> Result<Self, Self::Error> {
        let CarriedRecorder { epoch, base, end, arrivals, last_feedback, pending, marker, feedback_count } = carried;
        let expected = if end == 0 { 0 } else { CAPACITY };
        let window = base <= end && end - base <= CAPACITY as u64;
        let known = arrivals.iter().all(|micros| (-1..=LATEST).contains(micros));
        if !window || !known || arrivals.len() != expected {
            return Err("arrivals of packets that cannot be");
        }
        let arrivals = arrivals.into_boxed_slice();
        Ok(Self { epoch, base, end, arrivals, last_feedback, pending, marker, feedback_count })
    }
}

impl TwccRecorder {
    /// Records the arrival of a packet; `marker` is its RTP marker bit.
    pub fn record(&mut self, now: Instant, sequence: u16, marker: bool) {
        let epoch = *self.epoch.get_or_insert(now);
        if self.end == 0 {
            self.arrivals = vec![-1; CAPACITY].into();
            // Far from zero, so that packets that come late do not underflow.
            self.base = 0x1_0000 + u64::from(sequence);
            self.end = self.base;
        }
        let delta = sequence.wrapping_sub(self.end as u16) as i16;
        let Some(extended) = self.end.checked_add_signed(i64::from(delta)) else { return };
        let micros = now.saturating_duration_since(epoch).as_micros() as i64;
        if extended >= self.end {
            let window = (extended + 1).saturating_sub(CAPACITY as u64);
            for skipped in self.end.max(window)..extended {
                self.arrivals[skipped as usize % CAPACITY] = -1;
            }
            // After a jump beyond the window, what lies between was not lost but numbered anew.
            self.base = if extended >= self.end + CAPACITY as u64 { extended } else { self.base.max(window) };
            self.end = extended + 1;
        } else {
            let cell = &self.arrivals[extended as usize % CAPACITY];
            if extended + (CAPACITY as u64) < self.end || *cell >= 0 {
                return;
            }
            // Late, and perhaps reported as lost: reported again from here on, or the sender takes reordering for loss.
            self.base = self.base.min(extended);
        }
        self.arrivals[extended as usize % CAPACITY] = micros;
        self.pending = true;
        self.marker |= marker;
        self.last_feedback.get_or_insert(now);
    }

    /// When feedback is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let since = self.last_feedback.filter(|_| self.pending)?;
        Some(since + if self.marker { AFTER_MARKER } else { REGULAR })
    }

    /// Writes one feedback packet if it is due; call again until `None`.
    pub fn take_feedback(&mut self, now: Instant, sender: Ssrc, media: Ssrc, out: &mut [u8]) -> Option<usize> {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return None;
        }
        // Leading holes stay in the report: they are the losses. Start at the base.
        let first = (self.base..self.end).find(|sequence| self.arrivals[*sequence as usize % CAPACITY] >= 0)?;
        let reference = self.arrivals[first as usize % CAPACITY] / 64_000;
        let mut symbols = [0u8; CAPACITY];
        let mut deltas = [0u8; CAPACITY * 2];
        let (mut count, mut delta_len) = (0usize, 0usize);
        let mut previous = reference * 64_000;
        let room = out.len().min(1_100).checked_sub(24)?;
        for sequence in self.base..self.end {
            let arrival = self.arrivals[sequence as usize % CAPACITY];
            // Two bits per symbol at worst, and one word for padding.
            if delta_len + 2 + count / 4 + 8 > room {
                break;
            }
            if arrival >= 0 {
                let delta = (arrival - previous).div_euclid(DELTA_MICROS);
                if let Ok(small) = u8::try_from(delta) {
                    symbols[count] = 1;
                    deltas[delta_len] = small;
                    delta_len += 1;
                } else if let Ok(large) = i16::try_from(delta) {
                    symbols[count] = 2;
                    deltas[delta_len..delta_len + 2].copy_from_slice(&large.to_be_bytes());
                    delta_len += 2;
                } else {
                    break;
                }
                // Rounding must not add up.
                previous += delta * DELTA_MICROS;
            }
            count += 1;
        }
        if count == 0 {
            return None;
        }
        let mut at = 20;
        at += write_chunks(&symbols[..count], &mut out[at..])?;
        out.get_mut(at..at + delta_len)?.copy_from_slice(&deltas[..delta_len]);
        at += delta_len;
        let padding = at.next_multiple_of(4) - at;
        out.get_mut(at..at + padding)?.fill(0);
        let len = at + padding;
        if padding > 0 {
            out[len - 1] = padding as u8;
        }
        out[0] = 0x80 | if padding > 0 { 0x20 } else { 0 } | 15;
        out[1] = pt::RTPFB;
        out[2..4].copy_from_slice(&((len / 4 - 1) as u16).to_be_bytes());
        out[4..8].copy_from_slice(&sender.to_be_bytes());
        out[8..12].copy_from_slice(&media.to_be_bytes());
        out[12..14].copy_from_slice(&(self.base as u16).to_be_bytes());
        out[14..16].copy_from_slice(&(count as u16).to_be_bytes());
        out[16..19].copy_from_slice(&(reference as u32).to_be_bytes()[1..]);
        out[19] = self.feedback_count;
        self.feedback_count = self.feedback_count.wrapping_add(1);
        self.base += count as u64;
        self.pending = self.base < self.end;
        if !self.pending {
            self.marker = false;
            self.last_feedback = Some(now);
        }
        Some(len)
    }
}

/// Packet status chunks: run lengths where seven or more symbols are equal, else two-bit vectors of seven.
fn write_chunks(symbols: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut at = 0;
    let mut rest = symbols;
    while let Some(&first) = rest.first() {
        let run = rest.iter().take_while(|symbol| **symbol == first).count().min(0x1fff);
        let (chunk, taken) = if run >= 7 || run == rest.len() {
            (u16::from(first) << 13 | run as u16, run)
        } else {
            let taken = rest.len().min(7);
            let vector = rest[..taken]
                .iter()
                .enumerate()
                .fold(0xc000u16, |chunk, (index, symbol)| chunk | u16::from(*symbol) << (12 - 2 * index));
            (vector, taken)
        };
        out.get_mut(at..at + 2)?.copy_from_slice(&chunk.to_be_bytes());
        at += 2;
        rest = &rest[taken..];
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};
    use webrtc_util::marshal::Unmarshal;

    /// What the oracle reads: (sequence, arrival in units of 250 us since its reference time) for received packets.
    fn read(packet: &[u8]) -> Vec<(u16, i64)> {
        let feedback = TransportLayerCc::unmarshal(&mut &packet[..]).expect("the oracle reads it");
        let mut symbols = vec![];
        for chunk in &feedback.packet_chunks {
            match chunk {
                PacketStatusChunk::RunLengthChunk(run) => {
                    symbols.extend(std::iter::repeat_n(run.packet_status_symbol, run.run_length.into()));
                }
                PacketStatusChunk::StatusVectorChunk(vector) => symbols.extend(&vector.symbol_list),
            }
        }
        symbols.truncate(feedback.packet_status_count.into());
        let mut deltas = feedback.recv_deltas.iter();
        let mut time = i64::from(feedback.reference_time) * 64_000 / DELTA_MICROS;
        let mut received = vec![];
        for (index, symbol) in symbols.iter().enumerate() {
            if *symbol != SymbolTypeTcc::PacketNotReceived {
                time += deltas.next().expect("a delta for each received packet").delta / DELTA_MICROS;
                received.push((feedback.base_sequence_number.wrapping_add(index as u16), time));
            }
        }
        received
    }

    #[test]
    fn a_frame_is_reported_after_its_marker_and_a_tail_by_the_timer() {
        let start = Instant::now();
        let mut recorder = TwccRecorder::default();
        let mut out = [0; 1_200];
        for index in 0..5u16 {
            recorder.record(start + Duration::from_millis(index.into()), 65_533u16.wrapping_add(index), index == 4);
        }
        assert_eq!(
            recorder.take_feedback(start + Duration::from_millis(10), Ssrc::new(1), Ssrc::new(2), &mut out),
            None
        );
        let len = recorder
            .take_feedback(start + Duration::from_millis(20), Ssrc::new(1), Ssrc::new(2), &mut out)
            .expect("due");
        let received: Vec<u16> = read(&out[..len]).iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!(received, [65_533, 65_534, 65_535, 0, 1]);
        recorder.record(start + Duration::from_millis(30), 3, false);
        assert_eq!(recorder.poll_timeout(), Some(start + Duration::from_millis(120)));
        let len = recorder
            .take_feedback(start + Duration::from_millis(120), Ssrc::new(1), Ssrc::new(2), &mut out)
            .expect("due");
        assert_eq!(read(&out[..len]).iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn what_was_reported_lost_and_arrives_late_is_reported_again() {
        let start = Instant::now();
        let mut recorder = TwccRecorder::default();
        let mut out = [0; 1_200];
        for sequence in [1, 2, 4, 5] {
            recorder.record(start + Duration::from_millis(u64::from(sequence)), sequence, false);
        }
        let len = recorder
            .take_feedback(start + Duration::from_millis(101), Ssrc::new(1), Ssrc::new(2), &mut out)
            .expect("due");
        assert_eq!(read(&out[..len]).iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [1, 2, 4, 5]);
        recorder.record(start + Duration::from_millis(110), 3, false);
        recorder.record(start + Duration::from_millis(111), 5, false);
        let len = recorder
            .take_feedback(start + Duration::from_millis(211), Ssrc::new(1), Ssrc::new(2), &mut out)
            .expect("due");
        assert_eq!(read(&out[..len]), [(3, 436), (4, 12), (5, 16)]);
        // Numbers come round again without being taken for what was there before.
        for sequence in (6..=700u16).filter(|s| s % 2 == 0) {
            recorder.record(start + Duration::from_millis(300), sequence, false);
        }
        let mut received = vec![];
        while let Some(len) =
            recorder.take_feedback(start + Duration::from_secs(1), Ssrc::new(1), Ssrc::new(2), &mut out)
        {
            received.extend(read(&out[..len]).iter().map(|(sequence, _)| *sequence));
        }
        assert_eq!(received, (189..=700u16).filter(|s| s % 2 == 0).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn the_oracle_reads_every_arrival(
            start_sequence in any::<u16>(),
            steps in proptest::collection::vec((1u16..6, 0u64..30_000), 1..200),
        ) {
            let start = Instant::now();
            let mut recorder = TwccRecorder::default();
            let (mut sequence, mut micros) = (start_sequence, 0);
            let mut expected = vec![];
            for (gap, pause) in steps {
                recorder.record(start + Duration::from_micros(micros), sequence, false);
                expected.push((sequence, micros as i64));
                sequence = sequence.wrapping_add(gap);
                micros += pause;
            }
            // What fell out of the window was dropped from the front.
            let newest = expected.last().map(|(sequence, _)| *sequence).unwrap_or_default();
            expected.retain(|(sequence, _)| newest.wrapping_sub(*sequence) < CAPACITY as u16);
            let mut out = [0; 1_200];
            let mut received = vec![];
            let late = start + Duration::from_secs(60);
            while let Some(len) = recorder.take_feedback(late, Ssrc::new(1), Ssrc::new(2), &mut out) {
                received.extend(read(&out[..len]));
            }
            prop_assert_eq!(received.len(), expected.len());
            for ((sequence, time), (expected_sequence, expected_micros)) in received.iter().zip(&expected) {
                prop_assert_eq!(sequence, expected_sequence);
                prop_assert!((time * DELTA_MICROS - expected_micros).abs() <= DELTA_MICROS, "{} {}", time, expected_micros);
            }
        }
    }
}
