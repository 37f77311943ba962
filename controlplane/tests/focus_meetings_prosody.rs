//! The focus and a bridge, both as they run, against a real Prosody with what Jitsi's modules add: moderation, metadata and
//! breakout rooms.

mod focus_client;
mod focus_world;
mod http;
mod prosody;

use std::net::SocketAddr;
use std::time::Duration;

use focus_client::{Client, ROOM, WAIT, until};
use prosody::Prosody;
use ringbridge_controlplane::bridge::{self, BridgeSettings};
use ringbridge_controlplane::focus::{self, FocusSettings};
use ringbridge_controlplane::rest::Process;
use serde_json::Value;
use tokio::sync::watch;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::message::Message;
use xmpp_parsers::stanza_error::DefinedCondition;

fn say(client: &Client, to: &str, payload: &str) {
    let mut message = Message::new(Some(to.parse().unwrap()));
    message.type_ = xmpp_parsers::message::MessageType::Normal;
    message.payloads.push(payload.parse().unwrap());
    client.sender.send(message);
}

async fn page(address: SocketAddr, path: &str) -> Value {
    let answer = http::get(address, path).await;
    let body = answer.split_once("\r\n\r\n").map_or(answer.as_str(), |(_, body)| body);
    let (from, to) = (body.find('{').expect("JSON"), body.rfind('}').expect("JSON"));
    serde_json::from_str(&body[from..=to]).expect("JSON")
}

/// Whether the bridge drops the sound of an endpoint.
async fn is_dropped(bridge: SocketAddr, nick: &str) -> bool {
    let debug = page(bridge, "/debug?full=true").await;
    let conferences = debug["conferences"].as_object().expect("conferences");
    conferences.values().any(|conference| conference["endpoints"][nick]["force_mute"]["audio"] == true)
}

