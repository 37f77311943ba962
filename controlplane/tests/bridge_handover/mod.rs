//! A bridge in the middle of a conference goes on in another process: here, as a second bridge in this one.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ringbridge_controlplane::bridge::{
    Affected, BridgeState, Handing, Handover, HandoverError, Takeover, run_on_handing,
};
use ringbridge_dataplane::ice::IceState;
use ringbridge_dataplane::ids::EndpointId;
use std::time::Instant;

use super::*;

/// A bridge that can be handed over, and its settings.
fn handed(server: &Prosody, from: Option<(BridgeState, BridgeSettings)>) -> (Bridge, Handover, BridgeSettings) {
    let (link, worker) = links(WorkerId::new(0), 64, 64).unwrap();
    let stats = Arc::new(WorkerStats::default());
    let mut settings = settings(server);
    settings.connections[0].xmpp.resumption = false;
    let from = from.map(|(state, before)| {
        settings.connections = before.connections;
        Takeover::new(Instant::now(), &settings, 1, (&state, Vec::new())).expect("it is taken over")
    });
    let (rest, websocket) = (settings.rest_listen, settings.websocket_listen.expect("served"));
    let (stop, stopped) = watch::channel(false);
    let heart = beat(&stats);
    let (handover, requests) = Handover::new();
    let handing = Handing::new(from, requests);
    let task = tokio::spawn(run_on_handing(settings.clone(), vec![(link, stats)], handing, stopped));
    (Bridge { stop, task, worker, rest, websocket, heart }, handover, settings)
}

async fn stats(bridge: &Bridge) -> serde_json::Value {
    body(&http::get(bridge.rest, "/colibri/stats").await)
}

fn ping() -> Element {
    "<ping xmlns='urn:xmpp:ping'/>".parse().unwrap()
}

/// Whatever the room said of the bridge so far: it did not leave.
fn nobody_left(jicofo: &Jicofo) {
    let left = jicofo.presences.iter().find(|presence| presence.type_ == Type::Unavailable);
    assert_eq!(left, None, "the bridge left its room");
}

fn dtls(setup: Setup) -> Option<Transport> {
    let fingerprint = Fingerprint { hash: "sha-256".to_owned(), setup: Some(setup), value: "AB:CD".to_owned() };
    let ice = IceTransport { fingerprints: vec![fingerprint], ..IceTransport::default() };
    Some(Transport { ice: Some(ice), ..Transport::default() })
}

/// Creates endpoints `aaaa` and `bbbb` in a conference; the bridge's transport for the first.
async fn two_endpoints(jicofo: &mut Jicofo) -> IceTransport {
    let request = ConferenceModify {
        create: true,
        name: Some("room@conference.meet.test".to_owned()),
        endpoints: vec![create("aaaa")],
        ..ConferenceModify::new("meeting-1")
    };
    let mut reply = jicofo.modify(request).await.unwrap();
    let second = ConferenceModify { endpoints: vec![create("bbbb")], ..ConferenceModify::new("meeting-1") };
    jicofo.modify(second).await.unwrap();
    reply.endpoints.swap_remove(0).transport.unwrap().ice.unwrap()
}

