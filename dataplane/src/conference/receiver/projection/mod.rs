//! One receiver's view of one source: a single continuous stream made of pieces of its encodings.
//!
//! The stream is a list of runs. Within a run input and output differ by constants, so that late packets, and packets
//! that the receiver asks for again, map both ways without any memory per packet. A run ends where something is left
//! out, where another encoding begins, and where the operating point changes.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::conference::packet::frame::{Entry, Frame, Opens};
use crate::conference::packet::info::PacketInfo;
use crate::conference::packet::picture::{Picture, PictureShift};
use crate::congestion::layer::{LayerId, MAX_ENCODINGS, MAX_TEMPORAL, Point, Points};
use crate::congestion::reorder::{self, Moves};
use crate::negotiation::ids::FormatId;

/// Input jumps beyond this are closed instead of passed on.
const MAX_JUMP: i64 = 1000;
/// No packet yet.
const NEVER: i64 = i64::MIN / 2;
/// The temporal layer that is left of an encoding while a lower one is awaited: half the frames, for a moment.
const FAREWELL_TEMPORAL: u8 = 1;

/// Where a packet goes in the output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Extended sequence number: ROC and sequence, RFC 3711's packet index.
    pub sequence: i64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// The codec's picture numbers.
    pub picture: Picture,
    /// Whether it is the last packet that the receiver gets of the picture, although the sender sent more.
    pub ends_picture: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Run {
    #[serde(with = "crate::carry::checked")]
    in_start: i64,
    #[serde(deserialize_with = "crate::carry::checked::or_never")]
    out_start: i64,
    picture_shift: PictureShift,
    timestamp_shift: u32,
    format: Option<FormatId>,
    encoding: u8,
    point: Point,
}

impl Run {
    const EMPTY: Self = Self {
        in_start: 0,
        // Nothing ever went out under it.
        out_start: i64::MAX,
        picture_shift: PictureShift::NONE,
        timestamp_shift: 0,
        format: None,
        encoding: 0,
        point: Point::TOP,
    };

    fn output(&self, sequence: i64) -> i64 {
        sequence.wrapping_sub(self.in_start).wrapping_add(self.out_start)
    }

    #[inline]
    fn map(&self, sequence: i64, timestamp: u32, picture: Picture, frame: &Frame) -> Output {
        Output {
            sequence: self.output(sequence),
            timestamp: timestamp.wrapping_add(self.timestamp_shift),
            picture: self.picture_shift.apply(picture),
            ends_picture: frame.ends && frame.spatial == self.point.spatial(),
        }
    }
}

/// State of the output stream.
#[derive(Debug, Serialize, Deserialize)]
pub struct Projection {
    run: Run,
    open: bool,
    /// Newest input of the run.
    #[serde(with = "crate::carry::checked")]
    in_last: i64,
    /// Newest input of the encodings that were forwarded before.
    #[serde(with = "crate::carry::checked")]
    in_newest: [i64; MAX_ENCODINGS],
    /// Points all of whose frames since the last keyframe went out: the receiver may be given any of them at once.
    intact: Points,
    #[serde(with = "crate::carry::checked")]
    first_sequence: i64,
    last: Option<Last>,
    /// What the output adds to timestamps of the first named encoding, once that is known: it never changes.
    timestamp_base: Option<u32>,
    /// What the run should add to timestamps, where its first pictures were overtaken by those of the run before.
    overtaken: Option<u32>,
    past: Past,
}

/// Earlier runs, that late packets and NACKs can still be mapped through. Memory is taken at the first one: most streams of
/// a large conference never switch.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "CarriedPast")]
struct Past {
    runs: Box<[Run]>,
    limit: u16,
    at: u16,
    len: u16,
}

/// The same on its way.
#[derive(Deserialize)]
struct CarriedPast {
    runs: Box<[Run]>,
    limit: u16,
    at: u16,
    len: u16,
}

impl TryFrom<CarriedPast> for Past {
    type Error = &'static str;

