//! The HTTP doors against clients that mean harm: half-sent requests, bodies that never end, answers that nobody reads,
//! names and origins of others. Whoever means well is answered within a second throughout.

mod http;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::{get, post};
use ringbridge_controlplane::door::{Bounds, Door, Name};
use ringbridge_controlplane::rest::{Operator, Ops, Process, router};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// A door in this process until its sender is dropped.
async fn open(router: Router, bounds: Bounds) -> (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let (stop, stopped) = watch::channel(false);
    let door = Door::with_bounds(Name::Pages, listener, bounds).serve(router, stopped);
    (address, stop, tokio::spawn(door))
}

fn pages() -> Router {
    let large = "x".repeat(1 << 20);
    Router::new()
        .route("/fast", get(|| async { "fast" }))
        .route("/large", get(move || async move { large }))
        .route("/slow", get(std::future::pending::<()>))
        .route("/body", post(|body: axum::body::Bytes| async move { body.len().to_string() }))
}

fn bounds() -> Bounds {
    Bounds::new(Name::Pages, 1024)
}

/// How long a plain request takes.
async fn well_meant(address: SocketAddr) -> Duration {
    let start = Instant::now();
    assert!(http::get(address, "/fast").await.ends_with("fast"));
    start.elapsed()
}

/// What a peer sent until it closed the connection, and when that was.
async fn until_closed(stream: &mut TcpStream, limit: Duration) -> Option<(Vec<u8>, Duration)> {
    let start = Instant::now();
    let mut read = Vec::new();
    match timeout(limit, stream.read_to_end(&mut read)).await {
        Err(_) => None,
        // Reset or ended.
        Ok(_) => Some((read, start.elapsed())),
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_requests_give_way_and_do_not_stay() {
    let (address, _stop, _) = open(pages(), Bounds { head: 2 * SECOND, ..bounds() }).await;
    let halves = [
        "",
        "G",
        "GET /fast HTTP/1.1\r\n",
        "GET /fast HTTP/1.1\r\nHost: localhost\r\nX: ",
        "POST /body HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
    ];
    let (mut held, start) = (Vec::new(), Instant::now());
    for n in 0..900 {
        let mut stream = TcpStream::connect(address).await.expect("the kernel takes it");
        let _ = stream.write_all(halves[n % halves.len()].as_bytes()).await;
        held.push(stream);
        if n % 100 == 99 {
            let took = well_meant(address).await;
            assert!(took < SECOND, "{took:?} after {n}");
        }
    }
    // The oldest had to go at once, the last ones when their time was over.
    assert!(until_closed(&mut held[1], SECOND).await.is_some());
    let (_, took) = until_closed(&mut held[896], 5 * SECOND).await.expect("closed");
    assert!(took < 4 * SECOND, "{took:?}, {:?} after the first", start.elapsed());
    assert!(well_meant(address).await < SECOND);
}

/// A client on a busy host, or one far away: it gets round to its request after many others have come.
#[tokio::test(flavor = "multi_thread")]
async fn who_connects_first_and_asks_a_moment_later_is_answered() {
    for flood in ["", "GET /fast HTTP/1.1\r\nHost: localhost\r\nX: "] {
        let (address, _stop, _) = open(pages(), bounds()).await;
        let mut late = TcpStream::connect(address).await.expect("open");
        let mut held = Vec::new();
        for _ in 0..300 {
            let mut stream = TcpStream::connect(address).await.expect("the kernel takes it");
            let _ = stream.write_all(flood.as_bytes()).await;
            held.push(stream);
        }
        tokio::time::sleep(SECOND / 5).await;
        late.write_all(b"GET /fast HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.expect("sent");
        let (answer, took) = until_closed(&mut late, 2 * SECOND).await.expect("closed");
        assert!(
            answer.ends_with(b"fast") && took < SECOND,
            "{flood:?}: {took:?}, {}",
            String::from_utf8_lossy(&answer)
        );
    }
}

#[tokio::test]
async fn a_head_that_trickles_in_is_too_slow() {
    let (address, _stop, _) = open(pages(), Bounds { head: SECOND, ..bounds() }).await;
    let (mut reader, mut writer) = TcpStream::connect(address).await.expect("open").into_split();
    let trickle = tokio::spawn(async move {
        for byte in b"GET /fast HTTP/1.1\r\nHost: localhost\r\nX-Long: ".iter().chain([b'x'; 1000].iter()) {
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut read = Vec::new();
    let _ = timeout(4 * SECOND, reader.read_to_end(&mut read)).await.expect("closed in time");
    assert!(!read.ends_with(b"fast"));
    trickle.abort();
}

#[tokio::test]
async fn a_body_that_never_comes_and_an_answer_that_never_does() {
    let (address, _stop, _) = open(pages(), Bounds { answer: SECOND, ..bounds() }).await;
    for request in [
        "POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc",
        "POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(address).await.expect("open");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let (mut answer, start) = ([0; 12], Instant::now());
        timeout(3 * SECOND, stream.read_exact(&mut answer)).await.expect("answered").expect("answered");
        assert_eq!(&answer, b"HTTP/1.1 408", "{request}");
        assert!(start.elapsed() >= SECOND / 2);
    }
}

#[tokio::test]
async fn heads_have_a_size() {
    let (address, _stop, _) = open(pages(), bounds()).await;
    let long = "x".repeat(64 * 1024);
    let many = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    for request in [
        format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET /fast HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"),
        format!("GET /fast HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
        "\u{16}\u{3}\u{1}\u{2}".repeat(10_000),
        "nonsense\r\n\r\n".to_owned(),
    ] {
        let mut stream = TcpStream::connect(address).await.expect("open");
        let _ = stream.write_all(request.as_bytes()).await;
        let (answer, _) = until_closed(&mut stream, 2 * SECOND).await.expect("closed at once");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
        assert!(well_meant(address).await < SECOND);
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_end_the_connection() {
    let (address, stop, door) = open(pages(), Bounds { write: SECOND / 4, guests: 4, ..bounds() }).await;
    let mut stream = TcpStream::connect(address).await.expect("open");
    let requests = "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50);
    stream.write_all(requests.as_bytes()).await.expect("sent");
    tokio::time::sleep(SECOND).await;
    let (read, _) = until_closed(&mut stream, 2 * SECOND).await.expect("closed");
    assert!(read.len() < 50 << 20, "{} bytes", read.len());
    assert!(well_meant(address).await < SECOND);
    stop.send_replace(true);
    timeout(5 * SECOND, door).await.expect("ends in order").expect("no panic");
}

#[tokio::test]
async fn connections_are_kept_alive_but_not_for_ever() {
    let (address, _stop, _) = open(pages(), Bounds { head: SECOND, age: 3 * SECOND, ..bounds() }).await;
    let mut stream = TcpStream::connect(address).await.expect("open");
    let (start, mut answered) = (Instant::now(), 0);
    let mut buffer = [0; 1024];
    while start.elapsed() < 6 * SECOND {
        let sent = stream.write_all(b"GET /fast HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        match timeout(SECOND, stream.read(&mut buffer)).await.expect("answered or closed") {
            Ok(read) if sent.is_ok() && read > 0 => answered += 1,
            _ => break,
        }
        tokio::time::sleep(SECOND / 2).await;
    }
    assert!((4..=8).contains(&answered), "{answered}");
    let mut idle = TcpStream::connect(address).await.expect("open");
    idle.write_all(b"GET /fast HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let (answer, took) = until_closed(&mut idle, 5 * SECOND).await.expect("closed");
    assert!(answer.ends_with(b"fast") && took >= SECOND / 2 && took < 3 * SECOND, "{took:?}");
}

#[tokio::test]
async fn requests_over_one_connection_have_a_rate() {
    let (address, _stop, _) = open(pages(), bounds()).await;
    let (mut reader, mut writer) = TcpStream::connect(address).await.expect("open").into_split();
    let flood = tokio::spawn(async move {
        let requests = "GET /fast HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
        while writer.write_all(requests.as_bytes()).await.is_ok() {}
    });
    let mut answers = Vec::new();
    let _ = timeout(3 * SECOND, reader.read_to_end(&mut answers)).await;
    let answered = String::from_utf8_lossy(&answers).matches("HTTP/1.1 200").count();
    assert!((60..=130).contains(&answered), "{answered}");
    flood.abort();
}

/// A bridge's pages, and what was asked of it.
fn operator_pages() -> (Router, mpsc::Receiver<ringbridge_controlplane::rest::OperatorRequest>) {
    let (requests, asked) = mpsc::channel(16);
    let (_, health) = watch::channel(Ok(()));
    let (_, stats) = watch::channel(json!({}));
    let operator = Some(Operator { requests, shutdown: true, upgrades: None });
    let ops = Ops {
        name: "bridge".into(),
        health,
        stats,
        metrics: Arc::new(Vec::new),
        operator,
        bandwidth: None,
        doors: Vec::new(),
        process: Process::default(),
    };
    (router(ops, Router::new()), asked)
}

#[tokio::test]
async fn a_web_page_gets_nothing_done() {
    let (router, mut asked) = operator_pages();
    let (address, _stop, _) = open(router, bounds()).await;
    let body = r#"{"graceful-shutdown":false}"#;
    for path in ["/colibri/drain/enable", "/colibri/drain/disable", "/colibri/shutdown", "/about/health"] {
        for fields in [
            "Host: evil.example\r\n",
            "Host: localhost\r\nOrigin: https://evil.example\r\n",
            "Host: localhost\r\nOrigin: null\r\n",
            "Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\n",
            "Host: localhost\r\nHost: evil.example\r\n",
        ] {
            // As a browser sends without asking first.
            let request = format!(
                "POST {path} HTTP/1.1\r\n{fields}Content-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let answer = http::send(address, request).await;
            let status = answer.split(' ').nth(1);
            assert!(matches!(status, Some("403" | "400" | "405")), "{path} {fields}: {answer}");
        }
    }
    for path in ["/metrics", "/debug", "/colibri/stats"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        let answer = http::send(address, request).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("rest.host-names"), "{answer}");
    }
    let request = "GET /about/health HTTP/1.1\r\nHost: pool.example\r\nConnection: close\r\n\r\n".to_owned();
    assert!(http::send(address, request).await.starts_with("HTTP/1.1 200"));
    assert!(asked.try_recv().is_err(), "nothing was asked of the bridge");
    // What is refused is counted, on the pages themselves.
    let metrics = http::get(address, "/metrics").await;
    for reason in ["host", "origin"] {
        let row =
            metrics.lines().find(|line| line.starts_with(&format!("ringbridge_rest_refused{{reason=\"{reason}\"}}")));
        let count = row.and_then(|row| row.rsplit(' ').next()?.parse::<u64>().ok());
        assert!(count.is_some_and(|count| count >= 3), "{reason}: {row:?}");
    }
}

#[tokio::test]
async fn a_large_body_is_refused() {
    let (router, mut asked) = operator_pages();
    let (address, _stop, _) = open(router, bounds()).await;
    let length = 10 << 20;
    let mut stream = TcpStream::connect(address).await.expect("open");
    let head = format!("POST /colibri/shutdown HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut sent = 0;
    while sent < length && timeout(SECOND, stream.write_all(&[b' '; 65_536])).await.is_ok_and(|sent| sent.is_ok()) {
        sent += 65_536;
    }
    let mut answer = [0; 12];
    if timeout(SECOND, stream.read_exact(&mut answer)).await.is_ok_and(|read| read.is_ok()) {
        assert_eq!(&answer, b"HTTP/1.1 413");
    }
    assert!(asked.try_recv().is_err());
}

/// In an upgrade two processes have the socket: what the running one took in its last moments would end with it.
#[tokio::test]
async fn who_connects_while_a_door_is_held_waits_for_whoever_opens_next() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("bound");
    let door = |listener: std::net::TcpListener| {
        Door::with_bounds(Name::Pages, TcpListener::from_std(listener).expect("a listener"), bounds())
    };
    let says = |text: &'static str| Router::new().route("/who", get(move || async move { text }));
    let ((held, hold), (_stop, stopped)) = (watch::channel(false), watch::channel(false));
    let old = door(listener.try_clone().expect("a descriptor")).held_while(hold);
    tokio::spawn(old.serve(says("old"), stopped.clone()));
    assert!(http::get(address, "/who").await.ends_with("old"));
    held.send_replace(true);
    let waits = tokio::spawn(http::get(address, "/who"));
    assert!(
        timeout(SECOND / 10, async {
            while !waits.is_finished() {
                tokio::task::yield_now().await
            }
        })
        .await
        .is_err()
    );
    // Given up: the same process goes on.
    held.send_replace(false);
    assert!(timeout(SECOND, waits).await.expect("in time").expect("an answer").ends_with("old"));
    held.send_replace(true);
    let waits: Vec<_> = (0..5).map(|_| tokio::spawn(http::get(address, "/who"))).collect();
    assert!(timeout(SECOND / 10, std::future::pending::<()>()).await.is_err());
    // Committed: whatever becomes of who held it.
    drop(held);
    tokio::spawn(door(listener).serve(says("new"), stopped));
    for answer in waits {
        assert!(timeout(SECOND, answer).await.expect("in time").expect("an answer").ends_with("new"));
    }
}
