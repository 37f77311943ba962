//! Which core a worker runs on.

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
    // SAFETY: cpu_set_t is a plain bit mask; all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `core` is below CPU_SETSIZE, checked above.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` is valid for reads of the size given; 0 names the calling thread.
    if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } != 0 {
        return Err(IoError::Core { core, allowed, source: io::Error::last_os_error() });
    }
    Ok(())
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
}
