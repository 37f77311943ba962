//! The bridge on its way to another process: at rest, written down, and then at an end or as before; and the other way round.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::quiesce::{Quiesce, Then};
use super::{Actor, Inputs, RETRY};
use crate::bridge::handover::{
    Affected, BridgeState, HandoverRequest, Outlook, Parts, Takeover, counted, go_on_counting,
};
use crate::bridge::handover_error::HandoverError;
use crate::bridge::pending::Pending;
use crate::channel::keeper::{self, CarriedKeeper, KeptSessions};
use crate::colibri::bridge::ColibriBridge;
use crate::xmpp::{CarriedSession, Keeping, XmppEvent, XmppSender};

/// How long XMPP connections and workers may take to come to rest.
const REST: Duration = Duration::from_millis(500);
/// How long a server may take to say that it keeps a session.
const KEEP: Duration = Duration::from_secs(2);
/// How long one connection may take to send what waits.
const FLUSH: Duration = Duration::from_millis(300);

impl Actor {
    pub(super) async fn handle_handover(&mut self, request: HandoverRequest, inputs: &mut Inputs) -> Then {
        match request {
            HandoverRequest::Outlook { reply } => self.foretell(false, reply),
            HandoverRequest::Quiesce { patience, reply } => {
                self.quiescing = Some(Quiesce::new(Instant::now() + patience, reply));
            }
            HandoverRequest::Freeze { reply } => match self.freeze(inputs).await {
                Ok(()) => {
                    let _ = reply.send(Ok(()));
                    return self.stay_frozen(inputs).await;
                }
                Err(error) => {
                    self.xmpp.resume().await;
                    let _ = reply.send(Err(error));
                }
            },
            HandoverRequest::Export { reply } => {
                let _ = reply.send(Err(HandoverError::OutOfTurn("it is not frozen")));
            }
            HandoverRequest::Keepers { reply } => {
                let _ = reply.send(Err(HandoverError::OutOfTurn("it is not frozen")));
            }
            // Nothing to go back to, and nothing to end.
            HandoverRequest::Resume { reply } => drop(reply.send(())),
            HandoverRequest::Commit { reply } => drop(reply),
        }
        Then::GoOn
    }

    /// Answers who waits for handshakes, when none is under way any more or it takes too long.
    pub(super) fn end_quiesce(&mut self, now: Instant) {
        let due = |quiesce: &mut Quiesce| quiesce.until() <= now || self.clients.handshakes().next().is_none();
        if let Some(quiesce) = self.quiescing.take_if(due) {
            self.foretell(true, quiesce.into_reply());
        }
    }

    /// Says what would be lost; `keep` has the XMPP servers keep their sessions.
    fn foretell(&self, keep: bool, reply: oneshot::Sender<Outlook>) {
        let mut outlook = self.outlook();
        let connections: Vec<(String, XmppSender)> = self.xmpp.senders();
        tokio::spawn(async move {
            for (id, sender) in connections {
                let kept = timeout(KEEP, async { if keep { sender.keep().await } else { sender.would_keep().await } });
                if kept.await != Ok(Keeping::Kept) {
                    outlook.not_resumed.push(id);
                }
            }
            let _ = reply.send(outlook);
        });
    }

    fn outlook(&self) -> Outlook {
        let name = |id| {
            let meeting = self.colibri.meeting_of(id).unwrap_or_default().to_owned();
            Affected { meeting, name: self.clients.name_of(id).unwrap_or_default() }
        };
        let (mut handshakes, mut data_channels): (Vec<_>, Vec<_>) =
            (self.clients.handshakes().map(name).collect(), self.clients.staying().map(name).collect());
        handshakes.sort_unstable();
        data_channels.sort_unstable();
        Outlook {
            conferences: self.colibri.conference_count(),
            endpoints: self.clients.len(),
            relays: self.clients.relay_count(),
            handshakes,
            data_channels,
            keepers: self.keepers.len(),
            not_resumed: Vec::new(),
        }
    }

