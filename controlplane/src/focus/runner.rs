//! The one task of the focus: its connections, its pages, its folder, and the state machine between them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use super::error::FocusError;
use super::handover::{self, Inherited, Leaving};
use super::http::HttpClients;
use super::kept::Directory;
use super::metrics;
use super::service::{Focus, Input, NodeEvent};
use super::settings::FocusSettings;
use super::visitors::NodeId;
use crate::door::{self, Door};
use crate::rest::{self, ConferenceRequest, FocusRequest};
use crate::upgrade::{BesideHeritage, BesideLoad, BesideRequest, BesideRequests};
use crate::xmpp::{self, CarriedSession, Keeping, SessionFile, XmppCounters, XmppEvent, XmppSender};

/// How often health and statistics are published.
const PUBLISH: Duration = Duration::from_secs(1);
/// What happened on visitor nodes and waits for its turn.
const NODE_EVENTS: usize = 1_000;
/// Requests over HTTP that wait for their turn; further ones are asked to come again.
const HTTP_REQUESTS: usize = 100;
/// Requests of operators that wait for their turn; further ones wait at their door.
const OPERATOR_REQUESTS: usize = 4;

/// How long the connections may take to come to rest.
const REST: Duration = Duration::from_millis(500);
/// How long a server may take to say that it keeps a session.
const KEEP: Duration = Duration::from_secs(2);
/// How long one connection may take to send what waits.
const FLUSH: Duration = Duration::from_millis(300);
/// Who asked over HTTP is answered before a hand-over, if it takes no longer.
const ANSWERS: Duration = Duration::from_secs(2);
/// How long the sessions of another process may take to be resumed. Until then nothing is due: what we would say is lost.
const RESUMING: Duration = Duration::from_secs(10);

/// Between which processes a focus is handed over.
#[derive(Debug, Default)]
pub struct Handing {
    /// What another process leaves, to be gone on with.
    pub from: Option<BesideHeritage>,
    /// Requests of whoever hands the focus over to another process.
    pub to: Option<BesideRequests>,
}

/// Runs the focus until `shutdown`.
pub async fn run(
    settings: FocusSettings,
    process: rest::Process,
    shutdown: watch::Receiver<bool>,
) -> Result<(), FocusError> {
    run_handing(settings, process, Handing::default(), shutdown).await
}

/// The same for a focus that is handed over: from another process, to another one, or both. Once it is handed over it does nothing more,
/// and waits for the end of the process.
pub async fn run_handing(
    settings: FocusSettings,
    process: rest::Process,
    Handing { from, to }: Handing,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), FocusError> {
    let (runner, pages) = match from {
        None => Runner::fresh(settings, &shutdown).await?,
        Some(heritage) => {
            let taken = tokio::select! {
                taken = heritage.take(async |load| handover::import(&settings, load).await) => taken,
                () = stopped(&mut shutdown) => return Ok(()),
            };
            let Some(inherited) = taken else {
                // Whoever carries out the upgrade says why; it ends the process.
                stopped(&mut shutdown).await;
                return Ok(());
            };
            Runner::inherited(&settings, inherited, &shutdown)
        }
    };
    runner.run(process, pages, to, shutdown).await
}

/// What arrives over connections.
struct Arrivals {
    events: mpsc::Receiver<XmppEvent>,
    node_events: mpsc::Receiver<(NodeId, XmppEvent)>,
}

impl Arrivals {
    /// What happens next, and on which visitor node if not on our own server; nothing when the connection is gone for good.
    async fn next(&mut self) -> Option<(Option<NodeId>, XmppEvent)> {
        tokio::select! {
            event = self.events.recv() => event.map(|event| (None, event)),
            Some((node, event)) = self.node_events.recv() => Some((Some(node), event)),
        }
    }
}

/// Sessions of another process that are not resumed yet, and until when that may take.
struct Resuming {
    waits: Vec<Option<NodeId>>,
    until: Instant,
}

/// What becomes of the focus after a request.
enum Then {
    GoOn,
    /// Another process has begun.
    End,
}

/// A focus at work.
struct Runner {
    focus: Focus,
    arrivals: Arrivals,
    sender: XmppSender,
    nodes: BTreeMap<NodeId, XmppSender>,
    http: HttpClients,
    directory: Option<Directory>,
    /// A duplicate of the pages' socket.
    pages: Option<OwnedFd>,
    /// True from the freeze of an upgrade on: who connects then waits for the process that goes on.
    held: watch::Sender<bool>,
    resuming: Option<Resuming>,
    /// Whoever waits for the focus to have answered those who asked over HTTP, and until when.
    quiescing: Option<(Instant, oneshot::Sender<Vec<String>>)>,
}

