//! What each command does.

use std::time::Instant;

use crate::datagram::PacketSink;
use crate::demux::{EndpointIndex, ufrag_prefix};
use crate::ice::{Agent, AgentConfig, IceCredentials, RestartOutcome, Session};
use crate::ids::{ConferenceId, EndpointId};
use crate::messages::{Command, CreateError, Event};

use super::Engine;
use super::endpoints::Endpoint;
use super::error::CommandError;

impl Engine {
    /// Carries out a command. What it sends at once goes to `sink`. An error is counted, and leaves all else as it was.
    ///
    /// [`Command::Shutdown`] and [`Command::OpenSockets`] are for whoever runs the engine, which ignores them; of the latter it learns
    /// by [`Self::give_sockets`].
    pub fn handle_command(
        &mut self,
        now: Instant,
        command: Command,
        sink: &mut impl PacketSink,
    ) -> Result<(), CommandError> {
        // The forwarder counts what it refuses by itself.
        match command {
            Command::CreateEndpoint(ref new) | Command::CreateRelay { ref new, .. } => {
                let config = self.agent_config(new.endpoint, &new.ice, new.controlling);
                let (conference, label) = (new.conference, new.label.clone());
                return self.create_with_transport(now, (conference, label, config), command, sink);
            }
            Command::CreateRemoteEndpoint { .. }
            | Command::CreateRemoteRelay { .. }
            | Command::CreateRelayedEndpoint { .. } => {
                return self.forwarder.create(now, command, sink).map_err(CommandError::Refused);
            }
            command if command.is_of_media() => {
                let known = command.endpoint().is_none_or(|endpoint| self.forwarder.slot(endpoint).is_some());
                self.forwarder.handle_command(now, command);
                return if known { Ok(()) } else { Err(CommandError::UnknownEndpoint) };
            }
            command => self.handle_own(now, command, sink),
        }
        .inspect_err(|error| self.stats.count(error.counter()))
    }

