//! One conference on two bridges, from one end to the other: real workers and sockets, a real Prosody, and a test that asks as
//! Jicofo does (docs/protocol/bridge.md 10).

mod http;
mod jicofo;
mod phone;
mod program_log;
mod prosody;
mod upgrades;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jicofo::Jicofo;
use phone::{Heard, Phone};
use program_log::ProgramLog;
use prosody::Prosody;
use ringbridge_controlplane::bridge::{BridgeError, BridgeSettings, run};
use ringbridge_controlplane::colibri::bridge::RelaySettings;
use ringbridge_controlplane::colibri::elements::*;
use ringbridge_controlplane::rest::Process;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

const WAIT: Duration = Duration::from_secs(30);
const MEETING: &str = "meeting";
/// Relay ids of the two bridges, which are their nicknames too.
const BRIDGES: [&str; 2] = ["ringbridge-1", "ringbridge-2"];
/// The participants, one on each bridge.
const NAMES: [&str; 2] = ["anna", "bert"];
/// Opus, VP8 and its retransmissions, as each of them numbers them; the relay has the numbers of neither.
const NUMBERS: [[u8; 3]; 2] = [[109, 120, 121], [113, 96, 97]];
const RELAY_NUMBERS: [u8; 3] = [111, 100, 101];
/// SSRCs of audio and video of each.
const SSRCS: [[u32; 2]; 2] = [[1_111, 1_112], [2_221, 2_222]];
/// The beginning of a VP8 key frame of 16 times 16 pixels, after its payload descriptor.
const KEY_FRAME: [u8; 11] = [0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 16, 0, 16, 0];

struct Bridge {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<(), BridgeError>>,
    rest: SocketAddr,
    websocket: SocketAddr,
}

impl Bridge {
    fn start(server: &Prosody, index: usize) -> Self {
        let name = BRIDGES[index];
        let settings = BridgeSettings {
            port: 0,
            workers: 2,
            region: Some("here".to_owned()),
            relay: Some(RelaySettings { id: name.to_owned(), ports: None }),
            ..server.bridge(name)
        };
        let (stop, stopped) = watch::channel(false);
        let (rest, websocket) = (settings.rest_listen, settings.websocket_listen.expect("served"));
        Self { stop, task: tokio::spawn(run(settings, Process::default(), stopped)), rest, websocket }
    }

