//! A configuration file of Jitsi Videobridge (`jvb.conf`) as ours: which of its keys is which of ours, and why the
//! others change nothing (docs/protocol/bridge.md 12).

use strsim::osa_distance;

/// What becomes of one key of Jitsi Videobridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It is this key of ours.
    Key(&'static str),
    /// It is put together with others; see `layers`.
    Special,
    /// It changes nothing here, for this reason.
    Ignored(&'static str),
}

use Use::{Ignored, Key, Special};

/// Sections of Jitsi Videobridge's file: a file that has one of them is taken for its.
pub(super) const SECTIONS: &[&str] = &["videobridge", "ice4j", "jmt"];

const AUTOMATIC: &str = "the bridge sets this by itself";
const FIXED: &str = "is fixed here at Jitsi Videobridge's default";
const RELAYS: &str = "relays between bridges are not served";
const ALWAYS: &str = "always served, on the private address only";
const HEALTH: &str = "the health check looks at workers, media port and XMPP by itself";
const OTHER: &str = "belongs to a part that works in another way here; see docs/coverage.md";

/// Keys, or beginnings of keys that end in a dot; the longest that fits counts.
pub(super) const USES: &[(&str, Use)] = &[
    ("videobridge.ice.udp.port", Key("bridge.port")),
    ("videobridge.ice.advertise-private-candidates", Key("bridge.advertise-private-addresses")),
    (
        "videobridge.ice.tcp.",
        Ignored(
            "media over TCP is not served, by today's Jitsi Videobridge neither; who has no UDP goes through a TURN server",
        ),
    ),
    ("videobridge.ice.ufrag-prefix", Ignored("the first characters of a ufrag name the worker")),
    ("videobridge.ice.keep-alive-strategy", Ignored(FIXED)),
    ("videobridge.ice.nomination-strategy", Ignored(FIXED)),
    ("videobridge.ice.resolve-remote-candidates", Ignored(FIXED)),
    ("videobridge.ice.restart.enabled", Key("bridge.ice-restart")),
    ("videobridge.ice.restart.", Ignored(FIXED)),
    ("ice4j.harvest.mapping.static-mappings", Special),
    ("ice4j.harvest.mapping.stun.addresses", Key("bridge.discovery.stun-servers")),
    ("ice4j.harvest.mapping.stun.enabled", Special),
    ("ice4j.harvest.mapping.aws.enabled", Special),
    ("ice4j.harvest.mapping.aws.force", Special),
    ("ice4j.harvest.allowed-addresses", Key("bridge.listen-addresses")),
    ("ice4j.harvest.blocked-addresses", Key("bridge.blocked-addresses")),
    ("ice4j.harvest.allowed-interfaces", Key("bridge.allowed-interfaces")),
    ("ice4j.harvest.blocked-interfaces", Key("bridge.blocked-interfaces")),
    ("ice4j.harvest.use-ipv6", Key("bridge.ipv6")),
    ("ice4j.harvest.use-link-local-addresses", Ignored("link-local addresses are used only where they are named")),
    ("ice4j.harvest.udp.receive-buffer-size", Ignored(AUTOMATIC)),
    ("ice4j.harvest.", Ignored(AUTOMATIC)),
    ("ice4j.consent-freshness.", Ignored(AUTOMATIC)),
    ("ice4j.", Ignored(AUTOMATIC)),
    ("videobridge.apis.xmpp-client.configs.", Special),
    ("videobridge.apis.xmpp-client.presence-interval", Ignored(FIXED)),
    ("videobridge.apis.xmpp-client.stats-filter.", Ignored("presence has all statistics")),
    ("videobridge.apis.xmpp-client.", Ignored(OTHER)),
    ("videobridge.apis.rest.enabled", Ignored(ALWAYS)),
    ("videobridge.apis.jvb-api.", Ignored("conferences come over XMPP alone")),
    ("videobridge.multi-stream.", Ignored("always on, as in today's Jitsi Videobridge")),
    ("videobridge.rest.shutdown.enabled", Key("bridge.shutdown.over-rest")),
    ("videobridge.rest.", Ignored(ALWAYS)),
    ("videobridge.http-servers.private.host", Special),
    ("videobridge.http-servers.private.port", Special),
    ("videobridge.http-servers.public.host", Special),
    ("videobridge.http-servers.public.port", Special),
    ("videobridge.http-servers.private.send-server-version", Ignored("no server's name or version is sent")),
    ("videobridge.http-servers.public.send-server-version", Ignored("no server's name or version is sent")),
    ("videobridge.http-servers.", Ignored("let a web server end TLS in front of the bridge")),
    ("videobridge.websockets.enabled", Key("bridge.websocket.enabled")),
    ("videobridge.websockets.server-id", Key("bridge.websocket.server-id")),
    ("videobridge.websockets.domain", Special),
    ("videobridge.websockets.domains", Special),
    ("videobridge.websockets.tls", Special),
    ("videobridge.websockets.", Ignored(FIXED)),
    ("videobridge.sctp.enabled", Key("bridge.sctp.enabled")),
    ("videobridge.sctp.use-usrsctp", Ignored("there is one SCTP implementation")),
    ("videobridge.sctp.", Ignored("one channel per endpoint; a newer one takes its place")),
    ("videobridge.relay.region", Key("bridge.region")),
    ("videobridge.octo.region", Key("bridge.region")),
    ("videobridge.relay.", Ignored(RELAYS)),
    ("videobridge.octo.", Ignored(RELAYS)),
    ("videobridge.entity-expiration.", Ignored(FIXED)),
    ("videobridge.health.", Ignored(HEALTH)),
    ("videobridge.ep-connection-status.", Ignored(FIXED)),
    ("videobridge.cc.", Ignored(OTHER)),
    ("videobridge.loudest.route-loudest-only", Key("bridge.loudest.only")),
    ("videobridge.loudest.num-loudest", Key("bridge.loudest.count")),
    ("videobridge.loudest.always-route-dominant", Key("bridge.loudest.dominant")),
    ("videobridge.loudest.", Ignored(FIXED)),
    ("videobridge.speech-activity.", Ignored(FIXED)),
    ("videobridge.ssrc-limit.audio", Key("bridge.ssrc-limit.audio")),
    ("videobridge.ssrc-limit.video", Key("bridge.ssrc-limit.video")),
    ("videobridge.stats.", Ignored(FIXED)),
    ("videobridge.stats-filter-threshold", Ignored(FIXED)),
    ("videobridge.connection-stats.", Ignored(OTHER)),
    ("videobridge.load-management.", Ignored("a worker at its limit leaves out video by itself")),
    ("videobridge.shutdown.graceful-shutdown-max-duration", Key("bridge.shutdown.graceful-max-duration")),
    ("videobridge.shutdown.graceful-shutdown-min-participants", Key("bridge.shutdown.graceful-min-participants")),
    ("videobridge.shutdown.shutting-down-delay", Key("bridge.shutdown.delay")),
    ("videobridge.initial-drain-mode", Key("bridge.drain")),
    ("videobridge.version.", Ignored("the focus is told ringbridge's own version, without a release")),
    ("videobridge.cryptex.", Ignored("cryptex is not offered")),
    ("videobridge.exporter.", Ignored("media export is not served")),
    ("videobridge.redact-remote-addresses", Ignored("addresses of clients are not logged")),
    ("jmt.", Ignored(OTHER)),
];

/// What becomes of a key; the error names what was most likely meant.
pub(super) fn find(path: &str) -> Result<Use, &'static str> {
    let fits = |(known, _): &&(&str, Use)| {
        path == *known || (known.ends_with('.') && path.len() > known.len() && path.starts_with(known))
    };
    if let Some((known, found)) = USES.iter().filter(fits).max_by_key(|(known, _)| known.len()) {
        // A misspelt key must not hide behind a section that is ignored as a whole.
        let near =
            USES.iter().find(|(exact, _)| !exact.ends_with('.') && *exact != path && osa_distance(exact, path) <= 2);
        return match near {
            Some((exact, Key(_) | Special)) if *known != path && exact.starts_with(parent(path)) => Err(exact),
            _ => Ok(*found),
        };
    }
    let near = USES.iter().min_by_key(|(known, _)| osa_distance(known, path)).map(|(known, _)| *known);
    match near {
        Some(near) if osa_distance(near, path) <= path.len() / 4 => Err(near),
        _ => Ok(Ignored("unknown to this bridge and, as far as is known, to Jitsi Videobridge")),
    }
}