    /// Commands about identities, ICE and DTLS.
    fn handle_own(&mut self, now: Instant, command: Command, sink: &mut impl PacketSink) -> Result<(), CommandError> {
        match command {
            Command::CreateConference { conference, .. } => {
                self.conferences.insert(conference);
                self.forwarder.handle_command(now, command);
            }
            Command::ExpireConference { conference } => self.expire_conference(now, conference)?,
            Command::ExpireEndpoint { endpoint } => {
                // One that was never created may have been given sockets; one that lives elsewhere is known to the forwarder only.
                let known = self.remove_endpoint(endpoint) || self.sockets.take_back(endpoint);
                if !known && self.forwarder.slot(endpoint).is_none() {
                    return Err(CommandError::UnknownEndpoint);
                }
                self.forwarder.handle_command(now, command);
            }
            Command::SetRemoteIce { endpoint, credentials, candidates } => {
                let (index, endpoint) = self.endpoint(endpoint)?;
                endpoint.ice_mut().set_remote(now, credentials, &candidates);
                self.run_ice(now, index, sink);
            }
            Command::RestartIce { endpoint, generation, local } => {
                self.restart_ice(now, endpoint, generation, local)?;
            }
            Command::AnswerIceRestart { endpoint, generation, credentials, candidates } => {
                let (index, endpoint) = self.endpoint(endpoint)?;
                let answered = endpoint.ice_mut().answer_restart(now, generation, credentials, &candidates);
                self.run_ice(now, index, sink);
                return if answered { Ok(()) } else { Err(CommandError::NoRestart) };
            }
            Command::SendDtls { endpoint, datagram } => {
                let (_, endpoint) = self.endpoint(endpoint)?;
                let path = endpoint.ice().selected().ok_or(CommandError::NoPath)?;
                let slot = sink.slot().and_then(|slot| slot.get_mut(..datagram.len()));
                slot.ok_or(CommandError::OutputFull)?.copy_from_slice(&datagram);
                sink.commit(datagram.len(), path);
            }
            Command::AskServer { path, transaction } => {
                let socket = self.config.sockets.get(usize::from(path.local));
                if socket.is_none_or(|socket| socket.is_ipv4() != path.remote.is_ipv4()) {
                    return Err(CommandError::UnknownSocket);
                }
                if !self.questions.ask(path, transaction, sink) {
                    return Err(CommandError::OutputFull);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn endpoint(&mut self, id: EndpointId) -> Result<(EndpointIndex, &mut Endpoint), CommandError> {
        let index = self.endpoints.index_of(id).ok_or(CommandError::UnknownEndpoint)?;
        let endpoint = self.endpoints.get_mut(index).ok_or(CommandError::UnknownEndpoint)?;
        Ok((index, endpoint))
    }

    fn expire_conference(&mut self, now: Instant, conference: ConferenceId) -> Result<(), CommandError> {
        if !self.conferences.remove(&conference) {
            return Err(CommandError::UnknownConference);
        }
        for endpoint in self.endpoints.of_conference(conference) {
            self.remove_endpoint(endpoint);
        }
        self.forwarder.handle_command(now, Command::ExpireConference { conference });
        Ok(())
    }

    fn agent_config(&self, endpoint: EndpointId, local: &IceCredentials, controlling: bool) -> AgentConfig {
        let (worker, sockets) = (self.config.worker, self.sockets.of(endpoint));
        AgentConfig { endpoint, worker, local: local.clone(), controlling, sockets }
    }

    /// Adds an endpoint or relay, here and, by the command, where media is forwarded.
    fn create_with_transport(
        &mut self,
        now: Instant,
        (conference, label, config): (ConferenceId, String, AgentConfig),
        command: Command,
        sink: &mut impl PacketSink,
    ) -> Result<(), CommandError> {
        let endpoint = config.endpoint;
        if let Err(error) = self.add_endpoint(conference, label, config) {
            if self.endpoints.index_of(endpoint).is_none() {
                self.sockets.take_back(endpoint);
            }
            self.stats.count(error.counter());
            self.events.push(Event::EndpointRefused { endpoint, error }, &self.stats);
            return Err(CommandError::Refused(error));
        }
        let created = self.forwarder.create(now, command, sink);
        if created.is_err() {
            self.remove_endpoint(endpoint);
        }
        let slot = self.forwarder.slot(endpoint);
        if let Ok((_, endpoint)) = self.endpoint(endpoint) {
            endpoint.set_slot(slot);
        }
        created.map_err(CommandError::Refused)
    }

    fn add_endpoint(
        &mut self,
        conference: ConferenceId,
        label: String,
        config: AgentConfig,
    ) -> Result<(), CreateError> {
        let id = config.endpoint;
        if !self.conferences.contains(&conference) {
            return Err(CreateError::UnknownConference);
        }
        if self.endpoints.len() >= self.config.max_endpoints {
            tracing::warn!(endpoint = %label, limit = self.config.max_endpoints, "endpoint refused: the worker is full");
            return Err(CreateError::WorkerFull);
        }
        if !config.local.ufrag.starts_with(ufrag_prefix(self.config.worker)) {
            tracing::warn!(endpoint = %label, worker = %self.config.worker, "the ICE ufrag of an endpoint does not begin with the prefix of its worker: another worker gets its packets first");
        }
        if config.sockets.is_empty() {
            return Err(CreateError::NoSockets);
        }
        let ice = Session::new(Agent::new(config, &self.random));
        // A remote endpoint of that id is known to the forwarder only.
        if self.forwarder.slot(id).is_some()
            || !self.endpoints.insert(Endpoint::new(id, conference, label.clone(), ice))
        {
            tracing::error!(endpoint = %label, "endpoint id or ufrag is taken; endpoint refused");
            return Err(CreateError::Taken);
        }
        Ok(())
    }

    fn restart_ice(
        &mut self,
        now: Instant,
        id: EndpointId,
        generation: u32,
        local: IceCredentials,
    ) -> Result<(), CommandError> {
        let owner = self.endpoints.index_of_ufrag(local.ufrag.as_bytes());
        let is_ours = local.ufrag.starts_with(ufrag_prefix(self.config.worker));
        let index = self.endpoints.index_of(id).ok_or(CommandError::UnknownEndpoint)?;
        let endpoint = self.endpoints.get_mut(index).ok_or(CommandError::UnknownEndpoint)?;
        if owner.is_some_and(|owner| owner != index) || !is_ours {
            tracing::error!(endpoint = %endpoint.label(), "ufrag is taken or another worker's; ICE restart refused");
            let event = Event::IceRestart { endpoint: id, generation, outcome: RestartOutcome::Abandoned };
            self.events.push(event, &self.stats);
            return Err(CommandError::Ufrag);
        }
        let ufrag = local.ufrag.clone();
        if endpoint.ice_mut().restart(now, generation, local, &self.random) {
            self.endpoints.add_ufrag(index, &ufrag);
        }
        self.settle(now, index, None);
        Ok(())
    }
}
