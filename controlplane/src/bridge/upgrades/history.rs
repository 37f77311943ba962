//! What upgrades came to, over all processes that were this bridge.

use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::metrics::{Family, Kind};
use crate::upgrade::Failure;

/// How upgrades end that do not fail.
const HANDED_OVER: &str = "handed_over";
/// Outcomes that are counted.
const OUTCOMES: usize = 1 + Failure::LABELS.len();
/// No bridge counts so far.
const IMPLAUSIBLE: u64 = 1 << 48;

/// What an upgrade may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// A bridge channel over SCTP, with the former process that had it.
    DataChannel,
    /// A DTLS handshake under way, which begins anew.
    Handshake,
}

impl Loss {
    const ALL: [Self; 2] = [Self::DataChannel, Self::Handshake];

    fn name(self) -> &'static str {
        match self {
            Self::DataChannel => "data_channel",
            Self::Handshake => "handshake",
        }
    }
}

/// The counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct History {
    /// Handed over, then the failures in the order of their labels.
    outcomes: [u64; OUTCOMES],
    /// In which nothing was sent or received, whether the upgrade succeeded or not.
    frozen_micros: u64,
    lost: [u64; Loss::ALL.len()],
}

impl History {
    /// Whether a bridge can have counted this.
    pub fn is_plausible(&self) -> bool {
        let counts = self.outcomes.iter().chain(&self.lost).chain([&self.frozen_micros]);
        counts.into_iter().all(|count| *count < IMPLAUSIBLE)
    }
}

/// The counts of this process and those before it, for the pages.
#[derive(Debug, Default)]
pub(in crate::bridge) struct UpgradeCounters(Mutex<History>);

impl UpgradeCounters {
    /// Goes on counting where another process was.
    pub(super) fn from(history: History) -> Self {
        Self(Mutex::new(history))
    }

    /// As counted by now.
    pub(super) fn history(&self) -> History {
        self.0.lock().map(|history| *history).unwrap_or_default()
    }

    fn change(&self, change: impl FnOnce(&mut History)) {
        // Only this file locks it, and does not panic.
        if let Ok(mut history) = self.0.lock() {
            change(&mut history);
        }
    }

    /// One succeeded.
    pub(super) fn handed_over(&self, frozen: Duration) {
        self.change(|history| history.outcomes[0] += 1);
        self.froze(frozen);
    }

    /// One came to nothing.
    pub(super) fn failed(&self, label: &str) {
        if let Some(at) = Failure::LABELS.iter().position(|known| *known == label) {
            self.change(|history| history.outcomes[1 + at] += 1);
        }
    }

    /// Nothing was sent for so long.
    pub(super) fn froze(&self, frozen: Duration) {
        let micros = u64::try_from(frozen.as_micros()).unwrap_or(0);
        self.change(|history| history.frozen_micros = history.frozen_micros.saturating_add(micros));
    }

    /// So many were not carried.
    pub(super) fn lose(&self, loss: Loss, count: usize) {
        self.change(|history| history.lost[loss as usize] = history.lost[loss as usize].saturating_add(count as u64));
    }

    /// Data channels ended with the former process that had them.
    pub fn lose_data_channels(&self, count: usize) {
        self.lose(Loss::DataChannel, count);
    }

    /// The counts as metrics.
    pub fn families(&self) -> Vec<Family> {
        let History { outcomes, frozen_micros, lost } = self.history();
        let names = [HANDED_OVER].into_iter().chain(Failure::LABELS);
        let upgrades =
            Family::new("ringbridge_upgrades", "Upgrades of this bridge by what became of them.", Kind::PlainCounter);
        let frozen = "Seconds in which nothing was sent for an upgrade.";
        let help = "What upgrades did not carry: handshakes under way, and data channels that were lost with the former process that \
                    had them.";
        let losses = Family::new("ringbridge_upgrade_lost", help, Kind::PlainCounter);
        vec![
            names.zip(outcomes).fold(upgrades, |family, (name, count)| family.with(&[("outcome", name)], count as f64)),
            Family::single("ringbridge_upgrade_frozen_seconds", frozen, Kind::PlainCounter, frozen_micros as f64 / 1e6),
            Loss::ALL
                .iter()
                .zip(lost)
                .fold(losses, |family, (loss, count)| family.with(&[("kind", loss.name())], count as f64)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_on_in_the_next_process() {
        let counters = UpgradeCounters::default();
        counters.failed("died");
        counters.failed("of no known kind");
        counters.froze(Duration::from_millis(30));
        counters.lose(Loss::DataChannel, 2);
        let carried = postcard::to_allocvec(&counters.history()).expect("written");
        let next = UpgradeCounters::from(postcard::from_bytes(&carried).expect("read"));
        next.handed_over(Duration::from_millis(20));
        let families = next.families();
        let value = |family: usize, label: &str| {
            let sample =
                families[family].samples.iter().find(|(labels, _)| labels.iter().any(|(_, value)| value == label));
            sample.map(|(_, value)| *value)
        };
        assert_eq!((value(0, "handed_over"), value(0, "died"), value(0, "stalled")), (Some(1.0), Some(1.0), Some(0.0)));
        assert_eq!(families[1].samples[0].1, 0.05);
        assert_eq!((value(2, "data_channel"), value(2, "handshake")), (Some(2.0), Some(0.0)));
        assert!(next.history().is_plausible());
        assert!(!History { frozen_micros: u64::MAX, ..History::default() }.is_plausible());
    }
}
