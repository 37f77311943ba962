//! The search for public addresses: what STUN servers, strangers and the metadata service of AWS may answer.
//!
//! Fed: servers as an operator writes them; steps of a search by STUN (time, look-ups, answers that are right but for what the
//! input changes, raw datagrams, sockets that come and go); answers of the metadata service.
//! Held: nothing panics; only an address that an asked server named in an answer to that very question is reported, and only one
//! that a host of the same family can have; timers advance; outputs are bounded; what is written is read again.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ringbridge_controlplane::public_address::aws::{Answer, Lookup};
use ringbridge_controlplane::public_address::stun::{Output, Socket, StunDiscovery};
use ringbridge_controlplane::public_address::{PublicAddress, StunServer};
use ringbridge_dataplane::ice::stun::{Class, Message, TransactionId, Writer};

use crate::input::Input;

/// More than all servers, names and findings ask for at a time.
const MOST_OUTPUTS: usize = 400;
const SOCKETS: [&str; 4] = ["10.0.0.2:10000", "[fd00::2]:10000", "0.0.0.0:10001", "127.0.0.1:10000"];
const SERVERS: [&str; 4] = ["203.0.113.1:3478", "[2001:db8::1]:3478", "stun.example.net:443", "127.0.0.1:3478"];

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    match which % 3 {
        0 => search(data),
        1 => metadata(data),
        _ => written(data),
    }
}

struct World {
    search: StunDiscovery,
    now: Instant,
    asked: Vec<(u16, SocketAddr, TransactionId)>,
    /// Addresses that a server that was asked named.
    named: BTreeSet<IpAddr>,
}

impl World {
    fn new(servers: u8) -> Self {
        let now = Instant::now();
        let servers: Vec<StunServer> = SERVERS
            .iter()
            .enumerate()
            .filter(|(index, _)| servers >> index & 1 == 1)
            .map(|(_, server)| server.parse().expect("a server"))
            .collect();
        let mut next = 0u32;
        let transactions = move || {
            next += 1;
            let [a, b, c, d] = next.to_be_bytes();
            [0, 255, 255, 255, 255, 0, 0, 0, a, b, c, d]
        };
        let search = StunDiscovery::new(now, &servers, sockets(0xff), Box::new(transactions));
        let mut world = Self { search, now, asked: Vec::new(), named: BTreeSet::new() };
        world.settle();
        world
    }

    fn settle(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.search.poll_output() {
            outputs += 1;
            assert!(outputs < MOST_OUTPUTS, "outputs without end");
            match output {
                Output::Ask { socket, server, transaction } => self.asked.push((socket, server, transaction)),
                Output::Resolve { server } => {
                    assert!(self.search.server(server).is_some_and(|s| s.address().is_none()))
                }
                Output::Report(finding) => assert!(finding.to_string().len() < 2_000),
            }
        }
        let excess = self.asked.len().saturating_sub(512);
        self.asked.drain(..excess);
        for PublicAddress { local, address, port } in self.search.addresses() {
            assert!(self.named.contains(&address), "nobody named {address}");
            assert!(!address.is_unspecified() && !address.is_multicast() && port.is_none());
            assert!(local.is_none_or(|local| local.is_ipv4() == address.is_ipv4()));
        }
        let _ = self.search.holds(self.now);
    }

    fn hear(&mut self, socket: u16, from: SocketAddr, datagram: &[u8]) {
        if let Ok(message) = Message::parse(datagram)
            && message.class() == Class::Success
            && self.asked.contains(&(socket, from, message.transaction()))
        {
            self.named.extend(message.mapped().map(|mapped| mapped.ip()));
        }
        self.search.handle_datagram(self.now, socket, from, datagram);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.search.handle_timeout(self.now);
        let next = self.search.poll_timeout();
        assert!(next.is_none_or(|next| next > self.now), "a timer that does not advance");
    }
}

fn sockets(which: u8) -> Vec<Socket> {
    let all = SOCKETS.iter().zip(0u16..).filter(|(_, index)| which >> index & 1 == 1);
    all.map(|(address, index)| Socket { index, address: address.parse().expect("an address"), is_media: index != 2 })
        .collect()
}

