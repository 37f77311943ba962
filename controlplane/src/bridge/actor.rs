//! The one task of the bridge: everything that happens to it, in order.

mod addresses;
mod handover;
mod quiesce;
mod reports;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ringbridge_dataplane::Capacity;
use ringbridge_dataplane::link::WorkerLink;
use ringbridge_dataplane::messages::{Command, Event};
use ringbridge_dataplane::stats::WorkerStats;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::addresses::Addresses;
use super::clients::{Action, Clients};
use super::discovery::Discovery;
use super::error::BridgeError;
use super::handover::{HandoverRequest, Takeover};
use super::keepers::{KeeperEvent, Keepers};
use super::lifecycle::{Lifecycle, Stage};
use super::load::HostLoad;
use super::probe::PortProbe;
use super::report::{Report, Traffic};
use super::requests;
use super::settings::BridgeSettings;
use super::upgrades::UpgradeCounters;
use super::workers::Workers;
use super::xmpp_connections::XmppConnections;
use crate::brewery::Standing;
use crate::channel::{ChannelCounters, ChannelEvent, Dialler, Registry};
use crate::colibri::bridge::{ColibriBridge, Output};
use crate::colibri::debug::View;
use crate::colibri::transport::LocalTransport;
use crate::host::AddressFilter;
use crate::rest::{Ask, OperatorRequest};
use crate::transport::Certificate;
use crate::xmpp::XmppEvent;

use quiesce::{Quiesce, Then};

/// Interval of presence and statistics.
const REPORT: Duration = Duration::from_secs(5);
/// Interval of the inactivity check and of heartbeats.
const TICK: Duration = Duration::from_millis(500);
/// Wait before commands that found a full ring are tried again.
const RETRY: Duration = Duration::from_millis(1);
/// How long the XMPP connections may take to close their streams.
const GOODBYE: Duration = Duration::from_secs(4);

/// Where the bridge publishes what it knows of itself.
pub(super) struct Publish {
    pub health: watch::Sender<Result<(), String>>,
    pub stats: watch::Sender<Value>,
    pub report: watch::Sender<Report>,
    pub bandwidth: watch::Sender<Value>,
}

/// What the bridge reaches beyond its workers.
pub(super) struct Outside {
    /// Who may open a WebSocket.
    pub registry: Registry,
    /// Opens WebSockets of other bridges.
    pub dialler: Dialler,
    /// XMPP.
    pub xmpp: XmppConnections,
    /// Counters of the bridge channels.
    pub channel_counters: Arc<ChannelCounters>,
    /// What the workers take at most.
    pub capacity: Capacity,
    /// Addresses of the media port at which probes must arrive.
    pub probe: Vec<SocketAddr>,
    /// What upgrades came to.
    pub upgrades: Arc<UpgradeCounters>,
}

/// Where everything comes from.
pub(super) struct Inputs {
    /// Which connection, and what happened.
    pub xmpp: mpsc::Receiver<(usize, XmppEvent)>,
    pub operator: mpsc::Receiver<OperatorRequest>,
    pub channel: mpsc::Receiver<ChannelEvent>,
    pub shutdown: watch::Receiver<bool>,
    /// From whoever hands the bridge over to another process.
    pub handover: mpsc::Receiver<HandoverRequest>,
}

pub(super) struct Actor {
    region: Option<String>,
    relay_id: Option<String>,
    colibri: ColibriBridge,
    clients: Clients,
    dialler: Dialler,
    /// Former processes that are the end of data channels.
    keepers: Keepers,
    workers: Workers,
    xmpp: XmppConnections,
    publish: Publish,
    life: Lifecycle,
    /// The stage that everybody knows of.
    announced: Stage,
    shutdown_over_xmpp: bool,
    load: HostLoad,
    probe: PortProbe,
    addresses: Addresses,
    discovery: Discovery,
    chosen_by: Option<AddressFilter>,
    started: SystemTime,
    leaving: bool,
    traffic: Traffic,
    reported: Instant,
    /// Somebody waits for handshakes to end, to hand the bridge over.
    quiescing: Option<Quiesce>,
    upgrades: Arc<UpgradeCounters>,
    /// The endpoints changed since the tables were compared.
    #[cfg(debug_assertions)]
    unchecked: bool,
}

