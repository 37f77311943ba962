//! The focus: rooms, owners, offers, bridges.

mod authentication;
mod breakouts;
mod brewery;
mod bridges;
mod caps;
mod cascade;
mod component_search;
mod components;
mod conference;
mod context;
mod dial;
mod features;
mod former_rooms;
#[doc(hidden)]
pub mod fuzzing;
mod gateways;
mod http;
mod ice_failures;
mod ice_restart_totals;
mod json_message;
mod kept;
mod limits;
mod logins;
mod main_rooms;
mod messages;
mod operator;
mod pins;
mod pool;
mod recording;
mod requests;
mod returning;
mod rooms;
mod router;
mod selection;
mod service;
mod settings;
mod source_info;
mod statistics;
mod visitor_nodes;
mod visitors;
mod xml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};

use self::kept::Directory;
use crate::metrics::{Family, Kind};
use crate::rest;
use crate::xmpp::{self, XmppCounters, XmppEvent, XmppSender};

pub use ice_failures::IceFailureSettings;
pub use logins::{LoginSettings, LoginType};
pub use selection::{RegionGroups, SelectionSettings, Strategy};
pub use service::{Focus, Input, NodeEvent};
pub use settings::{
    FocusSettings, LoadRedistribution, RecordingSettings, SenderLimits, SignalingDelays, SourceLimits, SourceSettings,
    VisitorNode, VisitorSettings,
};
pub use visitors::NodeId;

