//! Calls out to telephones, and transcribers, by Jigasi (docs/protocol/focus.md 8.6).
//!
//! A client's request goes on to a gateway of the brewery as it is; what that answers goes back to the client. The gateway enters the
//! room as a participant like any other, and so do those who call in.

use std::collections::BTreeMap;
use std::time::Instant;

use jid::BareJid;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::presence::Presence;
use xmpp_parsers::stanza_error::DefinedCondition;

use super::context::Context;
use super::limits::{IMPLAUSIBLE, Refused};
use super::pool::{Announcement, Pool, PoolChange};
use super::requests::{Answer, Pending};
use super::state_error::FocusStateError;
use super::xml::{build, escaped};
use crate::brewery::Trust;
use crate::xmpp::iq::Request;

/// Namespace of the requests.
pub(super) const RAYO: &str = "urn:xmpp:rayo:1";
/// How Jigasis announce themselves.
const GATEWAYS: Announcement = Announcement::of_helpers("stats");
/// What clients call to have their conference transcribed.
const TRANSCRIBER: &str = "jitsi_meet_transcribe";
/// Header that names the room.
const ROOM_HEADER: &str = "JvbRoomName";
/// Other gateways that are tried when one fails.
const RETRIES: usize = 2;
/// Requests that wait for a gateway: of one room, and of all.
const MAX_WAITING_OF_ROOM: usize = 20;
const MAX_WAITING: usize = 2_000;
/// Gateways that are remembered.
const MAX_GATEWAYS: usize = 1_000;
/// Headers of a request, and bytes of an attribute.
const MAX_HEADERS: usize = 30;
const MAX_TEXT: usize = 1_000;

/// One gateway as it describes itself.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Gateway {
    sip: bool,
    transcriber: bool,
    leaving: bool,
    participants: u32,
    region: Option<String>,
}

impl Gateway {
    fn read(stats: &Element) -> Self {
        let get = |name: &str| {
            let stat = stats.children().find(|stat| stat.attr("name") == Some(name))?;
            stat.attr("value")
        };
        let on = |name: &str| get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Self {
            sip: on("supports_sip"),
            transcriber: on("supports_transcription"),
            leaving: on("graceful_shutdown"),
            participants: get("participants").and_then(|value| value.parse().ok()).unwrap_or(0),
            region: get("region").map(str::to_owned),
        }
    }
}

/// A request that waits for a gateway.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Call {
    room: BareJid,
    request: Request,
    #[serde(with = "crate::xmpp::element_text")]
    payload: Element,
    transcriber: bool,
    region: Option<String>,
    /// Gateways that were asked, the latest last.
    asked: Vec<String>,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
struct Totals {
    accepted: u64,
    retries: u64,
    errors: u64,
    timeouts: u64,
    no_instance: u64,
    all_failed: u64,
}

/// Whose conference it is, as far as a call needs to know.
#[derive(Debug, Default)]
pub(super) struct Caller {
    pub room: Option<BareJid>,
    /// Region of the conference's bridge: its gateway is rather there too.
    pub region: Option<String>,
    /// Somebody transcribes already.
    pub has_transcriber: bool,
}

/// The gateways and the requests that wait for them.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Dial {
    pool: Option<Pool>,
    gateways: BTreeMap<String, Gateway>,
    calls: BTreeMap<u64, Call>,
    next: u64,
    totals: Totals,
}

