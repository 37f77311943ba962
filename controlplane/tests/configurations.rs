//! Configurations as people have them (`configurations/`): what `check-config` says of each, every key with what became of it.

mod program_output;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use program_output::program;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/configurations");

/// What `check-config` printed.
struct Checked {
    /// Settings with value and origin.
    rows: Vec<(String, String, String)>,
    /// What became of each key of the file.
    notes: Vec<String>,
    /// What will not do what it says on this host.
    warnings: Vec<String>,
}

impl Checked {
    fn new(text: &str) -> Self {
        let mut parts = text.split("\n\n");
        let (table, notes, warnings) =
            (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let row = |line: &str| {
            let mut columns = line.split("  ").map(str::trim).filter(|column| !column.is_empty());
            let key = columns.next().unwrap_or_default().to_owned();
            match (columns.next(), columns.next()) {
                (Some(value), Some(origin)) => (key, value.to_owned(), origin.to_owned()),
                (origin, _) => (key, String::new(), origin.unwrap_or_default().to_owned()),
            }
        };
        Self {
            rows: table.lines().map(row).collect(),
            notes: notes.lines().skip(1).map(|line| line.replace(&format!("{FOLDER}/"), "")).collect(),
            warnings: warnings.lines().map(str::to_owned).collect(),
        }
    }

    fn value(&self, key: &str) -> &str {
        self.rows.iter().find(|(known, ..)| known == key).map_or("no such key", |(_, value, _)| value)
    }
}

/// `check-config` of a file, with nothing in the environment but these variables.
fn check(file: &Path, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    program(&["check-config", "--config", file.to_str().expect("UTF-8")], variables)
}

/// What is to come of a file: `values` of our settings, and `notes` on its keys, in their order.
struct Expected<'a> {
    file: &'a str,
    variables: &'a [(&'a str, &'a str)],
    values: &'a [(&'a str, &'a str)],
    notes: &'a [&'a str],
}

impl Expected<'_> {
    fn hold(&self) {
        let path = PathBuf::from(FOLDER).join(self.file);
        let (code, text) = check(&path, self.variables);
        assert_eq!(code, Some(0), "{}: {text}", self.file);
        let checked = Checked::new(&text);
        for (key, value) in self.values {
            assert_eq!(checked.value(key), *value, "{}: {key} in\n{text}", self.file);
        }
        // How public addresses are found: its values show it.
        let (found, notes): (Vec<&String>, Vec<&String>) = checked.notes.iter().partition(|line| {
            ["stun", "aws"].iter().any(|by| line.starts_with(&format!("ice4j.harvest.mapping.{by}")))
        });
        assert_eq!(notes, self.notes, "{}", self.file);
        assert!(found.iter().all(|line| line.contains(" is bridge.discovery.")), "{}: {found:?}", self.file);
        for warning in &checked.warnings {
            // The local addresses of these files are those of other hosts.
            assert!(warning.contains("is not advertised: ") && warning.contains("local addresses"), "{warning}");
        }
        self.every_key_is_named(&path, &checked.notes);
    }

    /// By the words before `=` in the file itself, whatever this test expects.
    fn every_key_is_named(&self, path: &Path, notes: &[String]) {
        let said = notes.join("\n");
        // Fields of connections and mappings, and keys that make one of ours together.
        let together =
            ["domain", "host", "local-address", "localAddress", "local-port", "name", "port", "public-address"]
                .into_iter()
                .chain(["publicAddress", "public-port", "static-mappings", "tls", "type", "enabled"]);
        let mut named: BTreeSet<&str> = together.collect();
        let text = std::fs::read_to_string(path).expect("a fixture");
        let written = text.lines().filter(|line| !line.trim_start().starts_with(['#', '/']));
        let words: Vec<String> = written
            .flat_map(|line| line.split('=').rev().skip(1).map(str::to_owned).collect::<Vec<_>>())
            .filter_map(|before| {
                before.split([' ', '{', '.', ',', '+', '\n']).rfind(|word| !word.is_empty()).map(str::to_owned)
            })
            .collect();
        assert!(words.len() >= 5, "{}: {words:?}", self.file);
        for word in &words {
            let field = word.to_ascii_lowercase().replace('_', "-");
            let of_connection = ["hostname", "username", "password", "domain", "muc-jids", "muc-nickname"];
            if of_connection.contains(&field.as_str()) || field == "disable-certificate-verification" || word == "PORT"
            {
                continue;
            }
            let known = named.contains(word.as_str())
                || said.contains(&format!(".{word} "))
                || said.contains(&format!(": {field} "))
                || said.contains(&format!("connection {word}:"));
            assert!(known, "{}: nothing is said of {word} in\n{said}", self.file);
            named.insert(word);
        }
    }
}

