//! The settings, one row each.

/// Which part of ringbridge reads a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Both.
    Common,
    /// `ringbridge bridge` and `ringbridge all`.
    Bridge,
    /// `ringbridge focus` and `ringbridge all`.
    Focus,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A secret: masked wherever it is shown.
    Secret,
    /// Path of a file.
    File,
    /// `user@domain` or `room@service`.
    Jid,
    /// Domain of an XMPP service.
    Service,
    /// Base of a WebSocket address, `ws://…` or `wss://…`, without a path of our own.
    Url,
    /// Filter of log lines.
    Filter,
    /// A whole number in this range.
    Number(i64, i64),
    /// `true` or `false`.
    Switch,
    /// IP address and port.
    Socket,
    /// IP addresses, in a list or separated by commas.
    Addresses,
    /// Addresses of a NAT: `198.51.100.7`, with a port `198.51.100.7#443`, for one local address `10.0.0.5=198.51.100.7`.
    PublicAddresses,
    /// STUN servers, `stun.example.net:443`, in a list or separated by commas.
    StunServers,
    /// Names of hosts, in a list or separated by commas.
    HostNames,
    /// XMPP accounts and domains, in a list or separated by commas.
    Accounts,
    /// Core numbers, in a list or separated by commas.
    Cores,
    /// Extras of the packet path's I/O: words of [`ringbridge_dataplane::io::IoExtras`].
    IoOptions,
    /// A span of time: `20 s`, `500 ms`, or a number of milliseconds.
    Duration,
    /// Spans of time by a number of participants: `50 = 500 ms, 100 = 1 s`, or an object.
    Delays,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Path in the file.
    pub path: &'static str,
    /// Flag without the dashes; the environment variable is made from it.
    pub flag: &'static str,
    /// Who reads it.
    pub part: Part,
    /// What it looks like.
    pub kind: Kind,
    /// Used when nobody says anything; empty is none.
    pub default: &'static str,
    /// For the operator.
    pub help: &'static str,
    /// Not shown in `--help`.
    pub hidden: bool,
}

impl Key {
    /// Name of the environment variable.
    pub fn variable(&self) -> String {
        format!("RINGBRIDGE_{}", self.flag.replace('-', "_").to_ascii_uppercase())
    }

    /// The setting at a path.
    pub fn find(path: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.path == path)
    }
}

const fn key(
    path: &'static str,
    flag: &'static str,
    part: Part,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key { path, flag, part, kind, default, help, hidden: false }
}

