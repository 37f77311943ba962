//! `ringbridge-load impair`: a UDP relay in front of a bridge that behaves like a bad network.
//!
//! The link is a state machine ([`link`]); sockets and the clock are in [`relay`]. The crate `str0m-netem` was looked
//! at first: it delivers strictly in order under jitter, counts nothing, and a new rate does not reach what is queued.

pub mod figures;
pub mod link;
pub mod relay;
pub mod settings;

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use self::relay::Relays;
use self::settings::Command;

/// Options of `impair`.
#[derive(Debug, Args)]
pub struct ImpairArgs {
    /// Media address of the bridge.
    #[arg(long)]
    pub bridge: SocketAddr,
    /// Where participants send to; unless the port is 0, each relay takes the next port.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Number of relays, one per impaired participant.
    #[arg(long, default_value_t = 1)]
    pub relays: usize,
    /// File with commands, one JSON object per line; `at` is the second at which it takes effect.
    #[arg(long)]
    pub script: Option<PathBuf>,
    /// Milliseconds between reports.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..))]
    pub report_ms: u64,
    /// Exit after this many seconds; by default run until stopped.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Seed of the random numbers: the same seed drops the same packets.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Runs the relay: commands come in on standard input, reports go out on standard output.
pub fn run(args: &ImpairArgs) -> Result<bool, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut relays = Relays::open(args.bridge, args.listen, args.relays, args.seed, start)
        .map_err(|error| format!("cannot listen on {}: {error}", args.listen))?;
    if let Some(path) = &args.script {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let commands = Command::read_all(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        relays.schedule(start, commands)?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::json!({ "listening": relays.addresses()? }))?;
    out.flush()?;
    let end = args.seconds.map(|seconds| start + Duration::from_secs(seconds));
    let period = Duration::from_millis(args.report_ms);
    let mut report_at = start + period;
    let stdin = std::io::stdin();
    let mut input = Some(stdin.as_fd());
    let mut lines = Lines::default();
    loop {
        let until = end.map_or(report_at, |end| end.min(report_at));
        let readable = relays.wait(until, input)?;
        let now = Instant::now();
        if readable && let Some(fd) = input {
            let mut buffer = [0; 4_096];
            match nix::unistd::read(fd, &mut buffer)? {
                0 => input = None,
                length => {
                    for text in lines.push(&buffer[..length]) {
                        // A typing mistake must not end a measurement.
                        let commands = Command::read_all(&text);
                        if let Err(error) = commands.and_then(|commands| relays.schedule(now, commands)) {
                            eprintln!("ringbridge-load impair: {error}");
                        }
                    }
                }
            }
        }
        relays.step(now)?;
        if now >= report_at {
            relays.report(now, &mut out)?;
            report_at += period;
        }
        if end.is_some_and(|end| now >= end) {
            return Ok(true);
        }
    }
}

/// Whole lines out of what was read so far.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(bytes);
        let Some(last) = self.0.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = self.0.drain(..=last).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole() {
        let mut lines = Lines::default();
        assert!(lines.push(b"{\"at\":").is_empty());
        assert_eq!(lines.push(b"1}\n{}\n{"), ["{\"at\":1}", "{}"]);
        assert_eq!(lines.push(b"}\n"), ["{}"]);
    }
}