const OTHER: &str = "ignored: belongs to a part that works in another way here; see docs/coverage.md";

#[test]
fn the_debian_package() {
    Expected {
        file: "debian-minimal.conf",
        variables: &[],
        values: &[
            ("bridge.discovery.stun-servers", "stun.example.net:443"),
            ("bridge.discovery.aws", "off"),
            ("bridge.port", "10000"),
            ("bridge.rest.listen", "127.0.0.1:8080"),
            ("bridge.websocket.enabled", "false"),
            ("bridge.sctp.enabled", "true"),
            ("bridge.public-addresses", ""),
            ("bridge.shutdown.over-rest", "false"),
        ],
        notes: &["connection shard: jvb at localhost, room jvbbrewery@internal.auth.meet.example.net as \
                  5d3f9c58-1a3b-4a55-8a77-0f2f0d9c7e31  (debian-minimal.conf)"],
    }
    .hold();
}

/// What is said of the container's file, whatever is set: before and after what depends on it.
const DOCKER: [&str; 8] = [
    "connection shard0: jvb at xmpp.meet.jitsi port 5222, room jvbbrewery@internal-muc.meet.jitsi as 8c2f6d0e41aa  (FILE)",
    "jmt.bwe.estimator.engine = GoogleCc2  OTHER",
    "videobridge.apis.rest.enabled = REST  ignored: always served, on the private address only",
    "videobridge.cc.trust-bwe = true  OTHER",
    "videobridge.cc.use-vla-target-bitrate = false  OTHER",
    "videobridge.health.require-valid-address = false  ignored: the health check looks at workers, media port and XMPP by itself",
    "videobridge.http-servers.private.send-server-version = false  ignored: no server's name or version is sent",
    "videobridge.ice.advertise-private-candidates = true  is bridge.advertise-private-addresses",
];

fn docker(file: &str, rest: &str, mappings: bool, relay: &[&str], values: &[(&str, &str)]) {
    let rest_is = format!("videobridge.rest.shutdown.enabled = {rest}  is bridge.shutdown.over-rest");
    let first = DOCKER.iter().map(|line| line.replace("FILE", file).replace("REST", rest).replace("OTHER", OTHER));
    let mut notes: Vec<String> = first.collect();
    if mappings {
        notes.insert(1, "ice4j.harvest.mapping.static-mappings is bridge.public-addresses".to_owned());
    }
    notes.push("videobridge.ice.udp.port = 10000  is bridge.port".to_owned());
    notes.extend(relay.iter().map(|line| (*line).to_owned()));
    notes.extend([
        rest_is,
        "videobridge.sctp.enabled = true  is bridge.sctp.enabled".to_owned(),
        "videobridge.sctp.use-usrsctp = false  ignored: there is one SCTP implementation".to_owned(),
        "videobridge.stats.enabled = true  ignored: is fixed here at Jitsi Videobridge's default".to_owned(),
        "videobridge.http-servers.private is bridge.rest.listen".to_owned(),
    ]);
    let notes: Vec<&str> = notes.iter().map(String::as_str).collect();
    let same = [
        ("bridge.port", "10000"),
        ("bridge.rest.listen", "0.0.0.0:8080"),
        ("bridge.websocket.enabled", "false"),
        ("bridge.sctp.enabled", "true"),
        ("bridge.discovery.stun-servers", "meet-jit-si-turnrelay.jitsi.net:443"),
        ("bridge.advertise-private-addresses", "true"),
        ("bridge.shutdown.over-rest", rest),
    ];
    Expected { file, variables: &[], values: &[&same[..], values].concat(), notes: &notes }.hold();
}

