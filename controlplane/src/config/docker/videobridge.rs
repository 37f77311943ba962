//! The environment of docker-jitsi-meet's bridge container (docs/protocol/bridge.md 12.1).

use super::variables::{Variables, host_and_port};
use crate::config::connections::RawConnection;
use crate::config::origin::Origin;
use crate::config::values::items;

/// Without it the container does not start either: its presence says that this environment is meant.
const MARK: &str = "JVB_AUTH_PASSWORD";

/// Whom the image asks for the public address where nothing else is said.
const STUN_SERVER: &str = "meet-jit-si-turnrelay.jitsi.net:443";
/// What of the operator's files it reads after everything else.
pub(in crate::config) const CUSTOM: &str = "custom-jvb.conf";

const SIDECAR: &str = "for the autoscaler's side service, which is a program of its own";
const NO_WEBSOCKET: &str = "as in today's image the bridge channel is the data channel; for WebSockets set RINGBRIDGE_WEBSOCKET=true \
     and RINGBRIDGE_WEBSOCKET_URL";
const NO_TCP: &str =
    "media over TCP is not served, in today's image neither; who has no UDP goes through a TURN server";

/// Variables that change nothing here, and why.
const IGNORED: &[(&str, &str)] = &[
    ("COLIBRI_REST_ENABLED", "statistics are always served, on the private address"),
    ("JVB_REQUIRE_VALID_ADDRESS", "the health check looks at workers, media port and XMPP by itself"),
    ("BWE_ESTIMATOR_ENGINE", "there is one estimator"),
    ("JVB_CC_TRUST_BWE", "the estimate is always trusted"),
    ("ENABLE_VLA", "layers are measured"),
    ("JVB_PREFER_SCTP", "clients choose; both channels are served where they are on"),
    ("JVB_INSTANCE_ID", "for side services"),
    ("JVB_DISABLE_XMPP", "conferences come over XMPP alone"),
    ("JVB_USE_USRSCTP", "there is one SCTP implementation"),
    ("VIDEOBRIDGE_MAX_MEMORY", "there is no Java virtual machine"),
    ("AUTOSCALER_URL", "the side service runs beside the bridge and polls /colibri/stats"),
    ("AUTOSCALER_SIDECAR_KEY_FILE", SIDECAR),
    ("AUTOSCALER_SIDECAR_KEY_ID", SIDECAR),
    ("AUTOSCALER_SIDECAR_GROUP_NAME", SIDECAR),
    ("AUTOSCALER_SIDECAR_HOST_ID", SIDECAR),
    ("AUTOSCALER_SIDECAR_INSTANCE_ID", SIDECAR),
    ("AUTOSCALER_SIDECAR_PORT", SIDECAR),
    ("AUTOSCALER_SIDECAR_REGION", SIDECAR),
    ("AUTOSCALER_SIDECAR_SHUTDOWN_POLLING_INTERVAL", SIDECAR),
    ("AUTOSCALER_SIDECAR_STATS_POLLING_INTERVAL", SIDECAR),
    ("SENTRY_DSN", "errors are in the log"),
    ("SENTRY_ENVIRONMENT", "errors are in the log"),
    ("SENTRY_RELEASE", "errors are in the log"),
    ("TZ", "the log's times are UTC"),
    ("JAVA_SYS_PROPS", "there is no Java virtual machine"),
    ("JVB_ENABLE_APIS", "the pages are always served, and conferences come over XMPP alone"),
    ("ENABLE_COLIBRI_WEBSOCKET", NO_WEBSOCKET),
    ("JVB_WS_DOMAIN", NO_WEBSOCKET),
    ("JVB_WS_SERVER_ID", NO_WEBSOCKET),
    ("JVB_WS_TLS", NO_WEBSOCKET),
    ("COLIBRI_WEBSOCKET_PORT", NO_WEBSOCKET),
    ("JVB_TCP_HARVESTER_DISABLED", NO_TCP),
    ("JVB_TCP_PORT", NO_TCP),
    ("JVB_TCP_MAPPED_PORT", NO_TCP),
    ("ENABLE_MULTI_STREAM", "always on, as in today's image"),
    ("JVB_LOG_FILE", "the log goes to standard error"),
];

