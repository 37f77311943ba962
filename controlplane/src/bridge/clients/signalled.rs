//! What signalling did to the bridge's endpoints and relays.

use std::time::Instant;

use ringbridge_dataplane::messages::Command;

use super::table::Clients;
use crate::colibri::bridge::Output;
use crate::transport::Fingerprint;

impl Clients {
    /// Follows what signalling did; what is for a worker is given back.
    pub fn follow(&mut self, now: Instant, output: Output) -> Option<(usize, Command)> {
        match output {
            Output::Command { worker, command } => return Some((worker, command)),
            Output::EndpointCreated { endpoint, password, sctp } => self.insert(now, endpoint, &password, sctp),
            Output::RelayCreated { relay, channel } => self.insert_relay(relay, &channel),
            Output::DialRelay { relay, url } => self.set_relay_address(now, relay, &url),
            Output::RelayExpired { relay } => self.remove_relay(relay.id),
            Output::RelayedCreated { endpoint } => self.insert_relayed(endpoint),
            Output::EndpointExpired { endpoint } => self.remove(endpoint.id),
            Output::RemoteDtls { endpoint, setup, fingerprints } => {
                let fingerprints = fingerprints
                    .into_iter()
                    .map(|f| Fingerprint { hash: f.hash, value: f.value.trim().to_owned() })
                    .collect();
                self.set_remote_dtls(now, endpoint, setup, fingerprints);
            }
            Output::InitialLastN { endpoint, last_n } => self.set_initial_last_n(endpoint, last_n),
            Output::SourcesChanged { endpoint, sources } => self.set_sources(endpoint, sources),
        }
        None
    }
}