#[tokio::test]
async fn another_process_goes_on_with_the_conference() {
    let Some(server) = Prosody::start() else { return };
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let (mut bridge, handover, _) = handed(&server, None);
    while jicofo.stat("healthy").await != "true" {}
    assert_eq!(handover.export().await.unwrap_err(), HandoverError::OutOfTurn("it is not frozen"));

    // Two endpoints; one is connected and has said what it wants.
    let ice = two_endpoints(&mut jicofo).await;
    let url = ice.web_sockets[0].address().to_owned();
    assert!(matches!(bridge.command().await, Command::CreateConference { .. }));
    for label in ["aaaa", "bbbb"] {
        assert!(matches!(bridge.command().await, Command::CreateEndpoint(new) if new.label == label));
    }
    let (aaaa, bbbb) = (EndpointId(1), EndpointId(2));
    let conference = ringbridge_dataplane::ids::ConferenceId(1);
    let (_, path) = url.split_once("meet.test").expect("an address");
    let (mut client, _) = tokio_tungstenite::connect_async(format!("ws://{}{path}", bridge.websocket)).await.unwrap();
    assert_eq!(heard(&mut client).await["colibriClass"], "ServerHello");
    heard(&mut client).await;
    let wish = r#"{"colibriClass":"ReceiverVideoConstraints","lastN":3,"constraints":{"b-v0":{"maxHeight":720}}}"#;
    client.send(wish.into()).await.unwrap();
    assert!(matches!(bridge.command().await, Command::SetConstraints { .. }));
    bridge.worker.send(Event::DominantSpeaker { conference, recent: vec![bbbb, aaaa] }).unwrap();
    bridge.worker.send(Event::ForwardedSources { endpoint: aaaa, sources: vec!["b-v0".to_owned()] }).unwrap();
    assert_eq!(heard(&mut client).await["dominantSpeakerEndpoint"], "bbbb");
    assert_eq!(heard(&mut client).await["forwardedSources"][0], "b-v0");

    // Beforehand, and with a handshake under way that does not end.
    let outlook = handover.outlook().await.unwrap();
    assert!(outlook.is_hitless() && (outlook.conferences, outlook.endpoints) == (1, 2), "{outlook:?}");
    let passive = Endpoint { transport: dtls(Setup::Passive), ..Endpoint::new("bbbb") };
    jicofo.modify(ConferenceModify { endpoints: vec![passive], ..ConferenceModify::new("meeting-1") }).await.unwrap();
    let connected = Event::Ice { endpoint: bbbb, state: IceState::Connected, remote: None, relayed: false };
    bridge.worker.send(connected).unwrap();
    assert!(matches!(bridge.command().await, Command::SendDtls { endpoint: EndpointId(2), .. }), "we begin");
    let patience = Duration::from_millis(50);
    let outlook = handover.quiesce(patience).await.unwrap();
    let named = Affected { meeting: "meeting-1".to_owned(), name: "bbbb".to_owned() };
    assert_eq!((outlook.handshakes, outlook.not_resumed), (vec![named], Vec::new()));

    // Begun and given up: nothing has changed, and what was asked meanwhile is answered.
    handover.freeze().await.unwrap();
    assert_eq!(handover.freeze().await.unwrap_err(), HandoverError::OutOfTurn("it is frozen already"));
    handover.export().await.unwrap();
    let me = format!("{}/ringbridge-1", prosody::BREWERY);
    let resumed = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        handover.resume().await.unwrap();
    };
    let (answer, ()) = tokio::join!(jicofo.ask(&me, ping()), resumed);
    assert!(matches!(answer, Iq::Result { .. }), "{answer:?}");
    // The same when whoever began it is gone.
    handover.freeze().await.unwrap();
    let begun = Instant::now();
    drop(handover);
    assert!(matches!(jicofo.ask(&me, ping()).await, Iq::Result { .. }) && begun.elapsed() < WAIT);
    nobody_left(&jicofo);
    bridge.heart.store(false, Ordering::Relaxed);
    bridge.stop.send(true).unwrap();
    timeout(WAIT, bridge.task).await.expect("an end").unwrap().unwrap();
}

