//! States of other engines, as they are and as somebody may have made them up.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::carry::CarryError;
use crate::datagram::LocalSocket;
use crate::ice::RemoteCandidate;
use crate::ice::stun::{Class, Message};
use crate::stats::{Counter, WorkerStats};

fn config() -> EngineConfig {
    EngineConfig {
        worker: WorkerId::new(0),
        sockets: vec!["192.0.2.1:10000".parse().unwrap()].into(),
        max_endpoints: 8,
        max_addresses: 16,
        forwarder: ForwarderConfig::default(),
    }
}

/// An engine with an endpoint that is connected, one that restarts ICE, and a relay with sockets of its own.
fn busy() -> (Engine, Instant) {
    let mut rig = rig(16, 16);
    let (conference, out) = (ConferenceId(1), &mut rig.out);
    let engine = &mut rig.workers[0].engine;
    let ice = |ufrag: &str| IceCredentials { ufrag: ufrag.into(), pwd: "password".into() };
    let own = [100, 101].map(|local| LocalSocket { local, address: ([192, 0, 2, 1], local).into() });
    engine.give_sockets(EndpointId(3), &own).unwrap();
    let new = |endpoint: u32, ufrag: &str| {
        let (endpoint, label) = (EndpointId(endpoint), format!("endpoint{endpoint}"));
        Box::new(NewEndpoint { conference, endpoint, label, ice: ice(ufrag), controlling: true })
    };
    let candidate = |port| RemoteCandidate { addr: ([198, 51, 100, 1], port).into(), priority: 7, relayed: false };
    let master = MasterKey { key: [3; 32], salt: [5; 14] };
    let keys = SrtpKeys { profile: SrtpProfile::AeadAes128Gcm, inbound: master.clone(), outbound: master };
    let endpoint = EndpointId(1);
    let commands = [
        Command::CreateEndpoint(new(2, "0two")),
        Command::CreateRelay { new: new(3, "0three"), mesh: MeshId(1) },
        Command::SetRemoteIce { endpoint, credentials: Some(ice("x")), candidates: vec![candidate(4)] },
        Command::SetRemoteIce { endpoint: EndpointId(3), credentials: Some(ice("y")), candidates: vec![candidate(5)] },
        Command::RestartIce { endpoint: EndpointId(2), generation: 1, local: ice("0again") },
        Command::SetSrtp { endpoint, keys: Box::new(keys) },
    ];
    for command in commands {
        engine.handle_command(rig.now, command, out).unwrap();
    }
    rig.receive(0, 4, &request("0one"));
    rig.receive(0, 9, &request("0two"));
    for _ in 0..5 {
        let engine = &mut rig.workers[0].engine;
        rig.now = engine.poll_timeout().unwrap().max(rig.now);
        engine.handle_timeout(rig.now, &mut rig.out);
        // What it asked is answered.
        for (path, sent) in std::mem::take(&mut rig.out.sent) {
            let Ok(message) = Message::read_unchecked(&sent) else { continue };
            let mut answer = vec![0; 200];
            let writer = Writer::new(&mut answer, Class::Success, &message.transaction()).mapped(path.remote);
            let Some(len) = writer.finish(&integrity_key("password")) else { continue };
            engine.handle_datagram(rig.now, path, &mut answer[..len], &mut rig.out);
        }
    }
    let Rig { mut workers, now, .. } = rig;
    (workers.remove(0).engine, now)
}

/// What an engine is put through after it took over a state.
fn use_it(mut engine: Engine, mut now: Instant) {
    let mut out = Out::new();
    for round in 0..30u16 {
        for (local, port, ufrag) in [(0, 4, "0one"), (100, 5, "0three"), (0, 6, "0again"), (7, 7, "1other")] {
            let path = Path { local, remote: ([198, 51, 100, 1], port + round / 10).into() };
            engine.handle_datagram(now, path, &mut request(ufrag), &mut out);
            engine.handle_datagram(now, path, &mut [0x80; 60], &mut out);
            engine.handle_datagram(now, path, &mut [22; 60], &mut out);
        }
        now = engine.poll_timeout().unwrap_or(now).clamp(now, now + Duration::from_secs(2));
        engine.handle_timeout(now, &mut out);
        while engine.poll_event().is_some() {}
        while engine.poll_closed_socket().is_some() {}
        out.sent.clear();
    }
    let written = engine.export(now).expect("what was read can be written");
    let again = Engine::import(config(), &written, Arc::default(), now).expect("and read");
    assert!(again.export(now).expect("and written") == written, "something was not carried");
    for endpoint in [1, 2, 3].map(EndpointId) {
        let _ = engine.handle_command(now, Command::ExpireEndpoint { endpoint }, &mut out);
    }
    let _ = engine.handle_command(now, Command::ExpireConference { conference: ConferenceId(1) }, &mut out);
    engine.handle_timeout(now + Duration::from_secs(60), &mut out);
}

