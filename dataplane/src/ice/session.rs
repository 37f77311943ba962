//! The ICE agents of one endpoint: the one that carries media and, around a restart in place (RFC 8445 section 9), one more.
//!
//! Make before break: a restart begins with a second agent that has credentials of its own, while the first one goes on as if
//! nothing happened. Once a pair of the second is nominated, media moves there, and the first one answers what is still on its
//! way for a short while. Never more than two agents are alive.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};

use crate::datagram::{PacketSink, Path};

use super::agent::{Agent, AgentConfig, AgentEvent, Context};
use super::drops::DropReason;
use super::signalling::{IceCredentials, RemoteCandidate};
use super::stun::{Class, Message};

/// How long a restart may take, from the request until a pair is nominated. The way of the credentials to the client and back is
/// part of it, and the client's network may just have changed.
pub const RESTART_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the former agent still answers after a restart: what was sent to it before is on its way.
pub const TRANSITION: Duration = Duration::from_secs(3);

/// What the owner of the session must do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionEvent {
    /// As of one agent; of several, paths are learnt when the first learns them, and forgotten when the last forgets them.
    Agent(AgentEvent),
    /// A restart succeeded; follows [`AgentEvent::Connected`] of the new agent.
    Restarted {
        /// The number that it was begun with.
        generation: u32,
    },
    /// A restart did not succeed in time; what was before goes on.
    Abandoned {
        /// The number that it was begun with.
        generation: u32,
    },
    /// Nobody answers to this ufrag of ours any more.
    Released {
        /// The ufrag.
        ufrag: String,
    },
}

/// An agent that is not in use yet.
#[derive(Serialize, Deserialize)]
struct Restart {
    generation: u32,
    agent: Agent,
    #[serde(with = "crate::carry::checked")]
    deadline: Instant,
}

/// An agent that is not in use any more.
#[derive(Serialize, Deserialize)]
struct Former {
    agent: Agent,
    #[serde(with = "crate::carry::checked")]
    until: Instant,
}

/// One endpoint's ICE agents.
#[derive(Serialize, Deserialize)]
pub struct Session {
    current: Agent,
    /// Number of the restart that made it; 0 for the first one.
    generation: u32,
    // Boxed: hardly any endpoint has one, and every worker looks through its endpoints for each packet.
    restart: Option<Box<Restart>>,
    former: Option<Box<Former>>,
    events: VecDeque<SessionEvent>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("current", &self.current)
            .field("restart", &self.restart.as_ref().map(|restart| (restart.generation, &restart.agent)))
            .field("former", &self.former.as_ref().map(|former| &former.agent))
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session with one agent.
    pub fn new(agent: Agent) -> Self {
        Self { current: agent, generation: 0, restart: None, former: None, events: VecDeque::new() }
    }

    /// Where packets go; `None` without a valid pair.
    pub fn selected(&self) -> Option<Path> {
        self.current.selected()
    }

    /// Whether the peer's end of a path is a relayed (TURN) candidate, as far as was signalled.
    pub fn is_relayed(&self, path: Path) -> bool {
        self.current.is_relayed(path)
    }

    /// Every ufrag that one of the agents answers to: two at most.
    pub fn local_ufrags(&self) -> impl Iterator<Item = &str> {
        self.agents().map(Agent::local_ufrag)
    }