/// Beside the connections: what people ask.
struct Questions {
    http: mpsc::Receiver<ConferenceRequest>,
    operators: mpsc::Receiver<FocusRequest>,
}

impl Runner {
    async fn fresh(
        settings: FocusSettings,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<(Self, TcpListener), FocusError> {
        let brewery = settings.brewery.to_string();
        let (directory, session_file, former) = match &settings.state_directory {
            Some(path) => open_state(path).await.map_err(|source| FocusError::State { path: path.clone(), source })?,
            None => (None, None, None),
        };
        let pages = rest::bind(settings.rest_listen).await?;
        let (sender, events) = xmpp::connect_keeping(settings.xmpp.clone(), None, session_file, shutdown.clone());
        let mut focus = Focus::new(settings).map_err(|source| FocusError::Brewery { brewery, source })?;
        if let Some(Err(reason)) = former.map(|former| focus.restore(&former)) {
            tracing::warn!(reason, "the state of the process before cannot be read; its calls begin anew");
        }
        let (nodes, node_events) = connect_nodes(&focus, Vec::new(), shutdown);
        let http = HttpClients::default();
        let arrivals = Arrivals { events, node_events };
        let (quiescing, resuming) = (None, None);
        let duplicate = pages.as_fd().try_clone_to_owned().ok();
        let runner = Self {
            focus,
            arrivals,
            sender,
            nodes,
            http,
            directory,
            pages: duplicate,
            held: watch::Sender::new(false),
            resuming,
            quiescing,
        };
        Ok((runner, pages))
    }

    fn inherited(
        settings: &FocusSettings,
        inherited: Inherited,
        shutdown: &watch::Receiver<bool>,
    ) -> (Self, TcpListener) {
        let Inherited { focus, session, node_sessions, http_requests, pages, mut directory, session_file } = inherited;
        let now = Instant::now();
        let main = session.is_some().then_some(None);
        let resumed_nodes = focus.visitor_nodes().map(|(id, _)| Some(id)).zip(&node_sessions);
        let resumed_nodes = resumed_nodes.filter(|(_, session)| session.is_some()).map(|(id, _)| id);
        let waits = main.into_iter().chain(resumed_nodes).collect();
        let (sender, events) = xmpp::connect_keeping(settings.xmpp.clone(), session, session_file, shutdown.clone());
        let (nodes, node_events) = connect_nodes(&focus, node_sessions, shutdown);
        if let Some(directory) = &mut directory {
            directory.touch(now);
        }
        tracing::info!(conferences = focus.conference_count(), "focus goes on with the conferences of another process");
        let runner = Self {
            focus,
            arrivals: Arrivals { events, node_events },
            sender,
            nodes,
            http: HttpClients::after(http_requests),
            directory,
            pages: pages.as_fd().try_clone_to_owned().ok(),
            held: watch::Sender::new(false),
            resuming: Some(Resuming { waits, until: now + RESUMING }),
            quiescing: None,
        };
        (runner, pages)
    }

    async fn run(
        mut self,
        process: rest::Process,
        listener: TcpListener,
        mut handover: Option<BesideRequests>,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), FocusError> {
        let now = Instant::now();
        let (health, health_seen) = watch::channel(self.focus.health(now));
        let (stats, stats_seen) = watch::channel(self.focus.stats(now));
        let (http_sender, http) = mpsc::channel(HTTP_REQUESTS);
        let (operator_sender, operators) = mpsc::channel(OPERATOR_REQUESTS);
        let mut questions = Questions { http, operators };
        let mut served =
            self.serve(process, listener, (health_seen, stats_seen), (http_sender, operator_sender), &shutdown);
        let mut publish = interval(PUBLISH);
        publish.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let resuming = self.resuming.is_some();
            let due = if resuming { None } else { self.focus.poll_timeout() };
            let keep_due = self.directory.as_ref().and_then(Directory::due);
            let own_due = self.due();
            let mut touched = true;
            tokio::select! {
                () = until(keep_due) => {
                    touched = false;
                    self.store();
                }
                () = until(own_due) => self.handle_due(Instant::now()),
                event = self.arrivals.next() => match event {
                    Some((from, event)) => drop(self.handle_event(from, event)),
                    None => return Ok(()),
                },
                Some(request) = questions.http.recv(), if !resuming => self.ask(request),
                Some(rest::FocusRequest { ask, reply }) = questions.operators.recv() => {
                    // Who hung up does not need to know.
                    let _ = reply.send(self.focus.operate(Instant::now(), SystemTime::now(), ask));
                }
                Some(request) = async { match &mut handover { Some(asked) => asked.next().await, None => std::future::pending().await } } => {
                    touched = false;
                    let Some(asked) = &mut handover else { continue };
                    if let Then::End = self.handle_handover(request, asked, &mut questions).await {
                        // Who still asks here is asked to come again.
                        while questions.http.recv().await.is_some() {}
                        return std::future::pending().await;
                    }
                }
                () = until(due) => self.focus.handle_timeout(Instant::now()),
                _ = publish.tick() => {
                    touched = false;
                    // Not at every stanza: it looks at every conference.
                    replace(&stats, self.focus.stats(Instant::now()));
                }
                ended = &mut served => {
                    let _ = ended;
                    return Ok(());
                }
                () = stopped(&mut shutdown) => {
                    self.end();
                    return Ok(());
                }
            }
            if let Some(directory) = self.directory.as_mut().filter(|_| touched) {
                directory.touch(Instant::now());
            }
            self.send_all();
            self.end_quiesce(Instant::now());
            if self.resuming.is_none() {
                replace(&health, self.focus.health(Instant::now()));
            }
        }
    }

