//! The bridge's XMPP connections and, on each, the brewery rooms that it announces itself in (docs/protocol/bridge.md 2.1, 2.2).

use std::time::{Duration, Instant};

use jid::{BareJid, FullJid, Jid};
use serde::{Deserialize, Serialize};
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::presence::Presence;

use super::error::BridgeError;
use crate::brewery::{Brewery as Room, Standing, Trust};
use crate::pace::{Bucket, Quiet, Rate};
use crate::xmpp::iq::Request;
use crate::xmpp::muc::{MucChange, MucRoom, whois_anyone};
use crate::xmpp::{CarriedSession, XmppEvent, XmppSender, XmppSettings};

/// Wait before a brewery is joined again after a refusal or a kick.
const REJOIN: Duration = Duration::from_secs(5);

/// Refusals that are sent to those who do not count; beyond it they get no answer.
const REFUSALS: Rate = Rate { burst: 50, per_second: 10.0 };

/// One XMPP connection of a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XmppConnectionSettings {
    /// What logs call it.
    pub id: String,
    /// The account.
    pub xmpp: XmppSettings,
    /// Brewery rooms, e.g. `jvbbrewery@internal.auth.example.net`.
    pub breweries: Vec<BareJid>,
    /// Nickname there; unique among the bridges of a room.
    pub nickname: String,
    /// Whose requests are served: accounts and domains; none are all accounts of our own domain.
    pub trusted: Vec<BareJid>,
}

/// How long a connection that goes on with a session of another process may take before it counts as lost.
const RESUMING: Duration = Duration::from_secs(5);

/// What another process needs of the connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct XmppState {
    connections: Vec<ConnectionState>,
    disconnects: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ConnectionState {
    address: Address,
    session: Option<CarriedSession>,
    breweries: Vec<BreweryState>,
}

/// What a connection is known by in another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Address {
    host: String,
    port: u16,
    account: String,
    resource: Option<String>,
}