#[test]
fn the_container_with_stun() {
    docker(
        "docker-stun.conf",
        "false",
        false,
        &[],
        &[("bridge.public-addresses", ""), ("bridge.region", ""), ("bridge.discovery.aws", "off")],
    );
}

#[test]
fn the_container_on_aws() {
    docker("docker-aws.conf", "true", false, &[], &[("bridge.public-addresses", ""), ("bridge.discovery.aws", "auto")]);
}

#[test]
fn the_container_with_octo() {
    let relay = [
        "videobridge.relay.enabled = true  is bridge.relay.enabled",
        "videobridge.relay.region = eu-central  is bridge.region",
        "videobridge.relay.relay-id = 192.0.2.44  is bridge.relay.id",
    ];
    let values = [
        ("bridge.public-addresses", "172.18.0.4=198.51.100.44"),
        ("bridge.region", "eu-central"),
        ("bridge.relay.enabled", "true"),
        ("bridge.relay.id", "192.0.2.44"),
    ];
    docker("docker-octo.conf", "false", true, &relay, &values);
}

#[test]
fn several_shards() {
    const SHED: &str = "ignored: a worker at its limit leaves out video by itself";
    let load = "videobridge.load-management";
    let notes = [
        "connection eu-1: jvb at 10.20.0.11 port 6222, room JvbBrewery@internal.auth.eu.example.net as jvb-7  (several-shards.conf)".to_owned(),
        "connection eu-2: jvb at 10.20.0.12 port 6222, room JvbBrewery@internal.auth.eu.example.net as jvb-7  (several-shards.conf)".to_owned(),
        "connection us-1: jvb at 10.30.0.11 port 6222, room JvbBrewery@internal.auth.us.example.net as jvb-7  (several-shards.conf)".to_owned(),
        "ice4j.harvest.blocked-interfaces = docker0,wg0  is bridge.blocked-interfaces".to_owned(),
        "videobridge.apis.rest.enabled = true  ignored: always served, on the private address only".to_owned(),
        "connection eu-1: iq-handler-mode = async  ignored: requests are handled in their order".to_owned(),
        "connection eu-2: iq-handler-mode = async  ignored: requests are handled in their order".to_owned(),
        "connection us-1: iq-handler-mode = async  ignored: requests are handled in their order".to_owned(),
        "videobridge.apis.xmpp-client.presence-interval = 10 seconds  ignored: is fixed here at Jitsi Videobridge's default".to_owned(),
        "videobridge.apis.xmpp-client.stats-filter.enabled = true  ignored: presence has all statistics".to_owned(),
        "videobridge.ice.udp.port = 10000  is bridge.port".to_owned(),
        "videobridge.initial-drain-mode = false  is bridge.drain".to_owned(),
        format!("{load}.average-participant-stress = 0.005  {SHED}"),
        format!("{load}.load-measurements.packet-rate.load-threshold = 80000  {SHED}"),
        format!("{load}.load-measurements.packet-rate.recovery-threshold = 72000  {SHED}"),
        format!("{load}.reducer-enabled = true  {SHED}"),
        "videobridge.relay.enabled = true  is bridge.relay.enabled".to_owned(),
        "videobridge.relay.region = eu-central-1  is bridge.region".to_owned(),
        "videobridge.relay.relay-id = jvb-7.example.net  is bridge.relay.id".to_owned(),
        "videobridge.rest.shutdown.enabled = true  is bridge.shutdown.over-rest".to_owned(),
        "videobridge.shutdown.graceful-shutdown-max-duration = 12 hours  is bridge.shutdown.graceful-max-duration".to_owned(),
        "videobridge.shutdown.graceful-shutdown-min-participants = 3  is bridge.shutdown.graceful-min-participants".to_owned(),
        "videobridge.version.release = jitsi-4711  ignored: ringbridge announces its own version, without a release".to_owned(),
    ];
    Expected {
        file: "several-shards.conf",
        variables: &[],
        values: &[
            ("bridge.discovery.stun-servers", ""),
            ("bridge.discovery.aws", "off"),
            ("bridge.blocked-interfaces", "docker0,wg0"),
            ("bridge.region", "eu-central-1"),
            ("bridge.shutdown.graceful-max-duration", "12 hours"),
            ("bridge.shutdown.graceful-min-participants", "3"),
            ("bridge.shutdown.over-rest", "true"),
            ("bridge.drain", "false"),
        ],
        notes: &notes.each_ref().map(String::as_str),
    }
    .hold();
}

