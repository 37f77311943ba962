//! A bridge against a real Prosody: a scripted Jicofo allocates, updates and expires; the server crashes and returns.
//! The workers are played by the test through their rings.

mod bridge_handover;
mod http;
mod jicofo;
mod prosody;

use ringbridge_dataplane::ids::WorkerId;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use jicofo::{Jicofo, create};
use prosody::Prosody;
use ringbridge_controlplane::bridge::{BridgeError, BridgeSettings, ShutdownSettings, run, run_on};
use ringbridge_controlplane::colibri::elements::*;
use ringbridge_controlplane::rest::Process;
use ringbridge_controlplane::xmpp::{self, XmppEvent};
use ringbridge_dataplane::link::{ControlLink, links};
use ringbridge_dataplane::media::Limit;
use ringbridge_dataplane::messages::{Command, Event};
use ringbridge_dataplane::stats::{Counter, WorkerStats};
use ringbridge_dataplane::{Dataplane, DataplaneConfig};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::presence::Type;
use xmpp_parsers::stanza_error::DefinedCondition;

const WAIT: Duration = Duration::from_secs(20);

struct Bridge {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<(), BridgeError>>,
    worker: ControlLink,
    rest: SocketAddr,
    websocket: SocketAddr,
    /// Stops the fake worker's heart.
    heart: Arc<AtomicBool>,
}

fn settings(server: &Prosody) -> BridgeSettings {
    BridgeSettings {
        public_addresses: vec!["192.0.2.7".parse().unwrap()],
        websocket_server_id: "rb1".to_owned(),
        region: Some("here".to_owned()),
        ..server.bridge("ringbridge-1")
    }
}

fn bridge(server: &Prosody) -> Bridge {
    bridge_with(server, |_| {})
}

fn bridge_with(server: &Prosody, change: impl FnOnce(&mut BridgeSettings)) -> Bridge {
    let (link, worker) = links(WorkerId::new(0), 64, 64).unwrap();
    let stats = Arc::new(WorkerStats::default());
    let mut settings = settings(server);
    change(&mut settings);
    let (rest, websocket) = (settings.rest_listen, settings.websocket_listen.expect("served"));
    let (stop, stopped) = watch::channel(false);
    let heart = beat(&stats);
    let task = tokio::spawn(run_on(settings, vec![(link, stats)], stopped));
    Bridge { stop, task, worker, rest, websocket, heart }
}