    fn try_from(CarriedPast { runs, limit, at, len }: CarriedPast) -> Result<Self, Self::Error> {
        let whole = limit > 0 && at < limit && len <= limit && (runs.is_empty() || runs.len() == usize::from(limit));
        if whole { Ok(Self { runs, limit, at, len }) } else { Err("runs of a stream that cannot be") }
    }
}

impl Past {
    fn new(limit: u16) -> Self {
        Self { runs: Box::default(), limit: limit.max(1), at: 0, len: 0 }
    }

    fn push(&mut self, run: Run) {
        if self.runs.is_empty() {
            self.runs = vec![Run::EMPTY; usize::from(self.limit)].into_boxed_slice();
        }
        if let Some(slot) = self.runs.get_mut(usize::from(self.at)) {
            *slot = run;
        }
        self.at = (self.at + 1) % self.limit;
        self.len = (self.len + 1).min(self.limit);
    }

    /// The newest first.
    fn iter(&self) -> impl Iterator<Item = &Run> {
        let (at, limit) = (usize::from(self.at), usize::from(self.limit));
        (1..=usize::from(self.len)).filter_map(move |back| self.runs.get((at + limit - back) % limit))
    }
}

/// The newest packet that went out.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Last {
    #[serde(with = "crate::carry::checked")]
    sequence: i64,
    timestamp: u32,
    #[serde(with = "crate::carry::checked")]
    at: Instant,
    picture: Picture,
}

impl Projection {
    /// A stream whose first packet gets `first_sequence`, and that remembers `past` runs.
    pub fn new(first_sequence: i64, past: u16) -> Self {
        Self {
            run: Run::EMPTY,
            open: false,
            in_last: NEVER,
            in_newest: [NEVER; MAX_ENCODINGS],
            intact: Points::NONE,
            first_sequence,
            last: None,
            timestamp_base: None,
            overtaken: None,
            past: Past::new(past),
        }
    }

    /// A stream that goes on where another one on the same SSRC ended.
    pub fn following(last: Option<Last>, first_sequence: i64, past: u16) -> Self {
        Self { last, ..Self::new(first_sequence, past) }
    }

    /// The newest packet that went out.
    pub fn last(&self) -> Option<Last> {
        self.last
    }

    /// When it went out.
    pub fn last_at(&self) -> Option<Instant> {
        self.last.map(|last| last.at)
    }

    /// The encoding that is being forwarded.
    pub fn current(&self) -> Option<u8> {
        self.open.then_some(self.run.encoding)
    }

    /// Whether it takes a keyframe to get to a layer.
    #[inline]
    pub fn awaits_keyframe(&self, desired: LayerId) -> bool {
        let there = self.open && self.run.encoding == desired.encoding;
        !there || (self.run.point.spatial() != desired.spatial && !self.intact.contains(desired.point()))
    }

    /// The number that the next new packet gets.
    pub fn next_sequence(&self) -> i64 {
        self.last.map_or(self.first_sequence, |l| l.sequence + 1)
    }

    /// What the current run adds to timestamps of `encoding`, for sender reports.
    pub fn timestamp_shift(&self, encoding: u8) -> Option<u32> {
        (self.current() == Some(encoding)).then_some(self.run.timestamp_shift)
    }

    /// Stops: what follows has to start at a keyframe.
    pub fn stop(&mut self) {
        self.open = false;
    }

    /// The encodings have other positions from now on.
    pub fn renumber(&mut self, moves: &Moves) {
        reorder::permute(&mut self.in_newest, moves);
        for run in self.past.runs.iter_mut().chain([&mut self.run]) {
            run.encoding = reorder::moved(moves, run.encoding);
        }
    }

    /// Places a packet, or drops it. `desired` is the layer that should be forwarded; the current one stays until the
    /// stream allows the step.
    #[inline]
    pub fn project(&mut self, now: Instant, input: &PacketInfo, desired: LayerId) -> Option<Output> {
        let same =
            self.run.encoding == input.encoding && (self.run.format.is_none() || self.run.format == input.format);
        if !(self.open && same) {
            return self.project_other(now, input, desired);
        }
        if input.sequence < self.run.in_start {
            return self.place_late(now, input);
        }
        if input.sequence - self.in_last > MAX_JUMP {
            self.continue_after_jump(input);
        }
        let moves = input.first || input.begins;
        if moves && input.sequence > self.in_last {
            if let Some(exact) = self.overtaken.filter(|_| input.first) {
                self.catch_up(exact, input);
            }
            self.step(input, desired);
        }
        if !input.frame.needed.contains(self.run.point) {
            self.leave_out(input);
            return None;
        }
        Some(self.place(now, input))
    }

