//! A small world for the focus, with a clock of its own: a MUC service, bridges and clients that answer by themselves,
//! each as the test wants it.

#![allow(dead_code)] // Each test binary uses its own part.

pub mod relays;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use ringbridge_controlplane::colibri::elements::{
    Candidate, ConferenceModified, ConferenceModify, Endpoint, Fingerprint, IceTransport, MediaSource, MediaType, Sctp,
    Setup, Source, SourceParameter, Sources, Transport, WebSocket,
};
use ringbridge_controlplane::focus::{Focus, FocusSettings, Input, NodeEvent, NodeId, VisitorNode, VisitorSettings};
use ringbridge_controlplane::jingle::{self, Content, Jingle, JingleGroup, JingleSource};
use ringbridge_controlplane::rest::{FocusAnswer, FocusAsk};
use ringbridge_controlplane::xmpp::{Security, XmppSettings};
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::message::Message;
use xmpp_parsers::presence::{Presence, Type};

pub const FOCUS: &str = "focus@auth.meet.test/focus";
pub const ROOM: &str = "room@conference.meet.test";
pub const BREWERY: &str = "jvbbrewery@internal.auth.meet.test";
use relays::Knowledge;

const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// Features of today's client, whose caps hash is [`HASH`].
pub const HEAD: &[&str] = &[
    "http://jabber.org/protocol/caps",
    "http://jitsi.org/json-encoded-sources",
    "http://jitsi.org/receive-multiple-video-streams",
    "http://jitsi.org/remb",
    "http://jitsi.org/source-name",
    "http://jitsi.org/start-muted-room-metadata",
    "http://jitsi.org/tcc",
    "http://jitsi.org/visitors-1",
    "urn:ietf:rfc:4588",
    "urn:xmpp:jingle:1",
    "urn:xmpp:jingle:apps:dtls:0",
    "urn:xmpp:jingle:apps:rtp:1",
    "urn:xmpp:jingle:apps:rtp:audio",
    "urn:xmpp:jingle:apps:rtp:video",
    "urn:xmpp:jingle:transports:dtls-sctp:1",
    "urn:xmpp:jingle:transports:ice-udp:1",
    "urn:xmpp:rayo:client:1",
];
/// As recorded in fixtures/three-party-vp8.
pub const HASH: &str = "dtzK/3xhISaXUMVg59IpXxdvKyQ=";

/// How a bridge answers requests.
#[derive(Clone, Default)]
pub enum Answers {
    #[default]
    Well,
    Nothing,
    /// Condition, and reason of colibri2.
    Error(&'static str, Option<&'static str>),
    /// A result without transports.
    NoTransport,
}

/// How a bridge answers a request to restart ICE, where it answers requests well.
#[derive(Clone, Copy, Default)]
pub enum Restart {
    /// Without a transport.
    #[default]
    Declined,
    /// With the transport as it is.
    Kept,
    /// With new credentials of this number.
    Begun(u32),
}

#[derive(Default)]
pub struct Bridge {
    pub answers: Answers,
    pub restart: Restart,
    pub health: Answers,
    pub requests: Vec<ConferenceModify>,
    /// Ids of their IQs.
    pub ids: Vec<String>,
    pub checks: usize,
    /// Conferences that it was asked to create and not to expire.
    pub meetings: BTreeSet<String>,
    /// Who is on it, and who is behind its relays.
    pub knows: Knowledge,
    /// How it answers requests about relays, where it answers others well.
    pub relays: Answers,
}

#[derive(Clone)]
pub struct Client {
    pub real: String,
    pub features: Vec<&'static str>,
    pub answers_disco: bool,
    pub hash: &'static str,
    pub asked: usize,
    /// Answer every offer with a session-accept.
    pub accepts: bool,
    /// Acknowledge what Jingle says; else the ids wait in `unanswered`.
    pub acknowledges: bool,
    pub unanswered: Vec<String>,
    /// First SSRC: audio; video are the six after it (three layers), and their names.
    pub ssrc: u32,
    pub named: bool,
    /// Everything that came by Jingle, in order.
    pub jingles: Vec<Jingle>,
    pub mutes: Vec<Element>,
    pub affiliation: &'static str,
    /// Only watches: has that role, and no sources.
    pub watches: bool,
    pub sid: String,
    pub bridge_session: String,
}

impl Client {
    /// How often it was invited.
    pub fn offers(&self) -> usize {
        self.jingles.iter().filter(|jingle| jingle.action == "session-initiate").count()
    }

    pub fn actions(&self) -> Vec<&str> {
        self.jingles.iter().map(|jingle| jingle.action.as_str()).collect()
    }

    pub fn last(&self, action: &str) -> &Jingle {
        let found = self.jingles.iter().rev().find(|jingle| jingle.action == action);
        found.unwrap_or_else(|| panic!("no {action} in {:?}", self.actions()))
    }
}

