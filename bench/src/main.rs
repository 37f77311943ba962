//! `ringbridge-bench`: benchmarks of ringbridge.

#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use ringbridge_bench::commands::{
    cascade, compare, floor, joins, memory, overload, process, record, replay, saturate, scale, tune,
};

/// Benchmarks of ringbridge.
#[derive(Debug, Parser)]
#[command(name = "ringbridge-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play media through a forwarder and measure what it costs.
    Replay(replay::ReplayArgs),
    /// Record what a WebRTC sender sends, for `replay --capture` (`tools/record` does so with Chromium).
    Record(record::RecordArgs),
    /// The lower bound on this host: the cost of copying, sealing, and sending a packet through the kernel.
    Floor(floor::FloorArgs),
    /// Compare ringbridge with the lower bound, and with other forwarders that are installed.
    Compare(compare::CompareArgs),
    /// Find the highest load with less than 0.01 % loss and a p99 of added latency under 5 ms.
    Saturate(saturate::SaturateArgs),
    /// Measure how the cost per packet grows with receivers, conferences and workers (one, two, ... of `--cores`).
    Scale(scale::ScaleArgs),
    /// Measure what each of ringbridge's I/O options gains or costs on this host.
    Tune(tune::TuneArgs),
    /// Apply twice the load that can be carried, then half of it: measure losses and the time to recover.
    Overload(overload::OverloadArgs),
    /// Measure joins: handshakes per second and core, time to keys, and what running calls notice.
    Joins(joins::JoinsArgs),
    /// Measure one conference on one to several linked bridges: what each takes, what crosses, and what follows a bridge's death.
    Cascade(cascade::CascadeArgs),
    /// One of the bridges of `cascade`.
    #[command(hide = true)]
    LinkedBridge(cascade::BridgeArgs),
    /// Measure what the whole process takes: idle, and per participant and minute in small rooms.
    Process(process::ProcessArgs),
    /// Measure the data plane's resident memory per endpoint.
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
        Command::Replay(args) => replay::run(&args).map_err(Into::into),
        Command::Record(args) => record::run(&args).map_err(Into::into),
        Command::Floor(args) => floor::run(&args).map_err(Into::into),
        Command::Compare(args) => compare::run(&args).map_err(Into::into),
        Command::Saturate(args) => saturate::run(&args).map_err(Into::into),
        Command::Scale(args) => scale::run(&args).map_err(Into::into),
        Command::Tune(args) => tune::run(&args).map_err(Into::into),
        Command::Overload(args) => overload::run(&args).map_err(Into::into),
        Command::Joins(args) => joins::run(&args).map_err(Into::into),
        Command::Cascade(args) => cascade::run(&args).map_err(Into::into),
        Command::LinkedBridge(args) => cascade::serve(&args).map_err(Into::into),
        Command::Process(args) => process::run(&args).map_err(Into::into),
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
