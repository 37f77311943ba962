//! Commands of the control plane: who is there, what they send, what they want.

use std::time::Instant;

use super::endpoint::{Endpoint, SsrcRole};
use super::extension_map::ExtensionMap;
use super::format::FormatTable;
use super::forwarder::{Conference, Forwarder};
use super::leg::Leg;
use super::source::Source;
use crate::ids::{ConferenceId, EndpointId};
use crate::media::{Media, SourceDescription};
use crate::ring::{Command, NewEndpoint, SrtpKeys};
use crate::srtp::{Opener, Sealer};
use crate::stats::Counter;

impl Forwarder {
    /// Carries out a command; those of ICE and DTLS are none of its business and are ignored.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        let known = match command {
            Command::CreateConference { conference, feedback } => {
                self.conferences.entry(conference).or_insert_with(|| Conference {
                    feedback,
                    endpoints: Vec::new(),
                    sources: Vec::new(),
                    speaker: Default::default(),
                    dirty: false,
                });
                true
            }
            Command::ExpireConference { conference } => self.expire_conference(conference),
            Command::CreateEndpoint(endpoint) => self.create_endpoint(now, &endpoint),
            Command::ExpireEndpoint { endpoint } => self.expire_endpoint(endpoint),
            Command::SetSrtp { endpoint, keys } => self.set_keys(endpoint, &keys),
            Command::SetMedia { endpoint, media } => self.set_media(endpoint, &media),
            Command::SetSources { endpoint, sources } => self.set_sources(endpoint, &sources),
            Command::SetConstraints { endpoint, constraints } => {
                self.with_endpoint(endpoint, |endpoint| endpoint.constraints = *constraints)
            }
            Command::SetForceMute { endpoint, audio, video } => self.with_endpoint(endpoint, |endpoint| {
                (endpoint.mute_audio, endpoint.mute_video) = (audio, video);
            }),
            Command::SetRemoteIce { .. } | Command::SendDtls { .. } | Command::Shutdown => true,
        };
        if !known {
            self.stats.count(Counter::DropCommandUnknown);
        }
    }

    /// Changes an endpoint, after which targets are chosen again; false when there is none.
    fn with_endpoint(&mut self, id: EndpointId, change: impl FnOnce(&mut Endpoint)) -> bool {
        let Some(index) = self.by_id.get(&id) else { return false };
        let Some(endpoint) = self.endpoints.get_mut(*index).and_then(Option::as_deref_mut) else { return false };
        change(endpoint);
        if let Some(conference) = self.conferences.get_mut(&endpoint.conference) {
            conference.dirty = true;
        }
        true
    }

    fn create_endpoint(&mut self, now: Instant, new: &NewEndpoint) -> bool {
        let Some(conference) = self.conferences.get_mut(&new.conference) else { return false };
        if self.by_id.contains_key(&new.endpoint) {
            return false;
        }
        if self.by_id.len() >= self.config.max_endpoints {
            self.stats.count(Counter::DropTableFull);
            return true;
        }
        let mut endpoint = Box::new(Endpoint::new(now, new.endpoint, new.conference));
        let index = self.endpoints.iter().position(Option::is_none).unwrap_or(self.endpoints.len());
        for source in &conference.sources {
            if let Some(source) = self.sources.get_mut(*source).and_then(Option::as_deref_mut) {
                let stream = endpoint.revive(source.output_ssrc());
                source.legs.push(Leg::new(index, source.is_video(), stream));
            }
        }
        conference.endpoints.push(index);
        conference.dirty = true;
        match self.endpoints.get_mut(index) {
            Some(free) => *free = Some(endpoint),
            None => self.endpoints.push(Some(endpoint)),
        }
        self.by_id.insert(new.endpoint, index);
        self.start_timers(now);
        true
    }

    fn set_keys(&mut self, id: EndpointId, keys: &SrtpKeys) -> bool {
        self.with_endpoint(id, |endpoint| {
            endpoint.opener = Some(Opener::new(&keys.inbound, keys.profile));
            endpoint.sealer = Some(Sealer::new(&keys.outbound, keys.profile));
        })
    }

    fn set_media(&mut self, id: EndpointId, media: &Media) -> bool {
        let formats = FormatTable::new(media, &mut self.codecs);
        let extensions = ExtensionMap::new(media, &mut self.extensions);
        let feedback = |kind: &str, parameter: &str| {
            media
                .payload_types
                .iter()
                .flat_map(|format| &format.feedback)
                .any(|(name, detail)| name.eq_ignore_ascii_case(kind) && detail.eq_ignore_ascii_case(parameter))
        };
        let takes_pli = feedback("nack", "pli") || !feedback("ccm", "fir");
        let wants_twcc = feedback("transport-cc", "");
        self.with_endpoint(id, |endpoint| {
            endpoint.formats = formats;
            endpoint.extensions = extensions;
            endpoint.takes_pli = takes_pli;
            endpoint.wants_twcc = wants_twcc;
        })
    }

    fn set_sources(&mut self, id: EndpointId, descriptions: &[SourceDescription]) -> bool {
        let Some(&owner) = self.by_id.get(&id) else { return false };
        let Some(endpoint) = self.endpoints.get_mut(owner).and_then(Option::as_deref_mut) else { return false };
        let conference_id = endpoint.conference;
        let mut old = std::mem::take(&mut endpoint.sources);
        endpoint.ssrcs.clear();
        let descriptions = match descriptions.get(..self.config.max_sources) {
            Some(bounded) => {
                self.stats.count(Counter::DropTableFull);
                bounded
            }
            None => descriptions,
        };
        let mut kept = Vec::with_capacity(descriptions.len());
        for description in descriptions {
            let same = old.iter().position(|index| {
                let source = self.sources.get_mut(*index).and_then(Option::as_deref_mut);
                source.is_some_and(|source| source.description.name == description.name && source.update(description))
            });
            let index = match same {
                Some(position) => old.swap_remove(position),
                None => self.add_source(Source::new(owner, id, conference_id, description.clone())),
            };
            kept.push(index);
        }
        old.into_iter().for_each(|index| self.remove_source(index));
        // Legs of new sources come last: a removed source with the same SSRC has handed its numbers back by now.
        for index in &kept {
            self.connect_source(*index);
        }
        if let Some(endpoint) = self.endpoints.get_mut(owner).and_then(Option::as_deref_mut) {
            for index in &kept {
                let Some(source) = self.sources.get(*index).and_then(Option::as_deref) else { continue };
                for (number, encoding) in source.encodings.iter().enumerate() {
                    let role = |ssrc, rtx| SsrcRole { ssrc, source: *index, encoding: number as u8, rtx };
                    endpoint.ssrcs.push(role(encoding.ssrc, false));
                    endpoint.ssrcs.extend(encoding.rtx.map(|ssrc| role(ssrc, true)));
                }
            }
            endpoint.sources = kept;
        }
        if let Some(conference) = self.conferences.get_mut(&conference_id) {
            conference.dirty = true;
        }
        true
    }

    fn add_source(&mut self, source: Source) -> usize {
        let conference = source.conference;
        let index = self.sources.iter().position(Option::is_none).unwrap_or(self.sources.len());
        match self.sources.get_mut(index) {
            Some(free) => *free = Some(Box::new(source)),
            None => self.sources.push(Some(Box::new(source))),
        }
        if let Some(conference) = self.conferences.get_mut(&conference) {
            conference.sources.push(index);
        }
        index
    }

    /// Gives a new source a leg for everybody else.
    fn connect_source(&mut self, index: usize) {
        let Some(source) = self.sources.get_mut(index).and_then(Option::as_deref_mut) else { return };
        let Some(conference) = self.conferences.get(&source.conference) else { return };
        if !source.legs.is_empty() {
            return;
        }
        for receiver in conference.endpoints.iter().filter(|receiver| **receiver != source.owner) {
            if let Some(endpoint) = self.endpoints.get_mut(*receiver).and_then(Option::as_deref_mut) {
                let stream = endpoint.revive(source.output_ssrc());
                source.legs.push(Leg::new(*receiver, source.is_video(), stream));
            }
        }
    }

    fn remove_source(&mut self, index: usize) {
        let Some(source) = self.sources.get_mut(index).and_then(Option::take) else { return };
        for leg in &source.legs {
            if let Some(receiver) = self.endpoints.get_mut(leg.receiver).and_then(Option::as_deref_mut) {
                let mut stream = leg.stream;
                stream.projection.suspend();
                receiver.retire(source.output_ssrc(), stream);
            }
        }
        if let Some(conference) = self.conferences.get_mut(&source.conference) {
            conference.sources.retain(|other| *other != index);
            conference.dirty = true;
        }
    }

    fn expire_endpoint(&mut self, id: EndpointId) -> bool {
        let Some(index) = self.by_id.remove(&id) else { return false };
        let Some(endpoint) = self.endpoints.get_mut(index).and_then(Option::take) else { return false };
        for source in endpoint.sources {
            self.remove_source(source);
        }
        if let Some(conference) = self.conferences.get_mut(&endpoint.conference) {
            conference.endpoints.retain(|other| *other != index);
            conference.speaker.remove(id);
            conference.dirty = true;
            for source in &conference.sources {
                if let Some(source) = self.sources.get_mut(*source).and_then(Option::as_deref_mut) {
                    source.legs.retain(|leg| leg.receiver != index);
                }
            }
        }
        true
    }

    fn expire_conference(&mut self, id: ConferenceId) -> bool {
        let Some(conference) = self.conferences.get(&id) else { return false };
        let endpoints: Vec<EndpointId> = conference
            .endpoints
            .iter()
            .filter_map(|index| self.endpoints.get(*index)?.as_deref().map(|endpoint| endpoint.id))
            .collect();
        for endpoint in endpoints {
            self.expire_endpoint(endpoint);
        }
        self.conferences.remove(&id).is_some()
    }
}
