//! The statistics of the focus as metrics.

use super::statistics;
use crate::metrics::{Family, Kind};

/// The numbers of the statistics as gauges.
pub(super) fn families(stats: &serde_json::Value) -> Vec<Family> {
    let mut families = Vec::new();
    let add = |families: &mut Vec<Family>, name: &str, value: &serde_json::Value| {
        if let Some(number) = value.as_f64() {
            let help = format!("As {name} in /stats.");
            families.push(Family::single(format!("ringbridge_focus_{name}"), help, Kind::Gauge, number));
        }
    };
    for (name, value) in stats.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(reasons) if name == "refused" => {
                let help = "What was asked and did not happen, or not as asked; see docs/security.md.";
                let counts =
                    reasons.iter().map(|(reason, count)| (reason.as_str(), count.as_f64().unwrap_or_default()));
                families.push(Family::new("ringbridge_focus_refused", help, Kind::PlainCounter).by_reason(counts));
            }
            Some(group) => {
                group.iter().for_each(|(inner, value)| add(&mut families, &format!("{name}_{inner}"), value));
            }
            None => add(&mut families, name, value),
        }
    }
    families.extend(statistics::families(stats));
    families
}
