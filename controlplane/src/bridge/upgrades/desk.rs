//! Where upgrades of a running bridge are asked for, by a signal, and asked about, over the operators' pages.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use super::running::{Running, names, objection};
use crate::bridge::handover::Outlook;
use crate::upgrade::{Failure, Hello, Limits, Outcome, Predecessor, Program, hand_over};

/// Questions about upgrades that may wait.
const QUESTIONS: usize = 4;

/// Whoever asks how it stands, and gets the page.
pub(in crate::bridge) type Questions = mpsc::Sender<oneshot::Sender<Value>>;

/// The signal that asks for an upgrade. Unless it is caught it ends the process.
#[derive(Debug)]
struct Asking(Option<Signal>);

impl Asking {
    fn catch() -> Self {
        let caught = signal(SignalKind::user_defined2())
            .inspect_err(|error| tracing::warn!(%error, "cannot catch a signal: this process cannot be upgraded"));
        Self(caught.ok())
    }

    /// The next request.
    async fn next(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}

/// What operators are shown, see `upgrade::command::Status`.
#[derive(Debug, Clone, Default, Serialize)]
struct Page {
    pid: u32,
    release: &'static str,
    attempts: u64,
    under_way: bool,
    failure: Option<String>,
    frozen_millis: Option<u64>,
    conferences: usize,
    endpoints: usize,
    objection: Option<String>,
    data_channels: usize,
    data_channels_of: String,
    keepers: usize,
    handshakes: usize,
}

/// Where upgrades are asked for and asked about.
pub(in crate::bridge) struct Desk {
    machine: Predecessor,
    program: Program,
    running: Running,
    objection: Option<String>,
    asking: Asking,
    questions: mpsc::Receiver<oneshot::Sender<Value>>,
    page: Page,
}

impl Desk {
    /// `objection`: why this process cannot be upgraded at all. `frozen`: how long nothing was sent when it took over, if it did.
    pub fn new(
        running: Running,
        (program, objection): (Program, Option<String>),
        workers: u16,
        frozen: Option<Duration>,
    ) -> (Self, Questions) {
        let page = Page {
            pid: std::process::id(),
            release: env!("CARGO_PKG_VERSION"),
            frozen_millis: frozen.map(|frozen| u64::try_from(frozen.as_millis()).unwrap_or(u64::MAX)),
            ..Page::default()
        };
        let machine = Predecessor::new(Hello::own(workers), Limits::default());
        let (ask, questions) = mpsc::channel(QUESTIONS);
        // Before the page is served that says whom to send the signal.
        let asking = Asking::catch();
        (Self { machine, program, running, objection, asking, questions, page }, ask)
    }

    /// Serves until `stop`, or until another process does; then with the outcome.
    pub async fn serve(mut self, mut stop: watch::Receiver<bool>) -> (Running, Option<Outcome>) {
        let mut during = stop.clone();
        loop {
            tokio::select! {
                _ = async { stop.wait_for(|stop| *stop).await.is_ok() } => return (self.running, None),
                Some(reply) = self.questions.recv() => {
                    drop(reply.send(tell(self.page.clone(), self.objection.as_deref(), self.running.outlook()).await));
                }
                () = self.asking.next() => {
                    if let Some(outcome) = self.upgrade(&mut during).await {
                        return (self.running, Some(outcome));
                    }
                }
            }
        }
    }

    /// One upgrade; its outcome if this process has to end.
    async fn upgrade(&mut self, stop: &mut watch::Receiver<bool>) -> Option<Outcome> {
        self.page.attempts += 1;
        if let Some(why) = &self.objection {
            let failure = Failure::NotHitless(why.clone());
            tracing::warn!(reason = failure.label(), "upgrade refused: {failure}");
            self.running.counters().failed(failure.label());
            self.page.failure = Some(failure.to_string());
            return None;
        }
        let Self { machine, program, running, questions, asking, page, .. } = self;
        tracing::info!("an upgrade begins");
        page.under_way = true;
        let frozen = running.frozen();
        let outcome = {
            let attempt = hand_over(machine, program, running);
            tokio::pin!(attempt);
            loop {
                tokio::select! {
                    outcome = &mut attempt => break outcome,
                    Some(reply) = questions.recv() => drop(reply.send(json!(page))),
                    () = asking.next() => tracing::warn!("a second upgrade is refused: one is under way"),
                    // Frozen calls are brought to an end, one way or the other; before that the new process is let go.
                    _ = async { stop.wait_for(|stop| *stop).await.is_ok() }, if !frozen.load(Ordering::Acquire) => {
                        if !frozen.load(Ordering::Acquire) {
                            return None;
                        }
                    }
                }
            }
        };
        page.under_way = false;
        let counters = running.counters();
        match outcome {
            Ok(Outcome::GoesOn { step, failure, frozen }) => {
                let frozen_millis = frozen.map(|frozen| frozen.as_millis());
                tracing::error!(
                    step = step.name(),
                    reason = failure.label(),
                    frozen_millis,
                    "upgrade given up, this process goes on: {failure}"
                );
                counters.failed(failure.label());
                counters.froze(frozen.unwrap_or_default());
                page.failure = Some(failure.to_string());
                None
            }
            Ok(Outcome::HandedOver { release, frozen }) => {
                tracing::info!(release, frozen_millis = frozen.as_millis(), "another process has taken over");
                Some(Outcome::HandedOver { release, frozen })
            }
            Ok(Outcome::Lost(failure)) => {
                tracing::error!(reason = failure.label(), "the process that took over is not heard of: {failure}");
                Some(Outcome::Lost(failure))
            }
            Err(busy) => {
                page.failure = Some(busy.to_string());
                None
            }
        }
    }
}

/// The page, with what would be handed over now.
async fn tell(mut page: Page, never: Option<&str>, outlook: impl Future<Output = Result<Outlook, String>>) -> Value {
    match outlook.await {
        Ok(outlook) => {
            (page.conferences, page.endpoints) = (outlook.conferences, outlook.endpoints);
            page.objection = never.map(str::to_owned).or_else(|| objection(&outlook));
            (page.data_channels, page.data_channels_of) = (outlook.data_channels.len(), names(&outlook.data_channels));
            (page.keepers, page.handshakes) = (outlook.keepers, outlook.handshakes.len());
        }
        Err(why) => page.objection = Some(why),
    }
    json!(page)
}
