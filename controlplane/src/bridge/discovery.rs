//! The search for public addresses as the bridge runs it: questions over the media port, whose mapping is the one that counts,
//! and look-ups on threads of their own.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::Rng;
use ringbridge_dataplane::ice::question;
use ringbridge_dataplane::io::Path;
use ringbridge_dataplane::messages::Command;
use tokio::sync::mpsc;

use crate::metrics::{Family, Kind};
use crate::public_address::aws::{self, AwsLookup, Instance};
use crate::public_address::look_up::{self, LookedUp};
use crate::public_address::stun::{Output, Socket, StunDiscovery};
use crate::public_address::{DiscoverySettings, Failure, Failures, Finding, PublicAddress};
use ringbridge_dataplane::ids::WorkerId;

/// The worker whose sockets ask: an answer finds its way there from every other one.
pub(super) const ASKING_WORKER: usize = 0;
/// From one look at the metadata to the next, when there was an address.
const RECHECK: Duration = Duration::from_secs(300);
/// The same when there was none, and there may be one later.
const RETRY: Duration = Duration::from_secs(60);
/// How long a start waits for a service that may not be there: where it is, it answers within milliseconds.
const SHORT_HOLD: Duration = Duration::from_millis(300);
/// More than servers and services that are looked up at a time.
const LOOK_UPS: usize = 32;

/// How many addresses came from where, and what failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Discovered {
    stun: usize,
    aws: usize,
    stun_failures: Failures,
    aws_failures: Failures,
}

impl Discovered {
    /// As metrics; `configured` is how many of those that the operator named are advertised.
    pub fn families(&self, configured: usize) -> [Family; 2] {
        let help = "Public addresses advertised to clients, by how they were found.";
        let known = [("configured", configured), ("stun", self.stun), ("aws", self.aws)];
        let family = Family::new("ringbridge_public_addresses", help, Kind::Gauge);
        let family =
            known.into_iter().fold(family, |family, (source, count)| family.with(&[("source", source)], count as f64));
        [family, self.stun_failures.plus(&self.aws_failures).family()]
    }
}

/// The metadata service of AWS, asked now and then.
#[derive(Debug)]
struct Metadata {
    settings: DiscoverySettings,
    instance: Option<Instance>,
    /// An answer is awaited.
    asked: bool,
    next: Option<Instant>,
    /// Until when a start waits for the first answer.
    hold: Option<Instant>,
    /// What was reported last.
    reported: Option<Finding>,
    failures: Failures,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Discovery {
    stun: Option<StunDiscovery>,
    metadata: Option<Metadata>,
    bound: Vec<SocketAddr>,
    hosts: Vec<IpAddr>,
    /// An address that the operator named is advertised.
    has_configured: bool,
    known: Vec<PublicAddress>,
    changed: bool,
    commands: Vec<Command>,
    to_self: mpsc::Sender<LookedUp>,
    looked_up: mpsc::Receiver<LookedUp>,
}

impl Discovery {
    /// Searches from now on, for the sockets of the media port; nothing without sockets. `hosts` are the local addresses as others
    /// see them.
    pub fn new(now: Instant, settings: &DiscoverySettings, bound: Vec<SocketAddr>, hosts: &[IpAddr]) -> Self {
        let make_transaction = || question(WorkerId::from_index(ASKING_WORKER), rand::rng().random());
        let asks = !settings.stun_servers.is_empty() && !bound.is_empty();
        let stun = asks.then(|| {
            StunDiscovery::new(now, &settings.stun_servers, media_sockets(&bound, None), Box::new(make_transaction))
        });
        let metadata = (settings.aws != AwsLookup::Off && !bound.is_empty()).then(|| Metadata {
            settings: settings.clone(),
            instance: None,
            asked: false,
            next: Some(now),
            hold: Some(now + if settings.aws == AwsLookup::On { aws::PATIENCE } else { SHORT_HOLD }),
            reported: None,
            failures: Failures::default(),
        });
        let (to_self, looked_up) = mpsc::channel(LOOK_UPS);
        let mut discovery = Self {
            stun,
            metadata,
            bound,
            hosts: hosts.to_vec(),
            has_configured: false,
            known: Vec::new(),
            changed: false,
            commands: Vec::new(),
            to_self,
            looked_up,
        };
        discovery.handle_timeout(now);
        discovery
    }

