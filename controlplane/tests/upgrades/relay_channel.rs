//! The data channel between two bridges, one of which is replaced again and again.

use futures::SinkExt;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;

use super::*;

/// How long messages may take to cross again after an upgrade.
const USABLE: Duration = Duration::from_secs(2);
/// Descriptors and threads of a process that is the end of data channels and nothing else: its log, its socket, standard streams.
const FEW: usize = 12;

type Client = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// A participant who only has a bridge channel; where its WebSocket is.
async fn participant(jicofo: &mut Jicofo, bridge: usize) -> String {
    let endpoint = Endpoint { media: media(NUMBERS[bridge]), ..jicofo::create(NAMES[bridge]) };
    let request = ConferenceModify { create: true, endpoints: vec![endpoint], ..ConferenceModify::new(MEETING) };
    let reply = ask(jicofo, bridge, request).await;
    let offered = ice(&reply.endpoints[0].transport);
    let (_, path) = offered.web_sockets[0].address().split_once("meet.test").expect("an address");
    path.to_owned()
}

async fn open(address: SocketAddr, path: &str) -> Client {
    tokio_tungstenite::connect_async(format!("ws://{address}{path}")).await.expect("the bridge channel").0
}

/// Each says something that the other one hears, over the channel between the bridges.
async fn cross(clients: [&mut Client; 2], word: &str) {
    let [one, two] = clients;
    say(one, two, word).await;
    say(two, one, word).await;
}

