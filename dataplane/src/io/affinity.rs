//! Which core a worker runs on, and how soon it does so there.

use std::io;

use super::IoError;

/// Time that a worker takes in a row on a core that others want, too; Linux allows no shorter one.
const SLICE: u64 = 100_000;

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

/// Has this thread run as soon as it wakes up, for short times, where it shares its core: with the control plane on small hosts.
/// Whoever runs there does not get to the end of its own slice first (1 to 3 ms); neither gets more of the core than before.
/// Kernels before Linux 6.12 take it and do nothing.
pub fn wake_promptly() -> io::Result<()> {
    let size = size_of::<libc::sched_attr>() as u32;
    // SAFETY: `sched_attr` consists of plain numbers; all zeroes is the usual policy with nothing asked for.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: 0 names the calling thread, and `attributes` is valid for writes of the size given.
    if unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Another policy is the operator's choice, and has other meanings for the field.
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    attributes.sched_runtime = SLICE;
    // SAFETY: the same; `attributes` was filled in by the kernel, and is valid for reads of the size that it bears.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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
    fn a_short_slice_is_this_threads_own() {
        let slice = || {
            // SAFETY: as above.
            let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
            let size = size_of::<libc::sched_attr>() as u32;
            // SAFETY: 0 names the calling thread, and `attributes` is valid for writes of the size given.
            assert_eq!(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) }, 0);
            (attributes.sched_nice, attributes.sched_runtime)
        };
        std::thread::spawn(move || {
            let (nice, usual) = slice();
            wake_promptly().unwrap();
            // Older kernels say nothing of slices.
            let expected = if usual == 0 { 0 } else { SLICE };
            assert_eq!(slice(), (nice, expected));
            let other = std::thread::spawn(slice).join().unwrap();
            assert_eq!(other.0, nice);
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
