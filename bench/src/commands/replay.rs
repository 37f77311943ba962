//! `replay`: one scenario through one forwarder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use ringbridge_dataplane::io::{IoChoice, IoExtras, IoLimits};
use ringbridge_dataplane::media::Limit;
use serde::Serialize;

use crate::account::Account;
use crate::cores::{self, CoreArgs};
use crate::generator::receiver::micros;
use crate::generator::world::World;
use crate::media::{Codec, Track, capture};
use crate::scenario::{Scenario, ScenarioArgs};
use crate::subject::bare::{Bare, Method};
use crate::subject::in_process::{InProcess, Options};
use crate::subject::peer::Peer;
use crate::subject::whole::{Whole, WholeOptions};
use crate::subject::{Subject, SubjectError};
use crate::window::{self, Window};

/// Which forwarder is measured.
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
    /// The whole of ringbridge, control plane included, with clients' bridge channels.
    Whole,
    /// A process that speaks the benchmark's protocol; see --peer.
    Peer,
}

/// Values of `--io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Io {
    /// Whichever is measured to be faster on this host.
    Auto,
    /// io_uring.
    Uring,
    /// recvmmsg and sendmmsg.
    Mmsg,
}

impl Io {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        }
    }
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
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Seconds to measure.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Which forwarder to measure.
    #[arg(long, value_enum, default_value = "ringbridge")]
    bridge: Bridge,
    /// Program to run for --bridge peer.
    #[arg(long)]
    peer: Option<PathBuf>,
    /// I/O backend of ringbridge.
    #[arg(long, value_enum, default_value = "auto")]
    io: Io,
    /// Optional kernel and NIC features: sqpoll, zero-copy, busy-poll=MICROSECONDS, coalesce=MICROSECONDS.
    #[arg(long, default_value = "")]
    io_options: IoExtras,
    /// Maximum number of video sources per receiver; -1 is all.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    last_n: i32,
    /// Play this capture (pcap, pcapng, rtpdump of plain RTP) instead of the first publisher's generated media.
    #[arg(long)]
    capture: Option<PathBuf>,
    /// Payload types in the capture, e.g. 96=VP8,111=opus.
    #[arg(long, value_delimiter = ',', value_parser = payload_type, default_value = "100=VP8,101=VP9,41=AV1,107=H264,111=opus,96=VP8,98=VP9,45=AV1,102=H264")]
    payload_types: Vec<(u8, Codec)>,
    /// Receive GSO packets unsegmented, as on hosts whose NIC segments them (tx-udp-segmentation).
    #[arg(long)]
    offload: bool,
    /// Play this many times faster than real time.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Bits per second of each video stream.
    #[arg(long, default_value_t = 2_500_000)]
    bitrate: u64,
    /// Number of receivers that decrypt and verify what they receive.
    #[arg(long, default_value_t = 3)]
    samples: usize,
    #[command(flatten)]
    cores: CoreArgs,
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
    let mut scenario = Scenario::from(args.scenario);
    scenario.video.bitrate = args.bitrate;
    let mut subject: Box<dyn Subject> = match args.bridge {
        Bridge::Ringbridge => {
            let options = Options {
                io: args.io.into(),
                cores: vec![args.cores.core],
                limits: IoLimits { extras: args.io_options, ..IoLimits::default() },
                last_n: u32::try_from(args.last_n).map_or(Limit::Unlimited, Limit::at_most),
            };
            Box::new(InProcess::start("ringbridge", &options)?)
        }
        Bridge::Whole => Box::new(Whole::start(&WholeOptions {
            cores: vec![args.cores.core],
            control_cores: cores::all().to_vec(),
            io: args.io.name(),
            channels: true,
            relay: None,
        })?),
        Bridge::Bare => Box::new(Bare::start(Method::Gso, args.cores.core)?),
        Bridge::BareMmsg => Box::new(Bare::start(Method::Mmsg, args.cores.core)?),
        Bridge::BareUring => Box::new(Bare::start(Method::Uring, args.cores.core)?),
        Bridge::Peer => {
            let missing = || SubjectError::Missing("--bridge peer needs --peer PROGRAM".into());
            Box::new(Peer::start("peer", args.peer.as_deref().ok_or_else(missing)?, args.cores.core)?)
        }
    };
    // After the forwarder has started: threads and processes inherit the cores that they may use.
    cores::pin(&[args.cores.generator_core])?;
    let mut tracks: Vec<Box<dyn Track>> = Vec::new();
    if let Some(path) = &args.capture {
        let codecs = args.payload_types.iter().copied().collect();
        let capture = capture::read(path, &codecs)?;
        if !capture.left_out().is_empty() {
            eprintln!("{}: not played: {}", path.display(), capture.left_out());
        }
        tracks.extend(capture.into_tracks().into_iter().map(|track| Box::new(track) as Box<dyn Track>));
    }
    let mut world = World::new(1, args.offload)?;
    scenario.join(&mut world, subject.as_mut(), args.samples, tracks, |_, _| {})?;
    world.set_speed(args.speed);
    let window = window::run(&mut world, subject.as_mut(), Duration::from_secs_f64(args.seconds), |_| Ok(()))?;
    let report = Report::of(&scenario, subject.as_ref(), &window, world.clients().len())?;
    if args.json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else {
        report.print();
    }
    let accounted = report.account.as_ref().is_none_or(Account::is_whole);
    Ok(accounted && report.wrong == 0 && (args.samples == 0 || report.verified > 0))
}

