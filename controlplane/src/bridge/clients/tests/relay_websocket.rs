//! Relays whose channel is a WebSocket: what is said when it opens, and when it is opened again.

use super::*;
use crate::bridge::clients::redial::Redial;
use crate::channel::{Address, ChannelEvent, ChannelOut, Dial, FromRelay, MAX_MESSAGE, Outgoing, ToRelay};
use crate::colibri::bridge::RelayChannel;
use crate::colibri::identity::RelayIdentity;
use ringbridge_dataplane::ids::MeshId;

const RELAY: EndpointId = EndpointId(100);
const THEIRS: EndpointId = EndpointId(50);
const URL: &str = "ws://192.0.2.1:9090/colibri-relay-ws/jvb2/c/jvb1?pwd=p";

/// A bridge with the client `a`, and a relay over a WebSocket to another one, where `b` is.
fn linked() -> Fixture {
    let mut fixture = Fixture::new(1);
    let who = RelayIdentity {
        id: RELAY,
        conference: ROOM,
        conference_hex: ROOM.to_string(),
        label: "jvb2".to_owned(),
        own: "jvb1".to_owned(),
        worker: 3,
        mesh: MeshId(0),
        mesh_name: "0".to_owned(),
    };
    fixture.endpoints.insert_relay(Arc::new(who), &RelayChannel::WebSocket { password: "p".to_owned() });
    let who = EndpointIdentity { relay: Some(RELAY), ..(*who_is(THEIRS.0, "b")).clone() };
    fixture.endpoints.insert_relayed(Arc::new(who));
    fixture.actions();
    fixture
}

fn who_is(n: u32, label: &str) -> Arc<EndpointIdentity> {
    super::who(n, ROOM, label.to_owned(), false)
}

impl Fixture {
    fn relay_event(&mut self, event: ChannelEvent) {
        self.endpoints.handle_channel_event(self.now, event);
        assert_eq!(self.endpoints.inconsistency(), None);
    }

    /// A WebSocket stands; what is sent over it.
    fn relay_opens(&mut self, connection: u64) -> Outgoing {
        let (sender, outgoing) = outbox();
        self.relay_event(ChannelEvent::Opened { endpoint: RELAY, connection, sender });
        outgoing
    }

    fn relay_closes(&mut self, connection: u64, for_good: bool) {
        self.relay_event(ChannelEvent::Closed { endpoint: RELAY, connection, for_good });
    }

    fn is_open(&self) -> bool {
        self.endpoints.relays[&RELAY].carriers.current() == Some(Carrier::WebSocket)
    }

    /// Whether the bridge is to open the other one's WebSocket now; the attempt gets the number `connection`.
    fn dials(&mut self, connection: u64) -> bool {
        self.endpoints.handle_timeout(self.now);
        let dials = self.actions().iter().filter(|action| matches!(action, Action::Dial { relay: RELAY, .. })).count();
        if dials > 0 {
            let redial = self.endpoints.relays.get_mut(&RELAY).and_then(|relay| relay.redial.as_mut());
            redial.expect("there").set_under_way(Dial::idle(connection));
        }
        assert!(dials <= 1);
        dials == 1
    }

    /// Milliseconds until it is to do so.
    fn dials_after(&mut self, connection: u64) -> Option<u128> {
        let start = self.now;
        self.now = self.endpoints.poll_timeout()?;
        self.dials(connection).then(|| (self.now - start).as_millis())
    }
}

fn texts(outgoing: &mut Outgoing) -> Vec<String> {
    let text = |out| if let ChannelOut::Text(text) = out { text.to_string() } else { "closed".to_owned() };
    std::iter::from_fn(|| outgoing.try_recv().ok()).map(text).collect()
}

