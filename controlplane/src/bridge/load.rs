//! How busy the host is, from the kernel's own accounts (docs/protocol/bridge.md 11.5). Parsing is apart from reading.

use std::time::Instant;

/// Processor time that counts as full: beyond it latency suffers. Jitsi Videobridge's value.
const FULL: f64 = 0.9;
/// How much a moment counts that others on this host work. A bridge that does nothing stays below a stress of 0.8, from
/// which Jicofo takes it for overloaded, however busy its host is: the kernel gives it its share when it has something to
/// do. Near that: a bridge on a quiet host is chosen before.
const OTHERS: f64 = 0.7;

/// Processor time of the host since it started, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct HostTime {
    idle: u64,
    total: u64,
}

/// The first line of `/proc/stat` (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal. Steal counts as
/// busy: it is time that another guest had and we wanted.
fn host_time(stat: &str) -> Option<HostTime> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = fields.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let idle = fields.get(3)?.checked_add(*fields.get(4)?)?;
    Some(HostTime { idle, total: fields.iter().try_fold(0u64, |sum, field| sum.checked_add(*field))? })
}

/// `cpu.max` of a cgroup (v2): how many processors' time it may have; `None` is no limit.
fn quota(cpu_max: &str) -> Option<f64> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then_some(quota / period)
}

/// `usage_usec` of a cgroup's `cpu.stat`, microseconds.
fn usage(cpu_stat: &str) -> Option<u64> {
    cpu_stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?.trim().parse().ok()
}

/// Processor time of this process, clock ticks: user and system (`/proc/self/stat`, fields 14 and 15; its name, in
/// brackets, may contain anything).
fn own_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    user.checked_add(system)
}

/// What was read at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    host: Option<HostTime>,
    /// Clock ticks of this process.
    own: Option<u64>,
    /// Microseconds used and processors allowed, when this cgroup has a limit.
    group: Option<(u64, f64)>,
}

impl Sample {
    fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let group = || Some((usage(&read("/sys/fs/cgroup/cpu.stat")?)?, quota(&read("/sys/fs/cgroup/cpu.max")?)?));
        Self {
            host: read("/proc/stat").and_then(|stat| host_time(&stat)),
            own: read("/proc/self/stat").and_then(|stat| own_time(&stat)),
            group: group(),
        }
    }

    /// Share of the processors' time between two samples, 0 to 1, what others worked weighed by [`OTHERS`]; of the
    /// cgroup's share where that is scarcer.
    fn busy_since(&self, before: &Self, elapsed_seconds: f64) -> Option<f64> {
        let host = || {
            let (now, then) = (self.host?, before.host?);
            let total = now.total.checked_sub(then.total).filter(|total| *total > 0)?;
            let idle = now.idle.saturating_sub(then.idle).min(total);
            let busy = 1.0 - idle as f64 / total as f64;
            // Unknown is all.
            let own = self.own.zip(before.own).map(|(now, then)| now.saturating_sub(then) as f64 / total as f64);
            let own = own.unwrap_or(busy).min(busy);
            Some(own + (busy - own) * OTHERS)
        };
        let group = || {
            let ((used, allowed), (before, _)) = (self.group?, before.group?);
            let used = used.saturating_sub(before) as f64 / 1e6;
            (elapsed_seconds > 0.0 && allowed > 0.0).then(|| (used / elapsed_seconds / allowed).min(1.0))
        };
        match (host(), group()) {
            (Some(host), Some(group)) => Some(host.max(group)),
            (one, other) => one.or(other),
        }
    }
}

/// Processor load of the host, sampled.
#[derive(Debug)]
pub(super) struct HostLoad {
    sample: Sample,
    at: Instant,
    stress: f64,
}

impl HostLoad {
    pub fn new(now: Instant) -> Self {
        Self { sample: Sample::read(), at: now, stress: 0.0 }
    }

    /// Reads the kernel's accounts.
    pub fn sample(&mut self, now: Instant) {
        let sample = Sample::read();
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        if let Some(busy) = sample.busy_since(&self.sample, elapsed) {
            self.stress = busy / FULL;
        }
        (self.sample, self.at) = (sample, now);
    }

    /// 1 is as much as the host should have to do.
    pub fn stress(&self) -> f64 {
        self.stress
    }
}

