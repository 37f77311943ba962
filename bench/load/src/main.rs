//! `ringbridge-load`: traffic for tests of ringbridge.

#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use ringbridge_load::{attack, impair, joins, participants};

/// Traffic for tests of ringbridge.
#[derive(Debug, Parser)]
#[command(name = "ringbridge-load", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fill a room with scripted participants over real signalling.
    Participants(participants::ParticipantArgs),
    /// Let many join one room, without media, and count what that costs: stanzas, time, processor time.
    Joins(joins::JoinArgs),
    /// Relay UDP to a bridge like a bad network.
    Impair(impair::ImpairArgs),
    /// Be a misbehaving media peer on loopback that sends whatever it is ordered to (for `tools/attack`).
    Attack(attack::AttackArgs),
}

fn main() -> std::process::ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(std::io::stderr)
        .init();
    let result: Result<bool, Box<dyn std::error::Error>> = match Cli::parse().command {
        Command::Participants(args) => tokio::runtime::Runtime::new()
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(participants::run(args))),
        Command::Joins(args) => {
            tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| runtime.block_on(joins::run(args)))
        }
        Command::Impair(args) => impair::run(&args),
        Command::Attack(args) => attack::run(&args),
    };
    match result {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ringbridge-load: {error}");
            std::process::ExitCode::from(2)
        }
    }
}
