//! The conferences of another process, as somebody may have made them up.
//!
//! Fed: the bytes of a state.
//! Held: nothing panics; what is taken over is consistent, reads back as the same bytes, answers requests, and expires.

use std::time::{Duration, Instant};

use ringbridge_controlplane::colibri::bridge::{ColibriBridge, ColibriConfig};
use ringbridge_controlplane::colibri::elements::{ConferenceModify, Endpoint, Transport};

/// What the seeds were written with.
pub fn config() -> ColibriConfig {
    let mut config = crate::colibri::config();
    config.spill_endpoints = 1;
    config.transport.local_addresses.truncate(1);
    config
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
