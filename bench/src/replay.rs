//! `replay`: one scenario through one forwarder.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ringbridge_dataplane::io::{IoChoice, IoLimits};

use crate::generator::world::World;
use crate::media::{Codec, Track, capture};
use crate::scenario::{Scenario, Shape};
use crate::subject::bare::{Bare, Method};
use crate::subject::in_process::{InProcess, Options};
use crate::subject::peer::Peer;
use crate::subject::{Subject, SubjectError};
use crate::window;

/// What forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bridge {
    /// ringbridge's dataplane in this process.
    Ringbridge,
    /// A bare loop without SRTP (`sendmsg` and GSO).
    Bare,
    /// A bare loop over ringbridge's mmsg backend.
    BareMmsg,
    /// A bare loop over ringbridge's io_uring backend.
    BareUring,
    /// A process that speaks the benchmark's protocol; see --peer.
    Peer,
}

/// `--io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Io {
    /// What measures better on this host.
    Auto,
    /// io_uring.
    Uring,
    /// recvmmsg and sendmmsg.
    Mmsg,
}

impl From<Io> for IoChoice {
    fn from(io: Io) -> Self {
        match io {
            Io::Auto => Self::Auto,
            Io::Uring => Self::Uring,
            Io::Mmsg => Self::Mmsg,
        }
    }
}

/// Play media through a forwarder and measure what it costs.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Shape of the conferences.
    #[arg(long, value_enum, default_value = "fanout")]
    scenario: Shape,
    /// Receivers (fanout, webinar), participants (mesh, audio) or conferences (rooms).
    #[arg(long)]
    size: Option<usize>,
    /// Seconds to measure.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// What forwards.
    #[arg(long, value_enum, default_value = "ringbridge")]
    bridge: Bridge,
    /// Program of --bridge peer.
    #[arg(long)]
    peer: Option<PathBuf>,
    /// I/O backend of ringbridge.
    #[arg(long, value_enum, default_value = "auto")]
    io: Io,
    /// Most video sources per receiver; -1 is all.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    last_n: i32,
    /// Play this capture (pcap, pcapng, rtpdump of plain RTP) instead of the first publisher's generated media.
    #[arg(long)]
    capture: Option<PathBuf>,
    /// Payload types in the capture.
    #[arg(long, value_delimiter = ',', value_parser = payload_type, default_value = "100=VP8,101=VP9,41=AV1,107=H264,111=opus,96=VP8,98=VP9,45=AV1,102=H264")]
    payload_types: Vec<(u8, Codec)>,
    /// Bits per second of each video stream.
    #[arg(long, default_value_t = 2_500_000)]
    bitrate: u64,
    /// Receivers that decrypt and compare what they get.
    #[arg(long, default_value_t = 3)]
    samples: usize,
    /// Core of the forwarder.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// Core of the generator.
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn payload_type(text: &str) -> Result<(u8, Codec), String> {
    let (number, codec) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NUMBER=CODEC"))?;
    let number: u8 = number.parse().map_err(|_| format!("payload type {number:?} is not a number"))?;
    if number > 127 {
        return Err(format!("payload type {number} is above 127"));
    }
    Ok((number, codec.parse()?))
}

/// Runs it; false when what arrived was wrong.
pub fn run(args: &ReplayArgs) -> Result<bool, SubjectError> {
    let mut scenario = Scenario::new(args.scenario, args.size.unwrap_or(args.scenario.usual_size()));
    scenario.video.bitrate = args.bitrate;
    let mut subject: Box<dyn Subject> = match args.bridge {
        Bridge::Ringbridge => {
            let options = Options {
                io: args.io.into(),
                cores: vec![args.core],
                limits: IoLimits::default(),
                last_n: args.last_n,
            };
            Box::new(InProcess::start("ringbridge", &options)?)
        }
        Bridge::Bare => Box::new(Bare::start(Method::Gso, args.core)?),
        Bridge::BareMmsg => Box::new(Bare::start(Method::Mmsg, args.core)?),
        Bridge::BareUring => Box::new(Bare::start(Method::Uring, args.core)?),
        Bridge::Peer => {
            let missing = || SubjectError::Missing("--bridge peer needs --peer PROGRAM".into());
            Box::new(Peer::start("peer", args.peer.as_deref().ok_or_else(missing)?, args.core)?)
        }
    };
    // After the forwarder has started: threads and processes inherit the cores that they may use.
    crate::cores::pin(&[args.generator_core])?;
    let mut tracks: Vec<Box<dyn Track>> = Vec::new();
    if let Some(path) = &args.capture {
        let codecs = args.payload_types.iter().copied().collect();
        tracks.extend(capture::read(path, &codecs)?.into_iter().map(|track| Box::new(track) as Box<dyn Track>));
    }
    let mut world = World::new(1)?;
    scenario.join(&mut world, subject.as_mut(), args.samples, tracks, |_, _| {})?;
    let window = window::run(&mut world, subject.as_mut(), Duration::from_secs_f64(args.seconds), |_| Ok(()))?;
    println!("{:.0} ns/packet, {:?}", window.nanos_per_packet(), window.measured.counts);
    println!(
        "loss {:.4} p50 {:?} p99 {:?} p99.9 {:?} late {:?} overflow {} user {:?} sys/pkt {:?} own {:?} {:?}",
        window.loss(),
        window.latency(0.5),
        window.latency(0.99),
        window.latency(0.999),
        window.measured.late,
        window.measured.overflowed,
        window.cpu.user_share(),
        window.syscalls_per_packet(),
        window.own,
        window.measured.complaint
    );
    Ok(window.measured.counts.wrong == 0)
}
