//! One receiver's view of one source: a single continuous stream made of pieces of its encodings.
//!
//! The stream is a list of segments. Within a segment input and output differ by constants, so that late packets,
//! and packets that the receiver asks for again, map both ways without any memory per packet.

pub mod vp8;

use std::time::Instant;

use super::codec::FormatId;
use vp8::{Picture, PictureShift};

/// Segments that late packets and NACKs can still be mapped through.
const SEGMENTS: usize = 8;
/// Input jumps beyond this are closed instead of passed on.
const MAX_JUMP: i64 = 1000;

/// Whether a packet is a point where a decoder can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The first packet of a keyframe.
    Keyframe,
    /// Any other packet.
    Delta,
    /// The codec does not tell: start anywhere.
    Anywhere,
}

/// What the projection needs to know of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// Simulcast encoding, from low to high.
    pub encoding: u8,
    /// Extended sequence number, discarded packets closed up.
    pub sequence: i64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Format of the payload; `None` when the stream may change formats freely (audio).
    pub format: Option<FormatId>,
    /// Whether a decoder can start here.
    pub entry: Entry,
    /// VP8's picture fields.
    pub picture: Picture,
    /// RTP clock in Hz.
    pub clock_rate: u32,
}

/// Where a packet goes in the output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Extended sequence number: ROC and sequence, RFC 3711's packet index.
    pub sequence: i64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// VP8's picture fields.
    pub picture: Picture,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    encoding: u8,
    format: Option<FormatId>,
    in_start: i64,
    in_last: i64,
    out_start: i64,
    shift: i64,
    timestamp_shift: u32,
    picture_shift: PictureShift,
}

impl Segment {
    fn map(&self, sequence: i64, timestamp: u32, picture: Picture) -> Output {
        Output {
            sequence: sequence + self.shift,
            timestamp: timestamp.wrapping_add(self.timestamp_shift),
            picture: self.picture_shift.apply(picture),
        }
    }
}

/// State of the output stream.
#[derive(Debug)]
pub struct Projection {
    segments: [Option<Segment>; SEGMENTS],
    open: bool,
    first_sequence: i64,
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    sequence: i64,
    timestamp: u32,
    at: Instant,
    picture: Picture,
}

impl Projection {
    /// A stream whose first packet gets `first_sequence`.
    pub fn new(first_sequence: i64) -> Self {
        Self { segments: [None; SEGMENTS], open: false, first_sequence, last: None }
    }

    /// The encoding that is being forwarded.
    pub fn current(&self) -> Option<u8> {
        if self.open { self.newest().map(|s| s.encoding) } else { None }
    }

    /// The number that the next new packet gets.
    pub fn next_sequence(&self) -> i64 {
        self.last.map_or(self.first_sequence, |l| l.sequence + 1)
    }

    /// What the current segment adds to timestamps of `encoding`, for sender reports.
    pub fn timestamp_shift(&self, encoding: u8) -> Option<u32> {
        let segment = self.newest().filter(|_| self.open)?;
        (segment.encoding == encoding).then_some(segment.timestamp_shift)
    }

    /// Stops: what follows has to start at a keyframe.
    pub fn stop(&mut self) {
        self.open = false;
    }

    fn newest(&self) -> Option<&Segment> {
        self.segments.first()?.as_ref()
    }

    /// Places a packet, or drops it. `desired` is the encoding that should be forwarded; the current one stays until a
    /// keyframe allows the step.
    #[inline]
    pub fn project(&mut self, now: Instant, input: &Input, desired: u8) -> Option<Output> {
        let current = self.newest().copied().filter(|_| self.open);
        match current {
            Some(s) if s.encoding == input.encoding && (s.format.is_none() || s.format == input.format) => {
                if input.sequence < s.in_start {
                    return self.place_late(input);
                }
                if input.sequence - s.in_last > MAX_JUMP {
                    self.continue_after_jump(input, s);
                }
                self.place(now, input)
            }
            _ => {
                if input.entry != Entry::Delta && self.may_start(current, input, desired) {
                    self.start(now, input);
                    return self.place(now, input);
                }
                if self.open { self.place_late(input) } else { None }
            }
        }
    }

    fn may_start(&self, current: Option<Segment>, input: &Input, desired: u8) -> bool {
        // A keyframe that was overtaken by what already went out must not start the same packets again.
        let overtaken =
            self.segments.iter().flatten().any(|s| s.encoding == input.encoding && input.sequence <= s.in_last);
        if overtaken {
            return false;
        }
        match current.map(|s| s.encoding) {
            None => input.encoding <= desired,
            // A new format on the same encoding.
            Some(current) if current == input.encoding => true,
            Some(current) if current < desired => input.encoding > current && input.encoding <= desired,
            Some(_) => input.encoding == desired,
        }
    }