    /// Serves the pages.
    fn serve(
        &self,
        process: rest::Process,
        listener: TcpListener,
        (health, stats): (watch::Receiver<Result<(), String>>, watch::Receiver<Value>),
        (http, operators): (mpsc::Sender<ConferenceRequest>, mpsc::Sender<FocusRequest>),
        shutdown: &watch::Receiver<bool>,
    ) -> JoinHandle<()> {
        let for_metrics = stats.clone();
        let counters: Vec<_> =
            std::iter::once(&self.sender).chain(self.nodes.values()).map(XmppSender::counters).collect();
        let ops = rest::Ops {
            name: "focus".to_owned(),
            health,
            stats,
            metrics: Arc::new(move || {
                let mut families = metrics::families(&for_metrics.borrow());
                families.push(XmppCounters::family(counters.iter().map(AsRef::as_ref)));
                families.push(XmppCounters::carried(counters.iter().map(AsRef::as_ref)));
                families
            }),
            operator: None,
            bandwidth: None,
            doors: Vec::new(),
            process,
        };
        let beside =
            rest::Beside { operators: rest::focus_operator(operators), clients: rest::conference_requests(http) };
        let door = Door::new(door::Name::Pages, listener).held_while(self.held.subscribe());
        tokio::spawn(rest::serve_at(door, ops, beside, shutdown.clone()))
    }

    /// Takes what arrived; whether it says that a connection is at rest.
    fn handle_event(&mut self, from: Option<NodeId>, event: XmppEvent) -> bool {
        let now = Instant::now();
        if matches!(event, XmppEvent::Online { .. } | XmppEvent::Offline { .. }) {
            self.no_longer_resuming(from);
        }
        let input = match (from, event) {
            (_, XmppEvent::Parked) => return true,
            (None, XmppEvent::Online { jid, resumed }) => {
                tracing::info!(%jid, resumed, "focus online");
                Input::Online { resumed, jid: jid.to_string() }
            }
            (None, XmppEvent::Offline { reason }) => {
                tracing::warn!(reason, "focus offline");
                Input::Offline
            }
            (None, XmppEvent::Stanza(stanza)) => Input::Stanza(Box::new(stanza)),
            (Some(node), XmppEvent::Online { resumed, .. }) => Input::Node(node, NodeEvent::Online { resumed }),
            (Some(node), XmppEvent::Offline { .. }) => Input::Node(node, NodeEvent::Offline),
            (Some(node), XmppEvent::Stanza(stanza)) => Input::Node(node, NodeEvent::Stanza(Box::new(stanza))),
        };
        self.focus.handle(now, input);
        false
    }

    fn no_longer_resuming(&mut self, connection: Option<NodeId>) {
        if let Some(resuming) = &mut self.resuming {
            resuming.waits.retain(|waits| *waits != connection);
        }
        self.resuming.take_if(|resuming| resuming.waits.is_empty());
    }

