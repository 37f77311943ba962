//! What a media worker of another process knew, as somebody may have made it up: a forwarder's state, or an engine's with ICE, paths,
//! questions under way and sockets of its own around it.
//!
//! Fed: a byte that says which; then changes of a state that was written, in the middle of a call.
//! Held: nothing panics; a state is refused, or consistent: it is written again as it was read; datagrams, commands and time go on with
//! it; everything expires.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ringbridge_dataplane::carry::State;
use ringbridge_dataplane::conference::ForwarderConfig;
use ringbridge_dataplane::ice::{IceCredentials, RemoteCandidate};
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, MeshId, Ssrc, WorkerId};
use ringbridge_dataplane::io::{LocalSocket, Path};
use ringbridge_dataplane::messages::{Command, FeedbackSsrcs, NewEndpoint};
use ringbridge_dataplane::srtp::{MasterKey, SrtpKeys, SrtpProfile};
use ringbridge_dataplane::{Engine, EngineConfig, EngineState};

use crate::edits;
use crate::input::Input;
use crate::meeting;
use crate::sink::ListSink;
use crate::stun::sign;

const CONFERENCE: ConferenceId = ConferenceId(1);
/// Endpoints one and two, and a relay.
const ALL: [EndpointId; 3] = [EndpointId(1), EndpointId(2), EndpointId(3)];
const PASSWORD: &str = "password";
/// STUN's binding request, and its attributes USERNAME and ICE-CONTROLLED (RFC 8445 section 16.1).
const BINDING: u16 = 1;
const USERNAME: u16 = 6;
const CONTROLLED: u16 = 0x8029;
const PRIORITY: u16 = 0x24;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.flag() { engine(&mut input) } else { forwarder(&mut input) }
}

/// A state, the time, and what clients send next.
type Recorded = (State, Instant, Vec<(usize, Vec<u8>)>);

fn forwarder(input: &mut Input<'_>) {
    static RECORDED: OnceLock<Recorded> = OnceLock::new();
    let (state, now, later) = RECORDED.get_or_init(meeting::recorded);
    let unchanged = input.is_empty();
    let state = State::from_bytes(edits::apply(state.as_bytes(), input));
    let taken = meeting::import(&state);
    assert!(taken.is_some() || !unchanged, "what was written is read");
    if let Some(forwarder) = taken {
        meeting::use_it(forwarder, *now, later);
    }
}

fn config() -> EngineConfig {
    EngineConfig {
        worker: WorkerId::new(0),
        sockets: vec![([192, 0, 2, 1], 10_000).into()].into(),
        max_endpoints: 8,
        max_addresses: 16,
        forwarder: ForwarderConfig::default(),
    }
}

fn credentials(ufrag: &str) -> IceCredentials {
    IceCredentials { ufrag: ufrag.to_owned(), pwd: PASSWORD.to_owned() }
}

/// A check of a client for the agent of this ufrag.
fn request(ufrag: &str, number: u8) -> Vec<u8> {
    let mut attributes = Vec::new();
    let username = format!("{ufrag}:theirs");
    for (kind, value) in [(USERNAME, username.as_bytes()), (CONTROLLED, &[7; 8]), (PRIORITY, &[0, 0, 1, 0])] {
        attributes.extend(kind.to_be_bytes());
        attributes.extend((value.len() as u16).to_be_bytes());
        attributes.extend(value);
        attributes.resize(attributes.len().next_multiple_of(4), 0);
    }
    sign(BINDING, [number; 12], &attributes, PASSWORD)
}

