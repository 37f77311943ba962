//! The bridge's pages over HTTP.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::StatusCode;

use super::reading::{Pages, Reading};

/// How long one page may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// More than any bridge has to say; what is longer is not one.
const LONGEST: u64 = 64 << 20;

/// Reads pages, over one connection where it can.
pub(super) struct Client {
    base: String,
    agent: Agent,
}

impl Client {
    /// For the bridge whose pages are at `address`, host and port.
    pub fn new(address: &str) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            // The pages are where they are, not behind somebody's proxy.
            .proxy(None);
        Self { base: format!("http://{address}"), agent: Agent::new_with_config(config.build()) }
    }

    /// Reads everything once.
    ///
    /// # Errors
    /// One line for the operator.
    pub fn read(&self) -> Result<Reading, String> {
        let pages = Pages {
            metrics: self.page("/metrics")?,
            debug: self.page("/debug?full=true")?,
            bandwidth: self.page("/debug/bandwidth")?,
            stats: self.page("/colibri/stats")?,
        };
        Reading::new(pages).map_err(|error| format!("{}: {error}", self.base))
    }

    fn page(&self, path: &str) -> Result<Value, String> {
        let url = format!("{}{path}", self.base);
        let unreached = |error: ureq::Error| {
            let reason = match error {
                ureq::Error::Io(error) => error.to_string(),
                other => other.to_string(),
            };
            format!("cannot read {url}: {reason}; does the bridge run, with this as bridge.rest.listen?")
        };
        let mut answer = self.agent.get(&url).header("Accept", "application/json").call().map_err(unreached)?;
        if !answer.status().is_success() {
            let status = answer.status();
            if status == StatusCode::FORBIDDEN {
                return Err(format!(
                    "{url} answers {status}; use the bridge's address, or add the name to its rest.host-names"
                ));
            }
            return Err(format!("{url} answers {status}; is that address the one of bridge.rest.listen?"));
        }
        let body = answer.body_mut().with_config().limit(LONGEST).read_to_vec().map_err(unreached)?;
        serde_json::from_slice(&body).map_err(|error| format!("{url} is not JSON ({error}); is that a ringbridge?"))
    }
}
