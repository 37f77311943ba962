//! A bridge behind NAT as a stock Docker environment starts it, with a client outside: network namespaces, nftables, a STUN server
//! and a metadata service of the test's own, a real Prosody and a scripted Jicofo.

mod connectivity_check;
mod http;
mod jicofo;
mod nat_world;
mod program_log;
mod prosody;
mod stun_server;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jicofo::{Jicofo, create};
use nat_world::{
    CLIENT, INSIDE, INSIDE6, OUTSIDE6, Other, PUBLIC, PUBLIC6, STUN, STUN6, build, build_ipv6, enter, forward, on,
    role, run,
};
use program_log::ProgramLog;
use prosody::{PASSWORD, Prosody};
use ringbridge_controlplane::colibri::elements::*;
use ringbridge_dataplane::ice::stun::{Class, Message, integrity_key};

const PAGES: &str = "127.0.0.1:8080";
/// The service on every instance of AWS.
const METADATA: &str = "169.254.169.254:80";

/// A running bridge, its log in a file; killed when dropped.
struct Bridge {
    child: Child,
    log: ProgramLog,
    started: Instant,
}

impl Bridge {
    /// With the variables of the image and these.
    fn start(server: &Prosody, name: &str, more: &[(&str, &str)]) -> Self {
        let log = ProgramLog(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nat-{name}.log")));
        let started = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_ringbridge"))
            .arg("bridge")
            .env_clear()
            .envs(variables(&server.port.to_string()))
            // What this machine need not measure.
            .envs([("RINGBRIDGE_IO", "mmsg"), ("RINGBRIDGE_WORKERS", "2")])
            .envs(more.iter().copied())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log.0).expect("a log file"))
            .spawn()
            .expect("starts");
        Self { child, log, started }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `check-config --connect` says with the variables of the image and these, and whether all is well.
fn check_config(server: &Prosody, more: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringbridge"))
        .args(["check-config", "--connect"])
        .env_clear()
        .envs(variables(&server.port.to_string()))
        .envs(more.iter().copied())
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

/// The environment of the image.
fn variables(port: &str) -> [(&str, &str); 9] {
    [
        ("JVB_AUTH_USER", "jvb"),
        ("JVB_AUTH_PASSWORD", PASSWORD),
        ("JVB_BREWERY_MUC", "jvbbrewery"),
        ("JVB_MUC_NICKNAME", "ringbridge-1"),
        ("JVB_PORT", "10000"),
        ("XMPP_SERVER", "127.0.0.1"),
        ("XMPP_PORT", port),
        ("XMPP_AUTH_DOMAIN", "auth.meet.test"),
        ("XMPP_INTERNAL_MUC_DOMAIN", "internal.auth.meet.test"),
    ]
}

/// A new endpoint of a new conference: its transport.
async fn allocate(jicofo: &mut Jicofo, meeting: &str) -> IceTransport {
    let request = ConferenceModify { create: true, endpoints: vec![create("aaaa")], ..ConferenceModify::new(meeting) };
    let reply = jicofo.modify(request).await.expect("allocated");
    reply.endpoints[0].transport.as_ref().expect("a transport").ice.clone().expect("ICE")
}

/// Type, address and related address of every candidate; their priorities are unique.
fn shown(transport: &IceTransport) -> Vec<String> {
    let candidates = &transport.candidates;
    let mut priorities: Vec<_> = candidates.iter().map(|candidate| candidate.priority.expect("one")).collect();
    priorities.sort_unstable();
    priorities.dedup();
    assert_eq!(priorities.len(), candidates.len(), "{candidates:?}");
    let one = |candidate: &Candidate| {
        let kind = candidate.candidate_type.as_deref().unwrap_or_default();
        let shown = |address: &str, port| SocketAddr::new(address.parse().expect("an address"), port).to_string();
        let related = match (&candidate.rel_addr, candidate.rel_port) {
            (Some(address), Some(port)) => format!(" of {}", shown(address, port)),
            _ => String::new(),
        };
        format!("{kind} {}{related}", shown(&candidate.ip, candidate.port))
    };
    candidates.iter().map(one).collect()
}

fn expected(public: &str) -> [String; 2] {
    [format!("host {INSIDE}:10000"), format!("srflx {public}:10000 of {INSIDE}:10000")]
}

/// Plays the others; `inside` is the test itself.
fn play(test: &str, inside: impl Future<Output = ()>) {
    match role() {
        None => {
            enter(test);
        }
        Some((role, argument)) => match role.as_str() {
            "inside" => tokio::runtime::Runtime::new().expect("a runtime").block_on(inside),
            "stun" => {
                let socket = UdpSocket::bind(argument).expect("an address of this host");
                stun_server::serve(&socket, |from| from);
            }
            "metadata" => serve_metadata(&argument),
            "client" => check(&argument),
            other => panic!("{other}"),
        },
    }
}

/// The instance metadata service, version 2, of an instance at [`INSIDE`] with this public address.
fn serve_metadata(public: &str) {
    let listener = TcpListener::bind(METADATA).expect("an address of this host");
    for stream in listener.incoming() {
        let mut stream = stream.expect("accepted");
        let mut buffer = [0; 2048];
        let length = stream.read(&mut buffer).expect("a request");
        let request = String::from_utf8_lossy(&buffer[..length]).to_ascii_lowercase();
        let has_token = request.contains("x-aws-ec2-metadata-token: token-of-the-test");
        let (status, body) = match request.split_once(" http/1.1").expect("HTTP").0 {
            "put /latest/api/token" if request.contains("x-aws-ec2-metadata-token-ttl-seconds: ") => {
                ("200 OK", "token-of-the-test")
            }
            "get /latest/meta-data/local-ipv4" if has_token => ("200 OK", INSIDE),
            "get /latest/meta-data/public-ipv4" if has_token => ("200 OK", public),
            _ => ("401 Unauthorized", ""),
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let _ = stream.write_all(answer.as_bytes());
    }
}

/// A client outside sends connectivity checks, `address ufrag pwd`; it fails without an authentic answer.
fn check(argument: &str) {
    let [target, ufrag, pwd] = argument.split(' ').collect::<Vec<_>>()[..] else { panic!("{argument}") };
    let (key, target) = (integrity_key(pwd), target.parse::<SocketAddr>().expect("an address"));
    let socket =
        UdpSocket::bind((if target.is_ipv4() { CLIENT } else { OUTSIDE6 }, 0)).expect("an address of this host");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
    let (mut buffer, transaction) = ([0; 600], rand::random());
    let request = connectivity_check::request(ufrag, pwd, &transaction);
    for _ in 0..25 {
        socket.send_to(&request, target).expect("sent");
        if let Ok((length, from)) = socket.recv_from(&mut buffer)
            && let Ok(message) = Message::parse(&buffer[..length])
            && message.class() == Class::Success
        {
            assert!(from == target && message.transaction() == transaction && message.verify(&key));
            return;
        }
    }
    panic!("no answer of {target}");
}

/// Whether a client outside is answered at every public candidate.
fn reaches(test: &str, transport: &IceTransport) -> bool {
    let (ufrag, pwd) = (transport.ufrag.as_deref().expect("one"), transport.pwd.as_deref().expect("one"));
    let public = transport.candidates.iter().filter(|candidate| candidate.rel_addr.is_some());
    let mut reached = public.map(|candidate| {
        let target = SocketAddr::new(candidate.ip.parse().expect("an address"), candidate.port);
        Other::start("outside", test, "client", &format!("{target} {ufrag} {pwd}")).ends_well()
    });
    reached.all(|good| good)
}

/// Waits for a value of a metric; reports come every 5 s.
async fn becomes(name: &str, value: &str) {
    let start = Instant::now();
    loop {
        let metrics = http::get(PAGES.parse().expect("an address"), "/metrics").await;
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        if line == format!("{name} {value}") {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{line}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[test]
fn a_client_outside_reaches_a_bridge_that_learns_its_address_by_stun() {
    const TEST: &str = "a_client_outside_reaches_a_bridge_that_learns_its_address_by_stun";
    play(TEST, async {
        build("masquerade", &[]);
        let Some(server) = Prosody::start() else { return };
        let _stun = Other::start("outside", TEST, "stun", STUN);
        let mut jicofo = Jicofo::new(&server);
        jicofo.join().await;
        let found = format!("public address {PUBLIC} of {INSIDE} found by STUN server {STUN}\n");
        let servers = [("JVB_STUN_SERVERS", STUN)];
        let (good, text) = check_config(&server, &servers);
        assert!(good && text.contains(&found) && text.contains("JVB_STUN_SERVERS is bridge.discovery"), "{text}");
        let bridge = Bridge::start(&server, "stun", &servers);
        jicofo.bridge_presence().await;
        // From another port now.
        let (good, text) = check_config(&server, &servers);
        assert!(good && text.contains(&found) && !text.contains("not a plain port forward"), "{text}");
        // Known to the first conference.
        let transport = allocate(&mut jicofo, "m1").await;
        assert_eq!(shown(&transport), expected(PUBLIC), "{}", bridge.log.read());
        assert!(reaches(TEST, &transport), "{}", bridge.log.read());
        assert_eq!(bridge.log.complaints(), Vec::<String>::new());
        becomes("ringbridge_public_addresses{source=\"stun\"}", "1").await;

        // Another public address; the bridge asks again when addresses of its host change.
        const LATER: &str = "198.51.100.8";
        on("router", &format!("ip address add {LATER}/24 dev out1"));
        forward(LATER, &format!("snat to {LATER}"), &[]);
        // Forgets what it had masqueraded.
        on("router", "ip link set out1 down");
        on("router", "ip link set out1 up");
        run("ip", &["address", "add", "10.78.0.3/24", "dev", "in0"]);
        let start = Instant::now();
        let mut count = 1;
        let transport = loop {
            count += 1;
            let transport = allocate(&mut jicofo, &format!("m{count}")).await;
            if shown(&transport) == expected(LATER) {
                break transport;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{:?}\n{}", shown(&transport), bridge.log.read());
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        assert!(reaches(TEST, &transport), "{}", bridge.log.read());
    });
}

#[test]
fn both_families_have_their_public_addresses() {
    const TEST: &str = "both_families_have_their_public_addresses";
    play(TEST, async {
        build("masquerade", &[]);
        build_ipv6();
        let Some(server) = Prosody::start() else { return };
        let _stun = [STUN, STUN6].map(|address| Other::start("outside", TEST, "stun", address));
        let mut jicofo = Jicofo::new(&server);
        jicofo.join().await;
        let servers = format!("{STUN6},{STUN}");
        let variables = [("JVB_STUN_SERVERS", servers.as_str()), ("JVB_ADVERTISE_PRIVATE_CANDIDATES", "false")];
        let bridge = Bridge::start(&server, "both", &variables);
        jicofo.bridge_presence().await;
        // The private addresses are signalled to nobody, not even as related ones.
        let transport = allocate(&mut jicofo, "m1").await;
        let public = [format!("srflx [{PUBLIC6}]:10000 of [::]:9"), format!("srflx {PUBLIC}:10000 of 0.0.0.0:9")];
        assert_eq!(sorted(shown(&transport)), sorted(public.to_vec()), "{}", bridge.log.read());
        assert!(reaches(TEST, &transport), "{}", bridge.log.read());
        drop(bridge);
        jicofo.presences.clear();
        while jicofo.bridge_presence().await.type_ != xmpp_parsers::presence::Type::Unavailable {}
        // Bound to everything: what the host has is signalled, and stands behind the public addresses.
        let more = [variables[0], ("RINGBRIDGE_LOCAL_ADDRESS", "0.0.0.0,::")];
        let bridge = Bridge::start(&server, "wildcard", &more);
        jicofo.bridge_presence().await;
        let transport = allocate(&mut jicofo, "m2").await;
        let all = [
            format!("host [{INSIDE6}]:10000"),
            format!("host {INSIDE}:10000"),
            format!("srflx [{PUBLIC6}]:10000 of [{INSIDE6}]:10000"),
            format!("srflx {PUBLIC}:10000 of {INSIDE}:10000"),
        ];
        assert_eq!(sorted(shown(&transport)), sorted(all.to_vec()), "{}", bridge.log.read());
        assert!(reaches(TEST, &transport), "{}", bridge.log.read());
        assert_eq!(bridge.log.complaints(), Vec::<String>::new());
    });
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

#[test]
fn on_aws_the_metadata_service_tells_the_address() {
    const TEST: &str = "on_aws_the_metadata_service_tells_the_address";
    play(TEST, async {
        build("masquerade", &[]);
        on("router", "ip address add 169.254.169.254/32 dev lo");
        let Some(server) = Prosody::start() else { return };
        let _metadata = Other::start("router", TEST, "metadata", PUBLIC);
        std::thread::sleep(Duration::from_millis(500));
        let mut jicofo = Jicofo::new(&server);
        jicofo.join().await;
        let switches = [("DISABLE_AWS_HARVESTER", "false"), ("JVB_DISABLE_STUN", "1")];
        let (good, text) = check_config(&server, &switches);
        let found = format!("public address {PUBLIC} of {INSIDE} found by instance metadata at {METADATA}\n");
        assert!(good && text.contains(&found), "{text}");
        let bridge = Bridge::start(&server, "aws", &switches);
        jicofo.bridge_presence().await;
        let transport = allocate(&mut jicofo, "m1").await;
        assert_eq!(shown(&transport), expected(PUBLIC), "{}", bridge.log.read());
        assert!(reaches(TEST, &transport), "{}", bridge.log.read());
        assert_eq!(bridge.log.complaints(), Vec::<String>::new());
        becomes("ringbridge_public_addresses{source=\"aws\"}", "1").await;
    });
}

#[test]
fn without_an_answer_it_starts_within_two_seconds_and_says_so() {
    const TEST: &str = "without_an_answer_it_starts_within_two_seconds_and_says_so";
    play(TEST, async {
        build("masquerade", &[]);
        let Some(server) = Prosody::start() else { return };
        let mut jicofo = Jicofo::new(&server);
        jicofo.join().await;
        // A name server that is silent, as the stock environment meets it in a closed network; then a server that is.
        std::fs::write("/run/resolv.conf", "nameserver 198.51.100.99\n").expect("written");
        run("mount", &["--bind", "/run/resolv.conf", "/etc/resolv.conf"]);
        let aws = ("DISABLE_AWS_HARVESTER", "false");
        for (name, more) in [
            ("stock", &[][..]),
            ("silent", &[("JVB_STUN_SERVERS", STUN)]),
            ("silent-aws", &[("JVB_STUN_SERVERS", STUN), aws]),
        ] {
            let start = Instant::now();
            let (good, text) = check_config(&server, more);
            assert!(!good && text.contains("no STUN server reported the public address"), "{text}");
            assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
            let bridge = Bridge::start(&server, name, more);
            loop {
                let presence = jicofo.bridge_presence().await;
                if presence.type_ == xmpp_parsers::presence::Type::None {
                    break;
                }
            }
            let took = bridge.started.elapsed();
            println!("{name}: in the brewery after {took:?}");
            assert!(took < Duration::from_secs(2), "{name}: {took:?}\n{}", bridge.log.read());
            bridge.log.says("no STUN server reported the public address").await;
            let complaints = bridge.log.complaints();
            assert_eq!(complaints.len(), 1, "{complaints:#?}");
            for remedy in ["JVB_ADVERTISE_IPS", "JVB_DISABLE_STUN=1", "bridge.public-addresses"] {
                assert!(complaints[0].contains(remedy), "{complaints:#?}");
            }
            let transport = allocate(&mut jicofo, &format!("m-{name}")).await;
            assert_eq!(shown(&transport), [format!("host {INSIDE}:10000")]);
            drop(bridge);
            jicofo.presences.clear();
            // It has left the room.
            while jicofo.bridge_presence().await.type_ != xmpp_parsers::presence::Type::Unavailable {}
        }
        // An address that the operator names is signalled at once, and no answer is no loss then.
        let more = [("JVB_STUN_SERVERS", STUN), ("JVB_ADVERTISE_IPS", PUBLIC)];
        assert!(check_config(&server, &more).0);
        let bridge = Bridge::start(&server, "named", &more);
        jicofo.bridge_presence().await;
        let transport = allocate(&mut jicofo, "m-named").await;
        assert_eq!(shown(&transport), expected(PUBLIC));
        bridge.log.says("no STUN server reported the public address").await;
        assert_eq!(bridge.log.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_nat_that_changes_ports_is_named_in_one_line() {
    const TEST: &str = "a_nat_that_changes_ports_is_named_in_one_line";
    play(TEST, async {
        build("masquerade random", &[]);
        let Some(server) = Prosody::start() else { return };
        let _stun = Other::start("outside", TEST, "stun", STUN);
        let mut jicofo = Jicofo::new(&server);
        jicofo.join().await;
        let (_, text) = check_config(&server, &[("JVB_STUN_SERVERS", STUN)]);
        assert!(text.contains("not a plain port forward"), "{text}");
        let bridge = Bridge::start(&server, "random", &[("JVB_STUN_SERVERS", STUN)]);
        jicofo.bridge_presence().await;
        // The port is forwarded all the same.
        let transport = allocate(&mut jicofo, "m1").await;
        assert_eq!(shown(&transport), expected(PUBLIC), "{}", bridge.log.read());
        assert!(reaches(TEST, &transport), "{}", bridge.log.read());
        bridge.log.says("not a plain port forward").await;
        let complaints = bridge.log.complaints();
        assert_eq!(complaints.len(), 1, "{complaints:#?}");
        assert!(complaints[0].contains("shows UDP port 10000 as "), "{complaints:#?}");
        assert!(complaints[0].contains(&format!("{INSIDE}={PUBLIC}#PORT")), "{complaints:#?}");
    });
}

/// A scripted participant; its report when it has left.
fn participant(host: Option<&str>, xmpp: (&str, u16), local: &str) -> Option<Child> {
    let load = std::path::Path::new(env!("CARGO_BIN_EXE_ringbridge")).with_file_name("ringbridge-load");
    if !load.is_file() {
        eprintln!("skipped in part: {} is not built (cargo build -p ringbridge-load)", load.display());
        return None;
    }
    let mut command = match host {
        Some(host) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", host]).arg(load);
            command
        }
        None => Command::new(load),
    };
    let port = xmpp.1.to_string();
    command
        .args(["participants", "--room", "nat", "--seconds", "8", "--xmpp-host", xmpp.0, "--xmpp-port", &port])
        .args(["--local-address", local])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    Some(command.spawn().expect("starts"))
}

/// What one participant received of its only peer: packets of audio, frames of video.
fn received(child: Child) -> (u64, u64) {
    let output = child.wait_with_output().expect("ends");
    let text = String::from_utf8_lossy(&output.stdout);
    let report: serde_json::Value = serde_json::from_str(text.lines().last().unwrap_or_default()).expect(&text);
    let of_peers = report["reports"][0]["received"].as_object().expect(&text);
    let sum = |name: &str| of_peers.values().filter_map(|of_one| of_one[name].as_u64()).sum();
    println!("{report}");
    (sum("audio_packets"), sum("video_frames"))
}

#[test]
fn media_flow_both_ways_between_inside_and_outside() {
    const TEST: &str = "media_flow_both_ways_between_inside_and_outside";
    play(TEST, async {
        build("masquerade", &[]);
        let global = format!("interfaces = {{ \"127.0.0.1\", \"{INSIDE}\" }}");
        let Some(server) = Prosody::start_with(&global) else { return };
        forward(PUBLIC, "masquerade", &[server.port]);
        let _stun = Other::start("outside", TEST, "stun", STUN);
        let bridge = Bridge::start(&server, "media", &[("JVB_STUN_SERVERS", STUN)]);
        let port = server.port.to_string();
        let mut focus = Command::new(env!("CARGO_BIN_EXE_ringbridge"))
            .args(["focus", "--xmpp-host", "127.0.0.1", "--xmpp-port", &port, "--xmpp-security", "disabled"])
            .args(["--brewery", prosody::BREWERY, "--focus-jid", "focus@auth.meet.test"])
            .args(["--conference-muc", "conference.meet.test"])
            .env_clear()
            .env("RINGBRIDGE_FOCUS_PASSWORD", PASSWORD)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        bridge.log.says(&format!("public address {PUBLIC} of {INSIDE} found by STUN server {STUN}")).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let outside = participant(Some("outside"), (PUBLIC, server.port), CLIENT);
        let inside = participant(None, ("127.0.0.1", server.port), INSIDE);
        if let (Some(outside), Some(inside)) = (outside, inside) {
            for (name, (audio, video)) in [("outside", received(outside)), ("inside", received(inside))] {
                assert!(audio > 100 && video > 50, "{name}: {audio} of audio, {video} of video\n{}", bridge.log.read());
            }
        }
        let _ = focus.kill();
        let _ = focus.wait();
        assert_eq!(bridge.log.complaints(), Vec::<String>::new());
    });
}
