//! What clients ask within their Jingle sessions (docs/protocol/focus.md 5.5 to 5.10).

use xmpp_parsers::stanza_error::DefinedCondition;

use super::member::{Member, Stage};
use super::offer;
use super::outcome::{Outcome, rate_limited, refusal};
use super::senders;
use super::sources::to_colibri;
use super::state::Conference;
use crate::colibri::elements::{Endpoint, IceTransport, Transport};
use crate::colibri::limits::{MAX_CANDIDATES, MAX_FINGERPRINTS, MAX_TEXT};
use crate::focus::context::Context;
use crate::focus::limits::Refused;
use crate::jingle::{Content, Jingle, SourceSet};

fn bad_request(text: impl ToString) -> (DefinedCondition, String) {
    refusal(DefinedCondition::BadRequest, text)
}

impl Conference {
    /// A Jingle request of a client (docs/protocol/focus.md 5.1).
    pub(in super::super) fn jingle(&mut self, cx: &mut Context<'_>, nick: &str, jingle: &Jingle) -> Outcome {
        let outcome = self.jingle_action(cx, nick, jingle);
        if let Err((_, text)) = &outcome {
            let now = cx.now;
            cx.refused.count(Refused::Jingle, 1);
            if let Some(silenced) = cx.jingle_lines.speak(now) {
                let action: String = jingle.action.chars().take(32).collect();
                tracing::warn!(room = %self.room, endpoint = %nick, action, text, silenced, "Jingle request refused");
            }
        }
        outcome
    }

    fn jingle_action(&mut self, cx: &mut Context<'_>, nick: &str, jingle: &Jingle) -> Outcome {
        let member = self.members.get(nick);
        let member = member.ok_or_else(|| refusal(DefinedCondition::ItemNotFound, "no such member"))?;
        if jingle.action.is_empty() {
            return Err(bad_request("the action is missing"));
        }
        current_session(member, jingle)?;
        match jingle.action.as_str() {
            "session-accept" => self.accept(cx, nick, jingle),
            "transport-info" => self.transport_info(cx, nick, jingle),
            "source-add" | "addsource" => self.change_sources(cx, nick, jingle, true),
            "source-remove" | "removesource" => self.change_sources(cx, nick, jingle, false),
            "session-terminate" => self.client_terminates(cx, nick, jingle),
            "session-info" => self.session_info(cx, nick, jingle),
            other => Err(refusal(DefinedCondition::FeatureNotImplemented, format!("{other} is not supported"))),
        }
    }

    fn accept(&mut self, cx: &mut Context<'_>, nick: &str, jingle: &Jingle) -> Outcome {
        let Some(member) = self.members.get_mut(nick) else { return Ok(()) };
        if member.stage() != Stage::Offered {
            return Err(bad_request("this session is accepted already"));
        }
        let transport = transport_of(&jingle.contents).ok_or_else(missing_transport)?;
        let sources =
            SourceSet::from_contents(&jingle.contents, self.sources.limits().most()).map_err(|error| error.to_string());
        if member.is_visitor() && !sources.as_ref().is_ok_and(SourceSet::is_empty) {
            return Err(visitors_send_nothing(cx));
        }
        let added = sources.and_then(|sources| self.sources.add(nick, sources).map_err(|error| error.to_string()));
        cx.refused.count(Refused::SourceRenamed, self.sources.take_renamed());
        if let Err(text) = added {
            // The session is over for both sides: the client knows no other way back than another offer.
            self.end_session(cx, nick, Stage::Ended);
            self.expire_endpoint(cx, nick);
            return Err(bad_request(text));
        }
        member.accepted(offer::is_of_firefox(&jingle.contents));
        // Our extension, for our own bridge: under which numbers this endpoint really talks.
        let translates = self.nodes.on_own_bridge(&cx.bridges, nick);
        let (answered, left_out) = offer::answered_media(&jingle.contents, member.offered());
        cx.refused.count(Refused::AnswerPart, left_out);
        let last_n = jingle.contents.iter().find_map(|content| content.description.as_ref()?.initial_last_n.clone());
        let endpoint = Endpoint {
            stats_id: member.stats_id(),
            media: answered.filter(|_| translates).unwrap_or_default(),
            transport: Some(Transport { ice: Some(transport), ..Transport::default() }),
            sources: Some(to_colibri(&self.sources.of(nick))),
            initial_last_n: last_n,
            ..Endpoint::new(nick)
        };
        self.hold_unsignaled(cx, nick);
        self.update_endpoint(cx, endpoint);
        self.force_mutes_of(cx, [nick.to_owned()]);
        self.catch_up(cx, nick);
        self.signal_sources(cx);
        Ok(())
    }