    fn push(&mut self, segment: Segment) {
        self.segments.rotate_right(1);
        self.segments[0] = Some(segment);
        self.open = true;
    }

    fn start(&mut self, now: Instant, input: &Input) {
        let out_start = self.next_sequence();
        let (timestamp_shift, picture_shift) = match self.last {
            None => (0, PictureShift::default()),
            Some(last) => {
                let elapsed = now.saturating_duration_since(last.at).as_micros();
                let ticks = (elapsed.saturating_mul(u128::from(input.clock_rate)) / 1_000_000).max(1);
                let next = last.timestamp.wrapping_add(ticks as u32);
                (next.wrapping_sub(input.timestamp), PictureShift::following(last.picture, input.picture))
            }
        };
        self.push(Segment {
            encoding: input.encoding,
            format: input.format,
            in_start: input.sequence,
            in_last: input.sequence,
            out_start,
            shift: out_start - input.sequence,
            timestamp_shift,
            picture_shift,
        });
    }

    fn continue_after_jump(&mut self, input: &Input, segment: Segment) {
        let out_start = self.next_sequence();
        self.push(Segment {
            in_start: input.sequence,
            in_last: input.sequence,
            out_start,
            shift: out_start - input.sequence,
            ..segment
        });
    }

    /// Closes the numbering over a packet that this receiver cannot be sent. Only for streams that start anywhere.
    pub fn skip(&mut self, sequence: i64) {
        let Some(segment) = self.newest().copied().filter(|s| self.open && sequence > s.in_last) else { return };
        // Numbers between the last packet and the skipped one may still arrive: they keep their places.
        let out_start = sequence + segment.shift;
        let next =
            Segment { in_start: sequence + 1, in_last: sequence, out_start, shift: segment.shift - 1, ..segment };
        self.push(next);
    }

    fn place(&mut self, now: Instant, input: &Input) -> Option<Output> {
        let segment = self.segments.first_mut()?.as_mut()?;
        segment.in_last = segment.in_last.max(input.sequence);
        let output = segment.map(input.sequence, input.timestamp, input.picture);
        match &mut self.last {
            Some(last) if last.sequence >= output.sequence => {}
            last => {
                let before = last.map_or(Picture::default(), |l| l.picture);
                *last = Some(Last {
                    sequence: output.sequence,
                    timestamp: output.timestamp,
                    at: now,
                    picture: before.updated(output.picture),
                });
            }
        }
        Some(output)
    }

    /// A packet of an earlier segment goes where it would have gone, if its place was left free.
    fn place_late(&mut self, input: &Input) -> Option<Output> {
        let mut end = i64::MAX;
        for segment in self.segments.iter().flatten() {
            let output = segment.map(input.sequence, input.timestamp, input.picture);
            if segment.encoding == input.encoding && input.sequence >= segment.in_start && output.sequence < end {
                return (end != i64::MAX).then_some(output);
            }
            end = segment.out_start;
        }
        None
    }

    /// Which input packet a receiver means by a sequence number of the output: (encoding, input sequence number).
    pub fn origin(&self, sequence: u16) -> Option<(u8, i64)> {
        let last = self.last?.sequence;
        let output = last + i64::from(sequence.wrapping_sub(last as u16) as i16);
        let segment = self.segments.iter().flatten().find(|s| output >= s.out_start)?;
        Some((segment.encoding, output - segment.shift))
    }