    async fn page(&self, path: &str) -> Value {
        let answer = http::get(self.rest, path).await;
        serde_json::from_str(answer.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
    }

    async fn end(self) {
        self.stop.send(true).expect("runs");
        timeout(WAIT, self.task).await.expect("an end").expect("no panic").expect("no error");
    }
}

fn media(numbers: [u8; 3]) -> Vec<Media> {
    let payload = |id, name: &str, clockrate, channels, apt: Option<u8>| PayloadType {
        id,
        name: Some(name.to_owned()),
        clockrate: Some(clockrate),
        channels,
        ptime: None,
        maxptime: None,
        parameters: apt
            .map(|apt| Parameter { name: Some("apt".to_owned()), value: Some(apt.to_string()) })
            .into_iter()
            .collect(),
        feedback: Vec::new(),
    };
    let section = |media_type, payload_types| Media {
        media_type,
        payload_types,
        header_extensions: Vec::new(),
        extmap_allow_mixed: false,
    };
    let [opus, vp8, rtx] = numbers;
    vec![
        section(MediaType::Audio, vec![payload(opus, "opus", 48_000, Some(2), None)]),
        section(
            MediaType::Video,
            vec![payload(vp8, "VP8", 90_000, None, None), payload(rtx, "rtx", 90_000, None, Some(vp8))],
        ),
    ]
}

fn sources(index: usize) -> Sources {
    let source = |media_type, suffix: &str, ssrc| MediaSource {
        media_type,
        id: format!("{}-{suffix}", NAMES[index]),
        synthetic: false,
        sources: vec![Source { ssrc, ..Source::default() }],
        ssrc_groups: Vec::new(),
    };
    let [audio, video] = SSRCS[index];
    Sources { media_sources: vec![source(MediaType::Audio, "a0", audio), source(MediaType::Video, "v0", video)] }
}

/// Asks a bridge, and expects that it is granted.
async fn ask(jicofo: &mut Jicofo, bridge: usize, request: ConferenceModify) -> ConferenceModified {
    jicofo.modify_at(BRIDGES[bridge], request).await.unwrap_or_else(|error| panic!("{}: {error:?}", BRIDGES[bridge]))
}

fn about(relay: Relay) -> ConferenceModify {
    ConferenceModify { relays: vec![relay], ..ConferenceModify::new(MEETING) }
}

fn ice(transport: &Option<Transport>) -> IceTransport {
    transport.as_ref().and_then(|t| t.ice.clone()).expect("an ICE transport")
}

/// Creates the conference with one participant on each bridge.
async fn call(jicofo: &mut Jicofo) -> [Phone; 2] {
    let mut phones = Vec::new();
    for bridge in 0..2 {
        let endpoint = Endpoint { media: media(NUMBERS[bridge]), ..jicofo::create(NAMES[bridge]) };
        let request = ConferenceModify { create: true, endpoints: vec![endpoint], ..ConferenceModify::new(MEETING) };
        let reply = ask(jicofo, bridge, request).await;
        let phone = Phone::new(NAMES[bridge], &ice(&reply.endpoints[0].transport));
        let endpoint = Endpoint {
            transport: Some(Transport { ice: Some(phone.transport()), ..Transport::default() }),
            sources: Some(sources(bridge)),
            ..Endpoint::new(NAMES[bridge])
        };
        ask(jicofo, bridge, ConferenceModify { endpoints: vec![endpoint], ..ConferenceModify::new(MEETING) }).await;
        phones.push(phone);
    }
    phones.try_into().unwrap_or_else(|_| panic!("two"))
}

/// Links the bridges, the first one as the initiator; with data channels, or with WebSockets.
async fn link(jicofo: &mut Jicofo, sctp: bool) {
    let mut transports = Vec::new();
    for bridge in 0..2 {
        let initiator = bridge == 0;
        let far = 1 - bridge;
        let relay = Relay {
            create: true,
            mesh_id: Some("0".to_owned()),
            media: media(RELAY_NUMBERS),
            transport: Some(Transport {
                ice_controlling: initiator,
                use_unique_port: initiator,
                sctp: sctp.then_some(Sctp {
                    port: None,
                    role: Some(if initiator { SctpRole::Client } else { SctpRole::Server }),
                }),
                ..Transport::default()
            }),
            endpoints: Some(Endpoints {
                endpoints: vec![Endpoint { create: true, sources: Some(sources(far)), ..Endpoint::new(NAMES[far]) }],
            }),
            ..Relay::new(BRIDGES[far])
        };
        let reply = ask(jicofo, bridge, about(relay)).await;
        transports.push(ice(&reply.relays[0].transport));
    }
    for bridge in 0..2 {
        let mut theirs = transports[1 - bridge].clone();
        assert_eq!(theirs.web_sockets.len(), usize::from(!sctp));
        // The other one waits.
        theirs.web_sockets.retain(|_| bridge == 0);
        for fingerprint in &mut theirs.fingerprints {
            assert_eq!(fingerprint.setup, Some(Setup::ActPass), "else Jicofo does not pass it on");
            fingerprint.setup = Some(if bridge == 0 { Setup::Active } else { Setup::Passive });
        }
        let transport = Some(Transport { ice: Some(theirs), ..Transport::default() });
        ask(jicofo, bridge, about(Relay { transport, ..Relay::new(BRIDGES[1 - bridge]) })).await;
    }
}

/// Lets both speak and show something until `done`.
async fn talk(phones: &mut [Phone; 2], done: impl Fn(&[Phone; 2]) -> bool) -> bool {
    let end = Instant::now() + WAIT;
    while Instant::now() < end {
        for (index, phone) in phones.iter_mut().enumerate() {
            let ([opus, vp8, _], [audio, video]) = (NUMBERS[index], SSRCS[index]);
            phone.say(opus, audio, &[], &format!("{}-say", NAMES[index]));
            phone.say(vp8, video, &KEY_FRAME, &format!("{}show", NAMES[index]));
            phone.turn();
        }
        if done(phones) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

/// What a participant must get of the other one: under its own numbers.
fn expected(receiver: usize) -> [Heard; 2] {
    let (sender, [opus, vp8, _]) = (1 - receiver, NUMBERS[receiver]);
    let [audio, video] = SSRCS[sender];
    let heard = |payload_type, ssrc, says: &str| Heard { payload_type, ssrc, says: format!("{}{says}", NAMES[sender]) };
    [heard(opus, audio, "-say"), heard(vp8, video, "show")]
}

fn all_heard(phones: &[Phone; 2]) -> bool {
    (0..2).all(|receiver| expected(receiver).iter().all(|heard| phones[receiver].heard.contains(heard)))
}

#[tokio::test]
async fn participants_on_two_bridges_hear_and_see_each_other() {
    let Some(server) = Prosody::start() else { return };
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let bridges = [Bridge::start(&server, 0), Bridge::start(&server, 1)];
    assert_eq!(jicofo.stat("relay_id").await, BRIDGES[0]);
    assert_eq!(jicofo.stat("region").await, "here");
    for bridge in &bridges {
        let end = Instant::now() + WAIT;
        while !http::get(bridge.rest, "/about/health").await.starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < end, "healthy in time");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let mut phones = call(&mut jicofo).await;
    assert!(talk(&mut phones, |phones| phones.iter().all(Phone::is_connected)).await);
    assert!(phones.iter().all(|phone| phone.heard.is_empty()), "nobody is with them yet");
    link(&mut jicofo, true).await;
    let heard = talk(&mut phones, all_heard).await;
    assert!(heard, "{:?}\n{:?}", phones[0].heard, phones[1].heard);
    for (receiver, phone) in phones.iter().enumerate() {
        let others = phone.heard.iter().filter(|heard| !expected(receiver).contains(heard)).count();
        assert_eq!(others, 0, "nothing else: {:?}", phone.heard);
    }

    // An operator sees it on either side, and what is wanted across.
    for (index, bridge) in bridges.iter().enumerate() {
        let far = 1 - index;
        let debug = bridge.page("/debug?full=true").await;
        let conference = debug["conferences"].as_object().and_then(|all| all.values().next()).expect("one").clone();
        let relay = &conference["relays"][BRIDGES[far]];
        let state = ["ice_established", "dtls_connected", "channel"].map(|key| &relay[key]);
        assert_eq!(state, [&Value::Bool(true); 3], "{relay}");
        let wanted = &relay["endpoints"][NAMES[far]]["connection"]["wanted_of_it"][format!("{}-v0", NAMES[far])];
        assert!(wanted.as_i64().is_some_and(|height| height != 0), "{relay}");
        let stats = |stats: &Value| {
            ["octo_conferences", "octo_endpoints", "local_endpoints", "participants"].map(|key| stats[key].as_u64())
        };
        let end = Instant::now() + WAIT;
        while stats(&bridge.page("/colibri/stats").await) != [Some(1), Some(1), Some(1), Some(2)] {
            assert!(Instant::now() < end, "{}", bridge.page("/colibri/stats").await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    // The link goes: nothing more is heard, and each goes on alone.
    ask(&mut jicofo, 0, about(Relay { expire: true, ..Relay::new(BRIDGES[1]) })).await;
    ask(&mut jicofo, 1, about(Relay { expire: true, ..Relay::new(BRIDGES[0]) })).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    phones.iter_mut().for_each(Phone::turn);
    phones.iter_mut().for_each(|phone| phone.heard.clear());
    let end = Instant::now() + Duration::from_secs(1);
    talk(&mut phones, |_| Instant::now() >= end).await;
    assert!(phones.iter().all(|phone| phone.heard.is_empty()), "{:?}", phones[0].heard);
    // And comes again, as older focuses want it.
    link(&mut jicofo, false).await;
    assert!(talk(&mut phones, all_heard).await, "{:?}\n{:?}", phones[0].heard, phones[1].heard);
    for (index, bridge) in bridges.iter().enumerate() {
        let end = Instant::now() + WAIT;
        loop {
            let debug = bridge.page("/debug?full=true").await;
            let conference = debug["conferences"].as_object().and_then(|all| all.values().next()).expect("one").clone();
            let relay = &conference["relays"][BRIDGES[1 - index]];
            if relay["channel"] == true && relay["carrier"] == "WebSocket" {
                break;
            }
            assert!(Instant::now() < end, "{relay}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    for bridge in 0..2 {
        ask(&mut jicofo, bridge, ConferenceModify { expire: true, ..ConferenceModify::new(MEETING) }).await;
    }
    for bridge in bridges {
        bridge.end().await;
    }
}
