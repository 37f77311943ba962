//! The bridge channel over real sockets: who gets in, what is carried, how it ends.

mod http;
mod relay_websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use ringbridge_controlplane::channel::{
    Admission, BridgeMessage, ChannelCounters, ChannelEvent, ClientMessage, Counted, MAX_MESSAGE, Outbox, Registry,
    Timing, router_with,
};
use ringbridge_controlplane::door::{Door, Name};
use ringbridge_dataplane::ids::EndpointId;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// Who may connect: the endpoint `ab12`, as long as this is kept, and whoever a test admits.
struct Known {
    registry: Registry,
    endpoint: Admission,
}

async fn server() -> (SocketAddr, Known, mpsc::Receiver<ChannelEvent>, Arc<ChannelCounters>) {
    server_with(Timing::default()).await
}

async fn server_with(timing: Timing) -> (SocketAddr, Known, mpsc::Receiver<ChannelEvent>, Arc<ChannelCounters>) {
    let registry = Registry::default();
    let endpoint = registry.admit("c0ffee", "ab12", "secret", EndpointId(7));
    let (events, received) = mpsc::channel(16);
    let counters = Arc::new(ChannelCounters::default());
    let router = router_with("jvb1".into(), registry.clone(), events, Arc::clone(&counters), timing);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (_open, stop) = watch::channel(false);
        Door::new(Name::Channel, listener).serve(router, stop).await;
    });
    (address, Known { registry, endpoint }, received, counters)
}

