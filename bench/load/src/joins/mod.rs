//! Many participants join one room within a few seconds, without media: what that costs in stanzas, in time and in processor time.

mod client;
mod costs;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tokio::sync::watch;

use self::client::{Client, Outcome, Received};
use self::costs::{Costs, Watched};
use crate::site::Site;

/// Let many join one room, and count what that costs.
#[derive(Debug, Clone, Args)]
pub struct JoinArgs {
    /// Where the site is, and which room.
    #[command(flatten)]
    pub site: Site,
    /// Number of participants.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=2_000))]
    pub participants: u32,
    /// Seconds over which they come, evenly.
    #[arg(long, default_value_t = 20)]
    pub over: u64,
    /// Seconds after the last one came until everybody has to know everybody.
    #[arg(long, default_value_t = 60)]
    pub patience: u64,
    /// Ask for SSRC rewriting: then the bridge announces sources, over channels that nobody opens here.
    #[arg(long)]
    pub ssrc_rewriting: bool,
    /// A process whose processor time is counted, NAME=PID; may be given several times.
    #[arg(long = "watch", value_name = "NAME=PID")]
    pub watched: Vec<Watched>,
    /// Where the focus serves /metrics, for the stanzas that it sends and gets.
    #[arg(long, value_name = "ADDRESS")]
    pub focus_rest: Option<SocketAddr>,
}

/// Runs the joins and prints one JSON object as the last line; false when somebody was not let in, or did not learn of everybody.
///
/// # Errors
/// A watched process or the focus's pages cannot be read.
pub async fn run(args: JoinArgs) -> Result<bool, Box<dyn std::error::Error>> {
    let before = Costs::read(&args.watched, args.focus_rest).await?;
    let began = Instant::now();
    let args = Arc::new(args);
    let count = args.participants;
    let (leave, leaving) = watch::channel(false);
    let (complete, mut seen) = watch::channel(0u32);
    let complete = Arc::new(complete);
    let mut tasks = Vec::new();
    for index in 0..count {
        let due = began + Duration::from_secs(args.over) * index / count;
        tokio::time::sleep_until(due.into()).await;
        let client = Client::new(Arc::clone(&args), index, Arc::clone(&complete));
        tasks.push(tokio::spawn(client.run(leaving.clone())));
    }
    let all = seen.wait_for(|complete| *complete >= count);
    let in_time = tokio::time::timeout(Duration::from_secs(args.patience), all).await.is_ok();
    let seconds = began.elapsed().as_secs_f64();
    let after = Costs::read(&args.watched, args.focus_rest).await?;
    leave.send(true)?;
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await?);
    }
    println!("{}", report(&args, &outcomes, seconds, &after.since(&before)));
    Ok(in_time && outcomes.iter().all(|outcome| outcome.error.is_none()))
}

fn report(args: &JoinArgs, outcomes: &[Outcome], seconds: f64, costs: &Costs) -> serde_json::Value {
    let received: Received = outcomes.iter().map(|outcome| outcome.received).sum();
    let mut waits: Vec<u64> =
        outcomes.iter().filter_map(|outcome| outcome.offered).map(|wait| wait.as_millis() as u64).collect();
    waits.sort_unstable();
    let at = |share: f64| waits.get(((waits.len() as f64 - 1.0) * share).round() as usize).copied();
    let errors: Vec<&String> = outcomes.iter().filter_map(|outcome| outcome.error.as_ref()).take(3).collect();
    let per_join = |total: f64| (total / f64::from(args.participants) * 100.0).round() / 100.0;
    json!({
        "participants": args.participants,
        "over_seconds": args.over,
        "ssrc_rewriting": args.ssrc_rewriting,
        "complete": outcomes.iter().filter(|outcome| outcome.complete).count(),
        "errors": errors,
        "seconds": (seconds * 10.0).round() / 10.0,
        "offer_after_ms": { "median": at(0.5), "p95": at(0.95), "worst": at(1.0) },
        "received": received.to_json(),
        "source_stanzas_per_join": per_join(received.source_changes as f64),
        "presences_per_join": per_join(received.presences as f64),
        "focus": costs.stanzas.map(|(got, sent)| json!({
            "received": got, "sent": sent, "received_per_join": per_join(got as f64), "sent_per_join": per_join(sent as f64),
        })),
        "cpu_ms_per_join": costs
            .processes
            .iter()
            .map(|(name, time)| (name.clone(), json!(per_join(time.as_secs_f64() * 1_000.0))))
            .collect::<serde_json::Map<_, _>>(),
    })
}