/// A recorder or gateway in a brewery of its own.
#[derive(Default)]
pub struct Instance {
    /// What its presence says.
    pub status: String,
    /// The account behind it.
    pub real: String,
    /// What it answers, whole IQs without id and addresses: `type='result'`, and what is inside; the last for ever, none for silence.
    pub answers: Vec<(&'static str, String)>,
    /// What it was asked, with the ids.
    pub asked: Vec<(String, Element)>,
}

impl Instance {
    /// What it was asked of that kind of action.
    pub fn actions(&self) -> Vec<&str> {
        self.asked.iter().map(|(_, payload)| payload.attr("action").unwrap_or(payload.name())).collect()
    }
}

pub struct World {
    pub focus: Focus,
    pub now: Instant,
    pub rooms: BTreeMap<String, bool>,
    pub refuses_joins: bool,
    /// The service does not answer joins of conferences.
    pub holds_joins: bool,
    /// Rooms show real addresses from the start.
    pub open_rooms: bool,
    /// What the service says about rooms, fields of a form; nothing for a service that does not answer.
    pub room_info: Option<BTreeMap<String, String>>,
    /// Components that the clients' host announces, type and address; nothing for a host that does not answer.
    pub components: Option<Vec<(&'static str, &'static str)>>,
    /// How often it was asked for them.
    pub components_asked: usize,
    /// Rooms that were configured.
    pub configured: usize,
    /// The server answers no pings.
    pub slow_server: bool,
    pub bridges: BTreeMap<String, Bridge>,
    pub clients: BTreeMap<(String, String), Client>,
    /// By address in their breweries.
    pub instances: BTreeMap<String, Instance>,
    /// What else clients say in their presence, by room and nickname.
    pub extras: BTreeMap<(String, String), String>,
    /// Answers to what was asked of the focus, by id.
    pub replies: BTreeMap<String, Element>,
    /// The focus's own presence in each room, latest last.
    pub presences: Vec<(String, Presence)>,
    pub admin: Vec<Element>,
    /// What was sent to the component of visitors, and whether it answers.
    pub component_requests: Vec<Element>,
    pub component_answers: bool,
    next: u32,
    settings: FocusSettings,
    /// What the focus has sent and nobody has answered.
    sent: VecDeque<Stanza>,
    /// Hand-overs so far.
    pub hand_overs: usize,
}

/// Set to anything, another process takes over from the focus after everything that happens to it: whatever a test says of one
/// process holds of many.
const HAND_OVER: &str = "RINGBRIDGE_TEST_HAND_OVER";

pub fn settings() -> FocusSettings {
    FocusSettings {
        xmpp: XmppSettings {
            host: "127.0.0.1".into(),
            port: 5222,
            jid: "focus@auth.meet.test".parse().unwrap(),
            password: String::new(),
            resource: Some("focus".into()),
            security: Security::Disabled,
            verify_certificate: true,
            ca_file: None,
            resumption: true,
        },
        brewery: BREWERY.parse().unwrap(),
        brewery_trusted: Vec::new(),
        conference_muc: "conference.meet.test".parse().unwrap(),
        breakout_muc: None,
        client_domain: None,
        rest_listen: "127.0.0.1:0".parse().unwrap(),
        min_participants: 2,
        single_participant_timeout: Duration::from_secs(20),
        initial_timeout: Duration::from_secs(15),
        sctp: false,
        ice_restart: true,
        max_conferences: 5_000,
        moderator_checks: true,
        trusted_domains: Vec::new(),
        auto_owner: true,
        login: None,
        client_proxy: None,
        ice_failure: None,
        sources: Default::default(),
        selection: Default::default(),
        load_redistribution: None,
        relay_sctp: true,
        state_directory: None,
        jigasi_brewery: None,
        recording: Default::default(),
        visitors: None,
    }
}

impl World {
    pub fn new() -> Self {
        Self::with(settings())
    }

    /// A call over one bridge.
    pub fn call(members: &[&str]) -> Self {
        let mut world = Self::new();
        world.add_bridge("jvb1", &[]);
        for member in members {
            world.join(ROOM, member, |_| {});
        }
        world
    }

    pub fn with(settings: FocusSettings) -> Self {
        Self::announcing(settings, Vec::new())
    }

    /// With components that the clients' host announces.
    pub fn announcing(settings: FocusSettings, components: Vec<(&'static str, &'static str)>) -> Self {
        let now = Instant::now();
        let mut world = Self {
            focus: Focus::new(settings.clone()).unwrap(),
            settings,
            sent: VecDeque::new(),
            hand_overs: 0,
            now,
            rooms: BTreeMap::new(),
            refuses_joins: false,
            holds_joins: false,
            open_rooms: false,
            room_info: Some(BTreeMap::new()),
            components: Some(components),
            components_asked: 0,
            configured: 0,
            slow_server: false,
            bridges: BTreeMap::new(),
            clients: BTreeMap::new(),
            instances: BTreeMap::new(),
            extras: BTreeMap::new(),
            replies: BTreeMap::new(),
            presences: Vec::new(),
            admin: Vec::new(),
            component_requests: Vec::new(),
            component_answers: true,
            next: 0,
        };
        world.online(false);
        world
    }

    pub fn online(&mut self, resumed: bool) {
        self.focus.handle(self.now, Input::Online { resumed, jid: FOCUS.to_owned() });
        self.settle();
    }

    /// The focus is killed, and another process goes on; `resumed` says that the server kept its session meanwhile.
    pub fn next_process(&mut self, settings: FocusSettings, resumed: bool) {
        let left = self.focus.keep();
        self.settings = settings.clone();
        self.focus = Focus::new(settings).unwrap();
        self.focus.restore(&left).expect("what a focus keeps can be read");
        self.presences.clear();
        self.online(resumed);
    }

    /// Lets time pass, timer by timer.
    pub fn pass(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        for _ in 0..10_000 {
            match self.focus.poll_timeout().filter(|due| *due <= until) {
                Some(due) => {
                    self.now = self.now.max(due);
                    self.focus.handle_timeout(self.now);
                    self.settle();
                }
                None => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("timers do not advance");
    }

    /// Lets a moment pass, timer by timer.
    pub fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.focus.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.focus.handle_timeout(self.now);
            self.settle();
        }
        self.now = until;
    }

