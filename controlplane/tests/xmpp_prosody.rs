//! The XMPP connection against a real Prosody.

mod prosody;

use std::time::Duration;

use prosody::Prosody;
use ringbridge_controlplane::xmpp::muc::{MucChange, MucRoom, whois_anyone};
use ringbridge_controlplane::xmpp::{self, XmppEvent, XmppSender};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_xmpp::Stanza;

type Events = mpsc::Receiver<XmppEvent>;

async fn next(events: &mut Events) -> XmppEvent {
    timeout(Duration::from_secs(15), events.recv()).await.expect("an event within 15 s").expect("an open connection")
}

async fn online(events: &mut Events) -> (jid::FullJid, bool) {
    loop {
        if let XmppEvent::Online { jid, resumed } = next(events).await {
            return (jid, resumed);
        }
    }
}

async fn enter(room: &mut MucRoom, sender: &XmppSender, events: &mut Events) -> bool {
    sender.send(room.join(Vec::new()));
    loop {
        if let XmppEvent::Stanza(Stanza::Presence(presence)) = next(events).await
            && let Some(MucChange::Entered { created }) = room.handle(&presence)
        {
            return created;
        }
    }
}

#[tokio::test]
async fn login_join_and_survive_a_server_crash() {
    let Some(mut server) = Prosody::start() else { return };
    let (stop, stopped) = watch::channel(false);
    let (sender, mut events) = xmpp::connect(server.account("focus", Some("focus")), stopped);
    let (jid, resumed) = online(&mut events).await;
    assert_eq!((jid.to_string().as_str(), resumed), ("focus@auth.meet.test/focus", false));

    let mut room = MucRoom::new(&prosody::BREWERY.parse().unwrap(), "focus").unwrap();
    assert!(enter(&mut room, &sender, &mut events).await, "the room was new");
    sender.send(whois_anyone(&room.room(), "form"));
    loop {
        if let XmppEvent::Stanza(Stanza::Iq(iq)) = next(&mut events).await {
            assert!(matches!(iq, xmpp_parsers::iq::Iq::Result { ref id, .. } if id == "form"), "{iq:?}");
            break;
        }
    }

    server.kill();
    loop {
        if let XmppEvent::Offline { reason } = next(&mut events).await {
            assert!(!reason.is_empty());
            break;
        }
    }
    room.reset();
    sender.send(room.update(Vec::new())); // dropped, must not confuse the next session
    server.run();
    let (jid, resumed) = online(&mut events).await;
    assert_eq!((jid.to_string().as_str(), resumed), ("focus@auth.meet.test/focus", false));
    assert!(enter(&mut room, &sender, &mut events).await, "a restarted server has no rooms");

    stop.send(true).unwrap();
    drop(sender);
    while timeout(Duration::from_secs(5), events.recv()).await.expect("the connection ends").is_some() {}
}

#[tokio::test]
async fn a_cut_connection_is_resumed() {
    let Some(server) = Prosody::start() else { return };
    // A proxy that can cut the connection while the server lives on.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy_port = listener.local_addr().unwrap().port();
    let (cut, _) = tokio::sync::broadcast::channel::<()>(1);
    let (cutter, target) = (cut.clone(), server.port);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut cut = cutter.subscribe();
            tokio::spawn(async move {
                let mut upstream = tokio::net::TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
                    _ = cut.recv() => {}
                }
            });
        }
    });
    let (_stop, stopped) = watch::channel(false);
    let mut settings = server.account("jvb", None);
    settings.port = proxy_port;
    let (sender, mut events) = xmpp::connect(settings, stopped.clone());
    let (first, _) = online(&mut events).await;
    let mut room = MucRoom::new(&prosody::BREWERY.parse().unwrap(), "jvb").unwrap();
    enter(&mut room, &sender, &mut events).await;

    cut.send(()).unwrap();
    let (second, resumed) = online(&mut events).await;
    assert!(resumed, "{}", server.log());
    assert_eq!(first, second);

    // Still in the room: somebody who joins is seen.
    let (other, mut other_events) = xmpp::connect(server.account("focus", None), stopped);
    online(&mut other_events).await;
    let mut other_room = MucRoom::new(&prosody::BREWERY.parse().unwrap(), "focus").unwrap();
    enter(&mut other_room, &other, &mut other_events).await;
    assert!(other_room.occupants.contains_key("jvb"));
    loop {
        if let XmppEvent::Stanza(Stanza::Presence(presence)) = next(&mut events).await
            && room.handle(&presence) == Some(MucChange::OccupantJoined("focus".to_owned()))
        {
            break;
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_retried() {
    let Some(server) = Prosody::start() else { return };
    let (_stop, stopped) = watch::channel(false);
    let mut settings = server.account("jvb", None);
    settings.password = "wrong".to_owned();
    let (sender, mut events) = xmpp::connect(settings, stopped);
    // Two attempts take one back-off of a second.
    assert!(timeout(Duration::from_millis(2500), events.recv()).await.is_err(), "must not come online");
    let refusals =
        server.log().matches("Client disconnected").count().max(server.log().matches("not-authorized").count());
    assert!(refusals >= 2, "retried: {refusals}\n{}", server.log());
    drop(sender);
}
