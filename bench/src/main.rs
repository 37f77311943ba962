//! `ringbridge-bench`: load generator and benchmarks of ringbridge.

mod cpu;
mod generator;
mod load;
mod media;
mod replay;
mod scenario;
mod subject;
mod window;

use clap::{Parser, Subcommand};

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