/// An engine in the middle of a call: with keys, checks under way, a restart of ICE, and a relay with sockets of its own.
fn busy(now: Instant) -> Engine {
    let mut engine = Engine::new(config(), Arc::default());
    let mut sink = ListSink::default();
    let own = [100, 101].map(|local| LocalSocket { local, address: ([192, 0, 2, 1], local).into() });
    engine.give_sockets(ALL[2], &own).expect("sockets");
    let new = |endpoint: EndpointId, ufrag: &str| {
        let label = format!("endpoint{}", endpoint.0);
        Box::new(NewEndpoint { conference: CONFERENCE, endpoint, label, ice: credentials(ufrag), controlling: true })
    };
    let candidate = |port| RemoteCandidate { addr: ([198, 51, 100, 1], port).into(), priority: 7, relayed: false };
    let master = MasterKey { key: [3; 32], salt: [5; 14] };
    let keys = SrtpKeys { profile: SrtpProfile::AeadAes128Gcm, inbound: master.clone(), outbound: master };
    let remote = |endpoint, ufrag: &str, port| Command::SetRemoteIce {
        endpoint,
        credentials: Some(credentials(ufrag)),
        candidates: vec![candidate(port)],
    };
    let feedback = FeedbackSsrcs { audio: Ssrc::new(7), video: Ssrc::new(8) };
    for command in [
        Command::CreateConference { conference: CONFERENCE, feedback },
        Command::CreateEndpoint(new(ALL[0], "0one")),
        Command::CreateEndpoint(new(ALL[1], "0two")),
        Command::CreateRelay { new: new(ALL[2], "0three"), mesh: MeshId(1) },
        remote(ALL[0], "x", 4),
        remote(ALL[2], "y", 5),
        Command::RestartIce { endpoint: ALL[1], generation: 1, local: credentials("0again") },
        Command::SetSrtp { endpoint: ALL[0], keys: Box::new(keys) },
    ] {
        engine.handle_command(now, command, &mut sink).expect("it is carried out");
    }
    for (port, ufrag) in [(4, "0one"), (9, "0two")] {
        let path = Path { local: 0, remote: ([198, 51, 100, 1], port).into() };
        engine.handle_datagram(now, path, &mut request(ufrag, 1), &mut sink);
    }
    let mut later = now;
    for _ in 0..5 {
        later = engine.poll_timeout().unwrap_or(later).clamp(later, now + Duration::from_millis(500));
        engine.handle_timeout(later, &mut sink);
    }
    engine
}

fn engine(input: &mut Input<'_>) {
    static BUSY: OnceLock<(EngineState, Instant)> = OnceLock::new();
    let (state, now) = BUSY.get_or_init(|| {
        let now = Instant::now();
        (busy(now).export(now).expect("a state"), now)
    });
    let unchanged = input.is_empty();
    let state = EngineState::from_bytes(edits::apply(state.as_bytes(), input));
    match Engine::import(config(), &state, Arc::default(), *now) {
        Ok(engine) => use_it(engine, *now),
        Err(error) => assert!(!unchanged, "what was written is refused: {error}"),
    }
}

fn use_it(mut engine: Engine, mut now: Instant) {
    let mut sink = ListSink::default();
    for round in 0..20_u8 {
        for (local, port, ufrag) in [(0, 4, "0one"), (100, 5, "0three"), (0, 6, "0again"), (7, 7, "1other")] {
            let path = Path { local, remote: ([198, 51, 100, 1], port + u16::from(round / 10)).into() };
            engine.handle_datagram(now, path, &mut request(ufrag, round), &mut sink);
            engine.handle_datagram(now, path, &mut [0x80; 60], &mut sink);
            engine.handle_datagram(now, path, &mut [22; 60], &mut sink);
        }
        now = engine.poll_timeout().unwrap_or(now).clamp(now, now + Duration::from_secs(2));
        engine.handle_timeout(now, &mut sink);
        while engine.poll_event().is_some() {}
        while engine.poll_closed_socket().is_some() {}
        sink.datagrams.clear();
    }
    let written = engine.export(now).expect("what was read can be written");
    let again = Engine::import(config(), &written, Arc::default(), now).expect("and read");
    assert!(again.export(now).expect("and written") == written, "something was not carried");
    for endpoint in ALL {
        let _ = engine.handle_command(now, Command::ExpireEndpoint { endpoint }, &mut sink);
    }
    let _ = engine.handle_command(now, Command::ExpireConference { conference: CONFERENCE }, &mut sink);
    engine.handle_timeout(now + Duration::from_secs(60), &mut sink);
}
