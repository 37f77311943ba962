//! Processor time of the bridge under test: of its threads in this process, or of other processes.

use std::time::Duration;
use std::{fs, io};

/// Processor time used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// All of it, as the scheduler counts (nanoseconds).
    pub total: Duration,
    /// The share in user mode and in the kernel, as sampled by the clock tick: `user / (user + system)`.
    pub user_ticks: u64,
    /// See `user_ticks`.
    pub system_ticks: u64,
}

impl CpuTime {
    /// The difference to an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            total: self.total.saturating_sub(earlier.total),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
        }
    }

    /// Share of user mode, if any tick was seen.
    pub fn user_share(&self) -> Option<f64> {
        let all = self.user_ticks + self.system_ticks;
        (all > 0).then(|| self.user_ticks as f64 / all as f64)
    }

    /// Adds another process's time.
    pub fn add(&mut self, other: Self) {
        self.total += other.total;
        self.user_ticks += other.user_ticks;
        self.system_ticks += other.system_ticks;
    }
}

/// Threads of a process.
pub fn tasks_of(pid: u32) -> io::Result<Vec<u32>> {
    let names = fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(names.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Of some threads of a process. A thread that ends while we look is one that does not count any more.
pub fn of_tasks(pid: u32, tasks: &[u32]) -> io::Result<CpuTime> {
    let mut sum = CpuTime::default();
    for task in tasks {
        match of_task(format!("/proc/{pid}/task/{task}").as_ref()) {
            Ok(time) => sum.add(time),
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH) => {
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

/// Of all threads of a process whose names begin with `prefix` (empty: all).
pub fn of_process(pid: u32, prefix: &str) -> io::Result<CpuTime> {
    let name = |task: &u32| fs::read_to_string(format!("/proc/{pid}/task/{task}/comm"));
    let named: Vec<u32> =
        tasks_of(pid)?.into_iter().filter(|task| name(task).is_ok_and(|name| name.starts_with(prefix))).collect();
    of_tasks(pid, &named)
}

fn of_task(path: &std::path::Path) -> io::Result<CpuTime> {
    let scheduled = fs::read_to_string(path.join("schedstat"))?;
    let nanoseconds = scheduled.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let stat = fs::read_to_string(path.join("stat"))?;
    // Fields 14 and 15, counted after the name, which may hold anything up to the last parenthesis.
    let mut fields = stat.rsplit(')').next().unwrap_or("").split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    Ok(CpuTime { total: Duration::from_nanos(nanoseconds), user_ticks: ticks(), system_ticks: ticks() })
}

/// Resident memory of a process, bytes.
pub fn resident(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    Ok(pages * 4096)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringbridge_dataplane::io::processor_time;

    #[test]
    fn a_named_thread_is_found_and_counted() {
        let worker = std::thread::Builder::new().name("busy-bee".into());
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = worker.spawn(move || {
            // Its own time, which others cannot take from it on a busy host.
            while processor_time() < Duration::from_millis(10) {
                std::hint::spin_loop();
            }
            ready.send(()).unwrap();
            let _ = stopped.recv();
        });
        is_ready.recv().unwrap();
        let used = of_process(std::process::id(), "busy-bee").unwrap();
        assert!(used.total > Duration::from_millis(5), "{used:?}");
        assert_eq!(of_process(std::process::id(), "nobody").unwrap(), CpuTime::default());
        assert!(resident(std::process::id()).unwrap() > 1 << 20);
        drop(stop);
        thread.unwrap().join().unwrap();
    }
}
