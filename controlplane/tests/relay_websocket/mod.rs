//! The WebSocket between two bridges over real sockets, both sides of it ours (docs/protocol/bridge.md 10).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use ringbridge_controlplane::channel::{
    Address, Admission, ChannelCounters, ChannelEvent, Counted, Dial, Dialler, FromRelay, MAX_MESSAGE, Outbox,
    Registry, Timing, ToRelay,
};
use ringbridge_dataplane::ids::EndpointId;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};
use tokio_tungstenite::tungstenite::Message;

use super::{Known, close_code, connect, server, server_with};

const HERE: EndpointId = EndpointId(70);
const PATH: &str = "/colibri-relay-ws/jvb1/c0ffee/jvb%202?pwd=between";

/// The serving bridge also knows the bridge `jvb 2`.
fn admit(known: &Known) -> Admission {
    known.registry.admit_relay("c0ffee", "jvb 2", "between", EndpointId(9))
}

/// A bridge that opens WebSockets.
struct Bridge {
    dialler: Dialler,
    admission: Admission,
    events: mpsc::Receiver<ChannelEvent>,
    counters: Arc<ChannelCounters>,
}

impl Bridge {
    fn new(timing: Timing) -> Self {
        Self::trusting(RootCertStore::empty(), timing)
    }

    fn trusting(roots: RootCertStore, timing: Timing) -> Self {
        let (sender, events) = mpsc::channel(16);
        let counters = Arc::new(ChannelCounters::default());
        let dialler = Dialler::with(sender, Arc::clone(&counters), roots, timing);
        let admission = Registry::default().admit_relay("beef", "jvb1", "unused", HERE);
        Self { dialler, admission, events, counters }
    }

    fn dial(&self, url: &str) -> Dial {
        self.dialler.dial(&self.admission, Address::parse(url).expect("an address"))
    }

    async fn next(&mut self) -> ChannelEvent {
        timeout(Duration::from_secs(20), self.events.recv()).await.expect("in time").expect("an event")
    }

    async fn opened(&mut self, dial: Dial) -> Outbox {
        let ChannelEvent::Opened { endpoint: HERE, connection, sender } = self.next().await else {
            panic!("not opened")
        };
        assert_eq!(connection, dial.connection());
        dial.release();
        sender
    }

    /// Why an attempt failed.
    async fn failed(&mut self, url: &str) -> String {
        let dial = self.dial(url);
        match self.next().await {
            ChannelEvent::NotOpened { relay: HERE, connection, reason } if connection == dial.connection() => reason,
            other => panic!("{other:?}"),
        }
    }
}

async fn opened(events: &mut mpsc::Receiver<ChannelEvent>) -> (u64, Outbox) {
    match events.recv().await {
        Some(ChannelEvent::Opened { endpoint: EndpointId(9), connection, sender }) => (connection, sender),
        other => panic!("not opened: {other:?}"),
    }
}

fn hello() -> ToRelay {
    ToRelay::ServerHello {}
}

#[tokio::test]
async fn another_bridge_comes_in_by_its_own_path_and_password() {
    let (address, known, _events, counters) = server().await;
    let relay = admit(&known);
    let refused = counters.get(Counted::Refused);
    let wrong = [
        ("/colibri-relay-ws/jvb1/c0ffee", 404),
        ("/colibri-relay-ws/other/c0ffee/jvb%202?pwd=between", 404),
        ("/colibri-relay-ws/jvb1/c0ffee/jvb%202?pwd=wrong", 403),
        ("/colibri-relay-ws/jvb1/c0ffee/jvb%202", 403),
        ("/colibri-relay-ws/jvb1/c0ffee/jvb3?pwd=between", 403),
        ("/colibri-relay-ws/jvb1/nowhere/jvb%202?pwd=between", 403),
        // A client is no bridge, and a bridge no client.
        ("/colibri-relay-ws/jvb1/c0ffee/ab12?pwd=secret", 403),
        ("/colibri-ws/jvb1/c0ffee/jvb%202?pwd=between", 403),
    ];
    for (path, status) in wrong {
        assert_eq!(connect(address, path).await.err(), Some(status), "{path}");
    }
    assert_eq!(counters.get(Counted::Refused), refused + wrong.len() as u64);
    assert!(connect(address, PATH).await.is_ok());
    drop(relay);
    assert_eq!(connect(address, PATH).await.err(), Some(403), "its relay is gone");
}