#[test]
fn whoever_opened_it_both_greet_and_say_what_the_other_must_know() {
    let mut fixture = linked();
    let screen = SourceDescription { video_type: VideoType::Desktop, ..video("a-v1", 2) };
    fixture.endpoints.set_sources(EndpointId(1), vec![video("a-v0", 1), screen]);
    fixture.endpoints.handle_demand(THEIRS, "b-v0".to_owned(), Limit::Max(180));
    for connection in 1..3 {
        let mut sent = fixture.relay_opens(connection);
        let said = texts(&mut sent);
        assert_eq!(said.len(), 3, "{said:?}");
        assert_eq!(said[0], r#"{"colibriClass":"ServerHello"}"#);
        assert!(said[1].contains("AddReceiver") && said[1].contains(r#""maxHeight":180"#), "{said:?}");
        assert!(said[2].contains("SourceVideoTypeMessage") && said[2].contains("a-v1"), "{said:?}");
        // What is news meanwhile is said at once, and once it is lost it is kept.
        fixture.endpoints.handle_demand(THEIRS, "b-v0".to_owned(), Limit::Max(720));
        assert!(texts(&mut sent)[0].contains(r#""maxHeight":720"#));
        fixture.relay_closes(connection, false);
        assert!(!fixture.is_open());
        fixture.endpoints.handle_demand(THEIRS, "b-v0".to_owned(), Limit::Max(180));
    }
    assert_eq!(fixture.endpoints.counters().relay_messages_sent, 8);
}

#[test]
fn only_the_connection_that_counts_is_heard() {
    let mut fixture = linked();
    fixture.endpoints.set_sources(EndpointId(1), vec![video("a-v0", 1)]);
    let wanted = || {
        let text = r#"{"colibriClass":"AddReceiver","sourceName":"a-v0","videoConstraints":{"maxHeight":180}}"#;
        FromRelay::parse(text.as_bytes()).expect("valid")
    };
    let says = |fixture: &mut Fixture, connection| {
        fixture.relay_event(ChannelEvent::RelayMessage { relay: RELAY, connection, message: wanted() });
        let demand =
            |action: &Action| matches!(action, Action::Command { command: Command::SetRelayDemand { .. }, .. });
        fixture.actions().iter().filter(|action| demand(action)).count()
    };
    let mut first = fixture.relay_opens(1);
    texts(&mut first);
    assert_eq!(says(&mut fixture, 1), 1);
    let _second = fixture.relay_opens(2);
    assert!(first.try_recv().is_err(), "its outbox is gone, which closes it");
    assert_eq!((says(&mut fixture, 1), says(&mut fixture, 2)), (0, 1));
    // The end of the first one is none of the second.
    fixture.relay_closes(1, false);
    assert!(fixture.is_open());
    assert_eq!((fixture.endpoints.counters().relay_messages_received, fixture.endpoints.websockets()), (2, 2));
    // An end that is reported after the relay's, and an opening.
    fixture.endpoints.remove(THEIRS);
    fixture.endpoints.remove_relay(RELAY);
    fixture.relay_closes(2, false);
    let mut late = fixture.relay_opens(3);
    assert_eq!(texts(&mut late), ["closed"]);
    assert_eq!(fixture.endpoints.admitted(), 1, "its password went with it");
}

#[test]
fn a_relay_that_ends_says_so() {
    let mut fixture = linked();
    let mut sent = fixture.relay_opens(1);
    fixture.endpoints.remove(THEIRS);
    fixture.endpoints.remove_relay(RELAY);
    assert_eq!(texts(&mut sent).last().map(String::as_str), Some("closed"));
    let mut fixture = linked();
    fixture.endpoints.set_relay_address(fixture.now, RELAY, URL);
    let mut sent = fixture.relay_opens(1);
    fixture.endpoints.close_websockets();
    assert_eq!(texts(&mut sent).last().map(String::as_str), Some("closed"), "the bridge ends");
}

#[test]
fn an_address_is_the_order_to_open_it_until_it_stands() {
    let mut fixture = linked();
    assert!(!fixture.dials(1), "nobody said so");
    fixture.endpoints.set_relay_address(fixture.now, RELAY, URL);
    assert!(fixture.dials(1));
    // The same again is no news; another one is.
    fixture.endpoints.set_relay_address(fixture.now, RELAY, URL);
    assert!(!fixture.dials(2));
    fixture.endpoints.set_relay_address(fixture.now, RELAY, &URL.replace("pwd=p", "pwd=q"));
    assert!(fixture.dials(2));
    // It fails: again and again, ever more seldom, and for as long as the relay is there.
    let mut waits = Vec::new();
    for connection in 2..40 {
        let reason = "refused".to_owned();
        fixture.relay_event(ChannelEvent::NotOpened { relay: RELAY, connection, reason });
        waits.push(fixture.dials_after(connection + 1).expect("again"));
    }
    for (n, most) in [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000].into_iter().enumerate() {
        assert!((most / 2..=most).contains(&waits[n]), "{waits:?}");
    }
    assert!(waits[7..].iter().all(|wait| (2_500..=5_000).contains(wait)), "{waits:?}");
    assert_eq!(fixture.endpoints.counters().relay_websockets_failed, 38);
    // It stands for a minute, and is lost: soon again.
    let _sent = fixture.relay_opens(40);
    assert!(fixture.is_open() && fixture.endpoints.relays[&RELAY].channel_seen);
    fixture.now += Duration::from_secs(60);
    assert!(!fixture.dials(41));
    fixture.relay_closes(40, false);
    assert!(fixture.dials_after(41).is_some_and(|wait| wait <= 250));
    // One that stands for a moment only counts as one that failed.
    for (connection, most) in [(41, 250), (42, 500), (43, 1_000)] {
        let _sent = fixture.relay_opens(connection);
        fixture.now += Duration::from_secs(1);
        fixture.relay_closes(connection, false);
        let wait = fixture.dials_after(connection + 1).expect("again");
        assert!((most / 2..=most).contains(&wait), "{wait} of {most}");
    }
    assert_eq!(fixture.endpoints.counters().relay_websockets_failed, 38, "an end is no failure to open");
    // The other bridge says that its relay is gone.
    let _sent = fixture.relay_opens(44);
    fixture.relay_closes(44, true);
    assert_eq!(fixture.dials_after(45), None);
    // Another address begins anew; with the relay everything ends.
    fixture.endpoints.set_relay_address(fixture.now, RELAY, URL);
    assert!(fixture.dials(45));
    fixture.relay_event(ChannelEvent::NotOpened { relay: RELAY, connection: 45, reason: String::new() });
    fixture.endpoints.remove(THEIRS);
    fixture.endpoints.remove_relay(RELAY);
    assert_eq!((fixture.endpoints.poll_timeout(), fixture.endpoints.timers()), (None, 0));
}

#[test]
fn addresses_that_cannot_be_opened_are_counted() {
    let mut fixture = linked();
    for (n, url) in ["", "https://a/b", "ws://", &format!("ws://a/{}", "x".repeat(5_000))].into_iter().enumerate() {
        fixture.endpoints.set_relay_address(fixture.now, RELAY, url);
        assert!(!fixture.dials(1), "{url}");
        assert_eq!(fixture.endpoints.counters().relay_websockets_failed, n as u64 + 1);
    }
    fixture.endpoints.set_relay_address(fixture.now, THEIRS, URL);
    assert!(!fixture.dials(1), "no relay");
}

/// Two bridges that both open the other's would replace each other's connection for ever.
#[test]
fn while_the_other_bridge_has_opened_one_none_is_opened() {
    let mut fixture = linked();
    fixture.endpoints.set_relay_address(fixture.now, RELAY, URL);
    assert!(fixture.dials(1));
    let _ours = fixture.relay_opens(1);
    let _theirs = fixture.relay_opens(2);
    fixture.relay_closes(1, false);
    assert_eq!(fixture.dials_after(3), None);
    assert!(fixture.is_open());
    fixture.relay_closes(2, false);
    assert!(fixture.dials_after(3).is_some(), "theirs is gone: ours again");
}

#[test]
fn a_bridge_that_does_not_read_loses_its_channel_and_large_messages_do_not_cross() {
    let mut fixture = linked();
    let forwarded = |size: usize| ToRelay::Forwarded(Utf8Bytes::from("x".repeat(size)));
    fixture.endpoints.send_to_relay(RELAY, forwarded(10));
    assert_eq!(fixture.endpoints.channel_counters.get(Counted::NoChannel), 1);
    let mut sent = fixture.relay_opens(1);
    texts(&mut sent);
    fixture.endpoints.send_to_relay(RELAY, forwarded(MAX_MESSAGE + 1));
    assert_eq!((fixture.endpoints.channel_counters.get(Counted::Oversized), texts(&mut sent).len()), (1, 0));
    // Messages of others give way first, and the bridge's own then end it.
    for _ in 0..100 {
        fixture.endpoints.send_to_relay(RELAY, forwarded(60_000));
    }
    assert!(fixture.is_open() && fixture.endpoints.channel_counters.get(Counted::Unread) > 90);
    for _ in 0..10_000 {
        fixture.endpoints.send_to_relay(RELAY, ToRelay::ServerHello {});
    }
    assert_eq!((fixture.is_open(), fixture.endpoints.channel_counters.get(Counted::Stalled)), (false, 1));
}

#[test]
fn the_debug_page_names_the_carrier() {
    let mut fixture = linked();
    let shown = |fixture: &Fixture| {
        let shown = fixture.endpoints.debug(RELAY).expect("there");
        (shown["channel"].clone(), shown["carrier"].clone())
    };
    assert_eq!(shown(&fixture), (json!(false), json!(null)));
    let _sent = fixture.relay_opens(1);
    assert_eq!(shown(&fixture), (json!(true), json!("WebSocket")));
}

#[test]
fn jitter_takes_away_at_most_half() {
    let now = Instant::now();
    for (jitter, ms) in [(0.0, 250), (1.0, 125), (0.5, 187), (-7.0, 250), (7.0, 125)] {
        let mut redial = Redial::new(now, Address::parse(URL).expect("an address"));
        redial.set_under_way(Dial::idle(1));
        assert!(redial.take_due(now).is_some() && redial.take_due(now).is_none());
        assert_eq!(redial.handle_ended(now, 2, false, jitter), None, "not ours");
        assert_eq!(redial.handle_ended(now, 1, false, jitter), Some(1));
        assert_eq!(redial.poll_timeout().map(|at| (at - now).as_millis()), Some(ms));
    }
}