/// What the environment says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::config) struct Docker {
    /// Our key, its value, the variable.
    pub values: Vec<(&'static str, String, &'static str)>,
    /// XMPP connections.
    pub connections: Vec<RawConnection>,
    /// Variables that are set and change nothing: name, value, why.
    pub ignored: Vec<(&'static str, String, &'static str)>,
}

/// Reads the variables; `None` when this is another environment.
pub(in crate::config) fn read(variable: impl Fn(&str) -> Option<String>) -> Option<Docker> {
    let variables = Variables(variable);
    let get = |name: &str| variables.get(name);
    let or = |name: &str, default: &str| variables.or(name, default);
    let on = |name: &str| variables.on(name);
    let password = get(MARK)?;
    let mut docker = Docker::default();
    let mut set = |key, name: &'static str, value: Option<String>| {
        if let Some(value) = value {
            docker.values.push((key, value, name));
        }
    };
    set("bridge.port", "JVB_PORT", get("JVB_PORT"));
    // Empty items are left out, as the image's template does.
    let full = |list: &str| items(list).collect::<Vec<_>>().join(",");
    let advertised = get("JVB_ADVERTISE_IPS").or_else(|| get("DOCKER_HOST_ADDRESS")).map(|list| full(&list));
    set("bridge.public-addresses", "JVB_ADVERTISE_IPS", advertised);
    // As the image's template: a public server is asked unless that is switched off, and AWS only where that is switched on.
    let servers = get("JVB_STUN_SERVERS").map(|list| full(&list)).filter(|list| !list.is_empty());
    match (on("JVB_DISABLE_STUN"), servers) {
        (true, _) => set("bridge.discovery.stun-servers", "JVB_DISABLE_STUN", Some(String::new())),
        (false, Some(servers)) => set("bridge.discovery.stun-servers", "JVB_STUN_SERVERS", Some(servers)),
        (false, None) => set("bridge.discovery.stun-servers", MARK, Some(STUN_SERVER.to_owned())),
    }
    let aws = get("DISABLE_AWS_HARVESTER").map(|_| if on("DISABLE_AWS_HARVESTER") { "off" } else { "auto" });
    let variable = if aws.is_some() { "DISABLE_AWS_HARVESTER" } else { MARK };
    set("bridge.discovery.aws", variable, Some(aws.unwrap_or("off").to_owned()));
    let private = get("JVB_ADVERTISE_PRIVATE_CANDIDATES").map(|_| on("JVB_ADVERTISE_PRIVATE_CANDIDATES").to_string());
    set("bridge.advertise-private-addresses", "JVB_ADVERTISE_PRIVATE_CANDIDATES", private);
    let shutdown = get("SHUTDOWN_REST_ENABLED").map(|_| on("SHUTDOWN_REST_ENABLED").to_string());
    set("bridge.shutdown.over-rest", "SHUTDOWN_REST_ENABLED", shutdown);
    if on("ENABLE_OCTO") {
        set("bridge.region", "JVB_OCTO_REGION", Some(or("JVB_OCTO_REGION", "europe")));
        set("bridge.relay.enabled", "ENABLE_OCTO", Some("true".to_owned()));
        // The image leaves it empty where neither is set; the name in the brewery is unique, too.
        let id = get("JVB_OCTO_RELAY_ID").or_else(|| get("JVB_OCTO_BIND_ADDRESS"));
        let name = || get("JVB_MUC_NICKNAME").unwrap_or_else(|| or("HOSTNAME", "ringbridge"));
        set("bridge.relay.id", "JVB_OCTO_RELAY_ID", Some(id.unwrap_or_else(name)));
    }
    // As the image's template: the private server on all addresses of the container, and no WebSocket.
    set("bridge.rest.listen", MARK, Some("0.0.0.0:8080".to_owned()));
    set("bridge.websocket.enabled", MARK, Some("false".to_owned()));

    let prefix = if on("ENABLE_JVB_XMPP_SERVER") { "JVB_" } else { "" };
    let own = |name: &str, default: &str| or(&format!("{prefix}{name}"), default);
    let port = own("XMPP_PORT", if prefix.is_empty() { "5222" } else { "6222" });
    let room = format!(
        "{}@{}",
        or("JVB_BREWERY_MUC", "jvbbrewery"),
        own("XMPP_INTERNAL_MUC_DOMAIN", "internal-muc.meet.jitsi")
    );
    let servers = own("XMPP_SERVER", "xmpp.meet.jitsi");
    for (index, server) in items(&servers).enumerate() {
        let (host, given) = host_and_port(server);
        let port = given.unwrap_or(&port);
        let connection =
            RawConnection::new(&format!("shard{index}"), Origin::Environment(format!("{prefix}XMPP_SERVER")))
                .with("hostname", host)
                .with("port", port)
                .with("domain", &own("XMPP_AUTH_DOMAIN", "auth.meet.jitsi"))
                .with("username", &or("JVB_AUTH_USER", "jvb"))
                .with("password", &password)
                .with("muc-jids", &room)
                .with("muc-nickname", &get("JVB_MUC_NICKNAME").unwrap_or_else(|| or("HOSTNAME", "ringbridge")))
                .with("disable-certificate-verification", "true");
        docker.connections.push(connection);
    }
    docker.ignored = variables.among(IGNORED);
    Some(docker)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Option<Docker> {
        read(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn other_environments_are_left_alone() {
        assert_eq!(from(&[("JVB_PORT", "10000"), ("XMPP_SERVER", "x")]), None);
        assert_eq!(from(&[("JVB_AUTH_PASSWORD", "")]), None);
    }

    #[test]
    fn the_least_that_the_image_needs() {
        let docker = from(&[("JVB_AUTH_PASSWORD", "s3cret"), ("HOSTNAME", "c0ffee")]).expect("meant");
        let settings = docker.connections[0].settings().expect("complete");
        assert_eq!(settings.xmpp.host, "xmpp.meet.jitsi");
        assert_eq!(settings.xmpp.jid.to_string(), "jvb@auth.meet.jitsi");
        assert_eq!(settings.breweries[0].to_string(), "jvbbrewery@internal-muc.meet.jitsi");
        assert_eq!((settings.nickname.as_str(), settings.xmpp.verify_certificate), ("c0ffee", false));
        assert!(docker.values.contains(&("bridge.websocket.enabled", "false".to_owned(), MARK)));
    }

    #[test]
    fn several_servers_and_what_changes_nothing() {
        let docker = from(&[
            ("JVB_AUTH_PASSWORD", "s3cret"),
            ("XMPP_SERVER", "one.example.net,two.example.net:5333"),
            ("JVB_PORT", "20000"),
            ("JVB_ADVERTISE_IPS", "198.51.100.7#443,, 203.0.113.9,"),
            ("JVB_ADVERTISE_PRIVATE_CANDIDATES", "0"),
            ("ENABLE_OCTO", "1"),
            ("JVB_STUN_SERVERS", "stun.example.net:443, 192.0.2.1:3478,"),
            ("DISABLE_AWS_HARVESTER", "0"),
            ("ENABLE_VLA", "1"),
        ])
        .expect("meant");
        let ports: Vec<_> = docker.connections.iter().map(|c| c.settings().expect("complete").xmpp.port).collect();
        assert_eq!(ports, [5222, 5333]);
        let value = |key| docker.values.iter().find(|(known, ..)| *known == key).map(|(_, value, _)| value.as_str());
        assert_eq!(value("bridge.port"), Some("20000"));
        assert_eq!(value("bridge.public-addresses"), Some("198.51.100.7#443,203.0.113.9"));
        assert_eq!(
            (value("bridge.advertise-private-addresses"), value("bridge.region")),
            (Some("false"), Some("europe"))
        );
        assert_eq!(docker.ignored.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), ["ENABLE_VLA"]);
        assert_eq!(value("bridge.discovery.stun-servers"), Some("stun.example.net:443,192.0.2.1:3478"));
        assert_eq!(value("bridge.discovery.aws"), Some("auto"));
    }

    #[test]
    fn octo_is_relays_under_a_name() {
        let value = |pairs: &[(&str, &str)], key: &str| {
            let docker =
                from(&[&[("JVB_AUTH_PASSWORD", "s3cret"), ("HOSTNAME", "c0ffee")], pairs].concat()).expect("meant");
            docker.values.into_iter().find(|(known, ..)| *known == key).map(|(_, value, _)| value)
        };
        assert_eq!(value(&[("JVB_OCTO_RELAY_ID", "x")], "bridge.relay.enabled"), None);
        let (on, by_id, by_address) =
            (("ENABLE_OCTO", "1"), ("JVB_OCTO_RELAY_ID", "jvb-7"), ("JVB_OCTO_BIND_ADDRESS", "10.0.0.7"));
        assert_eq!(value(&[on], "bridge.relay.enabled").as_deref(), Some("true"));
        for (pairs, id) in [(&[on][..], "c0ffee"), (&[on, by_address], "10.0.0.7"), (&[on, by_address, by_id], "jvb-7")]
        {
            assert_eq!(value(pairs, "bridge.relay.id").as_deref(), Some(id), "{pairs:?}");
        }
    }

    #[test]
    fn the_public_address_is_looked_for_as_the_image_does() {
        for (variables, servers, aws) in [
            (&[][..], "meet-jit-si-turnrelay.jitsi.net:443", "off"),
            (&[("JVB_STUN_SERVERS", " , ")], "meet-jit-si-turnrelay.jitsi.net:443", "off"),
            (&[("JVB_DISABLE_STUN", "1"), ("JVB_STUN_SERVERS", "a:1")], "", "off"),
            (&[("JVB_DISABLE_STUN", "false"), ("JVB_STUN_SERVERS", "a:1")], "a:1", "off"),
            (&[("DISABLE_AWS_HARVESTER", "false")], "meet-jit-si-turnrelay.jitsi.net:443", "auto"),
            (&[("DISABLE_AWS_HARVESTER", "true")], "meet-jit-si-turnrelay.jitsi.net:443", "off"),
        ] {
            let docker = from(&[variables, &[("JVB_AUTH_PASSWORD", "s3cret")]].concat()).expect("meant");
            let value =
                |key| docker.values.iter().find(|(known, ..)| *known == key).map(|(_, value, _)| value.as_str());
            assert_eq!(value("bridge.discovery.stun-servers"), Some(servers), "{variables:?}");
            assert_eq!(value("bridge.discovery.aws"), Some(aws), "{variables:?}");
        }
    }

    #[test]
    fn a_server_for_bridges_alone() {
        let docker = from(&[
            ("JVB_AUTH_PASSWORD", "s3cret"),
            ("XMPP_SERVER", "xmpp.example.net"),
            ("ENABLE_JVB_XMPP_SERVER", "1"),
            ("JVB_XMPP_SERVER", "jvb-xmpp.example.net"),
            ("JVB_XMPP_AUTH_DOMAIN", "auth.jvb.example.net"),
        ])
        .expect("meant");
        let settings = docker.connections[0].settings().expect("complete");
        assert_eq!((settings.xmpp.host.as_str(), settings.xmpp.port), ("jvb-xmpp.example.net", 6222));
        assert_eq!(settings.xmpp.jid.to_string(), "jvb@auth.jvb.example.net");
    }

    /// Every variable of the image's service in August 2026, and those of former ones that stay in people's files.
    #[test]
    fn every_variable_of_the_image_is_honoured_or_named() {
        let used = [
            "DOCKER_HOST_ADDRESS",
            "ENABLE_JVB_XMPP_SERVER",
            "ENABLE_OCTO",
            "JVB_ADVERTISE_IPS",
            "JVB_ADVERTISE_PRIVATE_CANDIDATES",
            "JVB_AUTH_PASSWORD",
            "JVB_AUTH_USER",
            "JVB_BREWERY_MUC",
            "JVB_MUC_NICKNAME",
            "JVB_OCTO_REGION",
            "JVB_PORT",
            "JVB_XMPP_AUTH_DOMAIN",
            "JVB_XMPP_INTERNAL_MUC_DOMAIN",
            "JVB_XMPP_PORT",
            "JVB_XMPP_SERVER",
            "SHUTDOWN_REST_ENABLED",
            "XMPP_AUTH_DOMAIN",
            "XMPP_INTERNAL_MUC_DOMAIN",
            "XMPP_PORT",
            "XMPP_SERVER",
            // How the public address is found.
            "DISABLE_AWS_HARVESTER",
            "JVB_DISABLE_STUN",
            "JVB_STUN_SERVERS",
            // Checked by themselves, too.
            "JVB_OCTO_BIND_ADDRESS",
            "JVB_OCTO_RELAY_ID",
        ];
        let compose = "AUTOSCALER_SIDECAR_KEY_FILE AUTOSCALER_SIDECAR_KEY_ID AUTOSCALER_SIDECAR_GROUP_NAME \
            AUTOSCALER_SIDECAR_HOST_ID AUTOSCALER_SIDECAR_INSTANCE_ID AUTOSCALER_SIDECAR_PORT AUTOSCALER_SIDECAR_REGION \
            AUTOSCALER_SIDECAR_SHUTDOWN_POLLING_INTERVAL AUTOSCALER_SIDECAR_STATS_POLLING_INTERVAL DISABLE_AWS_HARVESTER \
            DOCKER_HOST_ADDRESS ENABLE_JVB_XMPP_SERVER ENABLE_OCTO JVB_ADVERTISE_IPS JVB_ADVERTISE_PRIVATE_CANDIDATES \
            JVB_AUTH_USER JVB_AUTH_PASSWORD JVB_BREWERY_MUC JVB_CC_TRUST_BWE JVB_DISABLE_STUN JVB_DISABLE_XMPP \
            JVB_INSTANCE_ID JVB_PORT JVB_MUC_NICKNAME JVB_STUN_SERVERS JVB_LOG_FILE JVB_OCTO_BIND_ADDRESS JVB_OCTO_REGION \
            JVB_OCTO_RELAY_ID JVB_REQUIRE_VALID_ADDRESS JVB_USE_USRSCTP JVB_XMPP_AUTH_DOMAIN JVB_XMPP_INTERNAL_MUC_DOMAIN \
            JVB_XMPP_PORT JVB_XMPP_SERVER SENTRY_DSN SENTRY_ENVIRONMENT SENTRY_RELEASE COLIBRI_REST_ENABLED \
            SHUTDOWN_REST_ENABLED TZ VIDEOBRIDGE_MAX_MEMORY XMPP_AUTH_DOMAIN XMPP_INTERNAL_MUC_DOMAIN XMPP_SERVER XMPP_PORT \
            AUTOSCALER_URL BWE_ESTIMATOR_ENGINE ENABLE_VLA \
            ENABLE_COLIBRI_WEBSOCKET JVB_WS_DOMAIN JVB_WS_SERVER_ID JVB_TCP_HARVESTER_DISABLED JVB_TCP_PORT \
            JVB_TCP_MAPPED_PORT JVB_ENABLE_APIS ENABLE_MULTI_STREAM JVB_PREFER_SCTP";
        for name in compose.split_whitespace() {
            let named = IGNORED.iter().any(|(ignored, why)| *ignored == name && why.len() > 10);
            assert!(used.contains(&name) || named, "nothing becomes of {name}");
            assert!(!(used[..20].contains(&name) && named), "{name} is used");
        }
        // What is said to be used is: a change of it changes what comes out.
        for name in &used[..20] {
            let base =
                [("JVB_AUTH_PASSWORD", "x"), ("ENABLE_OCTO", "1"), ("XMPP_SERVER", "a"), ("JVB_XMPP_SERVER", "b")];
            let with = |value: &'static str, bridges_alone| {
                let bridges_alone = ("ENABLE_JVB_XMPP_SERVER", if bridges_alone { "1" } else { "0" });
                from(&[&[(*name, value)][..], &base, &[bridges_alone]].concat())
            };
            let before = [from(&[&base[..], &[("ENABLE_JVB_XMPP_SERVER", "1")]].concat()), from(&base)];
            assert!(
                before[0] != with("1", true) || before[1] != with("1", false) || before[1] != with("0", false),
                "{name}"
            );
        }
    }
}
