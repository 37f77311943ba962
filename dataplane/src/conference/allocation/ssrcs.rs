//! SSRC rewriting at work: gives sources of a conference the slots of a receiver, moves the state of the streams from subscription
//! to subscription, and reports them to the control plane. Packets of a source go only once its mapping was signalled to the client.

use std::sync::Arc;

use super::{Offered, offered};
use crate::conference::context::Env;
use crate::conference::members::Conference;
use crate::conference::receiver::ssrc_slots::{Need, Request, SsrcSlots};
use crate::conference::receiver::subscription::Subscription;
use crate::ids::{ParticipantId, SourceId};
use crate::media::MediaKind;
use crate::messages::{Event, MappedSource};
use crate::negotiation::ids::UriId;
use crate::stats::Counter;

impl Conference {
    /// Gives slots to the video that a receiver wants, and spare ones to what it may want later, so that its client knows
    /// the SSRCs by then. `order` is the last-n order of the video sources.
    pub fn map_video(&mut self, env: &mut Env<'_>, id: ParticipantId, order: &[SourceId]) {
        let Some(receiver) = self.participants.get_mut(id).map(|participant| &mut participant.receiver) else { return };
        let Some(slots) = receiver.ssrc_slots() else { return };
        let limit = slots.kind(MediaKind::Video).limit();
        let constraints = receiver.constraints();
        let mut ranked: Vec<(usize, Offered<'_>)> =
            offered(&self.sources, order, id, constraints).into_iter().enumerate().collect();
        ranked.sort_by_cached_key(|(at, offered)| {
            let rank = constraints.rank(offered.source.name(), offered.source.video_type());
            (!offered.limit.is_on(), rank, *at)
        });
        let shown = ranked.iter().map(|(_, offered)| offered).filter(|offered| offered.source.video_type().is_shown());
        let needs: Vec<(SourceId, Need)> = shown
            .map(|offered| (offered.id, if offered.limit.is_on() { Need::Urgent } else { Need::Spare }))
            .take(limit)
            .collect();
        let wanted: Vec<SourceId> = needs.iter().map(|(source, _)| *source).collect();
        let Some(slots) = receiver.ssrc_slots_mut() else { return };
        for source in &wanted {
            slots.kind_mut(MediaKind::Video).touch(*source, env.now);
        }
        let mut short = false;
        for (source, need) in needs {
            let assigned = self.give_slot(env, id, (source, need), |other| wanted.contains(&other));
            short |= !assigned && need == Need::Urgent;
        }
        if short {
            let settles = self.ssrc_slots(id).and_then(|slots| slots.kind(MediaKind::Video).settles(env.now));
            self.schedule.settle(settles);
        }
    }

    /// Gives slots to the audio that waits for one. Those who spoke lately get one at once, and keep it while they send.
    pub fn map_audio(&mut self, env: &mut Env<'_>, id: ParticipantId) {
        let Some(slots) = self.ssrc_slots(id) else { return };
        let Some(mut waiting) = slots.next_waiting() else { return };
        let carried: Vec<SourceId> = slots.kind(MediaKind::Audio).sources().collect();
        for source_id in carried {
            let subscription = self.sources.get(source_id).and_then(|source| source.subscription(id));
            if let Some(at) = subscription.and_then(|subscription| subscription.last_at())
                && let Some(slots) = self.ssrc_slots(id)
            {
                slots.kind_mut(MediaKind::Audio).touch(source_id, at);
            }
        }
        let speaks = |owner| self.participants.get(owner).is_some_and(|p| self.speaker.recent().contains(&p.id()));
        let of_speakers = self.sources.iter().filter(|(_, source)| speaks(source.owner()));
        let speakers: Vec<SourceId> = of_speakers.map(|(source, _)| source).collect();
        loop {
            let need = if speakers.contains(&waiting) { Need::Urgent } else { Need::Wanted };
            let assigned = self.give_slot(env, id, (waiting, need), |other| speakers.contains(&other));
            let Some(slots) = self.ssrc_slots(id) else { return };
            if !assigned {
                slots.refuse(env.now);
            }
            match slots.next_waiting() {
                Some(next) => waiting = next,
                None => return,
            }
        }
    }

    fn ssrc_slots(&mut self, id: ParticipantId) -> Option<&mut SsrcSlots> {
        self.participants.get_mut(id)?.receiver.ssrc_slots_mut()
    }

    /// Gives a source a slot, if it has none; false when there is none for it.
    fn give_slot(
        &mut self,
        env: &Env<'_>,
        id: ParticipantId,
        (source_id, need): (SourceId, Need),
        keep: impl Fn(SourceId) -> bool,
    ) -> bool {
        let Some(participant) = self.participants.get_mut(id) else { return false };
        let (publisher, feedback) = (&participant.publisher, self.feedback);
        let Some(slots) = participant.receiver.ssrc_slots_mut() else { return false };
        let Some(source) = self.sources.get_mut(source_id) else { return true };
        let kind = source.kind();
        if slots.kind(kind).ssrcs(source_id).is_some() {
            return true;
        }
        let taken = |ssrc| publisher.stream(ssrc).is_some() || ssrc == feedback.audio || ssrc == feedback.video;
        let request = Request { source: source_id, name: source.name(), kind, need };
        let Some(assigned) = slots.assign(env.now, &request, keep, taken) else { return false };
        let mut resume = assigned.resume;
        if let Some(evicted) = assigned.evicted {
            env.stats.count(Counter::SsrcRemaps);
            let former = self.sources.get_mut(evicted);
            if let Some(subscription) = former.and_then(|source| source.subscription_mut(id)) {
                resume = subscription.resume();
                subscription.renew(Subscription::without_ssrc(id, kind));
            }
        }
        if let Some(subscription) = self.sources.get_mut(source_id).and_then(|source| source.subscription_mut(id)) {
            let leads = Subscription::resuming(id, assigned.ssrcs.ssrc, kind, None, resume);
            subscription.renew(leads.naming(assigned.mid));
        }
        true
    }

    /// Reports to the control plane which SSRCs carry what, where that changed. True when it has to be tried again.
    pub fn announce_mappings(&mut self, env: &mut Env<'_>, id: ParticipantId) -> bool {
        let Some(participant) = self.participants.get_mut(id) else { return false };
        let slots = participant.receiver.ssrc_slots_mut();
        let Some((announcement, carried)) = slots.and_then(|slots| slots.announce()) else { return false };
        let (endpoint, negotiated) = (participant.id(), Arc::clone(participant.receiver.negotiated()));
        let extensions = &negotiated.extensions;
        let mapped = carried.into_iter().filter_map(|carried| {
            let source = self.sources.get(carried.source)?;
            let owner = self.participants.get(source.owner())?.id();
            let (kind, video_type) = (carried.kind, source.video_type());
            // Packets name no section by an extension that was not negotiated.
            let named = extensions.id(kind, UriId::MID).is_some();
            let (ssrcs, mid) = (carried.ssrcs, carried.mid.filter(|_| named));
            Some(MappedSource { name: source.name().to_owned(), owner, kind, video_type, ssrcs, mid })
        });
        let sources = mapped.collect();
        if env.emit(Event::SourcesMapped { endpoint, announcement, sources }) {
            return false;
        }
        if let Some(slots) = self.ssrc_slots(id) {
            slots.announce_again();
        }
        true
    }

    /// The client knows: what waited for that may go.
    pub fn mappings_signalled(&mut self, env: &Env<'_>, id: ParticipantId, announcement: u64) {
        if self.ssrc_slots(id).is_some_and(|slots| slots.note_signalled(announcement)) {
            self.aim_audio(env, id);
        }
    }
}