/// Lets both act until the bridge drops the sound of an endpoint, or does not.
async fn until_dropped(a: &mut Client, b: &mut Client, bridge: SocketAddr, nick: &str, dropped: bool) {
    let deadline = tokio::time::Instant::now() + WAIT;
    while is_dropped(bridge, nick).await != dropped {
        assert!(tokio::time::Instant::now() < deadline, "{nick} dropped: {}", !dropped);
        tokio::select! {
            () = a.step() => {}, () = b.step() => {},
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
}

#[tokio::test]
async fn moderation_metadata_and_breakout_rooms_over_a_real_server() {
    let Some(server) = Prosody::start_with_meetings() else { return };
    let (stop, stopped) = watch::channel(false);
    let (focus_rest, bridge_rest) = (prosody::loopback(), prosody::loopback());
    let settings = FocusSettings {
        xmpp: server.account("focus", Some("focus")),
        brewery: prosody::BREWERY.parse().unwrap(),
        rest_listen: focus_rest,
        ..focus_world::settings()
    };
    let focus = tokio::spawn(focus::run(settings, Process::default(), stopped.clone()));
    let settings = BridgeSettings { port: 0, rest_listen: bridge_rest, ..server.bridge("ringbridge-1") };
    let bridge = tokio::spawn(bridge::run(settings, Process::default(), stopped));

    // Two accounts: who first comes is owner, the other is not.
    let mut anna = Client::join_as(&server, "jvb2", "aaaa", 1_000).await;
    let mut bert = Client::join_as(&server, "jvb", "bbbb", 2_000).await;
    until(&mut anna, &mut bert, "both have media", |a, b| {
        a.moderator && a.count("session-initiate") == 1 && b.count("session-initiate") == 1
    })
    .await;
    assert!(!bert.moderator);

    say(&anna, "avmoderation.meet.test", "<av_moderation xmlns='jabber:client' enable='true' mediaType='audio'/>");
    until(&mut anna, &mut bert, "the other is muted", |_, b| b.mutes.len() == 1).await;
    until_dropped(&mut anna, &mut bert, bridge_rest, "bbbb", true).await;
    assert!(anna.mutes.is_empty() && !is_dropped(bridge_rest, "aaaa").await);

    // Who is no moderator can neither end it nor unmute.
    say(&bert, "avmoderation.meet.test", "<av_moderation xmlns='jabber:client' enable='false' mediaType='audio'/>");
    let unmute = format!("<mute xmlns='http://jitsi.org/jitmeet/audio' jid='{ROOM}/bbbb'>false</mute>");
    let to = Some(format!("{ROOM}/focus").parse().unwrap());
    bert.sender.send(Iq::Set { from: None, to, id: "unmute".into(), payload: unmute.parse::<Element>().unwrap() });
    until(&mut anna, &mut bert, "it is refused", |_, b| {
        b.errors.iter().any(|(id, condition)| id == "unmute" && *condition == DefinedCondition::NotAllowed)
    })
    .await;
    // Nor can it say so itself, to the focus.
    let forged = format!(
        "<json-message xmlns='http://jitsi.org/jitmeet'>{{\"type\":\"av_moderation\",\"room\":\"{ROOM}\",\"enabled\":false,\
         \"mediaType\":\"audio\"}}</json-message>"
    );
    say(&bert, "focus@auth.meet.test/focus", &forged);
    say(&bert, &format!("{ROOM}/focus"), &forged);
    let allow = format!("<av_moderation xmlns='jabber:client' jidToWhitelist='{ROOM}/bbbb' mediaType='audio'/>");
    assert!(is_dropped(bridge_rest, "bbbb").await);
    say(&anna, "avmoderation.meet.test", &allow);
    until_dropped(&mut anna, &mut bert, bridge_rest, "bbbb", false).await;
    let deadline = tokio::time::Instant::now() + WAIT;
    while page(focus_rest, "/stats").await["refused"]["foreign_message"].as_u64() < Some(1) {
        assert!(tokio::time::Instant::now() < deadline, "the forged messages were not counted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // To a breakout room, and back: the main room is kept, and newcomers start muted as its metadata says.
    let metadata = "{\"key\":\"startMuted\",\"data\":{\"audio\":false,\"video\":true}}";
    let metadata = format!("<room_metadata xmlns='http://jitsi.org/jitmeet' room='{ROOM}'>{metadata}</room_metadata>");
    say(&anna, "metadata.meet.test", &metadata);
    say(
        &anna,
        "breakout.meet.test",
        "<breakout_rooms xmlns='jabber:client' type='features/breakout-rooms/add' subject='one'/>",
    );
    let breakout = |client: &Client| {
        let rooms = client.messages.iter().filter_map(|message| message["rooms"].as_object());
        let mut addresses = rooms.flat_map(|rooms| rooms.values()).filter_map(|room| room["jid"].as_str());
        addresses.find(|address| address.ends_with("@breakout.meet.test")).map(str::to_owned)
    };
    until(&mut anna, &mut bert, "both know of it", |a, b| {
        let started_muted = |message: &Value| message["metadata"]["startMuted"]["video"] == true;
        breakout(a).is_some() && breakout(b).is_some() && b.messages.iter().any(started_muted)
    })
    .await;
    let breakout = breakout(&anna).unwrap();
    anna.switch(&breakout).await;
    bert.switch(&breakout).await;
    until(&mut anna, &mut bert, "both have media there", |a, b| {
        a.count("session-initiate") == 2 && b.count("session-initiate") == 2
    })
    .await;
    // Published once a second. That it stays for longer is in focus_breakouts.rs.
    let deadline = tokio::time::Instant::now() + WAIT;
    while page(focus_rest, "/stats").await["conferences"] != 2 {
        assert!(tokio::time::Instant::now() < deadline, "the main room is not kept");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!is_dropped(bridge_rest, "bbbb").await, "what holds in the main room holds there");
    anna.switch(ROOM).await;
    bert.switch(ROOM).await;
    until(&mut anna, &mut bert, "both have media again", |a, b| {
        a.count("session-initiate") == 3 && b.count("session-initiate") == 3
    })
    .await;
    let muted = bert.jingles.iter().rfind(|jingle| jingle.action == "session-initiate").unwrap().start_muted.clone();
    assert_eq!(muted.map(|muted| (muted.audio, muted.video)), Some((false, true)), "it is still allowed to speak");
    stop.send(true).unwrap();
    focus.await.unwrap().unwrap();
    bridge.await.unwrap().unwrap();
}
