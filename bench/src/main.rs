//! `ringbridge-bench`: load generator and benchmarks of ringbridge.

#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use ringbridge_bench::{attack, compare, floor, impair, load, memory, overload, record, replay, saturate, scale, tune};

/// Load generator and benchmarks of ringbridge.
#[derive(Debug, Parser)]
#[command(name = "ringbridge-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fill a room with scripted participants over real signalling.
    Load(load::LoadArgs),
    /// A media peer without manners, for `tools/attack`: sends a bridge on loopback what it is told.
    Attack(attack::AttackArgs),
    /// A UDP relay in front of a bridge that behaves like a bad network.
    Impair(impair::ImpairArgs),
    /// Play media through a forwarder and measure what it costs.
    Replay(replay::ReplayArgs),
    /// Record what a WebRTC sender sends, for `replay --capture`; `tools/record` does that with Chromium.
    Record(record::RecordArgs),
    /// What this host allows: copying, sealing, and the kernel's price of a packet.
    Floor(floor::FloorArgs),
    /// ringbridge against the floor, and against others that this host can run.
    Compare(compare::CompareArgs),
    /// The highest load that loses less than 0.01 % and keeps p99 of the added latency under 5 ms.
    Saturate(saturate::SaturateArgs),
    /// How the cost of a packet grows with receivers, with conferences, and with workers.
    Scale(scale::ScaleArgs),
    /// What each of ringbridge's I/O options costs or brings on this host.
    Tune(tune::TuneArgs),
    /// Twice the load that can be carried, then half of it: what is lost, and how soon all is well again.
    Overload(overload::OverloadArgs),
    /// Resident memory of the dataplane per endpoint.
    Memory {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> std::process::ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(std::io::stderr)
        .init();
    let result: Result<bool, Box<dyn std::error::Error>> = match Cli::parse().command {
        Command::Load(args) => {
            tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| runtime.block_on(load::run(args)))
        }
        Command::Attack(args) => attack::run(&args),
        Command::Impair(args) => impair::run(&args),
        Command::Replay(args) => replay::run(&args).map_err(Into::into),
        Command::Record(args) => record::run(&args).map_err(Into::into),
        Command::Floor(args) => floor::run(&args).map_err(Into::into),
        Command::Compare(args) => compare::run(&args).map_err(Into::into),
        Command::Saturate(args) => saturate::run(&args).map_err(Into::into),
        Command::Scale(args) => scale::run(&args).map_err(Into::into),
        Command::Tune(args) => tune::run(&args).map_err(Into::into),
        Command::Overload(args) => overload::run(&args).map_err(Into::into),
        Command::Memory { json } => memory::run(json).map_err(Into::into),
    };
    match result {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ringbridge-bench: {error}");
            std::process::ExitCode::from(2)
        }
    }
}
