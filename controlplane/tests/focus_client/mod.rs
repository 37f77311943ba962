//! A client of the focus over a real server, as far as signalling goes: it accepts every offer, and has no media.

#![allow(dead_code)] // Each test binary uses its own part.

use std::time::Duration;

use ringbridge_controlplane::colibri::elements::{Fingerprint, Setup};
use ringbridge_controlplane::jingle::{self, Jingle};
use ringbridge_controlplane::xmpp::iq::Request;
use ringbridge_controlplane::xmpp::muc::{MucChange, MucRoom};
use ringbridge_controlplane::xmpp::{self, XmppEvent, XmppSender, XmppSettings};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::stanza_error::DefinedCondition;

use crate::focus_world::{HASH, HEAD, source, video_sources};
use crate::prosody::Prosody;

pub const ROOM: &str = "room@conference.meet.test";
pub const WAIT: Duration = Duration::from_secs(30);

/// A client with an account.
pub struct Client {
    pub nick: &'static str,
    ssrc: u32,
    pub sender: XmppSender,
    events: mpsc::Receiver<XmppEvent>,
    pub room: MucRoom,
    /// Everything that came by Jingle.
    pub jingles: Vec<Jingle>,
    /// Requests to mute itself.
    pub mutes: Vec<Element>,
    /// What components sent it.
    pub messages: Vec<serde_json::Value>,
    /// Conditions of errors that answered it, by id.
    pub errors: Vec<(String, DefinedCondition)>,
    pub moderator: bool,
    /// Has no sources.
    watches: bool,
    /// What it was answered that wanted to take part.
    pub promotions: Vec<Element>,
    /// How often it asked for a conference until it was let in.
    pub asked: usize,
    _stop: watch::Sender<bool>,
}

impl Client {
    /// Logs in, asks for the conference and enters the room.
    pub async fn join(server: &Prosody, nick: &'static str, ssrc: u32) -> Self {
        Self::join_as(server, "jvb2", nick, ssrc).await
    }

    /// The same with an account.
    pub async fn join_as(server: &Prosody, account: &str, nick: &'static str, ssrc: u32) -> Self {
        let mut client = Self::connect(server.account(account, None), nick, ssrc).await;
        client.enter(ROOM).await;
        client
    }

    /// A visitor on a node, in the room of [`ROOM`]'s visitors there.
    pub async fn visit(server: &Prosody, node: &str, account: &str, nick: &'static str) -> Self {
        let mut client = Self::connect(server.account_on(node, account, None), nick, 0).await;
        client.watches = true;
        client.room = MucRoom::new(&format!("room@conference.{node}.meet.test").parse().unwrap(), nick).unwrap();
        client.come_in(&format!("focus@auth.{node}.meet.test/focus")).await;
        client
    }

    async fn connect(account: XmppSettings, nick: &'static str, ssrc: u32) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (sender, events) = xmpp::connect(account, stopped);
        let room = MucRoom::new(&ROOM.parse().unwrap(), nick).unwrap();
        let (jingles, mutes, messages, errors, promotions) = Default::default();
        let (moderator, watches, asked, _stop) = (false, false, 0, stop);
        let mut client = Self {
            nick,
            ssrc,
            sender,
            events,
            room,
            jingles,
            mutes,
            messages,
            errors,
            moderator,
            watches,
            promotions,
            asked,
            _stop,
        };
        while !matches!(client.event().await, XmppEvent::Online { .. }) {}
        client
    }

    /// Asks to watch the conference; the answer.
    pub async fn ask_to_visit(&mut self) -> Element {
        let payload = format!(
            "<conference xmlns='http://jitsi.org/protocol/focus' room='{ROOM}' machine-uid='1'>\
             <property name='visitors-version' value='1'/><property name='visitor' value='true'/></conference>"
        );
        let to = Some("focus@auth.meet.test/focus".parse().unwrap());
        self.sender.send(Iq::Set { from: None, to, id: "visit".into(), payload: payload.parse().unwrap() });
        loop {
            if let XmppEvent::Stanza(Stanza::Iq(Iq::Result { id, payload: Some(answer), .. })) = self.event().await
                && id == "visit"
            {
                return answer;
            }
        }
    }

    /// Leaves its room for another one of the same meeting.
    pub async fn switch(&mut self, room: &str) {
        let mut presence = self.room.leave();
        presence.statuses.insert(String::new().into(), "switch_room".to_owned());
        self.sender.send(presence);
        self.enter(room).await;
    }

    /// Asks for a conference and enters its room.
    async fn enter(&mut self, room: &str) {
        self.room = MucRoom::new(&room.parse().unwrap(), self.nick).unwrap();
        self.ask_for(room).await;
        self.come_in("focus@auth.meet.test/focus").await;
    }

