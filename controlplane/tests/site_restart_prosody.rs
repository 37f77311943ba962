//! A whole meeting over a real Prosody: a main room with a recording and a breakout room, and a focus that is killed in it and
//! started again. Its calls go on meanwhile, and it finds everything as it was.

mod account;
mod focus_client;
mod focus_world;
mod http;
mod killed_focus;
mod prosody;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use account::{Account, JIBRI, RECORDERS, jibri_status};
use focus_client::{Client, ROOM, WAIT};
use prosody::Prosody;
use ringbridge_controlplane::bridge::{self, BridgeSettings};
use ringbridge_controlplane::rest::Process;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::message::{Message, MessageType};

async fn page(address: SocketAddr, path: &str) -> Value {
    if tokio::net::TcpStream::connect(address).await.is_err() {
        return Value::Null;
    }
    let answer = http::get(address, path).await;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_default()
}

async fn until_healthy(rest: SocketAddr) {
    let deadline = Instant::now() + WAIT;
    while tokio::net::TcpStream::connect(rest).await.is_err()
        || !http::get(rest, "/about/health").await.contains(" 200 ")
    {
        assert!(Instant::now() < deadline, "the focus is not healthy");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Lets everybody act until the pages say something.
async fn until_page(people: &mut [Client], rest: SocketAddr, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + WAIT;
    loop {
        let said = page(rest, path).await;
        if holds(&said) {
            return said;
        }
        assert!(Instant::now() < deadline, "{path} still says {said}");
        act(people, Duration::from_millis(10)).await;
    }
}

/// Lets everybody act for a while.
async fn act(people: &mut [Client], time: Duration) {
    let until = tokio::time::Instant::now() + time;
    loop {
        let any = people.iter_mut().map(|one| Box::pin(one.step()));
        tokio::select! {
            _ = futures::future::select_all(any) => {}
            () = tokio::time::sleep_until(until) => return,
        }
    }
}

/// Who is where with a running session, which room is a breakout room of which, and whether that is recorded.
fn state(conferences: &Value) -> Value {
    let active = |conference: &Value| {
        let participants = conference["participants"].as_object().into_iter().flatten();
        participants.filter(|(_, one)| one["stage"] == "Active").map(|(nick, _)| nick.clone()).collect::<Vec<_>>()
    };
    let all = conferences.as_object().into_iter().flatten();
    all.map(|(room, one)| (room.clone(), json!({ "active": active(one), "main": one["main_room"] }))).collect()
}

#[tokio::test]
async fn a_focus_that_is_killed_in_breakout_rooms_and_a_recording_finds_them_again() {
    let Some(server) = Prosody::start_with_meetings() else { return };
    let (rest, again, bridge_rest) = (prosody::loopback(), prosody::loopback(), prosody::loopback());
    let first = killed_focus::start(&server, rest);
    let (stop, stopped) = watch::channel(false);
    let settings = BridgeSettings { port: 0, rest_listen: bridge_rest, ..server.bridge("ringbridge-1") };
    let bridge = tokio::spawn(bridge::run(settings, Process::default(), stopped));
    until_healthy(rest).await;
    let mut jibri = Account::new(&server, "jvb", RECORDERS, "jibri-1").await;
    jibri.enter(&jibri_status("idle")).await;

    let mut people = Vec::new();
    for (n, nick) in ["anna", "bert", "cleo", "dora"].into_iter().enumerate() {
        people.push(Client::join(&server, nick, 1_000 * (n as u32 + 1)).await);
        act(&mut people, Duration::from_millis(200)).await;
    }
    // A breakout room for two of them.
    let mut add = Message::new("breakout.meet.test".parse().ok());
    add.type_ = MessageType::Normal;
    let payload = "<breakout_rooms xmlns='jabber:client' type='features/breakout-rooms/add' subject='one'/>";
    add.payloads.push(payload.parse().unwrap());
    let breakout = |client: &Client| {
        let rooms = client.messages.iter().filter_map(|message| message["rooms"].as_object());
        let mut addresses = rooms.flat_map(|rooms| rooms.values()).filter_map(|room| room["jid"].as_str());
        addresses.find(|address| address.ends_with("@breakout.meet.test")).map(str::to_owned)
    };
    people[0].sender.send(add);
    let deadline = Instant::now() + WAIT;
    let breakout = loop {
        if let Some(found) = breakout(&people[3]) {
            break found;
        }
        assert!(Instant::now() < deadline, "the breakout room is announced to nobody");
        act(&mut people, Duration::from_millis(50)).await;
    };
    people[2].switch(&breakout).await;
    people[3].switch(&breakout).await;
    let expected = |recorder: bool| {
        let mut main = vec!["anna", "bert"];
        main.extend(recorder.then_some("recorder"));
        json!({ &breakout: { "active": ["cleo", "dora"], "main": ROOM }, ROOM: { "active": main, "main": null } })
    };
    until_page(&mut people, rest, "/debug/conferences-full", |said| state(said) == expected(false)).await;

    // A recording of the main room: the Jibri begins, and its recorder is in the room.
    let begin = format!("<jibri xmlns='{JIBRI}' action='start' recording_mode='file'/>");
    let to = Some(format!("{ROOM}/focus").parse().unwrap());
    people[0].sender.send(Iq::Set { from: None, to, id: "record".into(), payload: begin.parse().unwrap() });
    let order = timeout(WAIT, jibri.ordered("start")).await.expect("the Jibri is asked");
    let session = order.payload.attr("session_id").expect("a session").to_owned();
    let on = format!("<jibri xmlns='{JIBRI}' status='on'/>");
    assert!(matches!(jibri.ask(&format!("{RECORDERS}/focus"), &on).await, Iq::Result { .. }));
    let mut recorder = Account::new(&server, "jvb", ROOM, "recorder").await;
    let features =
        format!("<features><feature var='{JIBRI}'/></features><session_id>{session}</session_id><mode>FILE</mode>");
    recorder.enter(&features).await;
    until_page(&mut people, rest, "/stats", |said| said["jibri"]["recording_active"] == 1).await;
    let endpoints = |debug: &Value| {
        let conferences = debug["conferences"].as_object().into_iter().flatten();
        conferences.map(|(_, one)| one["endpoints"].as_object().map_or(0, serde_json::Map::len)).sum::<usize>()
    };
    let before = endpoints(&page(bridge_rest, "/debug?full=true").await);
    assert!(before >= 4, "{before} endpoints");

    // The focus is killed. What it gave goes on.
    drop(first);
    act(&mut people, Duration::from_millis(500)).await;
    assert_eq!(endpoints(&page(bridge_rest, "/debug?full=true").await), before, "the bridge keeps everybody");
    let _second = killed_focus::start(&server, again);
    until_healthy(again).await;
    // One of each room asks again, as clients do whose focus left.
    let back = Instant::now();
    people[0].ask_for(ROOM).await;
    people[2].ask_for(&breakout).await;
    until_page(&mut people, again, "/debug/conferences-full", |said| {
        let state = state(said);
        let present = |room: &str, nick: &str| said[room]["participants"].get(nick).is_some();
        // The recorder of this test takes no offers.
        state == expected(false) && present(ROOM, "recorder")
    })
    .await;
    let rooms = back.elapsed();
    until_page(&mut people, again, "/stats", |said| said["jibri"]["recording_active"] == 1).await;
    let recording = back.elapsed();
    println!(
        "rooms and sessions as before {rooms:?} after the focus was healthy, the recording in its statistics after {recording:?}"
    );
    // 2 s are met on a machine that has nothing else to do; the statistics are published once a second.
    assert!(rooms < Duration::from_secs(10), "{rooms:?}");
    // It is the same recording, and its moderator can end it.
    let end = format!("<jibri xmlns='{JIBRI}' action='stop' recording_mode='file'/>");
    let to = Some(format!("{ROOM}/focus").parse().unwrap());
    people[0].sender.send(Iq::Set { from: None, to, id: "stop".into(), payload: end.parse().unwrap() });
    until_page(&mut people, again, "/stats", |said| said["jibri"]["recording_active"] == 0).await;
    assert!(people[0].errors.iter().all(|(id, _)| id != "stop"), "{:?}", people[0].errors);
    stop.send(true).unwrap();
    bridge.await.unwrap().unwrap();
}