async fn say(from: &mut Client, to: &mut Client, word: &str) {
    let text = format!(r#"{{"colibriClass":"EndpointMessage","to":"","msgPayload":{{"word":"{word}"}}}}"#);
    from.send(text.into()).await.expect("sent");
    let heard = async {
        while !to.next().await.expect("open").expect("a message").to_text().is_ok_and(|text| text.contains(word)) {}
    };
    timeout(WAIT, heard).await.unwrap_or_else(|_| panic!("{word} is not heard"));
}

/// What the relay is there, once it is `wanted` or it has taken too long.
async fn relay(page: impl AsyncFn() -> Value, far: &str, wanted: bool) -> Value {
    let end = Instant::now() + WAIT;
    loop {
        let debug = page().await;
        let conference = debug["conferences"].as_object().and_then(|all| all.values().next()).cloned();
        let relay = conference.map(|conference| conference["relays"][far].clone()).unwrap_or_default();
        if relay["channel"] == wanted || Instant::now() > end {
            return relay;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn entries(pid: u64, folder: &str) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/{folder}")).map(Iterator::count).unwrap_or(0)
}

fn resident(pid: u64) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("no memory").to_owned()
}

/// Waits until a process is gone, but for what its parent has not asked.
async fn gone(pid: u64, service: &Service) {
    let end = Instant::now() + WAIT;
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < end, "process {pid} has not ended: {}", service.log.read());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn signal(pid: u64, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().expect("runs").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_channel_between_two_bridges_goes_on() {
    let Some(server) = Prosody::start() else { return };
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let more = format!("bridge {{ region = here, relay {{ enabled = true, id = {} }} }}", BRIDGES[0]);
    let bridge = Bridge::start(&server, 1);
    let mut service = Service::start(&server, "relay", &more).await;
    let end = Instant::now() + WAIT;
    while tokio::net::TcpStream::connect(bridge.rest).await.is_err()
        || !http::get(bridge.rest, "/about/health").await.starts_with("HTTP/1.1 200")
    {
        assert!(Instant::now() < end, "healthy in time");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let paths = [participant(&mut jicofo, 0).await, participant(&mut jicofo, 1).await];
    let mut far = open(bridge.websocket, &paths[1]).await;
    link(&mut jicofo, true).await;
    let shown = relay(async || service.page("/debug?full=true").await, BRIDGES[1], true).await;
    assert_eq!(shown["carrier"], "Data", "{shown}");
    relay(async || bridge.page("/debug?full=true").await, BRIDGES[0], true).await;

    for turn in 0..2 {
        let mut near = open(service.websocket, &paths[0]).await;
        cross([&mut near, &mut far], &format!("before-{turn}")).await;
        let end = Instant::now() + WAIT;
        let text = loop {
            // Refused until the XMPP session has been resumed, which the process that took over does last.
            let (code, text) = service.upgrade(&["--check"]).await;
            if code == Some(0) {
                break text;
            }
            assert!(text.contains("would not keep the session") && Instant::now() < end, "{code:?}: {text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let says =
            if turn == 0 { "would stay as the end of 1 data channels" } else { "1 former processes stay for others" };
        assert!(text.contains(says), "{text}");
        let (code, text) = service.upgrade(&[]).await;
        assert_eq!(code, Some(0), "{text}\n{}", service.log.read());
        let begun = Instant::now();
        let mut near = open(service.websocket, &paths[0]).await;
        cross([&mut near, &mut far], &format!("after-{turn}")).await;
        eprintln!("upgrade {turn}: {text}messages cross both ways {} ms after it", begun.elapsed().as_millis());
        assert!(begun.elapsed() < USABLE, "{:?}\n{}", begun.elapsed(), service.log.read());
        nobody_left(&jicofo);
    }
    assert_eq!(service.log.read().matches("DTLS connected").count(), 1, "{}", service.log.read());
    assert_eq!(service.metric("ringbridge_upgrade_lost{kind=\"data_channel\"}").await, 0.0);

    // The first process has nothing but the channel, and does not end with a signal to all of the service's processes.
    let keeper = service.pids[0];
    let middle = service.pids[1];
    gone(middle, &service).await;
    let end = Instant::now() + WAIT;
    while entries(keeper, "fd") > FEW || entries(keeper, "task") > FEW {
        assert!(Instant::now() < end, "{} descriptors, {} threads", entries(keeper, "fd"), entries(keeper, "task"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!(
        "the keeper: {} descriptors, {} threads, {}; the bridge: {}",
        entries(keeper, "fd"),
        entries(keeper, "task"),
        resident(keeper),
        resident(service.pid())
    );
    for name in ["-TERM", "-INT", "-HUP"] {
        signal(keeper, name);
    }
    let mut near = open(service.websocket, &paths[0]).await;
    cross([&mut near, &mut far], "signalled").await;
    // It ends with its last channel.
    for index in 0..2 {
        ask(&mut jicofo, index, about(Relay { expire: true, ..Relay::new(BRIDGES[1 - index]) })).await;
    }
    gone(keeper, &service).await;
    assert!(service.child.wait().expect("our child").success(), "{}", service.log.read());

    // Another relay, whose keeper is killed: that is a lost channel, and is counted.
    link(&mut jicofo, true).await;
    relay(async || service.page("/debug?full=true").await, BRIDGES[1], true).await;
    let (code, text) = service.upgrade(&[]).await;
    assert_eq!(code, Some(0), "{text}\n{}", service.log.read());
    let mut near = open(service.websocket, &paths[0]).await;
    cross([&mut near, &mut far], "linked-again").await;
    let keeper = service.pids[service.pids.len() - 2];
    signal(keeper, "-KILL");
    let shown = relay(async || service.page("/debug?full=true").await, BRIDGES[1], false).await;
    assert_eq!(shown["channel"], false, "{shown}");
    assert_eq!(service.metric("ringbridge_upgrade_lost{kind=\"data_channel\"}").await, 1.0);
    service.log.says("the former process that had data channels is gone").await;
    // The bridge that goes takes its keepers with it.
    for index in 0..2 {
        ask(&mut jicofo, index, about(Relay { expire: true, ..Relay::new(BRIDGES[1 - index]) })).await;
    }
    link(&mut jicofo, true).await;
    relay(async || service.page("/debug?full=true").await, BRIDGES[1], true).await;
    let (code, text) = service.upgrade(&[]).await;
    assert_eq!(code, Some(0), "{text}\n{}", service.log.read());
    let keeper = service.pids[service.pids.len() - 2];
    signal(service.pid(), "-KILL");
    gone(keeper, &service).await;
    bridge.end().await;
}
