//! `memory`: resident memory of the dataplane per endpoint, measured in a process of its own, since memory that
//! something else gave back would hide what is taken.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command as Process;
use std::time::{Duration, Instant};

use ringbridge_dataplane::demux::ufrag_prefix;
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, Ssrc, WorkerId};
use ringbridge_dataplane::link::WorkerLink;
use ringbridge_dataplane::messages::{Command, FeedbackSsrcs, NewEndpoint};
use ringbridge_dataplane::srtp::{MasterKey, SrtpKeys, SrtpProfile};
use ringbridge_dataplane::stats::Counter;
use ringbridge_dataplane::{Dataplane, DataplaneConfig};
use serde::{Deserialize, Serialize};

use crate::cpu;
use crate::generator::media_numbers::Numbers;
use crate::media::Codec;
use crate::subject::SubjectError;
use crate::subject::in_process::{media, sources};

/// Below the most endpoints of one conference.
const IDLE: u32 = 900;
const AUDIENCE: u32 = 500;

/// Bytes of resident memory of the dataplane.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Memory {
    /// Of each endpoint with ICE, keys and formats in a conference without sources.
    pub per_idle_endpoint: f64,
    /// Of each receiver of an audio and a video source.
    pub per_receiver: f64,
}

/// Starts this program again and asks it.
pub fn measure() -> Result<Memory, SubjectError> {
    let failed = |what: String| SubjectError::Peer { name: "memory".into(), what };
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let output = Process::new(program).args(["memory", "--json"]).output().map_err(|e| failed(e.to_string()))?;
    serde_json::from_slice(&output.stdout).map_err(|error| failed(format!("{error}: {:?}", output.status)))
}

/// Measures in this process.
pub fn run(json: bool) -> Result<bool, SubjectError> {
    let mut dataplane = Dataplane::start(DataplaneConfig {
        local_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        port: 0,
        ..DataplaneConfig::default()
    })?;
    let mut link = dataplane.take_links().pop().ok_or(SubjectError::RingFull)?;
    let resident = || cpu::resident(std::process::id()).map_err(SubjectError::Cpu);
    let settle = |link: &mut WorkerLink| {
        // The worker takes its commands in its own time; its turns show when it has.
        let (stats, start) = (dataplane.stats(WorkerId::new(0)), Instant::now());
        let turns = stats.get(Counter::LoopTurns);
        while stats.get(Counter::LoopTurns) < turns + 10 && start.elapsed() < Duration::from_secs(5) {
            while link.poll_event().is_some() {}
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // What only the first endpoint costs is not per endpoint.
    populate(&mut link, 1, 1, 10)?;
    settle(&mut link);
    let before = resident()?;
    populate(&mut link, 2, 100, IDLE)?;
    settle(&mut link);
    let idle = resident()?;
    populate(&mut link, 3, 10_000, AUDIENCE)?;
    settle(&mut link);
    let streams = [(Codec::Vp8, 1), (Codec::Opus, 2)];
    send(&mut link, Command::SetSources { endpoint: EndpointId(10_000), sources: sources(0, &streams) })?;
    settle(&mut link);
    let audience = resident()?;
    let memory = Memory {
        per_idle_endpoint: idle.saturating_sub(before) as f64 / f64::from(IDLE),
        per_receiver: audience.saturating_sub(idle) as f64 / f64::from(AUDIENCE),
    };
    if json {
        println!("{}", serde_json::to_string(&memory).unwrap_or_default());
    } else {
        println!("{:.0} bytes per idle endpoint", memory.per_idle_endpoint);
        println!("{:.0} bytes per receiver of a webinar of {AUDIENCE}", memory.per_receiver);
    }
    Ok(true)
}

fn send(link: &mut WorkerLink, command: Command) -> Result<(), SubjectError> {
    let mut command = command;
    for _ in 0..5000 {
        match link.send(command) {
            Ok(()) => return Ok(()),
            Err(refused) => command = refused,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(SubjectError::RingFull)
}

fn populate(link: &mut WorkerLink, conference: u32, first: u32, count: u32) -> Result<(), SubjectError> {
    let conference = ConferenceId(conference);
    send(
        link,
        Command::CreateConference { conference, feedback: FeedbackSsrcs { audio: Ssrc::new(1), video: Ssrc::new(2) } },
    )?;
    for n in first..first + count {
        let endpoint = EndpointId(n);
        let ice = IceCredentials {
            ufrag: format!("{}bench{n}", ufrag_prefix(WorkerId::new(0))),
            pwd: format!("password-of-the-bridge-{n}"),
        };
        let new = NewEndpoint { conference, endpoint, label: format!("client{n}"), ice, controlling: true };
        send(link, Command::CreateEndpoint(Box::new(new)))?;
        let credentials =
            Some(IceCredentials { ufrag: format!("remote{n}"), pwd: format!("password-of-the-client-{n}") });
        send(link, Command::SetRemoteIce { endpoint, credentials, candidates: Vec::new() })?;
        let key = MasterKey { key: [n as u8; 32], salt: [1; 14] };
        let keys = SrtpKeys { profile: SrtpProfile::AeadAes128Gcm, inbound: key.clone(), outbound: key };
        send(link, Command::SetSrtp { endpoint, keys: Box::new(keys) })?;
        send(link, Command::SetMedia { endpoint, media: Box::new(media(Numbers::USUAL)) })?;
    }
    Ok(())
}
