//! Scripted participants: real signalling and real encryption, recorded media.

mod clips;
pub(crate) mod codec;
mod gaps;
pub(crate) mod jingle;
mod mappings;
mod media;
mod opened;
mod orders;
mod participant;
mod speech;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

pub use media::Received;
pub use opened::Encrypted;

use crate::site::Site;

const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// Features that a participant announces to the focus.
pub(crate) const FEATURES: &[&str] = &[
    "urn:xmpp:jingle:1",
    "urn:xmpp:jingle:apps:rtp:1",
    "urn:xmpp:jingle:transports:ice-udp:1",
    "urn:xmpp:jingle:apps:dtls:0",
    "urn:xmpp:jingle:apps:rtp:audio",
    "urn:xmpp:jingle:apps:rtp:video",
    "urn:ietf:rfc:4588",
    "http://jitsi.org/tcc",
    "http://jitsi.org/json-encoded-sources",
    "http://jitsi.org/source-name",
    "http://jitsi.org/receive-multiple-video-streams",
];

/// What it announces besides with SSRC rewriting.
pub(crate) const SSRC_REWRITING: &str = "http://jitsi.org/ssrc-rewriting-1";

/// What it announces besides to be offered a data channel.
pub(crate) const DATA_CHANNELS: &str = "urn:xmpp:jingle:transports:dtls-sctp:1";

/// Join a room with participants that send a clip and count what they receive.
#[derive(Debug, Clone, Args)]
pub struct ParticipantArgs {
    /// Where the site is, and which room.
    #[command(flatten)]
    pub site: Site,
    /// Number of participants.
    #[arg(long, default_value_t = 1)]
    pub participants: usize,
    /// Maximum time that they stay, seconds; SIGTERM makes them leave and report earlier.
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// Speak in turn, each for this many seconds; by default everybody speaks all the time.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub speak_seconds: Option<u64>,
    /// The only video codec that they take, and send.
    #[arg(long, value_enum, default_value = "vp8")]
    pub codec: codec::VideoCodec,
    /// Video frames per second that each sends.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub video_fps: u32,
    /// Milliseconds between audio packets; above 20 the packets in between are left out, as in silence.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(20..=1_000))]
    pub audio_interval: u64,
    /// How many of them send; the others are muted from the beginning. By default all.
    #[arg(long)]
    pub senders: Option<usize>,
    /// Most videos that each wants; -1 is all.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub last_n: i32,
    /// Ask for SSRC rewriting, as a current lib-jitsi-meet does, and count only what arrives on SSRCs that the bridge announced.
    #[arg(long)]
    pub ssrc_rewriting: bool,
    /// Have a data channel as bridge channel where the focus offers one, and no WebSocket.
    #[arg(long)]
    pub data_channel: bool,
    /// Take commands from standard input, one JSON object per line: `{"do":"report"}`, and `mute`, `unmute`, `move`,
    /// `reconnect`, `leave`, for all or for `"participant":N`. Sessions and reports are printed as lines of JSON.
    #[arg(long)]
    pub orders: bool,
    /// Local address to bind media sockets to; the bridge must be reachable from it.
    #[arg(long, default_value = "127.0.0.1")]
    pub local_address: IpAddr,
}

/// What one participant saw.
#[derive(Debug, Serialize)]
pub struct ParticipantReport {
    /// Its endpoint id.
    pub endpoint: String,
    /// Whether its media session was connected at the end.
    pub connected: bool,
    /// Nicknames of the others in the room at the end, without the focus.
    pub occupants: std::collections::BTreeSet<String>,
    /// Of all in the room, itself included, those who own it.
    pub owners: std::collections::BTreeSet<String>,
    /// What arrived, by sender.
    pub received: std::collections::BTreeMap<String, Received>,
    /// Encrypted packets that arrived, and those that its keys did not open.
    pub encrypted: Encrypted,
    /// Sources of others that were signalled as removed.
    pub sources_removed: u64,
    /// Media sessions that it was offered: one, unless it was invited again.
    pub sessions: u64,
    /// Data channels that it opened: one, where it was offered one and has not lost it.
    pub data_channels: u64,
    /// Why it ended early.
    pub error: Option<String>,
}

/// Runs the load and prints one JSON object as the last line; false when a participant failed.
pub async fn run(args: ParticipantArgs) -> Result<bool, Box<dyn std::error::Error>> {
    let clips = Arc::new(clips::Clips::load(args.codec)?);
    let stay = Duration::from_secs(args.seconds);
    let mut tasks = Vec::new();
    let (leave, leaving) = tokio::sync::watch::channel(false);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    // Kept for as long as the participants: without it they would not hear of anything.
    let waits = tokio::spawn(async move {
        terminate.recv().await;
        let _ = leave.send(true);
    });
    let orders = args.orders.then(orders::read);
    let stalls = gaps::Stalls::default();
    let turns = args.speak_seconds.map(|seconds| (std::time::Instant::now(), Duration::from_secs(seconds)));
    for index in 0..args.participants {
        let speech = match turns {
            Some((start, length)) => speech::Speech::in_turn(start, length, index, args.participants),
            None => speech::Speech::Always,
        };
        let participant = participant::Participant::new(&args, index, clips.clone(), speech, stalls.clone());
        let orders = orders.as_ref().map(tokio::sync::broadcast::Sender::subscribe);
        tasks.push(tokio::spawn(participant.run(stay, leaving.clone(), orders)));
        // A herd of joins at once is a test of its own; this one is about media.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut reports = Vec::new();
    for task in tasks {
        reports.push(task.await?);
    }
    waits.abort();
    let failed = reports.iter().any(|report| report.error.is_some() || !report.connected);
    println!("{}", serde_json::json!({ "participants": args.participants, "reports": reports }));
    Ok(!failed)
}