    fn transport_info(&mut self, cx: &mut Context<'_>, nick: &str, jingle: &Jingle) -> Outcome {
        let transport = transport_of(&jingle.contents).ok_or_else(missing_transport)?;
        if !self.members.get_mut(nick).is_some_and(|member| member.may_trickle(cx.now)) {
            cx.refused.count(Refused::TransportRate, 1);
            return Err(rate_limited());
        }
        let transport = Some(Transport { ice: Some(transport), ..Transport::default() });
        self.update_endpoint(cx, Endpoint { transport, ..Endpoint::new(nick) });
        Ok(())
    }

    fn change_sources(&mut self, cx: &mut Context<'_>, nick: &str, jingle: &Jingle, add: bool) -> Outcome {
        if self.members.get_mut(nick).is_none_or(|member| member.stage() != Stage::Active) {
            return Err(bad_request("this session is not accepted yet"));
        }
        if !self.members.get_mut(nick).is_some_and(|member| member.may_change_sources(cx.now)) {
            cx.refused.count(Refused::SourceRate, 1);
            return Err(rate_limited());
        }
        if self.members.get(nick).is_some_and(Member::is_visitor) {
            return Err(visitors_send_nothing(cx));
        }
        let change = SourceSet::from_contents(&jingle.contents, self.sources.limits().most()).map_err(bad_request)?;
        if add {
            let limits = cx.settings.sources.senders;
            if let Some(text) = senders::too_many(&self.senders, limits, &change) {
                cx.refused.count(Refused::Senders, 1);
                return Err(refusal(DefinedCondition::ResourceConstraint, text));
            }
        }
        let changed = match add {
            true => self.sources.add(nick, change),
            false => self.sources.remove(nick, &change),
        };
        cx.refused.count(Refused::SourceRenamed, self.sources.take_renamed());
        changed.map_err(bad_request)?;
        let sources = Some(to_colibri(&self.sources.of(nick)));
        self.hold_unsignaled(cx, nick);
        self.update_endpoint(cx, Endpoint { sources, ..Endpoint::new(nick) });
        // A screen came or went.
        self.force_mutes_of(cx, [nick.to_owned()]);
        self.signal_sources(cx);
        Ok(())
    }

    fn client_terminates(&mut self, cx: &mut Context<'_>, nick: &str, jingle: &Jingle) -> Outcome {
        self.check_bridge_session(nick, jingle)?;
        let restart = jingle.bridge_session.as_ref().is_some_and(|session| session.restart.as_deref() == Some("true"));
        let granted = restart && self.may_restart(cx, nick);
        tracing::info!(room = %self.room, endpoint = nick, restart, granted, "client ended its session");
        if granted {
            self.restart_asked(cx, nick);
        }
        self.end_session(cx, nick, if granted { Stage::Idle } else { Stage::Ended });
        self.expire_endpoint(cx, nick);
        if granted {
            self.invite_missing(cx);
        }
        if restart && !granted { Err(rate_limited()) } else { Ok(()) }
    }

