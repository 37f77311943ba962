//! One that joins: it takes its offer, accepts it, acknowledges what is signalled to it, and has no media.

use std::collections::BTreeSet;
use std::iter::Sum;
use std::ops::Add;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use jid::Jid;
use minidom::Element;
use serde_json::json;
use tokio::sync::watch;
use tokio_xmpp::{Client as XmppClient, Event, Stanza};
use xmpp_parsers::caps::{compute_disco, hash_caps};
use xmpp_parsers::disco::DiscoInfoResult;
use xmpp_parsers::hashes::Algo;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::presence::{Presence, Type as PresenceType};

use super::JoinArgs;
use crate::participants::codec::VideoCodec;
use crate::participants::jingle::{self, Answer, Offer, ns};
use crate::participants::{FEATURES, SSRC_REWRITING};

const FOCUS: &str = "http://jitsi.org/protocol/focus";
const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
const CAPS: &str = "http://jabber.org/protocol/caps";
/// A focus that is not ready is asked again after this, as clients do.
const ASK_AGAIN: Duration = Duration::from_secs(1);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Stanzas that arrived, by kind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Received {
    pub presences: u64,
    pub offers: u64,
    /// `source-add` and `source-remove`.
    pub source_changes: u64,
    pub others: u64,
}

impl Add for Received {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            presences: self.presences + other.presences,
            offers: self.offers + other.offers,
            source_changes: self.source_changes + other.source_changes,
            others: self.others + other.others,
        }
    }
}

impl Sum for Received {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Self::add)
    }
}

impl Received {
    pub fn to_json(self) -> serde_json::Value {
        json!({ "presences": self.presences, "offers": self.offers, "source_changes": self.source_changes, "others": self.others })
    }
}

/// How it went for one.
#[derive(Debug)]
pub(super) struct Outcome {
    /// From its beginning to its first offer.
    pub offered: Option<Duration>,
    /// Whether everybody's sources were signalled to it in time.
    pub complete: bool,
    pub received: Received,
    pub error: Option<String>,
}

pub(super) struct Client {
    args: Arc<JoinArgs>,
    index: u32,
    room: String,
    endpoint: String,
    jid: String,
    began: Instant,
    /// Owners whose sources were signalled to it.
    known: BTreeSet<String>,
    offered: Option<Duration>,
    received: Received,
    complete: Option<Arc<watch::Sender<u32>>>,
}

impl Client {
    /// One that counts itself in `complete` once it knows everybody.
    pub fn new(args: Arc<JoinArgs>, index: u32, complete: Arc<watch::Sender<u32>>) -> Self {
        Self {
            room: args.site.room_jid(),
            endpoint: format!("{:08x}", rand::random::<u32>()),
            jid: String::new(),
            began: Instant::now(),
            known: BTreeSet::new(),
            offered: None,
            received: Received::default(),
            complete: Some(complete),
            index,
            args,
        }
    }

    /// Stays until it is to leave.
    pub async fn run(mut self, leaving: watch::Receiver<bool>) -> Outcome {
        let error = self.take_part(leaving).await.err().map(|error| format!("participant {}: {error}", self.index));
        Outcome { offered: self.offered, complete: self.complete.is_none(), received: self.received, error }
    }

    async fn take_part(&mut self, mut leaving: watch::Receiver<bool>) -> Result<(), BoxError> {
        let mut client = self.args.site.connect()?;
        loop {
            tokio::select! {
                () = asked_to_leave(&mut leaving) => {
                    let mut leave = Presence::new(PresenceType::Unavailable);
                    leave.to = Some(format!("{}/{}", self.room, self.endpoint).parse()?);
                    client.send_stanza(leave.into()).await?;
                    client.send_end().await?;
                    return Ok(());
                }
                event = client.next() => match event {
                    Some(Event::Online { bound_jid, .. }) => {
                        self.jid = bound_jid.to_string();
                        client.send_stanza(self.conference_request()?.into()).await?;
                    }
                    Some(Event::Stanza(stanza)) => self.take(&mut client, stanza).await?,
                    Some(Event::Disconnected(error)) => return Err(error.into()),
                    None => return Err("the XMPP stream ended".into()),
                },
            }
        }
    }

    fn conference_request(&self) -> Result<Iq, BoxError> {
        let payload = format!("<conference xmlns='{FOCUS}' room='{}' machine-uid='{}'/>", self.room, self.endpoint);
        let to = Some(Jid::from(self.args.site.focus.clone()));
        Ok(Iq::Set { from: None, to, id: format!("conference-{}", self.endpoint), payload: payload.parse()? })
    }

    fn features(&self) -> String {
        let rewriting = self.args.ssrc_rewriting.then_some(&SSRC_REWRITING);
        FEATURES.iter().chain(rewriting).map(|var| format!("<feature var='{var}'/>")).collect()
    }