impl Actor {
    pub fn new(
        settings: &BridgeSettings,
        transport: LocalTransport,
        certificate: Certificate,
        links: Vec<(WorkerLink, Arc<WorkerStats>)>,
        outside: Outside,
        publish: Publish,
    ) -> Result<Self, BridgeError> {
        let now = Instant::now();
        let mut discovery = Discovery::new(now, &settings.discovery, outside.probe.clone(), &transport.local_addresses);
        discovery.set_configured(
            transport.public_addresses.iter().any(|public| public.base(&transport.local_addresses).is_some()),
        );
        let config = settings.colibri(transport, links.len(), outside.capacity);
        let (links, stats) = links.into_iter().unzip();
        Ok(Self {
            region: settings.region.clone(),
            relay_id: settings.relay.as_ref().map(|relay| relay.id.clone()),
            colibri: ColibriBridge::new(now, config),
            clients: Clients::new(certificate, outside.registry, outside.channel_counters),
            dialler: outside.dialler,
            keepers: Keepers::default(),
            workers: Workers::new(now, links, stats).map_err(BridgeError::Wakeup)?,
            xmpp: outside.xmpp,
            publish,
            life: Lifecycle::new(settings.shutdown, settings.drain),
            announced: Stage::Running,
            shutdown_over_xmpp: settings.shutdown_over_xmpp,
            load: HostLoad::new(now),
            addresses: Addresses::new(now, outside.probe.iter().map(SocketAddr::ip).collect()),
            discovery,
            chosen_by: settings.chosen_by.clone(),
            probe: PortProbe::new(now, outside.probe),
            started: SystemTime::now(),
            leaving: false,
            traffic: Traffic::default(),
            reported: now,
            quiescing: None,
            upgrades: outside.upgrades,
            #[cfg(debug_assertions)]
            unchecked: true,
        })
    }

    /// Runs until shutdown, or until another process goes on; before that where another process was, if there was one.
    pub async fn run(mut self, mut inputs: Inputs, takeover: Option<Takeover>) -> Result<(), BridgeError> {
        if let Some(takeover) = takeover {
            self.take_over(Instant::now(), &takeover).map_err(BridgeError::Takeover)?;
        }
        let mut report = interval(REPORT);
        let mut tick = interval(TICK);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut events = Vec::new();
        let mut kept = Vec::new();
        let ended = loop {
            self.settle();
            self.follow_life(Instant::now());
            if self.life.stage() == Stage::Ended {
                tracing::info!("bridge stopped: its shutdown is complete");
                break Ok(());
            }
            self.end_quiesce(Instant::now());
            let deadline = self.deadline();
            tokio::select! {
                stop = async { inputs.shutdown.wait_for(|stop| *stop).await.is_ok() } => {
                    tracing::info!(signalled = stop, "bridge stopping");
                    break Ok(());
                }
                result = self.workers.events(&mut events) => {
                    result.map_err(BridgeError::Wakeup)?;
                    let now = Instant::now();
                    for event in events.drain(..) {
                        self.handle_worker(now, event);
                    }
                }
                () = std::future::poll_fn(|cx| self.keepers.poll_events(cx, &mut kept)) => {
                    let now = Instant::now();
                    for event in kept.drain(..) {
                        self.handle_keeper(now, event);
                    }
                }
                event = inputs.xmpp.recv() => match event {
                    Some((connection, event)) => self.handle_xmpp(connection, event),
                    // The same signal ends the connections; they may be the first to follow it.
                    None if *inputs.shutdown.borrow() => break Ok(()),
                    None => return Err(BridgeError::XmppEnded),
                },
                Some(event) = inputs.channel.recv() => self.handle_channel(event),
                Some(request) = inputs.operator.recv() => self.handle_operator(request),
                Some(request) = inputs.handover.recv() => {
                    if self.handle_handover(request, &mut inputs).await == Then::End {
                        return Ok(());
                    }
                }
                Some(answer) = self.discovery.looked_up() => {
                    self.discovery.handle_looked_up(Instant::now(), answer);
                    self.join();
                }
                () = sleep_until(deadline.into()) => self.handle_timeout(Instant::now()),
                _ = tick.tick() => {
                    let now = Instant::now();
                    if let Err(moved) = self.follow_addresses(now) {
                        break Err(moved);
                    }
                    self.clients.check_late(now);
                    self.publish_health(now);
                    self.publish_dead_links();
                    if let Some(bandwidths) = self.clients.take_bandwidths() {
                        self.publish.bandwidth.send_replace(bandwidths);
                    }
                }
                _ = report.tick() => self.report(Instant::now()),
            }
        };
        self.say_goodbye(inputs.xmpp).await;
        ended
    }

