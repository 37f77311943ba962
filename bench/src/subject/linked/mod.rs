//! Several whole bridges, a process each, that carry one conference and are linked by relays. The benchmark is their focus: in
//! the order of requests it does what Jicofo does, but it need not find out that a bridge is gone.

mod process;
mod signalling;

use tokio_xmpp::minidom::Element;

use self::process::BridgeProcess;
use self::signalling::{ROOM, Side};
use super::SubjectError;
use super::whole::signalling as client_signalling;
use crate::cpu::CpuTime;
use crate::generator::world::{ClientId, World};

/// One bridge.
struct Bridge {
    /// `None` once it has been killed.
    process: Option<BridgeProcess>,
    /// The conference is on it while there are any.
    members: Vec<ClientId>,
}

/// What a bridge is called by the others.
fn relay_id(bridge: usize) -> String {
    format!("bridge-{bridge}")
}

/// What a bridge has used and sent so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// Processor time of the packet path.
    pub workers: CpuTime,
    /// Of the whole process.
    pub process: CpuTime,
    /// RTP to other bridges: packets, bytes.
    pub relayed: (f64, f64),
}

impl Used {
    /// The difference to an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        let (packets, bytes) = earlier.relayed;
        Self {
            workers: self.workers.since(&earlier.workers),
            process: self.process.since(&earlier.process),
            relayed: (self.relayed.0 - packets, self.relayed.1 - bytes),
        }
    }
}

/// The bridges, and their focus.
pub struct Linked {
    bridges: Vec<Bridge>,
}

impl Linked {
    /// Starts so many bridges, whose workers share a core.
    pub fn start(bridges: usize, core: usize, control_core: usize) -> Result<Self, SubjectError> {
        let start = |n: usize| {
            let process = Some(BridgeProcess::start(&relay_id(n), core, control_core)?);
            Ok(Bridge { process, members: Vec::new() })
        };
        Ok(Self { bridges: (0..bridges).map(start).collect::<Result<_, SubjectError>>()? })
    }

    /// Clients of a bridge.
    pub fn members(&self, bridge: usize) -> &[ClientId] {
        &self.bridges[bridge].members
    }

    /// Bridges other than this one that carry the conference.
    fn others(&self, bridge: usize) -> Vec<usize> {
        let carries = |other: &usize| !self.members(*other).is_empty();
        (0..self.bridges.len()).filter(|other| *other != bridge).filter(carries).collect()
    }

    /// Asks a bridge something, and waits for the answer while the world goes on.
    fn ask(
        &mut self,
        world: &mut World,
        bridge: usize,
        request: Result<Element, String>,
    ) -> Result<Element, SubjectError> {
        let request = request.map_err(SubjectError::Missing)?;
        let killed = || SubjectError::Missing(format!("bridge {bridge} has been killed"));
        self.bridges[bridge].process.as_mut().ok_or_else(killed)?.ask(world, &request)
    }

    /// Brings a client in on a bridge; the others learn of it, and are linked where they are not.
    pub fn join(&mut self, world: &mut World, client: ClientId, bridge: usize) -> Result<(), SubjectError> {
        let first = self.members(bridge).is_empty();
        let request = client_signalling::create(ROOM, client, first);
        let answer = self.ask(world, bridge, request)?;
        let (remote, _) = client_signalling::read(&answer).map_err(SubjectError::Missing)?;
        let (numbers, streams) = (world.numbers_of(client), world.streams_of(client));
        world.place(client, bridge);
        world.set_remote(client, remote, false);
        let update = world.describe(client, |local| client_signalling::update(ROOM, client, local, numbers, &streams));
        self.ask(world, bridge, update)?;
        self.bridges[bridge].members.push(client);
        for other in self.others(bridge) {
            if first {
                self.link(world, other, bridge)?;
            } else {
                let request = signalling::announce(&relay_id(bridge), world, &[client]);
                self.ask(world, other, request)?;
            }
        }
        Ok(())
    }

    /// Links the bridge that was there first with another one.
    fn link(&mut self, world: &mut World, initiator: usize, follower: usize) -> Result<(), SubjectError> {
        let ends = [(initiator, Side::Initiator, follower), (follower, Side::Follower, initiator)];
        let mut answers = Vec::new();
        for (bridge, side, other) in ends {
            let request = signalling::create(&relay_id(other), side, world, self.members(other));
            answers.push(self.ask(world, bridge, request)?);
        }
        for ((bridge, side, other), answer) in ends.into_iter().zip(answers.iter().rev()) {
            let request = signalling::connect(&relay_id(other), side, answer);
            self.ask(world, bridge, request)?;
        }
        Ok(())
    }

    /// Lets the clients of a bridge want so many videos; -1 is all.
    pub fn want_videos(&mut self, world: &mut World, bridge: usize, most: i32) -> Result<(), SubjectError> {
        for client in self.bridges[bridge].members.clone() {
            self.ask(world, bridge, signalling::last_n(client, most))?;
        }
        Ok(())
    }

    /// Ends a bridge as a crash would; returns who was on it.
    pub fn kill(&mut self, bridge: usize) -> Vec<ClientId> {
        let Bridge { process, members } = &mut self.bridges[bridge];
        *process = None;
        std::mem::take(members)
    }

    /// Informs the others that a bridge is gone, and brings those who were on it to where the fewest are.
    pub fn heal(&mut self, world: &mut World, gone: usize, moved: &[ClientId]) -> Result<(), SubjectError> {
        let left = self.others(gone);
        for bridge in &left {
            self.ask(world, *bridge, signalling::expire(&relay_id(gone)))?;
        }
        for client in moved {
            let fewest = left.iter().copied().min_by_key(|bridge| self.members(*bridge).len());
            let to = fewest.ok_or_else(|| SubjectError::Missing("no bridge is left".into()))?;
            world.renew(*client);
            self.join(world, *client, to)?;
        }
        Ok(())
    }

    /// What a bridge has used and sent so far; nothing, if it has been killed.
    pub fn used(&self, bridge: usize) -> Result<Used, SubjectError> {
        let Some(process) = &self.bridges[bridge].process else { return Ok(Used::default()) };
        let (workers, whole) = process.cpu()?;
        let relayed =
            (process.metric("ringbridge_relay_packets_sent")?, process.metric("ringbridge_relay_bytes_sent")?);
        Ok(Used { workers, process: whole, relayed })
    }
}
