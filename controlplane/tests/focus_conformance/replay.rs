//! Our focus in the place of the recorded Jicofo: whatever reached Jicofo reaches it at the same time, and what it asks is
//! answered as Jicofo was.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ringbridge_controlplane::focus::{Focus, Input};
use serde_json::Value;
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::{Element, rxml};
use xmpp_parsers::iq::Iq;
use xmpp_parsers::message::Message;
use xmpp_parsers::presence::Presence;

use super::focus_world::{BREWERY, FOCUS, settings};
use super::normal::{Said, nick, said};
use super::recording::{Recording, is_answer, is_request, payload};

/// What a client can do, by the hash of its presence, from all recordings.
pub type Features = BTreeMap<String, Element>;

/// What came of a replay.
pub struct Outcome {
    pub ours: Vec<Said>,
    pub theirs: Vec<Said>,
    /// Stanzas of clients that mean nothing to us: of sessions that we did not begin.
    pub lost: Vec<String>,
    /// Our statistics at the moments of which the recording has Jicofo's.
    pub stats: Vec<(String, Value)>,
}

struct Replay<'a> {
    recording: &'a Recording,
    features: &'a Features,
    focus: Focus,
    start: Instant,
    now: f64,
    /// Ids of Jicofo's requests by what they ask, in their order.
    asked: BTreeMap<String, VecDeque<String>>,
    /// Our ids by Jicofo's, for answers that are still to come.
    waiting: BTreeMap<String, String>,
    /// Our ids of session and bridge session by Jicofo's.
    sessions: BTreeMap<String, String>,
    /// Session ids of ours by client, that have none of Jicofo's yet, and the other way round.
    ours_open: BTreeMap<String, VecDeque<(String, String)>>,
    theirs_open: BTreeMap<String, VecDeque<(String, String)>>,
    bridge_lives: bool,
    inputs: VecDeque<Element>,
    /// What each request of a client is about.
    about: BTreeMap<String, String>,
    outcome: Outcome,
}

/// What a request asks, so that ours and Jicofo's are found to be the same.
fn key(stanza: &Element) -> String {
    let to = stanza.attr("to").unwrap_or_default();
    let Some(payload) = payload(stanza) else { return String::new() };
    let detail = match payload.name() {
        "jingle" => payload.attr("action").unwrap_or_default().to_owned(),
        "conference-modify" => {
            let endpoints: Vec<String> = payload
                .children()
                .filter(|child| child.name() == "endpoint")
                .map(|e| {
                    let does = ["create", "expire"].into_iter().find(|name| e.attr(*name) == Some("true"));
                    format!("{} {}", does.unwrap_or("changes"), e.attr("id").unwrap_or_default())
                })
                .collect();
            format!("{} {}", payload.attr("expire").unwrap_or_default(), endpoints.join(" "))
        }
        "query" if payload.ns().ends_with("#owner") => format!("form {}", payload.children().count()),
        _ => String::new(),
    };
    format!("{to} {} {} {detail}", payload.name(), payload.ns())
}

/// The id of a session and that of its bridge session.
fn session_ids(stanza: &Element) -> Option<(String, String)> {
    let jingle = payload(stanza).filter(|payload| payload.name() == "jingle")?;
    (jingle.attr("action") == Some("session-initiate")).then_some(())?;
    let bridge_session = jingle.children().find(|child| child.name() == "bridge-session")?;
    Some((jingle.attr("sid")?.to_owned(), bridge_session.attr("id")?.to_owned()))
}

/// Plays a whole recording.
pub fn play(recording: &Recording, features: &Features) -> Outcome {
    let mut asked: BTreeMap<String, VecDeque<String>> = BTreeMap::new();
    let mut about = BTreeMap::new();
    for line in recording.lines.iter().filter(|line| is_request(&line.stanza)) {
        let id = line.stanza.attr("id").unwrap_or_default().to_owned();
        if line.sent {
            asked.entry(key(&line.stanza)).or_default().push_back(id);
        } else if let Some(payload) = payload(&line.stanza) {
            let action = payload.attr("action").map(|action| format!(" {action}")).unwrap_or_default();
            about.insert(id, format!("answer to {}{action}", payload.name()));
        }
    }
    let outcome = Outcome { ours: Vec::new(), theirs: Vec::new(), lost: Vec::new(), stats: Vec::new() };
    let mut replay = Replay {
        recording,
        features,
        focus: Focus::new(settings()).expect("settings"),
        start: Instant::now(),
        now: 0.0,
        asked,
        waiting: BTreeMap::new(),
        sessions: BTreeMap::new(),
        ours_open: BTreeMap::new(),
        theirs_open: BTreeMap::new(),
        bridge_lives: true,
        inputs: VecDeque::new(),
        about,
        outcome,
    };
    replay.run();
    replay.outcome
}