/// Turns of a worker's loop are counted until this becomes false.
fn beat(stats: &Arc<WorkerStats>) -> Arc<AtomicBool> {
    let heart = Arc::new(AtomicBool::new(true));
    let (beats, counters) = (Arc::clone(&heart), Arc::clone(stats));
    tokio::spawn(async move {
        while beats.load(Ordering::Relaxed) {
            counters.count(Counter::LoopTurns);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    heart
}

impl Bridge {
    async fn command(&mut self) -> Command {
        for _ in 0..1000 {
            if let Some(command) = self.worker.poll_command() {
                return command;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no command for the worker within 5 s");
    }

    fn no_command(&mut self) {
        assert_eq!(self.worker.poll_command(), None);
    }
}

/// The JSON of an answer.
fn body(answer: &str) -> serde_json::Value {
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).expect("JSON")
}

/// Everything that a recorded page of Jitsi Videobridge has is on ours, with the same type.
fn has_all_of(ours: &serde_json::Value, recording: &str) {
    use serde_json::Value;
    let path = format!("{}/../../shared/fixtures/{recording}", env!("CARGO_MANIFEST_DIR"));
    let Ok(recorded) = std::fs::read_to_string(&path) else {
        eprintln!("skipped in part: {path} is not here");
        return;
    };
    fn compare(ours: &Value, recorded: &Value, at: &str) -> usize {
        assert_eq!(std::mem::discriminant(ours), std::mem::discriminant(recorded), "{at}: {ours} for {recorded}");
        let (Value::Object(ours), Value::Object(recorded)) = (ours, recorded) else { return 1 };
        // Ids are no keys: the first of each stands for all.
        if ["/conferences", "/conferences/*/endpoints"].contains(&at) {
            let first = |map: &serde_json::Map<String, Value>| map.values().next().cloned().expect("one at least");
            return compare(&first(ours), &first(recorded), &format!("{at}/*"));
        }
        let compared = recorded.iter().filter(|(key, _)| *key != JITTER).map(|(key, value)| {
            let own = ours.get(key).unwrap_or_else(|| panic!("{at}/{key} is missing"));
            compare(own, value, &format!("{at}/{key}"))
        });
        compared.sum()
    }
    /// Only there with `stats.transit-time.enable-jitter`, which is off by default.
    const JITTER: &str = "overall_bridge_jitter";
    let recorded: Value = serde_json::from_str(&recorded).expect("a recording");
    assert!(compare(ours, &recorded, "") > 10);
}

/// What `ringbridge top --json` prints of a bridge.
async fn top(rest: SocketAddr) -> serde_json::Value {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_ringbridge"))
        .args(["top", &rest.to_string(), "--json", "--interval", "0.1"])
        .output()
        .await
        .expect("runs");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test]
async fn a_conference_from_allocation_to_expiry_and_over_a_server_crash() {
    let Some(mut server) = Prosody::start() else { return };
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let mut bridge = bridge(&server);

    // Announced, and soon healthy.
    assert_eq!(jicofo.stat("drain").await, "false");
    while jicofo.stat("healthy").await != "true" {}
    let health: Element = "<healthcheck xmlns='http://jitsi.org/protocol/healthcheck'/>".parse().unwrap();
    let me = format!("{}/ringbridge-1", prosody::BREWERY);
    assert!(matches!(jicofo.ask(&me, health.clone()).await, Iq::Result { payload: None, .. }));

    // Allocate.
    let request = ConferenceModify {
        create: true,
        name: Some("room@conference.meet.test".to_owned()),
        endpoints: vec![Endpoint { stats_id: Some("Ann-x1".to_owned()), ..create("aaaa") }],
        ..ConferenceModify::new("meeting-1")
    };
    let reply = jicofo.modify(request.clone()).await.unwrap();
    let ice = reply.endpoints[0].transport.as_ref().unwrap().ice.as_ref().unwrap();
    let kinds: Vec<_> = ice.candidates.iter().map(|c| (c.ip.as_str(), c.candidate_type.as_deref().unwrap())).collect();
    assert_eq!(kinds, [("127.0.0.1", "host"), ("192.0.2.7", "srflx")]);
    assert!(ice.web_sockets[0].address().starts_with("ws://meet.test/colibri-ws/rb1/"));
    assert_eq!(ice.fingerprints[0].setup, Some(Setup::ActPass));
    assert!(reply.sources.is_some());
    let url = ice.web_sockets[0].address().to_owned();
    assert!(matches!(bridge.command().await, Command::CreateConference { .. }));
    let Command::CreateEndpoint(new) = bridge.command().await else { panic!("not created") };
    assert_eq!((new.label.as_str(), new.controlling), ("aaaa", true));
    let endpoint = new.endpoint;

    // An operator sees it, and scripts made for Jitsi Videobridge find what they look for.
    let debug = http::get(bridge.rest, "/debug").await;
    has_all_of(&body(&debug), "three-party-vp8/jvb-debug.json");
    assert!(http::get(bridge.rest, "/about/health").await.ends_with("\r\n\r\n"), "no body, as recorded");
    // Refreshed every five seconds.
    loop {
        let stats = body(&http::get(bridge.rest, "/colibri/stats").await);
        if stats["conferences"] == 1 {
            has_all_of(&stats, "three-party-vp8/stats.json");
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seen = top(bridge.rest).await;
    assert_eq!((&seen["healthy"], &seen["xmpp_connected"]), (&true.into(), &1.into()), "{seen}");
    let row = &seen["conferences"][0];
    assert_eq!((&row["name"], &row["endpoints"]), (&"room@conference.meet.test".into(), &1.into()), "{seen}");
    let row = &seen["endpoints"][0];
    assert_eq!((&row["endpoint"], &row["state"], &row["worker"]), (&"aaaa".into(), &"new".into(), &0.into()), "{seen}");
    assert_eq!(seen["workers"].as_array().map(Vec::len), Some(1), "{seen}");

    // Refusals keep both of their children on the wire.
    assert_eq!(
        jicofo.modify(request).await.unwrap_err(),
        (
            DefinedCondition::Conflict,
            Some(ColibriError { reason: Some(Reason::ConferenceAlreadyExists), endpoint: None })
        )
    );
    let unknown = ConferenceModify {
        endpoints: vec![Endpoint { sources: Some(Sources::default()), ..Endpoint::new("zzzz") }],
        ..ConferenceModify::new("meeting-1")
    };
    let (condition, error) = jicofo.modify(unknown).await.unwrap_err();
    assert_eq!(condition, DefinedCondition::ItemNotFound);
    let error = error.unwrap();
    assert_eq!((error.reason, error.endpoint.map(|e| e.id)), (Some(Reason::UnknownEndpoint), Some("zzzz".to_owned())));

    // Update.
    let ice = IceTransport {
        ufrag: Some("remote".to_owned()),
        pwd: Some("remote-password".to_owned()),
        ..IceTransport::default()
    };
    let update = ConferenceModify {
        endpoints: vec![Endpoint {
            transport: Some(Transport { ice: Some(ice), ..Transport::default() }),
            initial_last_n: Some(InitialLastN { value: 7 }),
            ..Endpoint::new("aaaa")
        }],
        ..ConferenceModify::new("meeting-1")
    };
    let reply = jicofo.modify(update).await.unwrap();
    assert_eq!(reply, ConferenceModified { endpoints: vec![Endpoint::new("aaaa")], ..ConferenceModified::default() });
    assert!(
        matches!(bridge.command().await, Command::SetRemoteIce { credentials: Some(c), .. } if c.ufrag == "remote")
    );
    assert!(
        matches!(bridge.command().await, Command::SetConstraints { constraints, .. } if constraints.last_n == Limit::Max(7))
    );

    // The channel: a greeting, a message, and what is sent back.
    let Some((_, path)) = url.split_once("meet.test") else { panic!("{url}") };
    let wrong = format!("ws://{}{path}x", bridge.websocket);
    assert!(tokio_tungstenite::connect_async(wrong).await.is_err(), "a wrong password");
    let (mut client, _) = tokio_tungstenite::connect_async(format!("ws://{}{path}", bridge.websocket)).await.unwrap();
    assert_eq!(heard(&mut client).await["colibriClass"], "ServerHello");
    assert_eq!(heard(&mut client).await["forwardedSources"], serde_json::json!([]));
    let wish = r#"{"colibriClass":"ReceiverVideoConstraints","constraints":{"b-v0":{"maxHeight":720}}}"#;
    client.send(wish.into()).await.unwrap();
    assert!(matches!(bridge.command().await, Command::SetConstraints { constraints, .. }
        if constraints.last_n == Limit::Max(7) && constraints.per_source[0].1.max_height == Limit::Max(720)));
    let demand = Event::SourceDemand { endpoint, source: "aaaa-v0".to_owned(), max_height: Limit::Max(360) };
    bridge.worker.send(demand).unwrap();
    assert_eq!(heard(&mut client).await["maxHeight"], 360);

    // A server crash: the conference lives on, the bridge announces itself again.
    server.kill();
    loop {
        if let XmppEvent::Offline { .. } = jicofo.next().await {
            break;
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.run();
    jicofo.join().await;
    jicofo.presences.clear();
    while jicofo.stat("conferences").await != "1" {}
    bridge.no_command();
    let second = ConferenceModify { endpoints: vec![create("bbbb")], ..ConferenceModify::new("meeting-1") };
    assert!(jicofo.modify(second).await.unwrap().endpoints[0].transport.is_some());
    assert!(matches!(bridge.command().await, Command::CreateEndpoint(new) if new.label == "bbbb"));

    // The media plane did not notice: the channel is still open, and closes with the endpoint.
    bridge.worker.send(Event::ForwardedSources { endpoint, sources: vec!["b-v0".to_owned()] }).unwrap();
    assert_eq!(heard(&mut client).await["forwardedSources"][0], "b-v0");

    // Expire.
    let end = ConferenceModify { expire: true, ..ConferenceModify::new("meeting-1") };
    jicofo.modify(end.clone()).await.unwrap();
    assert!(matches!(bridge.command().await, Command::ExpireConference { .. }));
    let (condition, error) = jicofo.modify(end).await.unwrap_err();
    assert_eq!((condition, error.unwrap().reason), (DefinedCondition::ItemNotFound, Some(Reason::ConferenceNotFound)));

    let close = timeout(WAIT, client.next()).await.unwrap().unwrap().unwrap();
    let tokio_tungstenite::tungstenite::Message::Close(Some(frame)) = close else { panic!("{close:?}") };
    assert_eq!(u16::from(frame.code), 1001);

    // An orderly end: the room is left.
    bridge.stop.send(true).unwrap();
    timeout(WAIT, bridge.task).await.expect("an end").unwrap().unwrap();
    while jicofo.bridge_presence().await.type_ != Type::Unavailable {}
    assert!(matches!(bridge.worker.poll_command(), Some(Command::Shutdown)));
}

#[tokio::test]
async fn strangers_are_refused_and_a_stalled_worker_is_reported() {
    let Some(server) = Prosody::start() else { return };
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let bridge = bridge(&server);
    while jicofo.stat("healthy").await != "true" {}

    // The bridge's own address, learnt from the room, asked from outside of it.
    let (stop, stopped) = watch::channel(false);
    let (sender, mut events) = xmpp::connect(server.account("jvb2", None), stopped);
    loop {
        if let XmppEvent::Online { .. } = timeout(WAIT, events.recv()).await.unwrap().unwrap() {
            break;
        }
    }
    let presence = jicofo.bridge_presence().await;
    let user = presence.payloads.iter().find_map(|e| xmpp_parsers::muc::MucUser::try_from(e.clone()).ok()).unwrap();
    let real = user.items[0].jid.clone().expect("the room shows real addresses");
    let payload: Element = ConferenceModify { create: true, ..ConferenceModify::new("m") }.into();
    sender.send(Iq::Set { from: None, to: Some(real.into()), id: "s".to_owned(), payload });
    loop {
        if let XmppEvent::Stanza(Stanza::Iq(iq)) = timeout(WAIT, events.recv()).await.unwrap().unwrap() {
            let Iq::Error { error, .. } = iq else { panic!("{iq:?}") };
            assert_eq!(error.defined_condition, DefinedCondition::Forbidden);
            break;
        }
    }
    drop(stop);

    bridge.heart.store(false, Ordering::Relaxed);
    while jicofo.stat("healthy").await != "false" {}
    let health: Element = "<healthcheck xmlns='http://jitsi.org/protocol/healthcheck'/>".parse().unwrap();
    let answer = jicofo.ask(&format!("{}/ringbridge-1", prosody::BREWERY), health).await;
    let Iq::Error { error, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(error.defined_condition, DefinedCondition::InternalServerError);
    assert!(error.texts.values().any(|t| t.contains("worker 0")), "{error:?}");

    let answer = http::get(bridge.rest, "/about/health").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    let answer = http::get(bridge.rest, "/metrics").await;
    assert!(answer.contains("ringbridge_loop_turns{worker=\"0\",reason=\"\"} "), "{answer}");
}

#[tokio::test]
async fn to_be_in_the_brewery_is_not_enough() {
    let Some(server) = Prosody::start() else { return };
    // The nickname is free at first: a stranger takes it.
    let mut guest = Jicofo::of(&server, "jvb2", "focus");
    guest.join().await;
    let trusted = vec!["focus@auth.meet.test".parse().unwrap()];
    let mut bridge = bridge_with(&server, |settings| settings.connections[0].trusted = trusted);
    while guest.stat("healthy").await != "true" {}
    let health = || "<healthcheck xmlns='http://jitsi.org/protocol/healthcheck'/>".parse::<Element>().unwrap();
    let address = format!("{}/ringbridge-1", prosody::BREWERY);
    for payload in [health(), ConferenceModify { create: true, ..ConferenceModify::new("m") }.into()] {
        let answer = guest.ask(&address, payload).await;
        let Iq::Error { error, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(error.defined_condition, DefinedCondition::Forbidden);
    }
    bridge.no_command();
    let mut jicofo = Jicofo::of(&server, "focus", "focus-2");
    jicofo.join().await;
    while jicofo.stat("healthy").await != "true" {}
    assert!(matches!(jicofo.ask(&address, health()).await, Iq::Result { .. }));
    let metrics = http::get(bridge.rest, "/metrics").await;
    assert!(metrics.contains("ringbridge_colibri_refused{reason=\"stranger\"} "), "{metrics}");
}

#[tokio::test]
async fn a_brewery_that_hides_addresses_is_looked_at_again() {
    let Some(server) = Prosody::start() else { return };
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let whois = |value: &str| {
        let xml = format!(
            "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>\
             <field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/muc#roomconfig</value></field>\
             <field var='muc#roomconfig_whois'><value>{value}</value></field></x></query>"
        );
        let to = Some(prosody::BREWERY.parse().unwrap());
        Iq::Set { from: None, to, id: format!("whois-{value}"), payload: xml.parse().unwrap() }
    };
    jicofo.sender.send(whois("moderators"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let _bridge = bridge(&server);
    while jicofo.stat("healthy").await != "true" {}
    let health = || "<healthcheck xmlns='http://jitsi.org/protocol/healthcheck'/>".parse::<Element>().unwrap();
    let address = format!("{}/ringbridge-1", prosody::BREWERY);
    let answer = jicofo.ask(&address, health()).await;
    let Iq::Error { error, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(error.defined_condition, DefinedCondition::Forbidden);
    jicofo.sender.send(whois("anyone"));
    let mut waited = Duration::ZERO;
    while !matches!(jicofo.ask(&address, health()).await, Iq::Result { .. }) {
        assert!(waited < Duration::from_secs(15), "the bridge does not look again");
        waited += Duration::from_millis(250);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// A POST to the operators' pages; its status.
async fn post(address: SocketAddr, path: &str, body: &str) -> String {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}");
    let answer = http::send(address, format!("{head}\r\n\r\n{body}")).await;
    answer.split(' ').nth(1).expect("a status").to_owned()
}

#[tokio::test]
async fn drain_and_graceful_shutdown_to_the_end() {
    let Some(server) = Prosody::start() else { return };
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let shutdown = ShutdownSettings { shutting_down_delay: Duration::from_secs(1), ..ShutdownSettings::default() };
    let mut bridge = bridge_with(&server, |settings| settings.shutdown = shutdown);
    while jicofo.stat("healthy").await != "true" {}
    let create_in = |meeting: &str, id: &str| ConferenceModify {
        create: true,
        endpoints: vec![create(id)],
        ..ConferenceModify::new(meeting)
    };
    jicofo.modify(create_in("m", "aaaa")).await.unwrap();

    // Signalled at once, and nothing is refused.
    assert_eq!(post(bridge.rest, "/colibri/drain/enable", "").await, "200");
    while jicofo.stat("drain").await != "true" {}
    assert!(http::get(bridge.rest, "/colibri/drain").await.ends_with("{\"drain\":true}"));
    jicofo.modify(create_in("n", "bbbb")).await.unwrap();
    let debug = http::get(bridge.rest, "/debug?full=true").await;
    let debug: serde_json::Value = serde_json::from_str(debug.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&debug["drain"], &debug["shutdown_state"]), (&true.into(), &"RUNNING".into()));
    let conferences = debug["conferences"].as_object().unwrap();
    let shown = conferences.values().find(|c| c["meeting_id"] == "n").expect("the conference is shown");
    assert_eq!(shown["endpoints"]["bbbb"]["channel"]["data_channel"], false);

    assert_eq!(post(bridge.rest, "/colibri/shutdown", r#"{"graceful-shutdown":"true"}"#).await, "200");
    while jicofo.stat("graceful_shutdown").await != "true" {}
    let (condition, error) = jicofo.modify(create_in("o", "cccc")).await.unwrap_err();
    assert_eq!(condition, DefinedCondition::ServiceUnavailable);
    assert_eq!(error.and_then(|e| e.reason), Some(Reason::GracefulShutdown));
    let more = ConferenceModify { endpoints: vec![create("dddd")], ..ConferenceModify::new("m") };
    jicofo.modify(more).await.expect("a running conference takes new endpoints");

    for meeting in ["m", "n"] {
        jicofo.modify(ConferenceModify { expire: true, ..ConferenceModify::new(meeting) }).await.unwrap();
    }
    while jicofo.stat("shutting_down").await != "true" {}
    timeout(WAIT, &mut bridge.task).await.expect("the bridge ends by itself").unwrap().unwrap();
}

type Client = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn heard(client: &mut Client) -> serde_json::Value {
    let message = timeout(WAIT, client.next()).await.expect("a message in time").expect("an open socket").unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

#[tokio::test]
async fn runs_over_the_real_data_plane() {
    let Some(server) = Prosody::start() else { return };
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let (stop, stopped) = watch::channel(false);
    let settings = BridgeSettings { port: 0, workers: 2, ..settings(&server) };
    let task = tokio::spawn(run(settings, Process::default(), stopped));
    while jicofo.stat("healthy").await != "true" {}

    let request = ConferenceModify { create: true, endpoints: vec![create("aaaa")], ..ConferenceModify::new("m") };
    let reply = jicofo.modify(request).await.unwrap();
    let ice = reply.endpoints[0].transport.as_ref().unwrap().ice.as_ref().unwrap();
    let port = ice.candidates[0].port;
    assert_ne!(port, 0, "the bound port is advertised");
    assert!(std::net::UdpSocket::bind(("127.0.0.1", port)).is_err(), "and somebody has it");
    let health: Element = "<healthcheck xmlns='http://jitsi.org/protocol/healthcheck'/>".parse().unwrap();
    let answer = jicofo.ask(&format!("{}/ringbridge-1", prosody::BREWERY), health).await;
    assert!(matches!(answer, Iq::Result { payload: None, .. }), "{answer:?}");
    stop.send(true).unwrap();
    timeout(WAIT, task).await.expect("an end").unwrap().unwrap();
}

/// A real worker that takes fewer endpoints than the bridge believes.
#[tokio::test]
async fn a_full_worker_is_found_out_and_then_refused_before_a_transport_is_given() {
    let Some(server) = Prosody::start() else { return };
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let mut dataplane = Dataplane::start(DataplaneConfig {
        local_addresses: vec![Ipv4Addr::LOCALHOST.into()],
        port: 0,
        max_endpoints: 1,
        ..DataplaneConfig::default()
    })
    .unwrap();
    let links = dataplane.take_links().into_iter().map(|link| (link, dataplane.stats(WorkerId::new(0)))).collect();
    let (stop, stopped) = watch::channel(false);
    let settings = settings(&server);
    let rest = settings.rest_listen;
    let task = tokio::spawn(run_on(settings, links, stopped));
    while jicofo.stat("healthy").await != "true" {}

    let join = |meeting: &str, first, id: &str| ConferenceModify {
        create: first,
        endpoints: vec![create(id)],
        ..ConferenceModify::new(meeting)
    };
    jicofo.modify(join("m", true, "aaaa")).await.expect("room for one");
    jicofo.modify(join("m", false, "bbbb")).await.expect("nobody knows yet");
    // The focus learns by its next request that it has to invite that one again, and there the bridge is full.
    let update = || ConferenceModify {
        endpoints: vec![Endpoint { sources: Some(Sources::default()), ..Endpoint::new("bbbb") }],
        ..ConferenceModify::new("m")
    };
    let told = async {
        loop {
            match jicofo.modify(update()).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => return error,
            }
        }
    };
    let unknown = ColibriError { reason: Some(Reason::UnknownEndpoint), endpoint: Some(Endpoint::new("bbbb")) };
    let told = timeout(WAIT, told).await.expect("answered in time");
    assert_eq!(told, (DefinedCondition::ItemNotFound, Some(unknown)));
    for (meeting, first) in [("m", false), ("n", true)] {
        let refused = jicofo.modify(join(meeting, first, "cccc")).await.unwrap_err();
        assert_eq!(refused, (DefinedCondition::ResourceConstraint, None));
    }
    let metrics = http::get(rest, "/metrics").await;
    for line in ["{reason=\"revoked\"} ", "{reason=\"endpoints\"} "] {
        assert!(metrics.contains(&format!("ringbridge_colibri_refused{line}")), "{metrics}");
    }
    // Room is made, and found.
    let expire = Endpoint { expire: true, ..Endpoint::new("aaaa") };
    jicofo.modify(ConferenceModify { endpoints: vec![expire], ..ConferenceModify::new("m") }).await.unwrap();
    jicofo.modify(join("n", true, "cccc")).await.expect("room again");
    stop.send(true).unwrap();
    timeout(WAIT, task).await.expect("an end").unwrap().unwrap();
}

/// Open descriptors of this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc(5)").count()
}

#[tokio::test]
async fn thirty_joins_and_leaves_in_any_order_leave_no_socket_and_no_endpoint() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    let Some(server) = Prosody::start() else { return };
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let mut bridge = bridge(&server);
    while jicofo.stat("healthy").await != "true" {}
    let before = descriptors();
    for seed in 0..3 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut present: Vec<(String, Option<Client>)> = Vec::new();
        let (mut joined, mut exists) = (0, false);
        while joined < 30 || !present.is_empty() {
            while bridge.worker.poll_command().is_some() {}
            if joined < 30 && (present.is_empty() || random.random_bool(0.6)) {
                let id = format!("e{seed}x{joined}");
                let request =
                    ConferenceModify { create: !exists, endpoints: vec![create(&id)], ..ConferenceModify::new("m") };
                let reply = jicofo.modify(request).await.expect("allocated");
                exists = true;
                let ice = reply.endpoints[0].transport.as_ref().unwrap().ice.as_ref().unwrap();
                let path = ice.web_sockets[0].address().strip_prefix("ws://meet.test").expect("the configured base");
                let url = format!("ws://{}{path}", bridge.websocket);
                let client = if random.random_bool(0.7) {
                    let (mut client, _) = tokio_tungstenite::connect_async(url).await.expect("connects");
                    assert_eq!(heard(&mut client).await["colibriClass"], "ServerHello");
                    Some(client)
                } else {
                    None
                };
                present.push((id, client));
                joined += 1;
            } else {
                let (id, client) = present.swap_remove(random.random_range(0..present.len()));
                // Some close the page first.
                let client = if random.random_bool(0.5) { client } else { None };
                let gone = Endpoint { expire: true, ..Endpoint::new(&id) };
                jicofo.modify(ConferenceModify { endpoints: vec![gone], ..ConferenceModify::new("m") }).await.unwrap();
                exists = !present.is_empty();
                drop(client);
            }
        }
    }
    let debug = http::get(bridge.rest, "/debug?full=true").await;
    assert!(debug.contains("\"conferences\":{}"), "{debug}");
    while jicofo.stat("endpoints").await != "0" {}
    // Closing takes the sockets a moment.
    for _ in 0..100 {
        if descriptors() <= before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} descriptors at the end, {before} at the start", descriptors());
}
