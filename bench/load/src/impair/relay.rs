//! Relays: one UDP port per impaired participant, a link in each direction, and the loop that moves datagrams.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use serde::Serialize;

use super::figures::Report;
use super::link::Link;
use super::settings::{Command, SettingError};

/// Addresses of one participant's side that are remembered; a browser uses one or two.
const MOST_FLOWS: usize = 32;
const LARGEST_DATAGRAM: usize = 65_536;
/// Datagrams read from one socket before others have their turn.
const BATCH: usize = 64;

/// What a relay moves: which flow, and the datagram.
type Datagram = (usize, Vec<u8>);

/// One impaired participant: its port, and a socket towards the bridge for each of its addresses, like a NAT.
struct Relay {
    port: UdpSocket,
    flows: Vec<Flow>,
    up: Link<Datagram>,
    down: Link<Datagram>,
    refused: u64,
}

struct Flow {
    participant: SocketAddr,
    bridge: UdpSocket,
}

/// A line of the report.
#[derive(Debug, Serialize)]
struct Line {
    /// Seconds since the start.
    at: f64,
    /// Number of the relay.
    relay: usize,
    /// From the participant to the bridge.
    up: Report,
    /// From the bridge to the participant.
    down: Report,
    /// Datagrams of addresses beyond those that are remembered.
    refused: u64,
}

/// The relays of one process, and the commands that wait for their time.
pub struct Relays {
    bridge: SocketAddr,
    relays: Vec<Relay>,
    /// In the order of their times.
    script: VecDeque<Command>,
    start: Instant,
    buffer: Vec<u8>,
}

fn would_block(error: &io::Error) -> bool {
    // A port that nobody listens on comes back as a refusal; for a relay that is a lost packet.
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused | ErrorKind::Interrupted)
}