#[tokio::test]
async fn two_bridges_talk_and_part() {
    let (address, known, mut there, _counters) = server().await;
    let _relay = admit(&known);
    let mut bridge = Bridge::new(Timing::default());
    let url = format!("ws://{address}{PATH}");
    let here = {
        let dial = bridge.dial(&url);
        bridge.opened(dial).await
    };
    let (_, sender) = opened(&mut there).await;
    here.send(ToRelay::add_receiver("jvb 2", "a-v0".to_owned(), 720).to_text(), false).expect("queued");
    sender.send(hello().to_text(), false).expect("queued");
    let said = there.recv().await;
    assert!(
        matches!(&said, Some(ChannelEvent::RelayMessage { relay: EndpointId(9), message: FromRelay::AddReceiver { source_name, .. }, .. })
            if source_name == "a-v0"),
        "{said:?}"
    );
    let said = bridge.next().await;
    assert!(
        matches!(said, ChannelEvent::RelayMessage { relay: HERE, message: FromRelay::ServerHello { .. }, .. }),
        "{said:?}"
    );
    // One that was replaced is opened again, one whose relay is gone is not: whoever of both says so.
    drop(sender);
    assert!(matches!(bridge.next().await, ChannelEvent::Closed { for_good: false, .. }));
    assert!(matches!(there.recv().await, Some(ChannelEvent::Closed { for_good: false, .. })));
    let _here = {
        let dial = bridge.dial(&url);
        bridge.opened(dial).await
    };
    let (_, sender) = opened(&mut there).await;
    sender.close();
    assert!(matches!(bridge.next().await, ChannelEvent::Closed { for_good: true, .. }));
    assert!(matches!(there.recv().await, Some(ChannelEvent::Closed { for_good: false, .. })));
    let here = {
        let dial = bridge.dial(&url);
        bridge.opened(dial).await
    };
    let (_, _sender) = opened(&mut there).await;
    here.close();
    assert!(matches!(there.recv().await, Some(ChannelEvent::Closed { for_good: true, .. })));
}

#[tokio::test]
async fn an_attempt_that_fails_says_why_and_one_that_is_given_up_says_nothing() {
    let (address, known, _there, _counters) = server().await;
    let _relay = admit(&known);
    let mut bridge = Bridge::new(Timing { open: Duration::from_millis(500), ..Timing::default() });
    assert!(bridge.failed(&format!("ws://{address}/colibri-relay-ws/jvb1/c0ffee/jvb3?pwd=x")).await.contains("403"));
    assert!(bridge.failed(&format!("ws://{address}/elsewhere")).await.contains("404"));
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("loopback").local_addr().expect("bound");
    assert!(bridge.failed(&format!("ws://{unused}/")).await.contains("no connection"));
    // One that listens and never answers, one that answers nonsense, one that goes at once, one without TLS.
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    assert!(bridge.failed(&format!("ws://{}/", mute.local_addr().expect("bound"))).await.contains("in time"));
    for answer in
        ["", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "nonsense\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n"]
    {
        let odd = answering(answer.to_owned()).await;
        assert!(!bridge.failed(&format!("ws://{odd}/")).await.is_empty(), "{answer}");
    }
    let endless = answering(format!("HTTP/1.1 101 Switching\r\nx: {}\r\n", "y".repeat(1 << 20))).await;
    assert!(!bridge.failed(&format!("ws://{endless}/")).await.is_empty());
    assert!(bridge.failed(&format!("wss://{}/", answering(String::new()).await)).await.contains("TLS"));
    let given_up = bridge.dial(&format!("ws://{}/", mute.local_addr().expect("bound")));
    drop(given_up);
    assert!(timeout(Duration::from_secs(1), bridge.events.recv()).await.is_err(), "nothing comes of it");
}