#[test]
fn includes_and_the_environment() {
    let variables = [
        ("MEDIA_PORT", "20001"),
        ("PUBLIC_ADDRESS", "198.51.100.9"),
        ("DOMAIN", "meet.example.net"),
        ("XMPP_HOST", "10.0.0.9"),
        ("REGION", "north"),
    ];
    let expected = Expected {
        file: "includes/jvb.conf",
        variables: &variables,
        values: &[
            ("bridge.public-addresses", "198.51.100.9"),
            ("bridge.port", "20001"),
            ("bridge.region", "north"),
            ("bridge.shutdown.delay", "15 seconds"),
            ("bridge.allowed-interfaces", ""),
            ("bridge.websocket.enabled", "false"),
        ],
        notes: &[
            "connection shard: jvb at 10.0.0.9, room jvbbrewery@internal.auth.meet.example.net as jvb-north-1  (includes/jvb.conf)",
            "ice4j.harvest.mapping.static-mappings is bridge.public-addresses",
            "videobridge.apis.xmpp-client.presence-interval = 15 seconds  ignored: is fixed here at Jitsi Videobridge's default",
            "videobridge.ice.udp.port = 20001  is bridge.port",
            "videobridge.relay.region = north  is bridge.region",
            "videobridge.shutdown.shutting-down-delay = 15 seconds  is bridge.shutdown.delay",
            "videobridge.stats.interval = 15 seconds  ignored: is fixed here at Jitsi Videobridge's default",
            "videobridge.websockets.enabled = false  is bridge.websocket.enabled",
        ],
    };
    let path = PathBuf::from(FOLDER).join(expected.file);
    let (code, text) = check(&path, &variables);
    assert_eq!(code, Some(0), "{text}");
    let checked = Checked::new(&text);
    for (key, value) in expected.values {
        assert_eq!(checked.value(key), *value, "{key} in\n{text}");
    }
    assert_eq!(checked.notes, expected.notes);
    // What must be there and is not ends it, by name and line; what may be absent does not.
    let (code, text) = check(&path, &variables[1..]);
    assert!(code == Some(0) && Checked::new(&text).value("bridge.port") == "10000", "{text}");
    for missing in ["PUBLIC_ADDRESS", "DOMAIN", "XMPP_HOST"] {
        let rest: Vec<_> = variables.into_iter().filter(|(name, _)| *name != missing).collect();
        let (code, text) = check(&path, &rest);
        assert!(code == Some(2) && text.contains(missing), "{missing}: {text}");
    }
}

