//! The focus and a bridge, both as they run, against a real Prosody: two clients meet, one leaves, the server crashes.

mod focus_client;
mod focus_world;
mod http;
mod prosody;

use std::net::SocketAddr;
use std::time::Duration;

use focus_client::{Client, WAIT, until};
use focus_world::owners;
use prosody::Prosody;
use ringbridge_controlplane::bridge::{self, BridgeSettings};
use ringbridge_controlplane::focus::{self, FocusSettings};
use ringbridge_controlplane::rest::Process;
use ringbridge_controlplane::xmpp::{self, XmppEvent};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_xmpp::Stanza;
use tokio_xmpp::jid::BareJid;
use xmpp_parsers::iq::Iq;

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
    start_bridge_at(server, prosody::loopback(), stopped)
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

/// 300 conferences asked for in one burst by one guest: few of them are begun, so that a call that begins meanwhile waits behind
/// those few alone, is let in when it first asks, and the bridge is not blamed for anything. How long that takes says more about
/// the machine than about the focus.
#[tokio::test]
async fn one_guests_burst_of_requests_is_not_noticed() {
    let Some(server) = Prosody::start() else { return };
    let (stop, stopped) = watch::channel(false);
    let rest = prosody::loopback();
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
    assert_eq!((alice.asked, bob.asked), (1, 1), "nobody else is asked to come again");

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
    let rest = prosody::loopback();
    let focus = start_focus(&server, rest, stopped.clone());
    until_http(rest, "/about/health", "No operational bridges available").await;
    let pages = prosody::loopback();
    let bridge = start_bridge_at(&server, pages, stopped);
    until_http(rest, "/about/health", "200 OK").await;

    let mut alice = Client::join(&server, "alice", 1000).await;
    let mut bob = Client::join(&server, "bob", 2000).await;
    let knows = |client: &Client, other: &str| {
        client.jingles.iter().any(|j| j.json_message.is_some() && owners(j).contains_key(other))
    };
    until(&mut alice, &mut bob, "both know each other", |a, b| knows(a, "bob") && knows(b, "alice")).await;
    // The room's own id, as the server publishes it.
    until_http(pages, "/debug", r#""meeting_id":"meeting-of-room""#).await;
    assert!(alice.moderator, "the first is moderator");
    let offer = alice.jingles.iter().find(|j| j.action == "session-initiate").unwrap();
    let transport = offer.contents[0].transport.as_ref().unwrap();
    assert!(transport.web_sockets[0].address().starts_with("ws://meet.test/colibri-ws/ringbridge-1/"));
    assert_eq!(transport.candidates[0].ip, "127.0.0.1");
    until_http(rest, "/stats", "\"participants\":2").await;
    assert!(http::get(rest, "/metrics").await.contains("ringbridge_focus_conferences 1"));

    // The bridge accepted every request: nobody is invited again.
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
