//! The pages for operators, over a real socket.

mod http;
mod ports;

use std::net::SocketAddr;
use std::sync::Arc;

use ringbridge_controlplane::metrics::{Family, Kind};
use ringbridge_controlplane::rest::{
    Ask, Beside, FocusAnswer, FocusAsk, FocusRequest, Operator, OperatorRequest, Ops, Process, RestError,
    focus_operator, serve, serve_beside,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

struct Served {
    address: SocketAddr,
    requests: mpsc::Receiver<OperatorRequest>,
    health: watch::Sender<Result<(), String>>,
    stats: watch::Sender<Value>,
    stop: watch::Sender<bool>,
    server: tokio::task::JoinHandle<Result<(), RestError>>,
}

async fn start() -> Served {
    start_with(true).await
}

async fn start_with(shutdown: bool) -> Served {
    let address = ports::loopback();
    let (health, seen) = watch::channel(Ok(()));
    let (changed, stats) = watch::channel(json!({"conferences": 2}));
    let (stop, stopped) = watch::channel(false);
    let metrics = Arc::new(|| vec![Family::single("conferences", "Now.", Kind::Gauge, 2.0)]);
    let (_, bandwidth) = watch::channel(json!([{"endpoint": "ab12cd34", "estimate_bps": 900_000}]));
    let (sender, requests) = mpsc::channel(4);
    let operator = Some(Operator { requests: sender, shutdown, upgrades: None });
    let ops = Ops {
        name: "bridge".into(),
        health: seen,
        stats,
        metrics,
        operator,
        bandwidth: Some(bandwidth),
        doors: Vec::new(),
        process: Process::default(),
    };
    let server = tokio::spawn(serve(address, ops, stopped));
    while TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    Served { address, requests, health, stats: changed, stop, server }
}

/// Status, head and body.
async fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    parts(&http::get(address, path).await)
}

