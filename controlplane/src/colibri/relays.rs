//! What a request says about a relay: created, its other side made known, those behind it, expired (docs/protocol/bridge.md 10).

use std::sync::Arc;

use ringbridge_dataplane::ids::{EndpointId, WorkerId};
use ringbridge_dataplane::messages::{Command, NewEndpoint};
use xmpp_parsers::stanza_error::DefinedCondition;

use super::changes::Changes;
use super::conference::Conference;
use super::context::Context;
use super::elements::{Endpoint, IceTransport, Relay, Sctp, SctpRole, Transport};
use super::endpoints::new_credentials;
use super::identity::{EndpointIdentity, RelayIdentity};
use super::output::{Output, RelayChannel};
use super::refusal::Refusal;
use super::relay::{RelayState, RelayedState};
use super::transport::{NewRelayTransport, PASSWORD, SCTP_PORT, random_token};

impl Conference {
    /// Applies one validated relay element and describes the result.
    pub(super) fn apply_relay(&mut self, request: &Relay, context: &mut Context) -> Result<Relay, Refusal> {
        let mut answer = Relay::new(&request.id);
        if request.expire {
            if let Some(relay) = self.relay(&request.id).map(RelayState::id) {
                self.expire_relay(relay, "requested", context);
            }
            answer.expire = true;
            return Ok(answer);
        }
        if request.create {
            let asked = request.transport.as_ref();
            answer.transport = Some(Transport {
                ice: Some(self.create_relay(request, context)?),
                // What the other side is, as Jitsi Videobridge says it.
                sctp: asked.and_then(|t| t.sctp.as_ref()).map(|sctp| Sctp {
                    port: Some(SCTP_PORT),
                    role: Some(match sctp_role(sctp) {
                        SctpRole::Client => SctpRole::Server,
                        SctpRole::Server => SctpRole::Client,
                    }),
                }),
                ..Transport::default()
            });
        }
        let Some(state) = self.relay_mut(&request.id) else { return Ok(answer) };
        let (relay, home) = (state.id(), state.who().worker);
        if !request.media.is_empty() {
            let changes = state.update_media(request);
            self.carry_out(home, changes, context);
        }
        for endpoint in request.relayed() {
            self.apply_relayed(relay, endpoint, context);
        }
        // Last, so that the first packet finds those whom it is of.
        let ice = request.transport.as_ref().and_then(|transport| transport.ice.as_ref());
        if let (Some(ice), Some(state)) = (ice, self.relay_mut(&request.id)) {
            let changes = state.update_transport(ice);
            self.carry_out(home, changes, context);
        }
        Ok(answer)
    }

    /// The one place where a relay comes into being.
    fn create_relay(&mut self, request: &Relay, context: &mut Context) -> Result<IceTransport, Refusal> {
        let asked = request.transport.as_ref();
        // Two bridges that both used their media ports could not distinguish the relays of several conferences.
        let sockets = match asked.is_some_and(|t| t.use_unique_port) {
            true => context.bind_relay().map_err(|error| {
                tracing::error!(relay = %request.id, %error, "a relay to another bridge gets no port of its own");
                let text = format!("no port for a relay: {error}");
                Refusal::new(DefinedCondition::ResourceConstraint, None, text)
            })?,
            false => Vec::new(),
        };
        // Where most of the conference is, or was first.
        let worker = self.workers().first().copied().unwrap_or_default();
        let (id, conference) = (context.next_endpoint(), self.id());
        let mesh = self.mesh(request.mesh_id.as_deref().unwrap_or_default(), context);
        let who = Arc::new(RelayIdentity {
            id,
            conference,
            conference_hex: self.hex_id().to_owned(),
            label: request.id.clone(),
            own: context.config.relay.as_ref().map(|relay| relay.id.clone()).unwrap_or_default(),
            worker,
            mesh,
            mesh_name: request.mesh_id.clone().unwrap_or_default(),
        });
        let ice = new_credentials(context.config.ufrag_prefix, worker);
        let (channel, password) = match asked.and_then(|t| t.sctp.as_ref()) {
            Some(sctp) => (RelayChannel::Sctp(sctp_role(sctp)), None),
            None => {
                let password = random_token(PASSWORD);
                (RelayChannel::WebSocket { password: password.clone() }, Some(password))
            }
        };
        let state = RelayState::new(Arc::clone(&who), ice.clone(), password);
        let theirs = asked.and_then(|t| t.ice.as_ref()).map_or(&[][..], |ice| &ice.web_sockets);
        let transport = context.config.transport.describe_relay(&NewRelayTransport {
            local: state.local(),
            sockets: &sockets,
            who: &who,
            password: state.websocket(),
            dials: theirs.iter().any(|socket| socket.url.is_some()),
        });
        let controlling = asked.is_some_and(|t| t.ice_controlling);
        tracing::info!(relay = %id, label = %who.label, %conference, mesh = %who.mesh_name, worker, controlling,
            "relay to another bridge created");
        if !sockets.is_empty() {
            context.command(worker, Command::OpenSockets { endpoint: id, sockets });
        }
        let new = Box::new(NewEndpoint { conference, endpoint: id, label: request.id.clone(), ice, controlling });
        context.command(worker, Command::CreateRelay { new, mesh });
        for other in self.workers().iter().copied().filter(|other| *other != worker) {
            let home = WorkerId::from_index(worker);
            context.command(other, Command::CreateRemoteRelay { conference, relay: id, home, mesh });
        }
        context.output(Output::RelayCreated { relay: who, channel });
        self.add_relay(state, context);
        Ok(transport)
    }

