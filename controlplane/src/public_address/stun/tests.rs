//! The search by STUN in virtual time.

use ringbridge_dataplane::ice::stun::Writer;

use super::*;

const MEDIA: u16 = 10_000;

struct Rig {
    discovery: StunDiscovery,
    now: Instant,
    start: Instant,
    findings: Vec<Finding>,
    asked: Vec<(u16, SocketAddr, TransactionId)>,
    /// When they were, milliseconds from the start.
    times: Vec<u128>,
    resolves: Vec<usize>,
}

fn socket(index: u16, address: &str) -> Socket {
    Socket { index, address: SocketAddr::new(address.parse().unwrap(), MEDIA), is_media: true }
}

fn sockets(addresses: &[&str]) -> Vec<Socket> {
    addresses.iter().enumerate().map(|(index, address)| socket(index as u16, address)).collect()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl Rig {
    fn new(servers: &[&str], addresses: &[&str]) -> Self {
        let servers: Vec<StunServer> = servers.iter().map(|server| server.parse().unwrap()).collect();
        let mut next = 0u8;
        let make = move || {
            next += 1;
            [next; 12]
        };
        let start = Instant::now();
        let discovery = StunDiscovery::new(start, &servers, sockets(addresses), Box::new(make));
        let mut rig =
            Self { discovery, now: start, start, findings: vec![], asked: vec![], times: vec![], resolves: vec![] };
        rig.drain();
        rig
    }

    fn drain(&mut self) {
        while let Some(output) = self.discovery.poll_output() {
            match output {
                Output::Resolve { server } => self.resolves.push(server),
                Output::Ask { socket, server, transaction } => {
                    self.asked.push((socket, server, transaction));
                    self.times.push((self.now - self.start).as_millis());
                }
                Output::Report(finding) => self.findings.push(finding),
            }
        }
    }

    /// Lets time pass as the caller would.
    fn run(&mut self, until: Duration) {
        let end = self.start + until;
        while let Some(next) = self.discovery.poll_timeout().filter(|next| *next <= end) {
            assert!(next >= self.now, "time goes back");
            self.now = next;
            self.discovery.handle_timeout(next);
            self.drain();
        }
        self.now = end;
    }

    /// The newest question from a socket to a server is answered.
    fn answer(&mut self, socket: u16, server: &str, write: impl FnOnce(Writer<'_>) -> Writer<'_>) {
        self.respond(socket, server, Class::Success, write);
    }

    fn respond(&mut self, socket: u16, server: &str, class: Class, write: impl FnOnce(Writer<'_>) -> Writer<'_>) {
        let asked = self.asked.iter().rev().find(|(from, to, _)| (*from, *to) == (socket, at(server)));
        let transaction = asked.expect("asked").2;
        let datagram = datagram(class, transaction, write);
        self.discovery.handle_datagram(self.now, socket, at(server), &datagram);
        self.drain();
    }

    fn mapped(&mut self, socket: u16, server: &str, public: &str) {
        let public = at(public);
        self.answer(socket, server, |writer| writer.mapped(public));
    }

    fn addresses(&self) -> Vec<String> {
        self.discovery.addresses().iter().map(ToString::to_string).collect()
    }

    fn failed(&self, failure: Failure) -> u64 {
        self.discovery.failures().get(failure)
    }

    fn warnings(&self) -> Vec<&Finding> {
        self.findings.iter().filter(|finding| finding.is_warning()).collect()
    }
}

fn datagram(class: Class, transaction: TransactionId, write: impl FnOnce(Writer<'_>) -> Writer<'_>) -> Vec<u8> {
    let mut buffer = vec![0; 200];
    let length = write(Writer::new(&mut buffer, class, &transaction)).finish_unsigned().unwrap();
    buffer.truncate(length);
    buffer
}

const SERVER: &str = "203.0.113.1:3478";
const OTHER: &str = "203.0.113.2:3478";

#[test]
fn the_address_behind_a_plain_port_forward() {
    let mut rig = Rig::new(&[SERVER], &["10.0.0.2"]);
    assert_eq!(rig.asked, [(0, at(SERVER), [1; 12])]);
    assert!(rig.discovery.holds(rig.now));
    rig.mapped(0, SERVER, "198.51.100.7:10000");
    assert_eq!(rig.addresses(), ["10.0.0.2=198.51.100.7"]);
    assert!(!rig.discovery.holds(rig.now));
    assert!(matches!(&rig.findings[..], [Finding::Found { .. }]), "{:?}", rig.findings);
    // Nothing more happens until it is asked anew.
    assert_eq!(rig.discovery.poll_timeout(), Some(rig.now + RECHECK));
    rig.run(RECHECK);
    assert_eq!(rig.asked.len(), 2);
    assert_ne!(rig.asked[0].2, rig.asked[1].2, "a transaction of its own");
    rig.mapped(0, SERVER, "198.51.100.7:10000");
    assert_eq!((rig.findings.len(), rig.warnings().len()), (1, 0), "reported once");
    // A new lease.
    rig.run(2 * RECHECK);
    rig.mapped(0, SERVER, "198.51.100.99:10000");
    assert_eq!(rig.addresses(), ["10.0.0.2=198.51.100.99"]);
    assert_eq!(rig.findings.len(), 2);
}

#[test]
fn requests_are_repeated_as_the_rfc_says_and_silence_is_told_once() {
    let mut rig = Rig::new(&[SERVER, OTHER], &["10.0.0.2"]);
    rig.run(Duration::from_millis(39_499));
    let expected: Vec<u128> = [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500].into_iter().flat_map(|t| [t, t]).collect();
    assert_eq!(rig.times, expected);
    assert!(rig.asked.iter().all(|(_, server, id)| *id == if *server == at(SERVER) { [1; 12] } else { [2; 12] }));
    assert_eq!(rig.failed(Failure::Timeout), 0);
    rig.run(Duration::from_millis(39_500));
    assert_eq!(rig.failed(Failure::Timeout), 2);
    // Asked again after a minute; reported once.
    rig.run(Duration::from_millis(39_500) + RETRY);
    assert_eq!(rig.times[14..], [99_500, 99_500]);
    rig.run(Duration::from_secs(600));
    let [Finding::Silent { servers }] = &rig.findings[..] else { panic!("{:?}", rig.findings) };
    assert_eq!(servers, &["203.0.113.1:3478: no answer", "203.0.113.2:3478: no answer"]);
    assert!(rig.findings[0].to_string().contains("bridge.public-addresses"), "{}", rig.findings[0]);
    // And again after it has answered in between.
    rig.mapped(0, SERVER, "198.51.100.7:10000");
    assert_eq!(rig.addresses(), ["10.0.0.2=198.51.100.7"]);
}

#[test]
fn a_start_is_held_for_a_second_at_most() {
    let mut rig = Rig::new(&[SERVER], &["10.0.0.2", "10.0.0.3"]);
    rig.mapped(0, SERVER, "198.51.100.7:10000");
    assert!(rig.discovery.holds(rig.now), "the other address may get an answer");
    rig.run(HOLD - Duration::from_millis(1));
    assert!(rig.discovery.holds(rig.now) && rig.findings.len() == 1);
    rig.run(HOLD);
    assert!(!rig.discovery.holds(rig.now));
    assert!(matches!(rig.findings[1], Finding::SilentOf { .. }) && rig.warnings().is_empty(), "{:?}", rig.findings);
    // Late is not too late, but never again a reason to wait.
    rig.mapped(1, SERVER, "198.51.100.8:10000");
    assert_eq!(rig.addresses(), ["10.0.0.2=198.51.100.7", "10.0.0.3=198.51.100.8"]);
    rig.discovery.set_sockets(rig.now, sockets(&["10.0.0.4"]));
    assert!(!rig.discovery.holds(rig.now));
}

#[test]
fn one_of_two_servers_is_enough() {
    let mut rig = Rig::new(&[SERVER, OTHER], &["10.0.0.2"]);
    rig.mapped(0, OTHER, "198.51.100.7:10000");
    assert!(!rig.discovery.holds(rig.now));
    rig.run(Duration::from_secs(40));
    assert_eq!((rig.addresses(), rig.warnings().len()), (vec!["10.0.0.2=198.51.100.7".to_owned()], 0));
    assert_eq!(rig.failed(Failure::Timeout), 1);
}

#[test]
fn answers_that_are_none() {
    let mut rig = Rig::new(&[SERVER], &["10.0.0.2"]);
    let (_, server, transaction) = rig.asked[0];
    let good = datagram(Class::Success, transaction, |w| w.mapped(at("198.51.100.7:10000")));
    // From another server, another port, to another socket, with another id; requests; what is no STUN.
    let now = rig.now;
    for (socket, from, datagram) in [
        (0, at(OTHER), good.clone()),
        (0, at("203.0.113.1:3479"), good.clone()),
        (1, server, good.clone()),
        (0, server, datagram(Class::Success, [9; 12], |w| w.mapped(at("198.51.100.7:10000")))),
        (0, server, datagram(Class::Request, transaction, |w| w.mapped(at("198.51.100.7:10000")))),
        (0, server, datagram(Class::Indication, transaction, |w| w.mapped(at("198.51.100.7:10000")))),
    ] {
        rig.discovery.handle_datagram(now, socket, from, &datagram);
    }
    assert_eq!((rig.failed(Failure::Stray), rig.addresses()), (6, vec![]));
    for cut in 0..good.len() {
        rig.discovery.handle_datagram(now, 0, server, &good[..cut]);
    }
    let mut damaged = good.clone();
    damaged[28] ^= 1;
    rig.discovery.handle_datagram(now, 0, server, &damaged);
    assert_eq!((rig.failed(Failure::Malformed), rig.addresses()), (good.len() as u64 + 1, vec![]));
    // None of them took the place of the right one, which counts once.
    rig.discovery.handle_datagram(now, 0, server, &good);
    rig.discovery.handle_datagram(now, 0, server, &good);
    rig.drain();
    assert_eq!((rig.failed(Failure::Stray), rig.addresses()), (7, vec!["10.0.0.2=198.51.100.7".to_owned()]));
}

#[test]
fn addresses_that_nobody_has_are_not_advertised() {
    for (local, server, public) in [
        ("10.0.0.2", SERVER, "0.0.0.0:10000"),
        ("10.0.0.2", SERVER, "224.0.0.1:10000"),
        ("10.0.0.2", SERVER, "255.255.255.255:10000"),
        ("10.0.0.2", SERVER, "127.0.0.1:10000"),
        ("10.0.0.2", SERVER, "169.254.169.254:10000"),
        ("10.0.0.2", SERVER, "198.51.100.7:0"),
        ("10.0.0.2", SERVER, "[2001:db8::7]:10000"),
        ("fd00::2", "[2001:db8::1]:3478", "198.51.100.7:10000"),
        ("fd00::2", "[2001:db8::1]:3478", "[ff02::1]:10000"),
        ("fd00::2", "[2001:db8::1]:3478", "[::]:10000"),
    ] {
        let mut rig = Rig::new(&[server], &[local]);
        rig.mapped(0, server, public);
        assert_eq!((rig.addresses(), rig.failed(Failure::Unusable)), (vec![], 1), "{public}");
        let [Finding::Silent { servers }] = &rig.findings[..] else { panic!("{:?}", rig.findings) };
        assert!(servers[0].contains("cannot be used"), "{servers:?}");
        assert!(!rig.discovery.holds(rig.now), "nothing is left to wait for");
    }
}

#[test]
fn refusals_and_answers_without_an_address() {
    let mut rig = Rig::new(&[SERVER, OTHER], &["10.0.0.2"]);
    rig.respond(0, SERVER, Class::Error, |w| w.error(401, "Unauthorized").mapped(at("198.51.100.7:10000")));
    rig.answer(0, OTHER, |w| w);
    let [Finding::Silent { servers }] = &rig.findings[..] else { panic!("{:?}", rig.findings) };
    assert_eq!(servers, &["203.0.113.1:3478: it refused", "203.0.113.2:3478: its answer holds no address"]);
    assert_eq!((rig.failed(Failure::Refused), rig.failed(Failure::Malformed)), (1, 1));
    // What has to be understood, and is not.
    let mut rig = Rig::new(&[SERVER], &["10.0.0.2"]);
    rig.answer(0, SERVER, |w| w.mapped(at("198.51.100.7:10000")).username(b"ours").unknown(1));
    assert_eq!(rig.failed(Failure::Malformed), 1);
}

#[test]
fn a_nat_that_is_no_plain_port_forward_is_told_in_one_line() {
    // Another port.
    let mut rig = Rig::new(&[SERVER], &["10.0.0.2"]);
    rig.mapped(0, SERVER, "198.51.100.7:43211");
    let [warning] = rig.warnings()[..] else { panic!("{:?}", rig.findings) };
    let text = warning.to_string();
    for part in ["10000 as 43211", "forward UDP port 10000 of 198.51.100.7", "10.0.0.2=198.51.100.7#PORT"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(rig.addresses(), ["10.0.0.2=198.51.100.7"], "the port may be forwarded all the same");
    rig.run(RECHECK);
    rig.mapped(0, SERVER, "198.51.100.7:43999");
    assert_eq!(rig.warnings().len(), 1, "reported once");
    rig.run(2 * RECHECK);
    rig.mapped(0, SERVER, "198.51.100.7:10000");
    rig.run(3 * RECHECK);
    rig.mapped(0, SERVER, "198.51.100.7:43999");
    assert_eq!(rig.warnings().len(), 2, "and again when it was right in between");

    // Two servers disagree, on the port or on the address.
    for second in ["198.51.100.7:10001", "198.51.100.8:10000"] {
        let mut rig = Rig::new(&[SERVER, OTHER], &["10.0.0.2"]);
        rig.mapped(0, SERVER, "198.51.100.7:10000");
        rig.mapped(0, OTHER, second);
        let [warning @ Finding::Differs { .. }] = rig.warnings()[..] else { panic!("{:?}", rig.findings) };
        let text = warning.to_string();
        assert!(text.contains(SERVER) && text.contains(OTHER) && text.contains(second), "{text}");
    }
    // One that has another port of its own for each.
    let mut rig = Rig::new(&[SERVER, OTHER], &["10.0.0.2"]);
    rig.mapped(0, OTHER, "198.51.100.7:43211");
    rig.mapped(0, SERVER, "198.51.100.7:43212");
    assert!(matches!(rig.warnings()[..], [Finding::Differs { .. }]), "{:?}", rig.findings);

    // Of sockets with any port the number says nothing.
    let mut rig = Rig::new(&[SERVER], &[]);
    rig.discovery.set_sockets(rig.now, vec![Socket { is_media: false, ..socket(0, "10.0.0.2") }]);
    rig.findings.clear();
    rig.drain();
    rig.mapped(0, SERVER, "198.51.100.7:43211");
    assert!(rig.warnings().iter().all(|finding| matches!(finding, Finding::Silent { .. })), "{:?}", rig.findings);
}

#[test]
fn nothing_stands_in_between() {
    for (addresses, public) in
        [(&["203.0.113.9"][..], "203.0.113.9:10000"), (&["0.0.0.0", "203.0.113.9"], "203.0.113.9:10000")]
    {
        let mut rig = Rig::new(&[SERVER], addresses);
        for socket in 0..addresses.len() {
            rig.mapped(socket as u16, SERVER, public);
        }
        assert_eq!((rig.addresses(), rig.warnings().len()), (vec![], 0), "{:?}", rig.findings);
        assert!(rig.findings.iter().all(|finding| matches!(finding, Finding::NoNat { .. })), "{:?}", rig.findings);
    }
    // A wildcard stands for whatever the kernel takes.
    let mut rig = Rig::new(&[SERVER], &["0.0.0.0"]);
    rig.mapped(0, SERVER, "198.51.100.7:10000");
    assert_eq!(rig.addresses(), ["198.51.100.7"]);
}

/// A container's network leads through another address of this host: the one public port can be given to one of them alone.
#[test]
fn a_network_within_this_host_is_no_reason_to_complain() {
    // Before a NAT, whichever of the two asked first.
    for (host, inner) in [("198.51.100.7:10000", "198.51.100.7:1027"), ("198.51.100.7:1027", "198.51.100.7:10000")] {
        let mut rig = Rig::new(&[SERVER, OTHER], &["10.0.0.2", "172.17.0.1"]);
        for server in [SERVER, OTHER] {
            rig.mapped(0, server, host);
            rig.mapped(1, server, inner);
        }
        assert_eq!(rig.warnings(), Vec::<&Finding>::new());
    }
    // Ports of its own for each server.
    let mut rig = Rig::new(&[SERVER, OTHER], &["10.0.0.2", "172.17.0.1"]);
    for (server, inner) in [(SERVER, "198.51.100.7:1027"), (OTHER, "198.51.100.7:1028")] {
        rig.mapped(0, server, "198.51.100.7:10000");
        rig.mapped(1, server, inner);
    }
    assert_eq!(rig.warnings(), Vec::<&Finding>::new());
    // Without a NAT: this host's own address is advertised already.
    let mut rig = Rig::new(&[SERVER], &["203.0.113.9", "172.17.0.1"]);
    rig.mapped(0, SERVER, "203.0.113.9:10000");
    rig.mapped(1, SERVER, "203.0.113.9:1027");
    assert_eq!((rig.warnings(), rig.addresses()), (vec![], vec![]));
    // But where nobody has the right port, both are reported.
    let mut rig = Rig::new(&[SERVER], &["10.0.0.2", "172.17.0.1"]);
    rig.mapped(0, SERVER, "198.51.100.7:1026");
    rig.mapped(1, SERVER, "198.51.100.7:1027");
    assert_eq!(rig.warnings().len(), 2);
}

#[test]
fn everybody_asks_servers_of_its_family_that_it_can_reach() {
    let addresses = ["10.0.0.2", "fd00::2", "127.0.0.1", "fe80::1", "::1"];
    let rig = Rig::new(&[SERVER, "[2001:db8::1]:3478", "127.0.0.1:3478"], &addresses);
    let asked: Vec<(u16, String)> = rig.asked.iter().map(|(socket, server, _)| (*socket, server.to_string())).collect();
    let expected = [(0, SERVER), (1, "[2001:db8::1]:3478"), (0, "127.0.0.1:3478"), (2, "127.0.0.1:3478")];
    assert_eq!(asked, expected.map(|(socket, server)| (socket, server.to_owned())));
    // No family in common.
    let rig = Rig::new(&[SERVER], &["fd00::2"]);
    let [Finding::Silent { servers }] = &rig.findings[..] else { panic!("{:?}", rig.findings) };
    assert!(servers[0].contains("no local address of its family") && !rig.discovery.holds(rig.now));
    // Who serves its own host alone needs nothing.
    let rig = Rig::new(&[SERVER], &["127.0.0.1"]);
    assert_eq!((rig.findings.len(), rig.discovery.holds(rig.now)), (0, false));
}

#[test]
fn questions_and_servers_are_bounded() {
    let servers: Vec<String> = (1..=20).map(|n| format!("203.0.113.{n}:3478")).collect();
    let addresses: Vec<String> = (1..=60).map(|n| format!("10.0.0.{n}")).collect();
    let as_str = |list: &[String]| list.iter().map(|text| text.clone().leak() as &str).collect::<Vec<_>>();
    let rig = Rig::new(&as_str(&servers), &as_str(&addresses));
    assert_eq!(rig.asked.len(), MAX_QUESTIONS);
    let asked: std::collections::BTreeSet<_> = rig.asked.iter().map(|(_, server, _)| server).collect();
    assert!(asked.len() <= MAX_SERVERS);
}

#[test]
fn names_are_looked_up_and_a_look_up_that_hangs_holds_nobody() {
    let mut rig = Rig::new(&["stun.example.net:443", "gone.example.net"], &["10.0.0.2", "fd00::2"]);
    assert_eq!((rig.resolves.clone(), rig.asked.len()), (vec![0, 1], 0));
    assert!(rig.discovery.holds(rig.now));
    let found = [at("203.0.113.1:443"), at("203.0.113.2:443"), at("[2001:db8::1]:443")];
    rig.discovery.handle_resolved(rig.now, 0, &found);
    rig.discovery.handle_resolved(rig.now, 0, &[at("203.0.113.9:443")]);
    rig.discovery.handle_resolved(rig.now, 7, &found);
    rig.drain();
    assert_eq!(rig.asked.len(), 2, "one of each family, once: {:?}", rig.asked);
    rig.run(HOLD);
    assert!(!rig.discovery.holds(rig.now));
    let [Finding::Silent { servers }] = &rig.findings[..] else { panic!("{:?}", rig.findings) };
    assert_eq!(servers[1], "gone.example.net:3478: its name is not looked up yet");
    // It hangs through the next round: not asked for a second time.
    rig.discovery.set_sockets(rig.now, sockets(&["10.0.0.3"]));
    rig.drain();
    assert_eq!(rig.resolves, [0, 1, 0]);
    rig.discovery.handle_resolved(rig.now, 1, &[]);
    assert_eq!(rig.failed(Failure::Unresolved), 1);
}

#[test]
fn what_is_known_outlives_a_server_but_not_its_socket() {
    let mut rig = Rig::new(&[SERVER, OTHER], &["10.0.0.2", "10.0.0.3"]);
    for server in [SERVER, OTHER] {
        rig.mapped(0, server, "198.51.100.7:10000");
        rig.mapped(1, server, "198.51.100.8:10000");
    }
    // Both are down for a round.
    rig.run(RECHECK + Duration::from_secs(60));
    assert_eq!(rig.addresses(), ["10.0.0.2=198.51.100.7", "10.0.0.3=198.51.100.8"]);
    assert!(rig.warnings().is_empty(), "{:?}", rig.findings);
    // One is back and reports another address: the other's word counts no more once the round is over.
    rig.run(RECHECK + Duration::from_secs(120));
    rig.mapped(0, SERVER, "198.51.100.77:10000");
    rig.mapped(1, SERVER, "198.51.100.8:10000");
    rig.run(RECHECK + Duration::from_secs(180));
    assert_eq!(rig.addresses(), ["10.0.0.2=198.51.100.77", "10.0.0.3=198.51.100.8"]);
    assert!(rig.warnings().is_empty(), "{:?}", rig.findings);
    // A socket leaves, another comes: asked at once.
    let before = rig.asked.len();
    rig.discovery.set_sockets(rig.now, vec![socket(1, "10.0.0.3"), socket(2, "10.0.0.4")]);
    rig.drain();
    assert_eq!((rig.addresses(), rig.asked.len() - before), (vec!["10.0.0.3=198.51.100.8".to_owned()], 4));
    // The same again: something else about them may have changed.
    rig.discovery.set_sockets(rig.now, vec![socket(1, "10.0.0.3"), socket(2, "10.0.0.4")]);
    rig.drain();
    assert_eq!((rig.addresses().len(), rig.asked.len() - before), (1, 8));
}