async fn connect(address: SocketAddr, path: &str) -> Result<Socket, u16> {
    match connect_async(format!("ws://{address}{path}")).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

const GOOD: &str = "/colibri-ws/jvb1/c0ffee/ab12?pwd=secret";

async fn opened(events: &mut mpsc::Receiver<ChannelEvent>) -> (u64, Outbox) {
    match events.recv().await {
        Some(ChannelEvent::Opened { endpoint: EndpointId(7), connection, sender }) => (connection, sender),
        other => panic!("not opened: {other:?}"),
    }
}

async fn close_code(socket: &mut Socket) -> Option<(u16, String)> {
    while let Some(message) = socket.next().await {
        if let Ok(Message::Close(Some(frame))) = message {
            return Some((frame.code.into(), frame.reason.to_string()));
        }
    }
    None
}

#[tokio::test]
async fn only_the_right_door_and_password_open() {
    let (address, known, _events, _counters) = server().await;
    for (path, status) in [
        ("/elsewhere", 404),
        ("/colibri-ws/jvb1/c0ffee", 404),
        ("/colibri-ws/other/c0ffee/ab12?pwd=secret", 404),
        ("/colibri-ws/jvb1/c0ffee/ab12?pwd=wrong", 403),
        ("/colibri-ws/jvb1/c0ffee/ab12", 403),
        ("/colibri-ws/jvb1/c0ffee/nobody?pwd=secret", 403),
        ("/colibri-ws/jvb1/nowhere/ab12?pwd=secret", 403),
    ] {
        assert_eq!(connect(address, path).await.err(), Some(status), "{path}");
    }
    let later = known.registry.admit("c0ffee", "ab12", "changed", EndpointId(8));
    drop(known.endpoint);
    let changed = GOOD.replace("secret", "changed");
    assert!(connect(address, &changed).await.is_ok(), "one of the same name that came later may still connect");
    drop(later);
    assert_eq!(connect(address, &changed).await.err(), Some(403), "it may no longer");
    assert_eq!(connect(address, GOOD).await.err(), Some(403), "the first may no longer either");
}

#[tokio::test]
async fn messages_pass_both_ways_and_nonsense_is_dropped() {
    let (address, _known, mut events, counters) = server().await;
    let mut socket = connect(address, GOOD).await.expect("opens");
    let (connection, sender) = opened(&mut events).await;
    sender.send(BridgeMessage::ServerHello { version: None }.to_text(), false).expect("queued");
    let hello = socket.next().await.expect("a frame").expect("fine");
    assert_eq!(hello, Message::text(r#"{"colibriClass":"ServerHello"}"#));
    let malformed = counters.get(Counted::Malformed);
    let unknown = counters.get(Counted::UnknownClass);
    socket.send(Message::binary(vec![1, 2, 3])).await.expect("sent");
    socket.send(Message::text(r#"{"colibriClass":"FromTheFuture"}"#)).await.expect("sent");
    for text in ["nonsense", r#"{"colibriClass":"LastNChangedEvent","lastN":"x"}"#, r#"{"colibriClass":"ClientHello"}"#]
    {
        socket.send(Message::text(text)).await.expect("sent");
    }
    match events.recv().await {
        Some(ChannelEvent::Message { connection: on, message: ClientMessage::ClientHello, .. }) => {
            assert_eq!(on, connection)
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(counters.get(Counted::Malformed), malformed + 3);
    assert_eq!(counters.get(Counted::UnknownClass), unknown + 1);
    sender.close();
    assert_eq!(close_code(&mut socket).await, Some((1001, "endpoint closed".into())));
    assert!(matches!(events.recv().await, Some(ChannelEvent::Closed { connection: on, .. }) if on == connection));
}

#[tokio::test]
async fn a_second_socket_replaces_the_first() {
    let (address, _known, mut events, _counters) = server().await;
    let mut first = connect(address, GOOD).await.expect("opens");
    let (_, sender) = opened(&mut events).await;
    let _second = connect(address, GOOD).await.expect("opens too");
    let (_, _kept) = opened(&mut events).await;
    // The owner of the events drops the former sender.
    drop(sender);
    assert_eq!(close_code(&mut first).await, Some((1000, "replaced".into())));
}

#[tokio::test]
async fn plain_http_gets_the_same_answers() {
    let (address, _known, _events, _counters) = server().await;
    for (path, status) in [("/colibri-ws/jvb1/c0ffee/ab12?pwd=wrong", "403"), (GOOD, "400")] {
        let answer = http::get(address, path).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
    }
}

#[tokio::test]
async fn an_oversized_message_closes_only_its_own_socket() {
    let (address, known, mut events, counters) = server().await;
    let _other = known.registry.admit("c0ffee", "cd34", "other", EndpointId(8));
    let mut other = connect(address, "/colibri-ws/jvb1/c0ffee/cd34?pwd=other").await.expect("opens");
    let Some(ChannelEvent::Opened { sender: kept, .. }) = events.recv().await else { panic!("not opened") };
    // The largest that is taken, one byte more, and far more than is even read.
    for (size, closed) in [(MAX_MESSAGE, false), (MAX_MESSAGE + 1, true), (64 * MAX_MESSAGE, true)] {
        let before = counters.get(Counted::Oversized);
        let mut big = connect(address, GOOD).await.expect("opens");
        let (_, sender) = opened(&mut events).await;
        let padding = "x".repeat(size - r#"{"colibriClass":"ClientHello","p":""}"#.len());
        let text = format!(r#"{{"colibriClass":"ClientHello","p":"{padding}"}}"#);
        assert_eq!(text.len(), size);
        // The largest cannot be sent whole: the server stops reading.
        let _ = timeout(Duration::from_secs(2), big.send(Message::text(text))).await;
        if closed {
            let event = events.recv().await;
            assert!(matches!(event, Some(ChannelEvent::Closed { endpoint: EndpointId(7), .. })), "{event:?}");
            assert_eq!(counters.get(Counted::Oversized), before + 1);
            if size < 2 * MAX_MESSAGE {
                assert_eq!(close_code(&mut big).await, Some((1009, "message too big".into())));
            }
        } else {
            let event = events.recv().await;
            assert!(
                matches!(event, Some(ChannelEvent::Message { message: ClientMessage::ClientHello, .. })),
                "{event:?}"
            );
            drop((sender, big));
            assert!(matches!(events.recv().await, Some(ChannelEvent::Closed { .. })));
        }
    }
    kept.send(BridgeMessage::ServerHello { version: None }.to_text(), false).expect("queued");
    assert!(other.next().await.expect("a frame").is_ok());
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let timing = Timing { write: Duration::from_millis(300), ..Timing::default() };
    let (address, _known, mut events, counters) = server_with(timing).await;
    let stalled = counters.get(Counted::Stalled);
    let _silent = connect(address, GOOD).await.expect("opens");
    let (_, sender) = opened(&mut events).await;
    // More than the queues of both sockets take.
    let text = axum::extract::ws::Utf8Bytes::from("x".repeat(60_000));
    let flood = tokio::spawn(async move {
        loop {
            let _ = sender.send(text.clone(), true);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let event = events.recv().await;
    assert!(matches!(event, Some(ChannelEvent::Closed { endpoint: EndpointId(7), .. })), "{event:?}");
    assert!(counters.get(Counted::Stalled) > stalled);
    flood.abort();
}

/// Who says too much is not listened to for a while: nothing is lost, and nothing piles up.
#[tokio::test]
async fn a_client_that_floods_is_slowed_down() {
    let (address, known, mut events, counters) = server().await;
    let _other = known.registry.admit("c0ffee", "cd34", "other", EndpointId(8));
    let mut flooding = connect(address, GOOD).await.expect("opens");
    let mut other = connect(address, "/colibri-ws/jvb1/c0ffee/cd34?pwd=other").await.expect("opens");
    let throttled = counters.get(Counted::Throttled);
    let array = format!("[{}]", vec!["0"; 30_000].join(","));
    let text = format!(r#"{{"colibriClass":"EndpointMessage","to":"","msgPayload":{array}}}"#);
    let flood = tokio::spawn(async move {
        // 12 MB; then it goes on with what costs nothing to send.
        for _ in 0..200 {
            flooding.send(Message::text(text.clone())).await.expect("sent");
        }
        while flooding.send(Message::Ping(Default::default())).await.is_ok() {}
    });
    let (mut received, start) = (0, tokio::time::Instant::now());
    let mut _senders = Vec::new();
    let mut answered = None;
    while start.elapsed() < Duration::from_secs(3) {
        let event = timeout(Duration::from_millis(100), events.recv()).await;
        match event {
            Ok(Some(ChannelEvent::Message { endpoint: EndpointId(7), .. })) => received += 1,
            Ok(Some(ChannelEvent::Message { endpoint: EndpointId(8), .. })) => answered = Some(start.elapsed()),
            Ok(Some(ChannelEvent::Opened { sender, .. })) => _senders.push(sender),
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
        if received == 10 && answered.is_none() {
            other.send(Message::text(r#"{"colibriClass":"ClientHello"}"#)).await.expect("sent");
        }
    }
    // A burst of 1 MiB, and 128 KiB/s.
    assert!((15..=30).contains(&received), "{received} messages of 60 kB in 3 s");
    assert!(counters.get(Counted::Throttled) > throttled);
    assert!(answered.is_some(), "the other one is heard meanwhile");
    flood.abort();
}

#[tokio::test]
async fn a_client_that_connects_for_ever_is_refused_in_the_end() {
    let (address, known, mut events, counters) = server().await;
    let _other = known.registry.admit("c0ffee", "cd34", "other", EndpointId(8));
    let drain = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let (before, refused) = (counters.get(Counted::TooOften), 429);
    let mut open = Vec::new();
    let mut answer = None;
    for _ in 0..40 {
        match connect(address, GOOD).await {
            Ok(socket) => open.push(socket),
            Err(status) => answer = Some(status),
        }
    }
    assert_eq!(answer, Some(refused));
    assert!((20..=30).contains(&open.len()), "{}", open.len());
    assert!(counters.get(Counted::TooOften) > before);
    assert!(connect(address, "/colibri-ws/jvb1/c0ffee/cd34?pwd=other").await.is_ok(), "others are not concerned");
    drain.abort();
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_then_closed() {
    let ms = Duration::from_millis;
    let timing = Timing { ping: ms(100), idle: ms(350), ..Timing::default() };
    let (address, _known, mut events, _counters) = server_with(timing).await;
    let mut silent = connect(address, GOOD).await.expect("opens");
    let (_, _sender) = opened(&mut events).await;
    // The client's library answers pings only while it is read from, which begins after the close.
    let event = events.recv().await;
    assert!(matches!(event, Some(ChannelEvent::Closed { endpoint: EndpointId(7), .. })), "{event:?}");
    let mut pings = 0;
    loop {
        match silent.next().await {
            Some(Ok(Message::Ping(_))) => pings += 1,
            Some(Ok(Message::Close(Some(frame)))) => break assert_eq!(u16::from(frame.code), 1001),
            other => panic!("{other:?}"),
        }
    }
    assert!((1..=3).contains(&pings), "{pings} pings");
}

#[tokio::test]
async fn a_client_that_answers_pings_stays() {
    let ms = Duration::from_millis;
    let timing = Timing { ping: ms(50), idle: ms(400), ..Timing::default() };
    let (address, _known, mut events, _counters) = server_with(timing).await;
    let mut socket = connect(address, GOOD).await.expect("opens");
    let (_, _sender) = opened(&mut events).await;
    // Twice the idle timeout is more than sixteen pings.
    let pings = async {
        for _ in 0..17 {
            assert!(matches!(socket.next().await, Some(Ok(Message::Ping(_)))));
        }
    };
    timeout(Duration::from_secs(5), pings).await.expect("pings go on");
    assert!(events.try_recv().is_err(), "still open");
}