impl Relays {
    /// Opens `count` relays on `listen`, with consecutive ports from its port on, or any ports when that is 0.
    pub fn open(bridge: SocketAddr, listen: SocketAddr, count: usize, seed: u64, now: Instant) -> io::Result<Self> {
        let relays = (0..count)
            .map(|number| {
                let port = match listen.port() {
                    0 => 0,
                    first => u16::try_from(usize::from(first) + number)
                        .map_err(|_| io::Error::new(ErrorKind::InvalidInput, "ports beyond 65535"))?,
                };
                let socket = UdpSocket::bind((listen.ip(), port))?;
                socket.set_nonblocking(true)?;
                let seed = seed.wrapping_add(2 * number as u64);
                Ok(Relay {
                    port: socket,
                    flows: Vec::new(),
                    up: Link::new(now, seed),
                    down: Link::new(now, seed.wrapping_add(1)),
                    refused: 0,
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self { bridge, relays, script: VecDeque::new(), start: now, buffer: vec![0; LARGEST_DATAGRAM] })
    }

    /// Addresses that participants send to instead of the bridge's.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.relays.iter().map(|relay| relay.port.local_addr()).collect()
    }

    /// Takes commands; those whose time has come take effect at the next `step`.
    pub fn schedule(&mut self, now: Instant, commands: Vec<Command>) -> Result<(), SettingError> {
        for mut command in commands {
            // Checked here, so that whoever wrote it hears of it now.
            for patch in [&command.both, &command.up, &command.down].into_iter().flatten() {
                patch.apply(&mut Default::default())?;
            }
            if let Some(relay) = command.relay
                && relay >= self.relays.len()
            {
                let max = self.relays.len().saturating_sub(1) as f64;
                return Err(SettingError::Range { name: "relay", value: relay as f64, min: 0.0, max });
            }
            command.at = command.at.max((now - self.start).as_secs_f64());
            let place = self.script.partition_point(|other| other.at <= command.at);
            self.script.insert(place, command);
        }
        Ok(())
    }

    fn obey(&mut self, now: Instant) -> Result<(), SettingError> {
        let elapsed = (now - self.start).as_secs_f64();
        while self.script.front().is_some_and(|command| command.at <= elapsed) {
            let Some(command) = self.script.pop_front() else { break };
            for (number, relay) in self.relays.iter_mut().enumerate() {
                if command.relay.is_some_and(|only| only != number) {
                    continue;
                }
                for (link, own) in [(&mut relay.up, &command.up), (&mut relay.down, &command.down)] {
                    for patch in [&command.both, own].into_iter().flatten() {
                        link.change(now, patch)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        let links = self.relays.iter().flat_map(|relay| [relay.up.next_timeout(), relay.down.next_timeout()]);
        let command = self.script.front().map(|command| self.start + Duration::from_secs_f64(command.at));
        links.chain([command]).flatten().min()
    }

    /// Sleeps until something can be done, at the latest at `until`; true when `input` can be read.
    pub fn wait(&self, until: Instant, input: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        let until = self.next_timeout().map_or(until, |at| at.min(until));
        let sockets = self
            .relays
            .iter()
            .flat_map(|relay| std::iter::once(&relay.port).chain(relay.flows.iter().map(|flow| &flow.bridge)))
            .map(AsFd::as_fd);
        let mut fds: Vec<PollFd<'_>> =
            input.into_iter().chain(sockets).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let timeout = until.saturating_duration_since(Instant::now());
        match ppoll(&mut fds, Some(timeout.into()), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(input.is_some() && fds.first().is_some_and(|fd| fd.any().unwrap_or(false)))
    }

    /// Moves everything that can be moved now.
    pub fn step(&mut self, now: Instant) -> Result<(), Box<dyn std::error::Error>> {
        self.obey(now)?;
        for relay in &mut self.relays {
            relay.read(now, self.bridge, &mut self.buffer)?;
            while let Some((flow, datagram)) = relay.up.poll(now) {
                if let Some(flow) = relay.flows.get(flow) {
                    tolerate(flow.bridge.send(&datagram))?;
                }
            }
            while let Some((flow, datagram)) = relay.down.poll(now) {
                if let Some(flow) = relay.flows.get(flow) {
                    tolerate(relay.port.send_to(&datagram, flow.participant))?;
                }
            }
        }
        Ok(())
    }

    /// Writes one JSON line per relay.
    pub fn report(&mut self, now: Instant, to: &mut impl Write) -> io::Result<()> {
        for (number, relay) in self.relays.iter_mut().enumerate() {
            let line = Line {
                at: ((now - self.start).as_secs_f64() * 1_000.0).round() / 1_000.0,
                relay: number,
                up: relay.up.figures().report(now),
                down: relay.down.figures().report(now),
                refused: relay.refused,
            };
            serde_json::to_writer(&mut *to, &line)?;
            writeln!(to)?;
        }
        to.flush()
    }
}

/// A datagram that a socket does not take is lost, as on any network.
fn tolerate(sent: io::Result<usize>) -> io::Result<()> {
    match sent {
        Err(error) if !would_block(&error) => Err(error),
        _ => Ok(()),
    }
}

impl Relay {
    fn read(&mut self, now: Instant, bridge: SocketAddr, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..BATCH {
            let (length, participant) = match self.port.recv_from(buffer) {
                Ok(received) => received,
                Err(error) if would_block(&error) => break,
                Err(error) => return Err(error),
            };
            match self.flow(participant, bridge)? {
                Some(flow) => self.up.push(now, length, (flow, buffer[..length].to_vec())),
                None => self.refused += 1,
            }
        }
        for (number, flow) in self.flows.iter().enumerate() {
            for _ in 0..BATCH {
                match flow.bridge.recv(buffer) {
                    Ok(length) => self.down.push(now, length, (number, buffer[..length].to_vec())),
                    Err(error) if would_block(&error) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// The flow of a participant's address, made when new; none when there are too many.
    fn flow(&mut self, participant: SocketAddr, bridge: SocketAddr) -> io::Result<Option<usize>> {
        if let Some(known) = self.flows.iter().position(|flow| flow.participant == participant) {
            return Ok(Some(known));
        }
        if self.flows.len() >= MOST_FLOWS {
            return Ok(None);
        }
        let any: SocketAddr = match bridge {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(bridge)?;
        socket.set_nonblocking(true)?;
        self.flows.push(Flow { participant, bridge: socket });
        Ok(Some(self.flows.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impair::settings::Patch;

    /// Runs the relays until `socket` has a datagram.
    fn receive(relays: &mut Relays, socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        socket.set_nonblocking(true).expect("a socket");
        let mut buffer = [0; 100];
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) => return (buffer[..length].to_vec(), from),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            assert!(Instant::now() < end, "nothing arrived in 5 s");
            relays.wait(Instant::now() + Duration::from_millis(1), None).expect("polled");
            relays.step(Instant::now()).expect("moved");
        }
    }

    #[test]
    fn datagrams_go_there_and_come_back_to_their_sender() {
        let loopback: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let bridge = UdpSocket::bind(loopback).expect("a port");
        let at = bridge.local_addr().expect("bound");
        let mut relays = Relays::open(at, loopback, 2, 1, Instant::now()).expect("ports");
        let addresses = relays.addresses().expect("bound");
        let senders: Vec<_> = (0..3).map(|_| UdpSocket::bind(loopback).expect("a port")).collect();
        for (number, sender) in senders.iter().enumerate() {
            sender.send_to(&[number as u8; 20], addresses[number % 2]).expect("sent");
        }
        for _ in &senders {
            let (datagram, from) = receive(&mut relays, &bridge);
            bridge.send_to(&datagram, from).expect("answered");
        }
        for (number, sender) in senders.iter().enumerate() {
            let (datagram, from) = receive(&mut relays, sender);
            assert_eq!((datagram, from), (vec![number as u8; 20], addresses[number % 2]));
        }
        let mut lines = Vec::new();
        relays.report(Instant::now(), &mut lines).expect("written");
        let lines: Vec<serde_json::Value> = String::from_utf8(lines)
            .expect("text")
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!((&lines[0]["up"]["passed"], &lines[1]["down"]["passed"]), (&2.into(), &1.into()));
    }

    #[test]
    fn commands_wait_for_their_time_and_their_relay() {
        let loopback: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let start = Instant::now();
        let mut relays = Relays::open(loopback, loopback, 2, 1, start).expect("ports");
        let patch = |loss| Some(Patch { loss: Some(loss), ..Patch::default() });
        let script = vec![
            Command { at: 2.0, relay: Some(1), down: patch(50.0), ..Command::default() },
            Command { both: patch(10.0), ..Command::default() },
        ];
        relays.schedule(start, script).expect("in range");
        relays.obey(start).expect("in range");
        assert_eq!(relays.relays[0].up.settings().loss, 0.1);
        assert_eq!(relays.next_timeout(), Some(start + Duration::from_secs(2)));
        relays.obey(start + Duration::from_secs(2)).expect("in range");
        assert_eq!(relays.relays[0].down.settings().loss, 0.1);
        assert_eq!(relays.relays[1].down.settings().loss, 0.5);
        assert_eq!(relays.relays[1].up.settings().loss, 0.1);
    }

    #[test]
    fn bad_commands_are_refused_at_once() {
        let loopback: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let start = Instant::now();
        let mut relays = Relays::open(loopback, loopback, 1, 1, start).expect("ports");
        let loss = Patch { loss: Some(-1.0), ..Patch::default() };
        let bad = Command { at: 9.0, up: Some(loss), ..Command::default() };
        assert!(matches!(relays.schedule(start, vec![bad]), Err(SettingError::Range { name: "loss", .. })));
        let bad = Command { relay: Some(1), ..Command::default() };
        assert!(matches!(relays.schedule(start, vec![bad]), Err(SettingError::Range { name: "relay", .. })));
    }
}
