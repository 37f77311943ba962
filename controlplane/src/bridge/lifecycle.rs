//! Drain and shutdown (docs/protocol/bridge.md 2.6): running, then graceful shutdown, then shutting down, then the end.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How patient a shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownSettings {
    /// A graceful shutdown goes on to shutting down after this time at the latest.
    pub graceful_max_duration: Duration,
    /// It goes on at once with so many endpoints, or fewer.
    pub graceful_min_participants: usize,
    /// Time that the focus gets to move everybody, from shutting down to the end.
    pub shutting_down_delay: Duration,
}

impl Default for ShutdownSettings {
    /// Jitsi Videobridge's defaults.
    fn default() -> Self {
        Self {
            graceful_max_duration: Duration::from_secs(24 * 60 * 60),
            graceful_min_participants: 0,
            shutting_down_delay: Duration::from_secs(60),
        }
    }
}

/// Where a bridge is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) enum Stage {
    /// It serves.
    #[default]
    Running,
    /// It takes no new conferences, and waits for the last endpoint to leave.
    Graceful,
    /// The focus moves everybody away.
    ShuttingDown,
    /// It may go.
    Ended,
}

impl Stage {
    /// As Jitsi Videobridge's debug page says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Graceful => "GRACEFUL_SHUTDOWN",
            Self::ShuttingDown | Self::Ended => "SHUTTING_DOWN",
        }
    }
}

/// The state machine.
#[derive(Debug)]
pub(super) struct Lifecycle {
    settings: ShutdownSettings,
    stage: Stage,
    /// When the stage goes on by itself.
    deadline: Option<Instant>,
    /// Whether the focus shall prefer other bridges; independent of the rest.
    drain: bool,
}

/// Where a bridge is in its life, for another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LifeState {
    stage: Stage,
    #[serde(with = "crate::carried")]
    deadline: Option<Instant>,
    drain: bool,
}

impl Lifecycle {
    /// For another process.
    pub fn state(&self) -> LifeState {
        // How patient it is comes from the process's own configuration.
        let Self { settings: _, stage, deadline, drain } = self;
        LifeState { stage: *stage, deadline: *deadline, drain: *drain }
    }

    /// Goes on where another process was; one that is asked to drain does so in any case.
    pub fn take_over(&mut self, state: LifeState) {
        let LifeState { stage, deadline, drain } = state;
        (self.stage, self.deadline) = (stage, deadline);
        self.drain |= drain;
    }

    pub fn new(settings: ShutdownSettings, drain: bool) -> Self {
        Self { settings, stage: Stage::Running, deadline: None, drain }
    }

    /// Whether focuses are asked to give this bridge no new conferences.
    pub fn drains(&self) -> bool {
        self.drain
    }

    /// Begins or ends to drain; whether that is a change.
    pub fn set_drain(&mut self, drain: bool) -> bool {
        std::mem::replace(&mut self.drain, drain) != drain
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Asks for a graceful shutdown, with so many endpoints now; true when it begins.
    pub fn shut_down_gracefully(&mut self, now: Instant, endpoints: usize) -> bool {
        if self.stage != Stage::Running {
            return false;
        }
        self.stage = Stage::Graceful;
        self.deadline = Some(now + self.settings.graceful_max_duration);
        self.set_endpoints(now, endpoints);
        true
    }

    /// Asks for a shutdown that moves everybody away at once; true when it begins.
    pub fn shut_down(&mut self, now: Instant) -> bool {
        if matches!(self.stage, Stage::ShuttingDown | Stage::Ended) {
            return false;
        }
        self.stage = Stage::ShuttingDown;
        self.deadline = Some(now + self.settings.shutting_down_delay);
        true
    }

    /// The number of endpoints changed.
    pub fn set_endpoints(&mut self, now: Instant, endpoints: usize) {
        if self.stage == Stage::Graceful && endpoints <= self.settings.graceful_min_participants {
            self.shut_down(now);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            match self.stage {
                Stage::Graceful => drop(self.shut_down(now)),
                Stage::ShuttingDown => self.stage = Stage::Ended,
                Stage::Running | Stage::Ended => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> (Lifecycle, Instant) {
        (Lifecycle::new(ShutdownSettings::default(), false), Instant::now())
    }

    #[test]
    fn a_graceful_shutdown_waits_for_the_last_endpoint() {
        let (mut life, now) = running();
        assert!(life.shut_down_gracefully(now, 2) && !life.shut_down_gracefully(now, 2));
        assert_eq!(life.stage(), Stage::Graceful);
        life.set_endpoints(now, 1);
        assert_eq!((life.stage(), life.stage().name()), (Stage::Graceful, "GRACEFUL_SHUTDOWN"));
        life.set_endpoints(now, 0);
        assert_eq!(life.stage(), Stage::ShuttingDown);
        life.set_endpoints(now, 3);
        life.handle_timeout(now + Duration::from_secs(59));
        assert_eq!(life.stage(), Stage::ShuttingDown, "once begun it goes on");
        life.handle_timeout(now + Duration::from_secs(60));
        assert_eq!((life.stage(), life.poll_timeout()), (Stage::Ended, None));
    }

    #[test]
    fn it_waits_a_day_at_most() {
        let (mut life, now) = running();
        life.shut_down_gracefully(now, 5);
        let day = Duration::from_secs(24 * 60 * 60);
        life.handle_timeout(now + day - Duration::from_secs(1));
        assert_eq!(life.stage(), Stage::Graceful);
        life.handle_timeout(now + day);
        assert_eq!(
            (life.stage(), life.poll_timeout()),
            (Stage::ShuttingDown, Some(now + day + Duration::from_secs(60)))
        );
    }

    #[test]
    fn an_empty_bridge_and_a_forced_shutdown_do_not_wait() {
        let (mut life, now) = running();
        life.shut_down_gracefully(now, 0);
        assert_eq!(life.stage(), Stage::ShuttingDown);
        let (mut life, now) = running();
        life.shut_down_gracefully(now, 7);
        assert!(life.shut_down(now) && !life.shut_down(now) && !life.shut_down_gracefully(now, 0));
        life.handle_timeout(now + Duration::from_secs(60));
        assert_eq!(life.stage(), Stage::Ended);
    }

    #[test]
    fn without_a_shutdown_nothing_happens() {
        let (mut life, now) = running();
        life.set_endpoints(now, 0);
        life.handle_timeout(now + Duration::from_secs(1_000_000));
        assert_eq!((life.stage(), life.poll_timeout(), life.drains()), (Stage::Running, None, false));
    }
}
