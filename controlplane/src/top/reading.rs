//! What the bridge's pages say at one moment.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The pages of one bridge as they were served, parsed as JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pages {
    /// `/colibri/stats`.
    pub stats: Value,
    /// `/metrics` as JSON.
    pub metrics: Value,
    /// `/debug`, in full or not.
    pub debug: Value,
    /// `/debug/bandwidth`.
    pub bandwidth: Value,
}

/// Counters and gauges of one worker: metric and reason (often empty) to value.
pub(super) type Counters = BTreeMap<(String, String), f64>;

/// Everything that is shown, before rates.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    pub(super) version: String,
    pub(super) xmpp: (u64, u64),
    pub(super) state: State,
    pub(super) workers: Vec<Counters>,
    pub(super) bandwidth: Vec<Path>,
}

/// The way to one receiver.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Path {
    pub number: u64,
    pub estimate_bps: Option<f64>,
    #[serde(default)]
    pub target_bps: f64,
    #[serde(default)]
    pub ideal_bps: f64,
    #[serde(default)]
    pub sent_bps: f64,
    pub rtt_ms: Option<f64>,
    #[serde(default)]
    pub loss: f64,
}

/// The page `/debug`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct State {
    pub shutdown_state: String,
    pub drain: bool,
    pub load_management: Load,
    pub conferences: BTreeMap<String, Conference>,
    pub health: Health,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Load {
    pub stress: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Health {
    pub success: bool,
    pub message: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Conference {
    pub name: Option<String>,
    pub meeting_id: String,
    #[serde(default)]
    pub workers: Vec<usize>,
    pub endpoints: BTreeMap<String, Value>,
    #[serde(default)]
    pub relays: BTreeMap<String, RelayReading>,
}

/// One relay of the page `/debug?full=true`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct RelayReading {
    pub worker: usize,
    #[serde(default)]
    pub mesh_id: String,
    #[serde(default)]
    pub ice_connected: bool,
    #[serde(default)]
    pub dtls_connected: bool,
    #[serde(default)]
    pub channel: Value,
    pub dead_for_seconds: Option<f64>,
    /// Those behind it.
    #[serde(default)]
    pub endpoints: BTreeMap<String, Value>,
}

/// One endpoint of the page `/debug?full=true`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct EndpointReading {
    pub number: u64,
    pub stats_id: Option<String>,
    pub worker: usize,
    /// Null before the first packet.
    pub active: Option<bool>,
    #[serde(default)]
    pub ice_connected: bool,
    #[serde(default)]
    pub dtls_connected: bool,
    #[serde(default)]
    pub channel: Channel,
    #[serde(default)]
    pub sources: Vec<Source>,
    #[serde(default)]
    pub forwarded_sources: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Channel {
    pub used: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Source {
    #[serde(rename = "type")]
    pub kind: String,
}

/// The pages are not those of a bridge of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{page} is not as ringbridge serves it ({what}); is that address the one of bridge.rest.listen?")]
pub struct NotABridge {
    page: &'static str,
    what: String,
}

impl Reading {
    /// Takes the pages apart.
    ///
    /// # Errors
    /// When one has another form, as those of a focus or of another bridge have.
    pub fn new(pages: Pages) -> Result<Self, NotABridge> {
        let wrong = |page| move |what: String| NotABridge { page, what };
        let workers = workers(&pages.metrics).map_err(wrong("/metrics"))?;
        let state = serde_json::from_value(pages.debug).map_err(|e| wrong("/debug")(e.to_string()))?;
        let bandwidth =
            serde_json::from_value(pages.bandwidth).map_err(|e| wrong("/debug/bandwidth")(e.to_string()))?;
        let number = |name: &str| pages.stats[name].as_u64().unwrap_or_default();
        Ok(Self {
            version: pages.stats["version"].as_str().unwrap_or("?").to_owned(),
            xmpp: (number("muc_clients_connected"), number("muc_clients_configured")),
            state,
            workers,
            bandwidth,
        })
    }
}

/// Every `ringbridge_NAME{worker="N",reason="R"}`, by worker.
fn workers(metrics: &Value) -> Result<Vec<Counters>, String> {
    let metrics = metrics.as_object().ok_or("no object")?;
    let mut workers: BTreeMap<usize, Counters> = BTreeMap::new();
    for (sample, value) in metrics {
        let (Some((name, worker, reason)), Some(value)) = (labelled(sample), value.as_f64()) else { continue };
        workers.entry(worker).or_default().insert((name.to_owned(), reason.to_owned()), value);
    }
    if workers.is_empty() {
        return Err("no metric of a worker".to_owned());
    }
    Ok(workers.into_values().collect())
}

fn labelled(sample: &str) -> Option<(&str, usize, &str)> {
    let (name, labels) = sample.strip_prefix("ringbridge_")?.split_once("{worker=\"")?;
    let (worker, reason) = labels.strip_suffix("\"}")?.split_once("\",reason=\"")?;
    Some((name, worker.parse().ok()?, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn samples_of_workers_are_found_by_their_labels() {
        assert_eq!(labelled("ringbridge_dropped{worker=\"3\",reason=\"no_keys\"}"), Some(("dropped", 3, "no_keys")));
        assert_eq!(labelled("ringbridge_syscalls{worker=\"0\",reason=\"\"}"), Some(("syscalls", 0, "")));
        for other in ["ringbridge_conferences", "jitsi_jvb_x{worker=\"0\",reason=\"\"}", "ringbridge_x{worker=\"a\"}"] {
            assert_eq!(labelled(other), None);
        }
    }

    #[test]
    fn other_services_are_told_apart() {
        let pages = |metrics, debug| Pages { metrics, debug, bandwidth: json!([]), stats: json!({}) };
        let ours = json!({"ringbridge_packets_sent{worker=\"0\",reason=\"\"}": 1});
        let error = |pages| Reading::new(pages).expect_err("no bridge of ours").to_string();
        let reference = error(pages(json!({"jitsi_jvb_conferences": 0}), json!({})));
        assert!(reference.contains("/metrics") && reference.contains("bridge.rest.listen"), "{reference}");
        assert!(error(pages(json!([]), json!({}))).contains("no object"));
        assert!(error(pages(ours, json!({"drain": false}))).contains("/debug is not"));
    }
}
