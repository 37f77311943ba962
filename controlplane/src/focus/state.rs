//! The focus as another process goes on with it (docs/upgrade.md). It is written by the state machines as they are, and read as if a
//! stranger had made it up: whatever contradicts itself is refused as a whole.

use std::collections::BTreeMap;
use std::time::Instant;

use jid::{BareJid, Jid};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::breakouts::Breakouts;
use super::bridges::Bridges;
use super::caps::Caps;
use super::components::Components;
use super::conference::Conference;
use super::context::{Orphan, Shared, Totals};
use super::dial::Dial;
use super::former_rooms::FormerRooms;
use super::ice_restart_totals::IceRestarts;
use super::limits::Refusals;
use super::logins::Logins;
use super::pins::Pins;
use super::pool::Pool;
use super::recording::Recording;
use super::requests::Requests;
use super::service::Focus;
use super::settings::FocusSettings;
use super::state_error::{FocusStateError, contradiction};
use super::visitors::Nodes;
use crate::carried;
use crate::pace::{Buckets, Quiet};

/// What a focus is to others: where it is, and which rooms are its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Site {
    server: String,
    account: String,
    rooms: String,
    bridges: String,
    gateways: String,
    recorders: String,
    sip: String,
    nodes: Vec<String>,
}

impl Site {
    fn of(settings: &FocusSettings) -> Self {
        let room = |jid: &Option<BareJid>| jid.as_ref().map(ToString::to_string).unwrap_or_default();
        let xmpp = &settings.xmpp;
        let account = match &xmpp.resource {
            Some(resource) => format!("{}/{resource}", xmpp.jid),
            None => xmpp.jid.to_string(),
        };
        let nodes = settings.visitors.iter().flat_map(|visitors| &visitors.nodes);
        let nodes = nodes.map(|node| format!("{} {} {}", node.name, node.service, node.xmpp.jid)).collect();
        Self {
            server: format!("{}:{}", xmpp.host, xmpp.port),
            account,
            rooms: settings.conference_muc.to_string(),
            bridges: settings.brewery.to_string(),
            gateways: room(&settings.jigasi_brewery),
            recorders: room(&settings.recording.brewery),
            sip: room(&settings.recording.sip_brewery),
            nodes,
        }
    }

    fn check(self, here: Self) -> Result<(), FocusStateError> {
        let Self { server, account, rooms, bridges, gateways, recorders, sip, nodes } = self;
        let all = [
            ("xmpp.host or xmpp.port", server, here.server),
            ("focus.jid", account, here.account),
            ("focus.conference-muc", rooms, here.rooms),
            ("brewery", bridges, here.bridges),
            ("focus.jigasi.brewery", gateways, here.gateways),
            ("focus.jibri.brewery", recorders, here.recorders),
            ("focus.jibri.sip-brewery", sip, here.sip),
            ("focus.visitors.nodes", nodes.join(", "), here.nodes.join(", ")),
        ];
        match all.into_iter().find(|(_, there, here)| there != here) {
            Some((name, there, here)) => Err(FocusStateError::Setting { name, there, here }),
            None => Ok(()),
        }
    }
}

/// What is written of a [`Focus`], in its order.
#[derive(Deserialize)]
struct FocusState {
    shared: SharedState,
    conferences: BTreeMap<BareJid, Conference>,
    brewery: Pool,
    #[serde(with = "crate::carried")]
    lost: BTreeMap<String, Instant>,
    #[serde(with = "crate::carried")]
    redistribution_due: Option<Instant>,
    #[serde(with = "crate::carried")]
    relieved: BTreeMap<String, Instant>,
    recording: Recording,
    dial: Dial,
    refused_lines: Quiet,
    message_lines: Quiet,
    #[serde(with = "crate::carried")]
    server_asked: Option<Instant>,
    returning: FormerRooms,
    was_online: bool,
    new_rooms: Buckets<Jid>,
    #[serde(with = "crate::carried")]
    forget_at: Option<Instant>,
    asks: Buckets<Jid>,
    mutes: Buckets<Jid>,
}

