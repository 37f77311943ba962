//! The bridge channel over real sockets: who gets in, what is carried, how it ends.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use ringbridge_controlplane::channel::{
    BridgeMessage, ChannelEvent, ChannelOut, ClientMessage, MAX_MESSAGE, Registry, router,
};
use ringbridge_dataplane::ids::EndpointId;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

async fn server() -> (SocketAddr, Registry, mpsc::Receiver<ChannelEvent>) {
    let registry = Registry::default();
    registry.insert("c0ffee", "ab12", "secret", EndpointId(7));
    let (events, received) = mpsc::channel(16);
    let router = router("jvb1".into(), registry.clone(), events);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, registry, received)
}

async fn connect(address: SocketAddr, path: &str) -> Result<Socket, u16> {
    match connect_async(format!("ws://{address}{path}")).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

const GOOD: &str = "/colibri-ws/jvb1/c0ffee/ab12?pwd=secret";

async fn opened(events: &mut mpsc::Receiver<ChannelEvent>) -> (u64, mpsc::Sender<ChannelOut>) {
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
    let (address, registry, _events) = server().await;
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
    registry.remove("c0ffee", "ab12");
    assert_eq!(connect(address, GOOD).await.err(), Some(403), "removed");
}

#[tokio::test]
async fn messages_pass_both_ways_and_nonsense_is_dropped() {
    let (address, _registry, mut events) = server().await;
    let mut socket = connect(address, GOOD).await.expect("opens");
    let (connection, sender) = opened(&mut events).await;
    sender.send(ChannelOut::Message(BridgeMessage::ServerHello { version: None })).await.expect("queued");
    let hello = socket.next().await.expect("a frame").expect("fine");
    assert_eq!(hello, Message::text(r#"{"colibriClass":"ServerHello"}"#));
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
    sender.send(ChannelOut::Close).await.expect("queued");
    assert_eq!(close_code(&mut socket).await, Some((1001, "endpoint closed".into())));
    assert!(matches!(events.recv().await, Some(ChannelEvent::Closed { connection: on, .. }) if on == connection));
}

#[tokio::test]
async fn a_second_socket_replaces_the_first() {
    let (address, _registry, mut events) = server().await;
    let mut first = connect(address, GOOD).await.expect("opens");
    let (_, sender) = opened(&mut events).await;
    let _second = connect(address, GOOD).await.expect("opens too");
    let (_, _kept) = opened(&mut events).await;
    // The owner of the events drops the former sender.
    drop(sender);
    assert_eq!(close_code(&mut first).await, Some((1000, "replaced".into())));
}

#[tokio::test]
async fn an_oversized_message_closes_only_its_own_socket() {
    let (address, registry, mut events) = server().await;
    registry.insert("c0ffee", "cd34", "other", EndpointId(8));
    let mut big = connect(address, GOOD).await.expect("opens");
    let (_, _sender) = opened(&mut events).await;
    let mut other = connect(address, "/colibri-ws/jvb1/c0ffee/cd34?pwd=other").await.expect("opens");
    let Some(ChannelEvent::Opened { sender: kept, .. }) = events.recv().await else { panic!("not opened") };
    let _ = big.send(Message::text("x".repeat(MAX_MESSAGE + 1))).await;
    let closed = tokio::time::timeout(std::time::Duration::from_secs(5), close_code(&mut big)).await.expect("closes");
    assert!(closed.as_ref().is_none_or(|(code, _)| *code == 1009), "{closed:?}");
    assert!(matches!(events.recv().await, Some(ChannelEvent::Closed { endpoint: EndpointId(7), .. })));
    kept.send(ChannelOut::Message(BridgeMessage::ServerHello { version: None })).await.expect("queued");
    assert!(other.next().await.expect("a frame").is_ok());
}
