//! A received batch. With GRO one message holds a run of equal datagrams; here they are separate again.

use std::ops::Range;
use std::sync::Arc;

use super::slab::Slab;
use super::{MAX_DATAGRAM, Path};
use crate::stats::{Counter, WorkerStats};

/// One received datagram.
#[derive(Debug)]
pub struct Received<'a> {
    /// Where it came from and over which socket.
    pub path: Path,
    /// UDP payload, at most [`MAX_DATAGRAM`] bytes; may be changed in place.
    pub data: &'a mut [u8],
}

/// Equal datagrams, the last may be shorter, one after another in one buffer.
struct Run {
    path: Path,
    buffer: usize,
    offset: usize,
    len: usize,
    segment: usize,
    first: usize,
}

/// What the last `receive` brought.
pub struct RxBatch {
    slab: Slab,
    runs: Vec<Run>,
    datagrams: usize,
    cursor: usize,
    stats: Arc<WorkerStats>,
}

impl RxBatch {
    pub(super) fn new(slab: Slab, max_runs: usize, stats: Arc<WorkerStats>) -> Self {
        Self { slab, runs: Vec::with_capacity(max_runs), datagrams: 0, cursor: 0, stats }
    }

    /// Datagrams in the batch.
    pub fn len(&self) -> usize {
        self.datagrams
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.datagrams == 0
    }

    /// Datagram `i`, or `None` past the end. Going through them in order is fastest.
    pub fn get(&mut self, i: usize) -> Option<Received<'_>> {
        if i >= self.datagrams {
            return None;
        }
        let holds = |run: &Run, next: Option<&Run>| run.first <= i && next.is_none_or(|next| i < next.first);
        let near = (self.cursor..self.runs.len().min(self.cursor + 2))
            .find(|&at| holds(&self.runs[at], self.runs.get(at + 1)));
        self.cursor = near.unwrap_or_else(|| self.runs.partition_point(|run| run.first <= i).saturating_sub(1));
        let run = self.runs.get(self.cursor)?;
        let start = (i - run.first) * run.segment;
        let len = run.segment.min(run.len.saturating_sub(start));
        let (path, buffer, offset) = (run.path, run.buffer, run.offset + start);
        // SAFETY: the kernel does not have this buffer: it gets it back only when the batch is cleared.
        Some(Received { path, data: unsafe { self.slab.bytes(buffer, offset, len) } })
    }

    /// The buffers, to be lent to the kernel.
    pub(super) fn slab(&self) -> &Slab {
        &self.slab
    }

    /// What the kernel wrote at the start of a buffer, before the datagram itself.
    ///
    /// # Safety
    /// The kernel must not write to the buffer while the slice lives.
    pub(super) unsafe fn head(&mut self, buffer: usize, len: usize) -> &mut [u8] {
        // SAFETY: the caller's.
        unsafe { self.slab.bytes(buffer, 0, len) }
    }

    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.datagrams = 0;
        self.cursor = 0;
    }

    /// Whether another run fits.
    pub(super) fn is_full(&self) -> bool {
        self.runs.len() == self.runs.capacity()
    }

    /// Adds the `bytes` of `buffer`, in datagrams of `segment` bytes (0: one datagram). Datagrams that are cut or longer
    /// than [`MAX_DATAGRAM`] are dropped and counted.
    pub(super) fn push(&mut self, path: Path, buffer: usize, bytes: Range<usize>, segment: usize, truncated: bool) {
        let (offset, len) = (bytes.start, bytes.len());
        let segment = if segment == 0 || segment > len { len } else { segment };
        let datagrams = if len == 0 { 1 } else { len.div_ceil(segment) };
        if truncated || segment > MAX_DATAGRAM || self.is_full() {
            self.stats.add(Counter::DropOversized, datagrams as u64);
            return;
        }
        self.runs.push(Run { path, buffer, offset, len, segment, first: self.datagrams });
        self.datagrams += datagrams;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_separate_in_any_order() {
        let stats = Arc::new(WorkerStats::default());
        let mut batch = RxBatch::new(Slab::new(4, 8192, "test buffers").unwrap(), 4, stats.clone());
        let path = |port| Path { local: 0, remote: ([127, 0, 0, 1], port).into() };
        for buffer in 0..4 {
            for i in 0..8192 {
                // SAFETY: no kernel request uses this slab.
                let byte = unsafe { batch.slab.bytes(buffer, i, 1) };
                byte[0] = (buffer * 50 + i / 100) as u8;
            }
        }
        batch.push(path(1), 0, 0..250, 100, false);
        batch.push(path(2), 1, 100..100, 0, false);
        batch.push(path(3), 2, 200..1700, 0, false);
        batch.push(path(4), 3, 0..1501, 0, false);
        batch.push(path(4), 3, 0..3, 0, true);
        assert_eq!((batch.len(), stats.get(Counter::DropOversized)), (5, 2));
        let expect = [(1, 100, 0), (1, 100, 1), (1, 50, 2), (2, 0, 0), (3, 1500, 102)];
        for i in [0, 1, 2, 3, 4, 2, 0, 4, 1] {
            let (port, len, first) = expect[i];
            let received = batch.get(i).unwrap();
            assert_eq!((received.path, received.data.len()), (path(port), len), "datagram {i}");
            assert_eq!(received.data.first().copied().unwrap_or(0), first, "datagram {i}");
        }
        assert!(batch.get(5).is_none());
        batch.clear();
        assert!(batch.get(0).is_none() && batch.is_empty());
    }
}
