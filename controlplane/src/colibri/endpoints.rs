//! What a request says about one endpoint: created, changed, its ICE restarted, expired.

use std::sync::Arc;
use std::time::Instant;

use rand::Rng;
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::WorkerId;
use ringbridge_dataplane::messages::{Command, NewEndpoint, SsrcRewriting};

use super::conference::Conference;
use super::context::Context;
use super::elements::{
    CAP_PRIVATE_ADDRESSES, CAP_RTP_MID_DEMUX, CAP_SSRC_REWRITING, Endpoint, IceTransport, Sctp, SctpRole, Transport,
};
use super::endpoint::{Access, EndpointState};
use super::identity::EndpointIdentity;
use super::output::Output;
use super::refusal::Refusal;
use super::restart::Decision;
use super::transport::{PASSWORD, SCTP_PORT, random_token};
use super::validation::{bridge_full, is_visitor};

/// The client starts the association (section 5.1).
const SERVER: Sctp = Sctp { port: Some(SCTP_PORT), role: Some(SctpRole::Server) };

impl Conference {
    /// Applies one validated endpoint element and describes the result.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        request: &Endpoint,
        context: &mut Context,
    ) -> Result<Endpoint, Refusal> {
        let mut answer = Endpoint::new(&request.id);
        if request.expire {
            if let Some(endpoint) = self.endpoint(&request.id).map(EndpointState::id) {
                self.expire(endpoint, "requested", context);
            }
            answer.expire = true;
            return Ok(answer);
        }
        if request.create {
            let sctp = request.transport.as_ref().is_some_and(|t| t.sctp.is_some());
            answer.transport = Some(Transport {
                ice: Some(self.create_endpoint(now, request, context)?),
                sctp: sctp.then_some(SERVER),
                ..Transport::default()
            });
        }
        let Some(state) = self.endpoint_mut(&request.id) else { return Ok(answer) };
        let changes = state.update(now, request, &mut context.totals);
        let (home, unsignalled_until) = (state.who().worker, state.unsignalled_until());
        context.wait_for_unsignalled(unsignalled_until);
        self.carry_out(home, changes, context);
        // Last: what else the request says is about the transport as it was.
        if request.transport.as_ref().is_some_and(|t| t.ice_restart) && !request.create {
            answer.transport = self.restart_ice(now, request, context);
        }
        Ok(answer)
    }

    /// Restarts ICE of an endpoint; without a transport it is declined, and the focus invites again (section 4.6).
    fn restart_ice(&mut self, now: Instant, request: &Endpoint, context: &mut Context) -> Option<Transport> {
        let state = self.endpoint_mut(&request.id)?;
        let totals = &mut context.totals.ice_restarts;
        if !context.config.ice_restart {
            totals.disabled += 1;
            return None;
        }
        let EndpointIdentity { id, worker, ref label, .. } = **state.who();
        let label = label.clone();
        let prefix = context.config.ufrag_prefix;
        let (generation, local) = match state.restart_ice(now, totals, || new_credentials(prefix, worker)) {
            Decision::Decline => {
                tracing::warn!(endpoint = %id, %label, "ICE restart declined: too many requests from this endpoint");
                return None;
            }
            Decision::Keep => (None, state.local().clone()),
            Decision::Use { generation, local } => {
                tracing::info!(endpoint = %id, %label, generation, "ICE restart started");
                (Some(generation), local)
            }
        };
        let mut ice = state.transport(&context.config.transport, &local);
        ice.ice_generation = generation;
        if let Some(generation) = generation {
            context.command(worker, Command::RestartIce { endpoint: id, generation, local });
        }
        let sctp = request.transport.as_ref().is_some_and(|t| t.sctp.is_some());
        Some(Transport { ice: Some(ice), sctp: sctp.then_some(SERVER), ..Transport::default() })
    }

    /// The one place where an endpoint comes into being.
    fn create_endpoint(
        &mut self,
        now: Instant,
        request: &Endpoint,
        context: &mut Context,
    ) -> Result<IceTransport, Refusal> {
        let worker = context.placement.for_endpoint(&self.shares()).ok_or_else(bridge_full)?;
        // It moved here, and its focus did not say that it left the other bridge.
        if let Some((relay, endpoint)) = self.relayed(&request.id) {
            self.expire_relayed(relay, endpoint, context);
        }
        self.extend_to(worker, context);
        let (id, conference) = (context.next_endpoint(), self.id());
        let who = Arc::new(EndpointIdentity {
            id,
            conference,
            conference_hex: self.hex_id().to_owned(),
            label: request.id.clone(),
            worker,
            visitor: is_visitor(request),
            relay: None,
        });
        let ice = new_credentials(context.config.ufrag_prefix, worker);
        let password = random_token(PASSWORD);
        let private = request.has_capability(CAP_PRIVATE_ADDRESSES);
        let access = Access { local: ice.clone(), password: password.clone(), private };
        let state = EndpointState::new(now, Arc::clone(&who), access);
        let asked = request.transport.as_ref();
        if asked.is_some_and(|t| t.ice_restart) {
            // It gets its transport in any case.
            context.totals.ice_restarts.not_established += 1;
        }
        let transport = state.transport(&context.config.transport, &ice);
        let controlling = asked.is_some_and(|t| t.ice_controlling);
        tracing::info!(endpoint = %id, label = %request.id, %conference, worker, "endpoint created");
        let new = NewEndpoint { conference, endpoint: id, label: request.id.clone(), ice, controlling };
        context.command(worker, Command::CreateEndpoint(Box::new(new)));
        if request.has_capability(CAP_SSRC_REWRITING) {
            let (audio, video) = (context.config.audio_ssrcs, context.config.video_ssrcs);
            let mids = request.has_capability(CAP_RTP_MID_DEMUX);
            let rewriting = SsrcRewriting { audio, video, seed: rand::rng().random(), mids };
            context.command(worker, Command::SetSsrcRewriting { endpoint: id, rewriting });
        }
        for other in self.workers().iter().copied().filter(|other| *other != worker) {
            let home = WorkerId::from_index(worker);
            context.command(other, Command::CreateRemoteEndpoint { conference, endpoint: id, home });
        }
        let sctp = asked.is_some_and(|t| t.sctp.is_some());
        context.output(Output::EndpointCreated { endpoint: who, password, sctp });
        self.add(state, context);
        Ok(transport)
    }
}

/// Credentials of our own for an endpoint of a worker.
pub(super) fn new_credentials(ufrag_prefix: fn(usize) -> String, worker: usize) -> IceCredentials {
    IceCredentials { ufrag: ufrag_prefix(worker) + &random_token(10), pwd: random_token(26) }
}