/// The section of a path, with its dot.
fn parent(path: &str) -> &str {
    path.rfind('.').map_or("", |dot| &path[..=dot])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn keys_that_are_named_exist() {
        for (path, found) in USES {
            if let Key(own) = found {
                assert!(keys::Key::find(own).is_some(), "{path} is {own}");
            }
        }
    }

    #[test]
    fn the_most_exact_row_counts() {
        assert_eq!(find("videobridge.ice.udp.port"), Ok(Key("bridge.port")));
        assert_eq!(find("videobridge.rest.shutdown.enabled"), Ok(Key("bridge.shutdown.over-rest")));
        assert_eq!(find("videobridge.rest.debug.enabled"), Ok(Ignored(ALWAYS)));
        assert_eq!(find("videobridge.apis.xmpp-client.configs.shard1.HOSTNAME"), Ok(Special));
        assert!(matches!(find("jmt.bwe.estimator.engine"), Ok(Ignored(_))));
        assert!(matches!(find("videobridge.something.of.tomorrow"), Ok(Ignored(_))));
    }

    #[test]
    fn misspelt_keys_are_recognised() {
        assert_eq!(find("videobridge.ice.udp.prot"), Err("videobridge.ice.udp.port"));
        assert_eq!(find("videobridge.websockets.enabeld"), Err("videobridge.websockets.enabled"));
        assert_eq!(find("videobridge.http-servers.private.prot"), Err("videobridge.http-servers.private.port"));
    }
}
