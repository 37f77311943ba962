//! A scripted Jicofo in the brewery room, for the bridge `ringbridge-1`.

#![allow(dead_code)] // Each test binary uses its own part.

use std::time::Duration;

use jid::Jid;
use ringbridge_controlplane::colibri::elements::*;
use ringbridge_controlplane::xmpp::muc::MucRoom;
use ringbridge_controlplane::xmpp::{self, XmppEvent, XmppSender};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::presence::Presence;
use xmpp_parsers::stanza_error::DefinedCondition;

use crate::prosody::{self, Prosody};

const WAIT: Duration = Duration::from_secs(20);

/// Its connection.
pub struct Jicofo {
    pub sender: XmppSender,
    pub events: mpsc::Receiver<XmppEvent>,
    pub room: MucRoom,
    pub ids: u32,
    /// Presences of the bridge that came while something else was awaited.
    pub presences: Vec<Presence>,
    _stop: watch::Sender<bool>,
}

impl Jicofo {
    pub fn new(server: &Prosody) -> Self {
        Self::of(server, "focus", "focus")
    }

    /// Somebody with another account, or nickname, who does as it does.
    pub fn of(server: &Prosody, account: &str, nick: &str) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (sender, events) = xmpp::connect(server.account(account, Some("focus")), stopped);
        let room = MucRoom::new(&prosody::BREWERY.parse().unwrap(), nick).unwrap();
        Self { sender, events, room, ids: 0, presences: Vec::new(), _stop: stop }
    }

    pub async fn next(&mut self) -> XmppEvent {
        timeout(WAIT, self.events.recv()).await.expect("an event in time").expect("a connection")
    }

    pub async fn join(&mut self) {
        loop {
            if let XmppEvent::Online { .. } = self.next().await {
                break;
            }
        }
        let join = self.room.join(Vec::new());
        self.sender.send(join);
    }

    /// The next presence of the bridge.
    pub async fn bridge_presence(&mut self) -> Presence {
        if !self.presences.is_empty() {
            return self.presences.remove(0);
        }
        loop {
            if let XmppEvent::Stanza(Stanza::Presence(presence)) = self.next().await
                && presence.from.as_ref().and_then(|f| f.resource()).is_some_and(|r| r.as_str() == "ringbridge-1")
            {
                return presence;
            }
        }
    }

    /// The bridge's next presence with this stat; its value.
    pub async fn stat(&mut self, name: &str) -> String {
        loop {
            let presence = self.bridge_presence().await;
            let stats = presence.payloads.iter().find(|e| e.is("stats", ns::COLIBRI));
            if let Some(value) =
                stats.and_then(|s| s.children().find(|e| e.attr("name") == Some(name))).and_then(|e| e.attr("value"))
            {
                return value.to_owned();
            }
        }
    }

    pub async fn ask(&mut self, to: &str, payload: Element) -> Iq {
        self.ids += 1;
        let id = format!("q{}", self.ids);
        let to: Jid = to.parse().unwrap();
        self.sender.send(Iq::Get { from: None, to: Some(to.clone()), id: id.clone(), payload });
        loop {
            match self.next().await {
                XmppEvent::Stanza(Stanza::Iq(iq)) => {
                    let (from, found) = match &iq {
                        Iq::Result { from, id, .. } | Iq::Error { from, id, .. } => (from, id),
                        other => panic!("a request to the focus: {other:?}"),
                    };
                    if *found == id {
                        assert_eq!(from.as_ref(), Some(&to), "answered from the address that was asked");
                        return iq;
                    }
                }
                XmppEvent::Stanza(Stanza::Presence(presence)) => self.presences.push(presence),
                _ => {}
            }
        }
    }

    pub async fn modify(
        &mut self,
        request: ConferenceModify,
    ) -> Result<ConferenceModified, (DefinedCondition, Option<ColibriError>)> {
        self.modify_at("ringbridge-1", request).await
    }

    /// The same of a bridge of this name.
    pub async fn modify_at(
        &mut self,
        bridge: &str,
        request: ConferenceModify,
    ) -> Result<ConferenceModified, (DefinedCondition, Option<ColibriError>)> {
        match self.ask(&format!("{}/{bridge}", prosody::BREWERY), request.into()).await {
            Iq::Result { payload, .. } => Ok(ConferenceModified::try_from(payload.expect("a payload")).unwrap()),
            Iq::Error { error, .. } => {
                Err((error.defined_condition, error.other.map(|e| ColibriError::try_from(e).unwrap())))
            }
            other => panic!("{other:?}"),
        }
    }
}

/// An endpoint to be allocated as Jicofo asks for it.
pub fn create(id: &str) -> Endpoint {
    Endpoint {
        create: true,
        transport: Some(Transport { ice_controlling: true, ..Transport::default() }),
        capabilities: vec![Capability { name: CAP_SOURCE_NAMES.to_owned() }],
        ..Endpoint::new(id)
    }
}
