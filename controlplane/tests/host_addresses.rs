//! The addresses of the host change while a conference runs: the program in a network namespace of its own, a real Prosody,
//! a scripted Jicofo, and a client that sends connectivity checks.

mod connectivity_check;
mod jicofo;
mod prosody;

use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use jicofo::{Jicofo, create};
use prosody::{PASSWORD, Prosody};
use ringbridge_controlplane::colibri::elements::*;
use ringbridge_dataplane::ice::stun::{Class, Message, integrity_key};
use tokio::net::UdpSocket;

/// Set for the copy of this test that runs inside the namespace.
const INSIDE: &str = "RINGBRIDGE_TEST_NAMESPACE";
const FIRST: &str = "10.77.0.1";
const SECOND: &str = "10.77.0.2";
const LATER: &str = "10.77.0.3";
/// The bridge looks every 2 s.
const NOTICED: Duration = Duration::from_secs(10);

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip runs");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// On loopback, so that the namespace needs no other interface.
fn address(change: &str, address: &str) {
    ip(&["address", change, &format!("{address}/32"), "dev", "lo"]);
}

/// A running bridge; killed when dropped.
struct Bridge(Child);

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(server: &Prosody, log: &std::path::Path) -> Bridge {
    let log = std::fs::File::options().create(true).append(true).open(log).expect("a log file");
    let child = Command::new(env!("CARGO_BIN_EXE_ringbridge"))
        .args(["bridge", "--xmpp-host", "127.0.0.1", "--xmpp-port", &server.port.to_string()])
        .args(["--xmpp-security", "disabled", "--brewery", prosody::BREWERY, "--bridge-jid", "jvb@auth.meet.test"])
        .args(["--nickname", "ringbridge-1", "--workers", "1", "--io", "mmsg"])
        .args(["--advertise-private-addresses", "true", "--rest-listen", "127.0.0.1:8080"])
        .env_clear()
        .env("RINGBRIDGE_BRIDGE_PASSWORD", PASSWORD)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("starts");
    Bridge(child)
}

/// A new endpoint of a new conference: its transport.
async fn allocate(jicofo: &mut Jicofo, meeting: &str) -> IceTransport {
    let request = ConferenceModify { create: true, endpoints: vec![create("aaaa")], ..ConferenceModify::new(meeting) };
    let reply = jicofo.modify(request).await.expect("allocated");
    let transport = reply.endpoints[0].transport.as_ref().expect("a transport");
    transport.ice.clone().expect("ICE")
}

fn addresses(transport: &IceTransport) -> Vec<&str> {
    transport.candidates.iter().map(|candidate| candidate.ip.as_str()).collect()
}

/// Whether a connectivity check of the endpoint's client is answered there, within three seconds.
async fn answers(transport: &IceTransport, address: &str) -> bool {
    let (ufrag, pwd) = (transport.ufrag.as_deref().expect("a ufrag"), transport.pwd.as_deref().expect("a pwd"));
    let key = integrity_key(pwd);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    let target = SocketAddr::new(address.parse::<IpAddr>().expect("an address"), 10_000);
    let mut buffer = [0; 256];
    let transaction = rand::random();
    let request = connectivity_check::request(ufrag, pwd, &transaction);
    let deadline = Instant::now() + Duration::from_secs(3);
    // Repeated as every client does: the first one may come before the worker knows the endpoint.
    while Instant::now() < deadline {
        if socket.send_to(&request, target).await.is_err() {
            return false;
        }
        let answer = tokio::time::timeout(Duration::from_millis(100), socket.recv(&mut buffer)).await;
        if let Ok(Ok(length)) = answer
            && let Ok(message) = Message::parse(&buffer[..length])
            && message.class() == Class::Success
            && message.transaction() == transaction
        {
            return message.verify(&key);
        }
    }
    false
}

async fn health() -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut stream) = tokio::net::TcpStream::connect("127.0.0.1:8080").await else { return String::new() };
    let request = "GET /about/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