    /// Asks for a conference until it is ready: in a room already, after its focus left.
    pub async fn ask_for(&mut self, room: &str) {
        let client = self;
        loop {
            let payload =
                format!("<conference xmlns='http://jitsi.org/protocol/focus' room='{room}' machine-uid='1'/>");
            let to = Some("focus@auth.meet.test/focus".parse().unwrap());
            client.asked += 1;
            client.sender.send(Iq::Set { from: None, to, id: "conf".into(), payload: payload.parse().unwrap() });
            let answer = loop {
                if let XmppEvent::Stanza(Stanza::Iq(iq @ (Iq::Result { .. } | Iq::Error { .. }))) = client.event().await
                    && iq.id() == "conf"
                {
                    break iq;
                }
            };
            match answer {
                Iq::Result { payload: Some(conference), .. } if conference.attr("ready") == Some("true") => break,
                // The focus may still be on its way.
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// Enters its room, where the focus has that address.
    async fn come_in(&mut self, focus_jid: &str) {
        let client = self;
        let caps = format!(
            "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://jitsi.org/jitsi-meet' ver='{HASH}'/>"
        );
        let join = client.room.join(vec![caps.parse().unwrap()]);
        client.sender.send(join);
        while !client.room.is_joined() {
            client.step().await;
        }
        let focus = &client.room.occupants()["focus"];
        let real = focus.real_jid.as_ref().map(ToString::to_string);
        assert_eq!(real.as_deref(), Some(focus_jid), "clients know the focus by its real address");
    }

    pub async fn event(&mut self) -> XmppEvent {
        timeout(WAIT, self.events.recv()).await.expect("an event in time").expect("a connection")
    }

    /// One event, handled as a client does: discovery and Jingle are answered, offers are accepted.
    pub async fn step(&mut self) {
        match self.event().await {
            XmppEvent::Stanza(Stanza::Presence(presence)) => {
                let user = presence.payloads.iter().find(|p| p.is("x", "http://jabber.org/protocol/muc#user"));
                let role = user.and_then(|user| user.children().find_map(|item| item.attr("role")));
                let own =
                    presence.from.as_ref().and_then(|from| from.resource()).is_some_and(|r| r.as_str() == self.nick);
                self.moderator |= own && role == Some("moderator");
                assert!(!matches!(self.room.handle(&presence), Some(MucChange::Refused { .. })), "{presence:?}");
            }
            XmppEvent::Stanza(Stanza::Iq(iq)) => {
                if let Iq::Error { id, error, .. } = &iq {
                    self.errors.push((id.clone(), error.defined_condition.clone()));
                }
                let Ok(request) = Request::from_iq(iq) else { return };
                let features: String = HEAD.iter().map(|f| format!("<feature var='{f}'/>")).collect();
                if request.payload.name() == "query" {
                    let xml = format!("<query xmlns='http://jabber.org/protocol/disco#info'>{features}</query>");
                    self.sender.send(request.result(Some(xml.parse().unwrap())));
                    return;
                }
                self.sender.send(request.result(None));
                if request.payload.name() == "visitors" {
                    self.promotions.push(request.payload);
                    return;
                }
                if request.payload.name() == "mute" {
                    self.mutes.push(request.payload);
                    return;
                }
                let jingle = Jingle::try_from(request.payload.clone()).expect("Jingle");
                if jingle.action == "session-initiate" {
                    let payload = Element::from(self.accept(&jingle));
                    let id = format!("accept-{}", jingle.sid);
                    self.sender.send(Iq::Set { from: None, to: request.from.clone(), id, payload });
                }
                self.jingles.push(jingle);
            }
            XmppEvent::Stanza(Stanza::Message(message)) => {
                let json = message.payloads.iter().find(|payload| payload.name() == "json-message").map(Element::text);
                self.messages.extend(json.and_then(|text| serde_json::from_str(&text).ok()));
            }
            _ => {}
        }
    }

    fn accept(&self, offer: &Jingle) -> Jingle {
        let mut accept = Jingle { contents: offer.contents.clone(), ..Jingle::new("session-accept", &offer.sid) };
        let fingerprint = vec!["AB"; 32].join(":");
        for content in &mut accept.contents {
            content.transport = Some(jingle::Transport {
                ufrag: Some("abcd".into()),
                pwd: Some("0123456789012345678901".into()),
                fingerprints: vec![Fingerprint {
                    hash: "sha-256".into(),
                    setup: Some(Setup::Active),
                    value: fingerprint.clone(),
                }],
                ..Default::default()
            });
            let description = content.description.as_mut().unwrap();
            (description.sources, description.ssrc_groups) = match description.media.as_deref() {
                _ if self.watches => Default::default(),
                Some("audio") => (vec![source(self.nick, self.ssrc, "audio", true)], Vec::new()),
                _ => video_sources(self.nick, self.ssrc + 1, true),
            };
        }
        accept
    }

    pub fn count(&self, action: &str) -> usize {
        self.jingles.iter().filter(|jingle| jingle.action == action).count()
    }
}

/// Lets both act until something holds.
pub async fn until(a: &mut Client, b: &mut Client, what: &str, holds: impl Fn(&Client, &Client) -> bool) {
    let all = async {
        while !holds(a, b) {
            tokio::select! { () = a.step() => {}, () = b.step() => {} }
        }
    };
    timeout(WAIT, all).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
