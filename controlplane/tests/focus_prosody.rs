//! The focus and a bridge, both as they run, against a real Prosody: two clients meet, one leaves, the server crashes.

mod focus_world;
mod http;
mod prosody;

use std::net::SocketAddr;
use std::time::Duration;

use focus_world::{HASH, HEAD, owners, source, video_sources};
use prosody::Prosody;
use ringbridge_controlplane::bridge::{self, BridgeSettings};
use ringbridge_controlplane::colibri::elements::{Fingerprint, Setup};
use ringbridge_controlplane::focus::{self, FocusSettings};
use ringbridge_controlplane::jingle::{self, Jingle};
use ringbridge_controlplane::rest::Process;
use ringbridge_controlplane::xmpp::iq::Request;
use ringbridge_controlplane::xmpp::muc::{MucChange, MucRoom};
use ringbridge_controlplane::xmpp::{self, XmppEvent, XmppSender};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_xmpp::Stanza;
use tokio_xmpp::jid::BareJid;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;

const ROOM: &str = "room@conference.meet.test";
const WAIT: Duration = Duration::from_secs(30);

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], prosody::free_port()))
}

fn start_focus(server: &Prosody, rest: SocketAddr, stopped: watch::Receiver<bool>) -> tokio::task::JoinHandle<()> {
    start_focus_of(server, rest, Vec::new(), stopped)
}

fn start_focus_of(
    server: &Prosody,
    rest: SocketAddr,
    brewery_trusted: Vec<BareJid>,
    stopped: watch::Receiver<bool>,
) -> tokio::task::JoinHandle<()> {
    let settings = FocusSettings {
        xmpp: server.account("focus", Some("focus")),
        brewery: prosody::BREWERY.parse().unwrap(),
        brewery_trusted,
        rest_listen: rest,
        ..focus_world::settings()
    };
    tokio::spawn(async move { focus::run(settings, Process::default(), stopped).await.expect("the focus runs") })
}

fn start_bridge(server: &Prosody, stopped: watch::Receiver<bool>) -> tokio::task::JoinHandle<()> {
    start_bridge_at(server, loopback(), stopped)
}

/// The same with its pages at that address.
fn start_bridge_at(
    server: &Prosody,
    rest_listen: SocketAddr,
    stopped: watch::Receiver<bool>,
) -> tokio::task::JoinHandle<()> {
    let settings = BridgeSettings { port: 0, rest_listen, ..server.bridge("ringbridge-1") };
    tokio::spawn(async move { bridge::run(settings, Process::default(), stopped).await.expect("the bridge runs") })
}

struct Client {
    nick: &'static str,
    ssrc: u32,
    sender: XmppSender,
    events: mpsc::Receiver<XmppEvent>,
    room: MucRoom,
    jingles: Vec<Jingle>,
    moderator: bool,
    _stop: watch::Sender<bool>,
}

impl Client {
    /// Logs in, asks for the conference and enters the room.
    async fn join(server: &Prosody, nick: &'static str, ssrc: u32) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (sender, events) = xmpp::connect(server.account("jvb2", None), stopped);
        let room = MucRoom::new(&ROOM.parse().unwrap(), nick).unwrap();
        let mut client = Self { nick, ssrc, sender, events, room, jingles: Vec::new(), moderator: false, _stop: stop };
        while !matches!(client.event().await, XmppEvent::Online { .. }) {}
        loop {
            let payload =
                format!("<conference xmlns='http://jitsi.org/protocol/focus' room='{ROOM}' machine-uid='1'/>");
            let to = Some("focus@auth.meet.test/focus".parse().unwrap());
            client.sender.send(Iq::Set { from: None, to, id: "conf".into(), payload: payload.parse().unwrap() });
            let answer = loop {
                if let XmppEvent::Stanza(Stanza::Iq(iq)) = client.event().await {
                    break iq;
                }
            };
            match answer {
                Iq::Result { payload: Some(conference), .. } if conference.attr("ready") == Some("true") => break,
                // The focus may still be on its way.
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
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
        assert_eq!(real.as_deref(), Some("focus@auth.meet.test/focus"), "clients know the focus by its real address");
        client
    }

    async fn event(&mut self) -> XmppEvent {
        timeout(WAIT, self.events.recv()).await.expect("an event in time").expect("a connection")
    }

    /// One event, handled as a client does: discovery and Jingle are answered, offers are accepted.
    async fn step(&mut self) {
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
                let Ok(request) = Request::from_iq(iq) else { return };
                let features: String = HEAD.iter().map(|f| format!("<feature var='{f}'/>")).collect();
                if request.payload.name() == "query" {
                    let xml = format!("<query xmlns='http://jabber.org/protocol/disco#info'>{features}</query>");
                    self.sender.send(request.result(Some(xml.parse().unwrap())));
                    return;
                }
                self.sender.send(request.result(None));
                let jingle = Jingle::try_from(request.payload.clone()).expect("Jingle");
                if jingle.action == "session-initiate" {
                    let payload = Element::from(self.accept(&jingle));
                    let id = format!("accept-{}", jingle.sid);
                    self.sender.send(Iq::Set { from: None, to: request.from.clone(), id, payload });
                }
                self.jingles.push(jingle);
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
                Some("audio") => (vec![source(self.nick, self.ssrc, "audio", true)], Vec::new()),
                _ => video_sources(self.nick, self.ssrc + 1, true),
            };
        }
        accept
    }

