//! The conferences of another process, as somebody may have made them up.
//!
//! Fed: the bytes of a state.
//! Held: nothing panics; what is taken over is consistent, reads back as the same bytes, answers requests, and expires.

use std::time::{Duration, Instant};

use ringbridge_controlplane::colibri::bridge::{ColibriBridge, ColibriConfig, RelaySettings};
use ringbridge_controlplane::colibri::elements::{ConferenceModify, Endpoint, Transport};
use ringbridge_controlplane::colibri::transport::LocalTransport;

/// What the seeds were written with.
pub fn config() -> ColibriConfig {
    ColibriConfig {
        transport: LocalTransport {
            local_addresses: vec![[192, 0, 2, 1].into()],
            public_addresses: Vec::new(),
            advertise_private: true,
            port: 10_000,
            fingerprint: "AB:CD".to_owned(),
            websocket_base_url: "wss://meet.example".to_owned(),
            relay_websocket_base_url: "wss://meet.example".to_owned(),
            websocket_server_id: "jvb1".to_owned(),
        },
        workers: 2,
        spill_endpoints: 1,
        capacity: Default::default(),
        sctp: true,
        audio_ssrcs: 4,
        video_ssrcs: 4,
        relay: Some(RelaySettings { id: "jvb1".to_owned(), ports: None }),
        ice_restart: true,
        ufrag_prefix: |worker| worker.to_string(),
    }
}

fn settle(bridge: &mut ColibriBridge) {
    while bridge.poll_output().is_some() {}
    assert_eq!(bridge.inconsistency(), None);
}

/// Feeds one input.
pub fn run(data: &[u8]) {
    let now = Instant::now();
    let Ok(mut bridge) = ColibriBridge::import(now, config(), data) else { return };
    settle(&mut bridge);
    let written = bridge.export(now).expect("what was read can be written");
    let again = ColibriBridge::import(now, config(), &written).expect("and read");
    assert!(again.export(now).expect("and written") == written, "something was not carried");
    assert_eq!(again.totals(), bridge.totals());
    let transport = Some(Transport { ice_controlling: true, ice_restart: true, ..Transport::default() });
    for create in [true, false] {
        let newcomer = Endpoint { create, transport: transport.clone(), ..Endpoint::new("newcomer") };
        let request = ConferenceModify { create, endpoints: vec![newcomer], ..ConferenceModify::new("m") };
        let _ = bridge.handle(now, &request);
        settle(&mut bridge);
    }
    let end = ConferenceModify { expire: true, ..ConferenceModify::new("m") };
    let _ = bridge.handle(now, &end);
    settle(&mut bridge);
    let mut now = now;
    for _ in 0..8 {
        now = now.max(bridge.poll_timeout()) + Duration::from_secs(1);
        bridge.handle_timeout(now);
        settle(&mut bridge);
    }
}
