//! The ways to all endpoints, summed up.

use ringbridge_dataplane::messages::Bandwidth;

/// Loss beyond which an endpoint counts as one with high loss, out of a thousand.
const HIGH_LOSS: u16 = 100;

/// The ways to all endpoints, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Paths {
    /// Mean round-trip time, milliseconds.
    pub rtt_ms: f64,
    /// Mean share of packets that are lost.
    pub outgoing_loss: f64,
    /// Endpoints that lose more than a tenth.
    pub high_loss: usize,
    /// Endpoints that are sent more than the estimated bandwidth of their path.
    pub oversending: usize,
    /// Endpoints whose bandwidth does not suffice for all video that they want.
    pub suspended: usize,
    /// Endpoints that send REMB although they negotiated transport-wide feedback.
    pub spurious_remb: usize,
}

impl Paths {
    /// Of what is known of each.
    pub(super) fn of<I: Iterator<Item = Bandwidth>>(known: impl Fn() -> I) -> Self {
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
            if count > 0.0 { sum / count } else { 0.0 }
        };
        Self {
            rtt_ms: mean(&mut known().filter_map(|b| b.rtt).map(|rtt| rtt.as_secs_f64() * 1_000.0)),
            outgoing_loss: mean(&mut known().map(|b| f64::from(b.lost_per_mille) / 1_000.0)),
            high_loss: known().filter(|b| b.lost_per_mille > HIGH_LOSS).count(),
            oversending: known().filter(|b| b.estimate.is_some_and(|estimate| b.target > estimate)).count(),
            suspended: known().filter(|b| b.suspended > 0).count(),
            spurious_remb: known().filter(|b| b.spurious_remb).count(),
        }
    }
}