    /// Comes to rest: what was asked is answered, and what the workers are to do they were given.
    async fn freeze(&mut self, inputs: &mut Inputs) -> Result<(), HandoverError> {
        let deadline = Instant::now() + REST;
        let mut reading = self.xmpp.park().await;
        while reading > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let busy = HandoverError::Busy { what: "an XMPP connection", within: REST };
            match timeout(left, inputs.xmpp.recv()).await {
                Ok(Some((_, XmppEvent::Parked))) => reading -= 1,
                Ok(Some((connection, event))) => self.handle_xmpp(connection, event),
                Ok(None) => return Err(HandoverError::Ended),
                Err(_) => return Err(busy),
            }
        }
        while let Ok(event) = inputs.channel.try_recv() {
            self.handle_channel(event);
        }
        while let Ok(request) = inputs.operator.try_recv() {
            self.handle_operator(request);
        }
        self.settle();
        while self.workers.backlog() {
            if Instant::now() >= deadline {
                return Err(HandoverError::Busy { what: "a worker", within: REST });
            }
            sleep(RETRY).await;
            self.workers.retry();
        }
        Ok(())
    }

    /// Nothing happens any more but what whoever hands over asks for.
    async fn stay_frozen(&mut self, inputs: &mut Inputs) -> Then {
        // This process' end of a socket to the new one, if it stays as the end of data channels.
        let mut stays: Option<OwnedFd> = None;
        loop {
            match inputs.handover.recv().await {
                Some(HandoverRequest::Export { reply }) => {
                    let state = self.export().await;
                    let _ = reply.send(state);
                }
                Some(HandoverRequest::Keepers { reply }) => {
                    let _ = reply.send(self.keeper_sockets(&mut stays));
                }
                Some(HandoverRequest::Commit { reply }) => {
                    let kept = stays.take().map(|socket| {
                        let counters = self.clients.outside().1;
                        KeptSessions::new(socket, self.clients.leave_sessions(), counters)
                    });
                    self.clients.leave_websockets();
                    self.xmpp.abandon().await;
                    tracing::info!("bridge ends: another process goes on with its conferences");
                    let _ = reply.send(kept);
                    return Then::End;
                }
                Some(HandoverRequest::Resume { reply }) => {
                    self.thaw().await;
                    let _ = reply.send(());
                    return Then::GoOn;
                }
                Some(HandoverRequest::Freeze { reply }) => {
                    let _ = reply.send(Err(HandoverError::OutOfTurn("it is frozen already")));
                }
                Some(HandoverRequest::Outlook { reply } | HandoverRequest::Quiesce { reply, .. }) => {
                    let _ = reply.send(self.outlook());
                }
                None => {
                    self.thaw().await;
                    return Then::GoOn;
                }
            }
        }
    }

    /// The sockets of the keepers, with that of this process if it is to be one more.
    fn keeper_sockets(&self, stays: &mut Option<OwnedFd>) -> Result<Vec<OwnedFd>, HandoverError> {
        let wrong = |error: std::io::Error| HandoverError::Sockets(error.to_string());
        let mut sockets = self.keepers.sockets().map_err(wrong)?;
        *stays = None;
        if self.stays() {
            let (own, other) = keeper::pair().map_err(wrong)?;
            *stays = Some(own);
            sockets.push(other);
        }
        Ok(sockets)
    }

    /// Whether this process has data channels that it has to stay for.
    fn stays(&self) -> bool {
        self.clients.staying().next().is_some()
    }

    async fn thaw(&mut self) {
        self.workers.hold(false);
        self.xmpp.resume().await;
    }

    /// Takes in what the suspended workers reported last, and writes everything down.
    async fn export(&mut self) -> Result<BridgeState, HandoverError> {
        self.workers.hold(true);
        let mut events = Vec::new();
        loop {
            self.workers.take_events(&mut events);
            if events.is_empty() {
                break;
            }
            let now = Instant::now();
            for event in events.drain(..) {
                self.handle_worker(now, event);
            }
        }
        self.settle();
        let mut sessions = Vec::new();
        for (_, sender) in self.xmpp.senders() {
            let session = timeout(FLUSH, sender.export()).await;
            sessions.push(session.map_err(|_| HandoverError::Busy { what: "an XMPP connection", within: FLUSH })?);
        }
        let now = Instant::now();
        BridgeState::write(now, &self.parts(now, sessions)?)
    }

    fn parts(&self, now: Instant, sessions: Vec<Option<CarriedSession>>) -> Result<Parts, HandoverError> {
        let Self {
            // Settings of the process.
            region: _,
            relay_id: _,
            shutdown_over_xmpp: _,
            chosen_by: _,
            // Where this process publishes, and what it reaches.
            publish: _,
            dialler: _,
            // What a process finds out about its host.
            load: _,
            probe: _,
            addresses: _,
            discovery: _,
            // Follows the stage.
            announced: _,
            // Of a bridge that is not handed over.
            leaving: _,
            quiescing: _,
            // Of all processes.
            upgrades: _,
            #[cfg(debug_assertions)]
                unchecked: _,
            keepers,
            colibri,
            clients,
            workers,
            xmpp,
            life,
            started,
            traffic,
            reported,
        } = self;
        let own = keepers.next();
        let mut kept_by = keepers.carried();
        if self.stays() {
            kept_by.push(CarriedKeeper { number: own, waiting: Vec::new(), partial: None });
        }
        Ok(Parts {
            colibri: colibri.export(now)?,
            certificate: clients.certificate(),
            clients: clients.state(own),
            xmpp: xmpp.state(sessions),
            life: life.state(),
            started: started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            traffic: *traffic,
            reported: *reported,
            channel_counters: clients.channel_counts(),
            worker_counters: counted(workers.stats()),
            pending: Pending::new(workers.waiting()),
            keepers: kept_by,
        })
    }

    /// Goes on where another process was, before anything else happened to this bridge.
    pub(super) fn take_over(&mut self, now: Instant, takeover: &Takeover) -> Result<(), HandoverError> {
        let config = self.colibri.config().clone();
        let outside = self.clients.outside();
        self.colibri = ColibriBridge::import(now, config, &takeover.parts.colibri)?;
        let (keepers, lines) = takeover.keepers()?;
        self.keepers = keepers;
        self.clients = takeover.clients(now, outside, &self.colibri, &lines)?;
        let parts = takeover.parts.clone();
        let Parts {
            colibri: _,
            certificate: _,
            clients: _,
            xmpp,
            life,
            started,
            traffic,
            reported,
            channel_counters,
            worker_counters,
            pending,
            keepers: _,
        } = parts;
        self.clients.go_on_counting(&channel_counters);
        for (stats, before) in self.workers.stats().zip(&worker_counters) {
            go_on_counting(stats, before);
        }
        self.xmpp.take_over(now, xmpp);
        self.life.take_over(life);
        self.started = SystemTime::UNIX_EPOCH.checked_add(started).unwrap_or(self.started);
        (self.traffic, self.reported) = (traffic, reported.min(now));
        for (worker, command) in pending.into_commands() {
            self.workers.send(worker, command);
        }
        self.clients.begin_handshakes(now);
        tracing::info!(
            conferences = self.colibri.conference_count(),
            endpoints = self.clients.len(),
            "bridge goes on with the conferences of another process"
        );
        Ok(())
    }
}
