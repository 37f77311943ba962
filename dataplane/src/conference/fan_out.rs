//! A batch's way to the receivers: one receiver after the other, and to each of them what is to go there of every packet,
//! translated and sealed.

use super::context::Env;
use super::members::Conference;
use super::packet::batch::{Action, Batch, MAX_BATCH, Members};
use super::packet::{MediaPacket, ReceivedPacket};
use super::receiver::delivery::Missing;
use super::receiver::downlink::Downlink;
use super::relays::Metered;
use super::rtcp_out;
use crate::datagram::PacketSink;
use crate::ids::SourceId;
use crate::media::MediaKind;
use crate::slab::Key;
use crate::stats::Counter;

/// A source with packets in the batch.
#[derive(Debug, Clone, Copy)]
struct Feed {
    source: SourceId,
    /// Where to look for the next receiver's subscription.
    cursor: usize,
    /// The encoding that a keyframe is needed of.
    keyframe: Option<u8>,
}

/// One packet of the batch, put together once for all receivers.
struct Member<'a> {
    /// Which of the feeds it is of.
    feed: usize,
    task: Task<'a>,
}

#[expect(clippy::large_enum_variant, reason = "lies on the stack; most are of the large variant")]
enum Task<'a> {
    Forward { packet: MediaPacket<'a>, received: &'a ReceivedPacket },
    Skip { encoding: u8, sequence: i64 },
}

impl Conference {
    /// Gives the packets in `members`, all of this conference, to every receiver that is to have them.
    pub fn fan_out(&mut self, env: &mut Env<'_>, batch: &Batch, members: Members, sink: &mut impl PacketSink) {
        // Small conferences mostly have one packet in a batch: no need to lay out a table for 32.
        match members.count_ones() {
            0 | 1 => self.fan_out_up_to::<1>(env, batch, members, sink),
            _ => self.fan_out_up_to::<MAX_BATCH>(env, batch, members, sink),
        }
    }

