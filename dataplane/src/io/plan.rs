//! Groups the datagrams of one flush into messages: runs of equal datagrams to one destination, which the kernel
//! takes as one (`UDP_SEGMENT`). Pure: no sockets, no memory of packets.

use std::hash::BuildHasher;
use std::ops::Range;

use super::Path;

/// Most datagrams in one message (the kernel's `UDP_MAX_SEGMENTS` where it is smallest).
pub const MAX_SEGMENTS: usize = 64;
/// Most bytes in one message, below what an IP packet can hold.
pub const MAX_RUN_BYTES: usize = 65_000;

/// One message: datagrams to one destination, in the order in which they were queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Destination.
    pub path: Path,
    /// Bytes of each datagram; the last may have fewer.
    pub segment: usize,
    /// Bytes of all.
    pub bytes: usize,
    /// How many datagrams.
    pub count: usize,
    first: usize,
    closed: bool,
}

impl Message {
    /// Which part of [`Plan::order`] is this message.
    pub fn range(&self) -> Range<usize> {
        self.first..self.first + self.count
    }
}

/// Queued datagrams, and after [`Plan::build`] the messages that carry them. Never allocates after `new`.
pub struct Plan {
    capacity: usize,
    max_segments: usize,
    queued: Vec<(Path, usize)>,
    /// In the order of their first datagrams.
    grouped: Vec<Message>,
    /// The same ordered by socket.
    sorted: Vec<Message>,
    message_of: Vec<u32>,
    /// Where each message's next datagram goes, while `order` is filled.
    cursor: Vec<u32>,
    order: Vec<u32>,
    /// Messages by the low byte of their socket, while they are sorted.
    by_low_byte: Vec<u32>,
    /// Open-addressed: (build number, message) of each destination's latest message.
    table: Vec<(u32, u32)>,
    build_number: u32,
    hasher: foldhash::fast::RandomState,
}