    fn disco(&self) -> Result<Element, BoxError> {
        let features = self.features();
        let identity = "<identity category='client' type='bot'/>";
        Ok(format!("<query xmlns='{DISCO_INFO}'>{identity}{features}</query>").parse()?)
    }

    fn join(&self) -> Result<Presence, BoxError> {
        let hash = hash_caps(&compute_disco(&DiscoInfoResult::try_from(self.disco()?)?), Algo::Sha_1)?.to_base64();
        let endpoint = &self.endpoint;
        let sources = format!(r#"{{"{endpoint}-a0":{{"muted":false}},"{endpoint}-v0":{{"muted":false}}}}"#);
        let text = |name: &str, value: String| Element::builder(name, "jabber:client").append(value).build();
        let mut presence = Presence::new(PresenceType::None);
        presence.to = Some(format!("{}/{endpoint}", self.room).parse()?);
        presence.payloads = vec![
            Element::bare("x", "http://jabber.org/protocol/muc"),
            format!("<c xmlns='{CAPS}' hash='sha-1' node='https://jitsi.org/jitsi-meet' ver='{hash}'/>").parse()?,
            text("stats-id", format!("joins-{}", self.index)),
            text("SourceInfo", sources),
        ];
        Ok(presence)
    }

    async fn take(&mut self, client: &mut XmppClient, stanza: Stanza) -> Result<(), BoxError> {
        let iq = match stanza {
            Stanza::Presence(presence) => {
                self.received.presences += 1;
                let own =
                    presence.from.as_ref().and_then(Jid::resource).is_some_and(|nick| nick.as_str() == self.endpoint);
                if own && presence.type_ == PresenceType::Error {
                    return Err("the room does not let it in".into());
                }
                return Ok(());
            }
            Stanza::Iq(iq) => iq,
            Stanza::Message(_) => {
                self.received.others += 1;
                return Ok(());
            }
        };
        match iq {
            Iq::Set { from, id, payload, .. } if payload.is("jingle", ns::JINGLE) => {
                client.send_stanza(Iq::Result { from: None, to: from, id, payload: None }.into()).await?;
                return self.take_jingle(client, &payload).await;
            }
            Iq::Result { payload: Some(payload), .. } if payload.is("conference", FOCUS) => {
                if payload.attr("ready") == Some("true") {
                    client.send_stanza(self.join()?.into()).await?;
                } else {
                    tokio::time::sleep(ASK_AGAIN).await;
                    client.send_stanza(self.conference_request()?.into()).await?;
                }
            }
            Iq::Get { from, id, payload, .. } if payload.is("query", DISCO_INFO) => {
                let result = Iq::Result { from: None, to: from, id, payload: Some(self.disco()?) };
                client.send_stanza(result.into()).await?;
            }
            Iq::Error { error, id, .. } => {
                return Err(format!("{id} was refused: {:?}", error.defined_condition).into());
            }
            _ => {}
        }
        self.received.others += 1;
        Ok(())
    }

    async fn take_jingle(&mut self, client: &mut XmppClient, jingle: &Element) -> Result<(), BoxError> {
        let owners = || jingle::sources(jingle).into_iter().map(|source| source.owner);
        match jingle.attr("action") {
            Some("session-initiate") => {
                self.received.offers += 1;
                self.offered.get_or_insert(self.began.elapsed());
                self.known = owners().collect();
                let offer = Offer::parse(jingle, VideoCodec::Vp8)?;
                let focus = format!("{}/focus", self.room);
                // As many as there are participants, each its own three.
                let accept = offer.accept(&Answer {
                    endpoint: &self.endpoint,
                    jid: &self.jid,
                    focus: &focus,
                    ice: (self.endpoint.clone(), "joins-have-no-media-of-their-own".to_owned()),
                    fingerprint: vec!["00"; 32].join(":"),
                    audio: 1 + 3 * self.index,
                    video: 2 + 3 * self.index,
                    video_rtx: 3 + 3 * self.index,
                })?;
                let id = format!("accept-{}", self.endpoint);
                client
                    .send_stanza(Iq::Set { from: None, to: Some(focus.parse()?), id, payload: accept }.into())
                    .await?;
            }
            Some("source-add") => {
                self.received.source_changes += 1;
                self.known.extend(owners());
            }
            Some("source-remove") => {
                self.received.source_changes += 1;
                for owner in owners() {
                    self.known.remove(&owner);
                }
            }
            _ => self.received.others += 1,
        }
        let everybody = self.known.len() + 1 >= self.args.participants as usize;
        let rewritten = self.args.ssrc_rewriting && self.offered.is_some();
        if let Some(complete) = self.complete.take_if(|_| everybody || rewritten) {
            complete.send_modify(|count| *count += 1);
        }
        Ok(())
    }
}

/// Completes once everybody is to leave.
async fn asked_to_leave(leaving: &mut watch::Receiver<bool>) {
    let _ = leaving.wait_for(|leave| *leave).await.map(drop);
}
