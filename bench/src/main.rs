//! `ringbridge-bench`: load generator of ringbridge.

mod load;

use clap::{Parser, Subcommand};

/// Load generator of ringbridge.
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
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(std::io::stderr)
        .init();
    let Command::Load(args) = Cli::parse().command;
    match load::run(args).await {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ringbridge-bench: {error}");
            std::process::ExitCode::from(2)
        }
    }
}
