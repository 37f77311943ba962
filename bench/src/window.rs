//! One measured stretch of traffic through a subject.

use std::time::{Duration, Instant};

use crate::account::Account;
use crate::cpu::CpuTime;
use crate::generator::world::{Measured, World};
use crate::subject::{OwnCounters, Subject, SubjectError};

/// Before counting starts: caches fill, keyframes come.
pub const WARM_UP: Duration = Duration::from_millis(500);
/// Nothing comes, and nothing is left out, for so long once all is over: a bridge at its limit works off what waits in its sockets without
/// that anything of it arrives, and the kernel says how much it dropped only with the next datagram.
const DRAIN: Duration = Duration::from_millis(200);
/// The longest that a subject may take to deliver what it has.
const DRAIN_MOST: Duration = Duration::from_secs(2);
/// How often a subject is polled while media flows.
const POLL: Duration = Duration::from_millis(1);

/// What a window showed.
#[derive(Debug, Clone)]
pub struct Window {
    /// Length of the window.
    pub elapsed: Duration,
    /// What the generator counted.
    pub measured: Measured,
    /// Packets that would have arrived, had each one that was sent in it gone to everybody.
    pub expected: u64,
    /// Processor time of the subject's packet path.
    pub cpu: CpuTime,
    /// Of its control plane, if that runs with it.
    pub control: Option<CpuTime>,
    /// Differences of the subject's own counters.
    pub own: Option<OwnCounters>,
    /// Where the packets went, those before and after the window included; `None` of a subject that does not count.
    pub account: Option<Account>,
}

impl Window {
    /// Processor time per packet that arrived, nanoseconds.
    pub fn nanos_per_packet(&self) -> f64 {
        self.cpu.total.as_nanos() as f64 / self.measured.counts.packets.max(1) as f64
    }

    /// The same of the whole process, where the control plane runs with it.
    pub fn process_nanos_per_packet(&self) -> Option<f64> {
        let all = self.control?.total + self.cpu.total;
        Some(all.as_nanos() as f64 / self.measured.counts.packets.max(1) as f64)
    }

    /// Share of the control plane in that, 0 to 1.
    pub fn control_share(&self) -> Option<f64> {
        let control = self.control?.total.as_secs_f64();
        Some(control / (control + self.cpu.total.as_secs_f64()).max(f64::MIN_POSITIVE))
    }

    /// Processor time of the control plane for each participant and minute, milliseconds.
    pub fn control_millis_per_minute(&self, participants: usize) -> Option<f64> {
        let control = self.control?.total.as_secs_f64();
        Some(control * 1e3 / participants.max(1) as f64 / (self.elapsed.as_secs_f64() / 60.0))
    }

    /// Packets that arrived, as a share of those expected.
    pub fn delivered(&self) -> f64 {
        self.measured.counts.packets as f64 / self.expected.max(1) as f64
    }

    /// Share of packets that are missing, 0 to 1.
    pub fn loss(&self) -> f64 {
        let counts = &self.measured.counts;
        counts.lost as f64 / (counts.packets + counts.lost).max(1) as f64
    }

    /// The same of audio alone.
    pub fn audio_loss(&self) -> f64 {
        let counts = &self.measured.counts;
        counts.audio_lost as f64 / (counts.audio + counts.audio_lost).max(1) as f64
    }

    /// A percentile of the added latency.
    pub fn latency(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.measured.latency.all.value_at_quantile(quantile))
    }

    /// System calls per forwarded packet, if the subject counts them.
    pub fn syscalls_per_packet(&self) -> Option<f64> {
        let own = self.own.as_ref()?;
        (own.forwarded > 0).then(|| own.syscalls as f64 / own.forwarded as f64)
    }
}

/// Plays for a while. `idle` runs every millisecond (other subjects stay connected by it).
pub fn run(
    world: &mut World,
    subject: &mut dyn Subject,
    duration: Duration,
    idle: impl FnMut(Instant) -> Result<(), SubjectError>,
) -> Result<Window, SubjectError> {
    run_after(world, subject, WARM_UP, duration, idle)
}