#[test]
fn keys_of_years_ago() {
    const RELAYS: &str = "ignored: bridges reach each other at the media port, with addresses that signalling carries";
    const TCP: &str = "ignored: media over TCP is not served, by today's Jitsi Videobridge neither; who has no UDP goes through a TURN server";
    let notes = [
        "connection shard: jvb at xmpp.example.net, room jvbbrewery@internal.auth.example.net as jvb1  (old-keys.conf)"
            .to_owned(),
        "ice4j.harvest.mapping.static-mappings is bridge.public-addresses".to_owned(),
        "videobridge.apis.jvb-api.enabled = false  ignored: conferences come over XMPP alone".to_owned(),
        format!("videobridge.ice.tcp.enabled = true  {TCP}"),
        format!("videobridge.ice.tcp.port = 4443  {TCP}"),
        "videobridge.ice.udp.port = 10000  is bridge.port".to_owned(),
        "videobridge.multi-stream.enabled = true  ignored: always on, as in today's Jitsi Videobridge".to_owned(),
        "videobridge.octo.bind-address = 10.0.0.5  is bridge.relay.id".to_owned(),
        format!("videobridge.octo.bind-port = 4096  {RELAYS}"),
        "videobridge.octo.enabled = false  is bridge.relay.enabled".to_owned(),
        format!("videobridge.octo.public-address = 198.51.100.7  {RELAYS}"),
        "videobridge.octo.region = north  is bridge.region".to_owned(),
        "videobridge.stats.interval = 5 seconds  ignored: is fixed here at Jitsi Videobridge's default".to_owned(),
        "videobridge.stats.transports = [...]  ignored: is fixed here at Jitsi Videobridge's default".to_owned(),
        "videobridge.websockets.enabled = true  is bridge.websocket.enabled".to_owned(),
        "videobridge.http-servers.public is bridge.websocket.listen".to_owned(),
        "videobridge.websockets.domain is bridge.websocket.base-url".to_owned(),
    ];
    Expected {
        file: "old-keys.conf",
        variables: &[],
        values: &[
            ("bridge.discovery.stun-servers", ""),
            ("bridge.discovery.aws", "auto"),
            ("bridge.public-addresses", "10.0.0.5=198.51.100.7"),
            ("bridge.port", "10000"),
            ("bridge.websocket.listen", "0.0.0.0:9090"),
            ("bridge.websocket.base-url", "wss://meet.example.net:443"),
            ("bridge.region", "north"),
        ],
        notes: &notes.each_ref().map(String::as_str),
    }
    .hold();
}

#[test]
fn ipv6_alone() {
    Expected {
        file: "ipv6-only.conf",
        variables: &[],
        values: &[
            ("bridge.discovery.stun-servers", ""),
            ("bridge.discovery.aws", "off"),
            ("bridge.listen-addresses", "2001:db8::5"),
            ("bridge.ipv6", "true"),
            ("bridge.websocket.listen", "[::]:9090"),
            ("bridge.websocket.base-url", "wss://[2001:db8::5]:443"),
            ("bridge.websocket.server-id", "v6"),
            ("bridge.rest.listen", "[::1]:8081"),
        ],
        notes: &[
            "connection main: jvb at 2001:db8::10, room jvbbrewery@internal.auth.example.net as v6  (ipv6-only.conf)",
            "ice4j.harvest.allowed-addresses = 2001:db8::5  is bridge.listen-addresses",
            "ice4j.harvest.use-ipv6 = true  is bridge.ipv6",
            "ice4j.harvest.use-link-local-addresses = false  ignored: link-local addresses are used only where they are named",
            "videobridge.ice.udp.port = 10000  is bridge.port",
            "videobridge.websockets.enabled = on  is bridge.websocket.enabled",
            "videobridge.websockets.server-id = v6  is bridge.websocket.server-id",
            "videobridge.http-servers.private is bridge.rest.listen",
            "videobridge.http-servers.public is bridge.websocket.listen",
            "videobridge.websockets.domain is bridge.websocket.base-url",
        ],
    }
    .hold();
}

#[test]
fn behind_a_nat_with_ports() {
    Expected {
        file: "nat-ports.conf",
        variables: &[],
        values: &[
            ("bridge.discovery.stun-servers", ""),
            ("bridge.discovery.aws", "off"),
            ("bridge.port", "20000"),
            ("bridge.blocked-addresses", "172.17.0.1"),
            ("bridge.public-addresses", "192.168.1.20=198.51.100.7#443,192.168.1.20=198.51.100.8"),
            ("bridge.advertise-private-addresses", "false"),
        ],
        notes: &[
            "connection main: jvb at xmpp.example.net, room jvbbrewery@internal.auth.example.net as behind-nat  (nat-ports.conf)",
            "ice4j.harvest.blocked-addresses = 172.17.0.1  is bridge.blocked-addresses",
            "ice4j.harvest.mapping.static-mappings is bridge.public-addresses",
            "videobridge.ice.advertise-private-candidates = false  is bridge.advertise-private-addresses",
            "videobridge.ice.udp.port = 20000  is bridge.port",
        ],
    }
    .hold();
}