    fn deadline(&self) -> Instant {
        let mut deadline = self.colibri.poll_timeout();
        let parts = [
            self.clients.poll_timeout(),
            self.xmpp.poll_timeout(),
            self.life.poll_timeout(),
            self.discovery.poll_timeout(),
            self.quiescing.as_ref().map(Quiesce::until),
        ];
        for at in parts.into_iter().flatten() {
            deadline = deadline.min(at);
        }
        if self.workers.backlog() {
            deadline = deadline.min(Instant::now() + RETRY);
        }
        deadline
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.workers.retry();
        self.colibri.handle_timeout(now);
        self.clients.handle_timeout(now);
        self.life.handle_timeout(now);
        self.xmpp.handle_timeout(now);
        self.discovery.handle_timeout(now);
        self.join();
    }

    /// Does what the state machines ask for until they are quiet.
    fn settle(&mut self) {
        // Not only on the timer, which a busy bridge keeps moving ahead.
        if self.workers.backlog() {
            self.workers.retry();
        }
        self.follow_discovery();
        loop {
            if let Some(output) = self.colibri.poll_output() {
                self.apply(output);
            } else if let Some(action) = self.clients.poll_action() {
                self.act(action);
            } else if !self.clients.flush(Instant::now()) {
                break;
            }
        }
        #[cfg(debug_assertions)]
        self.check_tables();
    }

    /// Signalling and clients have the same endpoints with the same sources, and no table has others.
    #[cfg(debug_assertions)]
    fn check_tables(&mut self) {
        if !std::mem::take(&mut self.unchecked) {
            return;
        }
        let differ = || {
            let signalled = self.colibri.published();
            (signalled != self.clients.published()).then(|| "signalling and clients differ".to_owned())
        };
        let found = self.colibri.inconsistency().or_else(|| self.clients.inconsistency()).or_else(differ);
        assert_eq!(found, None, "the bridge's tables");
    }

    fn apply(&mut self, output: Output) {
        let now = Instant::now();
        #[cfg(debug_assertions)]
        {
            self.unchecked |= !matches!(output, Output::Command { .. });
        }
        if let Some((worker, command)) = self.clients.follow(now, output) {
            self.workers.send(worker, command);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Command { worker, command } => self.workers.send(worker, command),
            Action::Send { endpoint, message } => self.clients.send_over_websocket(endpoint, message),
            Action::Dial { relay, address } => self.clients.dial(&self.dialler, relay, address),
            Action::VideoType { endpoint, source, video_type } => {
                self.colibri.set_video_type(endpoint, &source, video_type);
            }
        }
    }

    fn handle_worker(&mut self, now: Instant, event: Event) {
        match event {
            Event::EndpointRefused { endpoint, error } => self.colibri.handle_refused(endpoint, error),
            Event::Ice { endpoint, state, relayed, .. } => {
                self.colibri.handle_ice(now, endpoint, state);
                self.clients.handle_ice(now, endpoint, state, relayed);
            }
            Event::IceRestart { endpoint, generation, outcome } => {
                self.colibri.handle_ice_restart(now, endpoint, generation, outcome);
            }
            Event::Dtls { endpoint, datagram } => self.clients.handle_dtls(now, endpoint, datagram),
            Event::Activity { endpoint, active } => {
                self.colibri.handle_activity(now, endpoint, active);
                self.clients.handle_activity(now, endpoint, active);
            }
            Event::DominantSpeaker { conference, recent } => self.clients.handle_speakers(conference, recent),
            Event::ForwardedSources { endpoint, sources } => self.clients.handle_forwarded(endpoint, sources),
            Event::SourcesMapped { endpoint, announcement, sources } => {
                self.clients.handle_mapped(endpoint, announcement, sources);
            }
            Event::Bandwidth { endpoint, bandwidth } => self.clients.handle_bandwidth(endpoint, bandwidth),
            Event::SourceDemand { endpoint, source, max_height } => {
                self.clients.handle_demand(endpoint, source, max_height);
            }
            Event::ServerAnswered { path, datagram } => {
                self.discovery.handle_answer(now, path, &datagram);
                self.join();
            }
            event => tracing::error!(?event, "an event of the media workers is not handled; please report it"),
        }
        // In order: what one event causes must reach the worker before what the next one causes.
        self.settle();
    }

