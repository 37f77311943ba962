//! What a change of what was signalled makes necessary.

use ringbridge_dataplane::ice::{IceCredentials, RemoteCandidate};
use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::messages::Command;

use super::elements::IceTransport;
use super::output::Output;

/// What a change of an endpoint's state makes necessary: first the commands, then the outputs.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// For its worker, and where they are shared for those that know it as a remote endpoint.
    pub commands: Vec<Command>,
    /// For the caller of the state machine.
    pub outputs: Vec<Output>,
}

impl Changes {
    /// The other side's ICE becomes known; `known` is what was.
    pub fn set_remote_ice(
        &mut self,
        endpoint: EndpointId,
        known: &mut Option<IceCredentials>,
        news: Option<IceCredentials>,
        candidates: Vec<RemoteCandidate>,
    ) {
        let credentials = news.filter(|news| known.as_ref() != Some(news));
        if credentials.is_some() || !candidates.is_empty() {
            if credentials.is_some() {
                known.clone_from(&credentials);
            }
            self.commands.push(Command::SetRemoteIce { endpoint, credentials, candidates });
        }
    }

    /// The other side's DTLS becomes known, where a transport says something of it.
    pub fn set_remote_dtls(&mut self, endpoint: EndpointId, ice: &IceTransport) {
        let fingerprints: Vec<_> = ice.fingerprints.iter().filter(|f| !f.value.trim().is_empty()).cloned().collect();
        if !fingerprints.is_empty() {
            let setup = fingerprints.iter().find_map(|f| f.setup);
            self.outputs.push(Output::RemoteDtls { endpoint, setup, fingerprints });
        }
    }
}