/// Every setting.
pub const KEYS: &[Key] = &[
    key("xmpp.host", "xmpp-host", Part::Common, Kind::Text, "127.0.0.1", "Name or address of the XMPP server"),
    key("xmpp.port", "xmpp-port", Part::Common, Kind::Number(1, 65_535), "5222", "Its client port"),
    key(
        "xmpp.security",
        "xmpp-security",
        Part::Common,
        Kind::Choice(&["required", "if-possible", "disabled"]),
        "required",
        "Whether STARTTLS is required; plain TCP is meant for a server on this host",
    ),
    key(
        "xmpp.verify-certificate",
        "xmpp-verify-certificate",
        Part::Common,
        Kind::Switch,
        "true",
        "Verify the server's certificate against the certificate authorities of this host",
    ),
    key(
        "xmpp.ca-file",
        "xmpp-ca-file",
        Part::Common,
        Kind::File,
        "",
        "Further certificate authorities, a file in PEM format",
    ),
    key(
        "brewery",
        "brewery",
        Part::Common,
        Kind::Jid,
        "",
        "Room in which bridges announce themselves, e.g. jvbbrewery@internal.auth.example.net",
    ),
    key(
        "rest.host-names",
        "rest-host-names",
        Part::Common,
        Kind::HostNames,
        "",
        "Host names that the HTTP pages for operators accept, in addition to IP addresses, names without a dot and this host's own names",
    ),
    key(
        "brewery-trusted",
        "brewery-trusted",
        Part::Common,
        Kind::Accounts,
        "",
        "Accounts and domains that are trusted in that room, e.g. auth.example.net; default: the domain of our own account",
    ),
    key("bridge.jid", "bridge-jid", Part::Bridge, Kind::Jid, "", "Account of the bridge, e.g. jvb@auth.example.net"),
    key("bridge.password", "bridge-password", Part::Bridge, Kind::Secret, "", "Its password"),
    key("bridge.password-file", "bridge-password-file", Part::Bridge, Kind::File, "", "File that holds its password"),
    key(
        "bridge.nickname",
        "nickname",
        Part::Bridge,
        Kind::Text,
        "ringbridge",
        "Name in the brewery, unique among its bridges",
    ),
    key(
        "bridge.listen-addresses",
        "local-address",
        Part::Bridge,
        Kind::Addresses,
        "",
        "Local addresses for media; default: all except loopback",
    ),
    key(
        "bridge.blocked-addresses",
        "blocked-address",
        Part::Bridge,
        Kind::Addresses,
        "",
        "Addresses of this host that must not be used",
    ),
    key(
        "bridge.allowed-interfaces",
        "interface",
        Part::Bridge,
        Kind::Text,
        "",
        "Interfaces whose addresses are used, e.g. eth0,eth1; default: all",
    ),
    key(
        "bridge.blocked-interfaces",
        "blocked-interface",
        Part::Bridge,
        Kind::Text,
        "",
        "Interfaces whose addresses are not used, e.g. docker0",
    ),
    key("bridge.ipv6", "ipv6", Part::Bridge, Kind::Switch, "true", "Use IPv6 addresses"),
    key(
        "bridge.public-addresses",
        "public-address",
        Part::Bridge,
        Kind::PublicAddresses,
        "",
        "Public addresses of this host behind a NAT: 198.51.100.7; with a port, 198.51.100.7#443; for one local address, 10.0.0.5=198.51.100.7",
    ),
    key(
        "bridge.discovery.stun-servers",
        "stun-server",
        Part::Bridge,
        Kind::StunServers,
        "",
        "STUN servers that are asked for the public address of each local one, e.g. stun.example.net:443; default: none",
    ),
    key(
        "bridge.discovery.aws",
        "aws-metadata",
        Part::Bridge,
        Kind::Choice(&["off", "auto", "on"]),
        "off",
        "Ask the instance metadata service of AWS (IMDSv2) for the public address; with on, a missing service is reported",
    ),
    key(
        "bridge.discovery.aws-address",
        "aws-metadata-address",
        Part::Bridge,
        Kind::Socket,
        "169.254.169.254:80",
        "Address of that service",
    ),
    key(
        "bridge.advertise-private-addresses",
        "advertise-private-addresses",
        Part::Bridge,
        Kind::Switch,
        "true",
        "Advertise private addresses to everybody, not only to endpoints that say they reach them",
    ),
    key("bridge.port", "port", Part::Bridge, Kind::Number(1, 65_535), "10000", "UDP port for media"),
    key(
        "bridge.workers",
        "workers",
        Part::Bridge,
        Kind::Number(0, 256),
        "0",
        "Number of media threads; 0: one per core given by --cores, otherwise one less than the number of cores",
    ),
    key(
        "bridge.spill-endpoints",
        "spill-endpoints",
        Part::Bridge,
        Kind::Number(1, 1000),
        "50",
        "Endpoints of one conference on one worker before new ones are placed on another; fewer when the worker is busy",
    ),
    key(
        "bridge.ssrc-limit.audio",
        "ssrc-limit-audio",
        Part::Bridge,
        Kind::Number(1, 1000),
        "50",
        "Number of SSRCs on which a client with SSRC rewriting receives all audio",
    ),
    key(
        "bridge.ssrc-limit.video",
        "ssrc-limit-video",
        Part::Bridge,
        Kind::Number(1, 1000),
        "50",
        "Number of SSRC pairs (media and retransmissions) on which it receives all video",
    ),
    key(
        "bridge.congestion-control",
        "congestion-control",
        Part::Bridge,
        Kind::Choice(&["on", "off"]),
        "on",
        "Limit the video sent to each receiver to the estimated bandwidth of its path",
    ),
    key(
        "bridge.start-bitrate",
        "start-bitrate",
        Part::Bridge,
        Kind::Number(30_000, 20_000_000),
        "2500000",
        "Initial bandwidth estimate of a path, in bits per second",
    ),
    key(
        "bridge.loudest.only",
        "loudest-only",
        Part::Bridge,
        Kind::Switch,
        "false",
        "Forward the audio of the loudest participants only",
    ),
    key(
        "bridge.loudest.count",
        "loudest-count",
        Part::Bridge,
        Kind::Number(1, 1000),
        "3",
        "How many loudest participants are forwarded",
    ),
    key(
        "bridge.loudest.dominant",
        "loudest-dominant",
        Part::Bridge,
        Kind::Switch,
        "true",
        "Also forward the dominant speaker, even during a pause",
    ),
    key("bridge.cores", "cores", Part::Bridge, Kind::Cores, "", "Cores to pin the workers to, one each, e.g. 2,3"),
    key(
        "bridge.io",
        "io",
        Part::Bridge,
        Kind::Choice(&["auto", "uring", "mmsg"]),
        "auto",
        "I/O backend; auto measures both at start",
    ),
    key(
        "bridge.io-options",
        "io-options",
        Part::Bridge,
        Kind::IoOptions,
        "",
        "Optional kernel and NIC features, off by default: sqpoll, zero-copy (both io_uring), busy-poll=MICROSECONDS; and \
         coalesce=MICROSECONDS, for how long packets of many conferences wait for each other at most (0, the default: off)",
    ),
    key(
        "bridge.websocket.enabled",
        "websocket",
        Part::Bridge,
        Kind::Switch,
        "true",
        "Serve the bridge channel over WebSockets; when off, only over data channels",
    ),
    key(
        "bridge.websocket.listen",
        "websocket-listen",
        Part::Bridge,
        Kind::Socket,
        "127.0.0.1:9090",
        "Address on which the bridge channel's WebSocket listens",
    ),
    key(
        "bridge.websocket.base-url",
        "websocket-url",
        Part::Bridge,
        Kind::Url,
        "",
        "Base URL by which clients reach it, e.g. wss://meet.example.net; /colibri-ws/... is appended; default: the address above",
    ),
    key(
        "bridge.websocket.server-id",
        "websocket-server-id",
        Part::Bridge,
        Kind::Text,
        "",
        "First component of that path, by which a reverse proxy in front of several bridges routes; default: the nickname",
    ),
    key(
        "bridge.sctp.enabled",
        "sctp",
        Part::Bridge,
        Kind::Switch,
        "true",
        "Also serve the bridge channel over SCTP data channels, which Jicofo requests by default",
    ),
    key(
        "bridge.ice-restart",
        "ice-restart",
        Part::Bridge,
        Kind::Switch,
        "true",
        "Restart ICE in place when a client asks for it; otherwise the focus invites the client again",
    ),
    key(
        "bridge.rest.listen",
        "rest-listen",
        Part::Bridge,
        Kind::Socket,
        "127.0.0.1:8080",
        "Address on which health, statistics and metrics of the bridge are served",
    ),
    key("bridge.region", "region", Part::Bridge, Kind::Text, "", "Region published to the focus"),
    key(
        "bridge.relay.enabled",
        "relay",
        Part::Bridge,
        Kind::Switch,
        "false",
        "Link this bridge with others, so that one conference can be on several; needs bridge.relay.id and bridge.region",
    ),
    key(
        "bridge.relay.id",
        "relay-id",
        Part::Bridge,
        Kind::Text,
        "",
        "Name of this bridge among those that it may be linked with; unique, and the same after each restart",
    ),
    key(
        "bridge.relay.min-port",
        "relay-min-port",
        Part::Bridge,
        Kind::Number(0, 65_535),
        "0",
        "Lowest UDP port of links that this bridge opens to others, which have a port each; 0: the kernel chooses",
    ),
    key("bridge.relay.max-port", "relay-max-port", Part::Bridge, Kind::Number(0, 65_535), "0", "Highest of them"),
    key("bridge.drain", "drain", Part::Bridge, Kind::Switch, "false", "Start in drain mode: the focus prefers others"),
    key(
        "bridge.shutdown.graceful-max-duration",
        "graceful-max-duration",
        Part::Bridge,
        Kind::Duration,
        "24 h",
        "How long a graceful shutdown waits for conferences to end",
    ),
    key(
        "bridge.shutdown.graceful-min-participants",
        "graceful-min-participants",
        Part::Bridge,
        Kind::Number(0, 100_000),
        "0",
        "Number of endpoints at which it no longer waits",
    ),
    key(
        "bridge.shutdown.delay",
        "shutdown-delay",
        Part::Bridge,
        Kind::Duration,
        "60 s",
        "Time for the focus to move everybody away before the bridge ends",
    ),
    key(
        "bridge.shutdown.over-rest",
        "shutdown-over-rest",
        Part::Bridge,
        Kind::Switch,
        "false",
        "Serve POST /colibri/shutdown",
    ),
    key(
        "bridge.shutdown.over-xmpp",
        "shutdown-over-xmpp",
        Part::Bridge,
        Kind::Switch,
        "false",
        "Let occupants of the brewery shut the bridge down",
    ),
    Key {
        hidden: true,
        ..key(
            "bridge.disable-rewriting",
            "test-disable-rewriting",
            Part::Bridge,
            Kind::Switch,
            "false",
            "Test only: forward under the sender's payload types and extension ids",
        )
    },
    key("focus.jid", "focus-jid", Part::Focus, Kind::Jid, "", "Account of the focus, e.g. focus@auth.example.net"),
    key("focus.password", "focus-password", Part::Focus, Kind::Secret, "", "Its password"),
    key("focus.password-file", "focus-password-file", Part::Focus, Kind::File, "", "File that holds its password"),
    key(
        "focus.conference-muc",
        "conference-muc",
        Part::Focus,
        Kind::Service,
        "",
        "MUC service of the conference rooms, e.g. conference.example.net",
    ),
    key(
        "focus.breakout-muc",
        "breakout-muc",
        Part::Focus,
        Kind::Service,
        "",
        "MUC service of breakout rooms; default: the one that the clients' host announces",
    ),
    key(
        "focus.client-domain",
        "client-domain",
        Part::Focus,
        Kind::Service,
        "",
        "Host where clients log in, which announces the components for breakout rooms, moderation and metadata; default: conference-muc without its first label",
    ),
    key(
        "focus.rest.listen",
        "focus-rest-listen",
        Part::Focus,
        Kind::Socket,
        "127.0.0.1:8888",
        "Address on which health and statistics of the focus are served",
    ),
    key(
        "focus.sctp.enabled",
        "focus-sctp",
        Part::Focus,
        Kind::Switch,
        "true",
        "Offer a data channel to clients that can use one; a client may still choose the WebSocket",
    ),
    key(
        "focus.ice-restart",
        "focus-ice-restart",
        Part::Focus,
        Kind::Switch,
        "true",
        "Ask the bridge to restart ICE in place when a client asks for it; otherwise the client has to ask for a new session",
    ),
    key(
        "focus.min-participants",
        "min-participants",
        Part::Focus,
        Kind::Number(1, 100),
        "2",
        "Number of participants from which media is allocated",
    ),
    key(
        "focus.single-participant-timeout",
        "single-participant-timeout",
        Part::Focus,
        Kind::Duration,
        "20 s",
        "How long the last participant keeps its media session",
    ),
    key(
        "focus.initial-timeout",
        "initial-timeout",
        Part::Focus,
        Kind::Duration,
        "15 s",
        "How long the focus stays in a room that nobody joins",
    ),
    key(
        "focus.max-conferences",
        "max-conferences",
        Part::Focus,
        Kind::Number(1, 100_000),
        "5000",
        "Maximum number of concurrent conferences; further requests are told to try again",
    ),
    key(
        "focus.ice-failure.enabled",
        "ice-failure",
        Part::Focus,
        Kind::Switch,
        "false",
        "Let new conferences avoid a bridge of whose endpoints many ask for another session, as clients do that do not reach it",
    ),
    key(
        "focus.ice-failure.interval",
        "ice-failure-interval",
        Part::Focus,
        Kind::Duration,
        "2 m",
        "How long such a request counts",
    ),
    key(
        "focus.ice-failure.min-endpoints",
        "ice-failure-min-endpoints",
        Part::Focus,
        Kind::Number(1, 100_000),
        "30",
        "Endpoints on a bridge before it is judged",
    ),
    key(
        "focus.ice-failure.percent",
        "ice-failure-percent",
        Part::Focus,
        Kind::Number(1, 100),
        "10",
        "Endpoints that ask, in percent of all, from which the bridge is avoided",
    ),
    key(
        "focus.ice-failure.timeout",
        "ice-failure-timeout",
        Part::Focus,
        Kind::Duration,
        "10 m",
        "How long it is avoided",
    ),
    key(
        "focus.max-ssrcs-per-user",
        "max-ssrcs-per-user",
        Part::Focus,
        Kind::Number(1, 100),
        "20",
        "SSRCs of one participant at most",
    ),
    key(
        "focus.max-ssrc-groups-per-user",
        "max-ssrc-groups-per-user",
        Part::Focus,
        Kind::Number(1, 100),
        "20",
        "Groups of SSRCs of one participant at most",
    ),
    key(
        "focus.max-audio-senders",
        "max-audio-senders",
        Part::Focus,
        Kind::Number(0, 1_000_000),
        "999999",
        "Participants of one conference that may send audio at a time; newcomers beyond it start muted, and clients keep from unmuting",
    ),
    key(
        "focus.max-video-senders",
        "max-video-senders",
        Part::Focus,
        Kind::Number(0, 1_000_000),
        "999999",
        "The same for video",
    ),
    key(
        "focus.source-signaling-delays",
        "source-signaling-delays",
        Part::Focus,
        Kind::Delays,
        "",
        "How long changes of sources wait for each other before the others are told, by the number of participants, e.g. 50=500, 100=1000; default: not at all",
    ),
    key(
        "focus.moderator-checks",
        "moderator-checks",
        Part::Focus,
        Kind::Switch,
        "true",
        "Let only moderators record, stream and call out; when off, everybody in the room may",
    ),
    key(
        "focus.trusted-domains",
        "trusted-domains",
        Part::Focus,
        Kind::Accounts,
        "",
        "Domains, beside that of the focus's account, whose users are believed to be recorders or gateways, e.g. hidden.example.net",
    ),
    key(
        "focus.auto-owner",
        "auto-owner",
        Part::Focus,
        Kind::Switch,
        "true",
        "Make the first participant owner of the room; when off, the server names the owners. With a login, who is logged in becomes owner",
    ),
    key(
        "focus.login.type",
        "login-type",
        Part::Focus,
        Kind::Choice(&["none", "xmpp", "jwt"]),
        "none",
        "Who may begin conferences: none, everybody; xmpp, users with an account; jwt, users with a token that the server verified",
    ),
    key(
        "focus.login.domain",
        "login-domain",
        Part::Focus,
        Kind::Service,
        "",
        "Domain of users that are logged in, e.g. meet.example.net; guests have another one",
    ),
    key(
        "focus.login.lifetime",
        "login-lifetime",
        Part::Focus,
        Kind::Duration,
        "24 h",
        "How long a login lasts after it was used; at most 1 m with tokens",
    ),
    key(
        "focus.login.auto",
        "auto-login",
        Part::Focus,
        Kind::Switch,
        "true",
        "Keep logins when the conference ends that they began with; never with tokens",
    ),
    key(
        "focus.client-proxy",
        "client-proxy",
        Part::Focus,
        Kind::Service,
        "",
        "Component by which clients reach the focus (client_proxy), e.g. focus.meet.example.net; needed there for a login",
    ),
    key(
        "focus.jigasi.brewery",
        "jigasi-brewery",
        Part::Focus,
        Kind::Jid,
        "",
        "Room in which Jigasis announce themselves, e.g. jigasibrewery@internal.auth.example.net; default: no calls out",
    ),
    key(
        "focus.jibri.brewery",
        "jibri-brewery",
        Part::Focus,
        Kind::Jid,
        "",
        "Room in which Jibris announce themselves, e.g. jibribrewery@internal.auth.example.net; default: no recording",
    ),
    key(
        "focus.jibri.sip-brewery",
        "jibri-sip-brewery",
        Part::Focus,
        Kind::Jid,
        "",
        "Room in which Jibris for SIP calls announce themselves; default: no such calls",
    ),
    key(
        "focus.jibri.pending-timeout",
        "jibri-pending-timeout",
        Part::Focus,
        Kind::Duration,
        "90 s",
        "How long a Jibri may take to begin before another one is asked",
    ),
    key(
        "focus.jibri.retries",
        "jibri-retries",
        Part::Focus,
        Kind::Number(0, 100),
        "5",
        "How many other Jibris are tried when one fails",
    ),
    key("logging.format", "log-format", Part::Common, Kind::Choice(&["text", "json"]), "text", "Format of log lines"),
    key(
        "logging.filter",
        "log-filter",
        Part::Common,
        Kind::Filter,
        "info",
        "Which log lines appear, e.g. info,ringbridge_controlplane=debug; RUST_LOG wins",
    ),
];