    /// The same for at most `N` packets.
    #[inline]
    fn fan_out_up_to<const N: usize>(
        &mut self,
        env: &mut Env<'_>,
        batch: &Batch,
        members: Members,
        sink: &mut impl PacketSink,
    ) {
        let mut feeds: [Option<Feed>; N] = [None; N];
        let mut list: [Option<Member<'_>>; N] = [const { None }; N];
        let mut count = 0;
        for (_, entry) in batch.entries().iter().enumerate().filter(|(i, _)| members >> i & 1 == 1) {
            let of_source = |feed: &Option<Feed>| feed.is_none_or(|feed| feed.source == entry.source);
            let Some(feed) = feeds.iter().position(of_source) else { continue };
            feeds[feed].get_or_insert(Feed { source: entry.source, cursor: 0, keyframe: None });
            let task = match &entry.action {
                Action::Skip { encoding, sequence } => Task::Skip { encoding: *encoding, sequence: *sequence },
                Action::Forward { bytes, packet } => {
                    let Some(media) = packet.media(entry.source, batch.bytes(bytes)) else { continue };
                    Task::Forward { packet: media, received: packet }
                }
            };
            if let Some(slot) = list.get_mut(count) {
                *slot = Some(Member { feed, task });
                count += 1;
            }
        }
        let list = list.get(..count).unwrap_or(&[]);
        let unmapped = self.serve(env, &mut feeds, list, sink);
        if !self.relays.is_empty() {
            self.serve_relays(env, &mut feeds, list, sink);
        }
        for feed in feeds.iter().flatten() {
            if let Some(encoding) = feed.keyframe
                && let Some(source) = self.sources.get_mut(feed.source)
                && let Some(sender) = self.participants.get_mut(source.sender())
            {
                rtcp_out::request_keyframe(env, self.feedback.video, (source, sender), encoding, sink);
            }
        }
        if self.lossy {
            for (number, feed) in feeds.iter().flatten().enumerate() {
                let last = list.iter().flatten().rev().find(|member| member.feed == number);
                if last.is_some_and(ends_picture) {
                    self.guard_last(env, feed.source, sink);
                }
            }
        }
        if self.lossy_link {
            for member in list.iter().flatten() {
                if let (Some(Some(feed)), Some(last)) = (feeds.get(member.feed), last_of_picture(member)) {
                    self.guard_last_to_relays(env, feed.source, last, sink);
                }
            }
        }
        if unmapped {
            self.schedule.wake(env.now);
        }
    }

    /// Looks after one receiver at a time. True when some receiver waits for an SSRC to get a source on.
    #[inline]
    fn serve(
        &mut self,
        env: &Env<'_>,
        feeds: &mut [Option<Feed>],
        list: &[Option<Member<'_>>],
        sink: &mut impl PacketSink,
    ) -> bool {
        let mut delivery = env.delivery(sink);
        delivery.shedding = env.shedding.within(self.index.number());
        let mut unmapped = false;
        for (id, participant) in self.participants.iter_mut() {
            let receiver = &mut participant.receiver;
            for member in list.iter().flatten() {
                let Some(Some(feed)) = feeds.get_mut(member.feed) else { continue };
                let Some(source) = self.sources.get_mut(feed.source) else { continue };
                let Some(subscription) = source.next_subscription(&mut feed.cursor, id) else { continue };
                match &member.task {
                    Task::Forward { packet, received } => {
                        match subscription.deliver(packet, received, receiver, &mut delivery) {
                            None => {}
                            Some(Missing::Keyframe(encoding)) => feed.keyframe = feed.keyframe.max(Some(encoding)),
                            Some(Missing::Ssrc) => {
                                self.schedule.wake_participant(id, env.now);
                                unmapped = true;
                            }
                        }
                    }
                    Task::Skip { encoding, sequence } => subscription.skip(*encoding, *sequence),
                }
            }
            if receiver.downlink().is_some_and(Downlink::is_unattended) {
                self.schedule.wake_participant(id, env.now);
            }
        }
        delivery.stats.add(Counter::PacketsForwarded, delivery.forwarded);
        unmapped
    }
}

impl Conference {
    /// Looks after one relay at a time.
    #[inline(never)]
    fn serve_relays(
        &mut self,
        env: &Env<'_>,
        feeds: &mut [Option<Feed>],
        list: &[Option<Member<'_>>],
        sink: &mut impl PacketSink,
    ) {
        let mut metered = Metered::of(sink);
        let mut delivery = env.delivery(&mut metered);
        for id in &self.relays {
            let Some(relay) = self.participants.get_mut(*id) else { continue };
            for member in list.iter().flatten() {
                let Some(Some(feed)) = feeds.get_mut(member.feed) else { continue };
                let Some(pass) = self.sources.get_mut(feed.source).and_then(|source| source.pass_mut(*id)) else {
                    continue;
                };
                match &member.task {
                    Task::Forward { packet, received } => {
                        let missing = pass.deliver(packet, received, &mut relay.receiver, &mut delivery);
                        if let Some(Missing::Keyframe(encoding)) = missing {
                            feed.keyframe = feed.keyframe.max(Some(encoding));
                        }
                    }
                    Task::Skip { encoding, sequence } => pass.skip(*encoding, *sequence),
                }
            }
        }
        delivery.stats.add(Counter::PacketsForwarded, delivery.forwarded);
        metered.count(env);
    }
}

/// Whether it is the last packet of a picture, at its time.
fn ends_picture(member: &Member<'_>) -> bool {
    last_of_picture(member).is_some()
}

/// The encoding and the number of the last packet of a picture, at its time; none of the others.
fn last_of_picture(member: &Member<'_>) -> Option<(u8, i64)> {
    let Task::Forward { packet, received } = &member.task else { return None };
    let info = &received.info;
    (packet.kind == MediaKind::Video && info.newest && packet.rtp.marker()).then_some((info.encoding, info.sequence))
}