impl Plan {
    /// Room for `capacity` datagrams, in messages of at most `max_segments` (up to [`MAX_SEGMENTS`]).
    pub fn new(capacity: usize, max_segments: usize) -> Self {
        Self {
            capacity,
            max_segments: max_segments.min(MAX_SEGMENTS),
            queued: Vec::with_capacity(capacity),
            grouped: Vec::with_capacity(capacity),
            sorted: Vec::with_capacity(capacity),
            message_of: Vec::with_capacity(capacity),
            cursor: Vec::with_capacity(capacity),
            order: Vec::with_capacity(capacity),
            by_low_byte: Vec::with_capacity(capacity),
            table: vec![(0, 0); (capacity.max(1) * 2).next_power_of_two()],
            build_number: 0,
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    /// Queued datagrams.
    pub fn len(&self) -> usize {
        self.queued.len()
    }

    /// Whether none is queued.
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Whether no other fits.
    pub fn is_full(&self) -> bool {
        self.queued.len() >= self.capacity
    }

    /// Queues `len` bytes for `path`; the number of the datagram is its position. False when full.
    pub fn push(&mut self, path: Path, len: usize) -> bool {
        if self.is_full() {
            return false;
        }
        self.queued.push((path, len));
        true
    }

    /// Bytes of datagram `i`.
    pub fn datagram_len(&self, i: usize) -> usize {
        self.queued.get(i).map_or(0, |queued| queued.1)
    }

    /// Groups what is queued. Messages come out ordered by local socket; those of one destination keep the order in
    /// which their datagrams were queued. `gso` says whether a local socket takes runs.
    pub fn build(&mut self, gso: impl Fn(u16) -> bool) {
        self.grouped.clear();
        self.message_of.clear();
        self.build_number = self.build_number.wrapping_add(1);
        if self.build_number == 0 {
            self.table.fill((0, 0));
            self.build_number = 1;
        }
        let mut last: Option<(Path, usize)> = None;
        for i in 0..self.queued.len() {
            let (path, len) = self.queued[i];
            let entry = match last {
                Some((last_path, entry)) if last_path == path => entry,
                _ => self.find(&path),
            };
            last = Some((path, entry));
            let (number, open) = self.table[entry];
            let message = if number == self.build_number && gso(path.local) && self.append(open as usize, len) {
                open
            } else {
                let fresh = self.grouped.len() as u32;
                self.grouped.push(Message { path, segment: len, bytes: len, count: 1, first: 0, closed: len == 0 });
                self.table[entry] = (self.build_number, fresh);
                fresh
            };
            self.message_of.push(message);
        }
        self.arrange();
    }

    /// The messages of the last build, ordered by local socket.
    pub fn messages(&self) -> &[Message] {
        &self.sorted
    }

    /// Numbers of the datagrams in the order of the messages.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.queued.clear();
        self.grouped.clear();
        self.sorted.clear();
        self.message_of.clear();
        self.order.clear();
    }

    /// Entry of the destination, or the free one where it belongs. The table is at most half full.
    fn find(&self, path: &Path) -> usize {
        let mask = self.table.len() - 1;
        let mut entry = self.hasher.hash_one(path) as usize & mask;
        loop {
            let (number, message) = self.table[entry];
            if number != self.build_number || self.grouped[message as usize].path == *path {
                return entry;
            }
            entry = (entry + 1) & mask;
        }
    }

    fn append(&mut self, message: usize, len: usize) -> bool {
        let max_segments = self.max_segments;
        let message = &mut self.grouped[message];
        let fits = !message.closed
            && len > 0
            && len <= message.segment
            && message.count < max_segments
            && message.bytes + len <= MAX_RUN_BYTES;
        if fits {
            message.count += 1;
            message.bytes += len;
            message.closed = len < message.segment;
        }
        fits
    }

    /// Sorts the messages by socket (stable, counting) and lays out `order`.
    fn arrange(&mut self) {
        let mut next = Places::default();
        let mut highest = 0;
        for message in &self.grouped {
            next.count(message.path.local as u8);
            highest = highest.max(message.path.local);
        }
        next.begin();
        self.cursor.clear();
        self.cursor.extend(self.grouped.iter().map(|message| next.take(message.path.local as u8)));
        if highest > u16::from(u8::MAX) {
            self.sort_by_high_byte();
        }
        self.sorted.clear();
        self.sorted.extend_from_slice(&self.grouped);
        for (message, &place) in self.grouped.iter().zip(&self.cursor) {
            self.sorted[place as usize] = *message;
        }
        let mut first = 0;
        for message in &mut self.sorted {
            message.first = first;
            first += message.count;
        }
        for place in &mut self.cursor {
            *place = self.sorted[*place as usize].first as u32;
        }
        self.order.clear();
        self.order.resize(self.queued.len(), 0);
        for (i, &message) in self.message_of.iter().enumerate() {
            let place = &mut self.cursor[message as usize];
            self.order[*place as usize] = i as u32;
            *place += 1;
        }
    }

    /// What is in the order of the low bytes of the sockets' indices, in `cursor`, comes into that of the whole indices.
    fn sort_by_high_byte(&mut self) {
        let high = |message: &Message| (message.path.local >> 8) as u8;
        let mut next = Places::default();
        self.by_low_byte.clear();
        self.by_low_byte.resize(self.grouped.len(), 0);
        for (i, message) in self.grouped.iter().enumerate() {
            next.count(high(message));
            self.by_low_byte[self.cursor[i] as usize] = i as u32;
        }
        next.begin();
        for &i in &self.by_low_byte {
            self.cursor[i as usize] = next.take(high(&self.grouped[i as usize]));
        }
    }
}

/// Counts, and then places, of what is sorted by one byte.
struct Places([u32; 256]);

impl Default for Places {
    fn default() -> Self {
        Self([0; 256])
    }
}

impl Places {
    fn count(&mut self, byte: u8) {
        self.0[usize::from(byte)] += 1;
    }

    /// All are counted.
    fn begin(&mut self) {
        let mut total = 0;
        for place in &mut self.0 {
            total += std::mem::replace(place, total);
        }
    }

