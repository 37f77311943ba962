//! The XMPP connection against a real Prosody.

mod guest;
mod prosody;

use std::sync::Arc;
use std::time::Duration;

use guest::Guest;

use prosody::Prosody;
use ringbridge_controlplane::xmpp::muc::{MucChange, MucRoom, whois_anyone};
use ringbridge_controlplane::xmpp::{self, Keeping, XmppEvent, XmppSender};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Barrier, mpsc, watch};
use tokio::time::timeout;
use tokio_xmpp::Stanza;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::ping::Ping;

const WAIT: Duration = Duration::from_secs(15);

type Events = mpsc::Receiver<XmppEvent>;

async fn next(events: &mut Events) -> XmppEvent {
    timeout(WAIT, events.recv()).await.expect("an event within 15 s").expect("an open connection")
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
    assert!(other_room.occupants().contains_key("jvb"));
    loop {
        if let XmppEvent::Stanza(Stanza::Presence(presence)) = next(&mut events).await
            && room.handle(&presence) == Some(MucChange::OccupantJoined("focus".to_owned()))
        {
            break;
        }
    }
}

/// Who is known to be there gets stanzas as soon as its address is bound, before it has acknowledgements on. A server ends the
/// stream of who acknowledges more than it counted.
#[tokio::test]
async fn a_stanza_that_comes_before_acknowledgements_is_not_acknowledged() {
    let Some(server) = Prosody::start() else { return };
    // A proxy that holds back the request for acknowledgements.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy_port = listener.local_addr().unwrap().port();
    let (held, target) = (Arc::new(Barrier::new(2)), server.port);
    let holds = Arc::clone(&held);
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let upstream = tokio::net::TcpStream::connect(("127.0.0.1", target)).await.unwrap();
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), upstream.into_split());
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut bytes = [0; 65_536];
        while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
            if String::from_utf8_lossy(&bytes[..length]).contains("<enable ") {
                holds.wait().await;
                holds.wait().await;
            }
            to_server.write_all(&bytes[..length]).await.unwrap();
        }
    });
    let (_stop, stopped) = watch::channel(false);
    let mut settings = server.account("focus", Some("focus"));
    settings.port = proxy_port;
    let (_sender, mut events) = xmpp::connect(settings, stopped.clone());
    let (other, mut other_events) = xmpp::connect(server.account("jvb", None), stopped);
    online(&mut other_events).await;
    let ask = |to: &str, id: &str| {
        other.send(Iq::Get { from: None, to: to.parse().ok(), id: id.to_owned(), payload: Ping.into() });
    };

    timeout(WAIT, held.wait()).await.expect("it asks for acknowledgements");
    ask("focus@auth.meet.test/focus", "early");
    ask("auth.meet.test", "afterwards");
    while !matches!(next(&mut other_events).await, XmppEvent::Stanza(Stanza::Iq(iq)) if iq.id() == "afterwards") {}
    held.wait().await;
    let (_, resumed) = online(&mut events).await;
    assert!(!resumed);
    for id in ["early", "first", "second", "third"] {
        if id != "early" {
            ask("focus@auth.meet.test/focus", id);
        }
        let event = next(&mut events).await;
        assert!(matches!(&event, XmppEvent::Stanza(Stanza::Iq(iq)) if iq.id() == id), "{id}: {event:?}");
    }
}