type Refusal = (DefinedCondition, &'static str);

impl Dial {
    /// Nobody is known yet.
    pub fn new(brewery: Option<&BareJid>, trust: &Trust) -> Result<Self, jid::Error> {
        let pool = brewery.map(|room| Pool::new(room, trust.clone(), &GATEWAYS)).transpose()?;
        Ok(Self { pool, gateways: BTreeMap::new(), calls: BTreeMap::new(), next: 0, totals: Totals::default() })
    }

    /// Goes on with the calls of another process.
    pub fn go_on_with(&mut self, other: Self) -> Result<(), FocusStateError> {
        let Self { pool, gateways, calls, next, totals } = self;
        Pool::all_go_on_with(pool.as_mut(), other.pool)?;
        (*gateways, *calls, *next, *totals) = (other.gateways, other.calls, other.next, other.totals);
        Ok(())
    }

    /// Whether a focus can have counted so far.
    pub fn is_sound(&self) -> bool {
        let Totals { accepted, retries, errors, timeouts, no_instance, all_failed } = self.totals;
        let all = [self.next, accepted, retries, errors, timeouts, no_instance, all_failed];
        let calls = self.calls.last_key_value().is_none_or(|(call, _)| *call <= self.next);
        calls && all.iter().all(|count| *count < IMPLAUSIBLE)
    }

    /// The connection is up; nothing that was before is true any more unless the session `resumed`.
    pub fn online(&mut self, cx: &mut Context<'_>, resumed: bool) {
        if resumed {
            return;
        }
        self.calls.clear();
        self.gateways.clear();
        if let Some(pool) = &mut self.pool {
            pool.join(cx);
        }
    }

    /// Takes a presence; true when it is from the brewery of gateways.
    pub fn presence(&mut self, cx: &mut Context<'_>, presence: &Presence) -> bool {
        let Some(pool) = &mut self.pool else { return false };
        if presence.from.as_ref().is_none_or(|from| from.to_bare() != pool.room()) {
            return false;
        }
        match pool.presence(cx, presence) {
            Some(PoolChange::Seen(jid)) => self.seen(jid, presence),
            Some(PoolChange::Gone(jid)) if self.gateways.remove(&jid).is_some() => {
                tracing::info!(gateway = %jid, left = self.gateways.len(), "Jigasi gone");
                self.lost(cx, |asked| asked == jid);
            }
            Some(PoolChange::Closed) => {
                self.gateways.clear();
                self.lost(cx, |_| true);
            }
            Some(PoolChange::Gone(_)) | None => {}
        }
        true
    }

    fn seen(&mut self, jid: String, presence: &Presence) {
        let Some(stats) = presence.payloads.iter().find(|payload| payload.name() == "stats") else { return };
        if !self.gateways.contains_key(&jid) {
            if self.gateways.len() >= MAX_GATEWAYS {
                return;
            }
            tracing::info!(gateway = %jid, "Jigasi found");
        }
        self.gateways.insert(jid, Gateway::read(stats));
    }

    /// Gateways are gone; those who wait for them are helped by others.
    fn lost(&mut self, cx: &mut Context<'_>, is: impl Fn(&str) -> bool) {
        let waits = |call: &Call| call.asked.last().is_some_and(|asked| is(asked));
        let calls: Vec<u64> = self.calls.iter().filter(|(_, call)| waits(call)).map(|(id, _)| *id).collect();
        for call in calls {
            self.failed(cx, call, DefinedCondition::UndefinedCondition);
        }
    }

    /// A moderator wants a number called; `None` when the answer comes later.
    pub fn request(&mut self, cx: &mut Context<'_>, caller: Caller, request: &Request) -> Option<Iq> {
        match self.begin(cx, caller, request) {
            Ok(()) => None,
            Err((condition, text)) => {
                cx.refused.count(Refused::Dial, 1);
                Some(request.refuse(condition, text))
            }
        }
    }

    fn begin(&mut self, cx: &mut Context<'_>, caller: Caller, request: &Request) -> Result<(), Refusal> {
        let room = caller.room.ok_or((DefinedCondition::ItemNotFound, "no such conference"))?;
        let payload = passed_on(&request.payload, &room)?;
        let transcriber = payload.attr("to") == Some(TRANSCRIBER);
        if transcriber && caller.has_transcriber {
            return Err((DefinedCondition::Conflict, "there is a transcriber already"));
        }
        let of_room = self.calls.values().filter(|call| call.room == room).count();
        if of_room >= MAX_WAITING_OF_ROOM || self.calls.len() >= MAX_WAITING {
            return Err((DefinedCondition::ResourceConstraint, "too many calls are being set up"));
        }
        let region = caller.region;
        let call = Call { room, request: request.clone(), payload, transcriber, region, asked: Vec::new() };
        let Some(gateway) = self.select(&call) else {
            self.totals.no_instance += 1;
            return Err((DefinedCondition::ServiceUnavailable, "no Jigasi is available"));
        };
        self.totals.accepted += 1;
        self.next += 1;
        self.ask(cx, self.next, call, gateway);
        Ok(())
    }

    /// The gateway to ask: one that can, that was not asked before, that stays; rather in the region, the least loaded one.
    fn select(&self, call: &Call) -> Option<String> {
        let can =
            |gateway: &Gateway| !gateway.leaving && if call.transcriber { gateway.transcriber } else { gateway.sip };
        let free = self.gateways.iter().filter(|(jid, gateway)| can(gateway) && !call.asked.contains(jid));
        let elsewhere = |gateway: &Gateway| call.region.is_some() && gateway.region != call.region;
        free.min_by_key(|(_, gateway)| (elsewhere(gateway), gateway.participants)).map(|(jid, _)| jid.clone())
    }

    fn ask(&mut self, cx: &mut Context<'_>, id: u64, mut call: Call, gateway: String) {
        tracing::info!(room = %call.room, %gateway, transcriber = call.transcriber, "Jigasi asked to call");
        call.asked.push(gateway.clone());
        let pending = Pending::Dial { call: id, attempt: call.asked.len() };
        cx.request(&gateway, true, call.payload.clone(), pending);
        self.calls.insert(id, call);
    }

    /// A gateway answered, or did not.
    pub fn answered(&mut self, cx: &mut Context<'_>, id: u64, attempt: usize, answer: Answer) {
        if self.calls.get(&id).is_none_or(|call| call.asked.len() != attempt) {
            return;
        }
        match answer {
            Answer::Result(payload) => {
                if let Some(call) = self.calls.remove(&id) {
                    cx.send(call.request.result(payload));
                }
            }
            Answer::Error(_) => {
                self.totals.errors += 1;
                self.failed(cx, id, DefinedCondition::UndefinedCondition);
            }
            Answer::Timeout => {
                self.totals.timeouts += 1;
                self.failed(cx, id, DefinedCondition::RemoteServerTimeout);
            }
        }
    }

    /// A gateway did not do it: another one is asked, or the client learns why not.
    fn failed(&mut self, cx: &mut Context<'_>, id: u64, condition: DefinedCondition) {
        let Some(call) = self.calls.remove(&id) else { return };
        tracing::warn!(room = %call.room, gateway = ?call.asked.last(), ?condition, "Jigasi failed");
        let refusal = if call.asked.len() > RETRIES {
            self.totals.all_failed += 1;
            (condition, "the gateways that were tried failed")
        } else if let Some(gateway) = self.select(&call) {
            self.totals.retries += 1;
            return self.ask(cx, id, call, gateway);
        } else {
            self.totals.no_instance += 1;
            (DefinedCondition::ServiceUnavailable, "no other Jigasi is available")
        };
        cx.refused.count(Refused::Dial, 1);
        cx.send(call.request.refuse(refusal.0, refusal.1));
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        if let Some(pool) = &mut self.pool {
            pool.handle_timeout(cx);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pool.as_ref()?.poll_timeout()
    }

    /// Leaves the brewery.
    pub fn shut_down(&mut self, cx: &mut Context<'_>) {
        if let Some(pool) = &mut self.pool {
            pool.leave(cx);
        }
    }

    /// Statistics for `/colibri/stats`.
    pub fn stats(&self) -> serde_json::Value {
        let count = |wanted: fn(&Gateway) -> bool| self.gateways.values().filter(|gateway| wanted(gateway)).count();
        serde_json::json!({
            "sip_count": count(|gateway| gateway.sip),
            "sip_in_graceful_shutdown_count": count(|gateway| gateway.sip && gateway.leaving),
            "transcriber_count": count(|gateway| gateway.transcriber),
            "waiting": self.calls.len(),
            "accepted_requests": self.totals.accepted,
            "retries": self.totals.retries,
            "instance_errors": self.totals.errors,
            "instance_timeouts": self.totals.timeouts,
            "requests_failed_no_instance": self.totals.no_instance,
            "requests_failed_all_instances": self.totals.all_failed,
        })
    }
}

/// What goes on to a gateway: what is known of a request, and no more.
fn passed_on(dial: &Element, room: &BareJid) -> Result<Element, Refusal> {
    let bad = |text| (DefinedCondition::BadRequest, text);
    let to = dial.attr("to").filter(|to| !to.is_empty()).ok_or(bad("who is to be called is missing"))?;
    let from = dial.attr("from").unwrap_or_default();
    let headers = dial.children().filter(|child| child.name() == "header");
    let headers: Vec<(&str, &str)> =
        headers.filter_map(|header| Some((header.attr("name")?, header.attr("value")?))).collect();
    let texts = headers.iter().flat_map(|(name, value)| [*name, *value]).chain([to, from]);
    if headers.len() > MAX_HEADERS || texts.into_iter().any(|text| text.len() > MAX_TEXT) {
        return Err(bad("too many headers, or an attribute is too long"));
    }
    // A gateway enters the room that is named here, whoever asked.
    let named = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(ROOM_HEADER));
    if named.into_iter().any(|(_, value)| value.parse::<BareJid>().as_ref() != Ok(room)) {
        return Err((DefinedCondition::Forbidden, "the call is for another room"));
    }
    let header =
        |(name, value): &(&str, &str)| format!("<header name='{}' value='{}'/>", escaped(name), escaped(value));
    let headers: String = headers.iter().map(header).collect();
    let from = if from.is_empty() { String::new() } else { format!(" from='{}'", escaped(from)) };
    build(&format!("<dial xmlns='{RAYO}' to='{}'{from}>{headers}</dial>", escaped(to))).ok_or(bad("not readable"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(inside: &str) -> Result<Element, DefinedCondition> {
        let dial = format!("<dial xmlns='{RAYO}' {inside}</dial>").parse().unwrap();
        passed_on(&dial, &"room@conference.x".parse().unwrap()).map_err(|(condition, _)| condition)
    }

    #[test]
    fn only_what_is_known_goes_on_and_only_for_the_own_room() {
        let passed = pass("to='+1' from='a' x='y'><header name='h' value='&apos;v&lt;'/><evil xmlns='e'/>").unwrap();
        assert_eq!((passed.attr("to"), passed.attr("from"), passed.attr("x")), (Some("+1"), Some("a"), None));
        assert_eq!(passed.children().count(), 1);
        assert_eq!(passed.children().next().unwrap().attr("value"), Some("'v<"));
        assert!(pass("to='+1'><header name='JvbRoomName' value='room@conference.x'/>").is_ok());
        for other in ["other@conference.x", "room@conference.y", "", "ROOM"] {
            let header = format!("to='+1'><header name='jvbroomname' value='{other}'/>");
            assert_eq!(pass(&header), Err(DefinedCondition::Forbidden), "{other}");
        }
        let two =
            "to='+1'><header name='JvbRoomName' value='room@conference.x'/><header name='JvbRoomName' value='o@x'/>";
        assert_eq!(pass(two), Err(DefinedCondition::Forbidden), "which of them counts is the gateway's affair");
        let many = "<header name='a' value='b'/>".repeat(MAX_HEADERS + 1);
        for wrong in ["from='a'>", "to=''>", &format!("to='1'>{many}"), &format!("to='{}'>", "1".repeat(MAX_TEXT + 1))]
        {
            assert_eq!(pass(wrong), Err(DefinedCondition::BadRequest), "{wrong}");
        }
    }
}