#[test]
fn the_time_of_web_sockets() {
    const FIXED: &str = "ignored: is fixed here at Jitsi Videobridge's default";
    const HEALTH: &str = "ignored: the health check looks at workers, media port and XMPP by itself";
    let notes = [
        "connection xmppserver1: jvb at localhost, room JvbBrewery@internal.auth.meet.example.net as \
         f3c6a0b2-55b0-4b22-9b53-29a4f90f7a10  (websocket-era.conf)"
            .to_owned(),
        "videobridge.apis.rest.enabled = true  ignored: always served, on the private address only".to_owned(),
        format!("videobridge.cc.jvb-last-n = -1  {OTHER}"),
        format!("videobridge.cc.max-oversend-bitrate = 500 kbps  {OTHER}"),
        format!("videobridge.entity-expiration.check-interval = 1 minute  {FIXED}"),
        format!("videobridge.entity-expiration.timeout = 1 minute  {FIXED}"),
        format!("videobridge.ep-connection-status.first-transfer-timeout = 15 seconds  {FIXED}"),
        format!("videobridge.health.interval = 10 seconds  {HEALTH}"),
        format!("videobridge.health.timeout = 30 seconds  {HEALTH}"),
        "videobridge.sctp.enabled = false  is bridge.sctp.enabled".to_owned(),
        format!("videobridge.websockets.enable-compression = false  {FIXED}"),
        "videobridge.websockets.enabled = true  is bridge.websocket.enabled".to_owned(),
        "videobridge.websockets.server-id = default-id  is bridge.websocket.server-id".to_owned(),
        "videobridge.http-servers.private is bridge.rest.listen".to_owned(),
        "videobridge.http-servers.public is bridge.websocket.listen".to_owned(),
        "videobridge.websockets.domain is bridge.websocket.base-url".to_owned(),
        "videobridge.websockets.relay-domains is bridge.relay.websocket-url".to_owned(),
    ];
    Expected {
        file: "websocket-era.conf",
        variables: &[],
        values: &[
            ("bridge.discovery.stun-servers", "stun.example.net:443"),
            ("bridge.discovery.aws", "auto"),
            ("bridge.websocket.enabled", "true"),
            ("bridge.websocket.listen", "0.0.0.0:9090"),
            ("bridge.websocket.base-url", "wss://meet.example.net:443"),
            ("bridge.relay.websocket-url", "wss://relay-1.example.net"),
            ("bridge.websocket.server-id", "default-id"),
            ("bridge.sctp.enabled", "false"),
            ("bridge.rest.listen", "127.0.0.1:8080"),
        ],
        notes: &notes.each_ref().map(String::as_str),
    }
    .hold();
}

#[test]
fn no_fixture_shows_its_password() {
    for (file, secrets) in [
        ("debian-minimal.conf", &["p4ssw0rd#x"][..]),
        ("docker-stun.conf", &["0f9e8d7c6b5a"]),
        ("several-shards.conf", &["one", "two", "three"]),
        ("old-keys.conf", &["s3cret"]),
        ("websocket-era.conf", &["w3bs0cket"]),
    ] {
        let path = PathBuf::from(FOLDER).join(file);
        let text = std::fs::read_to_string(&path).expect("a fixture");
        let (_, shown) = check(&path, &[]);
        for secret in secrets {
            assert!(text.contains(&format!("\"{secret}\"")), "{secret} is no password of {file}");
            let words = shown.split(|c: char| !(c.is_alphanumeric() || c == '#'));
            assert!(words.into_iter().all(|word| word != *secret), "{secret} of {file}");
        }
    }
}