/// Anybody may log in as a guest and write to any address. With a session that is resumed, as the focus has it, whatever ends
/// the stream comes back with it.
#[tokio::test(flavor = "multi_thread")] // The guest blocks its thread.
async fn no_stanza_of_a_guest_ends_the_connection() {
    let Some(server) = Prosody::start() else { return };
    let (_stop, stopped) = watch::channel(false);
    let (sender, mut events) = xmpp::connect(server.account("focus", Some("focus")), stopped);
    let (jid, _) = online(&mut events).await;
    let deep = |levels: usize, open: &str, close: &str| open.repeat(levels) + &close.repeat(levels);
    let long = "x".repeat(40_000);
    let contents = [
        deep(4_000, "<a>", "</a>"),
        deep(8_000, "<a>", "</a>"),
        deep(3_000, "<a xmlns='urn:b'>", "</a>"),
        format!("<a b='{}'/>", "x".repeat(8_200)),
        format!("<a b='{long}'/>"),
        format!("<{long}/>"),
        format!("<a {long}='b'/>"),
        format!("<a xmlns='{long}'/>"),
        format!("<a xmlns:{long}='b'/>"),
        format!("<body>{}</body>", "&apos;".repeat(30_000)),
        format!("<body><![CDATA[{}]]></body>", "'".repeat(250_000)),
        "<a/>".repeat(40_000),
        "<p:a xmlns:p='urn:p' p:b='1' xmlns:q='urn:p' q:c='2'/>".to_owned(),
        "<message xmlns='jabber:client'/><iq/><presence type='x'/>".to_owned(),
        "<x xmlns='http://etherx.jabber.org/streams'/><error/>".to_owned(),
        "<body>\u{feff}\u{10ffff}\u{fffd}</body>".to_owned(),
    ];
    for (index, content) in contents.iter().enumerate() {
        let mut guest = Guest::login(server.port);
        for (kind, attributes) in [
            ("message", ""),
            ("message", "type='error' id='e'"),
            ("presence", ""),
            ("iq", "type='get' id='g'"),
            ("iq", "type='result' id='r'"),
        ] {
            guest.write(&format!("<{kind} {attributes} to='{jid}'>{content}</{kind}>"));
        }
        // What is still acknowledged and answered: the server says that it had not to be given again.
        guest.write(&format!("<iq type='get' id='last-{index}' to='{jid}'><last xmlns='urn:test'/></iq>"));
        loop {
            match next(&mut events).await {
                XmppEvent::Stanza(Stanza::Iq(iq)) if *iq.id() == format!("last-{index}") => break,
                XmppEvent::Stanza(_) => {}
                other => panic!("{index}: {other:?}"),
            }
        }
    }
    // Requests that were skipped are answered.
    let mut guest = Guest::login(server.port);
    guest.write(&format!("<iq type='set' id='deep' to='{jid}'>{}</iq>", contents[0]));
    let answer = guest.hear("deeper than 64");
    assert!(answer.contains("not-acceptable"), "{answer}");
    let dropped = xmpp::XmppCounters::family(std::iter::once(sender.counters().as_ref()));
    let depth = dropped.samples.iter().find(|(labels, _)| labels[0].1 == "depth").unwrap();
    assert!(depth.1 >= 15.0, "{dropped:?}");
}

/// What the two ends of a conflict do is up to them: the one that lost must not take its place back at once.
#[tokio::test]
async fn two_processes_with_one_account_do_not_fight() {
    let Some(server) = Prosody::start() else { return };
    let (_stop, stopped) = watch::channel(false);
    let (_first, mut first_events) = xmpp::connect(server.account("focus", Some("focus")), stopped.clone());
    online(&mut first_events).await;
    let (_second, mut second_events) = xmpp::connect(server.account("focus", Some("focus")), stopped);
    online(&mut second_events).await;
    let XmppEvent::Offline { reason } = next(&mut first_events).await else { panic!("still online") };
    assert!(reason.contains("another process"), "{reason}");
    assert!(timeout(Duration::from_secs(3), second_events.recv()).await.is_err(), "the second was thrown out");
}

/// A bridge's stream is not resumable: once it is dead nobody may choose it, whatever the server's patience.
#[tokio::test]
async fn a_stream_without_resumption_leaves_the_brewery_with_its_connection() {
    let Some(server) = Prosody::start_with("smacks_hibernation_time = 600") else { return };
    let (_stop, stopped) = watch::channel(false);
    let (watcher, mut watched) = xmpp::connect(server.account("focus", None), stopped.clone());
    online(&mut watched).await;
    let mut room = MucRoom::new(&prosody::BREWERY.parse().unwrap(), "focus").unwrap();
    enter(&mut room, &watcher, &mut watched).await;
    for (resumption, leaves) in [(false, true), (true, false)] {
        let settings = xmpp::XmppSettings { resumption, ..server.account("jvb", Some("jvb")) };
        let runtime = std::thread::spawn({
            let stopped = stopped.clone();
            move || {
                // No task runs after the block: nothing is said at the end, as when a process is killed.
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let (sender, mut events) = xmpp::connect(settings, stopped);
                    online(&mut events).await;
                    let mut room = MucRoom::new(&prosody::BREWERY.parse().unwrap(), "jvb").unwrap();
                    enter(&mut room, &sender, &mut events).await;
                });
            }
        });
        let mut gone = false;
        let watch = async {
            loop {
                if let XmppEvent::Stanza(Stanza::Presence(presence)) = next(&mut watched).await
                    && room.handle(&presence) == Some(MucChange::OccupantLeft("jvb".to_owned()))
                {
                    break;
                }
            }
        };
        gone |= timeout(Duration::from_secs(4), watch).await.is_ok();
        runtime.join().unwrap();
        assert_eq!(gone, leaves, "resumption: {resumption}");
    }
}

