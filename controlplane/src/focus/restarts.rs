//! ICE restarts in place (docs/protocol/focus.md 5.10 and 11.5): a client asks, the bridge gives new credentials, the client is told
//! them. Its own come as an ordinary transport-info. What the bridge cannot restart is invited again.

use std::time::Instant;

use jid::BareJid;
use xmpp_parsers::stanza_error::DefinedCondition;

use super::clients::{Outcome, rate_limited, refusal};
use super::limits::Refused;
use super::machine::{Answer, Focus, Pending};
use crate::colibri::elements::{ConferenceModified, ConferenceModify, Endpoint, IceTransport, Transport};
use crate::jingle::{Content, Jingle};

/// What became of the requests of clients; the names are the reference's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IceRestarts {
    pub requested: u64,
    pub relayed: u64,
    /// Nothing is connected yet: the client keeps what it has.
    pub not_needed: u64,
    /// Refused, declined by the bridge, or not answered by it.
    pub failed: u64,
}

impl IceRestarts {
    /// For `/stats`.
    pub fn to_json(self) -> serde_json::Value {
        serde_json::json!({
            "requested": self.requested,
            "relayed": self.relayed,
            "not_needed": self.not_needed,
            "failed": self.failed,
        })
    }
}

impl Focus {
    /// A client wants ICE restarted. The request is answered at once; what the bridge says follows as a transport-info.
    pub(super) fn ask_ice_restart(&mut self, now: Instant, room: &BareJid, nick: &str, jingle: &Jingle) -> Outcome {
        self.ice_restarts.requested += 1;
        let asked = self.forward_ice_restart(now, room, nick, jingle);
        self.ice_restarts.failed += u64::from(asked.is_err());
        asked
    }

    fn forward_ice_restart(&mut self, now: Instant, room: &BareJid, nick: &str, jingle: &Jingle) -> Outcome {
        if !self.settings.ice_restart {
            let text = "ICE restarts in place are switched off here; ask for a new session";
            return Err(refusal(DefinedCondition::FeatureNotImplemented, text));
        }
        if !self.member(room, nick).is_some_and(|member| member.ice_restarts.take(now)) {
            self.refused.count(Refused::IceRestartRate, 1);
            return Err(rate_limited());
        }
        self.check_bridge_session(room, jingle)?;
        let Some(conference) = self.conferences.get(room) else { return Ok(()) };
        let (Some(session), Some(member)) = (&conference.session, conference.members.get(nick)) else { return Ok(()) };
        tracing::info!(%room, endpoint = nick, "client asks for an ICE restart");
        let endpoint = Endpoint {
            stats_id: member.stats_id.clone(),
            transport: Some(Transport { ice_restart: true, ..Transport::default() }),
            ..Endpoint::new(nick)
        };
        let request =
            ConferenceModify { endpoints: vec![endpoint], ..ConferenceModify::new(conference.meeting_id.clone()) };
        let (bridge, sid) = (session.bridge.clone(), member.sid.clone());
        let pending =
            Pending::IceRestart { room: room.clone(), nick: nick.to_owned(), session: session.id.clone(), sid };
        self.request(now, &bridge, true, request.into(), pending);
        Ok(())
    }

    /// The bridge's answer to a restart of the session `sid` of a member, in our session `session` on that bridge.
    pub(super) fn ice_restarted(
        &mut self,
        now: Instant,
        room: &BareJid,
        nick: &str,
        (session, sid): (&str, &str),
        answer: Answer,
    ) {
        let conference = self.conferences.get(room);
        let current = conference.and_then(|c| c.session.as_ref()).is_some_and(|current| current.id == session);
        let member = conference.and_then(|c| c.members.get(nick)).filter(|member| current && member.sid == sid);
        if member.is_none() {
            // Another session has begun meanwhile, or it has left.
            self.ice_restarts.failed += 1;
            return;
        }
        match answer {
            Answer::Result(payload) => {
                let modified = payload.and_then(|payload| ConferenceModified::try_from(payload).ok());
                let endpoint = modified.and_then(|modified| modified.endpoints.into_iter().find(|e| e.id == nick));
                match endpoint.and_then(|endpoint| endpoint.transport).and_then(|transport| transport.ice) {
                    Some(ice) => self.tell_ice_restart(room, nick, ice),
                    None => self.ice_restart_declined(now, room, nick),
                }
            }
            Answer::Error(error) => match error.defined_condition {
                // About the restart alone: the bridge does not serve it.
                DefinedCondition::BadRequest
                | DefinedCondition::FeatureNotImplemented
                | DefinedCondition::ResourceConstraint => self.ice_restart_declined(now, room, nick),
                _ => {
                    self.ice_restarts.failed += 1;
                    self.updated(now, room, nick, session, Answer::Error(error));
                }
            },
            Answer::Timeout => {
                // The client gives up by itself and asks for a new session.
                self.ice_restarts.failed += 1;
                self.updated(now, room, nick, session, Answer::Timeout);
            }
        }
    }

    /// The client restarts with what the bridge gave; what it was told before, or newer, is not told again.
    fn tell_ice_restart(&mut self, room: &BareJid, nick: &str, ice: IceTransport) {
        let Some(generation) = ice.ice_generation else {
            self.ice_restarts.not_needed += 1;
            return;
        };
        let Some(member) = self.member(room, nick) else { return };
        if generation <= member.ice_generation {
            self.ice_restarts.failed += 1;
            return;
        }
        member.ice_generation = generation;
        let sid = member.sid.clone();
        // It knows the address of its channel.
        let transport = IceTransport { web_sockets: Vec::new(), ..ice };
        let content = Content {
            creator: Some("initiator".to_owned()),
            name: Some("audio".to_owned()),
            transport: Some(transport.into()),
            ..Content::default()
        };
        self.ice_restarts.relayed += 1;
        let jingle = Jingle { contents: vec![content], ..Jingle::new("transport-info", &sid) };
        self.notify(&format!("{room}/{nick}"), jingle.into());
    }

    fn ice_restart_declined(&mut self, now: Instant, room: &BareJid, nick: &str) {
        tracing::info!(%room, endpoint = nick, "the bridge does not restart ICE; invited again");
        self.ice_restarts.failed += 1;
        self.refused.count(Refused::IceRestartDeclined, 1);
        self.reinvite_fresh(now, room, nick);
    }
}
