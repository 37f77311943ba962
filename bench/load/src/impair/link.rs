//! One direction of an impaired path as a state machine: packets and the time go in, packets come out.
//!
//! A packet passes three stages: it may be lost or doubled, it waits in the queue of a bottleneck, and it travels.
//! A change of the bottleneck's rate counts for what is queued already, as on a real link.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::figures::{Figures, Loss};
use super::settings::{LinkSettings, Patch, SettingError};

/// Bytes of the IPv4 and UDP headers around a datagram.
const HEADERS: usize = 28;

/// One direction; `T` is what a packet is to the caller.
#[derive(Debug)]
pub struct Link<T> {
    settings: LinkSettings,
    random: SmallRng,
    /// Gilbert's model is in its bad state.
    in_burst: bool,
    outage_until: Option<Instant>,
    queue: VecDeque<Queued<T>>,
    queued_bytes: usize,
    /// How much of the head of the queue is still to be sent, and since when that is true.
    head: Option<Head>,
    travelling: BinaryHeap<Reverse<Travelling<T>>>,
    /// Arrival of the latest packet that keeps the order.
    horizon: Option<Instant>,
    numbers: u64,
    figures: Figures,
}

#[derive(Debug)]
struct Queued<T> {
    arrived: Instant,
    /// Bytes on the wire.
    bytes: usize,
    packet: T,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    bits_left: f64,
    since: Instant,
}

#[derive(Debug)]
struct Travelling<T> {
    at: Instant,
    number: u64,
    bytes: usize,
    packet: T,
}

impl<T> PartialEq for Travelling<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl<T> Eq for Travelling<T> {}

impl<T> PartialOrd for Travelling<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Travelling<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<T: Clone> Link<T> {
    /// A perfect link; the same seed and the same input give the same output.
    pub fn new(now: Instant, seed: u64) -> Self {
        Self {
            settings: LinkSettings::default(),
            random: SmallRng::seed_from_u64(seed),
            in_burst: false,
            outage_until: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            head: None,
            travelling: BinaryHeap::new(),
            horizon: None,
            numbers: 0,
            figures: Figures::new(now),
        }
    }

    /// Changes the link from `now` on.
    pub fn change(&mut self, now: Instant, patch: &Patch) -> Result<(), SettingError> {
        self.advance(now);
        let outage = patch.outage()?;
        patch.apply(&mut self.settings)?;
        if let Some(outage) = outage {
            self.outage_until = Some(now + outage);
        }
        Ok(())
    }

    /// What the link does at the moment.
    pub fn settings(&self) -> &LinkSettings {
        &self.settings
    }

    /// What was counted; windows start over when they are read.
    pub fn figures(&mut self) -> &mut Figures {
        &mut self.figures
    }

    /// Bytes that wait in the bottleneck's queue, headers included.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// A packet with a payload of `length` bytes enters.
    pub fn push(&mut self, now: Instant, length: usize, packet: T) {
        self.advance(now);
        self.figures.entered();
        if let Some(loss) = self.lost(now) {
            self.figures.lost(loss);
            return;
        }
        if self.happens(self.settings.duplicate) {
            self.figures.duplicated();
            self.enqueue(now, length + HEADERS, packet.clone());
        }
        self.enqueue(now, length + HEADERS, packet);
        self.advance(now);
    }

    /// The next packet that has arrived by `now`.
    pub fn poll(&mut self, now: Instant) -> Option<T> {
        self.advance(now);
        if self.travelling.peek()?.0.at > now {
            return None;
        }
        let Reverse(Travelling { bytes, packet, .. }) = self.travelling.pop()?;
        self.figures.passed(bytes);
        Some(packet)
    }