    #[cold]
    fn project_other(&mut self, now: Instant, input: &PacketInfo, desired: LayerId) -> Option<Output> {
        if input.entry != Entry::Delta && self.may_start(input, desired.encoding) {
            self.start(now, input, desired);
            if !input.frame.needed.contains(self.run.point) {
                self.leave_out(input);
                return None;
            }
            return Some(self.place(now, input));
        }
        if self.open { self.place_late(now, input) } else { None }
    }

    fn may_start(&self, input: &PacketInfo, desired: u8) -> bool {
        // A keyframe that was overtaken by what already went out must not start the same packets again.
        let newest = if self.run.encoding == input.encoding { Some(self.in_last) } else { self.newest(input.encoding) };
        if newest.is_some_and(|newest| input.sequence <= newest) {
            return false;
        }
        // Nor one that was overtaken by a picture that did not go out.
        if input.entry == Entry::Keyframe && !input.newest {
            return false;
        }
        match self.current() {
            None => input.encoding <= desired,
            // A new format on the same encoding.
            Some(current) if current == input.encoding => true,
            Some(current) if current < desired => input.encoding > current && input.encoding <= desired,
            Some(_) => input.encoding == desired,
        }
    }

    fn newest(&self, encoding: u8) -> Option<i64> {
        self.in_newest.get(usize::from(encoding)).copied()
    }

    fn start(&mut self, now: Instant, input: &PacketInfo, desired: LayerId) {
        if let Some(newest) = self.in_newest.get_mut(usize::from(self.run.encoding)) {
            *newest = self.in_last;
        }
        self.overtaken = None;
        let (timestamp_shift, picture_shift) = match self.last {
            None => (0, PictureShift::NONE),
            Some(last) => {
                (self.timestamp_shift_after(now, last, input), PictureShift::following(last.picture, input.picture))
            }
        };
        let run = Run {
            in_start: input.sequence,
            out_start: self.next_sequence(),
            picture_shift,
            timestamp_shift,
            format: input.format,
            encoding: input.encoding,
            point: if input.encoding == desired.encoding { desired.point() } else { Point::TOP },
        };
        self.push(run);
        self.in_last = input.sequence - 1;
        self.intact = Points::ALL;
        self.open = true;
    }

    /// What a new run adds to timestamps. Sender reports give it exactly, so that sound and picture stay together over
    /// any number of switches; without them, the time that passed does.
    fn timestamp_shift_after(&mut self, now: Instant, last: Last, input: &PacketInfo) -> u32 {
        let rate = u64::from(input.clock_rate);
        let elapsed = now.saturating_duration_since(last.at).as_micros() as u64;
        let ticks = (elapsed.saturating_mul(rate) / 1_000_000).max(1);
        // What went before on this SSRC may have been another sender's.
        let begun = self.in_last != NEVER;
        let same = begun && self.run.encoding == input.encoding && self.run.format == input.format;
        let exact = match (self.timestamp_base, input.ahead) {
            (Some(base), Some(ahead)) => Some(base.wrapping_sub(ahead)),
            _ => same.then_some(self.run.timestamp_shift),
        };
        if let Some(shift) = exact {
            let step = i64::from(input.timestamp.wrapping_add(shift).wrapping_sub(last.timestamp) as i32);
            if step > 0 && step <= (ticks + rate) as i64 {
                return shift;
            }
            // The same moment as the last picture of the other encoding, or just before.
            if step <= 0 && step >= -(rate as i64) / 5 {
                self.overtaken = Some(shift).filter(|_| step < 0);
                return next_tick(last, input);
            }
        }
        last.timestamp.wrapping_add(ticks as u32).wrapping_sub(input.timestamp)
    }