    /// Where a packet found by [`Projection::origin`] goes when it is sent again.
    pub fn replay(&self, sequence: u16, timestamp: u32, picture: Picture) -> Option<Output> {
        let (_, input) = self.origin(sequence)?;
        let last = self.last?.sequence;
        let output = last + i64::from(sequence.wrapping_sub(last as u16) as i16);
        let segment = self.segments.iter().flatten().find(|s| output >= s.out_start)?;
        Some(segment.map(input, timestamp, picture))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn packet(encoding: u8, sequence: i64, timestamp: u32, keyframe: bool) -> Input {
        Input {
            encoding,
            sequence,
            timestamp,
            format: None,
            entry: if keyframe { Entry::Keyframe } else { Entry::Delta },
            picture: Picture { id: Some(sequence / 2), tl0: Some((sequence / 2) as u8) },
            clock_rate: 90_000,
        }
    }

    #[test]
    fn waits_for_a_keyframe_and_keeps_the_old_encoding_until_then() {
        let now = Instant::now();
        let mut p = Projection::new(100);
        assert_eq!(p.project(now, &packet(0, 10, 0, false), 0), None);
        assert_eq!(p.project(now, &packet(1, 10, 0, true), 0), None, "higher than desired");
        assert_eq!(p.project(now, &packet(0, 11, 3000, true), 0).unwrap().sequence, 100);
        assert_eq!(p.project(now, &packet(0, 12, 6000, false), 2).unwrap().sequence, 101);
        assert_eq!(p.project(now, &packet(2, 900, 77, false), 2), None);
        let later = now + Duration::from_millis(40);
        let switched = p.project(later, &packet(2, 901, 99, true), 2).unwrap();
        assert_eq!(switched.sequence, 102);
        assert_eq!(switched.timestamp, 6000 + 3600);
        assert_eq!(switched.picture, Picture { id: Some(7), tl0: Some(7) });
        assert_eq!(p.project(later, &packet(0, 13, 9000, false), 2), None);
        assert_eq!(p.current(), Some(2));
        assert_eq!(p.origin(101), Some((0, 12)));
        assert_eq!(p.origin(102), Some((2, 901)));
        assert_eq!(p.origin(99), None);
    }

    #[test]
    fn a_lost_packet_of_the_old_encoding_fills_its_own_hole_only() {
        let now = Instant::now();
        let mut p = Projection::new(1);
        p.project(now, &packet(0, 1, 0, true), 0).unwrap();
        p.project(now, &packet(0, 3, 0, false), 0).unwrap();
        assert_eq!(p.project(now, &packet(1, 50, 0, true), 1).unwrap().sequence, 4);
        assert_eq!(p.project(now, &packet(0, 2, 0, false), 1).unwrap().sequence, 2);
        assert_eq!(p.project(now, &packet(0, 4, 0, false), 1), None, "its place belongs to the new encoding");
    }

    #[test]
    fn a_late_keyframe_does_not_restart_what_went_out() {
        let now = Instant::now();
        let mut p = Projection::new(1);
        p.project(now, &packet(0, 1, 0, true), 0).unwrap();
        p.project(now, &packet(0, 5, 0, false), 0).unwrap();
        p.stop();
        assert_eq!(p.project(now, &packet(0, 4, 0, true), 0), None);
        assert_eq!(p.project(now, &packet(0, 6, 0, false), 0), None);
        assert_eq!(p.project(now, &packet(0, 7, 0, true), 0).unwrap().sequence, 6);
    }

    #[test]
    fn skipped_packets_close_up() {
        let now = Instant::now();
        let mut p = Projection::new(1);
        let mut audio = packet(0, 1, 0, false);
        audio.entry = Entry::Anywhere;
        assert_eq!(p.project(now, &audio, 0).unwrap().sequence, 1);
        p.skip(3);
        audio.sequence = 4;
        assert_eq!(p.project(now, &audio, 0).unwrap().sequence, 3);
        audio.sequence = 2;
        assert_eq!(p.project(now, &audio, 0).unwrap().sequence, 2);
    }

    proptest! {
        /// Three encodings sent without loss, any course of wishes: the output has no hole, repeats nothing, its
        /// timestamps never run backwards, and every number leads back to the packet that it came from.
        #[test]
        fn output_is_continuous(
            frames in proptest::collection::vec((proptest::bool::weighted(0.2), 0u8..3, 1usize..4), 1..150),
            start in 0i64..70_000,
        ) {
            let mut now = Instant::now();
            let mut p = Projection::new(start);
            let mut next = [1_000i64, 40_000, 90_000];
            let mut sent: Vec<(Output, u8, i64)> = Vec::new();
            for (i, (keyframe, desired, packets)) in frames.into_iter().enumerate() {
                now += Duration::from_millis(33);
                for encoding in 0..3u8 {
                    for n in 0..packets {
                        let sequence = next[usize::from(encoding)];
                        next[usize::from(encoding)] += 1;
                        let timestamp = (i as u32) * 2970 + u32::from(encoding) * 1_000_000;
                        let input = packet(encoding, sequence, timestamp, keyframe && n == 0);
                        if let Some(output) = p.project(now, &input, desired) {
                            if let Some((last, ..)) = sent.last() {
                                prop_assert_eq!(output.sequence, last.sequence + 1);
                                prop_assert!(output.timestamp.wrapping_sub(last.timestamp) < 1 << 31);
                            } else {
                                prop_assert_eq!(output.sequence, start);
                            }
                            prop_assert_eq!(p.origin(output.sequence as u16), Some((encoding, sequence)));
                            prop_assert_eq!(p.replay(output.sequence as u16, input.timestamp, input.picture), Some(output));
                            sent.push((output, encoding, sequence));
                        }
                    }
                }
            }
        }

        /// Reordered and duplicated-free input on one encoding: every output number is used at most once.
        #[test]
        fn reordering_never_repeats_a_number(order in Just((1i64..200).collect::<Vec<_>>()).prop_shuffle()) {
            let now = Instant::now();
            let mut p = Projection::new(0);
            let mut seen = std::collections::HashSet::new();
            for sequence in order {
                if let Some(output) = p.project(now, &packet(0, sequence, 0, sequence % 10 == 1), 0) {
                    prop_assert!(seen.insert(output.sequence));
                }
            }
        }
    }
}
