//! SSRC rewriting at work: gives sources of a conference the slots of a receiver, moves the state of the streams from subscription
//! to subscription, and tells the control plane. Packets of a source go only once the client was told what its SSRC carries.

use std::sync::Arc;

use crate::conference::allocation::offered;
use crate::conference::context::Env;
use crate::conference::members::Conference;
use crate::conference::receiver::ssrc_slots::Need;
use crate::conference::receiver::subscription::Subscription;
use crate::conference::timers::earliest;
use crate::media::MediaKind;
use crate::messages::{Event, MappedSource};
use crate::negotiation::ids::UriId;
use crate::stats::Counter;

impl Conference {
    /// Gives slots to the video that a receiver wants, and spare ones to what it may want later, so that its client knows
    /// the SSRCs by then. `order` is the last-n order of the video sources.
    pub fn map_video(&mut self, env: &mut Env<'_>, receiver: usize, order: &[usize]) {
        let Some(endpoint) = self.endpoints.get_mut(receiver).and_then(Option::as_deref_mut) else { return };
        let Some(slots) = endpoint.ssrc_slots.as_deref_mut() else { return };
        let constraints = &endpoint.constraints;
        let (offered, limits) = offered(&self.sources, order, receiver, constraints);
        let mut wishes: Vec<(usize, Need)> = Vec::with_capacity(offered.len());
        let mut ranked: Vec<_> = offered.iter().zip(&limits).enumerate().collect();
        ranked.sort_by_cached_key(|(at, ((_, source), limit))| {
            (**limit == 0, constraints.rank(&source.name, source.video_type), *at)
        });
        for (_, ((place, source), limit)) in ranked {
            if source.video_type.is_shown() {
                wishes.push((*place, if *limit == 0 { Need::Spare } else { Need::Urgent }));
            }
        }
        let most = wishes.len().min(slots.kind(MediaKind::Video).limit());
        wishes.truncate(most);
        let wanted: Vec<usize> = wishes.iter().map(|(place, _)| *place).collect();
        for place in &wanted {
            slots.kind_mut(MediaKind::Video).touch(*place, env.now);
        }
        let mut short = false;
        for (place, need) in wishes {
            let granted = self.give_slot(env, receiver, place, need, |other| wanted.contains(&other));
            short |= !granted && need == Need::Urgent;
        }
        let slots = self.endpoint(receiver).and_then(|e| e.ssrc_slots.as_deref());
        let settles = slots.filter(|_| short).and_then(|slots| slots.kind(MediaKind::Video).settles(env.now));
        self.slots_settle = earliest(self.slots_settle, settles);
    }

    /// Gives slots to the audio that waits for one. Those who spoke lately get one at once, and keep it while they send.
    pub fn map_audio(&mut self, env: &mut Env<'_>, receiver: usize) {
        let Some(slots) = self.endpoint(receiver).and_then(|e| e.ssrc_slots.as_deref_mut()) else { return };
        let Some(mut waiting) = slots.next_waiting() else { return };
        let carried: Vec<usize> = slots.kind(MediaKind::Audio).sources().collect();
        for place in carried {
            let Some(source) = self.sources.get_mut(place).and_then(Option::as_deref_mut) else { continue };
            let Some(at) = source.subscription(receiver).and_then(|subscription| subscription.projection.last_at())
            else {
                continue;
            };
            if let Some(slots) = self.endpoint(receiver).and_then(|e| e.ssrc_slots.as_deref_mut()) {
                slots.kind_mut(MediaKind::Audio).touch(place, at);
            }
        }
        let speaks = |room: &Self, place: usize| {
            let owner = room.sources.get(place).and_then(Option::as_deref).map(|source| source.owner);
            let endpoint = owner.and_then(|owner| room.endpoints.get(owner)?.as_deref());
            endpoint.is_some_and(|endpoint| room.speaker.recent().contains(&endpoint.id))
        };
        let speakers: Vec<usize> = (0..self.sources.len()).filter(|place| speaks(self, *place)).collect();
        loop {
            let need = if speakers.contains(&waiting) { Need::Urgent } else { Need::Wanted };
            let granted = self.give_slot(env, receiver, waiting, need, |other| speakers.contains(&other));
            let Some(slots) = self.endpoint(receiver).and_then(|e| e.ssrc_slots.as_deref_mut()) else { return };
            if !granted {
                slots.refuse(env.now);
            }
            match slots.next_waiting() {
                Some(next) => waiting = next,
                None => return,
            }
        }
    }