    // --- channel ----------------------------------------------------------------------------------------------

    fn handle_channel(&mut self, event: ChannelEvent) {
        self.clients.handle_channel_event(Instant::now(), event);
    }

    /// A former process says something, or is gone.
    fn handle_keeper(&mut self, now: Instant, event: KeeperEvent) {
        match event {
            KeeperEvent::Session(keeper, endpoint, event) => self.clients.handle_kept(now, keeper, endpoint, event),
            KeeperEvent::Counted { which, times } => self.clients.count_kept(which, times),
            KeeperEvent::Gone(keeper, why) => {
                let lost = self.clients.lose_keeper(now, keeper);
                self.upgrades.lose_data_channels(lost);
                match (lost, why) {
                    (0, None) => tracing::debug!(?keeper, "a former process has ended with its last data channel"),
                    (lost, why) => {
                        let why = why.unwrap_or_else(|| "it ended".to_owned());
                        tracing::error!(
                            lost,
                            why,
                            "the former process that had data channels is gone, and so are they"
                        );
                    }
                }
            }
        }
        self.settle();
    }

    // --- XMPP -------------------------------------------------------------------------------------------------

    fn handle_xmpp(&mut self, connection: usize, event: XmppEvent) {
        let now = Instant::now();
        let request = self.xmpp.handle(now, connection, event);
        // The focus asks at once, and holds a wrong answer against us for a minute.
        self.publish_health(now);
        self.join();
        if let Some(request) = request {
            let standing = self.xmpp.standing(now, connection, request.from.as_ref());
            if standing != Standing::Trusted && !self.xmpp.may_refuse(now) {
                self.colibri.note_stranger();
                return;
            }
            let health = self.publish.health.borrow().clone();
            let context = requests::Context {
                health: &health,
                colibri: &mut self.colibri,
                lifecycle: self.shutdown_over_xmpp.then_some(&mut self.life),
            };
            let answer = requests::answer(now, &request, standing, context);
            // The endpoint exists for the worker and the channel before its transport is known outside.
            self.settle();
            self.xmpp.answer(connection, answer);
        }
    }

    fn join(&mut self) {
        // The first conference shall have the public address, too.
        if !self.discovery.holds(Instant::now()) && self.xmpp.join_due() {
            let stats = self.make_report().to_element(SystemTime::now());
            self.xmpp.join(&stats);
        }
    }

    // --- operators --------------------------------------------------------------------------------------------

    fn handle_operator(&mut self, request: OperatorRequest) {
        let now = Instant::now();
        let answer = match request.ask {
            Ask::Drain => Value::from(self.life.drains()),
            Ask::SetDrain(drain) => {
                if self.life.set_drain(drain) {
                    tracing::info!(drain, "drain mode changed");
                    self.announce();
                }
                Value::Bool(true)
            }
            Ask::Shutdown { graceful } => {
                tracing::warn!(graceful, "shutdown requested");
                Value::from(if graceful {
                    self.life.shut_down_gracefully(now, self.colibri.endpoint_count())
                } else {
                    self.life.shut_down(now)
                })
            }
            Ask::Debug { conference, endpoint, full } => {
                let view = View { conference: conference.as_deref(), endpoint: endpoint.as_deref(), full };
                self.debug(view)
            }
        };
        // Who asked may have gone.
        let _ = request.reply.send(answer);
    }

    /// Follows the stages of a shutdown, and publishes them.
    fn follow_life(&mut self, now: Instant) {
        self.life.set_endpoints(now, self.colibri.endpoint_count());
        let stage = self.life.stage();
        if stage != self.announced {
            tracing::info!(stage = stage.name(), endpoints = self.colibri.endpoint_count(), "shutdown stage changed");
            self.announced = stage;
            self.colibri.set_graceful_shutdown(stage != Stage::Running);
            self.announce();
        }
    }

    /// Leaves the rooms, closes channels, stops the workers.
    async fn say_goodbye(mut self, mut xmpp: mpsc::Receiver<(usize, XmppEvent)>) {
        self.leaving = true;
        self.xmpp.leave();
        self.clients.close_websockets();
        for worker in 0..self.workers.len() {
            self.workers.send(worker, Command::Shutdown);
        }
        // The connections close their streams when the last senders are gone.
        drop(self.xmpp);
        let _ = tokio::time::timeout(GOODBYE, async { while xmpp.recv().await.is_some() {} }).await;
    }
}
