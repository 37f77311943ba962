//! Visitors, with the focus and a bridge as they run and a real Prosody that has two visitor nodes.

mod focus_client;
mod focus_world;
mod http;
mod prosody;

use std::net::SocketAddr;
use std::time::Duration;

use focus_client::{Client, ROOM, WAIT, until};
use focus_world::owners;
use prosody::Prosody;
use ringbridge_controlplane::bridge::{self, BridgeSettings};
use ringbridge_controlplane::focus::{self, FocusSettings, VisitorNode, VisitorSettings};
use ringbridge_controlplane::rest::Process;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::stanza_error::DefinedCondition;

async fn page(address: SocketAddr, path: &str) -> Value {
    let answer = http::get(address, path).await;
    let body = answer.split_once("\r\n\r\n").map_or(answer.as_str(), |(_, body)| body);
    let (from, to) = (body.find('{').expect("JSON"), body.rfind('}').expect("JSON"));
    serde_json::from_str(&body[from..=to]).expect("JSON")
}

async fn until_stats(rest: SocketAddr, what: &str, holds: impl Fn(&Value) -> bool) {
    let all = async {
        while !holds(&page(rest, "/stats").await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(WAIT, all).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn visitors(server: &Prosody) -> VisitorSettings {
    let node = |name: &str| VisitorNode {
        name: name.to_owned(),
        service: format!("conference.{name}.meet.test").parse().unwrap(),
        xmpp: server.account_on(name, "focus", Some("focus")),
    };
    VisitorSettings {
        max_participants: 50,
        max_per_node: 100,
        notification_interval: Duration::from_millis(100),
        join_latency: Duration::from_secs(60),
        broadcast: true,
        require_room_flag: false,
        live_room: false,
        nodes: vec![node("v1"), node("v2")],
    }
}

#[tokio::test]
async fn a_visitor_watches_and_is_let_in_over_a_real_server() {
    let Some(server) = Prosody::start_with_visitors() else { return };
    let (stop, stopped) = watch::channel(false);
    let (focus_rest, bridge_rest) = (prosody::loopback(), prosody::loopback());
    let settings = FocusSettings {
        xmpp: server.account("focus", Some("focus")),
        brewery: prosody::BREWERY.parse().unwrap(),
        rest_listen: focus_rest,
        visitors: Some(visitors(&server)),
        ..focus_world::settings()
    };
    let focus = tokio::spawn(focus::run(settings, Process::default(), stopped.clone()));
    let settings = BridgeSettings { port: 0, rest_listen: bridge_rest, ..server.bridge("ringbridge-1") };
    let bridge = tokio::spawn(bridge::run(settings, Process::default(), stopped));

    let mut anna = Client::join_as(&server, "jvb2", "aaaa", 1_000).await;
    let mut bert = Client::join_as(&server, "jvb", "bbbb", 2_000).await;
    until(&mut anna, &mut bert, "both have media", |a, b| {
        a.count("session-initiate") == 1 && b.count("session-initiate") == 1
    })
    .await;
    until_stats(focus_rest, "the nodes are there", |stats| {
        ["v1", "v2"].iter().all(|node| stats["visitor_nodes"][node]["online"] == true)
    })
    .await;

    // Whoever wants to watch is sent to a node, where the room is, and the participants in it.
    let answer = anna.ask_to_visit().await;
    assert_eq!((answer.attr("vnode"), answer.attr("ready")), (Some("v1"), Some("true")), "{answer:?}");
    assert_eq!(answer.attr("focusjid"), Some("focus@auth.v1.meet.test"));
    let mut carla = Client::visit(&server, "v1", "jvb2", "cccc").await;
    until(&mut carla, &mut anna, "it is invited, and sees the participants", |c, _| {
        let shown = |nick: &str| c.room.occupants().contains_key(nick);
        c.count("session-initiate") == 1 && shown("aaaa") && shown("bbbb")
    })
    .await;
    let offered = owners(&carla.jingles[0]);
    assert!(offered.contains_key("aaaa") && offered.contains_key("bbbb"), "{offered:?}");
    until_stats(focus_rest, "it is counted", |stats| stats["visitors"] == 1 && stats["participants"] == 3).await;
    let debug = page(bridge_rest, "/debug?full=true").await;
    let endpoint = |nick: &str| {
        let conferences = debug["conferences"].as_object().expect("conferences");
        conferences.values().map(|conference| conference["endpoints"][nick]["visitor"].clone()).next().expect("one")
    };
    assert_eq!((endpoint("cccc"), endpoint("aaaa")), (Value::from(true), Value::from(false)));
    assert!(!anna.room.occupants().contains_key("cccc"), "participants do not see visitors");

    // It cannot send.
    let mut wish = carla.jingles[0].clone();
    (wish.action, wish.json_message) = ("source-add".to_owned(), None);
    wish.contents = vec![focus_world::content("audio", vec![focus_world::source("cccc", 9_000, "audio", true)])];
    let to: Option<jid::Jid> = Some("room@conference.v1.meet.test/focus".parse().unwrap());
    let id = || "add".to_owned();
    carla.sender.send(Iq::Set { from: None, to, id: id(), payload: Element::from(wish.clone()) });
    // Nor can a participant of the same room say that in its name.
    let to: Option<jid::Jid> = Some(format!("{ROOM}/focus").parse().unwrap());
    bert.sender.send(Iq::Set { from: None, to, id: id(), payload: Element::from(wish) });
    until(&mut carla, &mut bert, "both are refused", |c, b| {
        let condition = |client: &Client| client.errors.iter().any(|(id, _)| id == "add");
        condition(c) && condition(b)
    })
    .await;
    assert!(carla.errors.iter().any(|(_, condition)| *condition == DefinedCondition::Forbidden), "{:?}", carla.errors);
    // A stranger cannot connect nodes.
    let xml = format!("<visitors xmlns='jitsi:visitors' room='{ROOM}'><disconnect-vnode vnode='v1'/></visitors>");
    let to: Option<jid::Jid> = Some("visitors.meet.test".parse().unwrap());
    bert.sender.send(Iq::Get { from: None, to, id: "part".into(), payload: xml.parse().unwrap() });
    until(&mut carla, &mut bert, "that is refused", |_, b| b.errors.iter().any(|(id, _)| id == "part")).await;

    // It raises its hand and is let in.
    let hand = "<jitsi_participant_raisedHand xmlns='jabber:client'>1</jitsi_participant_raisedHand>";
    let presence = carla.room.update(vec![hand.parse().unwrap()]);
    carla.sender.send(presence);
    until(&mut carla, &mut anna, "it is answered", |c, _| !c.promotions.is_empty()).await;
    let promotion = &carla.promotions[0];
    assert_eq!(promotion.attr("focusjid"), Some("focus@auth.meet.test"));
    let leave = carla.room.leave();
    carla.sender.send(leave);
    until_stats(focus_rest, "it left", |stats| stats["visitors"] == 0).await;
    let mut carla = Client::join_as(&server, "jvb2", "cccc", 3_000).await;
    until(&mut carla, &mut anna, "it takes part", |c, a| {
        let told = a.jingles.iter().any(|jingle| jingle.action == "source-add" && owners(jingle).contains_key("cccc"));
        c.count("session-initiate") == 1 && told
    })
    .await;

    // The focus leaves the node with the last participant.
    for mut client in [anna, bert, carla] {
        let leave = client.room.leave();
        client.sender.send(leave);
    }
    until_stats(focus_rest, "the conference is over", |stats| stats["conferences"] == 0).await;
    stop.send_replace(true);
    assert!(timeout(WAIT, async { (focus.await, bridge.await) }).await.is_ok());
}