    /// Some clients' address was named by the operator: that nothing is found is no loss.
    pub fn set_configured(&mut self, any: bool) {
        self.has_configured = any;
    }

    /// The host's addresses changed: `living` are those of the bound ones that it has, `hosts` what others see.
    pub fn handle_addresses(&mut self, now: Instant, living: &[IpAddr], hosts: &[IpAddr]) {
        self.hosts = hosts.to_vec();
        if let Some(stun) = &mut self.stun {
            stun.set_sockets(now, media_sockets(&self.bound, Some(living)));
        }
        if let Some(metadata) = &mut self.metadata {
            metadata.next = Some(now);
        }
        self.handle_timeout(now);
    }

    /// The next result of a look-up.
    pub async fn looked_up(&mut self) -> Option<LookedUp> {
        self.looked_up.recv().await
    }

    /// Takes one.
    pub fn handle_looked_up(&mut self, now: Instant, answer: LookedUp) {
        match answer {
            LookedUp::Resolved { server, addresses } => {
                if let Some(stun) = &mut self.stun {
                    stun.handle_resolved(now, server, &addresses);
                }
            }
            LookedUp::Metadata(result) => self.handle_metadata(now, result),
        }
        self.settle();
    }

    fn handle_metadata(&mut self, now: Instant, result: Result<Instance, Failure>) {
        let Some(metadata) = &mut self.metadata else { return };
        (metadata.asked, metadata.hold) = (false, None);
        let finding = Finding::of_metadata(&metadata.settings, &self.hosts, result);
        let wait = match result {
            Ok(instance) => {
                metadata.instance = Some(instance);
                Some(RECHECK)
            }
            Err(failure) => {
                metadata.failures.count(failure);
                // Without an address the instance has none; a service that is silent for once moves nobody.
                if failure == Failure::MetadataNone {
                    metadata.instance = None;
                }
                let later = metadata.settings.aws == AwsLookup::On
                    || failure == Failure::MetadataNone
                    || metadata.instance.is_some();
                later.then_some(RETRY)
            }
        };
        metadata.next = wait.map(|wait| now + wait);
        if metadata.reported.as_ref() != Some(&finding) {
            log(&finding, self.has_configured);
            metadata.reported = Some(finding);
        }
    }

