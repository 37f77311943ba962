//! The relays between the bridges of a conference (docs/protocol/focus.md 11.6).

use super::nodes::{BridgeSession, Left};
use super::state::Conference;
use crate::colibri::elements::{CAP_SOURCE_NAMES, Capability, ConferenceModified, Endpoint};
use crate::focus::cascade::{Form, LinkId, What, transport_in};
use crate::focus::conference::offer;
use crate::focus::conference::sources::to_colibri;
use crate::focus::context::Context;
use crate::focus::features::Features;
use crate::focus::limits::Refused;
use crate::focus::requests::{Answer, Question};

/// Every relay carries all that is offered to any client.
const ALL_MEDIA: Features = Features { rtx: true, tcc: true, ..Features::UNKNOWN };

impl Conference {
    /// Sends what bridges are to be asked about their relays.
    pub(super) fn send_relay_requests(&mut self, cx: &mut Context<'_>) {
        while let Some(order) = self.nodes.cascade.poll_order() {
            let Some(session) = self.nodes.of_node(order.to) else { continue };
            let form =
                Form { meeting_id: &self.meeting_id, sctp: cx.settings.relay_sctp, media: || offer::media(ALL_MEDIA) };
            let request = form.request(&order, |nick| self.relayed_endpoint(nick));
            let creates = matches!(order.what, What::Create { .. });
            if creates {
                tracing::info!(room = %self.room, bridge = %session.bridge, to = %order.relay_id, "bridges are linked");
            }
            let pending = Question::Relay { session: session.id.clone(), link: order.link, creates };
            let bridge = session.bridge.clone();
            self.ask(cx, &bridge, true, request.into(), pending);
        }
    }

    /// A member as it is announced to other bridges.
    fn relayed_endpoint(&self, nick: &str) -> Endpoint {
        Endpoint {
            stats_id: self.members.get(nick).and_then(|member| member.stats_id()),
            capabilities: vec![Capability { name: CAP_SOURCE_NAMES.to_owned() }],
            sources: Some(to_colibri(&self.sources.of(nick))),
            ..Endpoint::new(nick)
        }
    }

    /// A bridge says that nothing comes over its relay to another one, though both live: who is on the one of both that has fewer
    /// participants moves. Whether anybody had to.
    pub(in super::super) fn link_died(&mut self, cx: &mut Context<'_>, bridge: &str, relay_id: &str) -> bool {
        let Some(one) = self.nodes.on(bridge) else { return false };
        let linked = self.nodes.cascade.neighbours(one.node);
        let is_it = |id: &str| cx.bridges.get(id).is_some_and(|peer| peer.relay_id.as_deref() == Some(relay_id));
        let peers = self.nodes.iter().filter(|peer| linked.contains(&peer.node));
        let Some(other) = peers.into_iter().find(|peer| is_it(&peer.bridge)) else { return false };
        let members = |session: &BridgeSession| self.nodes.members(&session.id).count();
        // The later one of two that are alike.
        let smaller =
            [other, one].into_iter().min_by_key(|session| (members(session), std::cmp::Reverse(session.node)));
        let Some(smaller) = smaller.cloned() else { return false };
        tracing::error!(
            room = %self.room, bridges = ?(&one.bridge, &other.bridge), leaving = %smaller.bridge, participants = members(&smaller),
            "two bridges do not reach each other; the participants of the one that has fewer move"
        );
        self.nodes.note_left(cx.now, &smaller.bridge, Left::DeadLink);
        self.leave_session(cx, &smaller.id);
        true
    }

    /// A bridge's answer about the relay `link` of our session `session` on it.
    pub(in super::super) fn relay_answered(
        &mut self,
        cx: &mut Context<'_>,
        (session, link, creates): (&str, LinkId, bool),
        answer: Answer,
    ) {
        let Some(node) = self.nodes.by_id(session).map(|session| session.node) else { return };
        // The relay may have ended meanwhile; then nothing of it matters.
        if !self.nodes.cascade.has_link(link) {
            return;
        }
        let failed = match answer {
            Answer::Result(_) if !creates => return,
            Answer::Result(payload) => {
                let modified = payload.and_then(|payload| ConferenceModified::try_from(payload).ok());
                match modified.ok_or("it is of another kind").and_then(transport_in) {
                    Ok(transport) => {
                        self.nodes.cascade.answered(link, node, transport);
                        return self.send_relay_requests(cx);
                    }
                    Err(reason) => reason.to_owned(),
                }
            }
            Answer::Error(error) => format!("{:?}", error.defined_condition),
            Answer::Timeout if creates && cx.server_was_slow(cx.now) => {
                tracing::warn!(room = %self.room, session, "no answer about a relay while the XMPP server is slow; the bridge's participants begin anew");
                cx.refused.count(Refused::ServerSlow, 1);
                return self.leave_session(cx, session);
            }
            Answer::Timeout if creates => {
                tracing::error!(room = %self.room, session, "the bridge does not answer about a relay; its participants move");
                return self.bridge_failed(cx, session);
            }
            Answer::Timeout => {
                tracing::warn!(room = %self.room, session, "the bridge did not answer about a relay");
                return;
            }
        };
        tracing::warn!(room = %self.room, session, reason = failed, "a bridge refused a relay; its participants move");
        self.session_failed(cx, session);
    }
}
