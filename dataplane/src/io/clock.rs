//! What the kernel's monotonic clock shows: the same for all processes of a host, and what [`Instant`] is made of; and what this thread
//! has used of a processor.

use std::time::{Duration, Instant};

use crate::carry::ClockReading;

/// Readings that are made, of which the one that took the least time counts.
const ATTEMPTS: usize = 16;

/// Reads it.
pub fn read_clock() -> ClockReading {
    let mut best: Option<(Duration, ClockReading)> = None;
    for _ in 0..ATTEMPTS {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let at = Instant::now();
        // SAFETY: the structure is valid for writes during the call. It fails only for clocks that do not exist.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
        let took = at.elapsed();
        let nanos = time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs();
        if best.as_ref().is_none_or(|(least, _)| took < *least) {
            best = Some((took, ClockReading { at, nanos }));
        }
    }
    best.map_or(ClockReading { at: Instant::now(), nanos: 0 }, |(_, reading)| reading)
}

/// What this thread has used so far.
pub fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid for writes during the call. It fails only for clocks that do not exist.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