    /// Takes what a server answered to the media port.
    pub fn handle_answer(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        if let Some(stun) = &mut self.stun {
            stun.handle_datagram(now, path.local, path.remote, datagram);
        }
        self.settle();
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(stun) = self.stun.as_mut().filter(|stun| stun.poll_timeout().is_some_and(|at| at <= now)) {
            stun.handle_timeout(now);
        }
        if let Some(metadata) = &mut self.metadata {
            metadata.hold = metadata.hold.filter(|end| *end > now);
            if !metadata.asked && metadata.next.is_some_and(|at| at <= now) {
                (metadata.asked, metadata.next) = (true, None);
                let to_self = self.to_self.clone();
                look_up::metadata(metadata.settings.aws_service, move |answer| drop(to_self.try_send(answer)));
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(output) = self.stun.as_mut().and_then(StunDiscovery::poll_output) {
            match output {
                Output::Resolve { server } => {
                    let to_self = self.to_self.clone();
                    if let Some(named) = self.stun.as_ref().and_then(|stun| stun.server(server)) {
                        look_up::resolve(server, named, move |answer| drop(to_self.try_send(answer)));
                    }
                }
                Output::Ask { socket, server, transaction } => {
                    let path = Path { local: socket, remote: server };
                    self.commands.push(Command::AskServer { path, transaction });
                }
                Output::Report(finding) => log(&finding, self.has_configured),
            }
        }
        let instance = self.metadata.as_ref().and_then(|metadata| metadata.instance);
        let mut known: Vec<PublicAddress> =
            instance.map(|instance| instance.public_address(&self.hosts)).into_iter().collect();
        known.extend(self.stun.iter().flat_map(StunDiscovery::addresses));
        if known != self.known {
            self.known = known;
            self.changed = true;
        }
    }

    /// The addresses that are known, when they are others than before.
    pub fn take_addresses(&mut self) -> Option<&[PublicAddress]> {
        std::mem::take(&mut self.changed).then_some(&self.known)
    }

    /// For [`ASKING_WORKER`].
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// Whether the bridge should not be found yet: an address may still come, and the time is not up.
    pub fn holds(&self, now: Instant) -> bool {
        let metadata = self.metadata.as_ref().and_then(|metadata| metadata.hold);
        self.stun.as_ref().is_some_and(|stun| stun.holds(now)) || metadata.is_some_and(|end| now < end)
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let metadata = self.metadata.as_ref();
        let next = metadata.and_then(|metadata| metadata.next.filter(|_| !metadata.asked));
        let hold = metadata.and_then(|metadata| metadata.hold);
        [self.stun.as_ref().and_then(StunDiscovery::poll_timeout), next, hold].into_iter().flatten().min()
    }

    /// For the metrics.
    pub fn discovered(&self) -> Discovered {
        let stun = self.stun.as_ref();
        Discovered {
            stun: stun.map_or(0, |stun| stun.addresses().len()),
            aws: usize::from(self.metadata.as_ref().is_some_and(|metadata| metadata.instance.is_some())),
            stun_failures: stun.map(|stun| *stun.failures()).unwrap_or_default(),
            aws_failures: self.metadata.as_ref().map(|metadata| metadata.failures).unwrap_or_default(),
        }
    }
}

/// The sockets that are bound to these addresses; of them those of `living`, if anything is said of that.
fn media_sockets(bound: &[SocketAddr], living: Option<&[IpAddr]>) -> Vec<Socket> {
    let all = bound.iter().enumerate().filter_map(|(index, address)| {
        Some(Socket { index: u16::try_from(index).ok()?, address: *address, is_media: true })
    });
    all.filter(|socket| living.is_none_or(|living| living.contains(&socket.address.ip()))).collect()
}

/// One line; silence is no loss where the operator named an address.
fn log(finding: &Finding, has_configured: bool) {
    if finding.is_warning() && !(has_configured && finding.is_failure()) {
        tracing::warn!("{finding}");
    } else {
        tracing::info!("{finding}");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn discovery(now: Instant, aws: AwsLookup) -> Discovery {
        // Nobody listens there.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let stun_servers = vec!["203.0.113.1:3478".parse().unwrap()];
        let settings = DiscoverySettings { stun_servers, aws, aws_service: free };
        let bound = vec!["10.0.0.2:10000".parse().unwrap(), "[fd00::2]:10000".parse().unwrap()];
        Discovery::new(now, &settings, bound, &["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()])
    }

    fn shown(discovery: &mut Discovery) -> Option<Vec<String>> {
        discovery.take_addresses().map(|known| known.iter().map(ToString::to_string).collect())
    }

    fn instance(local: [u8; 4], public: [u8; 4]) -> LookedUp {
        LookedUp::Metadata(Ok(Instance { local: Ipv4Addr::from(local), public: Ipv4Addr::from(public) }))
    }

    #[test]
    fn questions_go_to_one_worker_and_nobody_asks_without_sockets() {
        let now = Instant::now();
        let mut discovery = discovery(now, AwsLookup::Off);
        let commands = discovery.take_commands();
        let [Command::AskServer { path, transaction }] = &commands[..] else { panic!("{commands:?}") };
        assert_eq!((path.local, path.remote.to_string().as_str()), (0, "203.0.113.1:3478"));
        let (worker, _) = ringbridge_dataplane::ice::transaction_owner(transaction);
        assert_eq!(worker.index(), ASKING_WORKER);
        assert!(discovery.holds(now) && !discovery.holds(now + Duration::from_secs(1)));
        let settings = DiscoverySettings {
            stun_servers: vec!["203.0.113.1:3478".parse().unwrap()],
            aws: AwsLookup::On,
            ..DiscoverySettings::default()
        };
        let mut none = Discovery::new(now, &settings, Vec::new(), &[]);
        assert_eq!((none.take_commands(), none.poll_timeout(), none.holds(now)), (vec![], None, false));
    }

    #[test]
    fn the_metadata_service_is_asked_again_while_an_address_may_come() {
        let now = Instant::now();
        let mut discovery = discovery(now, AwsLookup::Auto);
        discovery.stun = None;
        assert!(discovery.holds(now) && !discovery.holds(now + SHORT_HOLD));
        assert_eq!(discovery.poll_timeout(), Some(now + SHORT_HOLD));
        discovery.handle_looked_up(now, instance([10, 0, 0, 2], [198, 51, 100, 7]));
        assert_eq!(shown(&mut discovery), Some(vec!["10.0.0.2=198.51.100.7".to_owned()]));
        assert_eq!(shown(&mut discovery), None, "nothing new");
        let next = |discovery: &Discovery| discovery.metadata.as_ref().unwrap().next;
        assert_eq!(next(&discovery), Some(now + RECHECK));
        // Silent for once: what is known stays.
        discovery.handle_looked_up(now, LookedUp::Metadata(Err(Failure::MetadataUnreachable)));
        assert_eq!((shown(&mut discovery), next(&discovery)), (None, Some(now + RETRY)));
        // The address was taken from it.
        discovery.handle_looked_up(now, LookedUp::Metadata(Err(Failure::MetadataNone)));
        assert_eq!((shown(&mut discovery), next(&discovery)), (Some(vec![]), Some(now + RETRY)));
        // A container.
        discovery.handle_looked_up(now, instance([172, 31, 0, 9], [198, 51, 100, 8]));
        assert_eq!(shown(&mut discovery), Some(vec!["198.51.100.8".to_owned()]));
        assert_eq!(discovery.discovered().aws, 1);
        let [known, failed] = discovery.discovered().families(3);
        let values = |family: &Family| family.samples.iter().map(|(_, value)| *value).collect::<Vec<_>>();
        assert_eq!(values(&known), [3.0, 0.0, 1.0]);
        assert_eq!(values(&failed).iter().sum::<f64>(), 2.0);
    }

    #[test]
    fn outside_of_aws_it_is_asked_once_until_the_addresses_change() {
        let now = Instant::now();
        let mut discovery = discovery(now, AwsLookup::Auto);
        discovery.handle_looked_up(now, LookedUp::Metadata(Err(Failure::MetadataUnreachable)));
        let next = |discovery: &Discovery| discovery.metadata.as_ref().unwrap().next;
        assert_eq!(next(&discovery), None);
        let living: Vec<IpAddr> = vec!["fd00::2".parse().unwrap()];
        discovery.take_commands();
        discovery.handle_addresses(now, &living, &living);
        assert!(discovery.metadata.as_ref().unwrap().asked);
        assert!(discovery.take_commands().is_empty(), "no server of its family");
        // Who says that it is there hears of it.
        let mut discovery = self::discovery(now, AwsLookup::On);
        discovery.handle_looked_up(now, LookedUp::Metadata(Err(Failure::MetadataUnreachable)));
        assert_eq!(next(&discovery), Some(now + RETRY));
        assert!(discovery.metadata.as_ref().unwrap().reported.as_ref().is_some_and(Finding::is_warning));
    }
}