#[tokio::test]
async fn clients_and_focus_find_everything_where_it_was() {
    let Some(server) = Prosody::start() else { return };
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let (mut bridge, handover, settings_before) = handed(&server, None);
    while jicofo.stat("healthy").await != "true" {}
    let ice = two_endpoints(&mut jicofo).await;
    let (url, fingerprint) = (ice.web_sockets[0].address().to_owned(), ice.fingerprints[0].value.clone());
    let (aaaa, bbbb) = (EndpointId(1), EndpointId(2));
    let conference = ringbridge_dataplane::ids::ConferenceId(1);
    let (_, path) = url.split_once("meet.test").expect("an address");
    let (mut client, _) = tokio_tungstenite::connect_async(format!("ws://{}{path}", bridge.websocket)).await.unwrap();
    heard(&mut client).await;
    heard(&mut client).await;
    let wish = r#"{"colibriClass":"ReceiverVideoConstraints","lastN":3,"constraints":{"b-v0":{"maxHeight":720}}}"#;
    client.send(wish.into()).await.unwrap();
    while !matches!(bridge.command().await, Command::SetConstraints { .. }) {}
    bridge.worker.send(Event::DominantSpeaker { conference, recent: vec![bbbb, aaaa] }).unwrap();
    assert_eq!(heard(&mut client).await["dominantSpeakerEndpoint"], "bbbb");
    while stats(&bridge).await["total_colibri_web_socket_messages_received"] != 1 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let announced = stats(&bridge).await;

    // The workers are suspended between the two; what they reported last is taken in.
    assert!(handover.quiesce(Duration::from_secs(2)).await.unwrap().is_hitless());
    handover.freeze().await.unwrap();
    let demand = Event::SourceDemand { endpoint: aaaa, source: "aaaa-v0".to_owned(), max_height: Limit::Max(360) };
    bridge.worker.send(demand).unwrap();
    bridge.worker.send(Event::ForwardedSources { endpoint: aaaa, sources: vec!["b-v0".to_owned()] }).unwrap();
    let state = handover.export().await.unwrap();
    refuses_what_was_changed(&state, &settings_before);
    // A request while nobody reads: the next one answers it.
    let me = format!("{}/ringbridge-1", prosody::BREWERY);
    let next = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        handover.commit().await.unwrap();
        handed(&server, Some((state, settings_before)))
    };
    let (answer, (mut other, second, other_settings)) = tokio::join!(jicofo.ask(&me, ping()), next);
    assert!(matches!(answer, Iq::Result { .. }), "{answer:?}");
    timeout(WAIT, bridge.task).await.expect("an end").unwrap().unwrap();
    other.no_command();
    assert_eq!(handover.outlook().await.unwrap_err(), HandoverError::Ended);

    // The client comes again with what it has, and gets what it must know.
    let closed = timeout(WAIT, async { while client.next().await.is_some_and(|message| message.is_ok()) {} });
    closed.await.expect("the former connection ends");
    let (mut client, _) = tokio_tungstenite::connect_async(format!("ws://{}{path}", other.websocket)).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(heard(&mut client).await);
    }
    assert_eq!(told[0]["colibriClass"], "ServerHello");
    assert_eq!((&told[1]["sourceName"], &told[1]["maxHeight"]), (&"aaaa-v0".into(), &360.into()), "{told:?}");
    assert_eq!(told[2]["forwardedSources"], serde_json::json!(["b-v0"]), "{told:?}");
    assert_eq!(told[3]["dominantSpeakerEndpoint"], "bbbb", "{told:?}");
    // What it asked for stands: a patch of it is merged.
    client.send(r#"{"colibriClass":"ReceiverVideoConstraints","lastN":5}"#.into()).await.unwrap();
    assert!(matches!(other.command().await, Command::SetConstraints { endpoint: EndpointId(1), constraints }
        if constraints.last_n == Limit::Max(5) && constraints.per_source[0].1.max_height == Limit::Max(720)));

    // The focus goes on: it saw nobody leave, and finds the conference; numbers are not used twice.
    let third = ConferenceModify { endpoints: vec![create("cccc")], ..ConferenceModify::new("meeting-1") };
    let reply = jicofo.modify(third).await.unwrap();
    let ice = reply.endpoints[0].transport.as_ref().unwrap().ice.as_ref().unwrap();
    assert_eq!(ice.fingerprints[0].value, fingerprint, "one certificate");
    assert!(matches!(other.command().await, Command::CreateEndpoint(new) if new.endpoint == EndpointId(3)));
    nobody_left(&jicofo);
    let mut after = stats(&other).await;
    while after["mucs_joined"] != 1 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        after = stats(&other).await;
    }
    assert_eq!(after["conferences"], 1, "{after}");
    for total in ["total_conferences_created", "total_participants", "total_colibri_web_socket_messages_received"] {
        assert!(after[total].as_u64() >= announced[total].as_u64() && after[total] != 0, "{total}: {after}");
    }

    // And once more; then the conference ends as any other.
    assert!(second.quiesce(Duration::from_secs(2)).await.unwrap().is_hitless());
    second.freeze().await.unwrap();
    let state = second.export().await.unwrap();
    second.commit().await.unwrap();
    let (mut third, _handover, _) = handed(&server, Some((state, other_settings)));
    let end = ConferenceModify { expire: true, ..ConferenceModify::new("meeting-1") };
    jicofo.modify(end).await.unwrap();
    assert!(matches!(third.command().await, Command::ExpireConference { .. }));
    nobody_left(&jicofo);
    third.stop.send(true).unwrap();
    timeout(WAIT, third.task).await.expect("an end").unwrap().unwrap();
    while jicofo.bridge_presence().await.type_ != Type::Unavailable {}
}

/// Bytes that somebody changed are refused, or taken for what they say; nothing else happens.
fn refuses_what_was_changed(state: &BridgeState, settings: &BridgeSettings) {
    let mut random = StdRng::seed_from_u64(21);
    let mut refused = 0;
    for _ in 0..1_000 {
        let mut bytes = state.as_bytes().to_vec();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..4) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes.insert(at, random.random()),
                _ => bytes[at] ^= 1 << random.random_range(0..8),
            }
        }
        refused += usize::from(
            Takeover::new(Instant::now(), settings, 1, (&BridgeState::from_bytes(bytes), Vec::new())).is_err(),
        );
    }
    assert!(refused > 100, "{refused} refused");
    let other = Takeover::new(Instant::now(), settings, 2, (state, Vec::new())).unwrap_err();
    assert!(other.to_string().contains("give it as many"), "{other}");
    assert!(!format!("{state:?}").contains("pwd"), "no secrets in logs");
}