/// Why the focus ended.
#[derive(Debug, thiserror::Error)]
pub enum FocusError {
    /// The brewery is no valid room.
    #[error("brewery {brewery:?} cannot be joined as focus: {source}; correct the setting brewery")]
    Brewery {
        /// The setting.
        brewery: String,
        /// What is wrong with it.
        source: jid::Error,
    },
    /// The folder of its state cannot be used.
    #[error(
        "{path}: the state directory of the focus cannot be used: {source}; make it writable for this user and give each focus one of its own, or leave out focus.state-directory"
    )]
    State {
        /// The setting.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// Health and statistics cannot be served.
    #[error(transparent)]
    Rest(#[from] rest::RestError),
}

/// How often health and statistics are published.
const PUBLISH: Duration = Duration::from_secs(1);

/// What happened on visitor nodes and waits for its turn.
const NODE_EVENTS: usize = 1_000;

/// Requests over HTTP that wait for their turn; further ones are asked to come again.
const HTTP_REQUESTS: usize = 100;

/// Requests of operators that wait for their turn; further ones wait at their door.
const OPERATOR_REQUESTS: usize = 4;

/// Runs the focus until `shutdown`.
pub async fn run(
    settings: FocusSettings,
    process: rest::Process,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), FocusError> {
    let brewery = settings.brewery.to_string();
    let rest_listen = settings.rest_listen;
    let (mut directory, session, former) = match &settings.state_directory {
        Some(path) => open_state(path).await.map_err(|source| FocusError::State { path: path.clone(), source })?,
        None => (None, None, None),
    };
    let (sender, mut events) = xmpp::connect_keeping(settings.xmpp.clone(), session, shutdown.clone());
    let xmpp_counters = sender.counters();
    let mut focus = Focus::new(settings).map_err(|source| FocusError::Brewery { brewery, source })?;
    if let Some(Err(reason)) = former.map(|former| focus.restore(&former)) {
        tracing::warn!(reason, "the state of the process before cannot be read; its calls begin anew");
    }
    let (nodes, mut node_events) = connect_nodes(&focus, &shutdown);
    let node_counters: Vec<_> = nodes.values().map(XmppSender::counters).collect();
    let (health, health_seen) = watch::channel(focus.health(Instant::now()));
    let (stats, stats_seen) = watch::channel(focus.stats(Instant::now()));
    let for_metrics = stats_seen.clone();
    let ops = rest::Ops {
        name: "focus".to_owned(),
        health: health_seen,
        stats: stats_seen,
        metrics: Arc::new(move || {
            let mut families = metrics(&for_metrics.borrow());
            let counters = || std::iter::once(&xmpp_counters).chain(&node_counters).map(AsRef::as_ref);
            families.push(XmppCounters::family(counters()));
            families.push(XmppCounters::carried(counters()));
            families
        }),
        operator: None,
        bandwidth: None,
        doors: Vec::new(),
        process,
    };
    let (http_sender, mut http_requests) = mpsc::channel(HTTP_REQUESTS);
    let mut http = http::HttpClients::default();
    let (operator_sender, mut operators) = mpsc::channel(OPERATOR_REQUESTS);
    let beside = rest::Beside {
        operators: rest::focus_operator(operator_sender),
        clients: rest::conference_requests(http_sender),
    };
    let mut rest = tokio::spawn(rest::serve_beside(rest_listen, ops, beside, shutdown.clone()));
    let mut publish = tokio::time::interval(PUBLISH);
    loop {
        let due = focus.poll_timeout();
        let timeout = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        let keep_due = directory.as_ref().and_then(Directory::due);
        let keep = async {
            match keep_due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        let mut touched = true;
        tokio::select! {
            () = keep => {
                touched = false;
                if let Some(directory) = &mut directory {
                    directory.store(|| focus.keep());
                }
            }
            event = events.recv() => {
                let now = Instant::now();
                match event {
                    Some(XmppEvent::Online { jid, resumed }) => {
                        tracing::info!(%jid, resumed, "focus online");
                        focus.handle(now, Input::Online { resumed, jid: jid.to_string() });
                    }
                    Some(XmppEvent::Offline { reason }) => {
                        tracing::warn!(reason, "focus offline");
                        focus.handle(now, Input::Offline);
                    }
                    Some(XmppEvent::Stanza(stanza)) => focus.handle(now, Input::Stanza(Box::new(stanza))),
                    // Nobody hands a focus over.
                    Some(XmppEvent::Parked) => {}
                    None => return Ok(()),
                }
            }
            Some((node, event)) = node_events.recv() => focus.handle(Instant::now(), Input::Node(node, event)),
            Some(request) = http_requests.recv() => match http.begin(request) {
                Ok(request) => focus.handle(Instant::now(), Input::Stanza(Box::new(request.into_iq().into()))),
                Err(refused) => focus.count(refused),
            },
            Some(rest::FocusRequest { ask, reply }) = operators.recv() => {
                // Who hung up does not need to know.
                let _ = reply.send(focus.operate(Instant::now(), SystemTime::now(), ask));
            }
            () = timeout => focus.handle_timeout(Instant::now()),
            _ = publish.tick() => {
                touched = false;
                // Not at every stanza: it looks at every conference.
                let now = Instant::now();
                stats.send_if_modified(|old| {
                    let new = focus.stats(now);
                    let changed = *old != new;
                    *old = new;
                    changed
                });
            }
            ended = &mut rest => match ended {
                Ok(Err(error)) => return Err(error.into()),
                _ => return Ok(()),
            },
            _ = shutdown.wait_for(|stop| *stop) => {
                if let Some(directory) = &mut directory {
                    // The next process goes on: nothing is signalled.
                    directory.store(|| focus.keep());
                    return Ok(());
                }
                // The connection stays usable until the sender is dropped.
                focus.handle(Instant::now(), Input::Shutdown);
                while let Some((node, stanza)) = focus.poll_output() {
                    if let Some(sender) = node.map_or(Some(&sender), |node| nodes.get(&node)) {
                        sender.send(stanza);
                    }
                }
                return Ok(());
            }
        }
        if let Some(directory) = directory.as_mut().filter(|_| touched) {
            directory.touch(Instant::now());
        }
        while let Some((node, stanza)) = focus.poll_output() {
            match node {
                Some(node) => {
                    if let Some(sender) = nodes.get(&node) {
                        sender.send(stanza);
                    }
                }
                None => {
                    if let Some(stanza) = http.deliver(stanza) {
                        sender.send(stanza);
                    }
                }
            }
        }
        let now = Instant::now();
        health.send_if_modified(|old| {
            let new = focus.health(now);
            let changed = *old != new;
            *old = new;
            changed
        });
    }
}

/// What is left of the process before: the folder, its XMPP session, and its state.
async fn open_state(path: &Path) -> std::io::Result<(Option<Directory>, Option<xmpp::SessionFile>, Option<String>)> {
    let directory = Directory::open(path).await?;
    let (session, former) = (directory.session_file()?, directory.load()?);
    Ok((Some(directory), Some(session), former))
}

/// Connects to the visitor nodes; what happens there comes by one queue.
fn connect_nodes(
    focus: &Focus,
    shutdown: &watch::Receiver<bool>,
) -> (BTreeMap<NodeId, XmppSender>, mpsc::Receiver<(NodeId, NodeEvent)>) {
    let (events, received) = mpsc::channel(NODE_EVENTS);
    let mut senders = BTreeMap::new();
    for (id, node) in focus.visitor_nodes() {
        let (sender, mut of_node) = xmpp::connect(node.xmpp.clone(), shutdown.clone());
        senders.insert(id, sender);
        let events = events.clone();
        tokio::spawn(async move {
            while let Some(event) = of_node.recv().await {
                let event = match event {
                    XmppEvent::Online { resumed, .. } => NodeEvent::Online { resumed },
                    XmppEvent::Offline { .. } => NodeEvent::Offline,
                    XmppEvent::Stanza(stanza) => NodeEvent::Stanza(Box::new(stanza)),
                    XmppEvent::Parked => continue,
                };
                if events.send((id, event)).await.is_err() {
                    return;
                }
            }
        });
    }
    (senders, received)
}

/// The numbers of the statistics as gauges.
fn metrics(stats: &serde_json::Value) -> Vec<Family> {
    let mut families = Vec::new();
    let add = |families: &mut Vec<Family>, name: &str, value: &serde_json::Value| {
        if let Some(number) = value.as_f64() {
            let help = format!("As {name} in /stats.");
            families.push(Family::single(format!("ringbridge_focus_{name}"), help, Kind::Gauge, number));
        }
    };
    for (name, value) in stats.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(reasons) if name == "refused" => {
                let help = "What was asked and did not happen, or not as asked; see docs/security.md.";
                let counts =
                    reasons.iter().map(|(reason, count)| (reason.as_str(), count.as_f64().unwrap_or_default()));
                families.push(Family::new("ringbridge_focus_refused", help, Kind::PlainCounter).by_reason(counts));
            }
            Some(group) => {
                group.iter().for_each(|(inner, value)| add(&mut families, &format!("{name}_{inner}"), value));
            }
            None => add(&mut families, name, value),
        }
    }
    families.extend(statistics::families(stats));
    families
}