    /// Applies what is said about one endpoint behind a relay. Nothing of it is refused: whoever asked would lose the bridge.
    fn apply_relayed(&mut self, relay: EndpointId, request: &Endpoint, context: &mut Context) {
        let Some(state) = self.relay_by_id(relay) else { return };
        let home = state.who().worker;
        let known = state.relayed_mut(&request.id).map(|e| e.who().id);
        match known {
            Some(endpoint) if request.expire => {
                self.expire_relayed(relay, endpoint, context);
                return;
            }
            None if request.expire => return,
            None if request.create => {
                if !self.create_relayed(relay, request, context) {
                    context.totals.left_out += 1;
                    return;
                }
            }
            None => {
                let label = &state.who().label;
                tracing::warn!(endpoint = %request.id, relay = %label, "update of an endpoint that is not behind this relay");
                context.totals.left_out += 1;
                return;
            }
            Some(_) => {}
        }
        let relayed = self.relay_by_id(relay).and_then(|state| state.relayed_mut(&request.id));
        let Some(changes) = relayed.map(|e| e.update(request, &mut context.totals.sources_renamed)) else { return };
        self.carry_out(home, changes, context);
    }

    /// The one place where an endpoint behind a relay comes into being; whether it did.
    fn create_relayed(&mut self, relay: EndpointId, request: &Endpoint, context: &mut Context) -> bool {
        if self.relayed(&request.id).is_some() || self.endpoint(&request.id).is_some() {
            tracing::warn!(endpoint = %request.id, conference = %self.id(),
                "an endpoint behind a relay has the name of another one, and is left out");
            return false;
        }
        let most = context.config.capacity.endpoints_per_conference;
        if self.population() >= most {
            tracing::warn!(endpoint = %request.id, conference = %self.id(), most,
                "an endpoint behind a relay is left out: the conference is full");
            return false;
        }
        let conference_hex = self.hex_id().to_owned();
        let (conference, id) = (self.id(), context.next_endpoint());
        let Some(state) = self.relay_by_id(relay) else { return false };
        let worker = state.who().worker;
        let who = Arc::new(EndpointIdentity {
            id,
            conference,
            conference_hex,
            label: request.id.clone(),
            worker,
            visitor: false,
            relay: Some(relay),
        });
        tracing::info!(endpoint = %id, label = %who.label, %conference, relay = %state.who().label, "endpoint of another bridge");
        let relayed = RelayedState::new(Arc::clone(&who));
        let commands = state.introduce_relayed(&relayed);
        state.add(relayed);
        let changes = Changes { commands, outputs: vec![Output::RelayedCreated { endpoint: Arc::clone(&who) }] };
        context.count_relay_in(id, self.meeting_id());
        self.carry_out(worker, changes, context);
        true
    }

    /// Expires an endpoint behind a relay.
    pub(super) fn expire_relayed(&mut self, relay: EndpointId, endpoint: EndpointId, context: &mut Context) {
        let Some(state) = self.relay_by_id(relay) else { return };
        let home = state.who().worker;
        let Some(relayed) = state.remove(endpoint) else { return };
        tracing::info!(%endpoint, label = %relayed.who().label, relay = %state.who().label, "endpoint of another bridge expired");
        self.send(home, Command::ExpireEndpoint { endpoint }, context);
        context.count_relay_out(endpoint);
        context.output(Output::EndpointExpired { endpoint: Arc::clone(relayed.who()) });
    }

    /// Expires a relay with everybody behind it.
    pub(super) fn expire_relay(&mut self, relay: EndpointId, reason: &str, context: &mut Context) {
        let Some(state) = self.take_relay(relay) else { return };
        let who = Arc::clone(state.who());
        tracing::info!(%relay, label = %who.label, conference = %self.id(), endpoints = state.relayed().len(), reason, "relay expired");
        self.send(who.worker, Command::ExpireEndpoint { endpoint: relay }, context);
        state.end(context);
        self.leave_worker(who.worker, context);
    }
}

/// The role that we are asked to play; who is asked for nothing waits.
fn sctp_role(asked: &Sctp) -> SctpRole {
    asked.role.unwrap_or(SctpRole::Server)
}