    /// Sends what the focus has to say.
    fn send_all(&mut self) {
        while let Some((node, stanza)) = self.focus.poll_output() {
            match node {
                Some(node) => {
                    if let Some(sender) = self.nodes.get(&node) {
                        sender.send(stanza);
                    }
                }
                None => {
                    if let Some(stanza) = self.http.deliver(stanza) {
                        self.sender.send(stanza);
                    }
                }
            }
        }
    }

    /// Takes a request over HTTP.
    fn ask(&mut self, request: ConferenceRequest) {
        match self.http.begin(request) {
            Ok(request) => self.focus.handle(Instant::now(), Input::Stanza(Box::new(request.into_iq().into()))),
            Err(refused) => self.focus.count(refused),
        }
    }

    /// Writes down what the next process needs, however this one ends.
    fn store(&mut self) {
        if let Some(directory) = &mut self.directory {
            directory.store(|| self.focus.keep());
        }
    }

    /// The process ends.
    fn end(&mut self) {
        if self.directory.is_some() {
            // The next process goes on: nothing is signalled.
            self.store();
            return;
        }
        // The connection stays usable until the sender is dropped.
        self.focus.handle(Instant::now(), Input::Shutdown);
        self.send_all();
    }

    /// When something of a hand-over is due.
    fn due(&self) -> Option<Instant> {
        let resuming = self.resuming.as_ref().map(|resuming| resuming.until);
        resuming.into_iter().chain(self.quiescing.as_ref().map(|(until, _)| *until)).min()
    }

    /// Gives up on sessions that are not resumed in time.
    fn handle_due(&mut self, now: Instant) {
        let Some(late) = self.resuming.take_if(|resuming| resuming.until <= now) else { return };
        for connection in late.waits {
            let input = connection.map_or(Input::Offline, |node| Input::Node(node, NodeEvent::Offline));
            self.focus.handle(now, input);
        }
    }

    async fn handle_handover(
        &mut self,
        request: BesideRequest,
        handover: &mut BesideRequests,
        questions: &mut Questions,
    ) -> Then {
        match request {
            BesideRequest::Quiesce { keep: true, reply } => {
                self.quiescing = Some((Instant::now() + ANSWERS, reply));
            }
            BesideRequest::Quiesce { keep: false, reply } => self.foretell(false, reply),
            BesideRequest::Freeze { reply } => match self.freeze().await {
                Ok(load) => {
                    self.http.put_off();
                    let _ = reply.send(Ok(load));
                    return self.stay_frozen(handover, questions).await;
                }
                Err(why) => {
                    self.thaw().await;
                    let _ = reply.send(Err(why));
                }
            },
            // Nothing to go back to, and nothing to end.
            BesideRequest::Resume { reply } => drop(reply.send(())),
            BesideRequest::Commit { reply } => drop(reply),
        }
        Then::GoOn
    }

    /// Answers who waits for those who asked over HTTP, when they have their answers or it takes too long.
    fn end_quiesce(&mut self, now: Instant) {
        let idle = self.http.is_idle();
        if let Some((_, reply)) = self.quiescing.take_if(|(until, _)| idle || *until <= now) {
            self.foretell(true, reply);
        }
    }

    /// Says which sessions cannot be resumed; `keep` has the servers keep them. A node that is away is connected to anew.
    fn foretell(&self, keep: bool, reply: oneshot::Sender<Vec<String>>) {
        let nodes = self.nodes.iter().filter(|(node, _)| self.focus.is_node_online(**node));
        let nodes = nodes.zip(1..).map(|((_, sender), number)| (format!("visitor node {number} of the focus"), sender));
        let own = ("the focus".to_owned(), &self.sender);
        let all: Vec<_> = std::iter::once(own).chain(nodes).map(|(name, sender)| (name, sender.clone())).collect();
        tokio::spawn(async move {
            let mut not_resumed = Vec::new();
            for (name, sender) in all {
                let kept = timeout(KEEP, async { if keep { sender.keep().await } else { sender.would_keep().await } });
                if kept.await != Ok(Keeping::Kept) {
                    not_resumed.push(name);
                }
            }
            let _ = reply.send(not_resumed);
        });
    }

