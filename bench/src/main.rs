//! `ringbridge-bench`: load generator and benchmarks of ringbridge.

use clap::{Parser, Subcommand};
use ringbridge_bench::{compare, floor, load, memory, replay, saturate, scale, step};

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
    /// Play media through a forwarder and measure what it costs.
    Replay(replay::ReplayArgs),
    /// What this host allows: copying, sealing, and the kernel's price of a packet.
    Floor(floor::FloorArgs),
    /// ringbridge against the floor, and against others that this host can run.
    Compare(compare::CompareArgs),
    /// The highest load that loses less than 0.01 % and keeps p99 of the added latency under 5 ms.
    Saturate(saturate::SaturateArgs),
    /// How the cost of a packet grows with receivers, with conferences, and with workers.
    Scale(scale::ScaleArgs),
    /// Resident memory of the dataplane per endpoint.
    Memory {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// The forward step alone, without sockets: for callgrind and allocation counts.
    Step {
        /// Receivers of the one publisher.
        #[arg(long, default_value_t = 50)]
        receivers: u32,
        /// Packets that the publisher sends.
        #[arg(long, default_value_t = 1000)]
        packets: usize,
    },
}

fn main() -> std::process::ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(std::io::stderr)
        .init();
    let result: Result<bool, Box<dyn std::error::Error>> = match Cli::parse().command {
        Command::Load(args) => tokio::runtime::Runtime::new()
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(load::run(args)).map_err(Into::into)),
        Command::Replay(args) => replay::run(&args).map_err(Into::into),
        Command::Floor(args) => floor::run(&args).map_err(Into::into),
        Command::Compare(args) => compare::run(&args).map_err(Into::into),
        Command::Saturate(args) => saturate::run(&args).map_err(Into::into),
        Command::Scale(args) => scale::run(&args).map_err(Into::into),
        Command::Memory { json } => memory::run(json).map_err(Into::into),
        Command::Step { receivers, packets } => {
            println!("{}", serde_json::to_string(&step::run(receivers, packets)).unwrap_or_default());
            Ok(true)
        }
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
