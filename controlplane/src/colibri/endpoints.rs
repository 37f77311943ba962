//! What a request says about one endpoint: created, changed, its ICE restarted.

use std::time::{Duration, Instant};

use rand::Rng;
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::{EndpointId, WorkerId};
use ringbridge_dataplane::messages::{Command, NewEndpoint, SsrcRewriting};

use super::bridge::ColibriBridge;
use super::conference::{Access, Conference, EndpointState};
use super::convert;
use super::elements::{
    CAP_PRIVATE_ADDRESSES, CAP_RTP_MID_DEMUX, CAP_SSRC_REWRITING, Endpoint, IceTransport, Sctp, SctpRole, Transport,
};
use super::names;
use super::output::Output;
use super::refusal::Refusal;
use super::restart::{Answer, Decision};
use super::transport::{NewTransport, SCTP_PORT, random_token};
use super::validation::{bridge_full, is_visitor};

/// A client counts as told of all sources after this: a focus that fell silent must not keep media back for ever.
const UNTOLD_LONGEST: Duration = Duration::from_secs(5);

/// The client starts the association (section 5.1).
const SERVER: Sctp = Sctp { port: Some(SCTP_PORT), role: Some(SctpRole::Server) };

impl ColibriBridge {
    /// Applies one validated endpoint element and describes the result.
    pub(super) fn endpoint(
        &mut self,
        now: Instant,
        conference: &mut Conference,
        request: &Endpoint,
    ) -> Result<Endpoint, Refusal> {
        let mut answer = Endpoint::new(&request.id);
        if request.expire {
            if let Some(index) = conference.endpoints.iter().position(|e| e.label == request.id) {
                self.end_endpoint(conference, index, "requested");
            }
            answer.expire = true;
            return Ok(answer);
        }
        if request.create {
            let sctp = request.transport.as_ref().is_some_and(|t| t.sctp.is_some());
            answer.transport = Some(Transport {
                ice: Some(self.create_endpoint(now, conference, request)?),
                sctp: sctp.then_some(SERVER),
                ..Transport::default()
            });
        }
        let mut commands = Vec::new();
        let mut outputs = Vec::new();
        let Some(state) = conference.endpoint(&request.id) else { return Ok(answer) };
        let (endpoint, home) = (state.id, state.worker);
        if request.stats_id.is_some() {
            state.stats_id.clone_from(&request.stats_id);
        }
        if !request.media.is_empty() {
            let before = state.media.clone();
            convert::merge_media(&mut state.media, &request.media);
            if state.media != before || request.create {
                commands.push(Command::SetMedia { endpoint, media: Box::new(state.media.clone()) });
            }
        }
        // Before anything that may let media flow.
        if let Some(untold) = &request.untold {
            let names: Vec<String> = untold.sources.iter().map(|source| source.name.clone()).collect();
            if names != state.untold {
                let until = now + UNTOLD_LONGEST;
                state.untold_until = (!names.is_empty()).then_some(until);
                self.next_told = Some(self.next_told.map_or(until, |next| next.min(until)));
                state.untold.clone_from(&names);
                commands.push(Command::SetUntold { endpoint, sources: names });
            }
        }
        if let Some(last_n) = &request.initial_last_n {
            outputs.push(Output::InitialLastN { endpoint, last_n: last_n.value });
        }
        if let Some(ice) = request.transport.as_ref().and_then(|t| t.ice.as_ref()) {
            let fingerprints: Vec<_> =
                ice.fingerprints.iter().filter(|f| !f.value.trim().is_empty()).cloned().collect();
            // Once established, only an ICE restart changes ICE; DTLS fields count at any time (section 4.3).
            if state.established {
                if let Some(answer) = state.ice_restarts.answer(ice, &mut self.totals.ice_restarts) {
                    let Answer { generation, credentials } = answer;
                    let candidates = convert::candidates(ice, true);
                    commands.push(Command::AnswerIceRestart { endpoint, generation, credentials, candidates });
                }
            } else {
                let candidates = convert::candidates(ice, false);
                let credentials = convert::credentials(ice).filter(|c| state.remote.as_ref() != Some(c));
                if credentials.is_some() || !candidates.is_empty() {
                    if credentials.is_some() {
                        state.remote.clone_from(&credentials);
                    }
                    commands.push(Command::SetRemoteIce { endpoint, credentials, candidates });
                }
            }
            if !fingerprints.is_empty() {
                let setup = fingerprints.iter().find_map(|f| f.setup);
                outputs.push(Output::RemoteDtls { endpoint, setup, fingerprints });
            }
        }
        if let Some(sources) = &request.sources {
            let asked = &sources.media_sources;
            let mut sources: Vec<_> = asked.iter().filter_map(convert::source).collect();
            let synthetic = |name: &str| asked.iter().any(|source| source.synthetic && source.id == name);
            self.totals.sources_renamed += names::own(&request.id, &mut sources, synthetic);
            state.override_video_types(&mut sources);
            if sources != state.sources {
                state.sources.clone_from(&sources);
                commands.push(Command::SetSources { endpoint, sources: sources.clone() });
                outputs.push(Output::SourcesChanged { endpoint, sources });
            }
        }
        if let Some(mute) = request.force_mute
            && mute != state.force_mute
        {
            state.force_mute = mute;
            commands.push(Command::SetForceMute { endpoint, audio: mute.audio, video: mute.video });
        }
        for command in commands {
            self.send(conference, home, command);
        }
        self.outputs.extend(outputs);
        // Last: what else the request says is about the transport as it was.
        if request.transport.as_ref().is_some_and(|t| t.ice_restart) && !request.create {
            answer.transport = self.restart_ice(now, conference, request);
        }
        Ok(answer)
    }

