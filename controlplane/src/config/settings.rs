//! From raw values to what the parts run with.

use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use jid::BareJid;
use ringbridge_dataplane::conference::LoudestOnly;
use ringbridge_dataplane::io::{IoChoice, IoExtras, PortRange};
use tracing_subscriber::EnvFilter;

use super::connections::RawConnection;
use super::error::ConfigError;
use super::keys::{KEYS, Key, Kind, Part};
use super::layers::Layers;
use super::origin::{MASK, Origin};
use super::{values, visitor_nodes};
use crate::bridge::{BridgeSettings, ShutdownSettings, XmppConnectionSettings};
use crate::colibri::bridge::RelaySettings;
use crate::colibri::limits::MAX_ID;
use crate::focus::{
    FocusSettings, IceFailureSettings, LoadRedistribution, LoginSettings, LoginType, RecordingSettings, RegionGroups,
    SelectionSettings, SenderLimits, SignalingDelays, SourceLimits, SourceSettings, VisitorSettings,
};
use crate::logging::Logging;
use crate::public_address::aws::AwsLookup;
use crate::public_address::{DiscoverySettings, PublicAddress, StunServer};
use crate::xmpp::{Security, XmppSettings};

/// Which parts are to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// The bridge.
    pub bridge: bool,
    /// The focus.
    pub focus: bool,
}

impl Parts {
    fn include(self, part: Part) -> bool {
        match part {
            Part::Common => true,
            Part::Bridge => self.bridge,
            Part::Focus => self.focus,
        }
    }
}

/// Everything, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// For the bridge, if it runs.
    pub bridge: Option<BridgeSettings>,
    /// For the focus, if it runs.
    pub focus: Option<FocusSettings>,
    /// For the log.
    pub logging: Logging,
    /// Names under which the operators' pages answer, beside those that need no mention.
    pub rest_names: Vec<String>,
}

impl Config {
    /// Checks every value; all that is wrong comes back at once.
    pub fn new(layers: &Layers, parts: Parts) -> Result<Self, Vec<ConfigError>> {
        let mut reader = Reader { layers, errors: Vec::new() };
        // Values that nobody reads this time are checked too: a bad one would surprise later.
        for key in KEYS {
            reader.check(key);
        }
        let bridge = parts.bridge.then(|| reader.bridge()).flatten();
        let focus = parts.focus.then(|| reader.focus()).flatten();
        if parts.focus {
            reader.errors.extend(layers.unserved());
        }
        let logging = Logging {
            json: reader.text("logging.format").as_deref() == Some("json"),
            filter: reader.text("logging.filter").unwrap_or_else(|| "info".to_owned()),
        };
        let rest_names = reader.list("rest.host-names");
        if reader.errors.is_empty() { Ok(Self { bridge, focus, logging, rest_names }) } else { Err(reader.errors) }
    }
}

/// Every setting with its value and origin, as `check-config` prints it.
pub(crate) fn listing(layers: &Layers, parts: Parts) -> Vec<(&'static str, String, String)> {
    KEYS.iter()
        .filter(|key| parts.include(key.part) && !key.hidden)
        .map(|key| match layers.get(key.path) {
            Some(raw) => (key.path, shown(key, &raw.text), raw.origin.to_string()),
            None => (key.path, String::new(), "not set".to_owned()),
        })
        .collect()
}

/// What became of settings of Jitsi Videobridge and Jicofo, and the connections; one line each.
pub(crate) fn notes(layers: &Layers) -> Vec<String> {
    let connections = layers.connections().iter();
    let connections = connections.map(|c| format!("connection {}: {}  ({})", c.id, c.describe(), c.origin));
    let nodes = layers.visitor_nodes().iter().map(visitor_nodes::RawNode::describe);
    connections.chain(nodes).chain(layers.notes().iter().cloned()).collect()
}

fn shown(key: &Key, text: &str) -> String {
    if key.kind == Kind::Secret { MASK.to_owned() } else { text.to_owned() }
}

/// Changes of sources that wait longer than this for each other are no use to anybody.
const MOST_DELAY: Duration = Duration::from_secs(10);

struct Reader<'a> {
    layers: &'a Layers,
    errors: Vec<ConfigError>,
}