/// A request of the watcher to the one that is handed over.
fn ask(watcher: &XmppSender, id: &str) {
    let to = Some(format!("{}/jvb", prosody::BREWERY).parse().unwrap());
    // The room gives it an id of its own.
    let payload = format!("<asks xmlns='urn:test' this='{id}'/>").parse().unwrap();
    watcher.send(Iq::Get { from: None, to, id: id.to_owned(), payload });
}

async fn asked(events: &mut Events, id: &str) {
    loop {
        if let XmppEvent::Stanza(Stanza::Iq(Iq::Get { payload, .. })) = next(events).await
            && payload.attr("this") == Some(id)
        {
            return;
        }
    }
}

async fn parked(sender: &XmppSender, events: &mut Events) {
    assert!(sender.park().await);
    while !matches!(next(events).await, XmppEvent::Parked) {}
}

/// The bridge's stream is not resumable until somebody wants to hand it over; then nobody in the room notices, and nothing is lost
/// that was said meanwhile in either direction.
#[tokio::test]
async fn another_process_goes_on_with_the_session() {
    let Some(server) = Prosody::start() else { return };
    let (_stop, stopped) = watch::channel(false);
    let (watcher, mut watched) = xmpp::connect(server.account("focus", Some("focus")), stopped.clone());
    online(&mut watched).await;
    let mut room = MucRoom::new(&prosody::BREWERY.parse().unwrap(), "focus").unwrap();
    enter(&mut room, &watcher, &mut watched).await;
    let settings = xmpp::XmppSettings { resumption: false, ..server.account("jvb", Some("jvb")) };
    let (mut sender, mut events) = xmpp::connect(settings.clone(), stopped.clone());
    let (jid, _) = online(&mut events).await;
    let mut own = MucRoom::new(&prosody::BREWERY.parse().unwrap(), "jvb").unwrap();
    enter(&mut own, &sender, &mut events).await;
    assert_eq!(sender.export().await, None, "not before it is asked for");
    for round in 0..3 {
        assert_eq!(sender.keep().await, Keeping::Kept);
        // Begun and given up: everything is as before.
        parked(&sender, &mut events).await;
        ask(&watcher, "unread");
        sender.resume().await;
        asked(&mut events, "unread").await;
        // What arrives from here on the other one is given, and what waits to be sent is sent.
        parked(&sender, &mut events).await;
        ask(&watcher, &format!("while-nobody-reads-{round}"));
        let marker = |round| format!("<said xmlns='urn:test' round='{round}'/>").parse().unwrap();
        sender.send(own.update(vec![marker(round)]));
        let carried = sender.export().await.expect("it is kept");
        sender.abandon().await;
        while events.recv().await.is_some() {}
        let (next_sender, mut next_events) = xmpp::connect_from(settings.clone(), Some(carried), stopped.clone());
        let (next_jid, resumed) = online(&mut next_events).await;
        assert!(resumed && next_jid == jid, "{}", server.log());
        asked(&mut next_events, &format!("while-nobody-reads-{round}")).await;
        next_sender.send(own.update(vec![marker(100 + round)]));
        let mut said = Vec::new();
        while !said.contains(&(100 + round).to_string()) {
            let XmppEvent::Stanza(Stanza::Presence(presence)) = next(&mut watched).await else { continue };
            let change = room.handle(&presence);
            assert!(!matches!(change, Some(MucChange::OccupantLeft(_))), "round {round}: {presence:?}");
            let marker = presence.payloads.iter().find(|payload| payload.name() == "said");
            said.extend(marker.and_then(|marker| marker.attr("round")).map(str::to_owned));
        }
        assert_eq!(said, [round.to_string(), (100 + round).to_string()], "each once");
        (sender, events) = (next_sender, next_events);
    }
    // Sessions that the server does not know are no obstacle.
    parked(&sender, &mut events).await;
    let carried = sender.export().await.expect("it is kept");
    let (_other, mut others) = xmpp::connect(settings.clone(), stopped.clone());
    assert!(!online(&mut others).await.1, "whoever has the same resource replaces it");
    let (_late, mut lates) = xmpp::connect_from(settings, Some(carried), stopped);
    assert!(!online(&mut lates).await.1);
}

#[tokio::test]
async fn a_server_without_stream_management_says_so() {
    let Some(server) = Prosody::start_with(prosody::WITHOUT_SMACKS) else { return };
    let (_stop, stopped) = watch::channel(false);
    let (sender, mut events) = xmpp::connect(server.account("jvb", None), stopped);
    assert_eq!(sender.keep().await, Keeping::Offline);
    online(&mut events).await;
    assert_eq!(sender.keep().await, Keeping::Unsupported);
    parked(&sender, &mut events).await;
    assert_eq!(sender.export().await, None);
    sender.resume().await;
    assert_eq!(sender.keep().await, Keeping::Unsupported, "it goes on");
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