    fn session_info(&mut self, cx: &mut Context<'_>, nick: &str, jingle: &Jingle) -> Outcome {
        let asks = |flag: &String| flag.eq_ignore_ascii_case("true");
        if jingle.bridge_session.as_ref().and_then(|session| session.ice_restart.as_ref()).is_some_and(asks) {
            return self.ask_ice_restart(cx, nick, jingle);
        }
        if jingle.ice_state.as_ref().is_some_and(|ice| ice.state.trim() == "failed") {
            self.check_bridge_session(nick, jingle)?;
            if !self.may_restart(cx, nick) {
                return Err(rate_limited());
            }
            tracing::info!(room = %self.room, endpoint = nick, "ICE failed; the client gets a new session");
            self.restart_asked(cx, nick);
            self.reinvite_fresh(cx, nick);
        }
        Ok(())
    }

    /// Counts that, for the bridge too: it may be one that clients do not reach.
    fn restart_asked(&self, cx: &mut Context<'_>, nick: &str) {
        cx.totals.restarts += 1;
        if let Some(home) = self.nodes.home(nick) {
            let now = cx.now;
            cx.bridges.restart_requested(now, &home.bridge, (&self.room, nick));
        }
    }

    fn may_restart(&mut self, cx: &mut Context<'_>, nick: &str) -> bool {
        let granted = self.members.get_mut(nick).is_some_and(|member| member.may_restart(cx.now));
        cx.refused.count(Refused::RestartRate, u64::from(!granted));
        granted
    }

    /// Requests about a bridge session that is not the current one are late.
    pub(super) fn check_bridge_session(&self, nick: &str, jingle: &Jingle) -> Outcome {
        let current = self.nodes.home(nick).map(|session| session.id.as_str());
        let named = jingle.bridge_session.as_ref().and_then(|session| session.id.as_deref());
        if named.is_none() || named != current {
            let text = "that bridge session is not the current one";
            return Err(refusal(DefinedCondition::ItemNotFound, text));
        }
        Ok(())
    }
}

/// A request has to be about the session that runs (docs/protocol/focus.md 5.1).
fn current_session(member: &Member, jingle: &Jingle) -> Outcome {
    if !jingle.sid.is_empty() && member.sid() == jingle.sid {
        return Ok(());
    }
    if !member.had_session(&jingle.sid) {
        return Err(bad_request("unknown session"));
    }
    let gone = jingle.action == "session-accept" || member.sid().is_empty();
    let condition = if gone { DefinedCondition::Gone { new_address: None } } else { DefinedCondition::ItemNotFound };
    Err(refusal(condition, "session ended"))
}

fn visitors_send_nothing(cx: &mut Context<'_>) -> (DefinedCondition, String) {
    cx.refused.count(Refused::VisitorSource, 1);
    refusal(DefinedCondition::Forbidden, "visitors have no sources")
}

fn missing_transport() -> (DefinedCondition, String) {
    bad_request("no content has a transport")
}

/// The transport of the first content that has one: with BUNDLE they are all the same.
fn transport_of(contents: &[Content]) -> Option<IceTransport> {
    let mut transports = contents.iter().filter_map(|content| content.transport.clone());
    let mut first = transports.next()?;
    // Trickled candidates may be spread over the contents.
    let mut candidates = std::mem::take(&mut first.candidates);
    candidates.extend(transports.flat_map(|other| other.candidates));
    for candidate in candidates {
        if first.candidates.len() < MAX_CANDIDATES && !first.candidates.contains(&candidate) {
            first.candidates.push(candidate);
        }
    }
    first.fingerprints.retain(|fingerprint| fingerprint.hash.len() + fingerprint.value.len() <= MAX_TEXT);
    first.fingerprints.truncate(MAX_FINGERPRINTS);
    let short = |text: Option<String>| text.filter(|text| text.len() <= MAX_TEXT);
    (first.ufrag, first.pwd) = (short(first.ufrag.take()), short(first.pwd.take()));
    Some(first.into())
}