    /// When `poll` has something to do next.
    pub fn next_timeout(&self) -> Option<Instant> {
        let leaves = self.head_leaves();
        let arrives = self.travelling.peek().map(|Reverse(one)| one.at);
        [leaves, arrives].into_iter().flatten().min()
    }

    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.random::<f64>() < share
    }

    fn lost(&mut self, now: Instant) -> Option<Loss> {
        if self.outage_until.is_some_and(|until| now < until) {
            return Some(Loss::Outage);
        }
        if self.settings.burst_loss > 0.0 {
            // Leaving a burst by chance 1/length, entering so that the share of lost packets comes out right.
            let leave = 1.0 / self.settings.burst_length;
            let change = match self.settings.burst_loss {
                share if share >= 1.0 => f64::from(u8::from(!self.in_burst)),
                _ if self.in_burst => leave,
                share => (leave * share / (1.0 - share)).min(1.0),
            };
            if self.happens(change) {
                self.in_burst = !self.in_burst;
            }
            if self.in_burst {
                return Some(Loss::Burst);
            }
        }
        self.happens(self.settings.loss).then_some(Loss::Random)
    }

    fn enqueue(&mut self, now: Instant, bytes: usize, packet: T) {
        if let Some(rate) = self.settings.rate {
            let room = rate as f64 / 8.0 * self.settings.queue.as_secs_f64();
            // An empty queue always takes one packet, however small it is.
            if !self.queue.is_empty() && (self.queued_bytes + bytes) as f64 > room {
                self.figures.lost(Loss::Queue);
                return;
            }
        }
        if self.queue.is_empty() {
            self.head = Some(Head { bits_left: bytes as f64 * 8.0, since: now });
        }
        self.queued_bytes += bytes;
        self.queue.push_back(Queued { arrived: now, bytes, packet });
    }

    /// When the head of the queue has passed the bottleneck.
    fn head_leaves(&self) -> Option<Instant> {
        let head = self.head?;
        Some(match self.settings.rate {
            Some(rate) => head.since + Duration::from_secs_f64(head.bits_left / rate as f64),
            None => head.since,
        })
    }

    /// Moves everything that passed the bottleneck by `now` on its way.
    fn advance(&mut self, now: Instant) {
        while let Some(leaves) = self.head_leaves() {
            if leaves > now {
                // Credit what was sent of the head, so that another rate counts from now on only.
                if let (Some(head), Some(rate)) = (&mut self.head, self.settings.rate) {
                    let sent = now.saturating_duration_since(head.since).as_secs_f64() * rate as f64;
                    *head = Head { bits_left: (head.bits_left - sent).max(0.0), since: head.since.max(now) };
                }
                return;
            }
            let Some(done) = self.queue.pop_front() else {
                self.head = None;
                return;
            };
            self.queued_bytes -= done.bytes;
            self.head = self.queue.front().map(|next| Head { bits_left: next.bytes as f64 * 8.0, since: leaves });
            self.figures.waited(leaves.saturating_duration_since(done.arrived));
            self.travel(leaves, done.bytes, done.packet);
        }
    }

    fn travel(&mut self, leaves: Instant, bytes: usize, packet: T) {
        let jitter = match self.settings.jitter {
            Duration::ZERO => Duration::ZERO,
            jitter => jitter.mul_f64(self.random.random::<f64>()),
        };
        let mut at = leaves + self.settings.delay + jitter;
        if let Some(horizon) = self.horizon {
            at = at.max(horizon);
        }
        if self.happens(self.settings.reorder) {
            self.figures.reordered();
            at += self.settings.reorder_by;
        } else {
            self.horizon = Some(at);
        }
        self.numbers += 1;
        self.travelling.push(Reverse(Travelling { at, number: self.numbers, bytes, packet }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pushes `count` packets of `length` bytes, one every `gap`, and returns (number, arrival after the start).
    fn run(
        link: &mut Link<usize>,
        start: Instant,
        count: usize,
        length: usize,
        gap: Duration,
    ) -> Vec<(usize, Duration)> {
        let mut arrived = Vec::new();
        let mut drain = |link: &mut Link<usize>, until: Instant| {
            while let Some(at) = link.next_timeout().filter(|at| *at <= until) {
                while let Some(packet) = link.poll(at) {
                    arrived.push((packet, at - start));
                }
            }
        };
        for number in 0..count {
            let now = start + gap * number as u32;
            drain(link, now);
            link.push(now, length, number);
        }
        drain(link, start + gap * count as u32 + Duration::from_secs(600));
        arrived
    }

    fn link(start: Instant, patch: Patch) -> Link<usize> {
        let mut link = Link::new(start, 7);
        link.change(start, &patch).expect("in range");
        link
    }

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn a_perfect_link_changes_nothing() {
        let start = Instant::now();
        let arrived = run(&mut link(start, Patch::default()), start, 100, 1_000, MILLISECOND);
        assert_eq!(arrived, (0..100).map(|n| (n, MILLISECOND * n as u32)).collect::<Vec<_>>());
    }

    #[test]
    fn a_rate_spaces_packets_and_a_full_queue_drops() {
        let start = Instant::now();
        // 972 + 28 bytes are 8,000 bits: 10 ms each at 800 kbit/s; the queue holds five.
        let patch = Patch { rate_kbps: Some(800.0), queue_ms: Some(50.0), ..Patch::default() };
        let mut link = link(start, patch);
        let arrived = run(&mut link, start, 20, 972, Duration::ZERO);
        assert_eq!(arrived.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        for (n, at) in arrived {
            assert_eq!(at.as_millis(), 10 * (n as u128 + 1));
        }
        let report = link.figures().report(start + Duration::from_secs(1));
        assert_eq!((report.passed, report.queue_dropped, report.lost), (5, 15, 0));
        assert!((report.queue_p99_ms - 50.0).abs() < 1.0, "{report:?}");
    }

    #[test]
    fn another_rate_counts_for_what_is_queued() {
        let start = Instant::now();
        let mut link = link(start, Patch { rate_kbps: Some(80.0), queue_ms: Some(60_000.0), ..Patch::default() });
        for number in 0..3 {
            link.push(start, 972, number);
        }
        // At 80 kbit/s one takes 100 ms; half of the first is through when the rate grows tenfold.
        let later = start + Duration::from_millis(50);
        link.change(later, &Patch { rate_kbps: Some(800.0), ..Patch::default() }).expect("in range");
        let mut arrivals = Vec::new();
        while let Some(at) = link.next_timeout() {
            while link.poll(at).is_some() {
                arrivals.push((at - start).as_millis());
            }
        }
        assert_eq!(arrivals, [55, 65, 75]);
    }

    #[test]
    fn an_unlimited_rate_empties_the_queue() {
        let start = Instant::now();
        let mut link = link(start, Patch { rate_kbps: Some(8.0), ..Patch::default() });
        link.push(start, 972, 0);
        link.change(start + MILLISECOND, &Patch { rate_kbps: Some(0.0), ..Patch::default() }).expect("in range");
        assert_eq!(link.poll(start + MILLISECOND), Some(0));
        assert_eq!(link.queued_bytes(), 0);
    }

    #[test]
    fn random_loss_comes_out_as_set_and_repeats() {
        let start = Instant::now();
        let lose = || {
            let mut link = link(start, Patch { loss: Some(5.0), ..Patch::default() });
            run(&mut link, start, 20_000, 100, MILLISECOND).into_iter().map(|(n, _)| n).collect::<Vec<_>>()
        };
        let arrived = lose();
        let lost = 1.0 - arrived.len() as f64 / 20_000.0;
        assert!((0.045..0.055).contains(&lost), "{lost}");
        assert_eq!(arrived, lose());
    }

    #[test]
    fn bursts_have_their_share_and_their_length() {
        let start = Instant::now();
        let mut link = link(start, Patch { burst_loss: Some(5.0), burst_length: Some(10.0), ..Patch::default() });
        let arrived = run(&mut link, start, 100_000, 100, MILLISECOND);
        let lost = 100_000 - arrived.len();
        let bursts = arrived.windows(2).filter(|pair| pair[1].0 != pair[0].0 + 1).count();
        assert!((4_000..6_000).contains(&lost), "{lost}");
        let length = lost as f64 / bursts as f64;
        assert!((8.0..12.0).contains(&length), "{length}");
    }

    #[test]
    fn an_outage_loses_everything_and_ends_by_itself() {
        let start = Instant::now();
        let mut link = link(start, Patch { outage_ms: Some(300.0), ..Patch::default() });
        let arrived = run(&mut link, start, 50, 100, Duration::from_millis(10));
        assert_eq!(arrived.first().map(|(n, _)| *n), Some(30));
        assert_eq!(link.figures().report(start).outage_dropped, 30);
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_breaks_it() {
        let start = Instant::now();
        let patch = Patch { delay_ms: Some(20.0), jitter_ms: Some(50.0), ..Patch::default() };
        let mut jittery = link(start, patch.clone());
        let arrived = run(&mut jittery, start, 2_000, 100, Duration::from_millis(2));
        assert!(arrived.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let late = |(n, at): &(usize, Duration)| *at - Duration::from_millis(2) * *n as u32;
        assert!(arrived.iter().map(late).all(|d| (20..=70).contains(&d.as_millis())));
        let mut reordering = link(start, Patch { reorder: Some(2.0), ..patch });
        let arrived = run(&mut reordering, start, 10_000, 100, Duration::from_millis(2));
        let overtaken = arrived.windows(2).filter(|pair| pair[0].0 > pair[1].0).count();
        assert!((120..280).contains(&overtaken), "{overtaken}");
        assert_eq!(arrived.len(), 10_000);
    }

    #[test]
    fn duplicates_arrive_twice() {
        let start = Instant::now();
        let mut link = link(start, Patch { duplicate: Some(10.0), ..Patch::default() });
        let arrived = run(&mut link, start, 10_000, 100, MILLISECOND);
        assert!((10_800..11_200).contains(&arrived.len()), "{}", arrived.len());
    }

    proptest! {
        /// Whatever the settings: nothing is made up, nothing stays, and the books balance.
        #[test]
        fn the_books_balance(
            seed: u64, loss in 0.0..60.0, burst in 0.0..=100.0, duplicate in 0.0..50.0, reorder in 0.0..100.0,
            rate in 0.0..2_000.0, queue in 0.0..500.0, jitter in 0.0..100.0,
        ) {
            let start = Instant::now();
            let mut link = Link::new(start, seed);
            let patch = Patch {
                loss: Some(loss), burst_loss: Some(burst), duplicate: Some(duplicate), reorder: Some(reorder),
                rate_kbps: Some(rate), queue_ms: Some(queue), jitter_ms: Some(jitter), ..Patch::default()
            };
            link.change(start, &patch).expect("in range");
            let arrived = run(&mut link, start, 500, 700, MILLISECOND);
            let report = link.figures().report(start + Duration::from_secs(1));
            prop_assert_eq!(report.passed as usize, arrived.len());
            prop_assert_eq!(report.entered + report.duplicated, report.passed + report.lost + report.burst_lost + report.queue_dropped);
            prop_assert_eq!(link.queued_bytes(), 0);
            prop_assert!(link.next_timeout().is_none());
        }
    }
}