    fn count(&self, action: &str) -> usize {
        self.jingles.iter().filter(|jingle| jingle.action == action).count()
    }
}

/// Lets both act until something holds.
async fn until(a: &mut Client, b: &mut Client, what: &str, holds: impl Fn(&Client, &Client) -> bool) {
    let all = async {
        while !holds(a, b) {
            tokio::select! { () = a.step() => {}, () = b.step() => {} }
        }
    };
    timeout(WAIT, all).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn until_http(address: SocketAddr, path: &str, expected: &str) -> String {
    let mut answer = String::new();
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            answer = http::get(address, path).await;
            if answer.contains(expected) {
                return answer;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{path} never said {expected:?}: {answer}");
}

/// 300 conferences asked for in one burst by one guest: a call that begins meanwhile is as quick as ever, and the bridge is
/// not blamed for anything.
#[tokio::test]
async fn one_guests_burst_of_requests_is_not_noticed() {
    let Some(server) = Prosody::start() else { return };
    let (stop, stopped) = watch::channel(false);
    let rest = loopback();
    // The test's clients have accounts; here they are strangers.
    let trusted = ["focus@auth.meet.test", "jvb@auth.meet.test"].map(|jid| jid.parse().unwrap()).into();
    let focus = start_focus_of(&server, rest, trusted, stopped.clone());
    let bridge = start_bridge(&server, stopped.clone());
    until_http(rest, "/about/health", "200 OK").await;

    let (sender, mut events) = xmpp::connect(server.account("jvb2", None), stopped);
    while !matches!(timeout(WAIT, events.recv()).await.unwrap().unwrap(), XmppEvent::Online { .. }) {}
    let started = std::time::Instant::now();
    for n in 0..300 {
        let payload = format!(
            "<conference xmlns='http://jitsi.org/protocol/focus' room='r{n}@conference.meet.test' machine-uid='1'/>"
        );
        let to = Some("focus@auth.meet.test/focus".parse().unwrap());
        sender.send(Iq::Set { from: None, to, id: format!("c{n}"), payload: payload.parse().unwrap() });
    }
    let mut alice = Client::join(&server, "alice", 1000).await;
    let joined = started.elapsed();
    let mut bob = Client::join(&server, "bob", 2000).await;
    let knows = |client: &Client, other: &str| {
        client.jingles.iter().any(|j| j.json_message.is_some() && owners(j).contains_key(other))
    };
    until(&mut alice, &mut bob, "both know each other", |a, b| knows(a, "bob") && knows(b, "alice")).await;
    println!("alice in after {joined:?}, the call stands after {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());

    let mut answers = std::collections::BTreeMap::new();
    while let Ok(Some(XmppEvent::Stanza(Stanza::Iq(iq)))) = timeout(Duration::from_secs(1), events.recv()).await {
        let Iq::Result { payload: Some(conference), .. } = iq else { panic!("{iq:?}") };
        *answers.entry(conference.attr("ready").unwrap().to_owned()).or_insert(0) += 1;
    }
    let stats = http::get(rest, "/stats").await;
    println!("{answers:?} {stats}");
    let ready = answers.get("true").copied().unwrap_or(0);
    assert!((5..12).contains(&ready) && answers.get("false").copied().unwrap_or(0) >= 80, "{answers:?}");
    let metrics = http::get(rest, "/metrics").await;
    assert!(metrics.contains("ringbridge_focus_refused{reason=\"new_rooms\"} "), "{metrics}");
    // Five health checks later.
    let settled = async {
        loop {
            tokio::select! { () = alice.step() => {}, () = bob.step() => {} }
        }
    };
    let _ = timeout(Duration::from_secs(10), settled).await;
    let stats = http::get(rest, "/stats").await;
    for expected in
        ["\"operational_bridge_count\":1", "\"lost_bridges\":0", "\"participants_moved\":0", "\"participants\":2"]
    {
        assert!(stats.contains(expected), "{expected} is not in {stats}");
    }
    assert_eq!((alice.count("session-initiate"), alice.count("session-terminate")), (1, 0));
    stop.send(true).unwrap();
    timeout(WAIT, focus).await.expect("the focus ends").unwrap();
    timeout(WAIT, bridge).await.expect("the bridge ends").unwrap();
}

#[tokio::test]
async fn a_call_over_a_real_server_and_over_its_crash() {
    let Some(mut server) = Prosody::start() else { return };
    let (stop, stopped) = watch::channel(false);
    let rest = loopback();
    let focus = start_focus(&server, rest, stopped.clone());
    until_http(rest, "/about/health", "No operational bridges available").await;
    let pages = loopback();
    let bridge = start_bridge_at(&server, pages, stopped);
    until_http(rest, "/about/health", "200 OK").await;

    let mut alice = Client::join(&server, "alice", 1000).await;
    let mut bob = Client::join(&server, "bob", 2000).await;
    let knows = |client: &Client, other: &str| {
        client.jingles.iter().any(|j| j.json_message.is_some() && owners(j).contains_key(other))
    };
    until(&mut alice, &mut bob, "both know each other", |a, b| knows(a, "bob") && knows(b, "alice")).await;
    // The room's own id, as the server tells it.
    until_http(pages, "/debug", r#""meeting_id":"meeting-of-room""#).await;
    assert!(alice.moderator, "the first is moderator");
    let offer = alice.jingles.iter().find(|j| j.action == "session-initiate").unwrap();
    let transport = offer.contents[0].transport.as_ref().unwrap();
    assert!(transport.web_sockets[0].url.starts_with("ws://meet.test/colibri-ws/ringbridge-1/"));
    assert_eq!(transport.candidates[0].ip, "127.0.0.1");
    until_http(rest, "/stats", "\"participants\":2").await;
    assert!(http::get(rest, "/metrics").await.contains("ringbridge_focus_conferences 1"));

    // Everything that the bridge was told suited it: nobody is invited again.
    let settled = async {
        loop {
            tokio::select! { () = alice.step() => {}, () = bob.step() => {} }
        }
    };
    let _ = timeout(Duration::from_secs(3), settled).await;
    assert_eq!((alice.count("session-initiate"), alice.count("session-terminate")), (1, 0));
    assert_eq!((bob.count("session-initiate"), bob.count("session-terminate")), (1, 0));

    // The server crashes; focus and bridge come back by themselves, and so do the clients.
    server.kill();
    until_http(rest, "/about/health", "not connected").await;
    drop((alice, bob));
    server.run();
    until_http(rest, "/about/health", "200 OK").await;
    let mut alice = Client::join(&server, "alice2", 3000).await;
    let mut bob = Client::join(&server, "bob2", 4000).await;
    until(&mut alice, &mut bob, "again", |a, b| knows(a, "bob2") && knows(b, "alice2")).await;

    // An orderly end.
    stop.send(true).unwrap();
    timeout(WAIT, focus).await.expect("the focus ends").unwrap();
    timeout(WAIT, bridge).await.expect("the bridge ends").unwrap();
}