/// A server that answers every request with the same text and closes.
async fn answering(text: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

/// TLS in front of a server, as a web server does it.
async fn with_tls(behind: SocketAddr) -> (SocketAddr, RootCertStore) {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let certificate: CertificateDer<'static> = signed.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("an authority");
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let config = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key).expect("its own key")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut inner = TcpStream::connect(behind).await.expect("the server");
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut inner).await;
            });
        }
    });
    (address, roots)
}

#[tokio::test]
async fn over_tls_the_certificate_is_checked() {
    let (address, known, mut there, _counters) = server().await;
    let _relay = admit(&known);
    let (tls, roots) = with_tls(address).await;
    let url = format!("wss://localhost:{}{PATH}", tls.port());
    let mut stranger = Bridge::new(Timing::default());
    assert!(stranger.failed(&url).await.contains("TLS"), "nobody vouches for it");
    let mut bridge = Bridge::trusting(roots, Timing::default());
    assert!(bridge.failed(&url.replace("localhost", "127.0.0.1")).await.contains("TLS"), "of another name");
    let here = {
        let dial = bridge.dial(&url);
        bridge.opened(dial).await
    };
    let (_, _sender) = opened(&mut there).await;
    here.send(hello().to_text(), false).expect("queued");
    let said = there.recv().await;
    assert!(
        matches!(said, Some(ChannelEvent::RelayMessage { message: FromRelay::ServerHello { .. }, .. })),
        "{said:?}"
    );
}

