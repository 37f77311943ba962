//! The pages for operators, over a real socket.

mod http;

use std::net::SocketAddr;
use std::sync::Arc;

use ringbridge_controlplane::rest::{Ops, RestError, serve};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

struct Served {
    address: SocketAddr,
    health: watch::Sender<Result<(), String>>,
    stop: watch::Sender<bool>,
    server: tokio::task::JoinHandle<Result<(), RestError>>,
}

async fn start() -> Served {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("loopback");
    let (health, seen) = watch::channel(Ok(()));
    let (_, stats) = watch::channel(json!({"conferences": 2}));
    let (stop, stopped) = watch::channel(false);
    let metrics = Arc::new(|| "conferences 2\n".to_owned());
    let (_, bandwidth) = watch::channel(json!([{"endpoint": "ab12cd34", "estimate_bps": 900_000}]));
    let ops = Ops { name: "bridge".into(), health: seen, stats, metrics, bandwidth: Some(bandwidth) };
    let server = tokio::spawn(serve(address, ops, stopped));
    while TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    Served { address, health, stop, server }
}

/// Status, head and body.
async fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    let answer = http::get(address, path).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn the_pages() {
    let served = start().await;
    assert_eq!(get(served.address, "/about/health").await.0, 200);
    let _ = served.health.send_replace(Err("the XMPP server is gone".into()));
    let (status, _, reason) = get(served.address, "/about/health").await;
    assert_eq!((status, reason.as_str()), (500, "the XMPP server is gone"));
    for path in ["/colibri/stats", "/stats"] {
        let (status, head, body) = get(served.address, path).await;
        assert_eq!((status, body.as_str()), (200, r#"{"conferences":2}"#));
        assert!(head.contains("content-type: application/json"), "{head}");
    }
    let (_, _, version) = get(served.address, "/about/version").await;
    let version: Value = serde_json::from_str(&version).expect("JSON");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let (status, head, body) = get(served.address, "/metrics").await;
    assert_eq!((status, body.as_str()), (200, "conferences 2\n"));
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let (status, _, body) = get(served.address, "/debug/bandwidth").await;
    assert_eq!((status, body.as_str()), (200, r#"[{"endpoint":"ab12cd34","estimate_bps":900000}]"#));
    assert_eq!(get(served.address, "/elsewhere").await.0, 404);
    served.stop.send_replace(true);
    served.server.await.expect("no panic").expect("ends in order");
}

#[tokio::test]
async fn an_address_in_use_is_named_with_a_remedy() {
    let served = start().await;
    let (_, health) = watch::channel(Ok(()));
    let (_, stats) = watch::channel(json!({}));
    let (_stop, stopped) = watch::channel(false);
    let ops = Ops { name: "focus".into(), health, stats, metrics: Arc::new(String::new), bandwidth: None };
    let error = serve(served.address, ops, stopped).await.expect_err("in use").to_string();
    assert!(error.contains(&served.address.to_string()) && error.contains("--rest-listen"), "{error}");
}
