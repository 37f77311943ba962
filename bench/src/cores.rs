//! Which cores the benchmark's own thread runs on. New threads and processes inherit them.

use std::sync::OnceLock;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// A core that this process cannot have.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot run on cores {wanted:?}: {source}; this process may use {allowed:?}, choose with --core and --generator-core"
)]
pub struct CoreError {
    wanted: Vec<usize>,
    allowed: Vec<usize>,
    source: nix::Error,
}

/// The two cores of a measurement, as on the command line.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct CoreArgs {
    /// Core of the forwarder.
    #[arg(long, default_value_t = 0)]
    pub core: usize,
    /// Core of the generator.
    #[arg(long, default_value_t = 1)]
    pub generator_core: usize,
}

/// The cores of a measurement with several workers, as on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct WorkerCoreArgs {
    /// Cores of the workers.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub cores: Vec<usize>,
    /// Core of the generator.
    #[arg(long, default_value_t = 1)]
    pub generator_core: usize,
}

/// Remembers the cores that this process was started with, and makes this thread the generator.
pub fn generate_on(core: usize) -> Result<(), CoreError> {
    all();
    pin(&[core])
}

/// The cores that this process was started with; the first call must come before anything is pinned.
pub fn all() -> &'static [usize] {
    static ALL: OnceLock<Vec<usize>> = OnceLock::new();
    ALL.get_or_init(current)
}

/// Cores of this thread, ascending.
pub fn current() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect()
}

/// Starts something: it inherits the cores of this thread, and must be free to choose its own.
pub fn freely<T>(start: impl FnOnce() -> T) -> Result<T, CoreError> {
    let before = current();
    pin(all())?;
    let started = start();
    pin(&before)?;
    Ok(started)
}

/// Moves this thread to some cores.
pub fn pin(cores: &[usize]) -> Result<(), CoreError> {
    pin_task(0, cores)
}

/// Moves a thread of this process to some cores.
pub fn pin_task(task: u32, cores: &[usize]) -> Result<(), CoreError> {
    let failed = |source| CoreError { wanted: cores.to_vec(), allowed: current(), source };
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core).map_err(failed)?;
    }
    sched_setaffinity(Pid::from_raw(task as i32), &set).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_goes_where_it_may_and_back() {
        std::thread::spawn(|| {
            let all = current();
            pin(&all[..1]).unwrap();
            assert_eq!(current(), all[..1]);
            pin(&all).unwrap();
            assert_eq!(current(), all);
            let error = pin(&[900]).unwrap_err().to_string();
            assert!(error.contains("[900]") && error.contains("--generator-core"), "{error}");
        })
        .join()
        .unwrap();
    }
}