    /// The place of the next one with this byte.
    fn take(&mut self, byte: u8) -> u32 {
        let place = &mut self.0[usize::from(byte)];
        *place += 1;
        *place - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(local: u16, port: u16) -> Path {
        Path { local, remote: ([127, 0, 0, 1], port).into() }
    }

    /// (local, port, segment, numbers of the datagrams) of every message.
    fn built(datagrams: &[(u16, u16, usize)], gso: bool) -> Vec<(u16, u16, usize, Vec<u32>)> {
        let mut plan = Plan::new(datagrams.len(), MAX_SEGMENTS);
        for &(local, port, len) in datagrams {
            assert!(plan.push(path(local, port), len));
        }
        plan.build(|_| gso);
        let message = |m: &Message| (m.path.local, m.path.remote.port(), m.segment, plan.order()[m.range()].to_vec());
        plan.messages().iter().map(message).collect()
    }

    #[test]
    fn runs_are_equal_but_for_the_last() {
        let sizes = [(0, 1, 100), (0, 1, 100), (0, 1, 60), (0, 1, 60), (0, 1, 61), (0, 1, 0), (0, 1, 0), (0, 1, 5)];
        let expect = [
            (0, 1, 100, vec![0, 1, 2]),
            (0, 1, 60, vec![3]),
            (0, 1, 61, vec![4]),
            (0, 1, 0, vec![5]),
            (0, 1, 0, vec![6]),
            (0, 1, 5, vec![7]),
        ];
        assert_eq!(built(&sizes, true), expect);
        assert_eq!(built(&sizes, false).len(), sizes.len());
    }

    #[test]
    fn destinations_interleave_and_sockets_sort() {
        let mixed = [(1, 7, 10), (0, 8, 20), (1, 7, 10), (0, 9, 20), (1, 9, 10), (0, 8, 20)];
        let expect = [(0, 8, 20, vec![1, 5]), (0, 9, 20, vec![3]), (1, 7, 10, vec![0, 2]), (1, 9, 10, vec![4])];
        assert_eq!(built(&mixed, true), expect);
        let far = [(512, 1, 10), (1, 1, 10), (257, 1, 10), (256, 1, 10), (1, 2, 10), (512, 1, 10)];
        let sockets: Vec<_> = built(&far, true).into_iter().map(|message| message.0).collect();
        assert_eq!(sockets, [1, 1, 256, 257, 512]);
    }

    #[test]
    fn runs_end_at_64_segments_and_65000_bytes() {
        let counts = |len| built(&vec![(0, 1, len); 130], true).iter().map(|m| m.3.len()).collect::<Vec<_>>();
        assert_eq!(counts(100), [64, 64, 2]);
        assert_eq!(counts(1500), [43, 43, 43, 1]);
    }

    #[test]
    fn full_plan_refuses() {
        let mut plan = Plan::new(1, MAX_SEGMENTS);
        assert!(plan.push(path(0, 1), 1));
        assert!(!plan.push(path(0, 1), 1) && plan.is_full());
    }

    #[test]
    fn messages_have_no_more_segments_than_wanted() {
        let mut plan = Plan::new(20, 8);
        (0..20).for_each(|_| assert!(plan.push(path(0, 1), 100)));
        plan.build(|_| true);
        assert_eq!(plan.messages().iter().map(|m| m.count).collect::<Vec<_>>(), [8, 8, 4]);
    }

    /// Few, so that several datagrams have the same one; their bytes sort differently from the whole.
    fn socket() -> impl Strategy<Value = u16> {
        prop_oneof![4 => 0u16..3, 1 => prop::sample::select(vec![255, 256, 258, 511, 512, 16_447, u16::MAX])]
    }

    proptest! {
        #[test]
        fn every_datagram_once_in_order_within_bounds(
            datagrams in prop::collection::vec((socket(), 1u16..6, prop_oneof![Just(1200usize), Just(90), 0usize..1501]), 0..400),
            again in any::<bool>(), gso_mask in 0u8..8,
        ) {
            let mut plan = Plan::new(400, MAX_SEGMENTS);
            for _ in 0..=usize::from(again) {
                plan.clear();
                for &(local, port, len) in &datagrams {
                    prop_assert!(plan.push(path(local, port), len));
                }
                plan.build(|local| gso_mask & (1 << (local % 3)) != 0);
            }
            let mut seen = vec![false; datagrams.len()];
            let mut next_of_path = std::collections::HashMap::new();
            let mut last_local = 0;
            let mut at = 0;
            for message in plan.messages() {
                prop_assert!(message.path.local >= last_local);
                last_local = message.path.local;
                prop_assert_eq!(message.range().start, at);
                at = message.range().end;
                let numbers = &plan.order()[message.range()];
                prop_assert!(!numbers.is_empty() && numbers.len() <= MAX_SEGMENTS);
                prop_assert!(numbers.len() == 1 || gso_mask & (1 << (message.path.local % 3)) != 0);
                let mut bytes = 0;
                for (k, &i) in numbers.iter().enumerate() {
                    let (local, port, len) = datagrams[i as usize];
                    prop_assert_eq!(path(local, port), message.path);
                    prop_assert!(!std::mem::replace(&mut seen[i as usize], true));
                    let next = next_of_path.entry(message.path).or_insert(0);
                    prop_assert!(i >= *next);
                    *next = i + 1;
                    bytes += len;
                    let is_last = k + 1 == numbers.len();
                    prop_assert!(len == message.segment || (is_last && len < message.segment && len > 0));
                }
                prop_assert_eq!(bytes, message.bytes);
                prop_assert!(bytes <= MAX_RUN_BYTES);
            }
            prop_assert!(seen.iter().all(|&seen| seen));
        }
    }
}
