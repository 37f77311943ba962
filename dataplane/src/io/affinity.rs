//! Which core a worker runs on, and when it wakes up there.

use std::io;

use super::IoError;

/// Cores that this thread may run on, ascending.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: cpu_set_t is a plain bit mask; all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid for writes of the size given; 0 names the calling thread.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every index is below CPU_SETSIZE, the number of bits in the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect())
}

/// Pins the calling thread to one core.
pub fn pin_to_core(core: usize) -> Result<(), IoError> {
    let allowed = allowed_cores().unwrap_or_default();
    if core >= libc::CPU_SETSIZE as usize || !allowed.contains(&core) {
        return Err(IoError::Core { core, allowed, source: io::Error::from_raw_os_error(libc::EINVAL) });
    }
    allow(|other| other == core).map_err(|source| IoError::Core { core, allowed, source })
}

/// Has this thread's waits end when they are to, not up to 50 us later as Linux allows itself.
pub fn sleep_precisely() {
    // SAFETY: takes plain numbers; a kernel that refuses leaves it as it was.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000, 0, 0, 0) };
}

/// Runs `start` while this thread may use every core but those it is pinned to: threads started by it, the kernel's
/// among them, inherit that. On a host without other cores it runs where it is.
pub fn off_these_cores<T>(start: impl FnOnce() -> T) -> T {
    let own = allowed_cores().unwrap_or_default();
    // The kernel takes of the mask what the process may have, and refuses when that is nothing.
    let moved = !own.is_empty() && allow(|core| !own.contains(&core)).is_ok();
    let started = start();
    if moved {
        // These were this thread's cores a moment ago; a set that shrank since then is the kernel's to keep.
        let _ = allow(|core| own.contains(&core));
    }
    started
}

/// Lets the calling thread run on these cores.
fn allow(which: impl Fn(usize) -> bool) -> io::Result<()> {
    // SAFETY: cpu_set_t is a plain bit mask; all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for core in (0..libc::CPU_SETSIZE as usize).filter(|&core| which(core)) {
        // SAFETY: every index is below CPU_SETSIZE, the number of bits in the set.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: `set` is valid for reads of the size given; 0 names the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_to_an_allowed_core_only() {
        // A thread of its own: the pin must not leak into other tests.
        std::thread::spawn(|| {
            let core = *allowed_cores().unwrap().last().unwrap();
            pin_to_core(core).unwrap();
            assert_eq!(allowed_cores().unwrap(), [core]);
            for wrong in [core + 1, 1023, 100_000] {
                let error = pin_to_core(wrong).unwrap_err().to_string();
                assert!(error.contains(&format!("core {wrong}")) && error.contains(&format!("[{core}]")), "{error}");
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_is_started_off_a_core_runs_elsewhere() {
        std::thread::spawn(|| {
            let all = allowed_cores().unwrap();
            let core = all[0];
            pin_to_core(core).unwrap();
            let inherited = off_these_cores(|| std::thread::spawn(|| allowed_cores().unwrap()).join().unwrap());
            // A host of one core has no elsewhere.
            let elsewhere: Vec<usize> = all.iter().copied().filter(|other| *other != core).collect();
            assert_eq!(inherited, if elsewhere.is_empty() { all } else { elsewhere });
            assert_eq!(allowed_cores().unwrap(), [core]);
        })
        .join()
        .unwrap();
    }
}