/// What is written of what conferences [share](Shared), in its order.
#[derive(Deserialize)]
struct SharedState {
    logins: Logins,
    jid: String,
    online: bool,
    server_slow: bool,
    #[serde(with = "crate::carried")]
    server_slow_at: Option<Instant>,
    bridges: Bridges,
    orphans: Vec<Orphan>,
    caps: Caps,
    arrivals: u64,
    invites: u64,
    totals: Totals,
    ice_restarts: IceRestarts,
    refused: Refusals,
    meeting_lines: Quiet,
    jingle_lines: Quiet,
    invite_rate: Buckets<(BareJid, String)>,
    meeting_ids: BTreeMap<String, BareJid>,
    breakouts: Breakouts,
    components: Components,
    pins: Pins,
    visitor_nodes: Nodes,
    requests: Requests,
}

impl Focus {
    /// Everything that another process needs to go on as this focus. All that [`Self::poll_output`] has is sent before.
    pub fn export(&self, now: Instant) -> Result<Zeroizing<Vec<u8>>, FocusStateError> {
        if self.shared.requests.has_output() {
            return Err(FocusStateError::Unsent);
        }
        Ok(carried::write(now, &(Site::of(&self.shared.settings), self))?)
    }

    /// A focus that goes on where another process was. Nothing of what that wrote is believed before it was looked through.
    pub fn import(now: Instant, settings: FocusSettings, state: &[u8]) -> Result<Self, FocusStateError> {
        let here = Site::of(&settings);
        let mut focus = Self::new(settings).map_err(|error| contradiction(error.to_string()))?;
        let (site, state): (Site, FocusState) = carried::read(now, state)?;
        site.check(here)?;
        focus.take_over(state)?;
        focus.check()?;
        Ok(focus)
    }

    fn take_over(&mut self, state: FocusState) -> Result<(), FocusStateError> {
        let Self {
            trust: _,
            shared,
            conferences,
            brewery,
            lost,
            redistribution_due,
            relieved,
            recording,
            dial,
            refused_lines,
            message_lines,
            server_asked,
            returning,
            was_online,
            new_rooms,
            forget_at,
            asks,
            mutes,
        } = self;
        shared.take_over(state.shared)?;
        *conferences = state.conferences;
        for conference in conferences.values_mut() {
            conference.adopt(shared.settings.sources.limits);
        }
        brewery.go_on_with(state.brewery)?;
        (*lost, *relieved) = (state.lost, state.relieved);
        *redistribution_due = state.redistribution_due;
        recording.go_on_with(state.recording)?;
        dial.go_on_with(state.dial)?;
        (*refused_lines, *message_lines) = (state.refused_lines, state.message_lines);
        *server_asked = state.server_asked;
        *returning = state.returning;
        *was_online = state.was_online;
        *forget_at = state.forget_at;
        new_rooms.go_on_with(state.new_rooms);
        asks.go_on_with(state.asks);
        mutes.go_on_with(state.mutes);
        Ok(())
    }
}

impl Shared {
    fn take_over(&mut self, state: SharedState) -> Result<(), FocusStateError> {
        let Self {
            settings: _,
            helpers: _,
            logins,
            jid,
            online,
            server_slow,
            server_slow_at,
            bridges,
            orphans,
            caps,
            arrivals,
            invites,
            totals,
            ice_restarts,
            refused,
            meeting_lines,
            jingle_lines,
            invite_rate,
            meeting_ids,
            breakouts,
            components,
            pins,
            visitor_nodes,
            requests,
        } = self;
        logins.go_on_with(state.logins);
        *jid = state.jid;
        *online = state.online;
        (*server_slow, *server_slow_at) = (state.server_slow, state.server_slow_at);
        bridges.go_on_with(state.bridges);
        *orphans = state.orphans;
        *caps = state.caps;
        (*arrivals, *invites) = (state.arrivals, state.invites);
        *totals = state.totals;
        *ice_restarts = state.ice_restarts;
        *refused = state.refused;
        (*meeting_lines, *jingle_lines) = (state.meeting_lines, state.jingle_lines);
        invite_rate.go_on_with(state.invite_rate);
        *meeting_ids = state.meeting_ids;
        *breakouts = state.breakouts;
        *components = state.components;
        *pins = state.pins;
        visitor_nodes.go_on_with(state.visitor_nodes)?;
        requests.go_on_with(state.requests);
        Ok(())
    }
}