    /// A picture after one that was overtaken: at its own time as soon as that does not run backwards, so that sound and
    /// picture are apart for no longer than that.
    #[cold]
    fn catch_up(&mut self, exact: u32, input: &PacketInfo) {
        let Some(last) = self.last else { return };
        let due = input.timestamp.wrapping_add(exact).wrapping_sub(last.timestamp) as i32 > 0;
        let timestamp_shift = if due { exact } else { next_tick(last, input) };
        if due {
            self.overtaken = None;
        }
        let out_start = self.run.output(input.sequence);
        self.push(Run { in_start: input.sequence, out_start, timestamp_shift, ..self.run });
    }

    fn continue_after_jump(&mut self, input: &PacketInfo) {
        self.push(Run { in_start: input.sequence, out_start: self.next_sequence(), ..self.run });
        self.in_last = input.sequence - 1;
    }

    /// Begins a run; the one before goes to the past, unless nothing can ever fall into it.
    fn push(&mut self, run: Run) {
        if self.last.is_some() && self.run.out_start < run.out_start {
            self.past.push(self.run);
        }
        self.run = run;
    }

    /// All runs that are remembered, the newest first.
    fn runs(&self) -> impl Iterator<Item = &Run> {
        std::iter::once(&self.run).chain(self.past.iter())
    }

    /// Moves the operating point towards the desired one, as far as this frame allows.
    fn step(&mut self, input: &PacketInfo, desired: LayerId) {
        let now = self.run.point;
        if input.entry == Entry::Keyframe {
            self.intact = Points::ALL;
        }
        if self.timestamp_base.is_none() {
            self.timestamp_base = input.ahead.map(|ahead| self.run.timestamp_shift.wrapping_add(ahead));
        }
        let goal = if desired.encoding == self.run.encoding {
            desired.point()
        } else if desired.encoding > self.run.encoding {
            Point::new(now.spatial(), u8::MAX)
        } else {
            Point::new(now.spatial(), FAREWELL_TEMPORAL)
        };
        if goal == now {
            return;
        }
        let frame = &input.frame;
        let opened = match frame.opens {
            Opens::Nothing => Points::NONE,
            // Without its beginning it would go out in part.
            Opens::Temporal | Opens::Spatial if !input.begins => Points::NONE,
            Opens::Temporal => self.intact.next_temporal().and(frame.needed).and(Points::at_temporal(frame.temporal)),
            Opens::Spatial => self.intact.next_spatial().and(frame.needed).and(Points::at_spatial(frame.spatial)),
            Opens::Points(points) if frame.needed.contains(now) => points,
            Opens::Points(_) => Points::NONE,
        };
        // Within a picture what is left out cannot be fetched any more, but what comes can be taken.
        let at_hand = if input.first || input.entry == Entry::Keyframe { self.intact } else { Points::NONE };
        let next = nearest(now, goal, at_hand.or(opened));
        if next == now {
            return;
        }
        self.intact = self.intact.or(Points::one(next));
        // What is missing just before may be the beginning of this picture: then it shares its fate, if that is to be left
        // out. What it shares with the point before goes out in any case.
        let at = if input.begins || next > now { input.sequence } else { self.in_last + 1 };
        if self.run.in_start >= at {
            self.run.point = next;
        } else {
            self.push(Run { in_start: at, out_start: self.run.output(at), point: next, ..self.run });
        }
    }

    /// Closes the numbering over a packet that this receiver is not sent.
    fn leave_out(&mut self, input: &PacketInfo) {
        self.intact = self.intact.without(input.frame.needed);
        if input.sequence <= self.in_last {
            // Late: numbers after it are used already, its own stays empty.
            return;
        }
        let picture_shift = self.run.picture_shift;
        let picture_shift = if input.first && input.closes_ids { picture_shift.closed() } else { picture_shift };
        self.close(input.sequence, picture_shift);
    }

    /// Closes the numbering over a packet that this receiver cannot be sent. Only for streams that start anywhere.
    pub fn skip(&mut self, sequence: i64) {
        if self.open && sequence > self.in_last {
            self.close(sequence, self.run.picture_shift);
        }
    }

