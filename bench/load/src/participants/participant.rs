//! One scripted participant: anonymous login, conference request, room, Jingle, media, until its time is up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{SinkExt, Stream, StreamExt};
use jid::{FullJid, Jid};
use minidom::Element;
use tokio::net::UdpSocket;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_tungstenite::tungstenite::Message as WsMessage;
use tokio_xmpp::{Client, Event as XmppEvent, Stanza};
use xmpp_parsers::iq::Iq;
use xmpp_parsers::presence::{Presence, Type as PresenceType};

use super::clips::Clips;
use super::gaps::Stalls;
use super::jingle::{self, Answer, Offer, RemoteSource, ns};
use super::mappings;
use super::media::{MediaSession, OwnSsrcs, Pace, Step};
use super::orders::{Order, What};
use super::speech::Speech;
use super::{DATA_CHANNELS, FEATURES, ParticipantArgs, ParticipantReport, SSRC_REWRITING};

const FOCUS: &str = "http://jitsi.org/protocol/focus";
const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
const MUC: &str = "http://jabber.org/protocol/muc";
const MUC_USER: &str = "http://jabber.org/protocol/muc#user";

/// Wait before a bridge channel that ended, or did not open, is opened again; and how often that may fail in a row.
const CHANNEL_AGAIN: Duration = Duration::from_millis(500);
const CHANNEL_FAILURES: u32 = 20;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(super) struct Participant {
    args: ParticipantArgs,
    endpoint: String,
    room: String,
    clips: Arc<Clips>,
    speech: Speech,
    session: Option<(String, MediaSession)>,
    channel: Option<tokio::task::JoinHandle<()>>,
    web_socket: Option<String>,
    muted: bool,
    stalls: Stalls,
    /// What the bridge says that its SSRCs carry.
    mapped: (mpsc::UnboundedSender<Vec<RemoteSource>>, mpsc::UnboundedReceiver<Vec<RemoteSource>>),
    own: OwnSsrcs,
    sources_removed: u64,
    sessions: u64,
    jid: Option<FullJid>,
    /// Who is in the room by nickname, and whether it owns the room.
    occupants: BTreeMap<String, bool>,
}

impl Participant {
    pub(super) fn new(args: &ParticipantArgs, index: usize, clips: Arc<Clips>, speech: Speech, stalls: Stalls) -> Self {
        let random: u32 = rand::random();
        Self {
            room: args.site.room_jid(),
            endpoint: format!("{random:08x}"),
            args: ParticipantArgs { participants: index, ..args.clone() },
            clips,
            speech,
            session: None,
            channel: None,
            web_socket: None,
            muted: args.senders.is_some_and(|senders| index >= senders),
            stalls,
            mapped: mpsc::unbounded_channel(),
            own: OwnSsrcs { audio: rand::random(), video: rand::random(), video_rtx: rand::random() },
            sources_removed: 0,
            sessions: 0,
            jid: None,
            occupants: BTreeMap::new(),
        }
    }

    /// Stays for a time, or until it is ordered to leave.
    pub(super) async fn run(
        mut self,
        stay: Duration,
        leave: watch::Receiver<bool>,
        orders: Option<broadcast::Receiver<Order>>,
    ) -> ParticipantReport {
        let error = self.take_part(stay, leave, orders).await.err().map(|error| error.to_string());
        if let Some(channel) = self.channel.take() {
            channel.abort();
        }
        self.report(error)
    }

    fn report(&self, error: Option<String>) -> ParticipantReport {
        let (connected, received, encrypted) = match &self.session {
            Some((_, session)) => {
                (session.is_connected(), session.received(Instant::now()), session.opened().encrypted())
            }
            None => Default::default(),
        };
        let data_channels = self.session.as_ref().map_or(0, |(_, session)| session.data_channels());
        let owners = self.occupants.iter().filter(|(_, owner)| **owner).map(|(nick, _)| nick.clone()).collect();
        let occupants: BTreeSet<String> =
            self.occupants.keys().filter(|nick| **nick != self.endpoint).cloned().collect();
        let (endpoint, sources_removed, sessions) = (self.endpoint.clone(), self.sources_removed, self.sessions);
        ParticipantReport {
            endpoint,
            connected,
            occupants,
            owners,
            received,
            encrypted,
            sources_removed,
            sessions,
            data_channels,
            error,
        }
    }