/// What `replay` prints.
#[derive(Debug, Serialize)]
struct Report {
    scenario: Scenario,
    bridge: String,
    seconds: f64,
    /// Packets that clients sent.
    sent: u64,
    /// Packets that arrived, once per receiver.
    forwarded: u64,
    /// Packets that would have arrived, had all been forwarded to all.
    expected: u64,
    /// Share of sequence numbers missing at receivers, 0 to 1.
    loss: f64,
    /// Packets that the generator's own socket lost.
    generator_lost: u64,
    /// The longest that a packet was sent after it was due, microseconds.
    generator_late_micros: u64,
    /// Processor time of the bridge per forwarded packet, nanoseconds.
    cpu_nanos_per_packet: f64,
    /// The part of it in user mode, 0 to 1, by the kernel's clock ticks.
    cpu_user_share: Option<f64>,
    /// Processor time of the control plane for each participant and minute, milliseconds; with `--bridge whole`.
    #[serde(skip_serializing_if = "Option::is_none")]
    control_millis_per_participant_minute: Option<f64>,
    /// What that is of the process, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    control_share: Option<f64>,
    /// Added latency, microseconds.
    latency_micros: BTreeMap<&'static str, f64>,
    /// The same of audio that was sent within a millisecond after the beginning of another participant's keyframe.
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_behind_keyframe_micros: Option<BTreeMap<&'static str, f64>>,
    syscalls_per_packet: Option<f64>,
    /// Of the process that the bridge runs in, bytes; with ringbridge it is the generator's, too.
    resident: u64,
    /// What the bridge says that it dropped, by reason.
    dropped: BTreeMap<&'static str, u64>,
    /// Where all packets went, those before and after the measured time included; of bridges that count.
    account: Option<Account>,
    /// Packets of sampled receivers that were as they had been sent.
    verified: u64,
    /// Packets of sampled receivers that were not.
    wrong: u64,
    complaint: Option<String>,
}

/// Of a histogram of nanoseconds, in microseconds.
fn percentiles(of: &Histogram<u64>) -> BTreeMap<&'static str, f64> {
    [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)]
        .map(|(name, quantile)| (name, micros(of, quantile)))
        .into()
}

impl Report {
    fn of(
        scenario: &Scenario,
        subject: &dyn Subject,
        window: &Window,
        participants: usize,
    ) -> Result<Self, SubjectError> {
        let counts = &window.measured.counts;
        let latency = &window.measured.latency;
        let behind = &latency.audio_behind_keyframe;
        Ok(Self {
            scenario: *scenario,
            bridge: subject.name().to_owned(),
            seconds: window.elapsed.as_secs_f64(),
            sent: window.measured.sent,
            forwarded: counts.packets,
            expected: window.expected,
            loss: window.loss(),
            generator_lost: window.measured.overflowed,
            generator_late_micros: window.measured.late.as_micros() as u64,
            cpu_nanos_per_packet: window.nanos_per_packet(),
            cpu_user_share: window.cpu.user_share(),
            control_millis_per_participant_minute: window.control_millis_per_minute(participants),
            control_share: window.control_share(),
            latency_micros: percentiles(&latency.all),
            audio_behind_keyframe_micros: (!behind.is_empty()).then(|| percentiles(behind)),
            syscalls_per_packet: window.syscalls_per_packet(),
            resident: subject.resident()?,
            dropped: window.own.as_ref().map(|own| own.dropped.clone()).unwrap_or_default(),
            account: window.account.clone(),
            verified: counts.verified,
            wrong: counts.wrong,
            complaint: window.measured.complaint.clone(),
        })
    }

    fn print(&self) {
        let row = |name: &str, value: String| println!("{name:<34}{value}");
        row("scenario", format!("{} of {}, {:.1} s", self.scenario.shape.name(), self.scenario.size, self.seconds));
        row("bridge", self.bridge.clone());
        row("forwarded packets", format!("{} ({} sent, {} expected)", self.forwarded, self.sent, self.expected));
        row("loss", format!("{:.4} %", self.loss * 100.0));
        row("processor time per packet", format!("{:.0} ns", self.cpu_nanos_per_packet));
        if let Some(share) = self.cpu_user_share {
            row("  in user mode", format!("{:.0} %", share * 100.0));
        }
        if let (Some(millis), Some(share)) = (self.control_millis_per_participant_minute, self.control_share) {
            let share = share * 100.0;
            row("control plane", format!("{millis:.2} ms a participant and minute, {share:.1} % of the process"));
        }
        let all = |micros: &BTreeMap<&str, f64>| {
            micros.iter().map(|(name, micros)| format!("{name} {micros:.0}")).collect::<Vec<_>>().join(", ")
        };
        row("added latency, us", all(&self.latency_micros));
        if let Some(micros) = &self.audio_behind_keyframe_micros {
            row("  of audio behind a keyframe", all(micros));
        }
        if let Some(syscalls) = self.syscalls_per_packet {
            row("system calls per packet", format!("{syscalls:.4}"));
        }
        row("resident memory", format!("{:.1} MiB", self.resident as f64 / f64::from(1 << 20)));
        row("dropped by the bridge", format!("{:?}", self.dropped));
        if let Some(account) = &self.account {
            let Account { expected, arrived, generator_lost, left_out, unaccounted, counted_beyond } = account;
            let inexact = match counted_beyond {
                0 => String::new(),
                most => format!("; sockets were full, and of what they dropped up to {most} were no media"),
            };
            let fate =
                format!("{expected} to all receivers: {arrived} arrived, {generator_lost} lost by the generator");
            row("every packet", format!("{fate}, left out {left_out:?}, unaccounted {unaccounted}{inexact}"));
        }
        row("generator", format!("lost {}, at most {} us late", self.generator_lost, self.generator_late_micros));
        row("sampled packets", format!("{} as sent, {} wrong", self.verified, self.wrong));
        if let Some(complaint) = &self.complaint {
            row("first complaint", complaint.clone());
        }
    }
}