impl Replay<'_> {
    fn time(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.now)
    }

    fn run(&mut self) {
        self.focus.handle(self.start, Input::Online { resumed: false, jid: FOCUS.to_owned() });
        self.settle();
        let mut acts = self.recording.acts.iter().peekable();
        for line in &self.recording.lines {
            while let Some(act) = acts.next_if(|act| act.at <= line.at) {
                self.pass(act.at);
                self.act(&act.what);
            }
            self.pass(line.at);
            if line.sent {
                self.theirs(&line.stanza);
            } else {
                self.input(&line.stanza);
            }
        }
        for act in acts {
            self.pass(act.at);
            self.act(&act.what);
        }
    }

    fn act(&mut self, what: &str) {
        if what.contains("process killed") {
            self.bridge_lives = false;
        } else if what.contains("process started") {
            self.bridge_lives = true;
        }
        if let Some(name) = what.strip_prefix("snapshot") {
            self.outcome.stats.push((name.trim().to_owned(), self.focus.stats(self.time())));
        }
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, until: f64) {
        for _ in 0..100_000 {
            let due = self.focus.poll_timeout().map(|due| due.saturating_duration_since(self.start).as_secs_f64());
            match due.filter(|due| *due <= until) {
                Some(due) => {
                    // A hair later: what is due at a moment is due when it has passed.
                    self.now = self.now.max(due + 1e-6);
                    self.focus.handle_timeout(self.time());
                    self.settle();
                }
                None => {
                    self.now = self.now.max(until);
                    return;
                }
            }
        }
        panic!("timers do not advance");
    }

    /// Jicofo said something.
    fn theirs(&mut self, stanza: &Element) {
        if let Some(ids) = session_ids(stanza) {
            self.theirs_open.entry(stanza.attr("to").unwrap_or_default().to_owned()).or_default().push_back(ids);
            self.pair_sessions();
        }
        let brewery = stanza.attr("to").is_some_and(|to| to.starts_with(BREWERY)) && stanza.name() == "presence";
        if !brewery {
            self.outcome.theirs.extend(said(stanza, &self.about));
        }
    }

    fn pair_sessions(&mut self) {
        for (client, theirs) in &mut self.theirs_open {
            let Some(ours) = self.ours_open.get_mut(client) else { continue };
            while let (Some(_), Some(_)) = (theirs.front(), ours.front()) {
                let ((their_sid, their_bridge), (our_sid, our_bridge)) =
                    (theirs.pop_front().expect("seen"), ours.pop_front().expect("seen"));
                self.sessions.insert(their_sid, our_sid);
                self.sessions.insert(their_bridge, our_bridge);
            }
        }
    }

    /// Something reached Jicofo.
    fn input(&mut self, stanza: &Element) {
        let mut stanza = stanza.clone();
        if is_answer(&stanza) {
            let id = stanza.attr("id").unwrap_or_default();
            // Else it was given when the question came, or nobody asks.
            let Some(ours) = self.waiting.remove(id) else { return };
            set_id(&mut stanza, ours);
            return self.give(&stanza);
        }
        match self.translated(&stanza) {
            Some(stanza) => self.give(&stanza),
            None => {
                let about = self.about.get(stanza.attr("id").unwrap_or_default()).cloned().unwrap_or_default();
                self.outcome.lost.push(format!("{} {about}", nick(stanza.attr("from").unwrap_or_default())));
            }
        }
    }

    /// A client's stanza with our ids of its session; `None` when we have no such session.
    fn translated(&self, stanza: &Element) -> Option<Element> {
        let mut xml = String::from(stanza);
        let Some(jingle) = payload(stanza).filter(|payload| payload.name() == "jingle") else {
            return Some(stanza.clone());
        };
        let bridge_session = jingle.children().find(|child| child.name() == "bridge-session");
        let ids = [jingle.attr("sid"), bridge_session.and_then(|session| session.attr("id"))];
        for id in ids.into_iter().flatten() {
            xml = xml.replace(id, self.sessions.get(id)?);
        }
        Some(xml.parse().expect("the same with other ids"))
    }

    fn give(&mut self, stanza: &Element) {
        let stanza = match stanza.name() {
            "iq" => Stanza::Iq(Iq::try_from(stanza.clone()).expect("an IQ")),
            "presence" => Stanza::Presence(Presence::try_from(stanza.clone()).expect("a presence")),
            _ => Stanza::Message(Message::try_from(stanza.clone()).expect("a message")),
        };
        self.focus.handle(self.time(), Input::Stanza(Box::new(stanza)));
        self.settle();
    }

    /// Everything that our focus says is noted, and answered as Jicofo was.
    fn settle(&mut self) {
        while let Some((_, stanza)) = self.focus.poll_output() {
            let stanza: Element = match stanza {
                Stanza::Presence(presence) => presence.into(),
                Stanza::Iq(iq) => iq.into(),
                Stanza::Message(message) => message.into(),
            };
            self.ours(&stanza);
        }
        while let Some(input) = self.inputs.pop_front() {
            self.give(&input);
        }
    }

    fn ours(&mut self, stanza: &Element) {
        let to = stanza.attr("to").unwrap_or_default().to_owned();
        if stanza.name() == "presence" && to.starts_with(BREWERY) {
            return self.enter_brewery();
        }
        if let Some(ids) = session_ids(stanza) {
            self.ours_open.entry(to.clone()).or_default().push_back(ids);
            self.pair_sessions();
        }
        self.outcome.ours.extend(said(stanza, &self.about));
        if is_request(stanza) {
            self.answer(stanza);
        }
    }

    /// Jicofo was in the brewery before the recording began.
    fn enter_brewery(&mut self) {
        let xml = format!(
            "<presence xmlns='jabber:client' from='{BREWERY}/focus' to='{FOCUS}'><x xmlns='http://jabber.org/protocol/muc#user'>\
             <item role='moderator' affiliation='owner' jid='{FOCUS}'/><status code='110'/></x></presence>"
        );
        self.inputs.push_back(xml.parse().expect("well-formed"));
    }

    fn answer(&mut self, request: &Element) {
        let id = request.attr("id").unwrap_or_default().to_owned();
        let asked = self.asked.get_mut(&key(request)).and_then(VecDeque::pop_front);
        if let Some(theirs) = asked.filter(|_| !is_of_no_matter(request)) {
            match self.recording.answer(&theirs) {
                Some(line) if line.at <= self.now => {
                    let mut answer = line.stanza.clone();
                    set_id(&mut answer, id);
                    self.inputs.push_back(answer);
                }
                Some(_) => drop(self.waiting.insert(theirs, id)),
                // Nobody answered Jicofo either.
                None => {}
            }
            return;
        }
        let to = request.attr("to").unwrap_or_default();
        let Some(payload) = payload(request) else { return };
        let body = match payload.name() {
            _ if to.starts_with(BREWERY) && !self.bridge_lives => return,
            "query" if payload.ns().ends_with("#info") => {
                let ver = payload.attr("node").and_then(|node| node.rsplit_once('#')).map(|(_, ver)| ver);
                match ver.and_then(|ver| self.features.get(ver)) {
                    Some(features) => String::from(features),
                    None => "<query xmlns='http://jabber.org/protocol/disco#info'/>".to_owned(),
                }
            }
            "conference-modify" => "<conference-modified xmlns='jitsi:colibri2'/>".to_owned(),
            _ => String::new(),
        };
        let xml = format!("<iq xmlns='jabber:client' type='result' id='{id}' from='{to}' to='{FOCUS}'>{body}</iq>");
        self.inputs.push_back(xml.parse().expect("well-formed"));
    }
}

fn set_id(stanza: &mut Element, id: String) {
    stanza.set_attr(rxml::Namespace::NONE, rxml::xml_ncname!("id").to_owned(), id);
}

/// What both ask as often as they like.
fn is_of_no_matter(request: &Element) -> bool {
    payload(request).is_some_and(|payload| matches!(payload.name(), "healthcheck" | "ping"))
}