    /// Comes to rest: what was asked is answered or written down.
    async fn freeze(&mut self) -> Result<BesideLoad, String> {
        let busy = |_| format!("the focus' connections did not come to rest within {} ms", REST.as_millis());
        self.held.send_replace(true);
        let deadline = Instant::now() + REST;
        let mut reading = 0;
        for sender in std::iter::once(&self.sender).chain(self.nodes.values()) {
            reading += usize::from(sender.park().await);
        }
        while reading > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some((from, event)) = timeout(left, self.arrivals.next()).await.map_err(busy)? else {
                return Err("the focus has lost its connection".to_owned());
            };
            reading -= usize::from(self.handle_event(from, event));
            self.send_all();
        }
        if self.resuming.is_some() {
            return Err("the focus has not gone on yet since the last upgrade".to_owned());
        }
        let session = exported(&self.sender).await?;
        let mut node_sessions = Vec::new();
        for sender in self.nodes.values() {
            node_sessions.push(exported(sender).await?);
        }
        let duplicate = |socket: &OwnedFd| socket.try_clone().map_err(|error| error.to_string());
        let pages = duplicate(self.pages.as_ref().ok_or("the socket of the focus' pages cannot be handed over")?)?;
        let lock = self.directory.as_ref().map(Directory::lock).transpose().map_err(|error| error.to_string())?;
        let http_requests = self.http.count();
        handover::export(Instant::now(), &self.focus, Leaving { session, node_sessions, http_requests, pages, lock })
    }

    /// Nothing happens any more but what whoever hands over asks for. Who asks over HTTP is asked to come again: another process answers.
    async fn stay_frozen(&mut self, handover: &mut BesideRequests, questions: &mut Questions) -> Then {
        loop {
            tokio::select! {
                Some(request) = questions.http.recv() => drop(request),
                request = handover.next() => match request {
                    Some(BesideRequest::Commit { reply }) => {
                        for sender in std::iter::once(&self.sender).chain(self.nodes.values()) {
                            sender.abandon().await;
                        }
                        tracing::info!("focus ends: another process goes on with its conferences");
                        let _ = reply.send(());
                        return Then::End;
                    }
                    Some(BesideRequest::Resume { reply }) => {
                        self.thaw().await;
                        let _ = reply.send(());
                        return Then::GoOn;
                    }
                    Some(BesideRequest::Freeze { reply }) => drop(reply.send(Err("the focus is frozen already".to_owned()))),
                    Some(BesideRequest::Quiesce { reply, .. }) => drop(reply.send(Vec::new())),
                    None => {
                        self.thaw().await;
                        return Then::GoOn;
                    }
                },
            }
        }
    }

    async fn thaw(&mut self) {
        self.held.send_replace(false);
        for sender in std::iter::once(&self.sender).chain(self.nodes.values()) {
            sender.resume().await;
        }
    }
}

/// What another process needs to go on with a session.
async fn exported(sender: &XmppSender) -> Result<Option<CarriedSession>, String> {
    let late = |_| format!("a connection of the focus did not send what waits within {} ms", FLUSH.as_millis());
    timeout(FLUSH, sender.export()).await.map_err(late)
}

/// Completes once the focus is to end.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn replace<T: PartialEq>(published: &watch::Sender<T>, new: T) {
    published.send_if_modified(|old| {
        let changed = *old != new;
        *old = new;
        changed
    });
}

/// What is left of the process before: the folder, its XMPP session, and its state.
async fn open_state(path: &Path) -> std::io::Result<(Option<Directory>, Option<SessionFile>, Option<String>)> {
    let directory = Directory::open(path).await?;
    let (session, former) = (directory.session_file()?, directory.load()?);
    Ok((Some(directory), Some(session), former))
}

/// Connects to the visitor nodes, and goes on with sessions of another process; what happens there comes by one queue.
fn connect_nodes(
    focus: &Focus,
    sessions: Vec<Option<CarriedSession>>,
    shutdown: &watch::Receiver<bool>,
) -> (BTreeMap<NodeId, XmppSender>, mpsc::Receiver<(NodeId, XmppEvent)>) {
    let (events, received) = mpsc::channel(NODE_EVENTS);
    let mut senders = BTreeMap::new();
    let sessions = sessions.into_iter().chain(std::iter::repeat(None));
    for ((id, node), session) in focus.visitor_nodes().zip(sessions) {
        let (sender, mut of_node) = xmpp::connect_from(node.xmpp.clone(), session, shutdown.clone());
        senders.insert(id, sender);
        let events = events.clone();
        tokio::spawn(async move {
            while let Some(event) = of_node.recv().await {
                if events.send((id, event)).await.is_err() {
                    return;
                }
            }
        });
    }
    (senders, received)
}
