//! Pages of Jitsi Videobridge and Jicofo that are not here: why, and what to use instead.

use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

/// Beginnings of paths, and what is said of them. The first that fits counts.
const ABSENT: &[(&str, &str)] = &[
    (
        "/colibri/v2/conferences",
        "conferences are not controlled over REST (off by default in Jitsi Videobridge too, apis.rest): \
         they come over XMPP, from Jicofo or from ringbridge's own focus; /debug shows them",
    ),
    ("/colibri/conferences", "the first version of colibri is not served; /debug shows the conferences"),
    (
        "/colibri/muc-client",
        "XMPP connections are not changed while the bridge runs: set them in the configuration (bridge.connections, \
         or videobridge.apis.xmpp-client.configs) and restart; /colibri/stats counts those that are up",
    ),
    (
        "/colibri/shutdown",
        "shutdown over REST is off; allow it with bridge.shutdown.over-rest = true \
         (videobridge.rest.shutdown.enabled in a jvb.conf, SHUTDOWN_REST_ENABLED=1 in a container)",
    ),
    ("/colibri/debug", "look at /debug"),
    ("/debug/features", "nothing is switched while the bridge runs; /debug and /metrics have all there is"),
    ("/debug/stats", "use /metrics, /debug and /debug/bandwidth"),
    (
        "/move-endpoints",
        "asked of the focus (focus.rest.listen, 8888), not of a bridge: drain a bridge (/colibri/drain/enable) to keep new conferences \
         away, shut it down to move all of its conferences",
    ),
    ("/pin", "asked of the focus (focus.rest.listen, 8888), which pins conferences to a version of bridges"),
    ("/rtcstats", "asked of the focus (focus.rest.listen, 8888); here /stats and /metrics have all there is"),
    ("/debug/xmpp-caps", "asked of the focus (focus.rest.listen, 8888), which asks clients what they can do"),
    (
        "/colibri-ws",
        "the bridge channel is served at bridge.websocket.listen (videobridge.http-servers.public), not on the operators' pages",
    ),
];

/// What is answered instead of a page that does not exist.
pub(super) async fn answer(uri: Uri) -> Response {
    (StatusCode::NOT_FOUND, reason(uri.path())).into_response()
}

fn reason(path: &str) -> String {
    let text = said_of(path).unwrap_or("there is no such page; docs/coverage.md lists those that there are");
    // What was asked for is not repeated: it may be anything.
    format!("{text}\n")
}

fn said_of(path: &str) -> Option<&'static str> {
    let below =
        |beginning: &str| path.strip_prefix(beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    ABSENT.iter().find(|(beginning, _)| below(beginning)).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_those_below_them() {
        for path in [
            "/colibri/v2/conferences",
            "/colibri/v2/conferences/",
            "/colibri/v2/conferences/x/dominant-speaker-identification",
        ] {
            assert!(reason(path).contains("come over XMPP"), "{path}");
        }
        assert!(reason("/colibri/muc-client/add").contains("restart"));
        assert!(reason("/move-endpoints/move-endpoint").contains("drain"));
        assert!(reason("/pin/remove").contains("pins") && reason("/rtcstats").contains("/metrics"));
        assert!(reason("/pinned").starts_with("there is no such page"));
        assert!(reason("/debug/stats/jvb/queue-stats").contains("/metrics"));
        for path in ["/colibri/v2/conferencesx", "/elsewhere", "/"] {
            assert!(reason(path).starts_with("there is no such page"), "{path}");
        }
    }
}