impl Reader<'_> {
    fn text(&self, path: &str) -> Option<String> {
        self.layers.get(path).map(|raw| raw.text.clone())
    }

    fn wrong(&mut self, key: &'static Key, remedy: impl Into<String>) {
        if let Some(raw) = self.layers.get(key.path) {
            self.errors.push(ConfigError::Value {
                origin: raw.origin.clone(),
                key: key.path,
                value: shown(key, &raw.text),
                remedy: remedy.into(),
            });
        }
    }

    fn check(&mut self, key: &'static Key) {
        let Some(text) = self.text(key.path) else { return };
        let remedy = match key.kind {
            Kind::Text | Kind::Secret | Kind::File => None,
            Kind::Jid => match BareJid::from_str(&text) {
                Ok(jid) if jid.node().is_some() => None,
                Ok(_) => Some(format!("the part before the @ is missing; use the form name@{text}")),
                Err(error) => Some(format!("use the form name@service ({error})")),
            },
            Kind::Service => match BareJid::from_str(&text) {
                Ok(jid) if jid.node().is_none() => None,
                Ok(jid) => Some(format!("use the service alone: {}", jid.domain())),
                Err(error) => Some(format!("use a domain, e.g. conference.example.net ({error})")),
            },
            Kind::Url => url_remedy(&text),
            Kind::Filter => EnvFilter::try_new(&text)
                .err()
                .map(|error| format!("{error}; use levels, e.g. info or info,ringbridge_controlplane=debug")),
            Kind::Number(low, high) => match text.parse::<i64>() {
                Ok(number) if (low..=high).contains(&number) => None,
                _ => Some(format!("use a whole number from {low} to {high}")),
            },
            Kind::Switch => values::switch(&text).is_none().then(|| "use true or false".to_owned()),
            Kind::Socket => text
                .parse::<SocketAddr>()
                .err()
                .map(|_| "use an IP address and a port, e.g. 127.0.0.1:8080 or [::]:8080".to_owned()),
            Kind::Addresses => bad_item::<IpAddr>(&text).map(|item| format!("{item:?} is not an IP address")),
            Kind::PublicAddresses => text.split(',').find_map(|item| item.trim().parse::<PublicAddress>().err()),
            Kind::StunServers => {
                let named = text.split(',').filter(|item| !item.trim().is_empty());
                named.map(str::parse::<StunServer>).find_map(Result::err)
            }
            Kind::HostNames => text
                .split(',')
                .map(str::trim)
                .find(|name| !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')))
                .map(|name| format!("{name:?} is not a host name; give only names, without scheme and port")),
            Kind::Cores => bad_item::<usize>(&text).map(|item| format!("{item:?} is not a core number; use e.g. 2,3")),
            Kind::Accounts => bad_item::<BareJid>(&text).map(|item| {
                format!(
                    "{item:?} is neither an account nor a domain; use e.g. auth.example.net or focus@auth.example.net"
                )
            }),
            Kind::IoOptions => text.parse::<IoExtras>().err().map(|error| error.to_string()),
            Kind::Duration => values::duration(&text)
                .is_none()
                .then(|| "use a number with a unit, e.g. 20 s, 500 ms, 2 m, 1 d".to_owned()),
            Kind::RegionGroups => text.parse::<RegionGroups>().err(),
            Kind::Delays => match values::delays(&text) {
                Some(delays) => (delays.iter().find(|(_, delay)| *delay > MOST_DELAY)).map(|(size, _)| {
                    format!("{size}: use at most {} s: nobody hears a newcomer before", MOST_DELAY.as_secs())
                }),
                None => Some("use sizes and times, e.g. 50 = 500 ms, 100 = 1 s".to_owned()),
            },
            Kind::Choice(words) => {
                (!words.contains(&text.as_str())).then(|| format!("use one of: {}", words.join(", ")))
            }
        };
        if let Some(remedy) = remedy {
            self.wrong(key, remedy);
        }
    }

    /// A value that the part cannot do without; `None` after an error was noted.
    fn required<T: FromStr>(&mut self, path: &'static str) -> Option<T> {
        let key = Key::find(path)?;
        match self.text(path) {
            // A value of the wrong form was reported by the check of all keys.
            Some(text) => text.parse().ok(),
            None => {
                let remedy = format!("set it in the file, with --{} or with {}", key.flag, key.variable());
                self.errors.push(ConfigError::Missing { key: key.path, remedy });
                None
            }
        }
    }

    /// A value that may be left out. One of the wrong form was reported by the check of all keys.
    fn optional<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    fn list<T: FromStr>(&self, path: &str) -> Vec<T> {
        let text = self.text(path).unwrap_or_default();
        text.split(',').filter_map(|item| item.trim().parse().ok()).collect()
    }

    fn duration(&self, path: &str) -> Option<Duration> {
        values::duration(&self.text(path)?)
    }

    /// From the setting or from the file, whichever was said by the stronger layer.
    fn password(&mut self, path: &'static str, file_path: &'static str) -> Option<String> {
        let Some(file) = self.layers.get(file_path) else { return self.required(path) };
        if let (Some(password), Some(key)) = (self.layers.get(path), Key::find(file_path)) {
            match password.origin.strength().cmp(&file.origin.strength()) {
                Ordering::Greater => return Some(password.text.clone()),
                Ordering::Equal => {
                    self.wrong(key, format!("{path} is set in the same place; keep one of them"));
                    return None;
                }
                Ordering::Less => {}
            }
        }
        let remedy = match std::fs::read_to_string(&file.text) {
            Ok(password) => match password.trim_end_matches(['\r', '\n']) {
                "" => "the file is empty; write the password into it".to_owned(),
                password => return Some(password.to_owned()),
            },
            Err(error) => format!("cannot be read: {error}; give the path of a file that this user may read"),
        };
        if let Some(key) = Key::find(file_path) {
            self.wrong(key, remedy);
        }
        None
    }

    fn switch(&mut self, path: &'static str) -> bool {
        self.text(path).as_deref().and_then(values::switch) == Some(true)
    }

    fn xmpp(&mut self, jid: &'static str, password: Option<String>, resource: Option<&str>) -> Option<XmppSettings> {
        let jid = self.required(jid);
        Some(XmppSettings {
            host: self.required("xmpp.host")?,
            port: self.required("xmpp.port")?,
            jid: jid?,
            password: password?,
            resource: resource.map(str::to_owned),
            security: match self.text("xmpp.security").as_deref() {
                Some("disabled") => Security::Disabled,
                Some("if-possible") => Security::IfPossible,
                _ => Security::Required,
            },
            verify_certificate: self.switch("xmpp.verify-certificate"),
            ca_file: self.text("xmpp.ca-file").map(Into::into),
            resumption: false,
        })
    }

    /// The connections that are given one by one, or the one that the settings describe.
    fn connections(&mut self) -> Option<Vec<XmppConnectionSettings>> {
        let trusted = self.list("brewery-trusted");
        let raw = self.layers.connections();
        if !raw.is_empty() {
            let checked: Vec<_> = raw.iter().map(RawConnection::settings).collect();
            let mut connections = Vec::new();
            for connection in checked {
                match connection {
                    Ok(connection) => {
                        connections.push(XmppConnectionSettings { trusted: trusted.clone(), ..connection })
                    }
                    Err(errors) => self.errors.extend(errors),
                }
            }
            return Some(connections);
        }
        let password = self.password("bridge.password", "bridge.password-file");
        // A process that starts again takes the place of its dead stream, which leaves the brewery at once.
        let nickname: String = self.required("bridge.nickname")?;
        let xmpp = self.xmpp("bridge.jid", password, Some(&nickname));
        let brewery = self.required("brewery");
        Some(vec![XmppConnectionSettings {
            id: "xmpp".to_owned(),
            xmpp: xmpp?,
            breweries: vec![brewery?],
            nickname,
            trusted,
        }])
    }

    /// The outer `None` is a value that is wrong, the inner one no login.
    fn login(&mut self) -> Option<Option<LoginSettings>> {
        let kind = match self.text("focus.login.type").as_deref() {
            Some("xmpp") => LoginType::Xmpp,
            Some("jwt") => LoginType::Jwt,
            _ => return Some(None),
        };
        let (domain, lifetime) = (self.required("focus.login.domain")?, self.duration("focus.login.lifetime")?);
        Some(Some(LoginSettings { kind, domain, lifetime, auto_login: self.switch("focus.login.auto") }))
    }

    fn recording(&mut self) -> Option<RecordingSettings> {
        Some(RecordingSettings {
            brewery: self.optional("focus.jibri.brewery"),
            sip_brewery: self.optional("focus.jibri.sip-brewery"),
            pending_timeout: self.duration("focus.jibri.pending-timeout")?,
            retries: self.required("focus.jibri.retries")?,
        })
    }

    fn bridge(&mut self) -> Option<BridgeSettings> {
        let connections = self.connections();
        let websocket = self.switch("bridge.websocket.enabled");
        let sctp = self.switch("bridge.sctp.enabled");
        if let (false, false, Some(key)) = (websocket, sctp, Key::find("bridge.sctp.enabled")) {
            let remedy =
                "clients would have no bridge channel and see no video: switch this or bridge.websocket.enabled on";
            self.wrong(key, remedy);
        }
        // Nobody is given an address that nobody serves.
        let base_url: Option<String> =
            if websocket { self.required("bridge.websocket.base-url") } else { Some(String::new()) };
        let base_url = base_url.map(|url| url.trim_end_matches('/').to_owned());
        let relay_url = self.text("bridge.relay.websocket-url").filter(|_| websocket).or_else(|| base_url.clone());
        let cores: Vec<usize> = self.list("bridge.cores");
        let workers: usize = self.required("bridge.workers")?;
        if let (true, Some(key)) = (!cores.is_empty() && cores.len() < workers, Key::find("bridge.cores")) {
            self.wrong(key, format!("{workers} workers need {workers} cores; give as many, or fewer --workers"));
        }
        Some(BridgeSettings {
            connections: connections?,
            local_addresses: self.list("bridge.listen-addresses"),
            chosen_by: self
                .layers
                .get("bridge.listen-addresses")
                .filter(|raw| matches!(raw.origin, Origin::Derived(_)))
                .map(|_| self.layers.address_filter()),
            public_addresses: self.list("bridge.public-addresses"),
            discovery: self.discovery()?,
            advertise_private: self.switch("bridge.advertise-private-addresses"),
            port: self.required("bridge.port")?,
            workers,
            spill_endpoints: self.required("bridge.spill-endpoints")?,
            audio_ssrcs: self.required("bridge.ssrc-limit.audio")?,
            video_ssrcs: self.required("bridge.ssrc-limit.video")?,
            congestion_control: self.text("bridge.congestion-control").as_deref() != Some("off"),
            start_bitrate: self.required("bridge.start-bitrate")?,
            loudest_only: self.loudest_only()?,
            cores,
            io: match self.text("bridge.io").as_deref() {
                Some("uring") => IoChoice::Uring,
                Some("mmsg") => IoChoice::Mmsg,
                _ => IoChoice::Auto,
            },
            io_options: self.text("bridge.io-options").unwrap_or_default().parse().unwrap_or_default(),
            websocket_listen: if websocket { Some(self.required("bridge.websocket.listen")?) } else { None },
            websocket_base_url: base_url?,
            relay_websocket_base_url: relay_url?.trim_end_matches('/').to_owned(),
            websocket_server_id: self.required("bridge.websocket.server-id")?,
            rest_listen: self.required("bridge.rest.listen")?,
            region: self.text("bridge.region"),
            relay: self.relay()?,
            drain: self.switch("bridge.drain"),
            shutdown: ShutdownSettings {
                graceful_max_duration: self.duration("bridge.shutdown.graceful-max-duration")?,
                graceful_min_participants: self.required("bridge.shutdown.graceful-min-participants")?,
                shutting_down_delay: self.duration("bridge.shutdown.delay")?,
            },
            shutdown_over_rest: self.switch("bridge.shutdown.over-rest"),
            shutdown_over_xmpp: self.switch("bridge.shutdown.over-xmpp"),
            sctp,
            ice_restart: self.switch("bridge.ice-restart"),
            disable_rewriting: self.switch("bridge.disable-rewriting"),
        })
    }

    /// The outer `None` is a value that is wrong, the inner one no relays.
    fn relay(&mut self) -> Option<Option<RelaySettings>> {
        let (lowest, highest): (u16, u16) =
            (self.required("bridge.relay.min-port")?, self.required("bridge.relay.max-port")?);
        if let (true, Some(key)) =
            (lowest > highest || (lowest == 0) != (highest == 0), Key::find("bridge.relay.max-port"))
        {
            self.wrong(key, format!("the lowest port is {lowest}: set both, the highest not below the lowest"));
            return None;
        }
        if !self.switch("bridge.relay.enabled") {
            return Some(None);
        }
        let (id, region) = (self.required("bridge.relay.id"), self.required::<String>("bridge.region"));
        region?;
        let id: String = id?;
        if let (true, Some(key)) = (id.len() > MAX_ID, Key::find("bridge.relay.id")) {
            self.wrong(key, format!("use at most {MAX_ID} bytes"));
            return None;
        }
        Some(Some(RelaySettings { id, ports: PortRange::new(lowest, highest) }))
    }

    fn discovery(&mut self) -> Option<DiscoverySettings> {
        Some(DiscoverySettings {
            stun_servers: self.list("bridge.discovery.stun-servers"),
            aws: match self.text("bridge.discovery.aws").as_deref() {
                Some("on") => AwsLookup::On,
                Some("auto") => AwsLookup::Auto,
                _ => AwsLookup::Off,
            },
            aws_service: self.required("bridge.discovery.aws-address")?,
        })
    }

    /// The outer `None` is a value that is wrong, the inner one everybody.
    fn loudest_only(&mut self) -> Option<Option<LoudestOnly>> {
        let (only, dominant) = (self.switch("bridge.loudest.only"), self.switch("bridge.loudest.dominant"));
        let count = self.required("bridge.loudest.count")?;
        Some(only.then_some(LoudestOnly { count, dominant }))
    }

    fn focus(&mut self) -> Option<FocusSettings> {
        let password = self.password("focus.password", "focus.password-file");
        // Clients address the focus by this resource.
        let xmpp = self.xmpp("focus.jid", password, Some("focus"));
        let xmpp = xmpp.map(|xmpp| XmppSettings { resumption: true, ..xmpp });
        let (brewery, conference_muc) = (self.required("brewery"), self.required("focus.conference-muc"));
        Some(FocusSettings {
            xmpp: xmpp?,
            brewery: brewery?,
            brewery_trusted: self.list("brewery-trusted"),
            conference_muc: conference_muc?,
            breakout_muc: self.optional("focus.breakout-muc"),
            client_domain: self.optional("focus.client-domain"),
            rest_listen: self.required("focus.rest.listen")?,
            min_participants: self.required("focus.min-participants")?,
            single_participant_timeout: self.duration("focus.single-participant-timeout")?,
            initial_timeout: self.duration("focus.initial-timeout")?,
            sctp: self.switch("focus.sctp.enabled"),
            ice_restart: self.switch("focus.ice-restart"),
            max_conferences: self.required("focus.max-conferences")?,
            moderator_checks: self.switch("focus.moderator-checks"),
            trusted_domains: self.list("focus.trusted-domains"),
            auto_owner: self.switch("focus.auto-owner"),
            login: self.login()?,
            client_proxy: self.optional("focus.client-proxy"),
            jigasi_brewery: self.optional("focus.jigasi.brewery"),
            recording: self.recording()?,
            sources: self.sources()?,
            ice_failure: self.ice_failure()?,
            visitors: self.visitors()?,
            selection: self.selection()?,
            load_redistribution: self.load_redistribution()?,
            relay_sctp: self.switch("focus.relay.sctp"),
            state_directory: self.text("focus.state-directory").filter(|path| !path.is_empty()).map(PathBuf::from),
        })
    }
}

