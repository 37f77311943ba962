//! The bridge as an actor: its XMPP connections, the colibri2 state machine, DTLS sessions, bridge channels, and
//! the rings of the data plane.

mod actor;
mod addresses;
mod clients;
mod discovery;
mod dtls_transport;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod handover;
mod handover_error;
mod keepers;
mod lifecycle;
mod load;
mod messages;
mod metrics;
mod pending;
mod probe;
mod receiver_preferences;
mod remedies;
mod report;
mod requests;
mod settings;
mod upgrades;
mod workers;
mod xmpp_connections;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringbridge_dataplane::congestion::estimator::Bounds;
use ringbridge_dataplane::io::IoLimits;
use ringbridge_dataplane::link::WorkerLink;
use ringbridge_dataplane::media::Bitrate;
use ringbridge_dataplane::stats::WorkerStats;
use ringbridge_dataplane::{Capacity, Dataplane, DataplaneConfig};
use tokio::sync::{mpsc, watch};

use crate::channel::{self, ChannelCounters, Dialler, Registry};
use crate::colibri::transport::LocalTransport;
use crate::door::{self, Door};
use crate::host;
use crate::rest;
use crate::transport::Certificate;
use crate::upgrade::{Hello, Outcome, take_over};
use crate::xmpp::{self, CarriedSession, XmppCounters, XmppEvent, XmppSender};

pub use error::BridgeError;
pub use handover::{Affected, BridgeState, Handover, HandoverRequests, Outlook, Takeover};
pub use handover_error::HandoverError;
pub use lifecycle::ShutdownSettings;
pub use settings::BridgeSettings;
pub use upgrades::Upgrading;
pub use xmpp_connections::XmppConnectionSettings;

use upgrades::{Desk, Heritage, Inheriting, Listening, Questions, Running, UpgradeCounters};

/// XMPP events that may wait, of all connections.
const EVENTS: usize = 4096;

/// Messages of bridge channels that may wait, of all clients; with the largest message 4 MiB.
const CHANNEL_EVENTS: usize = 64;

/// Connections of a bridge in the order of its settings: a sender of each, and what arrives, with the number of the connection.
#[derive(Debug)]
pub struct OpenConnections {
    /// One each.
    pub senders: Vec<XmppSender>,
    /// Of all of them.
    pub events: mpsc::Receiver<(usize, XmppEvent)>,
}

impl OpenConnections {
    /// Connects them, and again whenever they are lost.
    fn open(settings: &BridgeSettings, shutdown: &watch::Receiver<bool>) -> Self {
        Self::open_from(settings, Vec::new(), shutdown)
    }

    /// The same, and goes on with sessions of another process; they are in the order of the settings.
    fn open_from(
        settings: &BridgeSettings,
        sessions: Vec<Option<CarriedSession>>,
        shutdown: &watch::Receiver<bool>,
    ) -> Self {
        let mut sessions = sessions.into_iter();
        let (sender, events) = mpsc::channel(EVENTS);
        let mut senders = Vec::new();
        for (index, connection) in settings.connections.iter().enumerate() {
            let (stanzas, mut received) =
                xmpp::connect_from(connection.xmpp.clone(), sessions.next().flatten(), shutdown.clone());
            senders.push(stanzas);
            let sender = sender.clone();
            tokio::spawn(async move {
                while let Some(event) = received.recv().await {
                    if sender.send((index, event)).await.is_err() {
                        return;
                    }
                }
            });
        }
        Self { senders, events }
    }
}

/// How a bridge ended.
#[derive(Debug)]
pub enum Ended {
    /// Everybody was informed, and its conferences are over.
    Stopped,
    /// Another process goes on with them; nothing is to be signalled. If there is a thread it is the end of data channels, for which this
    /// process stays: it ignores signals, and ends with the thread.
    HandedOver(Option<std::thread::JoinHandle<()>>),
}

/// Runs a bridge until `shutdown` becomes true.
pub async fn run(
    settings: BridgeSettings,
    process: rest::Process,
    shutdown: watch::Receiver<bool>,
) -> Result<(), BridgeError> {
    run_over(settings, process, OpenConnections::open, shutdown).await
}

