//! SSRC rewriting: what the SSRCs of a client carry goes to it (docs/protocol/bridge.md 6.6), and its worker hears that it has.

use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::media::MediaKind;
use ringbridge_dataplane::messages::{Command, MappedSource};

use super::action::Action;
use super::table::Clients;
use crate::bridge::messages::ToClient;
use crate::channel::{AudioSourceMapping, VideoSourceMapping};
use crate::colibri::convert;

impl Clients {
    /// What the SSRCs of a receiver carry changed.
    pub fn handle_mapped(&mut self, id: EndpointId, announcement: u64, sources: Vec<MappedSource>) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        endpoint.mappings.announce(announcement, sources);
        self.send_mappings(id);
    }

    /// A new channel: the client may have missed what went over the former one.
    pub(super) fn resend_mappings(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        endpoint.mappings.forget_sent();
        if endpoint.mappings.announcement() > 0 {
            self.send_mappings(id);
        }
    }

    fn send_mappings(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        if endpoint.carriers.current().is_none() {
            // Once there is one, everything is sent over it.
            return;
        }
        let unsent = endpoint.mappings.take_unsent();
        let (mut audio, mut video) = (Vec::new(), Vec::new());
        for mapped in unsent {
            // One that expired meanwhile is of no interest any more.
            let Some(owner) = self.label_of(mapped.owner) else { continue };
            let (source, ssrc, mid) = (mapped.name, mapped.ssrcs.ssrc, mapped.mid.map(|mid| mid.to_string()));
            match (mapped.kind, mapped.ssrcs.rtx) {
                (MediaKind::Video, Some(rtx)) => {
                    let video_type = convert::video_type_name(mapped.video_type);
                    video.push(VideoSourceMapping { source, owner, ssrc: ssrc.get(), rtx: rtx.get(), video_type, mid });
                }
                _ => audio.push(AudioSourceMapping { source, owner, ssrc: ssrc.get(), mid }),
            }
        }
        if !video.is_empty() {
            self.send(id, ToClient::VideoSources(video));
        }
        if !audio.is_empty() {
            self.send(id, ToClient::AudioSources(audio));
        }
        self.unconfirmed.insert(id);
    }

    /// Lets media go, now that what its SSRCs carry is on its way to the client.
    pub(super) fn confirm_mappings(&mut self) {
        for id in std::mem::take(&mut self.unconfirmed) {
            let Some(endpoint) = self.endpoints.get(&id) else { continue };
            // Over a channel that was given up nothing arrives.
            if endpoint.carriers.current().is_some() {
                let command =
                    Command::MappingsSignalled { endpoint: id, announcement: endpoint.mappings.announcement() };
                self.actions.push_back(Action::Command { worker: endpoint.who.worker, command });
            }
        }
    }
}