    async fn take_part(
        &mut self,
        stay: Duration,
        mut leave: watch::Receiver<bool>,
        mut orders: Option<broadcast::Receiver<Order>>,
    ) -> Result<(), BoxError> {
        let mut client = self.args.site.connect()?;
        let mut socket = UdpSocket::bind((self.args.local_address, 0)).await?;
        let mut end = Instant::now() + stay;
        let mut buffer = vec![0; 2_000];
        let mut wake = end;
        loop {
            tokio::select! {
                // In this order: whoever is ordered to leave has not yet seen the others go.
                biased;
                Ok(()) = leave.changed() => end = Instant::now(),
                Ok(order) = next_order(&mut orders) => {
                    if order.participant.is_none_or(|number| number == self.args.participants) {
                        match order.what {
                            What::Leave => end = Instant::now(),
                            What::Move => socket = UdpSocket::bind((self.args.local_address, 0)).await?,
                            what => self.obey(&mut client, what).await?,
                        }
                    }
                }
                event = client.next() => match event {
                    Some(XmppEvent::Online { bound_jid, .. }) => {
                        self.jid = Some(bound_jid.try_into_full().map_err(|_| "the server bound no resource")?);
                        client.send_stanza(self.conference_request()?.into()).await?;
                    }
                    Some(XmppEvent::Disconnected(error)) => return Err(error.into()),
                    Some(XmppEvent::Stanza(stanza)) => self.handle_stanza(&mut client, &socket, stanza).await?,
                    None => return Err("the XMPP stream ended".into()),
                },
                Some(sources) = self.mapped.1.recv() => {
                    if let Some((_, session)) = self.session.as_mut().filter(|_| self.args.ssrc_rewriting) {
                        session.map_sources(&sources);
                    }
                }
                datagram = socket.recv_from(&mut buffer) => {
                    let (length, source) = datagram?;
                    if let Some((_, session)) = &mut self.session {
                        session.handle_datagram(Instant::now(), source, &buffer[..length])?;
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            let now = Instant::now();
            self.stalls.note(wake, now);
            wake = end;
            if let Some((_, session)) = &mut self.session {
                session.handle_timeout(now)?;
                loop {
                    match session.poll(now)? {
                        Step::Send(to, datagram) => {
                            socket.send_to(&datagram, to).await?;
                        }
                        Step::Wait(at) => {
                            wake = wake.min(at.max(now + Duration::from_millis(1)));
                            break;
                        }
                    }
                }
                while let Some(text) = session.heard() {
                    take_mappings(&text, &self.mapped.0);
                }
            }
            if now >= end {
                let mut leave = Presence::new(PresenceType::Unavailable);
                leave.to = Some(format!("{}/{}", self.room, self.endpoint).parse()?);
                client.send_stanza(leave.into()).await?;
                return Ok(());
            }
        }
    }

    async fn obey(&mut self, client: &mut Client, what: What) -> Result<(), BoxError> {
        match what {
            What::Report => {
                println!("{}", serde_json::json!({ "report": self.report(None) }));
                if let Some((_, session)) = &mut self.session {
                    session.restart(Instant::now());
                }
            }
            What::Mute | What::Unmute => {
                self.muted = what == What::Mute;
                if let Some((_, session)) = &mut self.session {
                    session.set_muted(self.muted);
                }
                client.send_stanza(self.presence()?.into()).await?;
            }
            What::Reconnect => self.open_channel(self.web_socket.clone()),
            What::Move | What::Leave => {}
        }
        Ok(())
    }

    fn conference_request(&self) -> Result<Iq, BoxError> {
        let conference: Element = format!(
            "<conference xmlns='{FOCUS}' room='{}' machine-uid='{:032x}'>\
             <property name='rtcstatsEnabled' value='false'/></conference>",
            self.room, self.own.audio
        )
        .parse()?;
        Ok(Iq::Set {
            from: None,
            to: Some(Jid::from(self.args.site.focus.clone())),
            id: format!("conference-{:x}", rand::random::<u64>()),
            payload: conference,
        })
    }

    async fn handle_stanza(&mut self, client: &mut Client, socket: &UdpSocket, stanza: Stanza) -> Result<(), BoxError> {
        let iq = match stanza {
            Stanza::Iq(iq) => iq,
            Stanza::Presence(presence) => {
                self.handle_presence(&presence);
                return Ok(());
            }
            Stanza::Message(_) => return Ok(()),
        };
        match iq {
            Iq::Result { payload: Some(payload), .. } if payload.is("conference", FOCUS) => {
                if payload.attr("ready") == Some("true") {
                    client.send_stanza(self.join()?.into()).await?;
                } else {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    client.send_stanza(self.conference_request()?.into()).await?;
                }
            }
            Iq::Error { error, from, .. } if from.as_ref() == Some(&Jid::from(self.args.site.focus.clone())) => {
                return Err(format!("the focus refused the conference: {:?}", error.defined_condition).into());
            }
            Iq::Set { from, id, payload, .. } if payload.is("jingle", ns::JINGLE) => {
                let result = Iq::Result { from: None, to: from.clone(), id, payload: None };
                client.send_stanza(result.into()).await?;
                self.handle_jingle(client, socket, from, &payload).await?;
            }
            Iq::Get { from, id, payload, .. } if payload.is("query", DISCO_INFO) => {
                let node = match payload.attr("node") {
                    Some(node) => {
                        format!(" node='{}'", node.replace('&', "&amp;").replace('\'', "&apos;").replace('<', "&lt;"))
                    }
                    None => String::new(),
                };
                let rewriting = self.args.ssrc_rewriting.then_some(&SSRC_REWRITING);
                let data = self.args.data_channel.then_some(&DATA_CHANNELS);
                let features: String =
                    FEATURES.iter().chain(rewriting).chain(data).map(|var| format!("<feature var='{var}'/>")).collect();
                let query: Element = format!(
                    "<query xmlns='{DISCO_INFO}'{node}><identity category='client' type='bot'/>{features}</query>"
                )
                .parse()?;
                let result = Iq::Result { from: None, to: from, id, payload: Some(query) };
                client.send_stanza(result.into()).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Follows who is in the room.
    fn handle_presence(&mut self, presence: &Presence) {
        let Some(Ok(from)) = presence.from.clone().map(Jid::try_into_full) else { return };
        let nick = from.resource().to_string();
        if from.to_bare().to_string() != self.room || nick == "focus" {
            return;
        }
        if presence.type_ == PresenceType::Unavailable {
            self.occupants.remove(&nick);
            return;
        }
        let user = presence.payloads.iter().find(|payload| payload.is("x", MUC_USER));
        let item = user.and_then(|user| user.get_child("item", MUC_USER));
        let owner = item.and_then(|item| item.attr("affiliation")) == Some("owner");
        self.occupants.insert(nick, owner);
    }

    fn join(&self) -> Result<Presence, BoxError> {
        let mut presence = self.presence()?;
        presence.payloads.insert(0, Element::bare("x", MUC));
        Ok(presence)
    }

    fn presence(&self) -> Result<Presence, BoxError> {
        let mut presence = Presence::new(PresenceType::None);
        presence.to = Some(format!("{}/{}", self.room, self.endpoint).parse()?);
        let (endpoint, muted) = (&self.endpoint, self.muted);
        let sources = format!(
            r#"{{"{endpoint}-a0":{{"muted":{muted}}},"{endpoint}-v0":{{"muted":{muted},"videoType":"camera"}}}}"#
        );
        let text = |name: &str, value: &str| Element::builder(name, "jabber:client").append(value.to_owned()).build();
        presence.payloads = vec![
            Element::builder("nick", "http://jabber.org/protocol/nick")
                .append(format!("scripted {}", self.args.participants + 1))
                .build(),
            text("stats-id", "scripted"),
            text("jitsi_participant_codecList", &self.args.codec.name().to_ascii_lowercase()),
            text("SourceInfo", &sources),
            text("audiomuted", &muted.to_string()),
            text("videomuted", &muted.to_string()),
            text("videoType", "camera"),
        ];
        Ok(presence)
    }

    async fn handle_jingle(
        &mut self,
        client: &mut Client,
        socket: &UdpSocket,
        from: Option<Jid>,
        jingle: &Element,
    ) -> Result<(), BoxError> {
        let focus = format!("{}/focus", self.room);
        if from.map(|jid| jid.to_string()).as_deref() != Some(focus.as_str()) {
            return Ok(());
        }
        match jingle.attr("action") {
            Some("session-initiate") => {
                let mut offer = Offer::parse(jingle, self.args.codec)?;
                if self.args.ssrc_rewriting {
                    // The bridge has to announce them.
                    offer.sources.clear();
                }
                if offer.data {
                    offer.web_socket = None;
                }
                let mut session =
                    MediaSession::new(Instant::now(), &offer, socket.local_addr()?, self.own, self.clips.clone())?;
                session.set_speech(self.speech);
                session.set_pace(Pace::new(self.args.video_fps, self.args.audio_interval));
                session.set_stalls(self.stalls.clone());
                session.set_muted(self.muted);
                session.set_greeting(wish(self.args.last_n));
                if self.args.orders {
                    println!("{}", self.facts(&offer));
                }
                let (ice, fingerprint) = session.credentials();
                let jid = self.jid.as_ref().map(ToString::to_string).unwrap_or_default();
                let accept = offer.accept(&Answer {
                    endpoint: &self.endpoint,
                    jid: &jid,
                    focus: &focus,
                    ice,
                    fingerprint,
                    audio: self.own.audio,
                    video: self.own.video,
                    video_rtx: self.own.video_rtx,
                })?;
                let iq = Iq::Set {
                    from: None,
                    to: Some(focus.parse()?),
                    id: format!("accept-{:x}", rand::random::<u64>()),
                    payload: accept,
                };
                client.send_stanza(iq.into()).await?;
                self.web_socket = offer.web_socket.clone();
                self.open_channel(offer.web_socket.clone());
                self.session = Some((offer.sid.clone(), session));
                self.sessions += 1;
            }
            Some("source-add" | "source-remove") if self.args.ssrc_rewriting => {
                return Err("the focus signals sources although the bridge does".into());
            }
            Some("source-add") => {
                if let Some((_, session)) = &mut self.session {
                    session.add_sources(&jingle::sources(jingle));
                }
            }
            Some("source-remove") => {
                let sources = jingle::sources(jingle);
                self.sources_removed += sources.len() as u64;
                if let Some((_, session)) = &mut self.session {
                    session.remove_sources(&sources);
                }
            }
            Some("session-terminate") => self.session = None,
            _ => {}
        }
        Ok(())
    }

    /// What somebody who gives orders may want to know of a session.
    fn facts(&self, offer: &Offer) -> serde_json::Value {
        let candidate = offer.candidates.first().map(|(ip, port)| format!("{ip}:{port}"));
        serde_json::json!({ "session": {
            "participant": self.args.participants,
            "endpoint": self.endpoint,
            "jid": self.jid.as_ref().map(ToString::to_string),
            "sid": offer.sid,
            "ufrag": offer.ice.0,
            "password": offer.ice.1,
            "candidate": candidate,
            "web_socket": offer.web_socket,
            "ssrcs": { "audio": self.own.audio, "video": self.own.video, "video_rtx": self.own.video_rtx },
        } })
    }

    /// Opens the bridge channel, again whenever it ends, and asks for everybody at 720; of what it says only the mappings matter.
    fn open_channel(&mut self, url: Option<String>) {
        let Some(url) = url else { return };
        if let Some(old) = self.channel.take() {
            old.abort();
        }
        let (mapped, last_n) = (self.mapped.0.clone(), self.args.last_n);
        self.channel = Some(tokio::spawn(async move {
            let mut failures = 0;
            while failures < CHANNEL_FAILURES {
                match tokio_tungstenite::connect_async(&url).await {
                    Ok((mut channel, _)) => {
                        failures = 0;
                        if channel.send(WsMessage::text(wish(last_n))).await.is_ok() {
                            hear(&mut channel, &mapped).await;
                        }
                    }
                    Err(error) => {
                        failures += 1;
                        tracing::warn!(%error, %url, "the bridge channel did not open");
                    }
                }
                tokio::time::sleep(CHANNEL_AGAIN).await;
            }
        }));
    }
}

/// Takes what the bridge says until the channel ends.
async fn hear<S>(channel: &mut S, mapped: &mpsc::UnboundedSender<Vec<RemoteSource>>)
where
    S: Stream<Item = Result<WsMessage, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    while let Some(Ok(message)) = channel.next().await {
        let WsMessage::Text(text) = message else { continue };
        take_mappings(&text, mapped);
    }
}

/// Takes what the bridge says: only the mappings matter.
fn take_mappings(text: &str, mapped: &mpsc::UnboundedSender<Vec<RemoteSource>>) {
    match mappings::read(text) {
        Ok(sources) if sources.is_empty() => {}
        // The participant may have left.
        Ok(sources) => drop(mapped.send(sources)),
        Err(error) => tracing::warn!(%error, %text, "a bridge message does not parse"),
    }
}

/// What a participant asks the bridge for: everybody at 720.
fn wish(last_n: i32) -> String {
    let wish = serde_json::json!({
        "colibriClass": "ReceiverVideoConstraints", "lastN": last_n, "defaultConstraints": { "maxHeight": 720 },
    });
    wish.to_string()
}

/// The next order; never, where none are taken.
async fn next_order(orders: &mut Option<broadcast::Receiver<Order>>) -> Result<Order, broadcast::error::RecvError> {
    match orders {
        Some(orders) => orders.recv().await,
        None => std::future::pending().await,
    }
}