/// The same over connections that `connect` makes once the workers run; a benchmark is the XMPP server itself.
pub async fn run_over(
    settings: BridgeSettings,
    process: rest::Process,
    connect: impl FnOnce(&BridgeSettings, &watch::Receiver<bool>) -> OpenConnections,
    shutdown: watch::Receiver<bool>,
) -> Result<(), BridgeError> {
    let begun = Begun::fresh(&settings).await?;
    let connections = connect(&settings, &shutdown);
    let settings = begun.settled(settings);
    let Begun { dataplane, media, listening, .. } = begun;
    let result = run_with(settings, process, (media, connections, listening), Handing::default(), shutdown).await;
    // Joining the threads blocks for a moment.
    let _ = tokio::task::spawn_blocking(move || dataplane.stop()).await;
    result
}

/// [`run`] in a process that may be upgraded, or that is the upgrade of another one.
pub async fn run_upgradable(
    settings: BridgeSettings,
    process: rest::Process,
    upgrading: Upgrading,
    shutdown: watch::Receiver<bool>,
) -> Result<Ended, BridgeError> {
    let Upgrading { program, from, objection, serving, beside, beside_heir } = upgrading;
    let workers = u16::try_from(settings.workers).unwrap_or(u16::MAX);
    let begun = match from {
        None => Begun::fresh(&settings).await?,
        Some(mut wire) => {
            let mut heir = Inheriting::new(&settings, dataplane_config(&settings), beside_heir);
            let mut stopped = shutdown.clone();
            let frozen = tokio::select! {
                frozen = take_over(&mut wire, Hello::own(workers), &mut heir) => frozen,
                // The whole service stops.
                _ = async { stopped.wait_for(|stop| *stop).await.is_ok() } => Err("it is asked to stop".to_owned()),
            };
            let frozen = frozen.map_err(BridgeError::NotTakenOver)?;
            let heritage = heir.into_heritage();
            let begun = Begun::inherited(&settings, heritage, frozen)?;
            let _ = serving.send(());
            begun
        }
    };
    let sessions = begun.takeover.as_ref().map(|takeover| takeover.sessions(&settings)).unwrap_or_default();
    let connections = OpenConnections::open_from(&settings, sessions, &shutdown);
    let settings = begun.settled(settings);
    let Begun { dataplane, media, listening, takeover, frozen, counters } = begun;
    let (handover, requests) = Handover::new();
    let running =
        Running::new(dataplane, handover, &listening, Arc::clone(&counters)).map_err(BridgeError::Descriptors)?;
    let running = running.beside(beside);
    let (desk, questions) = Desk::new(running, (program, objection), workers, frozen);
    let handing = Handing { from: takeover, to: Some(requests), desk: Some(DeskWindow { questions, counters }) };
    // Its own signal: it goes on until the bridge has ended.
    let (stop_desk, desk_stop) = watch::channel(false);
    let desk = tokio::spawn(desk.serve(desk_stop));
    let result = run_with(settings, process, (media, connections, listening), handing, shutdown).await;
    let _ = stop_desk.send(true);
    // It may be about to notify systemd which process is the main one now.
    let Ok((mut running, outcome)) = desk.await else { return result.map(|()| Ended::Stopped) };
    let keeping = running.take_keeping();
    if let Some(dataplane) = running.into_dataplane() {
        let _ = tokio::task::spawn_blocking(move || dataplane.stop()).await;
    }
    match outcome {
        Some(Outcome::HandedOver { .. }) => Ok(Ended::HandedOver(keeping)),
        Some(Outcome::Lost(failure)) => {
            // It may be there all the same, and only late.
            if let Some(keeping) = keeping {
                let _ = tokio::task::spawn_blocking(move || keeping.join()).await;
            }
            Err(BridgeError::LostInUpgrade(failure))
        }
        Some(Outcome::GoesOn { .. }) | None => result.map(|()| Ended::Stopped),
    }
}

fn dataplane_config(settings: &BridgeSettings) -> DataplaneConfig {
    DataplaneConfig {
        local_addresses: settings.local_addresses.clone(),
        port: settings.port,
        workers: settings.workers,
        cores: settings.cores.clone(),
        io: settings.io,
        limits: IoLimits { extras: settings.io_options, ..IoLimits::default() },
        rewrite: !settings.disable_rewriting,
        congestion_control: settings.congestion_control,
        bandwidth: Bounds::default().starting_at(Bitrate::new(settings.start_bitrate)),
        loudest_only: settings.loudest_only,
        ..DataplaneConfig::default()
    }
}

/// What a bridge begins with: made anew, or of another process.
struct Begun {
    dataplane: Dataplane,
    media: MediaWorkers,
    listening: Listening,
    takeover: Option<Takeover>,
    /// How long nothing was sent before it took over.
    frozen: Option<Duration>,
    counters: Arc<UpgradeCounters>,
}