impl Address {
    fn of(settings: &XmppConnectionSettings) -> Self {
        let XmppSettings { host, port, jid, resource, .. } = &settings.xmpp;
        Self { host: host.clone(), port: *port, account: jid.to_string(), resource: resource.clone() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct BreweryState {
    room: String,
    nickname: String,
    joined: bool,
    /// Nicknames, and addresses where the room shows them.
    occupants: Vec<(String, Option<String>)>,
}

impl XmppState {
    /// The session that a connection goes on with.
    pub fn session(&self, settings: &XmppConnectionSettings) -> Option<CarriedSession> {
        self.of(&Address::of(settings))?.session.clone()
    }

    fn of(&self, address: &Address) -> Option<&ConnectionState> {
        self.connections.iter().find(|connection| connection.address == *address)
    }
}

/// A brewery room.
struct Brewery {
    room: Room,
    /// To be joined as soon as there is something to announce.
    due: bool,
    /// When it is to be joined again.
    rejoin: Option<Instant>,
    /// To be asked who is there.
    look: bool,
}

struct Connection {
    id: String,
    address: Address,
    /// Until when a session of another process may take to be resumed.
    resuming: Option<Instant>,
    sender: XmppSender,
    connected: bool,
    breweries: Vec<Brewery>,
}

/// All connections.
pub(super) struct XmppConnections {
    connections: Vec<Connection>,
    /// Times that a connection was lost.
    disconnects: u64,
    leaving: bool,
    /// Lines about requests of those who do not count.
    strangers: Quiet,
    refusals: Option<Bucket>,
}

impl XmppConnections {
    /// Takes the connections over, in the order of their settings.
    pub fn new(settings: &[XmppConnectionSettings], senders: Vec<XmppSender>) -> Result<Self, BridgeError> {
        let brewery = |settings: &XmppConnectionSettings, jid: &BareJid| {
            let nickname = &settings.nickname;
            let room = MucRoom::new(jid, nickname)
                .map_err(|source| BridgeError::Nickname { nickname: nickname.clone(), source })?;
            let trust = Trust::new(&settings.xmpp.jid, &settings.trusted);
            Ok(Brewery { room: Room::new(room, trust), due: false, rejoin: None, look: false })
        };
        let connections = settings.iter().zip(senders).map(|(settings, sender)| {
            let breweries = settings.breweries.iter().map(|jid| brewery(settings, jid));
            let breweries = breweries.collect::<Result<_, BridgeError>>()?;
            let (id, address) = (settings.id.clone(), Address::of(settings));
            Ok(Connection { id, address, resuming: None, sender, connected: false, breweries })
        });
        let connections = connections.collect::<Result<_, BridgeError>>()?;
        Ok(Self { connections, disconnects: 0, leaving: false, strangers: Quiet::default(), refusals: None })
    }

    /// Everybody's way to its server, with the name of the connection.
    pub fn senders(&self) -> Vec<(String, XmppSender)> {
        self.connections.iter().map(|connection| (connection.id.clone(), connection.sender.clone())).collect()
    }

    /// All stop reading; how many say when they have.
    pub async fn park(&self) -> usize {
        let mut parked = 0;
        for connection in &self.connections {
            parked += usize::from(connection.sender.park().await);
        }
        parked
    }

    /// All go on reading.
    pub async fn resume(&self) {
        for connection in &self.connections {
            connection.sender.resume().await;
        }
    }

    /// All end without a word: another process has their sessions.
    pub async fn abandon(&self) {
        for connection in &self.connections {
            connection.sender.abandon().await;
        }
    }

    /// What another process needs of them; `sessions` are in their order.
    pub fn state(&self, sessions: Vec<Option<CarriedSession>>) -> XmppState {
        // Of those who do not count, a process counts its own.
        let Self { connections, disconnects, leaving: _, strangers: _, refusals: _ } = self;
        let brewery = |brewery: &Brewery| {
            let Brewery { room, due: _, rejoin: _, look: _ } = brewery;
            let room = room.room();
            let real = |jid: &Option<FullJid>| jid.as_ref().map(ToString::to_string);
            let occupants = room.occupants().iter().map(|(nick, one)| (nick.clone(), real(&one.real_jid)));
            let mut occupants: Vec<_> = occupants.collect();
            occupants.sort_unstable();
            let (nickname, joined) = (room.nickname().to_owned(), room.is_joined());
            BreweryState { room: room.room().to_string(), nickname, joined, occupants }
        };
        let state = |(connection, session): (&Connection, Option<CarriedSession>)| {
            let Connection { id: _, resuming: _, sender: _, connected: _, address, breweries } = connection;
            let breweries = breweries.iter().map(brewery).collect();
            ConnectionState { address: address.clone(), session, breweries }
        };
        let sessions = sessions.into_iter().chain(std::iter::repeat(None));
        XmppState { connections: connections.iter().zip(sessions).map(state).collect(), disconnects: *disconnects }
    }

    /// Goes on where another process was. A connection whose session is resumed finds its rooms as they were; another one joins them.
    pub fn take_over(&mut self, now: Instant, state: XmppState) {
        for connection in &mut self.connections {
            let Some(before) = state.of(&connection.address).filter(|before| before.session.is_some()) else {
                continue;
            };
            connection.resuming = Some(now + RESUMING);
            for brewery in &mut connection.breweries {
                let room = brewery.room.room();
                let (name, nickname) = (room.room().to_string(), room.nickname().to_owned());
                let same = |before: &&BreweryState| before.room == name && before.nickname == nickname;
                let Some(before) = before.breweries.iter().find(same) else { continue };
                let occupants = before.occupants.iter();
                let real = |jid: &Option<String>| jid.as_ref().and_then(|jid| FullJid::new(jid).ok());
                brewery.room.take_over(before.joined, occupants.map(|(nick, jid)| (nick.clone(), real(jid))));
            }
        }
        self.disconnects = self.disconnects.saturating_add(state.disconnects);
    }

    /// Connections lost so far.
    pub fn disconnects(&self) -> u64 {
        self.disconnects
    }

    /// Takes what one connection reports; a request that it brought has to be answered there.
    pub fn handle(&mut self, now: Instant, index: usize, event: XmppEvent) -> Option<Request> {
        let connection = self.connections.get_mut(index)?;
        match event {
            XmppEvent::Online { resumed, .. } => {
                (connection.connected, connection.resuming) = (true, None);
                for brewery in &mut connection.breweries {
                    // A resumed session is still in the room.
                    brewery.due = !(resumed && brewery.room.room().is_joined());
                }
            }
            XmppEvent::Offline { .. } => {
                // Conferences and their media go on; whether the room still knows us shows when we are back.
                (connection.connected, connection.resuming) = (false, None);
                self.disconnects += 1;
                for brewery in &mut connection.breweries {
                    (brewery.due, brewery.rejoin) = (false, None);
                }
            }
            XmppEvent::Stanza(Stanza::Presence(presence)) => connection.presence(now, &presence, self.leaving),
            XmppEvent::Stanza(Stanza::Iq(iq)) => return Request::from_iq(iq).ok(),
            XmppEvent::Stanza(Stanza::Message(_)) | XmppEvent::Parked => {}
        }
        None
    }

    /// What the sender of a request is in a brewery room of that connection.
    pub fn standing(&mut self, now: Instant, index: usize, from: Option<&Jid>) -> Standing {
        let Some(from) = from else { return Standing::Absent };
        let room = from.to_bare();
        let breweries = self.connections.get(index).into_iter().flat_map(|connection| &connection.breweries);
        // Only a full address of the room is an occupant; the room itself has no business here.
        let occupant = from.resource().and_then(|nick| {
            let brewery = breweries.into_iter().find(|brewery| brewery.room.room().room() == room)?;
            Some(brewery.room.standing(nick.as_str()))
        });
        let standing = occupant.unwrap_or(Standing::Absent);
        // Who is not there at all is no news.
        if standing != Standing::Absent
            && let Some(remedy) = standing.remedy()
            && let Some(silenced) = self.strangers.speak(now)
        {
            tracing::warn!(%from, silenced, remedy, "request refused: its sender is not trusted in the brewery");
        }
        standing
    }

    /// Whether a sender that is not trusted is answered at all: an answer is work too.
    pub fn may_refuse(&mut self, now: Instant) -> bool {
        self.refusals.get_or_insert_with(|| Bucket::new(REFUSALS)).take(now, 1)
    }

    /// Sends an answer over the connection that brought the request.
    pub fn answer(&self, index: usize, iq: Iq) {
        if let Some(connection) = self.connections.get(index) {
            connection.sender.send(iq);
        }
    }

    /// Whether a room waits to be joined.
    pub fn join_due(&self) -> bool {
        self.connections
            .iter()
            .any(|connection| connection.connected && connection.breweries.iter().any(|b| b.due || b.look))
    }

    /// Joins the rooms that wait for it, and asks for everybody's presence again where that is due.
    pub fn join(&mut self, stats: &Element) {
        for connection in self.connections.iter_mut().filter(|connection| connection.connected) {
            for brewery in connection.breweries.iter_mut().filter(|brewery| brewery.due || brewery.look) {
                if !std::mem::take(&mut brewery.due) {
                    brewery.look = false;
                    tracing::debug!(room = %brewery.room.room().room(), "occupants asked for again: addresses are hidden");
                    connection.sender.send(brewery.room.room().look_again(vec![stats.clone()]));
                    continue;
                }
                connection.sender.send(brewery.room.join(vec![stats.clone()]));
            }
        }
    }

    /// Announces new statistics in every room that we are in.
    pub fn publish(&self, stats: &Element) {
        for connection in self.connections.iter().filter(|connection| connection.connected) {
            for brewery in connection.breweries.iter().filter(|brewery| brewery.room.room().is_joined()) {
                connection.sender.send(brewery.room.room().update(vec![stats.clone()]));
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let breweries = self.connections.iter().flat_map(|connection| &connection.breweries);
        breweries.flat_map(|brewery| [brewery.rejoin, brewery.room.poll_look()]).flatten().min()
    }

    /// Makes rooms due that are to be joined again, and asks those again that do not show who is there.
    pub fn handle_timeout(&mut self, now: Instant) {
        for brewery in self.connections.iter_mut().flat_map(|connection| &mut connection.breweries) {
            if brewery.rejoin.is_some_and(|at| at <= now) {
                (brewery.due, brewery.rejoin) = (true, None);
            }
            brewery.look |= brewery.room.take_look(now);
        }
    }

    /// Leaves all rooms, and none is joined again.
    pub fn leave(&mut self) {
        self.leaving = true;
        for connection in self.connections.iter_mut().filter(|connection| connection.connected) {
            for brewery in &mut connection.breweries {
                connection.sender.send(brewery.room.leave());
            }
        }
    }

    /// Connections: how many, and how many are up.
    pub fn connections(&self) -> (usize, usize) {
        (self.connections.len(), self.connections.iter().filter(|connection| connection.connected).count())
    }

    /// Whether a session of another process is about to be resumed.
    fn is_resuming(&self, now: Instant) -> bool {
        self.connections.iter().any(|connection| connection.resuming.is_some_and(|until| now < until))
    }

    /// Rooms: how many, and how many we are in.
    pub fn rooms(&self) -> (usize, usize) {
        let rooms =
            || self.connections.iter().flat_map(|connection| connection.breweries.iter().map(move |b| (connection, b)));
        (
            rooms().count(),
            rooms().filter(|(connection, brewery)| connection.connected && brewery.room.room().is_joined()).count(),
        )
    }

    /// What is wrong: without any connection nobody can give the bridge work.
    pub fn health(&self) -> Result<(), String> {
        match self.connections.iter().map(|connection| connection.id.as_str()).collect::<Vec<_>>().as_slice() {
            _ if self.connections().1 > 0 || self.is_resuming(Instant::now()) => Ok(()),
            [_] => Err("not connected to the XMPP server".to_owned()),
            all => Err(format!("not connected to any XMPP server ({})", all.join(", "))),
        }
    }
}

impl Connection {
    fn presence(&mut self, now: Instant, presence: &Presence, leaving: bool) {
        for brewery in &mut self.breweries {
            let Some(change) = brewery.room.handle(now, presence) else { continue };
            let room = brewery.room.room().room();
            match change {
                MucChange::Entered { created } => {
                    tracing::info!(%room, connection = %self.id, created, "brewery joined");
                    if created {
                        self.sender.send(whois_anyone(&room, "brewery-form"));
                    }
                }
                MucChange::Left if !leaving => {
                    tracing::warn!(%room, connection = %self.id, "removed from the brewery; joining again");
                    brewery.rejoin = Some(now + REJOIN);
                }
                MucChange::Refused { condition } => {
                    tracing::error!(%room, connection = %self.id, nickname = %brewery.room.room().nickname(), %condition,
                        "brewery not joined; a conflict means that another bridge has this nickname");
                    brewery.room.reset();
                    brewery.rejoin = Some(now + REJOIN);
                }
                _ => {}
            }
        }
    }
}
