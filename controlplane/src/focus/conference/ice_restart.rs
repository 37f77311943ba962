//! ICE restarts in place (docs/protocol/focus.md 5.10 and 11.5): a client asks, the bridge gives new credentials, the client gets them
//! them. Its own come as an ordinary transport-info. What the bridge cannot restart is invited again.

use xmpp_parsers::stanza_error::DefinedCondition;

use super::outcome::{Outcome, rate_limited, refusal};
use super::state::Conference;
use crate::colibri::elements::{ConferenceModified, ConferenceModify, Endpoint, IceTransport, Transport};
use crate::focus::context::Context;
use crate::focus::limits::Refused;
use crate::focus::requests::{Answer, Question};
use crate::jingle::{Content, Jingle};

impl Conference {
    /// A client wants ICE restarted. The request is answered at once; what the bridge says follows as a transport-info.
    pub(super) fn ask_ice_restart(&mut self, cx: &mut Context<'_>, nick: &str, jingle: &Jingle) -> Outcome {
        cx.ice_restarts.requested += 1;
        let asked = self.forward_ice_restart(cx, nick, jingle);
        cx.ice_restarts.failed += u64::from(asked.is_err());
        asked
    }

    fn forward_ice_restart(&mut self, cx: &mut Context<'_>, nick: &str, jingle: &Jingle) -> Outcome {
        if !cx.settings.ice_restart {
            let text = "ICE restarts in place are switched off here; ask for a new session";
            return Err(refusal(DefinedCondition::FeatureNotImplemented, text));
        }
        if !self.members.get_mut(nick).is_some_and(|member| member.may_restart_ice(cx.now)) {
            cx.refused.count(Refused::IceRestartRate, 1);
            return Err(rate_limited());
        }
        self.check_bridge_session(nick, jingle)?;
        let (Some(session), Some(member)) = (self.nodes.home(nick), self.members.get(nick)) else { return Ok(()) };
        tracing::info!(room = %self.room, endpoint = nick, "client asks for an ICE restart");
        let endpoint = Endpoint {
            stats_id: member.stats_id(),
            transport: Some(Transport { ice_restart: true, ..Transport::default() }),
            ..Endpoint::new(nick)
        };
        let request = ConferenceModify { endpoints: vec![endpoint], ..ConferenceModify::new(self.meeting_id.clone()) };
        let (bridge, sid) = (session.bridge.clone(), member.sid().to_owned());
        let pending = Question::IceRestart { nick: nick.to_owned(), session: session.id.clone(), sid };
        self.ask(cx, &bridge, true, request.into(), pending);
        Ok(())
    }

    /// The bridge's answer to a restart of the session `sid` of a member, in our session `session` on that bridge.
    pub(in super::super) fn ice_restarted(
        &mut self,
        cx: &mut Context<'_>,
        nick: &str,
        (session, sid): (&str, &str),
        answer: Answer,
    ) {
        let current = self.nodes.is_home(nick, session);
        if !self.members.get(nick).is_some_and(|member| current && member.sid() == sid) {
            // Another session has begun meanwhile, or it has left.
            cx.ice_restarts.failed += 1;
            return;
        }
        match answer {
            Answer::Result(payload) => {
                let modified = payload.and_then(|payload| ConferenceModified::try_from(payload).ok());
                let endpoint = modified.and_then(|modified| modified.endpoints.into_iter().find(|e| e.id == nick));
                match endpoint.and_then(|endpoint| endpoint.transport).and_then(|transport| transport.ice) {
                    Some(ice) => self.tell_ice_restart(cx, nick, ice),
                    None => self.ice_restart_declined(cx, nick),
                }
            }
            Answer::Error(error) => match error.defined_condition {
                // About the restart alone: the bridge does not serve it.
                DefinedCondition::BadRequest
                | DefinedCondition::FeatureNotImplemented
                | DefinedCondition::ResourceConstraint => self.ice_restart_declined(cx, nick),
                _ => {
                    cx.ice_restarts.failed += 1;
                    self.updated(cx, nick, session, Answer::Error(error));
                }
            },
            Answer::Timeout => {
                // The client gives up by itself and asks for a new session.
                cx.ice_restarts.failed += 1;
                self.updated(cx, nick, session, Answer::Timeout);
            }
        }
    }

    /// The client restarts with what the bridge gave; what it got before, or newer, is not sent again.
    fn tell_ice_restart(&mut self, cx: &mut Context<'_>, nick: &str, ice: IceTransport) {
        let Some(generation) = ice.ice_generation else {
            cx.ice_restarts.not_needed += 1;
            return;
        };
        let Some(member) = self.members.get_mut(nick) else { return };
        if !member.restarts_ice(generation) {
            cx.ice_restarts.failed += 1;
            return;
        }
        let sid = member.sid().to_owned();
        // It knows the address of its channel.
        let transport = IceTransport { web_sockets: Vec::new(), ..ice };
        let content = Content {
            creator: Some("initiator".to_owned()),
            name: Some("audio".to_owned()),
            transport: Some(transport.into()),
            ..Content::default()
        };
        cx.ice_restarts.relayed += 1;
        let jingle = Jingle { contents: vec![content], ..Jingle::new("transport-info", &sid) };
        cx.notify(&self.occupant(nick), jingle.into());
    }

    fn ice_restart_declined(&mut self, cx: &mut Context<'_>, nick: &str) {
        tracing::info!(room = %self.room, endpoint = nick, "the bridge does not restart ICE; the client gets a new session");
        cx.ice_restarts.failed += 1;
        cx.refused.count(Refused::IceRestartDeclined, 1);
        self.reinvite_fresh(cx, nick);
    }
}