    /// Gives a source a slot, if it has none; false when there is none for it.
    fn give_slot(
        &mut self,
        env: &Env<'_>,
        receiver: usize,
        place: usize,
        need: Need,
        keep: impl Fn(usize) -> bool,
    ) -> bool {
        let Some(endpoint) = self.endpoints.get_mut(receiver).and_then(Option::as_deref_mut) else { return false };
        let (inputs, feedback) = (&endpoint.inputs, self.feedback);
        let Some(slots) = endpoint.ssrc_slots.as_deref_mut() else { return false };
        let Some(source) = self.sources.get_mut(place).and_then(Option::as_deref_mut) else { return true };
        let kind = source.kind;
        if slots.kind(kind).ssrcs(place).is_some() {
            return true;
        }
        let taken = |ssrc| inputs.contains_key(&ssrc) || ssrc == feedback.audio || ssrc == feedback.video;
        let Some(granted) = slots.grant(env.now, kind, (place, &source.name), need, keep, taken) else { return false };
        let mut resume = granted.resume;
        if let Some(evicted) = granted.evicted {
            env.stats.count(Counter::SsrcRemaps);
            let former = self.sources.get_mut(evicted).and_then(Option::as_deref_mut);
            if let Some(subscription) = former.and_then(|source| source.subscription_mut(receiver)) {
                resume = subscription.resume();
                subscription.renew(Subscription::without_ssrc(receiver, kind));
            }
        }
        let source = self.sources.get_mut(place).and_then(Option::as_deref_mut);
        if let Some(subscription) = source.and_then(|source| source.subscription_mut(receiver)) {
            let leads = Subscription::resuming(receiver, granted.ssrcs.ssrc, kind, None, resume);
            subscription.renew(leads.naming(granted.mid));
        }
        true
    }

    /// Tells the control plane which SSRCs carry what, where that changed. True when it has to be tried again.
    pub fn announce_mappings(&mut self, env: &mut Env<'_>, receiver: usize) -> bool {
        let Some(endpoint) = self.endpoints.get_mut(receiver).and_then(Option::as_deref_mut) else { return false };
        let Some((announcement, carried)) = endpoint.ssrc_slots.as_deref_mut().and_then(|slots| slots.announce())
        else {
            return false;
        };
        let (id, negotiated) = (endpoint.id, Arc::clone(&endpoint.negotiated));
        let extensions = &negotiated.extensions;
        let mapped = carried.into_iter().filter_map(|carried| {
            let source = self.sources.get(carried.source)?.as_deref()?;
            let owner = self.endpoints.get(source.owner)?.as_deref()?.id;
            let (kind, video_type) = (carried.kind, source.video_type);
            // Packets name no section by an extension that was not negotiated.
            let named = extensions.id(kind, UriId::MID).is_some();
            let (ssrcs, mid) = (carried.ssrcs, carried.mid.filter(|_| named));
            Some(MappedSource { name: source.name.clone(), owner, kind, video_type, ssrcs, mid })
        });
        let sources = mapped.collect();
        if env.emit(Event::SourcesMapped { endpoint: id, announcement, sources }) {
            return false;
        }
        if let Some(slots) = self.endpoint(receiver).and_then(|e| e.ssrc_slots.as_deref_mut()) {
            slots.announce_again();
        }
        true
    }

    /// The client was told: what waited for that may go.
    pub fn mappings_told(&mut self, env: &Env<'_>, receiver: usize, announcement: u64) {
        let Some(slots) = self.endpoints.get_mut(receiver).and_then(Option::as_deref_mut) else { return };
        let Some(slots) = slots.ssrc_slots.as_deref_mut() else { return };
        if slots.told(announcement) {
            self.aim_audio(env, receiver);
        }
    }
}