impl Begun {
    async fn fresh(settings: &BridgeSettings) -> Result<Self, BridgeError> {
        let config = dataplane_config(settings);
        let capacity = config.capacity();
        let mut dataplane = Dataplane::start(config)?;
        let listening = Listening::bind(settings).await?;
        let links = dataplane.take_links();
        let media = MediaWorkers::new(&dataplane, links, capacity);
        Ok(Self { dataplane, media, listening, takeover: None, frozen: None, counters: Arc::default() })
    }

    fn inherited(settings: &BridgeSettings, heritage: Option<Heritage>, frozen: Duration) -> Result<Self, BridgeError> {
        let nothing = || BridgeError::NotTakenOver("there is nothing to go on with".to_owned());
        let heritage = heritage.ok_or_else(nothing)?;
        let counters = Arc::new(upgrades::go_on_counting(&heritage, frozen));
        let Heritage { takeover, listening, links, dataplane, .. } = heritage;
        let media = MediaWorkers::new(&dataplane, links, dataplane_config(settings).capacity());
        let (takeover, frozen) = (Some(takeover), Some(frozen));
        Ok(Self { dataplane, media, listening, takeover, frozen, counters })
    }

    /// The settings as they are, now that the port is known.
    fn settled(&self, settings: BridgeSettings) -> BridgeSettings {
        let dataplane = &self.dataplane;
        let (backend, reason) = dataplane.backend();
        tracing::info!(workers = dataplane.workers(), backend, reason, addresses = ?dataplane.local_addresses(), "media workers run");
        let port = dataplane.local_addresses().first().map_or(settings.port, SocketAddr::port);
        BridgeSettings { port, ..settings }
    }
}

/// What a bridge forwards media with.
struct MediaWorkers {
    /// One link and its counters each.
    links: Vec<(WorkerLink, Arc<WorkerStats>)>,
    /// What they take at most.
    capacity: Capacity,
    /// Addresses of the media port at which probes must arrive.
    probe: Vec<SocketAddr>,
}

impl MediaWorkers {
    fn new(dataplane: &Dataplane, links: Vec<WorkerLink>, capacity: Capacity) -> Self {
        let with_stats = |link: WorkerLink| {
            let stats = dataplane.stats(link.worker());
            (link, stats)
        };
        let links = links.into_iter().map(with_stats).collect();
        Self { links, capacity, probe: dataplane.local_addresses().to_vec() }
    }
}

/// Runs a bridge over workers that are already there, one link and its counters each; they take what workers usually do.
pub async fn run_on(
    settings: BridgeSettings,
    links: Vec<(WorkerLink, Arc<WorkerStats>)>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), BridgeError> {
    run_on_handing(settings, links, Handing::default(), shutdown).await
}

/// Between which processes a bridge is handed over.
#[derive(Debug, Default)]
pub struct Handing {
    /// What another process left, to be gone on with.
    pub from: Option<Takeover>,
    /// Requests of whoever hands the bridge over to another process.
    pub to: Option<HandoverRequests>,
    /// Where upgrades are asked about, if they are possible.
    desk: Option<DeskWindow>,
}

impl Handing {
    /// Of a bridge that goes on where another process was, and may be handed over in its turn.
    pub fn new(from: Option<Takeover>, to: HandoverRequests) -> Self {
        Self { from, to: Some(to), desk: None }
    }
}

/// What the pages show of upgrades.
#[derive(Debug)]
struct DeskWindow {
    questions: Questions,
    counters: Arc<UpgradeCounters>,
}

/// [`run_on`] for a bridge that is handed over: from another process, to another one, or both.
pub async fn run_on_handing(
    settings: BridgeSettings,
    links: Vec<(WorkerLink, Arc<WorkerStats>)>,
    handing: Handing,
    shutdown: watch::Receiver<bool>,
) -> Result<(), BridgeError> {
    let media = MediaWorkers { links, capacity: Capacity::default(), probe: Vec::new() };
    let sessions = handing.from.as_ref().map(|takeover| takeover.sessions(&settings)).unwrap_or_default();
    let listening = Listening::bind(&settings).await?;
    let connections = OpenConnections::open_from(&settings, sessions, &shutdown);
    run_with(settings, rest::Process::default(), (media, connections, listening), handing, shutdown).await
}