async fn healthy() {
    let start = Instant::now();
    while !health().await.starts_with("HTTP/1.1 200") {
        assert!(start.elapsed() < Duration::from_secs(30), "not healthy: {}", health().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[test]
fn a_conference_goes_on_at_what_is_left_and_the_bridge_starts_anew_when_nothing_is() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(inside());
        return;
    }
    let able = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output: Output| output.status.success())
    };
    if !able("unshare", &["--net", "true"]) || !able("ip", &["-Version"]) {
        eprintln!("skipped: network namespaces take CAP_SYS_ADMIN and CAP_NET_ADMIN, and the programs unshare and ip");
        return;
    }
    let name = "a_conference_goes_on_at_what_is_left_and_the_bridge_starts_anew_when_nothing_is";
    let output = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
}

async fn inside() {
    ip(&["link", "set", "lo", "up"]);
    address("add", FIRST);
    address("add", SECOND);
    let Some(server) = Prosody::start() else { return };
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let log = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("host-addresses.log");
    let _ = std::fs::remove_file(&log);
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    let mut bridge = start(&server, &log);
    healthy().await;
    while jicofo.stat("healthy").await != "true" {}

    // All that others can reach.
    let first = allocate(&mut jicofo, "m1").await;
    assert_eq!(addresses(&first), [FIRST, SECOND]);
    assert!(answers(&first, FIRST).await && answers(&first, SECOND).await);

    // One leaves: who came before goes on at the other, and it is signalled to nobody new.
    address("del", FIRST);
    let start_of_wait = Instant::now();
    let mut count = 1;
    loop {
        count += 1;
        let next = allocate(&mut jicofo, &format!("m{count}")).await;
        if addresses(&next) == [SECOND] {
            assert!(answers(&next, SECOND).await);
            break;
        }
        assert!(start_of_wait.elapsed() < NOTICED, "{:?}", addresses(&next));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(answers(&first, SECOND).await, "the older endpoint is served still");
    assert!(health().await.starts_with("HTTP/1.1 200"), "{}", health().await);

    // It returns: signalled again, and its socket is still there.
    address("add", FIRST);
    let start_of_wait = Instant::now();
    while !answers(&first, FIRST).await {
        assert!(start_of_wait.elapsed() < NOTICED);
    }
    loop {
        count += 1;
        if addresses(&allocate(&mut jicofo, &format!("m{count}")).await).len() == 2 {
            break;
        }
        assert!(start_of_wait.elapsed() < NOTICED);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    // All leave and another comes: said, and ended for the supervisor to start it anew.
    address("add", LATER);
    address("del", FIRST);
    address("del", SECOND);
    let start_of_wait = Instant::now();
    let mut sick = String::new();
    let status = loop {
        if let Some(status) = bridge.0.try_wait().expect("a child") {
            break status;
        }
        let health = health().await;
        if health.starts_with("HTTP/1.1 500") {
            sick = health;
        }
        assert!(start_of_wait.elapsed() < Duration::from_secs(30), "{}", read());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(start_of_wait.elapsed() >= Duration::from_secs(9), "a lease may be renewed in between");
    assert!(sick.contains("no address of the media port is on this host any more"), "{sick}");
    assert_eq!(status.code(), Some(1), "{}", read());
    let shown = read();
    for line in ["a media address has left this host", "is on this host again", "restart the bridge to serve it"] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
    let changed = format!("changed from {FIRST}, {SECOND} to {LATER}");
    assert!(shown.contains(&changed), "{shown}");

    // As systemd would.
    let _bridge = start(&server, &log);
    healthy().await;
    jicofo.presences.clear();
    while jicofo.stat("healthy").await != "true" {}
    let anew = allocate(&mut jicofo, "m-anew").await;
    assert_eq!(addresses(&anew), [LATER]);
    assert!(answers(&anew, LATER).await);
}