/// The same with another time before counting starts.
pub fn run_after(
    world: &mut World,
    subject: &mut dyn Subject,
    warm_up: Duration,
    duration: Duration,
    mut idle: impl FnMut(Instant) -> Result<(), SubjectError>,
) -> Result<Window, SubjectError> {
    let begin = (subject.counters_at_rest(), world.traffic());
    world.play();
    spin(world, subject, warm_up, &mut idle)?;
    world.reset();
    let (cpu, control) = (subject.cpu()?, subject.control_cpu()?);
    let (own, start) = (subject.counters(), Instant::now());
    spin(world, subject, duration, &mut idle)?;
    let (elapsed, cpu) = (start.elapsed(), subject.cpu()?.since(&cpu));
    let control = subject.control_cpu()?.zip(control).map(|(now, before)| now.since(&before));
    let own = subject.counters().zip(own).map(|(now, before)| now.since(&before));
    let measured = world.measured();
    let expected = measured.sent * world.fan_out();
    world.pause();
    drain(world, subject, &mut idle)?;
    let (counters, traffic) = begin;
    let account = subject
        .counters_at_rest()
        .zip(counters)
        .map(|(now, before)| Account::of(world.traffic().since(traffic), world.fan_out(), &now.since(&before)));
    Ok(Window { elapsed, measured, expected, cpu, control, own, account })
}

/// Takes what is still under way, nothing being sent.
pub(crate) fn drain(
    world: &mut World,
    subject: &mut dyn Subject,
    idle: &mut impl FnMut(Instant) -> Result<(), SubjectError>,
) -> Result<(), SubjectError> {
    let fate = |world: &World, subject: &dyn Subject| {
        let own = subject.counters_at_rest().map(|own| (own.left_out, own.lost_before));
        (world.traffic().arrived, own)
    };
    let (paused, mut before) = (Instant::now(), fate(world, subject));
    loop {
        spin(world, subject, DRAIN, idle)?;
        let now = fate(world, subject);
        if now == before || paused.elapsed() > DRAIN_MOST {
            return Ok(());
        }
        before = now;
    }
}

fn spin(
    world: &mut World,
    subject: &mut dyn Subject,
    duration: Duration,
    idle: &mut impl FnMut(Instant) -> Result<(), SubjectError>,
) -> Result<(), SubjectError> {
    let start = Instant::now();
    let mut next_poll = start;
    loop {
        let now = Instant::now();
        if now.saturating_duration_since(start) >= duration {
            return Ok(());
        }
        world.step(now)?;
        if now >= next_poll {
            next_poll = now + POLL;
            subject.poll(now)?;
            idle(now)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores;
    use crate::scenario::Scenario;
    use crate::subject::in_process::{InProcess, Options};
    use ringbridge_dataplane::io::{IoChoice, IoLimits};
    use ringbridge_dataplane::media::Limit;

    /// Plays two rooms of three, some of whose packets are not for everybody.
    fn play(last_n: Limit) -> Account {
        let cores = vec![cores::all()[0]];
        let options = Options { io: IoChoice::Mmsg, cores, limits: IoLimits::default(), last_n };
        let mut subject = InProcess::start("ringbridge", &options).unwrap();
        let mut world = World::new(11, false).unwrap();
        Scenario::rooms(2, 3).join(&mut world, &mut subject, 0, Vec::new(), |_, _| {}).unwrap();
        run_after(&mut world, &mut subject, Duration::ZERO, Duration::from_millis(300), |_| Ok(()))
            .unwrap()
            .account
            .unwrap()
    }

    #[test]
    fn every_packet_arrives_or_is_counted() {
        for last_n in [Limit::Unlimited, Limit::at_most(1)] {
            let account = play(last_n);
            assert!(account.arrived > 0 && account.expected.is_multiple_of(2), "{account:?}");
            assert!(account.is_whole() && account.generator_lost == 0, "{account:?}");
            let left_out = account.left_out.get("unwanted").copied().unwrap_or(0);
            assert_eq!(left_out > 0, last_n != Limit::Unlimited, "{account:?}");
        }
    }
}