/// What another bridge may say wrongly costs it the message, not the channel; each kind is counted.
#[tokio::test]
async fn what_is_of_no_use_is_dropped_and_counted() {
    let (address, known, mut events, counters) = server().await;
    let _relay = admit(&known);
    let mut socket = connect(address, PATH).await.expect("opens");
    let (_, _sender) = opened(&mut events).await;
    let deep = format!(r#"{{"colibriClass":"EndpointMessage","from":"b","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    let big = format!(r#"{{"colibriClass":"Novelty","x":"{}"}}"#, "x".repeat(2 * MAX_MESSAGE));
    let useless = [
        (Message::text("nonsense"), Counted::Malformed),
        (Message::text(r#"{"colibriClass":"AddReceiver"}"#), Counted::Malformed),
        (Message::binary(vec![1; 100]), Counted::Malformed),
        (Message::text(deep), Counted::TooDeep),
        (Message::text(big), Counted::UnknownClass),
    ];
    for (message, counted) in useless {
        let before = counters.get(counted);
        socket.send(message.clone()).await.expect("sent");
        socket.send(Message::text(r#"{"colibriClass":"ClientHello"}"#)).await.expect("sent");
        let said = events.recv().await;
        assert!(matches!(said, Some(ChannelEvent::RelayMessage { message: FromRelay::ClientHello, .. })), "{said:?}");
        assert_eq!(counters.get(counted), before + 1, "{message:?}");
    }
    // More than is read at all.
    let before = counters.get(Counted::Oversized);
    let text = format!(r#"{{"colibriClass":"Novelty","x":"{}"}}"#, "x".repeat(64 * MAX_MESSAGE));
    let _ = timeout(Duration::from_secs(2), socket.send(Message::text(text))).await;
    assert!(matches!(events.recv().await, Some(ChannelEvent::Closed { for_good: false, .. })));
    assert_eq!(counters.get(Counted::Oversized), before + 1);
}

#[tokio::test]
async fn a_second_connection_of_a_bridge_replaces_the_first_and_too_many_are_refused() {
    let (address, known, mut events, counters) = server().await;
    let _relay = admit(&known);
    let mut first = connect(address, PATH).await.expect("opens");
    let (one, sender) = opened(&mut events).await;
    let _second = connect(address, PATH).await.expect("opens too");
    let (other, _kept) = opened(&mut events).await;
    assert_ne!(one, other);
    drop(sender);
    assert_eq!(close_code(&mut first).await, Some((1000, "replaced".into())));
    let drain = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let (before, mut statuses) = (counters.get(Counted::TooOften), Vec::new());
    for _ in 0..40 {
        statuses.extend(connect(address, PATH).await.err());
    }
    assert!(!statuses.is_empty() && statuses.iter().all(|status| *status == 429), "{statuses:?}");
    assert_eq!(counters.get(Counted::TooOften), before + statuses.len() as u64);
    drain.abort();
}

#[tokio::test]
async fn a_bridge_that_floods_is_slowed_down_on_whichever_side_it_is() {
    // 16 MiB at once, 4 MiB/s then.
    let text = format!(r#"{{"colibriClass":"EndpointStats","from":"b","x":"{}"}}"#, "x".repeat(60_000));
    let (address, known, mut there, counters) = server().await;
    let _relay = admit(&known);
    let mut flooding = connect(address, PATH).await.expect("opens");
    let (_, _sender) = opened(&mut there).await;
    let flood = tokio::spawn({
        let text = text.clone();
        async move { while flooding.send(Message::text(text.clone())).await.is_ok() {} }
    });
    assert!(throttled(&mut there, &counters).await);
    flood.abort();

    // And the other way round: a server that floods whoever opened the connection.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let server = listener.local_addr().expect("bound");
    let flood = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("somebody");
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a WebSocket");
        while socket.send(Message::text(text.clone())).await.is_ok() {}
    });
    let mut bridge = Bridge::new(Timing::default());
    let _here = {
        let dial = bridge.dial(&format!("ws://{server}/"));
        bridge.opened(dial).await
    };
    let counters = Arc::clone(&bridge.counters);
    assert!(throttled(&mut bridge.events, &counters).await);
    flood.abort();
}

/// Whether the sender is not listened to some time, before it has said twice what it may at once.
async fn throttled(events: &mut mpsc::Receiver<ChannelEvent>, counters: &ChannelCounters) -> bool {
    let mut received = 0;
    while received < 32 * 1024 * 1024 / 60_000 {
        if counters.get(Counted::Throttled) > 0 {
            return true;
        }
        let event = timeout(Duration::from_secs(20), events.recv()).await.expect("in time");
        assert!(matches!(event, Some(ChannelEvent::RelayMessage { .. })), "{event:?}");
        received += 1;
    }
    false
}

#[tokio::test]
async fn a_silent_bridge_loses_its_channel_on_whichever_side_it_is() {
    let ms = Duration::from_millis;
    let timing = Timing { ping: ms(100), idle: ms(350), ..Timing::default() };
    let (address, known, mut there, counters) = server_with(timing).await;
    let _relay = admit(&known);
    // It reads nothing, and so answers no ping.
    let mut silent = connect(address, PATH).await.expect("opens");
    let (_, _sender) = opened(&mut there).await;
    assert!(matches!(there.recv().await, Some(ChannelEvent::Closed { for_good: false, .. })));
    assert_eq!(counters.get(Counted::Stalled), 1);
    let frame = close_code(&mut silent).await;
    assert_eq!(frame, Some((1001, "idle".into())));

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let server = listener.local_addr().expect("bound");
    let mut bridge = Bridge::new(timing);
    let dial = bridge.dial(&format!("ws://{server}/"));
    let (stream, _) = listener.accept().await.expect("somebody");
    let mut mute = tokio_tungstenite::accept_async(stream).await.expect("a WebSocket");
    let _here = bridge.opened(dial).await;
    assert!(matches!(bridge.next().await, ChannelEvent::Closed { for_good: false, .. }));
    let mut pings = 0;
    while let Some(Ok(message)) = mute.next().await {
        match message {
            Message::Ping(_) => pings += 1,
            Message::Close(Some(frame)) => {
                assert_eq!(u16::from(frame.code), 1001);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((1..=3).contains(&pings), "{pings}");
}
