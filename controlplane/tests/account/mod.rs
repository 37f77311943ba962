//! Somebody with an account at a real server: a Jibri, a recorder, a moderator.

#![allow(dead_code)] // Each test binary uses its own part.

use std::time::Duration;

use ringbridge_controlplane::xmpp::iq::Request;
use ringbridge_controlplane::xmpp::muc::MucRoom;
use ringbridge_controlplane::xmpp::{self, XmppEvent, XmppSender};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;

use crate::prosody::Prosody;

pub const ROOM: &str = "room@conference.meet.test";
pub const RECORDERS: &str = "jibribrewery@internal.auth.meet.test";
pub const JIBRI: &str = "http://jitsi.org/protocol/jibri";
const FOCUS: &str = "focus@auth.meet.test/focus";
const WAIT: Duration = Duration::from_secs(30);

/// What a Jibri says of itself in its brewery.
pub fn jibri_status(busy: &str) -> String {
    format!(
        "<jibri-status xmlns='{JIBRI}'><busy-status xmlns='{JIBRI}' status='{busy}'/>\
         <health-status xmlns='http://jitsi.org/protocol/health' status='healthy'/></jibri-status>"
    )
}

/// Somebody with an account, in one room.
pub struct Account {
    sender: XmppSender,
    events: mpsc::Receiver<XmppEvent>,
    pub room: MucRoom,
    /// Presences and IQs that came, in order.
    pub seen: Vec<Stanza>,
    next: u32,
    _stop: watch::Sender<bool>,
}

impl Account {
    pub async fn new(server: &Prosody, user: &str, room: &str, nick: &str) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (sender, events) = xmpp::connect(server.account(user, None), stopped);
        let room = MucRoom::new(&room.parse().unwrap(), nick).unwrap();
        let mut account = Self { sender, events, room, seen: Vec::new(), next: 0, _stop: stop };
        while !matches!(account.event().await, XmppEvent::Online { .. }) {}
        account
    }

    async fn event(&mut self) -> XmppEvent {
        timeout(WAIT, self.events.recv()).await.expect("an event in time").expect("a connection")
    }

    pub async fn step(&mut self) -> &Stanza {
        loop {
            if let XmppEvent::Stanza(stanza) = self.event().await {
                if let Stanza::Presence(presence) = &stanza {
                    self.room.handle(presence);
                }
                self.seen.push(stanza);
                return self.seen.last().unwrap();
            }
        }
    }

    pub async fn enter(&mut self, payloads: &str) {
        let all: Element = format!("<all xmlns='jabber:client'>{payloads}</all>").parse().unwrap();
        let join = self.room.join(all.children().cloned().collect());
        self.sender.send(join);
        while !self.room.is_joined() {
            self.step().await;
        }
    }

    /// Asks; the answer.
    pub async fn ask(&mut self, to: &str, payload: &str) -> Iq {
        self.next += 1;
        let id = format!("q{}", self.next);
        let payload = payload.parse().unwrap();
        self.sender.send(Iq::Set { from: None, to: Some(to.parse().unwrap()), id: id.clone(), payload });
        loop {
            if let Stanza::Iq(iq) = self.step().await
                && iq.id() == id
            {
                return iq.clone();
            }
        }
    }

    /// Until the focus is ready for the room.
    pub async fn ask_for_conference(&mut self) {
        let xml = format!("<conference xmlns='http://jitsi.org/protocol/focus' room='{ROOM}' machine-uid='1'/>");
        loop {
            match self.ask(FOCUS, &xml).await {
                Iq::Result { payload: Some(conference), .. } if conference.attr("ready") == Some("true") => return,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// The next `<jibri/>` request of an action, which is answered as a Jibri does.
    pub async fn ordered(&mut self, action: &str) -> Request {
        loop {
            if let Stanza::Iq(iq) = self.step().await
                && let Ok(request) = Request::from_iq(iq.clone())
                && request.payload.attr("action") == Some(action)
            {
                let status = if action == "start" { "pending" } else { "off" };
                let answer = format!("<jibri xmlns='{JIBRI}' status='{status}'/>").parse().ok();
                self.sender.send(request.result(answer));
                return request;
            }
        }
    }

    /// Until the focus says in the room that a recording is so; what it said before counts once.
    pub async fn until_recording_is(&mut self, status: &str) -> Element {
        let said = |stanza: &Stanza| match stanza {
            Stanza::Presence(presence) => {
                presence.payloads.iter().find(|p| p.name() == "jibri-recording-status").cloned()
            }
            _ => None,
        };
        loop {
            let found =
                std::mem::take(&mut self.seen).iter().filter_map(said).find(|s| s.attr("status") == Some(status));
            if let Some(found) = found {
                return found;
            }
            self.step().await;
        }
    }
}