/// Threads of this process.
pub(super) fn threads() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    threads_of(&status).unwrap_or(0)
}

fn threads_of(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3\n";

    #[test]
    fn steal_is_busy_and_waiting_for_disks_is_not() {
        let before = Sample { host: host_time(STAT), ..Sample::default() };
        assert_eq!(before.host, Some(HostTime { idle: 850, total: 1000 }));
        let now = Sample { host: host_time("cpu  120 0 50 830 70 0 0 30 0 0\n"), ..Sample::default() };
        // 20 user, 30 steal, 30 idle, 20 waiting.
        assert_eq!(now.busy_since(&before, 5.0), Some(0.5));
        assert_eq!(before.busy_since(&now, 5.0), None, "a clock that goes back says nothing");
    }

    #[test]
    fn the_scarcer_of_host_and_container_counts() {
        assert_eq!((quota("150000 100000\n"), quota("max 100000\n"), quota("")), (Some(1.5), None, None));
        assert_eq!(usage("usage_usec 2500000\nuser_usec 1\n"), Some(2_500_000));
        let before = Sample { host: host_time(STAT), group: Some((0, 1.5)), own: None };
        let now = Sample { host: host_time("cpu  110 0 50 890 50 0 0 0\n"), group: Some((6_000_000, 1.5)), own: None };
        let busy = now.busy_since(&before, 5.0).expect("both are known");
        assert!((busy - 0.8).abs() < 1e-9, "{busy}");
    }

    /// Stress after 100 ticks of which so many were not idle, and so many of those were ours.
    fn stress(busy: u64, own: u64) -> f64 {
        let before = Sample { host: host_time(STAT), own: Some(7), group: None };
        let now = host_time(&format!("cpu  {} 0 50 {} 50 0 0 0\n", 100 + busy, 800 + 100 - busy));
        let now = Sample { host: now, own: Some(7 + own), group: None };
        now.busy_since(&before, 5.0).expect("known") / FULL
    }

    #[test]
    fn a_bridge_that_does_nothing_is_not_full() {
        assert_eq!(stress(0, 0), 0.0);
        assert!((0.7..0.8).contains(&stress(100, 0)), "a host that others keep busy: {}", stress(100, 0));
        assert!(stress(100, 5) < 0.8, "nor one that does next to nothing");
        assert!(stress(100, 0) > stress(100, 0).min(stress(50, 0)) && stress(50, 0) > 0.3, "a quiet host is better");
        assert!(stress(100, 40) > 0.9 && stress(100, 70) > 1.0, "with work of its own there it is");
        assert!((stress(90, 90) - 1.0).abs() < 1e-9 && stress(45, 45) < stress(60, 45), "alone, as Jitsi Videobridge");
        assert!(stress(50, 80) <= 0.5 / FULL + 1e-9, "ticks are coarse: no more than the host worked");
    }

    #[test]
    fn our_own_time_whatever_we_are_called() {
        let stat = "42 (a) b) R 1 42 42 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 3 0 100 1 2";
        assert_eq!(own_time(stat), Some(300));
        for nonsense in ["", "42 (a", "42 (a) R 1 2", "42 (a) R 1 42 42 0 -1 4194560 1 2 3 4 x 50 7"] {
            assert_eq!(own_time(nonsense), None, "{nonsense}");
        }
        assert!(Sample::read().own.is_some());
    }

    #[test]
    fn nonsense_is_nothing() {
        for stat in ["", "cpu", "cpu  1 2 3", "cpu  a b c d e f g h", "intr 5"] {
            assert_eq!(host_time(stat), None, "{stat:?}");
        }
        assert_eq!(threads_of("Name:\tx\nThreads:\t12\n"), Some(12));
    }

    #[test]
    fn this_host_is_read() {
        let start = Instant::now();
        let mut load = HostLoad::new(start);
        let mut work = 0u64;
        while start.elapsed().as_millis() < 60 {
            work = work.wrapping_add(1);
        }
        assert!(work > 0);
        load.sample(Instant::now());
        assert!((0.0..=1.0 / FULL).contains(&load.stress()) && load.stress() > 0.0, "{}", load.stress());
        assert!(threads() >= 1);
    }
}