fn parts(answer: &str) -> (u16, String, String) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn the_pages() {
    let served = start().await;
    let (status, _, body) = get(served.address, "/about/health").await;
    assert_eq!((status, body.as_str()), (200, ""));
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
    let expected = "# HELP conferences Now.\n# TYPE conferences gauge\nconferences 2\n";
    assert!(status == 200 && body.starts_with(expected), "{body}");
    // What the process counts follows.
    for name in ["ringbridge_log_lines_lost", "ringbridge_http_refused", "ringbridge_rest_refused"] {
        assert!(body.contains(&format!("# TYPE {name} counter\n")), "{name}");
    }
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let (status, _, body) = get(served.address, "/debug/bandwidth").await;
    assert_eq!((status, body.as_str()), (200, r#"[{"endpoint":"ab12cd34","estimate_bps":900000}]"#));
    let (status, _, reason) = get(served.address, "/elsewhere").await;
    assert!(status == 404 && reason.contains("docs/coverage.md"), "{reason}");
    served.stop.send_replace(true);
    served.server.await.expect("no panic").expect("ends in order");
}

#[tokio::test]
async fn an_address_in_use_is_named_with_a_remedy() {
    let served = start().await;
    let (_stop, stopped) = watch::channel(false);
    let error = serve(served.address, focus_ops(), stopped).await.expect_err("in use").to_string();
    assert!(error.contains(&served.address.to_string()) && error.contains("--rest-listen"), "{error}");
}

/// What the bridge was asked, and what was answered to the client.
async fn asked(served: &mut Served, request: &str, answer: Value) -> (Ask, u16, String) {
    let client = tokio::spawn(http::send(served.address, request.to_owned()));
    let request = tokio::time::timeout(std::time::Duration::from_secs(20), served.requests.recv()).await;
    let request = request.expect("asked in time").expect("the server runs");
    request.reply.send(answer).expect("the server waits");
    let (status, _, body) = parts(&client.await.expect("no panic"));
    (request.ask, status, body)
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn what_an_operator_asks_reaches_the_bridge() {
    let mut served = start().await;
    let (ask, status, body) = asked(&mut served, &get_request("/colibri/drain"), Value::Bool(false)).await;
    assert_eq!((ask, status, body.as_str()), (Ask::Drain, 200, r#"{"drain":false}"#));
    for (path, on) in [("/colibri/drain/enable", true), ("/colibri/drain/disable", false)] {
        let (ask, status, body) = asked(&mut served, &post(path, ""), Value::Bool(true)).await;
        assert_eq!((ask, status, body.as_str()), (Ask::SetDrain(on), 200, ""));
    }
    for (body, graceful) in [(r#"{"graceful-shutdown":"true"}"#, true), (r#"{"graceful-shutdown":false}"#, false)] {
        let (ask, status, _) = asked(&mut served, &post("/colibri/shutdown", body), Value::Bool(true)).await;
        assert_eq!((ask, status), (Ask::Shutdown { graceful }, 200));
    }
    let view = |conference: Option<&str>, endpoint: Option<&str>, full| Ask::Debug {
        conference: conference.map(str::to_owned),
        endpoint: endpoint.map(str::to_owned),
        full,
    };
    for (path, expected) in [
        ("/debug", view(None, None, false)),
        ("/debug?full=true", view(None, None, true)),
        ("/debug/c0ffee", view(Some("c0ffee"), None, true)),
        ("/debug/c0ffee/ab12", view(Some("c0ffee"), Some("ab12"), true)),
    ] {
        let (ask, status, body) = asked(&mut served, &get_request(path), json!({"drain": true})).await;
        assert_eq!((ask, status, body.as_str()), (expected, 200, r#"{"drain":true}"#));
    }
    assert_eq!(asked(&mut served, &get_request("/debug/nobody"), Value::Null).await.1, 404);
}

#[tokio::test]
async fn a_shutdown_is_served_only_where_allowed_and_only_with_a_body() {
    let served = start_with(false).await;
    let request = post("/colibri/shutdown", r#"{"graceful-shutdown":true}"#);
    assert_eq!(parts(&http::send(served.address, request).await).0, 404);
    let served = start().await;
    let (status, _, remedy) = parts(&http::send(served.address, post("/colibri/shutdown", "{}")).await);
    assert_eq!(status, 400);
    assert!(remedy.contains("graceful-shutdown"), "{remedy}");
}

/// A script that was made for Jitsi Videobridge learns why a page is not there, and which is.
#[tokio::test]
async fn pages_of_the_reference_that_are_not_here_say_why() {
    let served = start_with(false).await;
    for (request, remedy) in [
        (get_request("/colibri/v2/conferences"), "from Jicofo or from ringbridge's own focus"),
        (get_request("/colibri/v2/conferences/x/dominant-speaker-identification"), "/debug shows them"),
        (post("/colibri/v2/conferences", "{}"), "they come over XMPP"),
        (post("/colibri/v2/conferences", "{}").replace("POST", "PATCH"), "they come over XMPP"),
        (post("/colibri/muc-client/add", "{}"), "set them in the configuration"),
        (post("/colibri/shutdown", r#"{"graceful-shutdown":true}"#), "bridge.shutdown.over-rest = true"),
        (get_request("/debug/features/jvb/x/true"), "nothing is switched"),
        (post("/debug/features/jvb/x/true", ""), "nothing is switched"),
        (get_request("/debug/stats/jvb/queue-stats"), "/metrics"),
        (get_request("/debug/stats"), "/metrics"),
        (get_request("/colibri/debug/c0ffee"), "/debug"),
    ] {
        let (status, head, reason) = parts(&http::send(served.address, request.clone()).await);
        assert!(status == 404 && reason.contains(remedy), "{request}: {status} {reason}");
        assert!(head.contains("content-type: text/plain"), "{head}");
    }
}

/// As the autoscaler's side service: a poll every 30 s, over a connection of its own or one that it keeps.
#[tokio::test]
async fn polls_get_what_is_known_at_the_time() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let served = start().await;
    let mut kept = TcpStream::connect(served.address).await.expect("somebody listens");
    for conferences in [2, 3, 4] {
        served.stats.send_replace(json!({"conferences": conferences, "stress_level": 0.25}));
        let expected = format!(r#"{{"conferences":{conferences},"stress_level":0.25}}"#);
        for accept in ["application/json", "application/json, text/plain, */*"] {
            let request = format!(
                "GET /colibri/stats HTTP/1.1\r\nhost: localhost:{}\r\naccept: {accept}\r\nuser-agent: got\r\n\r\n",
                served.address.port()
            );
            kept.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            while !answer.ends_with(&expected) {
                let mut chunk = [0; 1024];
                let read = tokio::time::timeout(std::time::Duration::from_secs(20), kept.read(&mut chunk)).await;
                let read = read.expect("answered in time").expect("answered");
                assert!(read > 0, "closed after {answer}");
                answer.push_str(std::str::from_utf8(&chunk[..read]).expect("text"));
            }
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("application/json"), "{answer}");
        }
        assert_eq!(get(served.address, "/colibri/stats").await.2, expected);
    }
}

/// The sample of a metric with these labels.
async fn sample(address: SocketAddr, labelled: &str) -> f64 {
    let (_, _, metrics) = get(address, "/metrics").await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(labelled)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{labelled} in {metrics}")).parse().expect("a number")
}

#[tokio::test]
async fn two_bridges_of_one_process_count_for_themselves() {
    let (one, other) = (start().await, start().await);
    let foreign = "GET /debug HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    for _ in 0..3 {
        let (status, ..) = parts(&http::send(one.address, foreign.to_owned()).await);
        assert_eq!(status, 403);
    }
    assert!(http::send(one.address, "no HTTP\r\n\r\n".to_owned()).await.starts_with("HTTP/1.1 400"));
    for (metric, count) in [
        ("ringbridge_rest_refused{reason=\"host\"}", 3.0),
        ("ringbridge_http_refused{door=\"pages\",reason=\"malformed\"}", 1.0),
    ] {
        let counts = [sample(one.address, metric).await, sample(other.address, metric).await];
        assert_eq!(counts, [count, 0.0], "{metric}");
    }
}

/// What a focus says of itself: nothing.
fn focus_ops() -> Ops {
    let (_, health) = watch::channel(Ok(()));
    let (_, stats) = watch::channel(json!({}));
    Ops {
        name: "focus".into(),
        health,
        stats,
        metrics: Arc::new(Vec::new),
        operator: None,
        bandwidth: None,
        doors: Vec::new(),
        process: Process::default(),
    }
}

/// A focus's pages, and what it is asked over them.
async fn start_focus() -> (SocketAddr, mpsc::Receiver<FocusRequest>, watch::Sender<bool>) {
    let address = ports::loopback();
    let (stop, stopped) = watch::channel(false);
    let (sender, requests) = mpsc::channel(4);
    let beside = Beside { operators: focus_operator(sender), ..Beside::default() };
    tokio::spawn(serve_beside(address, focus_ops(), beside, stopped));
    while TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    (address, requests, stop)
}

#[tokio::test]
async fn the_paths_of_jicofo() {
    let (address, mut requests, _stop) = start_focus().await;
    let asked = |ask: FocusAsk, answer: FocusAnswer| (ask, answer);
    let (room, bridge) = ("r@c.example".to_owned(), "jvb1".to_owned());
    let moves = |count, room: Option<&str>| FocusAsk::MoveEndpoints {
        bridge: "jvb1".to_owned(),
        room: room.map(str::to_owned),
        count,
    };
    let pin = FocusAsk::Pin { room: room.clone(), version: "2.3".into(), minutes: 5 };
    let body = r#"{"conferenceId":"r@c.example","jvbVersion":"2.3","durationMinutes":5,"more":1}"#;
    let good = FocusAnswer::Done(json!({ "a": 1 }));
    for (method, path, body, (ask, answer), expected) in [
        ("GET", "/debug", "", asked(FocusAsk::Debug { full: false }, good.clone()), (200, r#"{"a":1}"#)),
        ("GET", "/debug?full=true", "", asked(FocusAsk::Debug { full: true }, good.clone()), (200, r#"{"a":1}"#)),
        ("GET", "/debug/conferences", "", asked(FocusAsk::Conferences, good.clone()), (200, r#"{"a":1}"#)),
        ("GET", "/debug/conferences-full", "", asked(FocusAsk::ConferencesInFull, good.clone()), (200, r#"{"a":1}"#)),
        (
            "GET",
            "/debug/conference/r@c.example",
            "",
            asked(FocusAsk::Conference(room.clone()), good.clone()),
            (200, r#"{"a":1}"#),
        ),
        ("GET", "/debug/xmpp-caps", "", asked(FocusAsk::Caps, good.clone()), (200, r#"{"a":1}"#)),
        ("GET", "/rtcstats", "", asked(FocusAsk::Rtcstats, good.clone()), (200, r#"{"a":1}"#)),
        ("GET", "/pin", "", asked(FocusAsk::Pins, FocusAnswer::Done(json!([]))), (200, "[]")),
        ("POST", "/pin", body, asked(pin.clone(), FocusAnswer::Done(Value::Null)), (200, "")),
        ("POST", "/pin", body, asked(pin, FocusAnswer::Bad("why".into())), (400, "why\n")),
        (
            "POST",
            "/pin/remove",
            r#"{"conferenceId":"r@c.example"}"#,
            asked(FocusAsk::Unpin { room: room.clone() }, FocusAnswer::Done(Value::Null)),
            (200, ""),
        ),
        (
            "GET",
            "/move-endpoints/move-endpoints?bridge=jvb1",
            "",
            asked(moves(1, None), good.clone()),
            (200, r#"{"a":1}"#),
        ),
        (
            "POST",
            "/move-endpoints/move-endpoints?bridge=jvb1&numEndpoints=7&conference=r@c.example",
            "",
            asked(moves(7, Some("r@c.example")), good.clone()),
            (200, r#"{"a":1}"#),
        ),
        (
            "GET",
            "/move-endpoints/move-fraction?bridge=jvb1&fraction=0.5",
            "",
            asked(
                FocusAsk::MoveFraction { bridge: bridge.clone(), fraction: 0.5 },
                FocusAnswer::NotFound("Bridge not found".into()),
            ),
            (404, "Bridge not found"),
        ),
        (
            "GET",
            "/move-endpoints/move-endpoint?conference=r@c.example&endpoint=ab&bridge=",
            "",
            asked(FocusAsk::MoveEndpoint { room, endpoint: "ab".into(), bridge: None }, good),
            (200, r#"{"a":1}"#),
        ),
    ] {
        let asking = tokio::spawn(async move { http::request(address, method, path, &[], body).await });
        let request = requests.recv().await.expect("a request");
        assert_eq!(request.ask, ask, "{method} {path}");
        request.reply.send(answer).expect("somebody waits");
        let (status, _, text) = parts(&asking.await.expect("no panic"));
        assert_eq!((status, text.as_str()), expected, "{method} {path}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_of_an_operator() {
    let (address, mut requests, _stop) = start_focus().await;
    for (method, path, body, status, words) in [
        ("POST", "/pin", "", 400, "the body is not what is asked for"),
        ("POST", "/pin", "[]", 400, "the body"),
        ("POST", "/pin", r#"{"conferenceId":"r@c","jvbVersion":"2.3"}"#, 400, "durationMinutes"),
        ("POST", "/pin", r#"{"conferenceId":"r@c","jvbVersion":"2.3","durationMinutes":-5}"#, 400, "-5"),
        ("POST", "/pin/remove", r#"{"conferenceId":7}"#, 400, "the body"),
        ("GET", "/move-endpoints/move-endpoints", "", 400, "Missing parameter: bridge"),
        ("GET", "/move-endpoints/move-endpoints?bridge=a&numEndpoints=-1", "", 400, "numEndpoints"),
        ("GET", "/move-endpoints/move-endpoints?bridge=a&numEndpoints=x", "", 400, "numEndpoints"),
        ("GET", "/move-endpoints/move-fraction?bridge=a&fraction=1.1", "", 400, "fraction"),
        ("GET", "/move-endpoints/move-fraction?bridge=a&fraction=NaN", "", 400, "fraction"),
        ("GET", "/move-endpoints/move-fraction?bridge=", "", 400, "Missing parameter: bridge"),
        ("GET", "/move-endpoints/move-endpoint?endpoint=a", "", 400, "Missing parameter: conference"),
        ("GET", "/move-endpoints/move-endpoint?conference=r@c", "", 400, "Missing parameter: endpoint"),
        ("GET", "/move-endpoints", "", 404, "asked of the focus"),
        ("GET", "/debug/features", "", 404, "nothing is switched"),
    ] {
        let (code, _, text) = parts(&http::request(address, method, path, &[], body).await);
        assert!(code == status && text.contains(words), "{method} {path} {body}: {code} {text}");
    }
    // A page of others has nothing moved, by whatever method.
    for method in ["GET", "POST"] {
        let path = "/move-endpoints/move-fraction?bridge=jvb1&fraction=1";
        let origin = [("Origin", "https://evil.example")];
        assert_eq!(parts(&http::request(address, method, path, &origin, "").await).0, 403, "{method}");
    }
    assert!(requests.try_recv().is_err(), "the focus was asked nothing");
}