    /// Every path that was reported as learnt and not forgotten since: to be removed with the endpoint. One may occur twice.
    pub fn learnt_paths(&self) -> impl Iterator<Item = Path> + '_ {
        self.agents().flat_map(Agent::learnt_paths)
    }

    fn agents(&self) -> impl Iterator<Item = &Agent> {
        let others = [self.restart.as_ref().map(|r| &r.agent), self.former.as_ref().map(|f| &f.agent)];
        std::iter::once(&self.current).chain(others.into_iter().flatten())
    }

    /// Sets credentials of the peer and candidates of the agent in use, see [`Agent::set_remote`].
    pub fn set_remote(&mut self, now: Instant, credentials: Option<IceCredentials>, candidates: &[RemoteCandidate]) {
        self.current.set_remote(now, credentials, candidates);
        self.collect(now);
    }

    /// Begins a restart under new credentials of ours; generations count up from 1. One that is under way is given up for it, and
    /// the former agent of an earlier one is let go. False, and nothing changes, when that restart is under way or done.
    pub fn restart(&mut self, now: Instant, generation: u32, local: IceCredentials, random: &SystemRandom) -> bool {
        let under_way = self.restart.as_ref().is_some_and(|restart| restart.generation == generation);
        if under_way || generation <= self.generation {
            return false;
        }
        if let Some(restart) = self.restart.take() {
            self.release(restart.agent);
        }
        if let Some(former) = self.former.take() {
            self.release(former.agent);
        }
        let config = AgentConfig { local, controlling: self.current.controlling(), ..self.current.config().clone() };
        let agent = Agent::new(config, random);
        self.restart = Some(Box::new(Restart { generation, agent, deadline: now + RESTART_TIMEOUT }));
        true
    }

    /// What the peer said for the restart of that number: its credentials start the checks, and count once. False when no such
    /// restart is under way, or the credentials came a second time.
    pub fn answer_restart(
        &mut self,
        now: Instant,
        generation: u32,
        credentials: Option<IceCredentials>,
        candidates: &[RemoteCandidate],
    ) -> bool {
        let Some(restart) = self.restart.as_mut().filter(|restart| restart.generation == generation) else {
            return false;
        };
        let again = credentials.is_some() && restart.agent.has_remote();
        restart.agent.set_remote(now, credentials.filter(|_| !again), candidates);
        self.collect(now);
        !again
    }

    /// Takes a STUN message that the demultiplexer found to be this endpoint's. True when it was authentic: a sign of life.
    pub fn handle_message<S: PacketSink>(
        &mut self,
        now: Instant,
        path: Path,
        message: &Message<'_>,
        cx: &mut Context<'_, S>,
    ) -> bool {
        let agent = match (message.class(), message.ufrags()) {
            (Class::Request, Some((ufrag, _))) => self.agent_mut(|agent| agent.local_ufrag().as_bytes() == ufrag),
            (Class::Success | Class::Error, _) => self.agent_mut(|agent| agent.awaits(path, message)),
            _ => None,
        };
        let Some(agent) = agent else {
            match message.class() {
                Class::Request => cx.stats.count_drop(DropReason::UnknownUfrag),
                Class::Success | Class::Error => cx.stats.count_drop(DropReason::UnknownTransaction),
                Class::Indication => {}
            }
            return false;
        };
        let authentic = agent.handle_message(now, path, message, cx);
        self.collect(now);
        authentic
    }

    fn agent_mut(&mut self, is_meant: impl Fn(&Agent) -> bool) -> Option<&mut Agent> {
        let others = [self.restart.as_mut().map(|r| &mut r.agent), self.former.as_mut().map(|f| &mut f.agent)];
        std::iter::once(&mut self.current).chain(others.into_iter().flatten()).find(|agent| is_meant(agent))
    }

    /// Lets time pass; see [`Agent::handle_timeout`].
    pub fn handle_timeout<S: PacketSink>(&mut self, now: Instant, cx: &mut Context<'_, S>) {
        self.current.handle_timeout(now, cx);
        if let Some(restart) = &mut self.restart {
            restart.agent.handle_timeout(now, cx);
        }
        self.collect(now);
        if let Some(restart) = self.restart.take_if(|restart| restart.deadline <= now) {
            self.release(restart.agent);
            self.events.push_back(SessionEvent::Abandoned { generation: restart.generation });
        }
        if let Some(former) = self.former.take_if(|former| former.until <= now) {
            self.release(former.agent);
        }
    }

    /// When [`Self::handle_timeout`] is due; `None` when only input can change anything.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let restart = self.restart.as_ref().map(|r| r.agent.poll_timeout().map_or(r.deadline, |at| at.min(r.deadline)));
        let former = self.former.as_ref().map(|former| former.until);
        [self.current.poll_timeout(), restart, former].into_iter().flatten().min()
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// The owner has no room for a path that was learnt: a pair that nothing can be received over must not be chosen.
    pub fn refuse(&mut self, path: Path) {
        self.current.refuse(path);
        if let Some(restart) = &mut self.restart {
            restart.agent.refuse(path);
        }
    }

    /// Takes what the agents report, and moves to the new one when it is ready.
    fn collect(&mut self, now: Instant) {
        while let Some(event) = self.current.poll_event() {
            self.pass_on(event);
        }
        // The agents that carry nothing report only addresses.
        let is_address = |event: &AgentEvent| matches!(event, AgentEvent::Learnt { .. } | AgentEvent::Forgotten { .. });
        let mut addresses = VecDeque::new();
        let others = [self.restart.as_mut().map(|r| &mut r.agent), self.former.as_mut().map(|f| &mut f.agent)];
        for agent in others.into_iter().flatten() {
            addresses.extend(std::iter::from_fn(|| agent.poll_event()).filter(is_address));
        }
        for event in addresses {
            self.pass_on(event);
        }
        // A relayed pair is nominated only when no better one turns up in time; media need not wait for that.
        let nothing_to_lose = self.current.selected().is_none();
        let goes_now = |agent: &Agent| agent.selected().is_some_and(|path| nothing_to_lose || agent.is_relayed(path));
        let ready = |agent: &Agent| agent.is_settled() || goes_now(agent);
        let Some(restart) = self.restart.take_if(|restart| ready(&restart.agent)) else { return };
        let mut former = std::mem::replace(&mut self.current, restart.agent);
        former.retire();
        self.generation = restart.generation;
        self.former = Some(Box::new(Former { agent: former, until: now + TRANSITION }));
        if let Some(path) = self.current.selected() {
            self.events.push_back(SessionEvent::Agent(AgentEvent::Connected { path }));
        }
        self.events.push_back(SessionEvent::Restarted { generation: restart.generation });
    }

    fn pass_on(&mut self, event: AgentEvent) {
        match event {
            AgentEvent::Forgotten { path } if self.learnt_paths().any(|known| known == path) => {}
            event => self.events.push_back(SessionEvent::Agent(event)),
        }
    }

    /// Lets go of an agent that is none of the session's any more.
    fn release(&mut self, agent: Agent) {
        for path in agent.learnt_paths() {
            self.pass_on(AgentEvent::Forgotten { path });
        }
        self.events.push_back(SessionEvent::Released { ufrag: agent.local_ufrag().to_owned() });
    }
}