    /// Somebody is in the room who does nothing else; `first` asks for the conference.
    pub fn feed_member(&mut self, room: &str, nick: &str, first: bool) {
        if first {
            self.request_conference(room);
        }
        self.feed(&format!(
            "<presence xmlns='jabber:client' from='{room}/{nick}' to='{FOCUS}'>\
             <x xmlns='http://jabber.org/protocol/muc#user'><item role='participant' affiliation='none'/></x></presence>"
        ));
    }

    /// What the focus counted as refused, whatever the reason.
    pub fn refusals(&self) -> u64 {
        let stats = self.focus.stats(self.now);
        stats["refused"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
    }

    /// Gives the focus a stanza and carries out what follows.
    pub fn feed(&mut self, xml: &str) {
        self.take(stanza_of(xml));
    }

    /// The same with a stanza that was read before.
    pub fn take(&mut self, stanza: Stanza) {
        self.give_stanza(stanza);
        self.settle();
    }

    fn give(&mut self, xml: &str) {
        self.give_stanza(stanza_of(xml));
    }

    fn give_stanza(&mut self, stanza: Stanza) {
        let sender = match &stanza {
            Stanza::Message(message) => message.from.as_ref(),
            Stanza::Iq(iq) => iq.from(),
            Stanza::Presence(presence) => presence.from.as_ref(),
        };
        let from = sender.map(|from| from.domain().to_string()).unwrap_or_default();
        let input = match self.node_of(&from) {
            Some(node) => Input::Node(node, NodeEvent::Stanza(Box::new(stanza))),
            None => Input::Stanza(Box::new(stanza)),
        };
        self.focus.handle(self.now, input);
    }

    /// Everything that the focus sends is answered, until it is silent.
    pub fn settle(&mut self) {
        let handed_over = std::env::var_os(HAND_OVER).is_some();
        for _ in 0..10_000 {
            self.collect();
            if handed_over {
                self.hand_over();
            }
            let Some(stanza) = self.sent.pop_front() else { return };
            match stanza {
                Stanza::Presence(presence) => self.presence(presence),
                Stanza::Iq(iq) => self.iq(iq),
                Stanza::Message(message) => panic!("the focus sends no messages: {message:?}"),
            }
        }
        panic!("the focus does not become silent");
    }

    fn collect(&mut self) {
        self.sent.extend(std::iter::from_fn(|| self.focus.poll_output()).map(|(_, stanza)| stanza));
    }

    /// Another process takes over from the focus; nobody notices.
    pub fn hand_over(&mut self) {
        self.collect();
        let state = self.focus.export(self.now).expect("it can be written");
        let next = Focus::import(self.now, self.settings.clone(), &state).expect("it can be read");
        assert_eq!(next.poll_timeout(), self.focus.poll_timeout());
        assert_eq!((next.stats(self.now), next.debug()), (self.focus.stats(self.now), self.focus.debug()));
        assert!(next.export(self.now).expect("it can be written") == state, "something is lost");
        self.focus = next;
        self.hand_overs += 1;
    }

    fn presence(&mut self, presence: Presence) {
        let to = presence.to.clone().unwrap().to_string();
        let room = to.trim_end_matches("/focus").to_owned();
        if presence.type_ == Type::Unavailable {
            self.rooms.remove(&room);
            return;
        }
        let join = presence.payloads.iter().any(|p| p.is("x", "http://jabber.org/protocol/muc"));
        self.presences.push((room.clone(), presence));
        if !join {
            return;
        }
        if self.refuses_joins {
            self.give(&format!(
                "<presence xmlns='jabber:client' type='error' from='{to}' to='{FOCUS}'><error type='cancel'>\
                 <not-allowed xmlns='{STANZAS}'/></error></presence>"
            ));
            return;
        }
        self.rooms.insert(room.clone(), true);
        if self.holds_joins && room != BREWERY {
            return;
        }
        let others: Vec<String> = self.clients.keys().filter(|(r, _)| *r == room).map(|(_, n)| n.clone()).collect();
        for nick in others {
            let xml = self.client_presence(&room, &nick);
            self.give(&xml);
        }
        for jid in self.instances.keys().filter(|jid| jid.starts_with(&room)).cloned().collect::<Vec<_>>() {
            let xml = self.instance_presence(&jid);
            self.give(&xml);
        }
        if room == BREWERY {
            for nick in self.bridges.keys().cloned().collect::<Vec<_>>() {
                let xml = bridge_presence(&nick, &[]);
                self.give(&xml);
            }
        }
        let open = if self.open_rooms { "<status code='100'/>" } else { "" };
        self.give(&format!(
            "<presence xmlns='jabber:client' from='{to}' to='{FOCUS}'><x xmlns='http://jabber.org/protocol/muc#user'>\
             <item role='moderator' affiliation='owner' jid='{FOCUS}'/>{open}<status code='110'/></x></presence>"
        ));
    }

    fn iq(&mut self, iq: Iq) {
        let (id, to) = (iq.id().to_owned(), iq.to().map(ToString::to_string).unwrap_or_default());
        let (payload, set) = match iq {
            Iq::Set { payload, .. } => (payload, true),
            Iq::Get { payload, .. } => (payload, false),
            answer => {
                self.replies.insert(id, answer.into());
                return;
            }
        };
        if self.instances.contains_key(&to) {
            return self.instance_iq(&id, &to, payload);
        }
        if let Some(nick) = to.strip_prefix(&format!("{BREWERY}/")) {
            return self.bridge_iq(&id, &to, nick, payload);
        }
        match to.split_once('/') {
            None if to == "auth.meet.test" => {
                assert_eq!(payload.name(), "ping");
                if !self.slow_server {
                    self.give(&format!("<iq xmlns='jabber:client' type='result' id='{id}' from='{to}' to='{FOCUS}'/>"));
                }
            }
            None if to == "meet.test" => {
                assert!(
                    !set && payload.is("query", "http://jabber.org/protocol/disco#info"),
                    "a host is asked what it is"
                );
                self.components_asked += 1;
                let Some(components) = &self.components else { return };
                let identities: String = components
                    .iter()
                    .map(|(kind, name)| format!("<identity category='component' type='{kind}' name='{name}'/>"))
                    .collect();
                self.give(&format!(
                    "<iq xmlns='jabber:client' type='result' id='{id}' from='{to}' to='{FOCUS}'>\
                     <query xmlns='http://jabber.org/protocol/disco#info'>\
                     <identity category='server' type='im' name='Prosody'/>{identities}</query></iq>"
                ));
            }
            None if to == VISITORS_COMPONENT => {
                assert!(!set && payload.is("visitors", "jitsi:visitors"), "{payload:?}");
                self.component_requests.push(payload);
                if self.component_answers {
                    self.give(&format!("<iq xmlns='jabber:client' type='result' id='{id}' from='{to}' to='{FOCUS}'/>"));
                }
            }
            None if !set => {
                assert!(payload.is("query", "http://jabber.org/protocol/disco#info"), "a room is asked what it is");
                let Some(fields) = self.room_info.as_ref().map(|rooms| rooms.get(&to).cloned().unwrap_or_default())
                else {
                    return;
                };
                self.give(&format!(
                    "<iq xmlns='jabber:client' type='result' id='{id}' from='{to}' to='{FOCUS}'>\
                     <query xmlns='http://jabber.org/protocol/disco#info'><identity category='conference' type='text'/>\
                     <feature var='http://jabber.org/protocol/muc'/><x xmlns='jabber:x:data' type='result'>\
                     <field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/muc#roominfo</value></field>\
                     <field var='muc#roominfo_occupants'><value>1</value></field>{fields}</x></query></iq>"
                ));
            }
            None => {
                let result = format!("<iq xmlns='jabber:client' type='result' id='{id}' from='{to}' to='{FOCUS}'/>");
                if payload.ns() == "http://jabber.org/protocol/muc#admin" {
                    self.make_owner(&to, &payload);
                    self.admin.push(payload);
                } else {
                    self.configured += 1;
                }
                self.give(&result);
            }
            Some((room, nick)) => self.client_iq(&id, &to, room, nick, payload),
        }
    }

    fn instance_iq(&mut self, id: &str, to: &str, payload: Element) {
        let instance = self.instances.get_mut(to).expect("an instance");
        instance.asked.push((id.to_owned(), payload));
        let answer = match instance.answers.len() {
            0 => return,
            1 => instance.answers[0].clone(),
            _ => instance.answers.remove(0),
        };
        let (kind, inside) = answer;
        self.give(&format!("<iq xmlns='jabber:client' type='{kind}' id='{id}' from='{to}' to='{FOCUS}'>{inside}</iq>"));
    }

    fn instance_presence(&self, jid: &str) -> String {
        let instance = &self.instances[jid];
        format!(
            "<presence xmlns='jabber:client' from='{jid}' to='{FOCUS}'>{}<x xmlns='http://jabber.org/protocol/muc#user'>\
             <item role='participant' affiliation='none' jid='{}'/></x></presence>",
            instance.status, instance.real
        )
    }

    /// A recorder or gateway comes, or says something new.
    pub fn instance(&mut self, jid: &str, real: &str, status: &str) -> &mut Instance {
        let instance = self.instances.entry(jid.to_owned()).or_default();
        (instance.real, instance.status) = (real.to_owned(), status.to_owned());
        let xml = self.instance_presence(jid);
        self.feed(&xml);
        self.instances.get_mut(jid).expect("an instance")
    }

    /// A recorder or gateway is gone.
    pub fn lose_instance(&mut self, jid: &str) -> Instance {
        let instance = self.instances.remove(jid).expect("an instance");
        self.feed(&format!("<presence xmlns='jabber:client' type='unavailable' from='{jid}' to='{FOCUS}'/>"));
        instance
    }

    /// What our presence in a room says under that name, all of it.
    pub fn said(&self, room: &str, name: &str) -> Vec<Element> {
        let latest = self.presences.iter().rev().find(|(r, _)| r == room).expect("a presence");
        latest.1.payloads.iter().filter(|payload| payload.name() == name).cloned().collect()
    }

    fn make_owner(&mut self, room: &str, query: &Element) {
        let jid = query.children().next().and_then(|item| item.attr("jid"));
        let Some(jid) = jid.map(str::to_owned) else { return };
        let of = |client: &Client| client.real.split('/').next() == Some(&jid);
        let nicks: Vec<String> =
            self.clients.iter().filter(|((r, _), c)| r == room && of(c)).map(|((_, n), _)| n.clone()).collect();
        for nick in nicks {
            self.client(room, &nick).affiliation = "owner";
            let xml = self.client_presence(room, &nick);
            self.give(&xml);
        }
    }

    fn bridge_iq(&mut self, id: &str, to: &str, nick: &str, payload: Element) {
        let Some(bridge) = self.bridges.get_mut(nick) else {
            return self.give(&error_iq(id, to, "item-not-found", None));
        };
        if payload.name() == "healthcheck" {
            bridge.checks += 1;
            match bridge.health.clone() {
                Answers::Nothing => {}
                Answers::Error(condition, reason) => self.give(&error_iq(id, to, condition, reason)),
                _ => {
                    self.give(&format!("<iq xmlns='jabber:client' type='result' id='{id}' from='{to}' to='{FOCUS}'/>"))
                }
            }
            return;
        }
        let request = ConferenceModify::try_from(payload).expect("a colibri2 request");
        bridge.requests.push(request.clone());
        bridge.ids.push(id.to_owned());
        if request.create {
            bridge.meetings.insert(request.meeting_id.clone());
        } else if request.expire {
            bridge.meetings.remove(&request.meeting_id);
        } else if !bridge.meetings.contains(&request.meeting_id) {
            return self.give(&error_iq(id, to, "item-not-found", Some("CONFERENCE_NOT_FOUND")));
        }
        let answers = match (&bridge.answers, request.relays.iter().any(|relay| !relay.expire)) {
            (Answers::Well, true) => bridge.relays.clone(),
            (answers, _) => answers.clone(),
        };
        if matches!(answers, Answers::Well)
            && let Err(condition) = bridge.knows.apply(&request)
        {
            return self.give(&error_iq(id, to, condition, None));
        }
        match answers {
            Answers::Nothing => {}
            Answers::Error(condition, reason) => self.give(&error_iq(id, to, condition, reason)),
            answers => {
                let mut answer = modified(&request, nick, matches!(answers, Answers::Well));
                let asks = |e: &&Endpoint| !e.create && e.transport.as_ref().is_some_and(|t| t.ice_restart);
                answer
                    .endpoints
                    .extend(request.endpoints.iter().find(asks).map(|e| restarted(&e.id, nick, bridge.restart)));
                let xml = String::from(&Element::from(answer));
                self.give(&format!(
                    "<iq xmlns='jabber:client' type='result' id='{id}' from='{to}' to='{FOCUS}'>{xml}</iq>"
                ));
            }
        }
    }

    fn client_iq(&mut self, id: &str, to: &str, room: &str, nick: &str, payload: Element) {
        let key = (room.to_owned(), nick.to_owned());
        let from = escape(to);
        let Some(client) = self.clients.get_mut(&key) else {
            return self.give(&error_iq(id, to, "item-not-found", None));
        };
        if payload.name() == "query" {
            client.asked += 1;
            let features: String = client.features.iter().map(|f| format!("<feature var='{f}'/>")).collect();
            if client.answers_disco {
                self.give(&format!(
                    "<iq xmlns='jabber:client' type='result' id='{id}' from='{from}' to='{FOCUS}'>\
                     <query xmlns='http://jabber.org/protocol/disco#info'>{features}</query></iq>"
                ));
            }
            return;
        }
        if payload.name() == "mute" {
            client.mutes.push(payload);
            return;
        }
        let jingle = Jingle::try_from(payload).expect("a Jingle element");
        client.jingles.push(jingle.clone());
        let accepts = client.accepts && jingle.action == "session-initiate";
        if jingle.action == "session-initiate" {
            client.sid.clone_from(&jingle.sid);
            client.bridge_session = jingle.bridge_session.clone().unwrap().id.unwrap();
        }
        match client.acknowledges {
            true => {
                self.give(&format!("<iq xmlns='jabber:client' type='result' id='{id}' from='{from}' to='{FOCUS}'/>"));
            }
            false => client.unanswered.push(id.to_owned()),
        }
        if accepts {
            let accept = self.accept_of(room, nick);
            let xml = self.jingle_iq(room, nick, accept).0;
            self.give(&xml);
        }
    }

    /// The client acknowledges everything that it did not yet.
    pub fn acknowledge(&mut self, room: &str, nick: &str) {
        for id in std::mem::take(&mut self.client(room, nick).unanswered) {
            self.feed(&format!(
                "<iq xmlns='jabber:client' type='result' id='{id}' from='{room}/{}' to='{FOCUS}'/>",
                escape(nick)
            ));
        }
    }

    pub fn client(&mut self, room: &str, nick: &str) -> &mut Client {
        self.clients.get_mut(&(room.to_owned(), nick.to_owned())).expect("a client")
    }

    pub fn bridge(&mut self, nick: &str) -> &mut Bridge {
        self.bridges.get_mut(nick).expect("a bridge")
    }

    /// A session-accept of the last offer with one audio and one simulcast video source.
    pub fn accept_of(&mut self, room: &str, nick: &str) -> Jingle {
        let client = self.client(room, nick).clone();
        let mut accept = client.last("session-initiate").clone();
        accept.action = "session-accept".into();
        (accept.json_message, accept.bridge_session, accept.start_muted) = (None, None, None);
        let transport = jingle::Transport {
            ufrag: Some(format!("u{nick}")),
            pwd: Some("p".into()),
            fingerprints: vec![fingerprint(Setup::Active)],
            ..Default::default()
        };
        for content in &mut accept.contents {
            content.transport = Some(transport.clone());
            let description = content.description.as_mut().unwrap();
            (description.sources, description.ssrc_groups) = match description.media.as_deref() {
                _ if client.watches => Default::default(),
                Some("audio") => (vec![source(nick, client.ssrc, "audio", client.named)], Vec::new()),
                Some("video") => video_sources(nick, client.ssrc + 1, client.named),
                _ => Default::default(),
            };
        }
        accept
    }

    fn jingle_iq(&mut self, room: &str, nick: &str, jingle: Jingle) -> (String, String) {
        self.next += 1;
        let id = format!("c{}", self.next);
        let xml = String::from(&Element::from(jingle));
        (
            format!(
                "<iq xmlns='jabber:client' type='set' id='{id}' from='{room}/{}' to='{FOCUS}'>{xml}</iq>",
                escape(nick)
            ),
            id,
        )
    }

    /// A client sends a Jingle element; returns the condition of the error, or nothing.
    pub fn jingle(&mut self, room: &str, nick: &str, jingle: Jingle) -> Option<String> {
        self.jingle_unless_dropped(room, nick, jingle).expect("an answer")
    }

    /// The same for one that may get no answer at all.
    pub fn jingle_unless_dropped(&mut self, room: &str, nick: &str, jingle: Jingle) -> Option<Option<String>> {
        let (xml, id) = self.jingle_iq(room, nick, jingle);
        self.feed(&xml);
        self.replies.get(&id).map(condition)
    }

    /// Any IQ from a full address; the answer.
    /// An operator's request and its answer.
    pub fn operate(&mut self, ask: FocusAsk) -> FocusAnswer {
        let answer = self.focus.operate(self.now, SystemTime::UNIX_EPOCH, ask);
        self.settle();
        answer
    }

    pub fn ask(&mut self, from: &str, kind: &str, payload: &str) -> Option<Element> {
        self.next += 1;
        let id = format!("a{}", self.next);
        self.feed(&format!(
            "<iq xmlns='jabber:client' type='{kind}' id='{id}' from='{from}' to='{FOCUS}'>{payload}</iq>"
        ));
        self.replies.get(&id).cloned()
    }

    pub fn request_conference(&mut self, room: &str) -> Option<Element> {
        let payload = format!(
            "<conference xmlns='http://jitsi.org/protocol/focus' room='{room}' machine-uid='1'>\
             <property name='startAudioMuted' value='2'/><property name='disableRtx' value='false'/></conference>"
        );
        self.ask("3f2a@meet.test/web", "set", &payload)
    }

    /// A client asks for the conference and enters the room.
    pub fn join(&mut self, room: &str, nick: &str, change: impl FnOnce(&mut Client)) {
        let answer = self.request_conference(room).expect("an answer");
        let conference = answer.children().next().unwrap_or_else(|| panic!("{}", String::from(&answer)));
        assert_eq!(conference.attr("ready"), Some("true"));
        assert_eq!(conference.attr("focusjid"), Some("focus@auth.meet.test"));
        self.enter(room, nick, change);
    }

    /// A client enters a room.
    pub fn enter(&mut self, room: &str, nick: &str, change: impl FnOnce(&mut Client)) {
        self.next += 100;
        let mut client = Client {
            real: format!("u{}@meet.test/web", self.next),
            features: HEAD.to_vec(),
            answers_disco: true,
            hash: HASH,
            asked: 0,
            accepts: true,
            acknowledges: true,
            unanswered: Vec::new(),
            ssrc: 1_000 + self.next * 10,
            named: true,
            jingles: Vec::new(),
            mutes: Vec::new(),
            affiliation: "none",
            watches: false,
            sid: String::new(),
            bridge_session: String::new(),
        };
        change(&mut client);
        self.clients.insert((room.to_owned(), nick.to_owned()), client);
        let xml = self.client_presence(room, nick);
        self.feed(&xml);
    }

    /// What a client says in the room, as things are now.
    pub fn presence_of(&self, room: &str, nick: &str) -> String {
        self.client_presence(room, nick)
    }

    fn client_presence(&self, room: &str, nick: &str) -> String {
        let client = &self.clients[&(room.to_owned(), nick.to_owned())];
        let role = match client.affiliation {
            _ if client.watches => "visitor",
            "owner" => "moderator",
            _ => "participant",
        };
        let extra = self.extras.get(&(room.to_owned(), nick.to_owned())).cloned().unwrap_or_default();
        let nick = escape(nick);
        let real = escape(&client.real);
        format!(
            "<presence xmlns='jabber:client' from='{room}/{nick}' to='{FOCUS}'><stats-id>stats-{nick}</stats-id>{extra}\
             <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://jitsi.org/jitsi-meet' ver='{}'/>\
             <x xmlns='http://jabber.org/protocol/muc#user'><item role='{role}' affiliation='{}' jid='{}'/></x></presence>",
            client.hash, client.affiliation, real
        )
    }

    /// The visitor node of a service.
    fn node_of(&self, domain: &str) -> Option<NodeId> {
        self.focus.visitor_nodes().find(|(_, node)| node.service.to_string() == domain).map(|(id, _)| id)
    }

    /// A visitor node comes or goes; `None` is gone, else whether its session survived.
    pub fn node(&mut self, name: &str, resumed: Option<bool>) {
        let (id, _) = self.focus.visitor_nodes().find(|(_, node)| node.name == name).expect("a node");
        let event = resumed.map_or(NodeEvent::Offline, |resumed| NodeEvent::Online { resumed });
        self.focus.handle(self.now, Input::Node(id, event));
        self.settle();
    }

    /// A stanza comes from a visitor node, whoever sent it.
    pub fn feed_from_node(&mut self, name: &str, xml: &str) {
        let (id, _) = self.focus.visitor_nodes().find(|(_, node)| node.name == name).expect("a node");
        self.focus.handle(self.now, Input::Node(id, NodeEvent::Stanza(Box::new(stanza_of(xml)))));
        self.settle();
    }

    /// A stanza comes from our own server, whoever sent it.
    pub fn feed_from_home(&mut self, xml: &str) {
        self.focus.handle(self.now, Input::Stanza(Box::new(stanza_of(xml))));
        self.settle();
    }

    /// A client that can be a visitor asks for a conference; the answer, if there is one yet.
    pub fn ask_to_visit(&mut self, from: &str, room: &str, more: &str, properties: &str) -> Option<Element> {
        let payload = format!(
            "<conference xmlns='http://jitsi.org/protocol/focus' room='{room}' machine-uid='1'{more}>\
             <property name='visitors-version' value='1'/>{properties}</conference>"
        );
        let answer = self.ask(from, "set", &payload)?;
        Some(answer.children().next().cloned().unwrap_or_else(|| panic!("{}", String::from(&answer))))
    }

    /// A visitor enters the visitors' room of [`ROOM`] on a node.
    pub fn visit(&mut self, node: &str, nick: &str, change: impl FnOnce(&mut Client)) {
        self.enter(&visitors_room(node), nick, |client| {
            client.watches = true;
            client.real = format!("{nick}@{node}.meet.test/web");
            change(client);
        });
    }

    /// A client leaves a room to enter another one of the same meeting.
    pub fn switch(&mut self, from: &str, to: &str, nick: &str) {
        let client = self.leave_with(from, nick, "<status>switch_room</status>");
        self.join(to, nick, |new| {
            new.ssrc = client.ssrc;
            new.real.clone_from(&client.real);
        });
    }

    pub fn leave(&mut self, room: &str, nick: &str) -> Client {
        self.leave_with(room, nick, "")
    }

    pub fn leave_with(&mut self, room: &str, nick: &str, status: &str) -> Client {
        let client = self.clients.remove(&(room.to_owned(), nick.to_owned())).expect("a client");
        self.feed(&format!(
            "<presence xmlns='jabber:client' type='unavailable' from='{room}/{nick}' to='{FOCUS}'>{status}\
             <x xmlns='http://jabber.org/protocol/muc#user'><item role='none' affiliation='none'/></x></presence>"
        ));
        client
    }

    pub fn add_bridge(&mut self, nick: &str, stats: &[(&str, &str)]) {
        self.bridges.entry(nick.to_owned()).or_default();
        self.feed(&bridge_presence(nick, stats));
    }

    pub fn kill_bridge(&mut self, nick: &str) -> Bridge {
        let bridge = self.bridges.remove(nick).expect("a bridge");
        self.feed(&format!(
            "<presence xmlns='jabber:client' type='unavailable' from='{BREWERY}/{nick}' to='{FOCUS}'/>"
        ));
        bridge
    }

    /// Whether the focus's presence in the room says that there is no bridge.
    pub fn says_no_bridge(&self, room: &str) -> bool {
        let latest = self.presences.iter().rev().find(|(r, _)| r == room).expect("a presence");
        latest.1.payloads.iter().any(|p| p.is("bridgeNotAvailable", "http://jitsi.org/protocol/focus"))
    }
}

/// The component that connects rooms with visitor nodes.
pub const VISITORS_COMPONENT: &str = "visitors.meet.test";

/// The visitors' room of [`ROOM`] on a node.
pub fn visitors_room(node: &str) -> String {
    format!("room@conference.{node}.meet.test")
}

/// A site with visitor nodes of these names.
pub fn visitors(nodes: &[&str], change: impl FnOnce(&mut VisitorSettings)) -> World {
    let mut world = visitors_with(nodes, change, |_| {});
    world.add_bridge("jvb1", &[]);
    world
}

/// The same without a bridge yet, with other settings too.
pub fn visitors_with(
    nodes: &[&str],
    change: impl FnOnce(&mut VisitorSettings),
    others: impl FnOnce(&mut FocusSettings),
) -> World {
    let node = |name: &&str| VisitorNode {
        name: (*name).to_owned(),
        service: format!("conference.{name}.meet.test").parse().unwrap(),
        xmpp: XmppSettings { jid: format!("focus@auth.{name}.meet.test").parse().unwrap(), ..settings().xmpp },
    };
    let mut visitors = VisitorSettings {
        max_participants: 3,
        max_per_node: 10,
        notification_interval: Duration::from_secs(15),
        join_latency: Duration::from_secs(60),
        broadcast: true,
        require_room_flag: false,
        live_room: false,
        nodes: nodes.iter().map(node).collect(),
    };
    change(&mut visitors);
    let mut settings = FocusSettings { visitors: Some(visitors), ..settings() };
    others(&mut settings);
    let mut world =
        World::announcing(settings, vec![("visitors", VISITORS_COMPONENT), ("room_metadata", "metadata.meet.test")]);
    for name in nodes {
        world.node(name, Some(false));
    }
    world
}

pub fn stanza_of(xml: &str) -> Stanza {
    let element: Element = xml.parse().unwrap_or_else(|error| panic!("{error}: {xml}"));
    match element.name() {
        "message" => Stanza::Message(Message::try_from(element).unwrap_or_else(|error| panic!("{error}: {xml}"))),
        "iq" => Stanza::Iq(Iq::try_from(element).unwrap_or_else(|error| panic!("{error}: {xml}"))),
        _ => Stanza::Presence(Presence::try_from(element).unwrap_or_else(|error| panic!("{error}: {xml}"))),
    }
}

/// For attributes and text.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}

pub fn condition(reply: &Element) -> Option<String> {
    let error = reply.children().find(|child| child.name() == "error")?;
    error.children().find(|c| c.ns() == STANZAS && c.name() != "text").map(|c| c.name().to_owned())
}

fn bridge_presence(nick: &str, stats: &[(&str, &str)]) -> String {
    let mut all = vec![("drain", "false"), ("version", "2.3"), ("stress_level", "0.1")];
    all.extend(stats);
    let unique: BTreeMap<&str, &str> = all.into_iter().collect();
    let stats: String = unique.iter().map(|(name, value)| format!("<stat name='{name}' value='{value}'/>")).collect();
    format!(
        "<presence xmlns='jabber:client' from='{BREWERY}/{nick}' to='{FOCUS}'>\
         <stats xmlns='http://jitsi.org/protocol/colibri'>{stats}</stats>\
         <x xmlns='http://jabber.org/protocol/muc#user'><item role='participant' affiliation='none' jid='jvb@auth.meet.test/{nick}'/></x>\
         </presence>"
    )
}

fn error_iq(id: &str, from: &str, condition: &str, reason: Option<&str>) -> String {
    let from = escape(from);
    let reason = reason.map(|reason| format!("<error xmlns='jitsi:colibri2' reason='{reason}'/>")).unwrap_or_default();
    format!(
        "<iq xmlns='jabber:client' type='error' id='{id}' from='{from}' to='{FOCUS}'><error type='cancel'>\
         <{condition} xmlns='{STANZAS}'/>{reason}</error></iq>"
    )
}

fn fingerprint(setup: Setup) -> Fingerprint {
    Fingerprint { hash: "sha-256".into(), setup: Some(setup), value: "AB:CD".into() }
}

fn restarted(id: &str, nick: &str, restart: Restart) -> Endpoint {
    let (ufrag, ice_generation) = match restart {
        Restart::Declined => return Endpoint::new(id),
        Restart::Kept => (format!("{nick}{id}"), None),
        Restart::Begun(generation) => (format!("{nick}{id}-{generation}"), Some(generation)),
    };
    let ice = IceTransport {
        ufrag: Some(ufrag),
        pwd: Some("pwd".into()),
        ice_generation,
        rtcp_mux: true,
        fingerprints: vec![fingerprint(Setup::ActPass)],
        candidates: vec![Candidate { ip: "192.0.2.1".into(), port: 10_000, ..Candidate::default() }],
        web_sockets: vec![WebSocket::at(format!("wss://meet.test/colibri-ws/{nick}/x/{id}"))],
    };
    Endpoint { transport: Some(Transport { ice: Some(ice), ..Transport::default() }), ..Endpoint::new(id) }
}

fn modified(request: &ConferenceModify, nick: &str, transports: bool) -> ConferenceModified {
    let created: Vec<&Endpoint> = request.endpoints.iter().filter(|endpoint| endpoint.create).collect();
    let endpoints = created.iter().map(|endpoint| Endpoint {
        transport: transports.then(|| Transport {
            ice: Some(IceTransport {
                ufrag: Some(format!("{nick}{}", endpoint.id)),
                pwd: Some("pwd".into()),
                rtcp_mux: true,
                fingerprints: vec![fingerprint(Setup::ActPass)],
                web_sockets: vec![WebSocket::at(format!("wss://meet.test/colibri-ws/{nick}/x/{}", endpoint.id))],
                ..IceTransport::default()
            }),
            sctp: endpoint
                .transport
                .as_ref()
                .and_then(|t| t.sctp.clone())
                .map(|_| Sctp { port: Some(5000), role: None }),
            ..Transport::default()
        }),
        ..Endpoint::new(endpoint.id.clone())
    });
    let feedback = |media_type, id: &str, ssrc| MediaSource {
        media_type,
        id: id.to_owned(),
        synthetic: false,
        sources: vec![Source { ssrc, name: Some(id.to_owned()), ..Source::default() }],
        ssrc_groups: Vec::new(),
    };
    let sources = Sources {
        media_sources: vec![feedback(MediaType::Audio, "jvb-a0", 7), feedback(MediaType::Video, "jvb-v0", 8)],
    };
    ConferenceModified {
        endpoints: endpoints.collect(),
        relays: relays::answer(request, nick, transports),
        sources: (!created.is_empty()).then_some(sources),
    }
}

pub fn source(nick: &str, ssrc: u32, media: &str, named: bool) -> JingleSource {
    JingleSource {
        ssrc: Some(ssrc.to_string()),
        name: named.then(|| format!("{nick}-{}0", &media[..1])),
        video_type: None,
        parameters: vec![SourceParameter { name: "msid".into(), value: Some(format!("{nick}-{media}-0 track{ssrc}")) }],
        info: None,
    }
}

/// Three layers and their retransmissions, with one msid.
pub fn video_sources(nick: &str, first: u32, named: bool) -> (Vec<JingleSource>, Vec<JingleGroup>) {
    let msid = source(nick, first, "video", named).parameters;
    let sources =
        (first..first + 6).map(|s| JingleSource { parameters: msid.clone(), ..source(nick, s, "video", named) });
    let group = |semantics: &str, ssrcs: &[u32]| JingleGroup {
        semantics: Some(semantics.to_owned()),
        sources: ssrcs.iter().map(|s| JingleSource { ssrc: Some(s.to_string()), ..Default::default() }).collect(),
    };
    let f = first;
    let fids = [[f, f + 3], [f + 1, f + 4], [f + 2, f + 5]].map(|pair| group("FID", &pair));
    (sources.collect(), std::iter::once(group("SIM", &[f, f + 1, f + 2])).chain(fids).collect())
}

/// A content with sources only, for source-add.
pub fn content(media: &str, sources: Vec<JingleSource>) -> Content {
    Content {
        name: Some(media.to_owned()),
        description: Some(jingle::Description { media: Some(media.to_owned()), sources, ..Default::default() }),
        ..Default::default()
    }
}

/// Source names by owner, of the JSON of an offer or a source-add or -remove.
pub fn owners(jingle: &Jingle) -> BTreeMap<String, serde_json::Value> {
    let text = &jingle.json_message.as_ref().expect("JSON sources").text;
    let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
    json["sources"].as_object().expect("an object").iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}