    /// Restarts ICE of an endpoint; without a transport it is declined, and the focus invites again (section 4.6).
    fn restart_ice(&mut self, now: Instant, conference: &mut Conference, request: &Endpoint) -> Option<Transport> {
        let hex_id = conference.hex_id.clone();
        let state = conference.endpoint(&request.id)?;
        if !self.config.ice_restart {
            self.totals.ice_restarts.disabled += 1;
            return None;
        }
        let (id, worker, label) = (state.id, state.worker, &state.label);
        let fresh = || new_credentials(self.config.ufrag_prefix, worker);
        let decision = state.ice_restarts.ask(now, state.established, &mut self.totals.ice_restarts, fresh);
        let (generation, local) = match decision {
            Decision::Decline => {
                tracing::warn!(endpoint = %id, %label, "ICE restart declined: too many requests from this endpoint");
                return None;
            }
            Decision::Keep => (None, state.access.local.clone()),
            Decision::Use { generation, local } => {
                tracing::info!(endpoint = %id, %label, generation, "ICE restart begins");
                (Some(generation), local)
            }
        };
        let mut ice = self.config.transport.describe(&NewTransport {
            ufrag: &local.ufrag,
            pwd: &local.pwd,
            conference: &hex_id,
            endpoint: &request.id,
            password: &state.access.password,
            private: state.access.private,
        });
        ice.ice_generation = generation;
        if let Some(generation) = generation {
            self.command(worker, Command::RestartIce { endpoint: id, generation, local });
        }
        let sctp = request.transport.as_ref().is_some_and(|t| t.sctp.is_some());
        Some(Transport { ice: Some(ice), sctp: sctp.then_some(SERVER), ..Transport::default() })
    }

    fn create_endpoint(
        &mut self,
        now: Instant,
        conference: &mut Conference,
        request: &Endpoint,
    ) -> Result<IceTransport, Refusal> {
        let worker = self.placement.for_endpoint(&conference.shares()).ok_or_else(bridge_full)?;
        if !conference.workers.contains(&worker) {
            self.spill(conference, worker);
        }
        let id = EndpointId(self.next_endpoint);
        self.next_endpoint += 1;
        let ice = new_credentials(self.config.ufrag_prefix, worker);
        let password = random_token(24);
        let private = request.has_capability(CAP_PRIVATE_ADDRESSES);
        let access = Access { local: ice.clone(), password: password.clone(), private };
        let mut state = EndpointState::new(id, request.id.clone(), worker, access, now);
        state.visitor = is_visitor(request);
        if request.transport.as_ref().is_some_and(|t| t.ice_restart) {
            // It is told its transport in any case.
            self.totals.ice_restarts.not_established += 1;
        }
        let transport = self.config.transport.describe(&NewTransport {
            ufrag: &ice.ufrag,
            pwd: &ice.pwd,
            conference: &conference.hex_id,
            endpoint: &request.id,
            password: &password,
            private,
        });
        let controlling = request.transport.as_ref().is_some_and(|t| t.ice_controlling);
        tracing::info!(endpoint = %id, label = %request.id, conference = %conference.id, worker, "endpoint created");
        self.placement.count_endpoint(worker, 1);
        self.totals.endpoints_created += 1;
        self.totals.visitors_created += u64::from(state.visitor);
        self.meetings.insert(id, conference.meeting_id.clone());
        self.command(
            worker,
            Command::CreateEndpoint(Box::new(NewEndpoint {
                conference: conference.id,
                endpoint: id,
                label: request.id.clone(),
                ice,
                controlling,
            })),
        );
        if request.has_capability(CAP_SSRC_REWRITING) {
            let (audio, video) = (self.config.audio_ssrcs, self.config.video_ssrcs);
            let mids = request.has_capability(CAP_RTP_MID_DEMUX);
            let rewriting = SsrcRewriting { audio, video, seed: rand::rng().random(), mids };
            self.command(worker, Command::SetSsrcRewriting { endpoint: id, rewriting });
        }
        for other in conference.workers.iter().copied().filter(|other| *other != worker) {
            let remote = Command::CreateRemoteEndpoint {
                conference: conference.id,
                endpoint: id,
                home: WorkerId::from_index(worker),
            };
            self.command(other, remote);
        }
        self.outputs.push_back(Output::EndpointCreated {
            endpoint: id,
            conference: conference.id,
            conference_hex: conference.hex_id.clone(),
            label: request.id.clone(),
            password,
            worker,
            visitor: state.visitor,
            sctp: request.transport.as_ref().is_some_and(|t| t.sctp.is_some()),
        });
        conference.endpoints.push(state);
        Ok(transport)
    }

    /// Makes a conference known to one more worker, with all its endpoints.
    fn spill(&mut self, conference: &mut Conference, worker: usize) {
        tracing::info!(conference = %conference.id, endpoints = conference.endpoints.len(), worker, "conference extended to another worker");
        conference.workers.push(worker);
        self.placement.count_conference(worker, 1);
        for command in conference.introduce() {
            self.command(worker, command);
        }
    }
}

/// Credentials of our own for an endpoint of a worker.
fn new_credentials(ufrag_prefix: fn(usize) -> String, worker: usize) -> IceCredentials {
    IceCredentials { ufrag: ufrag_prefix(worker) + &random_token(10), pwd: random_token(26) }
}