impl Reader<'_> {
    /// The outer `None` is a value that is wrong, the inner one no visitors.
    fn visitors(&mut self) -> Option<Option<VisitorSettings>> {
        let main: BareJid = self.optional("focus.conference-muc")?;
        let nodes = match visitor_nodes::settings(self.layers.visitor_nodes(), &main) {
            Ok(nodes) => nodes,
            Err(errors) => {
                self.errors.extend(errors);
                return None;
            }
        };
        let settings = VisitorSettings {
            max_participants: self.required("focus.visitors.max-participants")?,
            max_per_node: self.required("focus.visitors.max-visitors-per-node")?,
            notification_interval: self.duration("focus.visitors.notification-interval")?,
            join_latency: self.duration("focus.visitors.vnode-join-latency-interval")?,
            broadcast: self.switch("focus.visitors.auto-enable-broadcast"),
            require_room_flag: self.switch("focus.visitors.require-muc-config-flag"),
            live_room: self.switch("focus.visitors.enable-live-room"),
            nodes,
        };
        Some(self.switch("focus.visitors.enabled").then_some(settings))
    }

    fn sources(&mut self) -> Option<SourceSettings> {
        Some(SourceSettings {
            limits: SourceLimits {
                ssrcs: self.required("focus.max-ssrcs-per-user")?,
                groups: self.required("focus.max-ssrc-groups-per-user")?,
            },
            senders: SenderLimits {
                audio: self.required("focus.max-audio-senders")?,
                video: self.required("focus.max-video-senders")?,
            },
            delays: SignalingDelays::new(
                self.text("focus.source-signaling-delays").as_deref().and_then(values::delays).unwrap_or_default(),
            ),
        })
    }

    /// The outer `None` is a value that is wrong, the inner one never.
    fn load_redistribution(&mut self) -> Option<Option<LoadRedistribution>> {
        let percent: u32 = self.required("focus.load-redistribution.stress-percent")?;
        let settings = LoadRedistribution {
            interval: self.duration("focus.load-redistribution.interval")?,
            stress: f64::from(percent) / 100.0,
            timeout: self.duration("focus.load-redistribution.timeout")?,
            endpoints: self.required("focus.load-redistribution.endpoints")?,
        };
        Some(self.switch("focus.load-redistribution.enabled").then_some(settings))
    }

    fn selection(&mut self) -> Option<SelectionSettings> {
        // Less than nothing is any number, as with Jicofo.
        let most = |number: i64| usize::try_from(number).ok().filter(|most| *most > 0);
        let (recent, interval) = (
            self.required("focus.selection.max-recent-participants")?,
            self.duration("focus.selection.recent-interval")?,
        );
        let percent: u32 = self.required("focus.selection.stress-percent")?;
        Some(SelectionSettings {
            strategy: self.required("focus.selection.strategy")?,
            relays: self.switch("focus.relay.enabled"),
            mixed_versions: self.switch("focus.relay.mixed-versions"),
            local_region: self.text("focus.selection.local-region"),
            region_groups: self.optional("focus.selection.region-groups").unwrap_or_default(),
            max_participants: most(self.required("focus.selection.max-participants")?),
            max_recent: most(recent).map(|most| (most, interval)),
            stress_threshold: f64::from(percent) / 100.0,
        })
    }

    /// The outer `None` is a value that is wrong, the inner one never.
    fn ice_failure(&mut self) -> Option<Option<IceFailureSettings>> {
        let settings = IceFailureSettings {
            interval: self.duration("focus.ice-failure.interval")?,
            min_endpoints: self.required("focus.ice-failure.min-endpoints")?,
            percent: self.required("focus.ice-failure.percent")?,
            timeout: self.duration("focus.ice-failure.timeout")?,
        };
        Some(self.switch("focus.ice-failure.enabled").then_some(settings))
    }
}

fn bad_item<T: FromStr>(list: &str) -> Option<String> {
    list.split(',').map(str::trim).find(|item| item.parse::<T>().is_err()).map(str::to_owned)
}

/// What is wrong with the base of a WebSocket address.
fn url_remedy(text: &str) -> Option<String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Some(format!("use ws:// or wss:// before it, e.g. wss://{text}"));
    };
    let meant = match scheme {
        "ws" | "wss" if rest.trim_matches('/').is_empty() => return Some("the name of the host is missing".to_owned()),
        "ws" | "wss" if rest.contains(['?', '#', ' ']) => return Some("use host, port and path alone".to_owned()),
        "ws" | "wss" => return None,
        "http" => "ws",
        _ => "wss",
    };
    Some(format!("browsers need a WebSocket address: {meant}://{rest}"))
}
