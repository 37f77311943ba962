//! Numbers of the focus under Jicofo's names (docs/protocol/focus.md 9), where they mean the same.

use serde_json::{Value, json};

use crate::metrics::{Family, Kind};

/// The sizes at which a bucket of conferences begins; the last one has no end.
const BUCKETS: &[usize] = &[0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 300, 400, 500];

/// How many conferences there are of which size.
pub(super) fn conference_sizes(sizes: &[usize]) -> Value {
    let mut buckets = serde_json::Map::new();
    for (index, from) in BUCKETS.iter().enumerate() {
        let to = BUCKETS.get(index + 1);
        let inside = |size: &&usize| **size >= *from && to.is_none_or(|to| **size < *to);
        let name = format!("{from}_to_{}", to.map_or_else(|| "max".to_owned(), ToString::to_string));
        buckets.insert(name, sizes.iter().filter(inside).count().into());
    }
    let total: usize = sizes.iter().sum();
    json!({
        "average": if sizes.is_empty() { 0.0 } else { total as f64 / sizes.len() as f64 },
        "max": sizes.iter().max().copied().unwrap_or(0),
        "min": sizes.iter().min().copied().unwrap_or(0),
        "total_value": total,
        "total_count": sizes.len(),
        "buckets": buckets,
    })
}

/// Pairs of endpoints that may hear each other, each with itself too.
pub(super) fn endpoint_pairs(sizes: &[usize]) -> usize {
    sizes.iter().map(|size| size.saturating_mul(*size)).sum()
}

/// Names after `jitsi_jicofo_`, where the value stands in `/stats`, what it does, and what it means.
const NAMES: &[(&str, &str, Kind, &str)] = &[
    ("conferences", "/conferences", Kind::Gauge, "Conferences now."),
    ("conferences_created", "/total_conferences_created", Kind::Counter, "Conferences so far."),
    ("largest_conference", "/largest_conference", Kind::Gauge, "Participants of the largest conference now."),
    ("participants", "/total_participants", Kind::Counter, "Participants so far."),
    ("visitors_current", "/visitors", Kind::Gauge, "Visitors now."),
    ("conferences_with_visitors", "/conferences_with_visitors", Kind::Gauge, "Conferences that have visitors now."),
    ("participants_current", "/participants", Kind::Gauge, "Participants now."),
    ("participants_pairs", "/endpoint_pairs", Kind::Gauge, "Sum of the squares of the conferences' sizes."),
    (
        "participants_moved",
        "/bridge_failures/participants_moved",
        Kind::Counter,
        "Participants moved to another bridge.",
    ),
    (
        "load_redistributor_endpoints_moved",
        "/load_redistributor/endpoints_moved",
        Kind::Counter,
        "Participants moved away from overloaded bridges.",
    ),
    ("bridges_removed", "/bridge_failures/bridges_removed", Kind::Counter, "Bridges that were lost."),
    (
        "participants_restart_requested",
        "/participant_notifications/request_restart",
        Kind::Counter,
        "Sessions that clients asked to begin again.",
    ),
    ("bridge_selector_bridge_count", "/bridge_selector/bridge_count", Kind::Gauge, "Bridges now."),
    (
        "bridge_selector_bridge_count_operational",
        "/bridge_selector/operational_bridge_count",
        Kind::Gauge,
        "Bridges that may take endpoints.",
    ),
    (
        "bridge_selector_bridge_count_in_shutdown",
        "/bridge_selector/in_shutdown_bridge_count",
        Kind::Gauge,
        "Bridges that are about to end.",
    ),
    (
        "bridge_selector_bridge_version_count",
        "/bridge_selector/bridge_version_count",
        Kind::Gauge,
        "Different versions of bridges.",
    ),
    ("bridge_selector_lost_bridges", "/bridge_selector/lost_bridges", Kind::Counter, "Bridges that left so far."),
    ("jibri_recording_active", "/jibri/recording_active", Kind::Gauge, "Recordings now."),
    ("jibri_live_streaming_active", "/jibri/live_streaming_active", Kind::Gauge, "Live streams now."),
    ("jibri_sip_active", "/jibri/sip_call_active", Kind::Gauge, "SIP calls by Jibri now."),
];

/// The statistics under Jicofo's names, as far as they are there; and those of each bridge.
pub(super) fn families(stats: &Value) -> Vec<Family> {
    let one = |(name, pointer, kind, help): &(&str, &str, Kind, &str)| {
        let value = stats.pointer(pointer)?.as_f64()?;
        Some(Family::single(format!("jitsi_jicofo_{name}"), *help, *kind, value))
    };
    let per_bridge = [
        ("bridge_failing_ice", "failing-ice", Kind::Gauge, "Whether clients do not reach the bridge."),
        ("bridge_restart_requests", "endpoint-restart-requests", Kind::Counter, "Sessions on it that began again."),
    ];
    let bridges = |(name, field, kind, help): (&str, &str, Kind, &str)| {
        let all = stats.pointer("/bridge_selector/bridges").and_then(Value::as_object).into_iter().flatten();
        all.fold(Family::new(format!("jitsi_jicofo_{name}"), help, kind), |family, (jvb, bridge)| {
            let value = &bridge[field];
            let value =
                value.as_f64().or_else(|| value.as_bool().map(|on| f64::from(u8::from(on)))).unwrap_or_default();
            family.with(&[("jvb", jvb.rsplit('/').next().unwrap_or_default())], value)
        })
    };
    NAMES.iter().filter_map(one).chain(per_bridge.map(bridges)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Format;

    #[test]
    fn sizes_in_buckets() {
        let sizes = conference_sizes(&[1, 3, 4, 5, 600]);
        assert_eq!(
            (sizes["min"].as_u64(), sizes["max"].as_u64(), sizes["average"].as_f64()),
            (Some(1), Some(600), Some(122.6))
        );
        let bucket = |name: &str| sizes["buckets"][name].as_u64();
        assert_eq!(
            [bucket("1_to_2"), bucket("3_to_5"), bucket("5_to_10"), bucket("500_to_max")],
            [Some(1), Some(2), Some(1), Some(1)]
        );
        assert_eq!(conference_sizes(&[])["average"], 0.0);
        assert_eq!((endpoint_pairs(&[3, 2]), endpoint_pairs(&[])), (13, 0));
    }

    /// The names and kinds that Jicofo uses, in its own recording.
    #[test]
    fn jicofos_names_are_spelt_as_it_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures/drain/draining2-jicofo-metrics.txt");
        let Ok(recorded) = std::fs::read_to_string(path) else {
            println!("skipped: {path} is not here");
            return;
        };
        let mut stats = json!({ "bridge_selector": { "bridges": { "b@i/jvb1": { "failing-ice": true } } } });
        for (_, pointer, ..) in NAMES {
            let mut place = &mut stats;
            for part in pointer.split('/').skip(1) {
                place = &mut place[part];
            }
            *place = json!(1);
        }
        let text = Format::Text.write(&families(&stats));
        let types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
        assert_eq!(types.len(), NAMES.len() + 2);
        for line in types {
            assert!(recorded.lines().any(|known| known == line), "{line}");
        }
        assert!(text.contains("jitsi_jicofo_bridge_failing_ice{jvb=\"jvb1\"} 1"), "{text}");
    }
}