    fn close(&mut self, sequence: i64, picture_shift: PictureShift) {
        // Numbers between the last packet and the closed one may still arrive: they keep their numbers.
        let out_start = self.run.output(sequence);
        self.push(Run { in_start: sequence + 1, out_start, picture_shift, ..self.run });
        self.in_last = sequence;
    }

    #[inline]
    fn place(&mut self, now: Instant, input: &PacketInfo) -> Output {
        self.in_last = self.in_last.max(input.sequence);
        let output = self.run.map(input.sequence, input.timestamp, input.picture, &input.frame);
        self.note(now, &output);
        output
    }

    /// Remembers the newest packet that went out.
    #[inline]
    fn note(&mut self, now: Instant, output: &Output) {
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
    }

    /// A packet of an earlier run gets the number that it would have had, if that was left free.
    #[cold]
    fn place_late(&mut self, now: Instant, input: &PacketInfo) -> Option<Output> {
        let output = self.free_place(input)?;
        self.note(now, &output);
        Some(output)
    }

    fn free_place(&self, input: &PacketInfo) -> Option<Output> {
        let mut end: Option<i64> = None;
        for run in self.runs() {
            if run.encoding == input.encoding && input.sequence >= run.in_start {
                let free = end.is_some_and(|end| run.output(input.sequence) < end);
                let wanted = free && input.frame.needed.contains(run.point);
                return wanted.then(|| run.map(input.sequence, input.timestamp, input.picture, &input.frame));
            }
            // A switch may have taken numbers that were kept for what never came.
            end = Some(end.map_or(run.out_start, |end| end.min(run.out_start)));
        }
        None
    }

    fn run_of(&self, sequence: u16) -> Option<(&Run, i64)> {
        let last = self.last?.sequence;
        let output = last + i64::from(sequence.wrapping_sub(last as u16) as i16);
        Some((self.runs().find(|run| output >= run.out_start)?, output))
    }

    /// Which input packet a receiver means by a sequence number of the output: (encoding, input sequence number).
    pub fn origin(&self, sequence: u16) -> Option<(u8, i64)> {
        let (run, output) = self.run_of(sequence)?;
        Some((run.encoding, output - run.out_start + run.in_start))
    }

    /// Where a packet found by [`Projection::origin`] goes when it is sent again; none when it never was meant to go.
    pub fn replay(&self, sequence: u16, timestamp: u32, picture: Picture, frame: &Frame) -> Option<Output> {
        let (run, output) = self.run_of(sequence)?;
        let input = output - run.out_start + run.in_start;
        frame.needed.contains(run.point).then(|| run.map(input, timestamp, picture, frame))
    }

    /// A number that [`Projection::origin`] leads to a packet that was not meant to go: an empty packet may take it. Within
    /// what went out last, so that time does not run backwards by much.
    pub fn vacant(&self, sequence: u16) -> Option<Output> {
        let (_, output) = self.run_of(sequence)?;
        let last = self.last?;
        let picture = Picture::default();
        (output < last.sequence).then_some(Output {
            sequence: output,
            timestamp: last.timestamp,
            picture,
            ends_picture: false,
        })
    }
}

/// What places a packet just after the last one that went out.
fn next_tick(last: Last, input: &PacketInfo) -> u32 {
    last.timestamp.wrapping_add(1).wrapping_sub(input.timestamp)
}

/// The point among those at hand, or the present one, that is closest to the goal: first in picture size, then in frame
/// rate, and rather below it than above.
fn nearest(now: Point, goal: Point, at_hand: Points) -> Point {
    let between = now.spatial().min(goal.spatial())..=now.spatial().max(goal.spatial());
    let distance = |point: Point| {
        let temporal = if point.temporal() > goal.temporal() {
            MAX_TEMPORAL as u8 + point.temporal() - goal.temporal()
        } else {
            goal.temporal() - point.temporal()
        };
        (point.spatial().abs_diff(goal.spatial()), temporal)
    };
    let all = between.flat_map(|spatial| (0..MAX_TEMPORAL as u8).map(move |temporal| Point::new(spatial, temporal)));
    all.filter(|point| at_hand.contains(*point) || *point == now).min_by_key(|p| distance(*p)).unwrap_or(now)
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