fn address(input: &mut Input<'_>) -> SocketAddr {
    match input.u8() % 3 {
        0 => (std::array::from_fn::<u8, 4, _>(|_| input.u8()), input.u16()).into(),
        1 => (std::array::from_fn::<u16, 8, _>(|_| input.u16()), input.u16()).into(),
        _ => input.pick(&SERVERS).parse().unwrap_or(([203, 0, 113, 9], 443).into()),
    }
}

fn search(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(input.u8());
    while !input.is_empty() {
        match input.u8() % 6 {
            0 => {
                let next = world.search.poll_timeout().map(|next| next.saturating_duration_since(world.now));
                world.pass(next.unwrap_or_default());
            }
            1 => world.pass(Duration::from_millis(u64::from(input.u16()))),
            2 => {
                let (server, count) = (usize::from(input.u8() % 8), input.u8() % 5);
                let addresses: Vec<SocketAddr> = (0..count).map(|_| address(&mut input)).collect();
                world.search.handle_resolved(world.now, server, &addresses);
            }
            3 => {
                let (index, change, mapped) = (usize::from(input.u16()), input.u8(), address(&mut input));
                let class =
                    input.pick(&[Class::Success, Class::Success, Class::Error, Class::Request, Class::Indication]);
                let Some(&(mut socket, mut from, mut id)) = world.asked.get(index % world.asked.len().max(1)) else {
                    continue;
                };
                match change % 8 {
                    1 => socket ^= 1,
                    2 => from.set_port(from.port() ^ 1),
                    3 => id[usize::from(change >> 4) % 12] ^= 1,
                    _ => {}
                }
                let mut buffer = [0; 200];
                let writer = Writer::new(&mut buffer, class, &id);
                let writer = match change % 8 {
                    4 => writer,
                    5 => writer.error(u16::from(change) + 300, "no").mapped(mapped),
                    6 => writer.mapped(mapped).mapped(mapped).username(b"x"),
                    _ => writer.mapped(mapped),
                };
                let length = writer.finish_unsigned().expect("room");
                let cut = if change & 0x80 == 0 { length } else { usize::from(input.u8()) % (length + 1) };
                world.hear(socket, from, &buffer[..cut]);
            }
            4 => {
                let (socket, from) = (u16::from(input.u8() % 8), address(&mut input));
                world.hear(socket, from, input.bytes());
            }
            _ => {
                let which = input.u8();
                world.search.set_sockets(world.now, sockets(which));
            }
        }
        world.settle();
    }
}

fn metadata(data: &[u8]) {
    let mut input = Input::new(data);
    let mut lookup = Lookup::default();
    for _ in 0..3 {
        let Some(request) = lookup.request() else { break };
        assert!(request.header.1.bytes().all(|byte| byte.is_ascii_graphic()), "it would be another header");
        let answer = match input.u8() % 8 {
            0 => Answer::Unreachable,
            1 => Answer::Unreadable,
            2 => Answer::Status(input.u16(), input.bytes().to_vec()),
            _ => Answer::Status(200, input.bytes().to_vec()),
        };
        lookup.handle(answer);
    }
    assert_eq!(lookup.request(), None);
    if let Ok(instance) = lookup.result().expect("all was asked") {
        assert!(
            !instance.public.is_unspecified() && !instance.public.is_multicast() && !instance.public.is_broadcast()
        );
        assert!(!instance.local.is_unspecified() && !instance.local.is_multicast());
    }
}

fn written(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(server) = text.parse::<StunServer>() {
        assert_eq!(server.to_string().parse(), Ok(server));
    }
    if let Ok(public) = text.parse::<PublicAddress>() {
        assert_eq!(public.to_string().parse(), Ok(public));
        let hosts: Vec<IpAddr> = SOCKETS.iter().map(|s| s.parse::<SocketAddr>().expect("an address").ip()).collect();
        assert!(public.base(&hosts).is_none_or(|base| hosts[base].is_ipv4() == public.address.is_ipv4()));
    }
}