#[test]
fn what_is_read_is_what_was_written() {
    let (engine, now) = busy();
    let state = engine.export(now).unwrap();
    let again = Engine::import(config(), &state, Arc::default(), now).unwrap();
    assert_eq!(again.export(now).unwrap(), state);
    assert_eq!(again.poll_timeout(), engine.poll_timeout(), "what was due is due");
    use_it(again, now);
}

#[test]
fn what_was_counted_counts_on() {
    let (engine, now) = busy();
    let count = engine.stats().get(Counter::DropUnknownAddress);
    engine.stats().add(Counter::SheddingLevel, 3);
    engine.stats().add(Counter::DropUnknownAddress, 5);
    let stats = Arc::new(WorkerStats::default());
    Engine::import(config(), &engine.export(now).unwrap(), stats.clone(), now).unwrap();
    assert_eq!(stats.get(Counter::DropUnknownAddress), count + 5);
    assert_eq!(stats.get(Counter::SheddingLevel), 0, "what shows the present is not added up");
}

#[test]
fn what_does_not_fit_is_refused_with_what_to_do() {
    let (engine, now) = busy();
    let state = engine.export(now).unwrap();
    let import = |config: EngineConfig, now| Engine::import(config, &state, Arc::default(), now).err().unwrap();
    let error = import(EngineConfig { worker: WorkerId::new(1), ..config() }, now);
    assert!(matches!(error, ImportError::Worker { .. }), "{error}");
    let sockets = vec!["192.0.2.1:10001".parse().unwrap()].into();
    assert!(matches!(import(EngineConfig { sockets, ..config() }, now), ImportError::Sockets { .. }));
    let error = import(EngineConfig { max_endpoints: 2, ..config() }, now);
    assert_eq!(error, ImportError::TooMany { what: "endpoints", found: 3, limit: 2 });
    let error = import(EngineConfig { max_addresses: 1, ..config() }, now);
    assert!(matches!(error, ImportError::TooMany { what: "addresses", .. }), "{error}");
    for wrong in [now - Duration::from_secs(1), now + Duration::from_secs(61)] {
        assert_eq!(import(config(), wrong), ImportError::Stale);
    }
    let bytes = state.as_bytes();
    let another = [&[bytes[0] + 1], &bytes[1..]].concat();
    let import = |bytes| Engine::import(config(), &EngineState::from_bytes(bytes), Arc::default(), now).err().unwrap();
    assert!(matches!(import(another), ImportError::Version { found } if found == crate::carry::STATE_VERSION + 1));
    assert!(matches!(import(Vec::new()), ImportError::Carry(CarryError::Invalid(_))));
}

#[test]
fn no_change_of_a_states_bytes_makes_an_engine_panic() {
    let (engine, now) = busy();
    let state = engine.export(now).unwrap();
    let mut taken = 0;
    for seed in 0..2_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = state.as_bytes().to_vec();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            bytes[at] = match random.random_range(0..3) {
                0 => random.random(),
                1 => bytes[at] ^ 1 << random.random_range(0..8),
                _ => [0, 1, 0x7f, 0x80, 0xff][random.random_range(0..5)],
            };
        }
        let state = EngineState::from_bytes(bytes);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            Engine::import(config(), &state, Arc::default(), now).map(|engine| use_it(engine, now)).is_ok()
        }));
        match outcome {
            Ok(went_on) => taken += u32::from(went_on),
            Err(panic) => {
                eprintln!("seed {seed}");
                resume_unwind(panic)
            }
        }
    }
    assert!((200..2_000).contains(&taken), "{taken} of 2,000 were gone on with");
}