async fn run_with(
    settings: BridgeSettings,
    process: rest::Process,
    (media, connections, listening): (MediaWorkers, OpenConnections, Listening),
    Handing { from, to, desk }: Handing,
    shutdown: watch::Receiver<bool>,
) -> Result<(), BridgeError> {
    let MediaWorkers { links, capacity, probe } = media;
    // Endpoints of another process know its certificate.
    let certificate = match &from {
        Some(takeover) => takeover.certificate.clone(),
        None => Certificate::generate().map_err(BridgeError::Certificate)?,
    };
    let local_addresses = host::resolve(&settings.local_addresses);
    for line in settings.discovery.warnings(&settings.public_addresses, &local_addresses) {
        tracing::warn!("{line}");
    }
    let transport = LocalTransport {
        local_addresses,
        public_addresses: settings.public_addresses.clone(),
        advertise_private: settings.advertise_private,
        port: settings.port,
        fingerprint: certificate.fingerprint().to_string(),
        websocket_base_url: settings.websocket_base_url.clone(),
        relay_websocket_base_url: settings.relay_websocket_base_url.clone(),
        websocket_server_id: settings.websocket_server_id.clone(),
    };
    let registry = Registry::default();
    let channel_counters = Arc::new(ChannelCounters::default());
    let (channel_events, channel) = mpsc::channel(CHANNEL_EVENTS);
    let dialler = Dialler::new(channel_events.clone(), Arc::clone(&channel_counters));
    let router = channel::router(
        settings.websocket_server_id.clone(),
        registry.clone(),
        channel_events,
        Arc::clone(&channel_counters),
    );
    let OpenConnections { senders, events: xmpp } = connections;
    let xmpp_counters: Vec<_> = senders.iter().map(XmppSender::counters).collect();

    let (health, health_seen) = watch::channel(Err("not connected to the XMPP server".to_owned()));
    let (stats, stats_seen) = watch::channel(serde_json::Value::Object(serde_json::Map::new()));
    let (bandwidth, bandwidth_seen) = watch::channel(serde_json::Value::Array(Vec::new()));
    let (report, report_seen) = watch::channel(report::Report::default());
    let (operator, operator_seen) = mpsc::channel(16);
    let counters: Vec<_> = links.iter().map(|(_, stats)| Arc::clone(stats)).collect();
    let for_metrics = Arc::clone(&channel_counters);
    let door = |name, listener| Door::new(name, listener).held_while(listening.held.subscribe());
    let channel_door = listening.channel.map(|listener| door(door::Name::Channel, listener));
    let pages_door = door(door::Name::Pages, listening.pages);
    let (questions, upgrades): (_, Option<Arc<UpgradeCounters>>) =
        desk.map(|DeskWindow { questions, counters }| (questions, counters)).unzip();
    let lost = upgrades.clone().unwrap_or_default();
    let ops = rest::Ops {
        name: "bridge".to_owned(),
        health: health_seen,
        stats: stats_seen,
        metrics: Arc::new(move || {
            let mut families = report_seen.borrow().metrics(SystemTime::now(), &counters);
            families.extend(for_metrics.families());
            families.push(XmppCounters::family(xmpp_counters.iter().map(Arc::as_ref)));
            families.extend(upgrades.iter().flat_map(|upgrades| upgrades.families()));
            families
        }),
        operator: Some(rest::Operator {
            requests: operator,
            shutdown: settings.shutdown_over_rest,
            upgrades: questions,
        }),
        bandwidth: Some(bandwidth_seen),
        doors: channel_door.iter().map(Door::counters).collect(),
        process,
    };
    // Own stop signal: the servers go on until the bridge has said goodbye.
    let (stop_servers, servers_stop) = watch::channel(false);
    let websocket = channel_door.map(|door| tokio::spawn(door.serve(router, servers_stop.clone())));
    let rest = tokio::spawn(rest::serve_at(pages_door, ops, rest::Beside::default(), servers_stop));

    let connections = xmpp_connections::XmppConnections::new(&settings.connections, senders)?;
    let publish = actor::Publish { health, stats, report, bandwidth };
    let actor = actor::Actor::new(
        &settings,
        transport,
        certificate,
        links,
        actor::Outside { registry, dialler, xmpp: connections, channel_counters, capacity, probe, upgrades: lost },
        publish,
    )?;
    let handover = to.map_or_else(|| mpsc::channel(1).1, |HandoverRequests(requests)| requests);
    let inputs = actor::Inputs { xmpp, operator: operator_seen, channel, shutdown, handover };
    let result = actor.run(inputs, from).await;
    let _ = stop_servers.send(true);
    if let Some(websocket) = websocket {
        websocket.abort();
    }
    rest.abort();
    result
}
