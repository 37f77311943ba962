//! Lines on their way to the thread that writes them, bounded in bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::counters::{LogCounters, Lost};

/// Bytes of lines that may wait.
pub(super) const MAX_WAITING: usize = 1024 * 1024;
/// Longest line, bytes; the rest is cut off.
pub(super) const MAX_LINE: usize = 16 * 1024;
/// What a line costs beside its text, bytes.
const LINE_OVERHEAD: usize = 64;
/// In place of what was cut off.
const ELLIPSIS: &[u8] = " […]\n".as_bytes();

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that found no room since the last one was taken out.
    refused: u64,
    /// The writer has a line in hand.
    busy: bool,
    /// Nobody will write: lines are not kept.
    abandoned: bool,
}

/// Lines that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    counters: Arc<LogCounters>,
}

impl Queue {
    /// What is counted of its lines.
    pub fn counters(&self) -> Arc<LogCounters> {
        Arc::clone(&self.counters)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing under the lock panics half-way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a line, or leaves it out; never waits for the writer.
    pub fn push(&self, line: &[u8]) {
        let (line, whole) = cut(line);
        if !whole {
            self.counters.cut();
        }
        let mut waiting = self.lock();
        if waiting.abandoned {
            return self.counters.lose(Lost::NoThread);
        }
        if waiting.bytes + line.len() + LINE_OVERHEAD > MAX_WAITING {
            waiting.refused += 1;
            return self.counters.lose(Lost::QueueFull);
        }
        waiting.bytes += line.len() + LINE_OVERHEAD;
        waiting.lines.push_back(line);
        drop(waiting);
        self.changed.notify_all();
    }

    /// Waits for the next line; with it comes how many were left out since the one before for want of room.
    pub fn next(&self) -> (Vec<u8>, u64) {
        let mut waiting = self.lock();
        waiting.busy = false;
        self.changed.notify_all();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len() + LINE_OVERHEAD;
                waiting.busy = true;
                return (line, std::mem::take(&mut waiting.refused));
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until everything is written, but not longer than this.
    pub fn finish(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut waiting = self.lock();
        while !waiting.abandoned && (waiting.busy || !waiting.lines.is_empty()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            waiting = self.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Keeps no more lines.
    pub fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.abandoned = true;
        waiting.lines.clear();
        waiting.bytes = 0;
    }
}

/// The line, no longer than it may be, with its end; and whether it is whole.
fn cut(line: &[u8]) -> (Vec<u8>, bool) {
    if line.len() <= MAX_LINE {
        return (line.to_vec(), true);
    }
    let kept = &line[..MAX_LINE - ELLIPSIS.len()];
    // Not in the middle of a character.
    let kept = kept.utf8_chunks().next().map_or(&[][..], |chunk| chunk.valid().as_bytes());
    ([kept, ELLIPSIS].concat(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_order_and_what_finds_no_room_is_counted() {
        let queue = Queue::default();
        let line = vec![b'x'; MAX_LINE - 1];
        let first = b"first\n".to_vec();
        let room = (MAX_WAITING - first.len() - LINE_OVERHEAD) / (line.len() + LINE_OVERHEAD);
        queue.push(&first);
        for _ in 0..room + 3 {
            queue.push(&line);
        }
        assert_eq!(queue.next(), (first, 3));
        for _ in 0..room {
            assert_eq!(queue.next(), (line.clone(), 0));
        }
        assert!(queue.lock().lines.is_empty() && queue.lock().bytes == 0);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_between_characters() {
        for lead in 0..4 {
            let line = [vec![b'a'; lead], "\u{1f980}".repeat(MAX_LINE).into_bytes()].concat();
            let cut = String::from_utf8(cut(&line).0).expect("whole characters");
            assert!(cut.len() <= MAX_LINE && cut.len() > MAX_LINE - 8, "{}", cut.len());
            assert!(cut.ends_with("[…]\n"));
        }
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let queue = Queue::default();
        queue.push(b"nobody takes it\n");
        let start = Instant::now();
        queue.finish(Duration::from_millis(50));
        assert!(start.elapsed() < Duration::from_secs(5));
        queue.abandon();
        queue.finish(Duration::from_secs(3600));
    }
}
